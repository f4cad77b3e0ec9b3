"""A head that is more than a dense layer: a small network on the trunk's maps, which its patch carries as data.

The device lays it out for whatever engine it has (`runtime.formats`), so that a graph that was exported long ago takes
heads of kinds that came later.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

OPS = ("conv", "depthwise", "mean", "multiply", "add", "resize")
CONVOLUTIONS = ("conv", "depthwise")
ACTIVATIONS = ("linear", "relu", "relu6", "sigmoid")
MAX_LAYERS, MAX_CHANNELS, MAX_KERNEL, MAX_STRIDE = 256, 8192, 15, 8
MAX_VALUES = 1 << 26  # of all layers together, 256 MiB in float32: a wide layer's weights are small, its output is not
PREFIX = "head/"  # of the names of its tensors

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}")


@dataclasses.dataclass(frozen=True)
class Layer:
    """One step of a head. Images are square, and padded as TensorFlow's `same` does.

    Attributes:
        name: its own; its tensors are `head/NAME/kernel`, HWIO, of a depthwise one (height, width, channels), and
            `head/NAME/bias`, (channels,).
        op: `conv` and `depthwise`, with a bias; `mean` over all pixels, which leaves one; `multiply` and `add` of two,
            of which the second may be one pixel; `resize` of the first to the side of the second, bilinear.
        inputs: names of maps or of earlier layers.
        channels: that a `conv` makes; 0 of all others.
        kernel, stride: in pixels, both ways; 1 where it convolves nothing.
        activation: what follows, one of `ACTIVATIONS`.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    activation: str = "linear"


@dataclasses.dataclass(frozen=True)
class Network:
    """Layers in forward order.

    Attributes:
        maps: sites of the trunk whose outputs are read, behind their activations.
        layers: in forward order.
        outputs: names of the layers that answer.
    """

    maps: tuple[str, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]

    def widths(self, maps: Mapping[str, int]) -> dict[str, int]:
        """Channels of each map and layer, given those of the maps.

        Raises:
            ValueError: a sum's or a product's terms differ, or they are too many.
        """
        found = {name: maps[name] for name in self.maps}
        for layer in self.layers:
            sources = [found[name] for name in layer.inputs]
            if layer.op in ("multiply", "add") and len(set(sources)) > 1:
                raise ValueError(f"{layer.name}: {layer.op} of {sources[0]} and {sources[1]} channels")
            found[layer.name] = layer.channels if layer.op == "conv" else sources[0]
        return found

    @property
    def answers(self) -> list[int]:
        """Channels of each output; 0 of one that no convolution leads to."""
        layers = {layer.name: layer for layer in self.layers}

        def width(name: str) -> int:
            while name in layers and not layers[name].channels:
                name = layers[name].inputs[0]
            return layers[name].channels if name in layers else 0

        return [width(name) for name in self.outputs]

    def sides(self, maps: Mapping[str, int]) -> dict[str, int]:
        """Sides in pixels of each map and layer, given those of the maps.

        Raises:
            ValueError: a sum's or a product's terms differ.
        """
        found = {name: maps[name] for name in self.maps}
        for layer in self.layers:
            first, *others = (found[name] for name in layer.inputs)
            if layer.op in ("multiply", "add") and others[0] not in (1, first):
                raise ValueError(f"{layer.name}: {layer.op} of {first} and {others[0]} pixels")
            if layer.op == "resize":
                first = others[0]
            found[layer.name] = 1 if layer.op == "mean" else -(-first // layer.stride)
        return found

    def require_room(self, sides: Mapping[str, int], widths: Mapping[str, int]) -> None:
        """Refuse a head whose layers take more memory than a device has.

        Raises:
            ValueError: they are of more than `MAX_VALUES` values.
        """
        values = sum(sides[layer.name] ** 2 * widths[layer.name] for layer in self.layers)
        if values > MAX_VALUES:
            raise ValueError(f"the head's layers have {values} values, and {MAX_VALUES} are the most")

    def tensors(self, maps: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Names and shapes of its weights, given the channels of the maps."""
        widths = self.widths(maps)
        found: dict[str, tuple[int, ...]] = {}
        for layer in self.layers:
            if layer.op in CONVOLUTIONS:
                width, sides = widths[layer.inputs[0]], (layer.kernel, layer.kernel)
                shape = (*sides, width) if layer.op == "depthwise" else (*sides, width, layer.channels)
                found[f"{PREFIX}{layer.name}/kernel"] = shape
                found[f"{PREFIX}{layer.name}/bias"] = (widths[layer.name],)
        return found

    def to_json(self) -> dict[str, Any]:
        layers = []
        for layer in self.layers:
            row = dataclasses.asdict(layer) | {"inputs": list(layer.inputs)}
            layers.append({name: value for name, value in row.items() if value != _DEFAULTS.get(name)})
        return {"maps": list(self.maps), "layers": layers, "outputs": list(self.outputs)}

    @classmethod
    def from_json(cls, value: Any) -> Network:
        """The inverse of `to_json`.

        Raises:
            ValueError: it describes no network that a device could lay out.
        """
        if not isinstance(value, dict) or set(value) != {"maps", "layers", "outputs"}:
            raise ValueError("expected the fields layers, maps, outputs")
        maps, rows, outputs = (value[name] for name in ("maps", "layers", "outputs"))
        if not _names(maps) or not isinstance(rows, list) or not 0 < len(rows) <= MAX_LAYERS:
            raise ValueError(f"expected the names of maps, and 1 to {MAX_LAYERS} layers")
        known, layers = set(maps), []
        for number, row in enumerate(rows):
            layer = _layer(row, number)
            if layer.name in known:
                raise ValueError(f"the name {layer.name} is there twice")
            if unknown := [name for name in layer.inputs if name not in known]:
                raise ValueError(f"layer {layer.name} reads {unknown[0]}, which no earlier layer makes")
            known.add(layer.name)
            layers.append(layer)
        if not _names(outputs) or not {layer.name for layer in layers}.issuperset(outputs):
            raise ValueError("expected the names of layers as outputs")
        return cls(tuple(maps), tuple(layers), tuple(outputs))


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Layer)}


def _layer(row: Any, number: int) -> Layer:
    if not isinstance(row, dict) or not {"name", "op", "inputs"} <= set(row) <= set(_DEFAULTS):
        raise ValueError(f"layer {number} has other fields than {', '.join(_DEFAULTS)}")
    if not _names(row["inputs"], twice=True) or not _names([row["name"]]):
        raise ValueError(f"layer {number} has broken names")
    layer = Layer(**{**row, "inputs": tuple(row["inputs"])})
    counts = {"multiply": 2, "add": 2, "resize": 2}
    if layer.op not in OPS or len(layer.inputs) != counts.get(layer.op, 1):
        raise ValueError(f"layer {layer.name} is {str(layer.op)[:20]!r} of {len(layer.inputs)} inputs")
    convolves = layer.op in CONVOLUTIONS
    limits = {
        "channels": (1, MAX_CHANNELS) if layer.op == "conv" else (0, 0),
        "kernel": (1, MAX_KERNEL if convolves else 1),
        "stride": (1, MAX_STRIDE if convolves else 1),
    }
    for name, (low, high) in limits.items():
        got = getattr(layer, name)
        if type(got) is not int or not low <= got <= high:
            raise ValueError(f"layer {layer.name} has {name} {str(got)[:20]}, not {low} to {high}")
    if layer.activation not in ACTIVATIONS:
        raise ValueError(f"layer {layer.name} has no activation {str(layer.activation)[:20]!r}")
    return layer


def _names(value: Any, twice: bool = False) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(name, str) and _NAME.fullmatch(name) for name in value)
        and (twice or len(set(value)) == len(value))
    )
