"""Decoded images: every file read once, resized as the device will, kept as uint8."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgepatch import imaging
from edgepatch.data.folder import Files
from edgepatch.errors import BadFileError, EdgepatchError
from edgepatch.imaging import Preprocessing
from edgepatch.progress import Reporter

MAX_UNREADABLE = 0.05  # of the files; past that the folder itself is in doubt

IN_MEMORY = 2 * 1024**3  # bytes


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Images in memory.

    Attributes:
        files: where they come from, without those that could not be read.
        pixels: uint8 (images, size, size, 3); beyond `IN_MEMORY` bytes mapped from a temporary file.
        skipped: files that could not be read, with the reason.
    """

    files: Files
    pixels: np.ndarray
    skipped: tuple[str, ...]

    @property
    def labels(self) -> np.ndarray:
        return self.files.labels

    def __len__(self) -> int:
        return len(self.files)


def load(files: Files, preprocessing: Preprocessing, reporter: Reporter, *, limit: float = MAX_UNREADABLE) -> Pictures:
    """Decode and resize every image.

    Args:
        files: what to read.
        preprocessing: the size and the way of resizing.
        reporter: told of each file that is skipped.
        limit: the share of files that may be unreadable; fewer than three never stop the work.

    Raises:
        BadFileError: more files than that cannot be read, or a whole class cannot.
    """
    size = preprocessing.size
    pixels = room((len(files), size, size, 3))

    def decode(index: int) -> None:
        pixels[index] = imaging.fit(imaging.load(files.paths[index]), size, preprocessing.resize)

    problems = read_each(decode, len(files), reporter)
    skipped = [str(problem).splitlines()[0] for problem in problems.values()]
    check_unreadable(skipped, files, reporter, limit=limit)
    kept = np.array([index for index in range(len(files)) if index not in problems], np.int64)
    left = files.take(kept)
    for name, before, count in zip(files.classes, files.counts(), left.counts(), strict=True):
        if before and not count:
            raise BadFileError("has a class without a readable image", file=_common(files), field=name)
    return Pictures(left, close_up(pixels, kept), tuple(skipped))


def read_each(work: Callable[[int], None], count: int, reporter: Reporter) -> dict[int, EdgepatchError]:
    """Do `work(0)` to `work(count - 1)` on all cores; of those that failed, in their order, why."""
    problems: dict[int, EdgepatchError] = {}

    def attempt(index: int) -> None:
        try:
            work(index)
        except EdgepatchError as error:
            problems[index] = error

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in reporter.bar(pool.map(attempt, range(count)), count, "reading images"):
            pass
    return dict(sorted(problems.items()))


def check_unreadable(skipped: list[str], files: Files, reporter: Reporter, *, limit: float = MAX_UNREADABLE) -> None:
    """Name the files that could not be read, and stop if they are too many.

    Raises:
        BadFileError: more than a share of `limit` of the files cannot be read; fewer than three never stop the work.
    """
    for problem in skipped:
        reporter.say(f"skipped {problem}")
    if len(skipped) > max(2, limit * len(files)) or len(skipped) == len(files):
        raise BadFileError(
            "has too many files that cannot be read",
            file=_common(files),
            got=f"{len(skipped)} of {len(files)}",
            expected=f"at most {limit:.0%}",
            mend=f"The first of them: {skipped[0]}",
        )


def close_up(array: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The rows kept (ascending), moved up in place: a copy of a mapped set would not fit into memory."""
    for place, index in enumerate(kept):
        if place != index:
            array[place] = array[index]
    return array[: len(kept)]


def room(shape: tuple[int, ...]) -> np.ndarray:
    """An empty uint8 array: in memory if it is small, else in an unnamed temporary file."""
    if math.prod(shape) <= IN_MEMORY:
        return np.zeros(shape, np.uint8)
    with tempfile.TemporaryFile(prefix="edgepatch-") as file:  # the mapping outlives the name
        return np.memmap(file, np.uint8, "w+", shape=shape)


def _common(files: Files) -> Path:
    return Path(os.path.commonpath([path.parent for path in files.paths]))
