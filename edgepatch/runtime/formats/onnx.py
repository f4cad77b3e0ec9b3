"""The shared .onnx: its graph is the form `bind`; in its metadata are the nodes of the form `bake`, over its kernels.

To bake is to give a session these nodes and, beside them, every weight: the folded ones lie in arrays of ours, which
ONNX Runtime takes as external data, so that every convolution is as constant as in a dedicated model.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepatch.container import Tensors
from edgepatch.runtime.folding import fold
from edgepatch.runtime.formats import protobuf, rows
from edgepatch.runtime.formats.flatbuffer import KEY, View
from edgepatch.runtime.formats.operators import require_onnx
from edgepatch.runtime.formats.protobuf import Span
from edgepatch.runtime.model import Model

if TYPE_CHECKING:
    from edgepatch.runtime.graph_file import Graph

# what the value behind a site is called, the last one first: in int8, with an activation, bound, or plain
ACTIVATED = ("/relu6", "/relu", "/hard_swish", "/hard_sigmoid")
ENDINGS = (*(f"{ending}/float" for ending in ACTIVATED), *ACTIVATED, "/float", "/scaled", "")
SIDE = "side"  # what the image's height and width are called, which the file leaves open


def find(data: bytes) -> Span | None:
    """Begin and end of the container, or None."""
    return protobuf.metadata(data, KEY)


def pack(payload: bytes) -> bytes:
    """A container as it stands in the file: ONNX metadata is text."""
    return base64.b64encode(payload)


def unpack(packed: bytes) -> bytes:
    """The inverse of `pack`; raises ValueError."""
    return base64.b64decode(packed, validate=True)


def require_known(data: bytes, tensors: Tensors) -> None:
    """Refuse forms with operators that edgepatch does not export; raises ValueError, IndexError."""
    require_onnx(data)
    require_onnx(tensors["bake_graph"].tobytes())


def locate(data: bytes, document: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    """The bake table with the places of the kernels it names, as the file itself has them; see `tflite.locate`.

    A block is a run of the `nodes` of the bake form, which the container holds.
    """
    found, table = protobuf.initializers(data), document["bake"]
    return {
        "sites": [
            rows.named(row) | {"kernel": list(found[f"{_name(row['operator'])}/kernel"])} for row in table["sites"]
        ],
        "head": rows.named(table["head"]) | {"operator": _name(table["head"]["operator"])},
        "activations": [
            {"tensor": _name(row["tensor"]), "range": rows.index(row["range"])} for row in table["activations"]
        ],
        "residuals": _blocks(document, tensors),
    }


def _blocks(document: dict[str, Any], tensors: Tensors) -> list[dict[str, Any]]:
    table = document["bake"]
    if not table["residuals"]:
        return []
    graph = protobuf.nodes(tensors["bake_graph"].tobytes())
    makers = {name: number for number, (_, makes) in enumerate(graph.nodes) for name in makes}
    found = rows.blocks(
        graph.nodes,
        graph.inputs,
        graph.outputs,
        [makers[row["operator"]] for row in table["sites"]],
        rows.claims(document, "nodes"),
    )
    return [{"nodes": [block.begin, block.end], "entry": block.entry, "join": block.join} for block in found]


def view(data: bytes, form: str) -> View:
    """No edits: each form is a graph of its own."""
    return View([])


def bind_model(graph: Graph, size: int, maps: Sequence[str] = ()) -> Model:
    """The form `bind` for images of a size: see `baking.bind_model`."""
    return Model(_answering(graph.data, maps), size=size)


def bake_model(graph: Graph, values: Tensors, ranges: np.ndarray, size: int, maps: Sequence[str] = ()) -> Model:
    """A dedicated model of one task: see `baking.bake`."""
    folded, table = fold(graph, rows.shifted(graph, values), ranges), graph.document["bake"]
    tensors: Tensors = {}
    for row, site, plan in zip(table["sites"], folded.sites, graph.document["sites"], strict=True):
        if site is None:
            continue
        height, width, *channels = plan["kernel"]  # HWIO; the file has (out, in per group, height, width)
        shape = (*(channels if plan["placement"] == "depthwise" else channels[::-1]), height, width)
        name = row["operator"]
        tensors |= {f"{name}/kernel": site.kernel.reshape(shape), f"{name}/bias": site.bias}
        if site.scale is not None:
            tensors |= _quantised(name, site.scale, folded.scales[row["input"]])
    head, name = folded.head, table["head"]["operator"]
    tensors |= {f"{name}/kernel": head.kernel, f"{name}/bias": head.bias}
    if head.scale is not None:
        tensors |= _quantised(name, head.scale, folded.scales[table["head"]["input"]])
    for row in table["activations"]:
        name, number = row["tensor"], row["range"]
        tensors[f"{name}/scale"] = np.array(folded.scales[number], np.float32)
        tensors[f"{name}/zero_point"] = np.array(folded.zero_points[number] + 128, np.uint8)  # activations are unsigned
    gone, instead = rows.skipped(table["residuals"], values)
    if not gone:
        return Model(_answering(graph.skeleton, maps), tensors, size)
    left_out = {number for row in gone for number in range(*row["nodes"])}
    skeleton, read = protobuf.without_nodes(graph.skeleton, left_out, instead)
    return Model(_answering(skeleton, maps), {name: value for name, value in tensors.items() if name in read}, size)


def _answering(model: bytes, maps: Sequence[str]) -> bytes:
    """A model that answers some sites' outputs behind its own, in their order.

    Raises:
        ValueError: it has no such site.
    """
    if not maps:
        return model
    made = {name for _, makes in protobuf.nodes(model).nodes for name in makes}
    names = []
    for site in maps:
        found = [name for ending in ENDINGS if (name := f"{site}{ending}") in made]
        if not found:
            raise ValueError(f"there is no output of the site {site}")
        names.append(found[0])
    return protobuf.with_outputs(model, names)


def whole(model: Model) -> bytes:
    """A baked model as one file: what a session is given beside it, the size and weights, is put into it."""
    assert model.size is not None
    data = protobuf.with_dimension(model.data, SIDE, model.size)
    return protobuf.with_initializers(data, model.tensors, inline=math.inf)[0]


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no name")
    return value


def _quantised(name: str, scale: np.ndarray, input_scale: np.float32) -> Tensors:
    return {
        f"{name}/kernel_scale": scale.astype(np.float32),
        f"{name}/bias_scale": (scale * input_scale).astype(np.float32),
        f"{name}/zeros": np.zeros(len(scale), np.int8),
        f"{name}/bias_zeros": np.zeros(len(scale), np.int32),
    }
