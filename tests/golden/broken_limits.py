"""Graphs beyond what readers take: vectors and names too long, names and numbers that are none.

Vectors of a flatbuffer may lie upon each other, so that a small file can ask for a large memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.formats import flatbuffer_writer as writer
from edgepatch.runtime.formats import protobuf
from edgepatch.runtime.formats.flatbuffer import Table

from . import source
from .forging import Case, put, sealed

TFLITE, ONNX = "gated-fp32.tflite", "gated-fp32.onnx"
NO_TEXT = b"\xff"  # starts no character in UTF-8
CONVOLUTION, OTHER = 1, 21  # kinds of operators' options


def graphs() -> Iterator[Case]:
    data = source(TFLITE)
    long = data + data * (4 * fb.MAX_TABLES // len(data) + 1)
    model = fb.root(data)
    for name, field in (("buffers", fb.MODEL_BUFFERS), ("metadata", fb.MODEL_METADATA)):
        yield f"limit_tables_of_{name}", TFLITE, put(long, _vector(model, field), _word(fb.MAX_TABLES + 1))
    slot = model.vector(fb.MODEL_BUFFERS, 4)[0]
    yield "offset_beyond_the_file", TFLITE, put(data, slot, _word(len(data)))
    kernel = _kernel(data)
    yield "limit_numbers", TFLITE, _counted(data, kernel, fb.TENSOR_SHAPE, fb.MAX_NUMBERS + 1)
    signature = fb.signatures(data)["bind"]
    yield "limit_text", TFLITE, _counted(data, signature, fb.SIGNATURE_KEY, fb.MAX_TEXT + 1)
    yield "no_text_in_a_signature", TFLITE, _spelt(data, signature.vector(fb.SIGNATURE_KEY))
    entries = [Table(data, place) for place in model.tables(fb.MODEL_METADATA)]
    spans = [span for entry in entries if (span := entry.span(fb.METADATA_NAME))]
    ours = next(span for span in spans if data[slice(*span)] == fb.KEY.encode())
    yield "no_text_in_the_metadata", TFLITE, put(data, ours[0], NO_TEXT)

    data = source(ONNX)
    whole = (0, len(data))
    graph = _first(data, whole, protobuf.MODEL_GRAPH)
    initializer = _first(data, graph, protobuf.GRAPH_INITIALIZER)
    node = _first(data, graph, protobuf.GRAPH_NODE)
    yield "onnx_no_text_in_an_initializer", ONNX, _onnx(data, _first(data, initializer, protobuf.TENSOR_NAME))
    yield "onnx_no_text_in_an_operator", ONNX, _onnx(data, _first(data, node, protobuf.NODE_OPERATOR))
    entry = _first(data, whole, protobuf.MODEL_METADATA)
    yield "onnx_no_text_in_the_metadata", ONNX, put(data, _first(data, entry, protobuf.ENTRY_KEY)[0], NO_TEXT)

    def skeleton(nodes: bytes) -> bytes:
        graph = _first(nodes, (0, len(nodes)), protobuf.MODEL_GRAPH)
        node = _first(nodes, graph, protobuf.GRAPH_NODE)
        return put(nodes, _first(nodes, node, protobuf.NODE_INPUT)[0], NO_TEXT)

    yield "onnx_no_text_in_the_skeleton", ONNX, sealed(data, "onnx", skeleton)
    version = bytes([protobuf.MODEL_IR_VERSION << 3])
    yield "onnx_number_beyond_64_bits", ONNX, sealed(data + version + b"\x88" + b"\x80" * 8 + b"\x02", "onnx")
    yield "onnx_number_of_eleven_bytes", ONNX, sealed(data + version + b"\x88" + b"\x80" * 9 + b"\x01", "onnx")
    yield "onnx_field_beyond_32_bits", ONNX, sealed(data + b"\x88\x80\x80\x80\x10\x01", "onnx")
    yield "onnx_field_of_unknown_kind", ONNX, sealed(data + b"\x0b\x0c", "onnx")


def binds() -> Iterator[tuple[str, str, bytes, str]]:
    """Graphs that are sound until they are laid out: name, the graph's source, its bytes, the name of a patch."""
    data = source(TFLITE)
    side = 48  # of the patch `cropped`
    widest = 1 << 16
    yield "rows_beyond_the_limit", TFLITE, _laid(data, _rows(65, side - widest + 1)), "cropped"
    yield "a_side_beyond_the_limit", TFLITE, _laid(data, _rows(1, side - widest)), "cropped"
    yield "a_side_beyond_32_bits", TFLITE, _laid(data, _rows(1, -(2**31))), "cropped"
    yield "a_stride_beyond_31_bits", TFLITE, _laid(data, _rows(1, 1, stride=2**32 - 1)), "cropped"
    bound = fb.subgraph(data, "bind")
    named = Table(data, bound.tables(fb.SUBGRAPH_TENSORS)[0])
    yield "no_text_in_a_tensor", TFLITE, _spelt(data, named.vector(fb.TENSOR_NAME)), "painter"
    yield "a_name_beyond_the_limit", TFLITE, _counted(data, named, fb.TENSOR_NAME, fb.MAX_TEXT + 1), "painter"
    operator = Table(data, bound.tables(fb.SUBGRAPH_OPERATORS)[0])
    many = _counted(data, operator, fb.OPERATOR_INPUTS, fb.MAX_NUMBERS + 1)
    yield "an_operator_beyond_the_limit", TFLITE, many, "cropped"
    data = source(ONNX)
    node = _first(data, _first(data, (0, len(data)), protobuf.MODEL_GRAPH), protobuf.GRAPH_NODE)
    yield "onnx_no_text_in_a_node", ONNX, _onnx(data, _first(data, node, protobuf.NODE_OUTPUT)), "painter"


def _rows(count: int, taken: int, stride: int = 1) -> dict[int, Any]:
    """A subgraph whose one convolution takes so many pixels of its image's side, and lays out rows of what is left."""

    def tensor(*shape: int) -> dict[int, Any]:
        return {fb.TENSOR_SHAPE: writer.numbers(shape)}

    def operator(kind: int, reads: Sequence[int], makes: int, options: dict[int, Any]) -> dict[int, Any]:
        return {
            fb.OPERATOR_INPUTS: writer.numbers(reads),
            fb.OPERATOR_OUTPUTS: writer.numbers([makes]),
            fb.OPERATOR_KIND: writer.byte(kind),
            fb.OPERATOR_OPTIONS: options,
        }

    ones, rows = range(3, 3 + count), range(3 + count, 3 + 2 * count)
    options = {fb.CONVOLUTION_PADDING: writer.byte(1), fb.CONVOLUTION_STRIDE: writer.Scalar("<I", stride)}
    operators = [operator(CONVOLUTION, [0, 1], 2, options)]
    operators += [operator(OTHER, [one], row, {}) for one, row in zip(ones, rows, strict=True)]
    operators += [operator(OTHER, [2, *rows[at : at + 60]], 2, {}) for at in range(0, count, 60)]
    image, kernel = tensor(1, 32, 32, 3), tensor(1, taken, 1, 1)
    return {
        fb.SUBGRAPH_TENSORS: [image, kernel, image, *[tensor(1, 3)] * (2 * count)],
        fb.SUBGRAPH_INPUTS: writer.numbers([0]),
        fb.SUBGRAPH_OUTPUTS: writer.numbers([2]),
        fb.SUBGRAPH_OPERATORS: operators,
    }


def _laid(data: bytes, subgraph: dict[int, Any]) -> bytes:
    """The graph with another subgraph, behind its end, for the form `bind`."""
    built = writer.build(subgraph, b"TFL3")
    data += bytes(-len(data) % fb.ALIGNMENT)
    number = fb.signatures(data)["bind"].number(fb.SIGNATURE_SUBGRAPH)
    slot = fb.root(data).vector(fb.MODEL_SUBGRAPHS, 4)[0] + 4 * number
    place = len(data) + struct.unpack_from("<I", built)[0]
    return sealed(put(data + built, slot, _word(place - slot)), "tflite")


def _kernel(data: bytes) -> Table:
    """The kernel of a convolution of the form `bake`."""
    subgraph = fb.subgraph(data, "bake")
    operators = [Table(data, place) for place in subgraph.tables(fb.SUBGRAPH_OPERATORS)]
    number = next(each for each in operators if each.byte(fb.OPERATOR_KIND) == CONVOLUTION).numbers(fb.OPERATOR_INPUTS)
    return Table(data, subgraph.tables(fb.SUBGRAPH_TENSORS)[number[1]])


def _vector(table: Table, field: int) -> int:
    """Where a vector stands, its length first."""
    return table.vector(field)[0] - 4


def _counted(data: bytes, table: Table, field: int, count: int) -> bytes:
    """The graph with another length of a vector or a name."""
    return sealed(put(data, _vector(table, field), _word(count)), "tflite")


def _spelt(data: bytes, span: tuple[int, int]) -> bytes:
    return sealed(put(data, span[0], NO_TEXT), "tflite")


def _onnx(data: bytes, span: tuple[int, int]) -> bytes:
    return sealed(put(data, span[0], NO_TEXT), "onnx")


def _first(data: bytes, message: tuple[int, int], number: int) -> tuple[int, int]:
    """Where the first field of a number stands in a message."""
    return next((begin, end) for field, begin, end in protobuf.fields(data, *message) if field == number)


def _word(value: int) -> bytes:
    return struct.pack("<I", value)
