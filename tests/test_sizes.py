"""One graph runs tasks of any input size, each at its own; what a network or a graph cannot take is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import plans
import pytest
import reference
from conftest import in_threads, make_patch, pictures
from edgepatch.converters import dedicated, onnx, onnx_adapter, parity, standard, tflite
from test_baking import forged

from edgepatch import Runtime, blob
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE, Builder
from edgepatch.blob import Patch
from edgepatch.errors import BadFileError, MismatchError, UsageError
from edgepatch.runtime import baking, engines, graph_file
from edgepatch.runtime.fitting import fit
from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.formats.flatbuffer import Table
from edgepatch.runtime.model import Model
from edgepatch.training import calibration

KINDS = ("tflite", "onnx")
PRECISIONS = ("fp32", "fp16", "dynamic", "int8")
CONVERTERS: dict[str, Any] = {"tflite": tflite, "onnx": onnx}
OTHERS = (64, 96, 45)  # than the tiny backbone's 32; the sides that follow from 45 are odd


@pytest.fixture(scope="module")
def symmetric(tiny: Backbone) -> Backbone:
    """The tiny backbone with its zeros where torch puts them."""
    return dataclasses.replace(tiny, plan=dataclasses.replace(tiny.plan, padding="symmetric"))


@pytest.fixture(scope="module")
def sized(tiny: Backbone) -> dict[int, Patch]:
    """Calibrated tasks of the tiny backbone, one an input size, its own among them."""
    made = {}
    for seed, size in enumerate((32, *OTHERS)):
        own = tiny.at(size)
        patch = make_patch(own, seed, 3 + seed, task=f"at {size}")
        ranges = calibration.calibrate(own, patch, np.stack(pictures(4, size=size)))
        made[size] = dataclasses.replace(patch, ranges=ranges)
    return made


def answers(graph: Path, patch: Patch, mode: str, count: int = 2) -> np.ndarray:
    with Runtime(graph, mode=mode) as runtime:
        runtime.add(patch)
        return np.stack([runtime.predict(picture).logits for picture in pictures(count)])


def inputs(patch: Patch, count: int = 2) -> np.ndarray:
    return np.concatenate([patch.input(picture) for picture in pictures(count)])


@pytest.mark.parametrize(("padding", "keras"), [("same", (64, 96)), ("symmetric", (45,))])
def test_a_task_of_any_size_answers_as_keras_and_numpy_do_bound_and_baked(
    tiny: Backbone, symmetric: Backbone, tmp_path: Path, padding: str, keras: tuple[int, ...]
) -> None:
    backbone = {"same": tiny, "symmetric": symmetric}[padding]
    for kind in KINDS:
        (tmp_path / f"g.{kind}").write_bytes(CONVERTERS[kind].export(backbone))
    for size in OTHERS:
        patch = make_patch(backbone.at(size), 3, 4)
        assert (patch.backbone_id, patch.input.size) == (backbone.id, size)
        if size in keras:  # building it takes seconds
            expected = parity.keras_logits(backbone, patch, inputs(patch))
        else:
            values = backbone.values(patch)
            expected = np.concatenate([reference.logits(backbone, values, image[None]) for image in inputs(patch)])
        for kind in KINDS:
            for mode in ("bind", "bake"):
                got = answers(tmp_path / f"g.{kind}", patch, mode)
                np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max(), err_msg=f"{kind} {mode}")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_task_baked_at_another_size_answers_to_the_last_bit_as_one_baked_into_a_graph_of_that_size(
    tiny: Backbone,
    every_graph: dict[tuple[str, str], Path],
    sized: dict[int, Patch],
    tmp_path: Path,
    kind: str,
    precision: str,
) -> None:
    for size in (64, 45):
        own = tmp_path / f"{size}.{kind}"
        own.write_bytes(CONVERTERS[kind].export(tiny.at(size), precision))
        expected = answers(own, sized[size], "bake")
        np.testing.assert_array_equal(answers(every_graph[kind, precision], sized[size], "bake"), expected)
        np.testing.assert_array_equal(
            answers(own, sized[32], "bake"), answers(every_graph[kind, precision], sized[32], "bake")
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp16", "dynamic"])
def test_other_precisions_are_bound_at_another_size_as_in_a_graph_of_that_size(
    tiny: Backbone,
    every_graph: dict[tuple[str, str], Path],
    sized: dict[int, Patch],
    tmp_path: Path,
    kind: str,
    precision: str,
) -> None:
    (tmp_path / f"g.{kind}").write_bytes(CONVERTERS[kind].export(tiny.at(64), precision))
    expected = answers(tmp_path / f"g.{kind}", sized[64], "bind")
    got = answers(every_graph[kind, precision], sized[64], "bind")
    # how scale and bias reach a site is chosen by the size a graph is exported for, and rounds otherwise
    assert np.sqrt(np.mean((got - expected) ** 2)) < 0.05 * np.sqrt(np.mean(expected**2))


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_of_node_and_padding_runs_at_other_sizes(gated: Backbone, tmp_path: Path, kind: str) -> None:
    (tmp_path / f"g.{kind}").write_bytes(CONVERTERS[kind].export(gated))
    for size in (17, 50, 63):
        for kinds in ("scale_bias", "scale_bias+policy"):
            patch = make_patch(gated.at(size), 4, 3, kinds=kinds)
            image = inputs(patch, 1)
            expected = reference.logits(gated, gated.values(patch), image)[0]
            for mode in ("bind", "bake") if patch.bindable else ("bake",):
                got = answers(tmp_path / f"g.{kind}", patch, mode, 1)[0]
                np.testing.assert_allclose(got, expected, atol=3e-4, err_msg=f"{size} {kinds} {mode}")


def test_a_copy_of_the_graph_has_all_the_shapes_of_one_exported_for_that_size(
    tiny: Backbone, symmetric: Backbone, gated: Backbone, sized: dict[int, Patch]
) -> None:
    for backbone, precision, size in ((tiny, "int8", 64), (symmetric, "fp16", 45), (gated, "fp32", 45)):
        ranges = sized[32].ranges if backbone is tiny else None
        patch = dataclasses.replace(make_patch(backbone.at(size), 1, 3), ranges=ranges)
        shapes = []
        for source in (backbone, backbone.at(size)):
            graph = graph_file.parse(tflite.export(source, precision), "a graph")
            data = baking.bake(graph, fit(graph, patch, None)).data
            tensors = fb.subgraph(data, "bake").tables(fb.SUBGRAPH_TENSORS)
            shapes.append([Table(data, at).numbers(fb.TENSOR_SHAPE) for at in tensors])
        assert shapes[0] == shapes[1]
        assert [1, size, size, 3] in shapes[0]


@pytest.mark.parametrize("mode", ["auto", "bind", "bake"])
@pytest.mark.parametrize("kind", KINDS)
def test_tasks_of_many_sizes_share_a_runtime_and_threads_never_mix_them(
    graphs: dict[str, Path], sized: dict[int, Patch], kind: str, mode: str
) -> None:
    images = pictures(3)
    expected = {}
    for patch in sized.values():
        with Runtime(graphs[kind], mode="bind") as alone:
            alone.add(patch)
            expected[patch.task] = [alone.predict(image).logits for image in images]
    problems: list[str] = []
    with Runtime(graphs[kind], mode=mode) as runtime:
        tasks = [runtime.add(patch) for patch in sized.values()]

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(60):
                task, index = tasks[rng.integers(len(tasks))], int(rng.integers(3))
                if rng.random() < 0.2:
                    runtime.use(tasks[rng.integers(len(tasks))])
                if rng.random() < 0.05:
                    runtime.add(sized[int(task.split()[1])])
                answer = runtime.predict(images[index], task)
                if answer.task != task or not np.allclose(answer.logits, expected[task][index], atol=1e-3):
                    problems.append(f"{task} {index}")

        in_threads(work, 4)
        runtime.wait(60)
        assert problems == []
        assert runtime.problems == {}
    with pytest.raises(UsageError, match="closed"):
        runtime.predict(images[0], tasks[0])


@pytest.mark.parametrize("kind", KINDS)
def test_an_interpreter_is_opened_for_each_size_once_and_goes_when_no_task_needs_it(
    graphs: dict[str, Path], tiny: Backbone, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    opened: list[int] = []
    closed: list[int] = []
    start = engines.start

    def watched(name: str, model: Any, threads: int) -> Any:
        engine = start(name, model, threads)
        opened.append(model.size)
        close = engine.close
        monkeypatch.setattr(engine, "close", lambda: (closed.append(model.size), close()))
        return engine

    monkeypatch.setattr(engines, "start", watched)
    picture = pictures(1)[0]
    with Runtime(graphs[kind], mode="bind") as runtime:
        for seed, size in enumerate((32, 64, 64, 32)):
            runtime.add(make_patch(tiny.at(size), seed, 3, task=f"task{seed}"))
        for _ in range(3):
            for task in runtime.tasks:
                runtime.use(task)
                runtime.predict(picture)
        assert (opened, closed) == ([32, 64], [])
        runtime.unload("task1")
        runtime.unload("task2")
        runtime.add(make_patch(tiny.at(48), 9, 3, task="task4"))
        runtime.predict(picture, "task4")
        assert (opened, closed) == ([32, 64, 48], [64])
        runtime.predict(picture, "task0")
    assert (opened, sorted(closed)) == ([32, 64, 48], [32, 48, 64])


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_size_weighs_more_in_the_budget(graphs: dict[str, Path], sized: dict[int, Patch], kind: str) -> None:
    found = []
    for size in (32, 64, 96):
        with Runtime(graphs[kind], mode="bake") as runtime:
            runtime.use(runtime.add(sized[size]))
            found.append(runtime.baked_bytes)
    assert found == sorted(set(found))


def test_tflite_runtime_runs_other_sizes_in_a_process_of_its_own(
    graphs: dict[str, Path], sized: dict[int, Patch], tmp_path: Path
) -> None:
    program = """
import json, sys, numpy as np, edgepatch
graph, *patches = sys.argv[1:]
picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
found = []
for mode in ("bind", "bake"):
    runtime = edgepatch.Runtime(graph, engine="tflite-runtime", mode=mode)
    found.append([runtime.predict(picture, runtime.load(patch)).logits.tolist() for patch in patches])
print(json.dumps(found))
"""
    for size, patch in sized.items():
        blob.write(patch, tmp_path / f"{size}.epatch")
    paths = [str(tmp_path / f"{size}.epatch") for size in sized]
    call = [sys.executable, "-c", program, str(graphs["tflite"]), *paths]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if "which is not installed" in done.stderr:
        pytest.skip("tflite-runtime is not installed")
    assert done.returncode == 0, done.stderr
    for mode, rows in zip(("bind", "bake"), json.loads(done.stdout), strict=True):
        for patch, row in zip(sized.values(), rows, strict=True):
            np.testing.assert_allclose(row, answers(graphs["tflite"], patch, mode, 1)[0], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_of_an_older_edgepatch_keeps_its_size_and_refuses_others(
    graphs: dict[str, Path], sized: dict[int, Patch], tmp_path: Path, kind: str
) -> None:
    old = tmp_path / f"old.{kind}"
    old.write_bytes(forged(graphs[kind].read_bytes(), kind, lambda document: document.pop("sizes")))
    for mode in ("bind", "bake"):
        np.testing.assert_array_equal(answers(old, sized[32], mode), answers(graphs[kind], sized[32], mode))
    with Runtime(old) as runtime, pytest.raises(MismatchError, match="another input size") as caught:
        runtime.add(sized[64], file="task.epatch")
    said = caught.value.details
    assert (said["file"], said["field"], said["got"], said["expected"]) == ("task.epatch", "input.size", 64, 32)
    assert "export it again" in said["mend"]
    assert "--size 32" in said["mend"]


def narrow(net: Builder) -> None:
    """Two convolutions without padding: of 20 pixels they leave none."""
    last = net.site(IMAGE, "stem", 0, "stem", 8, 7, 3, "relu6", pads=(0, 0))
    net.site(last, "top", 1, "top", 12, 7, 1, "relu6", pads=(0, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_says_which_sizes_its_network_can_be_built_for_and_refuses_others(tmp_path: Path, kind: str) -> None:
    backbone = plans.made(narrow)
    path = tmp_path / f"g.{kind}"
    path.write_bytes(CONVERTERS[kind].export(backbone))
    least = 7 + 6 * 3
    assert graph_file.read(path).document["sizes"] == [least, 1024]
    patch = make_patch(backbone.at(least), 0, 3)
    for mode in ("bind", "bake"):
        assert np.isfinite(answers(path, patch, mode, 1)).all()
    small = dataclasses.replace(patch, input=dataclasses.replace(patch.input, size=least - 1))
    with Runtime(path) as runtime, pytest.raises(MismatchError) as caught:
        runtime.add(small)
    assert (caught.value.details["got"], caught.value.details["expected"]) == (least - 1, f"{least} to 1024")
    with pytest.raises(UsageError, match="leave none at top"):
        backbone.at(least - 1)
    lying = tmp_path / f"lying.{kind}"
    lying.write_bytes(forged(path.read_bytes(), kind, lambda document: document.update(sizes=[16, 1024])))
    for mode in ("bind", "bake"):
        with Runtime(lying, mode=mode) as runtime:
            runtime.add(small)
            with pytest.raises((BadFileError, MismatchError)):
                runtime.predict(pictures(1)[0])


@pytest.mark.parametrize("sizes", [[33, 64], [16, 31], [8, 64], [16, 2000], [32], [16, 32, 64], ["16", 32], [16.0, 32]])
def test_sizes_that_cannot_be_are_a_broken_document(graphs: dict[str, Path], tmp_path: Path, sizes: list[Any]) -> None:
    for kind in KINDS:
        path = tmp_path / f"g.{kind}"
        path.write_bytes(forged(graphs[kind].read_bytes(), kind, lambda document: document.update(sizes=sizes)))
        with pytest.raises(BadFileError, match="broken document"):
            Runtime(path)


def test_a_backbone_at_another_size_is_the_same_backbone(tiny: Backbone) -> None:
    other = tiny.at(96)
    assert (other.id, other.input.size, tiny.input.size) == (tiny.id, 96, 32)
    assert tiny.at(32) is tiny
    for size in (15, 1025, 0, -32):
        with pytest.raises(UsageError, match="from 16 to 1024"):
            tiny.at(size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_standalone_file_has_the_patchs_size(
    every_graph: dict[tuple[str, str], Path], sized: dict[int, Patch], kind: str, precision: str
) -> None:
    path = every_graph[kind, precision]
    data = standard.export(graph_file.read(path), sized[64])
    opened = engines.start({"tflite": "litert", "onnx": "onnx"}[kind], Model(data), 1)
    assert opened.image_shape == (1, 64, 64, 3)
    opened.bind({})
    got = np.concatenate([opened.run(image[None])["logits"] for image in inputs(sized[64])])
    np.testing.assert_array_equal(got, answers(path, sized[64], "bake"))


def test_a_dedicated_rival_is_made_for_the_patchs_size(
    tiny: Backbone, graphs: dict[str, Path], sized: dict[int, Patch]
) -> None:
    opened = engines.start("onnx", Model(dedicated.onnx(tiny, sized[45])), 1)
    assert opened.image_shape == (1, 45, 45, 3)
    got = opened.run(inputs(sized[45], 1))["logits"]
    np.testing.assert_allclose(got, answers(graphs["onnx"], sized[45], "bake", 1), atol=1e-3)


def test_an_adapter_of_another_size_runs_in_a_plain_session_of_the_shared_graph(
    tiny: Backbone, graphs: dict[str, Path], sized: dict[int, Patch], tmp_path: Path
) -> None:
    session = ort.InferenceSession(str(graphs["onnx"]), providers=["CPUExecutionProvider"])
    for size in (64, 32, 45):
        (tmp_path / "a.onnx_adapter").write_bytes(onnx_adapter.export(tiny, sized[size]))
        adapter = ort.LoraAdapter()
        adapter.Load(str(tmp_path / "a.onnx_adapter"))
        options = ort.RunOptions()
        options.add_active_adapter(adapter)
        got = session.run(["logits"], {"image": inputs(sized[size], 1)}, options)[0]
        np.testing.assert_allclose(got, answers(graphs["onnx"], sized[size], "bind", 1), rtol=0, atol=1e-3)


def test_a_patch_is_trained_calibrated_and_run_at_a_size_of_its_own_by_every_command(
    edgepatch: Any, gated: Backbone, gated_file: Path, digits: Path, tmp_path: Path
) -> None:
    def call(*arguments: object) -> Any:
        done = edgepatch(*arguments, "--json")
        assert done.code == 0, (done.out, done.err)
        return done.document

    patch, graph, int8 = tmp_path / "digits.epatch", tmp_path / "g.tflite", tmp_path / "int8.onnx"
    report = call("train", gated_file, digits, "--patch", "classifier", "--size", 40, "--out", patch)
    assert (report["size"], report["backbone_id"]) == (40, gated.id)
    assert call("inspect", patch)["input"]["size"] == 40
    call("calibrate", gated_file, digits, "--patch", patch)
    exported = call("export", gated_file, "--to", "tflite", "--patch", patch, "--out", graph)
    assert exported["parity"][0]["max_difference"] < 5e-4
    call("export", gated_file, "--to", "onnx", "--precision", "int8", "--out", int8)
    assert call("inspect", graph)["sizes"] == [16, 1024]
    for path in (graph, int8):
        assert call("verify", path, patch)["ok"]
        assert call("eval", path, "--patch", patch, digits)["images"] == 72
        assert call("run", path, "--patch", patch, next((digits / "7").iterdir()))[0]["label"] in "017"
        call("bake", path, patch, "--out", tmp_path / f"alone{path.suffix}")
        rows = call("bench", path, "--patch", patch, "--rounds", 1, "--no-memory")["rows"]
        assert {row["mode"] for row in rows} >= {"dedicated", "bake"}


def test_what_the_commands_cannot_do_at_a_size_they_say(
    edgepatch: Any, tiny: Backbone, tiny_file: Path, graphs: dict[str, Path], digits: Path, tmp_path: Path
) -> None:
    for size in (8, 4000):
        done = edgepatch("train", tiny_file, digits, "--size", size, "--out", tmp_path / "x.epatch", "--json")
        error = done.document["error"]
        assert (done.code, error["field"], error["got"]) == (2, "--size", size)
        assert "from 16 to 1024" in error["message"]
    for size in (32, 64):
        blob.write(make_patch(tiny.at(size), size, 3, task=f"at {size}"), tmp_path / f"{size}.epatch")
    both = [part for size in (32, 64) for part in ("--patch", tmp_path / f"{size}.epatch")]
    done = edgepatch("bench", graphs["tflite"], *both, "--json")
    assert (done.code, "different input sizes" in done.document["error"]["message"]) == (2, True)
    assert backbones.read(tiny_file).input.size == 32
