"""Patch kinds: what a task may change, and how.

A module with a `KIND` is one kind; a new kind is a new module and nothing else. A kind of the body (`Body`) changes the
backbone: it says so in `Effects`, and what several kinds change adds up to one `Change`, whose layers are trained. A
kind of head reads the features (`FeatureHead`) or maps of the trunk (`MapHead`). They compose with `+`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Collection, Mapping, Sequence

from edgepatch.backbones.plan import Plan
from edgepatch.errors import UsageError
from edgepatch.patches.base import Body, Counted, FeatureHead, Head
from edgepatch.patches.change import Change, Options, combine
from edgepatch.patches.effects import Effects


@functools.cache
def kinds() -> dict[str, Body | Head]:
    """Every kind, by the name of its module."""
    modules = {
        found.name: importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    }
    return {name: module.KIND for name, module in modules.items() if hasattr(module, "KIND")}


def parse(text: str) -> tuple[tuple[Body, ...], Head]:
    """The kinds that `scale_bias@project+bottom:2+classifier` names; the head is a classifier where none is named.

    Raises:
        UsageError: a kind is unknown, named twice, of a placement or number it does not have, or there are two heads.
    """
    known = kinds()
    chosen: dict[str, Body | Head] = {}
    for part in text.split("+"):
        rest, at, placement = part.partition("@")
        name, colon, number = rest.partition(":")
        if name not in known:
            forms = (f"{each}:N" if isinstance(known[each], Counted) else each for each in sorted(known))
            raise UsageError("there is no such patch kind", field="--patch", got=name, expected=", ".join(forms))
        if name in chosen:
            raise UsageError("a patch kind is named twice", field="--patch", got=text)
        kind = known[name]
        if at or colon:
            if not isinstance(kind, Body):
                raise UsageError("a head has no placement and no number", field="--patch", got=part)
            if colon and isinstance(kind, Counted) and not (number.isdecimal() and int(number)):
                raise UsageError("needs a number of blocks", field="--patch", got=part, expected=f"{name}:1 or more")
            if colon:
                kind = kind.counted(int(number) if number.isdecimal() else 0)
            if at:
                kind = kind.placed(placement)
        chosen[name] = kind
    return sort(list(chosen.values()))


def parse_features(text: str) -> tuple[tuple[Body, ...], FeatureHead]:
    """`parse`, for what works with features alone.

    Raises:
        UsageError: as `parse`, or the head reads maps of the trunk.
    """
    bodies, head = parse(text)
    if not isinstance(head, FeatureHead):
        raise UsageError(
            "has a head on maps of the trunk, which only `train`, and `train-many` without --joint, can train",
            field="--patch",
            got=head.name,
            expected=", ".join(sorted(name for name, kind in kinds().items() if isinstance(kind, FeatureHead))),
        )
    return bodies, head


def sort(chosen: Sequence[Body | Head]) -> tuple[tuple[Body, ...], Head]:
    """Kinds of the body, and the head; a classifier where none is among them.

    Raises:
        UsageError: there are two heads.
    """
    bodies = tuple(kind for kind in chosen if isinstance(kind, Body))
    heads = [kind for kind in chosen if isinstance(kind, Head)]
    if len(heads) > 1:
        raise UsageError("a patch has one head", field="--patch", got="+".join(kind.name for kind in chosen))
    head = heads[0] if heads else kinds()["classifier"]
    assert isinstance(head, Head)
    return bodies, head


def manifest(bodies: Sequence[Body], head: Head, plan: Plan, stored: Collection[str]) -> dict[str, tuple[str, ...]]:
    """For each kind the names of its tensors among those that a patch stores: their steps, too."""
    own = {body.name: body.effects(plan).names for body in bodies}
    return stored_names({**own, head.name: [name for name in stored if name.startswith(("head_", "head/"))]}, stored)


def stored_names(kinds: Mapping[str, Sequence[str]], stored: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The names of each kind's tensors as a patch stores them, their steps among them, from the names of its values."""
    found = {
        kind: tuple(name for name in stored if name in names or name.removesuffix("_step") in names)
        for kind, names in kinds.items()
    }
    return {kind: names for kind, names in found.items() if names}


__all__ = [
    "Body", "Change", "Effects", "FeatureHead", "Head", "Options", "combine", "kinds", "manifest", "parse",
    "parse_features", "sort", "stored_names",
]  # fmt: skip
