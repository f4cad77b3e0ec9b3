"""The shared graphs answer as Keras and numpy do, for any number of classes; changed ones are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx as onnx_library
import pytest
import reference
from conftest import make_patch, pictures
from edgepatch.converters import dedicated, parity
from tensorflow.lite.tools import flatbuffer_utils

from edgepatch import Runtime, blob
from edgepatch.backbones.backbone import Backbone
from edgepatch.errors import BadFileError, MismatchError, UsageError
from edgepatch.runtime import engines, graph_file
from edgepatch.runtime.formats import flatbuffer
from edgepatch.runtime.formats.flatbuffer import Table
from edgepatch.runtime.model import Model


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_every_patch_answers_as_keras_and_numpy_do(
    tiny: Backbone, graphs: dict[str, Path], patches: list[Path], kind: str
) -> None:
    with Runtime(graphs[kind]) as runtime:
        for path in patches:
            patch = blob.read(path)
            runtime.use(runtime.load(path))
            images = np.concatenate([patch.input(picture) for picture in pictures(5)])
            got = np.stack([runtime.predict(picture).logits for picture in pictures(5)])
            np.testing.assert_allclose(got, parity.keras_logits(tiny, patch, images), atol=1e-4)
            for row, image in zip(got, images, strict=True):
                np.testing.assert_allclose(row, reference.logits(tiny, tiny.values(patch), image[None])[0], atol=3e-4)


def test_tflite_runtime_answers_alike_in_a_process_of_its_own(graphs: dict[str, Path], patches: list[Path]) -> None:
    """tflite-runtime and TensorFlow cannot share a process, and a device has no TensorFlow anyway."""
    program = """
import json, sys, numpy as np, edgepatch
graph, *patches = sys.argv[1:]
runtime = edgepatch.Runtime(graph, engine="tflite-runtime")
pictures = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), np.uint8)
tasks = [runtime.load(patch) for patch in patches]
print(json.dumps([[runtime.predict(p, task).logits.tolist() for p in pictures] for task in tasks]))
assert "tensorflow" not in sys.modules
"""
    call = [sys.executable, "-c", program, str(graphs["tflite"]), *map(str, patches)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if "which is not installed" in done.stderr:
        pytest.skip("tflite-runtime is not installed")
    assert done.returncode == 0, done.stderr
    with Runtime(graphs["tflite"], engine="litert") as runtime:
        for path, rows in zip(patches, json.loads(done.stdout), strict=True):
            task = runtime.load(path)
            expected = [runtime.predict(picture, task).logits for picture in pictures(5)]
            np.testing.assert_allclose(rows, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
@pytest.mark.parametrize("classes", [1, 2, 1000])
def test_any_number_of_classes_fits(tiny: Backbone, graphs: dict[str, Path], kind: str, classes: int) -> None:
    patch = make_patch(tiny, 5, classes)
    with Runtime(graphs[kind]) as runtime:
        runtime.add(patch)
        picture = pictures(1)[0]
        expected = parity.keras_logits(tiny, patch, patch.input(picture))[0]
        np.testing.assert_allclose(runtime.predict(picture).logits, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_a_dedicated_model_answers_as_its_task(tiny: Backbone, graphs: dict[str, Path], kind: str) -> None:
    patch = make_patch(tiny, 3, 4)
    data = {"tflite": dedicated.tflite, "onnx": dedicated.onnx}[kind](tiny, patch)
    engine = engines.start({"tflite": "litert", "onnx": "onnx"}[kind], Model(data), 1)
    engine.bind({})
    with Runtime(graphs[kind]) as runtime:
        runtime.add(patch)
        for picture in pictures(3):
            got = engine.run(patch.input(picture))["logits"][0]
            np.testing.assert_allclose(got, runtime.predict(picture).logits, atol=2e-4)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_a_patch_without_site_values_runs_on_the_backbones_own(
    tiny: Backbone, graphs: dict[str, Path], kind: str
) -> None:
    full = make_patch(tiny, 1, 3)
    tensors = {name: full.tensors[name] for name in ("head_kernel", "head_bias")}
    bare = blob.Patch(
        task="bare",
        backbone_id=tiny.id,
        kinds={"classifier": tuple(tensors)},
        labels=full.labels,
        input=full.input,
        tensors=tensors,
        decode=full.decode,
    )
    with Runtime(graphs[kind]) as runtime:
        runtime.add(full)
        runtime.add(bare)
        picture = pictures(1)[0]
        values = tiny.values(bare)
        expected = reference.logits(tiny, values, bare.input(picture))[0]
        np.testing.assert_allclose(runtime.predict(picture, "bare").logits, expected, atol=3e-4)
        assert not np.allclose(runtime.predict(picture, full.task).logits, expected, atol=1e-2)


def test_the_document_says_what_the_graph_is(tiny: Backbone, graphs: dict[str, Path]) -> None:
    for kind, path in graphs.items():
        graph = graph_file.read(path)
        assert (graph.format, graph.backbone_id, graph.document["alpha"]) == (kind, tiny.id, 0.1)
        assert [site["name"] for site in graph.document["sites"]] == [site.name for site in tiny.plan.sites]
        assert graph.inputs["head_kernel"] == (1280, None)
        np.testing.assert_array_equal(graph.trunk.scale, tiny.defaults()["scale"])


def test_standard_tools_open_the_graphs(graphs: dict[str, Path]) -> None:
    model = onnx_library.load(graphs["onnx"])
    onnx_library.checker.check_model(model, full_check=True)
    parsed = flatbuffer_utils.convert_bytearray_to_object(bytearray(graphs["tflite"].read_bytes()))
    assert [signature.signatureKey for signature in parsed.signatureDefs] == [b"bind", b"bake"]


def test_both_forms_share_one_copy_of_each_kernel_aligned(tiny: Backbone, graphs: dict[str, Path]) -> None:
    data = graphs["tflite"].read_bytes()
    for span in (Table(data, at).span(0) for at in flatbuffer.root(data).tables(flatbuffer.MODEL_BUFFERS)):
        assert span is None or span[0] % flatbuffer.ALIGNMENT == 0
    for site in tiny.plan.sites[3::7]:
        kernel = np.ascontiguousarray(tiny.part(site, "kernel").transpose(3, 0, 1, 2)).tobytes()
        assert data.count(kernel) == 1
        onnx_kernel = tiny.part(site, "kernel").transpose((2, 3, 0, 1) if site.depthwise else (3, 2, 0, 1))
        assert graphs["onnx"].read_bytes().count(np.ascontiguousarray(onnx_kernel).tobytes()) == 1


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_a_truncated_or_changed_graph_is_refused_before_an_interpreter_sees_it(
    graphs: dict[str, Path], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("an interpreter was started on a damaged graph")

    monkeypatch.setattr(engines, "start", never)
    data = graphs[kind].read_bytes()
    broken = tmp_path / f"broken.{kind}"
    for end in (0, 5, 100, len(data) // 2, len(data) - 1):
        broken.write_bytes(data[:end])
        with pytest.raises(BadFileError):
            Runtime(broken)
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 60):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        broken.write_bytes(changed)
        with pytest.raises((BadFileError, MismatchError)):
            Runtime(broken)


def test_a_graph_of_someone_else_is_not_a_shared_graph(tiny: Backbone, tmp_path: Path) -> None:
    patch = make_patch(tiny, 0, 3)
    for kind, make in (("tflite", dedicated.tflite), ("onnx", dedicated.onnx)):
        (tmp_path / f"theirs.{kind}").write_bytes(make(tiny, patch))
        with pytest.raises(MismatchError, match="not a shared graph"):
            Runtime(tmp_path / f"theirs.{kind}")
    (tmp_path / "text.tflite").write_text("hello, this is not a graph")
    with pytest.raises(BadFileError, match=r"neither a \.tflite nor an \.onnx"):
        Runtime(tmp_path / "text.tflite")
    with pytest.raises(UsageError, match="no such file"):
        Runtime(tmp_path / "absent.tflite")
