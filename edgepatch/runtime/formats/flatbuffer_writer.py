"""Flatbuffers, laid down from values: as much of a writer as a small .tflite needs.

Offsets point forward only, so whatever is pointed at is laid behind what points at it.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from edgepatch.runtime.formats.flatbuffer import ALIGNMENT


@dataclasses.dataclass(frozen=True)
class Scalar:
    """A number in a table: its `struct` format and its value. What is the schema's default may be left out."""

    format: str
    value: int | float


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A vector of numbers: their `struct` format, or the bytes that they are."""

    content: bytes
    count: int
    alignment: int = 4


def byte(value: int) -> Scalar:
    return Scalar("<b", value)


def number(value: int) -> Scalar:
    return Scalar("<i", value)


def numbers(values: Sequence[int]) -> Numbers:
    return Numbers(struct.pack(f"<{len(values)}i", *values), len(values))


def data(content: bytes) -> Numbers:
    """Bytes, aligned as the schema wants a buffer's."""
    return Numbers(content, len(content), ALIGNMENT)


def build(root: Mapping[int, Any], identifier: bytes) -> bytes:
    """The bytes of a flatbuffer.

    Args:
        root: fields by number: a `Scalar`, `Numbers`, a string, a table (a mapping), or a sequence of tables.
        identifier: four bytes that say what schema it is of.
    """
    found = bytearray(4) + identifier
    _point(found, 0, root)
    return bytes(found + bytes(-len(found) % ALIGNMENT))


def _point(found: bytearray, place: int, value: Any) -> None:
    """Lay a value down behind the end, and have the offset at `place` point at it."""
    if isinstance(value, Mapping):
        at, inner = _table(found, value)
    elif isinstance(value, str):
        content = value.encode()
        at, inner = _vector(found, content + b"\0", len(content), 4), []
    elif isinstance(value, Numbers):
        at, inner = _vector(found, value.content, value.count, value.alignment), []
    else:
        at = _vector(found, bytes(4 * len(value)), len(value), 4)
        inner = [(at + 4 + 4 * index, item) for index, item in enumerate(value)]
    struct.pack_into("<I", found, place, at - place)
    for slot, item in inner:
        _point(found, slot, item)


def _vector(found: bytearray, content: bytes, count: int, alignment: int) -> int:
    found += bytes(-len(found) % 4)
    found += bytes(-(len(found) + 4) % alignment)
    at = len(found)
    found += struct.pack("<I", count) + content
    return at


def _table(found: bytearray, fields: Mapping[int, Any]) -> tuple[int, list[tuple[int, Any]]]:
    """A table and its vtable; where it stands, and the places of its offsets with what they are to point at."""
    slots = {number: value.format if isinstance(value, Scalar) else "<I" for number, value in fields.items()}
    order = sorted(slots, key=lambda field: -struct.calcsize(slots[field]))  # so that each is aligned
    places, end = {}, 4
    for field in order:
        places[field], end = end, end + struct.calcsize(slots[field])
    entries = [places.get(field, 0) for field in range(max(slots, default=-1) + 1)]
    vtable = struct.pack(f"<{2 + len(entries)}H", 4 + 2 * len(entries), end, *entries)
    found += bytes(-(len(found) + len(vtable)) % 4)
    found += vtable
    at = len(found)
    found += struct.pack("<i", len(vtable)) + bytes(end - 4)
    inner = []
    for field, value in fields.items():
        if isinstance(value, Scalar):
            struct.pack_into(value.format, found, at + places[field], value.value)
        else:
            inner.append((at + places[field], value))
    return at, inner
