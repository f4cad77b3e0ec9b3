"""Writing to a store so that a power cut at any moment leaves the old state or the new one.

`files.replacing` makes one file safe; here several become true in one moment. The order is the proof
(tests/crashing cuts the power between any two steps):

1. each new object: written beside, synced, renamed; then their folder synced: they are there, and nobody names them;
2. the new state and a copy of the old one: written beside and synced, so that a full disk shows itself here;
3. the copy becomes state.previous.json, and the folder is synced: should the disk lose state.json while renaming it,
   as filesystems without a journal may, what is there to fall back to is the state just before;
4. the new state becomes state.json, and the folder is synced: done.

Only functions of `os` touch the disk here, one system call each: what the tests record is what happens.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgepatch.errors import EdgepatchError, UsageError

STATE = "state.json"
PREVIOUS = "state.previous.json"
OBJECTS = "objects"
UPDATES = "updates"  # what `edgepatch update` keeps beside a store: it is there before the first patch is
LOCK = "lock"
PART = ".part"


def commit(folder: Path, before: bytes | None, after: bytes, objects: Mapping[str, bytes]) -> None:
    """Make `after` the state of a store, with the new objects it names.

    Args:
        before: the state until now; None of a store that is being made.
        objects: bytes by name of those that are not there yet, or are damaged.

    Raises:
        EdgepatchError: the disk is full, may not be written to or fails. The state is `before`, as it was; unless the
            message says that not even that could be made sure of.
    """
    made: list[Path] = []  # by this change and for it alone
    try:
        there = _inode(folder / STATE)
    except OSError as error:
        raise failed(error, folder) from error
    try:
        for name, data in objects.items():
            path = folder / OBJECTS / name
            new = not path.exists()
            part = stage(folder / OBJECTS, data, made)
            os.replace(part, path)
            if new:
                made.append(path)
        sync(folder / OBJECTS)
        part = stage(folder, after, made)
        if before is not None:
            copy = stage(folder, before, made)
            os.replace(copy, folder / PREVIOUS)
            sync(folder)
        os.replace(part, folder / STATE)
        sync(folder)
    except BaseException as error:
        certain = _undo(folder, there, before, made)
        if isinstance(error, OSError):
            raise _failed(error, folder, certain) from error
        raise


def settle(folder: Path, data: bytes) -> None:
    """Make both state files hold the state there is: then it alone says which objects are needed.

    Raises:
        EdgepatchError: the disk is full, may not be written to or fails. The state is the same in any case.
    """
    made: list[Path] = []
    try:
        for name in (STATE, PREVIOUS):  # at each moment one of them is whole
            if not _holds(folder / name, data):
                os.replace(stage(folder, data, made), folder / name)
        sync(folder)  # always: a change may have failed to: what was read here is now what a power cut leaves
    except BaseException as error:
        _discard(made)
        if isinstance(error, OSError):
            raise failed(error, folder) from error
        raise


def make(folder: Path) -> None:
    """The empty directories of a store; the folder they go to has to be there.

    Raises:
        EdgepatchError: they cannot be made.
    """
    try:
        for wanted in (folder, folder / OBJECTS):
            with contextlib.suppress(FileExistsError):
                wanted.mkdir()
        with contextlib.suppress(PermissionError):  # to write to a folder is no right to open it
            sync(folder.parent)
        sync(folder)  # lest the state be found, and objects/ not
    except OSError as error:
        raise failed(error, folder) from error


def refuse_used(folder: Path) -> None:
    """Refuse to make a store where anything is but what making one may have left.

    Raises:
        UsageError: there is a store already, or something else, or no folder to make one in.
        EdgepatchError: the folder cannot be read.
    """
    try:
        there = sorted(path.name for path in folder.iterdir() if path.suffix != PART)
    except FileNotFoundError as error:
        if not folder.parent.exists():
            raise UsageError(
                "cannot be made: the folder it is to be in is missing",
                file=folder,
                got="nothing",
                expected=f"the folder {folder.parent}",
                mend=f"mkdir -p {folder.parent}",
            ) from error
        return
    except OSError as error:
        raise EdgepatchError(f"cannot be read: {error.strerror}", file=folder, mend=whose(error, folder)) from error
    if STATE in there or PREVIOUS in there:
        raise UsageError("is a patch store already", file=folder, mend="edgepatch store install adds to it.")
    if odd := [name for name in there if name not in (OBJECTS, UPDATES, LOCK)]:
        raise UsageError("is in use for something else", file=folder, got=odd[0], expected="an empty folder")


def stage(folder: Path, data: bytes, made: list[Path]) -> Path:
    """A new file in `folder` with these bytes, synced, under a name that nothing else has."""
    part = folder / f".{os.urandom(8).hex()}{PART}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(part, flags, 0o666)
    made.append(part)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    return part


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path, limit: int) -> bytes:
    """What is in a file, up to one byte more than `limit`. A link is not followed, and of a pipe nothing is waited for.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(handle, "rb") as stream:
        return stream.read(limit + 1)


def remove(path: Path) -> None:
    """Remove a file that is not needed; a power cut may bring it back.

    Raises:
        EdgepatchError: it cannot be removed.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise failed(error, path) from error


def failed(error: OSError, path: object) -> EdgepatchError:
    """What the operating system said, as an error of ours."""
    return EdgepatchError(f"cannot be written: {error.strerror}", file=path, mend=whose(error, Path(str(path))))


def whose(error: OSError, path: Path) -> str | None:
    """Who may do what was forbidden here; None where it is not known, or something else is the matter."""
    if error.errno not in (errno.EACCES, errno.EPERM):
        return None
    for there in (path.absolute(), *path.absolute().parents):
        with contextlib.suppress(OSError, ImportError, KeyError):  # not there, or not to be looked at either
            import pwd

            owner = pwd.getpwuid(there.stat().st_uid).pw_name
            me = pwd.getpwuid(os.geteuid()).pw_name
            if owner == me:
                return None
            return (
                f"{there} belongs to {owner}, and you are {me}: sudo -u {owner} edgepatch ...\n"
                f"If all of the store is to be yours: sudo chown -R {me} STORE"
            )
    return None


def _undo(folder: Path, there: int | None, before: bytes | None, made: list[Path]) -> bool:
    """Leave the old state; whether it is certain to be there after a power cut too."""
    try:
        if _inode(folder / STATE) != there:  # renamed, but not known to be on the disk: back again
            if before is None:
                os.unlink(folder / STATE)
            else:
                os.replace(stage(folder, before, made), folder / STATE)
            sync(folder)
    except OSError:
        _discard(path for path in made if path.suffix == PART)  # the new state may need the objects
        return False
    _discard(made)
    return True


def _discard(paths: Iterable[Path]) -> None:
    """Remove what a failed change has made; what cannot be removed is left to `collect`."""
    for path in paths:
        with contextlib.suppress(EdgepatchError):
            remove(path)


def _failed(error: OSError, folder: Path, certain: bool) -> EdgepatchError:
    if certain:
        return failed(error, folder)
    return EdgepatchError(
        f"the disk failed at the last step ({error.strerror}), and again at undoing it: the store may hold the state "
        "from before this change, or the one after it",
        file=folder,
        mend="Look at what it holds: edgepatch store list STORE. Then mend or replace the disk.",
    )


def _inode(path: Path) -> int | None:
    """Which file bears this name: a rename that was done is told from one that was not."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file can be read and holds just these bytes."""
    try:
        return read(path, len(data)) == data
    except OSError:
        return False
