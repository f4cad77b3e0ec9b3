"""A store with damaged files, hostile names, garbage, and others that write meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from crashing import script
from crashing.examining import damage, versions

from edgepatch import blob
from edgepatch.errors import BadFileError, EdgepatchError
from edgepatch.runtime.store import Store, reading

pytestmark = pytest.mark.usefixtures("trusted")


# damage


def test_an_object_that_is_not_what_its_name_says_is_refused_and_mended(store: Store, files: script.Files) -> None:
    damage(store.patches()["bias"].path)
    with pytest.raises(BadFileError, match="was changed since it was installed for the task bias"):
        store.runtime()
    with pytest.raises(BadFileError):
        store.patch("bias")
    wrong = [row for row in store.verify() if row.error]
    assert [row.what for row in wrong] == ["task bias"]
    (outcome,) = store.install(files["bias1"])
    assert str(outcome) == "bias: version 1 mended" and not [row for row in store.verify() if row.error]


def test_a_graph_that_is_mended_is_said_to_be(store: Store, files: script.Files) -> None:
    damage(store.graph)
    assert [str(outcome) for outcome in store.install(files["fp32"])] == ["the graph: mended"]
    assert [str(outcome) for outcome in store.install(files["fp32"])] == ["the graph is there already"]


def lose(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [lose, damage])
def test_a_previous_version_that_is_lost_is_put_back_and_what_is_active_stays(
    harm: Callable[[Path], None], store: Store, files: script.Files
) -> None:
    store.install(files["bias2"])
    store.install(files["bias3"])
    before = store.state
    harm(reading.path_of(store.path, before.tasks["bias"].versions[1].name))
    assert [row.what for row in store.verify() if row.error] == ["previous of bias"]
    (outcome,) = store.install(files["bias2"])
    assert (outcome.what, outcome.version, outcome.before) == ("mended", 2, 3)
    assert str(outcome) == "bias: version 2 mended, to roll back to; version 3 is active"
    assert store.state.tasks == before.tasks and not [row for row in store.verify() if row.error]
    with pytest.raises(EdgepatchError, match="older than version 3"):  # what is whole is not mended
        store.install(files["bias2"])
    store.roll_back("bias")
    assert versions(store)["bias"] == 2


def test_only_the_very_file_that_is_named_is_put_back(store: Store, files: script.Files, tmp_path: Path) -> None:
    store.install(files["bias2"])
    lose(reading.path_of(store.path, store.state.tasks["bias"].versions[1].name))
    other = tmp_path / "other.epatch"
    blob.write(dataclasses.replace(blob.read(files["bias1"]), licence="another"), other)
    with pytest.raises(EdgepatchError, match="older than version 2"):
        store.install(other)
    assert [row.what for row in store.verify() if row.error] == ["previous of bias"]


def test_by_force_a_lost_previous_version_becomes_the_active_one(store: Store, files: script.Files) -> None:
    store.install(files["bias2"])
    lose(reading.path_of(store.path, store.state.tasks["bias"].versions[1].name))
    (outcome,) = store.install(files["bias1"], force=True)
    assert outcome.what == "replaced" and versions(store)["bias"] == 1
    assert not [row for row in store.verify() if row.error]


def test_going_back_to_a_file_that_is_lost_blames_that_file_and_what_it_advises_works(
    store: Store, files: script.Files
) -> None:
    store.install(files["bias2"])
    lose(reading.path_of(store.path, store.state.tasks["bias"].versions[1].name))
    for back in (lambda: store.roll_back("bias"), lambda: store.activate("bias", 1)):
        with pytest.raises(BadFileError, match="names it for the previous of bias") as caught:
            back()
        assert caught.value.details["mend"].startswith("Install the previous of bias, version 1, again: ")
    store.install(files["bias1"])
    store.roll_back("bias")
    assert versions(store)["bias"] == 1


def test_a_store_of_which_every_object_is_damaged_is_mended_file_by_file(store: Store, files: script.Files) -> None:
    store.install(files["bias2"])
    for path in (store.path / "objects").iterdir():
        damage(path)
    for name in ("bias1", "fp32", "mask1", "bias2"):
        (outcome,) = store.install(files[name])
        assert outcome.what == "mended"
    assert not [row for row in store.verify() if row.error]


def test_a_graph_that_is_damaged_is_refused_and_mended(store: Store, files: script.Files) -> None:
    damage(store.graph)
    with pytest.raises(BadFileError, match="for the graph"):
        store.runtime()
    with pytest.raises(BadFileError, match="for the graph"):
        store.install(files["bias2"])
    store.install(files["fp32"])
    assert not [row for row in store.verify() if row.error]


def test_an_object_that_is_gone_is_named_and_mended(store: Store, files: script.Files) -> None:
    store.patches()["mask"].path.unlink()
    with pytest.raises(BadFileError, match="is gone from the store, which names it for the task mask"):
        store.runtime()
    store.install(files["mask1"])
    assert not [row for row in store.verify() if row.error]


def test_another_whole_patch_in_an_objects_place_is_refused(store: Store, files: script.Files) -> None:
    shutil.copy(files["bias2"], store.patches()["bias"].path)
    with pytest.raises(BadFileError):
        store.runtime()


def test_verify_names_each_file_and_what_is_wrong_with_it(store: Store, files: script.Files) -> None:
    store.install(files["bias2"])
    assert [(row.what, row.error) for row in store.verify()] == [
        ("state", None),
        ("previous state", None),
        ("graph", None),
        ("task bias", None),
        ("previous of bias", None),
        ("task mask", None),
    ]
    damage(store.path / "state.previous.json")
    damage(store.graph)
    assert [row.what for row in store.verify() if row.error] == ["previous state", "graph"]


# collecting


def test_collect_removes_what_no_task_needs_and_nothing_else(store: Store, files: script.Files) -> None:
    store.install(files["bias2"])
    store.install(files["bias3"])
    (store.path / "objects" / "notes.txt").write_text("mine")
    (store.path / "objects" / ".0123456789abcdef.part").write_text("half")
    (store.path / ".0123456789abcdef.part").write_text("half")
    gone = store.collect()
    assert (gone.files, gone.bytes) == (3, files["bias1"].stat().st_size + 8)
    assert (store.path / "objects" / "notes.txt").exists() and store.garbage() == {}
    assert not [row for row in store.verify() if row.error]
    assert store.collect().files == 0


def test_after_collect_the_state_is_there_twice(store: Store, files: script.Files) -> None:
    store.remove("mask")
    store.collect()
    assert store.garbage() == {}, "the bytes of what was removed are free at once"
    damage(store.path / "state.json")
    found = Store.open(store.path)
    assert found.warning and found.state == store.state


# reading while others write


def test_a_reader_starts_again_when_files_are_collected_under_it(store: Store, files: script.Files) -> None:
    """The old state was read, then another process replaces a patch and collects: no mix, no missing file."""
    store.install(files["bias2"])
    reader, real = Store.open(store.path), reading.read
    seen: list[str] = []

    def slow(folder: Path, name: str, size: int, what: str, version: int | None = None) -> bytes:
        seen.append(what)
        if len(seen) == 2:
            with mock.patch.object(reading, "read", real):
                store.install(files["bias3"], files["mask2"])
                store.install(files["bias4"], files["mask3"])
                store.collect()
        return real(folder, name, size, what, version)

    with mock.patch.object(reading, "read", slow), reader.runtime() as runtime:
        assert {task: runtime.patch(task).version for task in runtime.tasks} == {"bias": 4, "mask": 3}
    assert seen.count("graph") == 2


def test_a_store_is_what_it_was_when_it_was_opened_until_it_is_read_again(store: Store, files: script.Files) -> None:
    reader = Store.open(store.path)
    store.install(files["bias2"])
    assert reader.patches()["bias"].version == 1
    assert reader.refresh().patches()["bias"].version == 2


HOLDER = """
import sys
from edgepatch.runtime.store import Store
with Store.open(sys.argv[1]).change():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_that_is_held_is_waited_for_and_its_holder_named(store: Store, files: script.Files) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        for change in (lambda: store.install(files["bias2"], timeout=0.05), lambda: store.collect(timeout=0)):
            with pytest.raises(EdgepatchError, match="being changed by somebody else") as caught:
                change()
            assert caught.value.details["got"] == f"process {holder.pid}"
        assert versions(store)["bias"] == 1, "readers need no lock"
        holder.kill()
    store.install(files["bias2"], timeout=0)
    assert versions(store)["bias"] == 2, "whoever is gone holds no lock"


def test_a_change_within_a_change_is_told_who_it_waits_for(store: Store, files: script.Files) -> None:
    with store.change() as change:
        with pytest.raises(EdgepatchError) as caught:
            store.install(files["bias2"], timeout=0)
        assert "this one" in caught.value.details["got"]
        change.patch(files["mask2"])
    assert versions(store) == {"bias": 1, "mask": 2}


def test_a_process_forked_during_a_change_keeps_nobody_out_after_it(store: Store, files: script.Files) -> None:
    with store.change() as change:
        child = os.fork()
        if child == 0:  # it has every handle that its parent has
            signal.pause()
        change.patch(files["mask2"])
    try:
        store.install(files["bias2"], timeout=0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert versions(store) == {"bias": 2, "mask": 2}


def test_a_child_that_leaves_a_change_of_its_parents_lets_nobody_in(store: Store, files: script.Files) -> None:
    try:
        with store.change() as change:
            child = os.fork()
            if child == 0:
                raise ZeroDivisionError
            os.waitpid(child, 0)
            with pytest.raises(EdgepatchError, match="being changed by somebody else"):
                store.install(files["bias2"], timeout=0)
            change.patch(files["mask2"])
    except ZeroDivisionError:
        os._exit(0)


def test_waiting_for_no_number_of_seconds_ends(store: Store, files: script.Files) -> None:
    with store.change(), pytest.raises(EdgepatchError, match="being changed by somebody else"):
        store.install(files["bias2"], timeout=float("nan"))


def test_a_file_that_goes_while_it_is_counted_is_no_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = store.path / "objects" / f".{'0' * 16}.part"
    gone.write_bytes(b"half")
    scandir = os.scandir

    @contextlib.contextmanager
    def then_removed(path: Any) -> Any:
        with scandir(path) as entries:
            found = list(entries)
        if gone.name in {entry.name for entry in found}:
            gone.unlink()
        yield found

    monkeypatch.setattr(os, "scandir", then_removed)
    assert store.garbage() == {} and not gone.exists()


def test_a_store_that_may_not_be_written_to_says_whose_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root may write everywhere, the operating system's answer is made up."""

    class Somebody:
        def __init__(self, number: int) -> None:
            self.pw_name = "owner" if number == store.path.stat().st_uid else "somebody"

    def refuse(path: Any, *_: Any, **__: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr("pwd.getpwuid", Somebody)
    with monkeypatch.context() as forbidden, pytest.raises(EdgepatchError, match="cannot be written") as caught:
        forbidden.setattr(os, "open", refuse)
        store.remove("bias")
    assert caught.value.details["file"] == str(store.path / "lock")
    assert "belongs to owner, and you are somebody: sudo -u owner" in caught.value.details["mend"]


# names


@pytest.mark.parametrize(
    "task", ["../../../escaped", "/etc/passwd", "..", "a/b\\c", "state.json", "con", "名前 x", "x" * 100]
)
def test_the_name_of_a_task_never_becomes_a_path(task: str, store: Store, files: script.Files, tmp_path: Path) -> None:
    path = tmp_path / "named.epatch"
    blob.write(dataclasses.replace(blob.read(files["bias1"]), task=task), path)
    names = {path.name for path in tmp_path.rglob("*")}
    store.install(path)
    assert store.patch(task).task == task
    new = {path.name for path in tmp_path.rglob("*")} - names
    assert new == {"state.previous.json", store.patches()[task].path.name}
    store.remove(task)
    store.collect()


def test_a_link_in_the_place_of_a_file_is_not_written_through(
    store: Store, files: script.Files, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("state.previous.json", "lock"):
        (store.path / name).unlink(missing_ok=True)
        (store.path / name).symlink_to(victim)
    with pytest.raises(EdgepatchError, match="cannot be written"):
        store.install(files["bias2"])
    (store.path / "lock").unlink()
    store.install(files["bias2"])
    assert victim.read_text() == "precious" and not (store.path / "state.previous.json").is_symlink()
    state = store.path / "state.json"
    state.rename(tmp_path / "moved.json")
    state.symlink_to(tmp_path / "moved.json")
    found = Store.open(store.path)
    assert found.warning and found.patches()["bias"].version == 1, "a link is no state"
