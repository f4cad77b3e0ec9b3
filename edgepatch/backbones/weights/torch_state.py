"""A torch state dict as canonical tensors, given which of its modules is which site."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgepatch.backbones import backbone
from edgepatch.backbones.plan import Plan, Site
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError

_PARTS = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}


def tensors(
    plan: Plan, state: Tensors, file: object, *, network: str, modules: Callable[[Site], tuple[str, str]], head: str
) -> Tensors:
    """The canonical tensors, classifier included if it is there.

    Args:
        plan: the trunk, every site of it with a batch norm.
        state: tensors by torch's names.
        file: what they were read from.
        network: whose they should be, for errors.
        modules: names of a site's convolution and batch norm.
        head: name of the classifier.

    Raises:
        BadFileError: it is not the state dict of this plan.
    """
    found: Tensors = {}

    def take(name: str, rank: int = 1) -> np.ndarray:
        if name not in state or state[name].dtype.kind != "f" or state[name].ndim != rank:
            raise BadFileError(
                f"is not {network}",
                file=file,
                field=name,
                got=str(state[name].shape) if name in state else f"{len(state)} other tensors",
                expected=f"floats of that name with {rank} dimensions",
            )
        return state[name]

    for site in plan.sites:
        convolution, norm = modules(site)
        kernel = take(f"{convolution}.weight", 4)  # (out, in, h, w), or (channels, 1, h, w) where depthwise
        found[f"{site.name}/kernel"] = np.ascontiguousarray(
            kernel.transpose((2, 3, 0, 1) if site.depthwise else (2, 3, 1, 0))
        )
        for part, torch_part in _PARTS.items():
            found[f"{site.name}/{part}"] = take(f"{norm}.{torch_part}")
    if f"{head}.weight" in state:
        found["head_kernel"] = np.ascontiguousarray(take(f"{head}.weight", 2).T)
        found["head_bias"] = take(f"{head}.bias")
    backbone.check_tensors(plan, found, file)
    return found
