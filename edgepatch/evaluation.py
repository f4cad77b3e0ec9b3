"""How good a task is, through the device runtime; numpy and an interpreter suffice, and pycocotools for boxes."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgepatch import box_metrics, metrics
from edgepatch.blob import Patch
from edgepatch.data import annotations as boxed  # its plain name is the feature of __future__, for mypy
from edgepatch.data import folder, masks
from edgepatch.data.account import UnfitError
from edgepatch.data.listing import Boxes
from edgepatch.data.pictures import check_unreadable
from edgepatch.data.upright import opened, told
from edgepatch.errors import BadFileError
from edgepatch.progress import Reporter, Terminal
from edgepatch.runtime import Runtime

LEAST_SCORE = 0.01  # of a box that counts for average precision, whatever the patch's own threshold


def evaluate(
    runtime: Runtime, data: str | os.PathLike[str], *, task: str | None = None, reporter: Reporter | None = None
) -> dict[str, Any]:
    """How good a task is, by default the one in use, on pictures of which the truth is known.

    Args:
        data: of a classifier a folder with one folder of images a class; of a detector a COCO JSON or a Pascal VOC
            folder; of a segmenter a folder of pictures and masks.

    Returns:
        A classifier's `accuracy`, a detector's `map50` and `map`, a segmenter's `miou`, and what they are of.

    Raises:
        UsageError: the data is not of the kind, or has a class the task does not know.
        BadFileError: too many images cannot be read.
    """
    reporter = reporter or Terminal()
    patch = runtime.patch(task or runtime.task or "")
    runtime.use(patch.task)  # what is wrong with the task is not to be taken for unreadable images
    start = time.monotonic()
    how: dict[str, Callable[..., dict[str, Any]]] = {"detector": _boxes, "segmenter": _masks}
    found = how.get(str(patch.decode.get("head")), _classes)(runtime, patch, data, reporter)
    return {
        "task": patch.task,
        "data": str(data),
        **found,
        "mode": runtime.mode,
        "engine": runtime.engine,
        "seconds": round(time.monotonic() - start, 3),
        "classes": list(patch.labels),
    }


def _classes(runtime: Runtime, patch: Patch, data: Any, reporter: Reporter) -> dict[str, Any]:
    files, split = folder.evaluation_split(data, patch.labels)
    logits, labels, skipped = [], [], []
    for path, label in reporter.bar(zip(files.paths, files.labels, strict=True), len(files), "evaluating"):
        try:
            logits.append(runtime.predict(path, patch.task).logits)
            labels.append(label)
        except BadFileError as error:
            skipped.append(str(error).splitlines()[0])
    check_unreadable(skipped, files, reporter)
    found, truth = np.stack(logits), np.array(labels)
    return {
        "split": split,
        "accuracy": metrics.accuracy(found, truth),
        "balanced_accuracy": metrics.balanced_accuracy(found, truth),
        "images": len(truth),
        "skipped": skipped,
        "confusion": metrics.confusion(found, truth, len(patch.labels)).tolist(),
    }


def _boxes(runtime: Runtime, patch: Patch, data: Any, reporter: Reporter) -> dict[str, Any]:
    listed, split = boxed.evaluation_split(data, patch.labels)
    how = {**patch.decode, "score": LEAST_SCORE, "limit": box_metrics.MAX_FOUND}
    runtime.add(dataclasses.replace(patch, decode=how))
    truth, found = [], []

    def evaluate_one(index: int) -> bool:
        image, is_unsure = opened(listed.paths[index], listed.sizes[index])
        answer = runtime.predict(image, patch.task)
        truth.append(box_metrics.Truth(listed.boxes[index], listed.labels[index], listed.ignored[index]))
        found.append(box_metrics.Found(answer.boxes, answer.scores, answer.classes))
        return is_unsure

    try:
        dropped = _each(evaluate_one, listed, reporter)
    finally:
        runtime.add(patch)
    if not any((~each.ignored).any() for each in truth):
        raise BadFileError("has no box to evaluate on", file=listed.source, got="0 boxes", expected="at least 1")
    result = box_metrics.mean_average_precision(truth, found, len(patch.labels))
    return {"split": split, **result, **dropped}


def _masks(runtime: Runtime, patch: Patch, data: Any, reporter: Reporter) -> dict[str, Any]:
    listed, split = masks.evaluation_split(data, patch.labels)
    counts = np.zeros((len(patch.labels),) * 2, np.int64)

    def evaluate_one(index: int) -> bool:
        nonlocal counts
        image, mask, is_unsure = masks.pair(listed, index)
        counts += box_metrics.confusion([mask], [runtime.predict(image, patch.task).mask], len(patch.labels))
        return is_unsure

    dropped = _each(evaluate_one, listed, reporter)
    if not counts.any():
        raise BadFileError("has no pixel of any class to evaluate on", file=listed.source, got="masks of 255 only")
    return {
        "split": split,
        "miou": box_metrics.mean_iou(counts),
        "iou": box_metrics.iou_of_classes(counts).tolist(),
        **dropped,
        "confusion": counts.tolist(),
    }


def _each(evaluate_one: Callable[[int], bool], listed: Boxes | masks.Files, reporter: Reporter) -> dict[str, Any]:
    """Evaluate on every picture, and tell how many that were and which were dropped, as training does.

    Args:
        evaluate_one: of the picture of an index; answers whether EXIF leaves it in doubt.

    Raises:
        BadFileError: too many are dropped.
    """
    failed, unsure = {}, []
    for index in reporter.bar(range(len(listed)), len(listed), "evaluating"):
        try:
            if evaluate_one(index):
                unsure.append(index)
        except UnfitError as error:
            failed[index] = error
    account = told(failed, unsure, listed.paths, listed.source, listed.dropped)
    left = dataclasses.replace(listed, dropped=account).take([i for i in range(len(listed)) if i not in failed])
    reporter.say(left.summary())
    skipped = [str(error).splitlines()[0] for error in failed.values()]
    return {"images": len(left), "skipped": skipped, "dropped": left.dropped.to_json()}
