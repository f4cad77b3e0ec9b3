"""Folders of images: which classes, which files, which split."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edgepatch.errors import UsageError

SPLITS = ("train", "val", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@dataclasses.dataclass(frozen=True)
class Files:
    """Images with their classes.

    Attributes:
        classes: class names, sorted; the index of a name is its label.
        paths: the images.
        labels: int64 (images,), the class of each.
    """

    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Sequence[int] | np.ndarray) -> Files:
        """These of them, in this order."""
        chosen = np.asarray(indices, np.int64)
        return Files(self.classes, tuple(self.paths[index] for index in chosen), self.labels[chosen])

    def counts(self) -> np.ndarray:
        """Images of each class."""
        return np.bincount(self.labels, minlength=len(self.classes))


def scan(folder: str | os.PathLike[str], classes: Sequence[str] | None = None) -> Files:
    """The images of a folder that has one folder a class.

    Args:
        folder: the folder.
        classes: the classes to expect, where they are known already; every folder must be one of them.

    Raises:
        UsageError: no such folder, no class, one class only, an empty class, or a class that is not expected.
    """
    root = Path(folder)
    try:
        found = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError) as error:
        mend = "Give a folder with one folder of images a class."
        raise UsageError("there is no such folder", file=root, mend=mend) from error
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", file=root) from error
    if mixed := [name for name in found if name in SPLITS]:
        raise UsageError(
            f"has a folder named as a split, {mixed[0]}, where class folders are expected",
            file=root,
            got=", ".join(found[:12]),
            expected="class folders only, or train/ and val/ or test/ with class folders in them",
            mend=f"Give {root / mixed[0]} if that is what you mean.",
        )
    if not found:
        raise UsageError(
            "has no class folders",
            file=root,
            got=f"{sum(1 for _ in _images(root))} loose images",
            expected="one folder of images a class",
        )
    if classes is None and len(found) == 1:
        raise UsageError(
            "has one class only, and a classifier needs at least two",
            file=root,
            got=found[0],
            mend="Add a folder of pictures that are something else.",
        )
    if classes is not None and (unknown := [name for name in found if name not in classes]):
        raise UsageError(
            f"has a class that the task does not know, {unknown[0]}",
            file=root,
            got=", ".join(found[:12]),
            expected=", ".join(list(classes)[:12]),
        )
    names = tuple(classes) if classes is not None else tuple(found)
    paths: list[Path] = []
    labels: list[int] = []
    for name in found:
        images = sorted(_images(root / name))
        if not images:
            raise UsageError(
                "has an empty class",
                file=root,
                field=name,
                got="0 images",
                expected=f"files ending in {' '.join(SUFFIXES)}",
            )
        paths += images
        labels += [names.index(name)] * len(images)
    return Files(names, tuple(paths), np.array(labels, np.int64))


def training_splits(
    data: str | os.PathLike[str], val: str | os.PathLike[str] | None = None, *, share: float = 0.2, seed: int = 0
) -> tuple[Files, Files]:
    """The images to train on and those to choose on.

    Validation is `val` if given, else DATA/val, else a stratified share of the training images.

    Raises:
        UsageError: as `scan`; or a class has fewer than two images and none can be put aside.
    """
    root = Path(data)
    train = scan(root / "train" if (root / "train").is_dir() else root)
    if val is None and (root / "train").is_dir() and (root / "val").is_dir():
        val = root / "val"
    if val is not None:
        return train, scan(val, train.classes)
    return split(train, share=share, seed=seed, source=root)


def split(images: Files, *, share: float, seed: int, source: object = None) -> tuple[Files, Files]:
    """Put aside a share of each class, at least one image of each.

    Raises:
        UsageError: a class has a single image.
    """
    rng = np.random.default_rng([seed, 0x5EED])
    aside: list[int] = []
    for label, name in enumerate(images.classes):
        own = np.flatnonzero(images.labels == label)
        if len(own) < 2:
            raise UsageError(
                "has a class too small to split",
                file=source,
                field=name,
                got=f"{len(own)} images",
                expected="at least 2",
                mend="Add images, or give a validation folder: --val DIR",
            )
        count = min(max(1, round(len(own) * share)), len(own) - 1)
        aside += rng.permutation(own)[:count].tolist()
    kept = np.setdiff1d(np.arange(len(images)), aside)
    return images.take(kept), images.take(sorted(aside))


def evaluation_split(data: str | os.PathLike[str], classes: Sequence[str]) -> tuple[Files, str]:
    """The images to evaluate on, and the name of their split.

    Of a DATA with splits test/ is taken, else val/; any other DATA is taken whole.

    Raises:
        UsageError: as `scan`.
    """
    root = Path(data)
    for name in ("test", "val"):
        if (root / name).is_dir():
            return scan(root / name, classes), name
    return scan(root, classes), "all"


def anything(folder: str | os.PathLike[str]) -> Files:
    """The images of a folder, however they lie in it, as one class: for work that asks for no labels.

    Of a DATA that has train/, that alone is taken.

    Raises:
        UsageError: no such folder, or no image in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UsageError("there is no such folder", file=root, mend="Give a folder of images.")
    paths = sorted(_images(root / "train" if (root / "train").is_dir() else root))
    if not paths:
        raise UsageError("has no images", file=root, got="0 images", expected=f"files ending in {' '.join(SUFFIXES)}")
    return Files(("",), tuple(paths), np.zeros(len(paths), np.int64))


def sample(images: Files, count: int, *, seed: int) -> Files:
    """At most so many of the images, in their order; the same seed chooses the same."""
    return images.take(np.sort(np.random.default_rng([seed, 0x5A]).permutation(len(images))[:count]))


def _images(folder: Path) -> Iterable[Path]:
    return (
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
