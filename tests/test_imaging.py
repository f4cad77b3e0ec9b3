"""Pictures of every kind come out upright, RGB and of the right size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepatch import imaging
from edgepatch.errors import BadFileError, UsageError
from edgepatch.imaging import Preprocessing

PLAIN = Preprocessing(32, "stretch", (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


@pytest.fixture
def quarters() -> Image.Image:
    """Red, green over blue, white: every orientation looks different."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :30], pixels[:20, 30:] = (255, 0, 0), (0, 255, 0)
    pixels[20:, :30], pixels[20:, 30:] = (0, 0, 255), (255, 255, 255)
    return Image.fromarray(pixels)


def test_exif_orientation_is_applied(quarters: Image.Image, tmp_path: Path) -> None:
    turned = quarters.transpose(Image.Transpose.ROTATE_90)  # as a phone held upright stores it
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees clockwise to view"
    turned.save(tmp_path / "a.png", exif=exif)
    upright = imaging.load(tmp_path / "a.png")
    assert upright.size == quarters.size
    np.testing.assert_array_equal(np.asarray(upright), np.asarray(quarters))


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = (10, 20, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    seen = np.asarray(imaging.load(tmp_path / "a.png"))
    assert tuple(seen[0, 0]) == (10, 20, 30)
    assert tuple(seen[7, 0]) == (255, 255, 255)


def test_a_palette_with_transparency_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([1, 2, 3, 200, 100, 50])
    image.putpixel((0, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    seen = np.asarray(imaging.load(tmp_path / "a.png"))
    assert tuple(seen[0, 0]) == (200, 100, 50)
    assert tuple(seen[3, 3]) == (255, 255, 255)


def test_greys_of_8_and_16_bits_agree(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "8.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "16.tif")
    expected = np.stack([ramp] * 3, axis=-1)
    for name in ("8.png", "16.png", "16.tif"):
        np.testing.assert_array_equal(np.asarray(imaging.load(tmp_path / name)), expected, err_msg=name)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "HSV"])
def test_every_mode_becomes_rgb(quarters: Image.Image, mode: str) -> None:
    image = quarters.convert("L").convert(mode) if mode in ("LA", "I", "F") else quarters.convert(mode)
    seen = imaging.load(image)
    assert (seen.mode, seen.size) == ("RGB", quarters.size)
    assert np.asarray(seen).std() > 20, "the picture is still there"


def test_arrays_of_every_type_agree(quarters: Image.Image) -> None:
    pixels = np.asarray(quarters)
    for array in (pixels, pixels.astype(np.uint16) * 257, pixels.astype(np.float32) / 255):
        np.testing.assert_array_equal(np.asarray(imaging.load(array)), pixels)
    grey = pixels[..., 0]
    np.testing.assert_array_equal(np.asarray(imaging.load(grey)), np.asarray(imaging.load(grey[..., None])))


def test_float_pictures_up_to_1_are_taken_as_float_arrays_are(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(imaging.load(tmp_path / "a.tif")), np.asarray(imaging.load(ramp)))
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(BadFileError, match="NaN"):
        imaging.load(tmp_path / "nan.tif")


def test_an_image_that_fails_only_when_decoded_is_refused(quarters: Image.Image) -> None:
    stream = io.BytesIO()
    quarters.save(stream, "JPEG")
    with Image.open(io.BytesIO(stream.getvalue()[:-200])) as lazy, pytest.raises(BadFileError, match="not a picture"):
        imaging.load(lazy)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3,), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.int64),
        np.full((4, 4, 3), 200.0),
        np.full((4, 4, 3), np.nan),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_an_array_that_is_no_picture_is_refused(array: np.ndarray) -> None:
    with pytest.raises(UsageError, match="array"):
        imaging.load(array)


def test_files_that_are_no_pictures_are_refused(quarters: Image.Image, tmp_path: Path) -> None:
    stream = io.BytesIO()
    quarters.save(stream, "JPEG")
    for name, data in {
        "text.jpg": b"not a picture",
        "empty.jpg": b"",
        "cut.jpg": stream.getvalue()[: len(stream.getvalue()) // 2],
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadFileError, match="not a picture"):
            imaging.load(tmp_path / name)
    with pytest.raises(UsageError, match="no such file"):
        imaging.load(tmp_path / "absent.jpg")
    with pytest.raises(UsageError, match="not a picture"):
        imaging.load(42)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (600, 600)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(imaging, "MAX_PIXELS", 600 * 600 - 1)
    with pytest.raises(BadFileError, match="too large a picture"):
        imaging.load(tmp_path / "bomb.png")


def test_stretch_keeps_all_and_crop_the_middle(quarters: Image.Image) -> None:
    stretched = imaging.fit(quarters, 32, "stretch")
    assert tuple(stretched[0, 0]) == (255, 0, 0)
    assert tuple(stretched[-1, -1]) == (255, 255, 255)
    wide = Image.new("RGB", (100, 40), "black")
    wide.paste("white", (30, 0, 70, 40))
    assert imaging.fit(wide, 32, "crop").min() == 255


def test_a_crop_at_its_own_size_is_not_resampled() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 301, 3), np.uint8)
    np.testing.assert_array_equal(imaging.fit(Image.fromarray(noise), 224, "crop"), noise[16:240, 38:262])


@pytest.mark.parametrize(("width", "height"), [(40, 300), (300, 40), (7, 200), (90, 100), (20, 20), (500, 1100)])
@pytest.mark.parametrize("mode", ["RGB", "F"])
def test_resizing_brings_the_height_of_tall_pictures_to_its_size_first(width: int, height: int, mode: str) -> None:
    """Whatever the version of Pillow; each pass alone is the same in all of them."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(noise).convert(mode)
    box, bilinear = (1, 2, width - 1, height - 3), Image.Resampling.BILINEAR
    if height - 32 > 2 * (width - 24):
        first = image.resize((width, 32), bilinear, box=(0, 2, width, height - 3))
        expected = first.resize((24, 32), bilinear, box=(1, 0, width - 1, 32))
    else:
        first = image.resize((24, height), bilinear, box=(1, 0, width - 1, height))
        expected = first.resize((24, 32), bilinear, box=(0, 2, 24, height - 3))
    np.testing.assert_array_equal(np.asarray(imaging.resized(image, 24, 32, box)), np.asarray(expected))


def test_preprocessing_is_scale_and_offset() -> None:
    how = Preprocessing(32, "stretch", (1 / 127.5,) * 3, (-1.0,) * 3)
    seen = how(np.full((8, 8, 3), 255, np.uint8))
    assert (seen.shape, seen.dtype) == ((1, 32, 32, 3), np.float32)
    np.testing.assert_allclose(seen, 1, atol=1e-6)
    assert Preprocessing.from_json(how.to_json()) == how
