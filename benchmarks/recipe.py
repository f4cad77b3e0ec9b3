"""Which parametrisation and recipe of scale_bias win on every set: the runs behind docs/recipe.md.

    python benchmarks/recipe.py run GRID     # resumable: finished runs are kept in benchmarks/results/recipe.jsonl
    python benchmarks/tables.py recipe accuracy

Choices are made on validation accuracy; only the grid `final`, which reports, looks at the test images.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from datasets import SETS, prepare
from edgepatch import blob, metrics
from edgepatch.backbones import network, weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.data import folder, pictures
from edgepatch.patches.scale_bias import ScaleBias
from edgepatch.progress import Quiet
from edgepatch.training import calibration, head, storing, trainer
from edgepatch.training.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "recipe.jsonl"
WORK = Path(os.environ.get("EDGEPATCH_WORK", Path(__file__).parents[1] / "build" / "recipe"))

FORMS = [
    {"form": "relative_gamma", "learning_rate": 1e-2},
    {"form": "gamma_beta", "learning_rate": 3e-3},
    {"form": "relative", "learning_rate": 3e-3},
    {"form": "relative_gamma", "learning_rate": 3e-3},
]

# each grid: what every run shares, what the runs try, training images, input size
GRIDS: dict[str, dict[str, Any]] = {
    # what to train, at which learning rate, each with warm-up
    "form": {
        "base": {"epochs": 8, "batch": 32, "warmup": 0.1, "zoom": 0.7, "light": 0.2, "patience": 0},
        "try": FORMS,
        "limit": 600,
        "size": 96,
    },
    # where to put scale and bias, and what packing the patch costs, on the test images
    "placement": {
        "base": {"epochs": 8},
        "try": [{"placement": placement} for placement in ("all", "pointwise", "project", "depthwise", "expand")],
        "sets": ("clothing10", "coffeeleaf5", "signdigits10"),
        "limit": 600,
        "size": 96,
        "test": True,
        "codec": True,
    },
    # the default recipe, on the test images
    "final": {"base": {}, "try": [{"seed": 0}, {"seed": 1}], "limit": 1200, "size": 96, "test": True},
}


def runs(grid: str) -> list[dict[str, Any]]:
    """The runs of a grid: set, recipe, limit, size."""
    wanted = GRIDS[grid]
    return [
        {
            "grid": grid,
            "set": name,
            "recipe": wanted["base"] | tried,
            "limit": wanted["limit"],
            "size": wanted["size"],
            "test": wanted.get("test", False),
            **({"codec": True} if wanted.get("codec") else {}),
        }
        for tried in wanted["try"]
        for name in wanted.get("sets", SETS)
    ]


def finished() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def run(grid: str) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    for wanted in runs(grid):
        if any(done["run"] == wanted for done in finished()):
            continue
        start = time.monotonic()
        backbone = weights.create("mobilenet_v2", alpha=1.0, size=wanted["size"], source="imagenet-torchvision")
        data = prepare(wanted["set"], WORK / "data", wanted["limit"])
        options = dict(wanted["recipe"])
        kind = ScaleBias(options.pop("placement", "all"))
        recipe = Recipe(**options)
        out = WORK / "run.epatch"
        out.unlink(missing_ok=True)
        result = trainer.train(backbone, data, [kind], out, recipe=recipe, reporter=Quiet())
        report = result.report
        kept = (
            "accuracy",
            "balanced_accuracy",
            "head_accuracy",
            "fell_back_to_head",
            "epochs",
            "train_images",
            "val_images",
        )
        line = {"run": wanted, **{name: report[name] for name in kept}, "history": report["history"]}
        line["best_joint_accuracy"] = max((entry["val_accuracy"] for entry in report["history"]), default=None)
        if wanted["test"]:
            line |= tested(backbone, result.patch, data)
            line["head_test_accuracy"] = tested(backbone, result.head_alone, data)["test_accuracy"]
        if wanted.get("codec"):
            line |= packed(backbone, result.patch, data)
        line["seconds"] = round(time.monotonic() - start, 1)
        with RESULTS.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(
            wanted["set"],
            wanted["recipe"],
            f"{line['head_accuracy']:.3f} -> {line['best_joint_accuracy']:.3f}",
            flush=True,
        )
        keras.backend.clear_session()


def tested(backbone: Backbone, patch: Patch, data: Path) -> dict[str, float]:
    """Accuracy of a patch on the test split, computed in Keras with the values the file holds."""
    images = pictures.load(folder.scan(data / "test", patch.labels), patch.input, Quiet())
    values = backbone.values(patch)
    trunk = network.deployment_form(backbone, values)
    logits = head.predict(trunk, images.pixels, patch.input) @ values["head_kernel"] + values["head_bias"]
    return {"test_accuracy": metrics.accuracy(logits, images.labels), "test_images": len(images)}


def packed(backbone: Backbone, patch: Patch, data: Path) -> dict[str, float]:
    """Size of a patch as trained and with the codec `int8`, and its test accuracy then."""
    images = pictures.load(folder.scan(data / "train", patch.labels), patch.input, Quiet())
    few = images.pixels[:: max(1, len(images) // calibration.IMAGES)]
    own = {name: np.asarray(value, np.float32) for name, value in patch.tensors.items()}  # scale, bias and the head
    small = storing.store(backbone, patch, own, "int8", network.deployment_form(backbone), few)
    return {
        "bytes": len(blob.dump(patch)),
        "packed_bytes": len(blob.dump(small)),
        "packed_test_accuracy": tested(backbone, small, data)["test_accuracy"],
    }


def placement_rows() -> list[list[str]]:
    """Test accuracy of each placement on each set, over the head alone, and packed."""
    lines = [line for line in finished() if line["run"]["grid"] == "placement"]
    sets = GRIDS["placement"]["sets"]
    rows = [["placement", "10-class patch, KB", "packed, KB", *(f"{name} (head alone)" for name in sets), "mean gain"]]
    rows[0].append("mean gain, packed")
    for tried in GRIDS["placement"]["try"]:
        own = {line["run"]["set"]: line for line in lines if line["run"]["recipe"]["placement"] == tried["placement"]}
        if len(own) < len(sets):
            continue
        size = own["clothing10"]
        cells = [tried["placement"], f"{size['bytes'] / 1e3:.1f}", f"{size['packed_bytes'] / 1e3:.1f}"]
        for name in sets:
            cells.append(f"{100 * own[name]['test_accuracy']:.1f} ({100 * own[name]['head_test_accuracy']:.1f})")
        for key in ("test_accuracy", "packed_test_accuracy"):
            gain = np.mean([100 * (own[name][key] - own[name]["head_test_accuracy"]) for name in sets])
            cells.append(f"{gain:+.1f}")
        rows.append(cells)
    return rows


def table() -> str:
    """A row for each parametrisation: points of validation accuracy over the head alone, before any falling back."""
    gains: dict[tuple[str, float], dict[str, float]] = {}
    for line in finished():
        if line["run"]["grid"] == "form":
            key = line["run"]["recipe"]["form"], line["run"]["recipe"]["learning_rate"]
            gains.setdefault(key, {})[line["run"]["set"]] = 100 * (line["best_joint_accuracy"] - line["head_accuracy"])
    rows = [
        "| trained | peak learning rate | " + " | ".join(SETS) + " | mean | worst |",
        "|---" * (len(SETS) + 4) + "|",
    ]
    for (form, rate), found in sorted(gains.items()):
        points = [*(found.get(name) for name in SETS), np.mean(list(found.values())), min(found.values())]
        cells = ["" if point is None else f"{point:+.1f}" for point in points]
        rows.append(f"| {form} | {rate:g} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    if sys.argv[1:2] != ["run"] or len(sys.argv) != 3 or sys.argv[2] not in (*GRIDS, "all"):
        sys.exit(f"usage: python benchmarks/recipe.py run {'|'.join([*GRIDS, 'all'])}")
    for chosen in GRIDS if sys.argv[2] == "all" else [sys.argv[2]]:
        run(chosen)
