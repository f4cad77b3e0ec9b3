"""Heads on the trunk's maps: a network that a patch carries, trained in Keras, batch norms folded away in the end."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from edgepatch.backbones.plan import Node, Plan
from edgepatch.container import Tensors
from edgepatch.errors import UsageError
from edgepatch.head_network import CONVOLUTIONS, PREFIX, Layer, Network
from edgepatch.patches.base import Head
from edgepatch.progress import Reporter

MOMENTUM, EPSILON = 0.9, 1e-3  # of batch norms: a head sees few batches
ACTIVATIONS = {"relu": ops.relu, "relu6": ops.relu6, "sigmoid": ops.sigmoid}


@dataclasses.dataclass(frozen=True)
class Examples:
    """Pictures with what is true of them.

    Attributes:
        pixels: uint8 (n, size, size, 3).
        truth: of each picture, whatever its head's `example` takes.
        dropped: what was dropped, clipped or doubtful, as a report has it.
    """

    pixels: np.ndarray
    truth: Sequence[Any]
    dropped: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.truth)


class MapHead(Head):
    """A kind that reads maps of the trunk. A new one is a module here and one in `runtime.heads`."""

    @abc.abstractmethod
    def splits(self, data: Path, val: Path | None, seed: int) -> tuple[Any, Any, tuple[str, ...]]:
        """What to train on and what to choose on, not yet read, and the labels."""

    @abc.abstractmethod
    def read(self, found: Any, preprocessing: Any, reporter: Reporter) -> Examples:
        """Decode the pictures of a split."""

    def fitted(self, train: Examples) -> MapHead:
        """The kind for what is trained on; the same one unless it says otherwise."""
        return self

    @abc.abstractmethod
    def network(self, plan: Plan, classes: int) -> Network:
        """The head for a trunk and a number of classes."""

    @abc.abstractmethod
    def decode(self, plan: Plan) -> dict[str, Any]:
        """What the runtime needs beside the network to turn its outputs into answers."""

    @abc.abstractmethod
    def example(
        self, pixels: np.ndarray, truth: Any, sides: Sequence[int], classes: int, rng: np.random.Generator, flips: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """A picture, 0..255, changed at random, and what the outputs should be.

        Args:
            sides: of the outputs.
            flips: whether it may be its mirror image.
        """

    @abc.abstractmethod
    def loss(self, classes: int) -> Callable[[Any, Any], Any]:
        """Of what `example` gives, stacked, and of what `joined` gives: one value a picture."""

    @abc.abstractmethod
    def joined(self, outputs: Sequence[Any], classes: int) -> Any:
        """The outputs in one tensor, for the loss."""

    def tuned(self, outputs: Sequence[np.ndarray], examples: Examples, labels: Sequence[str]) -> dict[str, Any]:
        """What of `decode` is chosen by the outputs on validation images; nothing unless it says otherwise."""
        return {}

    @abc.abstractmethod
    def measure(self, outputs: Sequence[np.ndarray], examples: Examples, labels: Sequence[str]) -> dict[str, float]:
        """How good the outputs, each (n, side, side, channels), are; by the first figure patches are compared."""


def strided_maps(plan: Plan) -> dict[int, str]:
    """For each stride the last site that has it: the widest look at the picture in so many pixels."""
    found: dict[int, str] = {}
    strides: list[int] = []
    for node in plan.nodes:
        stride = max((strides[index] for index in node.inputs if index >= 0), default=1)
        strides.append(stride * node.site.stride if node.site else stride)
    for stride, node in zip(strides, plan.nodes, strict=True):
        if node.site and node.site.activation != "linear" and _wide(plan, node):
            found[stride] = node.site.name
    return found


def _wide(plan: Plan, node: Node) -> bool:
    """Whether a site sees pixels, not a squeezed one."""
    assert node.site
    return node.site.placement not in ("squeeze", "excite")


def require_maps(plan: Plan, strides: Sequence[int], kind: str) -> tuple[str, ...]:
    """The sites of some strides.

    Raises:
        UsageError: the trunk has none of one.
    """
    found = strided_maps(plan)
    if missing := [stride for stride in strides if stride not in found]:
        raise UsageError(
            f"the backbone has no map of stride {missing[0]}",
            field="--patch",
            got=kind,
            expected=f"strides {', '.join(map(str, found))}",
        )
    return tuple(found[stride] for stride in strides)


class HeadLayers:
    """A head's network in Keras. A layer with relu or relu6 has a batch norm while it is trained.

    Args:
        network: what they compute.
        folded: whether batch norms are folded away, as on a device.
    """

    def __init__(self, network: Network, *, folded: bool = False) -> None:
        self.network = network
        self.steps = {layer.name: _Step(layer, folded) for layer in network.layers}

    def __call__(self, maps: Sequence[Any]) -> list[Any]:
        """Outputs of Keras tensors of the maps."""
        found = dict(zip(self.network.maps, maps, strict=True))
        for layer in self.network.layers:
            found[layer.name] = self.steps[layer.name]([found[name] for name in layer.inputs])
        return [found[name] for name in self.network.outputs]

    def set(self, tensors: Tensors) -> None:
        """Give layers without batch norms a patch's weights."""
        for name, step in self.steps.items():
            if step.layer.op in CONVOLUTIONS:
                kernel = tensors[f"{PREFIX}{name}/kernel"]
                kernel = kernel[..., None] if step.layer.op == "depthwise" else kernel
                step.convolution.set_weights([kernel, tensors[f"{PREFIX}{name}/bias"]])

    def tensors(self) -> Tensors:
        """Weights as a patch has them, batch norms folded in: float32, by name."""
        found: Tensors = {}
        for name, step in self.steps.items():
            if step.layer.op in CONVOLUTIONS:
                found[f"{PREFIX}{name}/kernel"], found[f"{PREFIX}{name}/bias"] = step.folded()
        return found


class _Step:
    """One layer."""

    def __init__(self, layer: Layer, folded: bool) -> None:
        self.layer = layer
        name = layer.name
        self.normalised = not folded and layer.op in CONVOLUTIONS and layer.activation in ("relu", "relu6")
        options: dict[str, Any] = {"strides": layer.stride, "padding": "same", "use_bias": not self.normalised}
        self.convolution: Any = None
        if layer.op == "conv":
            small = keras.initializers.RandomNormal(stddev=0.01) if not self.normalised else "glorot_uniform"
            self.convolution = layers.Conv2D(
                layer.channels, layer.kernel, name=f"head_{name}", kernel_initializer=small, **options
            )
        elif layer.op == "depthwise":
            self.convolution = layers.DepthwiseConv2D(layer.kernel, name=f"head_{name}", **options)
        if self.normalised:
            self.norm = layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"head_{name}_BN")

    def __call__(self, sources: list[Any]) -> Any:
        x, layer = sources[0], self.layer
        if self.convolution is not None:
            x = self.convolution(x)
        elif layer.op == "mean":
            x = layers.GlobalAveragePooling2D(keepdims=True, name=f"head_{layer.name}")(x)
        elif layer.op == "resize":
            side = sources[1].shape[1]
            x = layers.Resizing(side, side, name=f"head_{layer.name}")(x)
        else:
            x = {"multiply": layers.Multiply, "add": layers.Add}[layer.op](name=f"head_{layer.name}")(sources)
        if self.normalised:
            x = self.norm(x)
        if layer.activation == "linear":
            return x
        return layers.Activation(ACTIVATIONS[layer.activation], name=f"head_{layer.name}_{layer.activation}")(x)

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias as a device computes them."""
        kernel = np.asarray(self.convolution.kernel)
        if self.layer.op == "depthwise":
            kernel = kernel[..., 0]
        if not self.normalised:
            return kernel, np.asarray(self.convolution.bias)
        gamma, beta, mean, variance = (
            np.asarray(part)
            for part in (self.norm.gamma, self.norm.beta, self.norm.moving_mean, self.norm.moving_variance)
        )
        scale = gamma / np.sqrt(variance + EPSILON)
        return (kernel * scale).astype(np.float32), (beta - mean * scale).astype(np.float32)
