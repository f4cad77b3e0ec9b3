"""The shared graph's own file: what edgepatch wrote into it, found and checked without an interpreter.

A .tflite (a flatbuffer) and an .onnx (a protobuf) both carry one container (`edgepatch.container`) as metadata: a
document that says what the graph is, with the bake table, and the backbone's own values of its inputs. The document
holds the hash of all other bytes of the file, so that a damaged graph is refused before any interpreter sees it: they
do not all survive one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import math
import os
import struct
from typing import Any

import numpy as np

from edgepatch import container, files
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, MismatchError
from edgepatch.imaging import SIZES, Preprocessing
from edgepatch.runtime.folding import STORED, own_kernel, stored_as
from edgepatch.runtime.formats import FORMATS, KEY, format_of
from edgepatch.runtime.formats.flatbuffer import View, splice
from edgepatch.trunk import CHANNELS, Trunk

FORMAT = 1
MAX_BYTES = 1024 * 1024 * 1024

_FIELDS = {
    "kind": str,
    "format": int,
    "architecture": str,
    "alpha": float,
    "backbone_id": str,
    "precision": str,
    "forms": list,
    "placement": str,
    "input": dict,
    "sizes": list,
    "sites": list,
    "residuals": list,
    "inputs": dict,
    "bake": dict,
    "graph_sha256": str,
}
_SITE = {"name": str, "placement": str, "block": int, "channels": int, "kernel": list, "bound": bool}
_RESIDUAL = {"block": int, "sites": list, "nodes": list}
_BROKEN = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, struct.error)


@dataclasses.dataclass(frozen=True)
class Graph:
    """A shared graph, checked.

    Attributes:
        data: the bytes of the file, laid out for its first form.
        format: `tflite` or `onnx`.
        document: what it says of itself.
        input: how the backbone's own pictures are prepared; the size is the one that the file is laid out for.
        inputs: shape of each patch input by name; None where any length will do.
        tensors: the backbone's own `scale` and `bias` of all sites, and what the precision and the format need.
        views: each form alone.
    """

    data: bytes
    format: str
    document: dict[str, Any]
    input: Preprocessing
    inputs: dict[str, tuple[int | None, ...]]
    tensors: Tensors
    views: dict[str, View]

    @property
    def backbone_id(self) -> str:
        return str(self.document["backbone_id"])

    @property
    def precision(self) -> str:
        """`fp32`, `fp16`, `dynamic` or `int8`."""
        return str(self.document["precision"])

    @property
    def forms(self) -> list[str]:
        """`bind`, `bake` or both."""
        return list(self.document["forms"])

    @functools.cached_property
    def trunk(self) -> Trunk:
        """Its sites and what they have of their own."""
        rows = self.document["sites"]
        return Trunk(
            names=[row["name"] for row in rows],
            shapes=[row["kernel"] for row in rows],
            channels=[row["channels"] for row in rows],
            residuals=len(self.document["residuals"]),
            kernel=functools.partial(own_kernel, self),
            **{name: self.tensors[name] for name in CHANNELS},
        )

    @property
    def kernel_max(self) -> np.ndarray:
        """The largest magnitude in each channel of the kernels, which int8 keeps as 127; float32 (sum of channels,)."""
        return self.tensors["kernel_max"]

    @property
    def skeleton(self) -> bytes:
        """An .onnx's bake form: nodes without weights."""
        return self.tensors["bake_graph"].tobytes()


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
    if kind is None or container.is_container(data):
        raise BadFileError(
            "is neither a .tflite nor an .onnx graph",
            file=file,
            got="a backbone or a patch" if container.is_container(data) else "something else",
            mend="Export one: edgepatch export BACKBONE --to tflite --out FILE.tflite; patches go beside it.",
        )
    try:
        span = FORMATS[kind].find(data)
    except (struct.error, IndexError, ValueError) as error:
        raise BadFileError(
            "is damaged or cut short",
            file=file,
            field="size",
            got=f"{len(data)} bytes",
            expected="a whole graph",
            mend="Copy or export it again.",
        ) from error
    if span is None:
        raise MismatchError(
            "is not a shared graph: it was not exported by edgepatch",
            file=file,
            field=f"metadata {KEY}",
            got="nothing",
            expected="what edgepatch export writes there",
            mend=f"Make one: edgepatch export BACKBONE --to {kind} --out FILE",
        )
    try:
        packed = FORMATS[kind].unpack(data[slice(*span)])
    except ValueError as error:
        raise BadFileError(f"has broken metadata: {error}", file=file, field=f"metadata {KEY}") from error
    document, tensors = container.parse(packed, file)
    # absent from graphs that were exported before tasks could skip blocks, or had sizes of their own
    document.setdefault("residuals", [])
    document.setdefault("sizes", [])
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
        document["sizes"] = _sizes(document["sizes"] or [preprocessing.size] * 2, preprocessing.size)
        inputs = _check_document(document, tensors, kind)
        views = {form: FORMATS[kind].view(data, form) for form in document["forms"]}
        first = views[document["forms"][0]].edits
        seen = splice(data, first) if first else data
    except _BROKEN as error:
        raise BadFileError(f"has a broken document: {error}", file=file, field="input, inputs or sites") from error
    try:
        FORMATS[kind].require_known(data, tensors)
    except _BROKEN as error:
        raise BadFileError(
            f"has what edgepatch does not export: {error}",
            file=file,
            field="operators",
            mend="Export the graph again, or if a newer edgepatch did: pip install --upgrade edgepatch",
        ) from error
    try:
        _check_table(data, kind, document, tensors)
    except _BROKEN as error:
        raise BadFileError(
            f"has a bake table that does not fit the file: {error}",
            file=file,
            field="bake",
            mend="Export the graph again: it is damaged, or was exported by another version of edgepatch.",
        ) from error
    return Graph(seen, kind, document, preprocessing, inputs, tensors, views)


def find(data: bytes, kind: str) -> tuple[int, int] | None:
    """Begin and end of the container among the file's bytes; None where there is none, or no whole file."""
    try:
        return FORMATS[kind].find(data)
    except (struct.error, IndexError, ValueError):
        return None


def hash_around(data: bytes, span: tuple[int, int]) -> str:
    """SHA-256 of everything but the container."""
    digest = hashlib.sha256(memoryview(data)[: span[0]])
    digest.update(memoryview(data)[span[1] :])
    return digest.hexdigest()


def _sizes(sizes: list[Any], own: int) -> list[int]:
    """The smallest and the largest input size that a graph takes, around its own."""
    whole = len(sizes) == 2 and all(type(size) is int for size in sizes)
    if not whole or not SIZES[0] <= sizes[0] <= own <= sizes[1] <= SIZES[1]:
        raise ValueError(f"the sizes are {sizes!r}, not two around {own} from {SIZES[0]} to {SIZES[1]}")
    return sizes


def _check_document(document: dict[str, Any], tensors: Tensors, kind: str) -> dict[str, tuple[int | None, ...]]:
    """The shapes of the inputs, after a look at all that the runtime will rely on."""
    forms, sites, precision = document["forms"], document["sites"], document["precision"]
    if forms not in (["bind", "bake"], ["bake"]):
        raise ValueError(f"the forms are {forms!r}, not bind and bake or bake alone")
    if precision not in STORED:
        raise ValueError(f"the precision is {precision!r}, not one of {', '.join(STORED)}")
    for site in sites:
        if not _typed(site, _SITE):
            raise ValueError(f"a site has other fields than {', '.join(_SITE)}")
        sides = site["kernel"]
        proper = len(sides) == 4 and all(_whole(side, 1) for side in sides) and _whole(math.prod(sides))
        if not proper or not _whole(site["channels"], 1):
            raise ValueError(f"site {site['name']} has no proper shape")
        if site["kernel"][2 if site["placement"] == "depthwise" else 3] != site["channels"]:
            raise ValueError(f"the kernel of site {site['name']} is not of its channels")
    for residual in document["residuals"]:
        if not _typed(residual, _RESIDUAL):
            raise ValueError(f"a block has other fields than {', '.join(_RESIDUAL)}")
        nodes = residual["nodes"]
        if len(nodes) != 2 or not all(_whole(node) for node in nodes) or not nodes[0] < nodes[1]:
            raise ValueError(f"block {residual['block']} lies between the nodes {nodes}")
        if not all(_whole(number) for number in residual["sites"]):
            raise ValueError(f"block {residual['block']} has odd sites")
    total, bound = (sum(site["channels"] for site in sites if every or site["bound"]) for every in (True, False))
    inputs = document["inputs"]
    head = inputs.get("head_kernel")
    features = head[0] if isinstance(head, list) and head else None
    wanted = {"scale": [bound], "bias": [bound], "head_kernel": [features, None], "head_bias": [None]}
    if not container.alike(inputs, wanted) or not _whole(features, 1):
        raise ValueError(f"the inputs are {inputs!r}, not {wanted!r}")
    needed = ["scale", "bias", *(["kernel_max"] if precision in ("dynamic", "int8") else [])]
    for name in needed:
        if name not in tensors or tensors[name].shape != (total,) or tensors[name].dtype != np.float32:
            raise ValueError(f"the backbone's own {name} is not of {total} values")
    if kind == "onnx" and ("bake_graph" not in tensors or tensors["bake_graph"].dtype != np.uint8):
        raise ValueError("the nodes of the form bake are absent")
    return {name: tuple(shape) for name, shape in inputs.items()}


def _check_table(data: bytes, kind: str, document: dict[str, Any], tensors: Tensors) -> None:
    """Every place the bake table names must be the one that the file itself has, once, and of the right size."""
    table, sites = document["bake"], document["sites"]
    table.setdefault("residuals", [])
    if not isinstance(table["sites"], list):
        raise ValueError("it has no sites")
    if len(table["sites"]) != len(sites):
        raise ValueError(f"it names {len(table['sites'])} sites of {len(sites)}")
    if len(table["residuals"]) != len(document["residuals"]):
        raise ValueError(f"it names {len(table['residuals'])} blocks of {len(document['residuals'])}")
    if not container.alike(table, there := FORMATS[kind].locate(data, document, tensors)):
        raise ValueError(f"{_difference(table, there)} is not what the file has there")
    activations, integer = table["activations"], document["precision"] == "int8"
    if bool(activations) != integer:
        raise ValueError(f"it names {len(activations)} activations of a graph in {document['precision']}")
    ranges = {row["range"] for row in activations}
    numbers = [row["input"] for row in [*table["sites"], table["head"]]]
    nodes = [node for row in document["residuals"] for node in row["nodes"]]
    if integer and not ranges.issuperset([*numbers, *(node + 1 for node in nodes)]):
        raise ValueError("an operator's input has no range")

    taken: list[tuple[int, int]] = []

    def take(what: str, span: list[int], size: int) -> None:
        begin, end = span
        if end - begin != size:
            raise ValueError(f"{what} has {end - begin} bytes, not {size}")
        taken.append((begin, end))

    for row, site in zip(table["sites"], sites, strict=True):
        width = stored_as(document["precision"], row, kind).itemsize
        take(f"kernel of site {site['name']}", row["kernel"], math.prod(site["kernel"]) * width)
        if kind == "tflite":
            if ("bias_scale" in row) != integer:
                raise ValueError(f"site {site['name']} is not of a graph in {document['precision']}")
            if row["shape"] != _tflite_shape(site):
                raise ValueError(f"the operator of site {site['name']} has a kernel of shape {row['shape']}")
            for name in ("bias", "kernel_scale", "bias_scale"):
                if name in row:
                    take(f"{name} of site {site['name']}", row[name], 4 * site["channels"])
    if kind == "tflite":
        head = table["head"]
        for name, place in head.items():
            if name.endswith("_shape"):
                take(f"{name} of the head", place, {"kernel_shape": 8, "bias_shape": 4}[name])
            elif name.endswith(("_data", "_scale", "_zero_point")):
                take(f"{name} of the head", [place, place + 4], 4)
        for place in head["output_shapes"]:
            take("an output's shape", place, 8)
        if "order" in table:
            take("the order of operators", table["order"], table["order"][1] - table["order"][0])
        for place in itertools.chain.from_iterable(row["readers"] for row in table["residuals"]):
            take("a reader of a block", place, 4)
        for row in activations:
            take(f"scale of tensor {row['tensor']}", row["scale"], 4)
            take(f"zero point of tensor {row['tensor']}", row["zero_point"], 8)
    taken.sort()
    if any(after[0] < before[1] for before, after in itertools.pairwise(taken)):
        raise ValueError("two entries share their bytes")


def _typed(row: Any, fields: dict[str, type]) -> bool:
    """Whether it has these fields, of these types."""
    return isinstance(row, dict) and {name: type(value) for name, value in row.items()} == fields


def _whole(value: Any, least: int = 0) -> bool:
    """Whether it counts something: other readers have 32 bits for it."""
    return type(value) is int and least <= value < 2**31


def _tflite_shape(site: dict[str, Any]) -> list[int]:
    """TFLite's order of a kernel's sides: (out, height, width, in), depthwise (1, height, width, channels)."""
    height, width, *channels = site["kernel"]
    return [channels[1], height, width, channels[0]]


def _difference(got: Any, expected: Any, name: str = "it") -> str:
    """Where two tables differ, for a sentence."""
    if isinstance(got, dict) and isinstance(expected, dict):
        for key in [*got, *expected]:
            if not container.alike(got.get(key), expected.get(key)):
                return _difference(got.get(key), expected.get(key), f"{name}.{key}" if name != "it" else key)
    if isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
        for index, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
            if isinstance(mine, dict | list) and not container.alike(mine, theirs):
                return _difference(mine, theirs, f"{name}[{index}]")
    return name
