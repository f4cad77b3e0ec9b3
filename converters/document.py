"""What a shared graph says of itself, and how it is sealed into the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgepatch import container
from edgepatch.backbones.backbone import Backbone
from edgepatch.runtime import graph_file

IMAGE, LOGITS = "image", "logits"


def inputs(backbone: Backbone) -> dict[str, list[int | None]]:
    """Shapes of the patch inputs, by name in canonical order; None is the number of classes, which is free."""
    total, features = sum(backbone.plan.channels), backbone.plan.features
    return {"scale": [total], "bias": [total], "head_kernel": [features, None], "head_bias": [None]}


def seal(backbone: Backbone, kind: str, precision: str, attach: Callable[[bytes], bytes]) -> bytes:
    """The bytes of a graph with its document in it, the hash of all other bytes included.

    Args:
        backbone: what the graph was made of.
        kind: `tflite` or `onnx`.
        precision: of the kernels.
        attach: puts packed metadata into the graph and returns its bytes.
    """
    document: dict[str, Any] = {
        "kind": "graph",
        "format": graph_file.FORMAT,
        "architecture": backbone.plan.architecture,
        "alpha": backbone.plan.alpha,
        "backbone_id": backbone.id,
        "precision": precision,
        "forms": ["bind"],
        "input": backbone.input.to_json(),
        "sites": backbone.plan.table(),
        "inputs": inputs(backbone),
        "graph_sha256": "0" * 64,
    }

    def packed() -> bytes:
        return graph_file.pack(container.dump(document, backbone.defaults()), kind)

    data = attach(packed())
    span = graph_file.find(data, kind)
    assert span is not None, "the graph's metadata cannot be found where it was just put"
    document["graph_sha256"] = graph_file.hash_around(data, span)  # of the same length, so the span stays
    sealed = data[: span[0]] + packed() + data[span[1] :]
    graph_file.parse(sealed, "the exported graph")
    return sealed
