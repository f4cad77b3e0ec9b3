"""What is handed to engines lies where 32-bit ARM wants it: there, a load from an odd place ends the process.

LDM, LDRD, VLDR and NEON loads that claim an alignment raise SIGBUS. TensorFlow Lite takes a model's tensors where they
stand in the bytes that it is given (its schema: at multiples of 16), ONNX Runtime initializers and bound inputs where
numpy has them. These tests run on the host and, by `python -m tests.arm`, on emulated devices.
"""

from __future__ import annotations

from collections.abc import Iterator

import golden
import numpy as np
import pytest
from golden import running

from edgepatch import blob, container
from edgepatch.container import Tensors
from edgepatch.head_network import PREFIX
from edgepatch.runtime import baking, fitting, graph_file
from edgepatch.runtime.fitting import Fitted
from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.head_model import HEADS
from edgepatch.runtime.model import Model

GRAPHS = golden.document("graphs")
# a bytes object begins 8 bytes behind an allocation of 32-bit glibc's, which lies at a multiple of 8
ADDRESS = 8


def models(graph: Graph, fitted: Fitted) -> Iterator[Model]:
    """All that an engine opens for a task."""
    yield baking.bake(graph, fitted)
    if "bind" in graph.forms and fitted.inputs is not None:
        yield baking.bind_model(graph, fitted)
    if fitted.network:
        weights = {name: value for name, value in fitted.values.items() if name.startswith(PREFIX)}
        yield HEADS[graph.format].model(fitted.network, weights, running.map_shapes(graph, fitted))


def misplaced(data: bytes) -> list[str]:
    """What of a .tflite does not lie at the multiple of its size that the schema promises."""
    found = []

    def look(what: str, position: int, alignment: int) -> None:
        if position % alignment:
            found.append(f"{what} at {position}, not at a multiple of {alignment}")

    model = fb.root(data)
    for number, position in enumerate(model.tables(fb.MODEL_BUFFERS)):
        look(f"table of buffer {number}", position, 4)
        if span := fb.Table(data, position).span(fb.BUFFER_DATA):
            look(f"buffer {number}", span[0], fb.ALIGNMENT)
    for subgraph in (fb.Table(data, position) for position in model.tables(fb.MODEL_SUBGRAPHS)):
        for field in (fb.SUBGRAPH_INPUTS, fb.SUBGRAPH_OUTPUTS, fb.SUBGRAPH_OPERATORS):
            if span := subgraph.span(field, 4):
                look(f"vector {field} of a subgraph", span[0], 4)
        for number, tensor in enumerate(fb.Table(data, each) for each in subgraph.tables(fb.SUBGRAPH_TENSORS)):
            look(f"tensor {number}", tensor.position, 4)
            if span := tensor.span(fb.TENSOR_SHAPE, 4):
                look(f"shape of tensor {number}", span[0], 4)
            if tensor.at(fb.TENSOR_QUANTIZATION):
                quantization = tensor.table(fb.TENSOR_QUANTIZATION)
                for field, width in ((fb.QUANTIZATION_SCALE, 4), (fb.QUANTIZATION_ZERO_POINT, 8)):
                    if span := quantization.span(field, width):
                        look(f"quantization of tensor {number}", span[0], width)
    return found


def odd(values: Tensors) -> list[str]:
    """Arrays that an engine could not read where they are."""
    return [name for name, value in values.items() if not (value.flags.aligned and value.flags.c_contiguous)]


def address(data: bytes) -> int:
    return int(np.frombuffer(data, np.uint8).ctypes.data)


def fitted_to(graph: Graph, task: str) -> Fitted:
    return fitting.fit(graph, blob.parse(golden.patch(task), task), task)


@pytest.mark.parametrize("name", GRAPHS)
def test_models_and_values_lie_where_engines_read_them(name: str) -> None:
    graph = graph_file.parse(golden.graph(name), name)
    for task in GRAPHS[name]["runs"]:
        fitted = fitted_to(graph, task)
        assert odd(fitted.inputs or {}) == [], task
        for model in models(graph, fitted):
            assert odd(dict(model.tensors)) == [], task
            if graph.format == "tflite":
                assert address(model.data) % ADDRESS == 0
                assert misplaced(model.data) == [], task


def test_what_is_misplaced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_file.parse(golden.graph("gated-int8.tflite"), "graph")
    monkeypatch.setattr(fb, "ALIGNMENT", 4)
    data = baking.bake(graph, fitted_to(graph, "scale_bias")).data
    monkeypatch.undo()
    assert misplaced(data)
    _, tensors = container.parse(golden.patch("mobilenet_skip"), "patch")  # tensors behind one of odd length
    assert "scale" in odd(tensors), "of tensors in a file any may begin at an odd byte: none is handed on from there"


def test_the_image_lies_where_engines_read_it() -> None:
    how = blob.parse(golden.patch("scale_bias"), "patch").input
    for picture in (np.zeros((9, 7, 3), np.uint8), np.zeros((20, 30, 4), np.uint8)[3:, 1:, :3]):
        assert odd({"image": how(picture)}) == []
