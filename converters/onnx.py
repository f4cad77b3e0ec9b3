"""A backbone as one shared .onnx."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from edgepatch.converters import document
from onnx import TensorProto, helper, numpy_helper

from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE as IMAGE_NODE
from edgepatch.backbones.plan import Site, pads
from edgepatch.blob import Patch
from edgepatch.runtime import graph_file

OPSET = 17
IR_VERSION = 8  # read by every ONNX Runtime since 1.11


class Builder:
    """Nodes and constants of a graph as they are laid down."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def model(self, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> Any:
        def values(shapes: dict[str, list[Any]]) -> list[Any]:
            return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

        tensors = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "edgepatch", values(inputs), values(outputs), tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="edgepatch")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return model


def export(backbone: Backbone, precision: str = "fp32") -> bytes:
    """The shared graph: takes `image` (1, size, size, 3) and the patch's tensors, and answers `logits`.

    Scale and bias are the inputs of one BatchNormalization behind each convolution, of mean 0, variance 1 and
    epsilon 0: faster in ONNX Runtime than a Mul and an Add.
    """
    builder, channels = Builder(), backbone.plan.channels
    cuts = builder.constant("channels", np.array(channels, np.int64))
    for name in ("scale", "bias"):
        parts = [f"{site.name}/{name}" for site in backbone.plan.sites]
        builder.nodes.append(helper.make_node("Split", [name, cuts], parts, name=f"split/{name}", axis=0))
    for count in sorted(set(channels)):
        builder.constant(f"zeros/{count}", np.zeros(count, np.float32))
        builder.constant(f"ones/{count}", np.ones(count, np.float32))

    def convolve(site: Site, x: str) -> str:
        y = _convolution(builder, backbone, site, x, backbone.part(site, "kernel"))
        count = site.channels
        norms = [f"{site.name}/scale", f"{site.name}/bias", f"zeros/{count}", f"ones/{count}"]
        return builder.add("BatchNormalization", [y, *norms], f"{site.name}/scaled", epsilon=0.0)

    features = _features(builder, backbone, convolve)
    builder.add("Gemm", [features, "head_kernel", "head_bias"], document.LOGITS)
    shapes = {
        name: ["classes" if side is None else side for side in shape]
        for name, shape in document.inputs(backbone).items()
    }
    size = backbone.input.size
    model = builder.model({document.IMAGE: [1, size, size, 3], **shapes}, {document.LOGITS: [1, "classes"]})

    def attach(packed: bytes) -> bytes:
        del model.metadata_props[:]
        helper.set_model_props(model, {graph_file.KEY: packed.decode()})
        return bytes(model.SerializeToString())

    return document.seal(backbone, "onnx", precision, attach)


def dedicated(backbone: Backbone, patch: Patch) -> bytes:
    """A plain .onnx of one task, its scales folded into the kernels: what edgepatch is measured against."""
    values = {**backbone.defaults(), **patch.values()}
    builder, ends = Builder(), np.cumsum(backbone.plan.channels)

    def convolve(site: Site, x: str) -> str:
        cut = slice(ends[site.index] - site.channels, ends[site.index])
        scale = values["scale"][cut]
        kernel = backbone.part(site, "kernel") * (scale[:, None] if site.depthwise else scale)
        return _convolution(builder, backbone, site, x, kernel, values["bias"][cut])

    features = _features(builder, backbone, convolve)
    head = [builder.constant(name, values[name]) for name in ("head_kernel", "head_bias")]
    builder.add("Gemm", [features, *head], document.LOGITS)
    size = backbone.input.size
    model = builder.model({document.IMAGE: [1, size, size, 3]}, {document.LOGITS: [1, len(patch.labels)]})
    return bytes(model.SerializeToString())


def _features(builder: Builder, backbone: Backbone, convolve: Any) -> str:
    image = builder.add("Transpose", [document.IMAGE], "image/nchw", perm=[0, 3, 1, 2])
    limits = [builder.constant(f"relu6/{name}", np.float32(value)) for name, value in (("low", 0), ("high", 6))]
    values: list[str] = []
    for number, node in enumerate(backbone.plan.nodes):
        sources = [image if index == IMAGE_NODE else values[index] for index in node.inputs]
        if node.site:
            x = convolve(node.site, sources[0])
            values.append(builder.add("Clip", [x, *limits], f"{node.site.name}/relu6") if node.site.relu6 else x)
        else:
            values.append(builder.add("Add", sources, f"add/{number}"))
    pooled = builder.add("GlobalAveragePool", [values[-1]], "features/pooled")
    return builder.add("Flatten", [pooled], "features")


def _convolution(
    builder: Builder, backbone: Backbone, site: Site, x: str, kernel: np.ndarray, bias: np.ndarray | None = None
) -> str:
    """HWIO kernels to ONNX's (out, in per group, height, width)."""
    weights = [
        builder.constant(f"{site.name}/kernel", kernel.transpose((2, 3, 0, 1) if site.depthwise else (3, 2, 0, 1)))
    ]
    if bias is not None:
        weights.append(builder.constant(f"{site.name}/folded_bias", bias))
    before, behind = pads(_side(backbone, site), site.kernel[0], site.stride, backbone.plan.padding)
    return builder.add(
        "Conv",
        [x, *weights],
        f"{site.name}/conv",
        kernel_shape=list(site.kernel[:2]),
        strides=[site.stride] * 2,
        pads=[before, before, behind, behind],
        group=site.channels if site.depthwise else 1,
    )


def _side(backbone: Backbone, site: Site) -> int:
    """Side of the pixels a site sees: each strided site before it has halved them, rounded up."""
    side = backbone.input.size
    for earlier in backbone.plan.sites[: site.index]:
        side = math.ceil(side / earlier.stride)
    return side
