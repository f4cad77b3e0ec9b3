"""What of an offer is new to a store: what to fetch, what to take away, and what to leave as it is, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence, Set
from typing import Any

from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, UsageError
from edgepatch.runtime.store import State, Version
from edgepatch.updates import names
from edgepatch.updates.described import Published
from edgepatch.updates.device.settings import Delivered
from edgepatch.updates.device.trust import Offer, Refusals


@dataclasses.dataclass
class Plan:
    """What an update is to do.

    Attributes:
        graph: the one to be installed; None if the store has it.
        patches: to be installed.
        remove: tasks that are to go, with the reason.
        same: tasks that are there already.
        kept: tasks that are left as they are, with the reason.
        refused: what is offered and not taken.
    """

    graph: Published | None
    patches: list[Published] = dataclasses.field(default_factory=list)
    remove: dict[str, str] = dataclasses.field(default_factory=dict)
    same: list[Published] = dataclasses.field(default_factory=list)
    kept: dict[str, str] = dataclasses.field(default_factory=dict)
    refused: Refusals = dataclasses.field(default_factory=Refusals)

    @property
    def files(self) -> list[Published]:
        """All that has to be fetched."""
        return [*([self.graph] if self.graph else []), *self.patches]

    def drop(self, role: str, error: EdgepatchError) -> None:
        """Leave out what a role has that is new."""
        for each in [each for each in self.patches if each.role == role]:
            self.patches.remove(each)
            self.refused.add(each.task, role, error)

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
    graph_asked: bool,
    damaged: Set[str],
) -> Plan:
    """Hold an offer against a store.

    Args:
        state: of the store; None where there is none yet.
        delivered: what updates brought before.
        tasks: those that are wanted; None: all.
        asked: whether they were named just now, and not remembered.
        graph: the name of the graph that is wanted; None: the only one, or the one most like the store's.
        graph_asked: whether it was named just now; a remembered one that is published no more counts for nothing.
        damaged: names of the store's objects that are gone or not what they were: they are fetched again.

    Raises:
        UsageError: a task or graph that was named is not published, or one of several graphs has to be.
        MismatchError: the graph is of another backbone, and patches that were made on this device would stay.
        EdgepatchError: nothing is published that a store could begin with.
    """
    chosen = _graph(offer, state, graph, graph_asked)
    is_new = chosen is not None and (
        state is None or state.graph.sha256 != chosen.sha256 or state.graph.name in damaged
    )
    plan = Plan(chosen if is_new else None, refused=offer.refused)
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
            plan.refused.add(task, each.role, _of_another_backbone(each, backbone_id))
        else:
            _weigh(plan, each, state, delivered.get(task), asked=asked, damaged=damaged)
    for task, row in delivered.items():
        if task not in offered and state and task in state.active:
            _miss(plan, task, state.active[task], row, gone=offer.is_gone(names.patch_path(task)))
    for task in tasks or ():
        if task not in offered and task not in plan.remove and task not in plan.kept:
            plan.kept[task] = "is wanted, and not published now"
    leave_backbone(plan, state, delivered)
    _tell_damage(plan, state, damaged)
    return plan


def _tell_damage(plan: Plan, state: State | None, damaged: Set[str]) -> None:
    """Say what is damaged and not fetched again. Another graph waits for it, as all patches are tried with that."""
    mended = {each.task for each in plan.patches} | plan.remove.keys()
    for task, active in state.active.items() if state else ():
        if active.name in damaged and task not in mended:
            problem = "is damaged on this device, and not published as it was"
            mend = "edgepatch store verify STORE says more; install it again, roll back or remove it."
            plan.refused.add(task, "device", BadFileError(problem, field="task", got=task, mend=mend))
            if state and plan.graph and plan.graph.sha256 != state.graph.sha256:
                plan.graph = None


def leave_backbone(plan: Plan, state: State | None, delivered: Mapping[str, Delivered]) -> None:
    """Under a graph of another backbone: what updates brought, and what has nothing in its place, is to go.

    Raises:
        MismatchError: something else would stay: it was made on this device.
    """
    if plan.graph is None or state is None or plan.graph.backbone_id == state.graph.backbone_id:
        return
    staying = state.active.keys() - plan.remove.keys() - {each.task for each in plan.patches}
    own = [task for task in sorted(staying) if not _is_brought(state.active[task], delivered.get(task))]
    if own:
        raise MismatchError(
            "the graph is of another backbone than what was changed on this device",
            file=plan.graph.path,
            field="backbone_id",
            got=plan.graph.backbone_id,
            expected=state.graph.backbone_id,
            mend=f"Take it out, and make it anew on the new one: edgepatch store remove STORE {' '.join(own[:10])}",
        )
    plan.remove |= dict.fromkeys(sorted(staying), "is of the backbone before")
    plan.same = [each for each in plan.same if each.task not in staying]
    for task in staying:
        plan.kept.pop(task, None)


def contradiction(each: Published, said: Mapping[str, object]) -> BadFileError | None:
    """What is wrong where a patch's bytes say, by field, something else of themselves than what was signed."""
    for field, got in said.items():
        if got != (expected := getattr(each, field)):
            problem = "says something else of itself than what was signed"
            return BadFileError(problem, file=each.path, field=field, got=got, expected=expected)
    return None


def _is_brought(active: Version, row: Delivered | None) -> bool:
    """Whether an update brought it: the last one, or one before it that was rolled back to."""
    return row is not None and (active.sha256 == row.sha256 or active.version < row.version)


def _miss(plan: Plan, task: str, active: Version, row: Delivered, *, gone: bool) -> None:
    """What becomes of a task that updates brought and that is not offered."""
    if not gone:
        plan.kept[task] = "stays: whether it is still published cannot be known now"
    elif active.sha256 == row.sha256:
        plan.remove[task] = "is published no more"
    else:
        plan.kept[task] = "is published no more; the one here was changed on this device"


def _weigh(
    plan: Plan, each: Published, state: State | None, row: Delivered | None, *, asked: bool, damaged: Set[str]
) -> None:
    """Put a patch where it belongs. Versions of a task only grow."""
    known = state.tasks.get(each.task) if state else None
    if state and known and known.active and known.active.sha256 == each.sha256:
        # what is believed of bytes that are here is what they say themselves
        here = {"version": known.active.version, "backbone_id": state.graph.backbone_id}
        if error := contradiction(each, here):
            plan.refused.add(each.task, each.role, error)
        else:
            (plan.patches if known.active.name in damaged else plan.same).append(each)
        return
    if known and known.active is None and row is None:  # an update took it away
        row = Delivered(known.newest.version, known.newest.sha256)
        asked = True
    if row and each.version < row.version:
        problem = "is published in an older version than this device was given before"
        mend = "To go back, a publisher gives the older patch a new number: edgepatch publish add --renumber."
        _refuse(plan, each, problem, f"{row.version} or more", mend)
    elif row and each.version == row.version and each.sha256 != row.sha256:
        problem = "is published with other bytes under a version that this device was given before"
        mend = "A publisher gives what is new a new number: edgepatch publish add --renumber."
        _refuse(plan, each, problem, f"more than {row.version}", mend)
    elif known is None or each.version > known.newest.version:
        plan.patches.append(each)
    elif (each.version, each.sha256) == (known.newest.version, known.newest.sha256):
        if asked:
            plan.patches.append(each)
        elif known.active:
            plan.kept[each.task] = f"was rolled back from version {each.version} on this device"
        else:
            plan.kept[each.task] = "was removed on this device; a newer version brings it back, or --task"
    else:
        newest = known.newest.version
        plan.kept[each.task] = f"was changed on this device: its version {newest} is not older than {each.version}"


def _refuse(plan: Plan, each: Published, problem: str, expected: str, mend: str) -> None:
    """Leave a patch out for its version."""
    error = BadFileError(problem, file=each.path, field="version", got=each.version, expected=expected, mend=mend)
    plan.refused.add(each.task, each.role, error)


def _graph(offer: Offer, state: State | None, wanted: str | None, asked: bool) -> Published | None:
    """The graph to have: the one that was named, the only one, or the one of the store's format and precision."""
    graphs = {each.name: each for each in offer.files.values() if each.is_graph}
    if wanted in graphs:
        return graphs[wanted]
    unreadable = any(path.startswith(f"{names.GRAPHS}/") for path in offer.unreadable)
    if unreadable and state and not asked and state.graph.sha256 not in {each.sha256 for each in graphs.values()}:
        return None  # it may well be the one that this device should have: no reason to take another
    if asked:
        raise UsageError(
            "this graph is not published", field="--graph", got=wanted, expected=", ".join(graphs) or "none"
        )
    if not graphs:
        if state is None:
            raise EdgepatchError(
                "no graph is published yet", mend="The publisher has to: edgepatch publish add SITE --graph FILE"
            )
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
        "removed": list(plan.remove),
        "same": [each.task for each in plan.same],
        "kept": plan.kept,
        "refused": [each.to_json() for each in plan.refused],
    }
