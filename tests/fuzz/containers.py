"""Patches and backbones changed behind the checksum: the header, the document or the tensors, and all hashes anew."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from edgepatch import container

from . import documents
from .dice import Dice

ITEM = {"F32": 4, "F16": 2, "I8": 1, "U8": 1}
Entries = dict[str, Any]
Amend = Callable[[Any, Dice], Any]  # what a forger would do to a document besides


class TornError(ValueError):
    """Bytes that are no container, so that only blind changes are left."""


def split(data: bytes) -> tuple[Any, Entries, bytes]:
    """Document, entries of the tensors, and body of a container, read without a check.

    Raises:
        TornError: they cannot be told apart.
    """
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        document = json.loads(header.pop("__metadata__")["edgepatch"])
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TornError(str(error)) from error
    if not isinstance(document, dict):
        raise TornError("no object")
    return document, header, data[8 + length :]


def joined(document: Any, entries: Any, body: bytes) -> bytes:
    """A container with a sound checksum, if one can be reckoned at all."""
    words = documents.text(document)
    try:
        digest = container._digest(words, entries, body)
    except (ValueError, TypeError, RecursionError):  # half a surrogate pair
        digest = "0" * 64
    header = documents.text({"__metadata__": {"edgepatch": words, "sha256": digest}, **entries})
    raw = header.encode(errors="surrogatepass")
    raw += b" " * (-len(raw) % container.ALIGNMENT)
    return struct.pack("<Q", len(raw)) + raw + body


def mutated(data: bytes, dice: Dice, limit: int, amend: Amend | None = None) -> bytes:
    """A container changed in one of its layers.

    Args:
        amend: given the document after most changes, what a forger would make right again.
    """
    try:
        document, entries, body = split(data)
    except TornError:
        return dice.blind(data, limit)
    if amend:
        document = amend(document, dice)
    match dice.below(20):
        case 0:
            return dice.blind(data, limit)
        case 1:  # the header's text, its length kept right
            head = dice.blind(data[8 : len(data) - len(body)], limit)
            return struct.pack("<Q", len(head)) + head + body
        case 2 | 3:
            entries = documents.changed(entries, dice)
            if not isinstance(entries, dict):
                return dice.blind(data, limit)
        case 4 | 5 | 6 | 7 | 8 | 9 | 10:
            entries, body = _tensors(entries, body, dice)
        case _:
            document = documents.changed(document, dice)
    return joined(document, entries, body)[:limit]


def _tensors(entries: Entries, body: bytes, dice: Dice) -> tuple[Entries, bytes]:
    """Tensors changed: their values, sizes, types, order and names, with offsets that fit."""
    try:
        parts = {name: [row["dtype"], row["shape"], body[slice(*row["data_offsets"])]] for name, row in entries.items()}
        if not parts:
            raise TypeError
        name = dice.pick(list(parts))
        width = ITEM[parts[name][0]]
    except (TypeError, KeyError, ValueError):
        return entries, dice.blind(body, len(body) + 64)
    _, shape, content = parts[name]
    match dice.below(8):
        case 0 | 1 | 2:
            parts[name][2] = dice.values(content, width)
        case 3:  # another length, along the last or the first axis
            axis = -dice.below(2) if shape else 0
            new = [*shape] or [1]
            new[axis] = max(0, new[axis] + dice.pick((1, -1, 8, new[axis])))
            count = width
            for side in new:
                count *= side
            parts[name][1:] = [new, (content * 3 + bytes(64))[: min(count, 1 << 16)]]
        case 4:
            parts[name][0] = dice.pick(list(ITEM))
            parts[name][1] = [len(content) // ITEM[parts[name][0]]]
        case 5:
            parts.pop(name)
        case 6:
            parts[dice.pick([dice.text(), "kernel", "mask", "skip", "scale_step", "centre", "ranges"])] = parts[name]
        case 7:
            items = list(parts.items())
            dice.rng.shuffle(items)
            parts = dict(items)
    laid: Entries = {}
    pieces, end = [], 0
    for each, (kind, sides, bits) in parts.items():
        laid[each] = {"dtype": kind, "shape": sides, "data_offsets": [end, end + len(bits)]}
        pieces.append(bits)
        end += len(bits)
    return laid, b"".join(pieces)
