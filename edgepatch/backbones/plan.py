"""What a backbone computes, in terms that every builder (Keras, TFLite, ONNX, the tests' numpy) walks alike."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from edgepatch.errors import UsageError
from edgepatch.imaging import SIZES

PADDINGS = ("same", "symmetric")
# which sites a patch may be confined to: fewer are smaller, and cheaper to bind
PLACEMENTS = {
    "all": ("stem", "expand", "depthwise", "squeeze", "excite", "project", "top"),
    "pointwise": ("stem", "expand", "squeeze", "excite", "project", "top"),
    "depthwise": ("depthwise",),
    "expand": ("expand",),
    "project": ("project",),
}
PARTS = PLACEMENTS["all"]  # of a block
ACTIVATIONS = ("linear", "relu", "relu6", "hard_swish", "hard_sigmoid")
IMAGE = -1  # the index of the network's input among the nodes


@dataclasses.dataclass(frozen=True)
class Site:
    """One convolution and the normalisation behind it.

    Attributes:
        index: its number in forward order.
        name: as in Keras' own MobileNets: `block_3_depthwise`.
        block: number of its block; the stem is block 0.
        placement: its part in the block, one of `PARTS`. `squeeze` and `excite` are the two 1x1 convolutions of a
            squeeze-and-excite branch, which see one pixel.
        kernel: (height, width, in, out) of a convolution, (height, width, channels, 1) of a depthwise one.
        stride: in pixels, both ways.
        activation: what follows, one of `ACTIVATIONS`; `hard_swish` is x relu6(x + 3) / 6, `hard_sigmoid`
            relu6(x + 3) / 6.
        normalised: whether a batch norm follows; otherwise the convolution has a bias of its own, and scale 1.
        pads: zeros before and behind each axis, where the plan's rule does not say.
    """

    index: int
    name: str
    block: int
    placement: str
    kernel: tuple[int, int, int, int]
    stride: int
    activation: str
    normalised: bool = True
    pads: tuple[int, int] | None = None

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
    """A site applied to one earlier node, or what `op` makes of earlier ones. `IMAGE` stands for the network's input.

    Attributes:
        inputs: numbers of earlier nodes.
        site: the site, of `op` `site`.
        op: `site`; `add` of two alike; `multiply` of one by another of one pixel; `mean` over all pixels, which leaves
            one.
    """

    inputs: tuple[int, ...]
    site: Site | None = None
    op: str = "site"


@dataclasses.dataclass(frozen=True)
class Residual:
    """A block with an identity shortcut: it can be skipped.

    Attributes:
        block: its number.
        entry, join: the numbers of the node it reads, and of the sum at its end; all between are its own.
    """

    block: int
    entry: int
    join: int


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

    @functools.cached_property
    def sites(self) -> tuple[Site, ...]:
        return tuple(node.site for node in self.nodes if node.site)

    @property
    def channels(self) -> list[int]:
        """Channels of each site, in forward order."""
        return [site.channels for site in self.sites]

    @functools.cached_property
    def widths(self) -> list[int]:
        """Channels of each node's output."""
        found: list[int] = []
        for node in self.nodes:
            found.append(node.site.channels if node.site else found[node.inputs[0]])
        return found

    @property
    def features(self) -> int:
        """Length of the feature vector."""
        return self.widths[-1]

    @functools.cached_property
    def residuals(self) -> tuple[Residual, ...]:
        """The blocks that can be skipped, in forward order; of two that overlap the one that ends first."""
        found: list[Residual] = []
        for join, node in enumerate(self.nodes):
            entry = min(node.inputs)
            inner = range(entry + 1, join)
            if node.op != "add" or entry == IMAGE or max(node.inputs) == entry:
                continue
            closed = all(entry <= source for number in inner for source in self.nodes[number].inputs)
            private = not any(source in inner for later in self.nodes[join + 1 :] for source in later.inputs)
            last = next((site.block for number in inner if (site := self.nodes[number].site)), None)
            apart = not found or entry >= found[-1].join
            if closed and private and apart and last is not None:
                found.append(Residual(last, entry, join))
        return tuple(found)

    def sides(self, size: int) -> list[int]:
        """Side, in pixels, of each node's output for an image of `size`.

        Raises:
            ValueError: the image is too small for a convolution without padding, or a sum's or product's terms come
                out at odds.
        """
        found: list[int] = []
        for number, node in enumerate(self.nodes):
            sources = [size if index == IMAGE else found[index] for index in node.inputs]
            if len(sources) == 2 and sources[1] != (sources[0] if node.op == "add" else 1):
                raise ValueError(f"node {number}: {node.op} of {sources[0]} and {sources[1]} pixels")
            side = 1 if node.op == "mean" else sources[0]
            if node.site:
                around = self.pads(node.site, side)
                side = (side + sum(around) - node.site.kernel[0]) // node.site.stride + 1
                if side < 1:
                    raise ValueError(f"{size} pixels leave none at {node.site.name}")
            found.append(side)
        return found

    def pads(self, site: Site, side: int) -> tuple[int, int]:
        """Zeros before and behind each axis of what a site sees, `side` pixels wide."""
        return site.pads or pads(side, site.kernel[0], site.stride, self.padding)

    def same(self, site: Site) -> bool:
        """Whether these are the zeros that TensorFlow's own `same` puts there, however wide what the site sees is."""
        sides = range(1, site.stride + 1)  # beyond, its rule repeats itself
        return all(self.pads(site, side) == pads(side, site.kernel[0], site.stride, "same") for side in sides)

    def sizes(self, size: int) -> tuple[int, int]:
        """The smallest and the largest input size of those around `size` that the network can all be built for."""
        low = high = size
        while low > SIZES[0] and self._fits(low - 1):
            low -= 1
        while high < SIZES[1] and self._fits(high + 1):
            high += 1
        return low, high

    def _fits(self, size: int) -> bool:
        try:
            return bool(self.sides(size))
        except ValueError:
            return False

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


class Builder:
    """A plan as it is laid down, node by node; each method returns the new node's number."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.widths: list[int] = []  # output channels of each node
        self._sites = 0

    def site(
        self,
        source: int,
        name: str,
        block: int,
        placement: str,
        filters: int,
        kernel: int,
        stride: int,
        activation: str,
        *,
        normalised: bool = True,
        pads: tuple[int, int] | None = None,
    ) -> int:
        """A square convolution of `source`, depthwise where that is its placement."""
        channels = 3 if source == IMAGE else self.widths[source]
        shape = (kernel, kernel, channels, 1 if placement == "depthwise" else filters)
        made = Site(self._sites, name, block, placement, shape, stride, activation, normalised, pads)
        self._sites += 1
        return self._append(Node((source,), made), filters)

    def add(self, one: int, other: int) -> int:
        return self._append(Node((one, other), op="add"), self.widths[one])

    def multiply(self, source: int, gate: int) -> int:
        """Each channel of `source` times `gate`'s one pixel."""
        return self._append(Node((source, gate), op="multiply"), self.widths[source])

    def mean(self, source: int) -> int:
        return self._append(Node((source,), op="mean"), self.widths[source])

    def _append(self, node: Node, width: int) -> int:
        self.nodes.append(node)
        self.widths.append(width)
        return len(self.nodes) - 1


def pads(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """Zeros before and behind one axis of `size` pixels.

    `same` is TensorFlow's rule, and Keras' `correct_pad` for odd kernels; `symmetric` is torch's padding=kernel // 2.
    """
    if padding == "symmetric":
        return kernel // 2, kernel // 2
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def require_width(alpha: float, low: float, high: float) -> None:
    """Refuse a width that an architecture does not have.

    Raises:
        UsageError: alpha is not within `low` and `high`.
    """
    if not low <= alpha <= high:
        expected = f"{low} to {high}" if low < high else str(low)
        raise UsageError("the width is out of range", field="alpha", got=alpha, expected=expected)


def divisible(channels: float, by: int = 8) -> int:
    """The multiple of `by` nearest to `channels` that loses no more than a tenth of it."""
    nearest = max(by, int(channels + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * channels else nearest
