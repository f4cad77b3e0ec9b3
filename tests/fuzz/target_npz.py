"""Keras' weights as an .npz of arrays, by their layers' names."""

from __future__ import annotations

import dataclasses
import functools

from edgepatch.backbones import backbone
from edgepatch.backbones.plan import Plan
from edgepatch.backbones.weights import keras_names

from . import archives, common
from .dice import Dice

LIMIT = 1 << 16
SITES = 2


def one(data: bytes) -> None:
    with common.refusals():
        state = keras_names.load_npz(data, "file")
        assert all(value.dtype.kind != "O" for value in state.values())
        keras_names.tensors(plan(), state, "file")


@functools.cache
def plan() -> Plan:
    """The first sites of MobileNetV1: all of them would be a hundred arrays."""
    whole = backbone.make_plan("mobilenet_v1", 0.1, keras_names.PADDING, keras_names.EPSILON)
    return dataclasses.replace(whole, nodes=whole.nodes[:SITES])


def mutate(data: bytes, dice: Dice, limit: int) -> bytes:
    def change(name: str, content: bytes) -> bytes:
        if content[:6] == b"\x93NUMPY" and not dice.one_in(3):  # the header, its length kept right
            end = 10 + int.from_bytes(content[8:10], "little")
            head = dice.blind(content[10:end], 500)
            return content[:8] + len(head).to_bytes(2, "little") + head + content[end:]
        return dice.blind(content, limit)

    return archives.zip_mutated(data, dice, limit, change)


def seeds() -> dict[str, bytes]:
    return common.own(".npz")
