"""tf.data batches: shuffled, augmented, reproducible from (seed, epoch) alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from edgepatch.data.pictures import Pictures
from edgepatch.imaging import Preprocessing


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may be changed in a training image without changing what it shows.

    Attributes:
        zoom: the least side of a random crop, as a share of the image's; 1 takes the whole image.
        light: how far brightness and contrast may move, as a share.
        mirror, flip, transpose: whether left-right, upside-down and diagonal mirror images are as good as the original.
    """

    zoom: float = 1.0
    light: float = 0.0
    mirror: bool = False
    flip: bool = False
    transpose: bool = False


NONE = Augmentation()


def batches(
    pictures: Pictures,
    preprocessing: Preprocessing,
    *,
    batch: int,
    classes: int,
    weights: np.ndarray,
    augmentation: Augmentation,
    seed: int,
    epoch: int,
    among: np.ndarray | None = None,
    skip: int = 0,
) -> tf.data.Dataset:
    """One epoch of (input, one-hot label, sample weight) in an order of its own; whole batches only.

    What is left over stays out of this epoch, another remainder each time: a batch of another size would have the
    training step built anew.

    Args:
        weights: float32 (classes,), the weight of each class in the loss.
        among: numbers of the pictures to take; all by default.
        skip: batches of this epoch that were taken already.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(pictures) if among is None else among)
    labels = pictures.labels

    def gather(indices: np.ndarray) -> Any:
        return pictures.pixels[indices]

    def prepare(step: tf.Tensor, indices: tf.Tensor) -> Any:
        pixels = tf.numpy_function(gather, [indices], tf.uint8)
        pixels.set_shape((None, preprocessing.size, preprocessing.size, 3))
        images = augment(
            tf.cast(pixels, tf.float32), augmentation, seed=(seed * 100_003 + epoch, tf.cast(step, tf.int32))
        )
        chosen = tf.gather(labels, indices)
        inputs = images * tf.constant(preprocessing.scale, tf.float32) + tf.constant(preprocessing.offset, tf.float32)
        return inputs, tf.one_hot(chosen, classes), tf.gather(tf.constant(weights, tf.float32), chosen)

    data = tf.data.Dataset.from_tensor_slices(order).batch(batch, drop_remainder=True).enumerate().skip(skip)
    return data.map(prepare, num_parallel_calls=2, deterministic=True).prefetch(2)


def augment(images: tf.Tensor, how: Augmentation, seed: Any) -> tf.Tensor:
    """Images (n, size, size, 3), 0..255, each changed on its own."""
    count, size = tf.shape(images)[0], images.shape[1]
    draw = _draws(seed, count)
    if how.zoom < 1:
        height, width = draw(how.zoom, 1.0), draw(how.zoom, 1.0)
        top, left = draw(0.0, 1.0) * (1 - height), draw(0.0, 1.0) * (1 - width)
        boxes = tf.stack([top, left, top + height, left + width], axis=1)
        images = tf.image.crop_and_resize(images, boxes, tf.range(count), (size, size))
    for allowed, change in (
        (how.mirror, lambda x: x[:, :, ::-1]),
        (how.flip, lambda x: x[:, ::-1]),
        (how.transpose, lambda x: tf.transpose(x, (0, 2, 1, 3))),
    ):
        if allowed:
            chosen = draw(0.0, 1.0) < 0.5
            images = tf.where(chosen[:, None, None, None], change(images), images)
    if how.light > 0:
        contrast, shift = draw(1 - how.light, 1 + how.light), draw(-how.light, how.light) * 128
        mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
        images = (images - mean) * contrast[:, None, None, None] + mean + shift[:, None, None, None]
        images = tf.clip_by_value(images, 0.0, 255.0)
    return images


def _draws(seed: Any, count: tf.Tensor) -> Any:
    """Numbers (count,) between two bounds, other ones at each call, the same for the same seed."""
    calls = iter(range(1_000))

    def draw(low: float, high: float) -> tf.Tensor:
        key = tf.stack([tf.cast(seed[0], tf.int32), seed[1] * 1_000 + next(calls)])
        return tf.random.stateless_uniform((count,), key, low, high)

    return draw
