"""A change of a store: any number of installs, removals and roll-backs that come true together or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

from edgepatch import blob, files
from edgepatch.blob import Patch
from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, UsageError
from edgepatch.runtime import graph_file
from edgepatch.runtime.store import disk, reading, trial
from edgepatch.runtime.store.state import Newest, SharedGraph, State, Task, Version, dump

Paths = str | os.PathLike[str]

_OF_GRAPH = {
    "graph": "graph installed",
    "unchanged": "the graph is there already",
    "mended": "the graph: mended",
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one step of a change did.

    Attributes:
        what: `graph`, `installed`, `replaced`, `unchanged` (it was there already), `mended` (it was named, and its file
            was gone or damaged), `activated`, `removed` or `forgotten` (removed, with its largest version).
        task: whose; None of the graph.
        version: of the patch that is active now, or that was mended; None of the graph and of what was removed.
        before: the version that was active; None if none was.
    """

    what: str
    task: str | None = None
    version: int | None = None
    before: int | None = None

    def __str__(self) -> str:
        if self.task is None:
            return _OF_GRAPH[self.what]
        if self.version is None:
            what = f"version {self.before} removed" if self.before else "removed before"
            return f"{self.task}: {what}" + (", its largest version forgotten" if self.what == "forgotten" else "")
        if self.what == "unchanged":
            return f"{self.task}: version {self.version} is there already"
        if self.what == "mended":
            other = "" if self.version == self.before else f", to roll back to; version {self.before} is active"
            return f"{self.task}: version {self.version} mended{other}"
        return f"{self.task}: version {self.version} {self.what}" + (f", was {self.before}" if self.before else "")

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Change:
    """The steps between `with store.change() as change:` and its end, which does them.

    Each step reads and checks its file at once. The end holds every patch that is new, or any under a new graph,
    against the graph as `edgepatch verify` does; nothing is written before.

    Attributes:
        outcomes: what each step does, in their order.
    """

    def __init__(self, folder: Path, now: State | None, *, damaged: bool = False, engine: str | None = None) -> None:
        """A change of a store.

        Args:
            now: its state; None of one that is being made.
            damaged: whether that is not in state.json, and so has to be written even if nothing changes.
            engine: as `Store.change` has it.
        """
        self._folder, self._now, self._damaged, self._engine = folder, now, damaged, engine
        self._tasks: dict[str, Task] = dict(now.tasks) if now else {}
        self._shared = now.graph if now else None
        self._graph: tuple[graph_file.Graph, Path] | None = None  # where a step brought one
        self._files: dict[str, Paths] = {}  # that steps brought, by task
        self._patches: dict[str, tuple[Patch, object]] = {}  # to be tried, by task
        self._data: dict[str, bytes] = {}  # by name of object
        self.outcomes: list[Outcome] = []

    def graph(self, path: Paths, *, sha256: str | None = None) -> Outcome:
        """Put a shared graph in the place of the one there is.

        Of another backbone it is taken only if the same change replaces or removes every active patch; what there
        was to roll back to is then dropped.

        Args:
            path: a .tflite or .onnx that `edgepatch export` wrote.
            sha256: what the file must be; None: whatever it is.

        Raises:
            UsageError: there is no such file, or this change has a graph already.
            BadFileError, MismatchError: it is damaged, is no shared graph, or another file than `sha256` says.
        """
        if self._graph:
            raise UsageError("a change can bring one graph", file=path, field="graph")
        data, digest = _read(path, graph_file.MAX_BYTES, sha256)
        graph = graph_file.parse(data, path)
        self._graph = graph, Path(path)
        shared = SharedGraph(digest, len(data), graph.format, graph.precision, graph.backbone_id)
        same, self._shared = shared == self._shared, shared
        self._data[shared.name] = data
        return self._done(Outcome(self._again(shared) if same else "graph"))

    def patch(self, path: Paths, *, force: bool = False, sha256: str | None = None) -> Outcome:
        """Install a patch: it becomes its task's active one, and what was active its previous one.

        The very file of the previous one, where that is gone or damaged, is put back: nothing else changes then.

        Args:
            path: an .epatch.
            force: take a version that is not larger than every one of the task before, and make it active.
            sha256: what the file must be; None: whatever it is.

        Raises:
            UsageError: there is no such file, or this change has a step for its task already.
            BadFileError: it is no whole, sound patch, or another file than `sha256` says.
            EdgepatchError: its version is not larger than the largest of its task, and it is not that very file.
        """
        data, digest = _read(path, blob.MAX_BYTES, sha256)
        patch = blob.parse(data, path)
        version = Version(digest, len(data), patch.version)
        self._refuse_second(patch.task, path, version.version)
        task = self._tasks.get(patch.task)
        before = task.active if task else None
        if task and before and version == task.previous and not force and self._again(version) == "mended":
            self._data[version.name] = data
            return self._done(Outcome("mended", patch.task, version.version, before.version), path)
        if task and not force:
            _refuse_older(version, task, patch.task, path)
        self._data[version.name] = data
        self._patches[patch.task] = patch, path
        self._activate(patch.task, version)
        what = self._again(version) if before == version else "replaced" if before else "installed"
        return self._done(Outcome(what, patch.task, version.version, before.version if before else None), path)

    def remove(self, name: str, *, forget: bool = False) -> Outcome:
        """Take a task's patches away. Its largest version is kept, below which none can be installed.

        Args:
            forget: drop that too, so that any version of the task can be installed.

        Raises:
            UsageError: the task is not installed, or this change has a step for it already.
        """
        self._refuse_second(name, "its removal")
        task = self._find(name, active=not forget)
        if forget:
            del self._tasks[name]
        else:
            self._tasks[name] = Task(None, None, task.newest)
        what = "forgotten" if forget else "removed"
        return self._done(Outcome(what, name, None, task.active.version if task.active else None))

    def activate(self, name: str, version: int) -> Outcome:
        """Make one of the versions that the store keeps of a task the active one.

        Raises:
            UsageError: the task is not installed, or the store keeps no such version of it, or this change has a step
                for it already.
            BadFileError: the file is not what it was.
        """
        self._refuse_second(name, "its activation")
        task = self._find(name)
        found = [kept for kept in task.versions if kept.version == version]
        if not found:
            raise UsageError(
                "the store keeps no such version of the task",
                file=self._folder,
                field="version",
                got=version,
                expected=" or ".join(str(kept.version) for kept in task.versions),
                mend=f"Install it: edgepatch store install {self._folder} FILE"
                + (" --force" if version <= task.newest.version else ""),
            )
        return self._switch(name, task, found[0])

    def roll_back(self, name: str) -> Outcome:
        """Make the patch active again that was so before; roll back once more, and the newer one is.

        Raises:
            UsageError: the task is not installed, has no previous patch, or this change has a step for it already.
            BadFileError: the file is not what it was.
        """
        self._refuse_second(name, "its roll-back")
        task = self._find(name)
        if task.previous is None:
            raise UsageError(
                "the task has no previous version",
                file=self._folder,
                field="task",
                got=name,
                expected="one of which the store keeps two versions",
                mend=f"To go back by an older file: edgepatch store install {self._folder} FILE --force",
            )
        return self._switch(name, task, task.previous)

    def check(self) -> None:
        """Hold the whole against the graph; nothing is written yet.

        Raises:
            UsageError: there is no graph.
            MismatchError: an active patch does not fit the graph.
            BadFileError: one does not answer, or a file of the store is not what it was.
            MissingPackageError: no engine to try the patches with is installed.
        """
        if self._now and self.state.graph.backbone_id != self._now.graph.backbone_id:
            self._leave_backbone(self._now.graph.backbone_id)
        active = self.state.active
        new = self._now is None or self.state.graph != self._now.graph  # one that was mended is the one there was
        if names := [name for name in active if new or name in self._patches]:
            patches = [self._patches.get(name) or self._stored(f"task {name}", active[name]) for name in names]
            with trial.bench(self._graph_to_be(), self._engine) as answers:
                for patch, file in patches:
                    answers(patch, file)

    def write(self) -> None:
        """Make it true, if there is anything to write.

        Raises:
            EdgepatchError: the disk is full, may not be written to or fails; the store is as it was.
        """
        objects = {
            name: self._data[name]
            for name, size in self.state.objects.items()
            if name in self._data and not reading.is_whole(self._folder, name, size)
        }
        same = self._now is not None and self.state == dataclasses.replace(self._now, serial=self.state.serial)
        if objects or self._damaged or not same:
            before = dump(self._now) if self._now else None
            disk.commit(self._folder, before, dump(self.state), objects)

    @property
    def state(self) -> State:
        """The store after this change.

        Raises:
            UsageError: there is no graph.
        """
        if self._shared is None:
            raise UsageError("a store needs a graph", file=self._folder)
        return State(self._now.serial + 1 if self._now else 1, self._shared, self._tasks)

    def _switch(self, name: str, task: Task, version: Version) -> Outcome:
        what = f"task {name}" if task.active == version else f"previous of {name}"
        self._patches[name] = self._stored(what, version)
        before = task.active.version if task.active else None
        self._activate(name, version)
        return self._done(
            Outcome("unchanged" if task.active == version else "activated", name, version.version, before)
        )

    def _activate(self, name: str, version: Version) -> None:
        task = self._tasks.get(name)
        if task is None:
            self._tasks[name] = Task(version, None, Newest(version.version, version.sha256))
            return
        newest = task.newest
        if version.version >= newest.version:
            newest = Newest(version.version, version.sha256)
        previous = task.previous if task.active == version else task.active
        self._tasks[name] = Task(version, previous, newest)

    def _leave_backbone(self, old: str) -> None:
        """Drop what is of the backbone before; refuse to if it is active."""
        if kept := [name for name, task in self._tasks.items() if task.active and name not in self._touched]:
            raise MismatchError(
                "the graph is of another backbone than patches that would stay active",
                file=self._graph[1] if self._graph else self._folder,
                field="backbone_id",
                got=self._shared.backbone_id if self._shared else None,
                expected=old,
                mend=f"Replace or remove in the same change: {', '.join(kept[:10])}{', ...' if kept[10:] else ''}",
            )
        self._tasks = {name: Task(task.active, None, task.newest) for name, task in self._tasks.items()}

    def _graph_to_be(self) -> graph_file.Graph:
        """The graph that will be."""
        if self._graph:
            return self._graph[0]
        there = self.state.graph
        path = reading.path_of(self._folder, there.name)
        return graph_file.parse(reading.read(self._folder, there.name, there.bytes, "graph"), path)

    def _stored(self, what: str, version: Version) -> tuple[Patch, object]:
        path = reading.path_of(self._folder, version.name)
        return blob.parse(reading.read_patch(self._folder, version, what), path), path

    def _again(self, there: Version | SharedGraph) -> str:
        """What it does to install again what the state names: it is there already, or is mended."""
        return "unchanged" if reading.is_whole(self._folder, there.name, there.bytes) else "mended"

    def _find(self, name: str, *, active: bool = True) -> Task:
        task = self._tasks.get(name)
        if task is None or (active and task.active is None):
            installed = self._now.active if self._now else {}  # and not what this change brings
            raise UsageError(
                "this task is not installed",
                file=self._folder,
                field="task",
                got=name,
                expected=", ".join(installed) or "none",
            )
        return task

    def _refuse_second(self, name: str, step: Paths, version: int | None = None) -> None:
        """Refuse a step, of a file and its version or by what it is called, for a task that has one."""
        first = next((outcome for outcome in self.outcomes if outcome.task == name), None)
        if first is None:
            return
        other, mend = self._files.get(name), "Leave out one of the two."
        if other and version and first.version and version != first.version:
            mend = f"Leave out the older version: {step if version < first.version else other}"
        raise UsageError(
            "a change can have one step for a task",
            field="task",
            got=f"{name}: {other} and {step}" if other else str(first),
            mend=mend,
        )

    @property
    def _touched(self) -> set[str | None]:
        """The tasks that have a step; one that failed is none."""
        return {outcome.task for outcome in self.outcomes}

    def _done(self, outcome: Outcome, file: Paths | None = None) -> Outcome:
        if outcome.task and file is not None:
            self._files[outcome.task] = file
        self.outcomes.append(outcome)
        return outcome


def _read(path: Paths, limit: int, sha256: str | None) -> tuple[bytes, str]:
    data = files.read(path, limit=limit)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise BadFileError("is not the file that was named", file=path, field="sha256", got=digest, expected=sha256)
    return data, digest


def _refuse_older(version: Version, task: Task, name: str, path: Paths) -> None:
    newest = task.newest
    if version.version > newest.version or (version.version, version.sha256) == (newest.version, newest.sha256):
        return
    if task.active == version:  # installed by force, or rolled back to: it is there already
        return
    same = version.version == newest.version
    raise EdgepatchError(
        f"is {'another file of' if same else 'older than'} version {newest.version} of {name}, which was installed",
        file=path,
        field="version",
        got=version.version,
        expected=f"more than {newest.version}",
        mend="To install it nevertheless: --force. To go back to one that the store keeps: edgepatch store rollback.",
    )
