"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks", 2019, table 1) without squeeze-and-excite, with relu6 in place of swish, as TensorFlow's TPU models have it.

A site is a convolution with its batch norm and, but for the projections, relu6. There is one width.
"""

from __future__ import annotations

from edgepatch.backbones.plan import IMAGE, Builder, Plan, require_width

# expansion, output channels, repeats, depthwise kernel, stride of the first
BLOCKS = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
ALPHAS = (1.0, 1.0)


def plan(alpha: float, padding: str, epsilon: float) -> Plan:
    """EfficientNet-Lite0, 49 sites.

    Raises:
        UsageError: alpha is not 1.0.
    """
    require_width(alpha, *ALPHAS)
    net = Builder()
    width, number = 32, 0
    last = net.site(IMAGE, "stem", 0, "stem", width, 3, 2, "relu6")
    for expansion, filters, repeats, kernel, first_stride in BLOCKS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            name, block = f"block_{number}", number + 1
            entry, hidden = last, width * expansion
            if expansion != 1:
                last = net.site(last, f"{name}_expand", block, "expand", hidden, 1, 1, "relu6")
            last = net.site(last, f"{name}_depthwise", block, "depthwise", hidden, kernel, stride, "relu6")
            last = net.site(last, f"{name}_project", block, "project", filters, 1, 1, "linear")
            if stride == 1 and width == filters:
                last = net.add(entry, last)
            width = filters
            number += 1
    net.site(last, "top", number + 1, "top", 1280, 1, 1, "relu6")
    return Plan("efficientnet_lite0", alpha, padding, epsilon, tuple(net.nodes))
