"""TASKS.toml: which tasks are trained, on what, and how. Everything wrong in it is reported at once."""

from __future__ import annotations

import collections
import dataclasses
import difflib
import functools
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepatch import codec, files, imaging, patches
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones.backbone import Backbone
from edgepatch.data import folder
from edgepatch.errors import EdgepatchError, UsageError
from edgepatch.many import storage
from edgepatch.patches import Head
from edgepatch.patches.map_head import MapHead
from edgepatch.training import map_training, trainer
from edgepatch.training.recipe import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAMES = ("name", "data", "val")  # what each task has of its own
LIMIT = 4 * 2**20  # bytes of a TASKS.toml: ten thousand tasks
BALANCES = ("none", "loss", "gradient")
NAME = re.compile(r"[^\W_][\w.-]{0,99}")


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a task takes of a machine while it is trained.

    Attributes:
        cpus, gpus: as Ray counts them; parts of one are allowed.
        memory: bytes; 0 asks for none in particular.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0


@dataclasses.dataclass(frozen=True)
class Entry:
    """One task of the file.

    Attributes:
        data, val: folders of images, local or of any fsspec filesystem; `val` may be empty.
        patch: kinds, as after `--patch`.
        size: side of the input in pixels.
        preference: how much it counts beside the others in a joint training.
    """

    name: str
    data: str
    val: str
    patch: str
    size: int
    codec: str
    resize: str
    licence: str
    recipe: Recipe
    preference: float
    resources: Resources


@dataclasses.dataclass(frozen=True)
class Joint:
    """How tasks are trained together: the table `[joint]`.

    Attributes:
        kernels: which kernels all tasks share and train: `all`, or `bottom:N`, `top:N`, `depthwise`.
        epochs: of the whole training: one is as many steps as all tasks' images fill; 0 lets their number decide.
        mix: a task with n images takes a share of the steps that is proportional to n to the power of this.
        balance: what tasks are brought to one scale by: `none`, their `loss`, or their `gradient` on shared kernels.
        learning_rate: of the shared kernels, at its peak, in units of the recipe's.
        preferences: for a front: one weight a task in each row.
        affinity_every: steps between two measurements of inter-task affinity.
        groups: how many backbones a grouping may take; 0 lets the affinities decide.
    """

    kernels: str = "all"
    epochs: int = 0
    mix: float = 0.5
    balance: str = "gradient"
    learning_rate: float = 0.2
    preferences: tuple[tuple[float, ...], ...] = ()
    affinity_every: int = 10
    groups: int = 0


@dataclasses.dataclass(frozen=True)
class TasksFile:
    """A TASKS.toml that was found to be in order.

    Attributes:
        out: folder of the results, local or of any fsspec filesystem.
    """

    path: Path
    backbone: str
    out: str
    tasks: tuple[Entry, ...]
    joint: Joint


def read(path: str | os.PathLike[str]) -> tuple[TasksFile, Backbone]:
    """A TASKS.toml and the backbone that it names; relative paths in it start at its own folder.

    Raises:
        UsageError: it is no TOML, or anything in it is wrong; all of it is told, in the text and as `problems`.
    """
    path = Path(path)
    text = files.read(path, limit=LIMIT)
    found = Problems(path)
    try:
        document = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # of the encoding, too
        raise UsageError("is not TOML", file=path, got=str(error)[:200], expected="a TASKS.toml") from error
    whole = _Table(document, "", found)
    backbone_path = whole.take("backbone", _text, "")
    out = whole.take("out", _text, "")
    defaults, tables = whole.take("defaults", _table, {}), whole.take("task", _tables, [])
    joint_table = _Table(whole.take("joint", _table, {}), "joint", found)
    whole.refuse_rest()
    for key, value in (("backbone", backbone_path), ("out", out)):
        if not value and key not in document:
            found.add(key, "is missing", expected=f'{key} = "..."')
    if not tables and not found.of("task"):
        found.add("task", "no task is listed", expected='[[task]] with name = "..." and data = "..."')
    own: Backbone | None = None
    if backbone_path:
        backbone_path = str(path.parent / Path(backbone_path).expanduser())
        own = found.attempt("backbone", lambda: backbones.read(backbone_path))
    if out:
        out = _beside(path, out)
        if not storage.is_remote(out):
            found.attempt("out", lambda: files.refuse_unwritable(Path(out) / "results.json"))
    for name in NAMES:
        if name in defaults:
            found.add(f"defaults.{name}", "is each task's own", expected="in [[task]]")
    shared = {key: value for key, value in defaults.items() if key not in NAMES}
    if shared:
        _entries(_Table({"name": "defaults", "data": "-", **shared}, "defaults", found), path, own, check_data=False)
    wrong = {key for key in shared if found.of(f"defaults.{key}")}  # told once, not once a task
    good = {key: value for key, value in shared.items() if key not in wrong}
    entries: list[Entry] = []
    for number, table in enumerate(tables):
        name = table.get("name")
        where = f"task {name}" if isinstance(name, str) and name else f"task number {number + 1}"
        entries += _entries(_Table({**good, **table}, where, found), path, own)
    _refuse_twice([str(table.get("name")).casefold() for table in tables if "name" in table], found)
    _refuse_twice([entry.name.casefold() for entry in entries], found)
    joint = _joint(joint_table, len(tables), entries, own, found)
    found.raise_if_any()
    assert own is not None
    return TasksFile(path, backbone_path, out, tuple(entries), joint), own


def _refuse_twice(names: Sequence[str], found: Problems) -> None:
    """Case does not count: some file systems take upper and lower case for the same."""
    for name, count in collections.Counter(names).items():
        if count > 1 and not found.of(f"task {name}"):
            found.add(f"task {name}", "is listed more than once", got=count, expected="one name a task")


class Problems:
    """What is wrong with a file, gathered so that all of it is told at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[dict[str, Any]] = []

    def add(self, field: str, message: str, **facts: Any) -> None:
        self.found.append({"field": field, "message": message, **facts})

    def of(self, field: str) -> bool:
        """Whether something is wrong with a field already."""
        return any(problem["field"] == field for problem in self.found)

    def attempt(self, field: str, work: Callable[[], Any]) -> Any:
        """What some work gives, or None where it fails, which is kept."""
        try:
            return work()
        except EdgepatchError as error:
            details = dict(error.details)
            inner = details.pop("field", None)
            self.add(field if inner is None else f"{field} ({inner})", error.message, **details)
            return None

    def raise_if_any(self) -> None:
        """
        Raises:
            UsageError: there are problems.
        """
        count = len(self.found)
        if count:
            said = f"{count} {'thing is' if count == 1 else 'things are'} wrong with it, so nothing was trained"
            raise UsageError(said, file=self.path, problems=self.found)


class _Table:
    """A table of the file. What is taken from it is checked; what is left over is not known."""

    def __init__(self, values: Mapping[str, Any], where: str, found: Problems) -> None:
        self.values, self.where, self.found = values, where, found
        self.taken: set[str] = set()

    def field(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def add(self, key: str, message: str, **facts: Any) -> None:
        self.found.add(self.field(key), message, **facts)

    def take(self, key: str, kind: Callable[[Any], Any], default: Any) -> Any:
        """The value of a key as a kind gives it; the default where the key is absent or its value is wrong."""
        self.taken.add(key)
        if key not in self.values:
            return default
        try:
            return kind(self.values[key])
        except _WrongError as wrong:
            got = self.values[key]
            near = difflib.get_close_matches(str(got), wrong.expected.split(" or "), 1) if isinstance(got, str) else []
            message = "is not what it should be" + (f"; did you mean {near[0]}?" if near else "")
            self.add(key, message, got=_shown(got), expected=wrong.expected)
            return default

    def refuse_rest(self) -> None:
        for key in self.values:
            if key not in self.taken:
                near = difflib.get_close_matches(key, self.taken, 1)
                self.add(
                    key,
                    "is not a key that there is" + (f"; did you mean {near[0]}?" if near else ""),
                    expected=", ".join(sorted(self.taken)),
                )


class _WrongError(Exception):
    def __init__(self, expected: str) -> None:
        self.expected = expected


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _WrongError("a text")
    return value


def _word(value: Any) -> str:
    """A text that may be empty."""
    if not isinstance(value, str):
        raise _WrongError("a text")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise _WrongError("letters, digits, . _ and -, at most 100, the first a letter or a digit: it names a file")
    if value.casefold() == "results":
        raise _WrongError("another name: results.json is the table of all tasks")
    return value


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _WrongError("a table")
    return value


def _tables(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise _WrongError("[[task]] tables")
    return value


def _number(low: float, high: float) -> Callable[[Any], float]:
    def kind(value: Any) -> float:
        if not low <= _any_number(value) <= high:
            raise _WrongError(f"a number from {low:g} to {high:g}")
        return float(value)

    return kind


def _count(low: int, high: int) -> Callable[[Any], int]:
    def kind(value: Any) -> int:
        if not low <= _whole(value) <= high:
            raise _WrongError(f"a whole number from {low} to {high}")
        return value

    return kind


def _one_of(choices: Sequence[str]) -> Callable[[Any], str]:
    def kind(value: Any) -> str:
        if value not in choices:
            raise _WrongError(" or ".join(choices))
        return value

    return kind


def _memory(value: Any) -> int:
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?) ?([KMGT]?)B", value) if isinstance(value, str) else None
    if found is None:
        raise _WrongError('a size as "500MB" or "2GB"')
    return int(float(found[1]) * 1000 ** " KMGT".index(found[2] or " "))


def _sizes(value: Any) -> list[int]:
    if not isinstance(value, list) or not value or len(set(map(repr, value))) < len(value):
        raise _WrongError("a list of different sizes in pixels, as [96, 128, 160]")
    return [_count(*imaging.SIZES)(each) for each in value]


def _rows(value: Any) -> tuple[tuple[float, ...], ...]:
    weight = _number(0, 1e6)
    try:
        rows = tuple(tuple(weight(each) for each in row) for row in value)
    except (TypeError, _WrongError) as error:
        raise _WrongError("rows of numbers from 0 up, one a task, as [[1, 0.2], [0.2, 1]]") from error
    if not rows or not all(any(row) for row in rows):
        raise _WrongError("rows of numbers from 0 up, not all of a row 0")
    return rows


def _entries(table: _Table, path: Path, own: Backbone | None, *, check_data: bool = True) -> list[Entry]:
    """The tasks of one `[[task]]`: one, or one a size. Of a table with a fault there may be none."""
    before = len(table.found.found)
    for key in ("name", "data"):
        if key not in table.values:
            table.add(key, "is missing", expected=f'{key} = "..."')
    name, data = table.take("name", _name, ""), table.take("data", _text, "")
    val = table.take("val", _text, "")
    kinds = table.take("patch", _text, "scale_bias")
    options: dict[str, Any] = {
        "codec": table.take("codec", _one_of(codec.CODECS), "fp16"),
        "resize": table.take("resize", _one_of(imaging.RESIZES), "stretch"),
        "licence": table.take("licence", _word, ""),
        "preference": table.take("preference", _number(0, 1e6), 1.0),
        "resources": Resources(
            table.take("cpus", _number(0, 1e4), 1.0),
            table.take("gpus", _number(0, 1e3), 0.0),
            table.take("memory", _memory, 0),
        ),
    }
    size = table.take("size", _count(*imaging.SIZES), own.input.size if own else 0)
    sizes = table.take("sizes", _sizes, [])
    if "size" in table.values and sizes:
        table.add("sizes", "stands beside a size", expected="one of the two")
    if own:
        for each in sizes or [size]:
            table.found.attempt(table.field("size"), functools.partial(own.at, each))
    recipe = _recipe(table)
    table.refuse_rest()
    parsed = table.found.attempt(table.field("patch"), lambda: patches.parse(kinds))
    if own and parsed:
        table.found.attempt(table.field("patch"), lambda: trainer.require_storable(parsed[0], own, recipe))
    if own and parsed and isinstance(parsed[1], MapHead):
        resize = options.get("resize", "stretch")
        table.found.attempt(
            table.field("patch"), lambda: map_training.require_trainable(parsed[0], own, recipe, resize)
        )
    if data and check_data and parsed:
        data, val = _beside(path, data), _beside(path, val) if val else ""
        table.found.attempt(table.field("data"), lambda: _look(data, val, parsed[1]))
    if len(table.found.found) > before or not name:
        return []
    return [
        Entry(f"{name}-{each}" if sizes else name, data, val, kinds, each, recipe=recipe, **options)
        for each in sizes or [size]
    ]


def _recipe(table: _Table) -> Recipe:
    kinds = {"int": _whole, "float": _any_number, "bool": _flag, "str": _text}
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(Recipe):
        value = table.take(field.name, kinds[str(field.type)], None)
        try:
            if value is not None:
                Recipe(**{field.name: value})
                changed[field.name] = value
        except UsageError as error:
            facts = {key: error.details[key] for key in ("got", "expected") if key in error.details}
            table.add(field.name, error.message, **facts)
    return Recipe(**changed)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _WrongError("a whole number")
    return value


def _any_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _WrongError("a number")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _WrongError("true or false")
    return value


def _look(data: str, val: str, head: Head) -> None:
    """Find out whether there are images to train on, for a head, where that takes no download.

    Raises:
        UsageError: there are not.
    """
    for each in (data, val):
        if each and storage.is_remote(each):
            storage.require_folder(each)
    if storage.is_remote(data) or storage.is_remote(val):
        return
    if isinstance(head, MapHead):
        head.splits(Path(data), Path(val) if val else None, 0)
    else:
        folder.training_splits(data, val or None)


def _joint(table: _Table, count: int, entries: Sequence[Entry], own: Backbone | None, found: Problems) -> Joint:
    plain = Joint()
    joint = Joint(
        kernels=table.take("kernels", _text, plain.kernels),
        epochs=table.take("epochs", _count(0, 10_000), plain.epochs),
        mix=table.take("mix", _number(0, 1), plain.mix),
        balance=table.take("balance", _one_of(BALANCES), plain.balance),
        learning_rate=table.take("learning_rate", _number(1e-6, 100), plain.learning_rate),
        preferences=table.take("preferences", _rows, ()),
        affinity_every=table.take("affinity_every", _count(1, 10_000), plain.affinity_every),
        groups=table.take("groups", _count(0, 1000), plain.groups),
    )
    table.refuse_rest()
    if own and joint.kernels != "all":
        found.attempt("joint.kernels", lambda: shared_kernels(joint.kernels, own))
    if joint.preferences and (own_ones := [entry.name for entry in entries if entry.preference != 1]):
        table.add("preferences", "has rows, so a task's own preference counts for nothing", got=own_ones[0])
    tasks = max(count, len(entries))  # a faulty task makes no entry, a task of several sizes makes several
    for number, row in enumerate(joint.preferences):
        if len(row) != tasks:
            table.add(f"preferences row {number + 1}", "has not one number a task", got=len(row), expected=tasks)
    return joint


def shared_kernels(text: str, backbone: Backbone) -> frozenset[int]:
    """Numbers of the sites whose kernels all tasks share and train; `all`, or kinds of patches that have kernels.

    Raises:
        UsageError: there are none.
    """
    if text == "all":
        return frozenset(site.index for site in backbone.plan.sites)
    kernels = patches.combine(patches.parse(text)[0], backbone.plan).kernel
    if not kernels:
        raise UsageError("trains no kernels", field="kernels", got=text, expected="all, bottom:N, top:N or depthwise")
    return kernels


def _beside(path: Path, value: str) -> str:
    """A path of the file: remote as it is, local from the file's folder."""
    return value if storage.is_remote(value) else str(path.parent / Path(value).expanduser())
