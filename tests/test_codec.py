"""The codec `int8`: small, near, and strict about what it reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_patch, pictures

from edgepatch import Runtime, blob, codec
from edgepatch.backbones import network, weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.errors import BadFileError, EdgepatchError, UsageError
from edgepatch.progress import Quiet
from edgepatch.training import storing, trainer
from edgepatch.training.recipe import Recipe


def packed(backbone: Backbone, patch: Patch) -> Patch:
    """The patch in the codec int8."""
    values = {name: value.astype(np.float32) for name, value in patch.tensors.items()}
    pixels = np.stack(pictures(8, size=backbone.input.size))
    return storing.store(backbone, patch, values, "int8", network.deployment_form(backbone), pixels)


@pytest.fixture(scope="module")
def small(tiny: Backbone) -> Patch:
    return packed(tiny, make_patch(tiny, 0, 10))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("count", [1, 8, 1001])
def test_integers_come_back_as_they_were(bits: int, count: int) -> None:
    half = 2 ** (bits - 1)
    integers = np.random.default_rng(0).integers(-half + 1, half, count)
    planes = codec.pack(integers, bits)
    assert planes.shape == (bits, -(-count // 8))
    np.testing.assert_array_equal(codec.unpack(planes, (count,)), integers)


def test_every_value_is_within_half_a_step(tiny: Backbone, small: Patch) -> None:
    exact, found = tiny.values(make_patch(tiny, 0, 10)), tiny.values(small)
    own, channels = tiny.defaults(), tiny.plan.channels
    slack = np.repeat(small.tensors["scale_step"], channels) * np.abs(own["scale"]) / 2
    assert (np.abs(found["scale"] - exact["scale"]) <= 1.01 * slack + 1e-6).all()
    slack = small.tensors["head_kernel_step"] / 2 * 1.01 + 1e-6
    assert (np.abs(found["head_kernel"] - exact["head_kernel"]) <= slack).all()


def test_a_packed_patch_answers_nearly_as_the_one_it_was_made_of(
    tiny: Backbone, graphs: dict[str, Path], small: Patch
) -> None:
    for graph in graphs.values():
        answers = []
        for patch in (make_patch(tiny, 0, 10), small):
            with Runtime(graph, mode="bind") as runtime:
                runtime.add(patch)
                answers.append(np.stack([runtime.predict(picture).logits for picture in pictures(30, size=32)]))
        assert np.corrcoef(answers[0].ravel(), answers[1].ravel())[0, 1] > 0.98


def test_the_bias_makes_up_for_what_rounding_the_scale_shifts_on_average(tiny: Backbone) -> None:
    patch = make_patch(tiny, 0, 3)
    values = {name: value.astype(np.float32) for name, value in patch.tensors.items()}
    mean = np.concatenate([tiny.part(site, "mean") for site in tiny.plan.sites]) + 5
    shifts = []
    for given in (None, mean):
        stored, how = codec.encode(values, patch.sites, tiny.trunk, "int8", given)
        got = codec.decode(dataclasses.replace(patch, tensors=stored, codec=how), tiny.trunk)
        shifts.append(np.abs((got["scale"] - values["scale"]) * mean + got["bias"] - values["bias"]).mean())
    assert shifts[1] < 0.8 * shifts[0]


def test_the_file_of_a_whole_mobilenet_patch_with_ten_classes_is_under_40_kb(tmp_path: Path) -> None:
    """Everything included: labels, ranges, metrics. A hundred classes are packed as well."""
    backbone = weights.create("mobilenet_v2", alpha=1.0, size=96, source="random", seed=0)
    for classes, limit in ((10, 40_000), (100, 160_000)):
        patch = make_patch(backbone, 0, classes)
        own = {name: value.astype(np.float32) for name, value in patch.tensors.items()}
        stored, how = codec.encode(own, patch.sites, backbone.trunk, "int8")
        heads = tuple(name for name in stored if name.startswith("head_"))
        kinds = {"scale_bias": tuple(name for name in stored if name not in heads), "classifier": heads}
        ranges = np.zeros((len(backbone.plan.nodes) + 3, 2), np.float32)
        metrics = {f"a metric of some length {number}": 1 / 3 for number in range(10)}
        small = dataclasses.replace(
            patch, tensors=stored, codec=how, kinds=kinds, ranges=ranges, metrics=metrics, licence="CC-BY-4.0"
        )
        assert blob.write(small, tmp_path / "small.epatch") < limit
        assert blob.read(tmp_path / "small.epatch").codec["head_kernel"]["bits"] == (6 if classes == 10 else 8)


def test_a_site_whose_values_are_the_backbones_own_stays_exactly_so(tiny: Backbone) -> None:
    patch = make_patch(tiny, 0, 3)
    own = tiny.defaults()
    values = {**own, "head_kernel": np.zeros((1280, 3), np.float32), "head_bias": np.zeros(3, np.float32)}
    stored, how = codec.encode(values, patch.sites, tiny.trunk, "int8")
    for name, value in codec.decode(dataclasses.replace(patch, tensors=stored, codec=how), tiny.trunk).items():
        np.testing.assert_array_equal(value, values[name])


def test_a_scale_of_zero_in_the_backbone_is_no_division_by_zero(tiny: Backbone) -> None:
    trunk = dataclasses.replace(tiny.trunk, scale=tiny.trunk.scale.copy())
    trunk.scale[:5] = 0
    patch = make_patch(tiny, 0, 3)
    values = {name: value.astype(np.float32) for name, value in patch.tensors.items()}
    stored, how = codec.encode(values, patch.sites, trunk, "int8")
    got = codec.decode(dataclasses.replace(patch, tensors=stored, codec=how), trunk)
    assert all(np.isfinite(value).all() for value in got.values())


@pytest.mark.parametrize(
    "how",
    [
        {"bits": 7, "shape": [100]},
        {"bits": 9, "shape": [100]},
        {"bits": 6, "shape": [10**9]},
        {"bits": 6, "shape": [-8, -8]},
        {"bits": 6, "shape": "many"},
        {"bits": 6, "shape": []},
        {"bits": "6", "shape": [8]},
        {"shape": [8]},
        {"bits": 6},
        {"bits": 6, "shape": [8], "more": 1},
        [],
        7,
    ],
)
@pytest.mark.parametrize("name", ["scale", "head_kernel"])
def test_a_codec_that_does_not_fit_its_tensors_is_refused(
    graphs: dict[str, Path], small: Patch, how: Any, name: str
) -> None:
    broken = dataclasses.replace(small, codec={**small.codec, name: how})
    with Runtime(graphs["tflite"]) as runtime, pytest.raises(EdgepatchError):
        runtime.add(broken)


def test_a_packed_tensor_without_its_steps_or_its_codec_is_refused(graphs: dict[str, Path], small: Patch) -> None:
    tensors = {name: value for name, value in small.tensors.items() if name != "bias_step"}
    without = {name: how for name, how in small.codec.items() if name != "bias"}
    foreign = {**small.codec, "nothing": {"bits": 6, "shape": [8]}}
    short = {**small.tensors, "scale_step": small.tensors["scale_step"][:-1]}
    with Runtime(graphs["tflite"]) as runtime:
        for changes in ({"tensors": tensors}, {"codec": without}, {"tensors": short}):
            with pytest.raises(EdgepatchError):
                runtime.add(dataclasses.replace(small, **changes))
        with pytest.raises(BadFileError, match="codec"):
            runtime.add(dataclasses.replace(small, codec=foreign))


@pytest.mark.parametrize(
    "change",
    [
        lambda codec, tensors: codec.pop("scale"),
        lambda codec, tensors: (codec.pop("bias"), tensors.pop("bias_step")),
        lambda codec, tensors: tensors.update(head_kernel_step=np.float32(0.1)),
        lambda codec, tensors: tensors.update(head_kernel_step=np.ones((400_000,), np.float32)),
        lambda codec, tensors: tensors.update(scale_step=tensors["scale_step"].astype(np.float16)),
        lambda codec, tensors: tensors.update(junk_step=np.ones(3, np.float32)),
        lambda codec, tensors: codec["scale"].update(bits=6.0),
        lambda codec, tensors: codec["scale"].update(shape=3616),
        lambda codec, tensors: codec["head_kernel"].update(shape=[10, 1280]),
        lambda codec, tensors: tensors.update(scale=tensors["scale"][:, :-1]),
    ],
)
def test_half_a_codec_or_one_of_other_types_is_refused(graphs: dict[str, Path], small: Patch, change: Any) -> None:
    how, tensors = {name: dict(each) for name, each in small.codec.items()}, dict(small.tensors)
    change(how, tensors)
    with Runtime(graphs["tflite"]) as runtime, pytest.raises(EdgepatchError):
        runtime.add(dataclasses.replace(small, codec=how, tensors=tensors))


def test_a_head_of_another_width_is_refused_before_it_is_unpacked(
    graphs: dict[str, Path], small: Patch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a tensor of the wrong shape was unpacked")

    monkeypatch.setattr(codec, "unpack", never)
    planes = np.zeros((2, 10**6), np.uint8)
    how = {**small.codec, "head_kernel": {"bits": 2, "shape": [800_000, 10]}}
    broken = dataclasses.replace(small, codec=how, tensors={**small.tensors, "head_kernel": planes})
    with Runtime(graphs["tflite"]) as runtime, pytest.raises(EdgepatchError, match="another shape"):
        runtime.add(broken)


def test_one_channel_beyond_all_others_does_not_coarsen_its_site(tiny: Backbone) -> None:
    trunk = dataclasses.replace(tiny.trunk, scale=tiny.trunk.scale.copy())
    trunk.scale[0] = 1e-7
    patch = make_patch(tiny, 0, 3)
    values = {name: value.astype(np.float32) for name, value in patch.tensors.items()}
    stored, how = codec.encode(values, patch.sites, trunk, "int8")
    got = codec.decode(dataclasses.replace(patch, tensors=stored, codec=how), trunk)
    first = slice(1, tiny.plan.channels[0])
    np.testing.assert_allclose(got["scale"][first], values["scale"][first], rtol=0.08)


def test_training_writes_a_packed_patch_that_is_as_good_as_it_says(
    tiny: Backbone, digits: Path, tmp_path: Path, graphs: dict[str, Path]
) -> None:
    recipe = Recipe(epochs=1, batch=8)
    out = tmp_path / "a.epatch"
    result = trainer.train(tiny, digits, "scale_bias", out, recipe=recipe, codec="int8", reporter=Quiet())
    patch = blob.read(out)
    assert patch.codec
    assert patch.ranges is not None
    assert "scale_step" in patch.kinds["scale_bias"]
    assert out.stat().st_size < 0.6 * blob.write(make_patch(tiny, 0, 3), tmp_path / "b.epatch")
    with Runtime(graphs["tflite"]) as runtime:
        runtime.load(out)
        assert result.report["accuracy"] == patch.metrics["accuracy"]
    with pytest.raises(UsageError, match="no such codec"):
        trainer.train(tiny, digits, "scale_bias", out, recipe=recipe, codec="int3", reporter=Quiet())


@pytest.mark.parametrize("placement", ["project", "pointwise"])
def test_training_at_a_placement_changes_those_sites_alone(
    tiny: Backbone, digits: Path, tmp_path: Path, placement: str
) -> None:
    out = tmp_path / "a.epatch"
    kinds = f"scale_bias@{placement}"
    result = trainer.train(tiny, digits, kinds, out, recipe=Recipe(epochs=2, batch=8), reporter=Quiet())
    patch = blob.read(out)
    assert patch.kind == f"scale_bias@{placement}+classifier"
    inside = np.repeat([site.within(placement) for site in tiny.plan.sites], tiny.plan.channels)
    values, own = tiny.values(patch), tiny.defaults()
    assert patch.tensors["scale"].shape == (inside.sum(),)
    np.testing.assert_array_equal(values["scale"][~inside], own["scale"][~inside])
    if not result.report["fell_back_to_head"]:
        assert np.abs(values["scale"][inside] - own["scale"][inside]).max() > 1e-3


def test_kinds_with_placements_are_named_and_refused_by_name() -> None:
    from edgepatch import patches

    bodies, head = patches.parse("scale_bias@project")
    assert (bodies[0].name, head.name) == ("scale_bias@project", "classifier")
    for text, problem in (
        ("scale_bias@nowhere", "no such placement"),
        ("classifier@project", "no placement"),
        ("classifier:2", "no number"),
        ("depthwise@project", "cannot be confined"),
        ("mask:3", "takes no number"),
        ("scale_bias@project+scale_bias", "named twice"),
        ("scale_bias@", "no such placement"),
    ):
        with pytest.raises(UsageError, match=problem):
            patches.parse(text)


def test_a_scale_without_a_bias_is_packed_and_unpacked(tiny: Backbone) -> None:
    """No kind has one today; the effects allow it."""
    patch = make_patch(tiny, 0, 3)
    values = {name: value.astype(np.float32) for name, value in patch.tensors.items() if name != "bias"}
    sites = {"scale": patch.sites["scale"]}
    stored, how = codec.encode(values, sites, tiny.trunk, "int8")
    got = codec.decode(dataclasses.replace(patch, tensors=stored, codec=how, sites=sites), tiny.trunk)
    np.testing.assert_array_equal(got["bias"], tiny.trunk.bias)
    assert np.corrcoef(got["scale"], values["scale"])[0, 1] > 0.99
