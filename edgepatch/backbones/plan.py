"""What a backbone computes, in terms that every builder (Keras, TFLite, ONNX, the tests' numpy) walks alike."""

from __future__ import annotations

import dataclasses
from typing import Any

PADDINGS = ("same", "symmetric")
# which sites a patch may be confined to: fewer are smaller, and cheaper to bind
PLACEMENTS = {
    "all": ("stem", "expand", "depthwise", "project", "top"),
    "pointwise": ("stem", "expand", "project", "top"),
    "depthwise": ("depthwise",),
    "expand": ("expand",),
    "project": ("project",),
}
IMAGE = -1  # the index of the network's input among the nodes


@dataclasses.dataclass(frozen=True)
class Site:
    """One convolution and the normalisation behind it.

    Attributes:
        index: its number in forward order.
        name: as in Keras' own MobileNets: `block_3_depthwise`.
        block: number of its block; the stem is block 0.
        placement: its part in the block: `stem`, `expand`, `depthwise`, `project` or `top`.
        kernel: (height, width, in, out) of a convolution, (height, width, channels, 1) of a depthwise one.
        stride: in pixels, both ways.
        relu6: whether an activation follows.
    """

    index: int
    name: str
    block: int
    placement: str
    kernel: tuple[int, int, int, int]
    stride: int
    relu6: bool

    def within(self, placement: str) -> bool:
        """Whether the site is of a placement, one of `PLACEMENTS`."""
        return self.placement in PLACEMENTS[placement]

    @property
    def depthwise(self) -> bool:
        return self.placement == "depthwise"

    @property
    def channels(self) -> int:
        """Output channels: the length of its scale and of its bias."""
        return self.kernel[2] if self.depthwise else self.kernel[3]


@dataclasses.dataclass(frozen=True)
class Node:
    """A site applied to one earlier node, or the sum of two. `IMAGE` stands for the network's input."""

    inputs: tuple[int, ...]
    site: Site | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A trunk: its nodes in forward order; the mean over the last one's pixels are the features.

    Attributes:
        architecture, alpha: the family and its width.
        padding: where strided convolutions put their zeros: as TensorFlow's `same`, or `symmetric` as torch does.
        epsilon: what batch norm adds to the variance.
        nodes: in forward order.
    """

    architecture: str
    alpha: float
    padding: str
    epsilon: float
    nodes: tuple[Node, ...]

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(node.site for node in self.nodes if node.site)

    @property
    def channels(self) -> list[int]:
        """Channels of each site, in forward order."""
        return [site.channels for site in self.sites]

    @property
    def features(self) -> int:
        """Length of the feature vector."""
        return self.sites[-1].channels

    def table(self) -> list[dict[str, Any]]:
        """The site table that graphs carry and `inspect` shows."""
        return [
            {
                "name": site.name,
                "placement": site.placement,
                "block": site.block,
                "channels": site.channels,
                "kernel": list(site.kernel),
            }
            for site in self.sites
        ]


def pads(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """Zeros before and behind one axis of `size` pixels.

    `same` is TensorFlow's rule, and Keras' `correct_pad` for odd kernels; `symmetric` is torch's padding=kernel // 2.
    """
    if padding == "symmetric":
        return kernel // 2, kernel // 2
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
