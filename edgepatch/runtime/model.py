"""What an engine opens."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Model:
    """What the engine keeps as long as it runs.

    Attributes:
        data: the bytes of a .tflite or .onnx.
        tensors: initializers that an .onnx is given to them.
        size: side of its images in pixels, which an .onnx of ours leaves open; None of a model that is not ours.
    """

    data: bytes
    tensors: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    size: int | None = None

    @property
    def nbytes(self) -> int:
        return len(self.data) + sum(value.nbytes for value in self.tensors.values())
