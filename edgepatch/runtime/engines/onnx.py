"""ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepatch.errors import BadFileError, require
from edgepatch.runtime.formats import protobuf
from edgepatch.runtime.formats.onnx import SIDE
from edgepatch.runtime.model import Model

_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}


class OnnxRuntime:
    """An .onnx session with its patch inputs bound once, not handed over at every run."""

    def __init__(self, module: Any, session: Any, model: Model) -> None:
        self._module, self._session = module, session
        self._model: Model | None = model  # the session points into its tensors
        self._outputs = [output.name for output in session.get_outputs()]
        types = {value.name: value.type for value in session.get_inputs()}
        shapes = {value.name: value.shape for value in session.get_inputs()}
        if not shapes:
            raise ValueError("it has no input")
        self._image = "image" if "image" in shapes else next(iter(shapes))
        self.image_type = np.dtype(_TYPES.get(types[self._image], np.void))
        self.image_shape = tuple(side if isinstance(side, int) else 1 for side in shapes[self._image])
        self.bind({})

    def bind(self, values: dict[str, np.ndarray]) -> None:
        """Point the graph at the values. ONNX Runtime copies nothing, so the arrays are kept here."""
        binding = self._session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, self._module.OrtValue.ortvalue_from_numpy(value))
        for name in self._outputs:
            binding.bind_output(name)
        self._binding, self._owned = binding, values

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name."""
        self._binding.bind_ortvalue_input(self._image, self._module.OrtValue.ortvalue_from_numpy(image))
        self._session.run_with_iobinding(self._binding)
        outputs = [np.array(value) for value in self._binding.copy_outputs_to_cpu()]
        return dict(zip(self._outputs, outputs, strict=True))

    def close(self) -> None:
        self._binding = self._session = self._model = None
        self._owned = {}


def load(name: str) -> Any:
    """The package; see `engines.load`."""
    return require("onnxruntime", extra="onnx", why=f"the engine {name}")


def start(name: str, model: Model, threads: int) -> OnnxRuntime:
    """Open a model; see `engines.start`."""
    module = load(name)
    options = module.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if model.size is not None:  # known at once, it costs nothing; found at every run, it would
        options.add_free_dimension_override_by_name(SIDE, model.size)
    try:
        data, beside = protobuf.with_initializers(model.data, model.tensors)
        if beside:
            values = [module.OrtValue.ortvalue_from_numpy(value) for value in beside.values()]
            options.add_external_initializers(list(beside), values)
        session = module.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return OnnxRuntime(module, session, model)
    except Exception as error:  # its exceptions share no base of their own
        raise BadFileError(f"{name} cannot open the graph: {error}") from error
