"""What a disk may hold after a power cut.

The model promises less than filesystems do. A file's bytes are on the disk once the file was synced, a name once its
folder was; until then any of them may be there or not, in any order and combination: all subsets of up to five names
that wait, with files empty, as written, cut short after any write, holding any write alone, or all zeros.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from .recording import Create, Mkdir, Operation, Recorder, Rename, Sync, SyncFolder, Truncate, Unlink, Write

FOLDER = None
EXHAUSTIVE = 5  # names that wait; of more, not all subsets are tried
EXHAUSTIVE_CONTENTS = 64  # ways of files that wait; of more, not all combinations are
UNREAD = {"lock"}  # files whose bytes matter to nobody

Image = dict[str, bytes | None]  # content by path; folders have none


class Disk:
    """What is on it for sure, and what waits."""

    def __init__(self, recorder: Recorder) -> None:
        self._names, self._data = recorder.names, recorder.data
        self._waiting_names: list[Create | Mkdir | Rename | Unlink] = []
        self._waiting_data: dict[int, list[Write | Truncate]] = {}
        self._notes = {inode for names in self._names.values() for name, inode in names.items() if name in UNREAD}

    def do(self, operation: Operation) -> None:
        """What an operation makes sure of or lets wait."""
        match operation:
            case Sync(inode):
                synced_data = _written(self._data.get(inode, b""), self._waiting_data.pop(inode, []))
                self._data = {**self._data, inode: synced_data}
            case SyncFolder(folder):
                synced = [waiting for waiting in self._waiting_names if waiting.folder == folder]
                self._names = _named(self._names, synced)
                self._waiting_names = [waiting for waiting in self._waiting_names if waiting.folder != folder]
            case Write(inode) | Truncate(inode):
                self._waiting_data.setdefault(inode, []).append(operation)
            case _:
                self._waiting_names.append(operation)
                if isinstance(operation, Create) and operation.name in UNREAD:
                    self._notes.add(operation.inode)

    def seen(self) -> Image:
        """What processes see, or a cut leaves that comes late enough."""
        data = {**self._data, **{inode: self._all(inode) for inode in self._waiting_data}}
        return _image(_named(self._names, self._waiting_names), data)

    def cuts(self) -> Iterator[Image]:
        """What may be there if the power goes now; no image twice."""
        yield from _each_once(
            _image(_named(self._names, list(names)), data)
            for names in _subsets(self._waiting_names)
            for data in self._contents()
        )

    def torn(self) -> Iterator[Image]:
        """As `cuts`, where a rename that waits has taken the old name away, and the new one is not there either."""
        yield from _each_once(
            _image(_named(self._names, [*self._waiting_names[:number], *_gone(torn)]), data)
            for number, torn in enumerate(self._waiting_names)
            if isinstance(torn, Rename)
            for data in self._contents()
        )

    def _all(self, inode: int) -> bytes:
        return _written(self._data.get(inode, b""), self._waiting_data[inode])

    def _contents(self) -> Iterator[dict[int, bytes]]:
        """The bytes of all files, in every way that those may be which wait; of many, those of one file at a time."""
        ways: dict[int, list[bytes]] = {}
        for inode, waiting in self._waiting_data.items():
            start, whole = self._data.get(inode, b""), self._all(inode)
            prefixes = [_written(start, waiting[:count]) for count in range(len(waiting) + 1)]
            alone = [_written(start, [each]) for each in waiting]
            every = [whole] if inode in self._notes else [whole, *prefixes, *alone, bytes(len(whole))]
            ways[inode] = list(dict.fromkeys(every))
        if math.prod(map(len, ways.values())) <= EXHAUSTIVE_CONTENTS:
            for chosen in itertools.product(*ways.values()):
                yield {**self._data, **dict(zip(ways, chosen, strict=True))}
        else:
            whole_files = {**self._data, **{inode: contents[0] for inode, contents in ways.items()}}
            yield from ({**whole_files, inode: each} for inode, contents in ways.items() for each in contents)


def _written(data: bytes, operations: list[Write | Truncate]) -> bytes:
    found = bytearray(data)
    for operation in operations:
        if isinstance(operation, Truncate):
            del found[operation.size :]
            found.extend(bytes(operation.size - len(found)))
        else:
            found.extend(bytes(max(0, operation.offset - len(found))))
            found[operation.offset : operation.offset + len(operation.data)] = operation.data
    return bytes(found)


def _named(
    names: dict[str, dict[str, int | None]], operations: list[Create | Mkdir | Rename | Unlink]
) -> dict[str, dict[str, int | None]]:
    found = {folder: dict(entries) for folder, entries in names.items()}
    for operation in operations:
        folder = found.setdefault(operation.folder, {})
        match operation:
            case Create(_, name, inode):
                folder[name] = inode
            case Mkdir(_, name):
                folder[name] = FOLDER
            case Rename(_, old, new, inode):
                folder.pop(old, None)
                folder[new] = inode
            case Unlink(_, name):
                folder.pop(name, None)
    return found


def _image(names: dict[str, dict[str, int | None]], data: dict[int, bytes], folder: str = "") -> Image:
    """What is reached from the root; a folder whose own name was lost is lost with all that is in it."""
    found: Image = {}
    for name, inode in names.get(folder, {}).items():
        path = f"{folder}/{name}" if folder else name
        if inode is FOLDER:
            found[path] = None
            found |= _image(names, data, path)
        else:
            found[path] = data.get(inode, b"")
    return found


def _gone(torn: Rename) -> list[Unlink]:
    return [Unlink(torn.folder, torn.old), Unlink(torn.folder, torn.new)]


def _each_once(images: Iterator[Image]) -> Iterator[Image]:
    found = set()
    for image in images:
        if (key := frozenset(image.items())) not in found:
            found.add(key)
            yield image


def _subsets(waiting: list) -> Iterator[tuple]:  # type: ignore[type-arg]
    """All of them where that is not too many; else none, all, each alone, all but each, and the first few."""
    if len(waiting) <= EXHAUSTIVE:
        for size in range(len(waiting) + 1):
            yield from itertools.combinations(waiting, size)
        return
    yield from (tuple(waiting[:count]) for count in range(len(waiting) + 1))
    for number, each in enumerate(waiting):
        yield (each,)
        yield (*waiting[:number], *waiting[number + 1 :])
