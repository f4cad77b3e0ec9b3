"""edgepatch: one MobileNet on the device, any number of tasks by loading kilobytes.

>>> import edgepatch
>>> runtime = edgepatch.Runtime("mobilenet.tflite")
>>> task = runtime.load("digits.epatch")
>>> runtime.predict("seven.png").label
'7'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepatch.blob import Patch
    from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, MissingPackageError, UsageError
    from edgepatch.runtime import Runtime

__version__ = "0.1.0"

# where each public name lives; loaded when first asked for, so that importing edgepatch costs next to nothing
_HOMES = {
    "Runtime": "edgepatch.runtime",
    "Patch": "edgepatch.blob",
    "EdgepatchError": "edgepatch.errors",
    "UsageError": "edgepatch.errors",
    "BadFileError": "edgepatch.errors",
    "MismatchError": "edgepatch.errors",
    "MissingPackageError": "edgepatch.errors",
}

__all__ = [
    # running tasks
    "Runtime",
    "Patch",
    # what can go wrong
    "EdgepatchError",
    "UsageError",
    "BadFileError",
    "MismatchError",
    "MissingPackageError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
