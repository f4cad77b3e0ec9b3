"""Hostile graphs: damaged ones, and ones whose document lies under a sound hash."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from fuzz import containers
from fuzz import graphs as forging

from edgepatch.runtime import graph_file
from edgepatch.runtime.formats import FORMATS, protobuf
from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.formats.flatbuffer import Table

from .attack import Attack, Document, sound

TFLITE, ONNX = "sound.tflite", "sound.onnx"
WHILE = 119  # TFLite's loop


def attacks() -> Iterator[Attack]:
    yield from _damaged()
    yield from _lying()
    yield from _pointing()
    yield from _doing()


def forged(name: str, change: Callable[[Document], Any]) -> bytes:
    """A sound graph whose document was changed by someone who reckons every hash anew."""
    data, kind = sound(name), name.rpartition(".")[2]
    span = _span(data, kind)
    document, entries, body = containers.split(FORMATS[kind].unpack(data[slice(*span)]))
    change(document)
    packed = FORMATS[kind].pack(containers.joined(document, entries, body))
    return forging.signed(forging.put(data, kind, span, packed), kind, relocate=False)


def around(name: str, change: Callable[[bytearray], Any]) -> bytes:
    """A sound graph whose bytes outside the document were changed, and the hash in the document with them."""
    found = bytearray(sound(name))
    changed = change(found)
    return forging.signed(bytes(found if changed is None else changed), name.rpartition(".")[2], relocate=False)


def _span(data: bytes, kind: str) -> tuple[int, int]:
    span = graph_file.find(data, kind)
    assert span is not None
    return span


def _kernel(name: str) -> int:
    """Where the first site's kernel begins."""
    place: int = graph_file.parse(sound(name), name).document["bake"]["sites"][0]["kernel"][0]
    return place


def _damaged() -> Iterator[Attack]:
    for name, elsewhere in (
        (TFLITE, "LiteRT's CompiledModel ends the process with a segmentation fault"),
        (ONNX, "ONNX Runtime refuses it too"),
    ):
        kind, data = name.rpartition(".")[2], sound(name)
        half = data[: len(data) // 2]
        yield Attack(f"truncated.{kind}", "a download that broke off", elsewhere, lambda half=half: half)
        flipped = bytearray(data)
        flipped[_kernel(name) + 3] ^= 0x40
        engine = "LiteRT" if kind == "tflite" else "ONNX Runtime"
        yield Attack(
            f"flipped_weight.{kind}",
            "one bit of one weight flipped, on a worn card or on purpose",
            f"{engine} runs it, and answers something else",
            lambda flipped=bytes(flipped): flipped,
        )
    stranger = sound(TFLITE).replace(b"edgepatch", b"somebodys")
    yield Attack(
        "stranger.tflite",
        "a model that edgepatch did not export",
        "LiteRT runs it",
        lambda: stranger,
    )


def _lying() -> Iterator[Attack]:
    def attack(name: str, threat: str, elsewhere: str, change: Callable[[Document], Any], of: str = TFLITE) -> Attack:
        return Attack(f"{name}.{of.rpartition('.')[2]}", threat, elsewhere, lambda: forged(of, change))

    def shifted(document: Document) -> None:
        row = document["bake"]["sites"][3]
        row["kernel"] = [place + 4 for place in row["kernel"]]

    def beyond(document: Document) -> None:
        row = document["bake"]["sites"][3]
        row["kernel"] = [place + 10**9 for place in row["kernel"]]

    def twice(document: Document) -> None:
        document["bake"]["sites"][3] = document["bake"]["sites"][0]

    def wrapped(document: Document) -> None:
        document["sites"][0]["kernel"] = [27 + 2**61, 1, 1, 8]

    poke = "whoever writes where the table says overwrites other bytes"
    yield attack("bake_shifted", "a bake table four bytes off", poke, shifted)
    yield attack("bake_beyond", "a bake table that leads out of the file", poke, beyond)
    yield attack("bake_twice", "two sites over the same bytes", poke, twice)
    yield attack("bake_absent", "no bake table", "", lambda document: document["bake"].clear())
    yield attack("other_format", "a format of the future", "", lambda document: document.update(format=9))
    yield attack(
        "other_backbone",
        "a graph that says it is of another backbone than the patches are of",
        "LiteRT runs it, for no reader but ours looks",
        lambda document: document.update(backbone_id="0" * 64),
    )
    yield attack(
        "sizes_beyond",
        "input sizes that no network was built for",
        "",
        lambda document: document.update(sizes=[1, 10**6]),
    )
    yield attack(
        "kernel_wraps",
        "a kernel of 2^61 + 27 rows, whose size in 64 bits is that of the real one",
        "until this file was made, it was accepted: numpy's product wraps around",
        wrapped,
        of=ONNX,
    )


def _pointing() -> Iterator[Attack]:
    def attack(name: str, threat: str, elsewhere: str, make: Callable[[], bytes]) -> Attack:
        return Attack(name, threat, elsewhere, make)

    def itself(data: bytearray) -> None:
        struct.pack_into("<I", data, 0, 0)

    def before(data: bytearray) -> None:
        struct.pack_into("<i", data, struct.unpack_from("<I", data)[0], 0x7FFFFFFF)

    def endless(data: bytearray) -> None:
        model = fb.root(bytes(data))
        struct.pack_into("<I", data, model.follow(fb.MODEL_BUFFERS) or 0, 0xFFFFFFFF)

    refused = "LiteRT refuses it too"
    yield attack("points_at_itself.tflite", "a root that points at itself", refused, lambda: around(TFLITE, itself))
    yield attack(
        "before_the_file.tflite", "a vtable two gigabytes before the file", refused, lambda: around(TFLITE, before)
    )
    yield attack(
        "endless_vector.tflite",
        "a vector of 2^32 - 1 tables",
        "LiteRT's CompiledModel opens it; its Interpreter refuses it",
        lambda: around(TFLITE, endless),
    )
    yield attack(
        "names_upon_names.tflite",
        "600,000 entries of metadata that share one name of two megabytes",
        "until this file was made, it took hours to be refused: each copied the name to compare it",
        lambda: names(600_000),
    )
    data = sound(ONNX)
    yield attack(
        "length_beyond.onnx",
        "a field longer than the message around it",
        "ONNX Runtime refuses it too",
        lambda: data[:2] + b"\x3a" + b"\xff" * 9 + b"\x01" + data[2:],
    )
    yield attack(
        "endless_number.onnx",
        "a number whose bytes never end",
        "ONNX Runtime refuses it too",
        lambda: b"\x08" + b"\xff" * 40 + data,
    )


def _doing() -> Iterator[Attack]:
    """Operators that do more than compute."""

    def loops(data: bytearray) -> None:
        code = Table(bytes(data), fb.root(bytes(data)).tables(fb.MODEL_CODES)[0])
        place = code.at(0)
        assert place is not None
        data[place] = WHILE

    yield Attack(
        "loop.tflite",
        "an operator that loops over subgraphs, for as long as the file likes",
        "LiteRT's CompiledModel opens it; ours let it until this file was made",
        lambda: around(TFLITE, loops),
    )
    yield Attack(
        "other_file.onnx",
        "weights that are to be read from another file, `secret`",
        "ONNX Runtime reads it from the current folder and answers with it; ours let it until this file was made",
        lambda: around(ONNX, _elsewhere),
    )
    yield Attack(
        "loop.onnx",
        "a Loop of 2^62 rounds",
        "ONNX Runtime runs it and never answers; ours let it until this file was made",
        lambda: around(ONNX, _looping),
    )


def _with(data: bytearray, *parts: bytes) -> bytes:
    """A model with more in its graph: a model's parts add up."""
    return bytes(data) + b"".join(protobuf._field(protobuf.MODEL_GRAPH, part) for part in parts)


def _elsewhere(data: bytearray) -> bytes:
    """One more initializer, which the model answers."""
    tensor = protobuf._number(protobuf.TENSOR_DIMS, 1) + protobuf._number(protobuf.TENSOR_TYPE, 1)
    tensor += protobuf._field(protobuf.TENSOR_NAME, b"secret")
    for key, value in {"location": "secret", "offset": "0", "length": "4"}.items():
        entry = protobuf._field(1, key.encode()) + protobuf._field(2, value.encode())
        tensor += protobuf._field(protobuf.TENSOR_EXTERNAL, entry)
    tensor += protobuf._number(protobuf.TENSOR_LOCATION, protobuf.EXTERNAL)
    initializer = protobuf._field(protobuf.GRAPH_INITIALIZER, tensor)
    answer = protobuf._field(protobuf.GRAPH_OUTPUT, protobuf.value_info("secret", (1,)))
    return _with(data, initializer, answer)


def _looping(data: bytearray) -> bytes:
    """One more node, which hands a number round and round, and answers it."""

    def value(name: str, kind: int) -> bytes:
        inner = protobuf._number(1, kind) + protobuf._field(2, b"")
        return protobuf._field(1, name.encode()) + protobuf._field(2, protobuf._field(1, inner))

    def copy(source: str, target: str) -> bytes:
        return protobuf._field(protobuf.GRAPH_NODE, protobuf.node("Identity", [source], target))

    integer, boolean = 7, 9
    body = copy("go", "on") + copy("state", "again") + protobuf._field(protobuf.GRAPH_NAME, b"body")
    for name, kind in (("round", integer), ("go", boolean), ("state", integer)):
        body += protobuf._field(protobuf.GRAPH_INPUT, value(name, kind))
    for name, kind in (("on", boolean), ("again", integer)):
        body += protobuf._field(protobuf.GRAPH_OUTPUT, value(name, kind))
    attribute = protobuf._field(1, b"body") + protobuf._field(6, body) + protobuf._number(20, 5)
    loop = protobuf.node("Loop", ["rounds", "", "rounds"], "looped") + protobuf._field(5, attribute)
    rounds = protobuf._number(2, integer) + protobuf._field(8, b"rounds") + protobuf._field(9, struct.pack("<q", 2**62))
    return _with(
        data,
        protobuf._field(protobuf.GRAPH_INITIALIZER, rounds),
        protobuf._field(protobuf.GRAPH_NODE, loop),
        protobuf._field(protobuf.GRAPH_OUTPUT, value("looped", integer)),
    )


def names(count: int) -> bytes:
    """A .tflite of nothing but metadata: entries that all point at one table, whose name is as long as they are."""
    entry = struct.pack("<4H", 8, 12, 4, 8)  # a vtable: the name, then the buffer
    root = struct.pack("<10H", 18, 16, 0, 0, 0, 0, 4, 0, 8, 0)  # buffers and metadata
    found = bytearray(8) + entry + root
    at = len(found)
    found += struct.pack("<i3I", at - 16, 12, 12, 0)  # the root: an empty vector, and the entries behind it
    struct.pack_into("<I", found, 0, at)
    found[4:8] = b"TFL3"
    found += struct.pack("<I", 0) + struct.pack("<I", count)
    struct.pack_into("<2I", found, at + 4, at + 16 - (at + 4), at + 20 - (at + 8))
    begin = len(found)
    table = begin + 4 * count
    found += b"".join(struct.pack("<I", table - place) for place in range(begin, table, 4))
    found += struct.pack("<i2I", table - 8, 8, 0)
    found += struct.pack("<I", 4 * count) + b"x" * (4 * count)
    return bytes(found)
