"""Measures what benchmarks.md, detection.md, kinds.md, learning.md and recipe.md show, and writes it there.

    python benchmarks/tables.py               # all of it
    python benchmarks/tables.py parity precision

Each table stands between two markers of a page in docs/.

Uses what `make demo` leaves in build/demo, and makes it if it is not there.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from edgepatch.converters import onnx, parity, tflite

import kinds
import networks
import precision
import recipe
import rivals
import speed
from detection import devices, post_processing
from detection import report as maps
from edgepatch import Runtime, blob, imaging
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import network, weights
from edgepatch.data import folder
from edgepatch.demo import demo, tasks
from edgepatch.progress import Quiet
from edgepatch.training import head
from learning import report, verdicts

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "build" / "demo"
SAMPLE = ROOT.parent / "shared" / "data" / "imagenet-sample"
CONVERTERS: dict[str, Any] = {"tflite": tflite, "onnx": onnx}


def table(rows: list[list[str]]) -> str:
    return "\n".join(
        ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
        + ["| " + " | ".join(row) + " |" for row in rows[1:]]
    )


def machine() -> str:
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    name = model.group(1) if model else platform.processor()
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}"


def parity_table() -> str:
    """Three tasks, 100 held-out pictures each where there are so many: every engine against Keras."""
    demo.demo(DEMO, Quiet())
    backbone = backbones.read(DEMO / "mobilenet_v2.backbone")
    rows = [["task", "images", "engine", "mode", "largest logit", "largest difference from Keras", "same top-1"]]
    for name in tasks.TASKS:
        patch = blob.read(DEMO / f"{name}.epatch")
        files = folder.scan(DEMO / "data" / name / "test")
        step = len(files) // 100
        paths = files.paths[:: step or 1][:100]
        expected = parity.keras_logits(backbone, patch, np.concatenate([patch.input(path) for path in paths]))
        for engine, kind in (("litert", "tflite"), ("tflite-runtime", "tflite"), ("onnx", "onnx")):
            for mode in ("bind", "bake"):
                got = engine_logits(engine, mode, DEMO / f"mobilenet_v2.{kind}", DEMO / f"{name}.epatch", paths)
                same = int((got.argmax(axis=1) == expected.argmax(axis=1)).sum())
                most, difference = np.abs(expected).max(), np.abs(got - expected).max()
                cells = [f"{most:.1f}", f"{difference:.1e}", f"{same}/{len(paths)}"]
                rows.append([name, str(len(paths)), engine, mode, *cells])
    return table(rows)


def engine_logits(engine: str, mode: str, graph: Path, patch: Path, paths: Any) -> np.ndarray:
    """In a process of its own: tflite-runtime cannot share one with TensorFlow."""
    program = (
        "import sys, numpy, edgepatch\n"
        "engine, mode, graph, patch, out, *paths = sys.argv[1:]\n"
        "runtime = edgepatch.Runtime(graph, engine=engine, mode=mode); runtime.load(patch)\n"
        "numpy.save(out, numpy.stack([runtime.predict(path).logits for path in paths]))\n"
    )
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "logits.npy"
        call = [sys.executable, "-c", program, engine, mode, str(graph), str(patch), str(out), *map(str, paths)]
        subprocess.run(call, check=True, stderr=subprocess.DEVNULL)
        return np.load(out)


def imagenet_table() -> str:
    """One picture of each ImageNet class, through Keras and through both graphs."""
    rows = [["input", "engine", "top-1", "top-5", "same top-1 as Keras"]]
    paths = sorted(SAMPLE.glob("*.jpg"))
    truth = np.array([int(path.name[:4]) for path in paths])
    for size in (224, 160, 128, 96):
        backbone = weights.create("mobilenet_v2", alpha=1.0, size=size, source="imagenet-torchvision")
        patch = backbone.own_patch()
        values = backbone.values(patch)
        pixels = np.stack([imaging.fit(imaging.load(path), size, "crop") for path in paths])
        features = head.predict(network.deployment_form(backbone), pixels, backbone.input)
        found = {"Keras": features @ values["head_kernel"] + values["head_bias"]}
        with tempfile.TemporaryDirectory() as work:
            for kind, converter in CONVERTERS.items():
                graph = Path(work) / f"g.{kind}"
                graph.write_bytes(converter.export(backbone))
                with Runtime(graph) as runtime:
                    runtime.add(patch)
                    found[runtime.engine] = np.stack([runtime.predict(path).logits for path in paths])
        for engine, logits in found.items():
            top5 = (np.argsort(-logits, axis=1)[:, :5] == truth[:, None]).any(axis=1).mean()
            same = (logits.argmax(axis=1) == found["Keras"].argmax(axis=1)).sum()
            rows.append(
                [
                    f"{size} px",
                    engine,
                    f"{(logits.argmax(axis=1) == truth).mean():.1%}",
                    f"{top5:.1%}",
                    f"{same}/{len(truth)}",
                ]
            )
    return table(rows)


def accuracy_table() -> str:
    """Test accuracy of the default recipe, from the runs of `recipe.py run final`."""
    rows = [["set", "training images", "test images", "seeds", "head alone", "scale_bias patch", "difference"]]
    lines = [line for line in recipe.finished() if line["run"]["grid"] == "final"]
    for name in recipe.SETS:
        own = [line for line in lines if line["run"]["set"] == name]
        if not own:
            continue
        alone, patch = ([100 * line[key] for line in own] for key in ("head_test_accuracy", "test_accuracy"))
        rows.append(
            [
                name,
                str(own[0]["train_images"]),
                str(own[0]["test_images"]),
                str(len(own)),
                spread(alone),
                spread(patch),
                f"{statistics.mean(patch) - statistics.mean(alone):+.1f}",
            ]
        )
    return table(rows)


def spread(values: list[float]) -> str:
    """Mean, and the values themselves where there are several."""
    text = f"{statistics.mean(values):.1f}"
    return text if len(values) == 1 else f"{text} ({', '.join(f'{value:.1f}' for value in values)})"


TABLES: dict[str, Callable[[], str]] = {
    "accuracy": accuracy_table,
    "recipe": recipe.table,
    "imagenet": imagenet_table,
    "parity": parity_table,
    "placement-accuracy": lambda: table(recipe.placement_rows()),
    "precision": lambda: table(precision.precision_rows()),
    "codec": lambda: table(precision.codec_rows()),
    "rivals": lambda: table(rivals.rows()),
    "adapters": lambda: table(rivals.adapter_rows()),
    "kinds": lambda: table(kinds.rows()),
    "skips": lambda: table(kinds.skip_rows()),
    "backbones": lambda: table(networks.rows()),
    "latency": lambda: table(speed.latency()),
    "switching": lambda: table(speed.switching()),
    "memory": lambda: table(speed.memory()),
    "disk": lambda: table(speed.disk()),
    "placement": lambda: table(speed.placement()),
    "study": lambda: f"{report.progress()}\n\n{table(report.study_rows())}",
    "costs": lambda: table(report.cost_rows()),
    "aims": report.aims,
    "claims": lambda: table(verdicts.rows()),
    "joint": lambda: table(report.joint_rows()),
    "affinity": lambda: table(report.affinity_rows()),
    "front": lambda: table(report.front_rows()),
    "sizes": lambda: table(report.size_rows()),
    "detection": lambda: f"{maps.progress()}\n\n{table(maps.map_rows())}",
    "cells": lambda: table(maps.class_rows()),
    "turned": lambda: table(maps.turned_rows()),
    "detection-parity": lambda: table(devices.parity_rows()),
    "detection-latency": lambda: table(devices.latency_rows()),
    "boxes": lambda: table(post_processing.rows()),
}


PAGES = dict.fromkeys(("recipe", "placement-accuracy"), "recipe.md")
PAGES |= dict.fromkeys(("kinds", "skips", "backbones"), "kinds.md")
PAGES |= dict.fromkeys(("study", "costs", "aims", "claims", "joint", "affinity", "front", "sizes"), "learning.md")
DETECTION = ("detection", "cells", "turned", "detection-parity", "detection-latency", "boxes")
PAGES |= dict.fromkeys(DETECTION, "detection.md")


def main(names: list[str]) -> None:
    for name in names or list(TABLES):
        if name == "imagenet" and not SAMPLE.is_dir():
            print(f"skipped imagenet: the pictures are not at {SAMPLE}")
            continue
        made = f"{TABLES[name]()}\n\nMeasured on {machine()}."
        page = ROOT / "docs" / PAGES.get(name, "benchmarks.md")
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        before, rest = page.read_text().split(begin)
        page.write_text(f"{before}{begin}\n\n{made}\n\n{end}{rest.split(end)[1]}")
        print(f"{page.relative_to(ROOT)}: {name}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
