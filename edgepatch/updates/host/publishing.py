"""Files into a repository, and out of it again."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepatch import blob
from edgepatch.errors import BadFileError, MismatchError, UsageError
from edgepatch.updates import described, names
from edgepatch.updates.described import Published
from edgepatch.updates.host import checking, keys, repository, signing
from edgepatch.updates.host.checking import CheckedGraph, CheckedPatch
from edgepatch.updates.host.repository import Repository

if TYPE_CHECKING:
    from tuf.api.metadata import Targets

NEWEST = (
    "x-edgepatch-newest"  # field of a signed list: the versions of tasks that were taken out, below which none comes
)


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
    keys.refuse_inside(folder, Path(path))
    with repository.locked(path):
        found = repository.read(path)
        _open_role(found, role, folder)
        published = {each.path: each for each in found.files()}
        graphs = {names.graph_path(Path(file).name): checking.graph(file) for file in graph_files}
        if graphs and team:
            raise UsageError("a team cannot publish graphs", field="--graph", got=team, expected="the targets key")
        patches: dict[str, CheckedPatch] = {}
        for file in patch_files:
            checked = checking.patch(file)
            place = names.patch_path(checked.patch.task)
            if place in patches:
                raise UsageError("two patches are of the same task", file=file, field="task", got=checked.patch.task)
            patches[place] = checked
        floors = {place: _floor(found, published, place) for place in patches}
        patches = {
            place: _numbered(each, published.get(place), floors[place], renumber) for place, each in patches.items()
        }
        _refuse_foreign(found, role, patches, published)
        _refuse_misfits(found, published, patches, graphs)

        wanted = {place: (each.data, described.of_patch(each.patch)) for place, each in patches.items()}
        for place, each_graph in graphs.items():
            graph = each_graph.graph
            wanted[place] = each_graph.data, described.of_graph(graph.backbone_id, graph.format, graph.precision)
        return _publish(found, role, folder, wanted, published)


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
    with repository.locked(path):
        found = repository.read(path)
        published = {each.path: each for each in found.files()}
        places = [*(names.patch_path(task) for task in tasks), *(names.graph_path(name) for name in graphs)]
        for place, name in zip(places, [*tasks, *graphs], strict=True):
            if place not in published or published[place].role != role:
                theirs = f"by {published[place].role}" if place in published else "not published"
                raise UsageError("is not published by this role", file=path, field=role, got=f"{name}: {theirs}")
        left = [each for each in published.values() if each.path not in places]
        if not any(each.is_graph for each in left) and any(not each.is_graph for each in left):
            raise UsageError("would leave tasks without a graph", file=path, field="--graph", got=", ".join(graphs))

        def forget(targets: Targets) -> None:
            newest = targets.unrecognized_fields.setdefault(NEWEST, {})
            for place in places:
                del targets.targets[place]
                if published[place].version:
                    newest[place] = max(published[place].version, newest.get(place, 0))

        signing.renew(found, role, folder, forget)
        return Done(found, removed=places, pending=signing.refresh(found, folder))


def _publish(
    found: Repository,
    role: str,
    folder: Path,
    wanted: Mapping[str, tuple[bytes, dict[str, Any]]],
    published: Mapping[str, Published],
) -> Done:
    from tuf.api.metadata import TargetFile

    entries = {}
    for place, (data, custom) in wanted.items():
        length, sha256 = found.put_file(place, data)
        entries[place] = TargetFile(length, {"sha256": sha256}, place, {"custom": custom})
    new = {place: entry for place, entry in entries.items() if _differs(published.get(place), entry)}

    def extend(targets: Targets) -> None:
        targets.targets.update(new)
        newest = targets.unrecognized_fields.get(NEWEST, {})
        for place in new:
            newest.pop(place, None)

    if new:
        signing.renew(found, role, folder, extend)
    now = {each.path: each for each in found.files()}
    return Done(
        found,
        added=[now[place] for place in new],
        same=[now[place] for place in entries if place not in new],
        pending=signing.refresh(found, folder),
    )


def _open_role(found: Repository, role: str, folder: Path) -> None:
    """Let a team that has signed nothing yet, or nothing with its present key, begin with an empty list."""
    from tuf.api.metadata import Metadata, Targets

    if role in found.teams and found.teams[role] is None:
        version = found.next_version(role) - 1
        keys.find(folder, role, *found.keys(role))
        found.teams[role] = Metadata(Targets(version=max(version, 1)))
    else:
        found.role(role)


def _differs(old: Published | None, entry: Any) -> bool:
    return old is None or old.sha256 != entry.hashes["sha256"]


def _floor(found: Repository, published: Mapping[str, Published], place: str) -> int:
    """The largest version of a task that was ever published."""
    documents = [found.targets, *(each for each in found.teams.values() if each)]
    gone = [each.signed.unrecognized_fields.get(NEWEST, {}).get(place, 0) for each in documents]
    return max([published[place].version if place in published else 0, *gone])


def _numbered(checked: CheckedPatch, old: Published | None, floor: int, renumber: bool) -> CheckedPatch:
    """A patch whose version is above all that were published, or that is published just so."""
    version = checked.patch.version
    if version > floor or (old is not None and hashlib.sha256(checked.data).hexdigest() == old.sha256):
        return checked
    if not renumber:
        raise BadFileError(
            "has a version that was published before, and devices take higher ones only",
            file=checked.file,
            field="version",
            got=version,
            expected=f"{floor + 1} or more",
            mend="Train it into the file that was published, which counts on, or publish with --renumber.",
        )
    patch = dataclasses.replace(checked.patch, version=floor + 1)
    return CheckedPatch(patch, blob.dump(patch), checked.file)


def _refuse_foreign(
    found: Repository, role: str, patches: Mapping[str, CheckedPatch], published: Mapping[str, Published]
) -> None:
    """Refuse a task that this role may not sign, or that another one signs."""
    for place, checked in patches.items():
        task = checked.patch.task
        if role != "targets" and not found.may_sign(role, place):
            raise UsageError(
                "is not among the tasks of this team",
                file=checked.file,
                field="task",
                got=task,
                expected=" or ".join(names.pattern_text(each) for each in found.patterns(role)),
            )
        if place in published and published[place].role != role:
            raise UsageError(
                "is published by another role",
                file=checked.file,
                field="task",
                got=task,
                expected=f"a task of {role}, which {published[place].role} does not sign",
            )


def _refuse_misfits(
    found: Repository,
    published: Mapping[str, Published],
    patches: Mapping[str, CheckedPatch],
    graphs: Mapping[str, CheckedGraph],
) -> None:
    """Hold new patches against all graphs, and new graphs against all patches."""
    old_graphs = [
        checking.graph(found.hosted(each)) for each in published.values() if each.is_graph and each.path not in graphs
    ]
    if not graphs and not old_graphs and patches:
        raise UsageError("no graph is published yet", file=found.path, field="--graph", expected="a .tflite or .onnx")
    checking.fit([*old_graphs, *graphs.values()], patches.values())
    if not graphs:
        return
    old = [
        checking.patch(found.hosted(each))
        for each in published.values()
        if not each.is_graph and each.path not in patches
    ]
    try:
        checking.fit(graphs.values(), old)
    except (MismatchError, BadFileError) as error:
        error.details["mend"] = "Publish a patch for it in the same command, or take the task out first."
        raise type(error)(error.message, **error.details) from error
    ids = {each.graph.backbone_id for each in [*graphs.values(), *old_graphs]}
    if len(ids) > 1:
        raise MismatchError(
            "the graphs are of several backbones, and a repository is of one",
            field="backbone_id",
            got=" and ".join(sorted(ids)),
            expected="one",
            mend="Publish the graph under the name of the old one, or take that out: edgepatch publish remove --graph.",
        )


def refresh(path: str | os.PathLike[str], folder: Path, roles: Sequence[str] = ()) -> Done:
    """Sign a new timestamp and, where due, a new snapshot; before these, the documents of other roles for longer.

    Args:
        roles: root, targets or teams, whose keys are here.

    Raises:
        UsageError: there is no such role, or its key is not here.
    """
    keys.refuse_inside(folder, Path(path))
    with repository.locked(path):
        found = repository.read(path)
        for role in roles:
            if role not in signing.ONLINE:
                signing.renew(found, role, folder)
        return Done(found, pending=signing.refresh(found, folder, anew="snapshot" in roles))
