"""A task's values folded into the backbone's kernels: the arithmetic of baking, whatever file it goes into."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepatch import quantisation
from edgepatch.container import Tensors

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
        sites: in forward order.
        head: its kernel is (classes, features).
        scales, zero_points: of the patch's ranges, float32 and int32 (ranges,); none unless the graph computes in int8.
    """

    sites: list[Folded]
    head: Folded
    scales: np.ndarray
    zero_points: np.ndarray


def fold(graph: Graph, values: Tensors, ranges: np.ndarray) -> Task:
    """A task's values in a graph's kernels.

    Args:
        values: float32: `scale`, `bias` of all sites (sum of channels,), `head_kernel` (features, classes) and
            `head_bias` (classes,).
        ranges: float32 (activations, 2); only a graph that computes in int8 needs them.
    """
    table, scale, bias = graph.document["bake"], values["scale"], values["bias"]
    channels = [site["channels"] for site in graph.document["sites"]]
    cuts = [slice(end - count, end) for count, end in zip(channels, np.cumsum(channels).tolist(), strict=True)]
    rows = list(zip(table["sites"], graph.document["sites"], cuts, strict=True))
    kernel = np.ascontiguousarray(values["head_kernel"].T)
    if graph.precision != "int8":
        sites = [_site(graph, row, site, cut, scale[cut], bias[cut]) for row, site, cut in rows]
        none = np.zeros(0)
        return Task(sites, Folded(kernel, values["head_bias"]), none, none)

    scales, zero_points = quantisation.activations(ranges)
    inputs = np.repeat([scales[row["input"]] for row in table["sites"]], channels)
    found, integers, times = quantisation.scaled(graph.kernel_max, scale, bias, inputs)
    sites = []
    for row, site, cut in rows:
        stored, laid = _stored(graph, row, site)
        sites.append(Folded(laid(quantisation.turned(stored, times[cut])), integers[cut], found[cut]))
    stored, most = quantisation.weights(kernel, 0)
    inputs = np.full_like(most, scales[table["head"]["input"]])
    found, integers, times = quantisation.scaled(most, np.ones_like(most), values["head_bias"], inputs)
    head = np.ascontiguousarray(quantisation.turned(stored.T, times).T)
    return Task(sites, Folded(head, integers, found), scales, zero_points)


def _site(
    graph: Graph, row: dict[str, Any], site: dict[str, Any], cut: slice, scale: np.ndarray, bias: np.ndarray
) -> Folded:
    """A site of a graph that computes in float."""
    stored, laid = _stored(graph, row, site)
    if stored.dtype == np.float32:
        return Folded(laid(stored * scale), bias)
    if stored.dtype == np.float16:
        kernel = stored.astype(np.float32) * scale
        if graph.format == "tflite":  # ONNX Runtime computes in float32, so nothing need be rounded there
            kernel = np.clip(kernel, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)
        return Folded(laid(kernel), bias)
    steps = graph.kernel_max[cut] / np.float32(127)
    if graph.format == "tflite":  # dynamic range: int8 kernels, float biases and activations
        found = np.maximum(steps * np.abs(scale), np.float32(quantisation.SMALLEST_SCALE))
        return Folded(laid(quantisation.turned(stored, np.sign(scale))), bias, found)
    return Folded(laid(stored * (steps * scale)), bias)


def _stored(
    graph: Graph, row: dict[str, Any], site: dict[str, Any]
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """A site's kernel as the file has it, channels along the last axis, and what lays such a one down as there."""
    dtype, count = stored_as(graph.precision, row, graph.format), site["channels"]
    stored = np.frombuffer(memoryview(graph.data)[slice(*row["kernel"])], dtype)
    if graph.format == "tflite" and site["placement"] == "depthwise":
        return stored.reshape(-1, count), np.ascontiguousarray
    return stored.reshape(count, -1).T, lambda kernel: np.ascontiguousarray(kernel.T)
