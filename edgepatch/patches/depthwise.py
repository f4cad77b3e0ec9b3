"""The depthwise kernels: few values, between all channels' mixing.

The other patch of Mudrakarta et al., "K for the Price of 1" (ICLR 2019, section 3).
"""

from __future__ import annotations

from edgepatch.backbones.plan import Plan
from edgepatch.patches.base import Body
from edgepatch.patches.effects import Effects, placed


class Depthwise(Body):
    """The kind."""

    name = "depthwise"

    def effects(self, plan: Plan) -> Effects:
        return Effects(kernel=placed(plan, "depthwise"))


KIND = Depthwise()
