"""Resident memory of many tasks: a fresh process for each contestant, for one that ran others would not tell."""

from __future__ import annotations

import dataclasses
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from edgepatch import blob, files
from edgepatch.bench.contestants import Contestant
from edgepatch.bench.processes import apart
from edgepatch.bench.rivals import picture
from edgepatch.blob import Patch
from edgepatch.progress import Reporter, hushed
from edgepatch.runtime import Runtime, engines, graph_file
from edgepatch.runtime.model import Model

KEEP_FREE_MIB = 4096.0  # or half of what a smaller machine has


def memory(
    contestants: Sequence[Contestant], patches: Sequence[str], tasks: Sequence[int], reporter: Reporter
) -> list[dict[str, Any]]:
    """MiB that each contestant adds to a process, for each number of tasks, every one of them having answered once.

    Bound tasks are loaded in one `Runtime`, and so are baked ones, within its default budget; dedicated models are all
    open at once. `mib` is None, and `reason` says why, where the machine ran short of memory.
    """
    rows = []
    for each in reporter.bar(contestants, len(contestants), "memory"):
        try:
            found = apart(_readings, each.engine, each.mode, each.what.path, list(patches), list(tasks))
        except BrokenProcessPool:
            found = [(None, "the process was killed, most likely for want of memory")] * len(tasks)
        facts = {name: value for name, value in each.facts.items() if name != "threads"}
        for count, (mib, reason) in zip(tasks, found, strict=True):
            rows.append({**facts, "tasks": count, "mib": mib, **({"reason": reason} if reason else {})})
    return rows


def resident() -> float | None:
    """Resident memory of this process in MiB; None where the system does not tell."""
    try:
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return None


def short() -> str | None:
    """Why no further model should be opened, if that is so."""
    try:
        with open("/proc/meminfo") as stream:
            entries = {line.partition(":")[0]: int(line.split()[1]) / 1024 for line in stream}
        floor = min(KEEP_FREE_MIB, entries["MemTotal"] / 2)
        if entries["MemAvailable"] < floor:
            return f"the machine had {entries['MemAvailable']:.0f} MiB available, less than {floor:.0f}"
    except (OSError, KeyError, ValueError, IndexError):
        pass
    return None


def _readings(
    engine: str, mode: str, path: str, patches: list[str], tasks: list[int]
) -> list[tuple[float | None, str | None]]:
    """For each number of tasks, in growing order, what has been added since the engine's library was loaded."""
    with hushed():
        return list(_grown(engine, mode, path, patches, tasks))


def _grown(
    engine: str, mode: str, path: str, patches: list[str], tasks: list[int]
) -> Iterator[tuple[float | None, str | None]]:
    engines.load(engine)
    own = [blob.read(patch) for patch in patches]
    size = own[0].input.size
    pixels = np.zeros((size, size, 3), np.uint8)
    own[0].input(pixels)  # loads what reads pictures: neither that nor the library counts
    add = _dedicated(engine, path) if mode == "dedicated" else _shared(engine, mode, path, own, pixels)
    gc.collect()
    before, number, reason = resident(), 0, None
    if before is None:
        reason = "this system does not tell"
    for count in tasks:
        while number < count and not reason:
            reason = short()
            if not reason:
                add(number)
                number += 1
        now = resident()
        if reason or before is None or now is None:
            yield None, reason
        else:
            yield round(now - before, 1), None


def _shared(engine: str, mode: str, path: str, own: list[Patch], pixels: np.ndarray) -> Callable[[int], None]:
    runtimes: list[Runtime] = []

    def add(number: int) -> None:
        if not runtimes:
            runtimes.append(Runtime(path, engine=engine, mode=mode))
        patch = own[number % len(own)]
        named = dataclasses.replace(patch, task=f"{patch.task[:80]} {number}")
        task = runtimes[0].add(blob.parse(blob.dump(named), path))  # with tensors of its own, as a file of its own has
        runtimes[0].predict(pixels, task)

    return add


def _dedicated(engine: str, path: str) -> Callable[[int], None]:
    kept: list[engines.Engine] = []

    def add(number: int) -> None:
        opened: engines.Engine = engines.start(engine, Model(files.read(path, limit=graph_file.MAX_BYTES)), 1)
        opened.bind({})
        opened.run(picture(opened))
        kept.append(opened)

    return add
