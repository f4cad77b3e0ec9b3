"""Every kind of node that a plan can have answers in every export as in numpy, whatever engine, form and precision."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import plans
import pytest
import reference
from ai_edge_litert import schema_py_generated as schema
from edgepatch.converters import dedicated, onnx, tflite
from plans import KINDS, PRECISIONS, answers, made, require_near, values_of

from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import ACTIVATIONS, IMAGE, Builder
from edgepatch.runtime import graph_file
from edgepatch.runtime.formats import FORMATS
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.model import Model
from edgepatch.training import calibration

CONVERTERS: dict[str, Any] = {"tflite": tflite, "onnx": onnx}
INPUTS = ("scale", "bias", "head_kernel", "head_bias")


def exported(backbone: Backbone, kind: str, precision: str = "fp32", placement: str = "all") -> Graph:
    return graph_file.parse(CONVERTERS[kind].export(backbone, precision, placement), "the exported graph")


def expected(backbone: Backbone, values: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    return np.concatenate([reference.logits(backbone, values, image[None]) for image in images])


def require_right(backbone: Backbone, kind: str, precision: str) -> None:
    """Both forms of an export answer as numpy does."""
    values, images = values_of(backbone), plans.pictures(backbone)
    graph, exact = exported(backbone, kind, precision), expected(backbone, values, images)
    baked = FORMATS[kind].bake_model(graph, values, reference.ranges(backbone, values, images), graph.input.size)
    require_near(answers(baked, kind, images), exact, precision)
    if "bind" in graph.forms:
        bound = answers(Model(graph.data), kind, images, {name: values[name] for name in INPUTS})
        require_near(bound, exact, precision)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_network_with_every_kind_of_node_answers_in_every_precision(kind: str, precision: str) -> None:
    require_right(made(plans.gated), kind, precision)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("size", [32, 33, 37, 46])
def test_zeros_go_where_the_plan_puts_them_whatever_the_size(kind: str, padding: str, size: int) -> None:
    require_right(made(plans.gated, padding, size), kind, "fp32")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_is_right_by_itself(kind: str, precision: str, activation: str) -> None:
    """A network this small loses little in int8, so that a wrong scale would show."""

    def lay(net: Builder) -> None:
        last = net.site(IMAGE, "stem", 0, "stem", 8, 3, 2, activation)
        net.site(net.mean(last), "top", 1, "top", 24, 1, 1, activation, normalised=False)

    backbone = made(lay, size=16)
    values, images = values_of(backbone), plans.pictures(backbone, 6)
    graph = exported(backbone, kind, precision)
    baked = FORMATS[kind].bake_model(graph, values, reference.ranges(backbone, values, images), graph.input.size)
    exact = expected(backbone, values, images)
    most = np.abs(exact).max()
    assert np.abs(answers(baked, kind, images) - exact).max() < most * (0.04 if precision == "int8" else 1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("placement", ["pointwise", "depthwise"])
def test_sites_that_are_not_bound_keep_the_backbones_own_values(kind: str, placement: str) -> None:
    backbone = made(plans.gated)
    graph, images = exported(backbone, kind, "fp32", placement), plans.pictures(backbone)
    own = backbone.values(backbone.own_patch())
    bound = graph.trunk.inside(site.index for site in backbone.plan.sites if site.within(placement))
    inputs = {name: own[name][bound] if name in ("scale", "bias") else own[name] for name in INPUTS}
    exact = expected(backbone, own, images)
    require_near(answers(Model(graph.data), kind, images, inputs), exact, "fp32")
    values = {name: graph.tensors[name] for name in ("scale", "bias")} | {name: own[name] for name in INPUTS[2:]}
    require_near(
        answers(FORMATS[kind].bake_model(graph, values, np.zeros((0, 2)), graph.input.size), kind, images),
        exact,
        "fp32",
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", [name for name in backbones.ARCHITECTURES if name != "mobilenet_v2"])
def test_every_architecture_answers_as_numpy_does(kind: str, architecture: str) -> None:
    alpha = 1.0 if architecture.startswith("efficientnet") else 0.25
    backbone = weights.create(architecture, alpha=alpha, size=32, source="random", seed=1)
    for precision in ("fp32", "int8"):
        require_right(backbone, kind, precision)


def test_an_int8_network_of_every_kind_of_node_is_what_tensorflow_makes_of_the_task_alone() -> None:
    backbone = made(plans.gated)
    task = backbone.own_patch()
    pixels = np.random.default_rng(2).integers(0, 256, (8, 32, 32, 3), np.uint8)
    images = backbone.input.normalise(pixels)
    ranges = calibration.calibrate(backbone, task, pixels)
    graph = exported(backbone, "tflite", "int8")
    ours = FORMATS["tflite"].bake_model(graph, backbone.values(task), ranges, graph.input.size)
    theirs = dedicated.tflite(backbone, task, "int8", images)
    mine, others = operators(ours.data), operators(theirs)
    # ours has another PAD, which costs nothing: TensorFlow's own zeros are right at this size alone
    pads = [counts.pop(schema.BuiltinOperator.PAD) for counts in (mine, others)]
    assert (mine, pads) == (others, [2, 1])
    one, other = answers(ours, "tflite", images), answers(Model(theirs), "tflite", images)
    assert (one == other).mean() > 0.9  # a kernel value on a tie may round the other way


def operators(model: bytes) -> Counter[int]:
    found = schema.ModelT.InitFromPackedBuf(model, 0)
    return Counter(found.operatorCodes[each.opcodeIndex].builtinCode for each in found.subgraphs[0].operators)


def test_ranges_are_numbered_as_the_format_says() -> None:
    """Image, nodes, features, logits; then what convolutions make whose activation stands apart."""
    backbone = made(plans.gated)
    pixels = np.random.default_rng(2).integers(0, 256, (4, 32, 32, 3), np.uint8)
    found = calibration.calibrate(backbone, backbone.own_patch(), pixels)
    values = backbone.values(backbone.own_patch())
    right = reference.ranges(backbone, values, backbone.input.normalise(pixels))
    nodes = backbone.plan.nodes
    assert (
        len(found)
        == len(right)
        == len(nodes) + 3 + sum(site.activation.startswith("hard_") for site in backbone.plan.sites)
    )
    # TensorFlow's calibrator reads what sums and products were written over: docs/decisions/0008-int8.md
    over = {index + 1 for node in nodes if node.op in ("add", "multiply") for index in node.inputs}
    over |= {n for n in range(len(nodes) + 3, len(found)) if right[n].tolist()[0] >= 0}
    kept = [number for number in range(len(found)) if number not in over]
    np.testing.assert_allclose(found[kept], right[kept], rtol=1e-4, atol=1e-4)
    assert (found[:, 0] <= right[:, 0] + 1e-4).all()
    assert (found[:, 1] >= right[:, 1] - 1e-4).all()


def test_mobilenet_v2_has_the_ranges_it_always_had() -> None:
    backbone = weights.create("mobilenet_v2", alpha=1.0, size=32, source="random")
    for kind in KINDS:
        table = exported(backbone, kind, "int8").document["bake"]
        assert sorted({row["range"] for row in table["activations"]}) == list(range(65))
        assert not any("shift" in row for row in table["sites"])


@pytest.mark.parametrize("kind", KINDS)
def test_odd_ranges_of_what_stands_apart_abort_no_interpreter(kind: str) -> None:
    """An engine may refuse them, which is an error like any other."""
    backbone = made(plans.gated, size=16)
    values, images = values_of(backbone), plans.pictures(backbone, 1)
    graph, right = exported(backbone, kind, "int8"), reference.ranges(backbone, values, images)
    for number in range(len(backbone.plan.nodes) + 3, len(right)):
        for dead in ([0, 0], [0, 1e-6], [-1e29, 1e29]):
            changed = right.copy()
            changed[number] = dead
            try:
                got = answers(FORMATS[kind].bake_model(graph, values, changed, graph.input.size), kind, images)
            except Exception:
                continue
            assert np.isfinite(got).all()
