"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, table 2)."""

from __future__ import annotations

from edgepatch.backbones.plan import IMAGE, Node, Plan, Site
from edgepatch.errors import UsageError

# expansion, output channels, repeats, stride of the first
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
ALPHAS = (0.1, 2.0)


def plan(alpha: float, padding: str, epsilon: float) -> Plan:
    """MobileNetV2 of width `alpha`, 52 sites.

    Raises:
        UsageError: alpha is out of range.
    """
    if not ALPHAS[0] <= alpha <= ALPHAS[1]:
        raise UsageError("the width is out of range", field="alpha", got=alpha, expected=f"{ALPHAS[0]} to {ALPHAS[1]}")
    nodes: list[Node] = []
    widths: list[int] = []  # output channels of each node

    def site(source: int, name: str, block: int, part: str, filters: int, kernel: int, stride: int, relu6: bool) -> int:
        index = sum(node.site is not None for node in nodes)
        channels = 3 if source == IMAGE else widths[source]
        shape = (kernel, kernel, channels, 1 if part == "depthwise" else filters)
        nodes.append(Node((source,), Site(index, name, block, part, shape, stride, relu6)))
        widths.append(filters)
        return len(nodes) - 1

    width = divisible(32 * alpha)
    last = site(IMAGE, "Conv1", 0, "stem", width, 3, 2, True)
    block = 0
    for expansion, channels, repeats, first_stride in BLOCKS:
        filters = divisible(channels * alpha)
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            name = f"block_{block}" if block else "expanded_conv"
            entry, hidden = last, width * expansion
            if expansion != 1:
                last = site(last, f"{name}_expand", block + 1, "expand", hidden, 1, 1, True)
            last = site(last, f"{name}_depthwise", block + 1, "depthwise", hidden, 3, stride, True)
            last = site(last, f"{name}_project", block + 1, "project", filters, 1, 1, False)
            if stride == 1 and width == filters:
                nodes.append(Node((entry, last)))
                widths.append(filters)
                last = len(nodes) - 1
            width = filters
            block += 1
    site(last, "Conv_1", block + 1, "top", divisible(1280 * max(alpha, 1.0)), 1, 1, True)
    return Plan("mobilenet_v2", alpha, padding, epsilon, tuple(nodes))


def divisible(channels: float, by: int = 8) -> int:
    """The multiple of `by` nearest to `channels` that loses no more than a tenth of it."""
    nearest = max(by, int(channels + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * channels else nearest
