"""How far one machine's answers are from another's."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

from .errands import FailedError

Answer = dict[str, Any]

# By precision: between logits, as a share of their spread; the same engine computes in another order, and where it
# quantises activations with other kernels. A label may be another one where the first two were nearer than that.
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-3, "dynamic": 0.1, "int8": 0.2}
QUANTISED = ("dynamic", "int8")  # whose boxes one step may decide: they are counted, and nothing else is asked of them
PRECISIONS = ("fp16", "dynamic", "int8")  # that a graph's name says; it is fp32 else


@dataclasses.dataclass
class Row:
    """What came of one graph, engine and mode.

    Attributes:
        answers: how many were compared.
        alike: of these, inputs that were the same to the bit.
        labels: of classifiers' answers, those with the same label, and all.
        furthest: the largest difference of a logit, as a share of the root mean square of all the task's logits.
        logit, score: the largest differences.
        masks: how many of the answers are.
        pixels: of masks, the largest share that differs.
        boxes: detectors' answers with the same boxes, and all.
        edge: the largest difference between edges of the same box, in pixels.
        wrong: what is beyond tolerance.
    """

    answers: int = 0
    alike: int = 0
    labels: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    furthest: float = 0.0
    logit: float = 0.0
    score: float = 0.0
    masks: int = 0
    pixels: float = 0.0
    boxes: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    edge: float = 0.0
    wrong: list[str] = dataclasses.field(default_factory=list)


def compare(mine: list[Answer], reference: list[Answer]) -> dict[tuple[str, str, str], Row]:
    """What `answers.py` prints on two machines of the same questions, by graph, engine and mode."""
    found: dict[tuple[str, str, str], Row] = {}
    spreads = _spreads(reference)
    for got, expected in itertools.zip_longest(mine, reference, fillvalue={}):
        if any(got.get(name) != expected.get(name) for name in ("graph", "engine", "mode", "task", "picture")):
            raise FailedError("two machines were asked different things")
        row = found.setdefault((got["graph"], got["engine"], got["mode"]), Row())
        row.answers += 1
        row.alike += got["input"] == expected["input"]
        precision = next((name for name in PRECISIONS if name in got["graph"]), "fp32")
        problem = _differences(got, expected, TOLERANCE[precision], row, spreads)
        if problem and not ("boxes" in got and precision in QUANTISED):
            row.wrong.append(f"{got['graph']}, {got['mode']}, {got['task']}, {got['picture']}: {problem}")
    return found


def _spreads(answers: list[Answer]) -> dict[tuple[str, ...], float]:
    """The root mean square of each task's logits: of one answer's alone it may be as small as a rounding."""
    values: dict[tuple[str, ...], list[float]] = {}
    for answer in answers:
        values.setdefault(_asked(answer), []).extend(answer.get("logits", []))
    return {asked: (sum(value**2 for value in found) / max(1, len(found))) ** 0.5 for asked, found in values.items()}


def _asked(answer: Answer) -> tuple[str, ...]:
    return tuple(answer[name] for name in ("graph", "engine", "mode", "task"))


def _differences(got: Answer, expected: Answer, near: float, row: Row, spreads: dict[tuple[str, ...], float]) -> str:
    """Count an answer in; what is wrong with it, or nothing."""
    if "logits" in got:
        return _logits(got, expected, near, row, spreads[_asked(expected)])
    return _boxes(got, expected, near, row) if "boxes" in got else _mask(got, expected, near, row)


def _logits(got: Answer, expected: Answer, near: float, row: Row, spread: float) -> str:
    values = expected["logits"]
    furthest = _furthest(got["logits"], values)
    row.labels[0] += got["label"] == expected["label"]
    row.labels[1] += 1
    row.logit, row.furthest = max(row.logit, furthest), max(row.furthest, furthest / spread)
    row.score = max(row.score, abs(got["score"] - expected["score"]))
    ahead = max(values) - sorted(values)[-2] if len(values) > 1 else 0
    if furthest > near * spread:
        return f"a logit is off by {furthest:.3g}, of {spread:.3g}"
    if got["label"] != expected["label"] and ahead > 2 * near * spread:
        return f"{got['label']}, not {expected['label']}"
    return ""


def _boxes(got: Answer, expected: Answer, near: float, row: Row) -> str:
    row.boxes[1] += 1
    if got["classes"] != expected["classes"]:
        return f"boxes of {got['classes']}, not of {expected['classes']}"
    row.boxes[0] += 1
    score = _furthest(got["scores"], expected["scores"])
    edge = _furthest(itertools.chain(*got["boxes"]), itertools.chain(*expected["boxes"]))
    row.score, row.edge = max(row.score, score), max(row.edge, edge)
    return f"a score is off by {score:.3g}, an edge by {edge:.3g} pixels" if max(score, edge / 100) > near else ""


def _mask(got: Answer, expected: Answer, near: float, row: Row) -> str:
    mine, theirs = (list(itertools.chain(*each["mask"])) for each in (got, expected))
    share = sum(one != other for one, other in zip(mine, theirs, strict=True)) / len(mine)
    row.masks += 1
    row.pixels = max(row.pixels, share)
    return f"{share:.2%} of its pixels are of another class" if share > near else ""


def _furthest(mine: Iterable[float], theirs: Iterable[float]) -> float:
    return max((abs(one - other) for one, other in zip(mine, theirs, strict=True)), default=0.0)


def commands(name: str, mine: list[Answer], reference: list[Answer]) -> list[str]:
    """What differs between classifiers' answers that `edgepatch run --json` printed on two machines."""
    wrong = []
    for got, expected in zip(mine, reference, strict=True):
        if got["label"] != expected["label"] or abs(got["score"] - expected["score"]) > TOLERANCE["fp32"]:
            wrong.append(
                f"{name}: edgepatch run says {got['label']} {got['score']}, not {expected['label']} {expected['score']}"
            )
    return wrong
