"""What is fuzzed, one module a target.

Each has `one(data)`, which may raise nothing; `mutate(data, dice, limit)`, which knows the format; and `seeds()`, files
by name. `LIMIT` is the largest input tried, in bytes.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from . import common
from .dice import Dice

PREFIX = "target_"  # of their modules' names


def names() -> list[str]:
    """Every target."""
    modules = [module.name for module in pkgutil.iter_modules([str(common.HERE)])]
    return sorted(name.removeprefix(PREFIX) for name in modules if name.startswith(PREFIX))


def load(name: str) -> Any:
    """A target's module."""
    return importlib.import_module(f".{PREFIX}{name}", __package__)


def mutated(target: Any, data: bytes, dice: Dice) -> bytes:
    """An input changed as its format allows, or blindly where it is too broken for that."""
    try:
        found: bytes = target.mutate(data, dice, target.LIMIT)
    except Exception:  # mutators take apart what mutators have made
        return dice.blind(data, target.LIMIT)
    return found
