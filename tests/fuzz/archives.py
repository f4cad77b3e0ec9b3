"""Zip files, tarballs and pickles changed from within, and in what they say of themselves."""

from __future__ import annotations

import contextlib
import gzip
import io
import pickletools
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable

from .dice import Dice

Parts = list[tuple[str, bytes]]
MOST = 1 << 20  # bytes taken out of an archive to be changed
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

# opcodes that mean something to an unpickler, most of them where none is expected
OPCODES = (
    *(bytes([code]) for code in b"()]}012tlduaesR.boQN\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94"),
    b"q\x00",
    b"q\xff",
    b"r\xff\xff\xff\x7f",
    b"h\x00",
    b"h\x01",
    b"h\x05",
    b"j\xff\xff\xff\xff",
    b"K\x05",
    b"J\xff\xff\xff\xff",
    b"J\xff\xff\xff\x7f",
    b"\x8a\x09" + bytes([0, 0, 0, 0, 0, 0, 0, 0, 1]),
    b"\x8b\xff\xff\xff\x7f",
    b"I" + b"9" * 5000 + b"\n",
    b"L" + b"9" * 400 + b"L\n",
    b"G\x7f\xf0\0\0\0\0\0\0",
    b"X\x01\x00\x00\x00a",
    b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x8e\x00\x00\x00\x00\x01\x00\x00\x00",
    b"\x96\x00\x00\x00\x00\x01\x00\x00\x00",
    b"\x95\xff\xff\xff\xff\x00\x00\x00\x00",
    b"\x82\x01",
    b"cos\nsystem\n",
    b"cbuiltins\neval\n",
    b"ctorch\nFloatStorage\n",
    b"ctorch\nHalfStorage\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ccollections\nOrderedDict\n",
    b"ios\nsystem\n",
    b"2\x86" * 30,  # a tuple of itself twice, thirty times over: 2^30 of them to whoever walks it
    b"(" * 1000,
    b"]" * 1000,
    b"(l" + b"(2a" * 20,
)


def zip_parts(data: bytes) -> Parts:
    """What a zip file holds, in its order; what cannot be read is left out."""
    found: Parts = []
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist()[:100]:
                try:
                    with archive.open(entry) as stream:
                        found.append((entry.filename, stream.read(MOST)))
                except (*_BROKEN, NotImplementedError, RuntimeError):
                    continue
    except (*_BROKEN, NotImplementedError):
        pass
    return found


_BROKEN = (zipfile.BadZipFile, EOFError, OSError, ValueError, struct.error, zlib.error, MemoryError, IndexError)


def zipped(parts: Parts, dice: Dice | None = None) -> bytes:
    """A zip file; with dice, entries are packed in any way."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in parts:
            method = dice.pick(METHODS) if dice and dice.one_in(6) else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(name.replace("\0", "_") or "_"), content, method)
    return stream.getvalue()


def zip_mutated(data: bytes, dice: Dice, limit: int, change: Callable[[str, bytes], bytes]) -> bytes:
    """A zip file with a part changed, doubled, renamed, bloated, or with headers that lie.

    Args:
        change: makes another content of a part's, given its name.
    """
    parts = zip_parts(data)
    if not parts or dice.one_in(8):
        return dice.blind(data, limit)
    if dice.one_in(5):
        return _lying(data, dice)[:limit]
    at = dice.below(len(parts))
    name, content = parts[at]
    match dice.below(12):
        case 0:
            parts.pop(at)
        case 1:
            parts.insert(dice.below(len(parts) + 1), (name, content))
        case 2:
            parts[at] = dice.pick([dice.text(), "/" + name, name + "x", dice.pick(parts)[0]]), content
        case 3:
            dice.rng.shuffle(parts)
        case 4:
            parts[at] = name, content + bytes(dice.pick((1, 4096, 1 << 17)))
        case _:
            parts[at] = name, change(name, content)
    try:
        return zipped(parts, dice)[:limit]
    except (*_BROKEN, UnicodeError):
        return dice.blind(data, limit)


def _lying(data: bytes, dice: Dice) -> bytes:
    """A number in one of the headers changed: sizes, checksums, methods, offsets, flags."""
    found = bytearray(data)
    headers = [at for mark in (b"PK\3\4", b"PK\1\2", b"PK\5\6") for at in _all(data, mark)]
    for _ in range(1 + dice.below(3)):
        if headers:
            place = dice.pick(headers) + 4 + 2 * dice.below(21)
            width = dice.pick((2, 4))
            found[place : place + width] = dice.packed(width)
    return bytes(found)


def _all(data: bytes, mark: bytes) -> list[int]:
    found, at = [], data.find(mark)
    while at >= 0 and len(found) < 200:
        found.append(at)
        at = data.find(mark, at + 1)
    return found


def opcodes(data: bytes) -> list[bytes]:
    """A pickle's operations with their arguments, to its end, and whatever stands behind."""
    places = []
    with contextlib.suppress(Exception):  # genops raises as it likes; what came before is good enough
        for _, _, at in pickletools.genops(data):
            places.append(at or 0)
    if not places:
        return [data]
    stop = places[-1] + 1
    ends = [*places[1:], stop]
    return [*(data[begin:end] for begin, end in zip(places, ends, strict=True)), data[stop:]]


def pickle_mutated(data: bytes, dice: Dice, limit: int) -> bytes:
    """A pickle with some of its operations taken out, doubled, moved or put in."""
    if dice.one_in(5):
        return dice.blind(data, limit)
    found = opcodes(data)
    for _ in range(1 + dice.below(4)):
        at = dice.below(len(found))
        match dice.below(6):
            case 0:
                found[at] = b""
            case 1:
                found.insert(dice.below(len(found)), found[at])
            case 2:
                other = dice.below(len(found))
                found[at], found[other] = found[other], found[at]
            case 3 | 4:
                found.insert(at, dice.pick(OPCODES))
            case 5:
                found[at] = found[at][:1] + dice.blind(found[at][1:], len(found[at]) + 8)
    return b"".join(found)[:limit]


def tar_parts(data: bytes) -> Parts:
    """What a gzipped tarball holds."""
    found: Parts = []
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            plain = packed.read(MOST)
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for entry in archive:
                stream = archive.extractfile(entry) if entry.isfile() else None
                found.append((entry.name, stream.read(MOST) if stream else b""))
    except (*_BROKEN, tarfile.TarError, RecursionError):
        pass
    return found


def tarred(parts: Parts) -> bytes:
    """A gzipped tarball, the same of the same parts."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:", format=tarfile.GNU_FORMAT) as archive:
        for name, content in parts:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), 1, mtime=0)


def tar_mutated(data: bytes, dice: Dice, limit: int, change: Callable[[str, bytes], bytes]) -> bytes:
    """As `zip_mutated`, of a gzipped tarball."""
    parts = tar_parts(data)
    if not parts or dice.one_in(8):
        return dice.blind(data, limit)
    if dice.one_in(6):  # its headers, the gzip around it sound
        return gzip.compress(dice.blind(gzip.decompress(data), 1 << 17), 1, mtime=0)[:limit]
    at = dice.below(len(parts))
    name, content = parts[at]
    match dice.below(10):
        case 0:
            parts.pop(at)
        case 1:
            parts.append((name, content))
        case 2:
            parts[at] = dice.pick([dice.text(), "../" + name, dice.pick(parts)[0]]), content
        case 3:
            parts[at] = name, content + bytes(dice.pick((1, 4096, 1 << 17)))
        case _:
            parts[at] = name, change(name, content)
    try:
        return tarred(parts)[:limit]
    except (ValueError, UnicodeError):
        return dice.blind(data, limit)
