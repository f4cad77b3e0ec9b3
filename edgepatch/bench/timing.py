"""Time: of one answer, of a switch to another task, of opening; contestants take turns all the while."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgepatch import blob
from edgepatch.bench.contestants import Contestant, Shared
from edgepatch.bench.rivals import picture
from edgepatch.progress import Reporter
from edgepatch.runtime import Runtime, engines, graph_file
from edgepatch.runtime.runtime import PROMOTE_AFTER

RUNS = 8  # a measurement, after one that does not count
OPENINGS = 9
REST = 0.01  # seconds, where there are pools of threads: those of the one before still spin for a while
MOVES, AFTER, PATIENCE = 5, 3, 30.0  # tasks moved, predictions behind a move, seconds a move may take
ROOM_MB = 100_000  # for what is moved: this is about pauses, not about the budget


@dataclasses.dataclass
class Opened:
    """A contestant, open, with its picture; and what was measured of it."""

    contestant: Contestant
    engine: engines.Engine
    image: np.ndarray
    latencies: list[float] = dataclasses.field(default_factory=list)


def start(contestant: Contestant) -> Opened:
    """Open a contestant and run it once."""
    engine = contestant.open()
    opened = Opened(contestant, engine, picture(engine))
    engine.run(opened.image)
    return opened


def rounds(contestants: Sequence[Opened], count: int, reporter: Reporter) -> None:
    """Measure every contestant once a round, in another order each time: a slow spell falls on all alike.

    Those of one engine and precision stay together: spells are short, and they are compared.
    """
    rng = np.random.default_rng(0)
    groups: dict[object, list[Opened]] = {}
    for opened in contestants:
        groups.setdefault((opened.contestant.engine, opened.contestant.precision), []).append(opened)
    shuffled = list(groups.values())
    several = any(opened.contestant.threads > 1 for opened in contestants)
    for _ in reporter.bar(range(count), count, "latency"):
        rng.shuffle(shuffled)  # type: ignore[arg-type]
        for opened in (group[index] for group in shuffled for index in rng.permutation(len(group))):
            if several:
                time.sleep(REST)
            opened.engine.run(opened.image)
            opened.latencies.append(clock(functools.partial(opened.engine.run, opened.image), RUNS))


def switches(contestants: Sequence[Opened], tasks: int, reporter: Reporter) -> list[dict[str, Any]]:
    """For each contestant, what it takes to be at another task.

    Bound: `ms` is `bind` alone. Baked and dedicated: `ms` is all of it, made or read, opened and first answer given,
    and `parts_ms` tells them apart. `first_result_ms` has the first answer counted in for all, `open_ms` is the way
    from nothing but the graph in memory, or the file, to the first answer.
    """
    rng = np.random.default_rng(1)
    parts: list[list[list[float]]] = [[] for _ in contestants]
    binds: list[list[tuple[float, float]]] = [[] for _ in contestants]
    for turn in reporter.bar(range(OPENINGS), OPENINGS, "switching"):
        for index in rng.permutation(len(contestants)):
            opened = contestants[index]
            parts[index].append(_opening(opened, turn))
            if opened.contestant.mode == "bind":
                binds[index] += [_binding(opened, turn * tasks + task + 1) for task in range(tasks)]
    found = []
    for opened, opening, binding in zip(contestants, parts, binds, strict=True):
        whole = [sum(each) for each in opening]
        now = [each for each, _ in binding] or whole
        answered = [each + first for each, first in binding] or whole
        row = {
            **opened.contestant.facts,
            "ms": round(statistics.median(now), 4),
            "first_result_ms": round(statistics.median(answered), 4),
            "worst_ms": round(max(now), 4),
            "open_ms": round(statistics.median(whole), 3),
        }
        if not binding:
            medians = [round(statistics.median(column), 3) for column in zip(*opening, strict=True)]
            made = "read" if opened.contestant.mode == "dedicated" else "bake"
            row["parts_ms"] = dict(zip((made, "open", "first_result"), medians, strict=True))
        found.append(row)
    return found


def _opening(opened: Opened, task: int) -> list[float]:
    """Milliseconds to make or read a task's model, to open it, and to its first answer."""
    contestant = opened.contestant
    begin = time.perf_counter()
    model = contestant.model(task)
    made = time.perf_counter()
    engine = engines.start(contestant.engine, model, contestant.threads)
    engine.bind(contestant.inputs(task))
    ready = time.perf_counter()
    engine.run(opened.image)
    done = time.perf_counter()
    engine.close()
    return [1000 * span for span in (made - begin, ready - made, done - ready)]


def _binding(opened: Opened, task: int) -> tuple[float, float]:
    """Milliseconds to bind a task, and from there to its first answer."""
    values = opened.contestant.inputs(task)
    return clock(lambda: opened.engine.bind(values), 1), clock(lambda: opened.engine.run(opened.image), 1)


def loading(contestants: Sequence[Contestant], patch: str, reporter: Reporter) -> list[dict[str, Any]]:
    """What it takes to have a `Runtime` of a graph: file read and checked, a patch loaded, the first form opened."""
    loaded = blob.read(patch)
    own: dict[tuple[str, str, int], tuple[Contestant, Shared]] = {}
    for each in contestants:
        if isinstance(each.what, Shared):
            own.setdefault((each.engine, each.what.path, each.threads), (each, each.what))
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in own]

    def load(each: Contestant, what: Shared) -> None:
        with Runtime(what.path, engine=each.engine, threads=each.threads) as runtime:
            runtime.use(runtime.add(loaded))

    for _ in reporter.bar(range(OPENINGS), OPENINGS, "loading"):
        for (each, what), (reading, whole) in zip(own.values(), times, strict=True):
            reading.append(clock(functools.partial(graph_file.read, what.path), 1))
            whole.append(clock(functools.partial(load, each, what), 1))
    return [
        {
            **_without_mode(each),
            "read_ms": round(statistics.median(reading), 3),
            "ms": round(statistics.median(whole), 3),
        }
        for (each, _), (reading, whole) in zip(own.values(), times, strict=True)
    ]


def pauses(contestants: Sequence[Contestant], patch: str, reporter: Reporter) -> list[dict[str, Any]]:
    """The longest prediction while `Runtime(mode="auto")` moves a task from bound to baked, and the median before."""
    able = [
        each
        for each in contestants
        if each.mode == "bind" and isinstance(each.what, Shared) and "bake" in each.what.graph.forms
    ]
    return [_pause(each, patch) for each in reporter.bar(able, len(able), "pauses")]


def _pause(contestant: Contestant, path: str) -> dict[str, Any]:
    assert isinstance(contestant.what, Shared)
    patch = blob.read(path)
    size = patch.input.size
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    before: list[float] = []
    longest: list[float] = []
    after: list[float] = []
    options: dict[str, Any] = {"engine": contestant.engine, "threads": contestant.threads, "memory_mb": ROOM_MB}
    with Runtime(contestant.what.path, **options) as runtime:
        for move in range(MOVES):
            task = runtime.add(dataclasses.replace(patch, task=f"{patch.task[:80]} {move}"))
            predict = functools.partial(runtime.predict, pixels, task)
            predict()  # binds, and the very first one opens
            before += [clock(predict, 1) for _ in range(PROMOTE_AFTER - 1)]
            moving: list[float] = []
            deadline = time.monotonic() + PATIENCE
            while task not in runtime.baked and time.monotonic() < deadline:
                moving.append(clock(predict, 1))
            behind = [clock(predict, 1) for _ in range(AFTER)]
            if task in runtime.baked:
                longest.append(max(moving + behind))  # the first one baked is part of the move
                after += behind
            runtime.unload(task)
    row = {**_without_mode(contestant), "before_ms": round(statistics.median(before), 3), "pause_ms": None}
    if longest:
        row |= {"pause_ms": round(max(longest), 3), "median_pause_ms": round(statistics.median(longest), 3)}
        row["after_ms"] = round(statistics.median(after), 3)
    return row


def _without_mode(contestant: Contestant) -> dict[str, Any]:
    return {name: value for name, value in contestant.facts.items() if name != "mode"}


def clock(work: Callable[[], object], runs: int) -> float:
    """Milliseconds of one run."""
    begin = time.perf_counter()
    for _ in range(runs):
        work()
    return (time.perf_counter() - begin) * 1000 / runs
