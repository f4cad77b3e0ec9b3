"""Detectors and segmenters on devices' interpreters: the same answers as in Keras, and what an answer takes.

python benchmarks/detection/study.py run     # trains the patches that are used here
python benchmarks/tables.py detection-parity detection-latency
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from edgepatch.converters import parity

from detection import predictions
from detection.study import SETS, SHARED, backbone, graph_of, patch_of
from edgepatch import Runtime, blob, imaging
from edgepatch.blob import Patch
from edgepatch.head_network import PREFIX
from edgepatch.progress import hushed
from edgepatch.runtime import baking, engines, fitting, graph_file, heads
from edgepatch.runtime.formats import onnx as onnx_format
from edgepatch.runtime.formats import onnx_head
from edgepatch.runtime.model import Model

PICTURES = 100
ENGINES = (("litert", "tflite"), ("tflite-runtime", "tflite"), ("onnx", "onnx"))
ROUNDS, RUNS = 15, 8


def pictures(name: str) -> list[Path]:
    """Up to 100 pictures that were not trained on, test first."""
    folder = SHARED / SETS[name][0]
    found = [path for split in ("test", "val") for path in sorted((folder / split).rglob("*.jpg"))]
    return found[:PICTURES]


class Keras:
    """A task's network in Keras' deployment form, with the device's decoding."""

    def __init__(self, patch: Patch) -> None:
        self.patch, self.head = patch, heads.of(patch, backbone(patch.input.size).values(patch), "")
        self.model, self.names = parity.deployed(backbone(patch.input.size), patch)

    def predict(self, path: Path) -> Any:
        picture = imaging.load(path)
        outputs = parity.answers(self.model, self.names, self.patch.input.prepare(picture))
        return self.head.decode(outputs, self.patch, picture.size)

    def tflite(self) -> bytes:
        """The whole network by TensorFlow's converter: a dedicated model, whose outputs are in the order of `names`."""
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        size, model = self.patch.input.size, self.model

        @tf.function(input_signature=[tf.TensorSpec([1, size, size, 3], tf.float32, name="image")])
        def serve(image: Any) -> Any:
            return model(image, training=False)

        with hushed():
            frozen = convert_variables_to_constants_v2(serve.get_concrete_function())
            return bytes(tf.lite.TFLiteConverter.from_concrete_functions([frozen], model).convert())


def parity_rows() -> list[list[str]]:
    """Each engine and mode against Keras: pictures with the same answers, and the largest differences."""
    rows = [["task", "pictures", "engine", "mode", "same answers", "largest difference", "of scores or shares"]]
    for name in SETS:
        path = patch_of(name, "scale_bias", 0)
        reference, paths = Keras(blob.read(path)), pictures(name)
        expected = [reference.predict(each) for each in paths]
        for engine, kind in ENGINES:
            for mode in ("bind", "bake"):
                graph = graph_of(SETS[name][2], kind)
                got = predictions.of(engine, mode, graph, path, paths)
                same, off, sure = compare(expected, got)
                rows.append([name, str(len(paths)), engine, mode, f"{same}/{len(paths)}", off, sure])
    return rows


def compare(expected: Sequence[Any], got: Sequence[Any]) -> tuple[int, str, str]:
    """In how many pictures the answers are the same, how far others are, and how far scores are.

    The same boxes: as many, of the same classes in the same order, no side more than a pixel off; the same mask: every
    pixel. Boxes whose scores are closer than 1e-4 may stand in either order.
    """
    if hasattr(got[0], "mask"):
        off = [float((want.mask != have.mask).mean()) for want, have in zip(expected, got, strict=True)]
        return sum(share == 0 for share in off), f"{max(off):.1e} of a mask's pixels", ""
    same, apart, sure = 0, 0.0, 0.0
    for want, have in zip(expected, got, strict=True):
        if len(want.scores) != len(have.scores):
            apart = np.inf
            continue
        orders = [np.lexsort((each.boxes[:, 0].round(), each.classes)) for each in (want, have)]
        first, second = (each.boxes[order] for each, order in zip((want, have), orders, strict=True))
        alike = bool((want.classes[orders[0]] == have.classes[orders[1]]).all())
        off = float(np.abs(first - second).max(initial=0))
        sure = max(sure, float(np.abs(want.scores[orders[0]] - have.scores[orders[1]]).max(initial=0)))
        apart, same = max(apart, off), same + (alike and off <= 1)
    return same, f"{apart:.3f} px", f"{sure:.1e}"


def latency_rows() -> list[list[str]]:
    """Milliseconds of one answer, from a decoded picture to boxes or mask, and its ratio to a dedicated model."""
    rows = [["task", "engine", "dedicated", "baked", "bound", "of it preparing the picture and decoding"]]
    for name in SETS:
        reference, picture = Keras(blob.read(patch_of(name, "scale_bias", 0))), imaging.load(pictures(name)[0])
        for engine, kind in (("litert", "tflite"), ("onnx", "onnx")):
            spent = _spent(name, reference, picture, engine, kind)
            own = spent["dedicated"]
            ratios = [f"{spent[way]:.2f} ms, {spent[way] / own:.2f}" for way in ("baked", "bound")]
            rows.append([name, engine, f"{own:.2f} ms", *ratios, f"{spent['numpy']:.2f} ms"])
    return rows


def _spent(name: str, reference: Keras, picture: Any, engine: str, kind: str) -> dict[str, float]:
    patch, path = reference.patch, graph_of(reference.patch.input.size, kind)
    data = reference.tflite() if kind == "tflite" else _merged(patch)
    opened = engines.start(engine, Model(data), 1)
    opened.bind({})

    def ready() -> dict[str, np.ndarray]:
        found = opened.run(patch.input.prepare(picture))
        if kind == "tflite":  # TensorFlow calls them output_0, output_1, ...
            return {each: found[f"output_{number}"] for number, each in enumerate(reference.names)}
        return {each: found[each] for each in reference.names}

    outputs = ready()
    with (
        Runtime(path, engine=engine, mode="bake", threads=1) as baked,
        Runtime(path, engine=engine, mode="bind", threads=1) as bound,
    ):
        for runtime in (baked, bound):
            runtime.load(patch_of(name, "scale_bias", 0))
        found = timed(
            {
                "dedicated": lambda: reference.head.decode(ready(), patch, picture.size),
                "baked": lambda: baked.predict(picture),
                "bound": lambda: bound.predict(picture),
                "numpy": lambda: (
                    patch.input.prepare(picture),
                    reference.head.decode(outputs, patch, picture.size),
                ),
            }
        )
    opened.close()
    return found


def timed(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median milliseconds of each, taking turns in another order each round."""
    rng = np.random.default_rng(0)
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name in rng.permutation(list(ways)):
            ways[name]()
            start = time.perf_counter()
            for _ in range(RUNS):
                ways[name]()
            spent[name].append((time.perf_counter() - start) / RUNS * 1e3)
    return {name: statistics.median(values) for name, values in spent.items()}


def _merged(patch: Patch) -> bytes:
    """Trunk and head of a task in one .onnx, a dedicated model: there is no exporter from Keras among our packages."""
    import onnx

    graph = graph_file.read(graph_of(patch.input.size, "onnx"))
    fitted = fitting.fit(graph, patch, None)
    assert fitted.network
    trunk = onnx.load_model_from_string(onnx_format.whole(baking.bake(graph, fitted)))
    maps = [output.name for output in trunk.graph.output][-len(fitted.maps) :]
    plan = backbone(patch.input.size).plan
    sides = dict(zip(plan.nodes, plan.sides(patch.input.size), strict=True))
    shapes = {node.site.name: (1, node.site.channels, side, side) for node, side in sides.items() if node.site}
    weights = {name: value for name, value in fitted.values.items() if name.startswith(PREFIX)}
    made = onnx_head.model(fitted.network, weights, {name: shapes[name] for name in fitted.maps})
    head = onnx.compose.add_prefix(onnx.load_model_from_string(made.data), "head/")
    joins = [(name, f"head/{site}") for name, site in zip(maps, fitted.maps, strict=True)]
    whole = onnx.compose.merge_models(trunk, head, io_map=joins, outputs=[each.name for each in head.graph.output])
    names = {each.name: each.name.removeprefix("head/").removesuffix("/nhwc") for each in head.graph.output}
    for output in whole.graph.output:
        output.name = names[output.name]
    for node in whole.graph.node:
        node.output[:] = [names.get(each, each) for each in node.output]
    return bytes(whole.SerializeToString())
