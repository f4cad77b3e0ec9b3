"""A task's values folded into the backbone's kernels: the arithmetic of baking, whatever file it goes into."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepatch import quantisation
from edgepatch.container import Tensors
from edgepatch.trunk import left_out

if TYPE_CHECKING:
    from edgepatch.runtime.graph_file import Graph

STORED = {"fp32": "<f4", "fp16": "<f2", "dynamic": "i1", "int8": "i1"}  # type of the kernels in the file, by precision
LARGEST_HALF = 65504.0


def stored_as(precision: str, row: dict[str, Any], format: str) -> np.dtype[Any]:
    """The type of a site's kernel in the file, by its row of the bake table.

    A `dynamic` .tflite has small kernels in float32: they have no scale.
    """
    plain = precision == "dynamic" and format == "tflite" and "kernel_scale" not in row
    return np.dtype("<f4" if plain else STORED[precision])


@dataclasses.dataclass(frozen=True)
class Folded:
    """One convolution, or the head, as a dedicated model has it.

    Attributes:
        kernel: in the file's layout; what type it is depends on the graph's precision.
        bias: float32, or int32 in a fully quantised graph.
        scale: float32, one a channel, of an int8 kernel; None of others.
    """

    kernel: np.ndarray
    bias: np.ndarray
    scale: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """All that baking writes.

    Attributes:
        sites: in forward order; None of a block that is skipped.
        head: its kernel is (classes, features).
        scales, zero_points: of the patch's ranges, float32 and int32 (ranges,); none unless the graph computes in int8.
    """

    sites: list[Folded | None]
    head: Folded
    scales: np.ndarray
    zero_points: np.ndarray


@np.errstate(over="ignore", invalid="ignore")  # of a forged graph's kernels; what answers NaN is refused when it does
def fold(graph: Graph, values: Tensors, ranges: np.ndarray) -> Task:
    """A task's values in a graph's kernels.

    Args:
        values: as `codec.decode` gives them: float32 `scale`, `bias` of all sites (sum of channels,), `head_kernel`
            (features, classes) and `head_bias` (classes,); where the task has them `NAME/kernel`, `NAME/mask`, `skip`.
        ranges: float32 (activations, 2); only a graph that computes in int8 needs them.
    """
    table, rows = graph.document["bake"], graph.document["sites"]
    cuts = graph.trunk.cuts("scale", range(len(rows)))
    skipped = left_out(graph.document["residuals"], values)
    idle = {number for block in skipped for number in block["sites"]}
    kernels = [_kernel(graph, number, values) if number not in idle else None for number in range(len(rows))]
    scale, bias = values["scale"], values["bias"]
    head = np.ascontiguousarray(values["head_kernel"].T)
    if graph.precision != "int8":
        sites = [
            _site(graph, kernel, scale[cut], bias[cut]) if kernel else None
            for kernel, cut in zip(kernels, cuts.values(), strict=True)
        ]
        none = np.zeros(0)
        return Task(sites, Folded(head, values["head_bias"]), none, none)

    scales, zero_points = quantisation.activations(ranges)
    for block in skipped:  # in forward order, so that chains resolve
        entry, join = (node + 1 for node in block["nodes"])  # the image's range comes first
        scales[join], zero_points[join] = scales[entry], zero_points[entry]
    most = graph.kernel_max.copy()
    for kernel, cut in zip(kernels, cuts.values(), strict=True):
        if kernel:
            most[cut] = kernel.largest
    inputs = np.repeat([scales[row["input"]] for row in table["sites"]], graph.trunk.channels)
    found, integers, times = quantisation.scaled(most, scale, bias, inputs)
    sites = [
        Folded(kernel.laid(quantisation.turned(kernel.columns, times[cut])), integers[cut], found[cut])
        if kernel
        else None
        for kernel, cut in zip(kernels, cuts.values(), strict=True)
    ]
    stored, most = quantisation.weights(head, 0)
    inputs = np.full_like(most, scales[table["head"]["input"]])
    found, integers, times = quantisation.scaled(most, np.ones_like(most), values["head_bias"], inputs)
    turned = np.ascontiguousarray(quantisation.turned(stored.T, times).T)
    return Task(sites, Folded(turned, integers, found), scales, zero_points)


def own_kernel(graph: Graph, number: int) -> np.ndarray:
    """A site's kernel as the graph holds it, float32 HWIO."""
    site, kernel = graph.document["sites"][number], _kernel(graph, number, {})
    columns = kernel.columns.astype(np.float32)
    if kernel.largest is not None:
        columns = columns * (kernel.largest / np.float32(127))
    height, width, *channels = site["kernel"]
    if graph.format == "onnx" and site["placement"] != "depthwise":
        return np.ascontiguousarray(columns.reshape(channels[0], height, width, channels[1]).transpose(1, 2, 0, 3))
    return columns.reshape(site["kernel"])


@dataclasses.dataclass(frozen=True)
class _Kernel:
    """A site's kernel before anything is folded into it.

    Attributes:
        columns: in the file's type, channels along the last axis, weights in the file's order; a private one that the
            file would have in float16 is float32 still.
        largest: the magnitude in each channel that an int8 kernel has as 127; None of others.
        laid: lays such columns down as the file has them.
        type: of the kernel in the file.
    """

    columns: np.ndarray
    largest: Any
    laid: Callable[[np.ndarray], np.ndarray]
    type: np.dtype[Any]


def _kernel(graph: Graph, number: int, values: Tensors) -> _Kernel:
    """The graph's kernel of a site, or the task's own; masked, where the task has a mask."""
    row, site = graph.document["bake"]["sites"][number], graph.document["sites"][number]
    kept, count = stored_as(graph.precision, row, graph.format), site["channels"]
    across = graph.format == "tflite" and site["placement"] == "depthwise"  # channels last in the file, too
    private = values.get(f"{site['name']}/kernel")
    largest = None
    if private is not None:
        columns = _columns(graph, site, private)
        if kept.kind == "i":
            columns, largest = quantisation.weights(columns, 1)
    else:
        stored = np.frombuffer(memoryview(graph.data)[slice(*row["kernel"])], kept)
        columns = stored.reshape(-1, count) if across else stored.reshape(count, -1).T
        if kept.kind == "i":
            largest = graph.kernel_max[graph.trunk.ends[number] - count : graph.trunk.ends[number]]
    mask = values.get(f"{site['name']}/mask")
    if mask is not None:
        columns = columns * _columns(graph, site, mask)
    laid = np.ascontiguousarray if across else (lambda kernel: np.ascontiguousarray(kernel.T))
    return _Kernel(columns, largest, laid, kept)


def _columns(graph: Graph, site: dict[str, Any], kernel: np.ndarray) -> np.ndarray:
    """A kernel (HWIO) with channels along the last axis and its weights in the file's order."""
    if graph.format == "onnx" and site["placement"] != "depthwise":
        kernel = kernel.transpose(2, 0, 1, 3)
    return kernel.reshape(-1, site["channels"])


def _site(graph: Graph, kernel: _Kernel, scale: np.ndarray, bias: np.ndarray) -> Folded:
    """A site of a graph that computes in float."""
    if kernel.largest is None:
        folded = kernel.columns * scale if kernel.columns.dtype == np.float32 else kernel.columns.astype("f") * scale
        if kernel.type == np.float16 and graph.format == "tflite":
            # ONNX Runtime computes in float32, so nothing need be rounded there
            folded = np.clip(folded, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)
        return Folded(kernel.laid(folded), bias)
    steps = kernel.largest / np.float32(127)
    if graph.format == "tflite":  # dynamic range: int8 kernels, float biases and activations
        found = np.maximum(steps * np.abs(scale), np.float32(quantisation.SMALLEST_SCALE))
        return Folded(kernel.laid(quantisation.turned(kernel.columns, np.sign(scale))), bias, found)
    return Folded(kernel.laid(kernel.columns * (steps * scale)), bias)
