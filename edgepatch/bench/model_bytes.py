"""Models as bytes: what precision a stranger's is of, and a baked one as a file of its own."""

from __future__ import annotations

import collections
import struct

from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.formats import onnx, protobuf
from edgepatch.runtime.formats.flatbuffer import Table
from edgepatch.runtime.model import Model

# types of a .tflite's tensors and an .onnx's initializers, by the schemas' numbers
TFLITE_TYPES = {0: "fp32", 1: "fp16", 3: "int8", 9: "int8"}
ONNX_TYPES = {1: "fp32", 2: "int8", 3: "int8", 10: "fp16"}
TENSOR_TYPE = 1  # field of a .tflite's tensor
GRAPH_NODE, NODE_OPERATOR = 1, 4  # fields of an .onnx
QUANTISING = {b"QuantizeLinear", b"QLinearConv"}  # operators of a network that computes in int8


def precision(data: bytes, kind: str) -> str | None:
    """`fp32`, `fp16`, `dynamic` or `int8`, by what a model's weights are kept in and what it computes in.

    None where the file does not tell.
    """
    try:
        weights, integer = _tflite(data) if kind == "tflite" else _onnx(data)
    except (ValueError, IndexError, struct.error):
        return None
    if not weights:
        return None
    if weights["int8"] > 0.1 * weights.total():  # small kernels and the head may stay float beside them
        return "int8" if integer else "dynamic"
    return max(weights, key=lambda name: weights[name])


def standalone(model: Model) -> bytes:
    """A baked model as one file."""
    return onnx.whole(model) if model.tensors else model.data


def _tflite(data: bytes) -> tuple[collections.Counter[str], bool]:
    """Bytes of constants by type, and whether most of what is computed is int8."""
    model = fb.root(data)
    buffers = model.tables(fb.MODEL_BUFFERS)
    weights: collections.Counter[str] = collections.Counter()
    computed: collections.Counter[str] = collections.Counter()
    for position in Table(data, model.tables(fb.MODEL_SUBGRAPHS)[0]).tables(fb.SUBGRAPH_TENSORS):
        tensor = Table(data, position)
        place = tensor.at(TENSOR_TYPE)
        name = TFLITE_TYPES.get(0 if place is None else data[place], "other")
        span = Table(data, buffers[tensor.number(fb.TENSOR_BUFFER)]).span(fb.BUFFER_DATA)
        if span is None:
            computed[name] += 1
        else:
            weights[name] += span[1] - span[0]
    del weights["other"]
    return weights, computed["int8"] > computed["fp32"]


def _onnx(data: bytes) -> tuple[collections.Counter[str], bool]:
    """As `_tflite`."""
    weights: collections.Counter[str] = collections.Counter()
    operators = set()
    for number, *graph in protobuf.fields(data, 0, len(data)):
        if number != protobuf.MODEL_GRAPH:
            continue
        for field, *item in protobuf.fields(data, *graph):
            if field not in (GRAPH_NODE, protobuf.GRAPH_INITIALIZER):
                continue
            parts = {part: (begin, end) for part, begin, end in protobuf.fields(data, *item)}
            if field == GRAPH_NODE and NODE_OPERATOR in parts:
                operators.add(data[slice(*parts[NODE_OPERATOR])])
            if field == protobuf.GRAPH_INITIALIZER and protobuf.TENSOR_TYPE in parts:
                name = ONNX_TYPES.get(data[parts[protobuf.TENSOR_TYPE][0]])
                if name:
                    weights[name] += item[1] - item[0]
    return weights, bool(operators & QUANTISING)
