"""Fuzzing without atheris: the same mutators, chance from a seed, no coverage to guide it."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from . import corpus, guard, targets
from .dice import Dice

STEPS = 3  # mutations one upon the other, at most


@dataclasses.dataclass
class Result:
    """Of one target.

    Attributes:
        executions, seconds: how many inputs, in how long.
        crashes: for each way that went wrong, an input.
        coverage: edges and features that libFuzzer counts, empty without it.
        worst: the most memory that an input took.
    """

    executions: int = 0
    seconds: float = 0.0
    crashes: dict[str, bytes] = dataclasses.field(default_factory=dict)
    coverage: dict[str, int] = dataclasses.field(default_factory=dict)
    worst: guard.Peak = dataclasses.field(default_factory=guard.Peak)


def run(name: str, target: Any, executions: int, seconds: float | None = None, seed: int = 0) -> Result:
    """What is kept of a target, each once; then inputs made of it.

    Args:
        executions: how many of the latter.
        seconds: after which no further one is begun.
        seed: of chance; the same gives the same inputs.
    """
    found = Result()
    one = guard.limited(target.one, found.worst)
    kept = known(name, target)
    begun = time.monotonic()
    for number in range(len(kept) + executions):
        if number >= len(kept) and seconds is not None and time.monotonic() - begun > seconds:
            break
        data = kept[number] if number < len(kept) else grown(target, kept, Dice(seed * 1_000_003 + number))
        found.executions += 1
        problem = guard.outcome(one, data)
        if problem is not None:
            found.crashes.setdefault(problem, data)
    found.seconds = time.monotonic() - begun
    return found


def known(name: str, target: Any) -> list[bytes]:
    """What is kept of a target: inputs that once crashed it, seeds, and what has evolved of them."""
    return [*corpus.crashes(name).values(), *target.seeds().values(), *corpus.kept(name).values()]


def grown(target: Any, kept: list[bytes], dice: Dice) -> bytes:
    """One of some inputs changed once or several times."""
    data = dice.pick(kept)
    for _ in range(1 if dice.one_in(2) else 1 + dice.below(STEPS)):
        data = targets.mutated(target, data, dice)
    return data
