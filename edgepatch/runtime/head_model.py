"""A task's head as a model of its own, behind the trunk's."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from edgepatch.head_network import PREFIX
from edgepatch.runtime import engines
from edgepatch.runtime.fitting import Fitted
from edgepatch.runtime.formats import onnx_head, tflite_head
from edgepatch.runtime.graph_file import Graph

HEADS = {"tflite": tflite_head, "onnx": onnx_head}


class HeadModel:
    """A head's network with its weights: opened when the first maps come, for their sizes.

    Threads take turns; its weights are always baked.
    """

    def __init__(self, engine: str, threads: int, graph: Graph, fitted: Fitted) -> None:
        assert fitted.network is not None
        self._name, self._threads, self._format = engine, threads, graph.format
        self._network, self._fitted = fitted.network, fitted
        self._lock = threading.Lock()
        self._closed = False
        self._engine: Any = None

    def run(self, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What it answers, by name, (1, side, side, channels).

        Args:
            outputs: the graph's, of which the last ones are the maps.

        Raises:
            MismatchError, BadFileError: the engine refuses it, or the maps are not those that it was made for.
        """
        names = self._network.maps
        maps = dict(zip(names, list(outputs.values())[-len(names) :], strict=True))
        with self._lock, engines.refusals(self._name, self._fitted.patch.task):
            if self._engine is None:
                self._engine = self._open(maps)
            first, *others = names
            self._engine.bind({name: maps[name] for name in others})
            found = self._engine.run(maps[first])
            if self._closed:
                self._release()
        return dict(zip(self._network.outputs, found.values(), strict=True))

    def close(self) -> None:
        """Give back its memory. A prediction that has begun, on the trunk or here, is still answered."""
        with self._lock:
            self._closed = True
            self._release()

    def _release(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def _open(self, maps: dict[str, np.ndarray]) -> Any:
        weights = {name: value for name, value in self._fitted.values.items() if name.startswith(PREFIX)}
        shapes = {name: value.shape for name, value in maps.items()}
        model = HEADS[self._format].model(self._network, weights, shapes)
        return engines.start(self._name, model, self._threads)
