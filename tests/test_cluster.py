"""Ray for real: several nodes on this machine, one of them killed; addresses where nobody answers."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from many_tasks import Listening, Write, states, train

from edgepatch import blob
from edgepatch.errors import EdgepatchError, UsageError
from edgepatch.many import cluster as engine
from edgepatch.many import jobs, tasks_file
from edgepatch.many.job import Event
from edgepatch.many.jobs import Row

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed")

pytestmark = [
    # Ray leaves its processes' ends and pipes to the collector
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed (file|<socket).*:ResourceWarning"),
]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head that trains nothing, and two nodes with one CPU each."""
    try:
        started = cluster_utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        for _ in range(2):
            started.add_node(num_cpus=1)
    except Exception as error:
        pytest.skip(f"Ray does not start here: {type(error).__name__}: {error}")
    yield started
    started.shutdown()


def test_a_killed_node_and_a_killed_worker_cost_an_epoch_at_most(
    nodes: Any,
    tasks_toml: Write,
    broken: Path,
    tmp_path: Path,
) -> None:
    path = tasks_toml(
        {"name": "moved", "epochs": 10, "batch": 2},
        {"name": "hit", "epochs": 10, "batch": 2},
        {"name": "bad", "data": str(broken), "patch": "classifier"},
        out=f"file://{tmp_path / 'out'}",
    )
    done: set[str] = set()

    def act(row: Row, event: Event) -> None:
        """Each of the two loses its place in an epoch of its own: a node dies, then, elsewhere, a process."""
        if event.kind != "epoch" or row.attempts > 1 or row.name in done:
            return
        done.add(row.name)
        if row.name == "moved":
            (node,) = (each for each in nodes.worker_nodes if each.node_id == row.where["node"])
            nodes.remove_node(node, allow_graceful=False)
        else:
            os.kill(row.where["pid"], signal.SIGKILL)

    watcher = Listening(act)
    document = train(path, engine="ray", address=nodes.address, watcher=watcher)
    assert states(document) == {"moved": "done", "hit": "done", "bad": "failed"}
    assert done == {"moved", "hit"}
    rows = {task["task"]: task for task in document["tasks"]}
    for name in done:
        first, second = watcher.epochs(name, 1), watcher.epochs(name, 2)
        assert first[0] == 1
        assert second == list(range(second[0], 11))
        assert second[0] > first[-1], "what was told of is in the checkpoint"
        assert (rows[name]["attempt"], rows[name]["resumed_after"]) == (2, second[0] - 1)
        assert blob.read(tmp_path / "out" / f"{name}.epatch").metrics["epochs"] == 10
    places = {(e.name, e.attempt): e.facts["node"] for e in watcher.events if e.kind == "started"}
    assert places["moved", 1] != places["moved", 2]
    assert rows["bad"]["error"]["type"] == "BadFileError"
    assert not list((tmp_path / "out").glob("*.resume"))


def test_ray_on_this_machine_is_started_and_stopped_again(
    edgepatch: Any,
    tasks_toml: Write,
    tmp_path: Path,
) -> None:
    path = tasks_toml({"name": "a", "patch": "classifier"})
    outcome = edgepatch("train-many", path, "--engine", "ray", "--jobs", 1, "--json")
    assert outcome.code == 0, outcome.out
    assert states(outcome.document) == {"a": "done"}
    assert {each.name for each in (tmp_path / "out").iterdir()} >= {"a.epatch", "results.json"}
    assert not list((tmp_path / "out").glob(".edgepatch-*"))
    import ray

    assert not ray.is_initialized()
    outcome = edgepatch("train-many", path, "--engine", "ray", "--resume", "--json")
    assert states(outcome.document) == {"a": "done before"}


@pytest.mark.parametrize("address", ["nowhere", "ray://", "host:port", "127.0.0.1:0", ":1"])
def test_what_is_no_address_is_refused(edgepatch: Any, tasks_toml: Write, address: str) -> None:
    outcome = edgepatch("train-many", tasks_toml({"name": "a"}), "--engine", "ray", "--address", address, "--json")
    assert (outcome.code, outcome.document["error"]["field"]) == (2, "--address")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_told_at_once(
    edgepatch: Any,
    tasks_toml: Write,
    tmp_path: Path,
    scheme: str,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    path, start = tasks_toml({"name": "a"}), time.monotonic()
    outcome = edgepatch("train-many", path, "--engine", "ray", "--address", f"{scheme}127.0.0.1:{port}", "--json")
    assert time.monotonic() - start < 5
    error = outcome.document["error"]
    assert (outcome.code, error["field"]) == (1, "--address")
    assert f"127.0.0.1, port {port}: Connection refused" in error["mend"]
    assert not (tmp_path / "out").exists(), "nothing is written"


@pytest.mark.parametrize(
    ("answer", "told"),
    [(b"", "no answer in 0.5 s"), (b"HTTP/1.1 400 Bad Request", "is not Ray"), (None, "is not Ray|reset")],
)
def test_something_else_that_listens_is_found_out(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, told: str
) -> None:
    monkeypatch.setattr(engine, "ANSWER", 0.5)

    def serve() -> None:
        connection, _ = server.accept()
        if answer is not None:
            connection.sendall(answer)
            done.wait(5)
        connection.close()

    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(EdgepatchError, match=told):
            engine.require_listener(f"127.0.0.1:{server.getsockname()[1]}")
        done.set()
        thread.join()


def test_what_greets_like_ray_and_is_not_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CONNECT", 1.0)
    did_not = pytest.raises(EdgepatchError, match=r"Ray did not connect in 1 s")
    with socket.create_server(("127.0.0.1", 0)) as server, did_not:
        engine.probe(f"127.0.0.1:{server.getsockname()[1]}")


def test_what_no_node_has_is_told(tasks_toml: Write) -> None:
    plain = jobs._jobs(*tasks_file.read(tasks_toml({"name": "a"}, {"name": "b", "gpus": 1})))
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 2.0, "GPU": 1.0}}]
    started: Any = SimpleNamespace(ray=SimpleNamespace(nodes=lambda: nodes), own=False)
    (said,) = engine.Cluster.check(started, plain)
    assert said.startswith("b waits for a node with CPU 1, GPU 1")
    started.own = True
    with pytest.raises(UsageError) as caught:
        engine.Cluster.check(started, plain)
    assert [each["field"] for each in caught.value.details["problems"]] == ["task b"]


def test_a_worker_that_does_not_see_the_results_says_so(tasks_toml: Write, gated: Any) -> None:
    import dataclasses

    from edgepatch.many import job

    (own,) = jobs._jobs(*tasks_file.read(tasks_toml({"name": "a"})))
    with pytest.raises(UsageError, match="does not see the folder"):
        job.run(dataclasses.replace(own, token=".edgepatch-0"), gated, lambda kind, facts: None)
