"""Does an exported graph answer as Keras does?"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from edgepatch.converters import document

from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.head_network import Network
from edgepatch.patches.map_head import HeadLayers
from edgepatch.runtime import baking, engines, fitting, graph_file
from edgepatch.runtime.head_model import HeadModel

TOLERANCE = 1e-3  # of outputs on noise; real images lie closer (docs/benchmarks.md)


def keras_outputs(backbone: Backbone, patch: Patch, images: np.ndarray) -> dict[str, np.ndarray]:
    """What a task answers to network inputs (n, size, size, 3), of the patch's size, in Keras' deployment form.

    Returns:
        A dense head's `logits` (n, classes), or the outputs of a head on maps, (n, side, side, channels), by name.
    """
    if fitting.NETWORK in patch.decode:
        return answers(*deployed(backbone, patch), images)
    values = backbone.values(patch)
    trunk = network.deployment_form(backbone.at(patch.input.size), values)
    features = np.asarray(trunk.predict_on_batch(images))
    return {document.LOGITS: features @ values["head_kernel"] + values["head_bias"]}


def deployed(backbone: Backbone, patch: Patch) -> tuple[keras.Model, tuple[str, ...]]:
    """A task whose head is on maps in Keras' deployment form, and its outputs' names."""
    values, own = backbone.values(patch), backbone.at(patch.input.size)
    trunk = network.deployment_form(own, values)
    head = HeadLayers(Network.from_json(patch.decode[fitting.NETWORK]), folded=True)
    maps = [network.behind_activation(trunk, own, name) for name in head.network.maps]
    model = keras.Model(trunk.input, head(maps))
    head.set(values)
    return model, head.network.outputs


def answers(model: keras.Model, names: Sequence[str], images: np.ndarray) -> dict[str, np.ndarray]:
    """What such a model answers to network inputs, by name."""
    found = model.predict_on_batch(images)
    return dict(zip(names, map(np.asarray, found if isinstance(found, list | tuple) else [found]), strict=True))


def keras_logits(backbone: Backbone, patch: Patch, images: np.ndarray) -> np.ndarray:
    """Logits (n, classes) of a classifier: see `keras_outputs`."""
    return keras_outputs(backbone, patch, images)[document.LOGITS]


def differences(backbone: Backbone, data: bytes, patch: Patch, file: object = None) -> dict[str, float]:
    """For each form of a graph's bytes, the largest difference of a patch's outputs from Keras, on four noise pictures.

    Raises:
        MissingPackageError: no engine for the graph is installed.
        MismatchError: the patch does not fit the graph.
    """
    graph = graph_file.parse(data, "the exported graph")
    size = patch.input.size
    pixels = np.random.default_rng(0).integers(0, 256, (4, size, size, 3)).astype(np.float32)
    images = patch.input.normalise(pixels)
    fitted, expected = fitting.fit(graph, patch, file), keras_outputs(backbone, patch, images)
    name = engines.choose(graph, None)
    head = HeadModel(name, 1, graph, fitted) if fitted.network else None
    found = {}
    for form in graph.forms:
        bound = form == "bind"
        if bound and fitted.inputs is None:
            continue
        model = baking.bind_model(graph, fitted) if bound else baking.bake(graph, fitted)
        engine = engines.start(name, model, 1)
        engine.bind((bound and fitted.inputs) or {})
        outputs = [engine.run(image[None]) for image in images]
        got = [head.run(each) for each in outputs] if head else outputs
        engine.close()
        found[form] = max(
            float(np.abs(np.concatenate([each[output] for each in got]) - want).max())
            for output, want in expected.items()
        )
    if head:
        head.close()
    return found
