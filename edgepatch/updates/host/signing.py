"""Documents signed anew: with what changed, a higher version and a later expiry."""

from __future__ import annotations

import copy
import datetime
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepatch.errors import BadFileError, printable
from edgepatch.updates import clock
from edgepatch.updates.host import documents, keys
from edgepatch.updates.host.repository import Repository

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, MetaFile

ONLINE = ("snapshot", "timestamp")  # signed often and by machines: their keys lie where cron runs
REMINDER = datetime.timedelta(days=30)


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


def refresh(repository: Repository, folder: Path, *, anew: bool = False) -> list[str]:
    """Sign a timestamp, and before it a snapshot if a document is newer than it says or half its time is over.

    Args:
        anew: a snapshot in any case, as its key is another.

    Returns:
        The roles that could not be signed, because their keys are elsewhere: until `edgepatch publish refresh` has been
        run there, devices see the state of before.
    """
    from tuf.api.metadata import Snapshot, Timestamp

    meta = _meta(repository)
    old = repository.snapshot
    stale = (
        anew
        or old is None
        or old.signed.meta != meta
        or old.signed.expires - clock.now() < _half(repository, "snapshot")
    )
    needed = ONLINE if stale else ("timestamp",)
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


def reminders(repository: Repository) -> list[str]:
    """Sentences on what cron cannot mend: what expires within a month, is lost, or is refused by devices."""
    signed = {"root": repository.root, "targets": repository.targets, **repository.teams}
    expiring = [
        f"{role} expires on {clock.write(document.signed.expires)}: "
        f"edgepatch publish refresh {repository.path} {role}, where its key is"
        for role, document in signed.items()
        if document and document.signed.expires - clock.now() < min(REMINDER, _half(repository, role))
    ]
    issued = clock.read(repository.root.signed.unrecognized_fields.get(clock.ISSUED))
    if issued and clock.is_ahead(issued):
        expiring.append(
            f"root was signed on {clock.write(issued)}, and by this machine's clock it is {clock.write(clock.now())}: "
            f"one of the two is wrong. If it was the other one, edgepatch publish refresh {repository.path} root: "
            "devices refuse what was signed in their future"
        )
    lost = [
        f"{role}: {documents.place(repository.path, role, newer)} is missing, which devices ask for: put it back"
        for role in repository.teams
        if (newer := repository.newer(role))
    ]
    return [*expiring, *lost, *(text for role in ["targets", *repository.teams] for text in _refused(repository, role))]


def _refused(repository: Repository, role: str) -> list[str]:
    """One sentence on all of a role's entries that devices refuse: there may be thousands."""
    reasons = {path: each for path, each in repository.listed(role).items() if isinstance(each, str)}
    if not reasons:
        return []
    path, reason = next(iter(reasons.items()))
    more = f", and of {len(reasons) - 1} more" if len(reasons) > 1 else ""
    return [printable(f"{role}: devices refuse its word on {path[:120]}{more}: {reason}")]


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


def _half(repository: Repository, role: str) -> datetime.timedelta:
    periods = repository.periods
    return datetime.timedelta(seconds=periods.get(role, periods["targets"]) / 2)
