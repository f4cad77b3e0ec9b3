"""Every patch kind on every classification set, and full fine-tuning: the runs behind docs/learning.md.

    python benchmarks/learning/study.py run [--jobs N]     # resumable: finished runs are kept in results/study.jsonl
    python benchmarks/tables.py study costs aims claims    # the tables and pictures of docs/learning.md

Each job is a process of one core; they share the work by claiming runs. Epochs are chosen on validation images; the
test images report, once a run. With KERAS_BACKEND=jax or torch the same command trains on a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from grid import Grid

RESULTS = Path(__file__).parent / "results" / "study.jsonl"
WORK = Path(os.environ.get("EDGEPATCH_WORK", Path(__file__).parents[2] / "build" / "learning"))
SETS = ("clothing10", "coffeeleaf5", "signdigits10", "steel6", "trash6")
FULL = "top:19"  # all 19 blocks' kernels, scale and bias at every site, and the head: nothing stands still
HEADLINE = ("scale_bias", "scale_bias+depthwise", FULL)
BOTTOM = ("bottom:6", "bottom:3")
KINDS = (
    *HEADLINE,
    "depthwise",
    "mask+scale_bias",
    *BOTTOM,
    "mask",
    "bottom:13",
    "top:1",
    "bias",
    "scale_bias@project",
    "scale_bias@expand",
    "scale_bias@depthwise",
    "scale_bias+policy",
    "policy",
)
SIZE, LIMIT, EPOCHS = 128, 600, 8
IMAGENET = "imagenet-torchvision"


def wanted() -> list[dict[str, Any]]:
    """All runs, in the order in which they are taken: a stopped study is as even as can be."""
    others = tuple(kinds for kinds in KINDS if kinds not in (*HEADLINE, *BOTTOM))
    order = [(0, KINDS), (1, (*HEADLINE, *BOTTOM)), (2, HEADLINE), (1, others)]
    return [
        {"kinds": kinds, "set": name, "seed": seed, "size": SIZE, "limit": LIMIT, "epochs": EPOCHS}
        for seed, rows in order
        for kinds in rows
        for name in SETS
    ]


def train(run: dict[str, Any]) -> dict[str, Any]:
    """One run: accuracies of the head alone, of the patch as trained and as written, on validation and test images."""
    import keras

    from edgepatch import blob, metrics, patches
    from edgepatch.training import trainer

    key = run["set"], run["seed"], run["size"], run["limit"], run.get("backbone", IMAGENET)
    task = prepared(*key)
    task = dataclasses.replace(task, recipe=dataclasses.replace(task.recipe, epochs=run["epochs"]))
    keras.utils.set_random_seed(run["seed"])
    bodies, top = patches.parse(run["kinds"])
    checkpoint = WORK / f"{os.getpid()}.resume"
    start = time.monotonic()
    fitted = trainer.fit(task, bodies, top, checkpoint)
    seconds = time.monotonic() - start
    checkpoint.unlink(missing_ok=True)
    chosen = trainer.choose(task, fitted, "fp16")
    patch_metrics = chosen.patch.metrics
    if key not in _HEADS:
        _HEADS[key] = tested(task, chosen.head_alone)
    return {
        "run": run,
        "head": metrics.accuracy(task.alone.val_logits, task.val.labels),
        "head_test": _HEADS[key],
        "val": patch_metrics["accuracy"],
        "test": tested(task, chosen.patch),
        "best_val": fitted.state.best[0],
        "fell_back_to_head": patch_metrics["fell_back_to_head"],
        "bytes": len(blob.dump(chosen.patch)),
        "trained_values": sum(value.size for value in fitted.start.values()),
        "kept_share": fitted.state.share,
        "head_kept": fitted.head,
        "seconds": round(seconds, 1),
        "history": [
            {key: round(value, 4) for key, value in entry.items() if key != "skipped"} for entry in fitted.state.history
        ],
        "recipe": task.recipe.to_json(),
        "keras_backend": keras.backend.backend(),
    }


_READY: dict[
    tuple[Any, ...], Any
] = {}  # tasks, test images and the heads' test accuracies, by set, seed, size, limit, weights
_TESTS: dict[tuple[Any, ...], Any] = {}
_HEADS: dict[tuple[Any, ...], float] = {}


def tested(task: Any, patch: Any) -> float:
    """Accuracy of a patch on the test images, in Keras, with the values the file holds."""
    from edgepatch import metrics
    from edgepatch.data import folder, pictures
    from edgepatch.progress import Quiet
    from edgepatch.training import storing

    name = task.source.train.paths[0].parents[2].name
    key = name, patch.input.size, patch.input.resize
    if key not in _TESTS:
        files = folder.scan(WORK / "data" / name / "test", patch.labels)
        _TESTS[key] = pictures.load(files, patch.input, Quiet())
    images = _TESTS[key]
    logits = storing.logits(task.trunk, task.backbone, task.backbone.values(patch), patch, images.pixels)
    return float(metrics.accuracy(logits, images.labels))


def prepared(name: str, seed: int, size: int, limit: int, source: str = IMAGENET) -> Any:
    """A set's task, with its head alone; kept, for every kind starts there."""
    from datasets import prepare
    from edgepatch.backbones import weights
    from edgepatch.progress import Quiet
    from edgepatch.training import task
    from edgepatch.training.recipe import Recipe

    if (name, seed, size, limit, source) not in _READY:
        if len(_READY) >= 2 * len(SETS):
            _READY.clear()
        backbone = weights.create("mobilenet_v2", alpha=1.0, size=size, source=source)
        recipe = Recipe(seed=seed)
        data = prepare(name, WORK / "data", limit)
        origin = task.source(backbone, data, WORK / "study.epatch", recipe)
        _READY[name, seed, size, limit, source] = task.prepare(backbone, origin, recipe, Quiet())
    return _READY[name, seed, size, limit, source]


def costs() -> None:
    """Size, trained values, skipped blocks and memory of training of every kind, each in a process of its own."""
    found = {}
    for kinds in ("classifier", *KINDS):
        done = subprocess.run(
            [sys.executable, __file__, "cost", "--kinds", kinds], capture_output=True, text=True, check=True
        )
        found[kinds] = json.loads(done.stdout.splitlines()[-1])
        print(kinds, found[kinds], flush=True)
    (RESULTS.parent / "costs.json").write_text(json.dumps(found, indent=1) + "\n")


def cost(kinds: str) -> None:
    """Ten classes, eight steps: what training adds to the process's peak memory; the file's size."""
    import resource

    import keras
    import numpy as np

    from edgepatch import blob, patches
    from edgepatch.backbones import network, weights
    from edgepatch.patches import Change
    from edgepatch.training import joint, storing
    from edgepatch.training.recipe import Recipe

    backbone = weights.create("mobilenet_v2", alpha=1.0, size=SIZE, source="imagenet-torchvision")
    bodies, top = patches.parse(kinds)
    kernel, bias = np.zeros((backbone.plan.features, 10), np.float32), np.zeros(10, np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    change, layer = Change(backbone, bodies), top.layer(kernel, bias)
    trunk = network.build(change)
    model = keras.Model(trunk.input, layer(trunk.output))
    model.compile(joint.optimizer(Recipe(), 1e-3, 8), keras.losses.CategoricalCrossentropy(from_logits=True))
    images, labels = np.zeros((16, SIZE, SIZE, 3), np.float32), np.eye(10, dtype=np.float32)[np.arange(16) % 10]
    for _ in range(8):
        model.train_on_batch(images, labels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    values = {**change.start(), "head_kernel": kernel, "head_bias": bias}
    patch = blob.Patch(
        "ten",
        backbone.id,
        patches.manifest(bodies, top, backbone.plan, values),
        tuple("0123456789"),
        backbone.input,
        {},
        sites=patches.combine(bodies, backbone.plan).sites,
        decode=top.decode(),
    )
    size = len(blob.dump(storing.encode(backbone, patch, values, "fp16")))
    print(json.dumps({"bytes": size, "trained_values": sum(v.size for v in values.values()), "memory": peak * 1024}))


GRID = Grid(RESULTS, WORK, wanted())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "left", "costs", "work", "cost"])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--kinds")
    chosen = parser.parse_args()
    if chosen.what == "left":
        print(GRID.left(), "of", len(GRID.wanted), "runs are left")
    elif chosen.what == "work":
        GRID.take(train)
    elif chosen.what == "cost":
        cost(chosen.kinds)
    elif chosen.what == "costs":
        costs()
    else:
        from datasets import prepare

        for name in SETS:  # before the jobs would do it side by side
            prepare(name, WORK / "data", LIMIT)
        sys.exit(GRID.start(__file__, chosen.jobs))


if __name__ == "__main__":
    main()
