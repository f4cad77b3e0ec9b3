"""Writes down the system calls that change what is below a folder, and makes those fail that it is told to."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LEAST = 65536  # bytes that are written in one go
WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod"}


@dataclasses.dataclass(frozen=True)
class Create:
    folder: str
    name: str
    inode: int


@dataclasses.dataclass(frozen=True)
class Mkdir:
    folder: str
    name: str


@dataclasses.dataclass(frozen=True)
class Rename:
    folder: str
    old: str
    new: str
    inode: int


@dataclasses.dataclass(frozen=True)
class Unlink:
    folder: str
    name: str


@dataclasses.dataclass(frozen=True)
class Write:
    inode: int
    offset: int
    data: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Truncate:
    inode: int
    size: int


@dataclasses.dataclass(frozen=True)
class Sync:
    """A file's bytes are on the disk; `path` is its name when it was synced."""

    inode: int
    path: str


@dataclasses.dataclass(frozen=True)
class SyncFolder:
    folder: str


Operation = Create | Mkdir | Rename | Unlink | Write | Truncate | Sync | SyncFolder


_current: list[Recorder] = []  # the one that was entered last; a hook of Python's cannot be taken off again


def _hook(recorder: Recorder) -> None:
    if not _current:
        sys.addaudithook(lambda event, arguments: _current[0].audit(event, arguments) if event in WATCHED else None)
    _current[:] = [recorder]


def _split(path: str) -> tuple[str, str]:
    """Folder and name; the folder of what is in the root is empty."""
    folder, _, name = path.rpartition("/")
    return folder, name


class Recorder:
    """Stands between `os` and the disk while it is entered.

    Paths are told from `root`, and what is there at first is taken to be on the disk for sure. A write takes half of
    what it is given, if that is much: a kernel may do so, and it gives the power more moments to go at.

    Attributes:
        operations: that were done.
        names, data: what was there at first: by folder the inode by name, None of a folder; bytes by inode.
        calls: how many calls were made that change or sync something, those that failed included.
        fails: what a call raises instead of being done, by its number from 0; None: it is done.
    """

    def __init__(self, root: Path, fails: Callable[[int], BaseException | None] = lambda number: None) -> None:
        self.root, self.fails = root.absolute(), fails
        self.operations: list[Operation] = []
        self.calls = 0
        self.names: dict[str, dict[str, int | None]] = {"": {}}
        self.data: dict[int, bytes] = {}
        self._inodes: dict[str, int] = {}  # of files, by path
        self._files: dict[int, list[int]] = {}  # open ones: inode, position
        self._folders: dict[int, str] = {}
        self._ours = False  # a call of ours is being made
        self._on = False
        self._kept: dict[str, Any] = {}
        for path in sorted(self.root.rglob("*")):
            below = path.relative_to(self.root)
            inode = None if path.is_dir() else len(self.data)
            folder, name = _split(str(below))
            self.names.setdefault(folder, {})[name] = inode
            if inode is not None:
                self.data[inode] = path.read_bytes()
                self._inodes[str(below)] = inode
        self._next = len(self.data)

    def __enter__(self) -> Recorder:
        _hook(self)
        for name in ("open", "write", "pwrite", "ftruncate", "fsync", "replace", "unlink", "mkdir", "close"):
            self._kept[name] = getattr(os, name)
            setattr(os, name, getattr(self, f"_{name}"))
        self._on = True
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False
        for name, function in self._kept.items():
            setattr(os, name, function)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """What changes the disk and comes not through us would be left out of the proof."""
        if not self._on or self._ours:
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            return
        paths = [each for each in arguments[:2] if isinstance(each, str | bytes | os.PathLike)]
        if any(self._below(path) is not None for path in paths):
            raise AssertionError(f"{event}{arguments} changes the disk unseen")

    def _below(self, path: Any) -> str | None:
        full = Path(os.fsdecode(path)).absolute()
        return str(full.relative_to(self.root)) if full.is_relative_to(self.root) else None

    def _call(self, name: str, *arguments: Any, **more: Any) -> Any:
        """Make a call that changes or syncs something, or let it fail."""
        number, self.calls = self.calls, self.calls + 1
        if error := self.fails(number):
            raise error
        with self._through():
            return self._kept[name](*arguments, **more)

    @contextlib.contextmanager
    def _through(self) -> Iterator[None]:
        self._ours = True
        try:
            yield
        finally:
            self._ours = False

    def _open(self, path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        below = self._below(path) if isinstance(path, str | os.PathLike) else None
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if below is None or not (writes or Path(path).is_dir()):
            with self._through():
                return self._kept["open"](path, flags, mode, **more)
        new = not Path(path).exists()
        handle = int(self._call("open", path, flags, mode, **more))
        if not writes:
            self._folders[handle] = below
            return handle
        if new:
            self._inodes[below] = self._next
            self.operations.append(Create(*_split(below), self._next))
            self._next += 1
        elif flags & os.O_TRUNC:
            self.operations.append(Truncate(self._inodes[below], 0))
        self._files[handle] = [self._inodes[below], 0]
        return handle

    def _write(self, handle: int, data: Any) -> int:
        if handle not in self._files:
            return int(self._kept["write"](handle, data))
        part = bytes(data[: max(LEAST, len(data) // 2)])
        done = int(self._call("write", handle, part))
        inode, position = self._files[handle]
        self.operations.append(Write(inode, position, part[:done]))
        self._files[handle][1] += done
        return done

    def _pwrite(self, handle: int, data: bytes, offset: int) -> int:
        done = int(self._call("pwrite", handle, data, offset))
        self.operations.append(Write(self._files[handle][0], offset, data[:done]))
        return done

    def _ftruncate(self, handle: int, size: int) -> None:
        self._call("ftruncate", handle, size)
        self.operations.append(Truncate(self._files[handle][0], size))

    def _fsync(self, handle: int) -> None:
        self._call("fsync", handle)
        if handle in self._folders:
            self.operations.append(SyncFolder("" if self._folders[handle] == "." else self._folders[handle]))
        else:
            inode = self._files[handle][0]
            self.operations.append(Sync(inode, next(path for path, mine in self._inodes.items() if mine == inode)))

    def _replace(self, old: Any, new: Any) -> None:
        self._call("replace", old, new)
        source, target = self._below(old), self._below(new)
        assert source and target
        folder, name = _split(source)
        assert folder == _split(target)[0], "no file is moved to another folder"
        inode = self._inodes[target] = self._inodes.pop(source)
        self.operations.append(Rename(folder, name, _split(target)[1], inode))

    def _unlink(self, path: Any) -> None:
        below = self._below(path)
        if below is None:
            self._kept["unlink"](path)
            return
        self._call("unlink", path)
        del self._inodes[below]
        self.operations.append(Unlink(*_split(below)))

    def _mkdir(self, path: Any, mode: int = 0o777) -> None:
        self._call("mkdir", path, mode)
        self.operations.append(Mkdir(*_split(self._below(path) or "")))

    def _close(self, handle: int) -> None:
        self._files.pop(handle, None)
        self._folders.pop(handle, None)
        self._kept["close"](handle)
