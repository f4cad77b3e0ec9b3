"""The dedicated models that `edgepatch bench --backbone` measures against, made in a process of their own."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np

from edgepatch.bench.rivals import Dedicated
from edgepatch.cli.common import framework

PRECISIONS = {"tflite": ("fp32", "fp16", "dynamic", "int8"), "onnx": ("fp32", "int8")}  # what the converters make
IMAGES = 8  # of noise: ranges change no latency


def make(backbone: str, patch: str, kinds: list[tuple[str, str]], folder: str) -> list[Dedicated]:
    """A dedicated model of a task for each format and precision; fp32 where a converter has no such precision.

    Raises:
        MissingPackageError: TensorFlow, or for .onnx the package onnx, is not installed.
        MismatchError: the patch is of another backbone.
    """
    from edgepatch import blob
    from edgepatch.backbones import backbone as backbones

    for kind in {kind for kind, _ in kinds}:
        framework("tensorflow" if kind == "tflite" else "onnx", why="making a dedicated model")
    dedicated = importlib.import_module("edgepatch.converters.dedicated")
    source, task = backbones.read(backbone), blob.read(patch)
    source.require_own(task, patch)
    size = task.input.size
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, size, size, 3)).astype(np.float32)
    images = task.input.normalise(pixels)
    wanted = dict.fromkeys((kind, name if name in PRECISIONS[kind] else "fp32") for kind, name in kinds)
    found = []
    for kind, precision in wanted:
        path = Path(folder) / f"{precision}.{kind}"
        path.write_bytes(getattr(dedicated, kind)(source, task, precision, images))
        found.append(Dedicated(str(path), kind, precision, "converter"))
    return found
