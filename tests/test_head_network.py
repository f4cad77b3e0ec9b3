"""Heads that are networks: described as data, laid out for each engine, and answering alike."""

from __future__ import annotations

from typing import Any

import head_reference
import numpy as np
import pytest

from edgepatch.head_network import Layer, Network
from edgepatch.runtime import engines
from edgepatch.runtime.formats import onnx_head, tflite_head

MAPS = {"near": (9, 6), "far": (5, 8)}  # side and channels
NETWORK = Network(
    ("near", "far"),
    (
        Layer("narrow", "conv", ("near",), 8, activation="relu6"),
        Layer("wide", "conv", ("far",), 8, kernel=3, stride=2, activation="relu"),
        Layer("deep", "depthwise", ("narrow",), kernel=3, stride=2, activation="relu6"),
        Layer("even", "depthwise", ("deep",), kernel=5),
        Layer("mean", "mean", ("far",)),
        Layer("gate", "conv", ("mean",), 8, activation="sigmoid"),
        Layer("gated", "multiply", ("narrow", "gate")),
        Layer("large", "resize", ("wide", "near")),
        Layer("sum", "add", ("gated", "large"), activation="relu"),
        Layer("answer", "conv", ("sum",), 3),
        Layer("boxes", "conv", ("even",), 4),
    ),
    ("answer", "boxes"),
)


def values(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = NETWORK.tensors({name: width for name, (_, width) in MAPS.items()})
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def maps(seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 1, (1, side, side, width)).astype(np.float32) for name, (side, width) in MAPS.items()}


@pytest.mark.parametrize(
    ("engine", "module", "axes"),
    [("litert", tflite_head, (0, 1, 2, 3)), ("onnx", onnx_head, (0, 3, 1, 2))],
)
def test_each_engine_answers_as_numpy_does(engine: str, module: Any, axes: tuple[int, ...]) -> None:
    tensors = values()
    given = {name: np.ascontiguousarray(value.transpose(axes)) for name, value in maps().items()}
    model = module.model(NETWORK, tensors, {name: value.shape for name, value in given.items()})
    opened = engines.start(engine, model, 1)
    first, *others = NETWORK.maps
    for seed in (1, 2):  # the second time over the same interpreter
        given = {name: np.ascontiguousarray(value.transpose(axes)) for name, value in maps(seed).items()}
        opened.bind({name: given[name] for name in others})
        found = opened.run(given[first])
        expected = head_reference.answers(NETWORK, tensors, maps(seed))
        for (name, want), got in zip(expected.items(), found.values(), strict=True):
            assert got.shape == want.shape, name
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_network_survives_its_json() -> None:
    assert Network.from_json(NETWORK.to_json()) == NETWORK


def _broken(**change: Any) -> dict[str, Any]:
    document = NETWORK.to_json()
    document["layers"][0] |= change
    return document


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {**NETWORK.to_json(), "maps": []},
        {**NETWORK.to_json(), "maps": ["near", "near"]},
        {**NETWORK.to_json(), "layers": []},
        {**NETWORK.to_json(), "outputs": ["near"]},
        {**NETWORK.to_json(), "outputs": []},
        {**NETWORK.to_json(), "more": 1},
        _broken(op="exec"),
        _broken(op=["conv"]),
        _broken(inputs=["wide"]),
        _broken(inputs="near"),
        _broken(name="near"),
        _broken(name="../near"),
        _broken(channels=0),
        _broken(channels=True),
        _broken(channels=10**9),
        _broken(kernel=-1),
        _broken(stride=0),
        _broken(stride=1.5),
        _broken(activation="tanh"),
        _broken(activation=["relu"]),
        _broken(more=1),
    ],
)
def test_what_describes_no_network_is_refused(document: Any) -> None:
    with pytest.raises(ValueError):
        Network.from_json(document)


def test_terms_that_do_not_go_together_are_refused() -> None:
    odd = Network(("near", "far"), (Layer("sum", "add", ("near", "far")),), ("sum",))
    with pytest.raises(ValueError, match="6 and 8 channels"):
        odd.widths({"near": 6, "far": 8})
    with pytest.raises(ValueError, match="9 and 5 pixels"):
        odd.sides({"near": 9, "far": 5})
