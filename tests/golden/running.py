"""What graphs make of patches: decoded values, models to open, answers of engines."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgepatch import Runtime, blob, codec
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.head_network import PREFIX
from edgepatch.runtime import baking, fitting, graph_file, heads
from edgepatch.runtime.fitting import Fitted
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.head_model import HEADS
from edgepatch.runtime.heads.classifier import Classification
from edgepatch.runtime.heads.detector import Detections

from . import DATA, digests
from .pictures import png

PRECISIONS = ("fp32", "fp16", "dynamic", "int8")
FORMATS = ("tflite", "onnx")
GATED = tuple(f"gated-{precision}.{format}" for format in FORMATS for precision in PRECISIONS)
# of the two precisions whose arithmetic differs the most: the whole set would be 1.6 MB
MOBILENET = ("mobilenet-fp16.tflite", "mobilenet-int8.onnx")
ENGINES = {"tflite": "litert", "onnx": "onnx"}
PICTURE = "noise"  # what engines are asked


def runs(data: bytes, patches: dict[str, bytes]) -> dict[str, Any]:
    """For each patch what a graph makes of it; see `run`."""
    graph = graph_file.parse(data, "graph")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"graph.{graph.format}"
        path.write_bytes(data)
        for name, each in patches.items():
            found[name] = run(graph, each) | {"answers": answers(path, graph, blob.parse(each, name))}
    return found


def run(graph: Graph, data: bytes) -> dict[str, Any]:
    """What no engine has a part in: of the decoded values, the models to open, and what is bound.

    `decoded` is of all values as `codec.decode` gives them. `bind` and `bake` are of the models that an engine opens,
    `inputs` of what is bound; absent where the graph or the patch has no such form. `head` is of the model of a head's
    network, given the maps' shapes.
    """
    fitted = fitting.fit(graph, blob.parse(data, "patch"), "patch")
    heads.of(fitted.patch, fitted.values, "patch")
    found: dict[str, Any] = {
        "decoded": digests.of_tensors(codec.decode(fitted.patch, graph.trunk)),
        "bake": digests.of_model(baking.bake(graph, fitted)),
    }
    if "bind" in graph.forms and fitted.inputs is not None:
        found["bind"] = digests.of_model(baking.bind_model(graph, fitted))
        found["inputs"] = digests.of_tensors(fitted.inputs)
    if fitted.network:
        shapes = map_shapes(graph, fitted)
        found["maps"] = {name: list(shape) for name, shape in shapes.items()}
        weights = {name: value for name, value in fitted.values.items() if name.startswith(PREFIX)}
        found["head"] = digests.of_model(HEADS[graph.format].model(fitted.network, weights, shapes))
    return found


def map_shapes(graph: Graph, fitted: Fitted) -> dict[str, tuple[int, ...]]:
    """Of the maps that a head reads, (1, side, side, channels)."""
    assert fitted.network is not None
    sides = {"b4_project": 8, "top": 7}  # of 64 px; `answers` fails if they are not
    widths = {row["name"]: row["channels"] for row in graph.document["sites"]}
    return {name: (1, sides[name], sides[name], widths[name]) for name in fitted.network.maps}


def answers(path: Path, graph: Graph, patch: Patch) -> dict[str, Any]:
    """What the task says of the picture, in each mode that it can run in."""
    found = {}
    picture = Image.open(DATA / "pictures" / f"{PICTURE}.png")
    for mode in graph.forms:
        if mode == "bind" and not patch.bindable:
            continue
        with Runtime(path, mode=mode, engine=ENGINES[graph.format]) as runtime:
            runtime.add(patch)
            found[mode] = answer(runtime.predict(picture))
    return found


def answer(got: Any) -> dict[str, Any]:
    """An answer as JSON: `logits` and `probabilities`, `boxes`, or a `mask` as a grey PNG in base64."""
    if isinstance(got, Classification):
        return {"logits": numbers(got.logits), "probabilities": numbers(got.probabilities)}
    if isinstance(got, Detections):
        rows = zip(got.classes, got.scores, got.boxes, strict=True)
        return {
            "boxes": [{"class": int(row[0]), "score": numbers([row[1]])[0], "xyxy": numbers(row[2])} for row in rows]
        }
    return {"mask": base64.b64encode(png(Image.fromarray(got.mask))).decode()}


def unpacked(png: str) -> io.BytesIO:
    """A picture of `answer`'s, for PIL to open."""
    return io.BytesIO(base64.b64decode(png))


def numbers(values: Any) -> list[float]:
    """Float32 values with as many digits as tell them apart."""
    return [float(f"{value:.9g}") for value in np.asarray(values, np.float32).ravel()]


def trunk(graph: Graph) -> tuple[dict[str, Any], Tensors]:
    """A graph's sites and what they have of their own, as the document and the tensors of a container."""
    own = graph.trunk
    names = {"kind": "trunk", "names": own.names, "shapes": own.shapes, "channels": own.channels}
    kernels = {f"kernel/{name}": own.kernel(number) for number, name in enumerate(own.names)}
    return {**names, "residuals": own.residuals}, {"scale": own.scale, "bias": own.bias, **kernels}


def stored(data: bytes, graph: Graph) -> dict[str, Any]:
    """What a patch file holds, and what it makes of the network whose sites data/trunk.tensors has."""
    read = blob.parse(data, "patch")
    return {
        "task": read.task,
        "version": read.version,
        "kind": read.kind,
        "labels": list(read.labels),
        "sites": {effect: list(map(int, sites)) for effect, sites in read.sites.items()},
        "bindable": read.bindable,
        "ranges": None if read.ranges is None else digests.of_tensor(read.ranges),
        "tensors": {name: digests.of_tensor(value) for name, value in read.tensors.items()},
        "values": None
        if read.backbone_id != graph.backbone_id
        else {name: digests.of_tensor(value) for name, value in codec.decode(read, graph.trunk).items()},
    }
