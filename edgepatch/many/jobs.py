"""Many tasks as independent jobs: given to an engine, tried again where they die, and never stopping each other."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from edgepatch import files
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones.backbone import Backbone
from edgepatch.errors import EdgepatchError, UsageError, require
from edgepatch.many import cluster, local, results, storage
from edgepatch.many.job import Event, Facts, Job
from edgepatch.many.tasks_file import TasksFile

ENGINES: dict[str, Any] = {"local": local, "ray": cluster}
TRIES = 3  # in a row in which a task comes to no further epoch
POLL = 0.5  # seconds between two looks at the table
WAITING, RUNNING, DONE, FAILED, KEPT = "waiting", "running", "done", "failed", "done before"


class Engine(Protocol):
    """Where jobs are worked at; the modules in `ENGINES` have a function `start` that gives one."""

    def check(self, jobs: Sequence[Job]) -> list[str]:
        """What of the tasks' demands cannot be met now, in sentences.

        Raises:
            UsageError: and never will be.
        """

    def room(self, job: Job) -> bool:
        """Whether a job can be submitted now."""

    def submit(self, job: Job) -> None:
        """Begin with a job, or queue it."""

    def poll(self, seconds: float) -> list[Event]:
        """What happened, at the latest after so many seconds. The last event of a job is done, failed or died."""

    def stop(self) -> None:
        """End all work, and give back what was started."""


@dataclasses.dataclass
class Row:
    """A task as the table shows it.

    Attributes:
        phase: what is done with a running one.
        epoch, epochs: done, and in all; 0 before it is known.
        validation: accuracy after that epoch; of a finished task, the patch's.
        seconds: of a finished task, its last attempt's; all attempts' of one that failed.
        attempts: begun.
        idle: attempts in a row that came to no further epoch.
        began: when the attempt did, in seconds of `time.monotonic`; None while it waits.
        where: the worker's process, and its node.
        error: of a failed task: a document as `EdgepatchError.to_json` gives.
        record: of a finished one.
    """

    job: Job
    state: str = WAITING
    phase: str = ""
    epoch: int = 0
    epochs: int = 0
    validation: float | None = None
    seconds: float = 0.0
    attempts: int = 0
    idle: int = 0
    began: float | None = None
    where: Facts = dataclasses.field(default_factory=dict)
    error: Facts | None = None
    record: Facts | None = None

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def share(self) -> float:
        """How much of the task is done, 0 to 1."""
        if self.state in (DONE, FAILED, KEPT):
            return 1.0
        return self.epoch / self.epochs if self.epochs else 0.0

    def to_json(self) -> Facts:
        """The row of results.json."""
        found: Facts = {"task": self.name, "state": self.state, **(self.record or {})}
        if self.error:
            found |= {"attempts": self.attempts, "seconds": round(self.seconds, 2), "error": self.error}
        return found


class Watcher:
    """Told of everything that happens; this one says nothing."""

    def begin(self, rows: Sequence[Row]) -> None:
        """What there is to do."""

    def say(self, text: str) -> None:
        """A sentence."""

    def changed(self, row: Row, event: Event) -> None:
        """Something happened to a task, and its row says it already."""

    def tick(self, rows: Sequence[Row], left: float | None) -> None:
        """Some time has passed; about `left` seconds are ahead, if that can be said."""

    def end(self) -> None:
        """Nothing more comes."""


def train(
    tasks: TasksFile,
    backbone: Backbone,
    *,
    engine: str = "local",
    jobs: int | None = None,
    address: str | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Train every task of a file on its own; returns what results.json says.

    A task that fails stops no other. One that died, or failed in a way that may pass, is tried again and goes on from
    its checkpoint, until it comes to no further epoch `TRIES` times in a row.

    Args:
        engine: `ENGINES`.
        jobs: at most so many tasks at the same time; the engine decides by default.
        address: of a Ray cluster.
        resume: keep finished tasks and go on with unfinished ones; else a folder with results is refused.

    Raises:
        UsageError: there are results already, or what a task needs is nowhere; nothing was trained.
        EdgepatchError: the work was interrupted, or the engine does not start.
    """
    if engine not in ENGINES:
        raise UsageError("there is no such engine", field="--engine", got=engine, expected=", ".join(ENGINES))
    if address is not None and engine != "ray":
        raise UsageError("an address is of a Ray cluster", field="--address", got=address, expected="--engine ray, too")
    if any(map(storage.is_remote, [tasks.out, *(path for each in tasks.tasks for path in (each.data, each.val))])):
        require("fsspec", extra="ray", why="reading and writing anywhere but on this machine")
    watcher, start = watcher or Watcher(), time.monotonic()
    data = files.read(tasks.backbone, limit=backbones.MAX_BYTES)
    rows = [Row(job) for job in _jobs(tasks, backbone)]
    out = rows[0].job.out
    if resume:
        _keep(rows, backbone, watcher)
    else:
        results.refuse_taken(out, [row.name for row in rows])
    watcher.begin(rows)
    try:
        if any(row.state == WAITING for row in rows):
            _attend(tasks, rows, data, engine, watcher, jobs=jobs, address=address)
    finally:
        watcher.end()
        facts = {"backbone_id": backbone.id, "engine": engine, "out": out}
        summary = results.summary(facts, [row.to_json() for row in rows], time.monotonic() - start)
        if any(row.attempts or row.state == KEPT for row in rows):
            results.write(out, summary)
    return summary


def _attend(
    tasks: TasksFile,
    rows: Sequence[Row],
    data: bytes,
    engine: str,
    watcher: Watcher,
    *,
    jobs: int | None,
    address: str | None,
) -> None:
    """Start an engine, have the work done, and stop it.

    Args:
        data: the bytes of the backbone's file.
    """
    started: Engine = ENGINES[engine].start(data, jobs=jobs, address=address)
    try:
        for sentence in started.check([row.job for row in rows if row.state == WAITING]):
            watcher.say(sentence)
        with results.token(rows[0].job.out, engine) as token:
            for row in rows:
                row.job = dataclasses.replace(row.job, token=token)
            _work(rows, started, watcher)
    except KeyboardInterrupt:
        done = sum(row.state in (DONE, KEPT) for row in rows)
        raise EdgepatchError(
            f"interrupted; {done} of {len(rows)} tasks are done, the others go on from their last epoch",
            mend=" ".join(
                ["edgepatch train-many", str(tasks.path), "--resume"]
                + [f"--engine {engine}"] * (engine != "local")
                + [f"--address {address}"] * (address is not None)
                + [f"--jobs {jobs}"] * (jobs is not None)
            ),
        ) from None
    finally:
        started.stop()


def _jobs(tasks: TasksFile, backbone: Backbone) -> list[Job]:
    """A job a task; paths are made absolute, for a worker may be in another folder."""
    out = _absolute(tasks.out)
    found = []
    for entry in tasks.tasks:
        own = dataclasses.replace(entry, data=_absolute(entry.data), val=entry.val and _absolute(entry.val))
        print_ = results.fingerprint(own, backbone.id, tasks.path)
        found.append(Job(own, out, print_, backbone.id))
    return found


def _absolute(path: str) -> str:
    return path if storage.is_remote(path) else str(Path(path).resolve())


def _keep(rows: Sequence[Row], backbone: Backbone, watcher: Watcher) -> None:
    """Find out which tasks are finished."""
    found, anew = results.finished([row.job for row in rows], backbone)
    for row in rows:
        if record := found.get(row.name):
            row.state, row.record, row.validation = KEPT, record, record["accuracy"]
            row.epoch = row.epochs = record["epochs"]
    for name, why in anew.items():
        watcher.say(f"{name} is trained anew: {why}")


def _work(rows: Sequence[Row], engine: Engine, watcher: Watcher) -> None:
    by_name = {row.name: row for row in rows}
    queue = collections.deque(row for row in rows if row.state == WAITING)
    running = 0
    clock = _Clock(rows)
    while queue or running:
        while queue and engine.room(queue[0].job):
            row = queue.popleft()
            row.attempts += 1
            row.job = dataclasses.replace(row.job, attempt=row.attempts)
            engine.submit(row.job)
            running += 1
        for event in engine.poll(POLL):
            row = by_name[event.name]
            if event.attempt != row.attempts or row.state in (DONE, FAILED):
                continue  # late news of an attempt that is over
            if event.kind in ("done", "failed", "died"):
                running -= 1
            if _apply(row, event):
                queue.append(row)  # behind the others: what was in its way may have passed by then
            watcher.changed(row, event)
        watcher.tick(rows, clock.left())


def _apply(row: Row, event: Event) -> bool:
    """Write an event into its task's row; returns whether the task is to be tried again."""
    facts, now = event.facts, time.monotonic()
    if event.kind == "started":
        row.state, row.phase, row.began, row.where = RUNNING, "starting", now, facts
    elif event.kind == "phase":
        row.phase = facts["phase"]
    elif event.kind == "epoch":
        row.phase, row.idle = "training", -1  # this attempt came further
        row.epoch, row.epochs, row.validation = facts["epoch"], facts["epochs"], facts["validation"]
    else:
        if row.began is not None:
            row.seconds += now - row.began
        row.began, row.phase = None, ""
        if event.kind == "done":
            row.state, row.record, row.validation, row.error = DONE, facts, facts["accuracy"], None
            row.epoch = row.epochs = facts["epochs"]
            row.seconds = facts["seconds"]
            return False
        row.idle += 1
        again = event.kind == "died" or facts.get("retry", False)
        document = {key: value for key, value in facts.items() if key != "retry"}
        row.error = {"code": 1, "type": "Died", **document} if event.kind == "died" else document
        row.state = WAITING if again and row.idle < TRIES else FAILED
        return row.state == WAITING
    return False


class _Clock:
    """How long the rest will take, from how long it has taken so far."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows, self.start = rows, time.monotonic()
        self.before = self._done()

    def _done(self) -> float:
        return sum(row.share for row in self.rows)

    def left(self) -> float | None:
        """Seconds; None before a task's worth of work is done."""
        done = self._done()
        gained = done - self.before
        if gained < 1:
            return None
        return (time.monotonic() - self.start) * (len(self.rows) - done) / gained
