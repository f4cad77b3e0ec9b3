"""One bit a weight: which of the backbone's weights the task uses.

Mallya et al., "Piggyback: Adapting a Single Network to Multiple Tasks by Learning to Mask Weights" (ECCV 2018).
"""

from __future__ import annotations

import dataclasses

from edgepatch.backbones.plan import Plan
from edgepatch.patches.base import Placed
from edgepatch.patches.effects import Effects, placed


@dataclasses.dataclass(frozen=True)
class Mask(Placed):
    """The kind."""

    base = "mask"

    def effects(self, plan: Plan) -> Effects:
        return Effects(mask=placed(plan, self.placement))


KIND = Mask()
