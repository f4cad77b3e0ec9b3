"""A plan as a Keras model, written on keras.ops so that any Keras backend runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE, Site, pads


@keras.saving.register_keras_serializable("edgepatch")
class ScaleBias(layers.Layer):
    """y = x * scale + bias, one of each a channel: a folded batch norm."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
        self.bias = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        return x * self.scale + self.bias


SiteLayer = Callable[[Site], layers.Layer]


def build(backbone: Backbone, behind: SiteLayer, *, size: int | None = None) -> keras.Model:
    """A model from images (n, size, size, 3) to features (n, features), kernels loaded and frozen.

    Args:
        backbone: the plan and its kernels.
        behind: makes the layer behind a site's convolution; it is named `SITE/...` by its maker.
        size: side of the input in pixels, the backbone's own if not given.
    """
    plan = backbone.plan
    size = size or backbone.input.size
    image = keras.Input((size, size, 3), name="image")
    values: list[Any] = []
    for node in plan.nodes:
        sources = [image if index == IMAGE else values[index] for index in node.inputs]
        values.append(_site(backbone, node.site, sources[0], behind) if node.site else layers.Add()(sources))
    features = layers.GlobalAveragePooling2D(name="features")(values[-1])
    model = keras.Model(image, features, name=plan.architecture)
    load_kernels(model, backbone)
    return model


def training_form(backbone: Backbone) -> keras.Model:
    """The trunk with its batch norms, weights loaded."""
    model = build(
        backbone, lambda site: layers.BatchNormalization(epsilon=backbone.plan.epsilon, name=f"{site.name}_BN")
    )
    for site in backbone.plan.sites:
        parts = [backbone.part(site, part) for part in ("gamma", "beta", "mean", "variance")]
        model.get_layer(f"{site.name}_BN").set_weights(parts)
    return model


def deployment_form(backbone: Backbone, values: dict[str, np.ndarray] | None = None) -> keras.Model:
    """The trunk with one scale and one bias a channel: a patch's, or the backbone's own folded batch norms."""
    model = build(backbone, lambda site: ScaleBias(name=f"{site.name}_scale_bias"))
    set_scale_bias(model, backbone, {**backbone.defaults(), **(values or {})})
    return model


def set_scale_bias(model: keras.Model, backbone: Backbone, values: dict[str, np.ndarray]) -> None:
    """Give a model in deployment form the `scale` and `bias` (sum of channels,) of a task."""
    cuts = np.cumsum(backbone.plan.channels)[:-1]
    scales, biases = np.split(values["scale"], cuts), np.split(values["bias"], cuts)
    for site, scale, bias in zip(backbone.plan.sites, scales, biases, strict=True):
        model.get_layer(f"{site.name}_scale_bias").set_weights([scale, bias])


def load_kernels(model: keras.Model, backbone: Backbone) -> None:
    for site in backbone.plan.sites:
        model.get_layer(site.name).set_weights([backbone.part(site, "kernel")])


def kernels(model: keras.Model, backbone: Backbone) -> dict[str, np.ndarray]:
    """The convolution kernels of a model as they stand, by canonical name: what the proof of freezing hashes."""
    return {f"{site.name}/kernel": model.get_layer(site.name).get_weights()[0] for site in backbone.plan.sites}


def _site(backbone: Backbone, site: Site, x: Any, behind: SiteLayer) -> Any:
    vertical = horizontal = pads(x.shape[1], site.kernel[0], site.stride, backbone.plan.padding)
    same = vertical == pads(x.shape[1], site.kernel[0], site.stride, "same")
    if not same:
        x = layers.ZeroPadding2D((vertical, horizontal), name=f"{site.name}_pad")(x)
    options: dict[str, Any] = {
        "strides": site.stride,
        "padding": "same" if same else "valid",
        "use_bias": False,
        "trainable": False,
        "name": site.name,
    }
    if site.depthwise:
        x = layers.DepthwiseConv2D(site.kernel[:2], **options)(x)
    else:
        x = layers.Conv2D(site.kernel[3], site.kernel[:2], **options)(x)
    x = behind(site)(x)
    return layers.ReLU(6.0, name=f"{site.name}_relu")(x) if site.relu6 else x
