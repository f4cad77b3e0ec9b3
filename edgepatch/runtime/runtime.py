"""The device side: one shared graph, any number of patches."""

from __future__ import annotations

import dataclasses
import os
import threading
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from edgepatch import blob
from edgepatch.blob import Patch
from edgepatch.errors import MismatchError, UsageError
from edgepatch.runtime import engines, graph_file, heads
from edgepatch.runtime.graph_file import Graph

MODES = ("auto", "bind", "bake")


@dataclasses.dataclass(frozen=True)
class _Loaded:
    patch: Patch
    values: dict[str, np.ndarray]
    head: ModuleType


class Runtime:
    """Runs any task of a backbone through one shared graph.

    Any thread may call any method. A prediction runs wholly under one task: switching waits for it.

    Args:
        graph: a shared .tflite or .onnx.
        engine: `litert`, `tflite-runtime` or `onnx`; by default the first installed one that runs the file.
        mode: `bind` gives the graph a patch as its inputs. `auto` leaves the choice to the runtime.
        threads: of the interpreter.

    Raises:
        UsageError: no such file, engine or mode.
        BadFileError, MismatchError: the file is damaged, or is no shared graph.
        MissingPackageError: no engine for it is installed.

    Example:
        >>> runtime = Runtime("mobilenet.tflite")
        >>> runtime.load("digits.epatch")
        'digits'
        >>> runtime.predict("seven.png").label
        '7'
    """

    def __init__(
        self,
        graph: str | os.PathLike[str],
        *,
        engine: str | None = None,
        mode: str = "auto",
        threads: int = 1,
    ) -> None:
        if mode not in MODES:
            raise UsageError("there is no such mode", field="--mode", got=mode, expected=", ".join(MODES))
        if type(threads) is not int or not 1 <= threads <= 256:
            raise UsageError("is out of range", field="--threads", got=threads, expected="1 to 256")
        self._graph = graph_file.read(graph)
        self._file = graph
        forms = self._graph.document["forms"]
        if mode != "auto" and mode not in forms:
            raise UsageError(
                "this graph has no such form", file=graph, field="--mode", got=mode, expected=", ".join(forms)
            )
        self.mode = "bind" if mode == "auto" else mode
        self.engine = engines.choose(self._graph, engine)
        self._engine: engines.Engine | None = engines.start(self.engine, self._graph.data, threads)
        self._lock = threading.RLock()
        self._loaded: dict[str, _Loaded] = {}
        self._task: str | None = None
        self._bound: _Loaded | None = None

    @property
    def backbone_id(self) -> str:
        """SHA-256 of the backbone in the graph."""
        return self._graph.backbone_id

    @property
    def graph(self) -> dict[str, Any]:
        """What the graph says of itself: architecture, sites, inputs, precision."""
        return self._graph.document

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks loaded, in order of loading."""
        with self._lock:
            return tuple(self._loaded)

    @property
    def task(self) -> str | None:
        """The task in use."""
        return self._task

    def load(self, path: str | os.PathLike[str]) -> str:
        """Load a patch file; returns its task. A task loaded again is replaced. The first one loaded is put to use.

        Raises:
            UsageError: there is no such file.
            BadFileError: it is not a whole, sound patch.
            MismatchError: it is of another backbone or does not fit the graph.
        """
        return self.add(blob.read(path), file=path)

    def add(self, patch: Patch, *, file: object = None) -> str:
        """As `load`, for a patch in memory."""
        loaded = _Loaded(patch, check(self._graph, patch, file), heads.of(patch, file))
        with self._lock:
            self._loaded[patch.task] = loaded
            if self._task is None:
                self._task = patch.task
        return patch.task

    def unload(self, task: str) -> None:
        """Forget a task. Its memory goes with the next switch at the latest.

        Raises:
            UsageError: it is not loaded.
        """
        with self._lock:
            self._find(task)
            gone = self._loaded.pop(task)
            if self._bound is gone:
                self._bound = None
            if self._task == task:
                self._task = next(iter(self._loaded), None)

    def use(self, task: str) -> None:
        """Switch to a task: what follows is predicted by it.

        Raises:
            UsageError: it is not loaded.
        """
        with self._lock:
            self._switch(self._find(task))
            self._task = task

    def predict(self, picture: Any, task: str | None = None) -> Any:
        """What the task in use, or the one named, says of a picture.

        Args:
            picture: a path, a PIL image, or an array as `imaging.load` takes it.
            task: for this picture alone; safe with other threads predicting other tasks.

        Returns:
            A `Classification` from a classifier.

        Raises:
            UsageError: no patch is loaded, the task is not, or there is no such file.
            BadFileError: the file is not a picture.
        """
        with self._lock:
            loaded = self._find(task or self._task)
        image = loaded.patch.input(picture)
        with self._lock:
            if self._engine is None:
                raise UsageError("the runtime is closed")
            self._switch(loaded)
            outputs = self._engine.run(image)
        return loaded.head.decode(outputs, loaded.patch)

    def patch(self, task: str) -> Patch:
        """The patch of a task that is loaded.

        Raises:
            UsageError: it is not loaded.
        """
        with self._lock:
            return self._find(task).patch

    def close(self) -> None:
        """Give back the interpreter's memory. Predicting afterwards is an error."""
        with self._lock:
            if self._engine is not None:
                self._engine.close()
            self._engine = self._bound = None

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, task: str | None) -> _Loaded:
        if task is None:
            raise UsageError("no patch is loaded", mend='runtime.load("FILE.epatch")')
        if task not in self._loaded:
            raise UsageError(
                "this task is not loaded", field="task", got=task, expected=", ".join(self._loaded) or "none"
            )
        return self._loaded[task]

    def _switch(self, loaded: _Loaded) -> None:
        """Bind a patch unless it is bound already. The lock is held."""
        if self._engine is None:
            raise UsageError("the runtime is closed")
        if self._bound is not loaded:
            self._bound = None  # should binding fail half-way, nothing is taken for bound
            try:
                self._engine.bind(loaded.values)
            except (RuntimeError, ValueError, KeyError) as error:
                raise MismatchError(f"{self.engine} cannot bind the patch: {error}", field=loaded.patch.task) from error
            self._bound = loaded


def check(graph: Graph, patch: Patch, file: object) -> dict[str, np.ndarray]:
    """The values of a graph's patch inputs for a patch: float32, the backbone's own where the patch has none.

    Raises:
        MismatchError: the patch is of another backbone, for another input size, or has tensors the graph does not take.
    """

    def mismatch(message: str, field: str, got: object, expected: object, mend: str | None = None) -> MismatchError:
        return MismatchError(message, file=file, field=field, got=got, expected=expected, mend=mend)

    if patch.backbone_id != graph.backbone_id:
        raise mismatch(
            "is a patch of another backbone",
            "backbone_id",
            patch.backbone_id,
            graph.backbone_id,
            "Export a graph of the backbone it was trained on, or train it on this one.",
        )
    if patch.input.size != graph.input.size:
        raise mismatch(
            "was trained for another input size",
            "input.size",
            patch.input.size,
            graph.input.size,
            "Export a graph of a backbone created with its --size.",
        )
    values = {name: np.array(value, np.float32) for name, value in graph.defaults.items()}
    for name, value in patch.values().items():
        if name not in graph.inputs:
            raise mismatch("has a tensor that the graph does not take", name, name, ", ".join(graph.inputs))
        shape = graph.inputs[name]
        if len(shape) != value.ndim or any(
            side not in (None, got) for side, got in zip(shape, value.shape, strict=True)
        ):
            raise mismatch("has a tensor of another shape than the graph takes", name, str(value.shape), str(shape))
        values[name] = value
    if missing := [name for name in graph.inputs if name not in values]:
        raise mismatch("lacks a tensor that the graph needs", missing[0], ", ".join(patch.tensors), missing[0])
    return {name: values[name] for name in graph.inputs}
