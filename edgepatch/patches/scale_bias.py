"""One scale and one bias behind every channel of every convolution.

The patch of Mudrakarta et al., "K for the Price of 1: Parameter-efficient Multi-task and Transfer Learning" (ICLR
2019, section 3). What is trained is not gamma and beta themselves but their change relative to the backbone's (as in
Lian et al., "Scaling & Shifting Your Features", NeurIPS 2022): docs/recipe.md says what that is worth.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.network import SiteLayer
from edgepatch.backbones.plan import Site
from edgepatch.container import Tensors
from edgepatch.errors import UsageError
from edgepatch.patches.base import Body

FORMS = ("relative_gamma", "relative", "gamma_beta")


class Change(keras.layers.Layer):
    """The trained vectors d and c of all sites, from zero, and what they amount to.

    scale = start.scale + d * step.scale; bias = start.bias + d * step.bias + c * unit. Two long vectors instead of two
    a site: the optimizer's graph is then built in a third of the time.

    Args:
        start: scale and bias (sum of channels,), the folded batch norms.
        step: what one unit of d adds to them.
        unit: what one unit of c adds to the bias.
    """

    def __init__(self, start: Tensors, step: Tensors, unit: np.ndarray, **options: Any) -> None:
        super().__init__(**options)
        self.constants = start, step, unit
        self.d = self.add_weight(shape=unit.shape, initializer="zeros", name="d")
        self.c = self.add_weight(shape=unit.shape, initializer="zeros", name="c")

    def folded(self, d: Any, c: Any, cut: slice = slice(None)) -> tuple[Any, Any]:
        """Scale and bias of the channels of `cut`."""
        start, step, unit = self.constants
        scale = start["scale"][cut] + d[cut] * step["scale"][cut]
        return scale, start["bias"][cut] + d[cut] * step["bias"][cut] + c[cut] * unit[cut]


class Changed(keras.layers.Layer):
    """y = x * scale + bias, with one site's part of a `Change`."""

    def __init__(self, change: Change, cut: slice, **options: Any) -> None:
        super().__init__(**options)
        self.change, self.cut = change, cut

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.built = True  # its weights are the Change's

    def call(self, x: Any) -> Any:
        scale, bias = self.change.folded(self.change.d, self.change.c, self.cut)
        return x * scale + bias


@dataclasses.dataclass(frozen=True)
class ScaleBias(Body):
    """The kind; `form` says what is trained.

    `relative_gamma`: y = bn(x) (1 + d) + |gamma0| c. `relative`: the same without |gamma0|.
    `gamma_beta`: batch norm's own gamma and beta, which fails where a channel's variance is tiny.
    """

    form: str = "relative_gamma"
    name = "scale_bias"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UsageError("there is no such form", field="form", got=self.form, expected=", ".join(FORMS))

    def behind(self, backbone: Backbone) -> SiteLayer:
        start = backbone.defaults()
        gamma, mean, variance = (
            np.concatenate([backbone.part(site, part) for site in backbone.plan.sites])
            for part in ("gamma", "mean", "variance")
        )
        step, unit = start, np.abs(gamma) if self.form == "relative_gamma" else np.ones_like(gamma)
        if self.form == "gamma_beta":
            inverse = 1 / np.sqrt(variance + np.float32(backbone.plan.epsilon))
            step = {"scale": inverse, "bias": -mean * inverse}
        change = Change(start, step, unit, name="change")
        ends = np.cumsum(backbone.plan.channels)

        def layer(site: Site) -> keras.layers.Layer:
            end = int(ends[site.index])
            return Changed(change, slice(end - site.channels, end), name=f"{site.name}_change")

        return layer

    def tensors(self, model: keras.Model, backbone: Backbone) -> Tensors:
        change = model.get_layer(f"{backbone.plan.sites[0].name}_change").change
        scale, bias = change.folded(np.asarray(change.d), np.asarray(change.c))
        return {"scale": scale, "bias": bias}

    def sites(self, backbone: Backbone) -> dict[str, Any]:
        return {"placement": "all", "channels": backbone.plan.channels}


KIND = ScaleBias()
