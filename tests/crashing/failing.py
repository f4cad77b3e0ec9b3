"""Lets every call of a step fail in turn, once or for good, or ends the process there."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepatch.errors import EdgepatchError
from edgepatch.runtime.store import Store

from .cutting import Disk, Image
from .examining import STORE, Life, lay, tree
from .recording import Recorder

CODES = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO)


class Killed(BaseException):
    """The process is gone: nothing it would do afterwards is done."""


def count(life: Life, number: int, root: Path) -> int:
    """How many calls a step makes that may fail."""
    _lay_before(life, number, root)
    with Recorder(root) as recorder:
        life.steps[number](root / STORE)
    return recorder.calls


def once(life: Life, number: int, call: int, error: BaseException, root: Path) -> bool:
    """Let one call of a step fail: it raises an error of ours, and the store is as it was; whether it failed at all.

    Raises:
        AssertionError: it is not, or a file was left behind.
    """
    before = _lay_before(life, number, root)
    recorder = Recorder(root, lambda made: error if made == call else None)
    kind = EdgepatchError if isinstance(error, OSError) else type(error)
    try:
        with recorder:
            life.steps[number](root / STORE)
    except kind:
        _unchanged(before, tree(root), life, number)
        _cut_afterwards(life, number, recorder, root)
        lay(_seen(recorder), root)
        life.steps[number](root / STORE)
        assert Store.open(root / STORE).state == life.states[number], "the step, once the disk is mended"
        return True
    assert Store.open(root / STORE).state == life.states[number], "nothing was raised, nothing done"
    return False


def for_good(life: Life, number: int, call: int, error: BaseException, root: Path) -> Recorder:
    """Let all calls of a step fail from one on; what the recorder saw until then."""
    _lay_before(life, number, root)
    recorder = Recorder(root, lambda made: error if made >= call else None)
    with pytest.raises(EdgepatchError if isinstance(error, OSError) else type(error)), recorder:
        life.steps[number](root / STORE)
    return recorder


def burst(life: Life, number: int, call: int, length: int, error: BaseException, root: Path) -> Image:
    """Let a few calls of a step fail, one behind the other, so that undoing may fail too; what is seen then."""
    _lay_before(life, number, root)
    recorder = Recorder(root, lambda made: error if call <= made < call + length else None)
    with contextlib.suppress(EdgepatchError), recorder:
        life.steps[number](root / STORE)
    return tree(root)


def cut_later(life: Life, number: int, recorder: Recorder, *, again: bool) -> Iterator[tuple[Image, int, bool, bool]]:
    """What a cut leaves that comes while a store is used on, after a step that ended midway with nothing synced since.

    Args:
        recorder: what that step did.
        again: do the step again, unless it was done; else collect.
    """
    path = Path(recorder.root) / STORE
    reached = Store.open(path).state
    recorder.fails = lambda made: None
    start = len(recorder.operations)
    with recorder:
        if again and reached != life.states[number]:
            life.steps[number](path)
            reached = life.states[number]
        else:
            Store.open(path).collect()
    disk = Disk(recorder)
    for position, operation in enumerate(recorder.operations, 1):
        disk.do(operation)
        if position == len(recorder.operations):
            yield from ((image, life.states.index(reached), True, False) for image in disk.cuts())
        elif position > start:
            yield from ((image, number, False, False) for image in disk.cuts())


def _cut_afterwards(life: Life, number: int, recorder: Recorder, root: Path) -> None:
    """What a cut leaves after a failure that was undone: the old state, whatever the disk had done of it."""
    disk = Disk(recorder)
    for operation in recorder.operations:
        disk.do(operation)
    for image in itertools.islice(disk.cuts(), 8):
        lay(image, root)
        if number:
            assert Store.open(root / STORE).state == life.before(number), "a cut after a failure"


def _lay_before(life: Life, number: int, root: Path) -> Image:
    image = life.images[number - 1] if number else {}
    lay(image, root)
    return image


def _seen(recorder: Recorder) -> Image:
    disk = Disk(recorder)
    for operation in recorder.operations:
        disk.do(operation)
    return disk.seen()


def _unchanged(before: Image, after: Image, life: Life, number: int) -> None:
    """Nothing is new but a copy of the state there was, nothing is gone but what no state needs."""
    state, previous, lock = (f"{STORE}/{name}" for name in ("state.json", "state.previous.json", "lock"))
    assert after.get(state) == before.get(state), "the state"
    assert after.get(previous) in (before.get(previous), before.get(state)), "the previous state"
    empty = {STORE: None, f"{STORE}/objects": None}  # what is left of a store that could not be made
    extra = after.keys() - before.keys() - {state, previous, lock} - empty.keys()
    assert not extra, f"left behind: {sorted(extra)}"
    objects = life.states[max(0, number - 1)].objects
    gone = before.keys() - after.keys()
    assert not any(Path(path).name in objects for path in gone), f"gone: {sorted(gone)}"
    same = before.keys() & after.keys() - {state, previous, lock}
    assert all(before[path] == after[path] for path in same), "changed"
