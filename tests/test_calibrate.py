"""edgepatch calibrate: a patch gets its activation ranges, and nothing else happens to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_patch, pictures
from PIL import Image

from edgepatch import Runtime, blob
from edgepatch.backbones import weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.data import folder
from edgepatch.training import calibration


@pytest.fixture
def calibrate(edgepatch: Any, tiny_file: Path) -> Any:
    """Runs `edgepatch calibrate` on the tiny backbone."""

    def call(data: Path, *arguments: object, backbone: Path = tiny_file) -> Any:
        return edgepatch("calibrate", backbone, data, *arguments, "--json")

    return call


@pytest.fixture
def patch(patches: list[Path], tmp_path: Path) -> Path:
    """An uncalibrated patch of the tiny backbone."""
    (tmp_path / "task.epatch").write_bytes(patches[0].read_bytes())
    return tmp_path / "task.epatch"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of pictures without classes."""
    (tmp_path / "images").mkdir()
    for number, picture in enumerate(pictures(6)):
        Image.fromarray(picture).save(tmp_path / "images" / f"{number}.png")
    return tmp_path / "images"


def test_a_calibrated_patch_runs_on_an_int8_graph_and_is_otherwise_the_same(
    calibrate: Any, every_graph: dict[tuple[str, str], Path], patch: Path, images: Path
) -> None:
    before = blob.read(patch)
    done = calibrate(images, "--patch", patch)
    assert (done.code, done.document["images"], done.document["skipped"]) == (0, 6, [])
    after = blob.read(patch)
    assert (after.version, done.document["version"]) == (before.version + 1,) * 2
    assert after.ranges is not None
    assert len(after.ranges) == done.document["ranges"]
    assert after.statistics is not None
    same = dataclasses.replace(after, ranges=None, statistics=None, version=before.version)
    assert blob.dump(same) == blob.dump(before)
    for kind in ("tflite", "onnx"):
        with Runtime(every_graph[kind, "int8"]) as runtime:
            runtime.load(patch)
            assert np.isfinite(runtime.predict(pictures(1)[0]).logits).all()


def test_ranges_hold_the_values_of_the_images_and_nothing_beyond(calibrate: Any, patch: Path, images: Path) -> None:
    assert calibrate(images, "--patch", patch).code == 0
    read = blob.read(patch)
    seen = read.input.normalise(np.stack([np.asarray(Image.open(path)) for path in images.iterdir()]))
    assert read.ranges is not None
    low, high = read.ranges[0]
    assert seen.min() - 0.2 <= low < high <= seen.max() + 0.2  # resizing mixes neighbours


def test_any_folder_of_images_will_do(calibrate: Any, patch: Path, images: Path, digits: Path, tmp_path: Path) -> None:
    split = tmp_path / "split"
    for name in ("train", "val"):
        (split / name / "0").mkdir(parents=True)
    for number, path in enumerate(sorted((digits / "0").iterdir())[:7]):
        (split / ("train" if number < 4 else "val") / "0" / path.name).write_bytes(path.read_bytes())
    for data, count in ((images, 6), (digits, 72), (split, 4), (split / "val" / "0", 3)):
        done = calibrate(data, "--patch", patch, "--out", tmp_path / "out.epatch")
        assert (done.code, done.document["images"]) == (0, count), done.document


def test_elsewhere_the_patch_stays_and_versions_still_grow(
    calibrate: Any, patch: Path, images: Path, tmp_path: Path
) -> None:
    before, out = patch.read_bytes(), tmp_path / "out.epatch"
    for version in (2, 3):
        assert calibrate(images, "--patch", patch, "--out", out).document["version"] == version
    assert patch.read_bytes() == before
    assert calibrate(images, "--patch", patch, "--out", tmp_path / "again.epatch", "--seed", 0).code == 0
    first, again = (dataclasses.replace(blob.read(path), version=1) for path in (out, tmp_path / "again.epatch"))
    assert blob.dump(first) == blob.dump(again)


def test_unreadable_pictures_are_skipped_and_named(calibrate: Any, patch: Path, images: Path) -> None:
    (images / "broken.jpg").write_bytes(b"no picture")
    done = calibrate(images, "--patch", patch)
    assert (done.code, done.document["images"], len(done.document["skipped"])) == (0, 6, 1)
    assert "broken.jpg" in done.err
    for path in images.glob("*.png"):
        path.write_bytes(b"no picture")
    assert calibrate(images, "--patch", patch).code == 3


def test_what_cannot_be_calibrated_is_left_as_it_was(
    calibrate: Any, patch: Path, images: Path, tiny_file: Path, tmp_path: Path
) -> None:
    other = weights.create("mobilenet_v2", alpha=0.1, size=32, source="random", seed=9)
    blob.write(make_patch(other, 0, 3), tmp_path / "other.epatch")
    (tmp_path / "broken.epatch").write_bytes(patch.read_bytes()[:-1])
    (tmp_path / "empty").mkdir()
    before = {path: path.read_bytes() for path in [*tmp_path.glob("*.epatch"), tiny_file]}
    cases = [
        (4, images, tmp_path / "other.epatch", ()),
        (3, images, tmp_path / "broken.epatch", ()),
        (2, tmp_path / "empty", patch, ()),
        (2, tmp_path / "absent", patch, ()),
        (2, images, patch, ("--out", tiny_file)),
        (2, images, patch, ("--seed", -1)),
        (3, images, tiny_file, ()),
    ]
    for code, data, file, more in cases:
        done = calibrate(data, "--patch", file, *more)
        assert (done.code, done.document["error"]["code"]) == (code, code), done.document
    assert calibrate(images, "--patch", patch, backbone=patch).code == 3
    assert {path: path.read_bytes() for path in before} == before


def test_many_images_are_sampled_by_the_seed(digits: Path) -> None:
    found = folder.anything(digits)
    chosen = [folder.sample(found, 10, seed=seed).paths for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert list(chosen[0]) == sorted(chosen[0])
    assert folder.sample(found, 1000, seed=0).paths == found.paths


def test_a_task_that_skips_every_block_is_calibrated(tiny: Backbone) -> None:
    """No sum is left then, and TensorFlow's calibrator refuses a model that lists an operator it has not."""
    patch = make_patch(tiny, 0, 3, kinds="policy")
    every = {**patch.tensors, "skip": np.ones(len(tiny.plan.residuals), np.uint8)}
    patch = dataclasses.replace(patch, tensors=every)
    ranges = calibration.calibrate(tiny, patch, np.stack(pictures(4, size=32)))
    joins = [residual.join + 1 for residual in tiny.plan.residuals]
    assert not ranges[joins].any()
    assert ranges[-1, 0] < ranges[-1, 1]
