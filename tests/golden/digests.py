"""What both languages must come to, as SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgepatch.runtime.model import Model


def of_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def of_tensor(value: np.ndarray) -> dict[str, Any]:
    """Type, shape, and the SHA-256 of the values, little-endian and in C order; bits as uint8 0 and 1."""
    value = np.asarray(value, np.uint8) if value.dtype == bool else value
    data = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()
    return {"dtype": value.dtype.name, "shape": list(value.shape), "sha256": of_bytes(data)}


def of_tensors(values: Mapping[str, np.ndarray]) -> str:
    """Of lines `NAME DTYPE [SHAPE] SHA-256`, sorted by name, each with a newline behind it."""
    rows = {name: of_tensor(value) for name, value in values.items()}
    lines = [f"{name} {row['dtype']} {row['shape']} {row['sha256']}\n" for name, row in sorted(rows.items())]
    return of_bytes("".join(lines).encode())


def of_model(model: Model) -> dict[str, Any]:
    """Of what an engine opens: the bytes, and of an .onnx the initializers that are handed to it."""
    found: dict[str, Any] = {"bytes": len(model.data), "sha256": of_bytes(model.data)}
    if model.tensors:
        found |= {"tensors": len(model.tensors), "tensors_sha256": of_tensors(model.tensors)}
    return found
