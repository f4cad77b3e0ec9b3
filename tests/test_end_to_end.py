"""The real backbone on real photographs, from the folder of images to the device runtime."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgepatch.demo import tasks

pytest.importorskip("elpv_dataset", reason="the [demo] extra is not installed")


def run(*arguments: object) -> Any:
    """An edgepatch command in a process of its own, as users run it."""
    call = [sys.executable, "-m", "edgepatch", *map(str, arguments), "--json"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of mono- and polycrystalline solar cells: 60 of each to train on, 30 to test on."""
    whole = tasks.prepare("solar-type", tmp_path_factory.mktemp("demo"))
    few = tmp_path_factory.mktemp("cells")
    for split, count in (("train", 60), ("test", 30)):
        for folder in sorted((whole / split).iterdir()):
            (few / split / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:count]:
                shutil.copy(path, few / split / folder.name)
    return few


def test_train_export_and_evaluate_on_the_real_backbone(cells: Path, tmp_path: Path, offline_weights: Path) -> None:
    backbone, patch = tmp_path / "mobilenet.backbone", tmp_path / "solar-type.epatch"
    run("backbone", "create", "mobilenet_v2", "--size", 96, "--weights", "imagenet", "--out", backbone)
    before = backbone.read_bytes()
    report = run("train", backbone, cells, "--patch", "scale_bias", "--epochs", 2, "--out", patch)
    assert backbone.read_bytes() == before
    assert report["accuracy"] >= report["head_accuracy"] > 0.9
    assert report["bytes"] < 100 * 1024
    found = {}
    for kind in ("tflite", "onnx"):
        graph = tmp_path / f"g.{kind}"
        exported = run("export", backbone, "--to", kind, "--patch", patch, "--out", graph)
        assert exported["parity"][0]["max_difference"] < 1e-3
        found[kind] = run("eval", graph, "--patch", patch, cells)
        assert (found[kind]["split"], found[kind]["images"]) == ("test", 60)
        assert found[kind]["accuracy"] > 0.9
    assert found["tflite"]["confusion"] == found["onnx"]["confusion"]


@pytest.mark.parametrize(
    ("data", "kinds", "figure", "least"),
    [
        ("detect/raccoon", "scale_bias+detector", "map50", 0.2),
        ("segment/coffee3", "scale_bias+segmenter", "miou", 0.5),
    ],
)
def test_detectors_and_segmenters_on_the_real_backbone(
    shared: Path, tmp_path: Path, offline_weights: Path, data: str, kinds: str, figure: str, least: float
) -> None:
    """Real photographs with real boxes and masks; boxes or masks of another place would not get there."""
    backbone, patch = tmp_path / "mobilenet.backbone", tmp_path / "task.epatch"
    run("backbone", "create", "mobilenet_v2", "--size", 96, "--weights", "imagenet", "--out", backbone)
    report = run("train", backbone, shared / data, "--patch", kinds, "--epochs", 3, "--codec", "int8", "--out", patch)
    assert report[figure] >= report[f"head_{figure}"] > 0
    found = []
    for kind in ("tflite", "onnx"):
        graph = tmp_path / f"g.{kind}"
        exported = run("export", backbone, "--to", kind, "--patch", patch, "--out", graph)
        assert exported["parity"][0]["max_difference"] < 1e-3
        for mode in ("bind", "bake") if kind == "tflite" else ("bake",):
            found.append(run("eval", graph, "--patch", patch, shared / data, "--mode", mode))
    assert {each["split"] for each in found} == {"test"}
    assert found[0][figure] > least
    assert all(each[figure] == pytest.approx(found[0][figure], abs=2e-3) for each in found)


def test_the_demos_folders_are_whole_and_their_splits_disjoint(tmp_path: Path) -> None:
    sizes = {"solar-defects": 2223, "solar-type": 2624, "digits": 1797}
    for name, count in sizes.items():
        data = tasks.prepare(name, tmp_path)
        split = {part: {path.name for path in (data / part).rglob("*.png")} for part in tasks.SHARES}
        assert sum(map(len, split.values())) == count
        assert not split["train"] & split["test"]
        assert not split["train"] & split["val"]
        assert not split["val"] & split["test"]
        classes = {part: sorted(path.name for path in (data / part).iterdir()) for part in split}
        assert classes["train"] == classes["val"] == classes["test"]
        assert tasks.prepare(name, tmp_path) == data


def test_the_demos_photographs_are_there() -> None:
    assert {path.stem for path in tasks.photographs()} == {"china", "flower"}
