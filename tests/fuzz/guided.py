"""Fuzzing that coverage guides: a target under atheris in a process of its own, begun again after each crash."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edgepatch.errors import MissingPackageError

from . import guard, plain
from .plain import Result

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "fuzz"  # what has evolved, for the next run to go on with
MOST_CRASHES = 20  # of a target, alike or not, after which it is left alone
EXAMINING = 300  # seconds that a crash may take to be made smaller

_STATUS = re.compile(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)
_UNITS = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_WORST = re.compile(r"^worst: (\d+) bytes of memory, an input of (\d+)$", re.MULTILINE)


def require_atheris() -> None:
    """Say how to come by it.

    Raises:
        MissingPackageError: it is not installed.
    """
    if importlib.util.find_spec("atheris") is None:
        raise MissingPackageError(
            "coverage-guided fuzzing needs atheris, which is not installed",
            mend='pip install "edgepatch[fuzz]", or give --plain, which goes without coverage',
        )


def run(name: str, target: Any, executions: int, seconds: float | None = None, seed: int = 0) -> Result:
    """As `plain.run`, under atheris. What evolves is kept under build/fuzz."""
    found = Result()
    evolved = WORK / name
    evolved.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        seeds, artifacts = Path(folder) / "seeds", Path(folder) / "artifacts"
        for each in (seeds, artifacts):
            each.mkdir()
        for number, data in enumerate(plain.known(name, target)):
            (seeds / str(number)).write_bytes(data)
        for start in range(MOST_CRASHES):
            if found.executions >= executions:
                break
            left = None if seconds is None else seconds - (time.monotonic() - begun)
            if left is not None and left < 1:
                break
            options = {
                "runs": executions - found.executions,
                "max_len": target.LIMIT,
                "timeout": guard.SECONDS,
                "rss_limit_mb": 2048,
                "len_control": 0,
                "print_final_stats": 1,
                "artifact_prefix": f"{artifacts}/",
                "seed": seed + start + 1,
            }
            if left is not None:
                options["max_total_time"] = int(left)
            arguments = [f"-{option}={value}" for option, value in options.items()]
            call = [sys.executable, "-m", "tests.fuzz.worker", name, str(evolved), str(seeds), *arguments]
            done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
            _account(found, done.stderr)
            crashed = sorted(artifacts.iterdir())
            for path in crashed:
                _note(found, name, path)
                path.unlink()
            if done.returncode and not crashed:
                found.crashes[f"the process ended with {done.returncode}: {done.stderr[-500:]}"] = b""
                break
    found.seconds = time.monotonic() - begun
    found.coverage["corpus"] = sum(1 for _ in evolved.iterdir())
    return found


def _account(found: Result, text: str) -> None:
    """Add what libFuzzer says of a run: how many inputs, and how far they came."""
    units, statuses = _UNITS.findall(text), _STATUS.findall(text)
    found.executions += int(units[-1]) if units else int(statuses[-1][0]) if statuses else 0
    if statuses:
        for key, value in zip(("edges", "features"), statuses[-1][1:3], strict=True):
            found.coverage[key] = max(found.coverage.get(key, 0), int(value))
    for taken, size in _WORST.findall(text):
        if int(taken) > found.worst.taken:
            found.worst = guard.Peak(int(taken), int(size))


def _note(found: Result, name: str, path: Path) -> None:
    """Add a crash, its input made as small as it goes, unless it is one that is known."""
    kind, data = path.name.partition("-")[0], path.read_bytes()
    small = path.with_suffix(".small")
    call = [sys.executable, "-m", "tests.fuzz", "--examine", name, str(path), str(small)]
    problem = f"{kind}: it ends or outlasts the process that looks at it"
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False, timeout=EXAMINING)
        if done.returncode == 0:
            problem = json.loads(done.stdout)["problem"] or f"{kind}: seen once, and not again"
            data = small.read_bytes()
    small.unlink(missing_ok=True)
    found.crashes.setdefault(problem, data)
