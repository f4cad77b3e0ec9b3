"""What a few pictures teach: classes enrolled in closed form against a head trained by gradient on the same shots.

    python benchmarks/learning/shots.py run     # resumable: finished runs stay in results/shots.jsonl beside it
    python benchmarks/learning/shots.py table   # Markdown tables, and docs/learning/shots.png

MobileNetV2 1.0 at 128 px, test images. `fresh`: a whole head from k pictures of every class, beginning from no class,
by a patch of another set. `added`: one class is left out, the ordinary head trained on the others, and the class
enrolled from k pictures without one of theirs; the rival there is trained anew on all their training images and the k.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from edgepatch import metrics
from edgepatch.backbones import network, weights
from edgepatch.blob import Patch
from edgepatch.data import folder, pictures
from edgepatch.imaging import Preprocessing
from edgepatch.progress import Quiet
from edgepatch.runtime.enrolling import learn
from edgepatch.training import head, statistics

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results" / "shots.jsonl"
PICTURE = ROOT / "docs" / "learning" / "shots.png"
DATA = ROOT.parent / "shared" / "data" / "classify"
WORK = Path(os.environ.get("EDGEPATCH_WORK", ROOT / "build")) / "shots"
SETS = ("clothing10", "coffeeleaf5", "signdigits10", "steel6", "trash6")
SHOTS = (1, 2, 5, 10, 20)
DRAWS = 5
RIVAL_DRAWS = 3  # of the heads by gradient, which take seconds each
LEFT_OUT = 3  # classes of each set
TRAINED = 125  # images of each class that the ordinary head is trained on; 25 more choose its weight decay
SIZE = 128


@functools.cache
def features(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of a set's split, computed once."""
    path = WORK / f"{name}-{split}.npz"
    if not path.exists():
        backbone = weights.create("mobilenet_v2", alpha=1.0, size=SIZE, source="imagenet-torchvision")
        images = pictures.load(folder.scan(DATA / name / split), backbone.input, Quiet())
        found = head.predict(network.deployment_form(backbone), images.pixels, backbone.input)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, f=found, y=images.labels)
    with np.load(path) as file:
        return file["f"], file["y"]


def patch_of(fitted: head.LinearHead, seen: np.ndarray) -> Patch:
    """A patch of a head alone, with the statistics that training gives it."""
    classes = fitted.kernel.shape[1]
    few = seen[:: max(1, len(seen) // 128)]
    return Patch(
        "task",
        "0" * 64,
        {"classifier": ("head_kernel", "head_bias")},
        tuple(map(str, range(classes))),
        Preprocessing(SIZE, "stretch", (1, 1, 1), (0, 0, 0)),
        {"head_kernel": fitted.kernel.astype(np.float16), "head_bias": fitted.bias.astype(np.float16)},
        decode={"head": "classifier", "activation": "softmax"},
        statistics=statistics.measure(few, fitted.kernel, fitted.bias),
    )


def ordinary(seen: np.ndarray, labels: np.ndarray, val: np.ndarray, val_labels: np.ndarray) -> head.LinearHead:
    """The head that `edgepatch train` fits."""
    return head.fit(seen, labels, val, val_labels, metrics.class_weights(np.bincount(labels)), 0)


def recalls(kernel: np.ndarray, bias: np.ndarray, name: str, order: list[int]) -> list[float]:
    """Of each class on the test images; the head has them in this order."""
    seen, labels = features(name, "test")
    said = np.array(order)[(seen @ kernel.astype(np.float32) + bias.astype(np.float32)).argmax(axis=1)]
    return [float((said[labels == label] == label).mean()) for label in order]


def halves(name: str, without: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Indices to train on and to choose on, of all classes but one."""
    labels, rng = features(name, "train")[1], np.random.default_rng(0)
    chosen = [rng.permutation(np.flatnonzero(labels == label)) for label in range(labels.max() + 1)]
    kept = [own for label, own in enumerate(chosen) if label != without]
    return (
        np.concatenate([own[25 : 25 + TRAINED] for own in kept]),
        np.concatenate([own[:25] for own in kept]),
    )


def drawn(name: str, label: int, shots: int, draw: int) -> np.ndarray:
    """Features of some training images of a class."""
    seen, labels = features(name, "train")
    own = np.flatnonzero(labels == label)
    return seen[np.random.default_rng([label, draw]).permutation(own)[:shots]]


def runs() -> Iterator[dict[str, Any]]:
    """All that is to be measured."""
    for name in SETS:
        classes = int(features(name, "train")[1].max()) + 1
        for draw in range(DRAWS):
            for shots in SHOTS:
                yield {"kind": "fresh", "set": name, "shots": shots, "draw": draw}
        for out in np.linspace(0, classes - 1, LEFT_OUT).astype(int).tolist():
            for draw in range(DRAWS):
                for shots in SHOTS:
                    yield {"kind": "added", "set": name, "out": out, "shots": shots, "draw": draw}


def fresh(wanted: dict[str, Any], shipped: dict[Any, Patch]) -> dict[str, Any]:
    """A whole head from some shots of every class."""
    name, other = wanted["set"], SETS[(SETS.index(wanted["set"]) + 1) % len(SETS)]
    if (other, None) not in shipped:
        train, val = halves(other, None)
        seen, labels = features(other, "train")
        shipped[other, None] = patch_of(ordinary(seen[train], labels[train], seen[val], labels[val]), seen[train])
    patch, order = shipped[other, None], list(range(int(features(name, "train")[1].max()) + 1))
    drawings = [drawn(name, label, wanted["shots"], wanted["draw"]) for label in order]
    for label, own in enumerate(drawings):
        patch = learn(patch, str(label), own, fresh=label == 0)
    line = {"accuracy": float(np.mean(recalls(*_head(patch), name, order)))}
    if wanted["draw"] < RIVAL_DRAWS:
        seen, labels = np.concatenate(drawings), np.repeat(order, wanted["shots"])
        rival = ordinary(seen, labels, seen, labels)
        line["gradient"] = float(np.mean(recalls(rival.kernel, rival.bias, name, order)))
    return line


def added(wanted: dict[str, Any], shipped: dict[Any, Patch]) -> dict[str, Any]:
    """One class beside trained ones."""
    name, out = wanted["set"], wanted["out"]
    seen, labels = features(name, "train")
    train, val = halves(name, out)
    order = [label for label in range(int(labels.max()) + 1) if label != out]
    place = np.array([order.index(label) if label != out else len(order) for label in range(int(labels.max()) + 1)])
    if (name, out) not in shipped:
        own = ordinary(seen[train], place[labels[train]], seen[val], place[labels[val]])
        shipped[name, out] = patch_of(own, seen[train])
    patch, shots = shipped[name, out], drawn(name, out, wanted["shots"], wanted["draw"])
    before = float(np.mean(recalls(*_head(patch), name, order)))
    *old, new = recalls(*_head(learn(patch, "new", shots)), name, [*order, out])
    line = {"before": before, "old": float(np.mean(old)), "new": new}
    if wanted["draw"] == 0:
        rows, names = np.concatenate([seen[train], shots]), [*place[labels[train]], *[len(order)] * len(shots)]
        rival = ordinary(rows, np.array(names), seen[val], place[labels[val]])
        *old, line["gradient_new"] = recalls(rival.kernel, rival.bias, name, [*order, out])
        line["gradient_old"] = float(np.mean(old))
    return line


def finished() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def run() -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    done, shipped = [line["run"] for line in finished()], {}
    for wanted in runs():
        if wanted in done:
            continue
        line = {"run": wanted, **{"fresh": fresh, "added": added}[wanted["kind"]](wanted, shipped)}
        with RESULTS.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def harmonic(old: float, new: float) -> float:
    return 2 * old * new / (old + new) if old + new else 0.0


def cell(lines: list[dict[str, Any]], value: Any) -> str:
    """Mean over runs, and the spread of the draws' means."""
    draws = {line["run"]["draw"] for line in lines}
    means = [np.mean([value(line) for line in lines if line["run"]["draw"] == draw]) for draw in sorted(draws)]
    spread = f" ± {100 * np.std(means):.1f}" if len(means) > 1 else ""
    return f"{100 * np.mean(means):.1f}{spread}"


def table(kind: str, rows: list[tuple[str, str, Any]]) -> str:
    """A Markdown table: a row for each set and value, a column for each number of shots."""
    lines = [line for line in finished() if line["run"]["kind"] == kind]
    out = ["| set | | " + " | ".join(f"{shots} shots" for shots in SHOTS) + " |", "|---" * (2 + len(SHOTS)) + "|"]
    for name in (*SETS, "mean"):
        for title, needed, value in rows:
            cells = []
            for shots in SHOTS:
                own = [line for line in lines if needed in line and line["run"]["shots"] == shots]
                own = [line for line in own if name in ("mean", line["run"]["set"])]
                cells.append(cell(own, value) if own else "")
            out.append(f"| {name} | {title} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def draw() -> None:
    """docs/learning/shots.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    lines = finished()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")

    def curve(axes: Any, kind: str, needed: str, value: Any, title: str, style: str) -> None:
        own = [line for line in lines if line["run"]["kind"] == kind and needed in line]
        if own:
            means = [np.mean([value(line) for line in own if line["run"]["shots"] == shots]) for shots in SHOTS]
            axes.plot(SHOTS, 100 * np.array(means), style, label=title)

    curve(left, "fresh", "accuracy", lambda line: line["accuracy"], "enrolled", "o-")
    curve(left, "fresh", "gradient", lambda line: line["gradient"], "by gradient, same pictures", "s--")
    curve(right, "added", "old", lambda line: line["before"], "old classes before", "k:")
    curve(right, "added", "old", lambda line: line["old"], "old classes", "o-")
    curve(right, "added", "new", lambda line: line["new"], "new class", "o-")
    curve(right, "added", "gradient_old", lambda line: line["gradient_old"], "old, retrained with all", "s--")
    curve(right, "added", "gradient_new", lambda line: line["gradient_new"], "new, retrained with all", "s--")
    for axes, title in ((left, "every class from k pictures"), (right, "one class beside trained ones")):
        axes.set(title=title, xlabel="pictures of a class", ylabel="test accuracy, %", xscale="log")
        axes.set_xticks(SHOTS, [str(shots) for shots in SHOTS])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(PICTURE, dpi=110)


def _head(patch: Patch) -> tuple[np.ndarray, np.ndarray]:
    return patch.tensors["head_kernel"], patch.tensors["head_bias"]


def main() -> None:
    if sys.argv[1:] == ["run"]:
        run()
    elif sys.argv[1:] == ["table"]:
        print(
            table(
                "fresh",
                [
                    ("enrolled", "accuracy", lambda line: line["accuracy"]),
                    ("by gradient", "gradient", lambda line: line["gradient"]),
                ],
            )
        )
        print()
        print(
            table(
                "added",
                [
                    ("old classes", "old", lambda line: line["old"]),
                    ("new class", "new", lambda line: line["new"]),
                    ("harmonic mean", "old", lambda line: harmonic(line["old"], line["new"])),
                    ("old, retrained with all", "gradient_old", lambda line: line["gradient_old"]),
                    ("new, retrained with all", "gradient_new", lambda line: line["gradient_new"]),
                ],
            )
        )
        draw()
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
