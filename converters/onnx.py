"""A backbone as one shared .onnx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from edgepatch.converters import document
from onnx import TensorProto, helper, numpy_helper

from edgepatch import quantisation
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE as IMAGE_NODE
from edgepatch.backbones.plan import Node, Site
from edgepatch.runtime.formats import KEY
from edgepatch.runtime.formats.onnx import SIDE

OPSET = 17
IR_VERSION = 8  # read by every ONNX Runtime since 1.11
HEAD = "head"


def export(backbone: Backbone, precision: str = "fp32", placement: str = "all") -> bytes:
    """The shared graph: takes `image` (1, side, side, 3) and the patch's tensors, and answers `logits`.

    The side is left open, for a session to be told. The graph is the form `bind`. Most sites have one
    BatchNormalization of mean 0, variance 1 and epsilon 0 behind their convolution, faster in ONNX Runtime than a Mul
    and an Add; others a kernel that is scaled. The inputs have defaults, the backbone's own values and a head of zeros,
    so that other tools run the file as it stands. The nodes of the form `bake` travel in the metadata, over the same
    kernels. A graph in `int8` is QDQ and has only this form.

    Args:
        precision, placement: as of `tflite.export`; but `dynamic` kernels are int8 in the file alone and float32 in
            use, for ONNX Runtime's dynamically quantised convolutions are slower than its float ones.
    """
    bake = (_Integer if precision == "int8" else _Bake)(backbone, precision, placement)
    skeleton = bake.model()
    model = bake.model(weights=True) if precision == "int8" else _Bind(backbone, precision, placement).model()

    def attach(packed: bytes) -> bytes:
        del model.metadata_props[:]
        helper.set_model_props(model, {KEY: packed.decode()})
        return bytes(model.SerializeToString())

    tensors = document.tensors(backbone, precision, placement)
    tensors["bake_graph"] = np.frombuffer(skeleton.SerializeToString(), np.uint8)
    forms = document.forms(precision)
    return document.seal(
        backbone, "onnx", precision, placement, forms=forms, table=bake.table, tensors=tensors, attach=attach
    )


class _Form:
    """A graph as it is laid down: nodes, constants, and the walk over the plan."""

    left_out: Mapping[int, int] = {}  # nodes that are not laid down, and those that are read in their place
    side: str | int = SIDE  # of the image

    def __init__(self, backbone: Backbone, precision: str, placement: str) -> None:
        self.backbone, self.precision, self.placement = backbone, precision, placement
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.placeholders: dict[str, np.ndarray] = {}  # what a runtime supplies
        self.table: dict[str, Any] = {"sites": [], "head": {}, "activations": []}
        self.ranges: dict[str, int] = {}  # which range of a patch each value has
        self.ranges_apart = document.ranges_apart(backbone.plan)
        nodes, size = backbone.plan.nodes, backbone.input.size
        sides = [*backbone.plan.sides(size), size]  # the last one, of index IMAGE_NODE, is the image's
        self.sides = {node.site: (sides[node.inputs[0]], sides[at]) for at, node in enumerate(nodes) if node.site}
        self.lay()

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = np.asarray(value, order="C")
        return name

    def placeholder(self, name: str, value: np.ndarray) -> str:
        self.placeholders[name] = np.asarray(value, order="C")  # a scalar stays one
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def lay(self) -> None:
        nodes = self.backbone.plan.nodes
        image = self.activation(document.IMAGE, 0)
        image = self.activation(self.add("Transpose", [image], "image/nchw", perm=[0, 3, 1, 2]), 0)
        values: list[str] = []
        ends: list[int] = []  # nodes of the graph up to each node of the plan
        for number, node in enumerate(nodes, start=1):
            if number - 1 in self.left_out:
                values.append(values[self.left_out[number - 1]])
            else:
                sources = [image if index == IMAGE_NODE else values[index] for index in node.inputs]
                values.append(self.activation(self.node(node, sources, number), number))
            ends.append(len(self.nodes))
        self.table["residuals"] = [
            {"nodes": [ends[residual.entry], ends[residual.join]]} for residual in self.backbone.plan.residuals
        ]
        pooled = self.activation(self.add("GlobalAveragePool", [values[-1]], "features/pooled"), len(nodes) + 1)
        features = self.activation(self.add("Flatten", [pooled], "features"), len(nodes) + 1)
        self.head(features, len(nodes) + 2)

    def node(self, node: Node, sources: list[str], number: int) -> str:
        """A node of the plan."""
        if node.site:
            return self.activate(node.site, self.site(node.site, sources[0]))
        operator = {"add": "Add", "multiply": "Mul", "mean": "GlobalAveragePool"}[node.op]
        return self.add(operator, sources, f"{node.op}/{number}")

    def activation(self, name: str, number: int) -> str:
        """The value `name`, of the range `number` of a patch."""
        self.ranges[name] = number
        return name

    def site(self, site: Site, x: str) -> str:
        """A site, up to its activation."""
        return self.convolve(site, x, self.weights(site, x))

    def convolve(self, site: Site, x: str, weights: list[str]) -> str:
        before, behind = self.backbone.plan.pads(site, self.sides[site][0])
        # where the zeros depend on the image's size, ONNX Runtime finds them by TensorFlow's rule
        by_rule = site.stride > 1 and self.backbone.plan.same(site)
        padding = {"auto_pad": "SAME_UPPER"} if by_rule else {"pads": [before, before, behind, behind]}
        return self.add(
            "Conv",
            [x, *weights],
            site.name,
            kernel_shape=list(site.kernel[:2]),
            strides=[site.stride] * 2,
            group=site.channels if site.depthwise else 1,
            **padding,
        )

    def activate(self, site: Site, y: str) -> str:
        """A site's activation."""
        if site.activation == "linear":
            return y
        operator = {"relu": "Relu", "relu6": "Clip", "hard_swish": "HardSwish", "hard_sigmoid": "HardSigmoid"}
        inputs, options = [y], {}
        if site.activation == "relu6":
            inputs += [self.constant(f"relu6/{end}", np.float32(at)) for end, at in (("low", 0), ("high", 6))]
        if site.activation == "hard_sigmoid":
            options = {"alpha": 1 / 6, "beta": 0.5}
        return self.add(operator[site.activation], inputs, f"{site.name}/{site.activation}", **options)

    def weights(self, site: Site, x: str) -> list[str]:
        """The names of a site's kernel and bias."""
        raise NotImplementedError

    def head(self, features: str, number: int) -> None:
        raise NotImplementedError

    def kernel(self, site: Site) -> np.ndarray:
        """A site's kernel in ONNX's layout: (out, in per group, height, width)."""
        kernel = document.kernel(self.backbone, site, self.placement)
        return kernel.transpose((2, 3, 0, 1) if site.depthwise else (3, 2, 0, 1))

    def model(self, weights: bool = False) -> Any:
        """The graph as a model; with its placeholders as initializers or, for a runtime to add them, without."""
        inputs, outputs, free = self.signature()
        tensors = {**self.constants, **(self.placeholders if weights else {}), **free}
        graph = helper.make_graph(
            self.nodes,
            "edgepatch",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            [numpy_helper.from_array(value, name) for name, value in tensors.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="edgepatch")
        model.ir_version = IR_VERSION
        if weights or not self.placeholders:
            onnx.checker.check_model(model, full_check=True)
        return model

    def signature(self) -> tuple[dict[str, list[Any]], dict[str, list[Any]], dict[str, np.ndarray]]:
        """Shapes of inputs and outputs, and the defaults of those inputs that have one."""
        return {document.IMAGE: [1, self.side, self.side, 3]}, {document.LOGITS: [1, "classes"]}, {}


class _Bind(_Form):
    """Scale and bias are inputs."""

    def lay(self) -> None:
        self.bound = [site for site in self.backbone.plan.sites if site.within(self.placement)]
        cuts = self.constant("channels", np.array([site.channels for site in self.bound], np.int64))
        for name in ("scale", "bias"):
            parts = [f"{site.name}/{name}" for site in self.bound]
            self.nodes.append(helper.make_node("Split", [name, cuts], parts, name=f"split/{name}", axis=0))
        super().lay()

    def site(self, site: Site, x: str) -> str:
        if site not in self.bound:
            return super().site(site, x)
        count, name, (kernel, *_) = site.channels, site.name, self.weights(site, x)
        if self.scales_kernel(site):
            column = self.constant("column", np.array([-1, 1, 1, 1], np.int64))
            scale = self.add("Reshape", [f"{name}/scale", column], f"{name}/scale/column")
            return self.convolve(site, x, [self.add("Mul", [kernel, scale], f"{name}/kernel/scaled"), f"{name}/bias"])
        zeros = self.constant(f"zeros/{count}", np.zeros(count, np.float32))
        ones = self.constant(f"ones/{count}", np.ones(count, np.float32))
        norms = [f"{name}/scale", f"{name}/bias", zeros, ones]
        return self.add("BatchNormalization", [self.convolve(site, x, [kernel]), *norms], f"{name}/scaled", epsilon=0.0)

    def scales_kernel(self, site: Site) -> bool:
        """Whether it is cheaper to scale the kernel at every run than what comes out.

        It is for 1x1 kernels smaller than the image, which ONNX Runtime takes as they come; and what lies beside a
        depthwise site that is bound need then not change its layout twice (docs/decisions/0005-cheaper-bind.md).
        """
        _, side = self.sides[site]
        if site.kernel[:2] != (1, 1):
            return False
        if site.placement == "expand":
            return side * side > 2 * site.kernel[2]
        return site.placement == "project" and any(other.depthwise for other in self.bound)

    def weights(self, site: Site, x: str) -> list[str]:
        name, values = f"{site.name}/kernel", self.kernel(site)
        kernel = name
        if self.precision == "fp16":
            half = self.constant(name, values.astype(np.float16))
            kernel = self.add("Cast", [half], f"{name}/float", to=TensorProto.FLOAT)
        elif self.precision == "dynamic":
            stored, most = quantisation.weights(values, 0)
            # not a DequantizeLinear: ONNX Runtime would do that again at every run
            whole = self.add("Cast", [self.constant(name, stored)], f"{name}/float", to=TensorProto.FLOAT)
            steps = self.constant(f"{name}_scale", (most / np.float32(127)).reshape(-1, 1, 1, 1))
            kernel = self.add("Mul", [whole, steps], f"{name}/dequantised")
        else:
            self.constant(name, values)
        if site in self.bound:
            return [kernel]
        return [kernel, self.constant(f"{site.name}/bias", self.backbone.fold(site)[1])]

    def head(self, features: str, number: int) -> None:
        self.add("Gemm", [features, "head_kernel", "head_bias"], document.LOGITS)

    def signature(self) -> tuple[dict[str, list[Any]], dict[str, list[Any]], dict[str, np.ndarray]]:
        inputs, outputs, _ = super().signature()
        for name, shape in document.inputs(self.backbone, self.placement).items():
            inputs[name] = ["classes" if side is None else side for side in shape]
        cuts = [self.backbone.fold(site) for site in self.bound]
        own = {
            "scale": np.concatenate([scale for scale, _ in cuts]),
            "bias": np.concatenate([bias for _, bias in cuts]),
            "head_kernel": np.zeros((self.backbone.plan.features, 1), np.float32),
            "head_bias": np.zeros(1, np.float32),
        }
        return inputs, outputs, own


class _Bake(_Form):
    """Everything is constant, and supplied by a runtime."""

    def weights(self, site: Site, x: str) -> list[str]:
        self.table["sites"].append(document.row(site.name, self.ranges[x], self.shift(site)))
        kernel = self.placeholder(f"{site.name}/kernel", self.kernel(site))
        return [kernel, self.placeholder(f"{site.name}/bias", self.backbone.fold(site)[1])]

    def shift(self, site: Site) -> float:
        """What is added to a site's bias: see `document.shift`."""
        return 0.0

    def head(self, features: str, number: int) -> None:
        self.table["head"] = {"operator": HEAD, "input": self.ranges[features]}
        kernel = self.placeholder(f"{HEAD}/kernel", np.zeros((1, self.backbone.plan.features), np.float32))
        bias = self.placeholder(f"{HEAD}/bias", np.zeros(1, np.float32))
        self.add("Gemm", [features, kernel, bias], document.LOGITS, transB=1)


class _Integer(_Bake):
    """The same in int8: a QuantizeLinear and a DequantizeLinear at every value, which ONNX Runtime fuses away.

    Activations are unsigned: with signed ones ONNX Runtime on x86 leaves what is read twice, and all sums, in float.
    No Clip or Relu: a range from 0, or to at most 6, clips by itself.
    """

    def activation(self, name: str, number: int) -> str:
        scale = self.placeholder(f"{name}/scale", np.float32(1))
        zero = self.placeholder(f"{name}/zero_point", np.uint8(0))
        self.table["activations"].append({"tensor": name, "range": number})
        stored = self.add("QuantizeLinear", [name, scale, zero], f"{name}/stored")
        output = document.LOGITS if name == HEAD else f"{name}/float"
        return super().activation(self.add("DequantizeLinear", [stored, scale, zero], output), number)

    def activate(self, site: Site, y: str) -> str:
        if site not in self.ranges_apart:
            return y
        y, name = self.activation(y, self.ranges_apart[site]), f"{site.name}/{site.activation}"
        if site.activation == "hard_swish":
            return self.add("HardSwish", [y], name)
        return self.add("Mul", [y, self.constant("sixth", np.float32(1 / 6))], name)

    def shift(self, site: Site) -> float:
        return document.shift(site)

    def weights(self, site: Site, x: str) -> list[str]:
        super().weights(site, x)
        stored, _ = quantisation.weights(self.kernel(site), 0)
        return self.dequantised(site.name, stored, site.channels)

    def head(self, features: str, number: int) -> None:
        self.table["head"] = {"operator": HEAD, "input": self.ranges[features]}
        kernel = np.zeros((1, self.backbone.plan.features), np.int8)
        self.add("Gemm", [features, *self.dequantised(HEAD, kernel, 1)], HEAD, transB=1)
        self.activation(HEAD, number)

    def dequantised(self, name: str, kernel: np.ndarray, channels: int) -> list[str]:
        parts = {"kernel": kernel, "kernel_scale": np.ones(channels, np.float32), "zeros": np.zeros(channels, np.int8)}
        parts |= {"bias": np.zeros(channels, np.int32), "bias_scale": np.ones(channels, np.float32)}
        parts |= {"bias_zeros": np.zeros(channels, np.int32)}
        held = {part: self.placeholder(f"{name}/{part}", value) for part, value in parts.items()}
        kernel_parts = [held["kernel"], held["kernel_scale"], held["zeros"]]
        bias_parts = [held["bias"], held["bias_scale"], held["bias_zeros"]]
        return [
            self.add("DequantizeLinear", kernel_parts, f"{name}/kernel/float", axis=0),
            self.add("DequantizeLinear", bias_parts, f"{name}/bias/float", axis=0),
        ]
