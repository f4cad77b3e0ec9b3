"""Files with sound checksums and whatever content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgepatch import container
from edgepatch.runtime import graph_file

Case = tuple[str, str, bytes]  # its name, the file it is made of, its bytes
Document = dict[str, Any]


def forge(document: Document, tensors: container.Tensors) -> bytes:
    """A file with a sound checksum and whatever content."""
    return container.dump(document, tensors)


def at(value: np.ndarray, place: Any, new: Any) -> np.ndarray:
    changed = np.array(value)
    changed[place] = new
    return changed


def put(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def sealed(data: bytes, kind: str, change: Callable[[bytes], bytes] = bytes) -> bytes:
    """A changed graph of the same length, with its checksums computed anew; `change` is of an .onnx's bake form."""
    span = graph_file.find(data, kind)
    assert span is not None
    document, tensors = container.parse(graph_file.FORMATS[kind].unpack(data[slice(*span)]), "graph")
    if kind == "onnx":
        tensors["bake_graph"] = np.frombuffer(change(tensors["bake_graph"].tobytes()), np.uint8)
    document["graph_sha256"] = graph_file.hash_around(data, span)
    packed = graph_file.FORMATS[kind].pack(container.dump(document, tensors))
    assert len(packed) == span[1] - span[0]
    return put(data, span[0], packed)
