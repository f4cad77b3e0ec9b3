"""Documents signed anew: with what changed, a higher version and a later expiry."""

from __future__ import annotations

import copy
import datetime
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepatch.errors import BadFileError
from edgepatch.updates import clock
from edgepatch.updates.host import keys
from edgepatch.updates.host.repository import Repository

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, MetaFile

ONLINE = ("snapshot", "timestamp")  # signed often and by machines: their keys lie where cron runs


def expiry(repository: Repository, role: str) -> datetime.datetime:
    """Until when a document of a role that is signed now is valid."""
    periods = repository.periods
    return clock.now() + datetime.timedelta(seconds=periods.get(role, periods["targets"]))


def signed(document: Any, signers: Iterable[CryptoSigner]) -> Metadata[Any]:
    """A document with its signatures."""
    from tuf.api.metadata import Metadata

    metadata = Metadata(document)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata


def renewed(
    repository: Repository,
    role: str,
    folder: Path,
    change: Callable[[Any], None] = lambda document: None,
    also: Iterable[CryptoSigner] = (),
) -> Metadata[Any]:
    """The document of root, targets or a team, signed anew and not yet written.

    Args:
        folder: of the keys.
        change: does to a copy of the document what there is to do.
        also: others that sign, beside the role's keys as they are: of a root, those of the next one.

    Raises:
        UsageError: keys are missing.
        BadFileError: the list that is here is older than the one that was published, or not one that we made.
    """
    signers = keys.find(folder, role, *repository.keys(role))
    if role != "root":
        repository.refuse_old(role)
    old: Any = repository.root if role == "root" else repository.role(role)
    try:
        document = copy.deepcopy(old.signed)
    except RecursionError as error:  # a thief of the key may nest as deep as JSON is just read
        raise BadFileError(
            "is nested too deeply to be signed anew",
            file=repository.file(role),
            mend=f"Let it begin anew with another key: edgepatch publish rotate {repository.path} {role} --public FILE",
        ) from error
    change(document)
    document.version = repository.next_version(role)
    document.expires = expiry(repository, role)
    if role == "root":
        document.unrecognized_fields[clock.ISSUED] = clock.write(clock.now())
    return signed(document, [*signers, *also])


def renew(
    repository: Repository, role: str, folder: Path, change: Callable[[Any], None] = lambda document: None
) -> None:
    """Sign root, targets or a team's document anew, and write it: as `renewed`."""
    repository.put(role, renewed(repository, role, folder, change))


def refresh(repository: Repository, folder: Path, *, anew: bool = False, here: bool = False) -> list[str]:
    """Sign a timestamp, and before it a snapshot if a document is newer than it says or half its time is over.

    Args:
        anew: a snapshot in any case, as its key is another.
        here: it is this that was asked for, and not what follows from something else.

    Returns:
        The roles that could not be signed, because their keys are elsewhere: until `edgepatch publish refresh` has been
        run there, devices see the state of before.

    Raises:
        UsageError: a key is not here that should be `here`.
    """
    from tuf.api.metadata import Snapshot, Timestamp

    meta = _meta(repository)
    old = repository.snapshot
    stale = (
        anew
        or old is None
        or old.signed.meta != meta
        or old.signed.expires - clock.now() < half(repository, "snapshot")
    )
    needed = ONLINE if stale else ("timestamp",)
    for role in needed if here else ():
        keys.find(folder, role, *repository.keys(role))
    if missing := [role for role in needed if not keys.has(folder, role, *repository.keys(role))]:
        return list(needed) if "snapshot" in missing else missing
    if stale:
        snapshot = Snapshot(
            version=repository.next_version("snapshot"), expires=expiry(repository, "snapshot"), meta=meta
        )
        repository.put("snapshot", signed(snapshot, keys.find(folder, "snapshot", *repository.keys("snapshot"))))
    assert repository.snapshot is not None
    timestamp = Timestamp(
        version=repository.next_version("timestamp"),
        expires=expiry(repository, "timestamp"),
        snapshot_meta=_described(repository.snapshot.signed.version, repository.bytes_of("snapshot")),
        unrecognized_fields={clock.ISSUED: clock.write(clock.now())},
    )
    repository.put("timestamp", signed(timestamp, keys.find(folder, "timestamp", *repository.keys("timestamp"))))
    return []


def _meta(repository: Repository) -> dict[str, MetaFile]:
    """What a snapshot has to say now. Teams that are gone stay in it: devices refuse one that names fewer documents."""
    meta = dict(repository.snapshot.signed.meta) if repository.snapshot else {}
    for role, document in [("targets", repository.targets), *repository.teams.items()]:
        if document is None:
            continue
        if not repository.newer(role):  # a team that lost its list is to stop nobody else
            meta[f"{role}.json"] = _described(document.signed.version, repository.bytes_of(role))
    return meta


def _described(version: int, data: bytes) -> MetaFile:
    from tuf.api.metadata import MetaFile

    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def half(repository: Repository, role: str) -> datetime.timedelta:
    """Half the time for which what a role signs is valid: what has less left is due."""
    periods = repository.periods
    return datetime.timedelta(seconds=periods.get(role, periods["targets"]) / 2)
