"""In which order the batches of several tasks are taken, and how much each of them weighs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

KEEP = 0.98  # of a running mean, a step of the task


def shares(images: Sequence[int], mix: float) -> np.ndarray:
    """Each task's share of the steps, float (tasks,): proportional to its number of images to the power of `mix`.

    With 1 all images are seen equally often, with 0 all tasks; in between small tasks are seen more often than their
    size. Arivazhagan et al., "Massively Multilingual Neural Machine Translation in the Wild" (2019, section 4.2).
    """
    powers = np.asarray(images, float) ** mix
    return powers / powers.sum()


def order(parts: np.ndarray, steps: int) -> list[int]:
    """The task of each step: always the one that is furthest behind its share, the first of equals.

    Args:
        parts: shares (tasks,).
        steps: how many; each task gets its share of them up to less than one.
    """
    taken, found = np.zeros(len(parts)), []
    for step in range(1, steps + 1):
        chosen = int(np.argmax(parts * step - taken))
        taken[chosen] += 1
        found.append(chosen)
    return found


@dataclasses.dataclass
class Balance:
    """What the gradient of each task on shared kernels is multiplied by.

    Attributes:
        how: `none`: by its preference alone; `loss`: also by the inverse of its running loss; `gradient`: also by the
            inverse of its gradient's running norm, so that no task pulls harder than its preference says, which is
            what GradNorm (Chen et al., 2018) comes to with a restoring force of 0.
        preferences: of each task.
        means: running means of each task's loss or norm; 0 before its first step.
    """

    how: str
    preferences: Sequence[float]
    means: list[float] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.means = self.means or [0.0] * len(self.preferences)

    def weight(self, task: int) -> float:
        """Of a task's next gradient."""
        weight = self.preferences[task] * len(self.preferences) / sum(self.preferences)
        return weight if self.how == "none" or not self.means[task] else weight / self.means[task]

    def seen(self, task: int, loss: float, norm: float) -> None:
        """Take note of a step: the task's loss, and the norm of its gradient before any weight."""
        value = loss if self.how == "loss" else norm
        if np.isfinite(value) and value > 0:
            old = self.means[task]
            self.means[task] = KEEP * old + (1 - KEEP) * value if old else float(value)
