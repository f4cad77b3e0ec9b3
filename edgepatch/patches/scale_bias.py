"""One scale and one bias behind every channel of every convolution.

The patch of Mudrakarta et al., "K for the Price of 1: Parameter-efficient Multi-task and Transfer Learning" (ICLR
2019, section 3).
"""

from __future__ import annotations

import dataclasses

from edgepatch.backbones.plan import Plan
from edgepatch.patches.base import Placed
from edgepatch.patches.effects import Effects, placed


@dataclasses.dataclass(frozen=True)
class ScaleBias(Placed):
    """The kind."""

    base = "scale_bias"

    def effects(self, plan: Plan) -> Effects:
        sites = placed(plan, self.placement)
        return Effects(scale=sites, bias=sites)


KIND = ScaleBias()
