"""The runtime: loading, switching, many threads, and what it refuses."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import in_threads, make_patch, pictures
from PIL import Image

from edgepatch import Runtime, blob
from edgepatch.backbones import weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, MissingPackageError, UsageError
from edgepatch.runtime import engines

KINDS = ("tflite", "onnx")


@pytest.fixture(params=[(kind, mode) for kind in KINDS for mode in ("bind", "bake")], ids="-".join)
def runtime(request: pytest.FixtureRequest, graphs: dict[str, Path]) -> Runtime:
    kind, mode = request.param
    return Runtime(graphs[kind], mode=mode)


def test_the_first_patch_is_put_to_use_and_use_switches(runtime: Runtime, patches: list[Path]) -> None:
    assert [runtime.load(path) for path in patches] == ["task0", "task1", "task2"] == list(runtime.tasks)
    picture = pictures(1)[0]
    assert runtime.predict(picture).task == runtime.task == "task0"
    first = runtime.predict(picture)
    runtime.use("task1")
    second = runtime.predict(picture)
    assert (second.task, len(second.labels)) == ("task1", 10)
    runtime.use("task0")
    np.testing.assert_array_equal(runtime.predict(picture).logits, first.logits)
    assert runtime.predict(picture, "task2").task == "task2"
    assert runtime.task == "task0", "a prediction by name switches nothing for others"


def test_a_picture_may_be_a_path_an_image_or_an_array(runtime: Runtime, patches: list[Path], tmp_path: Path) -> None:
    runtime.load(patches[0])
    array = pictures(1)[0]
    image = Image.fromarray(array)
    image.save(tmp_path / "a.png")
    answers = [runtime.predict(form) for form in (array, image, tmp_path / "a.png", str(tmp_path / "a.png"))]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.logits, answers[0].logits)


def test_an_answer_is_a_distribution_over_the_labels(runtime: Runtime, patches: list[Path]) -> None:
    runtime.load(patches[1])
    answer = runtime.predict(pictures(1)[0])
    assert answer.probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert answer.label == answer.labels[int(answer.logits.argmax())]
    assert answer.score == pytest.approx(answer.probabilities.max())
    assert answer.top(3)[0][0] == answer.label
    assert len(answer.to_json()["top"]) == 5


def test_threads_that_switch_all_the_time_never_mix_tasks(runtime: Runtime, patches: list[Path]) -> None:
    tasks = [runtime.load(path) for path in patches]
    images = pictures(4)
    expected = {
        (task, index): runtime.predict(image, task).logits for task in tasks for index, image in enumerate(images)
    }
    problems: list[str] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(120):
            task, index = tasks[rng.integers(3)], int(rng.integers(4))
            if rng.random() < 0.3:
                runtime.use(tasks[rng.integers(3)])
            answer = runtime.predict(images[index], task)
            if answer.task != task or not np.array_equal(answer.logits, expected[task, index]):
                problems.append(f"{task} {index}")

    in_threads(work, 6)
    assert problems == []


def test_the_values_a_task_runs_on_are_the_runtimes_own(runtime: Runtime, tiny: Backbone) -> None:
    patch = make_patch(tiny, 9, 3)
    patch = dataclasses.replace(patch, tensors={name: value.copy() for name, value in patch.tensors.items()})
    runtime.add(patch)
    picture = pictures(1)[0]
    before = runtime.predict(picture).logits
    for value in patch.tensors.values():
        value[...] = 0
    np.testing.assert_array_equal(runtime.predict(picture).logits, before)
    before[...] = 0
    assert runtime.predict(picture).logits.any(), "an answer is the caller's, not the interpreter's buffer"


def test_a_task_loaded_again_is_replaced_even_while_in_use(runtime: Runtime, tiny: Backbone) -> None:
    runtime.add(make_patch(tiny, 1, 3, task="same"))
    picture = pictures(1)[0]
    before = runtime.predict(picture).logits
    runtime.add(make_patch(tiny, 2, 3, task="same"))
    assert runtime.tasks == ("same",)
    assert not np.allclose(runtime.predict(picture).logits, before)


def test_unloading_forgets(runtime: Runtime, patches: list[Path]) -> None:
    for path in patches:
        runtime.load(path)
    runtime.unload("task0")
    assert (runtime.tasks, runtime.task) == (("task1", "task2"), "task1")
    with pytest.raises(UsageError, match="not loaded"):
        runtime.use("task0")
    runtime.unload("task1")
    runtime.unload("task2")
    with pytest.raises(UsageError, match="no patch is loaded"):
        runtime.predict(pictures(1)[0])


def test_a_patch_of_another_backbone_is_refused(runtime: Runtime, tiny: Backbone, patches: list[Path]) -> None:
    other = weights.create("mobilenet_v2", alpha=0.1, size=32, source="random", seed=2)
    runtime.load(patches[0])
    with pytest.raises(MismatchError, match="another backbone") as caught:
        runtime.add(make_patch(other, 0, 3), file="foreign.epatch")
    assert caught.value.details["got"] == other.id
    assert caught.value.details["expected"] == tiny.id == runtime.backbone_id
    assert runtime.tasks == ("task0",)


def test_tensors_the_graph_does_not_take_are_refused(runtime: Runtime, tiny: Backbone) -> None:
    patch = make_patch(tiny, 0, 3)
    shorter = {**patch.tensors, "scale": patch.tensors["scale"][:-1]}
    with pytest.raises(MismatchError, match="another shape"):
        runtime.add(dataclasses.replace(patch, tensors=shorter))
    more = dataclasses.replace(
        patch, kinds={**patch.kinds, "gain": ("gain",)}, tensors={**patch.tensors, "gain": np.zeros(4, np.uint8)}
    )
    with pytest.raises(MismatchError, match="does not take"):
        runtime.add(more)
    with pytest.raises(BadFileError, match="at which sites"):
        runtime.add(dataclasses.replace(patch, sites={"scale": patch.sites["scale"]}))


def test_a_head_that_does_not_fit_its_labels_is_refused(runtime: Runtime, tiny: Backbone) -> None:
    patch = make_patch(tiny, 0, 3)
    with pytest.raises(BadFileError, match="labels for another head"):
        runtime.add(dataclasses.replace(patch, labels=("a", "b")))
    with pytest.raises(BadFileError, match="head that this version does not know"):
        runtime.add(dataclasses.replace(patch, decode={"head": "../../etc/passwd"}))


@pytest.mark.parametrize(("kernel", "bias"), [(10, 5), (1, 5), (10, 1), (5, 10), (0, 0)])
def test_a_head_at_odds_with_itself_is_refused_and_harms_no_other_task(
    runtime: Runtime, tiny: Backbone, patches: list[Path], kernel: int, bias: int
) -> None:
    runtime.load(patches[0])
    before = runtime.predict(pictures(1)[0]).logits
    patch = make_patch(tiny, 0, 3, task="odd")
    tensors = {
        **patch.tensors,
        "head_kernel": np.zeros((1280, kernel), np.float16),
        "head_bias": np.zeros(bias, np.float16),
    }
    odd = dataclasses.replace(patch, tensors=tensors, labels=tuple(f"class {index}" for index in range(bias)))
    with pytest.raises(BadFileError, match="labels for another head"):
        runtime.add(odd)
    np.testing.assert_array_equal(runtime.predict(pictures(1)[0]).logits, before)


def test_a_binding_that_fails_half_way_is_an_error_and_the_next_one_is_whole(
    graphs: dict[str, Path], patches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(graphs["tflite"], mode="bind")
    runtime.load(patches[0])
    runtime.load(patches[1])
    expected = runtime.predict(pictures(1)[0], "task0").logits
    broken = runtime._loaded["task1"].fitted.inputs
    whole = broken["head_bias"]
    broken["head_bias"] = np.zeros(4, np.float32)
    with pytest.raises((MismatchError, EdgepatchError)):
        runtime.predict(pictures(1)[0], "task1")
    np.testing.assert_array_equal(runtime.predict(pictures(1)[0], "task0").logits, expected)
    broken["head_bias"] = whole
    assert runtime.predict(pictures(1)[0], "task1").task == "task1"


def test_an_answer_that_is_not_finite_is_an_error(runtime: Runtime, tiny: Backbone) -> None:
    patch = make_patch(tiny, 0, 3)
    huge = {**patch.tensors, "scale": np.full_like(patch.tensors["scale"], 6e4, np.float16)}
    huge["head_kernel"] = np.full_like(patch.tensors["head_kernel"], 6e4)
    how = dataclasses.replace(patch.input, scale=(1e6, 1e6, 1e6))
    runtime.add(dataclasses.replace(patch, tensors={**huge, "bias": -huge["scale"]}, input=how))
    try:
        answer = runtime.predict(pictures(1)[0])
    except EdgepatchError as error:
        assert "NaN or infinity" in str(error)
    else:
        assert np.isfinite(answer.probabilities).all()


def test_a_closed_runtime_says_so(runtime: Runtime, patches: list[Path]) -> None:
    with runtime:
        runtime.load(patches[0])
    with pytest.raises(UsageError, match="closed"):
        runtime.predict(pictures(1)[0])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"engine": "tensorrt"}, "no such engine"),
        ({"engine": "onnx"}, "does not run"),
        ({"mode": "fast"}, "no such mode"),
        ({"memory_mb": -1}, "out of range"),
        ({"threads": 0}, "out of range"),
    ],
)
def test_options_that_cannot_be_are_refused(graphs: dict[str, Path], options: dict[str, object], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        Runtime(graphs["tflite"], **options)  # type: ignore[arg-type]


def test_a_missing_engine_is_answered_with_the_line_that_installs_it(
    graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for kind, extra in (("tflite", "litert"), ("onnx", "onnx")):
        with pytest.raises(MissingPackageError) as caught:
            Runtime(graphs[kind])
        assert caught.value.details["mend"] == f'pip install "edgepatch[{extra}]"'


def test_tflite_runtime_beside_tensorflow_is_refused_with_the_reason(graphs: dict[str, Path]) -> None:
    if engines.importlib.util.find_spec("tflite_runtime") is None:
        pytest.skip("tflite-runtime is not installed")
    with pytest.raises(MissingPackageError, match="imported tensorflow"):
        Runtime(graphs["tflite"], engine="tflite-runtime")


@pytest.mark.parametrize("kind", KINDS)
def test_the_device_side_needs_neither_tensorflow_nor_keras(
    graphs: dict[str, Path], patches: list[Path], kind: str
) -> None:
    program = """
import sys
class Refuse:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("tensorflow", "keras", "onnx", "flatbuffers", "google", "matplotlib", "safetensors"):
            if name.split(".")[0] != "flatbuffers" and "edgepatch" in str(sys._getframe(2).f_globals.get("__name__")):
                raise ImportError(f"the device side imported {name}")
sys.meta_path.insert(0, Refuse())
import numpy, edgepatch
runtime = edgepatch.Runtime(sys.argv[1])
runtime.load(sys.argv[2])
print(runtime.predict(numpy.zeros((9, 9, 3), numpy.uint8)).label)
assert not {"tensorflow", "keras"} & set(sys.modules), "a host package was loaded"
"""
    call = [sys.executable, "-c", program, str(graphs[kind]), str(patches[0])]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("class ")


def test_importing_edgepatch_loads_nothing_heavy() -> None:
    program = (
        "import sys, edgepatch; print(sorted(m for m in sys.modules if m in ('numpy', 'PIL', 'click', 'tensorflow')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_that_changes_after_loading_changes_nothing(
    graphs: dict[str, Path], patches: list[Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.epatch"
    copy.write_bytes(patches[0].read_bytes())
    runtime = Runtime(graphs["tflite"])
    runtime.load(copy)
    before = runtime.predict(pictures(1)[0]).logits
    copy.write_bytes(b"\0" * copy.stat().st_size)
    np.testing.assert_array_equal(runtime.predict(pictures(1)[0]).logits, before)
    assert blob.read(patches[0]).task == "task0"
