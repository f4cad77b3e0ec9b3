"""A task's values folded into the backbone's kernels: the arithmetic of baking, whatever file it goes into."""

from __future__ import annotations

import dataclasses
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
        activations: scale and zero point of each range of the patch; none unless the graph is fully quantised.
    """

    sites: list[Folded]
    head: Folded
    activations: list[tuple[np.float32, int]]


def fold(graph: Graph, values: Tensors, ranges: np.ndarray) -> Task:
    """A task's values in a graph's kernels.

    Args:
        values: float32: `scale`, `bias` of all sites (sum of channels,), `head_kernel` (features, classes) and
            `head_bias` (classes,).
        ranges: float32 (activations, 2); only a fully quantised graph needs them.
    """
    integer = graph.precision == "int8"
    activations = [quantisation.activation(low, high) for low, high in ranges] if integer else []
    sites = []
    end = 0
    for row, site in zip(graph.document["bake"]["sites"], graph.document["sites"], strict=True):
        begin, end = end, end + site["channels"]
        cut = slice(begin, end)
        input_scale = activations[row["input"]][0] if integer else None
        sites.append(_site(graph, row, site, cut, values["scale"][cut], values["bias"][cut], input_scale))
    kernel, bias = np.ascontiguousarray(values["head_kernel"].T), values["head_bias"]
    if not integer:
        return Task(sites, Folded(kernel, bias), activations)
    stored, _ = quantisation.weights(kernel, 0)
    input_scale = activations[graph.document["bake"]["head"]["input"]][0]
    most = quantisation.largest(kernel, 0)
    turned, scale, integers = quantisation.scaled(stored.T, most, np.ones_like(most), bias, input_scale)
    return Task(sites, Folded(np.ascontiguousarray(turned.T), integers, scale), activations)


def _site(
    graph: Graph,
    row: dict[str, Any],
    site: dict[str, int | str],
    cut: slice,
    scale: np.ndarray,
    bias: np.ndarray,
    input_scale: np.float32 | None,
) -> Folded:
    dtype = stored_as(graph.precision, row, graph.format)
    stored = np.frombuffer(memoryview(graph.data)[slice(*row["kernel"])], dtype)
    last = graph.format == "tflite" and site["placement"] == "depthwise"  # where the channels lie; else they lie first
    stored = stored.reshape(-1, len(scale)) if last else stored.reshape(len(scale), -1).T

    def laid(kernel: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(kernel if last else kernel.T)

    if dtype == np.float32:
        return Folded(laid(stored * scale), bias)
    if graph.precision == "fp16":
        kernel = stored.astype(np.float32) * scale
        if graph.format == "tflite":  # ONNX Runtime computes in float32, so nothing need be rounded there
            kernel = np.clip(kernel, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)
        return Folded(laid(kernel), bias)
    most = graph.kernel_max[cut]
    if input_scale is not None:
        turned, found, integers = quantisation.scaled(stored, most, scale, bias, input_scale)
        return Folded(laid(turned), integers, found)
    if graph.format == "tflite":  # dynamic range: int8 kernels, float biases and activations
        turned = stored * np.sign(scale).astype(np.int8)
        return Folded(
            laid(turned), bias, np.maximum(most * np.abs(scale) / np.float32(127), quantisation.SMALLEST_SCALE)
        )
    return Folded(laid(stored * (most * scale / np.float32(127))), bias)
