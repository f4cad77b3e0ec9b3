"""Shared .onnx graphs, as `graph_tflite` has them."""

from __future__ import annotations

from . import common, graphs
from .dice import Dice
from .target_graph_tflite import examine

LIMIT = 1 << 17
KIND = "onnx"


def one(data: bytes) -> None:
    examine(data)


def mutate(data: bytes, dice: Dice, limit: int) -> bytes:
    return graphs.mutated(data, KIND, dice, limit)


def seeds() -> dict[str, bytes]:
    return common.own(".onnx")
