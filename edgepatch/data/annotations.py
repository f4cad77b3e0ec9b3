"""Pictures with boxes, of COCO JSON or Pascal VOC: which are trained on, chosen on, evaluated on, and their pixels."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgepatch import imaging
from edgepatch.data import coco, pictures, voc
from edgepatch.data.account import Account
from edgepatch.data.folder import SPLITS
from edgepatch.data.listing import Boxes
from edgepatch.data.upright import opened, require_stretch, told
from edgepatch.errors import BadFileError, UsageError
from edgepatch.imaging import Preprocessing
from edgepatch.progress import Reporter

_EXPECTED = "NAME.json beside a folder NAME/, a folder with train.json and train/, or Annotations/ and JPEGImages/"


@dataclasses.dataclass(frozen=True)
class Annotated:
    """Pictures with boxes, in memory.

    Attributes:
        files: where they come from, without those that were dropped; its boxes are in pixels of the file.
        pixels: uint8 (pictures, size, size, 3), the whole picture stretched to the square; see `pictures.room`.
        boxes: of each picture float32 (n, 4), x0, y0, x1, y1 relative to the square, 0..1.
    """

    files: Boxes
    pixels: np.ndarray
    boxes: tuple[np.ndarray, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.files.classes

    @property
    def labels(self) -> tuple[np.ndarray, ...]:
        return self.files.labels

    @property
    def ignored(self) -> tuple[np.ndarray, ...]:
        return self.files.ignored

    @property
    def summary(self) -> str:
        return self.files.summary()

    def __len__(self) -> int:
        return len(self.files)


def is_annotated(path: str | os.PathLike[str]) -> bool:
    """Whether a path is what this module reads: a .json, a folder with train.json or the like, or a VOC folder."""
    root = Path(path)
    if root.is_file():
        return root.suffix.lower() == ".json"
    return voc.is_voc(root) or any((root / f"{name}.json").is_file() for name in SPLITS)


def read(path: str | os.PathLike[str], classes: Sequence[str] | None = None) -> Boxes:
    """The pictures of a COCO JSON, or all of a VOC folder.

    Args:
        path: NAME.json, with its pictures in the folder NAME beside it; or a folder with Annotations/, JPEGImages/.
        classes: the label names to expect, in their order, where they are known already; else those of a JSON are
            sorted by their id, those of a VOC folder by name.

    Raises:
        UsageError: there is no such data, or it has a class that is not expected.
        BadFileError: it is no such file, contradicts itself (all of it is told at once, as `problems`), or more than
            5 % of its pictures, and more than two, are missing.
    """
    root = Path(path)
    if root.is_dir() and not voc.is_voc(root):
        raise UsageError("is not a folder with boxes", file=root, expected=_EXPECTED)
    if root.is_dir():
        return voc.read(root, None, classes)
    return coco.read(root, classes)


def training_splits(
    data: str | os.PathLike[str], val: str | os.PathLike[str] | None = None, *, share: float = 0.2, seed: int = 0
) -> tuple[Boxes, Boxes]:
    """The pictures to train on and those to choose on.

    Of a folder, train.json is trained on; of a VOC folder what ImageSets/Main/train.txt lists, else all but what
    val.txt and test.txt list, of trainval.txt if there is one. Validation is `val` if given, else val.json or val.txt,
    else a share of the pictures.

    Raises:
        UsageError, BadFileError: as `read`; or there is no box to train on or to choose on, or nothing to put aside.
    """
    root = Path(data)
    aside: Boxes | None = None
    if root.is_dir() and not voc.is_voc(root):
        if not (root / "train.json").is_file():
            raise UsageError("has no train.json", file=root, expected=_EXPECTED)
        train = read(root / "train.json")
        if val is None and (root / "val.json").is_file():
            val = root / "val.json"
    elif root.is_dir():
        parts = voc.lists(root)
        others = {name for part in ("val", "test") for name in parts.get(part, ())}
        pool = parts.get("trainval") or voc.annotated(root)
        train = voc.read(root, parts.get("train") or [name for name in pool if name not in others], None)
        if val is None and "val" in parts:
            aside = voc.read(root, parts["val"], train.classes)
    else:
        train = read(root)
    if val is not None:
        aside = read(val, train.classes)
    _require_box(train, "train on")
    if aside is None:
        train, aside = split(train, share=share, seed=seed)
    _require_box(aside, "choose on")
    return train, aside


def _require_box(data: Boxes, purpose: str) -> None:
    if not data.counts().any():
        raise BadFileError(f"has no box to {purpose}", file=data.source, got="0 boxes", expected="at least 1")


def split(data: Boxes, *, share: float, seed: int) -> tuple[Boxes, Boxes]:
    """Put aside a share of the pictures with boxes, at least one, and of those without.

    A picture that would take the last box of a class away from training is not put aside.

    Raises:
        UsageError: no picture can be put aside.
    """
    rng = np.random.default_rng([seed, 0x5EED])
    own = [np.unique(labels[~ignored]) for labels, ignored in zip(data.labels, data.ignored, strict=True)]
    left = np.zeros(len(data.classes), np.int64)  # pictures of each class that are still trained on
    for labels in own:
        left[labels] += 1
    aside: list[int] = []
    for filled in (True, False):
        group = [index for index, labels in enumerate(own) if bool(len(labels)) is filled]
        wanted = len(aside) + max(int(filled), round(len(group) * share))
        for index in rng.permutation(group).astype(np.int64):
            if len(aside) < wanted and (left[own[index]] > 1).all():
                left[own[index]] -= 1
                aside.append(int(index))
        if filled and not aside:
            raise UsageError(
                "has too few pictures to split",
                file=data.source,
                got=f"{len(group)} pictures with boxes, each with the only box of a class",
                expected="at least 2 of some class",
                mend="Add pictures, or give others for validation: --val PATH",
            )
    kept = np.setdiff1d(np.arange(len(data)), aside)
    return data.take(kept), dataclasses.replace(data, dropped=Account()).take(sorted(aside))


def evaluation_split(data: str | os.PathLike[str], classes: Sequence[str]) -> tuple[Boxes, str]:
    """The pictures to evaluate on, and the name of their split.

    Of a folder test.json, else val.json; of a VOC folder what ImageSets/Main/test.txt lists, else val.txt. A JSON, and
    a VOC folder without such lists, is taken whole.

    Raises:
        UsageError, BadFileError: as `read`.
    """
    root = Path(data)
    is_voc = voc.is_voc(root)
    parts = voc.lists(root) if is_voc else {}
    for name in ("test", "val"):
        if name in parts:
            return voc.read(root, parts[name], classes), name
        if root.is_dir() and not is_voc and (root / f"{name}.json").is_file():
            return read(root / f"{name}.json", classes), name
    return read(root, classes), "all"


def load(data: Boxes, preprocessing: Preprocessing, reporter: Reporter) -> Annotated:
    """Decode every picture and stretch it to the square; boxes become relative to it.

    Args:
        data: what to read.
        preprocessing: the size.
        reporter: told the summary.

    Raises:
        UsageError: the preprocessing crops, which would cut boxes off.
        BadFileError: more than 5 % of the pictures, and more than two, cannot be read or are not of the size listed; or
            all that have boxes.
    """
    require_stretch(preprocessing)
    size = preprocessing.size
    pixels = pictures.room((len(data), size, size, 3))
    unsure: list[int] = []

    def decode(index: int) -> None:
        image, is_unsure = opened(data.paths[index], data.sizes[index])
        pixels[index] = imaging.fit(image, size, preprocessing.resize)
        if is_unsure:
            unsure.append(index)

    failed = pictures.read_each(decode, len(data), reporter)
    account = told(failed, unsure, data.paths, data.source, data.dropped)
    kept = np.array([index for index in range(len(data)) if index not in failed], np.int64)
    left = dataclasses.replace(data, dropped=account).take(kept)
    if data.counts().any():
        _require_box(left, "use, once pictures that do not fit are dropped")
    relative = tuple(boxes / np.array(own * 2, np.float32) for boxes, own in zip(left.boxes, left.sizes, strict=True))
    reporter.say(left.summary())
    return Annotated(left, pictures.close_up(pixels, kept), relative)
