"""SSDLite: classes and boxes at anchors over six maps, of strides 16, 32 and four beyond that the head makes itself.

Liu et al., "SSD: Single Shot MultiBox Detector" (ECCV 2016); Sandler et al., "MobileNetV2" (CVPR 2018, section 6.2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from edgepatch import box_metrics, boxes
from edgepatch.backbones.plan import Plan
from edgepatch.box_metrics import Found, Truth
from edgepatch.boxes import Anchors
from edgepatch.data import annotations as boxed  # its plain name is the feature of __future__, for mypy
from edgepatch.data import box_augmentation
from edgepatch.head_network import Layer, Network
from edgepatch.patches.map_head import Examples, MapHead, require_maps
from edgepatch.progress import Reporter
from edgepatch.runtime.heads import detector as device

EXTRAS = ((128, 256), (64, 128), (64, 128), (64, 128))  # channels before and behind each further halving
ANCHORS = boxes.spread(2 + len(EXTRAS))
MATCH, MISS = 0.5, 0.4  # overlaps from which on an anchor is of a box, and below which it is background
COMPENSATED, LEAST = 4, 0.1  # anchors that each box is to have, if they overlap it by so much
NEGATIVES = 3  # hard ones kept for each positive
FEWEST = 8  # kept of a picture in which nothing is
SCORE, OVERLAP, LIMIT = 0.4, 0.5, 100  # of what is told; the score until one is chosen,
SCORES = (0.05, 0.95)  # between these


@dataclasses.dataclass(frozen=True)
class Detector(MapHead):
    """The kind.

    Attributes:
        anchors: of its maps.
    """

    anchors: Anchors = ANCHORS

    name = "detector"

    def fitted(self, train: Examples) -> Detector:
        """With anchors as small as the boxes, relative to the picture: all but the smallest twentieth."""
        sides = [np.prod(found[~ignored, 2:] - found[~ignored, :2], axis=1) ** 0.5 for found, _, ignored in train.truth]
        least = float(np.clip(np.quantile(np.concatenate(sides), 0.05), 0.02, boxes.SMALLEST))
        return dataclasses.replace(self, anchors=boxes.spread(2 + len(EXTRAS), least))

    def splits(self, data: Path, val: Path | None, seed: int) -> tuple[Any, Any, tuple[str, ...]]:
        train, chosen = boxed.training_splits(data, val, seed=seed)
        return train, chosen, train.classes

    def read(self, found: Any, preprocessing: Any, reporter: Reporter) -> Examples:
        read = boxed.load(found, preprocessing, reporter)
        truth = list(zip(read.boxes, read.labels, read.ignored, strict=True))
        return Examples(read.pixels, truth, read.files.dropped.to_json())

    def network(self, plan: Plan, classes: int) -> Network:
        near, far = require_maps(plan, (16, 32), self.name)
        made: list[Layer] = []
        maps, last = [near, far], far
        for number, (narrow, wide) in enumerate(EXTRAS, start=1):
            made += [
                Layer(f"extra{number}_narrow", "conv", (last,), narrow, activation="relu6"),
                Layer(
                    f"extra{number}_depthwise",
                    "depthwise",
                    (f"extra{number}_narrow",),
                    kernel=3,
                    stride=2,
                    activation="relu6",
                ),
                Layer(f"extra{number}", "conv", (f"extra{number}_depthwise",), wide, activation="relu6"),
            ]
            last = f"extra{number}"
            maps.append(last)
        outputs = []
        for number, (source, count) in enumerate(zip(maps, self.anchors.counts, strict=True)):
            for what, width in (("classes", 1 + classes), ("boxes", 4)):
                name = f"{what}{number}"
                made.append(Layer(f"{name}_depthwise", "depthwise", (source,), kernel=3, activation="relu6"))
                made.append(Layer(name, "conv", (f"{name}_depthwise",), count * width))
                outputs.append(name)
        return Network((near, far), tuple(made), tuple(outputs))

    def decode(self, plan: Plan) -> dict[str, Any]:
        how = {"activation": "softmax", "score": SCORE, "overlap": OVERLAP, "limit": LIMIT}
        return {"head": self.name, "anchors": self.anchors.to_json(), **how}

    def example(
        self, pixels: np.ndarray, truth: Any, sides: Sequence[int], classes: int, rng: np.random.Generator, flips: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        found, labels, ignored = truth
        pixels, found, labels, ignored = box_augmentation.change(pixels, found, labels, ignored, rng, flips)
        return pixels, targets(found, labels, ignored, self.anchors.boxes(sides[::2]), self.anchors)

    def loss(self, classes: int) -> Callable[[Any, Any], Any]:
        return multibox

    def joined(self, outputs: Sequence[Any], classes: int) -> Any:
        logits = ops.concatenate(
            [ops.reshape(each, (-1, _count(each, 1 + classes), 1 + classes)) for each in outputs[::2]], 1
        )
        codings = ops.concatenate([ops.reshape(each, (-1, _count(each, 4), 4)) for each in outputs[1::2]], 1)
        return ops.concatenate([codings, logits], 2)

    def measure(self, outputs: Sequence[np.ndarray], examples: Examples, labels: Sequence[str]) -> dict[str, float]:
        result = box_metrics.mean_average_precision(*self._compared(outputs, examples, labels), len(labels))
        return {name: result[name] for name in ("map", "map50")}

    def tuned(self, outputs: Sequence[np.ndarray], examples: Examples, labels: Sequence[str]) -> dict[str, Any]:
        """The score from which on a box is told."""
        best = box_metrics.best_score(*self._compared(outputs, examples, labels))
        return {} if best is None else {"score": round(float(np.clip(best, *SCORES)), 3)}

    def _compared(
        self, outputs: Sequence[np.ndarray], examples: Examples, labels: Sequence[str]
    ) -> tuple[list[Truth], list[Found]]:
        """What is true of pictures, and what outputs say of them, in pixels of the network's input."""
        size, found = examples.pixels.shape[1], []
        for number in range(len(examples)):
            each = [output[number : number + 1] for output in outputs]
            whole, scores = device.raw(each, self.anchors, len(labels))
            kept, sure, own = boxes.choose(np.clip(whole, 0, 1), scores, least=0.01, threshold=OVERLAP, limit=LIMIT)
            found.append(Found(kept * size, sure, own))
        return [Truth(own * size, classes, ignored) for own, classes, ignored in examples.truth], found


def _count(output: Any, width: int) -> int:
    _, height, across, channels = output.shape
    return int(height * across * channels // width)


def targets(
    found: np.ndarray, labels: np.ndarray, ignored: np.ndarray, all_anchors: np.ndarray, anchors: Anchors
) -> np.ndarray:
    """What each anchor is to answer: float32 (anchors, 5): the four codings, and the class, 0 of the background.

    An anchor is of the box that it overlaps most, if by `MATCH`; each box has the anchor that overlaps it most in any
    case. A box that has few, as small ones do between the anchors, gets the best of the others (Zhang et al., "S3FD",
    ICCV 2017, section 3.2). Between `MISS` and `MATCH`, and over boxes that are ignored, nothing is asked of an anchor:
    its class is -1.
    """
    result = np.zeros((len(all_anchors), 5), np.float32)
    counted, doubtful = found[~ignored], found[ignored]
    if len(counted):
        overlaps = boxes.overlaps(all_anchors, counted)
        best, of = overlaps.max(axis=1), overlaps.argmax(axis=1)
        for number in np.argsort(overlaps.max(axis=0)):  # of two that want one anchor, the one that fits it better
            first, *others = np.argsort(-overlaps[:, number], kind="stable")[:COMPENSATED]
            free = [other for other in others if overlaps[other, number] >= LEAST and best[other] < MATCH]
            own = [first, *free[: max(0, COMPENSATED - int((best[of == number] >= MATCH).sum()))]]
            best[own], of[own] = 1.0, number
        positive = best >= MATCH
        result[positive, 4] = 1 + labels[~ignored][of[positive]]
        result[~positive & (best >= MISS), 4] = -1
        result[positive, :4] = boxes.encode(counted[of[positive]], all_anchors[positive], anchors.variances)
    if len(doubtful):
        over = boxes.overlaps(all_anchors, doubtful).max(axis=1) >= MISS
        result[over & (result[:, 4] == 0), 4] = -1
    return result


def multibox(truth: Any, answer: Any) -> Any:
    """The SSD's loss, one value a picture: smooth L1 of positives' codings, and cross entropy of them and of the
    negatives that are hardest, `NEGATIVES` for each positive (section 2.2)."""
    classes = ops.cast(truth[..., 4], "int32")
    positive, negative = classes > 0, ops.equal(classes, 0)
    off = ops.abs(answer[..., :4] - truth[..., :4])
    smooth = ops.sum(ops.where(off < 1, 0.5 * off * off, off - 0.5), axis=-1)
    logs = ops.log_softmax(answer[..., 4:], axis=-1)
    picked = ops.one_hot(ops.maximum(classes, 0), answer.shape[-1] - 4)
    cross = -ops.sum(picked * logs, axis=-1)
    count = ops.sum(ops.cast(positive, "int32"), axis=-1, keepdims=True)
    hardness = ops.stop_gradient(ops.where(negative, cross, -1.0))
    order = ops.argsort(ops.argsort(-hardness, axis=-1), axis=-1)
    hard = ops.logical_and(negative, order < ops.maximum(NEGATIVES * count, FEWEST))
    kept = ops.cast(ops.logical_or(positive, hard), "float32")
    total = ops.sum(kept * cross + ops.cast(positive, "float32") * smooth, axis=-1)
    return total / ops.cast(ops.maximum(count[:, 0], 1), "float32")


KIND = Detector()
