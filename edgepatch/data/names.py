"""Names in data that nobody vouches for: of labels, of picture files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from edgepatch.data.folder import SUFFIXES

LABEL = "a printable text of at most 200 characters"


def is_label(value: Any) -> bool:
    """Whether a value is what `LABEL` says."""
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its name."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def leaves(name: str) -> bool:
    """Whether a file name leads out of its folder, on any system."""
    return any(
        path.is_absolute() or path.drive or path.root or ".." in path.parts
        for path in (PurePosixPath(name), PureWindowsPath(name))
    )
