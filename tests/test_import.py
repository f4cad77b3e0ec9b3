"""Keras models as backbones: the same answers as Keras gives, a clear word on each layer that a backbone has not."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import plans
import pytest
from keras import layers
from test_backbones import logits, of_keras, randomise

from edgepatch import imaging
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import importing, network, plan_json, weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE, Builder
from edgepatch.backbones.weights import keras_names
from edgepatch.errors import BadFileError, UsageError

SIZE = 64


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """Two real pictures, uint8 (2, SIZE, SIZE, 3)."""
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn, which has the photographs, is absent")
    taken = [datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    return np.stack([imaging.fit(imaging.load(picture), SIZE, "crop") for picture in taken])


def saved(model: Any, folder: Path) -> Path:
    model.save(folder / "model.keras")
    return folder / "model.keras"


def norm_relu(x: Any, **options: Any) -> Any:
    return layers.ReLU(6.0)(layers.BatchNormalization(**options)(x))


def same_answers(model: Any, made: Backbone, pictures: np.ndarray, own_input: bool) -> None:
    """The model's output is the backbone's logits, or without a classifier its features."""
    prepared = made.input.normalise(pictures)
    expected = np.asarray(model(pictures.astype(np.float32) if own_input else prepared, training=False))
    for form in (network.training_form, network.deployment_form):
        got = form(made)(prepared, training=False)
        answer = logits(made, got) if made.labels else np.asarray(got)
        np.testing.assert_allclose(answer, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("architecture", "alpha"),
    [("mobilenet_v1", 0.25), ("mobilenet_v3_small", 0.5), ("mobilenet_v3_large", 0.35)],
)
def test_an_imported_mobilenet_is_the_one_created_from_the_same_weights(
    architecture: str, alpha: float, tmp_path: Path, photographs: np.ndarray
) -> None:
    own_input = "v3" in architecture
    options = {"include_preprocessing": True} if own_input else {}
    model = of_keras(architecture, input_shape=(SIZE, SIZE, 3), alpha=alpha, **options)
    made = importing.read(saved(model, tmp_path))
    np.savez(tmp_path / "m.npz", **keras_names.of_model(model))
    created = weights.create(architecture, alpha=alpha, size=SIZE, source=str(tmp_path / "m.npz"))
    for one, other in zip(made.plan.sites, created.plan.sites, strict=True):
        assert dataclasses.replace(one, pads=other.pads) == other
    assert made.plan.residuals == created.plan.residuals
    assert made.input == created.input
    for name, value in created.tensors.items():
        np.testing.assert_array_equal(made.tensors[name], value)
    same_answers(model, made, photographs, own_input)


def test_a_model_of_open_size_is_imported_at_the_size_asked_for(tmp_path: Path, photographs: np.ndarray) -> None:
    picture = keras.Input((None, None, 3))
    x = norm_relu(layers.Conv2D(8, 3, strides=2, padding="same")(picture))
    x = norm_relu(layers.DepthwiseConv2D(5, strides=2)(layers.ZeroPadding2D(((1, 2), (1, 2)))(x)))
    model = randomise(keras.Model(picture, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))))
    path = saved(model, tmp_path)
    with pytest.raises(UsageError, match="leaves its input size open"):
        importing.read(path)
    made = importing.read(path, size=SIZE)
    assert made.input.size == SIZE
    same_answers(model, made, photographs, own_input=False)


def test_a_size_that_is_not_the_models_is_refused(tmp_path: Path) -> None:
    image = keras.Input((32, 32, 3))
    path = saved(keras.Model(image, layers.Conv2D(4, 3)(image)), tmp_path)
    with pytest.raises(UsageError, match="size of its own") as caught:
        importing.read(path, size=48)
    assert (caught.value.details["got"], caught.value.details["expected"]) == (48, 32)
    with pytest.raises(UsageError, match="cannot be built"):
        importing.read(path, size=4)


def everything() -> Any:
    """One of each that is supported, and each spelling."""
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.04, 0.05, 0.06])(x)
    x = norm_relu(layers.Conv2D(8, 3, strides=2, padding="same", name="first")(x), epsilon=1e-5)
    entry = x
    x = norm_relu(layers.Conv2D(24, 1, name="widen")(x), center=False)
    x = layers.DepthwiseConv2D(5, padding="same", name="deep")(x)
    x = layers.Activation("hard_swish")(layers.BatchNormalization(scale=False, epsilon=1e-2)(x))
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Reshape((1, 1, 24))(layers.Dense(24)(layers.Dense(6, activation="relu")(gate)))
    x = layers.Multiply()([layers.Activation("hard_sigmoid")(gate), x])
    x = layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False, name="narrow")(x))
    x = layers.Add()([entry, layers.Dropout(0.1)(x)])
    x = layers.ZeroPadding2D(((2, 1), (2, 1)))(x)
    x = layers.Conv2D(12, 3, strides=2, activation="relu", name="odd_pads")(x)
    x = layers.Conv2D(12, 3, name="spelled_out")(x)
    x = layers.Multiply()([x, layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)])
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(16, 1, name="behind_the_mean")(x)
    x = layers.Dropout(0.2)(layers.Flatten()(layers.Activation("relu6")(x)))
    return randomise(keras.Model(image, layers.Dense(3, name="answer")(x)))


def test_every_supported_layer_gives_keras_own_answers(tmp_path: Path, photographs: np.ndarray) -> None:
    model = everything()
    made = importing.read(saved(model, tmp_path), labels=("a", "b", "c"))
    assert made.labels == ("a", "b", "c")
    assert made.source["preprocessing"] == "the model's own"
    same_answers(model, made, photographs, own_input=True)
    backbones.write(made, tmp_path / "x.backbone")
    assert backbones.read(tmp_path / "x.backbone").id == made.id


def test_placements_and_blocks_are_told_from_the_models_shape(tmp_path: Path) -> None:
    made = importing.read(saved(everything(), tmp_path))
    told = [(site.block, site.placement, site.activation) for site in made.plan.sites]
    assert told == [
        (0, "stem", "relu6"),
        (1, "expand", "relu6"),
        (1, "depthwise", "hard_swish"),
        (1, "squeeze", "relu"),
        (1, "excite", "hard_sigmoid"),
        (1, "project", "linear"),
        (2, "top", "relu"),
        (3, "top", "hard_swish"),
        (4, "top", "relu6"),
    ]
    assert [residual.block for residual in made.plan.residuals] == [1]
    assert made.plan.epsilon == pytest.approx(1e-5), "the least: a variance can be raised, not lowered"


def test_a_sequential_model_is_imported(tmp_path: Path, photographs: np.ndarray) -> None:
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Conv2D(8, 3, strides=2, activation="relu6"),
            layers.DepthwiseConv2D(3),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax"),
        ]
    )
    randomise(model)
    made = importing.read(saved(model, tmp_path))
    assert made.labels == ("class_0", "class_1", "class_2", "class_3")
    model.layers[-1].activation = keras.activations.linear
    same_answers(model, made, photographs, own_input=False)


@pytest.mark.parametrize("keepdims", [True, False])
def test_a_model_without_a_classifier_is_a_trunk(keepdims: bool, tmp_path: Path, photographs: np.ndarray) -> None:
    image = keras.Input((SIZE, SIZE, 3))
    x = norm_relu(layers.Conv2D(8, 3, use_bias=False)(image))
    model = randomise(keras.Model(image, layers.GlobalAveragePooling2D(keepdims=keepdims)(x)))
    made = importing.read(saved(model, tmp_path))
    assert (made.labels, made.plan.features) == ((), 8)
    flat = keras.Model(model.input, layers.Flatten()(model.output))
    same_answers(flat, made, photographs, own_input=False)


def test_layers_whose_names_a_site_cannot_have_are_renamed(tmp_path: Path) -> None:
    picture = x = keras.Input((SIZE, SIZE, 3))
    for name in ("features", "a b", "a_b", "a_b_BN", "卷积", "卷", "x" * 100):
        x = layers.Conv2D(4, 3, name=name)(x)
    made = importing.read(saved(keras.Model(picture, x), tmp_path))
    names = [site.name for site in made.plan.sites]
    assert names == ["features_1", "a_b", "a_b_1", "a_b_BN_1", "site", "site_1", "x" * 60]
    network.training_form(made)


def image() -> Any:
    return keras.Input((32, 32, 3))


def refused_models() -> dict[str, tuple[Any, str, str]]:
    """By what is wrong: the model, the layer and its place as they are named, the problem."""
    x = image()
    conv = layers.Conv2D(4, 3, padding="same", name="c")
    y = conv(x)
    inner = keras.Sequential([keras.Input((32, 32, 4)), layers.Conv2D(4, 3)], name="inner")
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    flat = layers.GlobalAveragePooling2D()(y)

    def model(out: Any) -> Any:
        return keras.Model(x, out)

    def named(name: str) -> dict[str, str]:
        return {"name": name}

    return {
        "type": (model(layers.LeakyReLU(**named("l"))(y)), "LeakyReLU 'l', behind 'c'", "the type LeakyReLU"),
        "pooling": (model(layers.MaxPooling2D(**named("l"))(y)), "MaxPooling2D 'l', behind 'c'", "the type"),
        "nested": (model(inner(y)), "Sequential 'inner', behind 'c'", "a model within"),
        "shared": (model(shared(shared(y))), "Conv2D 'shared', behind 'c'", "shared"),
        "dilation": (
            model(layers.Conv2D(4, 3, dilation_rate=2, **named("l"))(y)),
            "Conv2D 'l', behind 'c'",
            "dilation",
        ),
        "strides": (model(layers.Conv2D(4, 3, strides=(1, 2), **named("l"))(y)), "Conv2D 'l'", "strides"),
        "groups": (model(layers.Conv2D(4, 3, groups=2, **named("l"))(y)), "Conv2D 'l'", "groups"),
        "kernel": (model(layers.Conv2D(4, (3, 1), **named("l"))(y)), "Conv2D 'l'", "square"),
        "multiplier": (
            model(layers.DepthwiseConv2D(3, depth_multiplier=2, **named("l"))(y)),
            "DepthwiseConv2D 'l'",
            "mult",
        ),
        "behind add": (
            model(layers.ReLU(**named("l"))(layers.Add(name="a")([y, conv_like(y)]))),
            "ReLU 'l', behind 'a'",
            "the add",
        ),
        "norm behind add": (
            model(layers.BatchNormalization(**named("l"))(layers.Add(name="a")([y, conv_like(y)]))),
            "BatchNormalization 'l', behind 'a'",
            "the add",
        ),
        "two activations": (
            model(layers.ReLU(**named("l"))(layers.ReLU(6.0)(y))),
            "ReLU 'l'",
            "behind the activation relu6",
        ),
        "two norms": (model(layers.BatchNormalization(**named("l"))(layers.BatchNormalization()(y))), "'l'", "second"),
        "norm behind activation": (
            model(layers.BatchNormalization(**named("l"))(layers.ReLU()(y))),
            "'l'",
            "the activation",
        ),
        "read elsewhere": (model(layers.Add(**named("l"))([y, layers.ReLU()(y)])), "", "batch norm or activation"),
        "axis": (model(layers.BatchNormalization(axis=1, **named("l"))(y)), "BatchNormalization 'l'", "axis"),
        "activation": (model(layers.Activation("tanh", **named("l"))(y)), "Activation 'l', behind 'c'", "tanh"),
        "own activation": (model(layers.Conv2D(4, 3, activation="gelu", **named("l"))(y)), "Conv2D 'l'", "gelu"),
        "slope": (model(layers.ReLU(negative_slope=0.1, **named("l"))(y)), "ReLU 'l'", "negative_slope"),
        "flatten": (model(layers.Dense(3)(layers.Flatten(**named("l"))(y))), "Flatten 'l', behind 'c'", "32 x 32"),
        "dense on a map": (model(layers.Dense(3, **named("l"))(y)), "Dense 'l'", "32 x 32"),
        "rescaling inside": (
            model(layers.Rescaling(2.0, **named("l"))(y)),
            "Rescaling 'l', behind 'c'",
            "not at the start",
        ),
        "padding before same": (
            model(layers.Conv2D(4, 3, padding="same", **named("l"))(layers.ZeroPadding2D(1)(y))),
            "Conv2D 'l'",
            "padding is same",
        ),
        "padding before other": (
            model(layers.ReLU(**named("l"))(layers.ZeroPadding2D(1)(y))),
            "ReLU 'l'",
            "ZeroPadding2D",
        ),
        "uneven padding": (
            model(layers.Conv2D(4, 3)(layers.ZeroPadding2D(((0, 1), (1, 0)), **named("l"))(y))),
            "ZeroPadding2D 'l'",
            "pads rows by",
        ),
        "multiply of maps": (model(layers.Multiply(**named("l"))([y, conv_like(y)])), "Multiply 'l'", "one pixel"),
        "padding at the end": (model(layers.ZeroPadding2D(1, **named("l"))(y)), "ZeroPadding2D 'l'", "nothing reads"),
        "constant": (model(y * 2.0), "Multiply", "two outputs"),
        "half a hard_sigmoid": (model(layers.ReLU(6.0)(y + 3.0)), "", "part of a hard_sigmoid"),
        "training": (
            model(layers.BatchNormalization(**named("l"))(y, training=True)),
            "'l', behind 'c'",
            "training=True",
        ),
        "sigmoid answers": (model(layers.Dense(2, activation="sigmoid", **named("l"))(flat)), "Dense 'l'", "sigmoid"),
        "grey": (
            keras.Model(g := keras.Input((32, 32, 1), name="g"), layers.Conv2D(2, 3)(g)),
            "InputLayer 'g'",
            "3 channels",
        ),
        "oblong": (
            keras.Model(o := keras.Input((32, 24, 3), name="o"), layers.Conv2D(2, 3)(o)),
            "InputLayer 'o'",
            "square",
        ),
    }


def conv_like(y: Any) -> Any:
    return layers.Conv2D(y.shape[-1], 3, padding="same")(y)


REFUSED = refused_models()


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_a_backbone_cannot_have_is_refused_by_type_name_and_place(what: str, tmp_path: Path) -> None:
    model, place, problem = REFUSED[what]
    with pytest.raises(BadFileError, match="has a layer that cannot be imported") as caught:
        importing.read(saved(model, tmp_path))
    assert place in caught.value.message
    assert problem in caught.value.details["got"]
    assert "DepthwiseConv2D" in caught.value.details["expected"]


def test_several_inputs_or_outputs_are_refused(tmp_path: Path) -> None:
    one, two = image(), image()
    with pytest.raises(BadFileError, match="several outputs"):
        importing.read(saved(keras.Model(one, [layers.Conv2D(4, 3)(one), layers.Conv2D(4, 3)(one)]), tmp_path))
    joined = layers.Add()([layers.Conv2D(4, 3)(one), layers.Conv2D(4, 3)(two)])
    with pytest.raises(BadFileError, match="several inputs"):
        importing.read(saved(keras.Model([one, two], joined), tmp_path))
    with pytest.raises(BadFileError, match="no convolution"):
        importing.read(saved(keras.Model(one, layers.Dropout(0.5)(one)), tmp_path))


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.convolution = layers.Conv2D(4, 3)

    def call(self, x: Any) -> Any:
        return self.convolution(x)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_is_refused_before_keras_sees_it(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = image()
    model = keras.Model(picture, layers.Conv2D(4, 3)(layers.Lambda(lambda x: x * 2, name="evil")(picture)))
    model.save(tmp_path / f"m.{suffix}")
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: pytest.fail("Keras was asked to load it"))
    with pytest.raises(BadFileError, match="Lambda 'evil', behind"):
        importing.read(tmp_path / f"m.{suffix}")


def test_what_is_no_functional_model_is_refused(tmp_path: Path) -> None:
    model = Subclassed()
    model(np.zeros((1, 32, 32, 3), np.float32))
    with pytest.raises(BadFileError, match="not a functional Keras model") as caught:
        importing.read(saved(model, tmp_path))
    assert caught.value.details["got"] == "Subclassed"
    for name in ("m.keras", "m.h5"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 nothing" if name == "m.keras" else b"nothing")
        with pytest.raises(BadFileError, match="not a Keras model that can be read"):
            importing.read(tmp_path / name)
    picture = image()
    keras.Model(picture, layers.Conv2D(4, 3)(picture)).save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(BadFileError, match="weights without a model"):
        importing.read(tmp_path / "only.weights.h5")
    with pytest.raises(UsageError, match="not a name of a Keras model"):
        importing.read(tmp_path / "m.pth")
    with pytest.raises(UsageError, match="no such file"):
        importing.read(tmp_path / "nowhere.keras")


def test_every_cut_of_a_model_file_is_refused(tmp_path: Path) -> None:
    picture = image()
    data = saved(keras.Model(picture, layers.Conv2D(4, 3)(picture)), tmp_path).read_bytes()
    for end in range(0, len(data), max(1, len(data) // 12)):
        (tmp_path / "cut.keras").write_bytes(data[:end])
        with pytest.raises(BadFileError):
            importing.read(tmp_path / "cut.keras")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return importing.read(saved(everything(), tmp_path_factory.mktemp("imported")))


def test_the_id_of_an_imported_backbone_covers_its_plan(imported: Backbone) -> None:
    document = plan_json.to_json(imported.plan.nodes)
    assert plan_json.from_json(document, SIZE, "same") == imported.plan.nodes
    document[0]["activation"] = "relu"
    other = dataclasses.replace(imported.plan, nodes=plan_json.from_json(document, SIZE, "same"))
    assert dataclasses.replace(imported, plan=other).id != imported.id


@pytest.mark.parametrize(
    ("number", "change", "problem"),
    [
        (0, {"inputs": [0]}, "inputs is"),
        (1, {"inputs": [7]}, "inputs is"),
        (1, {"inputs": [True]}, "inputs is"),
        (1, {"inputs": [0, 0]}, "inputs is"),
        (1, {"inputs": "0"}, "inputs is"),
        (1, {"more": 1}, "expected `inputs`"),
        (3, {"op": "divide"}, "not one of add, multiply, mean"),
        (3, {"op": ["add"]}, "not one of"),
        (3, {"inputs": [-1]}, "inputs is"),
        (1, {"activation": "tanh"}, "activation is 'tanh'"),
        (1, {"placement": "left"}, "placement is 'left'"),
        (1, {"kernel": [1, 1, 9, 24]}, "does not fit 8 channels"),
        (1, {"kernel": [1, 3, 8, 24]}, "is not square"),
        (1, {"kernel": [0, 0, 8, 24]}, "kernel is"),
        (1, {"kernel": [1e3, 1, 8, 24]}, "kernel is"),
        (1, {"stride": 0}, "stride is"),
        (1, {"pads": [-1, 0]}, "pads is"),
        (1, {"pads": [99, 0]}, "pads is"),
        (1, {"block": -1}, "block is"),
        (1, {"normalised": 1}, "normalised"),
        (1, {"name": "a/b"}, "not a name for a site"),
        (1, {"name": "first"}, "is taken"),
        (1, {"name": "first_BN"}, "is taken"),
        (1, {"name": "features"}, "not a name for a site"),
        (1, {"stride": 2}, "pixels"),
        (12, {"inputs": [10]}, "node 11 is read by none"),
    ],
)
def test_a_plan_that_cannot_be_built_is_refused(imported: Backbone, number: int, change: Any, problem: str) -> None:
    document = copy.deepcopy(plan_json.to_json(imported.plan.nodes))
    document[number] |= change
    with pytest.raises(ValueError, match=problem):
        plan_json.from_json(document, SIZE, "same")


@pytest.mark.parametrize("value", [None, [], {}, [1], [[]], [{}], [{"op": "mean", "inputs": [-1]}]])
def test_what_is_no_plan_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        plan_json.from_json(value, SIZE, "same")


def test_a_plan_of_too_many_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 2000 nodes"):
        plan_json.from_json([{}] * (plan_json.MAX_NODES + 1), SIZE, "same")


def test_a_file_with_another_plan_is_refused(imported: Backbone, tmp_path: Path, tiny_file: Path) -> None:
    def rewritten(data: bytes, change: Any) -> bytes:
        from edgepatch import container

        document, tensors = container.parse(data, "x")
        change(document)
        return container.dump(document, tensors)

    backbones.write(imported, tmp_path / "x.backbone")
    data = (tmp_path / "x.backbone").read_bytes()
    with pytest.raises(BadFileError, match="other tensors than it says"):
        backbones.parse(rewritten(data, lambda d: d["plan"][0].update(activation="relu")), "x")
    with pytest.raises(BadFileError, match="broken plan"):
        backbones.parse(rewritten(data, lambda d: d["plan"][0].update(inputs=[5])), "x")
    with pytest.raises(BadFileError, match="broken document"):
        backbones.parse(rewritten(data, lambda d: d.pop("plan")), "x")
    with pytest.raises(BadFileError, match="unknown field"):
        backbones.parse(rewritten(tiny_file.read_bytes(), lambda d: d.update(plan=[])), "x")


def test_the_command_says_what_it_took_for_granted(edgepatch: Any, tmp_path: Path) -> None:
    picture = keras.Input((None, None, 3))
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="c")(picture))
    path = saved(keras.Model(picture, layers.Dense(2)(y)), tmp_path)
    call = ("backbone", "import", path, "--size", 32, "--out", tmp_path / "x.backbone")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    seen = edgepatch(*call)
    assert seen.code == 0
    assert "preprocessing: keras, for nothing in the model says otherwise" in seen.out
    seen = edgepatch(*call, "--scale", "0.5,1,2", "--offset", "-1", "--labels", tmp_path / "labels.txt", "--json")
    assert seen.document["input"]["scale"] == [0.5, 1, 2]
    assert seen.document["input"]["offset"] == [-1, -1, -1]
    assert (seen.document["architecture"], seen.document["classes"], seen.document["sites"]) == ("keras", 2, 1)
    assert backbones.read(tmp_path / "x.backbone").labels == ("cat", "dog")
    for options, problem in (
        (["--preprocess", "caffe"], "no such preprocessing"),
        (["--preprocess", "torch", "--scale", "1", "--offset", "0"], "go together"),
        (["--scale", "1"], "go together"),
        (["--scale", "1,2", "--offset", "0"], "not a number a channel"),
        (["--scale", "nan", "--offset", "0"], "cannot be built"),
        (["--labels", path], "not text"),
    ):
        seen = edgepatch(*call, *options, "--json")
        assert seen.code in (2, 3)
        assert problem in json.dumps(seen.document)
    (tmp_path / "labels.txt").write_text("cat\n")
    assert "another classifier" in edgepatch(*call, "--labels", tmp_path / "labels.txt").err


def test_a_model_that_prepares_its_pictures_is_not_told_how(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="prepares its pictures itself"):
        importing.read(saved(everything(), tmp_path), preprocess="torch")


def test_sides_are_checked_with_the_padding_that_the_plan_has() -> None:
    """An even kernel keeps its input's size under `same`, and grows it under `symmetric`."""

    def lay(net: Builder) -> None:
        entry = net.site(IMAGE, "stem", 0, "stem", 8, 3, 2, "relu6")
        net.add(entry, net.site(entry, "even", 1, "top", 8, 2, 1, "linear"))

    nodes = plan_json.to_json(plans.made(lay).plan.nodes)
    assert len(plan_json.from_json(nodes, SIZE, "same")) == 3
    with pytest.raises(ValueError, match="pixels"):
        plan_json.from_json(nodes, SIZE, "symmetric")
