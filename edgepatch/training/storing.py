"""From trained values to a patch as a file keeps it."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from edgepatch import codec as codecs
from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.training import head


def store(
    backbone: Backbone, mould: Patch, values: Tensors, codec: str, trunk: keras.Model, pixels: np.ndarray
) -> Patch:
    """A patch with these values, encoded.

    What rounding does to the logits on average over some training images, the head's bias takes back.

    Args:
        mould: the patch, of which everything counts but its tensors and codec; its kinds name the values.
        values: float32: `scale` and `bias` of its sites, if it has any, and the head.
        trunk: the backbone in deployment form; its scales are overwritten.
        pixels: uint8 (n, size, size, 3), training images.
    """
    channels = backbone.plan.channels
    inside = codecs.inside(mould, channels)
    own = {name: value[inside] for name, value in backbone.defaults().items()}
    mean = np.concatenate([backbone.part(site, "mean") for site in backbone.plan.sites])[inside]
    stored, how = codecs.encode(values, own, mould.sites.get("channels", []), codec, mean)
    kinds = {
        kind: tuple(name for name in stored if name.removesuffix("_step") in names)
        for kind, names in mould.kinds.items()
    }
    patch = dataclasses.replace(mould, kinds=kinds, tensors=stored, codec=how)
    if not how:
        return patch
    exact = backbone.values(dataclasses.replace(mould, tensors=values, codec={}))
    lost = logits(trunk, backbone, exact, mould, pixels) - logits(
        trunk, backbone, backbone.values(patch), mould, pixels
    )
    stored["head_bias"] += lost.mean(axis=0)
    return patch


def logits(trunk: keras.Model, backbone: Backbone, values: Tensors, patch: Patch, pixels: np.ndarray) -> np.ndarray:
    """Logits (n, classes) of uint8 images under a task's values, in Keras.

    Args:
        values: `scale` and `bias` of all sites and the head, as `Backbone.values` gives them.
        patch: says how images are prepared.
    """
    network.set_scale_bias(trunk, backbone, values)
    return head.predict(trunk, pixels, patch.input) @ values["head_kernel"] + values["head_bias"]
