"""The report beside a patch: one JSON file, one picture."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch import files
from edgepatch.blob import Patch
from edgepatch.errors import require

MAX_NAMED = 25  # classes whose names still fit beside a confusion matrix


@dataclasses.dataclass(frozen=True)
class Result:
    """What training made and measured.

    Attributes:
        patch: the patch as written.
        head_alone: the same task with its head only: the baseline.
        path: of the patch file.
        report: what the report file says.
    """

    patch: Patch
    head_alone: Patch
    path: Path
    report: dict[str, Any]


def write(report: dict[str, Any], patch: Path) -> None:
    """Write PATCH.json and PATCH.png beside a patch file."""
    files.write(patch.with_suffix(".json"), json.dumps(report, indent=1, allow_nan=False) + "\n")
    files.write(patch.with_suffix(".png"), picture(report))


def picture(report: dict[str, Any]) -> bytes:
    """A PNG with the training curves and the validation images' confusion matrix."""
    figure_module = require("matplotlib.figure", extra="train", why="the picture of the report")
    if "confusion" not in report:
        return _curves(report, figure_module)
    figure = figure_module.Figure(figsize=(12, 5), layout="constrained")
    loss, accuracy, matrix = figure.subplots(1, 3, width_ratios=(1, 1, 1.4))
    figure.suptitle(
        f"{plain(report['task'])}: {report['kinds']}, {report['bytes'] / 1024:.0f} KiB, "
        f"validation {report['accuracy']:.1%} (head alone {report['head_accuracy']:.1%})"
    )
    epochs = np.arange(1, len(report["history"]) + 1)
    for axis, name in ((loss, "loss"), (accuracy, "accuracy")):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            axis.plot(epochs, [entry[key] for entry in report["history"]], marker=".", label=label)
        axis.set_xlabel("epoch")
        axis.set_title(name)
        axis.xaxis.get_major_locator().set_params(integer=True)
    accuracy.axhline(report["head_accuracy"], color="grey", linestyle="--", label="head alone")
    accuracy.legend()
    loss.legend()

    counts = np.array(report["confusion"], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    matrix.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    matrix.set_title("validation images\ntrue class (row), predicted (column)")
    classes = report["classes"]
    if len(classes) <= MAX_NAMED:
        names = [plain(name if len(name) <= 14 else name[:13] + "…") for name in classes]
        matrix.set_xticks(range(len(names)), names, rotation=90)
        matrix.set_yticks(range(len(names)), names)
        for row, column in np.argwhere(counts > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            matrix.text(column, row, int(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()


def _curves(report: dict[str, Any], figure_module: Any) -> bytes:
    """Of a task without a confusion matrix: the loss, and what the validation images say."""
    figure = figure_module.Figure(figsize=(10, 5), layout="constrained")
    loss, figures = figure.subplots(1, 2)
    figure.suptitle(
        f"{plain(report['task'])}: {report['kinds']}, {report['bytes'] / 1024:.0f} KiB, "
        f"validation {report['deciding']} "
        f"{report['accuracy']:.3f} (head alone {report['head_accuracy']:.3f})"
    )
    epochs = np.arange(1, len(report["history"]) + 1)
    for name in report["history"][0]:
        axis = loss if name == "loss" else figures
        axis.plot(epochs, [entry[name] for entry in report["history"]], marker=".", label=name)
    for axis, title in ((loss, "training"), (figures, "validation images: the head alone, then all")):
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(title)
        axis.legend()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()


def plain(name: str) -> str:
    """A name as text: matplotlib takes what stands between dollar signs for mathematics."""
    return name.replace("$", r"\$")
