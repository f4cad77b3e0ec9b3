"""What an engine opens."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Model:
    """A model's bytes, and initializers that an .onnx is given to them; the engine keeps both as long as it runs."""

    data: bytes
    tensors: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return len(self.data) + sum(value.nbytes for value in self.tensors.values())
