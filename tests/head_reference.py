"""A head's network in plain numpy: what engines and Keras are held against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgepatch.container import Tensors
from edgepatch.head_network import CONVOLUTIONS, PREFIX, Layer, Network


def answers(network: Network, tensors: Tensors, maps: Mapping[str, np.ndarray]) -> Tensors:
    """What a network answers to maps (1, side, side, channels)."""
    found = dict(maps)
    for layer in network.layers:
        x, *others = (found[name] for name in layer.inputs)
        if layer.op in CONVOLUTIONS:
            x = _convolve(x, tensors[f"{PREFIX}{layer.name}/kernel"], layer) + tensors[f"{PREFIX}{layer.name}/bias"]
        elif layer.op == "mean":
            x = x.mean(axis=(1, 2), keepdims=True)
        elif layer.op == "resize":
            x = _resized(_resized(x, 1, others[0].shape[1]), 2, others[0].shape[1])
        else:
            x = x * others[0] if layer.op == "multiply" else x + others[0]
        found[layer.name] = _activated(x, layer.activation)
    return {name: found[name] for name in network.outputs}


def _convolve(x: np.ndarray, kernel: np.ndarray, layer: Layer) -> np.ndarray:
    side, width, stride = x.shape[1], layer.kernel, layer.stride
    out = -(-side // stride)
    total = max((out - 1) * stride + width - side, 0)
    around = (total // 2, total - total // 2)
    padded = np.pad(x, ((0, 0), around, around, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width), (1, 2))[:, ::stride, ::stride]
    form = "nxychw,hwc->nxyc" if layer.op == "depthwise" else "nxychw,hwco->nxyo"
    return np.einsum(form, windows[:, :out, :out], kernel, optimize=True)


def _resized(x: np.ndarray, axis: int, side: int) -> np.ndarray:
    """Bilinear along an axis, pixels' centres at halves."""
    count = x.shape[axis]
    at = np.clip((np.arange(side) + 0.5) * count / side - 0.5, 0, count - 1)
    low = np.floor(at).astype(int)
    shape = [1, 1, 1, 1]
    shape[axis] = side
    part = (at - low).astype(np.float32).reshape(shape)
    high = np.minimum(low + 1, count - 1)
    return x.take(low, axis) * (1 - part) + x.take(high, axis) * part


def _activated(x: np.ndarray, activation: str) -> np.ndarray:
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-x))
    if activation == "linear":
        return x
    return np.clip(x, 0, 6 if activation == "relu6" else None)
