"""The head of a classification task: one dense layer on the features."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from edgepatch.container import Tensors
from edgepatch.patches.base import Head


@dataclasses.dataclass(frozen=True)
class Classifier(Head):
    """The kind."""

    name = "classifier"

    def layer(self, classes: int) -> keras.layers.Layer:
        return keras.layers.Dense(classes, name="head")

    def tensors(self, layer: keras.layers.Layer) -> Tensors:
        kernel, bias = layer.get_weights()
        return {"head_kernel": kernel, "head_bias": bias}

    def decode(self) -> dict[str, Any]:
        return {"head": "classifier", "activation": "softmax"}


KIND = Classifier()
