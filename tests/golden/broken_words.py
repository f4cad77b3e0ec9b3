"""Broken patches and graphs whose own words are quoted: what moves a cursor, turns a text around or runs on for pages.

Both languages print the same of them, to the character.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from test_baking import forged

from edgepatch import container

from . import source
from .forging import Case, Document, forge

CLEARS = "\x1b[2J\x1b[31m\x07"  # a terminal's screen
TURNS = "safe\u202egpj.exe\u202c\u200e\u2066"  # writes what follows from right to left
BREAKS = "one\r\ntwo\tthree\x85four\u2028five\u00a0six\x7f\x00"
BEYOND = "\U0001f600\U000e0041\U0010ffff\ue000\u0301"  # outside of the first 65,536, private, combining
QUOTES = "it's \"so\" \\ 'and'"
TEXTS = {"clears": CLEARS, "turns": TURNS, "breaks": BREAKS, "beyond": BEYOND, "quotes": QUOTES}
# nothing subnormal: 32-bit ARM, with tflite-runtime in the process, reads that as 0
NUMBERS = [0.1, 1e16, 123456789012345.0, 1e-4, 1e-5, 1.5e300, 1e-307, -0.0, 2.0**63, 10**30, -(2**63), 100.0]


def patches() -> Iterator[Case]:
    of = "enrollable.epatch"
    document, tensors = container.parse(source(of), of)
    sites, known = document["sites"], document["statistics"]

    def with_(**changes: Any) -> bytes:
        return forge({**document, **changes}, tensors)

    for name, text in TEXTS.items():
        yield f"words_kind_{name}", of, with_(kind=text)
        yield f"words_task_{name}", of, with_(task=text + "\0")
        yield f"words_field_{name}", of, with_(**{text: 1})
        yield f"words_head_{name}", of, with_(decode={**document["decode"], "head": text})
        yield f"words_kinds_{name}", of, with_(kinds={"more": [text]})
    yield "words_nested", of, with_(kind={"a": [None, True, CLEARS, {TURNS: QUOTES}], "b": NUMBERS[:3]})
    yield "words_sites", of, with_(sites={**sites, "scale": [TURNS, QUOTES, None, False, BREAKS]})
    yield "words_sites_effect", of, with_(sites={**sites, CLEARS: [0]})
    for number, value in enumerate(NUMBERS):
        yield f"words_number_{number}", of, with_(sites={**sites, "scale": [value, -1]})
    yield "words_input", of, with_(input={**document["input"], "resize": BREAKS})
    yield "words_input_numbers", of, with_(input={**document["input"], "scale": [QUOTES, 1e-7]})
    yield "words_statistics", of, with_(statistics={**known, "gain": QUOTES})
    yield "words_statistics_number", of, with_(statistics={**known, "gain": -1e-5})
    yield "words_labels", of, with_(labels=["a", "b", "b", "a"])  # the first one that comes again
    yield "words_codec", of, with_(codec={TURNS: {}})
    yield "words_activation", of, with_(decode={**document["decode"], "activation": [CLEARS]})

    # cut at so many characters, not bytes nor halves of characters
    for length in (500, 501):
        yield f"words_field_of_{length}", of, with_(**{"a" * (length - 1) + "\U0001f600": 1})
        yield f"words_kinds_of_{length}", of, with_(kinds={"more": ["\U0001f600" * length]})
    yield "words_field_all_escapes", of, with_(**{"\x1b" * 600: 1})
    for length in (80, 81):
        yield f"words_kind_of_{length}", of, with_(kind="\U0001f600" * (length - 1) + "\x07")
    yield "words_task_long", of, with_(task="\U0001f600" * 200)
    yield "words_codec_long", of, with_(codec={"a" * 600: {}})
    yield "words_head_long", of, with_(decode={**document["decode"], "head": "\U0001f600" * 50})

    data = source("scale_bias.epatch")

    def header(text: str) -> bytes:
        encoded = text.encode()
        return struct.pack("<Q", len(encoded)) + encoded + data[-100:]

    of = "scale_bias.epatch"
    parsed, values = container.parse(data, of)
    for name, text in TEXTS.items():
        yield f"words_tensor_{name}", of, forge(parsed, {text: values["bias"]})
    yield "words_tensor_long", of, forge(parsed, {"\U0001f600" * 90: values["bias"]})
    yield "words_duplicate", of, header('{"it\'s":1,"it\'s":2}')
    yield "words_metadata", of, header('{"__metadata__":{"\U0001f600":"","\ue000":"","\\u001b[2J":""}}')
    yield "words_metadata_number", of, header('{"__metadata__":1.5}')
    document_and_sum = '{"__metadata__":{"edgepatch":"{}","sha256":"'
    yield "words_checksum", of, header(document_and_sum + "\\u202e" + "f" * 600 + '"}}')[:-100]
    entry = '{"__metadata__":{"edgepatch":"{}","sha256":""},"a":'
    yield "words_entry", of, header(entry + '{"\\u001b":[1e-7,true,null,{}],"it\'s":"\\u202e"}}')
    yield "words_type", of, header(entry + '{"dtype":"\\u0007","shape":[1],"data_offsets":[0,1]}}')
    yield "words_shape", of, header(entry + '{"dtype":"U8","shape":["\\u202e"],"data_offsets":[0,1]}}')

    of = "painter.epatch"
    parsed, values = container.parse(source(of), of)
    own = parsed["decode"]["network"]
    for name, changes in {
        "op": {"op": TURNS},
        "activation": {"activation": QUOTES},
        "kernel": {"kernel": CLEARS + "1" * 30},
        "stride": {"stride": 2.5},
    }.items():
        layers = [own["layers"][0], {**own["layers"][1], **changes}, *own["layers"][2:]]
        decode = {**parsed["decode"], "network": {**own, "layers": layers}}
        yield f"words_layer_{name}", of, forge({**parsed, "decode": decode}, values)


def graphs() -> Iterator[Case]:
    of = "gated-fp32.tflite"

    def lie(part: str | None = None, **changes: Any) -> bytes:
        def change(document: Document) -> None:
            (document[part][2] if part else document).update(changes)

        return forged(source(of), "tflite", change)

    for name, text in TEXTS.items():
        yield f"words_precision_{name}", of, lie(precision=text)
        yield f"words_site_{name}", of, lie("sites", name=text, channels=0)
    yield "words_document_field", of, lie(**{CLEARS + "a" * 600: 1})
    yield "words_forms", of, lie(forms=[TURNS, 1.0, None])
    yield "words_sizes", of, lie(sizes=[QUOTES, 1e22])
    yield "words_inputs", of, lie(inputs={CLEARS: [None, True], "head_kernel": [QUOTES]})
    yield "words_site_long", of, lie("sites", name="\U0001f600" * 600, channels=0)
    yield "words_sites_no_object", of, forged(source(of), "tflite", lambda document: document.update(sites=[TURNS]))

    def operator(document: Document) -> None:
        document["bake"]["sites"][1].update(operator=TURNS)

    yield "words_operator", of, forged(source(of), "tflite", operator)
