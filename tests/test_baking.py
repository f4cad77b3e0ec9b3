"""Baked graphs answer as bound ones do, in every precision; tables and patches that do not fit are refused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from conftest import make_patch, pictures
from edgepatch.converters import dedicated, onnx, tflite

from edgepatch import Runtime, blob, container, quantisation
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, UsageError
from edgepatch.runtime import baking, engines, graph_file
from edgepatch.runtime.fitting import fit
from edgepatch.runtime.formats import FORMATS, flatbuffer, protobuf
from edgepatch.runtime.model import Model

KINDS = ("tflite", "onnx")
CONVERTERS: dict[str, Any] = {"tflite": tflite, "onnx": onnx}
ENGINES = {"tflite": "litert", "onnx": "onnx"}


def logits(graph: Path, patch: Patch, mode: str, count: int = 5) -> np.ndarray:
    with Runtime(graph, mode=mode) as runtime:
        runtime.add(patch)
        return np.stack([runtime.predict(picture).logits for picture in pictures(count)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [1, 10, 1000])
def test_baked_answers_are_the_bound_ones_for_any_number_of_classes(
    tiny: Backbone, graphs: dict[str, Path], kind: str, classes: int
) -> None:
    patch = make_patch(tiny, 7, classes)
    bound, baked = (logits(graphs[kind], patch, mode) for mode in ("bind", "bake"))
    np.testing.assert_allclose(baked, bound, atol=1e-4 * np.abs(bound).max())
    expected = reference.logits(tiny, tiny.values(patch), patch.input(pictures(1)[0]))
    np.testing.assert_allclose(baked[:1], expected, atol=3e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 0.01), ("dynamic", 0.2)])
def test_half_and_dynamic_graphs_stay_near_the_float_one_bound_and_baked(
    tiny: Backbone, every_graph: dict[tuple[str, str], Path], kind: str, precision: str, tolerance: float
) -> None:
    patch = make_patch(tiny, 7, 10)
    exact = logits(every_graph[kind, "fp32"], patch, "bind")
    for mode in ("bind", "bake"):
        got = logits(every_graph[kind, precision], patch, mode)
        assert np.sqrt(np.mean((got - exact) ** 2)) < tolerance * np.sqrt(np.mean(exact**2))


@pytest.mark.parametrize("kind", KINDS)
def test_int8_graphs_hold_every_task_over_the_same_kernels(
    tiny: Backbone, every_graph: dict[tuple[str, str], Path], calibrated: list[Patch], kind: str
) -> None:
    """Random weights lose more in int8 than trained ones (docs/benchmarks.md has real tasks)."""
    for patch in calibrated:
        exact = logits(every_graph[kind, "fp32"], patch, "bake", 20)
        got = logits(every_graph[kind, "int8"], patch, "auto", 20)
        assert np.corrcoef(exact.ravel(), got.ravel())[0, 1] > 0.85
        assert not np.array_equal(got, exact)


def test_a_task_baked_into_the_int8_graph_answers_as_tensorflows_own_quantisation_of_it_alone(
    tiny: Backbone, every_graph: dict[tuple[str, str], Path], calibrated: list[Patch]
) -> None:
    """One set of kernels serves all tasks, and its bytes are those that each task alone would have."""
    images = calibrated[0].input.normalise(np.stack(pictures(16, size=32)))
    graph = graph_file.read(every_graph["tflite", "int8"])
    for patch in calibrated[:2]:
        model = baking.bake(graph, fit(graph, patch, None))
        theirs = dedicated.tflite(tiny, patch, "int8", images)
        answers = []
        for data in (model, Model(theirs)):
            engine = engines.start("litert", data, 1)
            engine.bind({})
            answers.append(np.stack([engine.run(image[None])["logits"][0] for image in images]))
        assert (answers[0] == answers[1]).mean() > 0.95  # a kernel value on a tie may round the other way
        np.testing.assert_array_equal(answers[0].argmax(axis=1), answers[1].argmax(axis=1))


def test_negative_scales_turn_signs_and_a_huge_bias_coarsens_its_channel() -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(9, 6)).astype(np.float32)
    stored, _ = quantisation.weights(kernel, 1)
    scale = np.array([1, -2, 0.5, 0, -1e-3, 1], np.float32)
    bias = np.array([0, 1, -1, 3, 0.1, 4e3], np.float32)
    most, inputs = quantisation.largest(kernel, 1), np.full(6, 1e-4, np.float32)
    steps, integers, times = quantisation.scaled(most, scale, bias, inputs)
    turned = quantisation.turned(stored, times)
    assert steps[5] > 1.5 * most[5] / 127, "the bias would not fit otherwise"
    assert (np.abs(turned * steps - kernel * scale) <= steps * 1.01).all()
    np.testing.assert_allclose(integers * steps * 1e-4, bias, rtol=1e-3, atol=1e-4)
    assert np.array_equal(turned[:, 1], -stored[:, 1])
    assert not turned[:, 3].any()


def test_a_range_keeps_zero_exact() -> None:
    ranges = np.float32([[0.0, 6.0], [-1.0, 3.0], [0.5, 2.0], [-3.0, -1.0], [0.0, 0.0]])
    for (low, high), scale, zero in zip(ranges, *quantisation.activations(ranges), strict=True):
        assert -128 <= zero <= 127
        assert scale > 0
        ends = (np.array([-128, 127]) - zero) * scale
        assert ends[0] <= min(low, 0) + scale / 2
        assert ends[1] >= max(high, 0) - scale / 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_patch_without_ranges_is_refused_for_an_int8_graph_with_the_command_that_adds_them(
    tiny: Backbone, every_graph: dict[tuple[str, str], Path], calibrated: list[Patch], kind: str
) -> None:
    with Runtime(every_graph[kind, "int8"]) as runtime:
        with pytest.raises(MismatchError, match="not calibrated") as caught:
            runtime.add(make_patch(tiny, 0, 3), file="task.epatch")
        assert "edgepatch calibrate BACKBONE IMAGES --patch task.epatch" in str(caught.value)
        with pytest.raises(MismatchError, match="ranges of another network"):
            runtime.add(dataclasses.replace(calibrated[0], ranges=calibrated[0].ranges[:-1]))
    with pytest.raises(UsageError, match="no such form"):
        Runtime(every_graph[kind, "int8"], mode="bind")


@pytest.mark.parametrize("kind", KINDS)
def test_ranges_survive_the_patch_file(
    tmp_path: Path, every_graph: dict[tuple[str, str], Path], calibrated: list[Patch], kind: str
) -> None:
    blob.write(calibrated[0], tmp_path / "task.epatch")
    read = blob.read(tmp_path / "task.epatch")
    np.testing.assert_array_equal(read.ranges, calibrated[0].ranges)
    graph = every_graph[kind, "int8"]
    np.testing.assert_array_equal(logits(graph, read, "bake"), logits(graph, calibrated[0], "bake"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("placement", ["project", "depthwise", "pointwise", "expand"])
def test_a_graph_of_a_placement_takes_patches_of_it_and_refuses_others(
    tiny: Backbone, kind: str, placement: str, tmp_path: Path
) -> None:
    path = tmp_path / f"g.{kind}"
    path.write_bytes(CONVERTERS[kind].export(tiny, "fp32", placement))
    patch = make_patch(tiny, 3, 4, kinds=f"scale_bias@{placement}")
    expected = reference.logits(tiny, tiny.values(patch), patch.input(pictures(1)[0]))[0]
    for mode in ("bind", "bake"):
        np.testing.assert_allclose(logits(path, patch, mode, 1)[0], expected, atol=3e-4)
    with Runtime(path) as runtime, pytest.raises(MismatchError, match="keeps as they are") as caught:
        runtime.add(make_patch(tiny, 3, 4))
    assert "--placement all" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_of_all_sites_takes_patches_of_any_placement(
    tiny: Backbone, graphs: dict[str, Path], kind: str
) -> None:
    for placement in ("project", "depthwise"):
        patch = make_patch(tiny, 3, 4, kinds=f"scale_bias@{placement}")
        expected = reference.logits(tiny, tiny.values(patch), patch.input(pictures(1)[0]))[0]
        for mode in ("bind", "bake"):
            np.testing.assert_allclose(logits(graphs[kind], patch, mode, 1)[0], expected, atol=3e-4)


@pytest.mark.parametrize("numbers", [[52], [4000], list(range(53)), [0], list(range(51))])
def test_sites_that_the_graph_does_not_have_are_refused(
    tiny: Backbone, graphs: dict[str, Path], numbers: list[int]
) -> None:
    patch = dataclasses.replace(make_patch(tiny, 3, 4), sites={"scale": numbers, "bias": numbers})
    with Runtime(graphs["tflite"]) as runtime, pytest.raises(MismatchError):
        runtime.add(patch)


def forged(data: bytes, kind: str, change: Any, without: str = "") -> bytes:
    """A graph whose document was changed by someone who computes every checksum anew."""
    span = graph_file.find(data, kind)
    assert span is not None
    format = FORMATS[kind]
    document, tensors = container.parse(format.unpack(data[slice(*span)]), "x")
    document = json.loads(json.dumps(document))
    change(document)
    tensors.pop(without, None)
    packed = format.pack(container.dump(document, tensors))
    if kind == "tflite":
        for position in flatbuffer.root(data).tables(flatbuffer.MODEL_BUFFERS):
            buffer = flatbuffer.Table(data, position)
            if buffer.span(flatbuffer.BUFFER_DATA) == span:
                place = buffer.need(flatbuffer.BUFFER_DATA)
                edits, tail = flatbuffer.point(len(data), [(place, packed, len(packed))])
                data = flatbuffer.splice(data, edits, tail)
    else:
        import onnx as library

        model = library.load_from_string(data)
        del model.metadata_props[:]
        library.helper.set_model_props(model, {"edgepatch": packed.decode()})
        data = model.SerializeToString()
    span = graph_file.find(data, kind)
    assert span is not None
    document["graph_sha256"] = graph_file.hash_around(data, span)
    packed = format.pack(container.dump(document, tensors))
    assert len(packed) == span[1] - span[0]
    return data[: span[0]] + packed + data[span[1] :]


def beyond(row: str, part: str, by: int) -> Any:
    def change(document: dict[str, Any]) -> None:
        target = document["bake"][row]
        target = target[3] if isinstance(target, list) else target
        value = target[part]
        target[part] = [value[0] + by, value[1] + by] if isinstance(value, list) else value + by

    return change


@pytest.mark.parametrize(
    ("precision", "change"),
    [
        ("fp32", beyond("sites", "kernel", 10**9)),
        ("fp32", beyond("sites", "kernel", 4)),
        ("fp32", beyond("sites", "bias", -64)),
        ("fp32", beyond("sites", "operator", 1)),
        ("fp32", beyond("sites", "operator", 10**6)),
        ("fp32", beyond("sites", "operator", -(10**6))),
        ("fp32", beyond("head", "kernel_data", 8)),
        ("int8", beyond("activations", "scale", 16)),
        ("int8", beyond("activations", "tensor", -100)),
        ("int8", beyond("sites", "input", 10**4)),
        ("int8", beyond("sites", "kernel_scale", 10**9)),
        ("fp32", lambda document: document["bake"]["sites"].pop()),
        ("fp32", lambda document: document["bake"].pop("head")),
        ("fp32", lambda document: document["bake"].update(sites=7)),
        ("fp32", lambda document: document["bake"]["sites"].__setitem__(1, document["bake"]["sites"][0])),
        ("fp32", lambda document: document.update(forms=["bake", "bake"])),
        ("fp32", lambda document: document.update(precision="int4")),
        ("fp32", lambda document: document["sites"][2].update(channels=10**9)),
        ("fp32", lambda document: document["sites"][2].update(bound="yes")),
        ("fp32", lambda document: document["sites"][1].update(placement="expand")),
        ("fp32", lambda document: document["sites"][2].update(kernel=[-1, -1, 8, 8])),
        ("fp32", lambda document: document["inputs"].update(head_kernel=[None, None])),
        ("fp32", lambda document: document["inputs"].update(more=[1])),
        ("int8", lambda document: document.update(precision="dynamic")),
        ("int8", lambda document: document["bake"]["activations"][5].update(range=-1)),
        ("int8", lambda document: document["bake"]["activations"][5].update(range=0.0)),
        ("int8", lambda document: document["bake"]["activations"][1].update(range=True)),
        ("int8", lambda document: document["bake"]["head"].update(input=2**31)),
        ("fp32", lambda document: document["bake"]["sites"][2].update(operator=True)),
        ("fp32", lambda document: document["inputs"].update(scale=[float(document["inputs"]["scale"][0])])),
        ("fp32", lambda document: document["sites"][2].update(kernel=[2**16, 2**16, 8, 8])),
        ("fp32", lambda document: document["residuals"][0].update(nodes=[0, 2**31])),
        (
            "fp32",
            lambda document: document["residuals"][0].update(
                sites=[float(n) for n in document["residuals"][0]["sites"]]
            ),
        ),
        ("int8", lambda document: document["bake"]["activations"].pop()),
        ("int8", lambda document: document["bake"]["activations"].clear()),
        ("int8", lambda document: document["bake"]["activations"].append(document["bake"]["activations"][0])),
    ],
)
def test_a_bake_table_that_lies_is_refused_before_an_interpreter_sees_it(
    every_graph: dict[tuple[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    precision: str,
    change: Any,
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("an interpreter was started on a forged graph")

    monkeypatch.setattr(engines, "start", never)
    path = tmp_path / "forged.tflite"
    path.write_bytes(forged(every_graph["tflite", precision].read_bytes(), "tflite", change))
    with pytest.raises(BadFileError):
        Runtime(path)


@pytest.mark.parametrize(
    "change",
    [
        beyond("sites", "kernel", 10**9),
        beyond("sites", "kernel", 4),
        lambda document: document["bake"]["sites"][0].update(operator="image"),
        lambda document: document["bake"]["head"].update(operator=1),
        lambda document: document["bake"]["sites"].__setitem__(1, document["bake"]["sites"][0]),
        lambda document: document["bake"]["activations"].append({"tensor": "image", "range": 0}),
    ],
)
def test_a_lying_table_of_an_onnx_graph_is_refused(graphs: dict[str, Path], tmp_path: Path, change: Any) -> None:
    path = tmp_path / "forged.onnx"
    path.write_bytes(forged(graphs["onnx"].read_bytes(), "onnx", change))
    with pytest.raises(BadFileError):
        Runtime(path)


def test_a_tflite_graph_that_lies_about_its_size_is_refused_when_it_is_opened(
    tiny: Backbone, graphs: dict[str, Path], tmp_path: Path
) -> None:
    """An .onnx leaves its size open."""
    path = tmp_path / "forged.tflite"
    path.write_bytes(
        forged(graphs["tflite"].read_bytes(), "tflite", lambda document: document["input"].update(size=64))
    )
    patch = make_patch(tiny, 0, 3)
    for mode in ("bind", "bake"):
        with Runtime(path, mode=mode) as runtime:
            runtime.add(dataclasses.replace(patch, input=dataclasses.replace(patch.input, size=64)))
            with pytest.raises(BadFileError, match="other images than it says"):
                runtime.predict(pictures(1)[0])


def test_an_onnx_graph_without_the_nodes_of_its_bake_form_is_refused(graphs: dict[str, Path], tmp_path: Path) -> None:
    data = forged(graphs["onnx"].read_bytes(), "onnx", lambda document: None, without="bake_graph")
    (tmp_path / "g.onnx").write_bytes(data)
    with pytest.raises(BadFileError, match="nodes of the form bake are absent"):
        Runtime(tmp_path / "g.onnx")


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_never_stirs_aborts_no_interpreter(
    tiny: Backbone, every_graph: dict[tuple[str, str], Path], calibrated: list[Patch], kind: str
) -> None:
    """TFLite's sum ends the process where the scales of its terms and its own lie a million times apart."""
    ranges = calibrated[0].ranges
    assert ranges is not None
    for number in range(0, len(ranges), 4):
        for dead in ([0, 0], [0, 1e-6], [-1e29, 1e29]):
            changed = ranges.copy()
            changed[number] = dead
            with Runtime(every_graph[kind, "int8"]) as runtime:
                runtime.add(dataclasses.replace(calibrated[0], ranges=changed))
                with contextlib.suppress(EdgepatchError):
                    assert np.isfinite(runtime.predict(pictures(1)[0]).logits).all()


@pytest.mark.parametrize("kind", KINDS)
def test_values_no_training_gives_are_refused(tiny: Backbone, graphs: dict[str, Path], kind: str) -> None:
    patch = make_patch(tiny, 0, 3)
    for name in patch.tensors:
        tensors = {each: value.astype(np.float32) for each, value in patch.tensors.items()}
        tensors[name].flat[1] = 3e38
        with Runtime(graphs[kind]) as runtime, pytest.raises(BadFileError, match="out of range"):
            runtime.add(dataclasses.replace(patch, tensors=tensors))


def test_a_forgery_that_changes_nothing_is_taken(graphs: dict[str, Path], tmp_path: Path) -> None:
    """So that the tests above fail for what they change."""
    for kind in KINDS:
        path = tmp_path / f"same.{kind}"
        path.write_bytes(forged(graphs[kind].read_bytes(), kind, lambda document: None))
        Runtime(path)


@pytest.mark.parametrize("ranges", [[[0, 0]] * 3, [[-1e29, 1e29]] * 3, [[0, 1e-30]] * 3])
def test_odd_ranges_give_finite_parameters(ranges: list[list[float]]) -> None:
    scales, _ = quantisation.activations(np.float32(ranges))
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    one = np.ones(2, np.float32)
    for bias in (0 * one, one, -1e9 * one):
        found, integers, times = quantisation.scaled(one, np.float32([0, 1e-9]), bias, scales[:2])
        assert (found > 0).all()
        assert np.isfinite(found).all()
        assert np.isfinite(times).all()
        assert (np.abs(integers.astype(np.int64)) < 1.001 * quantisation.LARGEST_BIAS).all()


def test_edits_never_lead_out_of_the_file_or_overlap() -> None:
    data = bytes(range(64))
    assert flatbuffer.splice(data, [(60, b"wxyz"), (0, b"ab")], b"!") == b"ab" + data[2:60] + b"wxyz!"
    for edits in ([(61, b"wxyz")], [(0, b"abcd"), (2, b"ef")], [(-2, b"ab")]):
        with pytest.raises(ValueError, match="edit"):
            flatbuffer.splice(data, edits)


def test_initializers_added_to_a_model_are_those_onnx_reads(graphs: dict[str, Path]) -> None:
    import onnx as library
    from onnx import numpy_helper

    added = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.int8([-3]), "c": np.float16(2)}
    data, beside = protobuf.with_initializers(graphs["onnx"].read_bytes(), {**added, "d": np.zeros(999, np.float32)})
    assert list(beside) == ["d"]
    found = {tensor.name: tensor for tensor in library.load_from_string(data).graph.initializer}
    for name, value in added.items():
        np.testing.assert_array_equal(numpy_helper.to_array(found[name]), value)
    assert found["d"].data_location == library.TensorProto.EXTERNAL
    assert {**protobuf.initializers(data)}.keys() > {"a", "b", "c"}


def test_a_model_cut_down_to_a_form_has_that_signature_alone(graphs: dict[str, Path]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    data = graphs["tflite"].read_bytes()
    for form in ("bind", "bake"):
        interpreter = Interpreter(model_content=flatbuffer.splice(data, flatbuffer.keep(data, form)))
        assert list(interpreter.get_signature_list()) == [form]
        assert ("scale" in interpreter.get_signature_list()[form]["inputs"]) == (form == "bind")
