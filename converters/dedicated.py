"""Dedicated models of one task, made as anyone would make them: what edgepatch is measured against.

They come out of TensorFlow's converter and ONNX Runtime's quantiser; only the fused float .onnx is written here, by the
same writer, for there is no exporter from Keras among our dependencies.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from edgepatch.converters import document
from edgepatch.converters import onnx as onnx_graph

from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE as IMAGE_NODE
from edgepatch.backbones.plan import Site
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.progress import hushed


def tflite(backbone: Backbone, patch: Patch, precision: str = "fp32", images: np.ndarray | None = None) -> bytes:
    """A plain .tflite of one task, its scales folded into the kernels, by TensorFlow's converter.

    Args:
        images: network inputs (n, size, size, 3) to calibrate `int8` on.
    """
    import tensorflow as tf

    backbone, size = backbone.at(patch.input.size), patch.input.size
    head = backbone.values(patch)
    folded = fold(backbone, head)
    left_out = document.left_out(backbone.plan, head)

    def activate(x: Any, site: Site) -> Any:
        """As Keras writes them; the converter knows these and fuses them."""
        if site.activation == "hard_swish":
            return x * tf.nn.relu6(x + 3) * (1 / 6)
        if site.activation == "hard_sigmoid":
            return tf.nn.relu6(x + 3) * (1 / 6)
        return {"linear": tf.identity, "relu": tf.nn.relu, "relu6": tf.nn.relu6}[site.activation](x)

    @tf.function(input_signature=[tf.TensorSpec([1, size, size, 3], tf.float32, name=document.IMAGE)])
    def serve(image: Any) -> dict[str, Any]:
        values: list[Any] = []
        for number, node in enumerate(backbone.plan.nodes):
            sources = [image if index == IMAGE_NODE else values[index] for index in node.inputs]
            if number in left_out:
                values.append(values[left_out[number]])
            elif node.site:
                kernel, bias = folded[node.site]
                values.append(activate(_convolution(tf, backbone, node.site, sources[0], kernel) + bias, node.site))
            elif node.op == "mean":
                values.append(tf.reduce_mean(sources[0], axis=(1, 2), keepdims=True))
            else:
                values.append(sources[0] + sources[1] if node.op == "add" else sources[0] * sources[1])
        features = tf.reduce_mean(values[-1], axis=(1, 2))
        return {document.LOGITS: tf.matmul(features, head["head_kernel"]) + head["head_bias"]}

    module = tf.Module()
    module.function = serve
    with tempfile.TemporaryDirectory() as folder, hushed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of interpreters that will move to another package
        tf.saved_model.save(module, folder, signatures={"serve": serve.get_concrete_function()})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
        if precision != "fp32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            assert images is not None
            converter.representative_dataset = lambda: ({document.IMAGE: image[None]} for image in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        return bytes(converter.convert())


def onnx(backbone: Backbone, patch: Patch, precision: str = "fp32", images: np.ndarray | None = None) -> bytes:
    """A plain .onnx of one task, its scales folded into the kernels; int8 by ONNX Runtime's static quantisation."""
    from onnxruntime import quantization as ort

    data = bytes(_Plain(backbone.at(patch.input.size), patch).model().SerializeToString())
    if precision == "fp32":
        return data
    assert precision == "int8" and images is not None

    class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> Any:
            image = next(self.left, None)
            return None if image is None else {document.IMAGE: image[None]}

    with tempfile.TemporaryDirectory() as folder, hushed():
        whole, quantised = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        whole.write_bytes(data)
        unsigned = ort.QuantType.QUInt8  # of activations: what is fast on x86
        ort.quantize_static(str(whole), str(quantised), Reader(), per_channel=True, activation_type=unsigned)
        return quantised.read_bytes()


def fold(backbone: Backbone, values: Tensors) -> dict[Site, tuple[np.ndarray, np.ndarray]]:
    """Kernel (HWIO) and bias of each site with a patch's values, as `Backbone.values` gives them, folded in."""
    found, end = {}, 0
    for site in backbone.plan.sites:
        cut = slice(end, end := end + site.channels)
        scale = values["scale"][cut]
        kernel = values.get(f"{site.name}/kernel", backbone.part(site, "kernel"))
        kernel = kernel * (scale[:, None] if site.depthwise else scale)
        found[site] = kernel, values["bias"][cut]
    return found


class _Plain(onnx_graph._Bake):
    """The bake form with a task's weights in it."""

    def __init__(self, backbone: Backbone, patch: Patch) -> None:
        self.values = backbone.values(patch)
        self.folded = fold(backbone, self.values)
        self.left_out = document.left_out(backbone.plan, self.values)
        self.side = backbone.input.size
        super().__init__(backbone, "fp32", "all")

    def weights(self, site: Site, x: str) -> list[str]:
        kernel, bias = self.folded[site]
        kernel = kernel.transpose((2, 3, 0, 1) if site.depthwise else (3, 2, 0, 1))
        return [self.constant(f"{site.name}/kernel", kernel), self.constant(f"{site.name}/bias", bias)]

    def head(self, features: str, number: int) -> None:
        weights = [self.constant(name, self.values[name]) for name in ("head_kernel", "head_bias")]
        self.add("Gemm", [features, *weights], document.LOGITS)


def _convolution(tf: Any, backbone: Backbone, site: Site, x: Any, kernel: np.ndarray) -> Any:
    constant = tf.constant(kernel)  # a variable would be left behind by the converter
    around, same = backbone.plan.pads(site, x.shape[1]), backbone.plan.same(site)
    if any(around) and not same:
        x = tf.pad(x, ((0, 0), around, around, (0, 0)))
    padding = "SAME" if same else "VALID"
    if site.depthwise:
        return tf.nn.depthwise_conv2d(x, constant, (1, site.stride, site.stride, 1), padding)
    return tf.nn.conv2d(x, constant, site.stride, padding)
