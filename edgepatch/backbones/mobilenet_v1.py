"""MobileNetV1 (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
2017, table 1).

A site is a convolution with its batch norm and relu6. A block is a depthwise convolution and the pointwise one behind
it, which has the placement `project`: it mixes the depthwise one's channels, as projections do. No block expands, none
has a shortcut.
"""

from __future__ import annotations

from edgepatch.backbones.plan import IMAGE, Builder, Plan, require_width

# output channels of the pointwise convolution, stride of the depthwise one
BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
)  # fmt: skip
ALPHAS = (0.1, 2.0)


def plan(alpha: float, padding: str, epsilon: float) -> Plan:
    """MobileNetV1 of width `alpha`, 27 sites.

    Raises:
        UsageError: alpha is out of range.
    """
    require_width(alpha, *ALPHAS)
    # Keras puts a strided depthwise convolution's zeros behind whatever the size, `same` for even sizes only
    strided = (0, 1) if padding == "same" else None
    net = Builder()
    width = int(32 * alpha)
    last = net.site(IMAGE, "conv1", 0, "stem", width, 3, 2, "relu6")
    for block, (channels, stride) in enumerate(BLOCKS, start=1):
        pads = strided if stride == 2 else None
        last = net.site(last, f"conv_dw_{block}", block, "depthwise", width, 3, stride, "relu6", pads=pads)
        width = int(channels * alpha)
        last = net.site(last, f"conv_pw_{block}", block, "project", width, 1, 1, "relu6")
    return Plan("mobilenet_v1", alpha, padding, epsilon, tuple(net.nodes))
