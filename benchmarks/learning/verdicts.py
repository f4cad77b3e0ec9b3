"""The papers' claims against the study's figures: the last table of docs/learning.md.

Rows are compared where both were run, set by set and seed by seed. The standard error is that of the mean of the sets'
differences. A difference that is claimed counts as confirmed when it is above two of them; a likeness, when the mean is
within `NEAR` points.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from learning import report
from learning.report import HEAD
from learning.study import FULL, SETS

NEAR = 0.5  # points
K_FOR_ONE = "K for the Price of 1"
CLAIMS = (
    # claim, paper, the row, what it is held against, whether it is claimed to be better or as good
    ("`scale_bias` beats a head alone by far", K_FOR_ONE, "scale_bias", HEAD, "better"),
    ("so do depthwise kernels", K_FOR_ONE, "depthwise", HEAD, "better"),
    ("both together come near full fine-tuning, or above", K_FOR_ONE, "scale_bias+depthwise", FULL, "as good"),
    (
        "bottom layers beat top layers of equal size",
        "Rethinking Hard-Parameter Sharing",
        "bottom:13",
        "top:1",
        "better",
    ),
    ("1-bit masks come near full fine-tuning", "Piggyback", "mask", FULL, "as good"),
    ("with scales and biases, too", "", "mask+scale_bias", FULL, "as good"),
    ("blocks can be skipped without loss", "AdaShare", "scale_bias+policy", "scale_bias", "as good"),
)


def rows() -> list[list[str]]:
    found = report.accuracies()
    table = [
        ["claim", "paper", "held against each other", "difference in points", "sets won, of those that differ", ""]
    ]
    for claim, paper, kinds, other, kind in CLAIMS:
        pair = differences(found[kinds], found[other])
        table.append([claim, paper, f"{report.named(kinds)}, {report.named(other)}", *judged(pair, kind)])
    if joint := report.lines("joint"):
        together: dict[str, list[float]] = {name: [] for name in SETS}
        for row in (row for line in joint for run in line["runs"] for row in run["tasks"]):
            together[row["task"]].append(100 * row["test"])
        cells = judged(differences(together, {name: found["scale_bias"][name] for name in SETS}), "as good")
        table.append(["tasks trained together match single ones", K_FOR_ONE, "joint, `scale_bias` alone", *cells])
    if sizes := report.lines("sizes"):
        cells = judged(resolutions(sizes), "better")
        table.append(["a patch a resolution beats one for all", K_FOR_ONE, "own size, the best one for all", *cells])
    return table


def differences(ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> list[float]:
    """Of each set the mean over the seeds that both have."""
    pairs = {name: list(zip(ours[name], theirs[name], strict=False)) for name in SETS}
    return [statistics.mean(one - other for one, other in each) for each in pairs.values() if each]


def resolutions(lines: Sequence[Mapping[str, object]]) -> list[float]:
    """Of each set: the mean over sizes of patches trained for them, less that of the best single patch used at all.

    The best one is chosen on the test images themselves, in its favour.
    """
    found: dict[object, dict[str, Mapping[str, float]]] = {}
    for line in lines:
        run, test = line["run"], line["test"]
        assert isinstance(run, dict) and isinstance(test, dict)
        found.setdefault(run["set"], {})[str(run["size"])] = test
    gains = []
    for own in found.values():
        each = statistics.mean(own[size][size] for size in own)
        best = max(statistics.mean(test[size] for size in own) for test in own.values())
        gains.append(100 * (each - best))
    return gains


def judged(pair: Sequence[float], kind: str) -> list[str]:
    """The mean difference with its standard error, how many sets it is above 0 in, and the verdict."""
    if not pair:
        return ["", "", "not run"]
    mean = statistics.mean(pair)
    error = statistics.stdev(pair) / len(pair) ** 0.5 if len(pair) > 1 else float("nan")
    won = f"{sum(value > 0 for value in pair)} of {sum(value != 0 for value in pair)}"
    holds = mean > 2 * error if kind == "better" else mean >= -NEAR
    return [f"{mean:+.1f} ± {error:.1f}", won, "**confirmed**" if holds else "**not confirmed**"]
