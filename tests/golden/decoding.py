"""Heads' outputs that no network made, and the answers in them: crowded boxes, ties, coarse maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch import blob, boxes, container
from edgepatch.blob import Patch
from edgepatch.boxes import Anchors
from edgepatch.container import Tensors
from edgepatch.head_network import Layer, Network
from edgepatch.runtime import heads

from . import running

Case = tuple[str, Patch, Tensors, tuple[int, int]]


def cases(finder: Patch, painter: Patch, classifier: Patch) -> Iterator[Case]:
    """Name, patch, outputs, and the picture's width and height."""
    rng = np.random.default_rng(8)

    def noise(spread: float, *shape: int) -> np.ndarray:
        return rng.normal(0, spread, shape).astype(np.float32)

    yield "logits", classifier, {"logits": noise(3, 1, 3)}, (10, 10)
    yield "alike", classifier, {"logits": np.float32([[1.5, 2.5, 2.5]])}, (10, 10)
    anchors, sides, classes = boxes.spread(3), (6, 3, 2), 4
    for activation in ("softmax", "sigmoid"):
        outputs = {}
        for number, (side, count) in enumerate(zip(sides, anchors.counts, strict=True)):
            outputs[f"classes{number}"] = noise(2, 1, side, side, count * (1 + classes))
            outputs[f"boxes{number}"] = noise(1, 1, side, side, count * 4)
        outputs["boxes2"][0, 0, 0, :4] = 60  # beyond what sizes are let grow to
        patch = _detector(finder, anchors, classes, activation)
        yield f"crowd_{activation}", patch, outputs, (640, 357)
    few = _detector(finder, Anchors((((0.5, 0.5),),)), 1, "softmax")
    alike = {"classes0": np.zeros((1, 2, 2, 2), np.float32), "boxes0": np.zeros((1, 2, 2, 4), np.float32)}
    yield "equal_scores", few, alike, (31, 17)
    yield "none", few, {**alike, "classes0": np.float32([9, -9] * 4).reshape(1, 2, 2, 2)}, (31, 17)
    # a score and an overlap of exactly what is asked for: both boxes stay
    pair = _detector(finder, Anchors((((0.5, 0.5), (0.25, 0.5)),)), 1, "sigmoid", score=0.5, overlap=0.5)
    zeros = {"classes0": np.zeros((1, 1, 1, 4), np.float32), "boxes0": np.zeros((1, 1, 1, 8), np.float32)}
    yield "on_threshold", pair, zeros, (31, 17)
    yield "candidates", *_candidates(finder, noise), (100, 100)
    for name, size in (
        ("grown", (57, 40)),
        ("shrunk", (5, 3)),
        ("kept", (8, 8)),
        ("narrow", (8, 33)),
        ("strip", (64, 3)),
    ):
        yield name, painter, {"answer": noise(1, 1, 8, 8, 2)}, size
    many = dataclasses.replace(
        painter, labels=tuple(map(str, range(21))), decode={"head": "segmenter", "network": _one(21).to_json()}
    )
    yield "many_classes", many, {"answer": np.rint(noise(1, 1, 5, 5, 21) * 2) / 2}, (33, 21)


def write(folder: Path, patches: dict[str, bytes]) -> dict[str, Any]:
    """The outputs as containers, whose document is the patch's `labels`, `decode` and picture, and the answers."""
    folder.mkdir(parents=True)
    read = {name: blob.parse(patches[name], name) for name in ("finder", "painter", "scale_bias")}
    found = {}
    for name, patch, outputs, picture in cases(read["finder"], read["painter"], read["scale_bias"]):
        document = {"labels": list(patch.labels), "decode": dict(patch.decode), "picture": list(picture)}
        (folder / f"{name}.tensors").write_bytes(container.dump(document, outputs))
        found[name] = answer(patch, outputs, picture)
    return found


def answer(patch: Patch, outputs: Tensors, picture: tuple[int, int]) -> dict[str, Any]:
    values = {"head_kernel": np.zeros((1, len(patch.labels))), "head_bias": np.zeros(len(patch.labels))}
    return running.answer(heads.of(patch, values, "patch").decode(outputs, patch, picture))


def _candidates(finder: Patch, noise: Any) -> tuple[Patch, Tensors]:
    """More boxes of a class than are looked at: those in a corner are not, though none overlaps them."""
    patch = _detector(finder, Anchors((((0.3, 0.3),) * 64,)), 1, "sigmoid", score=0.01, overlap=0.5, limit=1000)
    logits = np.rint(noise(8, 1, 3, 3, 64 * 2)) / 4  # many are alike
    logits[0, 0, 0] = -4
    return patch, {"classes0": logits, "boxes0": np.zeros((1, 3, 3, 64 * 4), np.float32)}


def _one(channels: int) -> Network:
    return Network(("top",), (Layer("answer", "conv", ("top",), channels),), ("answer",))


def _detector(finder: Patch, anchors: Anchors, classes: int, activation: str, **how: Any) -> Patch:
    layers, names = [], []
    for number, count in enumerate(anchors.counts):
        for name, channels in ((f"classes{number}", count * (1 + classes)), (f"boxes{number}", count * 4)):
            layers.append(Layer(name, "conv", ("top",), channels))
            names.append(name)
    network = Network(("top",), tuple(layers), tuple(names))
    decode = {
        "head": "detector", "activation": activation, "anchors": anchors.to_json(), "network": network.to_json(),
        "score": 0.4, "overlap": 0.45, "limit": 25, **how,
    }  # fmt: skip
    return dataclasses.replace(finder, labels=tuple(map(str, range(classes))), decode=decode)
