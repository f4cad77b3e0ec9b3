"""From a graph's outputs to answers: one module a head kind, each with `check` and `decode`."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError


def of(patch: Patch, values: Tensors, file: object) -> ModuleType:
    """The module of a patch's head, after it has checked the patch.

    Args:
        values: the patch's, decoded.

    Raises:
        BadFileError: the head is unknown here, or the patch is not sound for it.
    """
    name = patch.decode.get("head")
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if name not in known:
        raise BadFileError(
            "has a head that this version does not know",
            file=file,
            field="decode.head",
            got=str(name)[:40],
            expected=" or ".join(known),
            mend="pip install --upgrade edgepatch",
        )
    module = importlib.import_module(f"{__name__}.{name}")
    module.check(patch, values, file)
    return module
