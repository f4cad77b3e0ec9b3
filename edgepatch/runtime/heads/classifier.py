"""A classifier's answer: probabilities of its labels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, EdgepatchError


@dataclasses.dataclass(frozen=True)
class Classification:
    """What a classifier says of one image.

    Attributes:
        task: whose patch answered.
        label, score: the most probable class and its probability, 0..1.
        labels: all class names, by index.
        probabilities: float32 (classes,), summing to 1.
        logits: float32 (classes,), before the softmax.
    """

    task: str
    label: str
    score: float
    labels: tuple[str, ...]
    probabilities: np.ndarray
    logits: np.ndarray

    def top(self, count: int) -> list[tuple[str, float]]:
        """The `count` most probable classes with their probabilities, best first."""
        return [(self.labels[index], float(self.probabilities[index])) for index in np.argsort(-self.logits)[:count]]

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "label": self.label,
            "score": self.score,
            "top": [{"label": label, "score": score} for label, score in self.top(5)],
        }


def check(patch: Patch, values: Tensors, file: object) -> None:
    """Refuse a patch whose labels and head do not agree.

    Args:
        values: the patch's, decoded.

    Raises:
        BadFileError: they do not.
    """
    classes = len(patch.labels)
    for name, rank in (("head_kernel", 2), ("head_bias", 1)):
        shape = values[name].shape if name in values else ()
        if len(shape) != rank or shape[-1] != classes or not classes:
            raise BadFileError(
                "has labels for another head",
                file=file,
                field=name,
                got=str(shape),
                expected=f"{classes} classes, one or more",
            )
    known = patch.statistics
    if known is not None and len(known.centre) != len(values["head_kernel"]):
        raise BadFileError(
            "has statistics of other features",
            file=file,
            field="centre",
            got=len(known.centre),
            expected=len(values["head_kernel"]),
        )
    if patch.decode.get("activation") != "softmax":
        raise BadFileError(
            "has a head that this version does not know",
            file=file,
            field="decode.activation",
            got=str(patch.decode.get("activation"))[:40],
            expected="softmax",
        )


def decode(outputs: dict[str, np.ndarray], patch: Patch, picture: tuple[int, int]) -> Classification:
    """The answer in a graph's outputs: `logits` (1, classes).

    Args:
        picture: its width and height in pixels, of which a class is independent.

    Raises:
        EdgepatchError: they are not finite.
    """
    logits = outputs["logits"][0]
    if not np.isfinite(logits).all():
        raise EdgepatchError("the task answers NaN or infinity: its patch is of no use", field="task", got=patch.task)
    powers = np.exp(logits - logits.max())
    probabilities = powers / powers.sum()
    best = int(logits.argmax())
    return Classification(
        patch.task, patch.labels[best], float(probabilities[best]), patch.labels, probabilities, logits
    )
