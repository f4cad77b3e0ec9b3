"""COCO's own detector as a task of its backbone: a patch that changes nothing in the trunk."""

from __future__ import annotations

import os

import numpy as np

from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.weights import coco_ssd
from edgepatch.backbones.weights.coco_ssd import MAPS, Detector
from edgepatch.blob import Patch
from edgepatch.boxes import Anchors
from edgepatch.container import Tensors
from edgepatch.errors import MismatchError
from edgepatch.head_network import PREFIX, Layer, Network

SCORE, OVERLAP, LIMIT = 0.5, 0.6, 100  # the overlap and the limit of the object detection API that trained it


def of(backbone: Backbone, tarball: str | os.PathLike[str] | None = None, *, file: object = None) -> Patch:
    """The detector that a backbone was the trunk of, as `patch` makes it.

    The head is read from where the trunk came from: no backbone file holds it.

    Args:
        backbone: of any input size; the patch is for pictures of the detector's.
        tarball: as `coco_ssd.load` takes it.
        file: of the backbone, for errors.

    Raises:
        MismatchError: it is not the detector's trunk, or no longer.
        EdgepatchError: as `coco_ssd.load`.
    """
    found = coco_ssd.load(tarball)
    if backbone.id != found.backbone.id:
        raise MismatchError(
            "is not the trunk of the COCO detector, or was trained since: its head does not go with it",
            file=file,
            field="backbone_id",
            got=backbone.id,
            expected=found.backbone.id,
            mend=f"edgepatch backbone create mobilenet_v2 --size {coco_ssd.SIZE} --weights {coco_ssd.SOURCE} "
            "--out coco.backbone",
        )
    return patch(found)


def patch(found: Detector) -> Patch:
    """The detector's patch, of the 80 classes that there are.

    Boxes are y first in the detector and x first in a patch, and codings are multiplied by variances, not divided.
    """
    found = found.compact()
    boxes = {output.boxes for output in found.outputs}
    layers: list[Layer] = []
    tensors: Tensors = {}
    for row in found.layers:
        kernel, bias = row["kernel"], row["bias"]
        if row["name"] in boxes:
            kernel, bias = _x_first(kernel), _x_first(bias)
        if row["op"] == "depthwise":
            kernel = kernel[..., 0]
        activation = {"none": "linear"}.get(row["activation"], row["activation"])
        channels = 0 if row["op"] == "depthwise" else len(bias)
        made = Layer(row["name"], row["op"], tuple(row["inputs"]), channels, len(kernel), row["stride"], activation)
        layers.append(made)
        tensors |= _named(made, kernel, bias)
    names = [name for output in found.outputs for name in (output.classes, output.boxes)]
    vy, vx, vh, vw = found.variances
    decode = {
        "network": Network(MAPS, tuple(layers), tuple(names)).to_json(),
        "head": "detector",
        "activation": "sigmoid",
        "anchors": Anchors(_shapes(found), (1 / vx, 1 / vy, 1 / vw, 1 / vh)).to_json(),
        "score": SCORE,
        "overlap": OVERLAP,
        "limit": LIMIT,
    }
    return Patch(
        "coco",
        found.backbone.id,
        {"detector": tuple(tensors)},
        found.labels,
        found.backbone.input,
        tensors,
        decode=decode,
        licence=str(found.backbone.source.get("licence", "")),
    )


def _named(layer: Layer, kernel: np.ndarray, bias: np.ndarray) -> Tensors:
    named = {"kernel": kernel, "bias": bias}
    return {f"{PREFIX}{layer.name}/{part}": value.astype(np.float16) for part, value in named.items()}


def _x_first(value: np.ndarray) -> np.ndarray:
    """Channels (..., anchors x 4) in the order x, y, width, height in place of y, x, height, width."""
    apart = value.reshape(*value.shape[:-1], -1, 4)[..., [1, 0, 3, 2]]
    return np.ascontiguousarray(apart.reshape(value.shape))


def _shapes(found: Detector) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Width and height of a pixel's anchors, by map."""
    shapes, begin = [], 0
    for output in found.outputs:
        y0, x0, y1, x1 = found.anchors[begin : begin + output.anchors].T
        shapes.append(tuple((float(width), float(height)) for width, height in zip(x1 - x0, y1 - y0, strict=True)))
        begin += output.side**2 * output.anchors
    return tuple(shapes)
