"""The patch store itself: opening, changing, collecting, verifying."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgepatch import blob, container, files
from edgepatch.blob import Patch
from edgepatch.errors import BadFileError, EdgepatchError, UsageError
from edgepatch.runtime.runtime import Runtime
from edgepatch.runtime.store import disk, lock, reading, verifying
from edgepatch.runtime.store.change import Change, Outcome, Paths
from edgepatch.runtime.store.state import State, dump
from edgepatch.runtime.store.verifying import Checked

_OURS = re.compile(r"[0-9a-f]{64}\.(epatch|tflite|onnx)|\.[0-9a-f]{16}\.part")


@dataclasses.dataclass(frozen=True)
class Active:
    """An active patch.

    Attributes:
        path: of its file; gone after a later change and `collect`.
        version: the patch's own.
        sha256: of the file.
    """

    path: Path
    version: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Collected:
    """What `Store.collect` removed: files, and their bytes together."""

    files: int
    bytes: int


class Store:
    """A directory with one shared graph and the patches of its tasks.

    It is what was installed when it was opened, until `refresh`, a change of its own, or `runtime`. To read needs no
    lock: state.json is read in one go, and the files it names never change.

    Attributes:
        path: the directory.
        state: what is installed.
        warning: why that is the state before the last change; None unless state.json is damaged.
    """

    def __init__(self, path: Path, state: State, warning: str | None) -> None:
        self.path, self.state, self.warning = path, state, warning

    @classmethod
    def open(cls, path: Paths) -> Store:
        """The store in a directory.

        state.json is checked whole; no object is opened. `runtime` checks those it loads, `verify` all.

        Raises:
            UsageError: there is none.
            BadFileError: state.json and state.previous.json are damaged.
            EdgepatchError: it may not be read.
        """
        found, warning = reading.load(Path(path))
        return cls(Path(path), found, warning)

    @classmethod
    def create(
        cls, path: Paths, graph: Paths, *patches: Paths, engine: str | None = None, timeout: float = lock.TIMEOUT
    ) -> Store:
        """A new store with a graph, and patches if any, in a directory that is empty or not there.

        Raises:
            UsageError: there is a store already, or something else, or the folder it is to be in is missing.
            BadFileError: there is a store already, and it cannot be opened.
            BadFileError, MismatchError, MissingPackageError: as `Change` does.
            EdgepatchError: it cannot be written.
        """
        with cls.creation(path, engine=engine, timeout=timeout) as change:
            change.graph(graph)
            for patch in patches:
                change.patch(patch)
        return cls.open(path)

    @classmethod
    @contextlib.contextmanager
    def creation(cls, path: Paths, *, engine: str | None = None, timeout: float = lock.TIMEOUT) -> Iterator[Change]:
        """What `create` does, as a change: its steps bring the graph and the patches.

        Raises:
            As `create` does; UsageError, too, if no step brings a graph.
        """
        folder = Path(path)
        _refuse_used(folder)
        change = Change(folder, None, engine=engine)
        yield change
        change.check()
        disk.make(folder)
        with lock.held(folder, timeout):
            disk.refuse_used(folder)  # another process may have made one since
            change.write()

    def refresh(self) -> Store:
        """Read again what is installed; returns itself."""
        self.state, self.warning = reading.load(self.path)
        return self

    @property
    def graph(self) -> Path:
        """The shared graph's file."""
        return reading.path_of(self.path, self.state.graph.name)

    @property
    def backbone_id(self) -> str:
        """SHA-256 of the backbone in the graph."""
        return self.state.graph.backbone_id

    def patches(self) -> dict[str, Active]:
        """The active patches by task."""
        return {
            name: Active(reading.path_of(self.path, version.name), version.version, version.sha256)
            for name, version in self.state.active.items()
        }

    def patch(self, task: str) -> Patch:
        """A task's active patch, its file held against its hash.

        Raises:
            UsageError: the task is not installed.
            BadFileError: the file is not what it was.
        """
        if task not in self.state.active:
            installed = ", ".join(self.state.active) or "none"
            raise UsageError("this task is not installed", file=self.path, field="task", got=task, expected=installed)
        version = self.state.active[task]
        data = reading.read_patch(self.path, version, f"task {task}")
        return blob.parse(data, reading.path_of(self.path, version.name))

    def runtime(self, **options: Any) -> Runtime:
        """A runtime of the graph with all active patches, as they are installed now.

        Should another process replace files and collect the old ones meanwhile, it starts again with the new state:
        it is one state, never a mix.

        Args:
            options: as `Runtime` takes them.

        Raises:
            BadFileError: a file is gone, or not what it was.
            As `Runtime` does.
        """
        self.refresh()
        while True:
            try:
                return self._load(options)
            except EdgepatchError:
                tried = self.state
                if self.refresh().state == tried:
                    raise

    @contextlib.contextmanager
    def change(self, *, timeout: float = lock.TIMEOUT, engine: str | None = None) -> Iterator[Change]:
        """Change several things in one go: `with store.change() as change: change.patch(...)`.

        No other process changes the store meanwhile. Leaving the block by an exception changes nothing.

        Args:
            timeout: how long to wait for another writer, in seconds.
            engine: to try patches with; by default the first installed one that runs the graph.

        Raises:
            EdgepatchError: another process holds the lock, or nothing can be written.
            As the steps and the end of `Change` do.
        """
        with lock.held(self.path, timeout):
            self.refresh()
            change = Change(self.path, self.state, damaged=self.warning is not None, engine=engine)
            yield change
            change.check()
            change.write()
            self.refresh()

    def install(self, *paths: Paths, force: bool = False, remove: Iterable[str] = (), **options: Any) -> list[Outcome]:
        """Install patches and, if one is among the files, a graph; remove tasks: all or nothing.

        Args:
            force: take versions that are not larger than those installed before.
            remove: tasks to remove in the same go.
            options: `timeout` and `engine`, as `change` takes them; here and below.

        Raises:
            As `change`, `Change.patch`, `Change.graph` and `Change.remove` do.
        """
        with self.change(**options) as change:
            for path in paths:
                if is_graph(path):
                    change.graph(path)
                else:
                    change.patch(path, force=force)
            for task in remove:
                change.remove(task)
        return change.outcomes

    def remove(self, *tasks: str, forget: bool = False, **options: Any) -> list[Outcome]:
        """Remove tasks, as `Change.remove` does."""
        with self.change(**options) as change:
            for task in tasks:
                change.remove(task, forget=forget)
        return change.outcomes

    def activate(self, task: str, version: int, **options: Any) -> Outcome:
        """Make a version active that the store keeps, as `Change.activate` does."""
        with self.change(**options) as change:
            outcome = change.activate(task, version)
        return outcome

    def roll_back(self, *tasks: str, **options: Any) -> list[Outcome]:
        """Make the previous patches of tasks active, as `Change.roll_back` does."""
        with self.change(**options) as change:
            for task in tasks:
                change.roll_back(task)
        return change.outcomes

    def collect(self, *, timeout: float = lock.TIMEOUT) -> Collected:
        """Remove what no task needs: replaced and removed patches, and what a power cut left.

        state.previous.json is first made a copy of the state there is, for it may name such files.

        Raises:
            EdgepatchError: another process holds the lock, or the disk fails.
        """
        with lock.held(self.path, timeout):
            self.refresh()
            disk.settle(self.path, dump(self.state))
            self.warning = None
            gone = self.garbage()
            for path in gone:
                disk.remove(path)
            return Collected(len(gone), sum(gone.values()))

    def garbage(self) -> dict[Path, int]:
        """The files that `collect` would remove, with their sizes in bytes.

        Raises:
            EdgepatchError: a folder cannot be read.
        """
        found = {}
        try:
            for folder, kept in ((self.path, {}), (self.path / disk.OBJECTS, self.state.objects)):
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if _OURS.fullmatch(entry.name) and entry.name not in kept:
                            with contextlib.suppress(FileNotFoundError):  # a writer has renamed or removed it since
                                found[Path(entry.path)] = entry.stat(follow_symlinks=False).st_size
        except OSError as error:
            raise EdgepatchError(f"cannot be read: {error.strerror}", file=self.path) from error
        return found

    def verify(self, *, engine: str | None = None) -> list[Checked]:
        """Hold every file against its hash, and the graph and the active patches against each other as
        `edgepatch verify` does.

        Returns:
            a row for each file, with what is wrong with it.

        Raises:
            UsageError, BadFileError, EdgepatchError: as `refresh` does.
        """
        self.refresh()
        return verifying.verify(self.path, self.state, engine)

    def _load(self, options: dict[str, Any]) -> Runtime:
        reading.read(self.path, self.state.graph.name, self.state.graph.bytes, "graph")
        runtime = Runtime(self.graph, **options)
        try:
            for task in self.state.active:
                runtime.add(self.patch(task), file=self.patches()[task].path)
        except BaseException:
            runtime.close()
            raise
        return runtime


def _refuse_used(folder: Path) -> None:
    """As `disk.refuse_used` does; of a store that cannot be opened, which nothing can be added to, it says that."""
    try:
        disk.refuse_used(folder)
    except UsageError:
        with contextlib.suppress(UsageError):  # something else is there
            reading.load(folder)
        raise


def is_graph(path: Paths) -> bool:
    """Whether a file starts like a model; what else it is, reading it as a patch will say.

    Raises:
        UsageError: there is no such file.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(16)
    except FileNotFoundError as error:
        raise UsageError("there is no such file", file=path) from error
    except OSError as error:
        raise BadFileError(f"cannot be read: {error.strerror}", file=path) from error
    return files.format_of(start) is not None and not container.is_container(start)
