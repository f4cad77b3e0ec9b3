"""A plan in the making from a network that was not laid down by ours: placements and blocks told from its shape."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Callable

import numpy as np

from edgepatch.backbones import plan_json
from edgepatch.backbones.plan import IMAGE, Builder, Plan
from edgepatch.container import Tensors

EPSILON = 1e-3  # where no batch norm says one


@dataclasses.dataclass
class Norm:
    """A batch norm: parts (channels,), and what it adds to the variance."""

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float


@dataclasses.dataclass
class Draft:
    """A node whose placement and block are not known yet.

    Attributes:
        op, inputs: as a `Node` has them.
        width, side: channels and pixels of its output.
        name, kernel, stride, pads, activation, depthwise: a site's.
        bias: of the convolution itself, or None.
        norm: behind it, or None.
    """

    op: str
    inputs: tuple[int, ...]
    width: int
    side: int
    name: str = ""
    kernel: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0, 0, 0), np.float32))
    stride: int = 1
    pads: tuple[int, int] | None = None
    depthwise: bool = False
    activation: str | None = None
    bias: np.ndarray | None = None
    norm: Norm | None = None

    @property
    def pointwise(self) -> bool:
        return self.op == "site" and not self.depthwise and self.kernel.shape[0] == 1


def plan(architecture: str, drafts: list[Draft]) -> Plan:
    """The plan of drafts in forward order; its epsilon is the least of theirs."""
    places, names = placements(drafts), iter(site_names([draft.name for draft in drafts if draft.op == "site"]))
    epsilon = min((draft.norm.epsilon for draft in drafts if draft.norm), default=EPSILON)
    net, block = Builder(), -1
    for draft, place in zip(drafts, places, strict=True):
        if draft.op == "site":
            expanded = draft.depthwise and draft.inputs[0] != IMAGE and places[draft.inputs[0]] == "expand"
            if place in ("stem", "expand", "top") or (draft.depthwise and not expanded):
                block += 1
            net.site(
                draft.inputs[0],
                next(names),
                max(block, 0),
                place,
                draft.width,
                draft.kernel.shape[0],
                draft.stride,
                draft.activation or "linear",
                normalised=draft.norm is not None,
                pads=draft.pads,
            )
        else:
            lay: dict[str, Callable[..., int]] = {"add": net.add, "multiply": net.multiply, "mean": net.mean}
            lay[draft.op](*draft.inputs)
    return Plan(architecture, 1.0, "same", epsilon, tuple(net.nodes))


def tensors(made: Plan, drafts: list[Draft]) -> Tensors:
    """The canonical tensors of the drafts' plan: convolutions' biases folded into the means behind them, and each batch
    norm's own epsilon into its variance.
    """
    found: dict[str, np.ndarray] = {}
    sites = [draft for draft in drafts if draft.op == "site"]
    for site, draft in zip(made.sites, sites, strict=True):
        bias = np.zeros(draft.width) if draft.bias is None else draft.bias.astype(np.float64)
        found[f"{site.name}/kernel"] = draft.kernel
        if draft.norm is None:
            found[f"{site.name}/bias"] = bias
            continue
        found[f"{site.name}/gamma"] = draft.norm.gamma
        found[f"{site.name}/beta"] = draft.norm.beta
        found[f"{site.name}/mean"] = draft.norm.mean - bias
        found[f"{site.name}/variance"] = draft.norm.variance + (draft.norm.epsilon - made.epsilon)
    return {name: np.ascontiguousarray(value, np.float32) for name, value in found.items()}


def placements(drafts: list[Draft]) -> list[str]:
    """Each site's placement, empty for other nodes.

    The first convolution is the stem. Pointwise ones are `squeeze` and `excite` on the way from a mean of what they
    gate; `project` right behind a depthwise one or its gate; `expand` if only a depthwise one reads them. All else is
    `top`.
    """
    gated = _gates(drafts)
    readers = Counter(source for draft in drafts for source in draft.inputs)
    opening = {draft.inputs[0] for draft in drafts if draft.depthwise and readers[draft.inputs[0]] == 1}

    def place(number: int, draft: Draft) -> str:
        source = draft.inputs[0]
        if source != IMAGE and drafts[source].op == "multiply":
            source = drafts[source].inputs[0]
        if draft.op != "site":
            return ""
        if draft.depthwise:
            return "depthwise"
        if number == 0:
            return "stem"
        if number in gated:
            return gated[number]
        if draft.pointwise and source != IMAGE and drafts[source].depthwise:
            return "project"
        return "expand" if draft.pointwise and number in opening else "top"

    return [place(number, draft) for number, draft in enumerate(drafts)]


def site_names(layers: list[str]) -> list[str]:
    """Names of sites, as near to their layers' as may be."""
    found: list[str] = []
    taken: set[str] = set()
    for layer in layers:
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", layer).lstrip("_.-")[:60] or "site"
        for name in itertools.chain([plain], (f"{plain}_{number}" for number in itertools.count(1))):
            with contextlib.suppress(ValueError):
                plan_json.claim(name, taken)
                found.append(name)
                break
    return found


def _gates(drafts: list[Draft]) -> dict[int, str]:
    """Placements of the convolutions of squeeze-and-excite branches."""
    found: dict[int, str] = {}
    for draft in drafts:
        if draft.op != "multiply":
            continue
        source, last = draft.inputs
        chain: list[int] = []
        while drafts[last].pointwise and drafts[last].side == 1 and drafts[last].inputs[0] != IMAGE:
            chain.append(last)
            last = drafts[last].inputs[0]
        if chain and drafts[last].op == "mean" and drafts[last].inputs == (source,):
            found |= dict.fromkeys(chain, "squeeze") | {chain[0]: "excite"}
    return found
