"""MobileNetV3 small and large (Howard et al., "Searching for MobileNetV3", 2019, tables 1 and 2).

A site is a convolution with its batch norm and its relu or hard_swish. The two 1x1 convolutions of a
squeeze-and-excite branch are sites too, on the one pixel that a mean leaves: `squeeze` with relu, `excite` with
hard_sigmoid, whose output multiplies the depthwise convolution's. So is the last convolution, which the paper puts
behind the pooling, on one pixel again: the features are its 1024 (small) or 1280 (large) outputs. These three have a
bias in place of a batch norm.
"""

from __future__ import annotations

from edgepatch.backbones.plan import IMAGE, Builder, Plan, divisible, require_width

# expansion, output channels, depthwise kernel, stride, squeeze-and-excite, activation
Block = tuple[float, int, int, int, bool, str]
SMALL: tuple[Block, ...] = (
    (1, 16, 3, 2, True, "relu"),
    (72 / 16, 24, 3, 2, False, "relu"),
    (88 / 24, 24, 3, 1, False, "relu"),
    (4, 40, 5, 2, True, "hard_swish"),
    (6, 40, 5, 1, True, "hard_swish"),
    (6, 40, 5, 1, True, "hard_swish"),
    (3, 48, 5, 1, True, "hard_swish"),
    (3, 48, 5, 1, True, "hard_swish"),
    (6, 96, 5, 2, True, "hard_swish"),
    (6, 96, 5, 1, True, "hard_swish"),
    (6, 96, 5, 1, True, "hard_swish"),
)
LARGE: tuple[Block, ...] = (
    (1, 16, 3, 1, False, "relu"),
    (4, 24, 3, 2, False, "relu"),
    (3, 24, 3, 1, False, "relu"),
    (3, 40, 5, 2, True, "relu"),
    (3, 40, 5, 1, True, "relu"),
    (3, 40, 5, 1, True, "relu"),
    (6, 80, 3, 2, False, "hard_swish"),
    (2.5, 80, 3, 1, False, "hard_swish"),
    (2.3, 80, 3, 1, False, "hard_swish"),
    (2.3, 80, 3, 1, False, "hard_swish"),
    (6, 112, 3, 1, True, "hard_swish"),
    (6, 112, 3, 1, True, "hard_swish"),
    (6, 160, 5, 2, True, "hard_swish"),
    (6, 160, 5, 1, True, "hard_swish"),
    (6, 160, 5, 1, True, "hard_swish"),
)
SQUEEZE = 0.25  # the squeezed channels, as a share of the depthwise convolution's
ALPHAS = (0.1, 2.0)


def small(alpha: float, padding: str, epsilon: float) -> Plan:
    """MobileNetV3-Small of width `alpha`, 53 sites.

    Raises:
        UsageError: alpha is out of range.
    """
    return _plan("mobilenet_v3_small", SMALL, 1024, alpha, padding, epsilon)


def large(alpha: float, padding: str, epsilon: float) -> Plan:
    """MobileNetV3-Large of width `alpha`, 63 sites.

    Raises:
        UsageError: alpha is out of range.
    """
    return _plan("mobilenet_v3_large", LARGE, 1280, alpha, padding, epsilon)


def _plan(name: str, blocks: tuple[Block, ...], features: int, alpha: float, padding: str, epsilon: float) -> Plan:
    require_width(alpha, *ALPHAS)
    net = Builder()
    width = 16  # whatever alpha is
    last = net.site(IMAGE, "conv", 0, "stem", width, 3, 2, "hard_swish")
    for number, (expansion, channels, kernel, stride, squeezed, activation) in enumerate(blocks):
        block, prefix = number + 1, f"expanded_conv_{number}" if number else "expanded_conv"
        entry, hidden, filters = last, divisible(width * expansion), divisible(channels * alpha)
        if number:
            last = net.site(last, f"{prefix}_expand", block, "expand", hidden, 1, 1, activation)
        last = net.site(last, f"{prefix}_depthwise", block, "depthwise", hidden, kernel, stride, activation)
        if squeezed:
            last = _squeeze_and_excite(net, last, f"{prefix}_squeeze_excite", block, hidden)
        last = net.site(last, f"{prefix}_project", block, "project", filters, 1, 1, "linear")
        if stride == 1 and width == filters:
            last = net.add(entry, last)
        width = filters
    last = net.site(last, "conv_1", len(blocks) + 1, "top", divisible(width * 6), 1, 1, "hard_swish")
    if alpha > 1:
        features = divisible(features * alpha)
    net.site(net.mean(last), "conv_2", len(blocks) + 2, "top", features, 1, 1, "hard_swish", normalised=False)
    return Plan(name, alpha, padding, epsilon, tuple(net.nodes))


def _squeeze_and_excite(net: Builder, source: int, name: str, block: int, width: int) -> int:
    gate = net.mean(source)
    gate = net.site(gate, f"{name}_conv", block, "squeeze", divisible(width * SQUEEZE), 1, 1, "relu", normalised=False)
    gate = net.site(gate, f"{name}_conv_1", block, "excite", width, 1, 1, "hard_sigmoid", normalised=False)
    return net.multiply(source, gate)
