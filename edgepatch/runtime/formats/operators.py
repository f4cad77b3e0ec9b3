"""Which operators a shared graph may have: those that edgepatch exports.

They compute, and do nothing else: none loops, keeps state, calls code of somebody's or reads another file. Interpreters
run and open more than that, whatever the graph says of itself.
"""

from __future__ import annotations

from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.formats import protobuf
from edgepatch.runtime.formats.flatbuffer import Table
from edgepatch.runtime.formats.names import text

# of a .tflite, by the schema's numbers
TFLITE = {
    0: "ADD",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    9: "FULLY_CONNECTED",
    18: "MUL",
    34: "PAD",
    40: "MEAN",
    102: "SPLIT_V",
    114: "QUANTIZE",
    117: "HARD_SWISH",
    126: "BATCH_MATMUL",
}
ONNX = (
    "Add BatchNormalization Cast Clip Conv DequantizeLinear Flatten Gemm GlobalAveragePool HardSigmoid HardSwish Mul "
    "QuantizeLinear Relu Reshape Split Transpose"
)

CODE_OLD, CODE_CUSTOM, CODE = 0, 1, 3  # of an OperatorCode: as a byte, by a name of its own, and as a number
MODEL_GROUPS, MODEL_FILES = 8, 9  # buffers in other files
BUFFER_OFFSET = 1  # bytes that stand elsewhere than where the buffer is
# fields of ModelProto, GraphProto and AttributeProto that say nothing which is not looked at
MODEL = {1, 2, 3, 4, 5, 6, 7, 8, 14}
GRAPH = {1, 2, 5, 10, 11, 12, 13}
ATTRIBUTE = {1, 2, 3, 4, 7, 8, 9, 13, 20}
NODE_DOMAIN = 7


def require_tflite(data: bytes) -> None:
    """Refuse a .tflite with other operators, or with bytes elsewhere.

    Raises:
        ValueError, IndexError, struct.error: it has some.
    """
    model = fb.root(data)
    for position in model.tables(fb.MODEL_CODES):
        code = Table(data, position)
        number = max(code.byte(CODE_OLD), code.number(CODE))
        if code.at(CODE_CUSTOM) is not None or number not in TFLITE:
            raise ValueError(f"operator {number} is not one of {', '.join(TFLITE.values())}")
    buffers = [Table(data, position) for position in model.tables(fb.MODEL_BUFFERS)]
    if any(model.at(field) is not None for field in (MODEL_GROUPS, MODEL_FILES)) or any(
        buffer.at(BUFFER_OFFSET) is not None for buffer in buffers
    ):
        raise ValueError("a buffer's bytes are elsewhere")


def require_onnx(model: bytes) -> None:
    """Refuse an .onnx with other operators, with graphs within operators, or with weights in other files.

    Raises:
        ValueError, IndexError: it has some.
    """
    for number, *graph in protobuf.fields(model, 0, len(model)):
        if number not in MODEL:
            raise ValueError(f"the model has a field {number}")
        for field, *inner in protobuf.fields(model, *graph) if number == protobuf.MODEL_GRAPH else ():
            if field not in GRAPH:
                raise ValueError(f"the graph has a field {field}")
            if field == protobuf.GRAPH_NODE:
                _require_node(model, *inner)
            elif field == protobuf.GRAPH_INITIALIZER:
                elsewhere = (protobuf.TENSOR_EXTERNAL, protobuf.TENSOR_LOCATION)
                if any(part in elsewhere for part, _, _ in protobuf.fields(model, *inner)):
                    raise ValueError("an initializer's values are in another file")


def _require_node(model: bytes, begin: int, end: int) -> None:
    for field, *span in protobuf.fields(model, begin, end):
        if field == protobuf.NODE_OPERATOR and (name := text(model[slice(*span)])) not in ONNX.split():
            raise ValueError(f"operator {name[:40]} is not one of {ONNX.replace(' ', ', ')}")
        if field == NODE_DOMAIN and span[1] > span[0]:
            raise ValueError("an operator is of a domain of its own")
        if field == protobuf.NODE_ATTRIBUTE:
            for part, _, _ in protobuf.fields(model, *span):
                if part not in ATTRIBUTE:
                    raise ValueError(f"an attribute has a field {part}")
