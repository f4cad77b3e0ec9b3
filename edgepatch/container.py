"""The container of backbone and patch files: safetensors, read strictly.

A file is eight bytes of little-endian header length, a JSON header, and the tensors' bytes one behind the other.
Any safetensors library reads what `dump` writes. `parse` accepts less than they do: the one metadata entry
`edgepatch` holds one JSON document and `sha256` the hash of that document and all tensors, tensors lie in the
header's order without gaps, and every value is finite.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import struct
from typing import Any

import numpy as np

from edgepatch import files
from edgepatch.errors import BadFileError

Tensors = dict[str, np.ndarray]

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
MAX_HEADER_KIB = 256
MAX_TENSORS = 4096
MAX_RANK = 6
MAX_DIGITS = 4300  # of a whole number, beyond which reading it takes more than its share of time
MAX_DEPTH = 512  # of arrays and objects in JSON: the same in every reader, whatever is left of its stack
ALIGNMENT = 8  # so that every tensor can be viewed in place

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,120}")
_NO_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[^][{}"]+', re.DOTALL)
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def dump(document: dict[str, Any], tensors: Tensors) -> bytes:
    """The bytes of a file that holds `document` and `tensors`, in the order given.

    Raises:
        BadFileError: the document holds something that is not JSON, or a tensor is of a type that files do not have.
    """
    try:
        return _dump(document, tensors)
    except (TypeError, ValueError, KeyError) as error:  # UnicodeEncodeError is a ValueError
        raise BadFileError(f"this cannot be written: {error}", field="document or tensors") from error


def _dump(document: dict[str, Any], tensors: Tensors) -> bytes:
    entries: dict[str, Any] = {}
    chunks = []
    offset = 0
    for name, value in tensors.items():
        data = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).tobytes()
        entries[name] = {
            "dtype": _NAMES[value.dtype.newbyteorder("<")],
            "shape": list(value.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        offset += len(data)
        chunks.append(data)
    words = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    body = b"".join(chunks)
    metadata = {"edgepatch": words, "sha256": _digest(words, entries, body)}
    text = json.dumps({"__metadata__": metadata} | entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text + body


def parse(data: bytes, file: object) -> tuple[dict[str, Any], Tensors]:
    """The document and the tensors of a file; the tensors are read-only views into `data`.

    Raises:
        BadFileError: the first thing found wrong, by field, got and expected.
    """

    def bad(message: str, field: str, got: object, expected: object) -> BadFileError:
        return BadFileError(message, file=file, field=field, got=_short(got), expected=expected)

    if len(data) < 8:
        raise bad("is not an edgepatch file", "size", f"{len(data)} bytes", "at least 8 bytes")
    (length,) = struct.unpack_from("<Q", data)
    if not is_container(data):
        got = "a graph or another model" if files.format_of(data) else "something else"
        raise bad("is not an edgepatch file", "header", got, "a .backbone or an .epatch")
    if length > MAX_HEADER_KIB * 1024:
        raise bad("is not an edgepatch file", "header length", length, f"at most {MAX_HEADER_KIB} KiB")
    if length > len(data) - 8:
        raise bad("is truncated", "header", f"{len(data) - 8} bytes", f"{length} bytes")
    try:
        header = load_json(data[8 : 8 + length])
    except ValueError as error:
        raise bad("has a broken header", "header", error, "one JSON object without duplicate keys") from error
    if not isinstance(header, dict):
        raise bad("has a broken header", "header", type(header).__name__, "a JSON object")
    metadata = header.pop("__metadata__", None)
    document = _document(metadata, bad)
    if len(header) > MAX_TENSORS:
        raise bad("has too many tensors", "header", len(header), f"at most {MAX_TENSORS}")

    body = memoryview(data)[8 + length :]
    tensors: Tensors = {}
    end = 0
    for name, entry in header.items():
        if not _NAME.fullmatch(name):
            raise bad("has a tensor with an odd name", "header", repr(name), "letters, digits and _.:/-")
        dtype, shape, begin, stop = _entry(name, entry, bad)
        if begin != end:
            problem = "tensors that overlap" if begin < end else "a hole between its tensors"
            raise bad(f"has {problem}", f"{name}.data_offsets", begin, end)
        size = math.prod(shape) * dtype.itemsize
        if stop - begin != size:
            raise bad(
                "has a tensor of the wrong size", name, f"{stop - begin} bytes", f"{size} bytes for {list(shape)}"
            )
        if stop > len(body):
            raise bad("is truncated", name, f"{len(body) - begin} bytes", f"{size} bytes")
        try:
            tensors[name] = np.frombuffer(body[begin:stop], dtype).reshape(shape)
        except ValueError as error:  # sizes whose product is 0 may still be too large for an array
            raise bad(
                "has a tensor of an impossible shape", f"{name}.shape", list(shape), "a shape of an array"
            ) from error
        end = stop
    if end != len(body):
        raise bad("has trailing bytes", "size", 8 + length + len(body), 8 + length + end)
    if (digest := _digest(metadata["edgepatch"], header, body)) != metadata["sha256"]:
        raise bad("was changed after it was written", "__metadata__.sha256", digest, metadata["sha256"])
    for name, value in tensors.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise bad("holds NaN or infinity", name, int(np.sum(~np.isfinite(value))), "0 such values")
    return document, tensors


def is_container(data: bytes) -> bool:
    """Whether the bytes start as `dump` writes them: the ninth opens the header. No model's does."""
    return data[8:9] == b"{"


def check_document(document: dict[str, Any], kind: str, version: int, fields: dict[str, type], file: object) -> None:
    """Refuse a document of another kind or format version, or whose fields are not just `fields`.

    Raises:
        BadFileError: the first field found wrong.
    """

    def bad(message: str, field: str, got: object, expected: object, mend: str | None = None) -> BadFileError:
        return BadFileError(message, file=file, field=field, got=_short(got), expected=expected, mend=mend)

    if document.get("kind") != kind:
        raise bad(f"is not a {kind}", "kind", document.get("kind"), kind)
    if document.get("format") != version:
        upgrade = "pip install --upgrade edgepatch"
        raise bad("has a format this version does not know", "format", document.get("format"), version, mend=upgrade)
    for name in [*fields, *document]:
        if name not in fields:
            raise bad("has an unknown field", name, name, ", ".join(fields))
        if type(document.get(name)) is not fields[name]:
            got = type(document[name]).__name__ if name in document else "nothing"
            raise bad("has a broken document", name, got, fields[name].__name__)


def load_json(data: bytes | str) -> Any:
    """JSON as RFC 8259 has it: UTF-8, no duplicate keys, no NaN or infinity, and text that can be written.

    Raises:
        ValueError: it is anything else.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"duplicate key {key!r}")
            found[key] = value
        return found

    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    def finite(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError(f"{text} is too large a number")
        return value

    def whole(text: str) -> int:
        if (digits := len(text.lstrip("-"))) > MAX_DIGITS:
            raise ValueError(f"a number of {digits} digits")
        return int(text)

    text = data if isinstance(data, str) else data.decode()  # of bytes, json would guess at UTF-16 and UTF-32
    if _deep(text):
        raise ValueError("nested too deeply")
    try:
        value = json.loads(
            text, object_pairs_hook=unique, parse_constant=no_constant, parse_float=finite, parse_int=whole
        )
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is JSON, but no text
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def _deep(text: str) -> bool:
    """Whether more than `MAX_DEPTH` arrays and objects of a JSON text lie in each other."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    brackets = _NO_BRACKETS.sub("", text)
    return max(itertools.accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0) > MAX_DEPTH


def alike(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: in Python 1, 1.0 and True are equal, in a file they are not."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _digest(words: str, entries: dict[str, Any], body: bytes | memoryview) -> str:
    digest = hashlib.sha256(words.encode())
    digest.update(json.dumps(entries, separators=(",", ":"), sort_keys=True).encode())
    digest.update(body)
    return digest.hexdigest()


def _document(metadata: Any, bad: Any) -> dict[str, Any]:
    if (
        not isinstance(metadata, dict)
        or set(metadata) != {"edgepatch", "sha256"}
        or not all(isinstance(value, str) for value in metadata.values())
    ):
        got = sorted(metadata) if isinstance(metadata, dict) else type(metadata).__name__
        raise bad("is not an edgepatch file", "__metadata__", got, "two strings, edgepatch and sha256")
    try:
        document = load_json(metadata["edgepatch"])
    except ValueError as error:
        raise bad("has a broken document", "__metadata__.edgepatch", error, "one JSON object") from error
    if not isinstance(document, dict):
        raise bad("has a broken document", "__metadata__.edgepatch", type(document).__name__, "a JSON object")
    return document


def _entry(name: str, entry: Any, bad: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise bad("has a broken header", name, entry, "dtype, shape and data_offsets")
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise bad("has a tensor of a type that is not allowed", f"{name}.dtype", entry["dtype"], " ".join(DTYPES))
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _naturals(shape) or len(shape) > MAX_RANK:
        raise bad("has a broken header", f"{name}.shape", shape, f"at most {MAX_RANK} sizes")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise bad("has a broken header", f"{name}.data_offsets", offsets, "begin and end")
    return dtype, tuple(shape), int(offsets[0]), int(offsets[1])


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**40 for item in value)


def _short(value: object) -> str | int:
    if isinstance(value, int):
        return value
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
