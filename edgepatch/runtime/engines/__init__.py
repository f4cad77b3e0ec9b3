"""Engines: the interpreters that run a graph. One module each, with `load` and `start`.

`LiteRT` and `TFLiteRuntime` run .tflite, `OnnxRuntime` .onnx. Which one a graph gets is decided by its file.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from edgepatch.errors import EdgepatchError, MismatchError, MissingPackageError, UsageError
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.model import Model

# name -> module here, the graphs it runs, the package it needs, the extra that brings it
ENGINES = {
    "litert": ("tflite", "tflite", "ai_edge_litert", "litert"),
    "tflite-runtime": ("tflite", "tflite", "tflite_runtime", "tflite-runtime"),
    "onnx": ("onnx", "onnx", "onnxruntime", "onnx"),
}


class Engine(Protocol):
    """One opened graph. Not thread-safe: its `Runtime` takes turns."""

    image_shape: tuple[int, ...]
    image_type: np.dtype[Any]

    def bind(self, values: dict[str, np.ndarray]) -> None:
        """Give the graph its patch inputs, float32 in C order, before its first run; none if it has none.

        The engine copies the arrays or keeps them.
        """

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name for one image, float32 (1, size, size, 3); the arrays are the caller's."""

    def close(self) -> None:
        """Give back the memory."""


def choose(graph: Graph, name: str | None) -> str:
    """The engine to run a graph with: the one named, else the first of its kind that is installed.

    Raises:
        UsageError: the name is unknown, or that engine does not run such files.
        MissingPackageError: none is installed.
    """
    if name is not None and name not in ENGINES:
        raise UsageError("there is no such engine", field="--engine", got=name, expected=", ".join(ENGINES))
    if name is not None and ENGINES[name][1] != graph.format:
        fitting = [engine for engine, (_, kind, _, _) in ENGINES.items() if kind == graph.format]
        raise UsageError(
            f"this engine does not run .{graph.format} graphs",
            field="--engine",
            got=name,
            expected=" or ".join(fitting),
        )
    candidates = [name] if name else [engine for engine, (_, kind, _, _) in ENGINES.items() if kind == graph.format]
    for engine in candidates:
        if importlib.util.find_spec(ENGINES[engine][2]):
            return engine
    extra = ENGINES[candidates[0]][3]
    raise MissingPackageError(
        f"running this graph needs {' or '.join(ENGINES[engine][2] for engine in candidates)}, which is not installed",
        mend=f'pip install "edgepatch[{extra}]"',
    )


@contextlib.contextmanager
def refusals(name: str, task: str) -> Iterator[None]:
    """What an engine raises while it lays out or runs a task's model, as an error of ours.

    Raises:
        MismatchError: it raised something; their exceptions share no base.
    """
    try:
        yield
    except EdgepatchError:
        raise
    except Exception as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise MismatchError(f"{name} cannot run the task: {said}", field="task", got=task) from error


def load(name: str) -> None:
    """Import an engine's package, so that what is missing is said early.

    Raises:
        MissingPackageError: it does not load here.
    """
    importlib.import_module(f"{__name__}.{ENGINES[name][0]}").load(name)


def start(name: str, model: Model, threads: int) -> Any:
    """Open a model with an engine.

    Raises:
        MissingPackageError: its package does not load here.
        BadFileError: it refuses the model.
    """
    module = importlib.import_module(f"{__name__}.{ENGINES[name][0]}")
    return module.start(name, model, threads)
