"""The picture of a search under a budget: what patches weigh, and how good they are."""

from __future__ import annotations

import io
from typing import Any

from edgepatch.errors import require
from edgepatch.training.report import plain

KB = 1000
MARKERS = {"fp16": "o", "int8": "s"}
GREY, BLUE, RED = "#777777", "#2a78b8", "#c43c39"
PLACES = [(6, 4), (6, -10), (-6, 4), (-6, -10), (6, 13), (6, -19), (-6, 13), (-6, -19)]  # of a label, in points


def picture(report: dict[str, Any]) -> bytes:
    """A PNG of a report with `budget` and `frontier`."""
    stream = io.BytesIO()
    draw(report).savefig(stream, format="png", dpi=100)
    return stream.getvalue()


def draw(report: dict[str, Any]) -> Any:
    """The figure: validation accuracy against KB (1000 bytes)."""
    figure_module = require("matplotlib.figure", extra="train", why="the picture of the frontier")
    figure = figure_module.Figure(figsize=(11, 6.5), layout="constrained")
    axis = figure.subplots()
    rows = [row for row in report["frontier"] if row["accuracy"] is not None]
    steps = [row for row in rows if row["on_frontier"]]
    chosen = next(row for row in rows if row["chosen"])
    budget = report["budget"] / KB
    axis.set_xscale("log")
    axis.set_xlim(0.9 * rows[0]["bytes"] / KB, 1.15 * budget)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("{x:g}")
    axis.tick_params(axis="x", which="minor", labelsize=7)
    axis.axvline(budget, color=RED, linestyle="--", label=f"budget, {budget:g} KB")
    axis.step(
        [*(row["bytes"] / KB for row in steps), budget],
        [*(row["accuracy"] for row in steps), chosen["accuracy"]],
        where="post",
        color=BLUE,
        label="frontier",
    )
    for codec, marker in MARKERS.items():
        own = [row for row in rows if row["codec"] == codec]
        axis.scatter(
            [row["bytes"] / KB for row in own],
            [row["accuracy"] for row in own],
            marker=marker,
            s=28,
            color=[BLUE if row["on_frontier"] else GREY for row in own],
            zorder=3,
        )
        if own:
            axis.scatter([], [], marker=marker, color=GREY, label=codec)
    axis.scatter(
        [chosen["bytes"] / KB],
        [chosen["accuracy"]],
        marker="*",
        s=260,
        color=RED,
        zorder=4,
        label=f"chosen: {chosen['kinds']}, {chosen['codec']}, {chosen['bytes'] / KB:.1f} KB, {chosen['accuracy']:.1%}",
    )
    axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axis.set_xlabel("patch file, KB (1000 bytes)")
    axis.set_ylabel("validation accuracy")
    axis.set_title(f"{plain(report['task'])}: the best patch of at most {budget:g} KB")
    axis.grid(alpha=0.3)
    axis.margins(y=0.12)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8)
    _name(figure, axis, sorted(rows, key=lambda row: not row["on_frontier"]))
    return figure


def _name(figure: Any, axis: Any, rows: list[dict[str, Any]]) -> None:
    """Write each row's kinds beside its point, where no other name stands; the first rows choose first."""
    canvas = require("matplotlib.backends.backend_agg", extra="train", why="the picture of the frontier")
    renderer = canvas.FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    taken: list[Any] = []
    for row in rows:
        for across, up in PLACES:
            label = axis.annotate(
                row["kinds"],
                (row["bytes"] / KB, row["accuracy"]),
                xytext=(across, up),
                textcoords="offset points",
                ha="left" if across > 0 else "right",
                fontsize=7,
                color="black" if row["on_frontier"] else GREY,
            )
            box = label.get_window_extent(renderer)
            if not any(box.overlaps(other) for other in taken):
                break
            if (across, up) != PLACES[-1]:
                label.remove()
        taken.append(box)
