"""A segmenter's answer: a class for each pixel of the picture."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from edgepatch import imaging
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, EdgepatchError, require
from edgepatch.head_network import Network


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """What a segmenter says of one picture.

    Attributes:
        task: whose patch answered.
        labels: all class names, by index.
        mask: uint8 (height, width), the class of each pixel of the picture.
    """

    task: str
    labels: tuple[str, ...]
    mask: np.ndarray

    def to_json(self) -> dict[str, Any]:
        shares = np.bincount(self.mask.ravel(), minlength=len(self.labels)) / self.mask.size
        return {
            "task": self.task,
            "shares": {label: float(share) for label, share in zip(self.labels, shares, strict=True)},
        }


def check(patch: Patch, values: Tensors, file: object) -> None:
    """Refuse a patch whose labels and head do not agree.

    Raises:
        BadFileError: they do not.
    """
    try:
        answers = Network.from_json(patch.decode.get("network")).answers
    except ValueError as error:
        raise BadFileError(f"has a broken head: {error}", file=file, field="decode.network") from error
    if answers != [len(patch.labels)] or not 2 <= len(patch.labels) <= 255:
        raise BadFileError(
            "has labels for another head",
            file=file,
            field="labels",
            got=f"{len(patch.labels)} labels, outputs of {answers} channels",
            expected="one output with a channel for each label, 2 to 255 of them",
        )
    if patch.input.resize != "stretch":
        raise BadFileError(
            "has a segmenter that cannot be brought back to the picture",
            file=file,
            field="input.resize",
            got=patch.input.resize,
            expected="stretch",
        )


def decode(outputs: dict[str, np.ndarray], patch: Patch, picture: tuple[int, int]) -> Segmentation:
    """The mask in a head's output, (1, side, side, classes), enlarged bilinearly before the largest one is taken.

    Args:
        picture: its width and height in pixels.

    Raises:
        EdgepatchError: it is not finite.
    """
    (logits,) = outputs.values()
    if not np.isfinite(logits).all():
        raise EdgepatchError("the task answers NaN or infinity: its patch is of no use", field="task", got=patch.task)
    module = require("PIL.Image", extra="litert", why="enlarging a mask")
    best = np.full(picture[::-1], -np.inf, np.float32)
    mask = np.zeros(picture[::-1], np.uint8)
    for label in range(logits.shape[3]):  # one at a time: a large picture of many classes would not fit into memory
        plane = module.fromarray(logits[0, :, :, label].astype(np.float32))
        grown = np.asarray(imaging.resized(plane, *picture, (0, 0, *plane.size)))
        mask[grown > best] = label
        best = np.maximum(best, grown)
    return Segmentation(patch.task, patch.labels, mask)
