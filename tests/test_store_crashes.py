"""The power is cut at every system call of a store that changes the disk, and every one of them fails in turn.

What stands in tests/crashing, in short; `python -m tests.crashing` runs all of it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from crashing import failing, mutating, processes, script
from crashing.cutting import Disk
from crashing.examining import STORE, Examiner, Life, cuts, examine_all, lay, live, quick_folder, tree
from crashing.recording import Recorder

from edgepatch.errors import EdgepatchError
from edgepatch.runtime.store import Store

pytestmark = pytest.mark.usefixtures("trusted")

SHORT = ("create", "install two", "upgrade", "remove", "collect what was removed")  # a life that has every call in it


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = quick_folder(tmp_path_factory.mktemp("quick"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def files(quick: Path) -> script.Files:
    (quick / "files").mkdir()
    return script.material(quick / "files")


@pytest.fixture(scope="module")
def life(files: script.Files, quick: Path) -> Life:
    (quick / "life").mkdir()
    return live(quick / "life", script.steps(files))


def test_what_would_change_the_disk_unrecorded_is_an_error(quick: Path) -> None:
    lay({}, quick / "unseen")
    with Recorder(quick / "unseen"):
        for write in (
            lambda: (quick / "unseen" / "file").write_text("x"),
            lambda: (quick / "unseen" / "file").symlink_to("x"),
            lambda: shutil.copy(__file__, quick / "unseen"),
        ):
            with pytest.raises(AssertionError, match="unseen"):
                write()


def test_a_cut_at_any_call_leaves_the_old_or_the_new_state_whole_and_usable(life: Life, quick: Path) -> None:
    examiner = Examiner(life, quick / "cut")
    assert examine_all(examiner, itertools.islice(cuts(life), 0, None, 2)) is None
    assert examiner.count > 1000


def test_a_cut_while_a_store_is_used_on_after_its_process_was_ended(life: Life, quick: Path) -> None:
    examiner, number = Examiner(life, quick / "cut"), life.names.index("upgrade")
    calls = failing.count(life, number, quick / "calls")
    ends = (failing.Killed(), OSError(errno.EIO, "Input/output error"))
    for call in range(2, calls):  # the first two are the lock's
        for turn, end in enumerate(ends):
            recorder = failing.for_good(life, number, call, end, quick / "calls")
            found = failing.cut_later(life, number, recorder, again=(call + turn) % 2 == 0)
            assert examine_all(examiner, itertools.islice(found, call % 16, None, 16)) is None
    assert examiner.count > 100


def test_every_call_fails_in_turn_and_the_store_is_as_it_was(life: Life, quick: Path) -> None:
    spared = []
    for number, name in enumerate(life.names):
        for call in range(failing.count(life, number, quick / "calls")):
            code = failing.CODES[(number + call) % len(failing.CODES)]
            error = OSError(code, errno.errorcode[code])
            if not failing.once(life, number, call, error, quick / "calls"):
                spared.append((name, call, code))
    # what may fail: to note who holds the lock, and to open the folder that a new store is in
    opened = [("create", 2, errno.EACCES)]
    assert len([each for each in spared if each not in opened]) == len(life.names)


def test_every_call_is_interrupted_in_turn_and_the_store_is_as_it_was(life: Life, quick: Path) -> None:
    number = life.names.index("upgrade two")
    for call in range(failing.count(life, number, quick / "calls")):
        assert failing.once(life, number, call, KeyboardInterrupt(), quick / "calls")


def test_calls_fail_one_behind_the_other_while_a_change_is_undone(life: Life, quick: Path) -> None:
    examiner, number = Examiner(life, quick / "cut"), life.names.index("upgrade")
    for call in range(failing.count(life, number, quick / "calls")):
        for length in (2, 3, 4, 6):
            error = OSError(errno.EIO, "Input/output error")
            examiner.examine(failing.burst(life, number, call, length, error, quick / "calls"), number)


def test_a_disk_that_fails_for_good_at_the_last_step_is_told_as_it_is(life: Life, quick: Path) -> None:
    number = life.names.index("upgrade")
    lay(life.images[number - 1], quick / "calls")
    last = failing.count(life, number, quick / "calls") - 1
    lay(life.images[number - 1], quick / "calls")
    recorder = Recorder(
        quick / "calls", lambda call: OSError(errno.EIO, "Input/output error") if call >= last else None
    )
    with (
        pytest.raises(EdgepatchError, match="may hold the state from before this change, or the one after it"),
        recorder,
    ):
        life.steps[number](quick / "calls" / STORE)


@pytest.mark.parametrize("found", [None, b"half"])
def test_a_file_that_is_put_back_is_lost_or_whole_after_any_cut_and_nothing_else_changes(
    found: bytes | None, life: Life, files: script.Files, quick: Path
) -> None:
    now = life.states[life.names.index("upgrade")]
    lost = f"{STORE}/objects/{now.tasks['bias'].versions[1].name}"
    image = {path: content for path, content in life.images[life.names.index("upgrade")].items() if path != lost}
    lay(image | ({lost: found} if found else {}), quick / "mend")
    recorder = Recorder(quick / "mend")
    with recorder:
        Store.open(quick / "mend" / STORE).install(files["bias1"])
    disk = Disk(recorder)
    for count, operation in enumerate(recorder.operations, 1):
        disk.do(operation)
        for cut in disk.cuts():
            lay(cut, quick / "cut")
            store = Store.open(quick / "cut" / STORE)
            assert store.warning is None and store.state.tasks == now.tasks and store.state.graph == now.graph
            wrong = [row.what for row in store.verify() if row.error]
            assert wrong in ([], ["previous of bias"]) and not (wrong and count == len(recorder.operations))
            if wrong:
                store.install(files["bias1"])
            store.roll_back("bias")
            store.collect()
            assert not [row for row in store.verify() if row.error] and store.state.active["bias"].version == 1


def test_any_call_that_fails_while_a_file_is_put_back_changes_nothing_else(
    life: Life, files: script.Files, quick: Path
) -> None:
    number = life.names.index("upgrade")
    lost = f"{STORE}/objects/{life.states[number].tasks['bias'].versions[1].name}"
    before = {path: content for path, content in life.images[number].items() if path != lost}
    for call in itertools.count():
        lay(before, quick / "mend")
        error = OSError(errno.ENOSPC, "No space left on device")
        recorder = Recorder(quick / "mend", lambda made, call=call, error=error: error if made == call else None)  # type: ignore[misc]
        with contextlib.suppress(EdgepatchError), recorder:
            Store.open(quick / "mend" / STORE).install(files["bias1"])
        store = Store.open(quick / "mend" / STORE)
        assert store.state.tasks == life.states[number].tasks
        assert not [path for path in tree(quick / "mend") if path.endswith(".part")]
        if recorder.calls <= call:
            break
    assert not [row for row in store.verify() if row.error]


@pytest.mark.parametrize("name", mutating.CUTS)
def test_a_broken_order_of_writing_is_seen_by_a_cut(name: str, files: script.Files, quick: Path) -> None:
    root = quick / "mutant"
    lay({}, root)
    steps = [(step, work) for step, work in script.steps(files) if step in SHORT]
    with mutating.mutant(name):
        try:
            life = live(root, steps)
        except (AssertionError, EdgepatchError):
            return  # seen without a cut
        assert examine_all(Examiner(life, quick / "cut"), iter(list(cuts(life))[::-1])) is not None


@pytest.mark.parametrize("name", mutating.FAILURES)
def test_a_broken_way_of_undoing_is_seen_by_a_failure(name: str, life: Life, quick: Path) -> None:
    with mutating.mutant(name), pytest.raises((AssertionError, OSError)):
        test_calls_fail_one_behind_the_other_while_a_change_is_undone(life, quick)
        test_every_call_fails_in_turn_and_the_store_is_as_it_was(life, quick)


def test_real_processes_are_killed_at_every_call(life: Life, quick: Path, tmp_path: Path) -> None:
    if why := processes.why_no_strace(tmp_path):
        pytest.skip(why)
    number = life.names.index("upgrade")
    lay(life.images[number - 1], tmp_path / "seen")
    seen = processes.seen(quick / "files", "upgrade", tmp_path / "seen")
    assert seen == processes.recorded(life.recorder.operations[life.ends[number - 1] : life.ends[number]])
    calls = [line.split()[0] for line in seen if not line.startswith("create")]
    runs = [tmp_path / str(place) for place in range(len(calls))]
    for run in runs:
        lay(life.images[number - 1], run)
    assert processes.killed(quick / "files", "upgrade", calls, runs) == len(calls)
    examiner = Examiner(life, quick / "cut")
    for run in runs:
        examiner.examine(tree(run), number)


def test_many_processes_at_once(tmp_path: Path) -> None:
    assert processes.race(tmp_path) == ""
    assert [path for path in tmp_path.glob("reads.*") if int(path.read_text())], "nobody read meanwhile"
