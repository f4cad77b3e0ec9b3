"""A repository in which every patch fits every graph: new files are held against those that are there."""

from __future__ import annotations

import contextlib
import hashlib
import shlex
from collections.abc import Container, Iterable, Mapping

from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, UsageError
from edgepatch.updates.described import Published
from edgepatch.updates.host import checking
from edgepatch.updates.host.checking import CheckedGraph, CheckedPatch
from edgepatch.updates.host.repository import Repository


def refuse_misfits(
    found: Repository,
    published: Mapping[str, Published],
    patches: Mapping[str, CheckedPatch],
    graphs: Mapping[str, CheckedGraph],
    gone: Container[str] = (),
) -> None:
    """Hold new patches against all graphs, and new graphs against all patches.

    Args:
        gone: paths that are taken out at once.

    Raises:
        UsageError: there is no graph.
        MismatchError, BadFileError: something does not fit, or the graphs are of several backbones.
    """
    there = [each for each in published.values() if each.is_graph]
    staying = [each for each in there if each.path not in graphs and each.path not in gone]
    kept = {each.name: checking.graph(found.hosted(each)) for each in staying}
    if not graphs and not kept and patches:
        raise UsageError("no graph is published yet", file=found.path, field="--graph", expected="a .tflite or .onnx")
    checking.fit(graphs.values(), patches.values())
    for name, graph in kept.items():
        _refuse_old_graph(found, name, graph, patches.values())
    if not graphs:
        return
    before = [*kept.values(), *_readable(found, [each for each in there if each not in staying])]
    for each in published.values():
        if not each.is_graph and each.path not in patches and each.path not in gone:
            _refuse_misfit(found, each, before, graphs.values())
    ids = {each.graph.backbone_id for each in [*graphs.values(), *kept.values()]}
    if len(ids) > 1:
        raise MismatchError(
            "the graphs are of several backbones, and a repository is of one",
            field="backbone_id",
            got=" and ".join(sorted(ids)),
            expected="one",
            mend="Publish the graph under the name of the old one, or take that out in the same command: "
            f"{' '.join(f'--remove-graph {name}' for name in kept)}."
            if kept
            else None,
        )


def _refuse_old_graph(found: Repository, name: str, graph: CheckedGraph, patches: Iterable[CheckedPatch]) -> None:
    """Refuse new patches that do not fit a graph which was published before, and name that."""
    try:
        checking.fit([graph], patches)
    except (MismatchError, BadFileError) as error:
        error.details["mend"] = (
            f"In its way is the graph {name}, which is published. Train it on that one's backbone; or move the site to "
            f"another backbone, in one command: edgepatch publish add {found.path} FILE.epatch... --graph NEW "
            f"--remove-graph {name}, with --remove TASK for every task that has no new patch."
        )
        raise type(error)(error.message, **error.details) from error


def _refuse_misfit(
    found: Repository, each: Published, before: Iterable[CheckedGraph], after: Iterable[CheckedGraph]
) -> None:
    """Refuse graphs that a published patch does not fit; a team's too, if devices took it so far."""
    patch = checking.patch(found.hosted(each)) if each.role == "targets" else _sound(found, each, before)
    if patch is None:
        return
    try:
        checking.fit(after, [patch])
    except (MismatchError, BadFileError) as error:
        error.details["mend"] = (
            f"{each.task} is published. Publish a patch for it in the same command, or take it out in it: "
            f"--remove {shlex.quote(each.task)}."
        )
        if each.role != "targets":
            error.details["mend"] = (
                f"{each.task} is signed by {each.role}: let this team take it out, and publish one for the new graph "
                f"after you: edgepatch publish remove {found.path} '{each.task}' --team {each.role}. Or take the "
                f"team's right away: edgepatch publish team {found.path} {each.role} --remove."
            )
        raise type(error)(error.message, **error.details) from error


def _sound(found: Repository, each: Published, graphs: Iterable[CheckedGraph]) -> CheckedPatch | None:
    """A team's patch as devices take it; None if it is not there, not what was signed, or fits none of the graphs."""
    with contextlib.suppress(EdgepatchError):
        patch = checking.patch(found.hosted(each))
        own = patch.patch
        is_it = (own.task, own.version, own.backbone_id) == (each.task, each.version, each.backbone_id)
        if is_it and hashlib.sha256(patch.data).hexdigest() == each.sha256:
            checking.fit(graphs, [patch])
            return patch
    return None


def _readable(found: Repository, graphs: Iterable[Published]) -> list[CheckedGraph]:
    """Those graphs that are whole: one that goes may do so because it is not."""
    read = []
    for each in graphs:
        with contextlib.suppress(EdgepatchError):
            read.append(checking.graph(found.hosted(each)))
    return read
