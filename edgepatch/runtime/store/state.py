"""What is installed: the document in state.json, read strictly.

The document holds the SHA-256 of itself, so that a flipped bit in a hash or a version is seen as one in the braces is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from edgepatch import container
from edgepatch.errors import BadFileError, EdgepatchError

FORMAT = 1
MAX_BYTES = 8 * 1024 * 1024  # about 20,000 tasks
MAX_NUMBER = 2**63 - 1  # of a version, a size, a serial: other languages read the file too
GRAPH_FORMATS = ("tflite", "onnx")
PRECISIONS = ("fp32", "fp16", "dynamic", "int8")

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class SharedGraph:
    """The shared graph of a store.

    Attributes:
        sha256: of the file.
        bytes: its size.
        format: `tflite` or `onnx`.
        precision: `fp32`, `fp16`, `dynamic` or `int8`.
        backbone_id: SHA-256 of the backbone, which every active patch is of.
    """

    sha256: str
    bytes: int
    format: str
    precision: str
    backbone_id: str

    @property
    def name(self) -> str:
        """Of its file under objects/."""
        return f"{self.sha256}.{self.format}"


@dataclasses.dataclass(frozen=True)
class Version:
    """A patch in a store.

    Attributes:
        sha256: of the file.
        bytes: its size.
        version: the patch's own.
    """

    sha256: str
    bytes: int
    version: int

    @property
    def name(self) -> str:
        """Of its file under objects/."""
        return f"{self.sha256}.epatch"


@dataclasses.dataclass(frozen=True)
class Newest:
    """The largest version of a task that was ever installed, below which nothing is unless forced; outlives removal."""

    version: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Task:
    """A task in a store.

    Attributes:
        active: the patch that a runtime is given; None once removed.
        previous: what was active before it, to roll back to; None where nothing was, or nothing of this backbone.
        newest: the floor for what may be installed.
    """

    active: Version | None
    previous: Version | None
    newest: Newest

    @property
    def versions(self) -> list[Version]:
        """Those whose files the store keeps."""
        return [version for version in (self.active, self.previous) if version]


@dataclasses.dataclass(frozen=True)
class State:
    """What is installed.

    Attributes:
        serial: grows by one with each change.
        graph: the shared graph.
        tasks: by name, in order of first installation; with those removed, for their floor.
    """

    serial: int
    graph: SharedGraph
    tasks: Mapping[str, Task]

    @property
    def active(self) -> dict[str, Version]:
        """The patches that a runtime is given."""
        return {name: task.active for name, task in self.tasks.items() if task.active}

    @property
    def objects(self) -> dict[str, int]:
        """The files it needs under objects/, with their sizes in bytes."""
        versions = [version for task in self.tasks.values() for version in task.versions]
        return {self.graph.name: self.graph.bytes} | {version.name: version.bytes for version in versions}


def dump(state: State) -> bytes:
    """The bytes of state.json.

    Raises:
        EdgepatchError: there are more tasks than `parse` would read.
    """
    document = {"format": FORMAT, **dataclasses.asdict(state)}
    data = json.dumps({**document, "sha256": _digest(document)}, ensure_ascii=False).encode()
    if len(data) > MAX_BYTES:
        raise EdgepatchError(
            "a store cannot hold so many tasks",
            field="state.json",
            got=f"{len(data)} bytes",
            expected=f"at most {MAX_BYTES} bytes",
            mend="Forget removed ones: edgepatch store remove STORE TASK --forget",
        )
    return data


def parse(data: bytes, file: object) -> State:
    """The state in the bytes of state.json.

    Raises:
        BadFileError: the first thing found wrong, by field, got and expected.
    """

    def bad(message: str, field: str, got: object, expected: object, mend: str | None = None) -> BadFileError:
        return BadFileError(message, file=file, field=field, got=_short(got), expected=expected, mend=mend)

    if len(data) > MAX_BYTES:
        raise bad("is too large", "size", len(data), f"at most {MAX_BYTES} bytes")
    try:
        document = container.load_json(data)
    except ValueError as error:
        raise bad("is damaged", "JSON", _no_json(data, error), "one JSON object without duplicate keys") from error
    if not isinstance(document, dict):
        raise bad("is damaged", "JSON", type(document).__name__, "an object")
    written = document.pop("sha256", None)
    if written != (digest := _digest(document)):
        raise bad("was changed after it was written", "sha256", written, digest)
    if document.get("format") != FORMAT or type(document["format"]) is not int:
        upgrade = "pip install --upgrade edgepatch"
        raise bad("has a format this version does not know", "format", document.get("format"), FORMAT, upgrade)
    try:
        fields = _fields(document, "state", ("format", "serial", "graph", "tasks"))
        graph = SharedGraph(
            **_fields(fields["graph"], "graph", [field.name for field in dataclasses.fields(SharedGraph)])
        )
        _hash(graph.sha256, "graph.sha256")
        _hash(graph.backbone_id, "graph.backbone_id")
        _number(graph.bytes, "graph.bytes")
        _one_of(graph.format, GRAPH_FORMATS, "graph.format")
        _one_of(graph.precision, PRECISIONS, "graph.precision")
        if not isinstance(fields["tasks"], dict):
            raise _WrongError("tasks", fields["tasks"], "an object")
        tasks = {name: _task(name, value) for name, value in fields["tasks"].items()}
        return State(_number(fields["serial"], "serial"), graph, tasks)
    except _WrongError as wrong:
        raise bad("is no state of a store", *wrong.facts) from None


class _WrongError(Exception):
    """A field, what was found there, and what should have been."""

    def __init__(self, field: str, got: object, expected: object) -> None:
        super().__init__(field)
        self.facts = field, got, expected


def _task(name: str, value: Any) -> Task:
    if not 0 < len(name) <= 100 or not name.isprintable():
        raise _WrongError("tasks", repr(name), "names of 1 to 100 printable characters")
    where = f"tasks.{name}"
    fields = _fields(value, where, ("active", "previous", "newest"))
    newest = Newest(**_fields(fields["newest"], f"{where}.newest", ("version", "sha256")))
    _number(newest.version, f"{where}.newest.version")
    _hash(newest.sha256, f"{where}.newest.sha256")
    task = Task(
        _version(fields["active"], f"{where}.active"), _version(fields["previous"], f"{where}.previous"), newest
    )
    if task.previous and not task.active:
        raise _WrongError(f"{where}.previous", task.previous.version, "none, as none is active")
    for version in task.versions:
        if version.version > newest.version:
            raise _WrongError(f"{where}.newest.version", newest.version, f"at least {version.version}")
    return task


def _version(value: Any, where: str) -> Version | None:
    if value is None:
        return None
    version = Version(**_fields(value, where, ("sha256", "bytes", "version")))
    _hash(version.sha256, f"{where}.sha256")
    _number(version.bytes, f"{where}.bytes")
    _number(version.version, f"{where}.version")
    return version


def _fields(value: Any, where: str, names: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        got = ", ".join(value) if isinstance(value, dict) else type(value).__name__
        raise _WrongError(where, got, f"an object of {', '.join(names)}")
    return value


def _hash(value: Any, where: str) -> None:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise _WrongError(where, value, "64 hexadecimal digits")


def _number(value: Any, where: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_NUMBER:
        raise _WrongError(where, value, f"1 to {MAX_NUMBER}")
    return value


def _one_of(value: Any, names: tuple[str, ...], where: str) -> None:
    if value not in names:
        raise _WrongError(where, value, " or ".join(names))


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _no_json(data: bytes, error: ValueError) -> str:
    """What there is in place of JSON."""
    if not data.strip(b"\0"):
        return f"{len(data)} bytes, all of them zero" if data else "nothing: the file is empty"
    if isinstance(error, json.JSONDecodeError):
        return f"{len(data)} bytes that are no JSON from character {error.pos} on"
    if isinstance(error, UnicodeDecodeError):
        return f"{len(data)} bytes that are no UTF-8 from byte {error.start} on"
    return str(error)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
