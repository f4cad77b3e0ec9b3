"""Does an exported graph answer as Keras does?"""

from __future__ import annotations

import numpy as np

from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.runtime import baking, engines, graph_file
from edgepatch.runtime.fitting import fit

TOLERANCE = 1e-3  # of logits on noise; real images lie closer (docs/benchmarks.md)


def keras_logits(backbone: Backbone, patch: Patch, images: np.ndarray) -> np.ndarray:
    """Logits (n, classes) of network inputs (n, size, size, 3), of the patch's size, in Keras' deployment form."""
    values = backbone.values(patch)
    trunk = network.deployment_form(backbone.at(patch.input.size), values)
    return np.asarray(trunk.predict_on_batch(images)) @ values["head_kernel"] + values["head_bias"]


def differences(backbone: Backbone, data: bytes, patch: Patch, file: object = None) -> dict[str, float]:
    """For each form of a graph's bytes, the largest difference of a patch's logits from Keras, on four noise pictures.

    Raises:
        MissingPackageError: no engine for the graph is installed.
        MismatchError: the patch does not fit the graph.
    """
    graph = graph_file.parse(data, "the exported graph")
    size = patch.input.size
    pixels = np.random.default_rng(0).integers(0, 256, (4, size, size, 3)).astype(np.float32)
    images = patch.input.normalise(pixels)
    fitted, expected = fit(graph, patch, file), keras_logits(backbone, patch, images)
    found = {}
    for form in graph.forms:
        bound = form == "bind"
        if bound and fitted.inputs is None:
            continue
        model = baking.bind_model(graph, fitted) if bound else baking.bake(graph, fitted)
        engine = engines.start(engines.choose(graph, None), model, 1)
        engine.bind((bound and fitted.inputs) or {})
        got = np.concatenate([engine.run(image[None])["logits"] for image in images])
        engine.close()
        found[form] = float(np.abs(got - expected).max())
    return found
