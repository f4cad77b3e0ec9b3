"""The depthwise kernels: few values, between all channels' mixing.

The other patch of Mudrakarta et al., "K for the Price of 1" (ICLR 2019, section 3).
"""

from __future__ import annotations

from edgepatch.backbones.plan import Plan
from edgepatch.errors import UsageError
from edgepatch.patches.base import Body
from edgepatch.patches.effects import Effects, placed


class Depthwise(Body):
    """The kind."""

    name = "depthwise"

    def effects(self, plan: Plan) -> Effects:
        sites = placed(plan, "depthwise")
        if not sites:
            raise UsageError(
                "the backbone has no depthwise convolutions", field="--patch", got=self.name, expected="another kind"
            )
        return Effects(kernel=sites)


KIND = Depthwise()
