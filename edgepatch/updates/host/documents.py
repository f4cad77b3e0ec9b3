"""Signed documents in the folder that is hosted: found by their numbers, verified, and never replaced."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepatch import files
from edgepatch.errors import BadFileError, EdgepatchError, UsageError
from edgepatch.updates import names

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata

MAX_VERSION = 10**15 - 1
_NUMBERED = re.compile(r"([1-9][0-9]{0,14})\.([a-z0-9_-]+)\.json")


def place(folder: Path, role: str, version: int) -> Path:
    """Where a document stands."""
    name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
    return folder / names.METADATA / name


def versions(folder: Path) -> dict[str, list[int]]:
    """For each role, the numbers that files of the folder have."""
    found: dict[str, list[int]] = {}
    metadata = folder / names.METADATA
    for entry in sorted(metadata.iterdir()) if metadata.is_dir() else []:
        if name := _NUMBERED.fullmatch(entry.name):
            found.setdefault(name[2], []).append(int(name[1]))
    return found


def unused(folder: Path, role: str, version: int) -> int:
    """The first number from `version` on that no file has. What a command that was killed has left may be hosted, and
    cached for ever.

    Raises:
        EdgepatchError: there is none.
    """
    while role != "timestamp" and place(folder, role, version).exists():
        version += 1
    if version > MAX_VERSION:
        raise EdgepatchError(
            "no number is left for another version of this document",
            file=folder,
            field=role,
            got=version,
            expected=f"at most {MAX_VERSION}",
            mend="Whoever leapt there had its key. Put a clean copy of the folder back; a team can also be taken out "
            "and have another name: edgepatch publish team.",
        )
    return version


def last_root(folder: Path, numbers: list[int]) -> Any:
    """The newest root, each verified by the one before it, as a device does.

    Raises:
        BadFileError: one is missing, or does not follow from the one before.
    """
    from tuf.api.metadata import Root

    root: Any = None
    for version, number in enumerate(sorted(numbers), 1):
        file = place(folder, "root", version)
        if number != version:
            raise BadFileError(
                "is missing, and devices go from each root to the next",
                file=file,
                got=f"{number}.root.json",
                expected=file.name,
                mend="Put it back from another copy of the repository.",
            )
        root = signed_by([root, "itself"] if root else ["itself"], "root", Root, file)
        if root is None or root.signed.version != version:
            raise BadFileError("is not signed as the next root has to be", file=file, field="signatures")
    return root


def newest(folder: Path, role: str, numbers: list[int], delegator: Any, kind: Any) -> Any:
    """The newest document of a role that its keys signed, or None."""
    for version in sorted(numbers, reverse=True):
        found = signed_by([delegator], role, kind, place(folder, role, version))
        if found is not None and found.signed.version == version:
            return found
    return None


def timestamp(folder: Path, root: Any, snapshots: list[int]) -> tuple[Any, int]:
    """timestamp.json, or None if its keys did not sign it; and its number, whoever signed it.

    It alone is replaced, so it alone says how far devices have counted: one that is lost is not begun anew at 1.

    Raises:
        BadFileError: it is damaged; or missing, though more than the empty repository was published.
    """
    from tuf.api.metadata import Timestamp

    file = place(folder, "timestamp", 0)
    if not file.exists() and max(snapshots, default=0) <= 1:
        return None, 0
    found = parsed(file)
    if found is None or found.signed.type != Timestamp.type:
        raise BadFileError(
            "is damaged, and says how far devices have counted" if file.exists() else "is missing",
            file=file,
            expected="the timestamp that was published last: devices refuse lower numbers",
            mend="Put back the one that is hosted.",
        )
    return signed_by([root], "timestamp", Timestamp, file), found.signed.version


def refuse_lost_snapshot(folder: Path, timestamp: Any) -> None:
    """Refuse to go on from a snapshot before the one that timestamp.json names: what that said would be forgotten.

    Raises:
        BadFileError: the named one is missing or damaged.
    """
    if timestamp is None:
        return
    named = timestamp.signed.snapshot_meta
    file = place(folder, "snapshot", named.version)
    found = parsed(file)
    if found is None or (named.hashes and hashlib.sha256(file.read_bytes()).hexdigest() != named.hashes.get("sha256")):
        raise BadFileError(
            "is damaged, and was published" if file.exists() else "is missing, and was published",
            file=file,
            expected="the snapshot that timestamp.json names",
            mend="Put back the one that is hosted.",
        )


def signed_by(delegators: list[Any], role: str, kind: Any, file: Path) -> Any:
    """A document, if it is one of this kind and all delegators' keys signed it."""
    from tuf.api.exceptions import RepositoryError

    found = parsed(file)
    if found is None or found.signed.type != kind.type:
        return None
    try:
        for delegator in delegators:
            signed = found.signed if delegator == "itself" else delegator.signed
            signed.verify_delegate(role, found.signed_bytes, found.signatures)
    except (RepositoryError, ValueError):
        return None
    return found


def to_bytes(metadata: Metadata[Any]) -> bytes:
    """A document as it is hosted."""
    from tuf.api.serialization.json import JSONSerializer

    return metadata.to_bytes(JSONSerializer(compact=True))


def refuse_large(folder: Path, metadata: Metadata[Any]) -> None:
    """Refuse a list that devices would not take, with room for other keys and teams that may come.

    Raises:
        UsageError: it is too large.
    """
    size, limit = len(to_bytes(metadata)), names.MAX_METADATA - 64 * 1024
    if size > limit:
        raise UsageError(
            "the list would be larger than devices take",
            file=folder,
            field="size",
            got=f"{size} bytes",
            expected=f"at most {limit}",
            mend="Let teams sign lists of their own: edgepatch publish team.",
        )


def parsed(file: Path) -> Any:
    """What a file says, whoever signed it; None if it is no document, or one that devices would not take."""
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata

    try:
        return Metadata.from_bytes(files.read(file, limit=names.MAX_METADATA))
    except (RepositoryError, ValueError, EdgepatchError):
        return None
