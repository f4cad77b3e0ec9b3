"""Accuracy of a task through the device runtime; numpy and an interpreter suffice."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from edgepatch import metrics
from edgepatch.data import folder
from edgepatch.data.pictures import check_unreadable
from edgepatch.errors import BadFileError
from edgepatch.progress import Reporter, Terminal
from edgepatch.runtime import Runtime


def evaluate(
    runtime: Runtime, data: str | os.PathLike[str], *, task: str | None = None, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Accuracy of a task, by default the one in use, on a folder of images.

    Raises:
        UsageError: the folder is not one folder a class, or has a class the task does not know.
        BadFileError: too many images cannot be read.
    """
    reporter = reporter or Terminal()
    patch = runtime.patch(task or runtime.task or "")
    runtime.use(patch.task)  # what is wrong with the task is not to be taken for unreadable images
    files, split = folder.evaluation_split(data, patch.labels)
    start = time.monotonic()
    logits, labels, skipped = [], [], []
    for path, label in reporter.bar(zip(files.paths, files.labels, strict=True), len(files), "evaluating"):
        try:
            logits.append(runtime.predict(path, patch.task).logits)
            labels.append(label)
        except BadFileError as error:
            skipped.append(str(error).splitlines()[0])
    check_unreadable(skipped, files, reporter)
    found, truth = np.stack(logits), np.array(labels)
    counts = metrics.confusion(found, truth, len(patch.labels))
    return {
        "task": patch.task,
        "data": str(data),
        "split": split,
        "accuracy": metrics.accuracy(found, truth),
        "balanced_accuracy": metrics.balanced_accuracy(found, truth),
        "images": len(truth),
        "skipped": skipped,
        "mode": runtime.mode,
        "engine": runtime.engine,
        "seconds": round(time.monotonic() - start, 3),
        "classes": list(patch.labels),
        "confusion": counts.tolist(),
    }
