"""Affine int8 arithmetic, as TFLite and ONNX have it: real = scale * (stored - zero_point).

Weights are symmetric, one scale a channel; activations have one scale and zero point a tensor, from their range: Jacob
et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, section 2.
"""

from __future__ import annotations

import numpy as np

LARGEST_BIAS = 2**30  # stored; half of what an int32 holds, so that sums on top of it do not overflow
SMALLEST_LARGEST = 1e-36  # magnitude of a channel that is not all zeros; a 127th of it is an ordinary float32
LARGEST_RATIO = 2**16  # between the scales of two activations of a network
SMALLEST_SCALE = 1e-12  # the product of two is still an ordinary float32


def activations(ranges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales, float32, and zero points, int32, of tensors with values in `ranges` (n, 2); zero is always exact."""
    least, most = np.minimum(ranges[:, 0], np.float32(0)), np.maximum(ranges[:, 1], np.float32(0))
    scales = (most - least) / np.float32(255)
    # a value that never stirs would have no scale, and sums abort in TFLite where scales lie a million times apart
    scales = np.maximum(scales, np.float32(max(scales.max(initial=0) / LARGEST_RATIO, SMALLEST_SCALE)))
    return scales, np.clip(np.rint(-128 - least / scales), -128, 127).astype(np.int32)


def largest(values: np.ndarray, axis: int) -> np.ndarray:
    """The largest magnitude in each channel along `axis`, float32; 1 where a channel is all zeros."""
    others = tuple(other for other in range(values.ndim) if other != axis % values.ndim)
    found = np.abs(values).max(axis=others).astype(np.float32)
    return np.where(found > SMALLEST_LARGEST, found, np.float32(1))


def weights(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 values in -127..127, and the largest magnitude in each channel along `axis`, which 127 stands for."""
    most = largest(values, axis)
    shape = [-1 if side == axis % values.ndim else 1 for side in range(values.ndim)]
    return np.rint(values / (most / np.float32(127)).reshape(shape)).astype(np.int8), most


def scaled(
    most: np.ndarray, scale: np.ndarray, bias: np.ndarray, input_scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What becomes of int8 kernels behind which `scale` and `bias` stand, when these are folded in.

    Rounding commutes with the scale: quantising kernel * scale gives the same int8 values, their sign turned where the
    scale is negative. So the scale goes into the channel's quantisation scale, and the bytes stay the backbone's. Only
    where a bias would not fit into int32 does a channel get a coarser scale; see `turned` for its kernel.

    Args:
        most: the largest magnitude in each channel of the kernel that was stored, float32 (channels,).
        scale, bias: float32 (channels,).
        input_scale: of the tensor that each channel's convolution reads, float32 (channels,).

    Returns:
        Kernel scales float32, biases int32, and how many times coarser than the stored one each kernel is to be
        rounded: below 0 where its signs turn, 0 where it vanishes; each (channels,).
    """
    found = np.maximum(most * np.abs(scale) / np.float32(127), np.float32(SMALLEST_SCALE))
    coarser = np.maximum(np.abs(bias) / (input_scale.astype(np.float64) * found * LARGEST_BIAS), 1)
    found = (found * coarser).astype(np.float32)
    # by the reciprocal, in float32, halves away from zero: to the last bit what TensorFlow's quantiser does
    steps = bias * (np.float32(1) / (input_scale * found))
    integers = np.trunc(steps + np.copysign(np.float32(0.5), steps)).astype(np.int32)
    return found, integers, np.sign(scale) * coarser


def turned(stored: np.ndarray, times: np.ndarray) -> np.ndarray:
    """An int8 kernel, channels along the last axis, as `scaled` wants it; the same array where nothing changes."""
    if (times == 1).all():
        return stored
    kernel: np.ndarray = stored * np.sign(times).astype(np.int8)
    if rounded := np.flatnonzero(np.abs(times) > 1).tolist():
        kernel[..., rounded] = np.rint(kernel[..., rounded] / np.abs(times[rounded]))
    return kernel
