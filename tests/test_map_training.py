"""Detectors and segmenters, from data to answers: trained, written, run on a device; and their parts."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import Killing
from edgepatch.converters import parity, tflite
from PIL import Image

from edgepatch import blob, boxes, patches
from edgepatch.backbones import backbone
from edgepatch.backbones.backbone import Backbone
from edgepatch.codec import CODECS
from edgepatch.data import box_augmentation
from edgepatch.errors import BadFileError, UsageError
from edgepatch.patches import detector, segmenter
from edgepatch.patches.map_head import Examples
from edgepatch.progress import Quiet
from edgepatch.runtime import Runtime
from edgepatch.training import map_training, trainer
from edgepatch.training.recipe import Recipe

SIZE = 64
RECIPE = Recipe(epochs=2, batch=8)


def squares(folder: Path, count: int, seed: int) -> None:
    """Grey noise with one to three bright squares each, red or blue, as COCO JSON and as masks."""
    rng = np.random.default_rng(seed)
    images, found = [], []
    (folder / "train").mkdir(parents=True)
    for number in range(count):
        pixels = rng.integers(90, 130, (60, 80, 3)).astype(np.uint8)
        mask = np.zeros((60, 80), np.uint8)
        for _ in range(rng.integers(1, 4)):
            side, label = int(rng.integers(14, 30)), int(rng.integers(2))
            x, y = int(rng.integers(0, 80 - side)), int(rng.integers(0, 60 - side))
            pixels[y : y + side, x : x + side] = [(230, 40, 40), (40, 40, 230)][label]
            mask[y : y + side, x : x + side] = 1 + label
            row = {"id": len(found) + 1, "image_id": number, "category_id": 5 * label + 1}
            found.append({**row, "bbox": [x, y, side, side], "area": side * side, "iscrowd": 0})
        name = f"{number:03}"
        Image.fromarray(pixels).save(folder / "train" / f"{name}.jpg", quality=95)
        Image.fromarray(mask).save(folder / "train" / f"{name}.png")
        images.append({"id": number, "file_name": f"{name}.jpg", "width": 80, "height": 60})
    categories = [{"id": 1, "name": "red"}, {"id": 6, "name": "blue"}]
    text = json.dumps({"images": images, "annotations": found, "categories": categories})
    (folder / "train.json").write_text(text)
    (folder / "classes.json").write_text(json.dumps({"classes": ["nothing", "red", "blue"]}))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    squares(folder, 40, 0)
    return folder


@pytest.fixture(scope="module")
def graph(shallow: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "shallow.tflite"
    path.write_bytes(tflite.export(shallow))
    return path


@pytest.mark.parametrize(("kind", "figure"), [("detector", "map50"), ("segmenter", "miou")])
def test_a_head_on_maps_is_trained_written_reported_and_run(
    shallow: Backbone, data: Path, graph: Path, tmp_path: Path, edgepatch: Any, kind: str, figure: str
) -> None:
    out = tmp_path / "squares.epatch"
    result = trainer.train(shallow.at(SIZE), data, f"scale_bias+{kind}", out, recipe=RECIPE, reporter=Quiet())
    patch = blob.read(out)
    assert patch.kind == f"scale_bias+{kind}"
    assert patch.input.size == SIZE
    assert 0 <= result.report[f"head_{figure}"] <= result.report[figure] <= 1
    assert len(result.report["history"]) == result.report["epochs"] == 3
    for name in ("squares.json", "squares.png"):
        assert (tmp_path / name).stat().st_size > 100
    assert not list(tmp_path.glob("*.resume"))
    assert set(json.loads((tmp_path / "squares.json").read_text())["dropped"]) == {"train", "val"}
    evaluated = edgepatch(
        "eval", graph, "--patch", out, data / ("train.json" if kind == "detector" else "train"), "--json"
    )
    assert evaluated.code == 0, evaluated.err
    assert 0 <= evaluated.document[figure] <= 1
    assert evaluated.document["images"] == 40
    picture = next((data / "train").glob("*.jpg"))
    ran = edgepatch("run", graph, "--patch", out, picture, "--draw", tmp_path / "drawn", "--json")
    assert ran.code == 0, ran.err
    with Image.open(tmp_path / "drawn" / f"{picture.stem}.squares.png") as drawn:
        assert drawn.size == (640, 480)


def test_a_killed_training_of_a_detector_goes_on(shallow: Backbone, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "squares.epatch"
    with pytest.raises(KeyboardInterrupt):
        trainer.train(shallow.at(SIZE), data, "bias+detector", out, recipe=RECIPE, reporter=Killing("epoch 2/2, all"))
    assert not out.exists()
    resumed = trainer.train(
        shallow.at(SIZE), data, "bias+detector", out, recipe=RECIPE, reporter=Killing("epoch 1/1, head")
    )
    assert resumed.report["epochs"] == 3


def test_what_keras_trained_is_what_the_device_computes(
    shallow: Backbone, data: Path, graph: Path, tmp_path: Path
) -> None:
    out = tmp_path / "squares.epatch"
    result = trainer.train(shallow.at(SIZE), data, "scale_bias+segmenter", out, recipe=RECIPE, reporter=Quiet())
    kind = patches.kinds()["segmenter"]
    assert isinstance(kind, segmenter.Segmenter)
    _, val, labels = kind.splits(data, None, RECIPE.seed)
    examples = kind.read(val, result.patch.input, Quiet())
    with Runtime(graph) as runtime:
        runtime.load(out)
        found = [runtime._run(runtime._find("squares"), result.patch.input(pixels)) for pixels in examples.pixels]
    outputs = [np.concatenate([next(iter(each.values())) for each in found])]
    assert kind.measure(outputs, examples, labels)["miou"] == pytest.approx(result.patch.metrics["miou"], abs=0.01)


def test_each_box_has_an_anchor_and_ignored_ones_ask_for_nothing() -> None:
    anchors = boxes.spread(2)
    all_anchors = anchors.boxes([8, 4])
    truth = np.array([[0.1, 0.1, 0.12, 0.12], [0.3, 0.3, 0.9, 0.9], [0.0, 0.62, 0.2, 0.82]], np.float32)
    ignored = np.array([False, False, True])
    found = detector.targets(truth, np.array([0, 1, 1]), ignored, all_anchors, anchors)
    assert (
        found[:, 4] == 1
    ).sum() == 1  # of the box that is far smaller than any anchor: none else overlaps it by much
    assert (found[:, 4] == 2).sum() >= 1
    own = found[:, 4] == 2
    back = boxes.decode(found[own, :4], all_anchors[own], anchors.variances)
    np.testing.assert_allclose(back, np.repeat(truth[1:2], own.sum(), axis=0), atol=1e-5)
    over = boxes.overlaps(all_anchors, truth[2:])[:, 0] >= detector.MISS
    assert over.any() and (found[over, 4] == -1).all()


def test_a_small_box_between_anchors_gets_several() -> None:
    anchors = boxes.spread(2)
    all_anchors = anchors.boxes([8, 4])
    box = np.array([[0.44, 0.44, 0.56, 0.56]], np.float32)  # no anchor overlaps it by half
    assert boxes.overlaps(all_anchors, box).max() < detector.MATCH
    found = detector.targets(box, np.array([0]), np.array([False]), all_anchors, anchors)
    own = found[:, 4] == 1
    assert own.sum() == detector.COMPENSATED
    assert (boxes.overlaps(all_anchors[own], box) >= detector.LEAST).all()


def test_anchors_are_as_small_as_the_boxes_that_are_trained_on() -> None:
    def examples(side: float) -> Examples:
        box = np.array([[0.5, 0.5, 0.5 + side, 0.5 + side]], np.float32)
        return Examples(np.zeros((3, 8, 8, 3), np.uint8), [(box, np.array([0]), np.array([False]))] * 3)

    def smallest(kind: Any) -> float:
        return min(width * height for each in kind.anchors.shapes for width, height in each) ** 0.5

    assert detector.KIND.fitted(examples(0.5)).anchors == detector.KIND.anchors
    assert smallest(detector.KIND) == pytest.approx(boxes.SMALLEST)
    fitted = detector.KIND.fitted(examples(0.06))
    assert smallest(fitted) == pytest.approx(0.06)
    assert fitted.anchors.counts[1:] == detector.KIND.anchors.counts[1:]
    assert len(fitted.network(backbone.make_plan("mobilenet_v2", 0.1, "same", 1e-3), 2).outputs) == 12


def test_the_better_of_two_that_overlap_stays_and_the_rest_of_each_class() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        corners, scores = rng.uniform(0, 0.7, (60, 2)), rng.random(60)
        found = np.concatenate([corners, corners + rng.uniform(0.05, 0.3, (60, 2))], axis=1).astype(np.float32)
        kept = boxes.suppress(found, scores, 0.4, 60)
        assert (np.diff(scores[kept]) <= 0).all()
        among = boxes.overlaps(found[kept], found[kept])
        assert (among[~np.eye(len(kept), dtype=bool)] <= 0.4).all()
        gone = np.setdiff1d(np.arange(60), kept)
        over = boxes.overlaps(found[gone], found[kept]) > 0.4
        assert (over & (scores[kept][None] >= scores[gone][:, None])).any(axis=1).all()
        assert boxes.suppress(found, scores, 0.4, 3).tolist() == kept[:3].tolist()


def test_overlap_is_intersection_over_union() -> None:
    first = np.array([[0, 0, 2, 2], [0, 0, 1, 1]], np.float32)
    second = np.array([[1, 1, 3, 3], [5, 5, 6, 6], [0, 0, 1, 1], [1, 1, 1, 1]], np.float32)
    np.testing.assert_allclose(boxes.overlaps(first, second), [[1 / 7, 0, 1 / 4, 0], [0, 0, 1, 0]])


def test_the_small_codec_halves_a_detector_and_answers_alike(shallow: Backbone, data: Path, tmp_path: Path) -> None:
    kind = patches.kinds()["detector"]
    assert isinstance(kind, detector.Detector)
    work = map_training.prepare(shallow.at(SIZE), data, kind, tmp_path / "squares.epatch", RECIPE, Quiet())
    trained = map_training.fit(work, patches.parse("scale_bias")[0], tmp_path / "squares.resume")
    found = {name: map_training.write(work, trained, tmp_path / f"{name}.epatch", name, 0.0) for name in CODECS}
    assert (tmp_path / "int8.epatch").stat().st_size < 0.65 * (tmp_path / "fp16.epatch").stat().st_size
    images = work.preprocessing.normalise(work.val.pixels[:4])
    small, large = (parity.keras_outputs(shallow, found[name].patch, images) for name in ("int8", "fp16"))
    for name, value in large.items():
        assert np.abs(small[name] - value).max() < 0.1 * max(1.0, np.abs(value).max())


@pytest.mark.parametrize(
    ("kinds", "options", "field"),
    [
        ("policy+detector", {}, "--patch"),
        ("scale_bias+detector", {"resize": "crop"}, "--resize"),
        ("scale_bias+segmenter", {"recipe": Recipe(stats="adapt")}, "--stats"),
    ],
)
def test_what_a_head_on_maps_cannot_have_is_refused_before_a_picture_is_read(
    shallow: Backbone, tmp_path: Path, kinds: str, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(UsageError) as caught:
        trainer.train(shallow, tmp_path / "absent", kinds, tmp_path / "x.epatch", reporter=Quiet(), **options)
    assert caught.value.details["field"] == field


def test_a_size_search_and_a_joint_training_refuse_a_head_on_maps(
    shallow: Backbone, data: Path, tmp_path: Path, edgepatch: Any
) -> None:
    backbone.write(shallow, tmp_path / "shallow.backbone")
    out = tmp_path / "x.epatch"
    searched = edgepatch(
        "train", tmp_path / "shallow.backbone", data, "--patch", "detector", "--budget", "64KB", "--out", out
    )
    assert searched.code == 2
    assert "only `train`" in searched.err
    tasks = tmp_path / "tasks.toml"
    entry = f'[[task]]\nname = "{{}}"\ndata = "{data}"\npatch = "scale_bias+detector"\n'
    tasks.write_text('backbone = "shallow.backbone"\nout = "out"\n' + entry.format("one") + entry.format("two"))
    joined = edgepatch("train-many", tasks, "--joint")
    assert joined.code == 2
    assert "only `train`" in joined.err
    assert not out.exists()


def test_many_tasks_may_have_detectors_among_them(
    shallow: Backbone, data: Path, tmp_path: Path, edgepatch: Any
) -> None:
    backbone.write(shallow.at(SIZE), tmp_path / "shallow.backbone")
    tasks = tmp_path / "tasks.toml"
    text = 'backbone = "shallow.backbone"\nout = "out"\n[defaults]\nepochs = 1\n[[task]]\nname = "find"\n'
    text += f'data = "{data}"\n'
    tasks.write_text(text + 'patch = "scale_bias+detector"\n')
    done = edgepatch("train-many", tasks, "--jobs", 1, "--json")
    assert done.code == 0, done.err
    (task,) = done.document["tasks"]
    assert task["state"] == "done"
    assert 0 <= task["accuracy"] <= 1
    assert blob.read(tmp_path / "out" / "find.epatch").decode["head"] == "detector"
    tasks.write_text(text + 'patch = "policy+detector"\n')
    refused = edgepatch("train-many", tasks)
    assert refused.code == 2
    assert "needs every block" in refused.err


def test_nothing_to_evaluate_on_is_a_bad_file_and_no_nan(
    shallow: Backbone, data: Path, graph: Path, tmp_path: Path, edgepatch: Any
) -> None:
    shutil.copytree(data / "train", tmp_path / "train")
    document = json.loads((data / "train.json").read_text()) | {"annotations": []}
    (tmp_path / "train.json").write_text(json.dumps(document))
    shutil.copy(data / "classes.json", tmp_path)
    for mask in (tmp_path / "train").glob("*.png"):
        Image.fromarray(np.full((60, 80), 255, np.uint8)).save(mask)
    for kind, place in (("detector", "train.json"), ("segmenter", "train")):
        out = tmp_path / f"{kind}.epatch"
        recipe = dataclasses.replace(RECIPE, epochs=1)
        trainer.train(shallow.at(SIZE), data, kind, out, recipe=recipe, reporter=Quiet())
        evaluated = edgepatch("eval", graph, "--patch", out, tmp_path / place, "--json")
        assert evaluated.code == 3
        assert "to evaluate on" in evaluated.document["error"]["message"]
        with pytest.raises(BadFileError, match=r"has no (box|pixel)"):
            trainer.train(shallow.at(SIZE), tmp_path, kind, tmp_path / "x.epatch", recipe=recipe, reporter=Quiet())
    assert not (tmp_path / "x.epatch").exists()


def test_the_loss_falls_where_answers_are_right_and_asks_nothing_of_ignored_anchors() -> None:
    truth = np.zeros((1, 6, 5), np.float32)
    truth[0, 0, 4], truth[0, 1, 4] = 1, -1
    wrong = np.zeros((1, 6, 4 + 2), np.float32)
    right = wrong.copy()
    right[0, :, 4], right[0, 0, 4], right[0, 0, 5] = 5, 0, 5
    ignoring = right.copy()
    ignoring[0, 1] = 9  # of the anchor that nothing is asked of
    losses = [float(np.asarray(detector.multibox(truth, each))[0]) for each in (wrong, right, ignoring)]
    assert losses[0] > 10 * losses[1]
    assert losses[1] == pytest.approx(losses[2])


def test_pixels_without_a_class_count_for_nothing() -> None:
    truth = np.array([[[0, 255], [1, 255]]], np.float32)
    answer = np.random.default_rng(0).normal(size=(1, 2, 2, 3)).astype(np.float32)
    other = answer.copy()
    other[0, :, 1] = 7
    losses = [np.asarray(segmenter.cross_entropy(truth, keras.ops.convert_to_tensor(each))) for each in (answer, other)]
    np.testing.assert_allclose(losses[0], losses[1])


def test_boxes_move_with_their_picture() -> None:
    pixels = np.full((64, 64, 3), 20, np.uint8)
    pixels[16:32, 8:40] = 240
    box = np.array([[8 / 64, 16 / 64, 40 / 64, 32 / 64]], np.float32)
    seen = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        image, moved, labels, ignored = box_augmentation.change(pixels, box, np.array([1]), np.array([False]), rng)
        assert image.shape == (64, 64, 3)
        assert len(moved) == len(labels) == len(ignored)
        for x0, y0, x1, y1 in moved:
            rows, columns = slice(round(64 * y0), round(64 * y1)), slice(round(64 * x0), round(64 * x1))
            inside = image[rows, columns]
            if inside.size:
                bright = image.mean(axis=2) > (image.min() + 3 * image.max()) / 4
                assert bright[rows, columns].mean() > 0.8
                assert bright.sum() <= 1.6 * inside.shape[0] * inside.shape[1] + 64
                seen += 1
    assert seen > 25


@pytest.mark.parametrize("seed", range(8))
def test_without_flips_left_stays_left(seed: int) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32] = 200
    box, mask = np.array([[0, 0, 0.5, 1]], np.float32), np.ones((64, 64), np.uint8)
    mask[:, 32:] = 0
    rng = np.random.default_rng(seed)
    image, *_ = box_augmentation.change(pixels, box, np.array([0]), np.array([False]), rng, flips=False)
    other, moved = box_augmentation.cropped(pixels, mask, 0.6, rng, flips=False)
    for each in (image, other):
        columns = each.mean(axis=(0, 2))
        assert columns[:20].mean() >= columns[-20:].mean()
    assert moved[:, :10].mean() >= moved[:, -10:].mean()


def test_a_trunk_without_such_maps_is_told(shallow: Backbone) -> None:
    plan = dataclasses.replace(shallow.plan, nodes=shallow.plan.nodes[:3])
    with pytest.raises(Exception, match="no map of stride"):
        detector.KIND.network(plan, 2)
