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
    """The kinds that `scale_bias+classifier` names; the head is a classifier where none is named.

    Raises:
        UsageError: a kind is unknown, named twice, or there are two heads.
    """
    known = kinds()
    names = text.split("+")
    for name in names:
        if name not in known:
            raise UsageError(
                "there is no such patch kind", field="--patch", got=name, expected=", ".join(sorted(known))
            )
        if names.count(name) > 1:
            raise UsageError("a patch kind is named twice", field="--patch", got=text)
    return sort([known[name] for name in names])


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
