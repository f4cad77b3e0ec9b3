"""One update, from the first request to the one rename that makes it true."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepatch import blob, files
from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, UsageError
from edgepatch.progress import Quiet, Reporter
from edgepatch.runtime import fitting, graph_file, heads
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.store import State, Store, disk, lock, reading
from edgepatch.updates import clock, names
from edgepatch.updates.described import Published
from edgepatch.updates.device import addresses, download, plan, refusals, settings, trust
from edgepatch.updates.device.limits import Limits
from edgepatch.updates.device.plan import Plan
from edgepatch.updates.device.settings import Delivered, Settings
from edgepatch.updates.device.web import Web

MAX_ROOT = 512 * 1024  # bytes, as python-tuf has it
LOCK_WAIT = 5.0  # seconds for another update to end


@dataclasses.dataclass(frozen=True)
class Report:
    """What an update did, or, in a dry run, would do."""

    plan: Plan
    dry_run: bool

    @property
    def exit_code(self) -> int:
        """0, or that of the first thing that was refused: the rest is installed all the same."""
        return next((refusal.error.exit_code for refusal in self.plan.refused), 0)

    @property
    def bytes(self) -> int:
        """Of the files that are new."""
        return sum(each.length for each in self.plan.files)

    def to_json(self) -> dict[str, Any]:
        return {"dry_run": self.dry_run, "ok": self.exit_code == 0, "bytes": self.bytes, **plan.to_json(self.plan)}


def update(
    store: str | Path,
    *,
    url: str | None = None,
    root: str | Path | None = None,
    tasks: Sequence[str] = (),
    every_task: bool = False,
    graph: str | None = None,
    dry_run: bool = False,
    limits: Limits | None = None,
    engine: str | None = None,
    reporter: Reporter | None = None,
) -> Report:
    """Bring a store up to a repository: everything that is new, in one step, or nothing.

    Args:
        store: the folder of the store; it is made by the first update.
        url, root: of the repository, and the root to trust it by; both are remembered.
        tasks: the only ones that are wanted; remembered. Without any: those of last time, at first all.
        every_task: want all of them again.
        graph: the name of the graph, where several are published; remembered.
        dry_run: say what there is to do, and change nothing on the disk.
        limits: of time and attempts.
        engine: that patches are tried with, as `Store.change` takes it.

    Raises:
        UsageError: there is no repository to update from yet, or a task or graph is not published.
        BadFileError: what the server has is not what was signed, is not signed as it must be, or expired.
        MismatchError: what is published does not fit together.
        EdgepatchError: the server cannot be reached, the clock is wrong, or the disk is full.
        MissingPackageError: the extra `[update]`, or an engine, is not installed.
    """
    folder = Path(store)
    own = folder / settings.FOLDER
    known = _known(folder, url, root)  # what is wrong with the call is said before anything is made
    trusted, trusted_file = _root(own, root)
    with contextlib.ExitStack() as stack:
        if not dry_run:
            _make(own / settings.PARTS)
            stack.enter_context(lock.held(own, LOCK_WAIT))
            known = _known(folder, url, root)  # as another update may have left it meanwhile
            trusted, trusted_file = _root(own, root)
        wanted = None if every_task else tuple(tasks) or known.tasks
        known = dataclasses.replace(known, graph=graph or known.graph, tasks=wanted)
        web = stack.enter_context(Web(limits or Limits()))
        offer = trust.look(web, known.url, own / settings.METADATA, trusted, trusted_file, keep=not dry_run)
        now = _state(folder)
        todo = plan.make(
            offer,
            now,
            known.delivered,
            tasks=wanted,
            asked=bool(tasks),
            graph=known.graph,
            graph_asked=graph is not None,
            damaged=reading.damaged(folder, now) if now else frozenset(),
        )
        if dry_run:
            return Report(todo, dry_run)
        known = dataclasses.replace(known, seen=offer.issued or known.seen)
        settings.write(folder, known)  # the root and the address have proved right
        _tidy(own, keep=todo.files)
        if todo.changes:
            parts = _fetch(web, known.url, todo, own / settings.PARTS, reporter or Quiet())
            _screen(todo, parts, folder)
            _install(folder, now, todo, parts, known.delivered, engine)
        settings.write(folder, dataclasses.replace(known, delivered=_delivered(known, todo)))
        _tidy(own)
        _collect(folder, todo)
        return Report(todo, dry_run)


def _known(folder: Path, url: str | None, root: str | Path | None) -> Settings:
    """The settings, with a new address if one was given."""
    if url is not None:
        addresses.check(url)
    try:
        found = settings.read(folder)
    except BadFileError:
        if url is None or root is None:
            raise
        found = None
    if found is None:
        if url is None or root is None:
            raise UsageError(
                "has not been updated before, so the repository and its root have to be named once",
                file=folder,
                field="--url" if url is None else "--root",
                mend=f"edgepatch update {folder} --url URL --root ROOT.json",
            )
        return Settings(url)
    if found.seen and clock.is_ahead(found.seen):
        raise refusals.wrong_clock(found.seen, "what this device has seen")
    return dataclasses.replace(found, url=url or found.url)


def _root(own: Path, given: str | Path | None) -> tuple[bytes, Path]:
    """The root to begin with: the one that is given, else the newest that was verified."""
    path = Path(given) if given is not None else own / settings.METADATA / "root.json"
    try:
        return files.read(path, limit=MAX_ROOT), path
    except UsageError as error:
        if given is not None:
            raise
        raise UsageError(
            "there is no root to trust", file=path, mend=f"edgepatch update {own.parent} --root ROOT.json"
        ) from error


def _state(folder: Path) -> State | None:
    """What is installed, or None where no store is yet.

    Raises:
        BadFileError: the store is damaged.
    """
    if not any((folder / name).exists() for name in (disk.STATE, disk.PREVIOUS)):
        return None
    return Store.open(folder).state


def _fetch(web: Web, url: str, todo: Plan, parts: Path, reporter: Reporter) -> dict[str, Path]:
    """Part files by path, each whole and verified. What a team has and cannot be fetched is left out, with all that is
    new of that team; what `targets` has comes first."""
    found: dict[str, Path] = {}
    for role in sorted({each.role for each in todo.files}, key=lambda role: (role != names.TARGETS, role)):
        wanted = [each for each in todo.files if each.role == role]
        try:
            _refuse_full(wanted, sum(path.stat().st_size for path in found.values()), parts)
            for each in reporter.bar(wanted, len(wanted), f"fetching of {role}"):
                place = f"{url.rstrip('/')}/{names.TARGETS}/{each.hosted_path}"
                found[each.path] = download.file(web, place, each, parts)
        except EdgepatchError as error:
            if role == names.TARGETS:
                raise
            todo.drop(role, error)
    return found


def _refuse_full(wanted: Sequence[Published], fetched: int, parts: Path) -> None:
    """Find out before the download, not after it, that a disk is too small: files lie there twice for a moment.

    Args:
        fetched: bytes of other part files, which will lie there twice, too.
    """
    needed = fetched + sum(2 * each.length - download.size(download.part(parts, each)) for each in wanted)
    free = shutil.disk_usage(parts).free
    if free < needed:
        raise EdgepatchError(
            "the disk has too little room", file=parts, got=f"{free} bytes", expected=f"{needed} bytes"
        )


def _screen(todo: Plan, parts: dict[str, Path], folder: Path) -> None:
    """Refuse patches that are not what was signed for or do not fit the graph: each alone, and not the others."""
    graph = graph_file.read(parts[todo.graph.path] if todo.graph else Store.open(folder).graph)
    for each in list(todo.patches):
        try:
            _check(each, parts[each.path], graph)
        except (BadFileError, MismatchError) as error:
            todo.patches.remove(each)
            todo.refused.add(each.task, each.role, error)


def _check(each: Published, path: Path, graph: Graph) -> None:
    patch = blob.read(path)
    said = {"task": patch.task, "version": patch.version, "backbone_id": patch.backbone_id}
    if problem := plan.contradiction(each, said):
        raise problem
    heads.of(patch, fitting.fit(graph, patch, each.path).values, each.path)


def _install(
    folder: Path,
    now: State | None,
    todo: Plan,
    parts: dict[str, Path],
    delivered: Mapping[str, Delivered],
    engine: str | None,
) -> None:
    """One step of the store. If a team's patch does not answer on this device, it goes on without that team's; if
    something is wrong and no file is to blame, without any team's."""
    while todo.changes:
        plan.leave_backbone(todo, now, delivered)  # what was refused since leaves its older version behind
        try:
            _change(folder, now, todo, parts, engine)
            return
        except EdgepatchError as error:
            culprit = _culprit(error, todo, parts)
            teams = {culprit.role} if culprit else {each.role for each in todo.patches} - {names.TARGETS}
            if not teams or names.TARGETS in teams:
                raise
            for team in sorted(teams):
                todo.drop(team, error)
            if culprit in todo.same:  # the new graph is what it does not answer with
                todo.same.remove(culprit)
                todo.remove[culprit.task] = "does not answer with the new graph"
                todo.refused.add(culprit.task, culprit.role, error)


def _change(folder: Path, now: State | None, todo: Plan, parts: dict[str, Path], engine: str | None) -> None:
    store = Store.creation(folder, engine=engine) if now is None else Store.open(folder).change(engine=engine)
    with store as change:
        if todo.graph:
            change.graph(parts[todo.graph.path], sha256=todo.graph.sha256)
        for each in todo.patches:
            change.patch(parts[each.path], sha256=each.sha256)
        for task in todo.remove:
            change.remove(task)


def _culprit(error: EdgepatchError, todo: Plan, parts: dict[str, Path]) -> Published | None:
    """Whose file or task an error is about."""
    file, task = error.details.get("file"), error.details.get("got") if error.details.get("field") == "task" else None
    new = (each for each in todo.patches if str(parts[each.path]) == file or each.task == task)
    return next(new, None) or next((each for each in todo.same if each.task == task), None)


def _delivered(known: Settings, todo: Plan) -> dict[str, Delivered]:
    """What updates have brought; what one took away may come back as it was, and what the user took away may not."""
    kept = {task: row for task, row in known.delivered.items() if task not in todo.remove}
    return kept | {each.task: Delivered(each.version, each.sha256) for each in [*todo.same, *todo.patches]}


def _tidy(own: Path, keep: Sequence[Published] = ()) -> None:
    """Remove part files, but those of `keep`, and what writers that were killed left. What fails, the next one does."""
    parts = own / settings.PARTS
    wanted = {download.part(parts, each) for each in keep}
    left = [*parts.glob(f"*{download.PART}"), *own.glob(".*.part"), *(own / settings.METADATA).rglob(".*.part")]
    for path in left:
        if path not in wanted:
            with contextlib.suppress(OSError):
                path.unlink()


def _collect(folder: Path, todo: Plan) -> None:
    """Replaced objects are of no use; a damaged state.json is written anew."""
    with contextlib.suppress(EdgepatchError):
        store = Store.open(folder)
        if todo.changes or store.warning:
            store.collect()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgepatchError(f"cannot be written: {error.strerror}", file=folder) from error
