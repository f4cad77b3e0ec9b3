"""A crash's input made as small as it goes on crashing in the same way."""

from __future__ import annotations

from collections.abc import Callable

MOST = 2000  # tries


def smallest(data: bytes, still: Callable[[bytes], bool], tries: int = MOST) -> bytes:
    """Bytes left out run by run, the longest first; then what is left made zero where that does as well.

    Args:
        still: whether an input crashes in the same way.
    """
    left = tries
    size = len(data) // 2
    while size and left > 0:
        at = 0
        while at < len(data) and left > 0:
            shorter = data[:at] + data[at + size :]
            left -= 1
            if still(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data
