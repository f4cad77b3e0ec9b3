"""Heads with a network of their own, on a shared graph: bound and baked, in every engine and precision."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import head_reference
import numpy as np
import pytest
import reference
from conftest import make_patch, pictures
from edgepatch.converters import tflite
from PIL import Image, ImageFont

from edgepatch import blob, boxes, drawing, imaging
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.boxes import Anchors
from edgepatch.errors import BadFileError, MismatchError, MissingPackageError
from edgepatch.head_network import Layer, Network
from edgepatch.runtime import Runtime, fitting, graph_file, head_model
from edgepatch.runtime.heads import detector
from edgepatch.runtime.heads.detector import Detections
from edgepatch.runtime.heads.segmenter import Segmentation
from edgepatch.training import calibration

SIZE = 64  # the graphs are laid out for 32
NEAR, FAR = "block_13_expand", "Conv_1"
ANCHORS = Anchors((((0.3, 0.3), (0.4, 0.2)), ((0.8, 0.8),)))
LABELS = ("cat", "dog")


def detector_network(classes: int) -> Network:
    return Network(
        (NEAR, FAR),
        (
            Layer("near", "depthwise", (NEAR,), kernel=3, activation="relu6"),
            Layer("near_classes", "conv", ("near",), 2 * (1 + classes)),
            Layer("near_boxes", "conv", ("near",), 2 * 4),
            Layer("far", "depthwise", (FAR,), kernel=3, activation="relu6"),
            Layer("far_classes", "conv", ("far",), 1 + classes),
            Layer("far_boxes", "conv", ("far",), 4),
        ),
        ("near_classes", "near_boxes", "far_classes", "far_boxes"),
    )


def segmenter_network(classes: int) -> Network:
    return Network(
        (NEAR, FAR),
        (
            Layer("mean", "mean", (FAR,)),
            Layer("gate", "conv", ("mean",), 8, activation="sigmoid"),
            Layer("top", "conv", (FAR,), 8, activation="relu"),
            Layer("gated", "multiply", ("top", "gate")),
            Layer("grown", "resize", ("gated", NEAR)),
            Layer("high", "conv", ("grown",), classes),
            Layer("low", "conv", (NEAR,), classes),
            Layer("answer", "add", ("high", "low")),
        ),
        ("answer",),
    )


def with_head(patch: Patch, network: Network, backbone: Backbone, seed: int = 3, **decode: Any) -> Patch:
    """A patch with this head in place of its own."""
    rng = np.random.default_rng(seed)
    shapes = network.tensors({site.name: site.channels for site in backbone.plan.sites})
    own = {name: rng.normal(0, 0.3, shape).astype(np.float16) for name, shape in shapes.items()}
    body = {name: value for name, value in patch.tensors.items() if not name.startswith("head_")}
    kinds = {kind: names for kind, names in patch.kinds.items() if kind != "classifier"}
    return dataclasses.replace(
        patch,
        kinds={**kinds, str(decode["head"]): tuple(own)},
        labels=LABELS,
        input=dataclasses.replace(patch.input, size=SIZE, resize="stretch"),
        tensors={**body, **own},
        decode={"network": network.to_json(), **decode},
    )


DETECTOR = {
    "head": "detector", "activation": "softmax", "anchors": ANCHORS.to_json(), "score": 0.3, "overlap": 0.5, "limit": 20
}  # fmt: skip


@pytest.fixture(scope="module")
def finder(tiny: Backbone) -> Patch:
    return _calibrated(tiny, with_head(make_patch(tiny, 5, 2, "finder"), detector_network(2), tiny, **DETECTOR))


@pytest.fixture(scope="module")
def painter(tiny: Backbone) -> Patch:
    patch = with_head(make_patch(tiny, 6, 2, "painter"), segmenter_network(2), tiny, head="segmenter")
    return _calibrated(tiny, patch)


def _calibrated(tiny: Backbone, patch: Patch) -> Patch:
    pixels = np.stack(pictures(16, size=SIZE))
    return dataclasses.replace(patch, ranges=calibration.calibrate(tiny.at(SIZE), patch, pixels))


def expected(tiny: Backbone, patch: Patch, picture: np.ndarray) -> dict[str, np.ndarray]:
    """The head's outputs for a picture, computed in numpy alone."""
    values = tiny.values(patch)
    idle = {"head_kernel": np.zeros((tiny.plan.features, 1)), "head_bias": np.zeros(1)}
    backbone = tiny.at(SIZE)
    trace = reference.trace(backbone, {**values, **idle}, patch.input(picture))
    numbers = {node.site.name: number for number, node in enumerate(backbone.plan.nodes) if node.site}
    network = Network.from_json(patch.decode["network"])
    maps = {name: trace[1 + numbers[name]][None].astype(np.float32) for name in network.maps}
    return head_reference.answers(network, values, maps)


GRAPHS = [(kind, precision) for kind in ("tflite", "onnx") for precision in ("fp32", "fp16", "dynamic", "int8")]


@pytest.mark.parametrize(("kind", "precision"), GRAPHS)
def test_the_maps_that_a_head_reads_are_the_trunks_own(
    tiny: Backbone, finder: Patch, every_graph: dict[Any, Path], kind: str, precision: str
) -> None:
    graph = graph_file.read(every_graph[kind, precision])
    for mode in graph.forms:
        with Runtime(every_graph[kind, precision], mode=mode) as runtime:
            runtime.add(finder)
            for picture in pictures(2, size=100):
                loaded = runtime._find("finder")
                got = runtime._run(loaded, finder.input(picture))
                for name, want in expected(tiny, finder, picture).items():
                    alike = np.corrcoef(got[name].ravel(), want.ravel())[0, 1]  # random weights magnify rounding
                    least = {"fp32": 1 - 1e-7, "fp16": 0.995, "dynamic": 0.85, "int8": 0.7}[precision]
                    assert alike > least, (mode, name, alike)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_a_classifier_a_detector_and_a_segmenter_share_one_graph(
    tiny: Backbone, finder: Patch, painter: Patch, patches: list[Path], graphs: dict[str, Path], kind: str
) -> None:
    (picture,) = pictures(1, size=120)
    picture = picture[:80]
    with Runtime(graphs[kind]) as runtime:
        runtime.load(patches[0])
        runtime.add(finder)
        runtime.add(painter)
        before = runtime.predict(picture, "task0").logits
        for _ in range(5):  # bound at first, then baked in the background
            found, painted = runtime.predict(picture, "finder"), runtime.predict(picture, "painter")
            runtime.wait()
        assert set(runtime.baked) >= {"finder", "painter"}
        np.testing.assert_allclose(runtime.predict(picture, "task0").logits, before, atol=1e-4)
    assert isinstance(found, Detections)
    assert isinstance(painted, Segmentation)
    outputs = list(expected(tiny, finder, picture).values())
    whole, scores = detector.raw(outputs, ANCHORS, 2)
    kept, sure, classes = boxes.choose(np.clip(whole, 0, 1), scores, least=0.3, threshold=0.5, limit=20)
    assert len(found.boxes) == len(kept) > 0
    np.testing.assert_array_equal(found.classes, classes)
    np.testing.assert_allclose(found.scores, sure, atol=1e-4)
    np.testing.assert_allclose(found.boxes, kept * [120, 80, 120, 80], atol=0.05)
    assert painted.mask.shape == (80, 120)
    (logits,) = expected(tiny, painter, picture).values()
    first = imaging.load(picture).size
    assert first == (120, 80)
    corner = logits[0, 0, 0].argmax()
    assert painted.mask[0, 0] == corner


def test_a_task_loaded_again_while_its_head_answers_still_answers(
    graphs: dict[str, Path], finder: Patch, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = head_model.HeadModel.run
    with Runtime(graphs["tflite"]) as runtime:
        runtime.add(finder)
        before = runtime.predict(pictures(1)[0])

        def replaced_meanwhile(model: Any, outputs: Any) -> Any:
            monkeypatch.setattr(head_model.HeadModel, "run", run)
            runtime.add(finder)
            return model.run(outputs)

        monkeypatch.setattr(head_model.HeadModel, "run", replaced_meanwhile)
        answer = runtime.predict(pictures(1)[0])
        np.testing.assert_array_equal(answer.scores, before.scores)
        np.testing.assert_array_equal(answer.boxes, before.boxes)


def test_a_patch_with_such_a_head_survives_its_file(finder: Patch) -> None:
    again = blob.parse(blob.dump(finder), "finder")
    assert again.decode == finder.decode
    assert again.kind == "scale_bias+detector"


def _changed(patch: Patch, **decode: Any) -> Patch:
    return dataclasses.replace(patch, decode={**patch.decode, **decode})


def _without(patch: Patch, name: str) -> Patch:
    tensors = {each: value for each, value in patch.tensors.items() if each != name}
    kinds = {kind: tuple(each for each in names if each != name) for kind, names in patch.kinds.items()}
    return dataclasses.replace(patch, tensors=tensors, kinds=kinds)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda patch: _changed(patch, network={}), BadFileError),
        (lambda patch: _changed(patch, network=detector_network(3).to_json()), MismatchError),
        (lambda patch: _changed(patch, network={**detector_network(2).to_json(), "maps": ["near", FAR]}), BadFileError),
        (lambda patch: _changed(patch, anchors={}), BadFileError),
        (lambda patch: _changed(patch, anchors=Anchors((((0.3, 0.3),),)).to_json()), BadFileError),
        (lambda patch: _changed(patch, anchors=Anchors((((0.3, 0.3),), ((0.3, 0.3),))).to_json()), BadFileError),
        (lambda patch: _changed(patch, score=2), BadFileError),
        (lambda patch: _changed(patch, activation="exp"), BadFileError),
        (lambda patch: _changed(patch, limit=10**9), BadFileError),
        (lambda patch: _changed(patch, overlap=None), BadFileError),
        (lambda patch: _changed(patch, head="segmenter"), BadFileError),
        (lambda patch: _without(patch, "head/near/kernel"), MismatchError),
        (lambda patch: dataclasses.replace(patch, labels=("cat",)), BadFileError),
    ],
)
def test_a_head_that_does_not_hold_together_is_refused(
    finder: Patch, graphs: dict[str, Path], change: Any, error: type[Exception]
) -> None:
    with Runtime(graphs["tflite"]) as runtime, pytest.raises(error):
        runtime.add(change(finder))


def test_a_head_on_a_block_that_its_task_skips_is_refused(tiny: Backbone, graphs: dict[str, Path]) -> None:
    network = Network(("block_2_expand",), (Layer("answer", "conv", ("block_2_expand",), 2),), ("answer",))
    patch = with_head(make_patch(tiny, 7, 2, kinds="policy"), network, tiny, head="segmenter")
    patch.tensors["skip"] = np.ones_like(patch.tensors["skip"])
    with pytest.raises(MismatchError, match="skips a block"):
        fitting.fit(graph_file.read(graphs["tflite"]), patch, None)


def test_boxes_survive_their_coding() -> None:
    rng = np.random.default_rng(0)
    anchors = ANCHORS.boxes([4, 2])
    centre, size = rng.uniform(0.2, 0.8, (len(anchors), 2)), rng.uniform(0.05, 0.4, (len(anchors), 2))
    truth = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
    coded = boxes.encode(truth, anchors, ANCHORS.variances)
    np.testing.assert_allclose(boxes.decode(coded, anchors, ANCHORS.variances), truth, atol=1e-5)


def test_anchors_lie_by_map_row_column_and_shape() -> None:
    found = ANCHORS.boxes([2, 1])
    assert found.shape == (2 * 2 * 2 + 1, 4)
    np.testing.assert_allclose(found[0], [0.25 - 0.15, 0.25 - 0.15, 0.25 + 0.15, 0.25 + 0.15], atol=1e-6)
    np.testing.assert_allclose(found[1], [0.25 - 0.2, 0.25 - 0.1, 0.25 + 0.2, 0.25 + 0.1], atol=1e-6)
    np.testing.assert_allclose(found[2][:2] + found[2][2:], [1.5, 0.5], atol=1e-6)  # the next column


def test_the_best_of_overlapping_boxes_of_a_class_stays() -> None:
    three = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]], np.float32)
    scores = np.array([[0.6, 0.2], [0.9, 0.1], [0.5, 0.8]], np.float32)
    kept, sure, classes = boxes.choose(three, scores, least=0.3, threshold=0.5, limit=10)
    assert sure.tolist() == pytest.approx([0.9, 0.8, 0.5])
    assert classes.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(kept, three[[1, 2, 2]])
    nothing = boxes.choose(three, scores, least=0.95, threshold=0.5, limit=10)
    assert [len(part) for part in nothing] == [0, 0, 0]
    assert len(boxes.choose(three, scores, least=0.3, threshold=0.5, limit=1)[0]) == 1


def test_commands_that_take_classifiers_alone_say_so(
    tiny: Backbone, finder: Patch, every_graph: dict[Any, Path], tmp_path: Path, edgepatch: Any
) -> None:
    patch, out = tmp_path / "finder.epatch", tmp_path / "out"
    blob.write(finder, patch)
    backbone = tmp_path / "tiny.backbone"
    backbones.write(tiny, backbone)
    graph = every_graph["tflite", "fp32"]
    for arguments in (
        ("bake", graph, patch, "--out", f"{out}.tflite"),
        ("export", backbone, "--to", "onnx_adapter", "--patch", patch, "--out", f"{out}.onnx_adapter"),
        ("bench", graph, "--patch", patch),
    ):
        refused = edgepatch(*arguments)
        assert refused.code == 2, refused.err
        assert "head on maps of the trunk" in refused.err
    assert not list(tmp_path.glob("out*"))


def test_a_detector_is_calibrated_inspected_and_checked_at_export(
    tiny: Backbone, finder: Patch, tmp_path: Path, edgepatch: Any
) -> None:
    patch, backbone = tmp_path / "finder.epatch", tmp_path / "tiny.backbone"
    blob.write(dataclasses.replace(finder, ranges=None), patch)
    backbones.write(tiny, backbone)
    for number, pixels in enumerate(pictures(4, size=SIZE)):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    done = edgepatch("calibrate", backbone, tmp_path / "images", "--patch", patch)
    assert done.code == 0, done.err
    assert blob.read(patch).ranges is not None
    shown = edgepatch("inspect", patch, "--json")
    assert shown.document["decode"]["head"] == "detector"
    for kind in ("tflite", "onnx"):
        made = edgepatch("export", backbone, "--to", kind, "--patch", patch, "--out", tmp_path / f"g.{kind}")
        assert made.code == 0, made.err


def test_pictures_of_one_name_are_drawn_to_two_files_and_a_file_is_no_folder(
    finder: Patch, every_graph: dict[Any, Path], tmp_path: Path, edgepatch: Any
) -> None:
    patch, graph = tmp_path / "finder.epatch", every_graph["tflite", "fp32"]
    blob.write(finder, patch)
    images = []
    for folder, pixels in zip(("one", "two"), pictures(2, size=SIZE), strict=True):
        (tmp_path / folder).mkdir()
        images.append(tmp_path / folder / "a.png")
        Image.fromarray(pixels).save(images[-1])
    sheet = tmp_path / "sheet.png"
    done = edgepatch("run", graph, "--patch", patch, *images, "--draw", tmp_path / "drawn", "--sheet", sheet)
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["a-2.finder.png", "a.finder.png"]
    with Image.open(sheet) as drawn:
        colours = {colour for _, colour in drawn.getcolors(1 << 20)}
    assert drawing.colour(0) in colours or drawing.colour(1) in colours  # boxes are drawn in there, too
    refused = edgepatch("run", graph, "--patch", patch, *images, "--draw", images[0])
    assert refused.code == 2
    assert "is a file" in refused.err


def test_an_older_pillow_is_helped_out_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12's: its own font has one height, and no letters beyond Latin ones."""
    monkeypatch.setattr(ImageFont, "load_default", ImageFont.ImageFont)
    monkeypatch.setattr(ImageFont, "truetype", lambda name, size: (name, size))
    assert drawing.lettering(13) == ("DejaVuSans.ttf", 13)
    monkeypatch.undo()
    monkeypatch.setattr(ImageFont, "load_default", ImageFont.ImageFont)
    monkeypatch.setenv("XDG_DATA_DIRS", "/nowhere")
    monkeypatch.setenv("XDG_DATA_HOME", "/nowhere")
    with pytest.raises(MissingPackageError, match="needs a font") as caught:
        drawing.lettering(13)
    assert "fonts-dejavu-core" in caught.value.to_json()["error"]["mend"]


def test_run_tells_boxes_from_another_score_on_and_writes_masks(
    finder: Patch, painter: Patch, every_graph: dict[Any, Path], tmp_path: Path, edgepatch: Any
) -> None:
    graph, image = every_graph["onnx", "fp32"], tmp_path / "a.png"
    Image.fromarray(pictures(1, size=SIZE)[0]).save(image)
    for patch in (finder, painter):
        blob.write(patch, tmp_path / f"{patch.task}.epatch")
    both = ("--patch", tmp_path / "finder.epatch", "--patch", tmp_path / "painter.epatch")
    counts = []
    for score in (0.0, 0.6, 1.0):
        done = edgepatch("run", graph, *both, image, "--score", score, "--masks", tmp_path / "masks", "--json")
        assert done.code == 0, done.err
        boxes_found, shares = done.document
        assert all(box["score"] >= score for box in boxes_found["boxes"])
        counts.append(len(boxes_found["boxes"]))
    assert counts[0] >= counts[1] >= counts[2] == 0
    assert counts[0] > 0
    (path,) = (tmp_path / "masks").iterdir()
    with Image.open(path) as mask:
        values = np.asarray(mask)
    assert values.shape == (SIZE, SIZE)
    share = float((values == 0).mean())
    assert shares["shares"][LABELS[0]] == pytest.approx(share, abs=1e-3)


def test_a_head_on_maps_leaves_the_logits_a_range_that_xnnpack_takes(tiny: Backbone, finder: Patch) -> None:
    """A range next to nothing fails beside kernels of zeros, depending on the others."""
    assert finder.ranges is not None
    graph = graph_file.parse(tflite.export(tiny), "graph")
    features = graph.document["bake"]["head"]["input"]
    np.testing.assert_array_equal(finder.ranges[features + 1], finder.ranges[features])
    assert finder.ranges[features, 1] > 0.01
