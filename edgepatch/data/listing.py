"""Pictures with boxes as a file lists them, and what is made of boxes and pictures that do not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch.data.account import (
    CLIPPED,
    DEGENERATE,
    IGNORED,
    MISSING,
    NEGATIVE,
    NO_BOX,
    UNLISTED,
    Account,
    refuse_many,
)
from edgepatch.data.names import is_picture
from edgepatch.errors import UsageError

FARTHEST = 1e9  # pixels from a picture's corner; nothing in a box is beyond


@dataclasses.dataclass(frozen=True)
class Boxes:
    """Pictures with boxes, not decoded yet.

    Attributes:
        source: the JSON or VOC folder that they are of.
        classes: label names; the index of a name is its label.
        paths: the pictures.
        sizes: width and height of each in pixels, as listed.
        boxes: of each picture float32 (n, 4), x0, y0, x1, y1 in pixels, inside the picture.
        labels: of each picture int64 (n,).
        ignored: of each picture bool (n,): COCO's crowds, VOC's difficult ones; neither trained on nor evaluated.
        dropped: what was clipped, dropped or doubtful.
    """

    source: Path
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    boxes: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    ignored: tuple[np.ndarray, ...]
    dropped: Account

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Iterable[int] | np.ndarray) -> Boxes:
        """These pictures, in this order."""
        chosen = [int(index) for index in indices]
        names = ("paths", "sizes", "boxes", "labels", "ignored")
        parts: dict[str, Any] = {name: tuple(getattr(self, name)[index] for index in chosen) for name in names}
        return _described(dataclasses.replace(self, **parts))

    def counts(self) -> np.ndarray:
        """Boxes of each class, without the ignored ones."""
        counts = np.zeros(len(self.classes), np.int64)
        for labels, ignored in zip(self.labels, self.ignored, strict=True):
            counts += np.bincount(labels[~ignored], minlength=len(self.classes))
        return counts

    def summary(self) -> str:
        """How much there is, and a line for each rule that was applied."""
        count, boxes = len(self), sum(map(len, self.boxes))
        return f"{self.source}: pictures {count}, boxes {boxes}, labels {len(self.classes)}{self.dropped}"


@dataclasses.dataclass
class Listed:
    """A picture as it is listed.

    Attributes:
        path: where it should be.
        size: width and height in pixels.
        place: where it is listed, for the reader.
        rows: of each box x0, y0, x1, y1 in pixels, anywhere.
        names: of each box its label's.
        ignored: of each box whether it is.
        places: of each box where it is listed.
    """

    path: Path
    size: tuple[int, int]
    place: str
    rows: list[tuple[float, float, float, float]] = dataclasses.field(default_factory=list)
    names: list[str] = dataclasses.field(default_factory=list)
    ignored: list[bool] = dataclasses.field(default_factory=list)
    places: list[str] = dataclasses.field(default_factory=list)

    def add(self, row: tuple[float, float, float, float], name: str, is_ignored: bool, place: str) -> None:
        self.rows.append(row)
        self.names.append(name)
        self.ignored.append(is_ignored)
        self.places.append(place)


def gather(
    source: Path,
    classes: tuple[str, ...],
    listed: Sequence[Listed],
    there: Collection[Path],
    unlisted: Iterable[Path],
    account: Account,
) -> Boxes:
    """The pictures that are there, with boxes inside them that are large enough to be boxes.

    Args:
        source: what they are listed in.
        classes: all label names.
        listed: the pictures, in order.
        there: all files.
        unlisted: those of them that should be listed, and are not.
        account: what was told of this data before; grows.

    Raises:
        BadFileError: too many pictures are missing.
    """
    missing = [picture.place for picture in listed if picture.path not in there]
    refuse_many(len(missing), len(listed), source, missing)
    for place in missing:
        account.add(MISSING, place)
    for path in sorted(unlisted):
        if is_picture(path):
            account.add(UNLISTED, path)
    present = [picture for picture in listed if picture.path in there]
    label_of = {name: label for label, name in enumerate(classes)}
    boxes, labels, ignored = [], [], []
    for picture in present:
        raw = np.array(picture.rows, np.float64).reshape(-1, 4)
        clipped = np.clip(raw, 0, picture.size * 2)
        large = ((clipped[:, 2:] - clipped[:, :2]) >= 1).all(axis=1)
        moved = (np.abs(clipped - raw) > 1e-3).any(axis=1)  # less is rounding
        for index in np.flatnonzero(~large | moved):
            account.add(CLIPPED if large[index] else DEGENERATE, f"{picture.place}, {picture.places[index]}")
        boxes.append(clipped[large].astype(np.float32))
        labels.append(np.array([label_of[name] for name in picture.names], np.int64)[large])
        ignored.append(np.array(picture.ignored, bool)[large])
    paths, sizes = tuple(picture.path for picture in present), tuple(picture.size for picture in present)
    return _described(Boxes(source, classes, paths, sizes, tuple(boxes), tuple(labels), tuple(ignored), account))


def _described(data: Boxes) -> Boxes:
    """The same, with an account of these pictures' negatives, ignored boxes and labels without a box."""
    account = data.dropped.without(IGNORED, NEGATIVE, NO_BOX)
    for path, ignored in zip(data.paths, data.ignored, strict=True):
        if not len(ignored):
            account.add(NEGATIVE, path)
        for _ in range(int(ignored.sum())):
            account.add(IGNORED, path)
    for name, count in zip(data.classes, data.counts(), strict=True):
        if not count:
            account.add(NO_BOX, name)
    return dataclasses.replace(data, dropped=account)


def label_names(source: Path, found: Sequence[str], classes: Sequence[str] | None) -> tuple[str, ...]:
    """The label names: those expected, if they are known, else those found.

    Raises:
        UsageError: one that was found is not expected.
    """
    if classes is None:
        return tuple(found)
    if unknown := [name for name in found if name not in classes]:
        raise UsageError(
            "has a class that the task does not know",
            file=source,
            field=unknown[0],
            got=", ".join(found[:12]),
            expected=", ".join(list(classes)[:12]),
        )
    return tuple(classes)
