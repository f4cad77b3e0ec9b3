"""A head's network as a .tflite of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgepatch.container import Tensors
from edgepatch.head_network import PREFIX, Layer, Network
from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.formats.flatbuffer_writer import Numbers, build, byte, data, number, numbers
from edgepatch.runtime.model import Model

# the schema's numbers of operators, of their kinds of options and of activations
OPERATORS = {
    "ADD": 0,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 4,
    "LOGISTIC": 14,
    "MUL": 18,
    "RESIZE_BILINEAR": 23,
    "MEAN": 40,
}
OPTIONS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 2, "ADD": 11, "RESIZE_BILINEAR": 15, "MUL": 21, "MEAN": 27}
VERSIONS = {"RESIZE_BILINEAR": 3}  # from which on it knows of pixels' centres
FUSED = {"linear": 0, "relu": 1, "relu6": 3, "sigmoid": 0}
FLOAT, INTEGER = 0, 2  # TensorType
VERSION = 3  # of the schema


def model(network: Network, tensors: Tensors, shapes: Mapping[str, tuple[int, ...]]) -> Model:
    """A head with its weights, from maps of these shapes, (1, side, side, channels), to its outputs, alike.

    Raises:
        ValueError: the maps do not go together in it.
    """
    return Model(_Writer(network, tensors, shapes).finish())


class _Writer:
    def __init__(self, network: Network, tensors: Tensors, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.network, self.weights = network, tensors
        self.sides = network.sides({name: shape[1] for name, shape in shapes.items()})
        self.widths = network.widths({name: shape[3] for name, shape in shapes.items()})
        network.require_room(self.sides, self.widths)
        self.buffers: list[dict[int, Any]] = [{}]  # the first one is empty, by convention
        self.codes: list[str] = []
        self.tensors: list[dict[int, Any]] = []
        self.operators: list[dict[int, Any]] = []
        self.values = {name: self.value(name, name) for name in network.maps}
        for layer in network.layers:
            self.values[layer.name] = self.lay(layer)

    def tensor(self, name: str, shape: tuple[int, ...], buffer: int = 0, kind: int = FLOAT) -> int:
        self.tensors.append(
            {
                fb.TENSOR_SHAPE: numbers(shape),
                fb.TENSOR_TYPE: byte(kind),
                fb.TENSOR_BUFFER: number(buffer),
                fb.TENSOR_NAME: name,
            }
        )
        return len(self.tensors) - 1

    def value(self, name: str, like: str) -> int:
        """An activation of the shape that a map or layer has."""
        side = self.sides[like]
        return self.tensor(name, (1, side, side, self.widths[like]))

    def constant(self, name: str, value: np.ndarray) -> int:
        self.buffers.append({fb.BUFFER_DATA: data(np.ascontiguousarray(value).tobytes())})
        kind = FLOAT if value.dtype.kind == "f" else INTEGER
        return self.tensor(name, value.shape, len(self.buffers) - 1, kind)

    def add(self, operator: str, inputs: list[int], output: int, options: dict[int, Any] | None = None) -> int:
        if operator not in self.codes:
            self.codes.append(operator)
        row: dict[int, Any] = {
            fb.OPERATOR_CODE: number(self.codes.index(operator)),
            fb.OPERATOR_INPUTS: numbers(inputs),
            fb.OPERATOR_OUTPUTS: numbers([output]),
        }
        if options is not None:
            row |= {fb.OPERATOR_KIND: byte(OPTIONS[operator]), fb.OPERATOR_OPTIONS: options}
        self.operators.append(row)
        return output

    def lay(self, layer: Layer) -> int:
        apart = layer.activation == "sigmoid"
        inputs = [self.values[name] for name in layer.inputs]
        operator, more, options = self.step(layer)
        plain = self.value(f"{layer.name}/plain" if apart else layer.name, layer.name)
        found = self.add(operator, [*(inputs[:1] if layer.op == "resize" else inputs), *more], plain, options)
        return self.add("LOGISTIC", [found], self.value(layer.name, layer.name)) if apart else found

    def step(self, layer: Layer) -> tuple[str, list[int], dict[int, Any]]:
        """A layer's operator, its inputs beside other layers, and its options."""
        fused, stride = byte(FUSED[layer.activation]), number(layer.stride)
        if layer.op == "mean":
            return "MEAN", [self.constant(f"{layer.name}/axes", np.array([1, 2], np.int32))], {0: byte(1)}
        if layer.op == "resize":
            size = np.array([self.sides[layer.name]] * 2, np.int32)
            return "RESIZE_BILINEAR", [self.constant(f"{layer.name}/size", size)], {3: byte(1)}  # centres at halves
        if layer.op in ("add", "multiply"):
            return {"add": "ADD", "multiply": "MUL"}[layer.op], [], {0: fused}
        name = f"{PREFIX}{layer.name}"
        kernel, bias = self.weights[f"{name}/kernel"], self.weights[f"{name}/bias"]
        options: dict[int, Any] = {fb.CONVOLUTION_PADDING: byte(0), 1: stride, 2: stride}  # padding: same
        if layer.op == "conv":
            operator, kernel = "CONV_2D", kernel.transpose(3, 0, 1, 2)
            options |= {3: fused}
        else:
            operator, kernel = "DEPTHWISE_CONV_2D", kernel[None]
            options |= {3: number(1), 4: fused}
        return operator, [self.constant(f"{name}/kernel", kernel), self.constant(f"{name}/bias", bias)], options

    def finish(self) -> bytes:
        def indices(names: tuple[str, ...]) -> Numbers:
            return numbers([self.values[name] for name in names])

        subgraph = {
            fb.SUBGRAPH_TENSORS: self.tensors,
            fb.SUBGRAPH_INPUTS: indices(self.network.maps),
            fb.SUBGRAPH_OUTPUTS: indices(self.network.outputs),
            fb.SUBGRAPH_OPERATORS: self.operators,
        }
        codes = [
            {0: byte(OPERATORS[name]), 2: number(VERSIONS.get(name, 1)), 3: number(OPERATORS[name])}
            for name in self.codes
        ]
        return build(
            {
                0: number(VERSION),
                fb.MODEL_CODES: codes,
                fb.MODEL_SUBGRAPHS: [subgraph],
                3: "edgepatch head",
                fb.MODEL_BUFFERS: self.buffers,
            },
            b"TFL3",
        )
