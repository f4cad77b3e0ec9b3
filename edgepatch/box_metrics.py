"""Figures of dense heads: mean average precision of boxes, mean intersection over union of masks."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgepatch.boxes import overlaps
from edgepatch.errors import UsageError, require

IGNORED = 255  # a mask's value where nothing is counted
MAX_FOUND = 100  # boxes of a class in a picture that count, the surest: as COCO does


class Truth(NamedTuple):
    """The boxes of a picture.

    Attributes:
        boxes: (n, 4), x0, y0, x1, y1 in pixels of the picture.
        labels: (n,), classes by index.
        ignored: bool (n,): what is found there counts neither for nor against; see `annotations.Boxes`.
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray


class Found(NamedTuple):
    """What a detector found in a picture.

    Attributes:
        boxes: (n, 4), x0, y0, x1, y1 in pixels of the picture.
        scores: (n,), larger is surer.
        labels: (n,), classes by index.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def mean_average_precision(truth: Sequence[Truth], found: Sequence[Found], classes: int) -> dict[str, Any]:
    """Average precision as COCO defines it, by its own implementation.

    Ignored boxes are treated as COCO's crowds: what lies in one (by the share of itself) is not counted.

    Args:
        truth, found: of each picture, in the same order.
        classes: how many there are.

    Returns:
        `map50`: mean over the classes at an IoU of 0.5; `map`: also over IoUs of 0.5, 0.55, ... 0.95;
        `ap50`, `ap`: the same of each class, lists. A class without truth has nan, and is not in the means.

    Raises:
        MissingPackageError: pycocotools is not installed.
        UsageError: lengths do not agree, a label is no class, or a number is not finite.
    """
    coco = require("pycocotools.coco", extra="detect", why="mean average precision").COCO
    evaluator = require("pycocotools.cocoeval", extra="detect", why="mean average precision").COCOeval
    if len(truth) != len(found):
        raise UsageError("are not of the same pictures", field="found", got=len(found), expected=len(truth))
    wanted = [_entries(index, each.boxes, each.labels, classes, iscrowd=each.ignored) for index, each in _listed(truth)]
    given = [_entries(index, each.boxes, each.labels, classes, score=each.scores) for index, each in _listed(found)]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints how far it is
        work = evaluator(_dataset(coco, wanted, classes), _dataset(coco, given, classes), "bbox")
        work.params.areaRng, work.params.areaRngLbl = [[0, np.inf]], ["all"]
        work.params.maxDets = [MAX_FOUND]
        if truth:
            work.evaluate()
            work.accumulate()
    # (IoUs, recalls, classes), -1 where a class has no truth
    precision = work.eval["precision"][:, :, :, 0, 0] if truth else np.full((1, 1, classes), -1.0)
    precision = np.where(precision < 0, np.nan, precision)
    ap50, ap = precision[0].mean(axis=0), precision.mean(axis=(0, 1))
    return {"map50": _mean(ap50), "map": _mean(ap), "ap50": ap50.tolist(), "ap": ap.tolist()}


def best_score(truth: Sequence[Truth], found: Sequence[Found], overlap: float = 0.5) -> float | None:
    """The score from which on boxes are told, so that F1, the harmonic mean of precision and recall, is highest.

    A box is right if it overlaps one of its class by `overlap` that no surer box has; in ignored boxes nothing counts.

    Returns:
        None where no box is right, whatever the score.
    """
    scores, right, count = [np.zeros(0)], [np.zeros(0, bool)], 0
    for want, have in zip(truth, found, strict=True):
        near = overlaps(have.boxes, want.boxes) * (have.labels[:, None] == want.labels[None])
        free, counted, hits = ~want.ignored, np.ones(len(have.scores), bool), np.zeros(len(have.scores), bool)
        count += int(free.sum())
        for index in np.argsort(-have.scores, kind="stable"):
            own = np.flatnonzero(free & (near[index] >= overlap))
            if len(own):
                free[own[near[index][own].argmax()]] = False
                hits[index] = True
            elif (near[index][want.ignored] >= overlap).any():
                counted[index] = False
        scores.append(have.scores[counted])
        right.append(hits[counted])
    sure, hit = np.concatenate(scores), np.concatenate(right)
    order = np.argsort(-sure, kind="stable")
    sure, hits_so_far = sure[order], np.cumsum(hit[order])
    if not hit.any():
        return None
    f1 = 2 * hits_so_far / (np.arange(1, len(sure) + 1) + count)
    best = int(f1.argmax())
    following = sure[best + 1] if best + 1 < len(sure) else 0.0
    return float(sure[best] + following) / 2  # halfway to what is left out: the next pictures differ a little


def confusion(masks: Iterable[np.ndarray], predictions: Iterable[np.ndarray], classes: int) -> np.ndarray:
    """Counts of pixels (classes, classes): rows are the true class, columns the predicted one.

    Args:
        masks: of each picture (height, width), classes by index; `IGNORED` is not counted.
        predictions: the same, without `IGNORED`.
        classes: how many there are.

    Raises:
        UsageError: shapes do not agree, or a value is no class.
    """
    counts = np.zeros((classes, classes), np.int64)
    for mask, predicted in zip(masks, predictions, strict=True):
        if mask.shape != predicted.shape:
            raise UsageError("is not of its mask's shape", field="prediction", got=predicted.shape, expected=mask.shape)
        told = mask != IGNORED
        rows, columns = mask[told].astype(np.int64), predicted[told].astype(np.int64)
        for name, values in (("mask", rows), ("prediction", columns)):
            wrong = values[(values < 0) | (values >= classes)]
            if len(wrong):
                raise UsageError("has a value that is no class", field=name, got=wrong[0], expected=f"below {classes}")
        counts += np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)
    return counts


def iou_of_classes(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of each class (classes,), 0..1, of a confusion; nan for a class without truth."""
    both, true, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return np.where(true > 0, both / np.maximum(true + predicted - both, 1), np.nan)


def mean_iou(counts: np.ndarray) -> float:
    """Mean intersection over union of the classes that have truth, 0..1, of a confusion; nan if none has."""
    return _mean(iou_of_classes(counts))


def _mean(values: np.ndarray) -> float:
    """Mean of the values that are not nan; nan if all are."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def _listed(pictures: Sequence[Any]) -> Iterable[tuple[int, Any]]:
    return enumerate(pictures, 1)  # pycocotools takes an id of 0 for none


def _entries(
    picture: int, boxes: np.ndarray, labels: np.ndarray, classes: int, **columns: np.ndarray
) -> list[dict[str, Any]]:
    """A picture's boxes as COCO writes them, without ids."""
    lengths = {len(boxes), len(labels), *map(len, columns.values())}
    if len(lengths) > 1:
        raise UsageError("are not of the same length", field=f"picture {picture}", got=sorted(lengths))
    if not all(np.isfinite(values).all() for values in (boxes, *columns.values())):
        raise UsageError("holds NaN or infinity", field=f"picture {picture}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        got = f"{labels.min()} to {labels.max()}"
        raise UsageError(
            "has a label that is no class", field=f"picture {picture}", got=got, expected=f"below {classes}"
        )
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)  # a detector may find boxes inside out
    return [
        {
            "image_id": picture,
            "category_id": int(labels[index]),
            "bbox": [*map(float, boxes[index, :2]), *map(float, sides[index])],
            "area": float(sides[index].prod()),
            **{name: values[index].item() for name, values in columns.items()},
        }
        for index in range(len(labels))
    ]


def _dataset(coco: Any, entries: Sequence[list[dict[str, Any]]], classes: int) -> Any:
    """A COCO object of pictures 1, 2, ..."""
    made = coco()
    flat = [entry for each in entries for entry in each]
    made.dataset = {
        "images": [{"id": number} for number in range(1, len(entries) + 1)],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": [{"iscrowd": False, **entry, "id": number} for number, entry in enumerate(flat, 1)],
    }
    made.createIndex()
    return made
