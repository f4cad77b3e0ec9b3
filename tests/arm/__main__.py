"""`python -m tests.arm`: the devices' tests under qemu, and their answers held against this machine's.

Without a network, qemu or Debian's tools it says so in a line and ends with 0; with --strict, with 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import parity, questions, report, wheels
from .devices import DEVICES, PI2, PI4, PI5, Device
from .emulation import Installed, qemu
from .errands import FailedError, SkippedError

INSIDE = Path(__file__).parent / "inside"
TESTS = ("test_golden.py", "test_runtime.py", "test_tiers.py", "test_imaging.py", "test_arm.py")
HELPERS = ("plans.py", "parts.py")


@dataclasses.dataclass
class Examined:
    """What came of a device: what it answered, through the command too, what that cost, and what is wrong."""

    answers: list[parity.Answer]
    said: list[dict[str, Any]]
    costs: list[report.Cost]
    wrong: list[str]


def main() -> int:
    known = {each.name: each for each in DEVICES if each.like}
    parser = argparse.ArgumentParser(prog="python -m tests.arm", description="edgepatch on emulated ARM devices.")
    parser.add_argument("devices", nargs="*", metavar="DEVICE", help=f"all by default: {', '.join(known)}")
    parser.add_argument("--work", type=Path, default=Path("build/arm"), help="where downloads and roots are kept")
    parser.add_argument(
        "--material", type=Path, help="a folder as `edgepatch demo` leaves it: its graphs are asked, too"
    )
    parser.add_argument("--pictures", type=int, default=20, help="of each task of --material")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="devices at a time")
    parser.add_argument("--strict", action="store_true", help="what cannot be run is a failure")
    parser.add_argument("--no-tests", action="store_true", help="compare and measure only")
    parser.add_argument("--lock", action="store_true", help="write the hashes of tests/arm/locks anew, and end")
    options = parser.parse_args()
    if unknown := [name for name in options.devices if name not in known]:
        parser.error(f"there is no device {unknown[0]}")
    try:
        if options.lock:
            wheels.lock((None, PI4, PI5, PI2))
            return 0
        wrong = run([known[name] for name in options.devices or known], options)
    except SkippedError as reason:
        print(f"arm-test skipped: {reason}")
        return 1 if options.strict else 0
    except FailedError as problem:
        wrong = [str(problem)]
    for each in wrong:
        print(f"arm-test failed: {each}", file=sys.stderr)
    return 1 if wrong else 0


def run(chosen: list[Device], options: argparse.Namespace) -> list[str]:
    """Set the devices up, test them, hold them against this machine; prints what came of it, returns what is wrong.

    Raises:
        SkippedError: qemu, Debian's tools or the network are absent.
        FailedError: a device cannot be set up, or a program of ours failed there.
    """
    for device in chosen:  # before anything is fetched
        if device.machine:
            qemu(device.machine)
    begun, work = time.monotonic(), options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    wheel = wheels.build(work / "host")
    wanted = {device.like for device in chosen} | {device.name for device in chosen}
    installed = [Installed(each, work, wheel) for each in DEVICES if each.name in wanted]  # they share roots
    print(f"{len(chosen)} devices set up after {time.monotonic() - begun:.0f} s", flush=True)
    stage(work / "tests")
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda device: examine(device, work, options), installed))
    found = {device.device.name: result for device, result in zip(installed, results, strict=True)}
    wrong = [each for result in results for each in result.wrong]
    for device in chosen:
        rows = parity.compare(found[device.name].answers, found[device.like].answers)
        print(report.parity_table(device, rows))
        wrong += [f"{device.name}: {each}" for row in rows.values() for each in row.wrong]
        wrong += parity.commands(device.name, found[device.name].said, found[device.like].said)
    print(report.cost_table([row for result in results for row in result.costs]))
    print(f"\n{len(chosen)} devices after {time.monotonic() - begun:.0f} s")
    return wrong


def examine(device: Installed, work: Path, options: argparse.Namespace) -> Examined:
    """Run the tests on a device, and ask it what the others are asked."""
    wrong = [] if options.no_tests else tested(device, work / "tests")
    asked = questions.of_golden(device.device, device.home / "graphs")
    material = options.material and options.material.resolve()
    real = questions.of_material(device.device, material, options.pictures) if material else []
    file = device.home / "questions.json"
    file.write_text(json.dumps(asked + real))
    answers = device.json(work / "tests" / "answers.py", file)
    said = [command(device, row) for row in asked if "fp32" in row["graph"]]
    costs = report.costs(device, work / "tests" / "footprint.py", real or asked)
    return Examined(answers, said, costs, wrong + report.loaded_too_much(costs))


def command(device: Installed, row: questions.Question) -> dict[str, Any]:
    """What `edgepatch run` says there: the installed command, in a process of its own."""
    picture, *_ = row["pictures"][0]
    call = ["run", row["graph"], "--patch", row["patches"][0], picture, "--engine", row["engine"], "--json"]
    (answer,) = device.json(device.script("edgepatch"), *call)
    return answer


def stage(folder: Path) -> None:
    """The tests beside the devices' own conftest.py."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(INSIDE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "device_conftest.py").rename(folder / "conftest.py")  # that is no name for it where pytest runs here
    tests = INSIDE.parents[1]
    for name in (*TESTS, *HELPERS):
        shutil.copy(tests / name, folder)
    shutil.copytree(tests / "golden", folder / "golden", ignore=shutil.ignore_patterns("__pycache__"))


def tested(device: Installed, folder: Path) -> list[str]:
    """Run the tests on a device; prints pytest's last line, returns what is wrong."""
    ini = INSIDE.parents[2] / "pyproject.toml"  # wherever `folder` is, warnings are errors there as they are here
    call = ["-m", "pytest", "-c", ini, "--rootdir", folder, "--tb=short", "-o", "addopts=-q -p no:cacheprovider"]
    done = device.run(*call, *(folder / name for name in (*TESTS, "checks.py")))
    lines = done.stdout.strip().splitlines() or ["pytest said nothing"]
    print(f"{device.device.name}: {lines[-1]}", flush=True)
    if done.returncode == 0:
        return []
    return [f"tests on {device.device.name} ({done.returncode}):", *lines[-80:], *done.stderr.splitlines()[-20:]]


if __name__ == "__main__":
    sys.exit(main())
