"""Training: what it promises of every patch, on a narrow net and real digits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import Killing
from PIL import Image

from edgepatch import blob, metrics, patches
from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.data import folder, pictures
from edgepatch.errors import BadFileError, EdgepatchError, UsageError
from edgepatch.patches import Change, Options
from edgepatch.patches.affine import FORMS
from edgepatch.patches.scale_bias import ScaleBias
from edgepatch.progress import Quiet
from edgepatch.training import checkpoints, head, joint, pipeline, trainer
from edgepatch.training import task as tasks
from edgepatch.training.pipeline import Augmentation
from edgepatch.training.recipe import Recipe

FAST = Recipe(epochs=2, batch=16)


class Listening(Quiet):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize("form", FORMS)
def test_at_the_start_a_patch_is_the_backbone(tiny: Backbone, form: str) -> None:
    change = Change(tiny, [ScaleBias()], Options(form))
    model = network.build(change)
    image = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    own = network.deployment_form(tiny)
    # another kernel, which rounds in another order, 52 times
    np.testing.assert_allclose(np.asarray(model(image)), np.asarray(own(image)), atol=1e-4)
    assert {variable.name for variable in model.trainable_variables} == {"d", "c"}
    for name, value in change.tensors().items():
        np.testing.assert_allclose(value, tiny.defaults()[name], atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_deployed_computes_what_was_trained(tiny: Backbone, form: str) -> None:
    change = Change(tiny, [ScaleBias()], Options(form))
    model = network.build(change)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.05, variable.shape))
    image = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    deployed = network.deployment_form(tiny, change.tensors())
    np.testing.assert_allclose(np.asarray(model(image)), np.asarray(deployed(image)), atol=2e-4)


def test_gamma_beta_trains_batch_norms_own_gamma_and_beta(tiny: Backbone) -> None:
    """One step of d and c is one step of gamma and beta of Keras' BatchNormalization."""
    changed = network.build(Change(tiny, [ScaleBias()], Options("gamma_beta")))
    changed.trainable_variables[0].assign(np.full(sum(tiny.plan.channels), 0.1))
    changed.trainable_variables[1].assign(np.full(sum(tiny.plan.channels), 0.2))
    normed = network.training_form(tiny)
    for site in tiny.plan.sites:
        gamma, beta, mean, variance = normed.get_layer(f"{site.name}_BN").get_weights()
        normed.get_layer(f"{site.name}_BN").set_weights([gamma + 0.1, beta + 0.2, mean, variance])
    image = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    got, expected = np.asarray(changed(image)), np.asarray(normed(image, training=False))
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_a_patch_is_trained_written_and_reported(gated: Backbone, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "digits.epatch"
    result = trainer.train(gated, digits, "scale_bias", out, recipe=FAST, licence="CC-BY-4.0", reporter=Quiet())
    patch = blob.read(out)
    assert (patch.task, patch.labels, patch.kind) == ("digits", ("0", "1", "7"), "scale_bias+classifier")
    assert (patch.backbone_id, patch.licence, patch.version) == (gated.id, "CC-BY-4.0", 1)
    assert patch.tensors["scale"].shape == (sum(gated.plan.channels),)
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["bytes"] == out.stat().st_size
    assert report["accuracy"] >= report["head_accuracy"] > 0.6, "three digits are easy even for random features"
    assert len(report["history"]) == report["epochs"] == 2
    assert np.sum(report["confusion"]) == report["val_images"] == 15
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.size == (1200, 500)
    assert not out.with_suffix(".resume").exists()
    assert result.head_alone.tensors["head_kernel"].shape == (40, 3)


def test_the_accuracy_reported_is_that_of_the_file(gated: Backbone, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.epatch"
    report = trainer.train(gated, digits, "scale_bias", out, recipe=FAST, reporter=Quiet()).report
    patch = blob.read(out)
    images = pictures.load(folder.training_splits(digits, seed=0)[1], patch.input, Quiet())
    values = gated.values(patch)
    features = head.predict(network.deployment_form(gated, values), images.pixels, patch.input)
    logits = features @ values["head_kernel"] + values["head_bias"]
    assert metrics.accuracy(logits, images.labels) == report["accuracy"]


def test_training_anew_raises_the_version(gated: Backbone, digits: Path, tmp_path: Path) -> None:
    for expected in (1, 2):
        result = trainer.train(gated, digits, "classifier", tmp_path / "a.epatch", recipe=FAST, reporter=Quiet())
        assert result.patch.version == expected
    assert list(result.patch.kinds) == ["classifier"]


def test_a_killed_run_goes_on_where_it_stopped(gated: Backbone, digits: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(FAST, epochs=4)
    out = tmp_path / "a.epatch"
    with pytest.raises(KeyboardInterrupt):
        trainer.train(gated, digits, "scale_bias", out, recipe=recipe, reporter=Killing("epoch 3"))
    assert not out.exists()
    assert out.with_suffix(".resume").exists()
    listening = Listening()
    resumed = trainer.train(gated, digits, "scale_bias", out, recipe=recipe, reporter=listening)
    assert any("going on after epoch 2 of 4" in line for line in listening.said)
    whole = trainer.train(gated, digits, "scale_bias", tmp_path / "b.epatch", recipe=recipe, reporter=Quiet())
    first, second = resumed.report["history"], whole.report["history"]
    np.testing.assert_allclose(
        [entry["val_loss"] for entry in first], [entry["val_loss"] for entry in second], rtol=1e-3
    )


@pytest.mark.parametrize("damage", [b"PK\x03\x04 not an archive", None])
def test_a_checkpoint_of_other_work_or_a_damaged_one_is_ignored(
    gated: Backbone, digits: Path, tmp_path: Path, damage: bytes | None
) -> None:
    out = tmp_path / "a.epatch"
    with pytest.raises(KeyboardInterrupt):
        trainer.train(gated, digits, "scale_bias", out, recipe=FAST, reporter=Killing("epoch 2"))
    if damage is not None:
        out.with_suffix(".resume").write_bytes(damage)
    listening = Listening()
    recipe = FAST if damage is not None else dataclasses.replace(FAST, seed=5)
    trainer.train(gated, digits, "scale_bias", out, recipe=recipe, reporter=listening)
    assert not any("going on" in line for line in listening.said)


def test_part_of_the_way_back_is_gone_where_validation_is_better_there() -> None:
    weight = keras.Variable([0.0])

    def look() -> tuple[float, float]:
        return 1.0, -abs(float(weight[0]) - 2.2)

    state = checkpoints.State(best=(1.0, -1.8), best_weights=[np.array([4.0], np.float32)])
    assert joint.step_back([weight], [np.array([0.0], np.float32)], state, look) == 0.5
    assert float(weight[0]) == 2.0
    state.best = (1.0, -0.1)
    assert joint.step_back([weight], [np.array([0.0], np.float32)], state, look) == 1.0
    assert float(weight[0]) == 4.0


def test_a_patch_that_is_worse_than_its_head_is_not_kept(
    gated: Backbone, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruin(model: keras.Model, *_: object, **__: object) -> checkpoints.State:
        for variable in model.trainable_variables:
            variable.assign(np.full(variable.shape, -3.0))
        return checkpoints.State(epoch=1, history=[{"loss": 9, "accuracy": 0, "val_loss": 9, "val_accuracy": 0}])

    monkeypatch.setattr(joint, "fit", ruin)
    listening = Listening()
    result = trainer.train(gated, digits, "scale_bias", tmp_path / "a.epatch", recipe=FAST, reporter=listening)
    assert result.report["fell_back_to_head"]
    assert result.report["accuracy"] == result.report["head_accuracy"]
    assert any("the head alone is kept" in line for line in listening.said)
    np.testing.assert_array_equal(result.patch.tensors["scale"], gated.defaults()["scale"].astype(np.float16))


def test_a_thawed_kernel_is_found_out(tiny: Backbone) -> None:
    model = network.build(Change(tiny, [ScaleBias()]))
    trainer.prove_frozen(model, tiny)
    kernel = model.get_layer("block_5_project").kernel
    kernel.assign(np.asarray(kernel) * np.float32(1 + 1e-6))
    with pytest.raises(EdgepatchError, match="changed the backbone's kernels"):
        trainer.prove_frozen(model, tiny)


def test_adapted_statistics_are_those_of_the_images(tiny: Backbone, digits: Path) -> None:
    images = pictures.load(folder.scan(digits), tiny.input, Quiet())
    adapted = tasks.adapt(tiny, images, tiny.input, Recipe(), Quiet())
    assert (
        network.training_form(adapted).get_layer("Conv1").get_weights()[0].tobytes()
        == tiny.tensors["Conv1/kernel"].astype(np.float32).tobytes()
    )
    inputs = tiny.input.normalise(images.pixels[np.sort(np.random.default_rng([0, 0xADA]).permutation(72)[:64])])
    model = network.training_form(tiny)
    seen = keras.Model(model.input, model.get_layer("Conv1").output)(inputs)
    np.testing.assert_allclose(adapted.tensors["Conv1/mean"], np.mean(seen, axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(adapted.tensors["Conv1/variance"], np.var(seen, axis=(0, 1, 2)), rtol=1e-2, atol=1e-4)


def test_a_patch_with_adapted_statistics_is_of_the_same_backbone(gated: Backbone, digits: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(FAST, stats="adapt", epochs=1)
    result = trainer.train(gated, digits, "scale_bias", tmp_path / "a.epatch", recipe=recipe, reporter=Quiet())
    assert result.patch.backbone_id == gated.id
    frozen = gated.defaults()["scale"].astype(np.float16)
    normalised = np.repeat([site.normalised for site in gated.plan.sites], gated.plan.channels)
    assert np.mean((result.patch.tensors["scale"] != frozen)[normalised]) > 0.9


def test_the_head_solves_what_a_line_can_separate() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    features = (np.eye(3)[labels] * 4 + rng.normal(size=(300, 3))).astype(np.float32) * [1, 3, 0.5] + [0, 50, 9]
    found = head.fit(features[:200], labels[:200], features[200:], labels[200:], np.ones(3, np.float32), 0)
    assert metrics.accuracy(found.val_logits, labels[200:]) > 0.95
    np.testing.assert_allclose(found.logits(features[200:]), found.val_logits, rtol=1e-2, atol=1e-2)


def test_harmless_mirrors_are_told_from_harmful_ones(tiny: Backbone, tmp_path: Path) -> None:
    """Pictures bright on the left or on the right: upside down is harmless, mirrored is the other class."""
    rng = np.random.default_rng(0)
    for name, columns in (("left", slice(0, 16)), ("right", slice(16, 32))):
        (tmp_path / "sides" / name).mkdir(parents=True)
        for index in range(40):
            pixels = rng.integers(0, 60, (32, 32, 3), np.uint8)
            pixels[:, columns] += 180
            Image.fromarray(pixels).save(tmp_path / "sides" / name / f"{index}.png")
    train, val = (
        pictures.load(files, tiny.input, Quiet()) for files in folder.training_splits(tmp_path / "sides", seed=0)
    )

    class Columns:
        """A trunk that sees which columns are bright."""

        def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
            return images.mean(axis=(1, 3))

    features = [head.predict(Columns(), part.pixels, tiny.input) for part in (train, val)]
    found = head.fit(features[0], train.labels, features[1], val.labels, np.ones(2, np.float32), 0)
    mirrors = head.harmless_mirrors(Columns(), found, val, tiny.input)
    assert mirrors == {"mirror": False, "flip": True, "transpose": False}


@pytest.mark.parametrize("name", ["mirror", "flip", "transpose"])
def test_augmentation_mirrors_about_half_and_only_what_it_may(name: str) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (1, 8, 8, 3)).astype(np.float32)
    images = tf.constant(np.repeat(image, 200, axis=0))
    changed = pipeline.augment(images, Augmentation(**{name: True}), seed=(1, tf.constant(2))).numpy()
    turned = {"mirror": image[:, :, ::-1], "flip": image[:, ::-1], "transpose": image.transpose(0, 2, 1, 3)}[name]
    same, other = (changed == image).all(axis=(1, 2, 3)), (changed == turned).all(axis=(1, 2, 3))
    assert (same | other).all()
    assert 60 < other.sum() < 140
    untouched = pipeline.augment(images, pipeline.NONE, seed=(1, tf.constant(2))).numpy()
    np.testing.assert_array_equal(untouched, images)


def test_augmentation_stays_in_range_and_differs_by_image_and_step() -> None:
    image = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype(np.float32)
    images = tf.constant(np.repeat(image, 8, axis=0))
    strong = Augmentation(zoom=0.5, light=0.4)
    one, again, two = (pipeline.augment(images, strong, seed=(7, tf.constant(step))).numpy() for step in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert one.min() >= 0
    assert one.max() <= 255
    assert len({picture.tobytes() for picture in np.concatenate([one, two])}) == 16


def test_an_epoch_shows_every_image_but_the_remainder_once(tiny: Backbone, digits: Path) -> None:
    images = pictures.load(folder.scan(digits), tiny.input, Quiet())

    def epoch(number: int, seed: int = 0) -> np.ndarray:
        data = pipeline.batches(
            images,
            tiny.input,
            batch=20,
            classes=3,
            weights=np.float32([1, 2, 3]),
            augmentation=pipeline.NONE,
            seed=seed,
            epoch=number,
        )
        rows = []
        for inputs, labels, weights in data:
            assert (inputs.shape, labels.shape) == ((20, 32, 32, 3), (20, 3))
            np.testing.assert_array_equal(weights, labels.numpy() @ [1, 2, 3])
            rows.append(inputs.numpy().reshape(20, -1))
        return np.concatenate(rows)

    first = epoch(0)
    known = {row.tobytes() for row in tiny.input.normalise(images.pixels).reshape(len(images), -1)}
    assert len(first) == 60
    assert len({row.tobytes() for row in first}) == len({row.tobytes() for row in first} & known)
    np.testing.assert_array_equal(first, epoch(0))
    assert not np.array_equal(first, epoch(1))
    assert not np.array_equal(first, epoch(0, seed=1))


@pytest.mark.parametrize(
    ("kinds", "problem"),
    [
        ("scale_bais", "no such patch kind"),
        ("scale_bias+scale_bias", "named twice"),
        ("", "no such patch kind"),
    ],
)
def test_kinds_that_make_no_patch_are_refused(kinds: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        patches.parse(kinds)


@pytest.mark.parametrize("change", [{"epochs": -1}, {"batch": 0}, {"learning_rate": 0}, {"seed": -1}, {"stats": "x"}])
def test_a_recipe_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Recipe(**change)


def test_bad_data_stops_before_anything_is_written(tiny: Backbone, digits: Path, tmp_path: Path) -> None:
    for path in sorted((digits / "0").iterdir())[:20]:
        path.write_bytes(b"")
    with pytest.raises(BadFileError):
        trainer.train(tiny, digits, "scale_bias", tmp_path / "out" / "a.epatch", recipe=FAST, reporter=Quiet())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("task", "field"), [("a\nb", "task"), ("x" * 101, "task")])
def test_a_name_that_no_file_can_hold_is_refused_before_training(
    tiny: Backbone, digits: Path, tmp_path: Path, task: str, field: str
) -> None:
    with pytest.raises(UsageError, match="cannot hold") as caught:
        trainer.train(tiny, digits, "scale_bias", tmp_path / "a.epatch", task=task, reporter=Killing("reading"))
    assert caught.value.details["field"] == field


def test_training_stops_when_validation_no_longer_improves(
    gated: Backbone, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint, "accuracy", lambda *_: 0.5)
    monkeypatch.setattr(joint, "cross_entropy", lambda *_: 1.0)
    recipe = dataclasses.replace(FAST, epochs=30, patience=2)
    result = trainer.train(gated, digits, "scale_bias", tmp_path / "a.epatch", recipe=recipe, reporter=Quiet())
    assert result.report["epochs"] == 3


def test_adapted_statistics_need_a_kind_that_stores_them(tiny: Backbone, digits: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(FAST, stats="adapt")
    with pytest.raises(UsageError, match="no place in a patch without"):
        trainer.train(tiny, digits, "classifier", tmp_path / "a.epatch", recipe=recipe, reporter=Quiet())


def test_a_new_kind_is_a_new_module_and_nothing_else() -> None:
    """Kinds are found, not listed: whatever stands in edgepatch/patches with a KIND is one."""
    found = {path.stem for path in Path(patches.__file__).parent.glob("*.py") if "\nKIND = " in path.read_text()}
    assert set(patches.kinds()) == found >= {"scale_bias", "bias", "depthwise", "bottom", "top", "mask", "policy"}
    bodies, top = patches.parse("classifier+scale_bias")
    assert ([body.name for body in bodies], top.name) == (["scale_bias"], "classifier")
    with pytest.raises(UsageError, match="one head"):
        patches.sort([top, top])


def test_training_that_diverges_falls_back_to_the_head(gated: Backbone, digits: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(FAST, learning_rate=1.0, warmup=0.0, epochs=3)

    class Poisoned(Quiet):
        def bar(self, items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
            for item in items:
                yield (item[0] * float("nan"), *item[1:]) if what.startswith("epoch") else item

    result = trainer.train(gated, digits, "scale_bias", tmp_path / "a.epatch", recipe=recipe, reporter=Poisoned())
    assert result.report["fell_back_to_head"]
    assert result.report["accuracy"] == result.report["head_accuracy"]
    json.loads((tmp_path / "a.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert all(np.isfinite(value).all() for value in blob.read(tmp_path / "a.epatch").tensors.values())


def test_a_checkpoint_damaged_inside_leaves_nothing_behind(tiny: Backbone, tmp_path: Path) -> None:
    """What is read is used whole or not at all: no weights of a checkpoint whose optimizer cannot be read."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.AdamW()
    optimizer.build(model.trainable_variables)
    variables = model.trainable_variables
    checkpoints.save(
        tmp_path / "x", "f", variables, [optimizer], checkpoints.State(1, [], (0.5, -1.0), model.get_weights())
    )
    assert checkpoints.restore(tmp_path / "x", "f", variables, [optimizer]) is not None
    with np.load(tmp_path / "x") as saved:
        arrays = dict(saved)
    arrays["weights/0"] = arrays["weights/0"] + 7
    arrays["optimizer/1"] = np.zeros((9, 9), np.float32)
    with (tmp_path / "x").open("wb") as stream:
        np.savez(stream, **arrays)
    before = model.get_weights()
    assert checkpoints.restore(tmp_path / "x", "f", variables, [optimizer]) is None
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("name", ["x.resume", "x.json", "x", "x.png", "a.v1"])
def test_a_patch_must_be_named_as_one(tiny: Backbone, digits: Path, tmp_path: Path, name: str) -> None:
    """The report and the checkpoint stand beside it under its name, and must not be it."""
    with pytest.raises(UsageError, match="name of a patch file"):
        trainer.train(tiny, digits, "classifier", tmp_path / name, reporter=Quiet())


def test_a_licence_that_is_no_text_is_refused_before_training(tiny: Backbone, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot hold"):
        trainer.train(tiny, digits, "scale_bias", tmp_path / "a.epatch", licence="\udcff", reporter=Killing("reading"))


def test_names_with_dollar_signs_are_names(gated: Backbone, digits: Path, tmp_path: Path) -> None:
    (digits / "7").rename(digits / "$5_to_$9_")
    out = tmp_path / "a.epatch"
    result = trainer.train(gated, digits, "classifier", out, task="under $1_$", recipe=FAST, reporter=Quiet())
    assert out.with_suffix(".png").exists()
    assert "$5_to_$9_" in result.patch.labels


@pytest.mark.parametrize("codec", ["fp16", "int8"])
def test_values_that_no_patch_can_hold_fall_back_to_the_head(
    gated: Backbone, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    def ruin(model: keras.Model, *_: object, **__: object) -> checkpoints.State:
        for variable in model.trainable_variables:
            variable.assign(np.full(variable.shape, 1e12))
        return checkpoints.State(epoch=1, history=[])

    monkeypatch.setattr(joint, "fit", ruin)
    options: dict[str, Any] = {"recipe": FAST, "codec": codec, "reporter": Quiet()}
    result = trainer.train(gated, digits, "scale_bias+depthwise", tmp_path / "a.epatch", **options)
    assert result.report["fell_back_to_head"]


def test_a_kind_is_told_from_another_by_its_name_when_a_run_is_resumed(gated: Backbone, digits: Path) -> None:
    source = tasks.source(gated, digits, digits.parent / "a.epatch", FAST)
    task = tasks.prepare(gated, source, FAST, Quiet())

    def mark(kinds: str, others: list[np.ndarray]) -> str:
        bodies, top = patches.parse(kinds)
        return trainer._fingerprint(task, [*bodies, top], others)

    zeros, ones = np.zeros(3, bool), np.ones(3, bool)
    assert mark("policy", [zeros]) == mark("policy", [zeros.copy()])
    assert len({mark("policy", [zeros]), mark("policy", [ones]), mark("depthwise", []), mark("bottom:2", [])}) == 4
