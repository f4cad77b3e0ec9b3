"""What is in a repository, for people and programs, and what of it devices do not see or would not take."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from edgepatch import files
from edgepatch.errors import BadFileError, UsageError
from edgepatch.updates import clock, names
from edgepatch.updates.described import Published
from edgepatch.updates.host import documents, reminders, repository
from edgepatch.updates.host.repository import Repository

OK = ("ok", "nothing yet")
EXPIRED, NOT_VISIBLE, NOT_SIGNED, MISSING, DAMAGED = "EXPIRED", "NOT VISIBLE", "NOT SIGNED", "MISSING", "DAMAGED"


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Its roles, teams, graphs and patches, their states, and what has to be signed before it expires.

    Raises:
        UsageError, BadFileError: as `repository.read`.
    """
    found = repository.read(path)
    seen = _seen(found)
    rows = [_role(found, role, seen) for role in [*names.ROLES, *found.teams]]
    visible = {role: _visible(found, role, seen) for role in ["targets", *found.teams]}
    published = found.files()
    described = {True: [], False: []}  # type: dict[bool, list[dict[str, Any]]]
    for each in published:
        state = _bytes(found, each) or ("ok" if (each.path, each.sha256) in visible[each.role] else NOT_VISIBLE)
        described[each.is_graph].append({**each.to_json(), "state": state})
    unseen = [row["role"] for row in rows if row["state"] == NOT_VISIBLE]
    told = (
        [f"{', '.join(unseen)}: devices see this when edgepatch publish refresh {path} has been run"] if unseen else []
    )
    return {
        "repository": str(path),
        "roles": rows,
        "graphs": described[True],
        "patches": described[False],
        "bytes": sum(each.length for each in published),
        "reminders": [*told, *reminders.of(found)],
    }


def is_sound(document: dict[str, Any]) -> bool:
    """Whether devices see, and take, all that `describe` has found."""
    return all(row["state"] in OK for rows in ("roles", "graphs", "patches") for row in document[rows])


def _role(found: Repository, role: str, seen: Any) -> dict[str, Any]:
    document = getattr(found, role) if role in names.ROLES else found.teams[role]
    known, threshold = found.keys(role)
    return {
        "role": role,
        "version": document.signed.version if document else 0,
        "expires": clock.write(document.signed.expires) if document else None,
        "state": _state(found, role, document, seen),
        "keys": [key.keyid for key in known],
        "threshold": threshold,
        "period_s": found.periods.get(role, found.periods["targets"]),
        **({"tasks": [names.pattern_text(each) for each in found.patterns(role)]} if role in found.teams else {}),
    }


def _state(found: Repository, role: str, document: Any, seen: Any) -> str:
    if document is None:
        return "nothing yet" if role in found.teams and not found.waiting(role) else NOT_SIGNED
    if document.signed.expires <= clock.now():
        return EXPIRED
    if role in ("root", "timestamp"):  # which devices ask for
        return "ok"
    if role != "snapshot" and found.newer(role):
        return MISSING
    shown = seen.signed.version if role == "snapshot" and seen else _shown(seen, role)
    return "ok" if shown == document.signed.version else NOT_VISIBLE


def _seen(found: Repository) -> Any:
    """The snapshot that devices are shown: of the newest one nothing is seen before timestamp.json names it."""
    from tuf.api.metadata import Snapshot

    if found.timestamp is None:
        return None
    place = documents.place(found.path, "snapshot", found.timestamp.signed.snapshot_meta.version)
    return documents.signed_by([found.root], "snapshot", Snapshot, place)


def _shown(seen: Any, role: str) -> int:
    meta = seen.signed.meta.get(f"{role}.json") if seen else None
    return meta.version if meta else 0


def _visible(found: Repository, role: str, seen: Any) -> set[tuple[str, str]]:
    """Paths and hashes in the list of a role that devices are shown."""
    from tuf.api.metadata import Targets

    delegator = found.root if role == "targets" else found.targets
    place = documents.place(found.path, role, _shown(seen, role))
    shown = documents.signed_by([delegator], role, Targets, place)
    return {(path, each.hashes.get("sha256", "")) for path, each in shown.signed.targets.items()} if shown else set()


def _bytes(found: Repository, each: Published) -> str:
    """What is wrong with a file on the disk; empty if nothing is."""
    try:
        data = files.read(found.hosted(each), limit=each.length)
    except UsageError:
        return MISSING
    except BadFileError:
        return DAMAGED
    return "" if hashlib.sha256(data).hexdigest() == each.sha256 else DAMAGED
