"""What tests/conftest.py makes with TensorFlow, here of golden files: the same tests, on a device that has none.

`python -m tests.arm` puts it as conftest.py beside copies of the tests that it runs on an emulated device.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import types
from pathlib import Path

import golden
import numpy as np
import plans
import pytest
from golden import running
from parts import in_threads, pictures  # noqa: F401, tests have them from here, on a device, too

from edgepatch import blob
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch

# test_golden.py imports these, which need Keras, for the tests that are left out below
sys.modules["edgepatch.patches"] = types.ModuleType("edgepatch.patches")
sys.modules["test_baking"] = types.ModuleType("test_baking")
sys.modules["test_baking"].forged = None  # type: ignore[attr-defined]

PACKAGES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime", "onnx": "onnxruntime"}
INSTALLED = {engine for engine, package in PACKAGES.items() if importlib.util.find_spec(package)}
LEFT_OUT = {
    "test_every_kind_codec_head_format_and_precision_is_there": "the list of kinds is the host's, with Keras",
    "test_the_broken_files_are_those_that_are_made": "the host makes them",
    "test_tflite_runtime_beside_tensorflow_is_refused_with_the_reason": "there is no tensorflow",
    "test_the_device_side_needs_neither_tensorflow_nor_keras": "footprint.py looks",
    "test_a_head_at_odds_with_itself_is_refused_and_harms_no_other_task": "its heads are for 1280 features",
    "test_importing_edgepatch_loads_nothing_heavy": "footprint.py looks",
}

if "litert" not in INSTALLED:
    running.ENGINES["tflite"] = "tflite-runtime"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what a device cannot do: it emulates one process, has no Keras, and maybe no ONNX Runtime."""
    for item in items:
        name, _, case = item.name.partition("[")
        if name in LEFT_OUT:
            item.add_marker(pytest.mark.skip(reason=LEFT_OUT[name]))
        elif name == "test_engines_answer_alike":
            if ".onnx" in case and "onnx" not in INSTALLED:
                item.add_marker(pytest.mark.skip(reason="there is no onnxruntime here"))
            if "int8.tflite" in case and "litert" not in INSTALLED:
                reason = "the vectors are LiteRT's; tflite-runtime's int8 rounds elsewhere, and is held against itself"
                item.add_marker(pytest.mark.skip(reason=reason))


class Graphs(dict[str, Path]):
    """Graphs by format; of one that no engine here runs, the test is skipped."""

    def __getitem__(self, kind: str) -> Path:
        if not INSTALLED & ({"onnx"} if kind == "onnx" else {"litert", "tflite-runtime"}):
            pytest.skip(f"no engine here runs .{kind}")
        return super().__getitem__(kind)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("device")


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    """The backbone of the golden graphs."""
    return plans.made(plans.gated)


@pytest.fixture(scope="session")
def graphs(folder: Path) -> dict[str, Path]:
    """The float32 graphs, by format."""
    paths = Graphs({kind: folder / f"graph.{kind}" for kind in running.FORMATS})
    for kind, path in paths.items():
        path.write_bytes(golden.graph(f"gated-fp32.{kind}"))
    return paths


@pytest.fixture(scope="session")
def patches(tiny: Backbone, folder: Path) -> list[Path]:
    """Three tasks with 3, 10 and 3 classes."""
    paths = []
    for seed, classes in enumerate((3, 10, 3)):
        paths.append(folder / f"task{seed}.epatch")
        blob.write(make_patch(tiny, seed, classes), paths[-1])
    return paths


def make_patch(
    backbone: Backbone, seed: int, classes: int, task: str | None = None, kinds: str = "scale_bias"
) -> Patch:
    """A patch of the kind scale_bias that changes all it may a little, and has a random head."""
    if kinds != "scale_bias":
        pytest.skip(f"{kinds} is made on the host")
    rng = np.random.default_rng(seed)
    mould = blob.parse(golden.patch("scale_bias"), "scale_bias")
    scale, bias = (mould.tensors[name].astype(np.float32) for name in ("scale", "bias"))
    tensors = {
        "scale": scale * rng.uniform(0.8, 1.2, scale.shape),
        "bias": bias + rng.normal(0, 0.1, bias.shape),
        "head_kernel": rng.normal(0, 0.1, (backbone.plan.features, classes)),
        "head_bias": rng.normal(0, 0.1, classes),
    }
    return dataclasses.replace(
        mould,
        task=task or f"task{seed}",
        backbone_id=backbone.id,
        labels=tuple(f"class {index}" for index in range(classes)),
        tensors={name: value.astype(np.float16) for name, value in tensors.items()},
        ranges=None,
        statistics=None,
    )
