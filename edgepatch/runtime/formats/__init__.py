"""The two file formats of a shared graph, one module each with the same functions.

`find` (where edgepatch's container stands), `pack` and `unpack` (how it stands there), `view` (one form alone),
`require_known` (no operators but ours), `locate` (the bake table: where everything stands that a task changes),
`bind_model` and `bake_model` (the two forms for images of some size, for an engine; the latter of a task).
"""

from __future__ import annotations

from edgepatch.files import format_of
from edgepatch.runtime.formats import onnx, tflite
from edgepatch.runtime.formats.flatbuffer import KEY

FORMATS = {"tflite": tflite, "onnx": onnx}

__all__ = ["FORMATS", "KEY", "format_of"]
