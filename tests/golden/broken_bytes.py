"""Broken patches: the bytes, and the header."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

from edgepatch import container

from . import source
from .forging import Case, Document


def raw_bytes() -> Iterator[Case]:
    of = "scale_bias.epatch"
    data = source(of)
    (length,) = struct.unpack_from("<Q", data)
    yield "empty", of, b""
    yield "seven_bytes", of, data[:7]
    yield "cut_in_header", of, data[: length // 2]
    yield "cut_in_tensors", of, data[:-100]
    yield "trailing_byte", of, data + b"\0"
    yield "flipped_in_tensors", of, data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]
    yield "flipped_in_document", of, data.replace(b"class 1", b"class 9")
    yield "a_graph", "gated-fp32.tflite", source("gated-fp32.tflite")[:400]
    yield "text", of, b"this is no patch at all"
    yield "huge_header", of, struct.pack("<Q", 2**62) + data[8:]
    yield "negative_header", of, struct.pack("<Q", 2**64 - 8) + data[8:]
    yield "header_over_cap", of, struct.pack("<Q", 256 * 1024 + 1) + data[8:]


def headers() -> Iterator[Case]:
    of = "scale_bias.epatch"
    data = source(of)

    def raw(text: str | bytes) -> bytes:
        header = text.encode() if isinstance(text, str) else text
        return struct.pack("<Q", len(header)) + header + b"body"

    for name, text in {
        "unclosed": '{"a":1',
        "two_values": "{}{}",
        "deep": '{"a":' * 2000,
        "deep_lists": '{"a":' + "[" * 2000,
        "nan": '{"a":NaN}',
        "minus_infinity": '{"a":-Infinity}',
        "too_large": '{"a":1e999}',
        "leading_zero": '{"a":01}',
        "bare_point": '{"a":1.}',
        "plus": '{"a":+1}',
        "comma": '{"a":1,}',
        "no_colon": '{"a" 1}',
        "single_quotes": "{'a':1}",
        "control": '{"a":"\n"}',
        "escape": '{"a":"\\x"}',
        "short_escape": '{"a":"\\u12"}',
        "surrogate": '{"a":"\\ud800"}',
        "not_utf8": b'{"a":"\xff"}',
        "surrogate_bytes": b'{"a":"\xed\xa0\x80"}',
        "overlong": b'{"a":"\xc0\x80"}',
        "comment": '{"a":1/**/}',
        "word": '{"a":True}',
        "number_of_5000_digits": '{"a":' + "1" * 5000 + "}",
        "duplicate_within": '{"a":{"b":1,"b":1}}',
        "no_metadata": '{"a":1}',
        "no_break_space": '{"a":\u00a01}',
        "one_nest_too_many": '{"a":' + "[" * 512 + "]" * 512 + "}",
        "digits_beyond_ascii": '{"a":\u0661}',
        "form_feed": '{"a":\f1}',
        "escaped_twice": '{"a":1,"\\u0061":2}',
        "backwards_surrogates": '{"a":"\\udc00\\ud800"}',
        **{f"as_{code}": '{"a":1}'.encode(code) for code in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32-le")},
    }.items():
        yield f"header_{name}", of, raw(text)

    def header(change: Callable[[Document], Any]) -> bytes:
        """The file with another header, and a checksum to match where there is something to sum up."""
        (length,) = struct.unpack_from("<Q", data)
        found = json.loads(data[8 : 8 + length])
        text, metadata = change(found), found["__metadata__"]
        if isinstance(metadata, dict) and isinstance(metadata["sha256"], str):
            entries = {each: value for each, value in found.items() if each != "__metadata__"}
            metadata["sha256"] = container._digest(metadata["edgepatch"], entries, data[8 + length :])
        encoded = (text if isinstance(text, str) else json.dumps(found)).encode()
        return struct.pack("<Q", len(encoded)) + encoded + data[8 + length :]

    def end(found: Document) -> int:
        return int(found["ranges"]["data_offsets"][1])

    for name, change in {
        "metadata_list": lambda found: found.update(__metadata__=[]),
        "metadata_more": lambda found: found["__metadata__"].update(more=""),
        "metadata_numbers": lambda found: found["__metadata__"].update(sha256=1),
        "document_list": lambda found: found["__metadata__"].update(edgepatch="[]"),
        "document_open": lambda found: found["__metadata__"].update(edgepatch="{"),
        "document_marked": lambda found: found["__metadata__"].update(edgepatch="\ufeff{}"),
        "document_twice": lambda found: found["__metadata__"].update(edgepatch='{"a":1,"a":2}'),
        "document_surrogate": lambda found: found["__metadata__"].update(edgepatch='{"a":"\\ud800"}'),
        "document_empty": lambda found: found["__metadata__"].update(edgepatch="{}"),
        "duplicate": lambda found: json.dumps(found)[:-1] + ', "scale": ' + json.dumps(found["scale"]) + "}",
        "odd_name": lambda found: found.update(
            {"a b": {"dtype": "U8", "shape": [0], "data_offsets": [end(found)] * 2}}
        ),
        "entry_list": lambda found: found.update(bias=[]),
        "entry_more": lambda found: found["bias"].update(more=1),
        "entry_less": lambda found: found["bias"].pop("shape"),
        "type_f64": lambda found: found["bias"].update(dtype="F64"),
        "type_number": lambda found: found["bias"].update(dtype=5),
        "shape_negative": lambda found: found["bias"].update(shape=[-1]),
        "shape_point": lambda found: found["bias"].update(shape=[1.0]),
        "shape_true": lambda found: found["bias"].update(shape=[True]),
        "shape_huge": lambda found: found["bias"].update(shape=[2**50]),
        "shape_nested": lambda found: found["bias"].update(shape=[[1]]),
        "shape_text": lambda found: found["bias"].update(shape="12"),
        "shape_long": lambda found: found["bias"].update(shape=[1] * 7),
        "shape_product": lambda found: found["bias"].update(shape=[2**39] * 4),
        "offsets_three": lambda found: found["bias"].update(data_offsets=[0, 1, 2]),
        "offsets_backwards": lambda found: found["bias"]["data_offsets"].reverse(),
        "overlap": lambda found: found["bias"].update(data_offsets=[0, found["bias"]["data_offsets"][1]]),
        "hole": lambda found: found["bias"].update(data_offsets=[each + 2 for each in found["bias"]["data_offsets"]]),
        "wrong_size": lambda found: found["bias"].update(shape=[1]),
        "beyond_the_end": lambda found: found.update(
            more={"dtype": "U8", "shape": [9], "data_offsets": [end(found), end(found) + 9]}
        ),
        "impossible_shape": lambda found: found.update(
            more={"dtype": "F32", "shape": [2**39, 2**39, 0], "data_offsets": [end(found)] * 2}
        ),
    }.items():
        yield f"header_{name}", of, header(change)
