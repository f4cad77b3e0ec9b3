"""The last blocks' kernels, and a scale and a bias behind every convolution: `top:N`.

What is usually done, and the contrast to `bottom` in Zhang et al., "Rethinking Hard-Parameter Sharing" (2021).
"""

from __future__ import annotations

import dataclasses

from edgepatch.backbones.plan import Plan
from edgepatch.patches.base import Counted
from edgepatch.patches.effects import Effects, placed


@dataclasses.dataclass(frozen=True)
class Top(Counted):
    """The kind, of the last `blocks` blocks."""

    base = "top"

    def effects(self, plan: Plan) -> Effects:
        chosen, everywhere = self.chosen(plan)[-self.blocks :], placed(plan, "all")
        kernels = frozenset(site.index for site in plan.sites if site.block in chosen)
        return Effects(scale=everywhere, bias=everywhere, kernel=kernels)


KIND = Top()
