"""Hostile files, one a threat, and what each is refused with: README.md has the table.

`python -m tests.attacks` makes the files and the table anew.
"""

from __future__ import annotations

import itertools

from .attack import FILES, HERE, SOUND, Attack, sound
from .graphs import attacks as _graphs
from .patches import attacks as _patches
from .weights import attacks as _weights


def attacks() -> list[Attack]:
    """All of them."""
    return list(itertools.chain(_patches(), _graphs(), _weights()))


__all__ = ["FILES", "HERE", "SOUND", "Attack", "attacks", "sound"]
