"""Where pretrained weights come from, and the backbone made of them.

A source is `imagenet` (the offline package where there is one, it is installed and has this width, else
keras.applications), one of these two by name, `coco-ssd` (the trunk of a detector), `random`, or a local file: torch's
.pth; Keras' .keras or .h5, or an .npz by its layers' names; the detector's .tgz. `sources` tells what an architecture
has.
"""

from __future__ import annotations

import hashlib
import os
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch import files
from edgepatch.backbones import backbone
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import Plan
from edgepatch.backbones.weights import coco_ssd, coco_task, efficientnet, keras_names, torch_file, torchvision
from edgepatch.backbones.weights.offline import Checkpoint
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import UsageError
from edgepatch.imaging import Preprocessing

TORCH = {"mobilenet_v2": torchvision, "efficientnet_lite0": efficientnet}  # whose checkpoints are read
TORCH_SUFFIXES = (".pth", ".pt")
KERAS_SUFFIXES = (".npz", ".keras", ".h5", ".hdf5")
DETECTORS = {"mobilenet_v2": coco_ssd}  # whose trunks are read
DETECTOR_SUFFIXES = (".tgz",)
KERAS_LICENCE = "Apache-2.0 (Keras)"
OFFLINE_PACKAGE = torchvision.OFFLINE.package


def create(architecture: str, *, alpha: float, size: int, source: str, seed: int = 0) -> Backbone:
    """The backbone of an architecture, width and input size with the weights of `source`.

    Args:
        architecture: one of `backbone.ARCHITECTURES`.
        alpha: width multiplier.
        size: side of the square input, in pixels.
        source: one of `sources(architecture)`, or the path of a file.
        seed: for `random`.

    Raises:
        UsageError: an argument is unknown or out of range.
        BadFileError: the weights' file is damaged, hostile or of another network.
        MissingPackageError: the offline package or Keras is to be installed, or the detector to be fetched.
        EdgepatchError: keras.applications cannot supply the weights.
    """
    if seed < 0:
        raise UsageError("is out of range", field="--seed", got=seed, expected="0 or more")
    source = _resolve(architecture, alpha, source)
    torch = TORCH.get(architecture)
    offline = torch.OFFLINE if torch and source == torch.OFFLINE.source else None
    detector = _is_detector(architecture, source)
    if (offline or detector) and alpha != 1.0:
        raise UsageError("these weights are of one width", field="--alpha", got=alpha, expected="1.0")
    if detector:
        return coco_ssd.load(None if source == coco_ssd.SOURCE else source).backbone.at(size)
    from_keras = architecture in keras_names.APPLICATIONS and Path(source).suffix.lower() not in TORCH_SUFFIXES
    style: Any = keras_names if from_keras and not offline else torch
    plan = backbone.make_plan(architecture, float(alpha), style.PADDING, style.EPSILON)
    try:
        preprocessing = Preprocessing(size, "crop", style.SCALE, style.OFFSET)
        plan.sides(size)
    except ValueError as error:
        raise UsageError(f"the input cannot be built: {error}", field="--size", got=size) from error
    tensors, facts = _load(plan, source, style, offline, seed)
    name = Path(source).name
    return Backbone(plan, tensors, preprocessing, _labels(tensors), {"name": name, "licence": "", **facts})


def sources(architecture: str) -> list[str]:
    """Names of the weights that an architecture can be created with.

    Raises:
        UsageError: there is no such architecture.
    """
    if architecture not in backbone.ARCHITECTURES:
        raise backbone.no_such(architecture)
    offline = [TORCH[architecture].OFFLINE.source] if architecture in TORCH else []
    keras = ["imagenet-keras"] if architecture in keras_names.APPLICATIONS else []
    detector = [DETECTORS[architecture].SOURCE] if architecture in DETECTORS else []
    return ["imagenet", *offline, *keras, *detector, "random"]


def suffixes(architecture: str) -> tuple[str, ...]:
    """How files of weights of an architecture end."""
    torch = TORCH_SUFFIXES if architecture in TORCH else ()
    keras = KERAS_SUFFIXES if architecture in keras_names.APPLICATIONS else ()
    return torch + keras + (DETECTOR_SUFFIXES if architecture in DETECTORS else ())


def own_patch(
    backbone: Backbone, tarball: str | os.PathLike[str] | None = None, *, file: str | os.PathLike[str]
) -> Patch:
    """The task that a backbone was pretrained for: its classifier, or the detector that it was the trunk of.

    Args:
        tarball: of the detector, where it does not lie where the environment says.
        file: of the backbone, for errors.

    Raises:
        UsageError: it was pretrained for none that it can do; or there is a tarball, and it is of no detector.
        MissingPackageError, BadFileError, MismatchError: of the detector; see `coco_task.of`.
    """
    if backbone.source.get("name") == coco_ssd.SOURCE:
        return coco_task.of(backbone, tarball, file=file)
    if tarball is not None:
        raise UsageError(
            "is not the trunk of a detector",
            file=file,
            field="source",
            got=backbone.source.get("name", "nothing"),
            expected=coco_ssd.SOURCE,
            mend="Without --weights its own classifier is written.",
        )
    return backbone.own_patch()


def imagenet_labels() -> tuple[str, ...]:
    """The 1000 class names of ImageNet, by index, as torchvision spells them."""
    text = (resources.files("edgepatch.backbones") / "data" / "imagenet_labels.txt").read_text()
    return tuple(text.splitlines())


def _is_detector(architecture: str, source: str) -> bool:
    named = source == coco_ssd.SOURCE or Path(source).suffix.lower() in DETECTOR_SUFFIXES
    return architecture in DETECTORS and named


def _resolve(architecture: str, alpha: float, source: str) -> str:
    """The source meant; `imagenet` becomes the one that it stands for here.

    Raises:
        UsageError: the architecture has no such source.
    """
    names, endings = sources(architecture), suffixes(architecture)
    if source not in names and Path(source).suffix.lower() not in endings:
        model = Path(source).suffix.lower() in (".keras", ".h5", ".hdf5")
        raise UsageError(
            f"there is no such source of weights for {architecture}",
            field="--weights",
            got=source,
            expected=f"{', '.join(names)}, or a file ending in {' '.join(endings)}",
            mend="`edgepatch backbone import` makes a backbone of a Keras model." if model else None,
        )
    if source != "imagenet":
        return source
    if "imagenet-keras" not in names:
        return TORCH[architecture].OFFLINE.source
    offline = architecture in TORCH and alpha == 1.0 and _offline_path(architecture=architecture) is not None
    return TORCH[architecture].OFFLINE.source if offline else "imagenet-keras"


def _load(plan: Plan, source: str, style: Any, offline: Checkpoint | None, seed: int) -> tuple[Tensors, dict[str, Any]]:
    """The tensors of a source, read in the style of its files, and what is known of where they come from."""
    if source == "random":
        return _random(plan, seed), {"seed": seed}
    if source == "imagenet-keras":
        state = keras_names.load_applications(plan.architecture, plan.alpha)
        return keras_names.tensors(plan, state, source), {"task": "imagenet", "licence": KERAS_LICENCE}
    path = offline.require(_offline_path(architecture=plan.architecture)) if offline else Path(source)
    data = files.read(path, limit=backbone.MAX_BYTES)
    facts = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest()}
    if offline:
        offline.check(facts["sha256"], path)
        facts |= {"task": "imagenet", "licence": offline.licence}
    if style is not keras_names:
        state = torch_file.load(data, path)
    elif path.suffix.lower() == ".npz":
        state = keras_names.load_npz(data, path)
    else:
        state = keras_names.load_model(path, plan)
    return style.tensors(plan, state, path), facts


def _offline_path(*, architecture: str = "mobilenet_v2") -> Path | None:
    """Where the offline package has an architecture's checkpoint, or None if it is not installed."""
    return TORCH[architecture].OFFLINE.path()


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
            if site.normalised:
                found[f"{site.name}/{part}"] = rng.uniform(low, high, site.channels).astype(np.float32)
        if not site.normalised:
            found[f"{site.name}/bias"] = rng.uniform(-0.2, 0.5, site.channels).astype(np.float32)
    return found
