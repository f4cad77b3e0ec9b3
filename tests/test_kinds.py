"""Every patch kind: what is trained is what is stored, deployed, bound and baked; kinds add up, or are refused."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import make_patch, pictures
from edgepatch.converters import onnx, tflite

from edgepatch import Runtime, blob, codec, metrics, patches
from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE, Builder, Plan
from edgepatch.blob import Patch
from edgepatch.data import folder
from edgepatch.data import pictures as pictures_of
from edgepatch.errors import BadFileError, MismatchError, UsageError
from edgepatch.patches import Body, Change, Options
from edgepatch.patches.base import Counted
from edgepatch.progress import Quiet
from edgepatch.training import calibration, storing, trainer
from edgepatch.training.recipe import Recipe

# every kind there is, found as `--patch` finds it: a new one takes part without a word here
KINDS = sorted(
    f"{name}:2" if isinstance(kind, Counted) else name
    for name, kind in patches.kinds().items()
    if isinstance(kind, Body)
)
PAIRS = [f"{one}+{other}" for one, other in itertools.combinations(KINDS, 2)]
TOGETHER = "mask@pointwise+depthwise+bias@project+policy"
BOUND = {"scale_bias", "bias"}
GRAPHS = [(kind, precision) for kind in ("tflite", "onnx") for precision in ("fp32", "int8")]


@pytest.fixture(scope="module")
def trunk(tiny: Backbone) -> keras.Model:
    return network.deployment_form(tiny)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack(pictures(6, size=32, seed=3))


def in_keras(trunk: keras.Model, backbone: Backbone, patch: Patch, images: np.ndarray) -> np.ndarray:
    return storing.logits(trunk, backbone, backbone.values(patch), patch, images)


def on_device(graph: Path, patch: Patch, mode: str, images: np.ndarray) -> np.ndarray:
    patch = dataclasses.replace(patch, input=dataclasses.replace(patch.input, resize="stretch"))  # as they are
    with Runtime(graph, mode=mode) as runtime:
        runtime.add(patch)
        return np.stack([runtime.predict(image).logits for image in images])


def bindable(kinds: str) -> bool:
    return {part.partition("@")[0] for part in kinds.split("+")} <= BOUND


@pytest.mark.parametrize("kinds", [*KINDS, TOGETHER])
def test_every_kind_answers_in_every_engine_and_precision_bound_and_baked_as_in_keras(
    tiny: Backbone,
    every_graph: dict[tuple[str, str], Path],
    trunk: keras.Model,
    images: np.ndarray,
    kinds: str,
    tmp_path: Path,
) -> None:
    patch = make_patch(tiny, 1, 5, kinds=kinds)
    patch = dataclasses.replace(patch, ranges=calibration.calibrate(tiny, patch, np.stack(pictures(16, size=32))))
    blob.write(patch, tmp_path / "a.epatch")
    patch = blob.read(tmp_path / "a.epatch")
    assert patch.kind == f"{kinds}+classifier"
    expected = in_keras(trunk, tiny, patch, images)
    own = in_keras(trunk, tiny, dataclasses.replace(patch, sites={}, tensors=heads(patch)), images)
    assert np.abs(expected - own).max() > 1e-2, "the patch changes nothing"
    for key in GRAPHS:
        for mode in ("bind", "bake") if bindable(kinds) and key[1] != "int8" else ("auto", "bake"):
            got = on_device(every_graph[key], patch, mode, images)
            if key[1] == "fp32":
                np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max(), err_msg=f"{key} {mode}")
            else:  # random weights lose more in int8 than trained ones
                assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.8, (key, mode)


def heads(patch: Patch) -> dict[str, np.ndarray]:
    return {name: value for name, value in patch.tensors.items() if name.startswith("head_")}


@pytest.mark.parametrize("kinds", PAIRS)
def test_any_two_kinds_add_up(
    tiny: Backbone, graphs: dict[str, Path], trunk: keras.Model, images: np.ndarray, kinds: str
) -> None:
    patch = make_patch(tiny, 2, 3, kinds=kinds)
    whole = set(patch.sites) | ({"skip"} & set(patch.tensors))
    each = [set(make_patch(tiny, 2, 3, kinds=part).tensors) for part in kinds.split("+")]
    assert whole == (each[0] | each[1]) - {"head_kernel", "head_bias"}
    expected = in_keras(trunk, tiny, patch, images[:2])
    for graph in graphs.values():
        got = on_device(graph, patch, "auto", images[:2])
        np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("kinds", [*KINDS, TOGETHER])
def test_what_is_deployed_computes_what_was_trained(
    tiny: Backbone, trunk: keras.Model, images: np.ndarray, kinds: str
) -> None:
    change = Change(tiny, patches.parse(kinds)[0])
    model = network.build(change)
    for name, value in change.start().items():
        np.testing.assert_allclose(change.tensors()[name], value, atol=1e-6, err_msg=f"{name} before training")
    inputs = tiny.input.normalise(images)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        spread = {"real": 0.5, "logits": 3.0}.get(variable.name, 0.05)
        variable.assign(rng.normal(0, spread, variable.shape))
    if change.skips:
        assert not change.skips.at(9, 3, 0), "the search is over"
    tensors = {**change.tensors(), "head_kernel": np.eye(tiny.plan.features), "head_bias": np.zeros(1)}
    stored, _ = codec.encode(tensors, change.effects.sites, tiny.trunk, "fp16")
    patch = dataclasses.replace(make_patch(tiny, 0, 3), tensors=stored, sites=change.effects.sites)
    exact = {name: tensors[name] if tensors[name].dtype != bool else value for name, value in stored.items()}
    network.set_values(trunk, tiny, tiny.values(dataclasses.replace(patch, tensors=exact)))
    trained, deployed = (np.asarray(net(inputs)) for net in (model, trunk))
    np.testing.assert_allclose(trained, deployed, atol=1e-4 * np.abs(deployed).max())
    assert np.abs(trained - np.asarray(network.build(network.Places(tiny))(inputs))).max() > 1e-3


@pytest.fixture(scope="module")
def gated_graphs(gated: Backbone, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    paths, folder = [], tmp_path_factory.mktemp("gated")
    for kind, converter in (("tflite", tflite), ("onnx", onnx)):
        for precision in ("fp32", "int8"):
            paths.append(folder / f"{precision}.{kind}")
            paths[-1].write_bytes(converter.export(gated, precision))
    return paths


@pytest.mark.parametrize("kinds", [*KINDS, TOGETHER])
def test_every_kind_trains_and_its_file_is_as_good_as_it_says(
    gated: Backbone, gated_graphs: list[Path], digits: Path, edgepatch: Any, kinds: str, tmp_path: Path
) -> None:
    backbone, out = gated, tmp_path / "a.epatch"
    recipe = Recipe(epochs=2, batch=16)
    report = trainer.train(backbone, digits, kinds, out, recipe=recipe, codec="int8", reporter=Quiet()).report
    assert len(report["history"]) == 2
    assert report["accuracy"] >= report["head_accuracy"] > 0.5, "even random features tell three digits apart a little"
    shown = edgepatch("inspect", out, "--json").document
    assert list(shown["kinds"]) == [*kinds.split("+"), "classifier"]
    assert "+".join(shown["kinds"]) == report["kinds"]
    patch = blob.read(out)
    assert patch.ranges is not None
    effects = patches.combine(patches.parse(kinds)[0], backbone.plan)
    values = sum(backbone.trunk.length(effect, numbers) for effect, numbers in effects.sites.items())
    bits = len(backbone.plan.residuals) if effects.skip else 0
    assert report["trained_parameters"] == values + bits + (backbone.plan.features + 1) * 3
    images = pictures_of.load(folder.training_splits(digits, seed=0)[1], patch.input, Quiet())
    answers = in_keras(network.deployment_form(backbone), backbone, patch, images.pixels)
    assert metrics.accuracy(answers, images.labels) == report["accuracy"]
    for graph in gated_graphs:
        got = on_device(graph, patch, "auto", images.pixels)
        if graph.stem == "fp32":
            np.testing.assert_allclose(got, answers, atol=1e-4 * np.abs(answers).max())
        else:
            assert np.corrcoef(got.ravel(), answers.ravel())[0, 1] > 0.8


NEW_KIND = """
from edgepatch.patches.base import Body
from edgepatch.patches.effects import Effects, placed

class Expanding(Body):
    name = "expanding"

    def effects(self, plan):
        return Effects(kernel=placed(plan, "expand"), bias=placed(plan, "project"))

KIND = Expanding()
"""


def test_a_new_kind_is_one_module_and_runs_on_devices_that_have_never_heard_of_it(
    tiny: Backbone,
    graphs: dict[str, Path],
    trunk: keras.Model,
    images: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "expanding.py").write_text(NEW_KIND)
    monkeypatch.setattr(patches, "__path__", [*patches.__path__, str(tmp_path)])
    patches.kinds.cache_clear()
    try:
        made = make_patch(tiny, 3, 4, kinds="expanding+policy")
    finally:
        monkeypatch.undo()
        sys.modules.pop("edgepatch.patches.expanding", None)
        patches.kinds.cache_clear()
    blob.write(made, tmp_path / "a.epatch")
    patch = blob.read(tmp_path / "a.epatch")
    assert patch.kind == "expanding+policy+classifier"
    with pytest.raises(UsageError, match="no such patch kind"):
        patches.parse("expanding")
    expected = in_keras(trunk, tiny, patch, images[:2])
    for graph in graphs.values():
        got = on_device(graph, patch, "auto", images[:2])
        np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("kinds", KINDS)
def test_a_packed_patch_of_any_kind_is_near_the_one_it_was_made_of(
    tiny: Backbone, trunk: keras.Model, images: np.ndarray, kinds: str
) -> None:
    patch = make_patch(tiny, 4, 5, kinds=kinds)
    change = Change(tiny, patches.parse(kinds)[0])
    exact = codec.decode(patch, tiny.trunk)
    flat = {name: value.astype(np.float32) for name, value in patch.tensors.items()}
    for name in ("mask", "skip"):
        if name in flat:
            sites = patch.sites.get(name, ())
            own = [exact[f"{tiny.trunk.names[number]}/mask"].ravel() for number in sites]
            flat[name] = np.concatenate(own) if own else exact["skip"]
    small = storing.store(tiny, patch, flat, "int8", trunk, images)
    assert len(blob.dump(small)) < len(blob.dump(patch))
    one, other = (in_keras(trunk, tiny, each, images) for each in (patch, small))
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98
    assert set(small.sites) == set(change.effects.sites)


def test_a_masked_weight_is_zero_in_int8(tiny: Backbone, every_graph: dict[tuple[str, str], Path]) -> None:
    from edgepatch.runtime import folding, graph_file
    from edgepatch.runtime.fitting import fit

    patch = make_patch(tiny, 1, 3, kinds="mask")
    patch = dataclasses.replace(patch, ranges=np.tile(np.float32([-1, 1]), (len(tiny.plan.nodes) + 3, 1)))
    for kind in ("tflite", "onnx"):
        graph = graph_file.read(every_graph[kind, "int8"])
        fitted = fit(graph, patch, None)
        whole = folding.fold(graph, {**tiny.defaults(), **heads32(patch)}, fitted.ranges)
        masked = folding.fold(graph, fitted.values, fitted.ranges)
        for number, site in enumerate(tiny.plan.sites):
            bits = fitted.values[f"{site.name}/mask"]
            own, got = whole.sites[number].kernel, masked.sites[number].kernel
            assert (got == 0).sum() >= (~bits).sum()
            np.testing.assert_array_equal(got[got != 0], own[got != 0])


def heads32(patch: Patch) -> dict[str, np.ndarray]:
    return {name: value.astype(np.float32) for name, value in heads(patch).items()}


def test_a_patch_that_cannot_be_bound_is_refused_by_bind_and_baked_at_once_by_auto(
    tiny: Backbone, graphs: dict[str, Path]
) -> None:
    patch = make_patch(tiny, 1, 3, kinds="depthwise")
    with (
        Runtime(graphs["tflite"], mode="bind") as runtime,
        pytest.raises(UsageError, match="cannot be bound") as caught,
    ):
        runtime.add(patch, file="a.epatch")
    assert caught.value.details["expected"] == "auto or bake"
    with Runtime(graphs["tflite"], memory_mb=0) as runtime:
        runtime.add(patch)
        runtime.predict(pictures(1)[0])
        assert runtime.baked == (patch.task,)


def test_verify_tries_a_patch_in_the_forms_it_can_run_in(
    tiny: Backbone, graphs: dict[str, Path], edgepatch: Any, tmp_path: Path
) -> None:
    for kinds in ("scale_bias", "mask"):
        blob.write(make_patch(tiny, 1, 3, kinds=kinds), tmp_path / f"{kinds}.epatch")
    found = edgepatch("verify", graphs["onnx"], *sorted(tmp_path.iterdir()), "--json")
    assert found.code == 0, found.err
    assert [row["forms"] for row in found.document["patches"]] == [["bake"], ["bind", "bake"]]


def test_bench_measures_what_cannot_be_bound_baked_only(
    tiny: Backbone, graphs: dict[str, Path], edgepatch: Any, tmp_path: Path
) -> None:
    blob.write(make_patch(tiny, 1, 3, kinds="policy"), tmp_path / "a.epatch")
    options = ("--rounds", 1, "--no-memory", "--engine", "litert", "--json")
    found = edgepatch("bench", graphs["tflite"], "--patch", tmp_path / "a.epatch", *options)
    assert found.code == 0, found.err
    assert {row["mode"] for row in found.document["rows"]} == {"bake", "dedicated"}
    assert any("cannot" in row["reason"] or "bound" in row["reason"] for row in found.document["skipped"])


def test_an_adapter_of_kernels_is_refused(tiny: Backbone) -> None:
    from edgepatch.converters import onnx_adapter

    with pytest.raises(MismatchError, match="which an adapter cannot"):
        onnx_adapter.export(tiny, make_patch(tiny, 1, 3, kinds="depthwise"))


def test_a_graph_of_a_placement_refuses_kernels_it_has_scaled(tiny: Backbone, tmp_path: Path) -> None:
    (tmp_path / "g.tflite").write_bytes(tflite.export(tiny, "fp32", "project"))
    with Runtime(tmp_path / "g.tflite") as runtime, pytest.raises(MismatchError, match="keeps as they are"):
        runtime.add(make_patch(tiny, 1, 3, kinds="depthwise"))


@pytest.mark.parametrize(
    ("kinds", "problem", "possible"),
    [
        ("bottom", "needs a number", "bottom:1 to bottom:19"),
        ("bottom:0", "needs a number", "bottom:1 or more"),
        ("top:99", "not so many blocks", "top:1 to top:19"),
        ("bottom:x", "needs a number", "bottom:x"),
        ("mask@depthwise+depthwise", "no kernel to mask", "mask@pointwise"),
        ("mask@nowhere", "no such placement", "project"),
        ("depthwise@project", "cannot be confined", ""),
        ("bias:3", "takes no number", ""),
        ("bottom:2+bottom:3", "named twice", ""),
        ("scale_bias+nothing", "no such patch kind", "depthwise"),
    ],
)
def test_kinds_that_do_not_go_together_are_refused_before_anything_is_read(
    tiny: Backbone, tmp_path: Path, kinds: str, problem: str, possible: str
) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        trainer.train(tiny, tmp_path / "no such folder", kinds, tmp_path / "a.epatch", reporter=Quiet())
    assert possible in str(caught.value)


def test_a_policy_needs_blocks_with_a_shortcut() -> None:
    net = Builder()
    net.site(net.site(IMAGE, "stem", 0, "stem", 8, 3, 2, "relu6"), "top", 1, "top", 8, 1, 1, "relu6")
    plan = Plan("plain", 1.0, "same", 1e-3, tuple(net.nodes))
    for kinds, problem in (
        ("policy", "nothing to skip"),
        ("depthwise", "no sites of this placement"),
        ("bias@project", "no sites of this placement"),
    ):
        with pytest.raises(UsageError, match=problem):
            patches.combine(patches.parse(kinds)[0], plan)


def test_a_mask_for_other_kernels_and_a_policy_for_other_blocks_are_refused(
    tiny: Backbone, graphs: dict[str, Path]
) -> None:
    masked, skipping = (make_patch(tiny, 1, 3, kinds=kinds) for kinds in ("mask", "policy"))
    tensors = {**masked.tensors, "mask": masked.tensors["mask"][:-1]}
    for patch, problem in (
        (dataclasses.replace(masked, tensors=tensors), "mask for other kernels"),
        (dataclasses.replace(skipping, tensors={**skipping.tensors, "skip": np.zeros(3, np.uint8)}), "skips blocks"),
    ):
        with Runtime(graphs["tflite"]) as runtime, pytest.raises(MismatchError, match=problem):
            runtime.add(patch)
        with pytest.raises(MismatchError, match=problem):
            tiny.values(patch)
    count = len(tiny.plan.residuals)
    for value in (np.full(count, 2, np.uint8), np.zeros(count, np.float32)):
        broken = dataclasses.replace(skipping, tensors={**skipping.tensors, "skip": value})
        with Runtime(graphs["tflite"]) as runtime, pytest.raises(BadFileError, match="bits"):
            runtime.add(broken)


def test_a_policy_is_searched_from_the_last_block_to_the_first_and_then_kept(tiny: Backbone) -> None:
    change = Change(tiny, patches.parse("policy")[0])
    skips = change.skips
    assert skips is not None
    opened, heat = [], []
    for epoch in range(10):
        assert skips.at(epoch, 10, seed=0)
        opened.append(np.asarray(skips.open).tolist())
        heat.append(float(skips.temperature))
    assert opened[0] == sorted(opened[0]), "the last ones first"
    assert [sum(row) for row in opened] == sorted(sum(row) for row in opened)
    count = len(tiny.plan.residuals)
    assert sum(opened[0]) < sum(opened[-1]) == count
    assert heat[0] == pytest.approx(5.0)
    assert heat == sorted(heat, reverse=True)
    skips.logits.assign(np.where(np.arange(count) < 5, -3, 3))
    assert not skips.at(10, 10, seed=0)
    assert [float(skips.keep(number, training=True)) for number in range(count)] == [0.0] * 5 + [1.0] * (count - 5)
    assert all(float(skips.loss(number)) == 0 for number in range(count))


def test_every_epoch_of_a_search_has_noise_of_its_own_and_a_resumed_one_the_same(tiny: Backbone) -> None:
    def draws(epoch: int) -> list[float]:
        change = Change(tiny, patches.parse("policy")[0])
        assert change.skips is not None
        change.skips.at(epoch, 10, seed=7)
        change.skips.open.assign(np.ones(change.skips.count, np.float32))
        return [float(change.skips.keep(number, training=True)) for number in range(change.skips.count)]

    epochs = [draws(epoch) for epoch in (4, 5, 6)]
    assert epochs[0] == draws(4)
    flat = [round(value, 6) for epoch in epochs for value in epoch]
    assert len(set(flat)) == len(flat)


def test_sparsity_rewards_skipping_and_sharing_draws_to_other_tasks_choices(tiny: Backbone) -> None:
    count = len(tiny.plan.residuals)
    skips_all, skips_none = np.ones(count, bool), np.zeros(count, bool)

    def loss(logit: float, **options: Any) -> list[float]:
        change = Change(tiny, patches.parse("policy")[0], Options(**options))
        assert change.skips is not None
        change.skips.at(9, 10, seed=0)
        change.skips.logits.assign(np.full(count, logit))
        return [float(change.skips.loss(number)) for number in range(count)]

    assert sum(loss(-2, sparsity=0.1)) < sum(loss(2, sparsity=0.1))
    alike, unlike = (loss(-2, sparsity=0, sharing=1, others=[other]) for other in (skips_all, skips_none))
    assert sum(alike) < sum(unlike)
    assert unlike == sorted(unlike, reverse=True), "lower blocks weigh more"


def test_a_policy_is_drawn_to_patches_of_the_same_backbone_only(tiny: Backbone, digits: Path, tmp_path: Path) -> None:
    blob.write(make_patch(tiny, 1, 3), tmp_path / "plain.epatch")
    blob.write(dataclasses.replace(make_patch(tiny, 1, 3, kinds="policy"), backbone_id="0" * 64), tmp_path / "o.epatch")
    for name, kinds, error in (
        ("plain", "policy", UsageError),
        ("o", "policy", MismatchError),
        ("plain", "scale_bias", UsageError),
    ):
        with pytest.raises(error):
            trainer.train(
                tiny, digits, kinds, tmp_path / "a.epatch", share=[tmp_path / f"{name}.epatch"], reporter=Quiet()
            )


def test_real_valued_masks_pass_the_gradient_through_the_threshold(tiny: Backbone) -> None:
    import tensorflow as tf

    change = Change(tiny, patches.parse("mask@project")[0])
    network.build(change)
    layer = next(iter(change._convolutions.values()))
    layer.real.assign(np.where(np.arange(np.prod(layer.real.shape)).reshape(layer.real.shape) % 2, 1.0, -1.0))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer.effective())
    gradient = np.asarray(tape.gradient(total, layer.real.value))
    kernel = np.asarray(layer.kernel)
    np.testing.assert_array_equal(np.asarray(layer.effective()) == 0, ~layer.value() | (kernel == 0))
    np.testing.assert_allclose(gradient, kernel * gradient.sum() / kernel.sum(), rtol=1e-4, atol=1e-9)
