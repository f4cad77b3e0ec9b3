"""The picture of a benchmark: four charts of its document."""

from __future__ import annotations

import io
from typing import Any

from edgepatch.errors import require

COLOURS = {"dedicated": "#777777", "bake": "#2a78b8", "bind": "#d9822b"}
PRECISIONS = {"fp32": "#2a78b8", "fp16": "#d9822b", "dynamic": "#3a9c5b", "int8": "#a14fa8"}
MIB = 2**20


def figure_module() -> Any:
    """What draws.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    return require("matplotlib.figure", extra="train", why="the picture of a benchmark")


def picture(result: dict[str, Any]) -> bytes:
    """A PNG: latency against dedicated models, switching, memory and bytes on disk."""
    height = max(4.0, 0.17 * len(result["rows"]) + 1.5)
    figure = figure_module().Figure(figsize=(15, height + 4.5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(height, 4.5))
    latency, switch = above.subplots(1, 2)
    memory, disk = below.subplots(1, 2)
    _bars(latency, result["rows"], "ratio", "latency, dedicated = 1", "{:.2f}")
    latency.axvline(1, color="black", linewidth=0.8)
    _bars(switch, result["switch"], "first_result_ms", "to the first answer of another task, ms", "{:.1f}")
    switch.set_xscale("log")
    switch.xaxis.set_major_formatter("{x:g}")
    switch.xaxis.set_minor_formatter("")
    _memory(memory, result["memory"]["rows"])
    _disk(disk, result["bytes"]["rows"])
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()


def _bars(axis: Any, rows: list[dict[str, Any]], key: str, title: str, form: str) -> None:
    shown = sorted((row for row in rows if row[key] is not None), key=_place)
    names = [f"{row['engine']} {row['precision'] or '?'} {row['mode']}, threads {row['threads']}" for row in shown]
    values = [row[key] for row in shown]
    places = range(len(shown))
    bars = axis.barh(places, values, color=[COLOURS[row["mode"]] for row in shown])
    axis.bar_label(bars, [form.format(value) for value in values], padding=2, fontsize=7)
    axis.set_yticks(places, names, fontsize=7)
    axis.invert_yaxis()
    axis.margins(x=0.12, y=0.01)
    axis.set_title(title)


def _place(row: dict[str, Any]) -> tuple[str, int, int, int]:
    order = list(PRECISIONS)
    precision = order.index(row["precision"]) if row["precision"] in order else len(order)
    return row["engine"], row["threads"], precision, list(COLOURS).index(row["mode"])


def _memory(axis: Any, rows: list[dict[str, Any]]) -> None:
    """A line a mode, a style an engine; of each engine the precision it was measured in first."""
    styles = dict(zip(dict.fromkeys(row["engine"] for row in rows), ("-", "--", ":"), strict=False))
    for engine, style in styles.items():
        own = [row for row in rows if row["engine"] == engine and row["mode"] != "dedicated"] or rows
        chosen = own[0]["precision"]
        for mode, colour in COLOURS.items():
            line: dict[int, float] = {}
            for row in rows:
                if (row["engine"], row["mode"], row["precision"]) == (engine, mode, chosen) and row["mib"] is not None:
                    line.setdefault(row["tasks"], row["mib"])
            if line:
                axis.plot(
                    line.keys(), line.values(), style, color=colour, marker="o", label=f"{engine} {chosen} {mode}"
                )
    _scale(axis, "resident memory, MiB" if rows else "resident memory: not measured", {row["tasks"] for row in rows})


def _disk(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Shared drawn through, dedicated broken; of the first format, for the others are as large."""
    own = [row for row in rows if row["format"] == rows[0]["format"]]
    for precision, colour in PRECISIONS.items():
        for key, style in (("shared", "-"), ("dedicated", "--")):
            line: dict[int, float] = {}
            for row in own:
                if row["precision"] == precision and row[key] is not None:
                    line.setdefault(row["tasks"], row[key] / MIB)
            if line:
                label = f"{row['format']} {precision} {key}"
                axis.plot(line.keys(), line.values(), style, color=colour, marker="o", label=label)
    _scale(axis, "bytes on disk, MiB", {row["tasks"] for row in own})


def _scale(axis: Any, title: str, tasks: set[int]) -> None:
    axis.set_title(title)
    if not tasks:
        axis.set_axis_off()
    else:
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks(sorted(tasks), [str(count) for count in sorted(tasks)])
        axis.minorticks_off()
        axis.set_xlabel("tasks")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
