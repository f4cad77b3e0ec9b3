"""The layers of a Keras model as drafts of a plan's nodes.

A model's configuration says which layer reads which. It is walked once, in forward order: a convolution opens a site,
a batch norm and an activation right behind it belong to it, a layer that a plan cannot express ends the walk with its
type, name and place.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgepatch.backbones.drafts import Draft, Norm
from edgepatch.backbones.plan import IMAGE, pads
from edgepatch.backbones.plan_json import MAX_KERNEL
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, UsageError

SUPPORTED = (
    "Rescaling and Normalization at the start; Conv2D, DepthwiseConv2D, ZeroPadding2D, BatchNormalization; ReLU and "
    "Activation of relu, relu6, hard_swish, hard_sigmoid; Add, Multiply, GlobalAveragePooling2D, Reshape, Flatten, "
    "Dropout; Dense, Softmax"
)

_ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "hard_silu": "hard_swish",
    "hard_swish": "hard_swish",
    "hard_sigmoid": "hard_sigmoid",
}
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "Dense")


@dataclasses.dataclass
class _Value:
    """What a layer hands on.

    Attributes:
        node: number of the draft, `IMAGE` before the first.
        width, side: channels and pixels.
        version: how often the draft had been added to.
        zeros: that a ZeroPadding2D put around it, before and behind.
        gate: how much of hard_sigmoid it is, spelled out in layers: `x + 3`, `relu6(x + 3)` or `hard_sigmoid`.
        logits: whether it is the classifier's output.
    """

    node: int
    width: int
    side: int
    version: int = 0
    zeros: tuple[int, int] | None = None
    gate: str = ""
    logits: bool = False


class Layer:
    """An entry of a model's configuration.

    Attributes:
        kind, name, options: its class, its name, how it was made.
        sources: names of the layers that it reads.
        constants: numbers among its arguments.
    """

    def __init__(self, entry: dict[str, Any]) -> None:
        self.kind, self.name, self.options = str(entry["class_name"]), str(entry["name"]), dict(entry["config"])
        self.calls = list(entry["inbound_nodes"])
        found = [item for call in self.calls for item in _arguments(call)]
        self.sources = [item for item in found if isinstance(item, str)]
        self.constants = [item for item in found if not isinstance(item, str)]
        self.trains = any(isinstance(call, dict) and call.get("kwargs", {}).get("training") for call in self.calls)
        self.ranks = {len(shape) for call in self.calls for shape in _shapes(call)}

    @property
    def passive(self) -> bool:
        """Whether it leaves the order of a classifier's outputs as it is."""
        named = self.kind == "Activation" and self.options.get("activation") in ("softmax", "linear")
        return named or self.kind in ("Softmax", "Flatten", "Reshape", "Dropout")


class Walk:
    """The way through a model, from its input to its output.

    Args:
        layers: in forward order.
        output: name of the last.
        weights: by `LAYER/WEIGHT`.
        size: side of the input in pixels where the model leaves it open, else None.
        file: what they were read from.

    Attributes:
        drafts: the trunk's nodes.
        head: the classifier's kernel (features, classes) and bias (classes,), or None.
        size: side of the input in pixels.
        scale, offset: (3,), what layers at the start do to pixels; None without such layers.

    Raises:
        UsageError: the size does not fit the model.
        BadFileError: a layer cannot be expressed.
    """

    def __init__(self, layers: list[Layer], output: str, weights: Tensors, size: int | None, file: object) -> None:
        self.drafts: list[Draft] = []
        self.head: tuple[np.ndarray, np.ndarray] | None = None
        self.size = size or 0
        self.scale: np.ndarray | None = None
        self.offset: np.ndarray | None = None
        self._layers, self._output, self._weights, self._file = layers, output, weights, file
        self._versions: list[int] = []  # of each draft
        self._read: set[int] = set()  # drafts that something reads as they are, so that nothing may be added to them
        self._values: dict[str, _Value] = {}
        for layer in layers:
            self._values[layer.name] = self._step(layer)
        last = next(layer for layer in layers if layer.name == output)
        if self._use(last, self._values[output]).zeros:
            raise self.refuse(last, "it pads what nothing reads")
        if self.drafts and self.drafts[-1].op == "mean":
            self.drafts.pop()  # a plan's features are the mean of its last node's pixels
        if not self.drafts:
            raise BadFileError("has no convolution", file=file, field="layers", got=len(layers), expected=SUPPORTED)

    def _step(self, layer: Layer) -> _Value:
        method = getattr(self, f"_{layer.kind.lower()}", None) if layer.kind in KINDS else None
        if method is None:
            raise self.refuse(layer)
        if len(layer.calls) > 1:
            raise self.refuse(layer, "it is shared: used in several places")
        if layer.trains:
            raise self.refuse(layer, "it is called with training=True")
        if layer.options.get("data_format") == "channels_first":
            raise self.refuse(layer, "its channels come first")
        values = [self._values[source] for source in layer.sources]
        for value in values:
            if value.zeros and layer.kind not in ("Conv2D", "DepthwiseConv2D"):
                raise self.refuse(layer, "it reads a ZeroPadding2D, which only convolutions may")
            if value.logits and not layer.passive:
                raise self.refuse(layer, "it reads the classifier's output")
        return method(layer, values)

    # the input

    def _inputlayer(self, layer: Layer, _: list[_Value]) -> _Value:
        shape = tuple(layer.options.get("batch_shape") or ())
        if self._values or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
            raise self.refuse(layer, f"its shape is {shape}, where one square picture of 3 channels was expected")
        if shape[1] is None and not self.size:
            raise UsageError("the model leaves its input size open", field="--size", got="nothing", expected="pixels")
        if shape[1] is not None and self.size not in (0, shape[1]):
            raise UsageError("the model has an input size of its own", field="--size", got=self.size, expected=shape[1])
        self.size = shape[1] or self.size
        return _Value(IMAGE, 3, self.size)

    def _rescaling(self, layer: Layer, values: list[_Value]) -> _Value:
        return self._prepare(layer, values[0], layer.options["scale"], layer.options["offset"])

    def _normalization(self, layer: Layer, values: list[_Value]) -> _Value:
        names = ("mean", "variance")
        mean, variance = (self._weights.get(f"{layer.name}/{name}", layer.options.get(name)) for name in names)
        if mean is None or variance is None or layer.options.get("invert"):
            raise self.refuse(layer, "it is inverted, or has no mean and variance")
        deviation = np.maximum(np.sqrt(np.asarray(variance, np.float64)), 1e-7)  # as Keras does
        return self._prepare(layer, values[0], 1 / deviation, -np.asarray(mean, np.float64) / deviation)

    def _prepare(self, layer: Layer, value: _Value, scale: Any, offset: Any) -> _Value:
        try:
            scale, offset = (np.broadcast_to(np.asarray(part, np.float64).ravel(), 3) for part in (scale, offset))
        except (TypeError, ValueError) as error:
            raise self.refuse(layer, "it does not scale three channels") from error
        if value.node != IMAGE:
            raise self.refuse(layer, "it is not at the start")
        before = (np.ones(3), np.zeros(3)) if self.scale is None or self.offset is None else (self.scale, self.offset)
        self.scale, self.offset = before[0] * scale, before[1] * scale + offset
        return value

    # sites

    def _zeropadding2d(self, layer: Layer, values: list[_Value]) -> _Value:
        rows, columns = (tuple(pair) for pair in layer.options["padding"])
        if rows != columns or values[0].zeros:
            raise self.refuse(layer, f"it pads rows by {rows} and columns by {columns}")
        return dataclasses.replace(self._use(layer, values[0]), zeros=rows)

    def _conv2d(self, layer: Layer, values: list[_Value]) -> _Value:
        options = layer.options
        if len(set(options["strides"])) != 1 or set(options["dilation_rate"]) != {1}:
            raise self.refuse(layer, f"its strides are {options['strides']}, its dilation {options['dilation_rate']}")
        if options.get("groups", 1) != 1 or options.get("depth_multiplier", 1) != 1:
            raise self.refuse(layer, "it has groups or a depth multiplier")
        return self._site(layer, self._use(layer, values[0]), self._weight(layer, "kernel"), int(options["strides"][0]))

    _depthwiseconv2d = _conv2d

    def _dense(self, layer: Layer, values: list[_Value]) -> _Value:
        if values[0].side != 1:
            raise self.refuse(layer, f"it sees {values[0].side} x {values[0].side} pixels, where one was expected")
        return self._site(layer, self._use(layer, values[0]), self._weight(layer, "kernel")[None, None], 1)

    def _site(self, layer: Layer, value: _Value, kernel: np.ndarray, stride: int) -> _Value:
        depthwise, side = layer.kind == "DepthwiseConv2D", kernel.shape[0]
        if kernel.ndim != 4 or kernel.shape[1] != side or max(side, stride) > MAX_KERNEL:
            raise self.refuse(layer, f"its kernel is {kernel.shape}, where a small square one was expected")
        zeros = self._zeros(layer, value, side)
        around = pads(value.side, side, stride, "same") if zeros is None else zeros
        left = (value.side + sum(around) - side) // stride + 1
        if left < 1:
            raise self.refuse(layer, f"it sees {value.side} pixels, fewer than its kernel has")
        width = int(kernel.shape[2 if depthwise else 3])
        bias = self._weight(layer, "bias") if layer.options.get("use_bias", True) else None
        if value.side == side == 1 and zeros is None and not depthwise and self._ends(layer):
            self.head = kernel[0, 0], np.zeros(width, np.float32) if bias is None else bias
            return _Value(value.node, width, 1, value.version, logits=True)
        draft = Draft("site", (value.node,), width, left, layer.name, kernel, stride, zeros, depthwise, bias=bias)
        return self._activate(layer, self._append(draft), layer.options.get("activation"))

    def _zeros(self, layer: Layer, value: _Value, side: int) -> tuple[int, int] | None:
        """Zeros before and behind what a convolution sees, or None where the plan's `same` says them."""
        padding = layer.options.get("padding", "valid")
        if padding not in ("same", "valid") or (padding == "same" and value.zeros):
            raise self.refuse(layer, f"its padding is {padding}, and it reads a ZeroPadding2D")
        if value.zeros and max(value.zeros) > MAX_KERNEL:
            raise self.refuse(layer, f"it reads a padding of {value.zeros} pixels")
        if padding == "same" or (side == 1 and not value.zeros):
            return None
        return value.zeros or (0, 0)

    def _ends(self, layer: Layer) -> bool:
        """Whether nothing but softmax and changes of shape follows: then it is the classifier."""
        if layer.options.get("activation") not in (None, "linear", "softmax"):
            return False
        name = layer.name
        while name != self._output:
            readers = [other for other in self._layers if name in other.sources]
            if len(readers) != 1 or not readers[0].passive:
                return False
            name = readers[0].name
        return True

    def _batchnormalization(self, layer: Layer, values: list[_Value]) -> _Value:
        axis, options = layer.options.get("axis", -1), layer.options
        if axis not in (-1, 3, [-1], [3]) or options.get("renorm"):
            raise self.refuse(layer, f"it normalises axis {axis}, or renormalises")
        epsilon = float(options["epsilon"])
        if not 0 < epsilon < 1:
            raise self.refuse(layer, f"its epsilon is {epsilon}")
        made, draft = self._extend(layer, values[0])
        if draft.norm:
            raise self.refuse(layer, "it is the second behind its convolution")
        draft.norm = Norm(
            gamma=self._weight(layer, "gamma") if options.get("scale", True) else np.ones(draft.width),
            beta=self._weight(layer, "beta") if options.get("center", True) else np.zeros(draft.width),
            mean=self._weight(layer, "moving_mean"),
            variance=self._weight(layer, "moving_variance"),
            epsilon=epsilon,
        )
        return made

    def _relu(self, layer: Layer, values: list[_Value]) -> _Value:
        top, *others = (layer.options.get(name) for name in ("max_value", "negative_slope", "threshold"))
        if top not in (None, 6) or any(others):
            raise self.refuse(layer, f"its max_value is {top}, its negative_slope and threshold {others}")
        if values[0].gate == "x + 3" and top:
            return dataclasses.replace(values[0], gate="relu6(x + 3)")
        return self._activate(layer, values[0], "relu6" if top else "relu")

    def _activation(self, layer: Layer, values: list[_Value]) -> _Value:
        return self._activate(layer, values[0], layer.options.get("activation"))

    def _softmax(self, layer: Layer, values: list[_Value]) -> _Value:
        return self._activate(layer, values[0], "softmax")

    def _activate(self, layer: Layer, value: _Value, name: Any) -> _Value:
        if name in (None, "linear") or (value.logits and name == "softmax"):
            return value
        if not isinstance(name, str) or name not in _ACTIVATIONS:
            raise self.refuse(layer, f"its activation is {name}")
        made, draft = self._extend(layer, value)
        draft.activation = _ACTIVATIONS[name]
        return made

    # what joins

    def _add(self, layer: Layer, values: list[_Value]) -> _Value:
        if len(values) == 1 and _is(layer.constants, 3) and not values[0].gate:
            return dataclasses.replace(values[0], gate="x + 3")
        one, other = self._two(layer, values)
        if (one.width, one.side) != (other.width, other.side):
            raise self.refuse(layer, "it adds outputs of different shapes")
        return self._append(Draft("add", (one.node, other.node), one.width, one.side))

    def _multiply(self, layer: Layer, values: list[_Value]) -> _Value:
        gates = [value for value in values if value.gate]
        if len(values) == 1 and values[0].gate == "relu6(x + 3)" and _is(layer.constants, 1 / 6):
            return dataclasses.replace(values[0], gate="hard_sigmoid")
        if len(values) == 2 and len(gates) == 1 and values[0].node == values[1].node:
            if gates[0].gate != "hard_sigmoid" or values[0].version != values[1].version:
                raise self.refuse(layer, "it multiplies an output by part of its hard_sigmoid")
            made, draft = self._extend(layer, dataclasses.replace(gates[0], gate=""))
            draft.activation = "hard_swish"
            return made
        one, gate = sorted(self._two(layer, values), key=lambda value: value.side == 1)
        if gate.side != 1 or gate.width != one.width:
            raise self.refuse(layer, "it multiplies by something other than one pixel of as many channels")
        return self._append(Draft("multiply", (one.node, gate.node), one.width, one.side))

    def _two(self, layer: Layer, values: list[_Value]) -> tuple[_Value, _Value]:
        if len(values) != 2 or layer.constants or len(layer.ranks) != 1:
            raise self.refuse(layer, "it joins something other than two outputs of as many dimensions")
        one, other = (self._use(layer, value) for value in values)
        if one.node == other.node or IMAGE in (one.node, other.node):
            raise self.refuse(layer, "it joins an output with itself, or with the picture")
        return one, other

    def _globalaveragepooling2d(self, layer: Layer, values: list[_Value]) -> _Value:
        value = self._use(layer, values[0])
        if value.node == IMAGE:
            raise self.refuse(layer, "it reads the picture itself")
        return self._append(Draft("mean", (value.node,), value.width, 1))

    def _reshape(self, layer: Layer, values: list[_Value]) -> _Value:
        value, shape = values[0], tuple(layer.options.get("target_shape", ()))
        if value.side != 1 or [side for side in shape if side not in (1, -1)] not in ([], [value.width]):
            raise self.refuse(layer, f"it makes {shape or 'one row'} of {value.side} x {value.side} x {value.width}")
        return value

    _flatten = _reshape

    def _dropout(self, _: Layer, values: list[_Value]) -> _Value:
        return values[0]

    # drafts

    def _append(self, draft: Draft) -> _Value:
        self.drafts.append(draft)
        self._versions.append(0)
        return _Value(len(self.drafts) - 1, draft.width, draft.side)

    def _use(self, layer: Layer, value: _Value) -> _Value:
        """A value read as it stands: from here on nothing can be added to its draft."""
        if value.gate == "hard_sigmoid":
            made, draft = self._extend(layer, dataclasses.replace(value, gate=""))
            draft.activation = "hard_sigmoid"
            value.gate, value.version = "", made.version  # for those who read it after this layer
        if value.gate:
            raise self.refuse(layer, f"it reads {value.gate}, which is part of a hard_sigmoid")
        if value.node != IMAGE:
            self._current(layer, value)
            self._read.add(value.node)
        return value

    def _extend(self, layer: Layer, value: _Value) -> tuple[_Value, Draft]:
        """A site's draft to which a layer adds a batch norm or an activation, and the value behind it."""
        draft = self.drafts[value.node] if value.node != IMAGE else None
        if value.gate or value.logits or draft is None or draft.op != "site":
            behind = "the picture" if draft is None else {"site": "the classifier"}.get(draft.op, f"the {draft.op}")
            raise self.refuse(layer, f"it stands behind {behind}, where a convolution was expected")
        if draft.activation:
            raise self.refuse(layer, f"it stands behind the activation {draft.activation}")
        self._current(layer, value)
        if value.node in self._read:
            raise self.refuse(layer, "something else reads the convolution before it")
        self._versions[value.node] += 1
        return dataclasses.replace(value, version=self._versions[value.node]), draft

    def _current(self, layer: Layer, value: _Value) -> None:
        if value.version != self._versions[value.node]:
            raise self.refuse(layer, "it reads a convolution before the batch norm or activation that belongs to it")

    def _weight(self, layer: Layer, name: str) -> np.ndarray:
        found = self._weights.get(f"{layer.name}/{name}")
        if found is None or found.dtype.kind != "f":
            raise self.refuse(layer, f"it has no float weight {name}")
        return np.asarray(found, np.float32)

    def refuse(self, layer: Layer, problem: str = "") -> BadFileError:
        """What a layer that cannot be imported is answered with."""
        return refuse(layer, problem, self._file)


KINDS = (
    "InputLayer", "Rescaling", "Normalization", "ZeroPadding2D", "BatchNormalization", "ReLU", "Activation", "Softmax",
    "Add", "Multiply", "GlobalAveragePooling2D", "Reshape", "Flatten", "Dropout", *_CONVOLUTIONS,
)  # fmt: skip


def refuse(layer: Layer, problem: str, file: object) -> BadFileError:
    """What a layer that cannot be imported is answered with: its type, its name, its place, and what could be."""
    place = f", behind {' and '.join(repr(source) for source in layer.sources[:3])}" if layer.sources else ""
    return BadFileError(
        f"has a layer that cannot be imported: {layer.kind} {layer.name!r}{place}",
        file=file,
        field=layer.name,
        got=problem or f"the type {layer.kind}",
        expected=SUPPORTED,
    )


def _arguments(value: Any) -> Iterator[str | float]:
    """Names of the layers that a call reads, and the numbers among its positional arguments."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield str(value["config"]["keras_history"][0])
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from (found for found in _arguments(item) if name == "args" or isinstance(found, str))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _arguments(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def _shapes(value: Any) -> Iterator[list[Any]]:
    """Shapes of what a call reads."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield value["config"]["shape"]
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _shapes(item)


def _is(constants: list[float], wanted: float) -> bool:
    return len(constants) == 1 and math.isclose(constants[0], wanted, rel_tol=1e-6)
