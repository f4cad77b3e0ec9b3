"""Pictures with their answers, for people who would rather look than read."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

from edgepatch import drawing, files, imaging
from edgepatch.errors import require

TILE, CAPTION, MARGIN, COLUMNS = 168, 56, 8, 6


def write(answers: Sequence[tuple[Any, str, str, str]], path: str | os.PathLike[str]) -> None:
    """Draw (picture, task, answer, mistake) tiles onto a PNG; the mistake, if there is one, in red.

    Pictures are what `imaging.load` takes; an answer that is too long for its tile is cut.
    """
    image_module = require("PIL.Image", extra="litert", why="drawing a contact sheet")
    from PIL import ImageDraw

    columns = min(COLUMNS, len(answers))
    rows = math.ceil(len(answers) / columns)
    width, height = TILE + MARGIN, TILE + CAPTION + MARGIN
    sheet = image_module.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    heading, body = drawing.lettering(11), drawing.lettering(13)
    for index, (picture, task, answer, mistake) in enumerate(answers):
        left, top = MARGIN + index % columns * width, MARGIN + index // columns * height
        tile = imaging.load(picture)
        tile.thumbnail((TILE, TILE))
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        draw.text((left, top + TILE + 4), task, "grey", heading)
        fitting = next(cut for cut in _shorter(answer) if draw.textlength(cut, body) <= TILE)
        draw.text((left, top + TILE + 18), fitting, "black", body)
        draw.text((left, top + TILE + 34), mistake, "red", body)
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    files.write(path, stream.getvalue())


def _shorter(text: str) -> Iterator[str]:
    """A text, and what is left of it as more and more is cut."""
    yield text
    yield from (text[:length] + "…" for length in range(len(text) - 1, -1, -1))
