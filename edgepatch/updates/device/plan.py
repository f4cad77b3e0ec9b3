"""What of an offer is new to a store: what to fetch, what to take away, and what to leave as it is, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, UsageError
from edgepatch.runtime.store import State
from edgepatch.updates import names
from edgepatch.updates.described import Published
from edgepatch.updates.device.settings import Delivered
from edgepatch.updates.device.trust import Offer, Refusal


@dataclasses.dataclass
class Plan:
    """What an update is to do.

    Attributes:
        graph: the one to be installed; None if the store has it.
        patches: to be installed.
        remove: tasks that nobody publishes any more.
        same: tasks that are there already.
        kept: tasks that are left as they are, with the reason.
        refused: what is offered and not taken.
    """

    graph: Published | None
    patches: list[Published] = dataclasses.field(default_factory=list)
    remove: list[str] = dataclasses.field(default_factory=list)
    same: list[Published] = dataclasses.field(default_factory=list)
    kept: dict[str, str] = dataclasses.field(default_factory=dict)
    refused: list[Refusal] = dataclasses.field(default_factory=list)

    @property
    def files(self) -> list[Published]:
        """All that has to be fetched."""
        return [*([self.graph] if self.graph else []), *self.patches]

    @property
    def changes(self) -> bool:
        return bool(self.files or self.remove)


def make(
    offer: Offer,
    state: State | None,
    delivered: Mapping[str, Delivered],
    *,
    tasks: Sequence[str] | None,
    asked: bool,
    graph: str | None,
) -> Plan:
    """Hold an offer against a store.

    Args:
        state: of the store; None where there is none yet.
        delivered: what updates brought before.
        tasks: those that are wanted; None: all.
        asked: whether they were named just now, and not remembered.
        graph: the name of the graph that is wanted; None: the only one, or the one most like the store's.

    Raises:
        UsageError: a task or graph that was named is not published, or one of several graphs has to be.
        EdgepatchError: nothing is published that a store could begin with.
    """
    chosen = _graph(offer, state, graph)
    is_new = chosen is not None and (state is None or state.graph.sha256 != chosen.sha256)
    plan = Plan(chosen if is_new else None, refused=list(offer.refused))
    backbone_id = chosen.backbone_id if chosen else state.graph.backbone_id if state else ""
    offered = {each.task: each for each in offer.files.values() if not each.is_graph}
    if asked and (missing := [task for task in tasks or () if offer.is_gone(names.patch_path(task))]):
        raise UsageError(
            "this task is not published",
            field="--task",
            got=missing[0],
            expected=", ".join(sorted(offered))[:400] or "none yet",
        )
    for task, each in offered.items():
        if tasks is not None and task not in tasks:
            continue
        if each.backbone_id != backbone_id:
            plan.refused.append(Refusal(task, each.role, _of_another_backbone(each, backbone_id)))
        else:
            _weigh(plan, each, state, delivered.get(task))
    for task, row in delivered.items():
        active = state.active.get(task) if state else None
        if active and offer.is_gone(names.patch_path(task)):
            if active.sha256 == row.sha256:
                plan.remove.append(task)
            else:
                plan.kept[task] = "is published no more; the one here was changed on this device"
    for task in tasks or ():
        if task not in offered and task not in plan.remove and task not in plan.kept:
            plan.kept[task] = "is wanted, and not published now"
    return plan


def _weigh(plan: Plan, each: Published, state: State | None, row: Delivered | None) -> None:
    """Put a patch where it belongs. Versions of a task only grow."""
    known = state.tasks.get(each.task) if state else None
    if known and known.active and known.active.sha256 == each.sha256:
        plan.same.append(each)
        return
    if row and each.version < row.version:
        error = BadFileError(
            "is published in an older version than this device was given before",
            file=each.path,
            field="version",
            got=each.version,
            expected=f"{row.version} or more",
            mend="To go back, a publisher gives the older patch a new number: edgepatch publish add --renumber.",
        )
        plan.refused.append(Refusal(each.task, each.role, error))
    elif row and each.version == row.version and each.sha256 != row.sha256:
        error = BadFileError(
            "is published with other bytes under a version that this device was given before",
            file=each.path,
            field="version",
            got=each.version,
            expected=f"more than {row.version}",
            mend="A publisher gives what is new a new number: edgepatch publish add --renumber.",
        )
        plan.refused.append(Refusal(each.task, each.role, error))
    elif known is None or each.version > known.newest.version:
        plan.patches.append(each)
    elif (each.version, each.sha256) == (known.newest.version, known.newest.sha256):
        if known.active:
            plan.kept[each.task] = f"was rolled back from version {each.version} on this device"
        else:
            plan.patches.append(each)
    else:
        plan.kept[each.task] = f"version {known.newest.version} of this device is not older than {each.version}"


def _graph(offer: Offer, state: State | None, wanted: str | None) -> Published | None:
    """The graph to have: the one that was named, the only one, or the one of the store's format and precision."""
    graphs = {each.name: each for each in offer.files.values() if each.is_graph}
    if wanted is not None:
        if wanted not in graphs:
            raise UsageError(
                "this graph is not published", field="--graph", got=wanted, expected=", ".join(graphs) or "none"
            )
        return graphs[wanted]
    if not graphs:
        if state is None:
            raise EdgepatchError("no graph is published yet", mend="edgepatch publish add REPO --graph FILE")
        return None
    likely = list(graphs.values())
    if state and len(likely) > 1:
        here = state.graph
        likely = [each for each in likely if each.sha256 == here.sha256] or [
            each for each in likely if (each.format, each.precision) == (here.format, here.precision)
        ]
    if len(likely) != 1:
        raise UsageError(
            "several graphs are published: which one this device runs has to be said once",
            field="--graph",
            expected=" or ".join(graphs),
        )
    return likely[0]


def _of_another_backbone(each: Published, backbone_id: str) -> MismatchError:
    return MismatchError(
        "is published for another backbone than the graph",
        file=each.path,
        field="backbone_id",
        got=each.backbone_id,
        expected=backbone_id,
    )


def to_json(plan: Plan) -> dict[str, Any]:
    """For `--json`."""
    return {
        "graph": plan.graph.to_json() if plan.graph else None,
        "patches": [each.to_json() for each in plan.patches],
        "removed": plan.remove,
        "same": [each.task for each in plan.same],
        "kept": plan.kept,
        "refused": [each.to_json() for each in plan.refused],
    }
