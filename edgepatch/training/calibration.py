"""The ranges of a task's activations, which a graph that computes in int8 needs."""

from __future__ import annotations

import warnings

import numpy as np

from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.converters import document, tflite
from edgepatch.progress import hushed
from edgepatch.runtime import baking, graph_file
from edgepatch.runtime.fitting import fit
from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.formats.flatbuffer import Table
from edgepatch.trunk import SKIP

IMAGES = 128  # more hardly move an extreme
TENSOR_MIN, TENSOR_MAX = 0, 1  # fields of a tensor's quantisation


def calibrate(backbone: Backbone, patch: Patch, pixels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """The smallest and the largest value of every activation over some images, for a patch's `ranges`.

    TensorFlow's own calibrator watches the task's float model, so that the ranges are those it would quantise a
    dedicated model with.

    Args:
        pixels: uint8 (n, size, size, 3), of the size the patch takes; `IMAGES` of them are looked at.

    Returns:
        float32 (activations, 2): of the image as the network sees it, of the plan's nodes in forward order, of the
        features and of the logits, then of what hard_swish and hard_sigmoid are taken of; zeros where the patch skips
        a block. Logits that no head on maps reads have the range of the features.
    """
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    chosen = np.sort(np.random.default_rng([seed, 0xCA]).permutation(len(pixels))[:IMAGES])
    data, numbers = tflite.watchable(backbone)
    graph = graph_file.parse(data, "the graph to calibrate")
    fitted = fit(graph, patch, None)
    model = baking.bake(graph, fitted).data
    images = ({document.IMAGE: patch.input.normalise(pixels[index][None])} for index in chosen)
    with hushed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the calibrator's own interpreter will be moved to another package
        watched = bytes(Calibrator(model).calibrate(lambda: images))
    tensors = fb.subgraph(watched, "bake").tables(fb.SUBGRAPH_TENSORS)
    found = np.zeros((1 + max(numbers.values()), 2), np.float32)
    for tensor, number in numbers.items():  # of a value and the same with zeros around it the latter counts
        holder = Table(watched, tensors[tensor])
        if holder.at(fb.TENSOR_QUANTIZATION) is None and SKIP in patch.tensors:
            continue  # of a block that is left out
        extremes = holder.table(fb.TENSOR_QUANTIZATION)
        for column, field in enumerate((TENSOR_MIN, TENSOR_MAX)):
            span = extremes.span(field, 4)
            assert span is not None, "the calibrator left a tensor out"
            found[number, column] = np.frombuffer(watched[slice(*span)], "<f4")[0]
    if fitted.network:  # zeros, for which XNNPACK finds the features' scale too far away
        features = graph.document["bake"]["head"]["input"]
        found[features + 1] = found[features]
    return found
