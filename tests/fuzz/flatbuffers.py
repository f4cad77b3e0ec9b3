"""A .tflite changed where it points: offsets, lengths, vtables and numbers, by their places."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.formats.flatbuffer import Table

from .dice import Dice

Place = tuple[int, str]  # where, and what stands there: offset, length, entry (of a vtable), back (to a vtable), number
MOST = 20_000

# of each table of the schema, as far as readers look: vectors of tables, tables, vectors of numbers with their width
SHAPE = dict[int, "str | int"]
SCHEMA: dict[str, SHAPE] = {
    "model": {1: "[code", 2: "[subgraph", 4: "[buffer", 6: "[metadata", 7: "[signature"},
    "code": {},
    "subgraph": {0: "[tensor", 1: 4, 2: 4, 3: "[operator", 4: 1},
    "tensor": {0: 4, 3: 1, 4: "quantization"},
    "quantization": {2: 4, 3: 8},
    "operator": {1: 4, 2: 4, 4: "options"},
    "options": {},
    "buffer": {0: 1},
    "metadata": {0: 1},
    "signature": {0: "[map", 1: "[map", 2: 1},
    "map": {0: 1},
}


def places(data: bytes) -> list[Place]:
    """Where a reader's way leads through the file, as far as it leads."""
    found: list[Place] = [(0, "offset")]
    try:
        stack = [("model", struct.unpack_from("<I", data)[0])]
        while stack and len(found) < MOST:
            kind, at = stack.pop()
            found += _table(data, kind, at, stack)
    except (struct.error, IndexError, ValueError):
        pass
    return found


def _table(data: bytes, kind: str, at: int, stack: list[tuple[str, int]]) -> Iterator[Place]:
    table = Table(data, at)
    yield at, "back"
    yield table.vtable, "entry"
    for field in range(min(table.count, 16)):
        place = table.at(field)
        if place is None:
            continue
        yield table.vtable + 4 + 2 * field, "entry"
        what = SCHEMA[kind].get(field)
        if what is None:
            yield place, "number"
            continue
        yield place, "offset"
        target = place + struct.unpack_from("<I", data, place)[0]
        if isinstance(what, int):
            yield target, "length"
            span = table.span(field, what) or (0, 0)
            yield from ((item, "number") for item in range(span[0], min(span[1], span[0] + 8 * what), what))
        elif what.startswith("["):
            yield target, "length"
            for slot, inner in zip(range(target + 4, len(data), 4), table.tables(field)[:200], strict=False):
                yield slot, "offset"
                stack.append((what[1:], inner))
        else:
            stack.append((what, target))


def changed(data: bytes, dice: Dice) -> bytes:
    """A file with one to three of its places changed."""
    known = places(data)
    found = bytearray(data)
    tables = [place for place, kind in known if kind == "back"] or [0]
    for _ in range(1 + dice.below(3)):
        place, kind = dice.pick(known)
        if kind == "entry":
            width, new = 2, dice.pick((0, 4, 8, 0xFFFF, 0xFFFE, dice.below(64)))
        elif kind == "offset":  # itself, what lies before it, another table, the end and beyond
            beyond = (len(data) - place, len(data) - place - 4, 0xFFFFFFFF, 0x7FFFFFFF)
            width, new = 4, dice.pick((0, 4, dice.pick(tables) - place, dice.pick(known)[0] - place, *beyond))
        elif kind == "back":
            width, new = 4, dice.pick((0, place, place - dice.pick(tables), -len(data), 0x7FFFFFFF, dice.below(400)))
        elif kind == "length":
            width, new = 4, dice.pick((0, 1, len(data) - place - 4, (len(data) - place - 4) // 4, dice.number()))
        else:
            width, new = 4, dice.pick((dice.number(), dice.below(64), 0xFFFFFFFF))
        content = (new % (1 << 8 * width)).to_bytes(width, "little")
        if 0 <= place <= len(found) - width:
            found[place : place + width] = content
    return bytes(found)


def relocated(data: bytes, span: fb.Span, packed: bytes) -> bytes:
    """A file whose metadata buffer at `span` is pointed at other bytes, behind the end."""
    for position in fb.root(data).tables(fb.MODEL_BUFFERS):
        buffer = Table(data, position)
        if buffer.at(fb.BUFFER_DATA) is not None and buffer.span(fb.BUFFER_DATA) == span:
            edits, tail = fb.point(len(data), [(buffer.need(fb.BUFFER_DATA), packed, len(packed))])
            return fb.splice(data, edits, tail)
    return data
