"""The plan in numpy, written from its docstrings alone: the reference that every builder is held against."""

from __future__ import annotations

import numpy as np

from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE, Site


def logits(backbone: Backbone, values: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """Logits (1, classes) of one image (1, size, size, 3); `values` as of a task, with `NAME/kernel` and `skip`."""
    return trace(backbone, values, image)[len(backbone.plan.nodes) + 2]


def ranges(backbone: Backbone, values: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """The smallest and largest of every value over some images, float32 (ranges, 2)."""
    traces = [trace(backbone, values, image[None]) for image in images]
    return np.float32([(np.min(found), np.max(found)) for found in zip(*traces, strict=True)])


def trace(backbone: Backbone, values: dict[str, np.ndarray], image: np.ndarray) -> list[np.ndarray]:
    """All values on the way, numbered as a patch's ranges are."""
    plan = backbone.plan
    ends = np.cumsum(plan.channels)
    skipped = {
        residual.join: residual.entry
        for residual, left_out in zip(plan.residuals, values.get("skip", [False] * len(plan.residuals)), strict=True)
        if left_out
    }
    found: list[np.ndarray] = []
    apart: list[np.ndarray] = []  # what int8 convolutions make whose activation is an operator of its own
    for number, node in enumerate(plan.nodes):
        sources = [image[0] if index == IMAGE else found[index] for index in node.inputs]
        if number in skipped:
            found.append(found[skipped[number]])
        elif node.site:
            cut = slice(ends[node.site.index] - node.site.channels, ends[node.site.index])
            kernel = values.get(f"{node.site.name}/kernel", backbone.part(node.site, "kernel"))
            x = convolve(backbone, node.site, kernel, sources[0]) * values["scale"][cut] + values["bias"][cut]
            found.append(activate(x, node.site.activation))
            if node.site.activation.startswith("hard_"):
                apart.append(x if node.site.activation == "hard_swish" else np.clip(x + 3, 0, 6))
        elif node.op == "mean":
            found.append(sources[0].mean(axis=(0, 1), keepdims=True))
        else:
            found.append(sources[0] + sources[1] if node.op == "add" else sources[0] * sources[1])
    features = found[-1].mean(axis=(0, 1), keepdims=True)[0]
    return [image, *found, features, features @ values["head_kernel"] + values["head_bias"], *apart]


def activate(x: np.ndarray, activation: str) -> np.ndarray:
    sixth = np.clip(x + 3, 0, 6) / 6
    return {
        "linear": x,
        "relu": np.maximum(x, 0),
        "relu6": np.clip(x, 0, 6),
        "hard_swish": x * sixth,
        "hard_sigmoid": sixth,
    }[activation]


def convolve(backbone: Backbone, site: Site, kernel: np.ndarray, x: np.ndarray) -> np.ndarray:
    height, width = site.kernel[:2]
    around = backbone.plan.pads(site, x.shape[0])
    x = np.pad(x.astype(np.float64), (around, around, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (height, width), axis=(0, 1))
    windows = windows[:: site.stride, :: site.stride]  # (rows, columns, channels, height, width)
    if site.depthwise:
        return np.einsum("xychw,hwc->xyc", windows, kernel[..., 0].astype(np.float64))
    return np.einsum("xychw,hwco->xyo", windows, kernel.astype(np.float64), optimize=True)
