"""A .tflite laid down operator by operator, with the schema's own classes.

TensorFlow's converter would do as well for one graph of one task; here two subgraphs share their kernels, and every
byte that a task changes must have its place.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgepatch.runtime.formats import tflite as format
from edgepatch.runtime.formats.flatbuffer import ALIGNMENT, BUFFER_DATA, KEY, MODEL_BUFFERS, Table, point, root, splice

TYPES = {"float32": 0, "float16": 1, "int32": 2, "int64": 4, "int8": 9}  # TensorType
SAME, VALID = 0, 1  # Padding
NONE, RELU, RELU6 = 0, 1, 3  # ActivationFunctionType

# operator -> its options' class, and the version from which on int8 is known
OPERATORS: dict[str, tuple[str | None, int]] = {
    "PAD": ("PadOptions", 2),
    "CONV_2D": ("Conv2DOptions", 3),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", 3),
    "ADD": ("AddOptions", 2),
    "MUL": ("MulOptions", 2),
    "HARD_SWISH": ("HardSwishOptions", 1),
    "SPLIT_V": ("SplitVOptions", 2),
    "MEAN": ("ReducerOptions", 2),
    "FULLY_CONNECTED": ("FullyConnectedOptions", 4),
    "BATCH_MATMUL": ("BatchMatMulOptions", 2),
    "QUANTIZE": ("QuantizeOptions", 1),
    "DEQUANTIZE": ("DequantizeOptions", 2),
}


class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A buffer whose data is aligned as the schema demands; the generated class does not see to it."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802
        content = self.data.tobytes()
        builder.StartVector(1, len(content), ALIGNMENT)
        builder.head = builder.Head() - len(content)
        builder.Bytes[builder.Head() : builder.Head() + len(content)] = content
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


class Writer:
    """A model as it is laid down: operator codes, buffers and subgraphs."""

    def __init__(self) -> None:
        self.buffers: list[Any] = [schema.BufferT()]  # the first one is empty, by convention
        self.codes: dict[str, int] = {}
        self.subgraphs: list[Subgraph] = []
        self._shared: dict[str, int] = {}

    def subgraph(self, name: str) -> Subgraph:
        """A new subgraph, called by a signature of its name."""
        self.subgraphs.append(Subgraph(self, name))
        return self.subgraphs[-1]

    def buffer(self, value: np.ndarray, share: str | None = None) -> int:
        """A buffer that holds an array; two with the same `share` are one."""
        if share is None or share not in self._shared:
            buffer = AlignedBuffer()
            buffer.data = np.ascontiguousarray(value)
            self.buffers.append(buffer)
            if share is not None:
                self._shared[share] = len(self.buffers) - 1
            return len(self.buffers) - 1
        return self._shared[share]

    def code(self, operator: str, integer: bool) -> int:
        """The index of an operator's code."""
        return self.codes.setdefault(f"{operator} {OPERATORS[operator][1] if integer else 1}", len(self.codes))

    def finish(self) -> bytes:
        """The model's bytes, with an empty place for edgepatch's metadata: see `attach`."""
        model = schema.ModelT(version=3, description="edgepatch")
        model.operatorCodes = []
        for code in self.codes:
            name, version = code.split()
            number = getattr(schema.BuiltinOperator, name)
            model.operatorCodes.append(
                schema.OperatorCodeT(deprecatedBuiltinCode=min(number, 127), builtinCode=number, version=int(version))
            )
        model.metadata = [schema.MetadataT(name=KEY, buffer=self.buffer(np.zeros(1, np.uint8)))]
        model.buffers = self.buffers
        model.subgraphs = [subgraph.packed() for subgraph in self.subgraphs]
        model.signatureDefs = [subgraph.signature(index) for index, subgraph in enumerate(self.subgraphs)]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


class Subgraph:
    """Tensors and operators; a tensor is known by its index."""

    def __init__(self, writer: Writer, name: str) -> None:
        self.writer, self.name = writer, name
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.inputs: dict[str, int] = {}
        self.outputs: dict[str, int] = {}
        self._constants: dict[int, int] = {}

    def tensor(
        self, name: str, shape: Any, dtype: str = "float32", buffer: int = 0, quantisation: Any = None, free: Any = None
    ) -> int:
        """A new tensor.

        Args:
            quantisation: scales (a float, or one a channel) and the axis of the channels.
            free: the shape with -1 where a side may be resized.
        """
        found = schema.TensorT(shape=np.array(shape, np.int32), type=TYPES[dtype], buffer=buffer, name=name)
        if free is not None:
            found.shapeSignature = np.array(free, np.int32)
        if quantisation is not None:
            scale, axis = quantisation
            scale = np.atleast_1d(np.asarray(scale, np.float32))
            found.quantization = schema.QuantizationParametersT(
                scale=scale, zeroPoint=np.zeros(len(scale), np.int64), quantizedDimension=axis
            )
        self.tensors.append(found)
        return len(self.tensors) - 1

    def constant(self, name: str, value: np.ndarray, share: str | None = None, quantisation: Any = None) -> int:
        """A tensor that holds an array; one of the same `share` is there once."""
        value = np.asarray(value)
        buffer = self.writer.buffer(value, share)
        if share is not None and buffer in self._constants:
            return self._constants[buffer]
        index = self.tensor(name, value.shape, value.dtype.name, buffer, quantisation)
        self._constants[buffer] = index
        return index

    def input(self, name: str, shape: Any, dtype: str = "float32", **options: Any) -> int:
        self.inputs[name] = self.tensor(name, shape, dtype, **options)
        return self.inputs[name]

    def add(self, operator: str, inputs: list[int], *outputs: int, **options: Any) -> int:
        """A new operator; returns its first output."""
        integer = any(self.tensors[index].type == TYPES["int8"] for index in inputs)
        kind = OPERATORS[operator][0]
        found = schema.OperatorT(
            opcodeIndex=self.writer.code(operator, integer),
            inputs=np.array(inputs, np.int32),
            outputs=np.array(outputs, np.int32),
        )
        if kind is not None:
            found.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            found.builtinOptions = getattr(schema, f"{kind}T")(**options)
        self.operators.append(found)
        return outputs[0]

    def packed(self) -> Any:
        return schema.SubGraphT(
            name=self.name,
            tensors=self.tensors,
            operators=self.operators,
            inputs=np.array(list(self.inputs.values()), np.int32),
            outputs=np.array(list(self.outputs.values()), np.int32),
        )

    def signature(self, index: int) -> Any:
        def maps(names: dict[str, int]) -> list[Any]:
            return [schema.TensorMapT(name=name, tensorIndex=tensor) for name, tensor in names.items()]

        return schema.SignatureDefT(
            inputs=maps(self.inputs), outputs=maps(self.outputs), signatureKey=self.name, subgraphIndex=index
        )


def attach(model: bytes, payload: bytes) -> bytes:
    """A finished model with edgepatch's metadata in it: behind the end, so that nothing else moves."""
    span = format.find(model)
    assert span is not None, "the model was not made by a Writer"
    for position in root(model).tables(MODEL_BUFFERS):
        buffer = Table(model, position)
        if buffer.span(BUFFER_DATA) == span:
            edits, tail = point(len(model), [(buffer.need(BUFFER_DATA), payload, len(payload))])
            return splice(model, edits, tail)
    raise AssertionError("the metadata has no buffer")
