"""Wheels for the machines, by the hashes in locks/, and edgepatch's own, of the working tree."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .devices import Machine
from .errands import FailedError, must, outside

LOCKS = Path(__file__).parent / "locks"
REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = ("edgepatch", "converters", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
EPOCH = str(946_684_800)  # the year 2000: the same sources give the same bytes

_ROW = re.compile(
    r"^(?P<name>[A-Za-z0-9_.-]+)==(?P<version>\S+)(?P<hashes>(?:\s*\\\n\s+--hash=sha256:[0-9a-f]{64})*)", re.M
)


def rows(lock: str) -> dict[str, set[str]]:
    """The requirements of a file of locks/, `NAME==VERSION`, with the SHA-256 that their files may have."""
    text = (LOCKS / f"{lock}.txt").read_text(encoding="utf-8")
    return {
        f"{row['name']}=={row['version']}": set(re.findall("[0-9a-f]{64}", row["hashes"]))
        for row in _ROW.finditer(text)
    }


def fetch(folder: Path, locks: Iterable[str], machine: Machine | None) -> Path:
    """A folder with the wheels of some locks, for a machine or for this one; fetches those that it lacks.

    Raises:
        SkippedError: some are lacking, and there is no network.
        FailedError: pip finds none of the version and hash for the machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.whl")}
    for lock in locks:
        for requirement, hashes in rows(lock).items():
            if not hashes & there:
                _fetch(folder, requirement, sorted(hashes), machine)
    return folder


def _fetch(folder: Path, requirement: str, hashes: list[str], machine: Machine | None) -> None:
    call = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    call += ["--only-binary=:all:", *target(machine), "--dest", str(folder)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as asked:
        asked.write(" ".join([requirement, *(f"--hash=sha256:{each}" for each in hashes)]))
        asked.flush()
        must([*call, "--require-hashes", "-r", asked.name], f"fetching {requirement}", outside())


def target(machine: Machine | None) -> list[str]:
    """pip's options for wheels of a machine; none for this one."""
    if machine is None:
        return []
    platforms = [f"--platform={platform}" for platform in machine.platforms]
    return [*platforms, f"--python-version={machine.python}", "--implementation=cp"]


def build(folder: Path) -> Path:
    """The wheel of edgepatch, as `pip wheel --no-deps .` makes it, from a copy of the sources.

    Raises:
        SkippedError: setuptools has yet to be fetched, and there is no network.
        FailedError: it cannot be built.
    """
    tools = fetch(folder / "tools", ("build",), None)
    sources, out = copied(folder / "sources"), folder / "edgepatch"
    shutil.rmtree(out, ignore_errors=True)
    offline = ["--no-index", "--find-links", tools]
    call = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", *offline]
    must([*call, "--wheel-dir", out, sources], "building edgepatch", outside(SOURCE_DATE_EPOCH=EPOCH))
    (wheel,) = out.glob("edgepatch-*.whl")
    return wheel


def copied(folder: Path) -> Path:
    """What a wheel is made of, in a folder of its own: setuptools leaves what it built beside the sources, and packs it
    again the next time, with modules that are gone since."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in SOURCES:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, folder / name, ignore=_no_links)
        else:
            shutil.copy(REPOSITORY / name, folder)
    return folder


def _no_links(folder: str, names: list[str]) -> set[str]:
    """What is not to be copied: in checkouts where edgepatch/converters is a link, it would be there twice."""
    return {name for name in names if name == "__pycache__" or (Path(folder) / name).is_symlink()}


def lock(machines: Iterable[Machine | None]) -> None:
    """Write the hashes of locks/ anew, for the versions that stand there: of the wheels that the machines get.

    Raises:
        SkippedError: there is no network.
        FailedError: none of the machines has a wheel of some version.
    """
    for path in sorted(LOCKS.glob("*.txt")):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        for requirement in rows(path.stem):
            hashes, said = set(), ""
            for machine in machines:
                with tempfile.TemporaryDirectory() as folder:
                    call = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
                    try:
                        must([*call, *target(machine), "--dest", folder, requirement], requirement, outside())
                    except FailedError as error:  # not every machine has everything
                        said = str(error)
                    hashes |= {hashlib.sha256(each.read_bytes()).hexdigest() for each in Path(folder).glob("*.whl")}
            if not hashes:
                raise FailedError(said)
            lines.append(" \\\n".join([requirement, *(f"    --hash=sha256:{each}" for each in sorted(hashes))]))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
