"""A backbone as one shared .tflite."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from edgepatch.converters import document, flatbuffer

from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE as IMAGE_NODE
from edgepatch.backbones.plan import Site, pads
from edgepatch.blob import Patch
from edgepatch.progress import hushed
from edgepatch.runtime import graph_file

# a site's convolution and what follows it, up to the activation
Convolve = Callable[[Site, Any], Any]


def export(backbone: Backbone, precision: str = "fp32") -> bytes:
    """The shared graph: signature `bind` takes `image` and the patch's tensors, and answers `logits`.

    Kernels are constants, so that XNNPACK packs them; scale and bias follow each convolution as MUL and ADD, because a
    convolution whose filter or bias is an input falls out of XNNPACK.
    """
    shapes = document.inputs(backbone)
    size, ends = backbone.input.size, np.cumsum(backbone.plan.channels)

    @tf.function(
        input_signature=[
            tf.TensorSpec([1, size, size, 3], tf.float32, name=document.IMAGE),
            *(tf.TensorSpec(shape, tf.float32, name=name) for name, shape in shapes.items()),
        ]
    )
    def bind(image: Any, scale: Any, bias: Any, head_kernel: Any, head_bias: Any) -> dict[str, Any]:
        def convolve(site: Site, x: Any) -> Any:
            begin, end = ends[site.index] - site.channels, ends[site.index]
            return _convolution(backbone, site, x, backbone.part(site, "kernel")) * scale[begin:end] + bias[begin:end]

        return {document.LOGITS: tf.matmul(_features(backbone, image, convolve), head_kernel) + head_bias}

    model = _convert(bind, "bind")
    return document.seal(backbone, "tflite", precision, lambda packed: flatbuffer.attach(model, graph_file.KEY, packed))


def dedicated(backbone: Backbone, patch: Patch) -> bytes:
    """A plain .tflite of one task, its scales folded into the kernels: what edgepatch is measured against."""
    values = {**backbone.defaults(), **patch.values()}
    size, ends = backbone.input.size, np.cumsum(backbone.plan.channels)

    @tf.function(input_signature=[tf.TensorSpec([1, size, size, 3], tf.float32, name=document.IMAGE)])
    def serve(image: Any) -> dict[str, Any]:
        def convolve(site: Site, x: Any) -> Any:
            cut = slice(ends[site.index] - site.channels, ends[site.index])
            scale = values["scale"][cut]
            kernel = backbone.part(site, "kernel") * (scale[:, None] if site.depthwise else scale)
            return _convolution(backbone, site, x, kernel) + values["bias"][cut]

        logits = tf.matmul(_features(backbone, image, convolve), values["head_kernel"]) + values["head_bias"]
        return {document.LOGITS: logits}

    return _convert(serve, "serve")


def _features(backbone: Backbone, image: Any, convolve: Convolve) -> Any:
    values: list[Any] = []
    for node in backbone.plan.nodes:
        sources = [image if index == IMAGE_NODE else values[index] for index in node.inputs]
        if node.site:
            x = convolve(node.site, sources[0])
            values.append(tf.nn.relu6(x) if node.site.relu6 else x)
        else:
            values.append(sources[0] + sources[1])
    return tf.reduce_mean(values[-1], axis=(1, 2))


def _convolution(backbone: Backbone, site: Site, x: Any, kernel: np.ndarray) -> Any:
    constant = tf.constant(kernel)  # a variable would be left behind by the converter
    before, behind = pads(x.shape[1], site.kernel[0], site.stride, backbone.plan.padding)
    same = (before, behind) == pads(x.shape[1], site.kernel[0], site.stride, "same")
    if not same:
        x = tf.pad(x, ((0, 0), (before, behind), (before, behind), (0, 0)))
    padding = "SAME" if same else "VALID"
    if site.depthwise:
        return tf.nn.depthwise_conv2d(x, constant, (1, site.stride, site.stride, 1), padding)
    return tf.nn.conv2d(x, constant, site.stride, padding)


def _convert(function: Any, signature: str) -> bytes:
    module = tf.Module()
    module.function = function
    with tempfile.TemporaryDirectory() as folder, hushed():
        tf.saved_model.save(module, folder, signatures={signature: function.get_concrete_function()})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[signature])
        return bytes(converter.convert())
