"""Pascal VOC: pictures with boxes, Annotations/NAME.xml of JPEGImages/NAME.jpg, and lists in ImageSets/Main."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from edgepatch import files, imaging
from edgepatch.data.account import RENAMED, Account, Problems, shown
from edgepatch.data.listing import FARTHEST, Boxes, Listed, gather, label_names
from edgepatch.data.names import LABEL, is_label, is_picture, leaves
from edgepatch.errors import EdgepatchError, UsageError

LIMIT = 2**20  # bytes of the annotation of one picture
LIST_LIMIT = 2**28  # bytes of a list of pictures


def is_voc(root: Path) -> bool:
    return bool(annotated(root))


def annotated(root: Path) -> dict[str, Path]:
    """The XML files of a folder by the names of their pictures, sorted."""
    paths = sorted((root / "Annotations").glob("*.xml"))
    return {path.stem: path for path in paths if not path.name.startswith(".")}


def lists(root: Path) -> dict[str, list[str]]:
    """What the lists in ImageSets/Main hold, by their names: train, val, trainval, test, as far as they are there.

    Raises:
        BadFileError: a list is empty or no text, names something twice, or shares pictures with one it should not.
    """
    folder = root / "ImageSets" / "Main"
    problems = Problems(folder)
    found: dict[str, list[str]] = {}
    for name in ("train", "val", "trainval", "test"):
        path = folder / f"{name}.txt"
        if not path.is_file():
            continue
        try:
            lines = files.read(path, limit=LIST_LIMIT).decode().splitlines()
        except ValueError as error:
            problems.add(path.name, "is not text", got=str(error)[:80])
            continue
        found[name] = [line.strip() for line in lines if line.strip()]
        if not found[name]:
            problems.add(path.name, "is empty", expected="names of pictures")
        elif (most := Counter(found[name]).most_common(1)[0])[1] > 1:
            problems.add(path.name, "lists a picture twice", got=most[0], expected="each once")
    for name, other in (("train", "val"), ("train", "test"), ("val", "test"), ("trainval", "test")):
        if shared := sorted(set(found.get(name, ())) & set(found.get(other, ()))):
            problems.add(f"{name}.txt", f"shares pictures with {other}.txt", got=f"{len(shared)}, as {shared[0]}")
    problems.raise_if_any()
    return found


def read(root: Path, chosen: Sequence[str] | None, classes: Sequence[str] | None) -> Boxes:
    """Pictures of a folder, all or those of these names; see `annotations.read`.

    An annotation is of the picture of its own name, as the lists have it; many tools leave another in its `filename`.
    """
    folder = root / "JPEGImages"
    if not folder.is_dir():
        raise UsageError("has no folder of pictures", file=root, expected=f"a folder {folder}")
    account, problems = Account(), Problems(root)
    pictures: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_picture(path) and path.is_file():
            if path.stem in pictures:
                problems.add(f"JPEGImages/{path.name}", "is one of two of its name", got=pictures[path.stem].name)
            pictures[path.stem] = path
    xmls, absent = annotated(root), folder / "absent"
    listed: list[Listed] = []
    for name in xmls if chosen is None else chosen:
        if name in xmls:
            listed.append(_picture(xmls[name], pictures.get(name, absent), account, problems))
        else:
            listed.append(Listed(absent, (1, 1), f"{name}, which has no Annotations/{name}.xml"))
    problems.raise_if_any()
    labels = label_names(root, sorted({name for picture in listed for name in picture.names}), classes)
    unlisted = (path for name, path in pictures.items() if name not in xmls)
    return gather(root, labels, listed, set(pictures.values()), unlisted, account)


class _Element:
    """An element of a picture's XML. What is taken from it is checked."""

    def __init__(self, element: ElementTree.Element, where: str, problems: Problems) -> None:
        self.element, self.where, self.problems = element, where, problems

    def text(self, key: str, default: str = "") -> str:
        return self.element.findtext(key, default).strip()

    def number(self, key: str) -> float:
        """The number of a key, between -1e9 and 1e9; 1 where there is none, for one thing is then wrong, not two."""
        text = self.text(key)
        try:
            if abs(value := float(text)) <= FARTHEST:  # a NaN is not
                return value
        except ValueError:
            pass
        self.wrong(key, "is not a number" if text else "is missing", text, f"a number of at most {FARTHEST:g}")
        return 1

    def wrong(self, key: str, message: str, got: Any, expected: str) -> None:
        self.problems.add(f"{self.where} {key}", message, got=shown(got), expected=expected)


def _picture(path: Path, picture: Path, account: Account, problems: Problems) -> Listed:
    """What the XML of a picture says. It is of no use where it adds to the problems."""
    where = f"Annotations/{path.name}"
    found = Listed(picture, (1, 1), where)
    try:
        root = _Element(_xml(files.read(path, limit=LIMIT)), where, problems)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an encoding that there is not
        problems.add(where, "is not XML that can be read", got=str(error)[:200])
        return found
    except EdgepatchError as error:
        problems.add_error(where, error)
        return found
    width, height = root.number("size/width"), root.number("size/height")
    found.size = int(width), int(height)
    if found.size != (width, height) or min(found.size) < 1 or width * height > imaging.MAX_PIXELS:
        root.wrong("size", "is not what it should be", f"{width:g} x {height:g}", "pixels of a picture")
    if leaves(name := root.text("filename")):
        root.wrong("filename", "leads out of the folder", name, "the name of a file within it")
    elif name and path.stem not in (name, Path(name).stem):
        account.add(RENAMED, f"{where} names {name}")
    for index, element in enumerate(root.element.iterfind("object"), 1):
        entry = _Element(element, f"{where} object {index}", problems)
        label, difficult = entry.text("name"), entry.text("difficult", "0")
        if not is_label(label):
            entry.wrong("name", "is not what it should be", label, LABEL)
        if difficult not in ("", "0", "1"):
            entry.wrong("difficult", "is not what it should be", difficult, "0 or 1")
        left, top, right, bottom = (entry.number(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax"))
        # VOC counts pixels from 1, and the last one is inside the box
        found.add((left - 1, top - 1, right, bottom), label, difficult == "1", f"object {index}")
    return found


def _xml(data: bytes) -> ElementTree.Element:
    """The root of an XML document that declares nothing.

    Raises:
        ValueError: it has a DOCTYPE, where entities would be declared that grow without bound or name other files.
        xml.etree.ElementTree.ParseError, LookupError: it is no XML, or in an encoding that there is not.
    """

    class Builder(ElementTree.TreeBuilder):
        def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
            raise ValueError("it has a DOCTYPE, which is refused")

    parser = ElementTree.XMLParser(target=Builder())  # noqa: S314 - without a DOCTYPE there are no entities
    parser.feed(data)
    return parser.close()
