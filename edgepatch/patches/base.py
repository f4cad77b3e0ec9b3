"""The interface of a patch kind."""

from __future__ import annotations

import abc
from typing import Any

import keras

from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.network import SiteLayer
from edgepatch.container import Tensors
from edgepatch.errors import UsageError


class Body(abc.ABC):
    """A kind that changes the backbone for one task."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """As it is written after `--patch` and in the patch file."""

    def placed(self, placement: str) -> Body:
        """The same kind, confined to the sites of a placement: what `KIND@PLACEMENT` means.

        Raises:
            UsageError: there is no such placement, or the kind cannot be confined.
        """
        raise UsageError("this kind cannot be confined to a placement", field="--patch", got=f"{self.name}@{placement}")

    @abc.abstractmethod
    def behind(self, backbone: Backbone) -> SiteLayer:
        """Makes the layer to train behind each site's convolution; at the start it is the backbone's batch norm."""

    @abc.abstractmethod
    def tensors(self, model: keras.Model, backbone: Backbone) -> Tensors:
        """What was trained, as the graph's inputs take it: float32, by input name, in canonical order."""

    @abc.abstractmethod
    def start(self, backbone: Backbone) -> Tensors:
        """What `tensors` gives before anything is trained: the backbone's own values."""

    @abc.abstractmethod
    def sites(self, backbone: Backbone) -> dict[str, Any]:
        """Which sites it changes, for the patch file's `sites`."""


class Head(abc.ABC):
    """A kind that turns features into answers."""

    name: str

    @abc.abstractmethod
    def layer(self, classes: int) -> keras.layers.Layer:
        """The layer to train on the features (n, features)."""

    @abc.abstractmethod
    def tensors(self, layer: keras.layers.Layer) -> Tensors:
        """What was trained, as the graph's inputs take it: float32, by input name, in canonical order."""

    @abc.abstractmethod
    def decode(self) -> dict[str, Any]:
        """What the runtime needs to turn the graph's outputs into answers, for the patch file's `decode`."""
