"""Endurance: tasks, pictures and threads mixed for as long as a device may run, and what that leaves behind."""

from __future__ import annotations

import collections
import dataclasses
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch import blob, imaging
from edgepatch.bench.memory import resident
from edgepatch.errors import EdgepatchError, UsageError
from edgepatch.progress import Reporter, Terminal
from edgepatch.runtime import Runtime, graph_file
from edgepatch.runtime.graph_file import Graph

RELOADS = 1 / 200  # of a patch's file while others are predicting, for each answer; its task then starts bound again
SAMPLES = 200
SLOPE_FROM = 20_000  # answers: before, memory only fills up
WARM = 0.2  # of the samples: caches fill, and every thread gets its part of the allocator
NOISE = 8  # pictures, where none are given
SIDES = (160, 320)  # of them, at least and at most, in pixels

Answers = dict[str, list[set[tuple[bytes, ...]]]]  # by task and picture: what either form says


def soak(
    graph: str | os.PathLike[str],
    patches: Sequence[str | os.PathLike[str]],
    pictures: Sequence[str | os.PathLike[str]] = (),
    *,
    answers: int = 200_000,
    workers: int = 4,
    engine: str | None = None,
    memory_mb: float | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Switch and predict in several threads at once, in mode `auto`, and watch answers, memory and file handles.

    Every step puts a task to use, predicts a picture by whatever task is in use by then, and one in 200 reads a
    patch's file again. An answer is right if it is of a task that may be in use by then, and to the last bit what that
    task says of that picture bound or baked in a runtime of its own.

    Args:
        pictures: files; by default random ones of several sizes.
        answers: predictions in all, each with a switch before it.
        workers: threads that predict.
        memory_mb: for baked models; by default what lets about half of the tasks be baked, so that they come and go.

    Returns:
        `answers`, `switches`, `reloads`, `wrong`, `seconds`, by `forms` how many answers only the bound or only the
        baked form gives; `memory` with resident MiB when warm, at the end and at most, the least of the first and of
        the second half, which models that come and go do not hide, and `slope_kib`, KiB for a thousand answers (median
        of all pairs of samples, Theil 1950 and Sen 1968; None of less than 20,000 answers); `handles` and `threads`
        before, at most and after; `samples` of answers, MiB, handles and threads.

    Raises:
        UsageError, BadFileError, MismatchError: as `Runtime` and `Runtime.load`; or no number is to be had.
        EdgepatchError: a thread failed.
    """
    for name, number in (("--answers", answers), ("--workers", workers)):
        if number < 1:
            raise UsageError("is out of range", field=name, got=number, expected="1 or more")
    reporter = reporter or Terminal()
    seen = [imaging.load(path) for path in pictures] or _noise(seed)
    reporter.say("asking each task alone")
    shared = graph_file.read(graph)
    known, largest = _references(shared, patches, seen, engine)
    room = largest * max(1, len(patches) / 2) / 1e6 if memory_mb is None else memory_mb
    with Runtime(shared, engine=engine, memory_mb=room) as runtime:
        tasks = {runtime.load(path): path for path in patches}
        work = _Work(runtime, tasks, seen, known, answers)
        found = _watched(work, workers, seed, reporter)
        return {"engine": runtime.engine, "tasks": len(tasks), "workers": workers, "memory_mb": round(room, 1), **found}


@dataclasses.dataclass
class _Work:
    """What the threads do together, and what came of it."""

    runtime: Runtime
    tasks: dict[str, str | os.PathLike[str]]
    pictures: Sequence[Any]
    known: dict[str, Answers]  # of `bind` and of `bake`
    left: int
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    latest: dict[int, str] = dataclasses.field(default_factory=dict)  # what each thread puts to use
    possible: dict[int, set[str]] = dataclasses.field(default_factory=dict)  # what may be in use since a thread did
    failure: BaseException | None = None

    def steps(self, seed: int, thread: int) -> None:
        """One thread's part, to the end of all."""
        rng = np.random.default_rng((seed, thread))
        names = list(self.tasks)
        try:
            while self._next():
                possible = self._switch(thread, names[rng.integers(len(names))])
                picture = int(rng.integers(len(self.pictures)))
                answer = self.runtime.predict(self.pictures[picture])
                said = [form for form, known in self.known.items() if _told(answer) in known[answer.task][picture]]
                reloads = rng.random() < RELOADS
                if reloads:
                    self.runtime.load(self.tasks[names[rng.integers(len(names))]])
                with self.lock:
                    self.counts["answers"] += 1
                    self.counts["reloads"] += reloads
                    self.counts["wrong"] += not said or answer.task not in possible
                    self.counts[said[0] if len(said) == 1 else "either"] += bool(said)
        except BaseException as error:
            with self.lock:
                self.failure, self.left = self.failure or error, 0

    def _switch(self, thread: int, name: str) -> set[str]:
        """Put a task to use; the tasks that may be in use from then on, to which other threads' switches add."""
        with self.lock:
            possible = self.possible[thread] = {name, *self.latest.values()}  # the others may just be switching, too
            for each in self.possible.values():
                each.add(name)
            self.latest[thread] = name
        self.runtime.use(name)
        return possible

    def _next(self) -> bool:
        with self.lock:
            self.left -= 1
            return self.left >= 0


def _watched(work: _Work, workers: int, seed: int, reporter: Reporter) -> dict[str, Any]:
    """Let the threads run, and look at the process from outside them."""
    total, start, before = work.left, time.monotonic(), (_handles(), threading.active_count())
    threads = [threading.Thread(target=work.steps, args=(seed, number), daemon=True) for number in range(workers)]
    for thread in threads:
        thread.start()
    samples = []
    try:
        for number in reporter.bar(range(1, SAMPLES + 1), SAMPLES, "answers"):
            while work.counts["answers"] < total * number / SAMPLES and any(each.is_alive() for each in threads):
                time.sleep(0.01)
            samples.append((work.counts["answers"], resident() or 0.0, _handles(), threading.active_count()))
            reporter.status(f"{samples[-1][1]:.1f} MiB")
    finally:
        with work.lock:
            work.left = 0
        for thread in threads:
            thread.join()
    if isinstance(work.failure, EdgepatchError):
        raise work.failure
    if work.failure:
        raise EdgepatchError(f"a thread failed: {work.failure!r}") from work.failure
    counts, after = work.counts, (_handles(), threading.active_count())
    most = [max(sample[column] for sample in samples) for column in (2, 3)]
    return {
        "answers": counts["answers"],
        "switches": counts["answers"],
        "reloads": counts["reloads"],
        "wrong": counts["wrong"],
        "forms": {form: counts[form] for form in (*work.known, "either")},
        "seconds": round(time.monotonic() - start, 1),
        "memory": _memory(samples),
        "handles": {"before": before[0], "most": most[0], "after": after[0]},
        "threads": {"before": before[1], "most": most[1], "after": after[1]},
        "samples": [list(sample) for sample in samples],
    }


def _memory(samples: Sequence[tuple[int, float, int, int]]) -> dict[str, Any]:
    warm = np.array(samples[int(WARM * len(samples)) :])
    done, mib = warm[:, 0], warm[:, 1]
    first, second = np.triu_indices(len(warm), 1)
    apart = done[second] > done[first]
    rises = (mib[second] - mib[first])[apart] / (done[second] - done[first])[apart]
    return {
        "warm_mib": round(float(mib[0]), 2),
        "end_mib": round(float(mib[-1]), 2),
        "most_mib": round(float(mib.max()), 2),
        "least_mib": [round(float(half.min()), 2) for half in np.array_split(mib, 2) if len(half)],
        "slope_kib": round(float(np.median(rises)) * 1024 * 1000, 3) if done[-1] >= SLOPE_FROM else None,
    }


def _references(
    graph: Graph,
    patches: Sequence[str | os.PathLike[str]],
    pictures: Sequence[Any],
    engine: str | None,
) -> tuple[dict[str, Answers], int]:
    """What each task says of each picture in either form, and the bytes of the largest baked one."""
    known: dict[str, Answers] = {form: {} for form in graph.forms}
    largest = 0
    for path in patches:
        patch = blob.read(path)
        for form, found in known.items():
            if patch.task in found:
                raise UsageError("two patches are of the same task", file=path, field="task", got=patch.task)
            found[patch.task] = [set() for _ in pictures]
            if form == "bind" and not patch.bindable:
                continue
            with Runtime(graph, mode=form, engine=engine) as runtime:
                runtime.add(patch, file=path)
                for number, picture in enumerate(pictures):
                    found[patch.task][number].add(_told(runtime.predict(picture)))
                largest = max(largest, runtime.baked_bytes)
    return known, largest


def _told(answer: Any) -> tuple[bytes, ...]:
    """Every number of an answer."""
    values = (getattr(answer, field.name) for field in dataclasses.fields(answer))
    return tuple(value.tobytes() for value in values if isinstance(value, np.ndarray))


def _noise(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*rng.integers(*SIDES, 2), 3), np.uint8) for _ in range(NOISE)]


def _handles() -> int:
    """Files this process has open; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
