"""Networks for tests of what exports can hold: laid down by hand, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgepatch.backbones import backbone as backbones
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE, Builder, Plan
from edgepatch.imaging import Preprocessing
from edgepatch.runtime import engines
from edgepatch.runtime.model import Model

ENGINES = {"tflite": "litert", "onnx": "onnx"}
KINDS = tuple(ENGINES)
PRECISIONS = ("fp32", "fp16", "dynamic", "int8")
# of logits against the numpy reference's, root mean squares; random weights lose much in int8
TOLERANCE = {"fp32": 1e-5, "fp16": 0.01, "dynamic": 0.2, "int8": 0.3}


def gated(net: Builder) -> None:
    """Every kind of node, activation, kernel size and padding; three blocks to skip, two of them a chain."""
    last = net.site(IMAGE, "stem", 0, "stem", 8, 3, 2, "hard_swish")
    last = net.site(last, "first_depthwise", 1, "depthwise", 8, 5, 2, "relu")
    last = net.site(gate(net, last, "first", 1, 8), "first_project", 1, "project", 16, 1, 1, "linear")
    for block, activation in ((2, "relu6"), (3, "hard_swish")):
        entry = last
        last = net.site(last, f"b{block}_expand", block, "expand", 24, 1, 1, activation)
        last = net.site(last, f"b{block}_depthwise", block, "depthwise", 24, 5, 1, activation)
        last = net.site(
            gate(net, last, f"b{block}", block, 24), f"b{block}_project", block, "project", 16, 1, 1, "linear"
        )
        last = net.add(entry, last)
    last = net.site(last, "b4_depthwise", 4, "depthwise", 16, 3, 2, "relu", pads=(0, 1))
    last = net.site(last, "b4_project", 4, "project", 24, 1, 1, "linear")
    entry = last
    last = net.site(last, "b5_depthwise", 5, "depthwise", 24, 3, 1, "relu6", pads=(2, 0))
    last = net.add(entry, net.site(last, "b5_project", 5, "project", 24, 1, 1, "linear"))
    last = net.site(last, "b6_depthwise", 6, "depthwise", 24, 2, 1, "linear", pads=(0, 0))
    last = net.site(last, "top", 7, "top", 48, 1, 1, "hard_swish")
    net.site(net.mean(last), "last", 8, "top", 40, 1, 1, "hard_swish", normalised=False)


def shallow(net: Builder) -> None:
    """MobileNetV2's beginning, ways down to stride 32 and end, with a block a stride."""
    last = net.site(IMAGE, "stem", 0, "stem", 8, 3, 2, "relu6")
    for block, (width, stride) in enumerate(((8, 2), (8, 2), (16, 2), (16, 1), (24, 2)), 1):
        entry = last
        last = net.site(last, f"b{block}_expand", block, "expand", 2 * width, 1, 1, "relu6")
        last = net.site(last, f"b{block}_depthwise", block, "depthwise", 2 * width, 3, stride, "relu6")
        last = net.site(last, f"b{block}_project", block, "project", width, 1, 1, "linear")
        if stride == 1:
            last = net.add(entry, last)
    net.mean(net.site(last, "top", 6, "top", 48, 1, 1, "relu6"))


def gate(net: Builder, source: int, name: str, block: int, width: int) -> int:
    pixel = net.site(net.mean(source), f"{name}_squeeze", block, "squeeze", 8, 1, 1, "relu", normalised=False)
    pixel = net.site(pixel, f"{name}_excite", block, "excite", width, 1, 1, "hard_sigmoid", normalised=False)
    return net.multiply(source, pixel)


def made(lay: Callable[[Builder], Any], padding: str = "same", size: int = 32, classes: int = 3) -> Backbone:
    """The network that `lay` lays down, with a classifier of its own."""
    net, rng = Builder(), np.random.default_rng(5)
    lay(net)
    plan = Plan(backbones.IMPORTED, 1.0, padding, 1e-3, tuple(net.nodes))  # so that it can be written
    tensors = {}
    for name, shape in backbones.shapes(plan).items():
        value = rng.normal(0, 1, shape)
        if name.endswith("/kernel"):
            value *= np.sqrt(2 / (value.size / shape[2 if shape[3] == 1 else 3]))
        tensors[name] = (np.abs(value) + 0.5 if name.endswith("/variance") else value).astype(np.float32)
    tensors["head_kernel"] = rng.normal(0, 0.3, (plan.features, classes)).astype(np.float32)
    tensors["head_bias"] = rng.normal(0, 0.3, classes).astype(np.float32)
    labels = tuple(f"class {index}" for index in range(classes))
    return Backbone(plan, tensors, Preprocessing(size, "stretch", (1 / 64,) * 3, (-2.0,) * 3), labels)


def values_of(backbone: Backbone, seed: int = 0, **more: np.ndarray) -> dict[str, np.ndarray]:
    """A task's values: every scale and bias changed a little, some scales negative, and a random head."""
    rng = np.random.default_rng(seed)
    own = backbone.defaults()
    scale = (
        own["scale"]
        * rng.uniform(0.8, 1.2, own["scale"].shape)
        * rng.choice([1, -1], own["scale"].shape, p=[0.98, 0.02])
    )
    return {
        "scale": scale.astype(np.float32),
        "bias": (own["bias"] + rng.normal(0, 0.1, own["bias"].shape)).astype(np.float32),
        "head_kernel": rng.normal(0, 0.3, (backbone.plan.features, 4)).astype(np.float32),
        "head_bias": rng.normal(0, 0.3, 4).astype(np.float32),
        **more,
    }


def pictures(backbone: Backbone, count: int = 3) -> np.ndarray:
    """Network inputs (count, size, size, 3)."""
    size = backbone.input.size
    return np.random.default_rng(9).normal(0, 1, (count, size, size, 3)).astype(np.float32)


def answers(model: Model, kind: str, images: np.ndarray, inputs: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """Logits (n, classes) of a model, run as on a device."""
    engine = engines.start(ENGINES[kind], model, 1)
    engine.bind(inputs or {})
    found = np.concatenate([engine.run(image[None])["logits"] for image in images])
    engine.close()
    return found


def require_near(got: np.ndarray, expected: np.ndarray, precision: str) -> None:
    assert np.sqrt(np.mean((got - expected) ** 2)) <= TOLERANCE[precision] * np.sqrt(np.mean(expected**2))
