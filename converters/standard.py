"""A dedicated model of one task as a file of its own, for tools that know nothing of patches."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from edgepatch.converters import document

from edgepatch.blob import Patch
from edgepatch.runtime import baking, heads
from edgepatch.runtime.fitting import fit, require_dense
from edgepatch.runtime.formats import onnx as onnx_format
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.model import Model

SIGNATURE = "serving_default"  # what TensorFlow calls a model's only one


def export(graph: Graph, patch: Patch, file: object = None) -> bytes:
    """A plain .tflite or .onnx, as the graph is: takes `image`, answers `logits`, and says which class each is.

    It computes what a runtime computes that has baked the patch, to the last bit.

    Args:
        file: the patch's, for messages.

    Raises:
        UsageError: the patch's head is on maps of the trunk.
        MismatchError: the patch does not fit the graph.
        BadFileError: its bake table is broken, or the patch's labels are not those of its head.
    """
    fitted = fit(graph, patch, file)
    require_dense(fitted, file, "no file of its own can be made")
    heads.of(patch, fitted.values, file)
    model = baking.bake(graph, fitted)
    return {"tflite": _tflite, "onnx": _onnx}[graph.format](model, patch)


def _tflite(baked: Model, patch: Patch) -> bytes:
    """The subgraph that is left to be seen, and of all else what it uses."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    from edgepatch.converters import tflite_metadata as metadata
    from edgepatch.converters.tflite_writer import AlignedBuffer

    model = schema.ModelT.InitFromPackedBuf(baked.data, 0)
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    graph.name, signature.signatureKey = "main", SIGNATURE
    model.description = f"{patch.task}, made by edgepatch"

    buffers: list[Any] = [schema.BufferT()]  # the first one is empty, by convention
    moved = {0: 0}

    def keep(data: Any) -> int:
        buffer = AlignedBuffer()
        buffer.data = data
        buffers.append(buffer)
        return len(buffers) - 1

    holders = [graph, *graph.operators]
    used = np.unique(np.concatenate([ends for each in holders for ends in (each.inputs, each.outputs)]))
    graph.tensors = [graph.tensors[index] for index in used]  # none of a block that is skipped
    for each in holders:
        each.inputs, each.outputs = (
            np.searchsorted(used, ends).astype(np.int32) for ends in (each.inputs, each.outputs)
        )
    for end in [*signature.inputs, *signature.outputs]:
        end.tensorIndex = int(np.searchsorted(used, end.tensorIndex))
    for tensor in graph.tensors:
        if tensor.buffer not in moved:
            moved[tensor.buffer] = keep(model.buffers[tensor.buffer].data)
        tensor.buffer = moved[tensor.buffer]
    codes = sorted({operator.opcodeIndex for operator in graph.operators})
    for operator in graph.operators:
        operator.opcodeIndex = codes.index(operator.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[index] for index in codes]
    said = np.frombuffer(metadata.dump(patch, document.IMAGE, document.LOGITS), np.uint8)
    model.metadata = [schema.MetadataT(name=metadata.NAME, buffer=keep(said))]
    model.buffers = buffers
    builder = flatbuffers.Builder(len(baked.data))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return metadata.with_labels(bytes(builder.Output()), patch.labels)


def _onnx(baked: Model, patch: Patch) -> bytes:
    """The nodes with their weights beside them as raw initializers."""
    import onnx
    from onnx import helper

    model = onnx.load_model_from_string(onnx_format.whole(baked))
    read = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in read]:
        model.graph.initializer.remove(tensor)
    shape = model.graph.output[0].type.tensor_type.shape
    shape.dim[1].dim_value = len(patch.labels)
    model.graph.name = patch.task
    properties = {
        "task": patch.task,
        "version": str(patch.version),
        "labels": json.dumps(patch.labels, ensure_ascii=False),
        "licence": patch.licence,
        "input": json.dumps(patch.input.to_json()),
    }
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
