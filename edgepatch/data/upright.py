"""Pictures as boxes and masks are of them: whole, upright, and of the size that is listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepatch import imaging
from edgepatch.data.account import OTHER_SIZE, TURNED, UNREADABLE, UNSURE, Account, UnfitError, refuse_many
from edgepatch.errors import EdgepatchError, UsageError, require
from edgepatch.imaging import Preprocessing

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112  # EXIF


def require_stretch(preprocessing: Preprocessing) -> None:
    """
    Raises:
        UsageError: the preprocessing is not to stretch the whole picture.
    """
    if preprocessing.resize != "stretch":
        raise UsageError(
            "cuts off what lies at the edge, and boxes and masks are of the whole picture",
            field="resize",
            got=preprocessing.resize,
            expected="stretch",
        )


def opened(path: Path, size: tuple[int, int]) -> tuple[Image.Image, bool]:
    """An upright RGB picture, and whether EXIF turned it so that its size does not tell.

    Args:
        path: the picture.
        size: width and height that it must have, upright; of one of another size the header alone is read.

    Raises:
        UnfitError: it cannot be read, or has another size.
    """
    module = require("PIL.Image", extra="litert", why="reading pictures")
    listed = f"{size[0]} x {size[1]}"
    try:
        with module.open(path) as image:
            found = f"{image.width} x {image.height}"
            if size not in (image.size, image.size[::-1]):
                raise UnfitError(OTHER_SIZE, f"is {found}, not {listed}", path)
            turn = image.getexif().get(ORIENTATION, 1)
            if size != (image.size[::-1] if turn in (5, 6, 7, 8) else image.size):
                if size == image.size:
                    raise UnfitError(TURNED, f"is {found}, and EXIF turns it", path)
                raise UnfitError(OTHER_SIZE, f"is {found}, not {listed}", path)
            return imaging.load(image), turn in (2, 3, 4) or (turn in (5, 6, 7, 8) and image.width == image.height)
    except UnfitError:
        raise
    except Exception as error:  # decoders of hostile bytes raise whatever they like
        said = error.message if isinstance(error, EdgepatchError) else f"is not a picture that can be read: {error}"
        raise UnfitError(UNREADABLE, said, path) from error


def told(
    failed: Mapping[int, EdgepatchError], unsure: Iterable[int], paths: Sequence[Path], source: Path, before: Account
) -> Account:
    """What was told before, and of which pictures decoding failed or left doubt.

    Raises:
        BadFileError: more than 5 % failed, and more than two, or all.
        EdgepatchError: one that no rule drops, as it came.
    """
    account = before.without()
    for error in failed.values():
        if not isinstance(error, UnfitError):
            raise error
        account.add(error.rule, error)
    for index in sorted(unsure):
        account.add(UNSURE, paths[index])
    rules = (UNREADABLE, OTHER_SIZE, TURNED)
    refuse_many(len(failed), len(paths), source, [account.examples[rule] for rule in rules if rule in account.examples])
    return account
