"""A network as a patch sees it: its sites, and the values they have before a task changes them.

What a patch does is told in five effects, whatever kinds it is made of: at some sites another `scale`, another `bias`,
another `kernel`, or a `mask` over the kernel; and blocks to `skip`. A graph and a backbone both are trunks.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

CHANNELS = ("scale", "bias")  # effects with one value a channel
KERNELS = ("kernel", "mask")  # effects with one value a weight
SITES = (*CHANNELS, *KERNELS)  # effects told by site
SKIP = "skip"  # one bit a block with an identity shortcut

Block = TypeVar("Block")


@dataclasses.dataclass(frozen=True)
class Trunk:
    """The sites of a network in forward order, and what they have of their own.

    Attributes:
        names: of the sites.
        shapes: of their kernels, HWIO.
        channels: of their outputs.
        residuals: how many blocks can be skipped.
        scale, bias: float32 (sum of channels,).
        kernel: gives a site's kernel by its number, float32 HWIO.
    """

    names: Sequence[str]
    shapes: Sequence[Sequence[int]]
    channels: Sequence[int]
    residuals: int
    scale: np.ndarray
    bias: np.ndarray
    kernel: Callable[[int], np.ndarray]

    @functools.cached_property
    def weights(self) -> list[int]:
        """Values of each site's kernel."""
        return [math.prod(shape) for shape in self.shapes]

    @functools.cached_property
    def ends(self) -> list[int]:
        """Behind which channel of all each site ends."""
        return list(itertools.accumulate(self.channels))

    def cuts(self, effect: str, numbers: Iterable[int]) -> dict[int, slice]:
        """Where each of some sites' part lies in the one flat tensor that an effect has of them."""
        counts, found, end = self.channels if effect in CHANNELS else self.weights, {}, 0
        for number in numbers:
            found[number] = slice(end, end := end + counts[number])
        return found

    def length(self, effect: str, numbers: Iterable[int]) -> int:
        """Values of the flat tensor that an effect has of some sites."""
        counts = self.channels if effect in CHANNELS else self.weights
        return sum(counts[number] for number in numbers)

    def inside(self, numbers: Iterable[int]) -> np.ndarray:
        """Which of all channels are of some sites: bool (sum of channels,)."""
        chosen = set(numbers)
        return np.repeat([number in chosen for number in range(len(self.channels))], self.channels)


def left_out(blocks: Sequence[Block], values: Mapping[str, np.ndarray]) -> list[Block]:
    """Those of the blocks that can be skipped, in forward order, that a task's `values` skip.

    Raises:
        ValueError: the task's `skip` is of another number of blocks.
    """
    if SKIP not in values:
        return []
    return [block for block, gone in zip(blocks, values[SKIP], strict=True) if gone]
