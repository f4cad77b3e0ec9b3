"""Many tasks as jobs of their own: what is refused, workers that die, what is resumed, folders that are elsewhere."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import in_threads, make_patch
from many_tasks import Listening, Write, states, train

from edgepatch import blob
from edgepatch.backbones.backbone import Backbone
from edgepatch.cli import live
from edgepatch.errors import BadFileError, EdgepatchError, UsageError
from edgepatch.many import job as workers
from edgepatch.many import jobs, local, storage, tasks_file
from edgepatch.many.job import Event, Job
from edgepatch.many.jobs import Row


class Scripted:
    """An engine that does as it is told: a task's events, attempt by attempt."""

    def __init__(self, script: dict[str, list[list[Any]]], room: int = 2) -> None:
        self.script, self.slots = {name: list(attempts) for name, attempts in script.items()}, room
        self.queue: list[Event] = []
        self.submitted: list[tuple[str, int]] = []
        self.running: set[str] = set()
        self.stopped = False

    def start(self, data: bytes, *, jobs: int | None, address: str | None) -> Scripted:
        return self

    def check(self, jobs: Sequence[Job]) -> list[str]:
        return []

    def room(self, job: Job) -> bool:
        return len(self.running) < self.slots

    def submit(self, job: Job) -> None:
        self.submitted.append((job.name, job.attempt))
        self.running.add(job.name)
        for kind, facts in self.script[job.name].pop(0):
            self.queue.append(Event(job.name, job.attempt, kind, facts))

    def poll(self, seconds: float) -> list[Event]:
        event = self.queue.pop(0)
        if event.kind == "interrupt":
            raise KeyboardInterrupt
        if event.kind in ("done", "failed", "died"):
            self.running.discard(event.name)
        return [event]

    def stop(self) -> None:
        self.stopped = True


DONE = (
    "done",
    {"accuracy": 0.9, "head_accuracy": 0.8, "epochs": 3, "seconds": 1.0, "bytes": 4000, "attempt": 1},
)
DIED = ("died", {"message": "its process was killed by SIGKILL"})


def epoch(number: int) -> tuple[str, dict[str, Any]]:
    return "epoch", {"epoch": number, "epochs": 3, "validation": 0.5}


def run(path: Path, engine: Scripted, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    monkeypatch.setitem(jobs.ENGINES, "local", engine)
    return train(path, **options)


def test_everything_wrong_in_the_file_is_told_at_once(edgepatch: Any, tasks_toml: Write, tmp_path: Path) -> None:
    path = tasks_toml(
        {"name": "gone", "data": "nowhere"},
        {"name": "twice"},
        {"name": "twice"},
        {"name": "unknown", "epocs": 3},
        {"name": "liking", "preference": "much"},
        {"name": "results"},
        {"name": "fine"},
        codecs="int8",
    )
    before = set(tmp_path.iterdir())
    outcome = edgepatch("train-many", path, "--json")
    assert outcome.code == 2
    problems = {each["field"]: each for each in outcome.document["error"]["problems"]}
    assert set(problems) == {
        "task gone.data",
        "task twice",
        "task unknown.epocs",
        "task liking.preference",
        "task results.name",
        "defaults.codecs",
    }
    assert "did you mean epochs?" in problems["task unknown.epocs"]["message"]
    assert "number" in problems["task liking.preference"]["expected"]
    assert problems["task gone.data"]["file"] == str(tmp_path / "nowhere")
    text = edgepatch("train-many", path).err
    assert all(f"\n  {field}: " in text for field in problems)
    assert set(tmp_path.iterdir()) == before, "nothing is written"


def test_a_file_that_is_none_or_names_nothing(edgepatch: Any, tmp_path: Path) -> None:
    path = tmp_path / "tasks.toml"
    assert edgepatch("train-many", path).code == 2
    path.write_text("backbone = ")
    assert edgepatch("train-many", path).code == 2
    path.write_text("")
    outcome = edgepatch("train-many", path, "--json")
    assert outcome.code == 2
    assert {each["field"] for each in outcome.document["error"]["problems"]} == {"backbone", "out", "task"}


def test_who_dies_is_tried_again_as_long_as_it_comes_further(
    tasks_toml: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("good", "doomed", "slow", "wrong", "unlucky")
    engine = Scripted(
        {
            "good": [[("started", {"pid": 1}), epoch(1), DONE]],
            "doomed": [[DIED]] * jobs.TRIES,
            "slow": [[DIED], [epoch(1), DIED], [DIED], [epoch(2), DIED], [DIED], [epoch(3), DONE]],
            "wrong": [[("failed", {"code": 3, "type": "BadFileError", "message": "no", "retry": False})]],
            "unlucky": [[("failed", {"code": 1, "type": "OSError", "message": "no", "retry": True})], [DONE]],
        }
    )
    document = run(tasks_toml(*({"name": name} for name in names)), engine, monkeypatch)
    assert states(document) == {
        "good": "done",
        "doomed": "failed",
        "slow": "done",
        "wrong": "failed",
        "unlucky": "done",
    }
    assert engine.stopped
    tries = [name for name, _ in engine.submitted]
    assert {name: tries.count(name) for name in names} == {"good": 1, "doomed": 3, "slow": 6, "wrong": 1, "unlucky": 2}
    errors = {task["task"]: task["error"] for task in document["tasks"] if "error" in task}
    assert errors["wrong"] == {"code": 3, "type": "BadFileError", "message": "no"}
    assert "SIGKILL" in errors["doomed"]["message"]
    assert set(errors) == {"wrong", "doomed"}, "what went well in the end is no error"


def test_late_news_of_an_attempt_that_is_over_changes_nothing(
    tasks_toml: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted({"a": [[epoch(1), DIED], [("started", {"pid": 2}), DONE]], "b": [[DONE]]}, room=1)
    late = Event("a", 1, *epoch(3))

    def act(row: Row, event: Event) -> None:
        if event.kind == "started":
            engine.queue.insert(0, late)

    watcher = Listening(act)
    run(tasks_toml({"name": "a"}, {"name": "b"}), engine, monkeypatch, watcher=watcher)
    assert late not in watcher.events
    assert engine.submitted == [("a", 1), ("b", 1), ("a", 2)], "behind the others"


def test_an_interrupt_stops_the_workers_and_says_how_to_go_on(
    edgepatch: Any, tasks_toml: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = Scripted({"a": [[DONE]], "b": [[("started", {"pid": 1}), epoch(1), ("interrupt", {})]]})
    monkeypatch.setitem(jobs.ENGINES, "local", engine)
    outcome = edgepatch("train-many", tasks_toml({"name": "a"}, {"name": "b"}), "--jobs", 2, "--json")
    error = outcome.document["error"]
    assert (outcome.code, engine.stopped) == (1, True)
    assert "1 of 2 tasks are done" in error["message"]
    assert error["mend"] == f"edgepatch train-many {tmp_path / 'tasks.toml'} --resume --jobs 2"
    assert states(json.loads((tmp_path / "out" / "results.json").read_text())) == {"a": "done", "b": "running"}


def test_results_are_never_replaced_unasked(
    edgepatch: Any, gated: Backbone, tasks_toml: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted({"a": [[DONE]]})
    monkeypatch.setitem(jobs.ENGINES, "local", engine)
    path = tasks_toml({"name": "a"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    foreign = dataclasses.replace(make_patch(gated, 0, 3), task="something else")
    blob.write(foreign, tmp_path / "out" / "a.epatch")
    outcome = edgepatch("train-many", path, "--json")
    assert (outcome.code, outcome.document["error"]["got"]) == (2, "a.epatch")
    assert "--resume" in outcome.document["error"]["mend"]
    outcome = edgepatch("train-many", path, "--resume", "--json")
    assert (outcome.code, outcome.document["error"]["got"]) == (2, "something else")
    assert engine.submitted == []
    assert blob.read(tmp_path / "out" / "a.epatch").task == "something else"
    (tmp_path / "out" / "a.epatch").unlink()
    assert edgepatch("train-many", path, "--json").code == 0


def test_only_what_is_verified_counts_as_finished(
    gated: Backbone, tasks_toml: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("kept", "changed", "gone", "damaged", "other", "unrecorded", "new")
    path = tasks_toml(*({"name": name} for name in names))
    out = tmp_path / "out"
    (out / workers.RECORDS).mkdir(parents=True)
    for own in jobs._jobs(*tasks_file.read(path)):
        if own.name != "new":
            blob.write(dataclasses.replace(make_patch(gated, 0, 3), task=own.name), out / f"{own.name}.epatch")
            if own.name != "unrecorded":
                record = {**DONE[1], "fingerprint": own.fingerprint}
                (out / workers.RECORDS / f"{own.name}.json").write_text(json.dumps(record))
    (out / "gone.epatch").unlink()
    (out / "damaged.epatch").write_bytes((out / "damaged.epatch").read_bytes()[:-1])
    blob.write(dataclasses.replace(make_patch(gated, 0, 3), task="other", backbone_id="0" * 64), out / "other.epatch")
    path = tasks_toml(
        *({"name": name, "preference": 2.0, **({"seed": 1} if name == "changed" else {})} for name in names)
    )
    engine, watcher = Scripted({name: [[DONE]] for name in names}), Listening()
    document = run(path, engine, monkeypatch, resume=True, watcher=watcher)
    assert {name for name, _ in engine.submitted} == set(names) - {"kept"}
    assert states(document)["kept"] == "done before"
    assert {text.split()[0] for text in watcher.said} == set(names) - {"kept", "new"}


def test_a_project_may_be_moved_as_a_whole(gated_file: Path, digits: Path, tmp_path: Path) -> None:
    def prints(change: str = "") -> str:
        text = f'backbone = "{gated_file}"\nout = "out"\n[[task]]\nname = "a"\ndata = "digits"\n{change}'
        (tmp_path / place / "tasks.toml").write_text(text)
        return jobs._jobs(*tasks_file.read(tmp_path / place / "tasks.toml"))[0].fingerprint

    place = "here"
    digits.rename(digits.with_name("moving"))
    (tmp_path / place).mkdir()
    digits.with_name("moving").rename(tmp_path / place / "digits")
    before = prints()
    assert prints("preference = 3\ncpus = 2\n") == before, "its patch would be the same"
    assert len({before, prints("seed = 1\n"), prints("size = 48\n"), prints('codec = "int8"\n')}) == 4
    (tmp_path / place).rename(tmp_path / "there")
    place = "there"
    assert prints() == before


def test_options_that_do_not_go_together(edgepatch: Any, tasks_toml: Write) -> None:
    path = tasks_toml({"name": "a"})
    outcome = edgepatch("train-many", path, "--address", "auto", "--json")
    assert (outcome.code, outcome.document["error"]["field"]) == (2, "--address")
    assert edgepatch("train-many", path, "--jobs", "0").code == 2
    assert edgepatch("train-many", path, "--engine", "slurm").code == 2


@pytest.mark.parametrize(("package", "change"), [("ray", {}), ("fsspec", {"out": "memory://out"})])
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    edgepatch: Any, tasks_toml: Write, monkeypatch: pytest.MonkeyPatch, package: str, change: dict[str, str]
) -> None:
    path = tasks_toml({"name": "a"}, **change)
    for name in [each for each in sys.modules if each.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    outcome = edgepatch("train-many", path, "--engine", "ray", "--json")
    assert (outcome.code, outcome.document["error"]["mend"]) == (5, 'pip install "edgepatch[ray]"')


def test_workers_that_stop_or_are_killed_go_on_and_a_failure_stops_no_other(
    edgepatch: Any, tasks_toml: Write, broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes: an interrupt, then a SIGKILL in a later epoch, a task that cannot be trained beside them."""
    path = tasks_toml(
        {"name": "good", "epochs": 8, "batch": 4},
        {"name": "bad", "data": str(broken)},
        {"name": "small", "patch": "classifier", "size": 48, "data": f"file://{tmp_path / 'digits'}"},
    )

    def interrupt(row: Row, event: Event) -> None:
        if event.kind == "epoch":
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(EdgepatchError, match="interrupted"):
        train(path, jobs=1, watcher=Listening(interrupt))
    assert multiprocessing.active_children() == []
    assert (out / "good.resume").exists()
    assert not (out / "good.epatch").exists()

    def kill(row: Row, event: Event) -> None:
        if event.kind == "epoch" and row.attempts == 1:
            (out / ".good.resume.abcdefgh.part").write_bytes(b"half")
            os.kill(row.where["pid"], signal.SIGKILL)

    watcher = Listening(kill)
    document = train(path, jobs=2, resume=True, watcher=watcher)
    assert states(document) == {"good": "done", "bad": "failed", "small": "done"}
    good = document["tasks"][0]
    first, second = watcher.epochs("good", 1), watcher.epochs("good", 2)
    assert first[0] > 1, "the first epoch was trained before the interrupt"
    assert second == list(range(first[-1] + 1, 9)), "the killed worker's epochs are not trained again"
    assert (good["attempt"], good["epochs"], good["resumed_after"]) == (2, 8, first[-1])
    assert [event.kind for event in watcher.events if event.name == "bad"][-1] == "failed"
    patch = blob.read(out / "small.epatch")
    assert (patch.task, patch.input.size, patch.version) == ("small", 48, 1)
    assert multiprocessing.active_children() == []
    assert not [*out.glob("*.resume"), *out.glob(".*")]

    before = {each: each.stat().st_mtime_ns for each in out.glob("*.epatch")}
    path.write_text(path.read_text().replace(str(broken), str(tmp_path / "digits")))
    monkeypatch.setitem(jobs.ENGINES, "local", Scripted({"bad": [[DONE]]}))  # the others are not even asked for
    outcome = edgepatch("train-many", path, "--resume", "--json")
    assert outcome.code == 0
    assert states(outcome.document) == {"good": "done before", "bad": "done", "small": "done before"}
    assert "3 tasks, 1 of them to be trained" in outcome.err
    assert "bad: done, validation" in outcome.err
    assert {each: each.stat().st_mtime_ns for each in before} == before
    assert json.loads((out / "results.json").read_text())["tasks"] == outcome.document["tasks"]
    assert (out / "results.md").read_text().count("\n| ") == 3


def test_failures_decide_the_exit_code_and_each_is_told(
    edgepatch: Any, tasks_toml: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = ("failed", {"code": 3, "type": "BadFileError", "message": "no pictures", "file": "x", "retry": False})
    for options in ((), ("--json",)):
        monkeypatch.setitem(jobs.ENGINES, "local", Scripted({"a": [[DONE]], "b": [[failed]]}))
        outcome = edgepatch("train-many", tasks_toml({"name": "a"}, {"name": "b"}, out=f"out{len(options)}"), *options)
        assert outcome.code == 1
        assert "no pictures" in outcome.out
    assert outcome.document["error"]["problems"] == [
        {"field": "task b", "code": 3, "type": "BadFileError", "message": "no pictures", "file": "x"}
    ]
    assert outcome.document["counts"] == {"done": 1, "failed": 1}


def test_a_worker_takes_its_share_of_the_machine(monkeypatch: pytest.MonkeyPatch, tasks_toml: Write) -> None:
    monkeypatch.setattr(local, "cores", lambda: 8)
    one, four = (jobs._jobs(*tasks_file.read(tasks_toml({"name": "a"}, cpus=cpus)))[0] for cpus in (1, 4))
    assert [local.Local(b"", count).share for count in (None, 2, 3, 8, 16)] == [1, 4, 2, 1, 1]
    engine = local.Local(b"")
    engine.busy = {number: (None, each) for number, each in enumerate([one] * 4)}  # type: ignore[misc,assignment]
    assert engine.room(four)
    engine.busy[4] = (None, one)  # type: ignore[index,assignment]
    assert not engine.room(four)
    assert engine.room(one)
    assert [workers.threads(cpus, share) for cpus, share in ((1, 1), (0.5, 4), (3.5, 2), (0, 1))] == [1, 4, 4, 1]


def test_what_trying_again_cannot_help_is_told_from_what_may_pass() -> None:
    assert workers.problem(UsageError("no", file="x")) == {
        "code": 2,
        "type": "UsageError",
        "message": "no",
        "file": "x",
        "retry": False,
    }
    assert not workers.problem(BadFileError("no"))["retry"]
    assert workers.problem(EdgepatchError("the disk is full"))["retry"]
    bug = workers.problem(ZeroDivisionError("division by zero"))
    assert (bug["retry"], bug["message"]) == (True, "ZeroDivisionError: division by zero")
    assert "ZeroDivisionError" in bug["traceback"]


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_files_may_be_anywhere(scheme: str, tmp_path: Path) -> None:
    folder = f"{scheme}{tmp_path}/made"
    path = storage.join(folder, "a.json")
    assert storage.names(folder) == set()
    assert storage.read(path) is None
    for text in ("first", "second"):
        storage.write(path, text)
    assert storage.read(path) == b"second"
    assert storage.names(folder) == {"a.json"}, "nothing is left beside it"
    storage.remove(path)
    storage.remove(path)
    assert storage.names(folder) == set()


def test_a_remote_folder_is_fetched_once_and_whole(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(storage.CACHE, str(tmp_path / "cache"))
    url = f"memory://{tmp_path.name}/digits"
    system, root = storage.filesystem(url)
    for name in ("train/0/a.png", "train/1/b.png", "val/0/c.png", "test/0/d.png", "train/0/.e.png", "train/notes.txt"):
        system.pipe_file(f"{root}/{name}", name.encode())
    fetched: list[Path] = []
    whole = storage._fetch

    def counting(system: Any, wanted: Any, place: Path, folder: str) -> None:
        fetched.append(place)
        stale = place.parent / f".{place.name}.killed.part"
        stale.mkdir()
        whole(system, wanted, place, folder)
        assert not stale.exists(), "what a killed worker left is cleared away"

    monkeypatch.setattr(storage, "_fetch", counting)
    found: list[Path] = []
    in_threads(lambda number: found.append(storage.local(url)), 4)
    assert len(fetched) == 1
    assert set(found) == set(fetched)
    names = {str(path.relative_to(found[0])) for path in found[0].rglob("*") if path.is_file()}
    assert names == {"train/0/a.png", "train/1/b.png", "val/0/c.png"}
    system.pipe_file(f"{root}/train/0/a.png", b"another picture")
    assert storage.local(url) != found[0]
    assert (fetched[-1] / "train/0/a.png").read_bytes() == b"another picture"


def test_a_folder_that_is_not_fetched_whole_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(storage.CACHE, str(tmp_path / "cache"))
    url = f"memory://{tmp_path.name}/half"
    system, root = storage.filesystem(url)
    with pytest.raises(UsageError, match="holds no images"):
        storage.local(url)
    system.pipe_file(f"{root}/0/a.png", b"a picture")

    def half(remote: list[str], here: list[str]) -> None:
        Path(here[0]).write_bytes(b"a pic")

    monkeypatch.setattr(type(system), "get", lambda self, *paths: half(*paths))
    with pytest.raises(EdgepatchError, match="not fetched whole"):
        storage.local(url)

    def refuse(self: Any, *paths: Any) -> None:
        raise ConnectionResetError("gone")

    monkeypatch.setattr(type(system), "get", refuse)
    with pytest.raises(EdgepatchError, match="ConnectionResetError: gone"):
        storage.local(url)
    assert [path.suffix for path in (tmp_path / "cache" / "data").iterdir()] == [".lock"]


def test_names_that_lead_out_of_the_folder_are_not_fetched() -> None:
    facts = {"size": 1, "mtime": 5}
    names = ("../a.png", "0/../../b.png", "0//c.png", "0/d.png")
    system = SimpleNamespace(
        invalidate_cache=lambda: None, find=lambda root, detail: {f"{root}/{name}": facts for name in names}
    )
    assert [name for name, _, _ in storage._images(system, "/photos").values()] == ["0/d.png"]


def test_the_table_is_redrawn_in_place(
    tasks_toml: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "REDRAWN", 0)
    rows = [Row(each) for each in jobs._jobs(*tasks_file.read(tasks_toml(*({"name": f"t{n}"} for n in range(100)))))]
    table = live.Table()
    table.begin(rows)
    for row, state in zip(rows, (jobs.DONE, jobs.FAILED, jobs.RUNNING), strict=False):
        row.state, row.epoch, row.epochs, row.validation, row.phase = state, 2, 3, 0.5, "training"
    lines = live.picture(rows, 125.0, 5)
    assert [line.split()[0] for line in lines[2:-1]] == ["t2", "t1", "t0", "t3", "t4"]
    assert lines[2].split() == ["t2", "training", "2/3", "50.0%"]
    assert lines[-1] == "1 done, 1 failed, 1 running, 97 waiting; about 2 min left"
    capsys.readouterr()
    table.tick(rows, 125.0)
    height = capsys.readouterr().err.count("\n")
    table.tick(rows, 120.0)
    assert capsys.readouterr().err.startswith(f"\x1b[{height}A\r{live.ERASE}")
    rows[1].error = {"message": "no pictures"}
    table.changed(rows[1], Event("t1", 1, "failed", {}))
    assert "t1: failed, given up: no pictures\n" in capsys.readouterr().err
    assert [live.duration(seconds) for seconds in (5, 600, 7200)] == ["5 s", "10 min", "2.0 h"]
