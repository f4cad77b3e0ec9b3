"""The two file formats of a shared graph, one module each with the same functions.

`find` (where edgepatch's container stands), `pack` and `unpack` (how it stands there), `view` (one form alone),
`locate` (the bake table: where everything stands that a task changes), `bind_model` and `bake_model` (what an engine
opens).
"""

from __future__ import annotations

from edgepatch.runtime.formats import onnx, tflite
from edgepatch.runtime.formats.flatbuffer import KEY

FORMATS = {"tflite": tflite, "onnx": onnx}


__all__ = ["FORMATS", "KEY", "format_of"]


def format_of(data: bytes) -> str | None:
    """`tflite` or `onnx` by the first bytes, or None."""
    if data[4:8] == b"TFL3":
        return "tflite"
    if data[:1] == b"\x08":  # field 1, ir_version: what every ONNX writer puts first
        return "onnx"
    return None
