"""Protocol buffers, as far as an .onnx needs: found in place, and initializers added, without a parser's package.

To add is to append: of two bytes of a message one behind the other, a parser makes one message with both their fields.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from edgepatch.runtime.formats.names import text

MODEL_GRAPH, MODEL_METADATA = 7, 14
ENTRY_KEY, ENTRY_VALUE = 1, 2  # StringStringEntryProto
MODEL_IR_VERSION, MODEL_OPSET, OPSET_DOMAIN, OPSET_VERSION = 1, 8, 1, 2
GRAPH_NODE, GRAPH_NAME, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 2, 5, 11, 12
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OPERATOR, NODE_ATTRIBUTE = 1, 2, 3, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_TYPE = 1, 20
VALUE_NAME, VALUE_TYPE = 1, 2  # ValueInfoProto
DIMENSIONS = (MODEL_GRAPH, GRAPH_INPUT, 2, 1, 2, 1)  # from a model to its inputs', their type's, tensor's, shape's ones
DIMENSION_VALUE, DIMENSION_NAME = 1, 2
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW, TENSOR_EXTERNAL, TENSOR_LOCATION = 1, 2, 8, 9, 13, 14
EXTERNAL = 1  # TensorProto.DataLocation
TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10}  # TensorProto.DataType
MAX_FIELDS = 1 << 20  # of a message
INLINE = 1024  # bytes up to which an initializer is written into the message

Span = tuple[int, int]


def fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field of a message.

    Raises:
        ValueError, IndexError: it is none.
    """
    count = 0
    while begin < end:
        count += 1
        if count > MAX_FIELDS:
            raise ValueError("a message of a million fields")
        key, begin = _varint(data, begin)
        wire = key & 7
        if key >= 1 << 32:
            raise ValueError("a field of no number")
        if wire == 2:
            length, begin = _varint(data, begin)
        elif wire == 0:
            length = _varint(data, begin)[1] - begin
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("a field of an unknown kind")
        if begin + length > end:
            raise ValueError("a field longer than its message")
        yield key >> 3, begin, begin + length
        begin += length


def metadata(data: bytes, key: str) -> Span | None:
    """Where the value of a model's property stands."""
    for field, begin, end in fields(data, 0, len(data)):
        if field == MODEL_METADATA:
            entry = {number: (start, stop) for number, start, stop in fields(data, begin, end)}
            if data[slice(*entry.get(ENTRY_KEY, (0, 0)))] == key.encode():
                return entry.get(ENTRY_VALUE)
    return None


def initializers(data: bytes) -> dict[str, Span]:
    """Where the raw values of each initializer of a model's graph stand."""
    found: dict[str, Span] = {}
    for number, *graph in fields(data, 0, len(data)):
        if number != MODEL_GRAPH:
            continue
        for field, *tensor in fields(data, *graph):
            if field == GRAPH_INITIALIZER:
                parts = {part: (begin, end) for part, begin, end in fields(data, *tensor)}
                if TENSOR_NAME in parts and TENSOR_RAW in parts:
                    found[text(data[slice(*parts[TENSOR_NAME])])] = parts[TENSOR_RAW]
    return found


@dataclasses.dataclass(frozen=True)
class Nodes:
    """Names in a model's graph: what each node reads and makes, and what the graph takes and answers."""

    nodes: list[tuple[list[str], list[str]]]
    inputs: list[str]
    outputs: list[str]


def nodes(model: bytes) -> Nodes:
    """The nodes of a model's graph.

    Raises:
        ValueError, IndexError, KeyError: it is none.
    """

    def names(span: Span, field: int) -> list[str]:
        return [text(model[begin:end]) for number, begin, end in fields(model, *span) if number == field]

    found = Nodes([], [], [])
    for number, *graph in fields(model, 0, len(model)):
        for field, begin, end in fields(model, *graph) if number == MODEL_GRAPH else ():
            if field == GRAPH_NODE:
                found.nodes.append((names((begin, end), NODE_INPUT), names((begin, end), NODE_OUTPUT)))
            elif field in (GRAPH_INPUT, GRAPH_OUTPUT):
                (found.inputs if field == GRAPH_INPUT else found.outputs).extend(names((begin, end), VALUE_NAME))
    return found


def without_nodes(model: bytes, left_out: Collection[int], renamed: Mapping[str, str]) -> tuple[bytes, set[str]]:
    """A model without the nodes of these numbers, the others reading renamed values by their new names; all they read.

    Raises:
        ValueError, IndexError: it is none.
    """
    numbers, read = itertools.count(), set()

    def of_node(field: int, content: bytes) -> bytes:
        if field != NODE_INPUT:
            return content
        name = text(content)
        read.add(renamed.get(name, name))
        return renamed[name].encode() if name in renamed else content

    def of_graph(field: int, content: bytes) -> bytes | None:
        if field != GRAPH_NODE:
            return content
        return None if next(numbers) in left_out else _rewritten(content, of_node)

    def of_model(field: int, content: bytes) -> bytes | None:
        return _rewritten(content, of_graph) if field == MODEL_GRAPH else content

    return _rewritten(model, of_model), read


def with_dimension(model: bytes, name: str, value: int) -> bytes:
    """A model whose inputs have a dimension of this name set to a value.

    Raises:
        ValueError, IndexError: it is none.
    """
    left_open = _field(DIMENSION_NAME, name.encode())

    def below(path: tuple[int, ...]) -> Callable[[int, bytes], bytes]:
        def change(field: int, content: bytes) -> bytes:
            if field != path[0]:
                return content
            if len(path) > 1:
                return _rewritten(content, below(path[1:]))
            return _number(DIMENSION_VALUE, value) if content == left_open else content

        return change

    return _rewritten(model, below(DIMENSIONS))


def _rewritten(message: bytes, change: Callable[[int, bytes], bytes | None]) -> bytes:
    """A message whose fields are what `change` makes of each one's number and content; None leaves it out."""
    pieces: list[bytes] = []
    last = 0
    for field, begin, end in fields(message, 0, len(message)):
        content = message[begin:end]
        changed = change(field, content)
        if changed is content:  # whatever type it is of
            pieces.append(message[last:end])
        elif changed is not None:
            pieces.append(_field(field, changed))
        last = end
    return b"".join(pieces)


def with_initializers(
    model: bytes, tensors: Mapping[str, np.ndarray], inline: float = INLINE
) -> tuple[bytes, dict[str, np.ndarray]]:
    """A model with initializers added, and those of them that its session is to be given beside.

    Args:
        inline: bytes up to which an initializer goes into the model's own; `math.inf` makes it whole.
    """
    if not tensors:
        return model, {}
    beside = {name: value for name, value in tensors.items() if value.nbytes > inline}
    added = (_tensor(name, value, external=name in beside) for name, value in tensors.items())
    return model + _field(MODEL_GRAPH, b"".join(_field(GRAPH_INITIALIZER, tensor) for tensor in added)), beside


def message(
    nodes: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes], *, opset: int, ir_version: int
) -> bytes:
    """A model of one graph, without initializers."""
    parts = [(GRAPH_NODE, nodes), (GRAPH_INPUT, inputs), (GRAPH_OUTPUT, outputs)]
    graph = b"".join(_field(number, content) for number, contents in parts for content in contents)
    graph = _field(GRAPH_NAME, b"edgepatch") + graph
    version = _field(OPSET_DOMAIN, b"") + _number(OPSET_VERSION, opset)
    return _number(MODEL_IR_VERSION, ir_version) + _field(MODEL_OPSET, version) + _field(MODEL_GRAPH, graph)


def node(operator: str, inputs: Sequence[str], output: str, **attributes: int | str | Sequence[int]) -> bytes:
    """A node of one output, which it is named by."""
    parts = [_field(NODE_INPUT, name.encode()) for name in inputs]
    parts += [_field(field, name.encode()) for field, name in ((NODE_OUTPUT, output), (NODE_NAME, output))]
    parts.append(_field(NODE_OPERATOR, operator.encode()))
    for name, value in attributes.items():
        kind, content = _attribute(value)
        found = _field(ATTRIBUTE_NAME, name.encode()) + content + _number(ATTRIBUTE_TYPE, kind)
        parts.append(_field(NODE_ATTRIBUTE, found))
    return b"".join(parts)


def value_info(name: str, shape: Sequence[int]) -> bytes:
    """A float input or output of a graph."""
    dimensions = b"".join(_field(1, _number(DIMENSION_VALUE, side)) for side in shape)
    kind = _number(1, TYPES["float32"]) + _field(2, dimensions)
    return _field(VALUE_NAME, name.encode()) + _field(VALUE_TYPE, _field(1, kind))


def _attribute(value: int | str | Sequence[int]) -> tuple[int, bytes]:
    """An attribute's AttributeType and its value's field."""
    if isinstance(value, int):
        return 2, _number(3, value)
    if isinstance(value, str):
        return 3, _field(4, value.encode())
    return 7, b"".join(_number(8, item) for item in value)


def with_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """A model whose graph answers further float values, of any shape, behind its own."""
    kind = _field(VALUE_TYPE, _field(1, _number(1, TYPES["float32"])))
    added = (_field(GRAPH_OUTPUT, _field(VALUE_NAME, name.encode()) + kind) for name in names)
    return model + _field(MODEL_GRAPH, b"".join(added))


def _tensor(name: str, value: np.ndarray, external: bool) -> bytes:
    parts = [_number(TENSOR_DIMS, side) for side in value.shape]
    parts += [_number(TENSOR_TYPE, TYPES[value.dtype.name]), _field(TENSOR_NAME, name.encode())]
    if external:
        entries = {"location": "edgepatch", "offset": "0", "length": str(value.nbytes)}
        for key, text in entries.items():
            entry = _field(ENTRY_KEY, key.encode()) + _field(ENTRY_VALUE, text.encode())
            parts.append(_field(TENSOR_EXTERNAL, entry))
        parts.append(_number(TENSOR_LOCATION, EXTERNAL))
    else:
        parts.append(_field(TENSOR_RAW, np.ascontiguousarray(value).tobytes()))
    return b"".join(parts)


def _field(number: int, content: bytes) -> bytes:
    return _encode(number << 3 | 2) + _encode(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _encode(number << 3) + _encode(value)


def _encode(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    if data[at] < 0x80:  # most are one byte
        return data[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 and value < 1 << 64:  # parsers forget bits beyond, and each reader would see another number
            return value, at
    raise ValueError("a number too long")
