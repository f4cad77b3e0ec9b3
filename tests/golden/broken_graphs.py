"""Broken graphs: damaged ones, and ones whose document lies."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from test_baking import forged

from edgepatch.runtime import graph_file
from edgepatch.runtime.formats import flatbuffer, operators, protobuf

from . import source
from .forging import Case, Document, put, sealed


def graphs() -> Iterator[Case]:
    """Every broken graph."""
    for name in ("gated-fp32.tflite", "gated-int8.tflite", "gated-fp32.onnx"):
        data = source(name)
        kind = name.rpartition(".")[2]
        stem = name.replace(".", "-")
        middle = len(data) // 2
        yield f"{stem}_cut", name, data[:middle]
        yield f"{stem}_cut_by_one", name, data[:-1]
        yield f"{stem}_flipped", name, data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
        yield f"{stem}_head_of_nothing", name, data[:8] + bytes(60)
        # of the same length, so that base64 does not shift in an .onnx
        old_id = graph_file.parse(data, name).backbone_id
        yield f"{stem}_document_changed", name, _same_length(data, kind, old_id)
    yield "patch_as_graph", "scale_bias.epatch", source("scale_bias.epatch")
    yield "text_as_graph", "gated-fp32.tflite", b"hello, this is not a graph"

    def row(part: str, name: str, by: int) -> Callable[[Document], None]:
        def change(document: Document) -> None:
            target = document["bake"][part]
            target = target[3] if isinstance(target, list) else target
            value = target[name]
            target[name] = [value[0] + by, value[1] + by] if isinstance(value, list) else value + by

        return change

    lies: dict[str, tuple[str, Callable[[Document], Any]]] = {
        "kernel_beyond": ("gated-fp32.tflite", row("sites", "kernel", 10**9)),
        "kernel_shifted": ("gated-fp32.tflite", row("sites", "kernel", 4)),
        "bias_shifted": ("gated-fp32.tflite", row("sites", "bias", -64)),
        "operator_other": ("gated-fp32.tflite", row("sites", "operator", 1)),
        "operator_beyond": ("gated-fp32.tflite", row("sites", "operator", 10**6)),
        "operator_negative": ("gated-fp32.tflite", row("sites", "operator", -(10**6))),
        "head_shifted": ("gated-fp32.tflite", row("head", "kernel_data", 8)),
        "scale_shifted": ("gated-int8.tflite", row("activations", "scale", 16)),
        "tensor_negative": ("gated-int8.tflite", row("activations", "tensor", -100)),
        "input_beyond": ("gated-int8.tflite", row("sites", "input", 10**4)),
        "site_missing": ("gated-fp32.tflite", lambda document: document["bake"]["sites"].pop()),
        "head_missing": ("gated-fp32.tflite", lambda document: document["bake"].pop("head")),
        "sites_number": ("gated-fp32.tflite", lambda document: document["bake"].update(sites=7)),
        "site_twice": (
            "gated-fp32.tflite",
            lambda document: document["bake"]["sites"].__setitem__(1, document["bake"]["sites"][0]),
        ),
        "block_missing": ("gated-fp32.tflite", lambda document: document["bake"]["residuals"].pop()),
        "block_other": ("gated-fp32.tflite", lambda document: document["bake"]["residuals"].reverse()),
        "forms": ("gated-fp32.tflite", lambda document: document.update(forms=["bake", "bake"])),
        "precision": ("gated-fp32.tflite", lambda document: document.update(precision="int4")),
        "precision_other": ("gated-int8.tflite", lambda document: document.update(precision="dynamic")),
        "format": ("gated-fp32.tflite", lambda document: document.update(format=2)),
        "field": ("gated-fp32.tflite", lambda document: document.update(surprise=1)),
        "field_missing": ("gated-fp32.tflite", lambda document: document.pop("alpha")),
        "sizes": ("gated-fp32.tflite", lambda document: document.update(sizes=[64, 32])),
        "sizes_three": ("gated-fp32.tflite", lambda document: document.update(sizes=[16, 32, 64])),
        "channels": ("gated-fp32.tflite", lambda document: document["sites"][2].update(channels=10**9)),
        "bound": ("gated-fp32.tflite", lambda document: document["sites"][2].update(bound="yes")),
        "placement": ("gated-fp32.tflite", lambda document: document["sites"][1].update(placement="expand")),
        "kernel_sides": ("gated-fp32.tflite", lambda document: document["sites"][2].update(kernel=[-1, -1, 8, 8])),
        "input_shape": ("gated-fp32.tflite", lambda document: document["inputs"].update(head_kernel=[None, None])),
        "input_more": ("gated-fp32.tflite", lambda document: document["inputs"].update(more=[1])),
        "nodes": ("gated-fp32.tflite", lambda document: document["residuals"][0].update(nodes=[5, 2])),
        "range_negative": ("gated-int8.tflite", lambda document: document["bake"]["activations"][5].update(range=-1)),
        "range_point": ("gated-int8.tflite", lambda document: document["bake"]["activations"][5].update(range=0.0)),
        "range_true": ("gated-int8.tflite", lambda document: document["bake"]["activations"][1].update(range=True)),
        "range_large": ("gated-int8.tflite", lambda document: document["bake"]["head"].update(input=2**31)),
        "operator_true": ("gated-fp32.tflite", lambda document: document["bake"]["sites"][1].update(operator=True)),
        "place_point": (
            "gated-fp32.tflite",
            lambda document: document["bake"]["sites"][2].update(
                kernel=[float(place) for place in document["bake"]["sites"][2]["kernel"]]
            ),
        ),
        "shift_whole": ("gated-fp32.tflite", lambda document: document["bake"]["sites"][2].update(shift=1)),
        "input_point": (
            "gated-fp32.tflite",
            lambda document: document["inputs"].update(scale=[float(document["inputs"]["scale"][0])]),
        ),
        "kernel_large": (
            "gated-fp32.tflite",
            lambda document: document["sites"][2].update(kernel=[2**16, 2**16, *document["sites"][2]["kernel"][2:]]),
        ),
        "nodes_large": ("gated-fp32.tflite", lambda document: document["residuals"][0].update(nodes=[0, 2**31])),
        "block_sites_point": (
            "gated-fp32.tflite",
            lambda document: document["residuals"][0].update(
                sites=[float(number) for number in document["residuals"][0]["sites"]]
            ),
        ),
        "alpha_whole": ("gated-fp32.tflite", lambda document: document.update(alpha=1)),
        "sizes_true": ("gated-fp32.tflite", lambda document: document.update(sizes=[True, 64])),
        "input_true": ("gated-fp32.tflite", lambda document: document["input"].update(scale=[True, 1, 1])),
        "activation_missing": ("gated-int8.tflite", lambda document: document["bake"]["activations"].pop()),
        "activations_none": ("gated-int8.tflite", lambda document: document["bake"]["activations"].clear()),
    }
    for name, (of, change) in lies.items():
        yield f"lie_{name}", of, forged(source(of), "tflite", change)
    of = "gated-fp32.tflite"
    yield "own_scale_missing", of, forged(source(of), "tflite", lambda document: None, without="scale")
    yield (
        "own_kernel_max_missing",
        "gated-int8.tflite",
        forged(source("gated-int8.tflite"), "tflite", lambda document: None, without="kernel_max"),
    )
    yield from _strangers()


def _strangers() -> Iterator[Case]:
    """Graphs with what edgepatch does not export."""
    of = "gated-fp32.tflite"
    data = source(of)
    codes = [flatbuffer.Table(data, place) for place in flatbuffer.root(data).tables(flatbuffer.MODEL_CODES)]
    code = next(code for code in codes if code.at(operators.CODE) is not None)
    yield "operator_of_old", of, sealed(put(data, code.need(operators.CODE_OLD), b"\x77"), "tflite")
    yield "operator_unknown", of, sealed(put(data, code.need(operators.CODE), struct.pack("<i", 119)), "tflite")
    yield "operator_below_zero", of, sealed(put(data, code.need(operators.CODE), struct.pack("<i", -1)), "tflite")

    of = "gated-fp32.onnx"
    data = source(of)

    def tag(number: int, *path: int) -> bytes:
        """The file with another number of the first field that stands there."""
        begin, end = 0, len(data)
        for each in path:
            begin, end = next(span for field, *span in protobuf.fields(data, begin, end) if field == each)
        assert end - begin < 128
        return sealed(put(data, begin - 2, bytes([number << 3 | 2])), "onnx")

    node = (protobuf.MODEL_GRAPH, protobuf.GRAPH_NODE)
    yield "onnx_operator", of, sealed(data.replace(b"\x22\x04Conv", b"\x22\x04Loop", 1), "onnx")
    yield "onnx_operator_of_the_skeleton", of, sealed(data, "onnx", lambda nodes: nodes.replace(b"Conv", b"Loop", 1))
    yield "onnx_domain", of, tag(operators.NODE_DOMAIN, *node, protobuf.NODE_OUTPUT)
    yield "onnx_operator_with_a_graph", of, tag(6, *node, protobuf.NODE_ATTRIBUTE, protobuf.ATTRIBUTE_NAME)
    elsewhere = (protobuf.MODEL_GRAPH, protobuf.GRAPH_INITIALIZER, protobuf.TENSOR_NAME)
    yield "onnx_weights_elsewhere", of, tag(protobuf.TENSOR_EXTERNAL, *elsewhere)
    yield "onnx_field_of_the_graph", of, tag(14, protobuf.MODEL_GRAPH, protobuf.GRAPH_NAME)
    yield "onnx_field_of_the_model", of, tag(15, 2)


def fits() -> Iterator[tuple[str, str, bytes, str]]:
    """Sound graphs that take less than the others: name, the graph's source, its bytes, the name of a patch."""
    of = "gated-fp32.tflite"

    def graph(**changes: Any) -> bytes:
        def change(document: Document) -> None:
            for field, value in changes.items():
                if value is None:
                    del document[field]
                else:
                    document[field] = value

        return forged(source(of), "tflite", change)

    def without_blocks(document: Document) -> None:
        """As graphs were before tasks could skip blocks."""
        del document["residuals"], document["bake"]["residuals"], document["bake"]["order"]

    old = graph(sizes=None)  # as graphs were before they took other sizes than their own
    yield "own_size", of, old, "scale_bias"
    yield "larger_than_the_only_size", of, old, "cropped"
    yield "larger_than_the_sizes", of, graph(sizes=[24, 48]), "finder"
    yield "largest_of_the_sizes", of, graph(sizes=[24, 48]), "cropped"
    yield "smaller_than_the_sizes", of, graph(sizes=[32, 40]), "small"
    yield "no_blocks_to_skip", of, forged(source(of), "tflite", without_blocks), "skip"
    yield "no_blocks_to_skip_nor_skipped", of, forged(source(of), "tflite", without_blocks), "mask"
    yield "another_backbone", of, graph(backbone_id="0" * 64), "scale_bias"


def _same_length(data: bytes, kind: str, backbone_id: str) -> bytes:
    """A graph whose document names another backbone, without its checksum being computed anew."""
    span = graph_file.find(data, kind)
    assert span is not None
    packed = graph_file.FORMATS[kind].unpack(data[slice(*span)])
    changed = packed.replace(backbone_id.encode(), b"0" * 64)
    repacked = graph_file.FORMATS[kind].pack(changed)
    assert len(repacked) == span[1] - span[0]
    return data[: span[0]] + repacked + data[span[1] :]
