"""Trade-offs among tasks: one joint training a row of preferences, and which of them no other one beats."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from edgepatch.errors import require
from edgepatch.training.report import plain


def undominated(scores: np.ndarray) -> list[bool]:
    """Which rows no other row beats: none is as good in every column and better in one.

    Args:
        scores: (rows, tasks), the higher the better.
    """
    return [
        not any((other >= row).all() and (other > row).any() for other in scores) for row in np.asarray(scores, float)
    ]


def picture(names: Sequence[str], preferences: Sequence[Sequence[float]], scores: np.ndarray) -> bytes:
    """A PNG of a front: two tasks as a plane, more as one line a row of preferences across an axis a task.

    Args:
        preferences: one row a training, as weights of the tasks.
        scores: (rows, tasks), validation accuracies.
    """
    figure_module = require("matplotlib.figure", extra="train", why="the picture of the front")
    figure = figure_module.Figure(figsize=(8, 5.5), layout="constrained")
    axis = figure.subplots()
    kept = undominated(scores)
    labels = [", ".join(f"{weight:g}" for weight in row) for row in preferences]
    if len(names) == 2:
        order = [row for row in np.argsort(scores[:, 0]) if kept[row]]
        axis.plot(100 * scores[order, 0], 100 * scores[order, 1], color="tab:blue", zorder=1)
        for row, label in enumerate(labels):
            colour = "tab:blue" if kept[row] else "lightgrey"
            axis.scatter(100 * scores[row, 0], 100 * scores[row, 1], color=colour, zorder=2)
            axis.annotate(label, 100 * scores[row], xytext=(5, 5), textcoords="offset points", fontsize=8)
        axis.margins(0.15)  # room for the labels
        axis.set_xlabel(f"{plain(names[0])}, validation accuracy in %")
        axis.set_ylabel(f"{plain(names[1])}, validation accuracy in %")
    else:
        for row, label in enumerate(labels):
            style = {"linewidth": 2} if kept[row] else {"linewidth": 1, "linestyle": ":", "color": "grey"}
            axis.plot(range(len(names)), 100 * scores[row], marker="o", label=label, **style)
        axis.set_xticks(range(len(names)), [plain(name) for name in names], rotation=20)
        axis.set_ylabel("validation accuracy in %")
        axis.legend(title="preferences", fontsize=8)
    axis.set_title(
        f"what each row of preferences ({', '.join(plain(name) for name in names)}) is worth"
        + ("" if all(kept) else "\ngrey: beaten by another in every task")
    )
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()
