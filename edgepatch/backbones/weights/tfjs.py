"""TensorFlow.js graph models: nodes and weights out of model.json and its shards, without running anything.

They come unpacked, or inside the tarball of a package of npm's, which is read where it lies: nothing of it is written
out or installed.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import io
import math
import os
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch import files
from edgepatch.container import Tensors, load_json
from edgepatch.errors import BadFileError

MODEL = "model.json"
DTYPES = {"float32": np.dtype("<f4"), "int32": np.dtype("<i4")}
MAX_BYTES = 256 * 1024 * 1024  # of a tarball, of what it unpacks to, of all weights
MAX_MODEL_BYTES = 16 * 1024 * 1024
MAX_NODES, MAX_GROUPS = 20_000, 1000
MAX_RANK = 6

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,119}")  # of a file: no separators, and no `..`


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation of the graph.

    Attributes:
        name, op: its own name, and TensorFlow's name of what it does.
        inputs: names of nodes, with `:1` and so on behind them for other outputs than the first.
        attributes: the texts, numbers, flags and lists of whole numbers among its attributes.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class GraphModel:
    """A graph and its weights.

    Attributes:
        nodes: by name, in the file's order.
        tensors: float32 or int32, read-only; the values of the `Const` nodes, by name.
        sha256: of the tarball, or of model.json and the shards behind it in the manifest's order.
    """

    nodes: Mapping[str, Node]
    tensors: Tensors
    sha256: str


def read(path: str | os.PathLike[str], *, folder: str, check: Callable[[str], None]) -> GraphModel:
    """The graph model in a folder, or in a package's tarball.

    Args:
        path: of the folder that holds model.json, or of the tarball.
        folder: where in the tarball model.json lies: `package/models/NAME`.
        check: is given the tarball's SHA-256 before any of it is unpacked, and raises if it is not the one wanted.

    Raises:
        UsageError: there is no such file.
        BadFileError: it is damaged, hostile, quantised or no graph model.
    """
    if Path(path).is_dir():
        return parse(lambda name, limit: _read(Path(path), name, limit), path)
    data = files.read(path, limit=MAX_BYTES)
    digest = hashlib.sha256(data).hexdigest()
    check(digest)
    packed = _unpack(data, folder, path)

    def get(name: str, limit: int) -> bytes:
        if name not in packed:
            raise BadFileError("lacks a file of the model", file=path, field=f"{folder}/{name}")
        return packed[name]

    return dataclasses.replace(parse(get, path), sha256=digest)


def parse(get: Callable[[str, int], bytes], file: object) -> GraphModel:
    """The graph model whose files `get` supplies by name, none of them longer than the limit it is given.

    Raises:
        BadFileError: it is damaged, hostile, quantised or no graph model.
    """
    text = get(MODEL, MAX_MODEL_BYTES)
    digest = hashlib.sha256(text)
    try:
        document = load_json(text)
        if not isinstance(document, dict):
            raise ValueError("a JSON object was expected")
        if document.get("format", "graph-model") != "graph-model":
            raise ValueError(f"its format is {str(document['format'])[:40]!r}, not a graph-model")
        nodes = _nodes(document["modelTopology"]["node"])
        tensors: Tensors = {}
        taken: set[str] = set()
        groups = document["weightsManifest"]
        if len(groups) > MAX_GROUPS:
            raise ValueError(f"at most {MAX_GROUPS} groups of weights were expected")
        for group in groups:
            _group(group, get, digest, taken, tensors)
        constants = {name for name, node in nodes.items() if node.op == "Const"}
        if odd := sorted(constants ^ tensors.keys()):
            raise ValueError(f"{odd[0]} is a constant without weights, or the reverse")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:  # as JSON of another shape does
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise BadFileError(f"is not a sound graph model of TensorFlow.js: {reason}", file=file, field=MODEL) from error
    return GraphModel(nodes, tensors, digest.hexdigest())


def _group(group: Any, get: Callable[[str, int], bytes], digest: Any, taken: set[str], tensors: Tensors) -> None:
    """Add the tensors of one group of the manifest: they lie one behind the other in its shards.

    Raises:
        ValueError: anything about it is not as it should be.
    """
    entries = [(str(entry["name"]), _dtype(entry), _shape(entry)) for entry in group["weights"]]
    expected = sum(math.prod(shape) * dtype.itemsize for _, dtype, shape in entries)
    if expected + sum(value.nbytes for value in tensors.values()) > MAX_BYTES:
        raise ValueError(f"its weights are more than {MAX_BYTES} bytes")
    shards = []
    for name in group["paths"]:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == MODEL:
            raise ValueError(f"a shard is called {str(name)[:80]!r}, which is no plain file name")
        if name in taken:
            raise ValueError(f"the shard {name} is there twice")
        taken.add(name)
        shards.append(get(name, expected))
        digest.update(shards[-1])
    data = b"".join(shards)
    if len(data) != expected:
        raise ValueError(f"its shards hold {len(data)} bytes, and the weights take {expected}")
    end = 0
    for name, dtype, shape in entries:
        start, end = end, end + math.prod(shape) * dtype.itemsize
        if name in tensors:
            raise ValueError(f"the weights {name} are there twice")
        tensors[name] = np.frombuffer(data[start:end], dtype).reshape(shape)
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"the weights {name} hold NaN or infinity")


def _dtype(entry: Any) -> np.dtype[Any]:
    if "quantization" in entry:
        raise ValueError(f"the weights {entry['name']} are quantised: take the float32 model")
    if set(entry) != {"name", "shape", "dtype"}:
        raise ValueError(f"the weights {entry['name']} have other fields than name, shape, dtype")
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"the weights {entry['name']} are {str(entry['dtype'])[:40]}, not {' or '.join(DTYPES)}")
    return DTYPES[entry["dtype"]]


def _shape(entry: Any) -> tuple[int, ...]:
    shape = entry["shape"]
    sizes = isinstance(shape, list) and all(type(size) is int and 0 < size <= MAX_BYTES for size in shape)
    if not sizes or len(shape) > MAX_RANK:
        raise ValueError(f"the weights {entry['name']} have a broken shape {str(shape)[:80]}")
    return tuple(shape)


def _nodes(rows: Any) -> dict[str, Node]:
    if not isinstance(rows, list) or len(rows) > MAX_NODES:
        raise ValueError(f"at most {MAX_NODES} nodes were expected")
    found: dict[str, Node] = {}
    for row in rows:
        texts = [row["name"], row["op"], *row.get("input", [])]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a node's name, op and inputs are not all texts")
        name, op, *inputs = texts
        if name in found:
            raise ValueError(f"the node {name} is there twice")
        attributes = {key: _attribute(value) for key, value in row.get("attr", {}).items()}
        found[name] = Node(name, op, tuple(inputs), attributes)
    return found


def _attribute(value: Any) -> Any:
    """What an attribute says, or None for those of kinds that no reader here asks for."""
    match value:
        case {"s": str(text)}:  # bytes as protobuf's JSON has them, and below as its JavaScript library writes them
            return base64.b64decode(text, validate=True).decode()
        case {"s": list(codes)}:
            return bytes(codes).decode()
        case {"f": int(number) | float(number)}:
            return float(number)
        case {"b": bool(flag)}:
            return flag
        case {"list": {"i": list(numbers)}}:
            return tuple(int(number) for number in numbers)
    return None


def _read(folder: Path, name: str, limit: int) -> bytes:
    """A file of a folder; a link is followed no further than within it.

    Raises:
        UsageError, BadFileError: as `files.read`, or it lies elsewhere.
    """
    path = folder / name
    if path.resolve().parent != folder.resolve():
        raise BadFileError("is a link out of its folder", file=path)
    return files.read(path, limit=limit)


def _unpack(data: bytes, folder: str, file: object) -> dict[str, bytes]:
    """The plain files of one folder of a gzipped tarball, by name. Links and the like are passed over.

    Raises:
        BadFileError: it is no such archive, has a file twice, or unpacks to too much.
    """
    found: dict[str, bytes] = {}
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            plain = packed.read(MAX_BYTES + 1)
        if len(plain) > MAX_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_BYTES} bytes")
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for entry in archive:
                parent, _, name = entry.name.rpartition("/")
                # a sparse file says itself how large it is, whatever the archive holds
                if parent != folder or not entry.isfile() or entry.issparse():
                    continue
                if name in found:
                    raise ValueError(f"{entry.name} is there twice")
                stream = archive.extractfile(entry)
                found[name] = stream.read() if stream else b""
    except Exception as error:  # gzip, zlib and tarfile each have their own
        raise BadFileError(f"is not a sound .tgz: {error}", file=file) from error
    return found
