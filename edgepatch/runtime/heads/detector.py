"""A detector's answer: boxes in pixels of the picture, each with a label and a score."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgepatch import boxes
from edgepatch.blob import Patch
from edgepatch.boxes import Anchors
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, EdgepatchError
from edgepatch.head_network import Network

ACTIVATIONS = ("softmax", "sigmoid")  # over a box's classes together, or of each by itself
LIMITS = {"score": (0.0, 1.0), "overlap": (0.0, 1.0), "limit": (1, 1000)}


@dataclasses.dataclass(frozen=True)
class Detections:
    """What a detector finds in one picture, the surest first.

    Attributes:
        task: whose patch answered.
        labels: all class names, by index.
        boxes: float32 (n, 4), x0, y0, x1, y1 in pixels of the picture.
        scores: float32 (n,), 0..1.
        classes: int64 (n,), indices of labels.
    """

    task: str
    labels: tuple[str, ...]
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def to_json(self) -> dict[str, Any]:
        rows = zip(self.classes, self.scores, self.boxes, strict=True)
        found = [
            {"label": self.labels[label], "score": float(score), "xyxy": [round(float(side), 2) for side in box]}
            for label, score, box in rows
        ]
        return {"task": self.task, "boxes": found}


def check(patch: Patch, values: Tensors, file: object) -> None:
    """Refuse a patch whose labels, anchors and head do not agree.

    Raises:
        BadFileError: they do not.
    """

    def bad(message: str, field: str, got: object, expected: object) -> BadFileError:
        return BadFileError(message, file=file, field=f"decode.{field}", got=str(got)[:60], expected=expected)

    try:
        anchors, network = (
            Anchors.from_json(patch.decode.get("anchors")),
            Network.from_json(patch.decode.get("network")),
        )
    except ValueError as error:
        raise bad("has a broken detector", "anchors", error, "as docs/format.md says") from error
    for name, (low, high) in LIMITS.items():
        got = patch.decode.get(name)
        if (
            not isinstance(got, int | float)
            or type(got) is bool
            or not low <= got <= high
            or (name == "limit" and type(got) is not int)
        ):
            raise bad("has a broken detector", name, got, f"{low} to {high}")
    outputs = network.outputs
    if len(outputs) != 2 * len(anchors.shapes):
        raise bad("has anchors for other maps", "anchors", len(anchors.shapes), f"{len(outputs) / 2:g} maps")
    if patch.decode.get("activation") not in ACTIVATIONS:
        unknown = patch.decode.get("activation")
        raise bad("has scores that this version does not know", "activation", unknown, " or ".join(ACTIVATIONS))
    if patch.input.resize != "stretch":
        raise bad("has a detector that cannot be brought back to the picture", "input", patch.input.resize, "stretch")
    if not patch.labels:
        raise bad("has no labels", "labels", 0, "one or more")
    for number, count in enumerate(anchors.counts):
        got, expected = network.answers[2 * number :][:2], [count * (1 + len(patch.labels)), count * 4]
        if got != expected:
            raise bad("has labels or anchors for another head", f"network.{outputs[2 * number]}", got, expected)


def decode(outputs: dict[str, np.ndarray], patch: Patch, picture: tuple[int, int]) -> Detections:
    """The boxes in a head's outputs.

    Args:
        outputs: for each map class scores (1, side, side, anchors x (1 + classes)), the background first, before the
            softmax, and codings (1, side, side, anchors x 4).
        picture: its width and height in pixels.

    Raises:
        EdgepatchError: they are not finite.
    """
    how = patch.decode
    anchors = Anchors.from_json(how["anchors"])
    found, scores = raw(list(outputs.values()), anchors, len(patch.labels), how["activation"])
    if not np.isfinite(scores).all() or not np.isfinite(found).all():
        raise EdgepatchError("the task answers NaN or infinity: its patch is of no use", field="task", got=patch.task)
    kept, sure, classes = boxes.choose(
        np.clip(found, 0, 1), scores, least=how["score"], threshold=how["overlap"], limit=how["limit"]
    )
    pixels = kept * np.array([*picture, *picture], np.float32)
    return Detections(patch.task, patch.labels, pixels, sure, classes)


def raw(
    outputs: Sequence[np.ndarray], anchors: Anchors, classes: int, activation: str = "softmax"
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (anchors, 4), 0..1 of the network's input, and scores (anchors, classes), of one picture's outputs."""
    logits = np.concatenate([each.reshape(-1, 1 + classes) for each in outputs[::2]])
    codings = np.concatenate([each.reshape(-1, 4) for each in outputs[1::2]])
    if activation == "sigmoid":
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 1:], -80, 80)))
    else:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = (powers / powers.sum(axis=1, keepdims=True))[:, 1:]
    sides = [each.shape[1] for each in outputs[::2]]
    return boxes.decode(codings, anchors.boxes(sides), anchors.variances), scores
