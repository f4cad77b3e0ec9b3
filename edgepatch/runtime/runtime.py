"""The device side: one shared graph, any number of patches."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from edgepatch import blob, imaging
from edgepatch.blob import Patch
from edgepatch.errors import MismatchError, UsageError
from edgepatch.runtime import baking, engines, fitting, graph_file, heads
from edgepatch.runtime.baking import Baked, Bound, Residents
from edgepatch.runtime.fitting import Fitted
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.head_model import HeadModel

MODES = ("auto", "bind", "bake")
PROMOTE_AFTER = 3  # predictions of a task, bound, before `auto` bakes it
MEMORY_MB = 128

_Model = Baked | Bound | HeadModel


@dataclasses.dataclass
class _Loaded:
    """A task: its patch, and how far it is on its way from bound to baked."""

    patch: Patch
    fitted: Fitted
    head: ModuleType
    network: HeadModel | None = None  # the head, where it is a network of its own
    answers: int = 0  # bound, since it was loaded or last let go
    patience: int = PROMOTE_AFTER  # doubles each time it is let go, lest tasks push each other out all the time
    job: Future[None] | None = None
    problem: str | None = None  # why it cannot be baked

    @property
    def bindable(self) -> bool:
        return self.fitted.inputs is not None


class Runtime:
    """Runs any task of a backbone through one shared graph.

    Any thread may call any method. A prediction runs wholly under one task. A task runs at the input size that its
    patch was trained for: bound tasks of one size share an interpreter, which the first of them opens; it stays until
    another is opened while no task of its size is loaded.

    Args:
        graph: a shared .tflite or .onnx, or one that `graph_file.read` has read already.
        engine: `litert`, `tflite-runtime` or `onnx`; by default the first installed one that runs the file.
        mode: `bind` gives the graph a patch as its inputs: switches in microseconds. `bake` writes it into a copy of
            the graph: switches in milliseconds, then runs as fast as a dedicated model. `auto` binds at once and, when
            a task stays, bakes it in the background and moves over between two predictions. A patch that changes
            kernels or skips blocks cannot be bound; `auto` bakes it at once.
        threads: of the interpreter.
        memory_mb: what baked models may take together, in 10^6 bytes; beyond it the least recently used one goes. A
            single one may exceed it where there is no other way: under `bake`, of an int8 graph, and of a patch that
            cannot be bound. Any other stays bound under `auto`.

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
        graph: str | os.PathLike[str] | Graph,
        *,
        engine: str | None = None,
        mode: str = "auto",
        threads: int = 1,
        memory_mb: float = MEMORY_MB,
    ) -> None:
        if mode not in MODES:
            raise UsageError("there is no such mode", field="--mode", got=mode, expected=", ".join(MODES))
        if type(threads) is not int or not 1 <= threads <= 256:
            raise UsageError("is out of range", field="--threads", got=threads, expected="1 to 256")
        if not 0 <= memory_mb < 1e9:
            raise UsageError("is out of range", field="memory_mb", got=memory_mb, expected="0 or more")
        self._graph = graph if isinstance(graph, Graph) else graph_file.read(graph)
        if mode != "auto" and mode not in self._graph.forms:
            raise UsageError(
                "this graph has no such form",
                file=None if graph is self._graph else graph,
                field="--mode",
                got=mode,
                expected=" or ".join(["auto", *self._graph.forms]),
            )
        self.mode, self.engine, self.threads = mode, engines.choose(self._graph, engine), threads
        engines.load(self.engine)
        self._lock = threading.RLock()  # of everything below but running models
        self._bake_lock = threading.Lock()  # one model is baked at a time
        self._residents = Residents(int(memory_mb * 1e6))
        self._baker: ThreadPoolExecutor | None = None
        self._bounds: dict[tuple[int, tuple[str, ...]], Bound] = {}  # by input size and maps
        self._closed = False
        self._loaded: dict[str, _Loaded] = {}
        self._task: str | None = None

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
            UsageError: there is no such file, or the mode is `bind` and the patch cannot be bound.
            BadFileError: it is not a whole, sound patch.
            MismatchError: it is of another backbone or does not fit the graph.
        """
        return self.add(blob.read(path), file=path)

    def add(self, patch: Patch, *, file: object = None) -> str:
        """As `load`, for a patch in memory."""
        fitted = fitting.fit(self._graph, patch, file)
        if self.mode == "bind" and fitted.inputs is None:
            raise UsageError(
                "the patch changes kernels or skips blocks, so it cannot be bound",
                file=file,
                field="--mode",
                got="bind",
                expected="auto or bake",
            )
        network = HeadModel(self.engine, self.threads, self._graph, fitted) if fitted.network else None
        loaded = _Loaded(patch, fitted, heads.of(patch, fitted.values, file), network)
        with self._lock:
            self._refuse_closed()
            gone: list[_Model] = [*self._residents.drop(patch.task), *self._heads([patch.task])]
            self._loaded[patch.task] = loaded
            if self._task is None:
                self._task = patch.task
        _close(gone)
        return patch.task

    def unload(self, task: str) -> None:
        """Forget a task. A bound one's memory goes with the next switch. If it was in use, the first of the others is.

        Raises:
            UsageError: it is not loaded.
        """
        with self._lock:
            self._find(task)
            gone: list[_Model] = [*self._residents.drop(task), *self._heads([task])]
            del self._loaded[task]
            if self._task == task:
                self._task = next(iter(self._loaded), None)
        _close(gone)

    def use(self, task: str) -> None:
        """Switch to a task: what follows is predicted by it.

        Raises:
            UsageError: it is not loaded.
        """
        with self._lock:
            loaded = self._find(task)
            baked = self._residents.get(task)
        if baked is None and self._must_bake(loaded):
            self._bake(loaded)
        elif baked is None:
            while not self._bound(loaded).use(loaded.fitted):
                pass  # it was let go between being found and being bound
        with self._lock:
            self._task = self._find(task).patch.task

    def predict(self, picture: Any, task: str | None = None) -> Any:
        """What the task in use, or the one named, says of a picture.

        Args:
            picture: a path, a PIL image, or an array as `imaging.load` takes it.
            task: for this picture alone; safe with other threads predicting other tasks.

        Returns:
            A `Classification` from a classifier, `Detections` from a detector, a `Segmentation` from a segmenter.

        Raises:
            UsageError: no patch is loaded, the task is not, or there is no such file.
            BadFileError: the file is not a picture.
        """
        with self._lock:
            loaded = self._find(self._task if task is None else task)
        whole = imaging.load(picture)
        outputs = self._run(loaded, loaded.patch.input.prepare(whole))
        return loaded.head.decode(outputs, loaded.patch, whole.size)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until nothing is being baked in the background; at most `timeout` seconds."""
        with self._lock:
            jobs = [loaded.job for loaded in self._loaded.values() if loaded.job]
        wait(jobs, timeout)

    @property
    def baked(self) -> tuple[str, ...]:
        """Tasks that are baked and resident, the least recently used first."""
        with self._lock:
            return self._residents.tasks

    @property
    def problems(self) -> dict[str, str]:
        """Tasks that `auto` could not bake, and why; they stay bound."""
        with self._lock:
            return {task: loaded.problem for task, loaded in self._loaded.items() if loaded.problem}

    @property
    def baked_bytes(self) -> int:
        """What the baked tasks are taken to keep resident."""
        with self._lock:
            return self._residents.nbytes

    def patch(self, task: str) -> Patch:
        """The patch of a task that is loaded.

        Raises:
            UsageError: it is not loaded.
        """
        with self._lock:
            return self._find(task).patch

    def close(self) -> None:
        """Give back the interpreters' memory. Predicting afterwards is an error."""
        with self._lock:
            self._closed = True
            baker, self._baker = self._baker, None
        if baker is not None:
            baker.shutdown(wait=True)  # what is queued ends at once, for the runtime is closed
        with self._lock:
            baked, bound = self._residents.clear(), list(self._bounds.values())
            self._bounds.clear()
            networks = self._heads(self._loaded)
        _close([*baked, *bound, *networks])

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

    def _must_bake(self, loaded: _Loaded) -> bool:
        return self.mode == "bake" or "bind" not in self._graph.forms or not loaded.bindable

    def _run(self, loaded: _Loaded, image: np.ndarray) -> dict[str, np.ndarray]:
        """A task's outputs: by its baked model where it has one, else bound or, where that is not to be, baked now."""
        while True:
            with self._lock:
                self._refuse_closed()
                baked = self._residents.get(loaded.patch.task) if self._is_current(loaded) else None
            if baked is None and self._must_bake(loaded):
                baked = self._bake(loaded)
            outputs = self._run_bound(loaded, image) if baked is None else baked.run(image)
            if outputs is not None:
                return outputs if loaded.network is None else loaded.network.run(outputs)
            # it was let go between being found and being run

    def _run_bound(self, loaded: _Loaded, image: np.ndarray) -> dict[str, np.ndarray] | None:
        outputs = self._bound(loaded).run(loaded.fitted, image)
        if outputs is not None and self.mode == "auto":
            with self._lock:
                loaded.answers += 1
                if loaded.answers >= loaded.patience and loaded.job is None and not self._closed:
                    self._baker = self._baker or ThreadPoolExecutor(1, "edgepatch-bake")
                    loaded.job = self._baker.submit(self._promote, loaded)
        return outputs

    def _bound(self, loaded: _Loaded) -> Bound:
        """The bound form for a task's input size and maps; a new one takes the place of those that no task has."""
        layout, gone = loaded.fitted.layout, []
        with self._lock:
            self._refuse_closed()
            if layout not in self._bounds:
                layouts = {other.fitted.layout for other in self._loaded.values()}
                gone = [self._bounds.pop(idle) for idle in self._bounds.keys() - layouts]
                self._bounds[layout] = Bound(self.engine, self.threads, self._graph)
            bound = self._bounds[layout]
        _close(gone)
        return bound

    def _promote(self, loaded: _Loaded) -> None:
        """Bake in the background; whatever goes wrong, the task stays bound."""
        try:
            self._bake(loaded)
        except Exception as error:  # nobody waits for this thread: what it raised would be lost
            loaded.problem = str(error) or type(error).__name__

    def _bake(self, loaded: _Loaded) -> Baked:
        """A task's baked model, made unless it is there, and resident if the task is still loaded.

        Raises:
            MismatchError: under `auto`, it alone would exceed the budget.
        """
        task = loaded.patch.task
        with self._bake_lock:
            with self._lock:
                self._refuse_closed()
                if self._is_current(loaded) and (baked := self._residents.get(task)):
                    return baked
            model = baking.bake(self._graph, loaded.fitted)
            if (
                not self._must_bake(loaded)
                and (needed := baking.footprint(model, self._graph)) > self._residents.budget
            ):
                raise MismatchError(
                    "a baked model would exceed the budget of memory",
                    field="memory_mb",
                    got=self._residents.budget / 1e6,
                    expected=f"at least {needed / 1e6:.0f}",
                )
            baked = Baked(task, self.engine, model, self.threads, self._graph)
            with self._lock:
                stays = self._is_current(loaded) and not self._closed
                gone = self._residents.put(baked) if stays else []
                for let_go in gone:
                    if other := self._loaded.get(let_go.task):  # it has to earn it again
                        other.answers, other.job, other.patience = 0, None, 2 * other.patience
        _close(gone)
        return baked

    def _heads(self, tasks: Iterable[str]) -> list[HeadModel]:
        """The heads of loaded tasks that are models of their own."""
        found = [self._loaded[task].network for task in tasks if task in self._loaded]
        return [network for network in found if network]

    def _is_current(self, loaded: _Loaded) -> bool:
        """Whether a task is still loaded, and by this patch."""
        return self._loaded.get(loaded.patch.task) is loaded

    def _refuse_closed(self) -> None:
        if self._closed:
            raise UsageError("the runtime is closed")


def _close(gone: Sequence[_Model]) -> None:
    """Close models, outside any lock but their own: one may be running."""
    for baked in gone:
        baked.close()
