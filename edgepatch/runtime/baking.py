"""Models an engine opens, made of a shared graph; and the baked ones kept open within a budget of memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from edgepatch.errors import BadFileError
from edgepatch.runtime import engines
from edgepatch.runtime.fitting import Fitted
from edgepatch.runtime.formats import FORMATS
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.model import Model


def bind_model(graph: Graph) -> Model:
    """The form that takes a patch as inputs."""
    return FORMATS[graph.format].bind_model(graph)


def bake(graph: Graph, fitted: Fitted) -> Model:
    """A dedicated model of one task: the patch written into the constants of a copy of the graph.

    Raises:
        BadFileError: the bake table leads out of the file, or into itself.
    """
    try:
        return FORMATS[graph.format].bake_model(graph, fitted.values, fitted.ranges)
    except ValueError as error:
        raise BadFileError(f"cannot be baked: {error}", field="bake") from error


class Baked:
    """A baked model, open. Threads take turns; one that comes after it was closed gets no answer."""

    def __init__(self, engine: str, model: Model, threads: int) -> None:
        self.nbytes = footprint(model, engine)
        self._lock = threading.Lock()
        self._engine: Any = engines.start(engine, model, threads)
        self._engine.bind({})

    def run(self, image: np.ndarray) -> dict[str, np.ndarray] | None:
        """Outputs by name, or None when closed."""
        with self._lock:
            return None if self._engine is None else self._engine.run(image)

    def warm(self) -> None:
        """The first run takes several times as long as the others: not to be felt when it counts."""
        self.run(np.zeros(self._engine.image_shape, self._engine.image_type))

    def close(self) -> None:
        with self._lock:
            if self._engine is not None:
                self._engine.close()
            self._engine = None


def footprint(model: Model, engine: str) -> int:
    """Bytes that a baked model keeps resident, estimated: its own, what the interpreter packs of it, activations.

    The factors are from what MobileNetV2 1.0/128 keeps in float32 and int8 (docs/benchmarks.md).
    """
    return 3 * model.nbytes + 5_000_000 if engine == "onnx" else int(2.75 * model.nbytes)


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

    def put(self, task: str, baked: Baked) -> list[tuple[str, Baked]]:
        """Keep a model; returns those that had to go, for the caller to close."""
        gone = self.drop(task)
        self._kept[task] = baked
        while self.nbytes > self.budget and len(self._kept) > 1:
            gone.append(self._kept.popitem(last=False))
        return gone

    def drop(self, task: str) -> list[tuple[str, Baked]]:
        """Let a task go; returns it as `put` does."""
        return [(task, self._kept.pop(task))] if task in self._kept else []

    def clear(self) -> list[tuple[str, Baked]]:
        gone = list(self._kept.items())
        self._kept.clear()
        return gone

    @property
    def tasks(self) -> tuple[str, ...]:
        """The least recently used first."""
        return tuple(self._kept)

    @property
    def nbytes(self) -> int:
        return sum(baked.nbytes for baked in self._kept.values())
