"""Pictures with index masks: NAME.jpg beside NAME.png, whose values are classes by their index in classes.json."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepatch import container, files, imaging
from edgepatch.data import pictures
from edgepatch.data.account import (
    EMPTY,
    NO_MASK,
    NO_PICTURE,
    NO_PIXEL,
    UNREADABLE,
    Account,
    Problems,
    UnfitError,
    shown,
)
from edgepatch.data.names import is_label
from edgepatch.data.upright import opened, require_stretch, told
from edgepatch.errors import BadFileError, UsageError, require
from edgepatch.imaging import Preprocessing
from edgepatch.progress import Reporter

if TYPE_CHECKING:
    from PIL import Image

IGNORED = 255  # a mask's value where nothing is learned and nothing counted
NAMES = "classes.json"
LIMIT = 2**20  # bytes of it


@dataclasses.dataclass(frozen=True)
class Files:
    """Pictures with masks, not decoded yet.

    Attributes:
        source: the folder that they are of.
        classes: label names; the index of a name is its value in a mask.
        paths, masks: the pictures and, in the same order, their masks.
        dropped: what was dropped or doubtful.
    """

    source: Path
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    masks: tuple[Path, ...]
    dropped: Account

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Sequence[int] | np.ndarray) -> Files:
        """These pictures, in this order."""
        paths, masks = (tuple(each[int(index)] for index in indices) for each in (self.paths, self.masks))
        return dataclasses.replace(self, paths=paths, masks=masks)

    def summary(self) -> str:
        """How much there is, and a line for each rule that was applied."""
        return f"{self.source}: pictures {len(self)}, labels {len(self.classes)}{self.dropped}"


@dataclasses.dataclass(frozen=True)
class Masked:
    """Pictures with masks, in memory.

    Attributes:
        files: where they come from, without those that were dropped.
        pixels: uint8 (pictures, size, size, 3), the whole picture stretched to the square; see `pictures.room`.
        masks: uint8 (pictures, size, size), indices of classes, or `IGNORED`.
    """

    files: Files
    pixels: np.ndarray
    masks: np.ndarray

    @property
    def classes(self) -> tuple[str, ...]:
        return self.files.classes

    @property
    def summary(self) -> str:
        return self.files.summary()

    def __len__(self) -> int:
        return len(self.files)


def is_masked(path: str | os.PathLike[str]) -> bool:
    """Whether a path is what this module reads: a folder with classes.json in it."""
    return (Path(path) / NAMES).is_file()


def read(folder: str | os.PathLike[str], classes: Sequence[str] | None = None) -> Files:
    """The pictures of a folder that have a mask.

    Args:
        folder: holds NAME.jpg and NAME.png; classes.json lies in it, or beside it.
        classes: the label names to expect, where they are known already.

    Raises:
        UsageError: there is no such folder, no picture with a mask in it, or its classes are not those expected.
        BadFileError: classes.json is not what it should be.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UsageError("there is no such folder", file=root, mend="Give a folder of NAME.jpg and NAME.png.")
    path = root / NAMES if (root / NAMES).is_file() else root.resolve().parent / NAMES
    own = _classes(path)
    if classes is not None and own != tuple(classes):
        raise UsageError(
            "has other classes than the task, or in another order",
            file=path,
            got=", ".join(own[:12]),
            expected=", ".join(list(classes)[:12]),
        )
    found: dict[str, dict[str, Path]] = {".jpg": {}, ".png": {}}
    for each in sorted(root.iterdir()):
        suffix = ".jpg" if each.suffix.lower() == ".jpeg" else each.suffix.lower()
        if suffix in found and not each.name.startswith(".") and each.is_file():
            found[suffix][each.stem] = each
    pictures_of, masks_of = found[".jpg"], found[".png"]
    account = Account()
    for name in sorted(pictures_of.keys() - masks_of.keys()):
        account.add(NO_MASK, str(pictures_of[name]))
    for name in sorted(masks_of.keys() - pictures_of.keys()):
        account.add(NO_PICTURE, str(masks_of[name]))
    names = sorted(pictures_of.keys() & masks_of.keys())
    if not names:
        raise UsageError(
            "has no picture with a mask",
            file=root,
            got=f"{len(pictures_of)} pictures (.jpg), {len(masks_of)} masks (.png)",
            expected="NAME.jpg and NAME.png",
        )
    paths, masks = (tuple(each[name] for name in names) for each in (pictures_of, masks_of))
    return Files(root, own, paths, masks, account)


def training_splits(
    data: str | os.PathLike[str], val: str | os.PathLike[str] | None = None, *, share: float = 0.2, seed: int = 0
) -> tuple[Files, Files]:
    """The pictures to train on and those to choose on.

    Validation is `val` if given, else DATA/val, else a share of the training pictures.

    Raises:
        UsageError, BadFileError: as `read`; or there is a single picture, and none can be put aside.
    """
    root = Path(data)
    train = read(root / "train" if (root / "train").is_dir() else root)
    if val is None and (root / "train").is_dir() and (root / "val").is_dir():
        val = root / "val"
    if val is not None:
        return train, read(val, train.classes)
    if len(train) < 2:
        raise UsageError(
            "has too few pictures to split",
            file=train.source,
            got=len(train),
            expected="at least 2",
            mend="Add pictures, or give a validation folder: --val DIR",
        )
    order = np.random.default_rng([seed, 0x5EED]).permutation(len(train))
    count = min(max(1, round(len(train) * share)), len(train) - 1)
    aside = dataclasses.replace(train, dropped=Account())
    return train.take(np.sort(order[count:])), aside.take(np.sort(order[:count]))


def evaluation_split(data: str | os.PathLike[str], classes: Sequence[str]) -> tuple[Files, str]:
    """The pictures to evaluate on, and the name of their split.

    Of a DATA that has train/, test/ is taken, else val/; any other DATA is taken whole.

    Raises:
        UsageError, BadFileError: as `read`.
    """
    root = Path(data)
    for name in ("test", "val"):
        if (root / name).is_dir() and (root / "train").is_dir():
            return read(root / name, classes), name
    return read(root, classes), "all"


def load(data: Files, preprocessing: Preprocessing, reporter: Reporter) -> Masked:
    """Decode every picture and its mask, and stretch both to the square; masks keep their values.

    Args:
        data: what to read.
        preprocessing: the size.
        reporter: told the summary.

    Raises:
        UsageError: the preprocessing crops.
        BadFileError: a mask has values that are no class (all such masks are told at once, as `problems`); no mask has
            a pixel of a class; or more than 5 % of the pictures, and more than two, cannot be read or have a mask of
            another size.
    """
    require_stretch(preprocessing)
    size = preprocessing.size
    pixels, masks = pictures.room((len(data), size, size, 3)), pictures.room((len(data), size, size))
    used = np.zeros((len(data), 256), bool)  # values of each mask
    unsure: list[int] = []

    def decode(index: int) -> None:
        image, mask, is_unsure = pair(data, index)
        if is_unsure:
            unsure.append(index)
        used[index, np.unique(mask)] = True
        pixels[index] = imaging.fit(image, size, preprocessing.resize)
        masks[index] = _nearest(mask, size)

    failed = pictures.read_each(decode, len(data), reporter)
    problems = Problems(data.source)
    for index, error in failed.items():
        if isinstance(error, BadFileError) and not isinstance(error, UnfitError):
            problems.add_error(data.masks[index].name, error)
    problems.raise_if_any()
    account = told(failed, unsure, data.paths, data.source, data.dropped)
    kept = np.array([index for index in range(len(data)) if index not in failed], np.int64)
    has = used[kept, : len(data.classes)]
    if not has.any():
        raise BadFileError("has no pixel of any class", file=data.source, got=f"{IGNORED} only")
    for index in kept[~has.any(axis=1)]:
        account.add(EMPTY, data.masks[index])
    for name, is_used in zip(data.classes, has.any(axis=0), strict=True):
        if not is_used:
            account.add(NO_PIXEL, name)
    left = dataclasses.replace(data, dropped=account).take(kept)
    reporter.say(left.summary())
    return Masked(left, pictures.close_up(pixels, kept), pictures.close_up(masks, kept))


def pair(data: Files, index: int) -> tuple[Image.Image, np.ndarray, bool]:
    """An upright RGB picture, its mask uint8 (height, width), and whether EXIF turned it with no sign in its size.

    Raises:
        UnfitError: one of them cannot be read, or they are not of one size.
        BadFileError: the mask has a value that is no class.
    """
    mask = whole(data.masks[index])
    wrong = mask[((mask < 0) | (mask >= len(data.classes))) & (mask != IGNORED)]
    if len(wrong):
        raise BadFileError(
            "has a value that is no class",
            file=data.masks[index],
            got=int(wrong.min()),
            expected=f"0 to {len(data.classes) - 1}, or {IGNORED} where nothing is said",
        )
    image, is_unsure = opened(data.paths[index], (mask.shape[1], mask.shape[0]))
    return image, mask.astype(np.uint8), is_unsure


def _classes(path: Path) -> tuple[str, ...]:
    """
    Raises:
        UsageError: there is no such file.
        BadFileError: it does not name classes.
    """
    expected = f'{{"classes": [...]}} with 2 to {IGNORED} different names, the first that of value 0'
    if not path.is_file():
        raise UsageError("there is no such file, which names the classes of masks", file=path, expected=expected)
    try:
        document: Any = container.load_json(files.read(path, limit=LIMIT))
    except ValueError as error:
        raise BadFileError("is not JSON", file=path, got=str(error)[:200], expected=expected) from error
    names = document.get("classes") if isinstance(document, dict) else None
    if (
        not isinstance(names, list)
        or not all(map(is_label, names))
        or not 2 <= len(set(names)) == len(names) <= IGNORED
    ):
        raise BadFileError("does not name the classes", file=path, field="classes", got=shown(names), expected=expected)
    return tuple(names)


def whole(path: Path) -> np.ndarray:
    """The values of a mask (height, width), uint8 or wider; of one with a palette, its indices.

    Raises:
        UnfitError: it cannot be read, or its pixels have several channels.
    """
    module = require("PIL.Image", extra="litert", why="reading pictures")
    try:
        with module.open(path) as image:
            pixels = image.width * image.height
            if pixels <= imaging.MAX_PIXELS and image.mode in ("1", "L", "P", "I", "I;16", "I;16B"):
                values = np.asarray(image)
                return values.astype(np.uint8) if values.dtype == bool else values
            mode = image.mode
    except Exception as error:  # decoders of hostile bytes raise whatever they like
        raise UnfitError(UNREADABLE, f"is not a mask that can be read: {error}", path) from error
    raise UnfitError(UNREADABLE, f"is no image of indices: {pixels} pixels of {mode}", path)


def _nearest(mask: np.ndarray, size: int) -> np.ndarray:
    """The mask as uint8 (size, size), each value that of the nearest pixel."""
    module = require("PIL.Image", extra="litert", why="reading pictures")
    return np.asarray(module.fromarray(mask).resize((size, size), module.Resampling.NEAREST))
