"""Flatbuffers, as far as a .tflite needs: found, pointed elsewhere and cut down, without a parser's package."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Collection, Iterable

from edgepatch.runtime.formats import names

# fields of the TFLite schema's tables, by number
MODEL_CODES, MODEL_SUBGRAPHS, MODEL_BUFFERS, MODEL_METADATA, MODEL_SIGNATURES = 1, 2, 4, 6, 7
SUBGRAPH_TENSORS, SUBGRAPH_INPUTS, SUBGRAPH_OUTPUTS, SUBGRAPH_OPERATORS = 0, 1, 2, 3
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME, TENSOR_QUANTIZATION = 0, 1, 2, 3, 4
QUANTIZATION_SCALE, QUANTIZATION_ZERO_POINT = 2, 3
OPERATOR_CODE, OPERATOR_INPUTS, OPERATOR_OUTPUTS, OPERATOR_KIND, OPERATOR_OPTIONS = 0, 1, 2, 3, 4
CONVOLUTION_PADDING, CONVOLUTION_STRIDE = 0, 1  # of a depthwise one's options, too
SIGNATURE_KEY, SIGNATURE_SUBGRAPH = 2, 4
METADATA_NAME, METADATA_BUFFER = 0, 1
BUFFER_DATA = 0

KEY = "edgepatch"  # of the metadata, in both formats
# Vectors may lie upon each other: a million tables of a megabyte each fit into two megabytes. So they are bounded.
MAX_TABLES, MAX_NUMBERS, MAX_TEXT = 65_536, 64, 1024
ALIGNMENT = 16  # of a buffer's data: the schema's own rule

Span = tuple[int, int]
Edit = tuple[int, bytes | memoryview]  # where, and the bytes that go there in place of as many
Vector = tuple[int, bytes, int]  # the place of a field, the bytes it is to be pointed at, and how many items they are


@dataclasses.dataclass(frozen=True)
class View:
    """One form of a graph alone.

    Attributes:
        edits: those that leave nothing else to be seen.
        subgraph: where its subgraph stands in a .tflite.
    """

    edits: list[Edit]
    subgraph: int = 0


class Table:
    """A flatbuffer table: fields by number, absent ones None.

    Anything that leads out of the data raises `struct.error`, `IndexError` or `ValueError`.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.vtable = position - struct.unpack_from("<i", data, position)[0]
        if position < 0 or self.vtable < 0:  # Python counts such places from the end, and interpreters do not
            raise ValueError("a table before the file")
        self.count = (struct.unpack_from("<H", data, self.vtable)[0] - 4) // 2

    def at(self, field: int) -> int | None:
        """Where a field's value stands in the data."""
        if field >= self.count:
            return None
        offset: int = struct.unpack_from("<H", self.data, self.vtable + 4 + 2 * field)[0]
        return self.position + offset if offset else None

    def need(self, field: int) -> int:
        """As `at`, for a field that must be there."""
        place = self.at(field)
        if place is None:
            raise ValueError(f"field {field} is absent")
        return place

    def number(self, field: int) -> int:
        """A field of 32 bits; 0, the schema's default, where it is absent."""
        place = self.at(field)
        return 0 if place is None else int(struct.unpack_from("<I", self.data, place)[0])

    def byte(self, field: int) -> int:
        """A field of 8 bits; 0, the schema's default, where it is absent."""
        place = self.at(field)
        return 0 if place is None else self.data[place]

    def follow(self, field: int) -> int | None:
        """Where a field's vector, string or table stands."""
        place = self.at(field)
        return None if place is None else _follow(self.data, place)

    def table(self, field: int) -> Table:
        """The table a field points at."""
        self.need(field)
        return Table(self.data, self.follow(field) or 0)

    def tables(self, field: int) -> list[int]:
        """Positions of the tables of a vector."""
        begin, end = self.span(field, 4) or (0, 0)
        if end - begin > 4 * MAX_TABLES:
            raise ValueError(f"a vector of {(end - begin) // 4} tables")
        return [_follow(self.data, at) for at in range(begin, end, 4)]

    def numbers(self, field: int) -> list[int]:
        """A vector of 32-bit integers: a shape, or what an operator reads or makes."""
        begin, end = self.span(field, 4) or (0, 0)
        if end - begin > 4 * MAX_NUMBERS:
            raise ValueError(f"a vector of {(end - begin) // 4} numbers")
        return list(struct.unpack_from(f"<{(end - begin) // 4}i", self.data, begin))

    def text(self, field: int) -> str:
        """A name; empty where it is absent."""
        begin, end = self.span(field) or (0, 0)
        if end - begin > MAX_TEXT:
            raise ValueError(f"a name of {end - begin} bytes")
        return names.text(self.data[begin:end])

    def span(self, field: int, width: int = 1) -> Span | None:
        """Begin and end of a string, or of a vector whose items are `width` bytes wide."""
        place = self.follow(field)
        if place is None:
            return None
        begin, end = place + 4, place + 4 + width * struct.unpack_from("<I", self.data, place)[0]
        if end > len(self.data):
            raise ValueError("a vector longer than the file")
        return begin, end

    def vector(self, field: int, width: int = 1) -> Span:
        """As `span`, for one that must be there."""
        span = self.span(field, width)
        if span is None:
            raise ValueError(f"field {field} is absent")
        return span


def _follow(data: bytes, place: int) -> int:
    """Where the offset at a place points to: forward, as all of a flatbuffer's but those to vtables."""
    target: int = place + struct.unpack_from("<I", data, place)[0]
    if target > len(data):
        raise ValueError("an offset that leads out of the file")
    return target


def root(data: bytes) -> Table:
    """The Model table of a .tflite."""
    return Table(data, _follow(data, 0))


def signatures(data: bytes) -> dict[str, Table]:
    """The signatures of a model, by key."""
    tables = (Table(data, at) for at in root(data).tables(MODEL_SIGNATURES))
    return {table.text(SIGNATURE_KEY): table for table in tables}


def subgraph(data: bytes, signature: str) -> Table:
    """The subgraph that a signature calls."""
    index = signatures(data)[signature].number(SIGNATURE_SUBGRAPH)
    return Table(data, root(data).tables(MODEL_SUBGRAPHS)[index])


def keep(data: bytes, signature: str) -> list[Edit]:
    """Edits that leave a model with one signature and its subgraph: an interpreter prepares every subgraph it sees."""
    model, kept = root(data), signatures(data)[signature]
    wanted = {MODEL_SUBGRAPHS: subgraph(data, signature).position, MODEL_SIGNATURES: kept.position}
    edits: list[Edit] = []
    for field, position in wanted.items():
        vector = model.need(field) + struct.unpack_from("<I", data, model.need(field))[0]
        edits.append((vector, struct.pack("<II", 1, position - vector - 4)))
    if (index := kept.at(SIGNATURE_SUBGRAPH)) is not None:
        edits.append((index, bytes(4)))
    return edits


def shorten(data: bytes, vector: int, wanted: list[int]) -> Edit:
    """The edit that leaves of a vector of tables those with the `wanted` numbers, in their order.

    Args:
        vector: where it stands, its length first.
    """
    kept = [struct.unpack_from("<I", data, vector + 4 + 4 * number)[0] + 4 * number for number in wanted]
    offsets = [target - 4 * place for place, target in enumerate(kept)]  # each counts from its own place
    return vector, struct.pack(f"<{1 + len(offsets)}I", len(offsets), *offsets)


def forget_codes(data: bytes, used: Collection[int]) -> list[Edit]:
    """Edits that make each operator code but the `used` ones another name for one of these.

    TensorFlow's calibrator knows the codes of operators that are there, and refuses a model that lists others.
    """
    span = root(data).span(MODEL_CODES, 4)
    codes = root(data).tables(MODEL_CODES)
    if span is None or not used:
        return []
    slots, other = range(*span, 4), max(codes[number] for number in used)  # offsets point forward only
    idle = (slot for number, slot in enumerate(slots) if number not in used)
    return [(slot, struct.pack("<I", other - slot)) for slot in idle if other > slot]


def point(end: int, vectors: Iterable[Vector]) -> tuple[list[Edit], bytes]:
    """Edits that point fields at vectors behind the end of a file, and those vectors.

    Offsets point forward only, so what does not fit its old place goes to the end.

    Args:
        end: length of the file.
        vectors: what is put there, and the fields' places.
    """
    edits: list[Edit] = []
    tail = bytearray()
    for place, content, count in vectors:
        tail += bytes(-(end + len(tail) + 4) % ALIGNMENT)
        edits.append((place, struct.pack("<I", end + len(tail) - place)))
        tail += struct.pack("<I", count) + content
    tail += bytes(-(end + len(tail)) % ALIGNMENT)
    return edits, bytes(tail)


def splice(data: bytes, edits: Iterable[Edit], tail: bytes = b"") -> bytes:
    """A copy of the data with the edits made and the tail behind it; the data is copied once.

    Raises:
        ValueError: edits overlap or lead out of the data.
    """
    pieces: list[bytes | memoryview] = []
    view, end = memoryview(data), 0
    for begin, content in sorted(edits, key=lambda edit: edit[0]):
        if begin < end or begin + len(content) > len(data):
            raise ValueError(f"an edit at {begin} overlaps another or leads out of the file")
        pieces += [view[end:begin], content]
        end = begin + len(content)
    return b"".join([*pieces, view[end:], tail])
