"""torchvision's MobileNetV2: which of its tensors is which of ours."""

from __future__ import annotations

import numpy as np

from edgepatch.backbones import backbone
from edgepatch.backbones.plan import Plan
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError

PADDING = "symmetric"
EPSILON = 1e-5
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SCALE = tuple(1 / 255 / std for std in STD)
OFFSET = tuple(-mean / std for mean, std in zip(MEAN, STD, strict=True))

_PARTS = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}


def tensors(plan: Plan, state: Tensors, file: object) -> Tensors:
    """The canonical tensors of a torchvision state dict, classifier included if it is there.

    Raises:
        BadFileError: it is not the state dict of this plan.
    """
    found: Tensors = {}

    def take(name: str, rank: int = 1) -> np.ndarray:
        if name not in state or state[name].dtype.kind != "f" or state[name].ndim != rank:
            raise BadFileError(
                "is not torchvision's MobileNetV2",
                file=file,
                field=name,
                got=str(state[name].shape) if name in state else f"{len(state)} other tensors",
                expected=f"floats of that name with {rank} dimensions",
            )
        return state[name]

    for site in plan.sites:
        convolution, norm = _names(site.block, site.placement, site.name)
        kernel = take(f"{convolution}.weight", 4)  # (out, in, h, w), or (channels, 1, h, w) where depthwise
        found[f"{site.name}/kernel"] = np.ascontiguousarray(
            kernel.transpose((2, 3, 0, 1) if site.depthwise else (2, 3, 1, 0))
        )
        for part, torch_part in _PARTS.items():
            found[f"{site.name}/{part}"] = take(f"{norm}.{torch_part}")
    if "classifier.1.weight" in state:
        found["head_kernel"] = np.ascontiguousarray(take("classifier.1.weight", 2).T)
        found["head_bias"] = take("classifier.1.bias")
    backbone.check_tensors(plan, found, file)
    return found


def _names(block: int, placement: str, name: str) -> tuple[str, str]:
    if placement in ("stem", "top"):
        return f"features.{block}.0", f"features.{block}.1"
    first = name.startswith("expanded_conv_")  # the one block that does not expand
    step = {"expand": 0, "depthwise": 1, "project": 2}[placement] - first
    prefix = f"features.{block}.conv"
    if placement == "project":
        return f"{prefix}.{step}", f"{prefix}.{step + 1}"
    return f"{prefix}.{step}.0", f"{prefix}.{step}.1"
