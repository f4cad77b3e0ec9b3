"""Hostile patches: what stands in no header, and what stands in a sound one with every checksum reckoned anew."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from fuzz import containers

from edgepatch import container
from edgepatch.head_network import Layer, Network

from .attack import Attack, Document, document_of, sound, tensors_of

SAFE = "the safetensors library"
REFUSED, LOADED = f"{SAFE} refuses it too", f"{SAFE} loads it"


def attacks() -> Iterator[Attack]:
    yield from _bytes()
    yield from _headers()
    yield from _entries()
    yield from _documents()
    yield from _tensors()
    yield from _heavy()


def _bytes() -> Iterator[Attack]:
    data = sound("sound.epatch")
    (length,) = struct.unpack_from("<Q", data)
    flipped = bytearray(data)
    flipped[8 + length + 1] ^= 0x40
    rows = {
        "truncated": ("a download that broke off", REFUSED, data[: len(data) // 2]),
        "trailing": ("bytes hidden behind the tensors", REFUSED, data + b"payload"),
        "flipped_bit": (
            "one bit of one scale flipped, on a worn card or on purpose",
            f"{SAFE} loads it; ONNX Runtime takes an adapter with a flipped bit",
            bytes(flipped),
        ),
        "huge_header": (
            "a header that says it is 4 exabytes long",
            "whoever believes it runs out of memory",
            struct.pack("<Q", 2**62) + data[8:],
        ),
        "graph_as_patch": ("a file of another kind under a patch's name", "", sound("sound.tflite")[:400]),
    }
    for name, (threat, elsewhere, content) in rows.items():
        yield Attack(f"{name}.epatch", threat, elsewhere, functools.partial(bytes, content))


def _headers() -> Iterator[Attack]:
    """Headers that JSON readers differ over; behind each stand the tensors."""
    data = sound("sound.epatch")
    (length,) = struct.unpack_from("<Q", data)
    text, body = data[8 : 8 + length].decode().rstrip(), data[8 + length :]
    twice = text[:-1] + ',"scale":' + json.dumps(json.loads(text)["bias"]) + "}"
    rows: dict[str, tuple[str, str, str | bytes]] = {
        "duplicate_key": (
            "two tensors of one name, of which each reader takes the one it likes",
            f"json.loads takes the last one, in silence; {SAFE} refuses it",
            twice,
        ),
        "nested": (
            "a header nested 5,000 deep",
            f"json.loads ends in a RecursionError; {SAFE} refuses it",
            '{"a":' * 5000,
        ),
        "nan_literal": (
            "NaN where a size should stand",
            f"json.loads accepts it; {SAFE} refuses it",
            text.replace("[48]", "[NaN]"),
        ),
        "huge_number": (
            "a size of 1e999",
            f"json.loads accepts it, as infinity; {SAFE} refuses it",
            text.replace("[48]", "[1e999]"),
        ),
        "many_digits": (
            "a size of 5,000 digits",
            f"json.loads ends in a ValueError about its own limit; {SAFE} refuses it",
            text.replace("[48]", f"[{'9' * 5000}]"),
        ),
        "surrogate": (
            "a name with half a surrogate pair, which is no text and cannot be printed",
            f"json.loads accepts it; {SAFE} refuses it",
            text.replace('"scale":', '"sc\\ud800ale":', 1),
        ),
        "utf16": (
            "a header in UTF-16, which one reader checks and another reads differently",
            f"json.loads guesses the encoding and accepts it; so did ours until this file was made; {SAFE} refuses it",
            text.encode("utf-16-le"),
        ),
    }
    for name, (threat, elsewhere, header) in rows.items():
        raw = header if isinstance(header, bytes) else header.encode()
        yield Attack(
            f"{name}.epatch", threat, elsewhere, functools.partial(bytes, struct.pack("<Q", len(raw)) + raw + body)
        )


def _entries() -> Iterator[Attack]:
    """Headers whose entries lie, with a checksum to match."""
    document, entries, body = containers.split(sound("sound.epatch"))
    begin, end = entries["bias"]["data_offsets"]
    rows: dict[str, tuple[str, str, Document]] = {
        "overlap": ("two tensors over the same bytes", REFUSED, {"data_offsets": [begin - 8, end - 8]}),
        "hole": (
            "bytes between two tensors that nobody reads",
            REFUSED,
            {"data_offsets": [begin + 2, end + 2]},
        ),
        "backwards": ("a tensor that ends before it begins", REFUSED, {"data_offsets": [end, begin]}),
        "negative": ("a size below zero", REFUSED, {"shape": [-48]}),
        "beyond": (
            "a tensor of 256 GiB",
            REFUSED,
            {"shape": [2**37], "data_offsets": [begin, begin + 2**38]},
        ),
        "f64": ("a type that interpreters are not given", LOADED, {"dtype": "F64", "shape": [12]}),
        "no_such_type": ("a type that nobody knows", REFUSED, {"dtype": "PICKLE"}),
    }
    for name, (threat, elsewhere, changes) in rows.items():
        changed = {**entries, "bias": {**entries["bias"], **changes}}
        yield Attack(f"{name}.epatch", threat, elsewhere, functools.partial(containers.joined, document, changed, body))


def _documents() -> Iterator[Attack]:
    own = document_of()
    rows: dict[str, tuple[str, str, Document]] = {
        "other_format": ("a format of the future, half understood", "", {"format": 2}),
        "other_kind": ("a backbone's document around a patch", "", {"kind": "backbone"}),
        "unknown_field": ("a field that another reader may obey", "", {"run": "rm -rf /"}),
        "other_backbone": (
            "a patch of another backbone, whose shapes fit",
            "bound by hand, LiteRT takes it and answers",
            {"backbone_id": "0" * 64},
        ),
        "version_beyond": (
            "a version so large that no later one can follow it",
            "a check against rollback locks the task for good; ours would have until this file was made",
            {"version": 10**300},
        ),
        "terminal": (
            "a task's name that clears the screen and says `verified`",
            "a refusal that quotes it does so; ours did until this file was made",
            {"task": "\x1b[2J\x1b[32mverified\x1b[0m"},
        ),
        "right_to_left": (
            "a label that reads otherwise than it is written",
            "printed as it is, it reads as exe.jpg",
            {"labels": ["\u202egpj.exe", "b", "c"]},
        ),
        "path": (
            "a tensor whose name is a path",
            "whoever names files by it writes elsewhere",
            {"kinds": {"x": ["../../etc/passwd"]}},
        ),
        "enormous_input": (
            "pictures of 10^9 pixels a side",
            "whoever lays them out runs out of memory",
            {"input": {**own["input"], "size": 10**9}},
        ),
        "sites_beyond": (
            "sites that the network does not have",
            "",
            {"sites": {"scale": [0, 4000], "bias": [0, 4000]}},
        ),
        "fewer_classes": (
            "labels for another head",
            "a class is reported under another one's name",
            {"labels": ["a", "b"]},
        ),
    }
    for name, (threat, elsewhere, changes) in rows.items():
        yield Attack(
            f"{name}.epatch",
            threat,
            elsewhere,
            functools.partial(container.dump, {**own, **changes}, tensors_of()),
        )


def _tensors() -> Iterator[Attack]:
    def at(name: str, value: float, dtype: type = np.float16) -> np.ndarray:
        changed = np.array(tensors_of()[name], dtype)
        changed[3] = value
        return changed

    nan = f"{SAFE} loads it; bound by hand, LiteRT answers NaN"
    rows: dict[str, tuple[str, str, dict[str, np.ndarray | None]]] = {
        "nan": ("one NaN among the scales", nan, {"scale": at("scale", np.nan)}),
        "infinity": ("one infinite bias", nan, {"bias": at("bias", np.inf)}),
        "out_of_range": (
            "a finite value that overflows in the first sum",
            nan,
            {"bias": at("bias", 3e38, np.float32)},
        ),
        "missing_tensor": (
            "a patch without its biases",
            "ONNX Runtime takes an adapter without them, and the graph's own count",
            {"bias": None},
        ),
        "extra_tensor": ("a tensor that no kind names", LOADED, {"payload": np.zeros(8, np.uint8)}),
    }
    for name, (threat, elsewhere, changes) in rows.items():
        kept = {each: value for each, value in {**tensors_of(), **changes}.items() if value is not None}
        yield Attack(f"{name}.epatch", threat, elsewhere, functools.partial(container.dump, document_of(), kept))


def _heavy() -> Iterator[Attack]:
    def labels() -> bytes:
        names = [format(number, "x") for number in range(28_000)]
        return container.dump({**document_of(), "labels": [*names, "zz", "zz"]}, tensors_of())

    def deep() -> bytes:
        value: Any = 1
        for _ in range(600):
            value = [value]
        return container.dump({**document_of(), "metrics": {"a": value}}, tensors_of())

    def shape() -> bytes:
        document = document_of("tiny-packed.epatch")
        document["codec"]["head_kernel"]["shape"] = [2**31 - 1] * 600
        return container.dump(document, tensors_of("tiny-packed.epatch"))

    yield Attack(
        "labels_twice.epatch",
        "28,002 labels, the last two alike",
        "ours took 13 s to refuse it until this file was made: it counted each label",
        labels,
    )
    yield Attack(
        "nested_document.epatch",
        "a document nested 600 deep, which a shallow stack reads and a deeper one cannot write again",
        "ours accepted it until this file was made",
        deep,
    )
    yield Attack(
        "codec_shape.epatch",
        "a packed tensor of 2^18,600 values",
        "ours ended in a ValueError until this file was made: the number is too long to be printed",
        shape,
    )
    yield Attack(
        "wide_head.epatch",
        "22 KB of a head whose layers take 9 GiB: 1,024 channels over the largest map there is",
        "LiteRT allocates 2 GiB for it",
        _wide,
    )


def _wide() -> bytes:
    document, tensors = document_of("tiny-segmenter.epatch"), tensors_of("tiny-segmenter.epatch")
    layers = [Layer("wide0", "conv", ("top",), 1024)]
    layers += [Layer(f"wide{number}", "add", ("wide0", f"wide{number - 1}")) for number in range(1, 9)]
    network = Network(("top",), (*layers, Layer("answer", "conv", ("wide8",), 2)), ("answer",))
    body = {name: value for name, value in tensors.items() if not name.startswith("head/")}
    ranges = {"ranges": body.pop("ranges")}
    head = {name: np.zeros(sides, np.float16) for name, sides in network.tensors({"top": 8}).items()}
    document["decode"]["network"] = network.to_json()
    document["kinds"]["segmenter"] = list(head)
    document["input"]["size"] = 1024
    return container.dump(document, {**body, **head, **ranges})
