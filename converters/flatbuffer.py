"""Metadata into a .tflite without repacking it.

Repacking would copy every kernel through Python objects and lay it down elsewhere. Offsets in a flatbuffer point
forward only, so a new Model table in front can point at every part of the old file, which stays as it is behind it,
shifted by a multiple of `ALIGNMENT`.
"""

from __future__ import annotations

import struct

from edgepatch.runtime.graph_file import MODEL_BUFFERS, MODEL_METADATA, root

ALIGNMENT = 64


def attach(model: bytes, name: str, payload: bytes) -> bytes:
    """The model with one more metadata entry."""
    old = root(model)
    fields = max(old.count, MODEL_METADATA + 1)
    vtable = 8  # behind the root offset and the identifier
    front = bytearray(vtable + 4 + 2 * fields)
    front += bytes(-len(front) % 4)
    struct.pack_into("<4s", front, 4, b"TFL3")
    table = len(front)
    front += bytes(4 + 4 * fields)
    struct.pack_into("<I", front, 0, table)
    struct.pack_into("<HH", front, vtable, 4 + 2 * fields, 4 + 4 * fields)
    struct.pack_into("<i", front, table, table - vtable)

    def slot(field: int) -> int:
        struct.pack_into("<H", front, vtable + 4 + 2 * field, 4 + 4 * field)
        return table + 4 + 4 * field

    def vector(count: int) -> int:
        start = len(front)
        front.extend(struct.pack("<I", count) + bytes(4 * count))
        return start

    def text(value: bytes, zero: bytes = b"") -> int:
        start = len(front)
        front.extend(struct.pack("<I", len(value)) + value + zero)
        front.extend(bytes(-len(front) % 4))
        return start

    def point(place: int, target: int) -> None:
        struct.pack_into("<I", front, place, target - place)

    def new_table(slots: int) -> int:
        start = len(front)
        front.extend(struct.pack("<HH", 4 + 2 * slots, 4 + 4 * slots))
        front.extend(b"".join(struct.pack("<H", 4 + 4 * index) for index in range(slots)))
        front.extend(bytes(-len(front) % 4))
        at = len(front)
        front.extend(struct.pack("<i", at - start) + bytes(4 * slots))
        return at

    buffers, metadata = old.tables(MODEL_BUFFERS), old.tables(MODEL_METADATA)
    buffer_vector, metadata_vector = vector(len(buffers) + 1), vector(len(metadata) + 1)
    entry = new_table(2)
    point(entry + 4, text(name.encode(), b"\0"))
    struct.pack_into("<I", front, entry + 8, len(buffers))
    buffer = new_table(1)
    point(buffer + 4, text(payload))
    front += bytes(-len(front) % ALIGNMENT)
    shift = len(front)

    for field in range(old.count):
        if field in (MODEL_BUFFERS, MODEL_METADATA) or (place := old.at(field)) is None:
            continue
        if field == 0:  # the schema's version, the one field that is no offset
            struct.pack_into("<I", front, slot(0), struct.unpack_from("<I", model, place)[0])
        else:
            target = old.follow(field)
            assert target is not None
            point(slot(field), target + shift)
    for field, start, places, new in (
        (MODEL_BUFFERS, buffer_vector, buffers, buffer),
        (MODEL_METADATA, metadata_vector, metadata, entry),
    ):
        point(slot(field), start)
        for index, place in enumerate(places):
            point(start + 4 + 4 * index, place + shift)
        point(start + 4 + 4 * len(places), new)
    return bytes(front) + model
