"""What one patch's kinds change in a network, as layers that are trained together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import keras
import numpy as np

from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.network import Convolution
from edgepatch.backbones.plan import Plan, Residual, Site
from edgepatch.container import Tensors
from edgepatch.errors import UsageError
from edgepatch.patches.affine import Affine, Changed
from edgepatch.patches.base import Body
from edgepatch.patches.effects import Effects
from edgepatch.patches.kernels import Masked, Private, mask_unit
from edgepatch.patches.skips import Gate, Skips
from edgepatch.trunk import SKIP


@dataclasses.dataclass(frozen=True)
class Options:
    """How changes are trained.

    Attributes:
        form: of scale and bias: see `Affine`.
        rate, steps: of the training, for masks: see `mask_unit`.
        sparsity, sharing, others: of blocks that are skipped: see `Skips`.
    """

    form: str = "relative_gamma"
    rate: float = 5e-3
    steps: int = 1000
    sparsity: float = 0.05
    sharing: float = 0.05
    others: Sequence[np.ndarray] = ()


def combine(bodies: Sequence[Body], plan: Plan) -> Effects:
    """The effects of several kinds together on a network.

    Raises:
        UsageError: the network has nothing of a kind, or a kind has nothing to do beside the others.
    """
    each = [body.effects(plan) for body in bodies]
    whole = functools.reduce(Effects.__or__, each, Effects())
    for body, own in zip(bodies, each, strict=True):
        if own.mask and not own.mask & whole.mask:
            raise UsageError(
                "leaves no kernel to mask: the others train each of them",
                field="--patch",
                got="+".join(body.name for body in bodies),
                expected=f"{body.name} without them, or where they train none, as mask@pointwise+depthwise",
            )
    return whole


class Change(network.Places):
    """The layers that a patch's kinds put into a network, and what they amount to.

    Args:
        backbone: what the values start from.
        bodies: the kinds.
        options: how they are trained.

    Raises:
        UsageError: the kinds do not go together on this network.
    """

    def __init__(self, backbone: Backbone, bodies: Sequence[Body], options: Options | None = None) -> None:
        super().__init__(backbone)
        self.options = options = options or Options()
        self.effects = combine(bodies, backbone.plan)
        affine = self.effects.scale | self.effects.bias
        self.affine = Affine(backbone, self.effects, options.form, name="affine") if affine else None
        self.skips = None
        if self.effects.skip:
            self.skips = Skips(backbone, options.sparsity, options.sharing, options.others, name="skips")
        self._numbers = {residual: number for number, residual in enumerate(backbone.plan.residuals)}
        self._convolutions: dict[int, Private | Masked] = {}

    def convolution(self, site: Site, padding: str) -> Convolution:
        if site.index not in self.effects.kernel | self.effects.mask:
            return super().convolution(site, padding)
        kernel, made = self.backbone.part(site, "kernel"), self._convolutions
        if site.index in self.effects.kernel:
            made[site.index] = Private(site, kernel, padding)
        else:
            made[site.index] = Masked(site, kernel, padding, mask_unit(self.options.rate, self.options.steps))
        return made[site.index]

    def behind(self, site: Site) -> keras.layers.Layer:
        if self.affine is None or site.index not in self.effects.scale | self.effects.bias:
            return super().behind(site)
        return Changed(self.affine, site, name=f"{site.name}_change")

    def join(self, residual: Residual) -> keras.layers.Layer:
        if self.skips is None:
            return super().join(residual)
        return Gate(self.skips, self._numbers[residual], name=network.join_name(residual))

    def start(self) -> Tensors:
        """What `tensors` gives before anything is trained: the backbone's own values."""
        trunk, found = self.backbone.trunk, {}
        for effect, numbers in self.effects.sites.items():
            if effect in ("scale", "bias"):
                found[effect] = getattr(trunk, effect)[trunk.inside(numbers)]
            elif effect == "kernel":
                found[effect] = np.concatenate([trunk.kernel(number).ravel() for number in numbers])
            else:
                found[effect] = np.ones(trunk.length(effect, numbers), bool)
        return found | ({SKIP: np.zeros(trunk.residuals, bool)} if self.skips else {})

    def tensors(self) -> Tensors:
        """What the layers of a built network amount to: float32 `scale`, `bias`, `kernel`, bool `mask`, each flat over
        its sites, and bool `skip`, as far as there are any.
        """
        found: Tensors = self.affine.values() if self.affine else {}
        for effect in ("kernel", "mask"):
            if numbers := self.effects.sites.get(effect):
                found[effect] = np.concatenate([self._convolutions[number].value().ravel() for number in numbers])
        return found | ({SKIP: self.skips.value()} if self.skips else {})
