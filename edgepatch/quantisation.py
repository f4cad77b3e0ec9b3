"""Affine int8 arithmetic, as TFLite and ONNX have it: real = scale * (stored - zero_point).

Weights are symmetric, one scale a channel; activations have one scale and zero point a tensor, from their range: Jacob
et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, section 2.
"""

from __future__ import annotations

import numpy as np

LARGEST_BIAS = 2**30  # stored; half of what an int32 holds, so that sums on top of it do not overflow
SMALLEST_SCALE = 1e-12  # the product of two is still an ordinary float32


def activation(low: float, high: float) -> tuple[np.float32, int]:
    """Scale and zero point of a tensor whose values lie between `low` and `high`; zero is always exact."""
    least, most = np.float32(min(low, 0.0)), np.float32(max(high, 0.0))
    scale = max((most - least) / np.float32(255), np.float32(SMALLEST_SCALE))
    return scale, int(np.clip(np.rint(-128 - least / scale), -128, 127))


def largest(values: np.ndarray, axis: int) -> np.ndarray:
    """The largest magnitude in each channel along `axis`, float32; 1 where a channel is all zeros."""
    others = tuple(other for other in range(values.ndim) if other != axis % values.ndim)
    found = np.abs(values).max(axis=others).astype(np.float32)
    return np.where(found > 0, found, np.float32(1))


def weights(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 values in -127..127, and the float32 scale of each channel along `axis`."""
    scale = largest(values, axis) / np.float32(127)
    shape = [-1 if side == axis % values.ndim else 1 for side in range(values.ndim)]
    return np.rint(values / scale.reshape(shape)).astype(np.int8), scale


def scaled(
    stored: np.ndarray, most: np.ndarray, scale: np.ndarray, bias: np.ndarray, input_scale: np.float32
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A convolution's int8 kernel behind which `scale` and `bias` stand, with these two folded in.

    Rounding commutes with the scale: quantising kernel * scale gives the same int8 values, their sign turned where the
    scale is negative. So the scale goes into the channel's quantisation scale, and the bytes stay the backbone's. Only
    where a bias would not fit into int32 does a channel get a coarser scale, and is rounded anew.

    Args:
        stored: int8, channels along the last axis.
        most: the largest magnitude in each channel of the kernel that was stored, float32 (channels,).
        scale, bias: float32 (channels,).
        input_scale: of the tensor that is convolved.

    Returns:
        The kernel int8, its scales float32 (channels,), the bias int32 (channels,).
    """
    found = np.maximum(most * np.abs(scale) / np.float32(127), np.float32(SMALLEST_SCALE))
    coarser = np.maximum(np.abs(bias) / (np.float64(input_scale) * found * LARGEST_BIAS), 1)
    found = (found * coarser).astype(np.float32)
    kernel: np.ndarray = stored * np.sign(scale).astype(np.int8)
    if rounded := np.flatnonzero(coarser > 1).tolist():
        kernel[..., rounded] = np.rint(kernel[..., rounded] / coarser[rounded])
    return kernel, found, np.rint(bias / np.float64(input_scale * found)).astype(np.int32)
