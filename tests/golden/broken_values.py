"""Broken patches: what is wrong only beside a network, and heads that do not hold together."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgepatch import container

from . import source
from .forging import Case, at, forge


def stored() -> Iterator[Case]:
    """What can be told only of what a patch stores, against the network."""
    packed = "scale_bias_int8.epatch"
    document, tensors = container.parse(source(packed), packed)

    def how(name: str, **changes: Any) -> bytes:
        found = copy.deepcopy(document)
        found["codec"].setdefault(name, {}).update(changes)
        return forge(found, tensors)

    yield "codec_absent_tensor", packed, how("kernel", bits=6, shape=[8])
    yield "codec_of_a_step", packed, how("scale_step", bits=6, shape=[8])
    yield "codec_no_list", packed, forge({**document, "codec": {**document["codec"], "scale": 6}}, tensors)
    yield "codec_shape", packed, how("scale", shape=[])
    yield "codec_shape_text", packed, how("scale", shape="8")
    yield "codec_shape_zero", packed, how("scale", shape=[0])
    yield "codec_shape_huge", packed, how("scale", shape=[2**31])
    yield "codec_shape_product", packed, how("head_kernel", shape=[2**31 - 1] * 9)
    yield "codec_shape_other", packed, how("head_kernel", shape=[5, 40])
    own_shape = document["codec"]["head_kernel"]["shape"]
    yield "codec_shape_rank", packed, how("head_kernel", shape=[1] * (33 - len(own_shape)) + own_shape)
    yield "codec_shape_largest_rank", packed, how("head_kernel", shape=[1] * (32 - len(own_shape)) + own_shape)
    yield "codec_bits_one", packed, how("scale", bits=1)
    yield "codec_bits_nine", packed, how("scale", bits=9)
    yield "codec_bits_true", packed, how("scale", bits=True)
    yield "codec_bits_other", packed, how("scale", bits=5)
    yield "codec_more", packed, how("scale", more=1)
    fewer_labels = {**document, "labels": document["labels"][:-1]}
    yield "packed_labels", packed, forge(fewer_labels, tensors)
    yield "packed_labels_none", packed, forge({**document, "labels": []}, tensors)
    large = {**tensors, "head_kernel_step": tensors["head_kernel_step"] * np.float32(1e12)}
    yield "packed_labels_and_values", packed, forge(fewer_labels, large)
    half = {name: each for name, each in document["codec"].items() if name != "bias"}
    kinds = {**document["kinds"], "scale_bias": ["scale", "scale_step", "bias"]}
    own = {name: value for name, value in tensors.items() if name != "bias_step"}
    own["bias"] = np.zeros(document["codec"]["bias"]["shape"], np.float16)
    yield "codec_of_one", packed, forge({**document, "codec": half, "kinds": kinds}, own)
    short = {**tensors, "scale_step": tensors["scale_step"][:-1]}
    yield "steps_short", packed, forge(document, short)
    halves = {**tensors, "head_kernel_step": tensors["head_kernel_step"].astype(np.float16)}
    yield "steps_halves", packed, forge(document, halves)

    for of, changes in {
        "scale_bias.epatch": {
            "scale_short": {"scale": lambda value: value[:-1]},
            "scale_square": {"scale": lambda value: value.reshape(2, -1)},
            "bias_large": {"bias": lambda value: at(value.astype(np.float32), 3, 2e8)},
            "head_large": {"head_kernel": lambda value: at(value.astype(np.float32), (0, 0), -2e8)},
            "head_features": {"head_kernel": lambda value: value[:-1]},
            "head_classes": {"head_kernel": lambda value: value[:, :-1]},
            "head_flat": {"head_kernel": np.ravel},
        },
        "mask.epatch": {
            "mask_short": {"mask": lambda value: value[:-1]},
            "mask_signed": {"mask": lambda value: value.astype(np.int8)},
        },
        "skip.epatch": {
            "skip_short": {"skip": lambda value: value[:-1]},
            "skip_two": {"skip": lambda value: at(value, 0, 2)},
            "skip_signed": {"skip": lambda value: value.astype(np.int8)},
        },
        "depthwise.epatch": {"kernel_short": {"kernel": lambda value: value[:-1]}},
    }.items():
        document, tensors = container.parse(source(of), of)
        for name, change in changes.items():
            changed = {each: change[each](value) if each in change else value for each, value in tensors.items()}
            yield name, of, forge(document, changed)
    of = "scale_bias.epatch"
    document, tensors = container.parse(source(of), of)
    yield "sites_beyond", of, forge({**document, "sites": {"scale": [99], "bias": [99]}}, tensors)
    yield "sites_fewer", of, forge({**document, "sites": {**document["sites"], "scale": [0, 1]}}, tensors)
    yield "other_backbone", of, forge({**document, "backbone_id": "0" * 64}, tensors)
    kinds = {**document["kinds"], "more": ["surprise"]}
    added = {**tensors, "surprise": np.zeros(3, np.float32), "ranges": tensors["ranges"]}
    yield "tensor_of_no_graph", of, forge({**document, "kinds": kinds}, {**added, "ranges": added.pop("ranges")})
    kinds = {**document["kinds"], "classifier": ["head_kernel"]}
    fewer = {name: value for name, value in tensors.items() if name != "head_bias"}
    yield "head_bias_missing", of, forge({**document, "kinds": kinds}, fewer)
    bare = {name: value for name, value in tensors.items() if name != "ranges"}
    yield "not_calibrated", of, forge({**document, "ranges": {}}, bare)
    other = {**tensors, "ranges": tensors["ranges"][:-1]}
    yield "ranges_of_another", of, forge({**document, "ranges": {"activations": len(other["ranges"])}}, other)


def heads() -> Iterator[Case]:
    for of, changes in {
        "scale_bias.epatch": {
            "head_unknown": {"head": "oracle"},
            "head_none": {"head": None},
            "head_activation": {"activation": "exp"},
        },
        "finder.epatch": {
            "anchors_none": {"anchors": {}},
            "anchors_fewer": {"anchors": {"shapes": [[[0.3, 0.3]]], "variances": [1] * 4}},
            "anchors_other": {"anchors": {"shapes": [[[0.3, 0.3]], [[0.3, 0.3]]], "variances": [1] * 4}},
            "anchors_zero": {"anchors": {"shapes": [[[0, 0.3]]], "variances": [1] * 4}},
            "anchors_variances": {"anchors": {"shapes": [[[0.3, 0.3]]], "variances": [1] * 3}},
            "score": {"score": 2},
            "score_true": {"score": True},
            "overlap": {"overlap": None},
            "limit": {"limit": 10**9},
            "limit_point": {"limit": 5.0},
            "detector_activation": {"activation": "exp"},
            "detector_as_segmenter": {"head": "segmenter"},
            "network_none": {"network": {}},
        },
        "painter.epatch": {"segmenter_as_detector": {"head": "detector"}},
    }.items():
        document, tensors = container.parse(source(of), of)
        for name, change in changes.items():
            yield f"head_{name}", of, forge({**document, "decode": {**document["decode"], **change}}, tensors)

    of = "painter.epatch"
    document, tensors = container.parse(source(of), of)
    own = document["decode"]["network"]

    def network(**changes: Any) -> bytes:
        return forge({**document, "decode": {**document["decode"], "network": {**own, **changes}}}, tensors)

    def layer(number: int, **changes: Any) -> bytes:
        rows = copy.deepcopy(own["layers"])
        rows[number].update(changes)
        return network(layers=rows)

    yield "network_more", of, network(more=1)
    yield "network_no_maps", of, network(maps=[])
    yield "network_map_twice", of, network(maps=["top", "top"])
    yield "network_other_maps", of, network(maps=["b4_project", "top", "nowhere"])
    yield "network_no_layers", of, network(layers=[])
    yield "network_outputs", of, network(outputs=["nowhere"])
    yield "network_output_twice", of, network(outputs=["answer", "answer"])
    yield "layer_list", of, network(layers=[[]])
    yield "layer_field", of, layer(1, dilation=2)
    yield "layer_name", of, layer(1, name="a b")
    yield "layer_name_twice", of, layer(1, name="mean")
    yield "layer_op", of, layer(1, op="attention")
    yield "layer_inputs", of, layer(1, inputs=["mean", "mean"])
    yield "layer_reads_later", of, layer(1, inputs=["answer"])
    yield "layer_no_channels", of, layer(1, channels=0)
    yield "layer_many_channels", of, layer(1, channels=9000)
    yield "layer_channels_true", of, layer(1, channels=True)
    yield "layer_kernel", of, layer(1, kernel=16)
    yield "layer_kernel_of_mean", of, layer(0, kernel=3)
    yield "layer_stride", of, layer(1, stride=0)
    yield "layer_activation", of, layer(1, activation="gelu")
    yield "layer_other_channels", of, layer(1, channels=9)
    fewer = {name: value for name, value in tensors.items() if name != "head/gate/bias"}
    kinds = {**document["kinds"], "segmenter": [name for name in document["kinds"]["segmenter"] if name in fewer]}
    yield "head_tensor_missing", of, forge({**document, "kinds": kinds}, fewer)
    yield "segmenter_labels", of, forge({**document, "labels": ["a", "b", "c"]}, tensors)
    yield "segmenter_cropped", of, forge({**document, "input": {**document["input"], "resize": "crop"}}, tensors)
    document, tensors = container.parse(source("finder.epatch"), of)
    yield "detector_labels", "finder.epatch", forge({**document, "labels": ["a"]}, tensors)
    yield "detector_no_labels", "finder.epatch", forge({**document, "labels": []}, tensors)
    cropped = {**document["input"], "resize": "crop"}
    yield "detector_cropped", "finder.epatch", forge({**document, "input": cropped}, tensors)
    document, tensors = container.parse(source("scale_bias.epatch"), of)
    yield "classifier_labels", "scale_bias.epatch", forge({**document, "labels": ["a"]}, tensors)
