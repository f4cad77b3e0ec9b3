"""The real backbone: the import is right, and every engine agrees on real pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from edgepatch.converters import onnx, tflite

from edgepatch import Runtime, imaging
from edgepatch.backbones import network, weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.training import head

SIZE = 96


@pytest.fixture(scope="module")
def imagenet(offline_weights: Path) -> Backbone:
    return weights.create("mobilenet_v2", alpha=1.0, size=SIZE, source="imagenet-torchvision")


@pytest.fixture(scope="module")
def real_graphs(imagenet: Backbone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("imagenet")
    for kind, converter in (("tflite", tflite), ("onnx", onnx)):
        (folder / f"g.{kind}").write_bytes(converter.export(imagenet))
    return {kind: folder / f"g.{kind}" for kind in ("tflite", "onnx")}


def test_the_same_top_1_on_a_thousand_pictures_through_keras_litert_and_onnx(
    shared: Path, imagenet: Backbone, real_graphs: dict[str, Path]
) -> None:
    """One picture a class. torch itself gives 82.1 % at 224 px on them (docs/benchmarks.md); at 96 px about half."""
    paths = sorted((shared / "imagenet-sample").glob("*.jpg"))
    pixels = np.stack([imaging.fit(imaging.load(path), SIZE, "crop") for path in paths])
    patch = imagenet.own_patch()
    values = imagenet.values(patch)
    features = head.predict(network.deployment_form(imagenet), pixels, imagenet.input)
    expected = features @ values["head_kernel"] + values["head_bias"]
    truth = np.array([int(path.name[:4]) for path in paths])
    assert len(truth) == 1000
    assert (expected.argmax(axis=1) == truth).mean() == pytest.approx(0.481, abs=0.002)
    for graph in real_graphs.values():
        with Runtime(graph) as runtime:
            runtime.add(patch)
            got = np.stack([runtime.predict(path).logits for path in paths])
        np.testing.assert_array_equal(got.argmax(axis=1), expected.argmax(axis=1))
        np.testing.assert_allclose(got, expected, atol=3e-4)


def test_the_two_forms_are_equal_on_the_real_weights(imagenet: Backbone) -> None:
    """Running variances down to 6e-45 are where a careless fold breaks."""
    image = np.random.default_rng(0).normal(size=(4, SIZE, SIZE, 3)).astype(np.float32)
    trained = np.asarray(network.training_form(imagenet)(image, training=False))
    deployed = np.asarray(network.deployment_form(imagenet)(image, training=False))
    np.testing.assert_allclose(trained, deployed, atol=1e-4)


def test_half_precision_keeps_the_backbones_own_answers(imagenet: Backbone) -> None:
    """Scales reach into the hundreds; as fp16 they must still be the same network."""
    image = np.random.default_rng(0).normal(size=(16, SIZE, SIZE, 3)).astype(np.float32)
    halved = {name: value.astype(np.float16).astype(np.float32) for name, value in imagenet.defaults().items()}
    exact = np.asarray(network.deployment_form(imagenet)(image))
    rounded = np.asarray(network.deployment_form(imagenet, halved)(image))
    assert np.isfinite(rounded).all()
    assert np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()


def test_the_labels_are_those_of_the_shared_sample(shared: Path, imagenet: Backbone) -> None:
    import json

    theirs = [name for _, name in json.loads((shared / "imagenet-sample" / "labels.json").read_text())]
    same = sum(a.replace("_", " ").lower() == b.lower() for a, b in zip(theirs, imagenet.labels, strict=True))
    assert same > 900, "two spellings of one list"
    assert dataclasses.replace(imagenet, labels=()).id == imagenet.id
