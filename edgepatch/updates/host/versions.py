"""Versions of tasks grow for as long as a repository lives, over removals too."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

from edgepatch import blob
from edgepatch.errors import BadFileError
from edgepatch.updates.described import Published
from edgepatch.updates.host.checking import CheckedPatch
from edgepatch.updates.host.repository import Repository

if TYPE_CHECKING:
    from tuf.api.metadata import Targets

NEWEST = "x-edgepatch-newest"  # field of a signed list: the versions of tasks taken out, below which none comes
_LIMIT = 2**53  # of a version


def newest(targets: Targets) -> dict[str, int]:
    """The versions of tasks that were taken out of a list, by path, as far as they are versions: it may be a team's."""
    found = targets.unrecognized_fields.get(NEWEST)
    own = found if isinstance(found, dict) else {}
    return {path: version for path, version in own.items() if type(version) is int and 1 <= version < _LIMIT}


def keep(targets: Targets, versions: dict[str, int]) -> None:
    """Write down the versions of tasks that were taken out of a list."""
    targets.unrecognized_fields.pop(NEWEST, None)
    if versions:
        targets.unrecognized_fields[NEWEST] = versions


def floor(found: Repository, old: Published | None, path: str) -> int:
    """The largest version of a task that was ever published by those whose word on it counts."""
    team = None if path in found.targets.signed.targets else found.team_of(path)
    lists = [found.targets, found.teams[team] if team else None]
    return max([old.version if old else 0, *(newest(each.signed).get(path, 0) for each in lists if each)])


def numbered(checked: CheckedPatch, old: Published | None, floor: int, renumber: bool) -> CheckedPatch:
    """A patch whose version is above all that were published, or that is published just so.

    Raises:
        BadFileError: its version is not, and it is not to be given another.
    """
    version = checked.patch.version
    if version > floor or (old is not None and hashlib.sha256(checked.data).hexdigest() == old.sha256):
        return checked
    if not renumber:
        raise BadFileError(
            "has a version that was published before, and devices take higher ones only",
            file=checked.file,
            field="version",
            got=version,
            expected=f"{floor + 1} or more",
            mend="Train it into the file that was published, which counts on, or publish with --renumber.",
        )
    patch = dataclasses.replace(checked.patch, version=floor + 1)
    return CheckedPatch(patch, blob.dump(patch), checked.file)
