"""Shared graphs changed behind their hashes: the file around the container, or what the container says of it."""

from __future__ import annotations

import struct
from typing import Any

from edgepatch import container
from edgepatch.errors import BadFileError
from edgepatch.runtime import graph_file
from edgepatch.runtime.formats import FORMATS

from . import containers, flatbuffers, protobufs
from .dice import Dice

AROUND: dict[str, Any] = {"tflite": flatbuffers, "onnx": protobufs}
LOST = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, struct.error)


def mutated(data: bytes, kind: str, dice: Dice, limit: int) -> bytes:
    """A graph changed in one of its layers, and signed again more often than not."""
    span = graph_file.find(data, kind)
    if span is None or span[1] <= span[0] or dice.one_in(8):
        return dice.blind(data, limit)
    try:
        packed = FORMATS[kind].unpack(data[slice(*span)])
        if dice.one_in(2):
            inner = containers.mutated(packed, dice, limit)
            found = put(data, kind, span, FORMATS[kind].pack(inner))
            return signed(found, kind, relocate=False)[:limit]
        if kind == "onnx":
            found = protobufs.changed(data, dice, spare=data[slice(*span)])
        else:
            found = flatbuffers.changed(data, dice) if not dice.one_in(5) else dice.blind(data, limit)
        return signed(found, kind, relocate=dice.one_in(2))[:limit]
    except LOST:
        return dice.blind(data, limit)


def put(data: bytes, kind: str, span: tuple[int, int], packed: bytes) -> bytes:
    """A graph with another container."""
    if len(packed) == span[1] - span[0]:
        return data[: span[0]] + packed + data[span[1] :]
    moved: bytes = AROUND[kind].relocated(data, span, packed)
    return moved


def signed(data: bytes, kind: str, *, relocate: bool = True) -> bytes:
    """A graph with the hash of its bytes in its document, as whoever changed it can reckon it.

    Args:
        relocate: whether the bake table is made to name the places that the file has now.
    """
    for _ in range(2):  # a container of another length changes the file around it
        span = graph_file.find(data, kind)
        if span is None:
            return data
        try:
            document, entries, body = containers.split(FORMATS[kind].unpack(data[slice(*span)]))
            if relocate:
                tensors = container.parse(containers.joined(document, entries, body), "x")[1]
                document["bake"] = FORMATS[kind].locate(data, document, tensors)
        except (*LOST, BadFileError):
            if relocate:
                relocate = False
                continue
            return data
        document["graph_sha256"] = graph_file.hash_around(data, span)
        data = put(data, kind, span, FORMATS[kind].pack(containers.joined(document, entries, body)))
    return data
