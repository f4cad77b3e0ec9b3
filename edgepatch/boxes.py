"""Boxes of a Single Shot MultiBox Detector: anchors, their coding, and what is left when the best ones suppress others.

Liu et al., "SSD: Single Shot MultiBox Detector" (ECCV 2016, sections 2.2 and 2.3). A box is x0, y0, x1, y1, here 0..1
of the network's square input.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

VARIANCES = (0.1, 0.1, 0.2, 0.2)  # of centre and size: they bring the four codings to about one spread
LARGEST_CODING = 4.0  # of a size: e^4 times the anchor's


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Boxes from which a detector's answers count, the same ones at every pixel of a map.

    Attributes:
        shapes: for each map, the (width, height) of each of its pixels' anchors.
        variances: of the four codings.
    """

    shapes: tuple[tuple[tuple[float, float], ...], ...]
    variances: tuple[float, float, float, float] = VARIANCES

    @property
    def counts(self) -> list[int]:
        """Anchors of a pixel, by map."""
        return [len(each) for each in self.shapes]

    def boxes(self, sides: Sequence[int]) -> np.ndarray:
        """All anchors of maps of these sides, by map, row, column and shape: float32 (anchors, 4), read-only."""
        return _all_boxes(self.shapes, tuple(sides))

    def to_json(self) -> dict[str, Any]:
        return {
            "shapes": [[list(shape) for shape in shapes] for shapes in self.shapes],
            "variances": list(self.variances),
        }

    @classmethod
    def from_json(cls, value: Any) -> Anchors:
        """The inverse of `to_json`.

        Raises:
            ValueError: it describes no anchors.
        """
        if not isinstance(value, dict) or set(value) != {"shapes", "variances"}:
            raise ValueError("expected the fields shapes and variances")
        shapes, variances = value["shapes"], value["variances"]
        if not _numbers(variances, 4):
            raise ValueError("expected four variances above 0")
        if not isinstance(shapes, list) or not shapes:
            raise ValueError("expected the shapes of each map's anchors")
        for each in shapes:
            if not isinstance(each, list) or not 0 < len(each) <= 64 or not all(_numbers(shape, 2) for shape in each):
                raise ValueError("expected the width and height of each anchor, above 0")
        made = tuple(tuple((float(shape[0]), float(shape[1])) for shape in each) for each in shapes)
        return cls(made, (float(variances[0]), float(variances[1]), float(variances[2]), float(variances[3])))


@functools.lru_cache(maxsize=16)  # the same ones for every picture
def _all_boxes(all_shapes: tuple[tuple[tuple[float, float], ...], ...], sides: tuple[int, ...]) -> np.ndarray:
    found = []
    for side, shapes in zip(sides, all_shapes, strict=True):
        middles = (np.arange(side) + 0.5) / side
        y, x, shape = np.meshgrid(middles, middles, np.arange(len(shapes)), indexing="ij")
        half = np.asarray(shapes).reshape(-1, 2)[shape.ravel()] / 2
        centre = np.stack([x.ravel(), y.ravel()], axis=1)
        found.append(np.concatenate([centre - half, centre + half], axis=1))
    made = np.concatenate(found).astype(np.float32)
    made.setflags(write=False)
    return made


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(type(item) in (int, float) and 0 < item < 100 for item in value)
    )


SMALLEST, LARGEST = 0.2, 0.95  # scales of the first map and of the last
STEP = 1.6  # between scales below `SMALLEST`, of data with smaller boxes
RATIOS = (1, 2, 1 / 2, 3, 1 / 3)  # width to height; the first map has the first three


def spread(maps: int, smallest: float = SMALLEST) -> Anchors:
    """Anchors whose scales lie evenly between two, a map each, and one square between a map's scale and the next one's.

    As the SSD paper's (section 2.2) and MobileNet's SSDLite have them. The first map has all scales below its own, too,
    as far as `smallest`.
    """
    scales = [float(scale) for scale in (*np.linspace(SMALLEST, LARGEST, maps), 1.0)]
    more = max(0, round(math.log(SMALLEST / smallest) / math.log(STEP)))
    first = [SMALLEST * (smallest / SMALLEST) ** (number / more) for number in range(1, more + 1)]
    shapes = [tuple(shape for scale in (SMALLEST, *first) for shape in _shapes(scale, RATIOS[:3]))]
    for scale, following in itertools.pairwise(scales[1:]):
        shapes.append((*_shapes(scale, RATIOS), *_shapes((scale * following) ** 0.5, (1,))))
    return Anchors(tuple(shapes))


def _shapes(scale: float, ratios: Sequence[float]) -> list[tuple[float, float]]:
    return [(scale * ratio**0.5, scale / ratio**0.5) for ratio in ratios]


def encode(boxes: np.ndarray, anchors: np.ndarray, variances: Sequence[float] = VARIANCES) -> np.ndarray:
    """What a detector is to answer at anchors (n, 4) for boxes (n, 4): float32 (n, 4), of centre and size."""
    centre, size = _centres(boxes)
    own_centre, own_size = _centres(anchors)
    coded = np.concatenate([(centre - own_centre) / own_size, np.log(np.maximum(size, 1e-6) / own_size)], axis=-1)
    return (coded / np.asarray(variances)).astype(np.float32)


def decode(codings: np.ndarray, anchors: np.ndarray, variances: Sequence[float] = VARIANCES) -> np.ndarray:
    """The inverse of `encode`."""
    coded = codings * np.asarray(variances, np.float32)
    own_centre, own_size = _centres(anchors)
    centre = coded[..., :2] * own_size + own_centre
    half = np.exp(np.clip(coded[..., 2:], -LARGEST_CODING, LARGEST_CODING)) * own_size / 2
    return np.concatenate([centre - half, centre + half], axis=-1).astype(np.float32)


def _centres(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (n, 4) and others (m, 4): float32 (n, m)."""
    x0, y0, x1, y1 = boxes.T[:, :, None]
    u0, v0, u1, v1 = others.T[:, None]
    shared = np.maximum(np.minimum(x1, u1) - np.maximum(x0, u0), 0)
    shared *= np.maximum(np.minimum(y1, v1) - np.maximum(y0, v0), 0)
    union = np.maximum(x1 - x0, 0) * np.maximum(y1 - y0, 0) + np.maximum(u1 - u0, 0) * np.maximum(v1 - v0, 0) - shared
    return np.asarray(shared / np.maximum(union, 1e-12), np.float32)


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, limit: int) -> np.ndarray:
    """Which of boxes (n, 4) of one class stay: the best first, each without those that overlap a better one by more.

    Takes memory for n x n numbers.

    Returns:
        int64, at most `limit` indices.
    """
    order = np.argsort(-scores, kind="stable")
    near = overlaps(boxes[order], boxes[order]) > threshold
    gone = np.zeros(len(order), bool)
    kept: list[int] = []
    for number, index in enumerate(order):
        if not gone[number]:
            kept.append(int(index))
            if len(kept) == limit:
                break
            gone |= near[number]
    return np.array(kept, np.int64)


def choose(
    boxes: np.ndarray, scores: np.ndarray, *, least: float, threshold: float, limit: int, candidates: int = 400
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a picture shows, by class: boxes of a score of at least `least`, each class suppressed by itself.

    Args:
        boxes: (anchors, 4).
        scores: (anchors, classes), without the background.
        threshold: overlap from which on the worse of two of a class goes.
        limit: of all classes together.
        candidates: of each class that are looked at, the best ones.

    Returns:
        Boxes (n, 4), scores (n,) and classes (n,), the best first.
    """
    rows, classes = np.nonzero(scores >= least)
    kept, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for label in np.unique(classes):
        own = rows[classes == label]
        own = own[np.argsort(-scores[own, label], kind="stable")[:candidates]]
        if len(own) > 1:
            own = own[suppress(boxes[own], scores[own, label], threshold, limit)]
        kept.append(own)
        labels.append(np.full(len(own), label))
    best, which = np.concatenate(kept), np.concatenate(labels)
    order = np.argsort(-scores[best, which], kind="stable")[:limit]
    best, which = best[order], which[order]
    return boxes[best], scores[best, which], which
