"""A plan as a Keras model, written on keras.ops so that any Keras backend runs it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE, Residual, Site
from edgepatch.container import Tensors

ACTIVATIONS = {"relu": "relu", "relu6": "relu6", "hard_swish": "hard_silu", "hard_sigmoid": "hard_sigmoid"}  # Keras'


EPSILON = 2.0**-10  # any that float32 adds to 1 - EPSILON without rounding


def affine(x: Any, scale: Any, bias: Any) -> Any:
    """y = x * scale + bias of images (n, side, side, channels), a scale and a bias a channel.

    In TensorFlow as a batch norm of mean 0 and variance 1: one kernel, and one for its gradients, instead of five that
    each go through all of the memory. Training a scale and a bias is a fifth faster with it on a CPU.
    """
    if keras.backend.backend() != "tensorflow":
        return x * scale + bias
    import tensorflow as tf

    mean, variance = tf.zeros_like(scale), tf.ones_like(scale) - EPSILON
    return tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=bias, mean=mean, variance=variance, epsilon=EPSILON, is_training=False
    ).y


class Convolution(layers.Layer):
    """A site's convolution with the backbone's kernel, frozen. Subclasses change the kernel by `effective`.

    Args:
        site: gives shape and stride.
        kernel: HWIO, as in the backbone.
        padding: `same` or `valid`.
    """

    def __init__(self, site: Site, kernel: np.ndarray, padding: str, **options: Any) -> None:
        super().__init__(name=site.name, **options)
        self.site, self.padding = site, padding
        self.kernel = self.add_weight(
            shape=kernel.shape, initializer=lambda shape, dtype: kernel, trainable=False, name="kernel"
        )

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.built = True

    def effective(self) -> Any:
        """The kernel (HWIO) that is convolved with."""
        return self.kernel

    def call(self, x: Any) -> Any:
        convolve = ops.depthwise_conv if self.site.depthwise else ops.conv
        return convolve(x, self.effective(), strides=self.site.stride, padding=self.padding)


class ScaleBias(layers.Layer):
    """y = x * scale + bias, one of each a channel: a folded batch norm."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
        self.bias = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        return x * self.scale + self.bias  # what graphs are held against: no other kernel's rounding


class Fixed(layers.Layer):
    """y = x * scale + bias, of a site that stays as it is."""

    def __init__(self, scale: np.ndarray, bias: np.ndarray, **options: Any) -> None:
        super().__init__(**options)
        self.constants = scale, bias

    def call(self, x: Any) -> Any:
        scale, bias = (ops.convert_to_tensor(constant) for constant in self.constants)
        return affine(x, scale, bias)


class Join(layers.Layer):
    """The sum at the end of a residual block: of its shortcut and, unless `keep` is 0, of its branch."""

    def build(self, shapes: Any) -> None:
        self.keep = self.add_weight(shape=(), initializer="ones", trainable=False, name="keep")

    def call(self, sources: Any) -> Any:
        shortcut, branch = sources
        return shortcut + self.keep * branch


class Places:
    """What stands where a task may change a network. This class changes nothing; subclasses put layers of their own."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def convolution(self, site: Site, padding: str) -> Convolution:
        """The layer, named as the site, that convolves."""
        return Convolution(site, self.backbone.part(site, "kernel"), padding)

    def behind(self, site: Site) -> layers.Layer:
        """The layer behind a site's convolution."""
        return Fixed(*self.backbone.fold(site), name=f"{site.name}_fixed")

    def join(self, residual: Residual) -> layers.Layer:
        """The layer that adds a block's shortcut and its branch, given in this order."""
        return layers.Add(name=join_name(residual))


def build(places: Places, *, size: int | None = None) -> keras.Model:
    """A model from images (n, size, size, 3) to features (n, features).

    Args:
        places: of the backbone: what stands at each place.
        size: side of the input in pixels, the backbone's own if not given.
    """
    backbone = places.backbone
    plan, joins = backbone.plan, {residual.join: residual for residual in backbone.plan.residuals}
    size = size or backbone.input.size
    image = keras.Input((size, size, 3), name="image")
    values: list[Any] = []
    for number, node in enumerate(plan.nodes):
        sources = [image if index == IMAGE else values[index] for index in node.inputs]
        if node.site:
            values.append(_site(places, node.site, sources[0]))
        elif number in joins:
            shortcut, branch = (values[index] for index in sorted(node.inputs))
            values.append(places.join(joins[number])([shortcut, branch]))
        else:
            make = {"add": layers.Add, "multiply": layers.Multiply, "mean": layers.GlobalAveragePooling2D}[node.op]
            options = {"keepdims": True} if node.op == "mean" else {}
            values.append(make(name=f"{node.op}_{number}", **options)(sources[0] if len(sources) == 1 else sources))
    features = layers.GlobalAveragePooling2D(name="features")(values[-1])
    return keras.Model(image, features, name=plan.architecture)


def behind_activation(model: keras.Model, backbone: Backbone, name: str) -> Any:
    """What a site of a built model answers, (n, side, side, channels)."""
    site = next(site for site in backbone.plan.sites if site.name == name)
    return model.get_layer(f"{name}_{site.activation}").output


def join_name(residual: Residual) -> str:
    return f"join_{residual.join}"


class _Training(Places):
    def behind(self, site: Site) -> layers.Layer:
        if not site.normalised:
            return super().behind(site)
        return layers.BatchNormalization(epsilon=self.backbone.plan.epsilon, name=f"{site.name}_BN")


def training_form(backbone: Backbone) -> keras.Model:
    """The trunk with its batch norms, weights loaded."""
    model = build(_Training(backbone))
    for site in backbone.plan.sites:
        if site.normalised:
            parts = [backbone.part(site, part) for part in ("gamma", "beta", "mean", "variance")]
            model.get_layer(f"{site.name}_BN").set_weights(parts)
    return model


class _Deployment(Places):
    def behind(self, site: Site) -> layers.Layer:
        return ScaleBias(name=f"{site.name}_scale_bias")

    def join(self, residual: Residual) -> layers.Layer:
        return Join(name=join_name(residual))


def deployment_form(backbone: Backbone, values: Tensors | None = None) -> keras.Model:
    """The trunk with all that a task may change in its weights: a patch's values, or the backbone's own."""
    model = build(_Deployment(backbone))
    set_values(model, backbone, values or {})
    return model


def set_values(model: keras.Model, backbone: Backbone, values: Tensors) -> None:
    """Give a model in deployment form a task's values, as `Backbone.values` has them; the backbone's own elsewhere."""
    plan, own = backbone.plan, backbone.defaults()
    cuts = np.cumsum(plan.channels)[:-1]
    scales, biases = (np.split(values.get(name, own[name]), cuts) for name in ("scale", "bias"))
    for site, scale, bias in zip(plan.sites, scales, biases, strict=True):
        model.get_layer(f"{site.name}_scale_bias").set_weights([scale, bias])
        name = f"{site.name}/kernel"
        model.get_layer(site.name).kernel.assign(values.get(name, backbone.tensors[name]))
    skip = values.get("skip", np.zeros(len(plan.residuals)))
    for residual, left_out in zip(plan.residuals, skip, strict=True):
        model.get_layer(join_name(residual)).keep.assign(1.0 - float(left_out))


def kernels(model: keras.Model, backbone: Backbone) -> Tensors:
    """The frozen kernels of a model as they stand, by canonical name: what the proof of freezing hashes."""
    return {f"{site.name}/kernel": np.array(model.get_layer(site.name).kernel) for site in backbone.plan.sites}


def _site(places: Places, site: Site, x: Any) -> Any:
    plan, side = places.backbone.plan, x.shape[1]
    around, same = plan.pads(site, side), plan.same(site)
    if not same and any(around):
        x = layers.ZeroPadding2D((around, around), name=f"{site.name}_pad")(x)
    x = places.convolution(site, "same" if same else "valid")(x)
    x = places.behind(site)(x)
    if site.activation == "linear":
        return x
    return layers.Activation(ACTIVATIONS[site.activation], name=f"{site.name}_{site.activation}")(x)
