"""The command line: documents, exit codes, messages, help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import pictures
from PIL import Image

from edgepatch import errors
from edgepatch.cli import COMMANDS


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(pictures(1)[0]).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_the_main_job_from_end_to_end(edgepatch: Any, digits: Path, tmp_path: Path) -> None:
    """create, train, export, run, eval, bench, inspect, verify: each prints one document, and they fit together."""
    backbone, patch = tmp_path / "b.backbone", tmp_path / "digits.epatch"
    create = ("backbone", "create", "mobilenet_v2", "--size", 32, "--alpha", 0.1, "--weights", "random")
    made = edgepatch(*create, "--out", backbone, "--json")
    assert made.code == 0, made.err
    trained = edgepatch("train", backbone, digits, "--patch", "scale_bias", "--epochs", 1, "--out", patch, "--json")
    assert trained.code == 0, trained.err
    report = trained.document
    assert {"accuracy", "head_accuracy", "epochs", "seconds", "bytes", "patch", "backbone_id"} <= set(report)
    assert report["backbone_id"] == made.document["backbone_id"]
    assert report["bytes"] == patch.stat().st_size
    assert 0 <= report["head_accuracy"] <= report["accuracy"] <= 1
    for kind, engine in (("tflite", "litert"), ("onnx", "onnx")):
        graph = tmp_path / f"g.{kind}"
        exported = edgepatch("export", backbone, "--to", kind, "--patch", patch, "--out", graph, "--json")
        assert exported.code == 0, exported.err
        assert exported.document["parity"][0]["max_difference"] < 5e-4
        image = next((digits / "7").iterdir())
        ran = edgepatch("run", graph, "--patch", patch, image, "--sheet", tmp_path / "s.png", "--json")
        (row,) = ran.document
        assert (row["image"], row["label"] in "017", 0 <= row["score"] <= 1) == (str(image), True, True)
        with Image.open(tmp_path / "s.png") as sheet:
            assert sheet.width > 150
        found = edgepatch("eval", graph, "--patch", patch, digits, "--mode", "bind", "--json").document
        assert (found["images"], found["mode"], found["engine"]) == (72, "bind", engine)
        assert found["accuracy"] > 0.5
        benched = edgepatch("bench", graph, "--patch", patch, "--rounds", 2, "--json").document
        assert set(benched) >= {"rows", "switch", "bytes", "memory"}
        assert set(benched["rows"][0]) >= {"engine", "precision", "mode", "threads", "latency_ms", "ratio"}
        verified = edgepatch("verify", graph, patch, "--json")
        assert (verified.code, verified.document["ok"]) == (0, True)
    for file, kind in ((backbone, "backbone"), (patch, "patch"), (tmp_path / "g.onnx", "graph")):
        document = edgepatch("inspect", file, "--json").document
        assert (document["kind"], document["backbone_id"]) == (kind, report["backbone_id"])


def test_several_patches_and_pictures_in_one_call(
    edgepatch: Any, graphs: dict[str, Path], patches: list[Path], picture: Path
) -> None:
    ran = edgepatch("run", graphs["onnx"], "--patch", patches[0], "--patch", patches[1], picture, picture, "--json")
    assert [row["task"] for row in ran.document] == ["task0", "task0", "task1", "task1"]
    twice = edgepatch("run", graphs["onnx"], "--patch", patches[0], "--patch", patches[0], picture, "--json")
    assert (twice.code, twice.document["error"]["field"]) == (2, "task")


def test_outputs_must_be_named_for_what_they_are(
    edgepatch: Any, tiny_file: Path, graphs: dict[str, Path], patches: list[Path], picture: Path, tmp_path: Path
) -> None:
    """A name that says something else is how a file replaces another, even the one the command reads."""
    before = tiny_file.read_bytes()
    calls = [
        ("export", tiny_file, "--to", "tflite", "--out", tiny_file),
        ("export", tiny_file, "--to", "onnx", "--out", tmp_path / "x.tflite"),
        ("backbone", "patch", tiny_file, "--out", tiny_file),
        ("backbone", "create", "mobilenet_v2", "--size", 32, "--weights", "random", "--out", tmp_path / "x.epatch"),
        ("run", graphs["onnx"], "--patch", patches[0], picture, "--sheet", tmp_path / "s.jpg"),
    ]
    for call in calls:
        outcome = edgepatch(*call, "--json")
        assert (outcome.code, outcome.document["error"]["message"]) == (2, "is not a name for this kind of file"), call
    assert tiny_file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [picture]


def test_run_answers_the_pictures_it_can_read(
    edgepatch: Any, graphs: dict[str, Path], patches: list[Path], picture: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    outcome = edgepatch("run", graphs["onnx"], "--patch", patches[0], broken, picture, "--json")
    assert outcome.code == 3
    assert [row["image"] for row in outcome.document] == [str(picture)]
    assert str(broken) in outcome.err


def test_a_file_of_another_kind_is_told_for_what_it_is(
    edgepatch: Any, tiny_file: Path, patches: list[Path], picture: Path
) -> None:
    for file in (tiny_file, patches[0]):
        outcome = edgepatch("run", file, "--patch", patches[0], picture, "--json")
        assert (outcome.code, outcome.document["error"]["got"]) == (3, "a backbone or a patch")
    outcome = edgepatch("inspect", picture, "--json")
    assert (outcome.code, outcome.document["error"]["message"]) == (3, "is not an edgepatch file")


def test_people_get_tables(edgepatch: Any, graphs: dict[str, Path], patches: list[Path], picture: Path) -> None:
    ran = edgepatch("run", graphs["tflite"], "--patch", patches[0], picture)
    assert ran.code == 0
    assert ran.out.splitlines()[0].split() == ["image", "task", "answer"]
    shown = edgepatch("inspect", patches[0])
    assert "scale_bias" in shown.out
    assert "task0" in shown.out


def test_exit_codes_and_error_documents(
    edgepatch: Any, tiny_file: Path, graphs: dict[str, Path], patches: list[Path], picture: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.backbone"
    assert (
        edgepatch(
            "backbone",
            "create",
            "mobilenet_v2",
            "--size",
            32,
            "--alpha",
            0.1,
            "--weights",
            "random",
            "--seed",
            9,
            "--out",
            other,
        ).code
        == 0
    )
    broken = tmp_path / "broken.epatch"
    broken.write_bytes(patches[0].read_bytes()[:-1])
    cases = [
        (2, ("run", graphs["tflite"], "--patch", patches[0], tmp_path / "absent.jpg")),
        (2, ("run", graphs["tflite"], picture)),
        (2, ("nonsense",)),
        (2, ("train", tiny_file, tmp_path / "absent", "--out", tmp_path / "x.epatch")),
        (2, ("export", tiny_file, "--to", "tflite", "--precision", "int4", "--out", tmp_path / "x.tflite")),
        (3, ("inspect", broken)),
        (3, ("run", graphs["tflite"], "--patch", broken, picture)),
        (3, ("run", graphs["tflite"], "--patch", patches[0], broken)),
        (4, ("export", other, "--to", "onnx", "--patch", patches[0], "--out", tmp_path / "x.onnx")),
    ]
    for code, call in cases:
        outcome = edgepatch(*call, "--json")
        assert outcome.code == code, (call, outcome.out, outcome.err)
        assert outcome.document["error"]["code"] == code
        assert outcome.document["error"]["message"]
        spoken = edgepatch(*call)
        assert (spoken.code, spoken.out) == (code, "")
        assert spoken.err.startswith("edgepatch: ")
    assert not (tmp_path / "x.tflite").exists()
    assert not (tmp_path / "x.onnx").exists()


def test_verify_reports_each_patch_and_exits_with_the_first_failure(
    edgepatch: Any, graphs: dict[str, Path], patches: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.epatch"
    broken.write_bytes(patches[1].read_bytes()[:-1])
    outcome = edgepatch("verify", graphs["onnx"], patches[0], broken, patches[2], "--json")
    assert outcome.code == 3
    assert [row["ok"] for row in outcome.document["patches"]] == [True, False, True]
    assert outcome.document["patches"][1]["error"]["code"] == 3


def test_a_missing_package_exits_5_with_the_pip_line(
    edgepatch: Any, tiny_file: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    outcome = edgepatch("train", tiny_file, digits, "--out", tmp_path / "x.epatch", "--json")
    assert outcome.code == 5
    assert outcome.document["error"]["mend"] == 'pip install "edgepatch[train]"'


def test_a_package_that_does_not_load_is_told_from_one_that_is_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """tflite-runtime under numpy 2 fails with an error that names neither; ours says what broke."""
    (tmp_path / "broken_package.py").write_text("import numpy.core.no_such_part")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(errors.MissingPackageError, match="does not load"):
        errors.require("broken_package", extra="litert", why="this test")
    with pytest.raises(errors.MissingPackageError, match="is not installed"):
        errors.require("no_such_package", extra="litert", why="this test")


def test_a_misspelt_command_is_guessed(edgepatch: Any) -> None:
    assert "Did you mean 'train'?" in edgepatch("trian").err
    assert "--patch" in edgepatch("run", "g", "--pach", "x", "y").err


@pytest.mark.parametrize("command", [*COMMANDS, "backbone create", "backbone patch"])
def test_every_command_has_help_with_an_example(edgepatch: Any, command: str) -> None:
    shown = edgepatch(*command.split(), "--help")
    assert shown.code == 0
    if command != "backbone":
        assert f"edgepatch {command} " in shown.out.split("Options:")[0].split("Usage:")[1].split("\n", 1)[1]
        assert "--json" in shown.out


def test_help_loads_no_framework() -> None:
    program = (
        "import sys; from edgepatch import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print({'numpy', 'tensorflow', 'PIL'} & set(sys.modules) or 'light', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "light"


def test_a_bug_is_called_a_bug(edgepatch: Any, monkeypatch: pytest.MonkeyPatch, patches: list[Path]) -> None:
    from edgepatch import blob

    monkeypatch.setattr(blob, "parse", lambda *_: 1 / 0)
    outcome = edgepatch("inspect", patches[0], "--json")
    assert outcome.code == 1
    assert "bug" in outcome.document["error"]["mend"]
    assert "ZeroDivisionError" in outcome.err


def test_the_console_script_and_the_module_are_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "edgepatch", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("edgepatch, version ")


def test_what_is_not_ours_is_not_replaced_and_what_cannot_be_written_is_said_before_the_work(
    edgepatch: Any, tiny_file: Path, graphs: dict[str, Path], patches: list[Path], digits: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text('{"my": "notes"}')
    train = ("train", tiny_file, digits, "--out", tmp_path / "mine.epatch", "--json")
    bench = ("bench", graphs["tflite"], "--patch", patches[0], "--out", tmp_path / "mine", "--json")
    for call in (train, bench):
        refused = edgepatch(*call)
        assert (refused.code, "would be replaced" in refused.out) == (2, True)
    assert mine.read_text() == '{"my": "notes"}'
    (tmp_path / "file").write_text("a file")
    refused = edgepatch("train", tiny_file, digits, "--out", tmp_path / "file" / "x.epatch", "--json")
    assert (refused.code, "cannot be written" in refused.out) == (2, True)
    assert edgepatch("train", tiny_file, digits, "--epochs", 0, "--out", tmp_path / "x.epatch").code == 2
    assert edgepatch("bench", graphs["tflite"], "--patch", patches[0], "--out", mine).code == 2


def test_a_graph_in_the_place_of_a_patch_is_called_one(edgepatch: Any, graphs: dict[str, Path], picture: Path) -> None:
    for graph in graphs.values():
        refused = edgepatch("run", graph, "--patch", graph, picture, "--json")
        assert (refused.code, "a graph or another model" in refused.out) == (3, True)
