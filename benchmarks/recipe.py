"""Which parametrisation and recipe of scale_bias win on every set: the runs behind docs/recipe.md.

    python benchmarks/recipe.py run GRID     # resumable: finished runs are kept in benchmarks/results/recipe.jsonl
    python benchmarks/recipe.py table

Choices are made on `accuracy` (validation). `test_accuracy` is computed for grids that report only.
"""

from __future__ import annotations

import dataclasses
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
from edgepatch import metrics
from edgepatch.backbones import network, weights
from edgepatch.data import folder, pictures
from edgepatch.progress import Quiet
from edgepatch.training import head, trainer
from edgepatch.training.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "recipe.jsonl"
WORK = Path(os.environ.get("EDGEPATCH_WORK", Path(__file__).parents[1] / "build" / "recipe"))

FORMS = [
    {"form": "relative_gamma", "learning_rate": 1e-2},
    {"form": "gamma_beta", "learning_rate": 3e-3},
    {"form": "relative", "learning_rate": 3e-3},
    {"form": "relative_gamma", "learning_rate": 3e-3},
    {"form": "gamma_beta", "learning_rate": 1e-3},
    {"form": "relative", "learning_rate": 1e-2},
]

# each grid: what every run shares, what the runs try, training images, input size
GRIDS: dict[str, dict[str, Any]] = {
    # what to train, at which learning rate, each with warm-up
    "form": {"base": {"epochs": 8}, "try": FORMS, "limit": 600, "size": 96},
}


def runs(grid: str) -> list[dict[str, Any]]:
    """The runs of a grid: set, recipe, limit, size."""
    wanted = GRIDS[grid]
    return [
        {
            "set": name,
            "recipe": wanted["base"] | tried,
            "limit": wanted["limit"],
            "size": wanted["size"],
            "test": wanted.get("test", False),
        }
        for tried in wanted["try"]
        for name in SETS
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
        recipe = Recipe(**wanted["recipe"])
        out = WORK / "run.epatch"
        out.unlink(missing_ok=True)
        result = trainer.train(backbone, data, "scale_bias", out, recipe=recipe, reporter=Quiet())
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


def tested(backbone: Any, patch: Any, data: Path) -> dict[str, float]:
    """Accuracy of a patch on the test split, computed in Keras with the values the file holds."""
    images = pictures.load(folder.scan(data / "test", patch.labels), patch.input, Quiet())
    values = patch.values()
    trunk = network.deployment_form(backbone, values)
    logits = head.predict(trunk, images.pixels, patch.input) @ values["head_kernel"] + values["head_bias"]
    return {"test_accuracy": metrics.accuracy(logits, images.labels), "test_images": len(images)}


def table() -> None:
    """One line a recipe: the gain over the head alone on each set, in points, and the mean."""
    rows: dict[str, dict[str, list[float]]] = {}
    for line in finished():
        recipe = dataclasses.asdict(Recipe(**line["run"]["recipe"]))
        changed = {k: v for k, v in recipe.items() if k in line["run"]["recipe"] and k not in ("seed", "flips")}
        gain = 100 * (line["best_joint_accuracy"] - line["head_accuracy"])
        rows.setdefault(json.dumps(changed), {}).setdefault(line["run"]["set"], []).append(gain)
    print("| recipe | " + " | ".join(SETS) + " | mean | worst |")
    print("|---" * (len(SETS) + 3) + "|")
    for recipe, gains in rows.items():
        means = [np.mean(gains[name]) if name in gains else np.nan for name in SETS]
        cells = [f"{gain:+.1f}" for gain in [*means, np.nanmean(means), np.nanmin(means)]]
        print(f"| {recipe} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    {"run": lambda: run(sys.argv[2]), "table": table}[sys.argv[1]]()
