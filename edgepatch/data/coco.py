"""COCO JSON: pictures with boxes, in NAME.json, and the pictures in the folder NAME beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from edgepatch import container, files, imaging
from edgepatch.data.account import Account, Problems, shown
from edgepatch.data.listing import FARTHEST, Boxes, Listed, gather, label_names
from edgepatch.data.names import LABEL, is_label, leaves
from edgepatch.errors import BadFileError, UsageError

LIMIT = 600_000_000  # bytes; COCO's own of 118 287 pictures has 449 million


def read(path: Path, classes: Sequence[str] | None) -> Boxes:
    """All pictures of a JSON; see `annotations.read`."""
    problems = Problems(path)
    document = _document(path, problems)
    folder = path.with_suffix("")
    if folder == path or not folder.is_dir():
        raise UsageError("has no folder of pictures beside it", file=path, expected=f"a folder {folder}")
    names = _categories(document, problems)
    ids, listed = _images(document, path.name, folder, problems)
    _annotate(document, ids, listed, names, problems)
    problems.raise_if_any()
    labels = label_names(path, [names[number] for number in sorted(names)], classes)
    there = {file for file in folder.rglob("*") if file.is_file()}
    known = {picture.path for picture in listed.values()}
    return gather(path, labels, list(listed.values()), there, there - known, Account())


class _Kind(NamedTuple):
    fits: Callable[[Any], bool]
    expected: str


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= FARTHEST


_ID = _Kind(lambda value: type(value) is int, "a whole number")
_SIDE = _Kind(lambda value: type(value) is int and value > 0, "pixels, a whole number from 1")
_LABEL = _Kind(is_label, LABEL)
_FILE = _Kind(
    lambda value: isinstance(value, str) and value.isprintable() and bool(value) and not leaves(value),
    "the name of a file within the folder",
)
_BOX = _Kind(
    lambda value: isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)),
    "[x, y, width, height], in pixels",
)
_FLAG = _Kind(lambda value: value in (0, 1), "0 or 1")


class _Record:
    """An entry of one of a JSON's lists. What is taken from it is checked."""

    def __init__(self, values: dict[str, Any], where: str, problems: Problems) -> None:
        self.values, self.where, self.problems = values, where, problems

    def take(self, key: str, kind: _Kind, default: Any = None) -> Any:
        """The value of a key; None where it is missing and there is no default, or of another kind."""
        value = self.values.get(key, default)
        if value is not None and kind.fits(value):
            return value
        if key not in self.values:
            self.problems.add(f"{self.where}.{key}", "is missing", expected=kind.expected)
        else:
            self.wrong(key, "is not what it should be", expected=kind.expected)
        return None

    def unique(self, key: str, kind: _Kind, seen: set[Any], form: Callable[[Any], Any] = lambda value: value) -> Any:
        """The same of a value that no other entry has in the same form."""
        value = self.take(key, kind)
        if value is not None:
            if form(value) in seen:
                self.wrong(key, "stands there twice", expected="each once")
            seen.add(form(value))
        return value

    def wrong(self, key: str, message: str, **facts: Any) -> None:
        self.problems.add(f"{self.where}.{key}", message, got=shown(self.values[key]), **facts)


def _records(document: dict[str, Any], key: str, problems: Problems) -> Iterator[_Record]:
    for index, entry in enumerate(document[key]):
        where = f"{key}[{index}]"
        if isinstance(entry, dict):
            yield _Record(entry, where, problems)
        else:
            problems.add(where, "is not what it should be", got=shown(entry), expected="an object")


def _document(path: Path, problems: Problems) -> dict[str, Any]:
    """The JSON, with its three lists.

    Raises:
        BadFileError: it is none.
    """
    expected = "COCO's object with the lists images, annotations and categories"
    try:
        document = container.load_json(files.read(path, limit=LIMIT))
    except ValueError as error:
        raise BadFileError("is not JSON", file=path, got=str(error)[:200], expected=expected) from error
    if not isinstance(document, dict):
        raise BadFileError("is not COCO JSON", file=path, got=shown(document), expected=expected)
    for key in ("images", "annotations", "categories"):
        if key not in document:
            problems.add(key, "is missing", expected=expected)
        elif not isinstance(document[key], list):
            problems.add(key, "is not what it should be", got=shown(document[key]), expected="a list")
        elif not document[key] and key != "annotations":  # pictures of nothing may be evaluated on
            problems.add(key, "is empty", expected="at least 1")
    problems.raise_if_any()
    return document


def _categories(document: dict[str, Any], problems: Problems) -> dict[int, str]:
    """Names by id."""
    found: dict[int, str] = {}
    ids: set[int] = set()
    names: set[str] = set()
    for record in _records(document, "categories", problems):
        number, name = record.unique("id", _ID, ids), record.unique("name", _LABEL, names)
        if number is not None:
            found[number] = name
    return found


def _images(
    document: dict[str, Any], source: str, folder: Path, problems: Problems
) -> tuple[set[int], dict[int, Listed]]:
    """The ids of all images, and of those in order the pictures, without boxes."""
    found: dict[int, Listed] = {}
    ids: set[int] = set()
    names: set[str] = set()
    for record in _records(document, "images", problems):
        number, name = record.unique("id", _ID, ids), record.unique("file_name", _FILE, names, PurePosixPath)
        width, height = record.take("width", _SIDE), record.take("height", _SIDE)
        if number is None or name is None or width is None or height is None:
            continue
        if width * height > imaging.MAX_PIXELS:
            record.wrong("width", "is of too large a picture", expected=f"at most {imaging.MAX_PIXELS} pixels in all")
        found[number] = Listed(folder / name, (width, height), f"{source}, image {number} ({name})")
    return ids, found


def _annotate(
    document: dict[str, Any], ids: set[int], listed: dict[int, Listed], names: dict[int, str], problems: Problems
) -> None:
    """Give pictures their boxes."""
    seen: set[int] = set()
    for record in _records(document, "annotations", problems):
        number, box = record.unique("id", _ID, seen), record.take("bbox", _BOX)
        image, category = record.take("image_id", _ID), record.take("category_id", _ID)
        crowd = record.take("iscrowd", _FLAG, 0)
        if image is not None and image not in ids:
            record.wrong("image_id", "is the id of no image")
        if category is not None and category not in names:
            record.wrong("category_id", "is the id of no category")
        if box is not None and image in listed and category in names:
            x, y, width, height = box
            listed[image].add((x, y, x + width, y + height), names[category], bool(crowd), f"annotation {number}")
