"""A device that is set up: its Python, and programs run in it."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from . import debian, wheels
from .devices import NATIVE, NATIVE_PYTHON, Device, Machine
from .errands import FailedError, SkippedError, must, need, run

PIP = ("install", "--quiet", "--no-index", "--no-compile", "--disable-pip-version-check")


class Installed:
    """A device with edgepatch in a virtual environment, as docs/raspberry-pi.md has it.

    qemu emulates one process: what that would start is a program of this machine, so nothing in a device starts any.
    """

    def __init__(self, device: Device, folder: Path, wheel: Path) -> None:
        """Set the device up below a folder; what is there already is kept, and another edgepatch replaced.

        Raises:
            SkippedError: qemu, Debian's tools or the network are absent.
            FailedError: something cannot be installed.
        """
        self.device, self.home = device, folder / device.name
        self.home.mkdir(parents=True, exist_ok=True)
        self._prefix, self._python, self._pip_wheel = _python(device, folder)
        self._venv = self.home / "venv"
        self._set_up(wheel)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the device's Python to its end, in the device's folder: `-m` looks for modules where it is run."""
        return run(self._command(*arguments), environment(self.home), self.home)

    def json(self, *arguments: str | Path) -> Any:
        """What a program of the device prints: one JSON document.

        Raises:
            FailedError: it failed, or printed something else.
        """
        what = f"{Path(arguments[0]).name} on {self.device.name}"
        said = must(self._command(*arguments), what, environment(self.home), self.home)
        try:
            return json.loads(said)
        except ValueError as error:
            raise FailedError(f"{what} printed {said[:200]!r}") from error

    def script(self, name: str) -> Path:
        """A console script of an installed package."""
        return self._venv / "bin" / name

    def _command(self, *arguments: str | Path) -> list[str | Path]:
        return [*self._prefix, self._venv / "bin" / "python3", *arguments]

    def _set_up(self, wheel: Path) -> None:
        device = self.device
        there = wheels.fetch(self.home / "wheels", device.locks, device.machine)
        with zipfile.ZipFile(wheel) as opened:
            (metadata,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
            asks = hashlib.sha256(opened.read(metadata)).hexdigest()
        recipe = json.dumps([asks, device.extras, device.debian, sorted(path.name for path in there.glob("*.whl"))])
        edition = hashlib.sha256(wheel.read_bytes()).hexdigest()
        stamp = self.home / "venv.json"
        done = json.loads(stamp.read_text()) if stamp.exists() and self._venv.exists() else ["", ""]
        if done == [recipe, edition]:
            return
        stamp.unlink(missing_ok=True)
        if done[0] == recipe:
            self._pip("--force-reinstall", "--no-deps", wheel)
        else:
            shutil.rmtree(self._venv, ignore_errors=True)
            seen = ["--system-site-packages"] if device.debian else []
            call = [*self._prefix, self._python, "-m", "venv", "--without-pip", *seen, self._venv]
            must(call, f"making a venv on {device.name}", environment(self.home))
            if device.debian:  # whose Pillow is older than edgepatch asks for; it does, with a font beside it
                self._pip("--find-links", there, "click", *device.extras.split(","), "pytest")
                self._pip("--no-deps", wheel)
            else:
                self._pip("--find-links", there, f"{wheel}[{device.extras}]", "pytest")
        stamp.write_text(json.dumps([recipe, edition]))

    def _pip(self, *arguments: str | Path) -> None:
        """pip, in the device itself: its own Python says which wheels are for it."""
        what = f"pip on {self.device.name}"
        if self._pip_wheel is None:
            must([sys.executable, "-m", "pip", "--python", self._venv, *PIP, *arguments], what)
        else:
            more = {**environment(self.home), "PYTHONPATH": str(self._pip_wheel)}
            must(self._command("-m", "pip", *PIP, *arguments), what, more, self.home)


def environment(home: Path) -> dict[str, str]:
    """Of programs on devices: nothing of this machine's."""
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}


def _python(device: Device, folder: Path) -> tuple[list[str], Path, Path | None]:
    """What stands before a device's programs on a command line, its Python, and its pip, a wheel.

    Raises:
        SkippedError: what is needed for it is absent, or this machine cannot be the reference.
    """
    machine = device.machine
    if machine is None:
        if (platform.machine(), ".".join(platform.python_version_tuple()[:2])) != (NATIVE, NATIVE_PYTHON):
            raise SkippedError(f"ARM is held against {NATIVE} with Python {NATIVE_PYTHON}, which this is not")
        return [], Path(sys.executable), None
    root = debian.root(folder / machine.name, machine, (*debian.PACKAGES, *device.debian))
    found = sorted(root.glob("usr/share/python-wheels/pip-*.whl"))
    if len(found) != 1:
        raise FailedError(f"{machine.name} has {len(found)} wheels of pip, not one")
    return [qemu(machine), "-cpu", machine.cpu, "-L", str(root)], root / f"usr/bin/python{machine.python}", found[0]


def qemu(machine: Machine) -> str:
    """What runs a machine's programs.

    Raises:
        SkippedError: it is not installed.
    """
    return shutil.which(machine.qemu) or need(f"{machine.qemu}-static", "qemu-user-static")
