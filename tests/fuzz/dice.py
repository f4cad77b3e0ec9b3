"""Chance, and what is worth trying: bytes, numbers and texts that readers are known to stumble over."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
Blind = Callable[[bytes, int], bytes]  # a mutation that knows nothing of the format: libFuzzer's own, or `scramble`

WIDTHS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}
EDGES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 63, 64, 127, 128, 255, 256, 4095, 4096, 65535, 65536)
POWERS = (31, 32, 40, 53, 63, 64)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 6e-8, 65504.0, 65520.0, 1e8, 1.1e8, 3.4e38, float("nan"), float("inf"))
TEXTS = (
    "",
    "a",
    "\0",
    "../../etc/passwd",
    "a/b",
    "scale",
    "bias",
    "kernel",
    "skip",
    "head_kernel",
    "__metadata__",
    "__class__",
    "\x1b[2J\x1b]0;x\x07",
    "\u202egnp.exe",
    "\u0085",
    "é" * 200,
    "x" * 5000,
    "\ud800",
    "NaN",
    "%s%n{0.__class__}",
)


class Dice:
    """A source of chance that gives the same for the same seed.

    Args:
        seed: any whole number.
        blind: how bytes are changed where nothing is known of them.
    """

    def __init__(self, seed: int, blind: Blind | None = None) -> None:
        self.rng = random.Random(seed)  # noqa: S311  # the same again is what is wanted of it
        self._blind = blind

    def below(self, count: int) -> int:
        return self.rng.randrange(count)

    def one_in(self, count: int) -> bool:
        return self.rng.randrange(count) == 0

    def pick(self, items: Sequence[T]) -> T:
        return items[self.rng.randrange(len(items))]

    def number(self) -> int:
        """A whole number, near a place where something overflows more often than not."""
        match self.below(4):
            case 0:
                found = self.pick(EDGES)
            case 1:
                found = 2 ** self.pick(POWERS) + self.pick((-1, 0, 1))
            case 2:
                found = self.below(1 << self.pick((4, 8, 16, 32)))
            case _:
                found = self.pick((10**19, 10**40, 10**309, 10**4000, 5, 100))
        return -found if self.one_in(4) else found

    def text(self) -> str:
        return self.pick(TEXTS)

    def blind(self, data: bytes, limit: int) -> bytes:
        """Some bytes changed, without a thought for what they are; at most `limit` of them."""
        return (self._blind or self.scramble)(data, limit)[:limit]

    def scramble(self, data: bytes, limit: int) -> bytes:
        """What libFuzzer's own mutators do, in a few lines."""
        found = bytearray(data)
        for _ in range(1 + self.below(4)):
            at = self.below(len(found) + 1)
            match self.below(7):
                case 0 if at < len(found):
                    found[at] ^= 1 << self.below(8)
                case 1 if at < len(found):
                    found[at] = self.pick((0, 1, 0x7F, 0x80, 0xFF, self.below(256)))
                case 2:
                    del found[at : at + 1 + self.below(16)]
                case 3:
                    found[at:at] = self.rng.randbytes(1 + self.below(16))
                case 4:  # a number, over what is there
                    width = self.pick((1, 2, 4, 8))
                    found[at : at + width] = self.packed(width)
                case 5 if found:  # a part of it, elsewhere
                    begin = self.below(len(found))
                    piece = found[begin : begin + 1 + self.below(64)]
                    found[at : at if self.one_in(2) else at + len(piece)] = piece
                case 6 if self.one_in(4):
                    del found[at:]
        return bytes(found[:limit])

    def packed(self, width: int) -> bytes:
        """A number of so many bytes, little-endian."""
        return struct.pack(WIDTHS[width], self.number() % (1 << 8 * width))

    def values(self, data: bytes, width: int) -> bytes:
        """Some numbers of a tensor changed: to floats at the edge of their type, to any bytes."""
        found = bytearray(data)
        for _ in range(1 + self.below(3)):
            if len(found) < width:
                break
            at = self.below(len(found) // width) * width
            if width in (2, 4) and self.one_in(2):
                with_sign = self.pick(FLOATS) * self.pick((1, -1))
                try:
                    new = struct.pack("<e" if width == 2 else "<f", with_sign)
                except OverflowError:
                    new = b"\xff" * width
            else:
                new = self.packed(width)
            count = self.pick((1, 1, 1, 2, 1 << 16))  # now and then all that follow
            found[at : at + count * width] = new * min(count, (len(found) - at) // width)
        return bytes(found)
