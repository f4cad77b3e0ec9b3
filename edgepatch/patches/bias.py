"""One bias behind every channel of every convolution: half of `scale_bias`.

Zaken et al., "BitFit", 2021, of transformers; Cai et al., "TinyTL: Reduce Memory, Not Parameters for Efficient
On-Device Learning" (NeurIPS 2020), of MobileNets.
"""

from __future__ import annotations

import dataclasses

from edgepatch.backbones.plan import Plan
from edgepatch.patches.base import Placed
from edgepatch.patches.effects import Effects, placed


@dataclasses.dataclass(frozen=True)
class Bias(Placed):
    """The kind."""

    base = "bias"

    def effects(self, plan: Plan) -> Effects:
        return Effects(bias=placed(plan, self.placement))


KIND = Bias()
