"""The shared graph's own file: what edgepatch wrote into it, found without an interpreter.

A .tflite (a flatbuffer) and an .onnx (a protobuf) both carry one container (`edgepatch.container`) as metadata: a
document that says what the graph is, and the backbone's own values of its inputs. The document holds the hash of all
other bytes of the file, so that a damaged graph is refused before any interpreter sees it: they do not all survive one.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import hashlib
import os
import struct
from collections.abc import Iterator
from typing import Any

from edgepatch import container, files
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, MismatchError
from edgepatch.imaging import Preprocessing

FORMAT = 1
KEY = "edgepatch"
MAX_BYTES = 1024 * 1024 * 1024

_FIELDS = {
    "kind": str,
    "format": int,
    "architecture": str,
    "alpha": float,
    "backbone_id": str,
    "precision": str,
    "forms": list,
    "input": dict,
    "sites": list,
    "inputs": dict,
    "graph_sha256": str,
}


@dataclasses.dataclass(frozen=True)
class Graph:
    """A shared graph, checked.

    Attributes:
        data: the bytes of the file.
        format: `tflite` or `onnx`.
        document: what it says of itself.
        input: how the backbone's own pictures are prepared; the size is the graph's.
        inputs: shape of each patch input by name; None where any length will do.
        defaults: the backbone's own values of some inputs, for patches that leave them alone.
    """

    data: bytes
    format: str
    document: dict[str, Any]
    input: Preprocessing
    inputs: dict[str, tuple[int | None, ...]]
    defaults: Tensors

    @functools.cached_property
    def backbone_id(self) -> str:
        return str(self.document["backbone_id"])


def read(path: str | os.PathLike[str]) -> Graph:
    """The shared graph in a file.

    Raises:
        UsageError: there is no such file.
        BadFileError: it is no graph, was not exported by edgepatch, or was changed since.
    """
    return parse(files.read(path, limit=MAX_BYTES), path)


def parse(data: bytes, file: object) -> Graph:
    """The shared graph of a file's bytes; see `read`."""
    kind = format_of(data)
    if kind is None or data[8:9] == b"{":  # a backbone's or a patch's header
        raise BadFileError(
            "is neither a .tflite nor an .onnx graph",
            file=file,
            got="a backbone or a patch" if data[8:9] == b"{" else "something else",
            mend="Export one: edgepatch export BACKBONE --to tflite --out FILE.tflite; patches go to --patch.",
        )
    span = find(data, kind)
    if span is None:
        raise MismatchError(
            "is not a shared graph: it was not exported by edgepatch, or is cut short",
            file=file,
            field=f"metadata {KEY}",
            got="nothing",
            mend="Make one: edgepatch export BACKBONE --to tflite --out FILE",
        )
    document, defaults = container.parse(unpack(data[slice(*span)], kind, file), file)
    container.check_document(document, "graph", FORMAT, _FIELDS, file)
    if (digest := hash_around(data, span)) != document["graph_sha256"]:
        raise BadFileError(
            "was changed after it was exported",
            file=file,
            field="graph_sha256",
            got=digest,
            expected=document["graph_sha256"],
            mend="Copy or export it again.",
        )
    try:
        preprocessing = Preprocessing.from_json(document["input"])
        inputs = {name: tuple(shape) for name, shape in document["inputs"].items()}
        if not all(side is None or type(side) is int for shape in inputs.values() for side in shape):
            raise ValueError("inputs have shapes of something other than numbers")
        if not all(isinstance(form, str) for form in document["forms"]):
            raise ValueError("forms are not strings")
        for name, value in defaults.items():
            if inputs.get(name) != value.shape:
                raise ValueError(f"the default of {name} does not fit its input")
    except (ValueError, TypeError) as error:
        raise BadFileError(f"has a broken document: {error}", file=file, field="input") from error
    return Graph(data, kind, document, preprocessing, inputs, defaults)


def format_of(data: bytes) -> str | None:
    """`tflite` or `onnx` by the first bytes, or None."""
    if data[4:8] == b"TFL3":
        return "tflite"
    if data[:1] == b"\x08":  # field 1, ir_version: what every ONNX writer puts first
        return "onnx"
    return None


def find(data: bytes, kind: str) -> tuple[int, int] | None:
    """Begin and end of the container among the file's bytes, or None."""
    try:
        return _find_in_tflite(data) if kind == "tflite" else _find_in_onnx(data)
    except (struct.error, IndexError, ValueError):
        return None


def hash_around(data: bytes, span: tuple[int, int]) -> str:
    """SHA-256 of everything but the container."""
    digest = hashlib.sha256(memoryview(data)[: span[0]])
    digest.update(memoryview(data)[span[1] :])
    return digest.hexdigest()


def pack(payload: bytes, kind: str) -> bytes:
    """A container as it stands in a file: ONNX metadata is text."""
    return payload if kind == "tflite" else base64.b64encode(payload)


def unpack(packed: bytes, kind: str, file: object) -> bytes:
    """The inverse of `pack`.

    Raises:
        BadFileError: it is not what `pack` writes.
    """
    if kind == "tflite":
        return packed
    try:
        return base64.b64decode(packed, validate=True)
    except binascii.Error as error:
        raise BadFileError(f"has broken metadata: {error}", file=file, field=f"metadata {KEY}") from error


class Table:
    """A flatbuffer table: fields by number, absent ones None."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.vtable = position - struct.unpack_from("<i", data, position)[0]
        self.count = (struct.unpack_from("<H", data, self.vtable)[0] - 4) // 2

    def at(self, field: int) -> int | None:
        """Where a field's value stands in the data."""
        if field >= self.count:
            return None
        offset: int = struct.unpack_from("<H", self.data, self.vtable + 4 + 2 * field)[0]
        return self.position + offset if offset else None

    def follow(self, field: int) -> int | None:
        """Where a field's vector, string or table stands."""
        place = self.at(field)
        return None if place is None else place + struct.unpack_from("<I", self.data, place)[0]

    def tables(self, field: int) -> list[int]:
        """Positions of the tables of a vector."""
        place = self.follow(field)
        if place is None:
            return []
        (count,) = struct.unpack_from("<I", self.data, place)
        if count * 4 > len(self.data):
            raise ValueError("a vector longer than the file")
        places = range(place + 4, place + 4 + 4 * count, 4)
        return [at + struct.unpack_from("<I", self.data, at)[0] for at in places]

    def span(self, field: int) -> tuple[int, int] | None:
        """Begin and end of a string or a vector of bytes."""
        place = self.follow(field)
        if place is None:
            return None
        (length,) = struct.unpack_from("<I", self.data, place)
        if place + 4 + length > len(self.data):
            raise ValueError("a vector longer than the file")
        return place + 4, place + 4 + length


# fields of the TFLite schema's Model, Metadata and Buffer tables
MODEL_BUFFERS, MODEL_METADATA = 4, 6
METADATA_NAME, METADATA_BUFFER = 0, 1
BUFFER_DATA = 0


def root(data: bytes) -> Table:
    """The Model table of a .tflite."""
    return Table(data, struct.unpack_from("<I", data)[0])


def _find_in_tflite(data: bytes) -> tuple[int, int] | None:
    model = root(data)
    buffers = model.tables(MODEL_BUFFERS)
    for position in model.tables(MODEL_METADATA):
        entry = Table(data, position)
        name, index = entry.span(METADATA_NAME), entry.at(METADATA_BUFFER)
        if name and index and data[slice(*name)] == KEY.encode():
            return Table(data, buffers[struct.unpack_from("<I", data, index)[0]]).span(BUFFER_DATA)
    return None


_ONNX_METADATA, _ENTRY_KEY, _ENTRY_VALUE = 14, 1, 2  # ModelProto.metadata_props, StringStringEntryProto


def _find_in_onnx(data: bytes) -> tuple[int, int] | None:
    for field, begin, end in _protobuf(data, 0, len(data)):
        if field != _ONNX_METADATA:
            continue
        entry = {number: (start, stop) for number, start, stop in _protobuf(data, begin, end)}
        if data[slice(*entry.get(_ENTRY_KEY, (0, 0)))] == KEY.encode():
            return entry.get(_ENTRY_VALUE)
    return None


def _protobuf(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field of a message."""
    while begin < end:
        key, begin = _varint(data, begin)
        wire = key & 7
        if wire == 2:
            length, begin = _varint(data, begin)
        elif wire == 0:
            length = _varint(data, begin)[1] - begin
        else:
            length = {1: 8, 5: 4}.get(wire, end)
        if begin + length > end:
            raise ValueError("a field longer than its message")
        yield key >> 3, begin, begin + length
        begin += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number too long")
