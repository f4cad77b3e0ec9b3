"""Pages with handwritten digits here and there, and where each is: real digits, composed to pages for a detector."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch.data import folder
from edgepatch.demo import tasks
from edgepatch.errors import require

TASK = dataclasses.replace(
    tasks.TASKS["digits"], name="digit-pages", what="where on a page which digit is: real digits, composed to pages"
)
COUNTS = {"train": 400, "val": 60, "test": 100}  # pages
SIDE = 256  # of a page, in pixels
DIGITS = (3, 8)  # on a page: from, up to but not
SIZES = (36, 76)  # of a digit, in pixels
TURN = 15  # degrees, either way
TRIES = 30


def prepare(digits: Path, work: Path) -> Path:
    """WORK/digit-pages with train.json and train/ and so on, as COCO has them; made once.

    Args:
        digits: a folder of images with train/, val/ and test/; each page has digits of its own split.
    """
    target = work / TASK.name
    if target.exists():
        return target
    beside = target.with_name(f".{TASK.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    for number, (split, count) in enumerate(COUNTS.items()):
        images = folder.scan(digits / split)
        rng = np.random.default_rng([number, count])
        (beside / split).mkdir(parents=True)
        document: dict[str, list[Any]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": label, "name": name} for label, name in enumerate(images.classes)],
        }
        for page in range(count):
            name = f"{page:04d}.jpg"
            picture, boxes = _page(images, rng)
            picture.save(beside / split / name, quality=90)
            document["images"].append({"id": page, "file_name": name, "width": SIDE, "height": SIDE})
            for label, (x, y, width, height) in boxes:
                row = {"id": len(document["annotations"]), "image_id": page, "category_id": label, "iscrowd": 0}
                box = [x, y, width, height]
                document["annotations"].append({**row, "bbox": box, "area": width * height})
        (beside / f"{split}.json").write_text(json.dumps(document))
    beside.rename(target)
    return target


def _page(images: folder.Files, rng: np.random.Generator) -> tuple[Any, list[tuple[int, tuple[int, int, int, int]]]]:
    """A page, and of each digit on it the label and the box: x, y, width, height."""
    module = require("PIL.Image", extra="demo", why="the demo's pages")
    light = rng.uniform(200, 250, 3)
    slope = np.linspace(0, rng.uniform(-25, 25), SIDE)[:, None, None]
    paper = np.clip(light + slope + rng.normal(0, 3, (SIDE, SIDE, 3)), 0, 255)
    taken = np.zeros((SIDE, SIDE), bool)
    boxes: list[tuple[int, tuple[int, int, int, int]]] = []
    for _ in range(rng.integers(*DIGITS)):
        index, size = int(rng.integers(len(images))), int(rng.integers(*SIZES))
        with module.open(images.paths[index]) as opened:
            digit = opened.convert("L").resize((size, size)).rotate(rng.uniform(-TURN, TURN), expand=True)
        ink = np.asarray(digit, np.float32) / 255
        rows, columns = (np.flatnonzero((ink > 0.3).any(axis=axis)) for axis in (1, 0))
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        height, width = ink.shape
        for _ in range(TRIES):
            x, y = int(rng.integers(SIDE - width)), int(rng.integers(SIDE - height))
            place = slice(y, y + height), slice(x, x + width)
            if not taken[place].any():
                taken[place] = True
                colour = rng.uniform(0, 110, 3)
                paper[place] += ink[..., None] * (colour - paper[place])
                boxes.append((int(images.labels[index]), (x, y, width, height)))
                break
    return module.fromarray(paper.astype(np.uint8)), boxes
