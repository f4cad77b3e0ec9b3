"""What fewer bits cost: graphs in fp16, dynamic and int8, and patches in the codec int8, on tasks with real images.

    python benchmarks/tables.py precision codec

Three tasks of the demo at 128 px and three sets of ../shared/data at 96 px. A rival is what TensorFlow's converter, or
ONNX Runtime's quantiser, makes of the same float task on its own, calibrated on the same training images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from edgepatch.converters import dedicated, onnx, tflite

from datasets import SHARED, prepare
from edgepatch import blob, metrics
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import network, weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.data import folder, pictures
from edgepatch.data.pictures import Pictures
from edgepatch.demo import demo, tasks
from edgepatch.progress import Quiet, Terminal
from edgepatch.runtime import baking, engines, graph_file
from edgepatch.runtime.fitting import fit
from edgepatch.runtime.model import Model
from edgepatch.training import calibration, storing, trainer
from edgepatch.training.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
DEMO, WORK = ROOT / "build" / "demo", ROOT / "build" / "precision"
SETS = ("clothing10", "signdigits10", "steel6")
LIMIT, SIZE, EPOCHS = 600, 96, 8
FORMATS: dict[str, tuple[Any, Any, str]] = {
    "tflite": (tflite, dedicated.tflite, "litert"),
    "onnx": (onnx, dedicated.onnx, "onnx"),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """A trained task, its test images, and the training images that it is calibrated on."""

    name: str
    backbone: Backbone
    patch: Patch
    few: np.ndarray
    test: Pictures


def tasks_() -> Iterator[Task]:
    """The tasks; what is not trained yet is trained."""
    demo.demo(DEMO, Quiet())
    backbone = backbones.read(DEMO / "mobilenet_v2.backbone")
    for name in tasks.TASKS:
        yield _task(name, backbone, blob.read(DEMO / f"{name}.epatch"), DEMO / "data" / name)
    if not SHARED.is_dir():
        print(f"skipped {', '.join(SETS)}: the images are not at {SHARED}")
        return
    backbone = weights.create("mobilenet_v2", alpha=1.0, size=SIZE, source="imagenet-torchvision")
    for name in SETS:
        data, out = prepare(name, WORK / "data", LIMIT), WORK / f"{name}.epatch"
        if not out.exists():
            trainer.train(backbone, data, "scale_bias", out, recipe=Recipe(epochs=EPOCHS), reporter=Terminal())
        yield _task(name, backbone, blob.read(out), data)


def _task(name: str, backbone: Backbone, patch: Patch, data: Path) -> Task:
    train = pictures.load(folder.scan(data / "train", patch.labels), patch.input, Quiet())
    few = train.pixels[:: max(1, len(train) // calibration.IMAGES)][: calibration.IMAGES]
    ranges = calibration.calibrate(backbone, patch, few)
    test = pictures.load(folder.scan(data / "test", patch.labels), patch.input, Quiet())
    return Task(name, backbone, dataclasses.replace(patch, ranges=ranges), few, test)


def logits(engine: str, model: Model, task: Task) -> np.ndarray:
    """Logits (n, classes) of the test images."""
    opened = engines.start(engine, model, 2)
    opened.bind({})
    images = (task.patch.input.normalise(pixels[None]) for pixels in task.test.pixels)
    found = np.concatenate([opened.run(image)["logits"] for image in images])
    opened.close()
    return found


def precision_rows() -> list[list[str]]:
    """Accuracy baked in each precision, and int8 held against its rival."""
    rows = [["task", "test images", "engine", "fp32", "fp16", "dynamic", "int8", "rival int8", "same top-1 as rival"]]
    rows[0].append("same logits")
    for task in tasks_():
        for converter, rival, engine in FORMATS.values():
            found = {}
            for precision in ("fp32", "fp16", "dynamic", "int8"):
                graph = graph_file.parse(converter.export(task.backbone, precision), precision)
                found[precision] = logits(engine, baking.bake(graph, fit(graph, task.patch, task.name)), task)
            theirs = rival(task.backbone, task.patch, "int8", task.patch.input.normalise(task.few))
            found["rival"] = logits(engine, Model(theirs), task)
            accuracy = [f"{100 * metrics.accuracy(found[name], task.test.labels):.1f}" for name in found]
            same = (found["int8"].argmax(axis=1) == found["rival"].argmax(axis=1)).mean()
            equal = (found["int8"] == found["rival"]).mean()
            rows.append([task.name, str(len(task.test)), engine, *accuracy, f"{same:.2%}", f"{equal:.0%}"])
            print(*rows[-1], flush=True)
    return rows


def codec_rows() -> list[list[str]]:
    """Size and test accuracy of patches in fp16 and in the codec int8, through LiteRT."""
    rows = [
        ["task", "classes", "fp16, bytes", "int8, bytes", "test images", "fp16", "int8", "difference", "same top-1"]
    ]
    for task in tasks_():
        graph = graph_file.parse(tflite.export(task.backbone), "fp32")
        values = {name: np.asarray(value, np.float32) for name, value in task.patch.tensors.items()}
        trunk = network.deployment_form(task.backbone)
        small = storing.store(task.backbone, task.patch, values, "int8", trunk, task.few)
        found = [logits("litert", baking.bake(graph, fit(graph, patch, "")), task) for patch in (task.patch, small)]
        accuracy = [100 * metrics.accuracy(each, task.test.labels) for each in found]
        same = (found[0].argmax(axis=1) == found[1].argmax(axis=1)).mean()
        sizes = [f"{len(blob.dump(patch)):,}" for patch in (task.patch, small)]
        rows.append([task.name, str(len(task.patch.labels)), *sizes, str(len(task.test))])
        rows[-1] += [*(f"{each:.1f}" for each in accuracy), f"{accuracy[1] - accuracy[0]:+.2f}", f"{same:.2%}"]
        print(*rows[-1], flush=True)
    return rows
