"""edgepatch enroll: a class from a few pictures, on the device, in every form, format and precision."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_patch
from edgepatch.converters import onnx, tflite
from PIL import Image

from edgepatch import Runtime, blob, codec, container
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import network, weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, UsageError
from edgepatch.runtime.enrolling import enroll, learn
from edgepatch.training import calibration, head, statistics, storing

PACKED = ("fp16", "int8")


@pytest.fixture(scope="module")
def trunk(tiny: Backbone) -> Any:
    return network.deployment_form(tiny)


@pytest.fixture(scope="module")
def known(tiny: Backbone, trunk: Any) -> dict[str, Patch]:
    """A task of three classes, its head trained, with ranges and statistics, in each codec."""
    mould = make_patch(tiny, 0, 3)
    mould = dataclasses.replace(mould, input=dataclasses.replace(mould.input, resize="stretch"))
    network.set_values(trunk, tiny, tiny.values(mould))
    pixels = np.concatenate([np.stack(shots(kind, 12, seed=1)) for kind in range(3)])
    features, labels = head.predict(trunk, pixels, mould.input), np.repeat(np.arange(3), 12)
    fitted = head.fit(features, labels, features, labels, np.ones(3, np.float32), 0)
    values = {name: value.astype(np.float32) for name, value in mould.tensors.items()}
    values |= {"head_kernel": fitted.kernel, "head_bias": fitted.bias}
    ranges, made = None, {}
    for packing in PACKED:
        patch = storing.encode(tiny, mould, values, packing)
        ranges = calibration.calibrate(tiny, patch, pixels) if ranges is None else ranges
        made[packing] = dataclasses.replace(patch, ranges=ranges, statistics=statistics.of(patch, tiny, trunk, pixels))
    return made


@pytest.fixture(scope="module")
def every(tiny: Backbone, graphs: dict[str, Path], folder: Path) -> dict[tuple[str, str], Path]:
    """The tiny backbone's graphs by format and precision."""
    found = {(kind, "fp32"): path for kind, path in graphs.items()}
    for kind, converter in (("tflite", tflite), ("onnx", onnx)):
        for precision in ("fp16", "int8"):
            found[kind, precision] = folder / f"enroll-{precision}.{kind}"
            found[kind, precision].write_bytes(converter.export(tiny, precision))
    return found


@pytest.fixture
def patch(known: dict[str, Patch], tmp_path: Path) -> Path:
    blob.write(known["fp16"], tmp_path / "task.epatch")
    return tmp_path / "task.epatch"


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path, picture in zip(paths, shots(3, 4), strict=True):
        Image.fromarray(picture).save(path)
    return paths


@pytest.fixture
def learns(edgepatch: Any, graphs: dict[str, Path]) -> Any:
    """Runs `edgepatch enroll` on the tiny graph."""

    def call(*arguments: object, graph: Path = graphs["tflite"]) -> Any:
        return edgepatch("enroll", graph, *arguments, "--json")

    return call


def shots(kind: int, count: int, seed: int = 5) -> list[np.ndarray]:
    """Pictures of a class: its own blocks of colour. The task knows the kinds 0, 1 and 2.

    There is little noise in them, for a random network makes much of it.
    """
    blocks = np.random.default_rng([kind, 0xB]).integers(0, 256, (4, 4, 3)).repeat(8, axis=0).repeat(8, axis=1)
    noise = np.random.default_rng([kind, seed]).integers(-4, 5, (count, 32, 32, 3))
    return list(np.clip(blocks + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("packing", PACKED)
def test_old_values_stay_bit_for_bit(known: dict[str, Patch], graphs: dict[str, Path], packing: str) -> None:
    before = known[packing]
    after = enroll(graphs["tflite"], before, "new", shots(3, 5)).patch
    after = enroll(graphs["tflite"], after, "newer", shots(4, 2)).patch
    assert after.labels == (*before.labels, "new", "newer")
    for name, value in before.tensors.items():
        if not name.startswith("head_"):
            assert np.array_equal(after.tensors[name], value), name
    for name in ("head_bias", "head_kernel_step" if packing == "int8" else "head_kernel"):
        assert after.tensors[name].dtype == before.tensors[name].dtype
        assert np.array_equal(after.tensors[name][..., :3], before.tensors[name]), name
    if packing == "int8":
        kernels = [
            codec.unpack(p.tensors["head_kernel"], tuple(p.codec["head_kernel"]["shape"])) for p in (before, after)
        ]
        assert np.array_equal(kernels[1][:, :3], kernels[0])
    read = blob.parse(blob.dump(after), None)
    assert read.statistics is not None and before.statistics is not None
    assert read.statistics.to_json() == {**before.statistics.to_json(), "pictures": [5, 2]}
    assert np.array_equal(read.statistics.centre, before.statistics.centre)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_graph_learns_the_class_and_runs_it(
    known: dict[str, Patch], every: dict[tuple[str, str], Path], kind: str, precision: str
) -> None:
    done = enroll(every[kind, precision], known["int8"], "new", shots(3, 6))
    assert (done.images, done.pictures, done.new) == (6, 6, True)
    with Runtime(every[kind, precision]) as runtime:
        runtime.add(done.patch)
        said = [runtime.predict(picture).label for kind in range(4) for picture in shots(kind, 4, seed=2)]
    right = [said[index] == label for index, label in enumerate(np.repeat(done.patch.labels, 4))]
    assert sum(right) >= (16 if precision != "int8" else 13)
    assert all(right[-4:])


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_bound_and_baked_learn_and_answer_the_same(known: dict[str, Patch], graphs: dict[str, Path], kind: str) -> None:
    heads, answers = [], []
    for mode in ("bind", "bake"):
        made = enroll(graphs[kind], _floating(known["fp16"]), "new", shots(3, 3), mode=mode).patch
        heads.append(made.tensors["head_kernel"])
        with Runtime(graphs[kind], mode=mode) as runtime:
            runtime.add(made)
            answers.append(runtime.predict(shots(3, 1, seed=8)[0]).logits)
    for bound, baked in (heads, answers):
        assert np.abs(bound - baked).max() <= 1e-5 * np.abs(bound).max()


def test_features_are_the_networks_own(
    tiny: Backbone, trunk: Any, known: dict[str, Patch], graphs: dict[str, Path]
) -> None:
    patch, picture = _floating(known["fp16"]), np.stack(shots(3, 1))
    network.set_values(trunk, tiny, tiny.values(patch))
    direct = learn(patch, "new", head.predict(trunk, picture, patch.input))
    through = enroll(graphs["tflite"], patch, "new", list(picture)).patch
    difference = np.abs(direct.tensors["head_kernel"] - through.tensors["head_kernel"]).max()
    assert difference < 1e-4 * np.abs(direct.tensors["head_kernel"]).max()


def test_a_patch_that_must_be_baked_learns(tiny: Backbone, trunk: Any, graphs: dict[str, Path]) -> None:
    patch = make_patch(tiny, 1, 3, kinds="depthwise")
    patch = dataclasses.replace(patch, statistics=statistics.of(patch, tiny, trunk, np.stack(shots(0, 8))))
    for graph in graphs.values():
        made = enroll(graph, patch, "this", shots(3, 4), fresh=True).patch
        made = enroll(graph, made, "that", shots(4, 4)).patch
        with Runtime(graph) as runtime:
            runtime.add(made)
            assert [runtime.predict(shots(kind, 1, seed=2)[0]).label for kind in (3, 4)] == ["this", "that"]
        with pytest.raises(UsageError):
            enroll(graph, patch, "new", shots(3, 4), mode="bind")


@pytest.mark.parametrize("packing", PACKED)
def test_in_pieces_it_becomes_what_it_is_at_once(
    known: dict[str, Patch], graphs: dict[str, Path], packing: str
) -> None:
    pictures, other = shots(3, 9), shots(4, 3)
    whole = enroll(graphs["tflite"], known[packing], "new", pictures).patch
    pieces = enroll(graphs["tflite"], known[packing], "new", pictures[:4]).patch
    pieces = enroll(graphs["tflite"], pieces, "other", other).patch
    done = enroll(graphs["tflite"], pieces, "new", pictures[4:])
    assert (done.new, done.images, done.pictures) == (False, 5, 9)
    with Runtime(graphs["tflite"]) as runtime:
        probe, logits = shots(0, 1)[0], []
        for made in (whole, done.patch):
            runtime.add(made)
            logits.append(runtime.predict(probe).logits[:4])
    assert np.abs(logits[0] - logits[1]).max() < (0.02 if packing == "fp16" else 0.1) * np.abs(logits[0]).max()


def test_a_trained_class_moves_a_little_and_the_others_stay(known: dict[str, Patch], graphs: dict[str, Path]) -> None:
    before = known["fp16"]
    done = enroll(graphs["tflite"], before, "class 2", shots(3, 2))
    assert (done.new, done.pictures, done.patch.labels) == (False, 0, before.labels)
    moved = (done.patch.tensors["head_kernel"] != before.tensors["head_kernel"]).any(axis=0)
    assert moved.tolist() == [False, False, True]
    with Runtime(graphs["tflite"]) as runtime:
        scores = []
        for made in (before, done.patch):
            runtime.add(made)
            scores.append(runtime.predict(shots(3, 1, seed=2)[0]).logits[2])
    assert scores[1] > scores[0]


@pytest.mark.parametrize("packing", PACKED)
def test_a_fresh_head_begins_from_no_class(
    known: dict[str, Patch], every: dict[tuple[str, str], Path], tmp_path: Path, packing: str
) -> None:
    for graph in (every["tflite", "fp32"], every["onnx", "int8"]):
        made = enroll(graph, known[packing], "this", shots(3, 4), fresh=True, task="mine").patch
        assert (made.labels, made.task, made.metrics) == (("this",), "mine", {})
        made = enroll(graph, made, "that", shots(4, 4)).patch
        blob.write(made, tmp_path / "mine.epatch")
        with Runtime(graph) as runtime:
            runtime.load(tmp_path / "mine.epatch")
            assert [runtime.predict(shots(kind, 1, seed=2)[0]).label for kind in (3, 4)] == ["this", "that"]


def test_one_picture_many_pictures_and_the_same_one_again(known: dict[str, Patch], graphs: dict[str, Path]) -> None:
    (one,) = shots(3, 1)
    for seen in ([one], [one] * 50, [np.full((8, 8, 3), 128, np.uint8)] * 3):
        done = enroll(graphs["onnx"], known["int8"], "new", seen)
        with Runtime(graphs["onnx"]) as runtime:
            runtime.add(done.patch)
            assert runtime.predict(seen[0]).label == "new"


def test_the_command_writes_says_and_counts_versions(
    learns: Any, edgepatch: Any, patch: Path, images: list[Path]
) -> None:
    done = learns("--patch", patch, "--label", "tulip", *images[:2], "--out", patch)
    assert done.code == 0, done.err
    written = blob.read(patch)
    assert done.document == {
        "patch": str(patch), "task": "task0", "version": 2, "label": "tulip", "new": True, "images": 2, "pictures": 2,
        "skipped": [], "labels": ["class 0", "class 1", "class 2", "tulip"], "bytes": patch.stat().st_size,
        "backbone_id": written.backbone_id, "engine": "litert",
    }  # fmt: skip
    again = learns("--patch", patch, "--label", "tulip", *images[2:], "--out", patch).document
    assert (again["version"], again["new"], again["pictures"]) == (3, False, 4)
    shown = edgepatch("inspect", patch, "--json").document
    assert (shown["statistics"]["pictures"], shown["tensors"]["centre"]["dtype"]) == ([4], "uint8")
    mine = patch.with_name("mine.epatch")
    for version in (1, 2):
        done = learns("--patch", patch, "--label", "mug", images[0], "--fresh", "--out", mine)
        assert (done.document["task"], done.document["labels"], done.document["version"]) == ("mine", ["mug"], version)


def test_unreadable_pictures_are_skipped_and_named(
    learns: Any, patch: Path, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    call = ("--patch", patch, "--label", "new", "--out", tmp_path / "out.epatch")
    done = learns(*call, images[0], tmp_path / "broken.jpg", tmp_path / "absent.jpg")
    assert (done.code, done.document["images"], len(done.document["skipped"])) == (3, 1, 2)
    assert "broken.jpg" in done.err
    (tmp_path / "out.epatch").unlink()
    assert learns(*call, tmp_path / "broken.jpg").code == 3
    assert learns(*call, tmp_path / "absent.jpg").code == 2
    assert learns(*call).code == 2
    assert not (tmp_path / "out.epatch").exists()


def test_a_picture_given_twice_counts_once(learns: Any, patch: Path, images: list[Path], tmp_path: Path) -> None:
    done = learns("--patch", patch, "--label", "new", "--out", tmp_path / "out.epatch", images[0], images[0])
    assert (done.code, done.document["images"]) == (0, 1)
    assert "1 picture given twice" in done.err


def test_a_fresh_task_does_not_replace_the_patch_that_it_comes_from(
    learns: Any, patch: Path, images: list[Path]
) -> None:
    before = patch.read_bytes()
    done = learns("--patch", patch, "--fresh", "--label", "mug", images[0], "--out", patch)
    assert done.code == 2
    assert "--fresh" in done.document["error"]["message"] + str(done.document["error"])
    assert patch.read_bytes() == before


def test_bad_calls_are_refused_and_nothing_is_written(
    learns: Any, patch: Path, images: list[Path], tiny: Backbone, graphs: dict[str, Path], tmp_path: Path
) -> None:
    plain = make_patch(tiny, 0, 3)
    other = weights.create("mobilenet_v2", alpha=0.1, size=32, source="random", seed=9)
    known = blob.read(patch)
    bad = {
        "without": plain,
        "other": dataclasses.replace(known, backbone_id=other.id),
        "detector": dataclasses.replace(known, decode={"head": "detector"}),
        "ranges": dataclasses.replace(known, ranges=np.zeros((3, 2), np.float32)),
    }
    for name, each in bad.items():
        blob.write(each, tmp_path / f"{name}.epatch")
    (tmp_path / "cut.tflite").write_bytes(graphs["tflite"].read_bytes()[:-100])
    (tmp_path / "blocked").write_text("a file")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    out, good = tmp_path / "out.epatch", ("--label", "new", images[0])
    cases: list[tuple[int, tuple[object, ...], dict[str, Path]]] = [
        (2, ("--label", "", images[0], "--patch", patch, "--out", out), {}),
        (2, ("--label", "x" * 201, images[0], "--patch", patch, "--out", out), {}),
        (2, ("--label", "a\nb", images[0], "--patch", patch, "--out", out), {}),
        (2, (*good, "--task", "a\tb", "--patch", patch, "--out", out), {}),
        (2, (*good, "--patch", patch, "--out", tmp_path / "out.tflite"), {}),
        (2, (*good, "--patch", patch, "--out", tmp_path / "blocked" / "out.epatch"), {}),
        (2, (*good, "--patch", tmp_path / "absent.epatch", "--out", out), {}),
        (4, (*good, "--patch", tmp_path / "without.epatch", "--out", out), {}),
        (4, (*good, "--patch", tmp_path / "other.epatch", "--out", out), {}),
        (4, (*good, "--patch", tmp_path / "detector.epatch", "--out", out), {}),
        (4, (*good, "--patch", tmp_path / "ranges.epatch", "--out", out), {}),
        (3, (*good, "--patch", patch, "--out", out), {"graph": tmp_path / "cut.tflite"}),
        (3, (*good, "--patch", patch, "--out", out), {"graph": patch}),
    ]
    for code, call, more in cases:
        done = learns(*call, **more)
        assert (done.code, done.document["error"]["code"]) == (code, code), done.document
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert (
        "edgepatch calibrate"
        in learns(*good, "--patch", tmp_path / "without.epatch", "--out", out).document["error"]["mend"]
    )


def test_an_uncalibrated_patch_learns_on_float_graphs_only(
    known: dict[str, Patch], every: dict[tuple[str, str], Path]
) -> None:
    plain = dataclasses.replace(known["int8"], ranges=None)
    assert enroll(every["onnx", "fp32"], plain, "new", shots(3, 2)).patch.ranges is None
    with pytest.raises(MismatchError, match="not calibrated"):
        enroll(every["onnx", "int8"], plain, "new", shots(3, 2))


def test_features_that_say_nothing_are_refused(known: dict[str, Patch]) -> None:
    features = known["fp16"].tensors["head_kernel"].shape[0]
    with pytest.raises(EdgepatchError, match="finds nothing"):
        learn(known["fp16"], "new", np.zeros((3, features)))


def test_calibrating_gives_an_old_patch_statistics(
    edgepatch: Any, tiny: Backbone, tiny_file: Path, learns: Any, images: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "old.epatch"
    blob.write(make_patch(tiny, 0, 3), path)
    (tmp_path / "photos").mkdir()
    for image in images:
        image.rename(tmp_path / "photos" / image.name)
    assert edgepatch("calibrate", tiny_file, tmp_path / "photos", "--patch", path).code == 0
    call = ("--patch", path, "--label", "new", tmp_path / "photos" / "0.png", "--out", path)
    assert learns(*call).code == 0
    assert edgepatch("calibrate", tiny_file, tmp_path / "photos", "--patch", path).code == 0
    assert learns(*call).document["pictures"] == 2  # it still knows which classes were enrolled


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gain", 0),
        ("gain", -1.0),
        ("spread", 0.0),
        ("norm", "1"),
        ("level", 1e13),
        ("low", True),
        ("step", -0.1),
        ("pictures", [1, 0]),
        ("pictures", [1] * 4),
        ("pictures", 1),
        ("unknown", 1),
    ],
)
def test_broken_statistics_are_refused(known: dict[str, Patch], field: str, value: object) -> None:
    document, tensors = _parts(known["fp16"])
    document["statistics"][field] = value
    with pytest.raises(BadFileError, match="statistics"):
        blob.parse(container.dump(document, tensors), "task.epatch")


def test_a_centre_of_other_features_or_type_is_refused(known: dict[str, Patch], graphs: dict[str, Path]) -> None:
    document, tensors = _parts(known["fp16"])
    for centre in (None, np.zeros(8, np.float32), np.zeros((8, 2), np.uint8), np.zeros(0, np.uint8)):
        rest = {name: value for name, value in tensors.items() if name != "centre"}
        with pytest.raises(BadFileError, match="statistics"):
            blob.parse(container.dump(document, rest if centre is None else rest | {"centre": centre}), "task.epatch")
    with pytest.raises(BadFileError, match="statistics"):
        blob.parse(container.dump(document | {"statistics": {}}, tensors), "task.epatch")
    short = blob.parse(container.dump(document, tensors | {"centre": np.zeros(8, np.uint8)}), "task.epatch")
    with Runtime(graphs["tflite"]) as runtime, pytest.raises(BadFileError, match="other features"):
        runtime.add(short)


def test_statistics_of_nothing_are_none_and_of_pictures_all_alike_sound() -> None:
    kernel, bias = np.eye(6, 3, dtype=np.float32), np.zeros(3, np.float32)
    assert statistics.measure(np.zeros((0, 6), np.float32), kernel, bias) is None
    assert statistics.measure(np.zeros((4, 6), np.float32), kernel, bias) is None
    alike = statistics.measure(np.ones((4, 6), np.float32), kernel, bias)
    assert alike is not None
    assert np.allclose(alike.mean, 1)
    assert min(alike.gain, alike.spread, alike.norm) > 0


def test_a_device_learns_without_the_frameworks_of_the_host(
    graphs: dict[str, Path], patch: Path, images: list[Path], tmp_path: Path
) -> None:
    code = (
        "import sys\n"
        "from edgepatch.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "host = {'tensorflow', 'keras', 'onnx', 'matplotlib', 'flatbuffers'} & set(sys.modules)\n"
        "assert not host, host\n"
    )
    call = [sys.executable, "-c", code, "enroll", graphs["tflite"], "--patch", patch, "--label", "new", images[0]]
    done = subprocess.run(
        [*map(str, call), "--out", str(tmp_path / "out.epatch")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert blob.read(tmp_path / "out.epatch").labels[-1] == "new"


@pytest.fixture(scope="module")
def photographs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Patch]]:
    """A graph of a backbone that knows ImageNet, and a patch with statistics of fabrics of steel."""
    source = shared / "weights" / "mobilenet_v2_0.35_224_notop_keras.npz"
    if not source.exists():
        pytest.skip(f"there is no {source.name}")
    backbone = weights.create("mobilenet_v2", alpha=0.35, size=96, source=str(source))
    folder = tmp_path_factory.mktemp("photographs")
    backbones.write(backbone, folder / "small.backbone")
    (folder / "small.onnx").write_bytes(onnx.export(backbone))
    plain = make_patch(backbone, 0, 2, kinds="classifier")
    pixels = np.stack(
        [np.asarray(Image.open(path).convert("RGB").resize((96, 96))) for path in _some(shared, "clothing10", 4)]
    )
    yield (
        folder / "small.onnx",
        dataclasses.replace(
            plain, statistics=statistics.of(plain, backbone, network.deployment_form(backbone), pixels)
        ),
    )


def test_a_head_enrolled_from_ten_real_pictures_a_class_is_of_use(
    shared: Path, photographs: tuple[Path, Patch]
) -> None:
    graph, patch = photographs
    root, names = shared / "classify" / "steel6", ("crazing", "inclusion", "patches")
    for number, name in enumerate(names):
        ten = sorted((root / "train" / name).iterdir())[:10]
        patch = enroll(graph, patch, name, ten, fresh=number == 0).patch
    with Runtime(graph) as runtime:
        runtime.add(patch)
        right = [
            runtime.predict(path).label == name
            for name in names
            for path in sorted((root / "test" / name).iterdir())[:12]
        ]
    assert np.mean(right) > 0.85


def _parts(patch: Patch) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Document and tensors of the patch's file."""
    return container.parse(blob.dump(patch), "x")


def _some(shared: Path, name: str, count: int) -> list[Path]:
    return [
        path
        for folder in sorted((shared / "classify" / name / "train").iterdir())
        for path in sorted(folder.iterdir())[:count]
    ]


def _floating(patch: Patch) -> Patch:
    """The patch with its head in float32, so that no rounding hides a difference."""
    wide = {name: value.astype(np.float32) for name, value in patch.tensors.items() if name.startswith("head_")}
    return dataclasses.replace(patch, tensors=patch.tensors | wide)
