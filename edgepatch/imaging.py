"""From a picture to the numbers a network sees, the same way in training and on the device."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepatch.errors import BadFileError, EdgepatchError, UsageError, require

if TYPE_CHECKING:
    from PIL import Image

Picture = "str | os.PathLike[str] | Image.Image | np.ndarray"

RESIZES = ("stretch", "crop")
SIZES = (16, 1024)  # sides of the input in pixels
MAX_PIXELS = 100_000_000  # a decompression bomb; the largest phone cameras stay below
CROP_SHARE = 224 / 256  # the share of the short side that ImageNet's evaluation keeps


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input.

    Attributes:
        size: side of the square input, in pixels.
        resize: `stretch` the whole picture to the square, or take the central `crop` as ImageNet's evaluation does.
        scale, offset: a channel's value is pixel (0..255) x scale + offset; RGB order.
    """

    size: int
    resize: str
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not (type(self.size) is int and SIZES[0] <= self.size <= SIZES[1]):
            raise ValueError(f"size is {self.size!r}, not a whole number from {SIZES[0]} to {SIZES[1]}")
        if self.resize not in RESIZES:
            raise ValueError(f"resize is {self.resize!r}, not one of {', '.join(RESIZES)}")
        for name in ("scale", "offset"):
            values = getattr(self, name)
            if len(values) != 3 or not all(_number(v) and abs(v) <= 1e6 for v in values):
                raise ValueError(f"{name} is {values!r}, not three numbers up to a million")

    @classmethod
    def from_json(cls, value: Any) -> Preprocessing:
        """The inverse of `to_json`.

        Raises:
            ValueError: a field is missing, unknown or out of range.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(value, dict) or set(value) != fields:
            raise ValueError(f"expected the fields {', '.join(sorted(fields))}")
        for name in ("scale", "offset"):
            if not isinstance(value[name], list):
                raise ValueError(f"{name} is {value[name]!r}, not three numbers")
        return cls(value["size"], value["resize"], tuple(value["scale"]), tuple(value["offset"]))

    def to_json(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "resize": self.resize,
            "scale": list(self.scale),
            "offset": list(self.offset),
        }

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (..., 3), 0..255, as float32 network input of the same shape."""
        return pixels * np.asarray(self.scale, np.float32) + np.asarray(self.offset, np.float32)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Network input, float32 (1, size, size, 3), of a picture that `load` gave."""
        return self.normalise(fit(image, self.size, self.resize))[None]

    def __call__(self, picture: Any) -> np.ndarray:
        """Network input, float32 (1, size, size, 3), of a path, a PIL image or an array.

        Raises:
            UsageError: there is no such file, or the array has no shape of a picture.
            BadFileError: the file is not a picture that can be read.
        """
        return self.prepare(load(picture))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool


def load(picture: Any) -> Image.Image:
    """An upright RGB picture of a path, a PIL image or an array.

    Arrays are RGB (OpenCV's are BGR: give `frame[..., ::-1]`), of shape (height, width), (height, width, 1),
    (height, width, 3) or (height, width, 4); uint8 counts 0..255,
    uint16 0..65535, floats 0..1. EXIF orientation is applied, transparency is laid on white, 16-bit greys are
    brought down to 8 bits.
    """
    module = require("PIL.Image", extra="litert", why="reading pictures")
    if isinstance(picture, np.ndarray):
        return _from_array(picture, module)
    if isinstance(picture, module.Image):
        try:
            return _upright_rgb(picture, module)
        except Exception as error:  # a lazily opened file is decoded only here
            raise BadFileError(f"is not a picture that can be read: {error}", field="image") from error
    if not isinstance(picture, str | os.PathLike):
        raise UsageError("is not a picture", got=type(picture).__name__, expected="a path, a PIL image or an array")
    try:
        with module.open(picture) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadFileError(
                    "is too large a picture",
                    file=picture,
                    field="pixels",
                    got=image.width * image.height,
                    expected=f"at most {MAX_PIXELS}",
                )
            return _upright_rgb(image, module)
    except FileNotFoundError as error:
        raise UsageError("there is no such file", file=picture) from error
    except IsADirectoryError as error:
        raise UsageError("is a folder, not a picture", file=picture, mend=f"Give its files: {picture}/*.jpg") from error
    except EdgepatchError:
        raise
    except Exception as error:  # decoders of hostile bytes raise whatever they like
        raise BadFileError(f"is not a picture that can be read: {error}", file=picture) from error


def fit(image: Image.Image, size: int, resize: str) -> np.ndarray:
    """The picture as uint8 (size, size, 3); bilinear with antialiasing."""
    if resize == "stretch":
        box = (0, 0, image.width, image.height)
    else:
        # whole pixels: half a pixel's offset blurs, and costs 1.5 points on ImageNet
        side = round(min(image.width, image.height) * CROP_SHARE)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
    return np.asarray(resized(image, size, size, box))


def resized(image: Image.Image, width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """A box of a picture (left, top, right, bottom) at another size: bilinear with antialiasing.

    Width and height are brought to their sizes one after the other, each rounded, so that the order counts. Of tall
    pictures it is the height first, which takes less time: Pillow does so from 13 on, and here every version does.
    """
    bilinear = require("PIL.Image", extra="litert", why="resizing pictures").Resampling.BILINEAR
    left, top, right, bottom = box
    if image.height > height and image.height - height > 2 * (image.width - width):  # as Pillow 13 has it
        image = image.resize((image.width, height), bilinear, box=(0, top, image.width, bottom))
        top, bottom = 0, height
    return image.resize((width, height), bilinear, box=(left, top, right, bottom))


def _from_array(array: np.ndarray, module: Any) -> Image.Image:
    shape_ok = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not shape_ok or array.size == 0:
        raise UsageError(
            "the array has no shape of a picture",
            got=str(array.shape),
            expected="(height, width) or (height, width, 1, 3 or 4)",
        )
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise UsageError("the array holds NaN or infinity", expected="finite values, 0..1")
        if array.min() < 0 or array.max() > 1:
            raise UsageError(
                "the array is out of range",
                got=f"{array.min():.3g}..{array.max():.3g}",
                expected="floats 0..1, or uint8 0..255",
            )
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise UsageError("the array has the wrong type", got=str(array.dtype), expected="uint8, uint16 or float")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return _upright_rgb(module.fromarray(array), module)


def _upright_rgb(image: Image.Image, module: Any) -> Image.Image:
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds NaN or infinity")
        # 16-bit files carry 0..65535; 32-bit integers and floats say nothing of their
        # range: floats up to 1 are taken as arrays are, anything beyond 0..255 is stretched
        if image.mode.startswith("I;16") or (image.mode == "I" and 255 < values.max(initial=0) <= 65535):
            values = values / 257
        elif image.mode == "F" and values.min(initial=0) >= 0 and values.max(initial=0) <= 1:
            values = values * 255
        elif values.size and (values.min() < 0 or values.max() > 255):
            values = (values - values.min()) / (np.ptp(values) or 1) * 255
        image = module.fromarray(np.rint(values).astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = module.new("RGBA", image.size, "white")
        image = module.alpha_composite(paper, image)
    return image.convert("RGB")
