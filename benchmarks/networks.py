"""Do the graphs of every backbone answer as Keras does? 100 real pictures each: a table of docs/kinds.md.

python benchmarks/tables.py backbones
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from edgepatch.converters import onnx, tflite

from edgepatch import Runtime, blob
from edgepatch.backbones import network, weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.data import folder, pictures
from edgepatch.progress import Quiet
from edgepatch.training import calibration, storing
from edgepatch.training import task as tasks
from edgepatch.training.recipe import Recipe
from speed import random_patch

PICTURES = Path(__file__).resolve().parents[2] / "shared" / "data" / "imagenet-sample"
NETWORKS = {
    "mobilenet_v1": (1.0, "random"),
    "mobilenet_v2": (1.0, "imagenet-torchvision"),
    "mobilenet_v3_small": (1.0, "random"),
    "mobilenet_v3_large": (1.0, "random"),
    "efficientnet_lite0": (1.0, "imagenet"),
}
SIZE, COUNT = 128, 100
CONVERTERS: dict[str, Any] = {"tflite": tflite, "onnx": onnx}


def rows() -> list[list[str]]:
    """A row a backbone: sites, blocks that can be skipped, sizes, and the largest difference of logits from Keras."""
    found = [["backbone", "weights", "sites", "can be skipped", ".tflite, MB", ".onnx, MB", "largest logit"]]
    found[0] += [f"{kind}, {form}" for kind in CONVERTERS for form in ("bound", "baked")] + ["same top-1, in int8"]
    for name, (alpha, source) in NETWORKS.items():
        own = weights.create(name, alpha=alpha, size=SIZE, source=source)
        with tempfile.TemporaryDirectory() as work:
            found.append([name, source, str(len(own.plan.sites)), str(len(own.plan.residuals)), *row(own, Path(work))])
        print(*found[-1], flush=True)
    return found


def row(own: Backbone, work: Path) -> list[str]:
    """The figures of one backbone."""
    files = folder.anything(PICTURES)
    images = pictures.load(files.take(np.arange(len(files))[:: len(files) // COUNT][:COUNT]), own.input, Quiet())
    if own.labels:
        patch = own.own_patch()
    else:  # random weights, brought to activations as trained ones have them, and a task that changes every site
        own = tasks.adapt(own, images, own.input, Recipe(), Quiet())
        patch = blob.read(random_patch(own, 0, "scale_bias", work))
    patch = dataclasses.replace(patch, ranges=calibration.calibrate(own, patch, images.pixels))
    expected = storing.logits(network.deployment_form(own), own, own.values(patch), patch, images.pixels)
    sizes, differences = [], []
    for kind, converter in CONVERTERS.items():
        path = work / f"g.{kind}"
        path.write_bytes(converter.export(own))
        sizes.append(f"{path.stat().st_size / 1e6:.1f}")
        for form in ("bind", "bake"):
            differences.append(f"{np.abs(answers(path, patch, form, images.pixels) - expected).max():.1e}")
    (work / "i.tflite").write_bytes(tflite.export(own, "int8"))
    same = (answers(work / "i.tflite", patch, "bake", images.pixels).argmax(axis=1) == expected.argmax(axis=1)).sum()
    return [*sizes, f"{np.abs(expected).max():.1f}", *differences, f"{same}/{len(images)}"]


def answers(graph: Path, patch: blob.Patch, form: str, pixels: np.ndarray) -> np.ndarray:
    """Logits of images of the network's own size, as they are."""
    patch = dataclasses.replace(patch, input=dataclasses.replace(patch.input, resize="stretch"))
    with Runtime(graph, mode=form) as runtime:
        runtime.add(patch)
        return np.stack([runtime.predict(image).logits for image in pixels])
