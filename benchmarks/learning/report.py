"""The tables and pictures of docs/learning.md, from the results of study.py and claims.py."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

import kinds as kinds_study
from learning import study
from learning.study import FULL, KINDS, SETS

RESULTS = Path(__file__).parent / "results"
PICTURES = Path(__file__).resolve().parents[2] / "docs" / "learning"
SMALL = 256_000  # bytes: the aim's "under 256 KB"
HEAD = "classifier"
# of the picture's labels, where the usual place, on the right of the point, is another one's
ALIGNED = dict.fromkeys((HEAD, FULL, "scale_bias", "scale_bias@depthwise", "scale_bias@expand"), "right")
ALIGNED |= dict.fromkeys(("bottom:6", "depthwise", "bottom:13"), "center")


def lines(name: str) -> list[dict[str, Any]]:
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def runs() -> list[dict[str, Any]]:
    """Finished runs of the grid as it is now; the head alone, which each of them begins with, as a kind of its own."""
    wanted = study.wanted()
    found = [line for line in lines("study") if line["run"] in wanted]
    alone: dict[tuple[str, int], dict[str, Any]] = {}
    for line in found:
        run = {**line["run"], "kinds": HEAD}
        alone[run["set"], run["seed"]] = {**line, "run": run, "test": line["head_test"], "val": line["head"]}
    return [*alone.values(), *found]


def accuracies() -> dict[str, dict[str, list[float]]]:
    """Test accuracies in percent by kind and set, one a seed."""
    found: dict[str, dict[str, list[float]]] = {kinds: {name: [] for name in SETS} for kinds in (HEAD, *KINDS)}
    for line in sorted(runs(), key=lambda line: line["run"]["seed"]):
        found[line["run"]["kinds"]][line["run"]["set"]].append(100 * line["test"])
    return found


def named(kinds: str) -> str:
    return {HEAD: "head alone", FULL: f"full fine-tuning (`{FULL}`)"}.get(kinds, f"`{kinds}`")


def progress() -> str:
    """How much of the grid is done."""
    done = sum(line["run"]["kinds"] != HEAD for line in runs())
    return f"{done} of {len(study.wanted())} runs are done."


def study_rows() -> list[list[str]]:
    """Test accuracy a kind and set: mean over seeds, with the spread from the lowest to the highest."""
    found = accuracies()
    rows = [["kind", "KB", "seeds", *SETS, "mean", "of the gap between head and fine-tuning", "fell back to its head"]]
    whole = {
        kinds: means for kinds in found if all(found[kinds][name] for name in SETS) and (means := _means(found[kinds]))
    }
    for kinds, each in found.items():
        counts = [len(each[name]) for name in SETS]
        if not any(counts):
            continue
        own = [line for line in runs() if line["run"]["kinds"] == kinds]
        cells = [
            named(kinds),
            f"{size_of(kinds) / 1000:.1f}",
            f"{min(counts)}-{max(counts)}" if len(set(counts)) > 1 else str(counts[0]),
        ]
        cells += [_spread(each[name]) for name in SETS]
        cells.append(f"{statistics.mean(whole[kinds]):.1f}" if kinds in whole else "")
        if kinds in whole and FULL in whole and kinds not in (HEAD, FULL):
            low, high = statistics.mean(whole[HEAD]), statistics.mean(whole[FULL])
            cells.append(f"{100 * (statistics.mean(whole[kinds]) - low) / (high - low):.0f} %")
        else:
            cells.append("")
        cells.append("" if kinds == HEAD else f"{sum(line['fell_back_to_head'] for line in own)} of {len(own)}")
        rows.append(cells)
    return rows


def _means(each: dict[str, list[float]]) -> list[float]:
    return [statistics.mean(each[name]) for name in SETS]


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    text = f"{statistics.mean(values):.1f}"
    return text if len(values) == 1 else f"{text} ({min(values):.1f}-{max(values):.1f})"


def size_of(kinds: str) -> int:
    """Bytes of a ten-class patch."""
    own = [line for line in runs() if line["run"]["kinds"] == kinds and line["run"]["set"] == "clothing10"]
    if kinds == HEAD:
        return head_bytes()
    return int(own[0]["bytes"]) if own else 0


def head_bytes() -> int:
    costs = RESULTS / "costs.json"
    return int(json.loads(costs.read_text())[HEAD]["bytes"]) if costs.exists() else 0


def cost_rows() -> list[list[str]]:
    """What a kind costs: values, seconds and memory of training, latency bound and baked."""
    costs = json.loads((RESULTS / "costs.json").read_text())
    skipped = {kinds: costs[kinds].get("skipped", []) for kinds in costs}
    ratios = kinds_study.latencies(skipped, study.SIZE)
    rows = [["kind", "KB", "trained values", "seconds", "memory of training, MB"]]
    rows[0] += [f"{engine}, {form}" for engine in ("LiteRT", "ONNX Runtime") for form in ("bound", "baked")]
    for kinds, cost in costs.items():
        own = [line["seconds"] for line in runs() if line["run"]["kinds"] == kinds and kinds != HEAD]
        cells = [named(kinds), f"{cost['bytes'] / 1000:.1f}", f"{cost['trained_values']:,}"]
        cells += [f"{statistics.median(own):.0f}" if own else "", f"{cost['memory'] / 1e6:.0f}"]
        cells += [ratios.get((kinds, engine, form), "-") for engine in kinds_study.ENGINES for form in ("bind", "bake")]
        rows.append(cells)
    return rows


def picture() -> None:
    """docs/learning/learning.png: mean test accuracy against KB."""
    from matplotlib.figure import Figure

    found = accuracies()
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axis = figure.subplots()
    drawn = [kinds for kinds, each in found.items() if all(each[name] for name in SETS)]
    for kinds in drawn:
        mean, size = statistics.mean(_means(found[kinds])), size_of(kinds) / 1000
        colour = "tab:red" if kinds == FULL else "black" if kinds == HEAD else "tab:blue"
        once = any(len(found[kinds][name]) == 1 for name in SETS)
        axis.scatter(size, mean, edgecolor=colour, facecolor="white" if once else colour)
        axis.annotate(
            {HEAD: "head alone", FULL: "full fine-tuning"}.get(kinds, kinds),
            (size, mean),
            xytext={"left": (7, -3), "right": (-7, -3), "center": (0, 7)}[align := ALIGNED.get(kinds, "left")],
            textcoords="offset points",
            fontsize=8,
            ha=align,
        )
    axis.margins(0.12)
    axis.axvline(SMALL / 1000, color="grey", linestyle=":")
    axis.set_xscale("log")
    axis.set_xlabel("size of a ten-class patch in KB (log)")
    axis.set_ylabel("test accuracy in %, mean of five sets")
    axis.set_title("what a patch's size buys (hollow: one seed)")
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(PICTURES / "learning.png", dpi=100)


def aims() -> str:
    """The aims of the study, in figures; the picture is drawn with them."""
    picture()
    heads = below_head()
    rows = aim_rows()
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    trained = sum(line["run"]["kinds"] != HEAD for line in runs())
    below = f"Runs that end more than half a point below their head on the test images: {len(heads)} of {trained}"
    below += "".join(f"\n- {each}" for each in heads) if heads else "."
    return "\n\n".join(["\n".join(lines), one_for_all(), below])


def small_kinds() -> list[str]:
    """Kinds under 256 KB that were run with two seeds or more on all sets: of one seed, luck would choose."""
    found = accuracies()
    return [kinds for kinds in KINDS if size_of(kinds) < SMALL and all(len(found[kinds][name]) > 1 for name in SETS)]


def one_for_all() -> str:
    """The small kind that is best on all validation images together, against full fine-tuning."""
    found = accuracies()
    best = max(small_kinds(), key=lambda kinds: sum(_validation(kinds, name) for name in SETS))
    off = [one - other for one, other in zip(_means(found[best]), _means(found[FULL]), strict=True)]
    near = sum(difference >= -0.5 for difference in off)
    return (
        f"One kind for all sets, chosen by the mean of its validation accuracies: {named(best)}, within half a point "
        f"of full fine-tuning or above it on {near} of {len(SETS)} sets, on average {statistics.mean(off):+.1f} points."
    )


def aim_rows() -> list[list[str]]:
    """For each set the best small patch, chosen on validation images, against full fine-tuning."""
    found = accuracies()
    small = small_kinds()
    rows = [
        [
            "set",
            "head alone",
            "`scale_bias`",
            "best patch under 256 KB, chosen on validation",
            "its test",
            "full fine-tuning",
            "difference",
        ]
    ]
    for name in SETS:
        scores = {kinds: _validation(kinds, name) for kinds in small}
        best = max(scores, key=lambda kinds: scores[kinds])
        full, test = statistics.mean(found[FULL][name]), statistics.mean(found[best][name])
        rows.append(
            [
                name,
                _spread(found[HEAD][name]),
                _spread(found["scale_bias"][name]),
                named(best),
                _spread(found[best][name]),
                _spread(found[FULL][name]),
                f"{test - full:+.1f}",
            ]
        )
    return rows


def _validation(kinds: str, name: str) -> float:
    return statistics.mean(
        line["val"] for line in runs() if line["run"]["kinds"] == kinds and line["run"]["set"] == name
    )


def below_head() -> list[str]:
    """Runs whose test accuracy is below their head's by more than half a point."""
    return [
        f"{line['run']['kinds']} on {line['run']['set']}, seed {line['run']['seed']}: "
        f"{100 * line['head_test']:.1f} -> {100 * line['test']:.1f}"
        for line in runs()
        if line["run"]["kinds"] != HEAD and line["test"] < line["head_test"] - 0.005
    ]


def joint_rows() -> list[list[str]]:
    """Test accuracy of tasks trained together and one by one."""
    found = accuracies()
    rows = [["set", "head alone", "`scale_bias`, alone", "full fine-tuning, alone", "joint kernels, `scale_bias` each"]]
    joint = lines("joint")
    for name in SETS:
        tests = [
            100 * row["test"] for line in joint for run in line["runs"] for row in run["tasks"] if row["task"] == name
        ]
        rows.append([name, *(_spread(found[kinds][name]) for kinds in (HEAD, "scale_bias", FULL)), _spread(tests)])
    return rows


def affinity_rows() -> list[list[str]]:
    """Inter-task affinity in percent: of the row's task for the column's."""
    (line, *_) = lines("joint")
    found = line["affinity"]
    rows = [["after a step for", *(f"loss of {name}" for name in found["tasks"])]]
    for name, row in zip(found["tasks"], found["affinity"], strict=True):
        rows.append([name, *(f"{100 * value:+.2f}" for value in row)])
    return rows


def front_rows() -> list[list[str]]:
    """Two tasks under several preferences: validation, which the front is drawn with, and test."""
    rows = [["preferences", "clothing10, validation", "trash6, validation", "clothing10, test", "trash6, test"]]
    for line in lines("front"):
        for run in line["runs"]:
            cells = [", ".join(f"{weight:g}" for weight in run["preferences"])]
            cells += [f"{100 * row['accuracy']:.1f}" for row in run["tasks"]]
            cells += [f"{100 * row['test']:.1f}" for row in run["tasks"]]
            rows.append(cells)
    return rows


def size_rows() -> list[list[str]]:
    """One patch a resolution against one for all, each trained at one size and used at all."""
    found = lines("sizes")
    if not found:
        return [["set"]]
    sizes = sorted({line["run"]["size"] for line in found})
    rows = [["set", "patch trained at", *(f"used at {size}" for size in sizes), "mean"]]
    for name in dict.fromkeys(line["run"]["set"] for line in found):
        own = {line["run"]["size"]: line for line in found if line["run"]["set"] == name}
        for size, line in own.items():
            values = [100 * line["test"][str(other)] for other in sizes]
            rows.append([name, f"{size} px", *(f"{value:.1f}" for value in values), f"{np.mean(values):.1f}"])
        if len(own) == len(sizes):
            each = [100 * own[size]["test"][str(size)] for size in sizes]
            rows.append([name, "**its own size each**", *(f"{value:.1f}" for value in each), f"{np.mean(each):.1f}"])
    return rows
