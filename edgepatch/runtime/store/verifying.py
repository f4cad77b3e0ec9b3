"""Every file of a store, held against its hash and against the graph."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepatch import blob
from edgepatch.blob import Patch
from edgepatch.errors import BadFileError, EdgepatchError
from edgepatch.runtime import graph_file
from edgepatch.runtime.store import disk, reading, trial
from edgepatch.runtime.store.state import State, Version


@dataclasses.dataclass(frozen=True)
class Checked:
    """A file of a store.

    Attributes:
        file: where it lies.
        what: it is: `state`, `previous state`, `graph`, `task digits`, `previous of digits`.
        error: what is wrong with it, if anything.
        version: of a patch.
    """

    file: Path
    what: str
    error: EdgepatchError | None = None
    version: int | None = None

    def __str__(self) -> str:
        version = f"version {self.version}, " if self.version else ""
        return str(self.error) if self.error else f"{self.what}: ok, {version}{self.file.name}"

    def to_json(self) -> dict[str, Any]:
        error = self.error.to_json() if self.error else {}
        version = {"version": self.version} if self.version else {}
        return {"file": str(self.file), "what": self.what, **version, "ok": self.error is None, **error}


def verify(folder: Path, state: State, engine: str | None) -> list[Checked]:
    """What `Store.verify` returns."""
    rows = [_state(folder / disk.STATE, "state")]
    if (folder / disk.PREVIOUS).exists():
        rows.append(_state(folder / disk.PREVIOUS, "previous state"))
    path = reading.path_of(folder, state.graph.name)
    with contextlib.ExitStack() as stack:
        answers: Callable[[Patch, object], list[str]] | None = None
        try:
            data = reading.read(folder, state.graph.name, state.graph.bytes, "graph")
            answers = stack.enter_context(trial.bench(graph_file.parse(data, path), engine))
            rows.append(Checked(path, "graph"))
        except EdgepatchError as error:
            rows.append(Checked(path, "graph", error))
        for name, task in state.tasks.items():
            if task.active:
                rows.append(_patch(folder, f"task {name}", task.active, answers))
            if task.previous:
                rows.append(_patch(folder, f"previous of {name}", task.previous, None))
    return rows


def _state(path: Path, what: str) -> Checked:
    try:
        reading.load_file(path)
    except EdgepatchError as error:
        return Checked(path, what, error)
    except FileNotFoundError:
        return Checked(path, what, BadFileError("is gone", file=path))
    return Checked(path, what)


def _patch(folder: Path, what: str, version: Version, answers: Callable[[Patch, object], list[str]] | None) -> Checked:
    """A patch, held against its hash and, where there is a graph to hold it against, tried."""
    path = reading.path_of(folder, version.name)
    try:
        patch = blob.parse(reading.read_patch(folder, version, what), path)
        if answers:
            answers(patch, path)
    except EdgepatchError as error:
        return Checked(path, what, error, version.version)
    return Checked(path, what, None, version.version)
