"""A head's network as an .onnx of its own.

Maps come as the trunk makes them, (1, channels, side, side); outputs are (1, side, side, channels) as in a .tflite.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgepatch.container import Tensors
from edgepatch.head_network import PREFIX, Layer, Network
from edgepatch.runtime.formats.protobuf import message, node, value_info, with_initializers
from edgepatch.runtime.model import Model

OPSET, IR_VERSION = 17, 8


def model(network: Network, tensors: Tensors, shapes: Mapping[str, tuple[int, ...]]) -> Model:
    """A head with its weights, from maps of these shapes, (1, channels, side, side).

    Raises:
        ValueError: the maps do not go together in it.
    """
    sides = network.sides({name: shape[2] for name, shape in shapes.items()})
    widths = network.widths({name: shape[1] for name, shape in shapes.items()})
    network.require_room(sides, widths)
    constants: Tensors = {"relu6/low": np.array(0, np.float32), "relu6/high": np.array(6, np.float32)}
    nodes: list[bytes] = []
    for layer in network.layers:
        nodes += _layer(layer, tensors, widths[layer.name], sides[layer.name], constants)
    for name in network.outputs:
        nodes.append(node("Transpose", [name], f"{name}/nhwc", perm=[0, 2, 3, 1]))
    inputs = [value_info(name, shapes[name]) for name in network.maps]
    outputs = [value_info(f"{name}/nhwc", (1, sides[name], sides[name], widths[name])) for name in network.outputs]
    data = message(nodes, inputs, outputs, opset=OPSET, ir_version=IR_VERSION)
    return Model(with_initializers(data, constants, inline=np.inf)[0])


def _layer(layer: Layer, tensors: Tensors, width: int, side: int, constants: Tensors) -> list[bytes]:
    """The nodes of one layer; adds to the constants."""
    apart = layer.activation != "linear"
    output, inputs = f"{layer.name}/plain" if apart else layer.name, list(layer.inputs)
    if layer.op == "mean":
        found = [node("GlobalAveragePool", inputs, output)]
    elif layer.op == "resize":
        constants[f"{layer.name}/sizes"] = np.array([1, width, side, side], np.int64)
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        found = [node("Resize", [inputs[0], "", "", f"{layer.name}/sizes"], output, **how)]
    elif layer.op in ("add", "multiply"):
        found = [node({"add": "Add", "multiply": "Mul"}[layer.op], inputs, output)]
    else:
        name, depthwise = f"{PREFIX}{layer.name}", layer.op == "depthwise"
        kernel = tensors[f"{name}/kernel"]
        constants[f"{name}/kernel"] = kernel.transpose(2, 0, 1)[:, None] if depthwise else kernel.transpose(3, 2, 0, 1)
        constants[f"{name}/bias"] = tensors[f"{name}/bias"]
        found = [
            node(
                "Conv",
                [*inputs, f"{name}/kernel", f"{name}/bias"],
                output,
                kernel_shape=[layer.kernel] * 2,
                strides=[layer.stride] * 2,
                group=width if depthwise else 1,
                auto_pad="SAME_UPPER",
            )
        ]
    if apart:
        operator = {"relu": "Relu", "relu6": "Clip", "sigmoid": "Sigmoid"}[layer.activation]
        found.append(node(operator, [output, *(["relu6/low", "relu6/high"] if operator == "Clip" else [])], layer.name))
    return found
