"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, table 2)."""

from __future__ import annotations

from edgepatch.backbones.plan import IMAGE, Builder, Plan, divisible, require_width

# expansion, output channels, repeats, stride of the first
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
ALPHAS = (0.1, 2.0)


def plan(alpha: float, padding: str, epsilon: float) -> Plan:
    """MobileNetV2 of width `alpha`, 52 sites.

    Raises:
        UsageError: alpha is out of range.
    """
    require_width(alpha, *ALPHAS)
    net = Builder()
    width = divisible(32 * alpha)
    last = net.site(IMAGE, "Conv1", 0, "stem", width, 3, 2, "relu6")
    block = 0
    for expansion, channels, repeats, first_stride in BLOCKS:
        filters = divisible(channels * alpha)
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            name = f"block_{block}" if block else "expanded_conv"
            entry, hidden = last, width * expansion
            if expansion != 1:
                last = net.site(last, f"{name}_expand", block + 1, "expand", hidden, 1, 1, "relu6")
            last = net.site(last, f"{name}_depthwise", block + 1, "depthwise", hidden, 3, stride, "relu6")
            last = net.site(last, f"{name}_project", block + 1, "project", filters, 1, 1, "linear")
            if stride == 1 and width == filters:
                last = net.add(entry, last)
            width = filters
            block += 1
    net.site(last, "Conv_1", block + 1, "top", divisible(1280 * max(alpha, 1.0)), 1, 1, "relu6")
    return Plan("mobilenet_v2", alpha, padding, epsilon, tuple(net.nodes))
