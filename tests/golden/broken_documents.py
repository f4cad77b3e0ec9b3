"""Broken patches: the document, and tensors at odds with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgepatch import container

from . import source
from .forging import Case, Document, at, forge


def documents() -> Iterator[Case]:
    of = "enrollable.epatch"
    document, tensors = container.parse(source(of), of)
    how, sites, known = document["input"], document["sites"], document["statistics"]

    def nest(depth: int) -> Any:
        return [nest(depth - 1)] if depth else []

    def more(part: Document, **fields: Any) -> Document:
        return {**part, **fields}

    changes: dict[str, Document] = {
        "kind": {"kind": "backbone"},
        "kind_null": {"kind": None},
        "format": {"format": 2},
        "format_true": {"format": True},
        "format_point": {"format": 1.0},
        "task_empty": {"task": ""},
        "task_lines": {"task": "a\nb"},
        "task_long": {"task": "a" * 101},
        "task_unassigned": {"task": "\u0378"},
        "task_hidden": {"task": "a\u200bb"},
        "task_number": {"task": 1},
        "version": {"version": 0},
        "version_true": {"version": True},
        "version_point": {"version": 1.0},
        "version_large": {"version": 2**63},
        "backbone_id": {"backbone_id": "abc"},
        "backbone_id_capitals": {"backbone_id": document["backbone_id"].upper()},
        "backbone_id_null": {"backbone_id": None},
        "labels_twice": {"labels": ["a", "b", "a"]},
        "labels_numbers": {"labels": [1, 2, 3]},
        "labels_empty": {"labels": ["a", "", "b"]},
        "labels_long": {"labels": ["a", "b" * 201, "c"]},
        "labels_text": {"labels": "abc"},
        "input_short": {"input": {"size": 32}},
        "input_more": {"input": more(how, more=1)},
        "input_huge": {"input": more(how, size=10**9)},
        "input_small": {"input": more(how, size=15)},
        "input_point": {"input": more(how, size=32.0)},
        "input_resize": {"input": more(how, resize="fit")},
        "input_two": {"input": more(how, scale=[1, 1])},
        "input_true": {"input": more(how, scale=[1, True, 1])},
        "input_false": {"input": more(how, offset=[0, 0, False])},
        "input_words": {"input": more(how, scale=["1", "1", "1"])},
        "input_text": {"input": more(how, offset="123")},
        "input_large": {"input": more(how, scale=[1e300, 1, 1])},
        "input_larger": {"input": more(how, offset=[10**40, 1, 1])},
        "input_list": {"input": []},
        "sites_backwards": {"sites": more(sites, scale=[1, 0])},
        "sites_twice": {"sites": more(sites, scale=[0, 0])},
        "sites_negative": {"sites": more(sites, scale=[-1])},
        "sites_true": {"sites": more(sites, scale=[True])},
        "sites_far": {"sites": more(sites, scale=[5000])},
        "sites_none": {"sites": more(sites, scale=[])},
        "sites_text": {"sites": more(sites, scale="0")},
        "sites_object": {"sites": more(sites, scale={"0": 1})},
        "sites_one": {"sites": {"scale": sites["scale"]}},
        "sites_empty": {"sites": {}},
        "sites_kernel": {"sites": more(sites, kernel=[0])},
        "sites_surprise": {"sites": more(sites, surprise=[0])},
        "sites_first": {"sites": {"placement": "all"}},
        "sites_first_number": {"sites": {"placement": "all", "channels": 7}},
        "sites_first_negative": {"sites": {"placement": "all", "channels": [8], "sites": [0, -1]}},
        "ranges_more": {"ranges": {"activations": 999}},
        "ranges_point": {"ranges": {"activations": float(document["ranges"]["activations"])}},
        "ranges_none": {"ranges": {}},
        "ranges_fields": {"ranges": more(document["ranges"], more=1)},
        "statistics_none": {"statistics": {}},
        "statistics_less": {"statistics": {name: each for name, each in known.items() if name != "gain"}},
        "statistics_more": {"statistics": more(known, more=1)},
        "statistics_text": {"statistics": more(known, level="1")},
        "statistics_zero": {"statistics": more(known, gain=0)},
        "statistics_large": {"statistics": more(known, level=1e13)},
        "statistics_step": {"statistics": more(known, step=-1)},
        "statistics_true": {"statistics": more(known, low=True)},
        "statistics_pictures": {"statistics": more(known, pictures=[0])},
        "statistics_many": {"statistics": more(known, pictures=[1] * 4)},
        "kinds_none": {"kinds": {}},
        "kinds_text": {"kinds": {"scale_bias": "scale"}},
        "kinds_empty": {"kinds": {"bias": []}},
        "kinds_twice": {"kinds": more(document["kinds"], classifier=["head_kernel", "head_kernel", "head_bias"])},
        "kinds_missing": {"kinds": more(document["kinds"], more=["surprise"])},
        "kinds_less": {"kinds": {"scale_bias": ["scale", "bias"]}},
        "kinds_order": {"kinds": more(document["kinds"], scale_bias=["bias", "scale"])},
        "surprise": {"surprise": 1},
        "metrics_deep": {"metrics": {"nest": nest(511)}},
        "metrics_list": {"metrics": []},
        "licence_null": {"licence": None},
        "codec_list": {"codec": []},
    }
    for name, change in changes.items():
        yield f"document_{name}", of, forge({**document, **change}, tensors)
    yield "document_less", of, forge({name: each for name, each in document.items() if name != "task"}, tensors)

    def replaced(**changed: np.ndarray | None) -> bytes:
        found = {**tensors, **changed}
        return forge(document, {name: value for name, value in found.items() if value is not None})

    ranges = tensors["ranges"]
    yield "tensor_nan", of, replaced(bias=at(tensors["bias"], 3, np.nan))
    yield "tensor_infinite", of, replaced(ranges=at(ranges, (2, 1), np.inf))
    yield "tensor_missing", of, replaced(bias=None)
    yield "tensor_more", of, replaced(more=np.zeros(2, np.float32))
    yield "ranges_backwards", of, replaced(ranges=at(ranges, 2, (1, 0)))
    yield "ranges_wide", of, replaced(ranges=at(ranges, 2, (0, 3e38)))
    yield "ranges_halves", of, replaced(ranges=np.zeros((len(ranges), 2), np.float16))
    yield "ranges_flat", of, replaced(ranges=np.zeros(len(ranges), np.float32))
    yield "ranges_threes", of, replaced(ranges=np.zeros((len(ranges), 3), np.float32))
    yield "centre_floats", of, replaced(centre=tensors["centre"].astype(np.float32))
    yield "centre_empty", of, replaced(centre=np.zeros(0, np.uint8))
    yield "centre_missing", of, replaced(centre=None)
    yield "centre_short", of, replaced(centre=tensors["centre"][:-1])
