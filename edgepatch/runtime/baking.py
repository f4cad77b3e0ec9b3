"""Models an engine opens, made of a shared graph; the bound ones, and the baked ones within a budget of memory."""

from __future__ import annotations

import contextlib
import math
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgepatch.errors import BadFileError, MismatchError
from edgepatch.runtime import engines
from edgepatch.runtime.fitting import Fitted
from edgepatch.runtime.formats import FORMATS
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.model import Model


def bind_model(graph: Graph, fitted: Fitted) -> Model:
    """The form that takes a patch as inputs, for images of the patch's size: the graph itself where that is its own.

    Raises:
        BadFileError: the graph cannot be laid out for that size, whatever it says.
    """
    with _forgeries(f"laid out for {fitted.size} pixels", "sizes"):
        return FORMATS[graph.format].bind_model(graph, fitted.size, fitted.maps)


def bake(graph: Graph, fitted: Fitted) -> Model:
    """A dedicated model of one task: the patch written into the constants of a copy of the graph, and its size.

    Raises:
        BadFileError: the bake table leads out of the file, or into itself.
    """
    with _forgeries("baked", "bake"):
        return FORMATS[graph.format].bake_model(graph, fitted.values, fitted.ranges, fitted.size, fitted.maps)


@contextlib.contextmanager
def _forgeries(done: str, field: str) -> Iterator[None]:
    """What comes of a graph that was forged beyond our checks, as an error of ours."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, ZeroDivisionError, struct.error) as error:
        raise BadFileError(f"the graph cannot be {done}: {error}", field=field) from error


class Bound:
    """The bound form for one input size: opened by the first task of that size, and kept.

    Threads take turns; one that comes after it was closed gets no answer.
    """

    def __init__(self, engine: str, threads: int, graph: Graph) -> None:
        self._name, self._threads, self._graph = engine, threads, graph
        self._lock = threading.Lock()
        self._closed = False
        self._engine: Any = None
        self._fitted: Fitted | None = None

    def use(self, fitted: Fitted) -> bool:
        """Bind a patch unless it is bound already; False when closed.

        Raises:
            BadFileError, MismatchError: the engine refuses the graph or the patch.
        """
        with self._lock:
            return self._bind(fitted)

    def run(self, fitted: Fitted, image: np.ndarray) -> dict[str, np.ndarray] | None:
        """Outputs of a patch by name, or None when closed; raises as `use` does."""
        with self._lock:
            if not self._bind(fitted):
                return None
            with engines.refusals(self._name, fitted.patch.task):
                return self._engine.run(image)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._engine is not None:
                self._engine.close()
            self._engine = self._fitted = None

    def _bind(self, fitted: Fitted) -> bool:
        if self._closed:
            return False
        if self._engine is None:
            self._engine = open_model(self._name, bind_model(self._graph, fitted), self._threads)
        if self._fitted is not fitted:
            self._fitted = None  # should binding fail half-way, nothing is taken for bound
            try:
                with engines.refusals(self._name, fitted.patch.task):
                    self._engine.bind(fitted.inputs)
            except MismatchError:  # tflite-runtime ends the process if it is laid out again after that failed
                self._engine.close()
                self._engine = None
                raise
            self._fitted = fitted
        return True


class Baked:
    """A baked model, open and run once: the first run takes several times as long as the others.

    Threads take turns; one that comes after it was closed gets no answer.

    Raises:
        BadFileError, MismatchError: the engine refuses the model.
    """

    def __init__(self, task: str, engine: str, model: Model, threads: int, graph: Graph) -> None:
        self.nbytes = footprint(model, graph)
        self.task, self._name = task, engine
        self._lock = threading.Lock()
        self._engine: Any = open_model(engine, model, threads)
        try:
            with engines.refusals(engine, task):
                self._engine.bind({})
                self._engine.run(np.zeros(self._engine.image_shape, np.float32))
        except MismatchError:
            self._engine.close()
            raise

    def run(self, image: np.ndarray) -> dict[str, np.ndarray] | None:
        """Outputs by name, or None when closed."""
        with self._lock, engines.refusals(self._name, self.task):
            return None if self._engine is None else self._engine.run(image)

    def close(self) -> None:
        with self._lock:
            if self._engine is not None:
                self._engine.close()
            self._engine = None


def open_model(engine: str, model: Model, threads: int) -> Any:
    """A model of a shared graph, open.

    Raises:
        BadFileError: the engine refuses it, or it takes other images than the graph's document says.
    """
    opened, size = engines.start(engine, model, threads), model.size
    if opened.image_shape != (1, size, size, 3) or opened.image_type != np.float32:
        got = f"{opened.image_type} {opened.image_shape}"
        opened.close()
        raise BadFileError(
            "takes other images than it says", field="input.size", got=got, expected=f"float32 (1, {size}, {size}, 3)"
        )
    return opened


def footprint(model: Model, graph: Graph) -> int:
    """Bytes that a baked model keeps resident, estimated: its own, what the interpreter packs of it, activations.

    The figures are fitted to what MobileNetV2 keeps in each precision (docs/benchmarks.md): packed weights are float32
    unless the graph computes in int8, and then padded; activations grow with the task's images.
    """
    weights = sum(math.prod(site["kernel"]) for site in graph.document["sites"])
    width = 2 if graph.precision == "int8" else 4
    activations = 12 * (model.size or graph.input.size) ** 2 * 3 * (1 if graph.precision == "int8" else 4)
    if graph.format == "onnx":  # its arena grows by doubling
        activations = 2 * activations + 2_000_000
    return model.nbytes + width * weights + activations


class Residents:
    """Baked models by task, the least recently used first to go. Its user holds a lock."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._kept: OrderedDict[str, Baked] = OrderedDict()

    def get(self, task: str) -> Baked | None:
        """The model of a task, which is now the most recently used."""
        if task in self._kept:
            self._kept.move_to_end(task)
        return self._kept.get(task)

    def put(self, baked: Baked) -> list[Baked]:
        """Keep a model; returns those that had to go, for the caller to close."""
        gone = self.drop(baked.task)
        self._kept[baked.task] = baked
        while self.nbytes > self.budget and len(self._kept) > 1:
            gone.append(self._kept.popitem(last=False)[1])
        return gone

    def drop(self, task: str) -> list[Baked]:
        """Let a task go; returns it as `put` does."""
        return [self._kept.pop(task)] if task in self._kept else []

    def clear(self) -> list[Baked]:
        """Let all go; returns them as `put` does."""
        gone = list(self._kept.values())
        self._kept.clear()
        return gone

    @property
    def tasks(self) -> tuple[str, ...]:
        """The least recently used first."""
        return tuple(self._kept)

    @property
    def nbytes(self) -> int:
        return sum(baked.nbytes for baked in self._kept.values())
