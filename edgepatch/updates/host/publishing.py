"""Files into a repository, and out of it again."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepatch.errors import BadFileError, UsageError, printable
from edgepatch.runtime.graph_file import Graph
from edgepatch.updates import described, names
from edgepatch.updates.described import Published
from edgepatch.updates.host import checking, documents, fits, keys, patterns, repository, signing, versions
from edgepatch.updates.host.checking import CheckedGraph, CheckedPatch
from edgepatch.updates.host.done import Done
from edgepatch.updates.host.repository import Repository

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile, Targets

__all__ = ["Done", "add", "refresh", "remove"]


def add(
    path: str | os.PathLike[str],
    patch_files: Sequence[str],
    folder: Path,
    *,
    graph_files: Sequence[str] = (),
    team: str | None = None,
    renumber: bool = False,
    without: Sequence[str] = (),
    without_graphs: Sequence[str] = (),
) -> Done:
    """Publish patches and graphs: all of them, or nothing.

    Args:
        team: who signs, with its own key; by default `targets`.
        renumber: give a patch whose version is not above the published one the next number; so an older patch can be
            published again.
        without, without_graphs: tasks and graphs that are taken out in the same step.

    Raises:
        UsageError: a task comes twice, is another's to sign, or no graph is published; a key is not here.
        BadFileError: a file is damaged, or its version does not grow.
        MismatchError: a patch does not fit a graph.
    """
    role = names.check_team(team) if team else "targets"
    with repository.opened(path, folder) as found:
        waiting = found.waiting(role) if role in found.teams else []
        _open_role(found, role, folder)
        gone = _named(found, role, without, without_graphs)
        _refuse_bad(found, role, gone)
        published = {each.path: each for each in found.files()}
        graphs = _graphs(graph_files)
        if graphs and team:
            raise UsageError("a team cannot publish graphs", field="--graph", got=team, expected="the targets key")
        patches = _patches(found, role, patch_files, published, renumber)
        _refuse_both(gone, [*patches, *graphs])
        fits.refuse_misfits(found, published, patches, graphs, gone)
        _refuse_graphless(found, gone, {*published, *patches, *graphs} - gone.keys())
        done = _publish(found, role, folder, {**patches, **graphs}, published, gone)
        if role == "targets":
            done.notes.extend(text for each in done.added if each.task and (text := patterns.of_task(found, each.task)))
        if dropped := sorted(set(waiting) - {each.task for each in done.added}):
            done.notes.append(printable(f"{role}: devices drop what is not published again: {', '.join(dropped)}"))
        return done


def remove(
    path: str | os.PathLike[str],
    tasks: Sequence[str],
    folder: Path,
    *,
    graphs: Sequence[str] = (),
    team: str | None = None,
) -> Done:
    """Sign for some tasks or graphs no more: devices drop them. Their files stay, for devices that are just fetching.

    Raises:
        UsageError: one is not published, or is another's to sign.
    """
    role = names.check_team(team) if team else "targets"
    with repository.opened(path, folder) as found:
        gone = _named(found, role, tasks, graphs)
        published = {each.path: each for each in found.files()}
        _refuse_graphless(found, gone, published.keys() - gone.keys())
        document = signing.renewed(found, role, folder, lambda targets: _forget(targets, gone, published, role))
        found.put(role, document)
        return Done(found, removed=gone, pending=signing.refresh(found, folder))


def _named(found: Repository, role: str, tasks: Sequence[str], graphs: Sequence[str]) -> dict[str, str]:
    """What is to be taken out of a role's list, by path; what devices refuse is in it, too.

    Raises:
        UsageError: it is not in that list.
    """
    listed = found.role(role).signed.targets
    published = {each.path: each for each in found.files()}
    gone = {
        **{names.patch_path(task): task for task in tasks},
        **{names.graph_path(name): name for name in graphs},
    }
    for place, name in gone.items():
        if place not in listed:
            other = published[place].role if place in published else None
            own = [each.name for each in published.values() if each.role == role]
            raise UsageError(
                f"is signed by {other}" if other else "is not published",
                file=found.path,
                field=role,
                got=name,
                expected=", ".join(own)[:400] or "nothing: this role signs for no file",
                mend=f"Sign with its key: --team {other}" if other in found.teams else None,
            )
    return gone


def _forget(targets: Targets, gone: Iterable[str], published: Mapping[str, Published], role: str) -> None:
    """Take paths out of a list, and keep in mind which versions they had."""
    for place in gone:
        del targets.targets[place]
    mine = [published[place] for place in gone if place in published and published[place].role == role]
    versions.keep(targets, {**versions.newest(targets), **{each.path: each.version for each in mine if each.version}})


def _refuse_graphless(found: Repository, gone: Mapping[str, str], left: Iterable[str]) -> None:
    """Refuse to take graphs out and leave tasks without any."""
    graphs = [name for place, name in gone.items() if _is_graph(place)]
    left = list(left)
    if graphs and left and not any(_is_graph(place) for place in left):
        raise UsageError("would leave tasks without a graph", file=found.path, field="--graph", got=", ".join(graphs))


def _is_graph(place: str) -> bool:
    return place.startswith(f"{names.GRAPHS}/")


def _publish(
    found: Repository,
    role: str,
    folder: Path,
    wanted: Mapping[str, CheckedPatch | CheckedGraph],
    published: Mapping[str, Published],
    gone: dict[str, str],
) -> Done:
    """Sign for files, and only then write them and the list: what is refused by then has changed nothing."""
    entries = {place: _entry(found, role, place, each) for place, each in wanted.items()}
    new = {place: entry for place, entry in entries.items() if _differs(published.get(place), entry)}

    def change(targets: Targets) -> None:
        _forget(targets, gone, published, role)
        targets.targets.update(new)
        versions.keep(targets, {place: each for place, each in versions.newest(targets).items() if place not in new})

    document = signing.renewed(found, role, folder, change) if new or gone else None
    if document:
        documents.refuse_large(found.path, document)
    laid = [place for place, each in wanted.items() if found.put_file(place, each.data)]
    if document:
        found.put(role, document)
    now = {each.path: each for each in found.files()}
    return Done(
        found,
        added=[now[place] for place in new],
        same=[now[place] for place in entries if place not in new],
        removed=gone,
        pending=signing.refresh(found, folder),
        notes=[
            f"{now[place].name}: its file was damaged or missing here, and is whole again"
            for place in laid
            if place not in new
        ],
    )


def _graphs(graph_files: Sequence[str]) -> dict[str, CheckedGraph]:
    graphs: dict[str, CheckedGraph] = {}
    for file in graph_files:
        name = Path(file).name
        if names.graph_path(name) in graphs:
            raise UsageError("two graphs have the same file name", file=file, field="--graph", got=name)
        graphs[names.graph_path(name)] = checking.graph(file)
    return graphs


def _patches(
    found: Repository, role: str, patch_files: Sequence[str], published: Mapping[str, Published], renumber: bool
) -> dict[str, CheckedPatch]:
    """Files that a role may sign, each with a version above all before."""
    patches: dict[str, CheckedPatch] = {}
    for file in patch_files:
        checked = _patch(file)
        place = names.patch_path(checked.patch.task)
        if place in patches:
            raise UsageError("two patches are of the same task", file=file, field="task", got=checked.patch.task)
        _refuse_foreign(found, role, checked, place, published)
        old = published.get(place)
        patches[place] = versions.numbered(checked, old, versions.floor(found, old, place), renumber)
    return patches


def _patch(file: str) -> CheckedPatch:
    try:
        return checking.patch(file)
    except BadFileError as error:
        if Path(file).suffix in (".tflite", ".onnx"):
            details = {"expected": "an .epatch", "mend": f"Graphs are published by their option: --graph {file}"}
            raise BadFileError(error.message, **{**error.details, **details}) from error
        raise


def _refuse_both(gone: Mapping[str, str], wanted: Iterable[str]) -> None:
    if both := [gone[place] for place in wanted if place in gone]:
        raise UsageError("is published and taken out in one command", field="--remove", got=both[0])


def _entry(found: Repository, role: str, place: str, checked: CheckedPatch | CheckedGraph) -> TargetFile:
    """What the list is to say of a file.

    Raises:
        BadFileError: devices would refuse it.
    """
    from tuf.api.metadata import TargetFile

    custom = described.of_patch(checked.patch) if isinstance(checked, CheckedPatch) else _of_graph(checked.graph)
    sha256 = hashlib.sha256(checked.data).hexdigest()
    entry = TargetFile(len(checked.data), {"sha256": sha256}, place, {"custom": custom})
    try:
        found.taken(role, place, entry)
    except ValueError as error:
        raise BadFileError(f"would be refused by devices: {error}", file=checked.file, field="custom") from error
    return entry


def _of_graph(graph: Graph) -> dict[str, Any]:
    return described.of_graph(graph.backbone_id, graph.format, graph.precision)


def _open_role(found: Repository, role: str, folder: Path) -> None:
    """Let a team that has signed nothing yet, or nothing with its present key, begin with an empty list."""
    from tuf.api.metadata import Metadata, Targets

    if role in found.teams and found.teams[role] is None:
        version = found.next_version(role) - 1
        keys.find(folder, role, *found.keys(role))
        found.teams[role] = Metadata(Targets(version=max(version, 1)))
    else:
        found.role(role)


def _refuse_bad(found: Repository, role: str, gone: Container[str]) -> None:
    """Refuse to sign a list anew that devices refuse a part of."""
    for place, reason in found.listed(role).items():
        if isinstance(reason, str) and place not in gone:
            raise BadFileError(
                f"names a file that devices refuse: {reason}",
                file=found.file(role),
                field=place[:120],
                mend=f"Take it out first: edgepatch publish remove {found.path} TASK"
                + ("" if role == "targets" else f" --team {role}"),
            )


def _differs(old: Published | None, entry: TargetFile) -> bool:
    return old is None or old.sha256 != entry.hashes["sha256"]


def _refuse_foreign(
    found: Repository, role: str, checked: CheckedPatch, place: str, published: Mapping[str, Published]
) -> None:
    """Refuse a task that this role may not sign, or that another one signs."""
    task = checked.patch.task
    if role != "targets" and found.team_of(place) != role:
        raise UsageError(
            "is not among the tasks of this team",
            file=checked.file,
            field="task",
            got=task,
            expected=" or ".join(names.pattern_text(each) for each in found.patterns(role)),
        )
    signer = (
        "targets" if place in found.targets.signed.targets else published[place].role if place in published else role
    )
    if signer != role:
        name = shlex.quote(task)
        mend = (
            f"To give it to the team: edgepatch publish remove {found.path} {name}, with the key of targets; then this."
            if signer == "targets"
            else f"Sign with this team's key: --team {signer}. Or let the team take it out first: "
            f"edgepatch publish remove {found.path} {name} --team {signer}"
        )
        raise UsageError(
            "is published by another role",
            file=checked.file,
            field="task",
            got=task,
            expected=f"a task of {role}, which {signer} does not sign",
            mend=mend,
        )


def refresh(path: str | os.PathLike[str], folder: Path, roles: Sequence[str] = ()) -> Done:
    """Sign a new timestamp and, where due, a new snapshot; before these, the documents of other roles for longer.

    Args:
        roles: root, targets or teams, whose keys are here; then those of snapshot and timestamp may be elsewhere.

    Raises:
        UsageError: there is no such role, or its key is not here.
    """
    with repository.opened(path, folder) as found:
        for role in roles:
            found.check_role(role)
            keys.find(folder, role, *found.keys(role))  # before anything is signed
        offline = [role for role in roles if role not in signing.ONLINE]
        for role in offline:
            signing.renew(found, role, folder)
        pending = signing.refresh(found, folder, anew="snapshot" in roles, here=not offline)
        return Done(found, pending=pending)
