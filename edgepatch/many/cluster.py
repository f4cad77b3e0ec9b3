"""The engine `ray`: tasks of a Ray cluster, or of a Ray on this machine that is started and stopped again.

Attempts are counted and repeated by edgepatch, not by Ray: so both engines do it alike, and the table shows it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgepatch.errors import EdgepatchError, UsageError, require
from edgepatch.many import job as jobs
from edgepatch.many import local
from edgepatch.many.job import Event, Facts, Job

if TYPE_CHECKING:
    from edgepatch.backbones.backbone import Backbone

ANSWER = 5.0  # seconds in which something has to answer; Ray itself waits for 30 to 80, and then ends the process
CONNECT = 40.0  # seconds in which Ray has to connect then: for ray:// the cluster starts a process of its own
IMPORT = 120.0  # seconds in which Ray has to be imported, on a machine that is busy
LOOK = 0.05  # seconds between two looks at whether there is news
QUIET = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
CLIENT = "ray://"
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # of HTTP/2, which gRPC speaks
SETTINGS = 4  # the type of the frame that a server answers with, its fourth byte
# connects as we would: what hangs, or brings its process down, does so there
PROBE = f"""
import sys, ray
print("ready", flush=True)
ray.init(address=sys.argv[1], **{QUIET!r})
print("connected", flush=True)
ray.shutdown()
"""


class Board:
    """Where workers leave their news, and the driver fetches it: an actor."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, str, Facts]] = []

    async def tell(self, name: str, attempt: int, kind: str, facts: Facts) -> None:
        self.events.append((name, attempt, kind, facts))

    async def news(self, seconds: float) -> list[tuple[str, int, str, Facts]]:
        """What has come since the last call; at once if there is any."""
        import asyncio

        end = time.monotonic() + seconds
        while not self.events and time.monotonic() < end:
            await asyncio.sleep(LOOK)
        events, self.events = self.events, []
        return events


class Cluster:
    """Tasks of Ray.

    Args:
        backbone: the bytes of its file; shipped once, each node keeps one copy.
        jobs: at most so many tasks at the same time; as many as the cluster has room for by default.
        ray: the package, connected.
        own: whether this Ray was started for us.
        connected: whether we are to disconnect.
    """

    def __init__(self, backbone: bytes, jobs_: int | None, ray: Any, *, own: bool, connected: bool) -> None:
        import numpy as np

        self.ray, self.jobs, self.own, self.connected = ray, jobs_, own, connected
        self.running: dict[Any, Job] = {}
        self.backbone = ray.put(np.frombuffer(backbone, np.uint8))  # as an array it is mapped, not copied
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        # beside the driver, if that may be: there it outlives the nodes that come and go
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board)
        self.board = actor.options(scheduling_strategy=here).remote()
        self.news = self.board.news.remote(0.0)
        # processes are replaced in time, those that held a GPU at once: TensorFlow does not give its memory back
        self.works = {calls: ray.remote(max_calls=calls)(_work) for calls in (1, jobs.RECYCLED)}

    def check(self, jobs: Sequence[Job]) -> list[str]:
        """What of the tasks' demands cannot be met now, in sentences.

        Raises:
            UsageError: the Ray that was started for this has not got it, and will not.
        """
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        lacking = []
        for job in jobs:
            wanted = _resources(job)
            if not any(all(node.get(key, 0) >= count for key, count in wanted.items()) for node in nodes):
                lacking.append((job.name, ", ".join(f"{key} {count:g}" for key, count in wanted.items() if count)))
        if lacking and self.own:
            problems = [{"field": f"task {name}", "message": "asks for more", "got": got} for name, got in lacking]
            raise UsageError("this machine has not got what tasks ask for", problems=problems)
        return [f"{name} waits for a node with {got}: the cluster has none now" for name, got in lacking]

    def room(self, job: Job) -> bool:
        """Whether a job can be submitted now: Ray queues what has no room yet."""
        return self.jobs is None or len(self.running) < self.jobs

    def submit(self, job: Job) -> None:
        wanted, threads = _resources(job), jobs.threads(job.entry.resources.cpus)
        options: dict[str, Any] = {
            "name": f"edgepatch {job.name}",
            "num_cpus": wanted["CPU"],
            "num_gpus": wanted["GPU"],
            "memory": wanted["memory"],
            "max_retries": 0,
        }
        if threads > 1:  # processes of another environment are not shared with tasks of fewer threads
            options["runtime_env"] = {"env_vars": {"OMP_NUM_THREADS": str(threads)}}
        work = self.works[1 if wanted["GPU"] else jobs.RECYCLED].options(**options)
        self.running[work.remote(job, self.backbone, self.board, threads)] = job

    def poll(self, seconds: float) -> list[Event]:
        """What happened, at the latest after so many seconds."""
        waited = [*self.running, self.news]
        self.ray.wait(waited, num_returns=1, timeout=seconds)
        ready, _ = self.ray.wait(waited, num_returns=len(waited), timeout=0)
        events: list[Event] = []
        if self.news in ready:
            with contextlib.suppress(self.ray.exceptions.RayError):  # its node is gone; it is started again elsewhere
                events += [Event(*each) for each in self.ray.get(self.news)]
            self.news = self.board.news.remote(seconds)
        for ref in ready:
            if ref in self.running:
                job = self.running.pop(ref)
                try:
                    kind, facts = self.ray.get(ref)
                except self.ray.exceptions.RayError as error:
                    kind, facts = "died", {"message": _said(error)}
                events.append(Event(job.name, job.attempt, kind, facts))
        return events

    def stop(self) -> None:
        """End all work, and Ray with it if it was started for this."""
        for ref in self.running:
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.cancel(ref, force=True)
        self.running = {}
        if self.connected:
            self.ray.shutdown()  # and with the connection the board goes
        else:
            self.ray.kill(self.board)


def start(backbone: bytes, *, jobs: int | None = None, address: str | None = None) -> Cluster:
    """Connect to a cluster, or start Ray on this machine.

    A Ray that this process is connected to already is taken as it is, where no address is given.

    Raises:
        MissingPackageError: Ray is not installed.
        EdgepatchError: no cluster answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    if address is not None:
        require_listener(address)  # before Ray is imported, which takes seconds
    ray = require("ray", extra="ray", why="--engine ray")
    require("ray.util.scheduling_strategies", extra="ray", why="--engine ray")
    if address is None and ray.is_initialized():
        return Cluster(backbone, jobs, ray, own=False, connected=False)
    if address is None:
        ray.init(
            address="local",  # else Ray takes a cluster that RAY_ADDRESS names
            num_cpus=jobs or local.cores(),
            include_dashboard=False,
            object_store_memory=max(128 * 2**20, 4 * len(backbone)),  # by default a third of all memory
            **QUIET,
        )
        return Cluster(backbone, jobs, ray, own=True, connected=True)
    probe(address)
    ray.init(address=address, **QUIET)
    return Cluster(backbone, jobs, ray, own=False, connected=True)


def require_listener(address: str) -> None:
    """Find out whether anything like Ray listens at an address.

    Raises:
        UsageError: it is none.
        EdgepatchError: nothing does.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(
            "this is no address of a Ray cluster",
            field="--address",
            got=address,
            expected="auto, host:port or ray://host:port",
        )
    tried, answer = f"a connection to {host}, port {port}", b""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return  # greetings are encrypted there
            connection.sendall(GREETING)
            answer = connection.recv(4, socket.MSG_WAITALL)
    except TimeoutError as error:
        raise _silent(address, f"{tried}: no answer in {ANSWER:g} s") from error
    except OSError as error:
        raise _silent(address, f"{tried}: {error.strerror or error}") from error
    if answer[3:] != bytes([SETTINGS]):
        raise _silent(address, f"{tried}: what listens there is not Ray")


def probe(address: str) -> None:
    """Connect once in a process of its own.

    Raises:
        EdgepatchError: Ray does not connect in `CONNECT` seconds, or refuses.
    """
    call = [sys.executable, "-c", PROBE, address]
    with subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if select.select([process.stdout], [], [], IMPORT)[0]:
                process.stdout.readline()
            out, err = process.communicate(timeout=CONNECT)
        except subprocess.TimeoutExpired:
            raise _silent(address, f"something answers there, but Ray did not connect in {CONNECT:g} s") from None
        finally:
            process.kill()
    if b"connected" not in out:
        lines = err.decode(errors="replace").strip().splitlines() or ["nothing was said"]
        raise _silent(address, lines[-1][:300])


def _silent(address: str, tried: str) -> EdgepatchError:
    return EdgepatchError(
        "no Ray cluster answers",
        field="--address",
        got=address,
        expected="a cluster made with: ray start --head",
        mend=f"Tried: {tried}",
    )


def _resources(job: Job) -> dict[str, float]:
    """What a task asks for, under Ray's names."""
    resources = job.entry.resources
    return {"CPU": resources.cpus, "GPU": resources.gpus, "memory": resources.memory}


def _said(error: Exception) -> str:
    """What Ray says of a lost task: its first lines, or of an error that a worker raised the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "No module named 'edgepatch" in str(error):
        return 'edgepatch is not installed on its node: pip install "edgepatch[train,ray]"'
    raised = "Traceback" in str(error) or str(error).startswith("\x1b")
    return f"{type(error).__name__}: {lines[-1] if raised else ' '.join(lines[:2])}"[:300]


_backbones: dict[str, Backbone] = {}  # of a worker's process, by id: read once


def _work(job: Job, data: Any, board: Any, threads: int) -> tuple[str, Facts]:
    """What a worker does: one job."""
    import ray

    jobs.confine(threads)
    node = ray.get_runtime_context().get_node_id()

    def tell(kind: str, facts: Facts) -> None:
        board.tell.remote(job.name, job.attempt, kind, {**facts, "node": node} if kind == "started" else facts)

    def backbone() -> Backbone:
        if job.backbone_id not in _backbones:
            from edgepatch.backbones import backbone as backbones

            _backbones.clear()
            _backbones[job.backbone_id] = backbones.parse(data.tobytes(), "backbone")
        return _backbones[job.backbone_id]

    return jobs.outcome(job, backbone, tell)
