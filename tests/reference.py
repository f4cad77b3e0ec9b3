"""The plan in numpy, written from its docstrings alone: the reference that every builder is held against."""

from __future__ import annotations

import numpy as np

from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE, Site, pads


def logits(backbone: Backbone, values: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """Logits (1, classes) of one image (1, size, size, 3)."""
    ends = np.cumsum(backbone.plan.channels)
    found: list[np.ndarray] = []
    for node in backbone.plan.nodes:
        sources = [image[0] if index == IMAGE else found[index] for index in node.inputs]
        if node.site:
            cut = slice(ends[node.site.index] - node.site.channels, ends[node.site.index])
            x = convolve(backbone, node.site, sources[0]) * values["scale"][cut] + values["bias"][cut]
            found.append(np.clip(x, 0, 6) if node.site.relu6 else x)
        else:
            found.append(sources[0] + sources[1])
    features = found[-1].mean(axis=(0, 1), keepdims=True)[0]
    return features @ values["head_kernel"] + values["head_bias"]


def convolve(backbone: Backbone, site: Site, x: np.ndarray) -> np.ndarray:
    height, width = site.kernel[:2]
    kernel = backbone.part(site, "kernel").astype(np.float64)
    rows = pads(x.shape[0], height, site.stride, backbone.plan.padding)
    columns = pads(x.shape[1], width, site.stride, backbone.plan.padding)
    x = np.pad(x.astype(np.float64), (rows, columns, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (height, width), axis=(0, 1))
    windows = windows[:: site.stride, :: site.stride]  # (rows, columns, channels, height, width)
    if site.depthwise:
        return np.einsum("xychw,hwc->xyc", windows, kernel[..., 0])
    return np.einsum("xychw,hwco->xyo", windows, kernel, optimize=True)
