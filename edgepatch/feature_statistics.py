"""What a patch knows of the features of its training pictures: enough to add a class without them.

A mean in eight bits and four numbers (docs/decisions/0011-enrolling.md has the measurements). Graphs do not read them;
`edgepatch.runtime.enrolling` does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

CENTRE = "centre"  # the tensor, which belongs to no kind
LARGEST = 1e12  # of a number: sums of products with it are finite
NUMBERS = ("gain", "level", "spread", "norm", "low", "step")


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of the features under the patch's own values.

    Attributes:
        centre: uint8 (features,), the mean of all pictures; `mean` has it in the features' own unit.
        gain: what a step of one in a class's mean feature is worth in the head's kernel.
        level: what the logits of a class whose mean were the centre have there, beyond the trained columns' mean.
        spread: the squared distance of a picture from its class's mean, on average.
        norm: of a class's mean, on average.
        low, step: the mean is `low + step * centre`.
        pictures: for each class that was enrolled, from how many; these classes are the last ones.
    """

    centre: np.ndarray
    gain: float
    level: float
    spread: float
    norm: float
    low: float
    step: float
    pictures: tuple[int, ...] = ()

    @property
    def mean(self) -> np.ndarray:
        """The centre, float64 (features,)."""
        return self.low + self.step * self.centre.astype(np.float64)

    def to_json(self) -> dict[str, Any]:
        """The document's part; the centre is a tensor."""
        return {**{name: getattr(self, name) for name in NUMBERS}, "pictures": list(self.pictures)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], centre: np.ndarray | None, classes: int) -> Statistics | None:
        """The inverse of `to_json`; None of `{}` without a centre.

        Args:
            classes: of the patch.

        Raises:
            ValueError: a number is missing, unknown or out of range, or the centre is of another type.
        """
        if not value and centre is None:
            return None
        if centre is None or centre.dtype != np.uint8 or centre.ndim != 1 or not centre.size:
            raise ValueError(f"there is no tensor {CENTRE} of uint8 (features,)")
        if set(value) != {*NUMBERS, "pictures"}:
            raise ValueError(f"its fields are {', '.join(value) or 'none'}")
        for name in NUMBERS:
            if type(value[name]) not in (int, float) or abs(value[name]) > LARGEST:
                raise ValueError(f"{name} is {value[name]!r}, not a number of at most {LARGEST:g}")
        for name in ("gain", "spread", "norm"):
            if value[name] <= 0:
                raise ValueError(f"{name} is {value[name]!r}, not above 0")
        if value["step"] < 0:
            raise ValueError(f"step is {value['step']!r}, below 0")
        pictures = value["pictures"]
        if (
            not isinstance(pictures, list)
            or len(pictures) > classes
            or not all(type(count) is int and 0 < count < 2**31 for count in pictures)
        ):
            raise ValueError(f"pictures is {pictures!r}, not a count for each of at most {classes} classes")
        gain, level, spread, norm, low, step = (float(value[name]) for name in NUMBERS)
        return cls(centre, gain, level, spread, norm, low, step, tuple(pictures))


def rounded(mean: np.ndarray) -> tuple[np.ndarray, float, float]:
    """A mean of features as `centre`, `low` and `step`."""
    low, high = float(mean.min()), float(mean.max())
    low, step = short(low), short((high - low) / 255)
    return np.clip(np.rint((mean - low) / (step or 1)), 0, 255).astype(np.uint8), low, step


def short(value: float) -> float:
    """A number to six digits: more say nothing, and would be bytes of every patch."""
    return float(f"{value:.6g}")
