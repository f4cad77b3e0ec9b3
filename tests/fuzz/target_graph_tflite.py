"""Shared .tflite graphs: the metadata document and the bake table, then patches bound to them and baked into them."""

from __future__ import annotations

import dataclasses
import functools

from edgepatch import blob
from edgepatch.runtime import fitting, graph_file, heads

from . import common, graphs, target_patch
from .dice import Dice

LIMIT = 1 << 17
KIND = "tflite"
PATCHES = ("tiny-scale_bias.epatch", "tiny-everything.epatch", "tiny-segmenter.epatch", "tiny-large.epatch")


def one(data: bytes) -> None:
    examine(data)


def examine(data: bytes) -> None:
    """A graph read; of one that is sound, its trunk's kernels, and patches laid out on it."""
    with common.refusals():
        graph = graph_file.parse(data, "file")
        for each in patches():
            with common.refusals():
                fitted = fitting.fit(graph, dataclasses.replace(each, backbone_id=graph.backbone_id), "file")
                heads.of(each, fitted.values, "file")
                refused = target_patch.lay_out(graph, fitted)
                if refused:
                    raise refused


@functools.cache
def patches() -> tuple[blob.Patch, ...]:
    own = common.own(".epatch")
    return tuple(blob.parse(own[name], name) for name in PATCHES)


def mutate(data: bytes, dice: Dice, limit: int) -> bytes:
    return graphs.mutated(data, KIND, dice, limit)


def seeds() -> dict[str, bytes]:
    return common.own(".tflite")
