"""One bit a block: which of those with an identity shortcut the task skips, at no cost at all once it is baked.

Sun et al., "AdaShare: Learning What To Share For Efficient Deep Multi-Task Learning" (NeurIPS 2020).
"""

from __future__ import annotations

from edgepatch.backbones.plan import Plan
from edgepatch.errors import UsageError
from edgepatch.patches.base import Body
from edgepatch.patches.effects import Effects


class Policy(Body):
    """The kind."""

    name = "policy"

    def effects(self, plan: Plan) -> Effects:
        if not plan.residuals:
            raise UsageError(
                "the backbone has no block with an identity shortcut, so there is nothing to skip",
                field="--patch",
                got=self.name,
                expected="another kind, or a backbone with residual blocks",
            )
        return Effects(skip=True)


KIND = Policy()
