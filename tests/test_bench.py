"""edgepatch bench: every contestant in its place, in a process that stays clear of TensorFlow, and refusals in time.

No assertion says how fast something is: that is for docs/benchmarks.md, from a quiet machine.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_patch
from edgepatch.converters import dedicated, onnx, tflite
from onnx import TensorProto, helper
from PIL import Image

from edgepatch import blob, cli, errors
from edgepatch.backbones import weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.bench import contestants, document, memory, model_bytes, processes
from edgepatch.bench.rivals import Dedicated
from edgepatch.runtime import baking, engines, fitting, graph_file
from edgepatch.runtime.model import Model
from edgepatch.training.calibration import calibrate

ENGINES = {"tflite": ["litert"], "onnx": ["onnx"]}
if importlib.util.find_spec("tflite_runtime"):
    ENGINES["tflite"].append("tflite-runtime")

# runs the command and tells on its last line whether TensorFlow came along
PROGRAM = """
import sys
from edgepatch import cli
try:
    cli.main(sys.argv[1:])
finally:
    print("tensorflow" in sys.modules, file=sys.stderr)
"""


def bench(*arguments: object) -> tuple[dict[str, Any], str]:
    """The command's document and its text on stderr, from a process of its own."""
    call = [sys.executable, "-c", PROGRAM, "bench", *map(str, arguments), "--json"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Any:
    """Exit code and error of a call that is refused, in this process."""

    def call(*arguments: object) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main(["bench", *map(str, arguments), "--json"])
        return int(caught.value.code or 0), json.loads(capsys.readouterr().out)["error"]

    return call


@pytest.fixture(scope="module")
def calibrated(tiny: Backbone, folder: Path) -> list[Path]:
    """Two tasks with activation ranges, which int8 graphs need."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    paths = []
    for seed, classes in enumerate((3, 10)):
        patch = make_patch(tiny, seed, classes)
        paths.append(folder / f"calibrated{seed}.epatch")
        blob.write(dataclasses.replace(patch, ranges=calibrate(tiny, patch, pixels)), paths[-1])
    return paths


@pytest.fixture(scope="module")
def int8(tiny: Backbone, folder: Path) -> dict[str, Path]:
    made = {}
    for kind, converter in (("tflite", tflite), ("onnx", onnx)):
        made[kind] = folder / f"tiny-int8.{kind}"
        made[kind].write_bytes(converter.export(tiny, "int8"))
    return made


def given(paths: list[Path]) -> list[object]:
    return [part for path in paths for part in ("--patch", path)]


def test_one_run_measures_every_contestant(
    graphs: dict[str, Path], int8: dict[str, Path], calibrated: list[Path], tmp_path: Path
) -> None:
    files = [graphs["tflite"], int8["tflite"], graphs["onnx"]]
    options = ("--rounds", 2, "--tasks", 1, "--tasks", 3, "--out", tmp_path / "found")
    found, stderr = bench(*files, *given(calibrated), *options)
    assert stderr.splitlines()[-1] == "False", "TensorFlow came into the process that measures"
    assert json.loads((tmp_path / "found.json").read_text()) == found
    with Image.open(tmp_path / "found.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000

    expected = Counter(
        (engine, precision, mode, 1)
        for kind, precision in (("tflite", "fp32"), ("tflite", "int8"), ("onnx", "fp32"))
        for engine in ENGINES[kind]
        for mode in ("dedicated", "bake", "bind")
        if (mode, precision) != ("bind", "int8")  # which has no such form
    )
    assert found["skipped"] == []
    for name in ("rows", "switch"):
        assert Counter((r["engine"], r["precision"], r["mode"], r["threads"]) for r in found[name]) == expected
    for row in found["rows"]:
        assert min(row["latency_ms"], row["ratio"], row["open_ms"]) > 0
        assert row["spread_ms"] >= 0
        assert (row["against"], row["against_precision"]) == ("standalone", row["precision"])
        assert row["mode"] != "dedicated" or (row["ratio"], row["source"]) == (1.0, "standalone")
    for row in found["switch"]:
        assert 0 < row["ms"] <= row["first_result_ms"]
        assert 0 < row["ms"] <= row["worst_ms"]
        parts = {"bind": None, "bake": {"bake", "open", "first_result"}, "dedicated": {"read", "open", "first_result"}}
        assert set(row.get("parts_ms", {})) == (parts[row["mode"]] or set())
    graphs_run = Counter(key[:2] for key in expected if key[2] == "bake")
    assert Counter((row["engine"], row["precision"]) for row in found["load"]) == graphs_run
    assert all(min(row["read_ms"], row["ms"]) > 0 for row in found["load"])
    assert len(found["pause"]) == sum(key[2] == "bind" for key in expected)
    assert all(row["pause_ms"] >= row["median_pause_ms"] > 0 for row in found["pause"])

    held = found["memory"]["rows"]
    assert len(held) == 2 * expected.total()
    assert all(row["mib"] > 0 for row in held)
    many = {(row["engine"], row["precision"], row["mode"], row["tasks"]): row["mib"] for row in held}
    assert all(many[(*key[:3], 3)] >= many[(*key[:3], 1)] for key in many)
    assert found["memory"]["bind_mib"] == many["litert", "fp32", "bind", 1]
    sizes = [path.stat().st_size for path in calibrated]
    row = found["bytes"]["rows"][1]
    assert (row["tasks"], row["shared"]) == (3, graphs["tflite"].stat().st_size + 2 * sizes[0] + sizes[1])
    assert row["dedicated"] is None, "a baked copy of the graph is no measure of what a dedicated model takes"


def test_rivals_are_made_from_the_backbone_aside(
    tiny: Backbone, tiny_file: Path, int8: dict[str, Path], calibrated: list[Path], tmp_path: Path
) -> None:
    half = tmp_path / "half.onnx"
    half.write_bytes(onnx.export(tiny, "fp16"))
    call = (int8["tflite"], half, int8["onnx"], *given(calibrated[:1]), "--rounds", 1, "--no-memory")
    found, stderr = bench(*call, "--engine", "litert", "--engine", "onnx", "--backbone", tiny_file)
    assert stderr.splitlines()[-1] == "False", "TensorFlow came into the process that measures"
    rivals = {(row["engine"], row["precision"]) for row in found["rows"] if row.get("source") == "converter"}
    assert rivals == {("litert", "int8"), ("onnx", "fp32"), ("onnx", "int8")}
    against = {
        (r["engine"], r["precision"]): (r["against"], r["against_precision"]) for r in found["rows"] if "graph" in r
    }
    assert against == {
        ("litert", "int8"): ("converter", "int8"),
        ("onnx", "fp16"): ("converter", "fp32"),  # there is no converter to halves
        ("onnx", "int8"): ("converter", "int8"),
    }
    assert found["memory"]["rows"] == []


def test_a_model_of_the_users_own(tiny: Backbone, graphs: dict[str, Path], patches: list[Path], tmp_path: Path) -> None:
    own, pixels = tmp_path / "own.onnx", tmp_path / "pixels.onnx"
    own.write_bytes(dedicated.onnx(tiny, blob.read(patches[0])))
    pixels.write_bytes(bytes_model())
    options = ("--threads", 1, "--threads", 2, "--rounds", 1, "--no-memory")
    found, _ = bench(graphs["onnx"], *given(patches[:2]), "--against", pixels, "--against", own, *options)
    assert len(found["rows"]) == 8
    for threads in (1, 2):
        rows = {row.get("source", row["mode"]): row for row in found["rows"] if row["threads"] == threads}
        assert set(rows) == {str(own), str(pixels), "bake", "bind"}
        assert {row["against"] for name, row in rows.items() if name != str(pixels)} == {str(own)}
        assert (rows[str(own)]["precision"], rows[str(own)]["ratio"]) == ("fp32", 1.0)
        assert rows[str(pixels)]["latency_ms"] > 0
    assert found["bytes"]["dedicated"] == own.stat().st_size
    assert found["bytes"]["rows"][-1]["dedicated"] == found["bytes"]["rows"][-1]["tasks"] * own.stat().st_size


def bytes_model() -> bytes:
    """An .onnx that takes uint8 and gives it back."""
    builder = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "bytes",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 8, 8, 3])],
    )
    model = helper.make_model(builder, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_what_cannot_be_measured_is_refused_before_anything_is(
    refusal: Any,
    tiny: Backbone,
    graphs: dict[str, Path],
    int8: dict[str, Path],
    patches: list[Path],
    calibrated: list[Path],
    tmp_path: Path,
) -> None:
    good = dedicated.onnx(tiny, blob.read(patches[0]))
    graph = graph_file.read(graphs["tflite"])
    flat = baking.bake(graph, fitting.fit(graph, blob.read(patches[0]), None)).data
    files = {
        "cut.onnx": good[: len(good) // 2],
        "cut.tflite": flat[: len(flat) // 2],
        "words.onnx": b"not a model at all",
        "whole.onnx": good,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    stranger = tmp_path / "stranger.epatch"
    other = weights.create("mobilenet_v2", alpha=0.1, size=32, source="random", seed=9)
    blob.write(make_patch(other, 0, 3, "stranger"), stranger)
    one = ("--patch", patches[0])
    for arguments, code, says in (
        ((graphs["onnx"], *one, "--against", tmp_path / "cut.onnx"), 3, "cannot open"),
        ((graphs["tflite"], *one, "--against", tmp_path / "cut.tflite"), 3, ""),
        ((graphs["onnx"], *one, "--against", tmp_path / "words.onnx"), 3, "neither"),
        ((graphs["tflite"], *one, "--against", tmp_path / "whole.onnx"), 3, "another format"),
        ((graphs["onnx"], *one, "--against", tmp_path / "none.onnx"), 2, "no such file"),
        ((graphs["onnx"], *one, "--against", graphs["onnx"]), 3, "a shared graph"),
        ((graphs["onnx"], *one, "--threads", 0), 2, "out of range"),
        ((graphs["onnx"], *one, "--threads", 1_000_000), 2, "out of range"),
        ((graphs["onnx"], *one, "--rounds", 0), 2, "out of range"),
        ((graphs["onnx"], *one, "--tasks", 0), 2, "out of range"),
        ((graphs["onnx"], *one, "--engine", "litert"), 2, "does not run"),
        ((graphs["onnx"], *one, "--engine", "onnx", "--engine", "litert"), 2, "does not run"),
        ((graphs["onnx"], *one, *one), 2, "same task"),
        ((graphs["onnx"],), 2, "--patch"),
        ((tmp_path / "whole.onnx", *one), 4, "not a shared graph"),
        ((graphs["onnx"], int8["onnx"], *one), 4, "not calibrated"),
        ((graphs["onnx"], "--patch", calibrated[0], "--patch", stranger), 4, "another backbone"),
    ):
        got, error = refusal(*arguments)
        assert (got, says in error["message"]) == (code, True), (arguments, error)


def test_tflite_runtime_is_left_out_beside_tensorflow(graphs: dict[str, Path], patches: list[Path]) -> None:
    """As in this process. On its own it is measured with the others."""
    plan = contestants.plan([str(graphs["tflite"])], [str(patches[0])])
    assert plan.engines == ["litert"]
    assert [row["engine"] for row in plan.skipped] == ENGINES["tflite"][1:]


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "dynamic", "int8"])
def test_a_baked_model_as_a_file_answers_as_in_memory(
    tiny: Backbone, calibrated: list[Path], kind: str, precision: str
) -> None:
    data = {"tflite": tflite, "onnx": onnx}[kind].export(tiny, precision)
    graph = graph_file.parse(data, "graph")
    baked = baking.bake(graph, fitting.fit(graph, blob.read(calibrated[0]), None))
    alone = model_bytes.standalone(baked)
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    answers = []
    for model in (baked, Model(alone)):
        engine = engines.start(ENGINES[kind][0], model, 1)
        engine.bind({})
        answers.append(next(iter(engine.run(image).values())))
    np.testing.assert_array_equal(*answers)
    widened = kind == "onnx" and precision in ("fp16", "dynamic")
    assert model_bytes.precision(alone, kind) == ("fp32" if widened else precision)


def test_a_file_that_is_no_model_has_no_precision() -> None:
    assert model_bytes.precision(b"TFL3" * 9, "tflite") is None
    assert model_bytes.precision(b"\x08\xff\xff", "onnx") is None


def test_who_a_graph_is_held_against() -> None:
    def model(precision: str, source: str, kind: str = "onnx") -> Dedicated:
        return Dedicated(source, kind, precision, source)

    mine, made, half = model("fp32", "mine"), model("fp32", "made"), model("fp16", "half")
    assert document.base([mine, made, half], "onnx", "fp32") == mine
    assert document.base([mine, made, half], "onnx", "fp16") == half
    assert document.base([half, made], "onnx", "int8") == made
    assert document.base([half], "onnx", "int8") == half
    assert document.base([model("fp32", "other", "tflite")], "onnx", "fp32") is None


def test_memory_that_runs_short_is_said_not_guessed(
    monkeypatch: pytest.MonkeyPatch, graphs: dict[str, Path], patches: list[Path]
) -> None:
    reasons = iter([None, None, "enough"])
    monkeypatch.setattr(memory, "short", lambda: next(reasons))
    found = memory._readings("onnx", "bind", str(graphs["onnx"]), [str(patches[0])], [1, 2, 3, 100])
    assert [row[0] is not None for row in found] == [True, True, False, False]
    assert [row[1] for row in found] == [None, None, "enough", "enough"]


def test_a_process_that_dies_is_an_error_not_a_wait() -> None:
    with pytest.raises(BrokenProcessPool):
        processes.apart(os._exit, 3)


def test_errors_come_back_whole_from_another_process(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError) as caught:
        processes.apart(blob.read, str(tmp_path / "none.epatch"))
    assert caught.value.details["file"] == str(tmp_path / "none.epatch")
    assert caught.value.exit_code == 2
