"""torch's checkpoints, through the restricted unpickler: the zip of today and the older layout."""

from __future__ import annotations

import numpy as np

from edgepatch.backbones.weights import torch_file

from . import archives, common
from .dice import Dice

LIMIT = 1 << 16


def one(data: bytes) -> None:
    with common.refusals():
        for name, value in torch_file.load(data, "file").items():
            assert isinstance(name, str) and isinstance(value, np.ndarray) and value.dtype.kind in "fi"


def mutate(data: bytes, dice: Dice, limit: int) -> bytes:
    if data[:4] != b"PK\3\4":
        return archives.pickle_mutated(data, dice, limit)

    def change(name: str, content: bytes) -> bytes:
        if name.endswith(".pkl"):
            return archives.pickle_mutated(content, dice, limit)
        return dice.blind(content, limit)

    return archives.zip_mutated(data, dice, limit, change)


def seeds() -> dict[str, bytes]:
    return common.own(".pth")
