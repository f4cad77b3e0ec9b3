"""From trained values to a patch as a file keeps it."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from edgepatch import codec as codecs
from edgepatch import patches
from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.training import head
from edgepatch.trunk import SKIP


def encode(backbone: Backbone, mould: Patch, values: Tensors, codec: str) -> Patch:
    """A patch with these values, encoded; the arguments are those of `store`."""
    mean = np.concatenate([backbone.part(site, "mean") for site in backbone.plan.sites])
    stored, how = codecs.encode(values, mould.sites, backbone.trunk, codec, mean)
    kinds = patches.stored_names(mould.kinds, stored)
    order = dict.fromkeys(name for names in kinds.values() for name in names)
    return dataclasses.replace(mould, kinds=kinds, tensors={name: stored[name] for name in order}, codec=how)


def store(
    backbone: Backbone, mould: Patch, values: Tensors, codec: str, trunk: keras.Model, pixels: np.ndarray
) -> Patch:
    """A patch with these values, encoded.

    What rounding does to the logits on average over some training images, the head's bias takes back.

    Args:
        mould: the patch, of which everything counts but its tensors and codec; its kinds name the values.
        values: what `Change.tensors` gives, and the head, float32.
        trunk: the backbone in deployment form; its weights are overwritten.
        pixels: uint8 (n, size, size, 3), training images.
    """
    patch = encode(backbone, mould, values, codec)
    if not patch.codec:
        return patch
    stored = patch.tensors
    bits = {name: stored[name] for name in ("mask", SKIP) if name in stored}
    exact = dataclasses.replace(mould, tensors={**values, **bits}, codec={})
    lost = logits(trunk, backbone, backbone.values(exact), mould, pixels) - logits(
        trunk, backbone, backbone.values(patch), mould, pixels
    )
    stored["head_bias"] += lost.mean(axis=0)
    return patch


def logits(trunk: keras.Model, backbone: Backbone, values: Tensors, patch: Patch, pixels: np.ndarray) -> np.ndarray:
    """Logits (n, classes) of uint8 images under a task's values, in Keras.

    Args:
        values: as `Backbone.values` gives them.
        patch: says how images are prepared.
    """
    network.set_values(trunk, backbone, values)
    return head.predict(trunk, pixels, patch.input) @ values["head_kernel"] + values["head_bias"]
