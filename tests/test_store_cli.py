"""`edgepatch store`: documents, messages, exit codes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from crashing import costs, script
from crashing.__main__ import main as crashing_main

pytestmark = pytest.mark.usefixtures("trusted")

SUBCOMMANDS = ("create", "install", "list", "remove", "activate", "rollback", "collect", "verify")


@pytest.fixture
def store(files: script.Files, tmp_path: Path, edgepatch: Any) -> Path:
    path = tmp_path / "store"
    assert edgepatch("store", "create", path, files["fp32"], files["bias1"]).code == 0
    return path


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_every_subcommand_has_help_with_an_example(edgepatch: Any, command: str) -> None:
    shown = edgepatch("store", command, "--help")
    assert shown.code == 0 and f"edgepatch store {command} STORE" in shown.out and "--json" in shown.out


def test_a_store_from_end_to_end(edgepatch: Any, store: Path, files: script.Files) -> None:
    done = edgepatch("store", "install", store, files["bias2"], files["mask1"], "--json")
    assert done.code == 0 and done.document == {
        "store": str(store),
        "outcomes": [
            {"what": "replaced", "task": "bias", "version": 2, "before": 1},
            {"what": "installed", "task": "mask", "version": 1, "before": None},
        ],
    }
    listed = edgepatch("store", "list", store, "--json").document
    assert listed["serial"] == 2 and listed["warning"] is None and listed["garbage"] == {"files": 0, "bytes": 0}
    assert [(row["task"], row["version"], row["previous"], row["newest"]) for row in listed["tasks"]] == [
        ("bias", 2, 1, 2),
        ("mask", 1, None, 1),
    ]
    assert Path(listed["graph"]["file"]).read_bytes() == files["fp32"].read_bytes()
    assert Path(listed["tasks"][0]["file"]).read_bytes() == files["bias2"].read_bytes()
    back = edgepatch("store", "rollback", store, "bias")
    assert (back.code, back.out) == (0, "bias: version 1 activated, was 2\n")
    assert edgepatch("store", "activate", store, "bias", "2", "--json").document["outcomes"][0]["version"] == 2
    assert edgepatch("store", "verify", store).out.splitlines()[3].startswith("task bias: ok, version 2, ")
    assert edgepatch("store", "remove", store, "mask").out == "mask: version 1 removed\n"
    shown = edgepatch("store", "list", store).out
    assert "mask  -        -         1       removed" in shown and "1 file of no use" in shown
    gone = edgepatch("store", "collect", store, "--json").document
    assert gone == {"store": str(store), "files": 1, "bytes": files["mask1"].stat().st_size}
    verified = edgepatch("store", "verify", store, "--json")
    assert verified.code == 0 and verified.document["ok"]
    assert [row["what"] for row in verified.document["files"]] == [
        "state",
        "previous state",
        "graph",
        "task bias",
        "previous of bias",
    ]


def test_the_same_file_again_is_said_to_be_there(edgepatch: Any, store: Path, files: script.Files) -> None:
    done = edgepatch("store", "install", store, files["bias1"], files["fp32"])
    assert done.code == 0 and done.out == "bias: version 1 is there already\nthe graph is there already\n"


def test_exit_codes_tell_what_is_wrong(edgepatch: Any, store: Path, files: script.Files, tmp_path: Path) -> None:
    (tmp_path / "bad.epatch").write_bytes(files["bias2"].read_bytes()[:-1])
    assert edgepatch("store", "install", store, tmp_path / "bad.epatch").code == 3
    assert edgepatch("store", "install", store, files["mobilenet_int81"]).code == 4
    assert edgepatch("store", "install", store, files["other"]).code == 4
    assert edgepatch("store", "install", store, tmp_path / "none").code == 2
    assert edgepatch("store", "install", store).code == 2
    assert edgepatch("store", "rollback", store, "bias").code == 2
    assert edgepatch("store", "list", tmp_path).code == 2
    assert edgepatch("store", "create", store, files["fp32"]).code == 2
    assert edgepatch("store", "install", store, files["bias3"]).code == 0
    older = edgepatch("store", "install", store, files["bias2"], "--json")
    assert older.code == 1 and "--force" in older.document["error"]["mend"]
    assert edgepatch("store", "install", store, files["bias2"], "--force").code == 0


def test_a_graph_of_another_backbone_goes_in_with_its_patches(edgepatch: Any, store: Path, files: script.Files) -> None:
    done = edgepatch("store", "install", store, files["other"], files["mobilenet_int81"], "--remove", "bias")
    assert done.code == 0 and "bias: version 1 removed" in done.out
    forgotten = edgepatch("store", "remove", store, "bias", "--forget")
    assert (forgotten.code, forgotten.out) == (0, "bias: removed before, its largest version forgotten\n")
    assert [row["task"] for row in edgepatch("store", "list", store, "--json").document["tasks"]] == ["mobilenet_int8"]


def test_a_damaged_store_is_told(edgepatch: Any, store: Path, files: script.Files) -> None:
    edgepatch("store", "install", store, files["bias2"])
    (store / "state.json").write_bytes(b"{")
    listed = edgepatch("store", "list", store)
    assert listed.code == 0 and listed.err.startswith("warning: ") and "state.json" in listed.err
    assert "state before it was taken" in edgepatch("store", "list", store, "--json").document["warning"]
    active = next((store / "objects").glob("*.epatch"))
    active.write_bytes(b"")
    verified = edgepatch("store", "verify", store, "--json")
    assert verified.code == 3 and not verified.document["ok"]
    assert next(row["what"] for row in verified.document["files"] if not row["ok"]) == "state"
    (store / "state.previous.json").write_bytes(b"{")
    refused = edgepatch("store", "list", store, "--json")
    assert refused.code == 3 and json.loads(refused.out)["error"]["mend"]


def test_a_lost_previous_version_is_mended_by_what_verify_advises(
    edgepatch: Any, store: Path, files: script.Files
) -> None:
    edgepatch("store", "install", store, files["bias2"])
    (store / "objects" / f"{hashlib.sha256(files['bias1'].read_bytes()).hexdigest()}.epatch").unlink()
    shown = edgepatch("store", "verify", store)
    assert shown.code == 3 and f"version 1, again: edgepatch store install {store} FILE" in shown.out
    mended = edgepatch("store", "install", store, files["bias1"])
    assert (mended.code, mended.out) == (0, "bias: version 1 mended, to roll back to; version 2 is active\n")
    assert edgepatch("store", "verify", store).code == 0


def test_create_says_of_a_damaged_store_what_list_says(edgepatch: Any, store: Path, files: script.Files) -> None:
    (store / "state.json").write_bytes(b"hello")
    listed, made = edgepatch("store", "list", store), edgepatch("store", "create", store, files["fp32"])
    assert listed.code == made.code == 3 and listed.err == made.err and f"mv {store} {store}.damaged" in made.err


def test_a_graph_and_a_patch_exchanged_are_told_to_be(edgepatch: Any, files: script.Files, tmp_path: Path) -> None:
    graph, patch = files["fp32"], files["bias1"]
    for command in (("verify",), ("store", "create", tmp_path / "made")):
        refused = edgepatch(*command, patch, graph, "--json")
        error = refused.document["error"]
        assert refused.code == 2 and error["file"] == str(patch) and error["expected"] == str(graph)
        assert error["mend"] == f"edgepatch {' '.join(map(str, command))} {graph} {patch}"
    assert edgepatch("verify", patch, files["bias2"]).code == 3


def test_verify_names_the_graph_of_another_backbone(edgepatch: Any, files: script.Files) -> None:
    refused = edgepatch("verify", files["fp32"], files["mobilenet_int81"])
    assert refused.code == 4 and f"{files['fp32']} is of another backbone. Export a graph" in refused.out


@pytest.mark.parametrize(("name", "words"), [("fp32", "on a .tflite in fp32"), ("onnx", "on an .onnx in fp32")])
def test_a_format_has_its_article(name: str, words: str, edgepatch: Any, files: script.Files, tmp_path: Path) -> None:
    assert words in edgepatch("store", "create", tmp_path / "made", files[name]).out


@pytest.mark.parametrize(("command", "option"), [("remove", "--forget"), ("install", "--force")])
def test_the_options_that_matter_have_an_example(command: str, option: str, edgepatch: Any) -> None:
    lines = edgepatch("store", command, "--help").out.splitlines()
    assert any(line.strip().startswith(f"edgepatch store {command}") and option in line for line in lines)


@pytest.mark.parametrize("main", [crashing_main, costs.main])
def test_the_long_forms_say_how_they_are_called(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code, words in ((["--help"], 0, "usage: python -m tests.crashing"), (["none"], 2, "error: ")):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        shown = capsys.readouterr()
        assert ended.value.code == code and words in shown.out + shown.err
