"""What patch kinds change in a network, so that kinds can be added up."""

from __future__ import annotations

import dataclasses

from edgepatch.backbones.plan import PLACEMENTS, Plan
from edgepatch.errors import UsageError
from edgepatch.trunk import SITES, SKIP

NONE: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True)
class Effects:
    """Numbers of the sites where a task has a scale, a bias, a kernel or a mask of its own; whether it skips blocks.

    Several kinds together have the union of their effects: what both would train is trained once. A kernel that is
    the task's own needs no mask.
    """

    scale: frozenset[int] = NONE
    bias: frozenset[int] = NONE
    kernel: frozenset[int] = NONE
    mask: frozenset[int] = NONE
    skip: bool = False

    def __or__(self, other: Effects) -> Effects:
        return Effects(
            self.scale | other.scale,
            self.bias | other.bias,
            kernel := self.kernel | other.kernel,
            (self.mask | other.mask) - kernel,
            self.skip or other.skip,
        )

    @property
    def sites(self) -> dict[str, list[int]]:
        """Numbers of the sites by effect, in forward order, as a patch file has them; empty effects left out."""
        return {effect: sorted(numbers) for effect in SITES if (numbers := getattr(self, effect))}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors that a patch with these effects has."""
        return (*self.sites, *((SKIP,) if self.skip else ()))


def placed(plan: Plan, placement: str) -> frozenset[int]:
    """Numbers of the sites of a placement, one of `plan.PLACEMENTS`.

    Raises:
        UsageError: the network has no such sites.
    """
    found = {name: frozenset(site.index for site in plan.sites if site.within(name)) for name in PLACEMENTS}
    if not found[placement]:
        raise UsageError(
            "the backbone has no sites of this placement",
            field="--patch",
            got=placement,
            expected=", ".join(name for name, sites in found.items() if sites),
        )
    return found[placement]
