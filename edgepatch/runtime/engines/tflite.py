"""LiteRT, and tflite-runtime, its predecessor: the same Interpreter class."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from edgepatch.errors import BadFileError, MissingPackageError, require
from edgepatch.runtime.model import Model

MODULES = {"litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}


class TFLite:
    """A .tflite with one signature, or a plain one with one input."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        if signatures := interpreter.get_signature_list():
            # by name, never by index: the converter orders inputs as it likes
            runner = interpreter.get_signature_runner(next(iter(signatures)))
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
        else:
            inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
            outputs = {detail["name"]: detail for detail in interpreter.get_output_details()}
        if not inputs:
            raise ValueError("it has no input")
        self._image = "image" if "image" in inputs else next(iter(inputs))
        self._inputs = {name: detail["index"] for name, detail in inputs.items()}
        named = {detail["index"] for detail in outputs.values()}  # others are maps, which no signature names
        outputs |= {
            detail["name"]: detail for detail in interpreter.get_output_details() if detail["index"] not in named
        }
        self._outputs = {name: (detail["index"], *_steps(detail)) for name, detail in outputs.items()}
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self.image_type = np.dtype(inputs[self._image]["dtype"])
        self.image_shape = tuple(int(side) for side in inputs[self._image]["shape"])

    def bind(self, values: dict[str, np.ndarray]) -> None:
        """Copy the values into the graph; a number of classes it was not laid out for lays it out anew."""
        shapes = {name: value.shape for name, value in values.items()}
        if shapes != self._shapes:
            laid_out, self._shapes = self._shapes or {}, None  # should this fail half-way, the next one does it all
            for name, shape in shapes.items():
                if shape != laid_out.get(name):
                    self._interpreter.resize_tensor_input(self._inputs[name], shape)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for name, value in values.items():
            self._interpreter.set_tensor(self._inputs[name], value)

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name; `get_tensor` copies them."""
        self._interpreter.set_tensor(self._inputs[self._image], image)
        self._interpreter.invoke()
        found = {}
        for name, (index, scale, zero_point) in self._outputs.items():
            value = self._interpreter.get_tensor(index)
            found[name] = value if scale is None else (value - zero_point) * scale
        return found

    def close(self) -> None:
        self._interpreter = None


def _steps(detail: dict[str, Any]) -> tuple[np.float32 | None, np.float32]:
    """Scale and zero point of an output in int8; the scale is None of any other."""
    scale, zero_point = detail["quantization"]
    return (np.float32(scale) if detail["dtype"] == np.int8 else None), np.float32(zero_point)


def load(name: str) -> Any:
    """The package's module; see `engines.load`."""
    if name == "tflite-runtime" and "tensorflow" in sys.modules:
        raise MissingPackageError(
            "tflite-runtime cannot run in a process that has imported tensorflow: their libraries collide",
            mend="Use --engine litert here, or run tflite-runtime in a process of its own.",
        )
    return require(MODULES[name], extra=name, why=f"the engine {name}")


def start(name: str, model: Model, threads: int) -> TFLite:
    """Open a model; see `engines.start`."""
    module = load(name)
    try:
        return TFLite(module.Interpreter(model_content=model.data, num_threads=threads))
    except (ValueError, RuntimeError) as error:
        raise BadFileError(f"{name} cannot open the graph: {error}") from error
