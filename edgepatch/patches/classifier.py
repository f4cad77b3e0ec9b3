"""The head of a classification task: one dense layer on the features."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from edgepatch.container import Tensors
from edgepatch.patches.base import FeatureHead

UNIT = 0.05  # features are many and all positive: steps as large as a site's would have the logits jump


class Linear(keras.layers.Layer):
    """A dense layer: the one it starts from, and a change from zero, which weight decay draws back there.

    Args:
        kernel, bias: (features, classes), (classes,).
    """

    def __init__(self, kernel: np.ndarray, bias: np.ndarray, **options: Any) -> None:
        super().__init__(**options)
        self.begin = kernel, bias
        self.change = [
            self.add_weight(shape=each.shape, initializer="zeros", name=name)
            for name, each in (("kernel", kernel), ("bias", bias))
        ]

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.built = True

    def call(self, x: Any) -> Any:
        kernel, bias = (start + UNIT * change for start, change in zip(self.begin, self.change, strict=True))
        return x @ kernel + bias

    def value(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias as they stand, float32."""
        kernel, bias = (
            start + np.float32(UNIT) * np.asarray(change) for start, change in zip(self.begin, self.change, strict=True)
        )
        return kernel, bias


@dataclasses.dataclass(frozen=True)
class Classifier(FeatureHead):
    """The kind."""

    name = "classifier"

    def layer(self, kernel: np.ndarray, bias: np.ndarray) -> keras.layers.Layer:
        return Linear(kernel, bias, name="head")

    def tensors(self, layer: keras.layers.Layer) -> Tensors:
        assert isinstance(layer, Linear)
        kernel, bias = layer.value()
        return {"head_kernel": kernel, "head_bias": bias}

    def decode(self) -> dict[str, Any]:
        return {"head": "classifier", "activation": "softmax"}


KIND = Classifier()
