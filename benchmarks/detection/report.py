"""The tables of docs/detection.md that come from the results of study.py."""

from __future__ import annotations

import math
import statistics
from typing import Any

from detection.study import BODIES, CLASSES, COCO, FULL, GRID, SETS

HEAD = "head alone"
NAMES = {"": "head on the frozen trunk", FULL: f"full fine-tuning (`{FULL}`)"}
FIGURES = {"bccd3": ("map50", "map"), "raccoon": ("map50", "map"), "coffee3": ("miou",)}
CODEC = "int8"


def _runs(**wanted: Any) -> list[dict[str, Any]]:
    """Finished runs of the grid as it is now."""
    found = [line for line in GRID.finished() if line["run"] in GRID.wanted]
    return [line for line in found if all(line["run"].get(key) == value for key, value in wanted.items())]


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    text = f"{statistics.mean(values):.1f}"
    return text if len(values) == 1 else f"{text} ({min(values):.1f}-{max(values):.1f})"


def progress() -> str:
    return f"{len(GRID.wanted) - GRID.left()} of {len(GRID.wanted)} runs are done."


def map_rows() -> list[list[str]]:
    """Figures on the test images in percent: mean over seeds, lowest and highest; and the file's size."""
    heads = ["", *(f"{name} {figure}" for name in SETS for figure in FIGURES[name])]
    rows = [[*heads, "seeds", "KB, bccd3 / raccoon / coffee3", "fp16"]]
    for body in BODIES:
        cells, counts, sizes, exact = [NAMES.get(body, f"`{body}`")], [], [], []
        for name, (_, head, *_rest) in SETS.items():
            own = _runs(kinds=f"{body}+{head}".lstrip("+"), set=name)
            counts.append(len(own))
            for figure in FIGURES[name]:
                cells.append(_spread([100 * line["codecs"][CODEC]["test"][figure] for line in own]))
            sizes.append(f"{own[0]['codecs'][CODEC]['bytes'] / 1000:.0f}" if own else "")
            exact.append(f"{own[0]['codecs']['fp16']['bytes'] / 1000:.0f}" if own else "")
        seeds = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}-{max(counts)}"
        rows.append([*cells, seeds, " / ".join(sizes), " / ".join(exact)])
    return rows


def class_rows() -> list[list[str]]:
    """How much of each box class is found, at an overlap of a half: the mean over seeds."""
    rows = [["", "platelets", "red cells", "white cells"]]
    for body in BODIES:
        own = _runs(kinds=f"{body}+detector".lstrip("+"), set="bccd3")
        if own:
            found = [line["codecs"][CODEC]["test"]["ap50"] for line in own]
            cells = [f"{100 * statistics.mean(each):.1f}" for each in zip(*found, strict=True)]
            rows.append([NAMES.get(body, f"`{body}`"), *cells])
    return rows


def turned_rows() -> list[list[str]]:
    """Classifiers on the trunk of COCO's detector: test accuracies in percent, and how much of the trunk stays."""
    bodies = [HEAD, *BODIES[1:]]
    rows = [["", *CLASSES, "seeds", "KB", "of the trunk's parameters reused", "trained values"]]
    for body in bodies:
        cells, counts, first = [NAMES.get(body, body if body == HEAD else f"`{body}`")], [], None
        for name in CLASSES:
            own = _runs(kinds=BODIES[1] if body == HEAD else body, set=name, backbone=COCO)
            counts.append(len(own))
            first = first or (own[0] if own else None)
            cells.append(_spread([100 * line["head_test" if body == HEAD else "test"] for line in own]))
        if first is None:
            continue
        kept = f"{100 if body == HEAD else 100 * _reused(body):.1f} %"
        own_part = body != HEAD
        rows.append(
            [
                *cells,
                str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}-{max(counts)}",
                f"{first['bytes'] / 1000:.0f}" if own_part else "",
                kept,
                f"{first['trained_values']:,}" if own_part else "",
            ]
        )
    return rows


def _reused(body: str) -> float:
    """Share of the trunk's parameters (kernels, a scale and a bias a channel) that a patch of a kind leaves alone."""
    from edgepatch import patches
    from edgepatch.backbones import backbone

    plan = backbone.make_plan("mobilenet_v2", 1.0, "same", 1e-3)
    effects = patches.combine(patches.parse(body)[0], plan)
    kernels = {site.index: math.prod(site.kernel) for site in plan.sites}
    changed = sum(kernels[number] for number in effects.kernel)
    changed += sum(plan.sites[number].channels for numbers in (effects.scale, effects.bias) for number in numbers)
    return 1 - changed / (sum(kernels.values()) + 2 * sum(plan.channels))
