"""Backbone files: the plan of an imported network, its tensors, what it says of itself."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from edgepatch import container
from edgepatch.backbones import backbone, plan_json
from edgepatch.backbones.plan import Plan
from edgepatch.errors import EdgepatchError
from edgepatch.imaging import Preprocessing

from . import common, containers
from .dice import Dice

LIMIT = 1 << 16


def one(data: bytes) -> None:
    with common.refusals():
        found = backbone.parse(data, "file")
        assert found.plan.table() and found.plan.residuals is not None
        assert np.isfinite(found.trunk.scale).all()
        if found.labels:
            found.own_patch()
        with common.refusals():
            found.at(64)


def mutate(data: bytes, dice: Dice, limit: int) -> bytes:
    changed = containers.mutated(data, dice, limit)
    return identified(changed)[:limit] if dice.one_in(2) else changed


def identified(data: bytes) -> bytes:
    """A backbone that says of itself what it is now, as far as that can be reckoned."""
    with contextlib.suppress(EdgepatchError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        document, entries, body = containers.split(data)
        tensors = container.parse(data, "file")[1]
        document["backbone_id"] = _id(document, tensors)
        return containers.joined(document, entries, body)
    return data


def _id(document: dict[str, Any], tensors: container.Tensors) -> str:
    nodes = plan_json.from_json(document["plan"], document["input"]["size"], document["padding"])
    plan = Plan(document["architecture"], document["alpha"], document["padding"], document["epsilon"], nodes)
    return backbone.Backbone(plan, tensors, Preprocessing.from_json(document["input"])).id


def seeds() -> dict[str, bytes]:
    return common.own(".backbone")
