"""Does an exported graph answer as Keras does?"""

from __future__ import annotations

import numpy as np

from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.runtime import engines, graph_file
from edgepatch.runtime.runtime import check

TOLERANCE = 1e-3  # of logits on noise; real images lie closer (docs/benchmarks.md)


def keras_logits(backbone: Backbone, patch: Patch, images: np.ndarray) -> np.ndarray:
    """Logits (n, classes) of network inputs (n, size, size, 3) through the deployment form in Keras."""
    values = patch.values()
    trunk = network.deployment_form(backbone, values)
    return np.asarray(trunk.predict_on_batch(images)) @ values["head_kernel"] + values["head_bias"]


def difference(backbone: Backbone, data: bytes, patch: Patch, file: object = None) -> float:
    """The largest difference of a patch's logits between a graph's bytes and Keras, on four pictures of noise.

    Raises:
        MissingPackageError: no engine for the graph is installed.
        MismatchError: the patch does not fit the graph.
    """
    graph = graph_file.parse(data, "the exported graph")
    size = backbone.input.size
    pixels = np.random.default_rng(0).integers(0, 256, (4, size, size, 3)).astype(np.float32)
    images = patch.input.normalise(pixels)
    engine = engines.start(engines.choose(graph, None), data, 1)
    engine.bind(check(graph, patch, file))
    got = np.concatenate([engine.run(image[None])["logits"] for image in images])
    engine.close()
    return float(np.abs(got - keras_logits(backbone, patch, images)).max())
