"""Names in a graph's file, which both formats keep as UTF-8."""

from __future__ import annotations


def text(data: bytes) -> str:
    """A name.

    Raises:
        ValueError: its bytes spell none; the sentence is ours, for readers in other languages give the same one.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError("a name that is not UTF-8") from error
