"""Files into a repository, and out of it again."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepatch.errors import BadFileError, UsageError
from edgepatch.runtime.graph_file import Graph
from edgepatch.updates import described, names
from edgepatch.updates.described import Published
from edgepatch.updates.host import checking, documents, fits, keys, repository, signing, versions
from edgepatch.updates.host.checking import CheckedGraph, CheckedPatch
from edgepatch.updates.host.repository import Repository

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile, Targets


@dataclasses.dataclass(frozen=True)
class Done:
    """What a command did.

    Attributes:
        added, same: files that are new, and those that were there as they are.
        removed: paths that are no longer signed for.
        pending: roles whose keys are elsewhere: devices see nothing of this until they have signed.
    """

    repository: Repository
    added: list[Published] = dataclasses.field(default_factory=list)
    same: list[Published] = dataclasses.field(default_factory=list)
    removed: list[str] = dataclasses.field(default_factory=list)
    pending: list[str] = dataclasses.field(default_factory=list)


def add(
    path: str | os.PathLike[str],
    patch_files: Sequence[str],
    folder: Path,
    *,
    graph_files: Sequence[str] = (),
    team: str | None = None,
    renumber: bool = False,
) -> Done:
    """Publish patches and graphs: all of them, or nothing.

    Args:
        team: who signs, with its own key; by default `targets`.
        renumber: give a patch whose version is not above the published one the next number; so an older patch can be
            published again.

    Raises:
        UsageError: a task comes twice, is another's to sign, or no graph is published; a key is not here.
        BadFileError: a file is damaged, or its version does not grow.
        MismatchError: a patch does not fit a graph.
    """
    role = names.check_team(team) if team else "targets"
    with repository.opened(path, folder) as found:
        _open_role(found, role, folder)
        _refuse_bad(found, role)
        published = {each.path: each for each in found.files()}
        graphs: dict[str, CheckedGraph] = {}
        for file in graph_files:
            name = Path(file).name
            if names.graph_path(name) in graphs:
                raise UsageError("two graphs have the same file name", file=file, field="--graph", got=name)
            graphs[names.graph_path(name)] = checking.graph(file)
        if graphs and team:
            raise UsageError("a team cannot publish graphs", field="--graph", got=team, expected="the targets key")
        patches: dict[str, CheckedPatch] = {}
        for file in patch_files:
            checked = checking.patch(file)
            place = names.patch_path(checked.patch.task)
            if place in patches:
                raise UsageError("two patches are of the same task", file=file, field="task", got=checked.patch.task)
            _refuse_foreign(found, role, checked, place, published)
            old = published.get(place)
            patches[place] = versions.numbered(checked, old, versions.floor(found, old, place), renumber)
        fits.refuse_misfits(found, published, patches, graphs)
        return _publish(found, role, folder, {**patches, **graphs}, published)


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
        listed = found.role(role).signed.targets
        published = {each.path: each for each in found.files()}
        named = {
            **{names.patch_path(task): task for task in tasks},
            **{names.graph_path(name): name for name in graphs},
        }
        for place, name in named.items():
            if place not in listed:  # an entry that devices refuse is, and can be taken out
                theirs = f"by {published[place].role}" if place in published else "not published"
                raise UsageError("is not published by this role", file=path, field=role, got=f"{name}: {theirs}")
        left = [each for each in published.values() if each.path not in named]
        if graphs and left and not any(each.is_graph for each in left):
            raise UsageError("would leave tasks without a graph", file=path, field="--graph", got=", ".join(graphs))

        def forget(targets: Targets) -> None:
            for place in named:
                del targets.targets[place]
            mine = [each for each in published.values() if each.path in named and each.role == role and each.version]
            versions.keep(targets, {**versions.newest(targets), **{each.path: each.version for each in mine}})

        signing.renew(found, role, folder, forget)
        return Done(found, removed=list(named), pending=signing.refresh(found, folder))


def _publish(
    found: Repository,
    role: str,
    folder: Path,
    wanted: Mapping[str, CheckedPatch | CheckedGraph],
    published: Mapping[str, Published],
) -> Done:
    """Sign for files, and only then write them and the list: what is refused by then has changed nothing."""
    entries = {place: _entry(found, role, place, each) for place, each in wanted.items()}
    new = {place: entry for place, entry in entries.items() if _differs(published.get(place), entry)}

    def extend(targets: Targets) -> None:
        targets.targets.update(new)
        versions.keep(targets, {place: each for place, each in versions.newest(targets).items() if place not in new})

    document = signing.renewed(found, role, folder, extend) if new else None
    if document:
        documents.refuse_large(found.path, document)
    for place, each in wanted.items():
        found.put_file(place, each.data)
    if document:
        found.put(role, document)
    now = {each.path: each for each in found.files()}
    return Done(
        found,
        added=[now[place] for place in new],
        same=[now[place] for place in entries if place not in new],
        pending=signing.refresh(found, folder),
    )


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


def _refuse_bad(found: Repository, role: str) -> None:
    """Refuse to sign a list anew that devices refuse a part of."""
    for place, reason in found.listed(role).items():
        if isinstance(reason, str):
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
        raise UsageError(
            "is published by another role",
            file=checked.file,
            field="task",
            got=task,
            expected=f"a task of {role}, which {signer} does not sign",
        )


def refresh(path: str | os.PathLike[str], folder: Path, roles: Sequence[str] = ()) -> Done:
    """Sign a new timestamp and, where due, a new snapshot; before these, the documents of other roles for longer.

    Args:
        roles: root, targets or teams, whose keys are here.

    Raises:
        UsageError: there is no such role, or its key is not here.
    """
    with repository.opened(path, folder) as found:
        for role in roles:
            if role not in signing.ONLINE:
                signing.renew(found, role, folder)
        return Done(found, pending=signing.refresh(found, folder, anew="snapshot" in roles))
