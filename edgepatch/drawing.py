"""Answers drawn onto pictures: boxes with their labels, masks as a veil of colour."""

from __future__ import annotations

import colorsys
import io
import os
from typing import Any

import numpy as np

from edgepatch import files, imaging
from edgepatch.errors import MissingPackageError, require
from edgepatch.runtime.heads.classifier import Classification
from edgepatch.runtime.heads.detector import Detections
from edgepatch.runtime.heads.segmenter import Segmentation

BRIGHT = 130  # of 255: from here on a label is written in black
VEIL = 0.5  # share of a mask's colour in what is seen
SIDE = 640  # longest side in pixels up to which small pictures are enlarged: labels are to be read


def lettering(size: int) -> Any:
    """A font of a height in pixels: Pillow's own, or of older Pillows, as Debian 12's 9.4 is, DejaVu's.

    Theirs is of Latin letters alone, and of one height.

    Raises:
        MissingPackageError: Pillow is not installed, or older, and there is no DejaVu.
    """
    module = require("PIL.ImageFont", extra="litert", why="writing labels")
    try:
        return module.load_default(size)
    except TypeError:
        pass
    try:
        return module.truetype("DejaVuSans.ttf", size)
    except OSError as error:
        raise MissingPackageError(
            "writing labels needs a font, which this Pillow is too old to have",
            mend='apt install fonts-dejavu-core, or pip install "pillow>=10.1".',
        ) from error


def write(picture: Any, answer: Any, path: str | os.PathLike[str]) -> None:
    """Draw what a task says of a picture onto it, as a PNG; the arguments are those of `drawn`."""
    _save(drawn(picture, answer), path)


def write_mask(answer: Segmentation, path: str | os.PathLike[str]) -> None:
    """Write the mask alone, as a PNG whose values are indices of labels."""
    module = require("PIL.Image", extra="litert", why="writing masks")
    _save(module.fromarray(answer.mask), path)


def _save(image: Any, path: str | os.PathLike[str]) -> None:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    files.write(path, stream.getvalue())


def drawn(picture: Any, answer: Any) -> Any:
    """A picture, as `PIL.Image`, with what a task says of it drawn in.

    Args:
        picture: as `Runtime.predict` takes it.
        answer: what `Runtime.predict` gave for it.
    """
    module = require("PIL.Image", extra="litert", why="drawing answers")
    from PIL import ImageDraw

    image = imaging.load(picture)
    scale = max(1.0, SIDE / max(image.size))
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    font = lettering(14)
    if isinstance(answer, Segmentation):
        image = _veiled(image, answer, module)
    draw = ImageDraw.Draw(image)
    if isinstance(answer, Detections):
        for label, score, box in zip(answer.classes, answer.scores, answer.boxes, strict=True):
            corners = tuple(float(side) * scale for side in box)
            draw.rectangle(corners, outline=colour(label), width=2)
            _tag(draw, corners[:2], f"{answer.labels[label]} {score:.0%}", colour(label), font)
    elif isinstance(answer, Segmentation):
        for row, label in enumerate(label for label in np.unique(answer.mask) if label):  # the first one is not veiled
            _tag(draw, (4, 4 + 20 * row), answer.labels[label], colour(label), font, below=True)
    elif isinstance(answer, Classification):
        _tag(draw, (4, 4), f"{answer.label} {answer.score:.0%}", colour(0), font, below=True)
    return image


def colour(label: int) -> tuple[int, int, int]:
    """Of a class, far from those of its neighbours: hues a golden section apart."""
    red, green, blue = colorsys.hsv_to_rgb((0.02 + 0.618034 * int(label)) % 1, 0.85, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _veiled(image: Any, answer: Segmentation, module: Any) -> Any:
    """A picture under its mask; the first class, usually the background, is left as it is."""
    colours = np.array([colour(label) for label in range(len(answer.labels))], np.float32)
    mask = np.asarray(module.fromarray(answer.mask).resize(image.size, module.Resampling.NEAREST))
    pixels = np.asarray(image, np.float32)
    mixed = (1 - VEIL) * pixels + VEIL * colours[mask]
    return module.fromarray(np.where((mask > 0)[..., None], mixed, pixels).astype(np.uint8))


def _tag(draw: Any, at: tuple[float, ...], text: str, fill: Any, font: Any, below: bool = False) -> None:
    """A label on its colour: above a point, or below it where there is no room."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font)
    height = bottom - top + 4
    y = at[1] if below or at[1] < height else at[1] - height
    draw.rectangle((at[0], y, at[0] + right - left + 6, y + height), fill=fill)
    red, green, blue = fill
    ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > BRIGHT else "white"
    draw.text((at[0] + 3, y + 2 - top), text, ink, font)
