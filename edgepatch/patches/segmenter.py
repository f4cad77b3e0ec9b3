"""LR-ASPP: a class for each pixel, of a map that sees far, weighed by the whole picture, and of one that sees sharply.

Howard et al., "Searching for MobileNetV3" (ICCV 2019, section 6.4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import layers, ops

from edgepatch import box_metrics
from edgepatch.backbones.plan import Plan
from edgepatch.data import box_augmentation, masks
from edgepatch.head_network import Layer, Network
from edgepatch.patches.map_head import Examples, MapHead, require_maps
from edgepatch.progress import Reporter

WIDTH = 128  # channels of the far map, narrowed
FINER = 4  # how many times finer than its answer the loss looks
SMALLEST = 0.5  # side of a crop


@dataclasses.dataclass(frozen=True)
class Segmenter(MapHead):
    """The kind."""

    name = "segmenter"

    def splits(self, data: Path, val: Path | None, seed: int) -> tuple[Any, Any, tuple[str, ...]]:
        train, chosen = masks.training_splits(data, val, seed=seed)
        return train, chosen, train.classes

    def read(self, found: Any, preprocessing: Any, reporter: Reporter) -> Examples:
        read = masks.load(found, preprocessing, reporter)
        return Examples(read.pixels, list(read.masks), read.files.dropped.to_json())

    def network(self, plan: Plan, classes: int) -> Network:
        near, far = require_maps(plan, (8, 32), self.name)
        made = (
            Layer("mean", "mean", (far,)),
            Layer("gate", "conv", ("mean",), WIDTH, activation="sigmoid"),
            Layer("far", "conv", (far,), WIDTH, activation="relu"),
            Layer("gated", "multiply", ("far", "gate")),
            Layer("grown", "resize", ("gated", near)),
            Layer("far_classes", "conv", ("grown",), classes),
            Layer("near_classes", "conv", (near,), classes),
            Layer("classes", "add", ("far_classes", "near_classes")),
        )
        return Network((near, far), made, ("classes",))

    def decode(self, plan: Plan) -> dict[str, Any]:
        return {"head": self.name}

    def example(
        self, pixels: np.ndarray, truth: Any, sides: Sequence[int], classes: int, rng: np.random.Generator, flips: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        pixels, mask = box_augmentation.cropped(pixels, np.asarray(truth), SMALLEST, rng, flips)
        side = sides[0] * FINER
        rows = ((np.arange(side) + 0.5) * len(mask) / side).astype(int)
        return pixels, mask[np.ix_(rows, rows)].astype(np.float32)

    def loss(self, classes: int) -> Callable[[Any, Any], Any]:
        return cross_entropy

    def joined(self, outputs: Sequence[Any], classes: int) -> Any:
        (output,) = outputs
        side = FINER * output.shape[1]
        return layers.Resizing(side, side, name="finer")(output)

    def measure(self, outputs: Sequence[np.ndarray], examples: Examples, labels: Sequence[str]) -> dict[str, float]:
        (logits,) = outputs
        size = examples.pixels.shape[1]
        found = (np.asarray(ops.argmax(ops.image.resize(each[None], (size, size)), -1))[0] for each in logits)
        return {"miou": box_metrics.mean_iou(box_metrics.confusion(examples.truth, found, len(labels)))}


def cross_entropy(truth: Any, answer: Any) -> Any:
    """One value a picture, the mean over its pixels that are of a class.

    Args:
        truth: classes (n, side, side), `box_metrics.IGNORED` where nothing is asked.
        answer: logits (n, side, side, classes).
    """
    known = truth < box_metrics.IGNORED
    picked = ops.one_hot(ops.cast(ops.where(known, truth, 0.0), "int32"), answer.shape[-1])
    cross = -ops.sum(picked * ops.log_softmax(answer, axis=-1), axis=-1)
    weight = ops.cast(known, "float32")
    return ops.sum(cross * weight, axis=(1, 2)) / ops.maximum(ops.sum(weight, axis=(1, 2)), 1.0)


KIND = Segmenter()
