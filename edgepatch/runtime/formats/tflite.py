"""The shared .tflite: two signatures, `bind` and `bake`, over one set of kernels.

To bake is to copy the file with the kernels folded, biases and quantisation parameters written in their places, the
head put behind the end, and the `bake` subgraph alone left to be seen.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepatch.container import Tensors
from edgepatch.runtime.folding import fold
from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.formats import rows, sizing
from edgepatch.runtime.formats.flatbuffer import Edit, Span, Table, Vector, View
from edgepatch.runtime.formats.operators import require_tflite
from edgepatch.runtime.model import Model

if TYPE_CHECKING:
    from edgepatch.runtime.graph_file import Graph

HEAD_DATA = ("kernel", "bias")


def find(data: bytes) -> Span | None:
    """Begin and end of the container, or None."""
    model = fb.root(data)
    buffers = model.tables(fb.MODEL_BUFFERS)
    for position in model.tables(fb.MODEL_METADATA):
        entry = Table(data, position)
        begin, end = entry.span(fb.METADATA_NAME) or (0, 0)
        if end - begin == len(fb.KEY) and data[begin:end] == fb.KEY.encode():
            return Table(data, buffers[entry.number(fb.METADATA_BUFFER)]).span(fb.BUFFER_DATA)
    return None


def pack(payload: bytes) -> bytes:
    """A container as it stands in the file."""
    return payload


def unpack(packed: bytes) -> bytes:
    """The inverse of `pack`."""
    return packed


def require_known(data: bytes, tensors: Tensors) -> None:
    """Refuse a file with operators that edgepatch does not export; raises ValueError, IndexError, struct.error."""
    require_tflite(data)


def locate(data: bytes, document: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    """The bake table with the places of everything it names, as the file itself has them.

    Args:
        data: the file.
        document: its document. The table, `bake`, names for each site and for the head its `operator` in the bake
            subgraph and the number of its `input` range; under `activations` for each quantised tensor that is no
            constant its number and its range's; under `residuals` for each block the run of its `operators`.
        tensors: what the container holds beside the document.

    Raises:
        ValueError, IndexError, KeyError, struct.error: the table names what the file does not have.
    """
    table, quantised = document["bake"], document["precision"] in ("dynamic", "int8")
    subgraph, buffers = fb.subgraph(data, "bake"), fb.root(data).tables(fb.MODEL_BUFFERS)
    held, operators = subgraph.tables(fb.SUBGRAPH_TENSORS), subgraph.tables(fb.SUBGRAPH_OPERATORS)

    def tensor(index: int) -> Table:
        return Table(data, held[rows.index(index)])

    def buffer(holder: Table) -> Table:
        return Table(data, buffers[holder.number(fb.TENSOR_BUFFER)])

    def constants(row: dict[str, Any]) -> tuple[Table, Table, Table]:
        operator = Table(data, operators[rows.index(row["operator"])])
        inputs = operator.numbers(fb.OPERATOR_INPUTS)
        if len(inputs) < 3:
            raise ValueError(f"operator {row['operator']} has no kernel and bias")
        return tensor(inputs[1]), tensor(inputs[2]), tensor(operator.numbers(fb.OPERATOR_OUTPUTS)[0])

    @functools.cache
    def sources() -> dict[int, int]:
        """The first input of the operator that makes a tensor, by the tensor's position."""
        made = (Table(data, position) for position in operators)
        return {
            held[operator.numbers(fb.OPERATOR_OUTPUTS)[0]]: operator.numbers(fb.OPERATOR_INPUTS)[0] for operator in made
        }

    def site(row: dict[str, Any]) -> dict[str, Any]:
        kernel, bias, _ = constants(row)
        # half-precision kernels pass a DEQUANTIZE first
        kept = kernel if kernel.number(fb.TENSOR_BUFFER) else tensor(sources()[kernel.position])
        found = {
            "kernel": list(buffer(kept).vector(fb.BUFFER_DATA)),
            "bias": list(buffer(bias).vector(fb.BUFFER_DATA)),
        }
        if quantised and kernel.at(fb.TENSOR_QUANTIZATION) is not None:
            found["kernel_scale"] = list(kernel.table(fb.TENSOR_QUANTIZATION).vector(fb.QUANTIZATION_SCALE, 4))
            if bias.at(fb.TENSOR_QUANTIZATION) is not None:
                found["bias_scale"] = list(bias.table(fb.TENSOR_QUANTIZATION).vector(fb.QUANTIZATION_SCALE, 4))
        return rows.named(row) | {"shape": kernel.numbers(fb.TENSOR_SHAPE)} | found

    def head(row: dict[str, Any]) -> dict[str, Any]:
        kernel, bias, output = constants(row)
        answer = tensor(subgraph.numbers(fb.SUBGRAPH_OUTPUTS)[0])
        found: dict[str, Any] = {
            "output_shapes": [
                list(each.vector(fb.TENSOR_SHAPE, 4))
                for each in {output.position: output, answer.position: answer}.values()
            ]
        }
        for name, holder in zip(HEAD_DATA, (kernel, bias), strict=True):
            found[f"{name}_data"] = buffer(holder).need(fb.BUFFER_DATA)
            found[f"{name}_shape"] = list(holder.vector(fb.TENSOR_SHAPE, 4))
            if holder.at(fb.TENSOR_QUANTIZATION) is not None:
                parameters = holder.table(fb.TENSOR_QUANTIZATION)
                found[f"{name}_scale"] = parameters.need(fb.QUANTIZATION_SCALE)
                found[f"{name}_zero_point"] = parameters.need(fb.QUANTIZATION_ZERO_POINT)
        return rows.named(row) | found

    def activation(number: int) -> dict[str, Any]:
        parameters = tensor(number).table(fb.TENSOR_QUANTIZATION)
        return {
            "tensor": number,
            "range": ranges.get(number),
            "scale": list(parameters.vector(fb.QUANTIZATION_SCALE, 4)),
            "zero_point": list(parameters.vector(fb.QUANTIZATION_ZERO_POINT, 8)),
        }

    ranges = {rows.index(row["tensor"]): rows.index(row["range"]) for row in table["activations"]}
    moving = [
        number
        for number, position in enumerate(held)
        if (holder := Table(data, position)).at(fb.TENSOR_QUANTIZATION) and not holder.number(fb.TENSOR_BUFFER)
    ]
    return {
        "sites": [site(row) for row in table["sites"]],
        "head": head(table["head"]),
        "activations": [activation(number) for number in moving],
        **_blocks(data, document, subgraph),
    }


def _blocks(data: bytes, document: dict[str, Any], subgraph: Table) -> dict[str, Any]:
    """The table's `residuals` and, where there are any, the place of the vector of operators that is cut for them."""
    if not document["bake"]["residuals"]:
        return {"residuals": []}
    operators = [Table(data, position) for position in subgraph.tables(fb.SUBGRAPH_OPERATORS)]
    tensors = subgraph.tables(fb.SUBGRAPH_TENSORS)
    reads = [each.numbers(fb.OPERATOR_INPUTS) for each in operators]
    found = rows.blocks(
        list(zip(reads, (each.numbers(fb.OPERATOR_OUTPUTS) for each in operators), strict=True)),
        subgraph.numbers(fb.SUBGRAPH_INPUTS),
        subgraph.numbers(fb.SUBGRAPH_OUTPUTS),
        [row["operator"] for row in document["bake"]["sites"]],
        rows.claims(document, "operators"),
    )
    for block in found:
        ends = [Table(data, tensors[rows.index(number)]) for number in (block.entry, block.join)]
        entry, join = ((end.byte(fb.TENSOR_TYPE), end.numbers(fb.TENSOR_SHAPE)) for end in ends)
        if entry != join:
            raise ValueError(f"tensor {block.entry} cannot stand for tensor {block.join}")

    places: dict[int, list[tuple[int, int]]] = {block.join: [] for block in found}  # with the number of who reads there
    for number, numbers in enumerate(reads):
        for index, read in enumerate(numbers):
            if read in places:
                places[read].append((number, operators[number].vector(fb.OPERATOR_INPUTS, 4)[0] + 4 * index))

    def readers(block: rows.Block) -> list[list[int]]:
        """Where operators outside a block say that they read its join."""
        outside = [place for number, place in places[block.join] if not block.begin <= number < block.end]
        return [[place, place + 4] for place in outside]

    begin, end = subgraph.vector(fb.SUBGRAPH_OPERATORS, 4)
    return {
        "residuals": [
            {"operators": [block.begin, block.end], "entry": block.entry, "join": block.join, "readers": readers(block)}
            for block in found
        ],
        "order": [begin - 4, end],
    }


def view(data: bytes, form: str) -> View:
    """One form alone."""
    return View(fb.keep(data, form), fb.subgraph(data, form).position)


def bind_model(graph: Graph, size: int, maps: Sequence[str] = ()) -> Model:
    """The form `bind` for images of a size: see `baking.bind_model`."""
    edits, vectors = sizing.layout(graph, "bind", size) if size != graph.input.size else ([], [])
    vectors += _answering(graph, "bind", maps)
    if not edits and not vectors:
        return Model(graph.data, size=size)
    pointed, behind = fb.point(len(graph.data), vectors)
    return Model(fb.splice(graph.data, [*edits, *pointed], behind), size=size)


def bake_model(graph: Graph, values: Tensors, ranges: np.ndarray, size: int, maps: Sequence[str] = ()) -> Model:
    """A dedicated model of one task: see `baking.bake`."""
    folded, table = fold(graph, rows.shifted(graph, values), ranges), graph.document["bake"]
    edits: list[Edit] = [*graph.views["bake"].edits, *_cut(graph, values)]
    tail: list[Vector] = []
    if size != graph.input.size:
        edits_of_size, tail = sizing.layout(graph, "bake", size)
        edits += edits_of_size
    for row, site in zip(table["sites"], folded.sites, strict=True):
        if site is None:
            continue
        edits += [(row["kernel"][0], site.kernel.data.cast("B")), (row["bias"][0], site.bias.tobytes())]
        if site.scale is not None:
            edits.append((row["kernel_scale"][0], site.scale.tobytes()))
            if "bias_scale" in row:
                bias_scale = site.scale * folded.scales[row["input"]]
                edits.append((row["bias_scale"][0], bias_scale.tobytes()))
    for row in table["activations"]:
        edits.append((row["scale"][0], struct.pack("<f", folded.scales[row["range"]])))
        edits.append((row["zero_point"][0], struct.pack("<q", folded.zero_points[row["range"]])))

    row, head = table["head"], folded.head
    classes, features = head.kernel.shape  # as FULLY_CONNECTED has it
    edits.append((row["kernel_shape"][0], struct.pack("<2i", classes, features)))
    edits.append((row["bias_shape"][0], struct.pack("<i", classes)))
    edits += [(begin, struct.pack("<2i", 1, classes)) for begin, _ in row["output_shapes"]]
    tail.append((row["kernel_data"], head.kernel.tobytes(), head.kernel.nbytes))
    tail.append((row["bias_data"], head.bias.tobytes(), head.bias.nbytes))
    if head.scale is not None:
        for name, scale in (("kernel", head.scale), ("bias", head.scale * folded.scales[row["input"]])):
            tail.append((row[f"{name}_scale"], scale.astype("<f4").tobytes(), classes))
            tail.append((row[f"{name}_zero_point"], bytes(8 * classes), classes))
    tail += _answering(graph, "bake", maps)
    pointed, behind = fb.point(len(graph.data), tail)
    return Model(fb.splice(graph.data, [*edits, *pointed], behind), size=size)


def _answering(graph: Graph, form: str, maps: Sequence[str]) -> list[Vector]:
    """What makes a form answer some sites' outputs behind its own, in their order.

    Raises:
        ValueError: it has no such site.
    """
    if not maps:
        return []
    subgraph = Table(graph.data, graph.views[form].subgraph)
    named = {
        Table(graph.data, position).text(fb.TENSOR_NAME): number
        for number, position in enumerate(subgraph.tables(fb.SUBGRAPH_TENSORS))
    }
    outputs = subgraph.numbers(fb.SUBGRAPH_OUTPUTS)
    for name in maps:
        made = next((each for each in (name, f"{name}/add") if each in named), None)  # the latter where it is bound
        if made is None:
            raise ValueError(f"there is no output of the site {name}")
        outputs.append(named[made])
    content = struct.pack(f"<{len(outputs)}i", *outputs)
    return [(subgraph.need(fb.SUBGRAPH_OUTPUTS), content, len(outputs))]


def _cut(graph: Graph, values: Tensors) -> list[Edit]:
    """Edits that leave out the blocks a task skips: their operators, and that others read their joins."""
    table = graph.document["bake"]
    gone, instead = rows.skipped(table["residuals"], values)
    if not gone:
        return []
    begin, end = table["order"]
    left_out = {number for row in gone for number in range(*row["operators"])}
    kept = [number for number in range((end - begin) // 4 - 1) if number not in left_out]
    entries = [(place, instead[row["join"]]) for row in gone for place, _ in row["readers"]]
    places = [begin + 4 + 4 * number for number in kept]
    tables = (Table(graph.data, place + struct.unpack_from("<I", graph.data, place)[0]) for place in places)
    return [
        fb.shorten(graph.data, begin, kept),
        *fb.forget_codes(graph.data, {operator.number(fb.OPERATOR_CODE) for operator in tables}),
        *((place, struct.pack("<i", entry)) for place, entry in entries),
    ]
