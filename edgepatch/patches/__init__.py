"""Patch kinds: what a task may change, and how.

Each module here is one kind and names it `KIND`; a new kind is a new module and nothing else. A kind of the body
(`Body`) changes the backbone at its sites; a kind of head (`Head`) reads the features. They compose with `+`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Sequence

from edgepatch.errors import UsageError
from edgepatch.patches.base import Body, Head


@functools.cache
def kinds() -> dict[str, Body | Head]:
    """Every kind, by name."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return {module.KIND.name: module.KIND for module in modules if hasattr(module, "KIND")}


def parse(text: str) -> tuple[tuple[Body, ...], Head]:
    """The kinds that `scale_bias@project+classifier` names; the head is a classifier where none is named.

    Raises:
        UsageError: a kind is unknown, named twice, or there are two heads.
    """
    known = kinds()
    chosen: dict[str, Body | Head] = {}
    for part in text.split("+"):
        name, at, placement = part.partition("@")
        if name not in known:
            raise UsageError(
                "there is no such patch kind", field="--patch", got=name, expected=", ".join(sorted(known))
            )
        if name in chosen:
            raise UsageError("a patch kind is named twice", field="--patch", got=text)
        kind = known[name]
        if at and not isinstance(kind, Body):
            raise UsageError("a head has no placement", field="--patch", got=part)
        chosen[name] = kind.placed(placement) if at and isinstance(kind, Body) else kind
    return sort(list(chosen.values()))


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


__all__ = ["Body", "Head", "kinds", "parse", "sort"]
