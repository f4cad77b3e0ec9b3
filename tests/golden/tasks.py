"""The backbones and the patches: one of each kind, codec and head."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import plans
from conftest import make_patch, pictures

from edgepatch import blob, container
from edgepatch.backbones import weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.boxes import Anchors
from edgepatch.feature_statistics import Statistics
from edgepatch.head_network import Layer, Network
from edgepatch.training import calibration, storing

MAP_SIZE = 64  # of the patches with a head of their own; the graphs are laid out for 32
NEAR, FAR = "b4_project", "top"
ANCHORS = Anchors((((0.3, 0.3), (0.4, 0.2)), ((0.8, 0.8),)))
LABELS = ("cat", "dog")


@functools.cache
def backbone(name: str) -> Backbone:
    """`gated`, 22 sites with every type of node, or `mobilenet`, MobileNetV2 0.1; both 32 px with random weights."""
    if name == "gated":
        return plans.made(plans.gated)
    return weights.create("mobilenet_v2", alpha=0.1, size=32, source="random", seed=1)


def patches(name: str) -> dict[str, bytes]:
    """The patch files of a backbone, by name."""
    own = backbone(name)
    made = _mobilenets(own) if name == "mobilenet" else _gateds(own)
    found = {task: blob.dump(_calibrated(own, dataclasses.replace(patch, task=task))) for task, patch in made.items()}
    if name == "gated":
        found["first_format"] = _first_format(found["scale_bias"])
    return found


def _gateds(own: Backbone) -> dict[str, Patch]:
    scale_bias = _odd_scales(make_patch(own, 1, 3))
    finder = _with_head(own, make_patch(own, 13, 2), _detector(2), "detector", **_DETECTOR)
    painter = _with_head(own, make_patch(own, 14, 2), _segmenter(2), "segmenter")
    everything = make_patch(own, 9, 4, kinds="scale_bias+depthwise+bottom:1+mask+policy")
    return {
        "scale_bias": scale_bias,
        "scale_bias_int8": _packed(own, make_patch(own, 2, 5)),
        "projections": make_patch(own, 3, 3, kinds="scale_bias@project"),
        "bias": make_patch(own, 4, 3, kinds="bias"),
        "bias_int8": _packed(own, make_patch(own, 4, 3, kinds="bias")),
        "depthwise": make_patch(own, 5, 3, kinds="depthwise"),
        "bottom_int8": _packed(own, make_patch(own, 6, 3, kinds="bottom:1+depthwise")),
        "top": _packed(own, make_patch(own, 15, 3, kinds="top:1")),
        "mask": make_patch(own, 7, 3, kinds="mask"),
        "skip": make_patch(own, 8, 3, kinds="policy"),
        "everything": everything,
        "head_only": _head_only(scale_bias),
        "many_classes": _packed(own, make_patch(own, 10, 40)),
        "cropped": dataclasses.replace(
            make_patch(own, 11, 3), input=dataclasses.replace(own.input, size=48, resize="crop")
        ),
        "small": dataclasses.replace(
            make_patch(own, 16, 2, kinds="bias"), input=dataclasses.replace(own.input, size=16)
        ),
        "enrollable": _enrollable(own, make_patch(own, 12, 3)),
        "finder": finder,
        "finder_int8": _packed(own, finder),
        "painter": painter,
        "painter_int8": _packed(own, painter),
    }


def _mobilenets(own: Backbone) -> dict[str, Patch]:
    return {
        "mobilenet_int8": _packed(own, make_patch(own, 1, 3)),
        "mobilenet_skip": make_patch(own, 2, 3, kinds="policy+mask@project+bottom:1"),
    }


def _calibrated(own: Backbone, patch: Patch) -> Patch:
    pixels = np.stack(pictures(16, size=patch.input.size))
    return dataclasses.replace(patch, ranges=calibration.calibrate(own.at(patch.input.size), patch, pixels))


def _odd_scales(patch: Patch) -> Patch:
    """Some below zero, which turns signs, and one zero, which leaves a channel its bias alone."""
    scale = patch.tensors["scale"].copy()
    scale[::17] *= -1
    scale[5] = 0
    return dataclasses.replace(patch, tensors={**patch.tensors, "scale": scale})


def _packed(own: Backbone, patch: Patch) -> Patch:
    values = {name: value.astype(np.float32) for name, value in patch.tensors.items()}
    return storing.encode(own, patch, values, "int8")


def _head_only(patch: Patch) -> Patch:
    tensors = {name: value for name, value in patch.tensors.items() if name.startswith("head_")}
    return dataclasses.replace(patch, kinds={"classifier": tuple(tensors)}, tensors=tensors, sites={})


def _enrollable(own: Backbone, patch: Patch) -> Patch:
    centre = np.random.default_rng(1).integers(0, 256, own.plan.features, np.uint8)
    return dataclasses.replace(patch, statistics=Statistics(centre, 0.5, -1.5, 20.0, 40.0, 0.0, 0.0125, (7,)))


def _first_format(data: bytes) -> bytes:
    """As the first patches were written: one list of sites, no codec, no statistics."""
    document, tensors = container.parse(data, "x")
    numbers = document["sites"]["scale"]
    document["sites"] = {"placement": "all", "channels": numbers}
    for name in ("codec", "statistics"):
        del document[name]
    return container.dump({**document, "task": "first_format"}, tensors)


_DETECTOR = {"activation": "softmax", "anchors": ANCHORS.to_json(), "score": 0.35, "overlap": 0.5, "limit": 20}


def _detector(classes: int) -> Network:
    return Network(
        (NEAR, FAR),
        (
            Layer("near", "depthwise", (NEAR,), kernel=3, activation="relu6"),
            Layer("near_classes", "conv", ("near",), 2 * (1 + classes)),
            Layer("near_boxes", "conv", ("near",), 2 * 4),
            Layer("far", "conv", (FAR,), 8, kernel=3, stride=2, activation="relu"),
            Layer("far_classes", "conv", ("far",), 1 + classes),
            Layer("far_boxes", "conv", ("far",), 4),
        ),
        ("near_classes", "near_boxes", "far_classes", "far_boxes"),
    )


def _segmenter(classes: int) -> Network:
    return Network(
        (NEAR, FAR),
        (
            Layer("mean", "mean", (FAR,)),
            Layer("gate", "conv", ("mean",), 8, activation="sigmoid"),
            Layer("far", "conv", (FAR,), 8, activation="relu"),
            Layer("gated", "multiply", ("far", "gate")),
            Layer("grown", "resize", ("gated", NEAR)),
            Layer("high", "conv", ("grown",), classes),
            Layer("low", "conv", (NEAR,), classes),
            Layer("answer", "add", ("high", "low")),
        ),
        ("answer",),
    )


def _with_head(own: Backbone, patch: Patch, network: Network, head: str, **decode: Any) -> Patch:
    """A patch with this head in place of its own."""
    rng = np.random.default_rng(3)
    shapes = network.tensors({site.name: site.channels for site in own.plan.sites})
    tensors = {name: rng.normal(0, 0.3, shape).astype(np.float16) for name, shape in shapes.items()}
    body = {name: value for name, value in patch.tensors.items() if not name.startswith("head_")}
    kinds = {kind: names for kind, names in patch.kinds.items() if kind != "classifier"}
    return dataclasses.replace(
        patch,
        kinds={**kinds, head: tuple(tensors)},
        labels=LABELS,
        input=dataclasses.replace(patch.input, size=MAP_SIZE),
        tensors={**body, **tensors},
        decode={"head": head, "network": network.to_json(), **decode},
    )
