"""Pictures with boxes, changed at random, the boxes with them."""

from __future__ import annotations

import numpy as np

from edgepatch.errors import require

OVERLAPS = (None, 0.1, 0.3, 0.5, 0.7, 0.9)  # least part of a crop's overlap with a box; None takes the whole picture
SMALLEST, WIDEST = 0.4, 2.0  # side of a crop; of the frame that a picture is put into, where boxes are to be small
TRIES = 20
LIGHT = 0.2


def change(
    pixels: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    ignored: np.ndarray,
    rng: np.random.Generator,
    flips: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A crop or a frame, a mirror image, and other light (Liu et al., "SSD", section 2.2).

    A box stays if its centre lies in the crop, and is clipped to it.

    Args:
        pixels: uint8 (size, size, 3).
        boxes: float32 (n, 4), 0..1; labels and ignored are theirs.

    Returns:
        The same, the pixels float32, 0..255.
    """
    window = _window(boxes, rng)
    image = _cut(pixels, window)
    sides = np.array([window[2] - window[0], window[3] - window[1]] * 2)
    moved = (boxes - np.array([*window[:2], *window[:2]])) / sides
    centre = (moved[:, :2] + moved[:, 2:]) / 2
    inside = ((centre > 0) & (centre < 1)).all(axis=1)
    moved = np.clip(moved[inside], 0, 1).astype(np.float32)
    labels, ignored = labels[inside], ignored[inside]
    if rng.random() < 0.5 and flips:
        image = image[:, ::-1]
        moved = moved[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [1, 0, 1, 0]
    return light(image, rng), moved.astype(np.float32), labels, ignored


def cropped(
    pixels: np.ndarray, mask: np.ndarray, smallest: float, rng: np.random.Generator, flips: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """A crop, a mirror image, and other light, of a picture (size, size, 3) and its mask (size, size)."""
    sides = rng.uniform(smallest, 1, 2)
    at = rng.uniform(0, 1 - sides)
    size = len(mask)
    rows, columns = (
        ((np.arange(size) + 0.5) * side + start * size).astype(int) for side, start in zip(sides, at, strict=True)
    )
    image = _cut(pixels, np.array([at[1], at[0], at[1] + sides[1], at[0] + sides[0]]))
    mask = mask[np.ix_(rows, columns)]
    if rng.random() < 0.5 and flips:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return light(image, rng), mask


def light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another brightness, contrast and tint: float32, 0..255."""
    contrast, shift = rng.uniform(1 - LIGHT, 1 + LIGHT), rng.uniform(-LIGHT, LIGHT) * 128
    tint = rng.uniform(1 - LIGHT / 2, 1 + LIGHT / 2, 3)
    mean = image.mean()
    return np.clip((image * tint - mean) * contrast + mean + shift, 0, 255).astype(np.float32)


def _window(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What part of the picture is seen, x0, y0, x1, y1; beyond 0..1 there is a frame."""
    whole = np.array([0.0, 0.0, 1.0, 1.0])
    if rng.random() < 0.3:
        side = rng.uniform(1, WIDEST)
        at = rng.uniform(0, side - 1, 2)
        return np.array([-at[0], -at[1], side - at[0], side - at[1]])
    least = OVERLAPS[rng.integers(len(OVERLAPS))]
    if least is None or not len(boxes):
        return whole
    for _ in range(TRIES):
        sides = rng.uniform(SMALLEST, 1, 2)
        if not 0.5 <= sides[0] / sides[1] <= 2:
            continue
        at = rng.uniform(0, 1 - sides)
        window = np.concatenate([at, at + sides])
        low, high = np.maximum(boxes[:, :2], at), np.minimum(boxes[:, 2:], at + sides)
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        parts = shared / np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1e-9)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        seen = ((centre > at) & (centre < at + sides)).all(axis=1)
        if seen.any() and parts[seen].min() >= least:
            return window
    return whole


def _cut(pixels: np.ndarray, window: np.ndarray) -> np.ndarray:
    """A window of a picture, as large as the picture; grey where there is nothing."""
    if (window == (0, 0, 1, 1)).all():
        return pixels
    module = require("PIL.Image", extra="train", why="changing pictures")
    size = len(pixels)
    extent = tuple(float(side) * size for side in window)
    image = module.fromarray(pixels)
    return np.asarray(
        image.transform(
            (size, size), module.Transform.EXTENT, extent, module.Resampling.BILINEAR, fillcolor=(124, 116, 104)
        )
    )
