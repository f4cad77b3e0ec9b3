"""A backbone as one shared .tflite."""

from __future__ import annotations

from typing import Any

import numpy as np
from edgepatch.converters import document
from edgepatch.converters.tflite_writer import NONE, RELU, RELU6, SAME, VALID, Subgraph, Writer, attach

from edgepatch import quantisation
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE as IMAGE_NODE
from edgepatch.backbones.plan import Node, Site

# XNNPACK multiplies an image by a vector pixel by pixel, in calls as short as the vector. Where there are many pixels
# and few channels, the vector is first laid out for a whole row of them (docs/decisions/0005-cheaper-bind.md).
TILED_PIXELS, TILED_CHANNELS = 100, 128


def export(backbone: Backbone, precision: str = "fp32", placement: str = "all") -> bytes:
    """The shared graph.

    Signature `bind` takes `image` and the patch's tensors. Its kernels are constants, so that XNNPACK packs them, and
    scale and bias follow each convolution as MUL and ADD: a convolution whose filter or bias is an input falls out of
    XNNPACK. Signature `bake` takes `image` alone; its biases, head and quantisation parameters are for a runtime to
    write. Both answer `logits`.

    It is laid out for images of the backbone's own size; a runtime lays it out anew for patches of other sizes.

    Args:
        precision: of the kernels: `fp32`, `fp16`, `dynamic` (int8 kernels, float activations) or `int8`, which has
            the form `bake` only.
        placement: which sites `bind` gives inputs to; the others have the backbone's own values there.
    """
    return _export(backbone, precision, placement, document.forms(precision))[0]


def watchable(backbone: Backbone) -> tuple[bytes, dict[int, int]]:
    """A float graph with the form `bake` alone, and for each activation's tensor the number of its range in a patch."""
    return _export(backbone, "fp32", "all", ["bake"])


def _export(backbone: Backbone, precision: str, placement: str, forms: list[str]) -> tuple[bytes, dict[int, int]]:
    writer = Writer()
    graphs: dict[str, _Form] = {}
    for form in forms:
        make = {"bind": _Bind, "bake": _Integer if precision == "int8" else _Bake}[form]
        graphs[form] = make(writer, backbone, precision, placement)
        graphs[form].lay()
    model = writer.finish()
    data = document.seal(
        backbone,
        "tflite",
        precision,
        placement,
        forms=forms,
        table=graphs["bake"].table,
        tensors=document.tensors(backbone, precision, placement),
        attach=lambda packed: attach(model, packed),
    )
    return data, graphs["bake"].ranges


# what convolutions and sums do at once; a hard sigmoid's clips what was shifted (document.APART)
FUSED = {"linear": NONE, "relu": RELU, "relu6": RELU6, "hard_swish": NONE, "hard_sigmoid": RELU6}
DYNAMIC_FROM = 1024  # values; smaller kernels gain nothing from int8, and TensorFlow's converter leaves them, too


class _Form:
    """One subgraph: the walk over the plan, and what the forms have in common."""

    name: str
    dtype = "float32"  # of activations
    quantised: Any = None  # placeholder of an activation's scale and axis

    def __init__(self, writer: Writer, backbone: Backbone, precision: str, placement: str) -> None:
        self.graph: Subgraph = writer.subgraph(self.name)
        self.backbone, self.precision, self.placement = backbone, precision, placement
        self.table: dict[str, Any] = {"sites": [], "head": {}, "activations": []}
        self.ranges: dict[int, int] = {}  # which range each tensor is of
        self.ranges_apart = document.ranges_apart(backbone.plan)

    def lay(self) -> None:
        size, plan = self.backbone.input.size, self.backbone.plan
        self.inputs()
        image = self.image(self.graph.input(document.IMAGE, (1, size, size, 3)))
        values: list[int] = []
        ends: list[int] = []  # operators laid down up to each node
        for number, node in enumerate(plan.nodes, start=1):
            sources = [image if index == IMAGE_NODE else values[index] for index in node.inputs]
            values.append(self.node(node, sources, number))
            ends.append(len(self.graph.operators))
        features = self.mean(values[-1], "features", (1, plan.features), len(plan.nodes) + 1)
        self.graph.outputs[document.LOGITS] = self.head(features, len(plan.nodes) + 2)
        self.table["residuals"] = [
            {"operators": [ends[residual.entry], ends[residual.join]]} for residual in plan.residuals
        ]
        if self.quantised is not None:
            self.table["activations"] = [{"tensor": tensor, "range": number} for tensor, number in self.ranges.items()]

    def node(self, node: Node, sources: list[int], number: int) -> int:
        """A node of the plan, of the range `number` of a patch."""
        if node.site:
            return self.site(node.site, sources[0], number)
        name, shape = f"{node.op}_{number}", self.shape(sources[0])
        if node.op == "mean":
            return self.mean(sources[0], name, (1, 1, 1, shape[-1]), number)
        operator = {"add": "ADD", "multiply": "MUL"}[node.op]
        return self.graph.add(operator, sources, self.value(name, shape, number), fusedActivationFunction=NONE)

    def mean(self, x: int, name: str, shape: tuple[int, ...], number: int) -> int:
        """The mean over all pixels, with or without their axes, as `shape` says."""
        axes = self.graph.constant("axes", np.array([1, 2], np.int32), share="axes")
        return self.graph.add("MEAN", [x, axes], self.value(name, shape, number), keepDims=len(shape) == 4)

    def inputs(self) -> None:
        """Inputs beside the image."""

    def image(self, image: int) -> int:
        self.ranges[image] = 0
        return image

    def site(self, site: Site, x: int, number: int) -> int:
        """A site with constant kernel and bias, and its activation."""
        apart = site.activation in document.APART
        name, between = (f"{site.name}/apart", self.ranges_apart[site]) if apart else (site.name, number)
        y = self.convolve(site, x, self.bias(site), name, between, FUSED[site.activation])
        row = document.row(len(self.graph.operators) - 1, self.ranges[x], document.shift(site))
        self.table["sites"].append(row)
        return self.apart(site, y, number) if apart else y

    def apart(self, site: Site, y: int, number: int) -> int:
        """What is left of a site's activation behind its convolution."""
        value = self.value(site.name, self.shape(y), number)
        if site.activation == "hard_swish":
            return self.graph.add("HARD_SWISH", [y], value)
        if self.quantised is None:
            sixth = self.graph.constant("sixth", np.array(1 / 6, np.float32), share="sixth")
        else:
            sixth = self.graph.constant("sixth", np.array(127, np.int8), share="sixth", quantisation=(1 / 6 / 127, 0))
        return self.graph.add("MUL", [y, sixth], value, fusedActivationFunction=NONE)

    def bias(self, site: Site) -> int:
        """The backbone's own; a runtime writes a task's when it bakes."""
        own, name = self.backbone.fold(site)[1] + np.float32(document.shift(site)), f"{site.name}/bias"
        if self.quantised is None:
            return self.graph.constant(name, own, share=name)
        return self.graph.constant(name, np.zeros(own.shape, np.int32), quantisation=(np.ones(own.shape), 0))

    def head(self, features: int, number: int) -> int:
        raise NotImplementedError

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(int(side) for side in self.graph.tensors[tensor].shape)

    def value(self, name: str, shape: tuple[int, ...], number: int) -> int:
        """A new activation, of the range `number` of a patch."""
        tensor = self.graph.tensor(name, shape, self.dtype, quantisation=self.quantised)
        self.ranges[tensor] = number
        return tensor

    def kernel(self, site: Site) -> int:
        """A site's kernel in TFLite's layout: (out, height, width, in), depthwise (1, height, width, channels)."""
        values = document.kernel(self.backbone, site, self.placement).transpose((3, 0, 1, 2))
        name = f"{site.name}/kernel"
        small = self.precision == "dynamic" and values.size < DYNAMIC_FROM
        if self.precision in ("dynamic", "int8") and not small:
            axis = 3 if site.depthwise else 0
            stored, most = quantisation.weights(values, axis)
            return self.graph.constant(name, stored, share=name, quantisation=(most / np.float32(127), axis))
        if self.precision == "fp16":
            half = self.graph.constant(name, values.astype(np.float16), share=name)
            whole = self.graph.tensor(f"{name}/float", values.shape)
            return self.graph.add("DEQUANTIZE", [half], whole)
        return self.graph.constant(name, values, share=name)

    def convolve(self, site: Site, x: int, bias: int, name: str, number: int, activation: int) -> int:
        """A site's convolution, with zeros around its input where TFLite's own padding would put them elsewhere.

        What is laid down is right for images of any size: see `Plan.same`.
        """
        _, side, _, channels = self.shape(x)
        around, same = self.backbone.plan.pads(site, side), self.backbone.plan.same(site)
        out = (side + sum(around) - site.kernel[0]) // site.stride + 1
        if any(around) and not same:
            sides = np.array([[0, 0], around, around, [0, 0]], np.int32)
            zeros = self.graph.constant(f"pads/{around}", sides, share=f"pads/{around}")
            wide = side + sum(around)
            padded = self.value(f"{site.name}/pad", (1, wide, wide, channels), self.ranges[x])
            x = self.graph.add("PAD", [x, zeros], padded)
        y = self.value(name, (1, out, out, site.channels), number)
        options = {
            "padding": SAME if same else VALID,
            "strideW": site.stride,
            "strideH": site.stride,
            "fusedActivationFunction": activation,
        }
        if site.depthwise:
            operator, options = "DEPTHWISE_CONV_2D", {**options, "depthMultiplier": 1}
        else:
            operator = "CONV_2D"
        return self.graph.add(operator, [x, self.kernel(site), bias], y, **options)


class _Bind(_Form):
    """Scale and bias are inputs."""

    name = "bind"

    def inputs(self) -> None:
        shapes = document.inputs(self.backbone, self.placement)
        for name, shape in shapes.items():
            free = [-1 if side is None else side for side in shape]
            self.graph.input(name, [abs(side) for side in free], free=free if -1 in free else None)
        bound = [site for site in self.backbone.plan.sites if site.within(self.placement)]
        sizes = self.graph.constant("channels", np.array([site.channels for site in bound], np.int32))
        axis = self.graph.constant("axis", np.array(0, np.int32))
        self.parts: dict[tuple[str, Site], int] = {}
        for name in ("scale", "bias"):
            parts = [self.graph.tensor(f"{site.name}/{name}", (site.channels,)) for site in bound]
            self.graph.add("SPLIT_V", [self.graph.inputs[name], sizes, axis], *parts, numSplits=len(parts))
            self.parts |= {(name, site): part for site, part in zip(bound, parts, strict=True)}

    def site(self, site: Site, x: int, number: int) -> int:
        if not site.within(self.placement):
            return super().site(site, x, number)
        count = site.channels
        zeros = self.graph.constant(f"zeros/{count}", np.zeros(count, np.float32), share=f"zeros/{count}")
        y = self.convolve(site, x, zeros, f"{site.name}/convolution", number, NONE)
        _, _, side, _ = shape = self.shape(y)
        shift, activation = document.shift(site), FUSED[site.activation]
        for name, operator, fused in (("scale", "MUL", NONE), ("bias", "ADD", NONE if shift else activation)):
            part = self.parts[name, site]
            if side * side >= TILED_PIXELS and count <= TILED_CHANNELS:
                ones = self.graph.constant(f"ones/{side}", np.ones((side, 1), np.float32), share=f"ones/{side}")
                tiled = self.graph.tensor(f"{site.name}/{name}/tiled", (side, count))
                part = self.graph.add("MUL", [ones, part], tiled, fusedActivationFunction=NONE)
            y = self.graph.add(
                operator,
                [y, part],
                self.value(f"{site.name}/{operator.lower()}", shape, number),
                fusedActivationFunction=fused,
            )
        if shift:
            three = self.graph.constant("shift", np.array(shift, np.float32), share="shift")
            clipped = self.value(f"{site.name}/clipped", shape, number)
            y = self.graph.add("ADD", [y, three], clipped, fusedActivationFunction=activation)
        return self.apart(site, y, number) if site.activation in document.APART else y

    def head(self, features: int, number: int) -> int:
        product = self.graph.tensor("head/product", (1, 1), free=(1, -1))
        self.graph.add("BATCH_MATMUL", [features, self.graph.inputs["head_kernel"]], product)
        logits = self.graph.tensor(document.LOGITS, (1, 1), free=(1, -1))
        return self.graph.add("ADD", [product, self.graph.inputs["head_bias"]], logits, fusedActivationFunction=NONE)


class _Bake(_Form):
    """Everything is constant; biases and head are placeholders until a runtime writes a task's."""

    name = "bake"

    def head(self, features: int, number: int) -> int:
        scales = None if self.quantised is None else (1.0, 0)
        placeholder = np.zeros((1, self.backbone.plan.features), self.dtype)
        kernel = self.graph.constant("head/kernel", placeholder, quantisation=scales)
        wide = "float32" if self.quantised is None else "int32"
        bias = self.graph.constant("head/bias", np.zeros(1, wide), quantisation=scales)
        logits = self.value(document.LOGITS, (1, 1), number)
        options = {"fusedActivationFunction": NONE, "keepNumDims": False}
        self.graph.add("FULLY_CONNECTED", [features, kernel, bias], logits, **options)
        self.table["head"] = {"operator": len(self.graph.operators) - 1, "input": self.ranges[features]}
        return logits


class _Integer(_Bake):
    """The bake form in int8: scales and zero points of activations are placeholders, too."""

    dtype = "int8"
    quantised = (1.0, 0)

    def image(self, image: int) -> int:
        return self.graph.add("QUANTIZE", [image], self.value("image/int8", self.shape(image), 0))

    def head(self, features: int, number: int) -> int:
        stored = super().head(features, number)
        return self.graph.add("DEQUANTIZE", [stored], self.graph.tensor("logits/float", (1, 1)))
