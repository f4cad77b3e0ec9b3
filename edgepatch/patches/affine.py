"""How another scale and another bias are trained.

What is trained is not gamma and beta themselves but their change relative to the backbone's (as in Lian et al.,
"Scaling & Shifting Your Features", NeurIPS 2022): docs/recipe.md says what that is worth.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import Site
from edgepatch.errors import UsageError
from edgepatch.patches.effects import Effects
from edgepatch.trunk import Trunk

FORMS = ("relative_gamma", "relative", "gamma_beta")


class Affine(keras.layers.Layer):
    """The trained vectors d and c of all sites, from zero, and what they amount to.

    scale = own scale + d * step; bias = own bias + d * step + c * unit. d stands for the sites with a scale of their
    own, c for those with a bias. Two long vectors instead of two a site: the optimizer's graph is then built in a third
    of the time.

    Args:
        backbone: what the values start from.
        effects: at which sites.
        form: `relative_gamma`: y = bn(x) (1 + d) + |gamma0| c; `relative`: the same without |gamma0|; `gamma_beta`:
            batch norm's own gamma and beta, which fails where a channel's variance is tiny.
    """

    def __init__(self, backbone: Backbone, effects: Effects, form: str, **options: Any) -> None:
        super().__init__(**options)
        if form not in FORMS:
            raise UsageError("there is no such form", field="form", got=form, expected=", ".join(FORMS))
        trunk: Trunk = backbone.trunk
        self.start = {"scale": trunk.scale, "bias": trunk.bias}
        gamma, mean, variance = (
            np.concatenate([backbone.part(site, part) for site in backbone.plan.sites])
            for part in ("gamma", "mean", "variance")
        )
        self.step, self.unit = self.start, np.abs(gamma) if form == "relative_gamma" else np.ones_like(gamma)
        if form == "gamma_beta":
            inverse = 1 / np.sqrt(variance + np.float32(backbone.plan.epsilon))
            self.step = {"scale": inverse, "bias": -mean * inverse}
        self.cuts = {effect: trunk.cuts(effect, sorted(getattr(effects, effect))) for effect in ("scale", "bias")}
        self.whole = trunk.cuts("scale", range(len(trunk.names)))
        for name, effect in (("d", "scale"), ("c", "bias")):
            count = trunk.length(effect, self.cuts[effect])
            setattr(self, name, self.add_weight(shape=(count,), initializer="zeros", name=name) if count else None)

    def at(self, number: int, d: Any, c: Any, array: Any) -> tuple[Any, Any]:
        """Scale and bias (channels,) of a site, as they stand.

        Args:
            d, c: the trained vectors.
            array: makes a constant what they are.
        """
        cut = self.whole[number]
        scale, bias = (array(self.start[name][cut]) for name in ("scale", "bias"))
        if number in self.cuts["scale"]:
            own = d[self.cuts["scale"][number]]
            scale = scale + own * array(self.step["scale"][cut])
            if number in self.cuts["bias"]:
                bias = bias + own * array(self.step["bias"][cut])
        if number in self.cuts["bias"]:
            bias = bias + c[self.cuts["bias"][number]] * array(self.unit[cut])
        return scale, bias

    def values(self) -> dict[str, np.ndarray]:
        """`scale` and `bias`, each flat over its sites, float32; none where there are no sites."""
        d, c = (None if trained is None else np.asarray(trained) for trained in (self.d, self.c))
        return {
            effect: np.concatenate([self.at(number, d, c, np.asarray)[place] for number in cuts])
            for place, (effect, cuts) in enumerate(self.cuts.items())
            if cuts
        }


class Changed(keras.layers.Layer):
    """y = x * scale + bias, with one site's part of an `Affine`."""

    def __init__(self, affine: Affine, site: Site, **options: Any) -> None:
        super().__init__(**options)
        self.affine, self.site = affine, site

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.built = True  # its weights are the Affine's

    def call(self, x: Any) -> Any:
        scale, bias = self.affine.at(self.site.index, self.affine.d, self.affine.c, ops.convert_to_tensor)
        return network.affine(x, scale, bias)
