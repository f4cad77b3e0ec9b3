"""The engine `local`: worker processes on this machine, each with its share of the cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepatch.many import job as jobs
from edgepatch.many.job import Event, Job

if TYPE_CHECKING:
    from edgepatch.backbones.backbone import Backbone

SPAWN = multiprocessing.get_context("spawn")  # a fork of a process that has threads may hang
PATIENCE = 5.0  # seconds that a worker has to end by itself
TAIL = 1500  # bytes of what a worker wrote last, told when it died


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Local:
    """Worker processes: started when there is work for them, kept for the next task, replaced when they die.

    Args:
        backbone: the bytes of its file.
        jobs: how many tasks of one CPU are trained at the same time; as many as there are cores by default.
    """

    def __init__(self, backbone: bytes, jobs: int | None = None) -> None:
        self.backbone = backbone
        self.capacity = float(jobs or cores())
        self.share = max(1, int(cores() // self.capacity))
        self.busy: dict[Connection, tuple[_Worker, Job]] = {}
        self.idle: list[_Worker] = []

    def check(self, jobs: Sequence[Job]) -> list[str]:
        """What of the tasks' demands cannot be met, in sentences."""
        if any(job.entry.resources.gpus or job.entry.resources.memory for job in jobs):
            return ["of the tasks' resources only cpus count on this machine; gpus and memory are for --engine ray"]
        return []

    def room(self, job: Job) -> bool:
        """Whether a job can be submitted now."""
        taken = sum(self._cpus(each) for _, each in self.busy.values())
        return not self.busy or taken + self._cpus(job) <= self.capacity + 1e-6

    def submit(self, job: Job) -> None:
        threads = jobs.threads(job.entry.resources.cpus, self.share)
        worker = next((each for each in self.idle if each.threads == threads), None)
        if worker:
            self.idle.remove(worker)
        elif self.idle and len(self.idle) + len(self.busy) >= self.capacity:
            self.idle.pop(0).end()
        worker = worker or _Worker(self.backbone, threads)
        self.busy[worker.connection] = worker, job
        worker.give(job)

    def poll(self, seconds: float) -> list[Event]:
        """What happened, at the latest after so many seconds."""
        events = []
        for connection in wait(list(self.busy), seconds):
            assert isinstance(connection, Connection)
            worker, job = self.busy[connection]
            try:
                kind, facts = connection.recv()
            except (EOFError, OSError):
                del self.busy[connection]
                kind, facts = "died", {"message": worker.cause()}
            else:
                if kind in ("done", "failed"):
                    del self.busy[connection]
                    if worker.given < jobs.RECYCLED:
                        self.idle.append(worker)
                    else:
                        worker.end()
            events.append(Event(job.name, job.attempt, kind, facts))
        return events

    def stop(self) -> None:
        """End all workers, whatever they are doing."""
        workers = [*self.idle, *(worker for worker, _ in self.busy.values())]
        self.idle, self.busy = [], {}
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.end()

    def _cpus(self, job: Job) -> float:
        return min(job.entry.resources.cpus, self.capacity)


def start(backbone: bytes, *, jobs: int | None = None, address: str | None = None) -> Local:
    """The engine; there is no address to start it at."""
    assert address is None
    return Local(backbone, jobs)


class _Worker:
    """A process that trains one task after another."""

    def __init__(self, backbone: bytes, threads: int) -> None:
        self.threads, self.given = threads, 0
        handle, name = tempfile.mkstemp(prefix="edgepatch-", suffix=".log")
        os.close(handle)
        self.log = Path(name)
        self.connection, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(theirs, backbone, threads, name), daemon=True)
        self.process.start()
        theirs.close()  # that the end of the process is the end of the pipe

    def give(self, job: Job) -> None:
        self.given += 1
        with contextlib.suppress(OSError):  # it died while idle: reading from it will tell
            self.connection.send(job)

    def cause(self) -> str:
        """What it died of."""
        self.process.join(PATIENCE)
        code = self.process.exitcode
        told = self.log.read_bytes()[-TAIL:].decode(errors="replace").strip() if self.log.exists() else ""
        self.end()
        if code is not None and code < 0:
            said = f"its process was killed by {signal.Signals(-code).name}"
            said += "; the system does that where memory runs out" * (-code == signal.SIGKILL)
        else:
            said = f"its process ended with code {code}"
        return f"{said}\n{told}".strip()

    def end(self) -> None:
        """End it: it does so by itself when nothing can come any more, and has to if it does not."""
        self.connection.close()
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.process.close()
        self.log.unlink(missing_ok=True)


def _serve(connection: Connection, data: bytes, threads: int, log: str) -> None:
    """Train what comes, until nothing can come any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says what is to be done
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through `finally`, that no half file is left
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    threading.Thread(target=_follow, daemon=True).start()
    jobs.confine(threads)
    parsed: list[Backbone] = []

    def backbone() -> Backbone:
        if not parsed:
            from edgepatch.backbones import backbone as backbones

            parsed.append(backbones.parse(data, "backbone"))
        return parsed[0]

    def tell(kind: str, facts: dict[str, Any]) -> None:
        connection.send((kind, facts))

    while True:
        try:
            job = connection.recv()
            os.ftruncate(handle, 0)
            connection.send(jobs.outcome(job, backbone, tell))
        except (EOFError, OSError):  # the parent has closed its end, or is gone
            return


def _follow() -> None:
    """End with the parent, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
