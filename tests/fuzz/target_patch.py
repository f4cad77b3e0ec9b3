"""Patch files: read, decoded, held against graphs, bound, baked, and their heads laid out."""

from __future__ import annotations

import contextlib
import dataclasses

from edgepatch import blob, codec
from edgepatch.errors import EdgepatchError
from edgepatch.head_network import PREFIX
from edgepatch.runtime import baking, fitting, heads
from edgepatch.runtime.fitting import Fitted
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.head_model import HEADS

from . import common, containers
from .dice import Dice

LIMIT = 1 << 16
GRAPHS = ("tiny-fp32.tflite", "tiny-int8.tflite", "tiny-fp16.onnx")
GOLDEN = "gated-int8.tflite"


def one(data: bytes) -> None:
    with common.refusals():
        patch = blob.parse(data, "file")
        assert blob.dump(blob.parse(blob.dump(patch), "file")) == blob.dump(patch)
        gated = common.graph(GOLDEN)
        if patch.backbone_id == gated.backbone_id:
            fit(gated, patch)
            return
        for name in GRAPHS:
            graph = common.graph(name)
            with common.refusals():
                fit(graph, dataclasses.replace(patch, backbone_id=graph.backbone_id))


def fit(graph: Graph, patch: blob.Patch) -> None:
    """All that a device does with a patch before an interpreter sees it."""
    decoded = codec.decode(patch, graph.trunk, "file")
    assert sum(value.nbytes for value in decoded.values()) < 1 << 26
    fitted = fitting.fit(graph, patch, "file")
    heads.of(patch, fitted.values, "file")
    refused = lay_out(graph, fitted)
    if refused:
        raise refused


def lay_out(graph: Graph, fitted: Fitted) -> EdgepatchError | None:
    """The models that an engine would be given; the last refusal, if any is."""
    refused = None
    for form in graph.forms:
        if form == "bind" and fitted.inputs is None:
            continue
        try:
            model = (baking.bind_model if form == "bind" else baking.bake)(graph, fitted)
            assert model.nbytes < 4 * len(graph.data) + 4 * sum(v.nbytes for v in fitted.values.values()) + 65536
        except EdgepatchError as error:
            refused = error
    if fitted.network:
        widths = dict(zip(graph.trunk.names, graph.trunk.channels, strict=True))
        square = graph.format == "onnx"
        shapes = {name: (1, widths[name], 4, 4) if square else (1, 4, 4, widths[name]) for name in fitted.network.maps}
        weights = {name: value for name, value in fitted.values.items() if name.startswith(PREFIX)}
        with contextlib.suppress(ValueError):  # maps that do not go together: HeadModel says so in a sentence of ours
            HEADS[graph.format].model(fitted.network, weights, shapes)
    return refused


def mutate(data: bytes, dice: Dice, limit: int) -> bytes:
    return containers.mutated(data, dice, limit)


def seeds() -> dict[str, bytes]:
    sound = {path.stem: path.read_bytes() for path in sorted((common.golden.DATA / "patches").glob("*.epatch"))}
    return common.own(".epatch") | sound | common.broken_patches()
