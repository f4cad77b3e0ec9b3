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
from edgepatch.backbones.plan import PLACEMENTS, Site
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


class Fixed(keras.layers.Layer):
    """y = x * scale + bias, of a site that stays as it is."""

    def __init__(self, scale: np.ndarray, bias: np.ndarray, **options: Any) -> None:
        super().__init__(**options)
        self.constants = scale, bias

    def call(self, x: Any) -> Any:
        scale, bias = self.constants
        return x * scale + bias


@dataclasses.dataclass(frozen=True)
class ScaleBias(Body):
    """The kind; `form` says what is trained, `placement` where: one of `plan.PLACEMENTS`.

    `relative_gamma`: y = bn(x) (1 + d) + |gamma0| c. `relative`: the same without |gamma0|.
    `gamma_beta`: batch norm's own gamma and beta, which fails where a channel's variance is tiny.
    """

    form: str = "relative_gamma"
    placement: str = "all"

    def __post_init__(self) -> None:
        for field, allowed in (("form", FORMS), ("placement", tuple(PLACEMENTS))):
            if (got := getattr(self, field)) not in allowed:
                raise UsageError(f"there is no such {field}", field=field, got=got, expected=", ".join(allowed))

    @property
    def name(self) -> str:
        return "scale_bias" if self.placement == "all" else f"scale_bias@{self.placement}"

    def placed(self, placement: str) -> ScaleBias:
        return dataclasses.replace(self, placement=placement)

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
        cuts = self._cuts(backbone)
        inside = np.concatenate([np.arange(cut.start, cut.stop) for cut in cuts.values()])
        start, step = ({name: value[inside] for name, value in part.items()} for part in (start, step))
        change = Change(start, step, unit[inside], name="change")
        ends = np.cumsum([cut.stop - cut.start for cut in cuts.values()])
        ends = dict(zip(cuts, ends.tolist(), strict=True))

        def layer(site: Site) -> keras.layers.Layer:
            if site in ends:
                return Changed(change, slice(ends[site] - site.channels, ends[site]), name=f"{site.name}_change")
            return Fixed(*backbone.fold(site), name=f"{site.name}_fixed")

        return layer

    def tensors(self, model: keras.Model, backbone: Backbone) -> Tensors:
        first = next(iter(self._cuts(backbone)))
        change = model.get_layer(f"{first.name}_change").change
        scale, bias = change.folded(np.asarray(change.d), np.asarray(change.c))
        return {"scale": scale, "bias": bias}

    def start(self, backbone: Backbone) -> Tensors:
        inside = np.concatenate([np.arange(cut.start, cut.stop) for cut in self._cuts(backbone).values()])
        return {name: value[inside] for name, value in backbone.defaults().items()}

    def sites(self, backbone: Backbone) -> dict[str, Any]:
        chosen = list(self._cuts(backbone))
        numbers = {} if self.placement == "all" else {"sites": [site.index for site in chosen]}
        return {"placement": self.placement, **numbers, "channels": [site.channels for site in chosen]}

    def _cuts(self, backbone: Backbone) -> dict[Site, slice]:
        """The sites of the placement, and where their channels lie among those of all sites."""
        ends = np.cumsum(backbone.plan.channels).tolist()
        placed = [site for site in backbone.plan.sites if site.within(self.placement)]
        return {site: slice(ends[site.index] - site.channels, ends[site.index]) for site in placed}


KIND = ScaleBias()
