"""What leaves for other tools: dedicated models with labels, and adapters of ONNX Runtime."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_package
import onnxruntime as ort
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import make_patch, pictures
from edgepatch.converters import onnx, onnx_adapter, standard, tflite_metadata

from edgepatch import Runtime, blob
from edgepatch.backbones import weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.errors import BadFileError, MismatchError
from edgepatch.runtime import graph_file
from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.formats.flatbuffer import Table

PRECISIONS = ("fp32", "fp16", "dynamic", "int8")
Graphs = dict[tuple[str, str], Path]


@pytest.fixture
def command(edgepatch: Any) -> Any:
    """Runs a command with --json: its exit code and its document."""

    def call(*arguments: object) -> tuple[int, Any]:
        done = edgepatch(*arguments, "--json")
        return done.code, done.document

    return call


def runtime_logits(graph: Path, patch: Patch, mode: str, images: list[np.ndarray]) -> np.ndarray:
    with Runtime(graph, mode=mode) as runtime:
        runtime.add(patch)
        return np.stack([runtime.predict(image).logits for image in images])


def run_tflite(data: bytes, image: np.ndarray) -> np.ndarray:
    """Logits (1, classes) by an interpreter as anyone would start it."""
    interpreter = Interpreter(model_content=data)
    runner = interpreter.get_signature_runner()  # there is one signature only, or this fails
    return np.asarray(runner(image=image)["logits"])


def run_onnx(data: bytes, image: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"image": image})[0])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_a_dedicated_model_answers_to_the_last_bit_as_the_runtime_does(
    every_graph: Graphs, calibrated: list[Patch], kind: str, precision: str
) -> None:
    images = pictures(3)
    for patch in calibrated[:2]:
        data = standard.export(graph_file.read(every_graph[kind, precision]), patch)
        run = {"tflite": run_tflite, "onnx": run_onnx}[kind]
        got = np.concatenate([run(data, patch.input(image)) for image in images])
        np.testing.assert_array_equal(got, runtime_logits(every_graph[kind, precision], patch, "bake", images))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_dedicated_tflite_has_no_trace_of_other_forms(
    every_graph: Graphs, calibrated: list[Patch], precision: str
) -> None:
    path = every_graph["tflite", precision]
    data = standard.export(graph_file.read(path), calibrated[0])
    model = fb.root(data)
    assert list(fb.signatures(data)) == ["serving_default"]
    assert len(model.tables(fb.MODEL_SUBGRAPHS)) == 1
    assert graph_file.find(data, "tflite") is None
    buffers = model.tables(fb.MODEL_BUFFERS)
    (graph,) = (Table(data, place) for place in model.tables(fb.MODEL_SUBGRAPHS))
    used = {Table(data, place).number(fb.TENSOR_BUFFER) for place in graph.tables(fb.SUBGRAPH_TENSORS)}
    (said,) = (Table(data, place) for place in model.tables(fb.MODEL_METADATA))
    assert used | {said.number(fb.METADATA_BUFFER)} == set(range(len(buffers)))
    spans = [Table(data, place).span(fb.BUFFER_DATA) for place in buffers]
    assert [span[0] % fb.ALIGNMENT for span in spans if span] == [0] * (len(buffers) - 1)
    operators = [Table(data, place).number(0) for place in graph.tables(fb.SUBGRAPH_OPERATORS)]
    assert set(operators) == set(range(len(model.tables(1))))
    assert len(data) < path.stat().st_size
    assert data == standard.export(graph_file.read(path), calibrated[0])


def test_a_dedicated_tflite_says_its_labels_and_how_pictures_are_prepared(
    every_graph: Graphs, calibrated: list[Patch]
) -> None:
    """Read by the numbers of tflite-support's schema, which its own MetadataDisplayer agreed with."""
    own = dataclasses.replace(calibrated[0].input, scale=(1 / 58.395, 1 / 57.12, -0.5), offset=(-2.0, -1.5, 0.25))
    patch = dataclasses.replace(calibrated[0], input=own, licence="CC0", version=7, labels=("Äpfel", "b c", "d"))
    data = standard.export(graph_file.read(every_graph["tflite", "fp32"]), patch)
    (entry,) = (Table(data, place) for place in fb.root(data).tables(fb.MODEL_METADATA))
    assert data[slice(*need(entry.span(fb.METADATA_NAME)))] == b"TFLITE_METADATA"
    buffer = fb.root(data).tables(fb.MODEL_BUFFERS)[entry.number(fb.METADATA_BUFFER)]
    said = data[slice(*need(Table(data, buffer).span(fb.BUFFER_DATA)))]
    assert said[4:8] == b"M001"

    def text(table: Table, field: int) -> str:
        return said[slice(*need(table.span(field)))].decode()

    model = fb.root(said)
    assert [text(model, field) for field in (0, 2, 5, 7)] == [patch.task, "7", "CC0", "1.0.0"]
    (graph,) = (Table(said, place) for place in model.tables(3))
    (image,), (logits,) = ([Table(said, place) for place in graph.tables(field)] for field in (2, 3))
    assert (text(image, 0), text(logits, 0)) == ("image", "logits")
    (unit,) = (Table(said, place) for place in image.tables(4))
    mean, std = (np.frombuffer(said[slice(*need(unit.table(1).span(field, 4)))], "<f4") for field in (0, 1))
    pixels = np.random.default_rng(0).uniform(0, 255, (5, 3)).astype(np.float32)
    np.testing.assert_allclose((pixels - mean) / std, patch.input.normalise(pixels), rtol=1e-5, atol=1e-5)
    size = image.table(3).table(1).table(1)
    assert (size.number(0), size.number(1)) == (32, 32)
    (file,) = (Table(said, place) for place in logits.tables(6))
    assert text(file, 0) == "labels.txt"
    assert said[need_place(file.at(2))] == 2  # TENSOR_AXIS_LABELS
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().splitlines() == list(patch.labels)
        assert archive.getinfo("labels.txt").compress_type == zipfile.ZIP_STORED


def test_a_constant_channel_has_no_normalisation_to_divide_by(calibrated: list[Patch]) -> None:
    flat = dataclasses.replace(calibrated[0].input, scale=(1.0, 0.0, 1.0))
    with np.errstate(all="raise"):
        said = tflite_metadata.dump(dataclasses.replace(calibrated[0], input=flat), "image", "logits")
    assert said[4:8] == b"M001"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_dedicated_onnx_is_whole_checked_and_labelled(
    every_graph: Graphs, calibrated: list[Patch], precision: str
) -> None:
    patch = dataclasses.replace(calibrated[1], licence="CC0")
    model = onnx_package.load_model_from_string(standard.export(graph_file.read(every_graph["onnx", precision]), patch))
    onnx_package.checker.check_model(model, full_check=True)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(said["labels"]) == list(patch.labels)
    assert (said["task"], said["licence"], "edgepatch" in said) == (patch.task, "CC0", False)
    assert all(tensor.data_location == 0 and not tensor.external_data for tensor in model.graph.initializer)
    assert [value.name for value in model.graph.input] == ["image"]
    assert [side.dim_value for side in model.graph.output[0].type.tensor_type.shape.dim] == [1, 10]
    assert (model.ir_version, model.opset_import[0].version) == (onnx.IR_VERSION, onnx.OPSET)


def test_bake_writes_a_model_and_says_its_size(
    command: Any, every_graph: Graphs, patches: list[Path], tmp_path: Path
) -> None:
    for kind in ("tflite", "onnx"):
        out = tmp_path / f"task.{kind}"
        code, document = command("bake", every_graph[kind, "fp32"], patches[0], "--out", out)
        assert (code, document["bytes"], document["task"]) == (0, out.stat().st_size, "task0")
        again = command("bake", out, patches[0], "--out", tmp_path / f"x.{kind}")
        assert again[0] == 4  # a dedicated model is no shared graph
    assert {path.name for path in tmp_path.iterdir()} == {"task.tflite", "task.onnx"}


def test_bake_refuses_what_does_not_fit_and_leaves_no_file(
    command: Any, every_graph: Graphs, patches: list[Path], tmp_path: Path
) -> None:
    other = weights.create("mobilenet_v2", alpha=0.1, size=32, source="random", seed=9)
    blob.write(make_patch(other, 0, 3), tmp_path / "other.epatch")
    (tmp_path / "broken.epatch").write_bytes(patches[0].read_bytes()[:-1])
    out = tmp_path / "x.tflite"
    fp32, int8 = every_graph["tflite", "fp32"], every_graph["tflite", "int8"]
    cases = [
        (4, fp32, tmp_path / "other.epatch", out),
        (3, fp32, tmp_path / "broken.epatch", out),
        (4, int8, patches[0], out),
        (2, fp32, patches[0], tmp_path / "x.onnx"),
        (2, fp32, tmp_path / "absent.epatch", out),
        (3, patches[0], patches[0], out),
    ]
    for code, graph, patch, target in cases:
        got, document = command("bake", graph, patch, "--out", target)
        assert (got, document["error"]["code"]) == (code, code), document
    assert "calibrate" in command("bake", int8, patches[0], "--out", out)[1]["error"]["mend"]
    assert {path.name for path in tmp_path.iterdir()} == {"other.epatch", "broken.epatch"}


def test_bake_never_replaces_what_it_reads(
    command: Any, every_graph: Graphs, patches: list[Path], tmp_path: Path
) -> None:
    graph, patch = tmp_path / "graph.tflite", tmp_path / "patch.tflite"
    graph.write_bytes(every_graph["tflite", "fp32"].read_bytes())
    patch.write_bytes(patches[0].read_bytes())
    (tmp_path / "link.tflite").symlink_to(graph)
    for out in (graph, patch, tmp_path / "link.tflite", tmp_path / "." / "graph.tflite"):
        code, document = command("bake", graph, patch, "--out", out)
        assert (code, document["error"]["field"]) == (2, "--out")
    assert graph.read_bytes() == every_graph["tflite", "fp32"].read_bytes()
    assert patch.read_bytes() == patches[0].read_bytes()


def test_labels_of_another_head_do_not_leave_the_house(every_graph: Graphs, calibrated: list[Patch]) -> None:
    patch = dataclasses.replace(calibrated[0], labels=("only", "two"))
    with pytest.raises(BadFileError, match="labels for another head"):
        standard.export(graph_file.read(every_graph["onnx", "fp32"]), patch)


def adapted(session: Any, adapter: Any, image: np.ndarray) -> np.ndarray:
    """Logits with an adapter active; the image is the only input given."""
    options = ort.RunOptions()
    options.add_active_adapter(adapter)
    return np.asarray(session.run(["logits"], {"image": image}, options)[0])


def load_adapter(data: bytes, path: Path) -> Any:
    path.write_bytes(data)
    adapter = ort.LoraAdapter()
    adapter.Load(str(path))
    return adapter


@pytest.mark.parametrize("precision", ["fp32", "fp16", "dynamic"])
def test_onnx_runtime_switches_between_adapters_of_one_shared_graph(
    tiny: Backbone, every_graph: Graphs, calibrated: list[Patch], precision: str, tmp_path: Path
) -> None:
    """Other numbers of classes than the graph's default head has, and back again."""
    path, image = every_graph["onnx", precision], pictures(1)
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns of initializers that can be overridden, which is the point
    options.add_free_dimension_override_by_name("side", 32)  # left open, it is found at every run, and sums differ
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    made = [
        load_adapter(onnx_adapter.export(tiny, patch), tmp_path / f"{patch.task}.onnx_adapter") for patch in calibrated
    ]
    for number in (0, 1, 2, 0):
        patch = calibrated[number]
        expected = runtime_logits(path, patch, "bind", image)
        np.testing.assert_allclose(adapted(session, made[number], patch.input(image[0])), expected, rtol=0, atol=1e-6)


def test_an_adapter_of_a_placement_is_for_the_graph_of_that_placement(tiny: Backbone, tmp_path: Path) -> None:
    patch, image = make_patch(tiny, 3, 4, kinds="scale_bias@project"), pictures(1)
    (tmp_path / "g.onnx").write_bytes(onnx.export(tiny, "fp32", "project"))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(tmp_path / "g.onnx"), options, providers=["CPUExecutionProvider"])
    whole, part = (onnx_adapter.export(tiny, patch, placement) for placement in ("all", "project"))
    assert len(part) < len(whole)
    got = adapted(session, load_adapter(part, tmp_path / "a.onnx_adapter"), patch.input(image[0]))
    expected = runtime_logits(tmp_path / "g.onnx", patch, "bind", image)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_an_adapter_that_would_lose_part_of_its_patch_is_refused(tiny: Backbone) -> None:
    with pytest.raises(MismatchError, match="changes sites that this graph keeps as they are"):
        onnx_adapter.export(tiny, make_patch(tiny, 3, 4), "project")


def test_an_adapter_says_its_version_and_its_backbone(tiny: Backbone, calibrated: list[Patch], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(onnx_adapter.export(tiny, dataclasses.replace(calibrated[0], version=5)))
    said = ort.AdapterFormat.read_adapter(str(tmp_path / "a"))
    assert said.get_adapter_version() == 5
    assert said.get_model_version() == int(tiny.id[:8], 16) >> 1 < 2**31
    assert {name: value.shape() for name, value in said.get_parameters().items()} == {
        "scale": [sum(tiny.plan.channels)],
        "bias": [sum(tiny.plan.channels)],
        "head_kernel": [tiny.plan.features, 3],
        "head_bias": [3],
    }


def test_export_writes_an_adapter_of_one_patch(
    command: Any, tiny: Backbone, tiny_file: Path, patches: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "task0.onnx_adapter"
    call = ("export", tiny_file, "--to", "onnx_adapter", "--out", out)
    code, document = command(*call, "--patch", patches[0])
    assert (code, document["bytes"]) == (0, out.stat().st_size)
    assert out.read_bytes() == onnx_adapter.export(tiny, blob.read(patches[0]))
    out.unlink()
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "onnxruntime", None)
        code, document = command(*call, "--patch", patches[0])
        assert (code, document["error"]["mend"]) == (5, 'pip install "edgepatch[onnx]"')
    assert command(*call)[0] == 2
    assert command(*call, "--patch", patches[0], "--patch", patches[1])[0] == 2
    assert command(*call, "--patch", patches[0], "--placement", "project")[0] == 4
    assert list(tmp_path.iterdir()) == []


def need(span: fb.Span | None) -> fb.Span:
    assert span is not None
    return span


def need_place(place: int | None) -> int:
    assert place is not None
    return place
