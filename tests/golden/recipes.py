"""A file told by another: runs that are copied from it, and bytes that are not in it."""

from __future__ import annotations

import base64

Recipe = list[list[int] | str]

BLOCK = 16  # bytes that must be alike for a copy to pay


def told(new: bytes, old: bytes) -> Recipe:
    """`new` as runs [begin, end) of `old`, and base64 between them."""
    places: dict[bytes, int] = {}
    for at in range(len(old) - BLOCK, -1, -1):
        places[old[at : at + BLOCK]] = at
    recipe: Recipe = []
    at = literal = 0

    def flush(end: int) -> None:
        if end > literal:
            recipe.append(base64.b64encode(new[literal:end]).decode())

    while at + BLOCK <= len(new):
        begin = places.get(new[at : at + BLOCK])
        if begin is None:
            at += 1
            continue
        length = BLOCK
        limit = min(len(new) - at, len(old) - begin)
        while length < limit and new[at + length] == old[begin + length]:
            length += 1
        while at > literal and begin > 0 and new[at - 1] == old[begin - 1]:
            at, begin, length = at - 1, begin - 1, length + 1
        flush(at)
        recipe.append([begin, begin + length])
        at = literal = at + length
    flush(len(new))
    return recipe


def followed(recipe: Recipe, old: bytes) -> bytes:
    """The inverse of `told`."""
    return b"".join(base64.b64decode(part) if isinstance(part, str) else old[slice(*part)] for part in recipe)
