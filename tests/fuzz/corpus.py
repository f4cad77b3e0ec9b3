"""What is kept between runs: the evolved corpus, packed, and inputs that once crashed a reader."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from . import common

CORPUS = common.HERE / "corpus.tar.xz"
CRASHES = common.HERE / "crashes"
BUDGET = 200_000  # bytes of the packed corpus


@functools.cache
def _all() -> dict[str, bytes]:
    return common.read_archive(CORPUS) if CORPUS.exists() else {}


def kept(target: str) -> dict[str, bytes]:
    """The evolved inputs of a target, by name."""
    return {name: data for name, data in _all().items() if name.startswith(f"{target}/")}


def crashes(target: str) -> dict[str, bytes]:
    """The inputs that once crashed a target, by file name."""
    return {path.name: path.read_bytes() for path in sorted(CRASHES.glob(f"{target}-*"))}


def keep_crash(target: str, data: bytes, what: str = "") -> Path:
    """Write a crash's input; returns where."""
    CRASHES.mkdir(exist_ok=True)
    path = CRASHES / f"{target}-{what + '-' if what else ''}{hashlib.sha256(data).hexdigest()[:8]}"
    path.write_bytes(data)
    return path


def pack(inputs: dict[str, dict[str, bytes]]) -> int:
    """Keep of each target's inputs as many as fit, the smallest first; returns the packed size in bytes."""
    budget = dict.fromkeys(inputs, 1 << 20)
    while True:
        chosen: dict[str, bytes] = {}
        for target, files in inputs.items():
            room = budget[target]
            for data in sorted(set(files.values()), key=len):
                room -= len(data)
                if room < 0:
                    break
                chosen[f"{target}/{hashlib.sha256(data).hexdigest()[:12]}"] = data
        common.write_archive(CORPUS, chosen)
        if CORPUS.stat().st_size <= BUDGET:
            return CORPUS.stat().st_size
        budget = {target: room * 3 // 4 for target, room in budget.items()}
