"""What a shared graph says of itself, and how it is sealed into the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgepatch import container, quantisation, trunk
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import Plan, Site
from edgepatch.container import Tensors
from edgepatch.runtime import graph_file
from edgepatch.runtime.formats import FORMATS

IMAGE, LOGITS = "image", "logits"
# Activations that stand apart, as an operator of their own behind a TFLite or an int8 convolution, and what is added to
# that one's bias: of a hard sigmoid it makes relu6(x + 3), of which a sixth is left to take.
APART = {"hard_swish": 0.0, "hard_sigmoid": 3.0}


def forms(precision: str) -> list[str]:
    """The forms of a graph: one that computes in int8 cannot be bound, for scales are not data there."""
    return ["bake"] if precision == "int8" else ["bind", "bake"]


def inputs(backbone: Backbone, placement: str) -> dict[str, list[int | None]]:
    """Shapes of the patch inputs, by name in canonical order; None is the number of classes, which is free."""
    total = sum(site.channels for site in backbone.plan.sites if site.within(placement))
    return {"scale": [total], "bias": [total], "head_kernel": [backbone.plan.features, None], "head_bias": [None]}


def ranges_apart(plan: Plan) -> dict[Site, int]:
    """Numbers of the ranges of what convolutions make whose activation stands apart, in forward order.

    The image has range 0, the plan's nodes 1 and on, then come the features, the logits, and these.
    """
    apart = [site for site in plan.sites if site.activation in APART]
    return {site: number for number, site in enumerate(apart, start=len(plan.nodes) + 3)}


def range_count(plan: Plan) -> int:
    """How many ranges a calibrated patch of a network has."""
    return len(plan.nodes) + 3 + len(ranges_apart(plan))


def shift(site: Site) -> float:
    """What is added to a site's bias for an activation that stands apart."""
    return APART.get(site.activation, 0.0)


def row(operator: int | str, number: int, shift: float) -> dict[str, Any]:
    """A site's row of the bake table, as far as a file cannot tell it: `number` is of its input's range."""
    found: dict[str, Any] = {"operator": operator, "input": number}
    return found | {"shift": shift} if shift else found


def left_out(plan: Plan, values: Tensors) -> dict[int, int]:
    """For each node of the blocks that a task's `values` skip the node that is read in its place."""
    gone = trunk.left_out(plan.residuals, values)
    return {number: residual.entry for residual in gone for number in range(residual.entry + 1, residual.join + 1)}


def residuals(plan: Plan) -> list[dict[str, Any]]:
    """The blocks that a task can skip: number, sites, and the nodes that each reads and ends with."""
    return [
        {
            "block": residual.block,
            "sites": [site.index for node in plan.nodes[residual.entry + 1 : residual.join] if (site := node.site)],
            "nodes": [residual.entry, residual.join],
        }
        for residual in plan.residuals
    ]


def kernel(backbone: Backbone, site: Site, placement: str) -> np.ndarray:
    """A site's kernel (HWIO) as the file holds it: the backbone's own scale is folded in where no patch changes it."""
    values = backbone.part(site, "kernel")
    if site.within(placement):
        return values
    scale = backbone.fold(site)[0]
    return values * (scale[:, None] if site.depthwise else scale)


def tensors(backbone: Backbone, precision: str, placement: str) -> Tensors:
    """What a runtime must know of all sites: scale and bias to begin with, and what int8 kernels are scaled by."""
    folded = [backbone.fold(site) for site in backbone.plan.sites]
    inside = [site.within(placement) for site in backbone.plan.sites]
    scales = [scale if own else np.ones_like(scale) for own, (scale, _) in zip(inside, folded, strict=True)]
    found = {"scale": np.concatenate(scales), "bias": np.concatenate([bias for _, bias in folded])}
    if precision in ("dynamic", "int8"):
        kernels = [(kernel(backbone, site, placement), 2 if site.depthwise else 3) for site in backbone.plan.sites]
        found["kernel_max"] = np.concatenate([quantisation.largest(*item) for item in kernels])
    return found


def seal(
    backbone: Backbone,
    kind: str,
    precision: str,
    placement: str,
    *,
    forms: Sequence[str],
    table: dict[str, Any],
    tensors: Tensors,
    attach: Callable[[bytes], bytes],
) -> bytes:
    """The bytes of a graph with its document in it: the bake table and the hash of all other bytes included.

    Args:
        backbone: what the graph was made of.
        kind: `tflite` or `onnx`.
        precision: of the kernels.
        placement: of the sites that the form `bind` has inputs for.
        forms: that the graph has.
        table: which operators and tensors a task changes; see `locate` of the formats.
        tensors: what the container holds beside the document.
        attach: puts packed metadata into the graph and returns its bytes; nothing else moves with the metadata's size.
    """
    format = FORMATS[kind]
    document: dict[str, Any] = {
        "kind": "graph",
        "format": graph_file.FORMAT,
        "architecture": backbone.plan.architecture,
        "alpha": backbone.plan.alpha,
        "backbone_id": backbone.id,
        "precision": precision,
        "forms": list(forms),
        "placement": placement,
        "input": backbone.input.to_json(),
        "sizes": list(backbone.plan.sizes(backbone.input.size)),
        "sites": [
            row | {"bound": site.within(placement)}
            for row, site in zip(backbone.plan.table(), backbone.plan.sites, strict=True)
        ],
        "residuals": residuals(backbone.plan),
        "inputs": inputs(backbone, placement),
        "bake": table,
        "graph_sha256": "0" * 64,
    }
    document["bake"] = format.locate(attach(b""), document, tensors)

    def packed() -> bytes:
        return format.pack(container.dump(document, tensors))

    data = attach(packed())
    span = graph_file.find(data, kind)
    assert span is not None, "the graph's metadata cannot be found where it was just put"
    document["graph_sha256"] = graph_file.hash_around(data, span)  # of the same length, so the span stays
    sealed = data[: span[0]] + packed() + data[span[1] :]
    graph_file.parse(sealed, "the exported graph")
    return sealed
