"""Pictures, and what preprocessing makes of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgepatch.imaging import Preprocessing

from . import digests

EXIF_ORIENTATION = 0x0112
KEPT = 64  # sides in pixels up to which prepared pictures are kept as files beside their hash

_SCALE, _OFFSET = (1 / 127.5, 1 / 58.395, 0.017429), (-1.0, -2.117904, -1.804444)


def sources() -> dict[str, Image.Image]:
    """Pictures by name: noise, something smooth, tiny ones, narrow ones, a transparent one."""
    rng = np.random.default_rng(4)

    def noise(width: int, height: int, channels: int = 3) -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (height, width, channels), np.uint8))

    y, x = np.mgrid[0:200, 0:300]
    waves = [np.sin(x / 17) + np.cos(y / 11), np.sin((x + y) / 23), np.cos(np.hypot(x - 150, y - 90) / 9)]
    smooth = np.stack([np.rint(127 + 60 * wave) // 8 * 8 for wave in waves], axis=2).astype(np.uint8)
    return {
        "noise": noise(56, 40),
        "smooth": Image.fromarray(smooth),
        "speck": noise(5, 3),
        "pixel": noise(1, 1),
        "upright": noise(12, 20),
        "ribbon": noise(150, 9),
        "clear": noise(24, 21, 4),
        "square": noise(48, 48),
    }


def cases() -> list[dict[str, Any]]:
    """Which picture is prepared how; `orientation` is EXIF's."""
    plain = [
        ("noise", 32, "stretch"), ("noise", 48, "crop"), ("noise", 64, "stretch"), ("smooth", 32, "stretch"),
        ("smooth", 48, "crop"), ("smooth", 224, "stretch"), ("smooth", 224, "crop"), ("speck", 32, "stretch"),
        ("speck", 16, "crop"), ("pixel", 16, "stretch"), ("pixel", 16, "crop"), ("upright", 32, "crop"),
        ("upright", 16, "stretch"), ("ribbon", 32, "stretch"), ("ribbon", 64, "crop"), ("clear", 24, "stretch"),
        ("clear", 32, "crop"), ("square", 48, "stretch"), ("square", 42, "crop"), ("square", 1024, "stretch"),
    ]  # fmt: skip
    found: list[dict[str, Any]] = [
        {"picture": name, "orientation": 1, "input": Preprocessing(size, resize, _SCALE, _OFFSET).to_json()}
        for name, size, resize in plain
    ]
    turned = Preprocessing(16, "crop", _SCALE, _OFFSET).to_json()
    tower = Preprocessing(32, "stretch", _SCALE, _OFFSET).to_json()
    found.append({"picture": "ribbon", "orientation": 6, "input": tower})
    return found + [{"picture": "upright", "orientation": number, "input": turned} for number in range(2, 9)]


def opened(folder: Path, case: dict[str, Any]) -> Image.Image:
    """A case's picture, with its orientation in it."""
    image = Image.open(folder / f"{case['picture']}.png")
    if case["orientation"] == 1:
        return image
    image.load()
    image.getexif()[EXIF_ORIENTATION] = case["orientation"]
    return image


def write(folder: Path) -> list[dict[str, Any]]:
    """The pictures and the prepared ones as PNG files, and the cases with what each gives."""
    folder.mkdir(parents=True)
    for name, image in sources().items():
        image.save(folder / f"{name}.png", optimize=True)
    rows = []
    for number, case in enumerate(cases()):
        how = Preprocessing.from_json(case["input"])
        prepared = how(opened(folder, case))
        row = {**case, "sha256": digests.of_tensor(prepared)["sha256"]}
        if how.size <= KEPT:
            row["fitted"] = f"fitted-{number:02}.png"
            _pixels(prepared, how).save(folder / row["fitted"], optimize=True)
        rows.append(row)
    return rows


def _pixels(prepared: np.ndarray, how: Preprocessing) -> Image.Image:
    """Back to bytes: what `imaging.fit` gave."""
    pixels = (prepared[0].astype(np.float64) - how.offset) / how.scale
    assert np.abs(pixels - np.rint(pixels)).max() < 1e-3
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "png", optimize=True)
    return stream.getvalue()
