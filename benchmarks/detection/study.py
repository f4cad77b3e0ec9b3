"""Detectors and a segmenter on the ImageNet backbone, and classifiers on COCO's: the runs behind docs/detection.md.

    python benchmarks/detection/study.py run [--jobs N]    # resumable: finished runs are kept in results/study.jsonl
    python benchmarks/tables.py detection turned

Epochs are chosen on validation images; the test images report, once a run, through the device runtime.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from grid import Grid

RESULTS = Path(__file__).parent / "results" / "study.jsonl"
WORK = Path(os.environ.get("EDGEPATCH_WORK", Path(__file__).parents[2] / "build" / "detection"))
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
FULL = "top:19"  # all kernels, scale and bias at every site: nothing stands still
BODIES = ("", "scale_bias", "depthwise", FULL)
# folder, head, size of the input in pixels, epochs of the joint phase
SETS = {
    "bccd3": ("detect/bccd3", "detector", 224, 24),
    "raccoon": ("detect/raccoon", "detector", 160, 24),
    "coffee3": ("segment/coffee3", "segmenter", 160, 10),
}
CLASSES = ("clothing10", "trash6")
CLASS_SIZE, CLASS_LIMIT, CLASS_EPOCHS = 128, 600, 8
COCO = "coco-ssd"
SEEDS = 3


def wanted() -> list[dict[str, Any]]:
    """All runs, in the order in which they are taken."""
    found: list[dict[str, Any]] = []
    for seed in range(SEEDS):
        for body in BODIES:
            for name, (_, head, size, epochs) in SETS.items():
                kinds = f"{body}+{head}".lstrip("+")
                found.append({"kinds": kinds, "set": name, "seed": seed, "size": size, "epochs": epochs})
        for body in BODIES[1:]:
            for name in CLASSES:
                run = {"kinds": body, "set": name, "seed": seed, "size": CLASS_SIZE, "limit": CLASS_LIMIT}
                found.append({**run, "epochs": CLASS_EPOCHS, "backbone": COCO})
    return found


def train(run: dict[str, Any]) -> dict[str, Any]:
    if "backbone" in run:
        from learning import study as classifiers

        return classifiers.train(run)
    return train_maps(run)


def train_maps(run: dict[str, Any]) -> dict[str, Any]:
    """One run of a head on maps: what the patch gives on validation and test images in each codec, and its size."""
    import keras

    from edgepatch import patches
    from edgepatch.progress import Quiet
    from edgepatch.training import map_training
    from edgepatch.training.recipe import Recipe

    folder, _, size, epochs = SETS[run["set"]]
    recipe = Recipe(seed=run["seed"], epochs=epochs, patience=0)
    bodies, top = patches.parse(run["kinds"])
    out = patch_of(run["set"], run["kinds"].rpartition("+")[0], run["seed"])
    out.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    work = map_training.prepare(backbone(size), SHARED / folder, top, out, recipe, Quiet())
    trained = map_training.fit(work, bodies, out.with_suffix(".resume"))
    seconds = time.monotonic() - start
    line: dict[str, Any] = {"run": run, "seconds": round(seconds, 1), "trained_values": 0, "codecs": {}}
    for codec in ("int8", "fp16"):  # the latter is kept
        result = map_training.write(work, trained, out, codec, start)
        report = result.report
        line["trained_values"] = report["trained_parameters"]
        line["codecs"][codec] = {
            "bytes": report["bytes"],
            "val": {name: value for name, value in result.patch.metrics.items() if name in ("map", "map50", "miou")},
            "test": tested(out, SHARED / folder, size),
            "fell_back_to_head": report["fell_back_to_head"],
        }
    line["history"] = report["history"]
    line["recipe"] = dataclasses.asdict(recipe)
    line["keras_backend"] = keras.backend.backend()
    for left in out.parent.glob(f"{out.stem}*.resume"):
        left.unlink()
    return line


def patch_of(name: str, body: str, seed: int) -> Path:
    """Where the patch of a run is left."""
    return WORK / "patches" / f"{name}-{(body or 'head').replace(':', '')}-{seed}.epatch"


def graph_of(size: int, kind: str) -> Path:
    """The shared graph for an input size, `tflite` or `onnx`; made once."""
    graph = WORK / f"mobilenet_v2-{size}.{kind}"
    if not graph.exists():
        beside = graph.with_suffix(f".{os.getpid()}")
        beside.write_bytes(importlib.import_module(f"edgepatch.converters.{kind}").export(backbone(size)))
        beside.rename(graph)
    return graph


@functools.cache
def backbone(size: int) -> Any:
    from edgepatch.backbones import weights

    return weights.create("mobilenet_v2", alpha=1.0, size=size, source="imagenet-torchvision")


def tested(patch: Path, data: Path, size: int) -> dict[str, float]:
    """Figures on the test images, baked, through LiteRT."""
    from edgepatch import evaluation
    from edgepatch.progress import Quiet
    from edgepatch.runtime import Runtime

    with Runtime(graph_of(size, "tflite"), mode="bake", engine="litert") as runtime:
        runtime.load(patch)
        found = evaluation.evaluate(runtime, data, reporter=Quiet())
    return {name: found[name] for name in ("map50", "map", "ap50", "miou", "iou") if name in found}


GRID = Grid(RESULTS, WORK, wanted())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "left", "work"])
    parser.add_argument("--jobs", type=int, default=0)
    chosen = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    RESULTS.parent.mkdir(exist_ok=True)
    if chosen.what == "left":
        print(GRID.left(), "of", len(GRID.wanted), "runs are left")
    elif chosen.what == "work":
        GRID.take(train)
    else:
        sys.exit(GRID.start(__file__, chosen.jobs))


if __name__ == "__main__":
    main()
