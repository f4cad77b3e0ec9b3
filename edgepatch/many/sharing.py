"""One network a task, over kernels that all of them train, and the optimizer that keeps the two apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.network import Convolution
from edgepatch.backbones.plan import Site
from edgepatch.container import Tensors
from edgepatch.errors import UsageError
from edgepatch.patches import Body, Change, Options
from edgepatch.patches.kernels import Private
from edgepatch.training.two_rates import TwoRates


class _Tied(Convolution):
    """A convolution with another one's kernel, and padding of its own: that depends on a task's input size."""

    def __init__(self, other: Private, padding: str) -> None:
        super().__init__(other.site, np.asarray(other.kernel), padding)
        self.other = other

    def effective(self) -> Any:
        return self.other.effective()


class Kernels:
    """The kernels that tasks share and train together.

    Args:
        sites: numbers of their sites.
    """

    def __init__(self, backbone: Backbone, sites: frozenset[int]) -> None:
        self.backbone, self.sites = backbone, sites
        self._layers: dict[int, Private] = {}
        self._tied: dict[tuple[int, str], Convolution] = {}

    def layer(self, site: Site, padding: str) -> Convolution:
        """The layer of a site: the same one for every task that pads alike."""
        made = self._layers
        if site.index not in made:
            made[site.index] = Private(site, self.backbone.part(site, "kernel"), padding)
        first = made[site.index]
        if first.padding == padding:
            return first
        key = site.index, padding
        if key not in self._tied:
            self._tied[key] = _Tied(first, padding)
        return self._tied[key]

    @property
    def variables(self) -> list[Any]:
        """What is trained, in forward order."""
        return [self._layers[number].change for number in sorted(self._layers)]

    def tensors(self) -> Tensors:
        """The kernels as they stand, by the backbone's names."""
        return {f"{layer.site.name}/kernel": layer.value() for layer in self._layers.values()}


class Joined(Change):
    """What one task changes in a network whose kernels are shared.

    Raises:
        UsageError: the task masks kernels or skips blocks, which needs kernels that stand still.
    """

    def __init__(self, backbone: Backbone, bodies: Sequence[Body], options: Options, kernels: Kernels) -> None:
        super().__init__(backbone, bodies, options)
        require_joinable(bodies, backbone)
        self.kernels = kernels

    def convolution(self, site: Site, padding: str) -> Convolution:
        if site.index in self.kernels.sites and site.index not in self.effects.kernel:
            return self.kernels.layer(site, padding)
        return super().convolution(site, padding)


def require_joinable(bodies: Sequence[Body], backbone: Backbone) -> None:
    """Find out whether kinds can be trained over kernels that move.

    Raises:
        UsageError: one cannot.
    """
    for body in bodies:
        effects = body.effects(backbone.plan)
        if effects.mask or effects.skip:
            raise UsageError(
                "works on kernels that stand still, and a joint training moves them",
                field="patch",
                got=body.name,
                expected="scale_bias, bias, depthwise, bottom:N, top:N or classifier",
            )


class Split(TwoRates):
    """Two optimizers of one model: of the kernels that all tasks share, and of what is the task's own.

    The first one is the same for all tasks, and is built, so its moments know all of them; the second one moves on the
    task's own steps alone. Tested with Keras on TensorFlow.

    Attributes:
        weight: the gradient of the kernels is multiplied by it; set before a step.
        norm: of that gradient, before; read after a step.
    """

    def __init__(
        self, shared: keras.optimizers.Optimizer, own: keras.optimizers.Optimizer, kernels: Sequence[Any]
    ) -> None:
        super().__init__(shared, own, kernels)
        self.weight = keras.Variable(1.0, trainable=False, name="weight")
        self.norm = keras.Variable(0.0, trainable=False, name="norm")

    def apply_first(self, grads: list[Any], variables: list[Any]) -> None:
        self.norm.assign(ops.sqrt(sum(ops.sum(ops.square(grad)) for grad in grads)))
        self.first.apply([grad * self.weight for grad in grads], variables)
