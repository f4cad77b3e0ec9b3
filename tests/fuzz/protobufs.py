"""An .onnx changed field by field, the lengths around each field reckoned anew or left wrong."""

from __future__ import annotations

from typing import Any

from edgepatch.runtime.formats import protobuf

from .dice import Dice

# numbers of fields that are messages, by the path that leads to them
MESSAGES = {
    (7,),
    (14,),
    (8,),
    (7, 1),
    (7, 5),
    (7, 11),
    (7, 12),
    (7, 13),
    (7, 1, 5),
    (7, 11, 2),
    (7, 11, 2, 1),
    (7, 11, 2, 1, 2),
    (7, 11, 2, 1, 2, 1),
    (7, 12, 2),
    (7, 5, 13),
}
VARINTS = (
    b"\x00",
    b"\x7f",
    b"\x80\x80\x00",  # overlong
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\xff" * 9 + b"\x01",
    b"\x80" * 10,
    b"\xff" * 20,
)

Field = list[Any]  # its key's and length's bytes as they are to be written or None, its number, wire type and content


def tree(data: bytes, path: tuple[int, ...] = ()) -> list[Field]:
    """The fields of a message, those that are messages taken apart in turn.

    Raises:
        ValueError, IndexError: it is none.
    """
    found: list[Field] = []
    last = 0
    for number, begin, end in protobuf.fields(data, 0, len(data)):
        wire = protobuf._varint(data, last)[0] & 7
        content: Any = data[begin:end]
        inner = (*path, number)
        if wire == 2 and inner in MESSAGES:
            content = tree(content, inner)
        found.append([None, number, wire, content])
        last = end
    return found


def written(fields: list[Field]) -> bytes:
    """The inverse of `tree`."""
    pieces = []
    for raw, number, wire, content in fields:
        body = written(content) if isinstance(content, list) else content
        if raw is not None:
            pieces += [raw, body]
        elif wire == 2:
            pieces.append(protobuf._field(number, body))
        else:
            pieces += [protobuf._encode(number << 3 | wire), body]
    return b"".join(pieces)


def changed(data: bytes, dice: Dice, spare: bytes = b"") -> bytes:
    """A model with one to three fields changed; blindly where it is none.

    Args:
        spare: bytes of a field that is mostly left alone.
    """
    try:
        root = tree(data)
    except (ValueError, IndexError):
        return dice.blind(data, len(data) + 64)
    for _ in range(1 + dice.below(3)):
        level = root
        while level:  # some way down
            deeper = [field[3] for field in level if isinstance(field[3], list) and field[3]]
            if not deeper or dice.one_in(3):
                break
            level = dice.pick(deeper)
        if level:
            _change(level, dice, spare)
    return written(root)


def _change(fields: list[Field], dice: Dice, spare: bytes) -> None:
    at = dice.below(len(fields))
    field = fields[at]
    if spare and field[3] == spare and not dice.one_in(8):
        return
    match dice.below(9):
        case 0:
            fields.pop(at)
        case 1:
            fields.insert(dice.below(len(fields) + 1), list(field))
        case 2:
            other = dice.below(len(fields))
            fields[at], fields[other] = fields[other], fields[at]
        case 3:
            field[1] = dice.pick((0, 1, 2, 5, 7, 8, 9, 14, 2**29 - 1, dice.below(30)))
        case 4:
            field[2] = dice.below(8)
        case 5:  # a length that lies
            field[0] = protobuf._encode(field[1] << 3 | 2) + dice.pick(VARINTS)
        case 6 if not isinstance(field[3], list) and field[2] == 0:
            field[3] = dice.pick(VARINTS)
        case 7 if not isinstance(field[3], list):
            field[3] = dice.pick([dice.text().encode(errors="replace"), b"", bytes(70)])
        case _ if not isinstance(field[3], list):
            field[3] = dice.blind(field[3], len(field[3]) + 64)


def relocated(data: bytes, span: protobuf.Span, packed: bytes) -> bytes:
    """A model whose metadata value at `span` is another."""
    last = 0
    for number, begin, end in protobuf.fields(data, 0, len(data)):
        if number == protobuf.MODEL_METADATA and begin <= span[0] and span[1] <= end:
            entry = protobuf._field(protobuf.ENTRY_KEY, b"edgepatch") + protobuf._field(protobuf.ENTRY_VALUE, packed)
            return data[:last] + protobuf._field(number, entry) + data[end:]
        last = end
    return data
