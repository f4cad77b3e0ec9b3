"""The first blocks' kernels, and a scale and a bias behind every convolution: `bottom:N`.

Zhang et al., "Rethinking Hard-Parameter Sharing in Multi-Domain Learning" (2021): private bottom layers, shared top.
"""

from __future__ import annotations

import dataclasses

from edgepatch.backbones.plan import Plan
from edgepatch.patches.base import Counted
from edgepatch.patches.effects import Effects, placed


@dataclasses.dataclass(frozen=True)
class Bottom(Counted):
    """The kind, of the first `blocks` blocks."""

    base = "bottom"

    def effects(self, plan: Plan) -> Effects:
        chosen, everywhere = self.chosen(plan)[: self.blocks], placed(plan, "all")
        kernels = frozenset(site.index for site in plan.sites if site.block in chosen)
        return Effects(scale=everywhere, bias=everywhere, kernel=kernels)


KIND = Bottom()
