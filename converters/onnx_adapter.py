"""A patch as an adapter of ONNX Runtime (`.onnx_adapter`), for users of the shared .onnx who have no edgepatch.

ONNX Runtime gives a graph's inputs the adapter's values at a run. It checks neither the model nor whether an adapter is
whole, so the adapter says which backbone it is for: its model version is `model_version` of the backbone's id.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.errors import MismatchError, require
from edgepatch.runtime import graph_file
from edgepatch.runtime.fitting import fit, require_dense


def export(backbone: Backbone, patch: Patch, placement: str = "all") -> bytes:
    """The adapter of a patch, float32, for the shared .onnx of a placement in any precision that can be bound.

    Args:
        placement: of the graph it is for; its inputs are the adapter's parameters.

    Raises:
        UsageError: the patch's head is on maps of the trunk.
        MismatchError: the patch does not fit that graph: it changes other sites, say.
        MissingPackageError: a package of the host is not installed.
    """
    ort = require("onnxruntime", extra="onnx", why="exporting an adapter")
    require("onnx", extra="train", why="exporting an adapter")
    from edgepatch.converters import onnx

    graph = graph_file.parse(onnx.export(backbone, "fp32", placement), "the graph of this adapter")
    fitted = fit(graph, patch, f"patch {patch.task}")
    require_dense(fitted, f"patch {patch.task}", "an adapter holds nothing")
    inputs = fitted.inputs
    if inputs is None:
        raise MismatchError(
            "changes kernels or skips blocks, which an adapter cannot",
            file=f"patch {patch.task}",
            field="kinds",
            got=patch.kind,
            expected="scale_bias or bias",
            mend="Write it as a model of its own: edgepatch bake GRAPH PATCH --out FILE",
        )
    adapter = ort.AdapterFormat()
    adapter.set_adapter_version(patch.version)
    adapter.set_model_version(model_version(backbone.id))
    values = {name: np.ascontiguousarray(value) for name, value in inputs.items()}  # OrtValues point into them
    adapter.set_parameters({name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in values.items()})
    with tempfile.TemporaryDirectory() as folder:  # it is written to a file or not at all
        path = Path(folder) / "adapter"
        adapter.export_adapter(str(path))
        return path.read_bytes()


def model_version(backbone_id: str) -> int:
    """What an adapter says of its backbone: the first 31 bits of its id."""
    return int(backbone_id[:8], 16) >> 1
