"""What cron cannot mend, in sentences that name the command which does."""

from __future__ import annotations

import datetime
from typing import Any

from edgepatch.errors import printable
from edgepatch.updates import clock
from edgepatch.updates.host import documents, signing
from edgepatch.updates.host.repository import Repository

EARLY = datetime.timedelta(days=30)


def of(repository: Repository) -> list[str]:
    """What expires within a month, has expired, waits to be signed, is lost, or is refused by devices."""
    lost = [
        f"{role}: {documents.place(repository.path, role, newer)} is missing, which devices ask for: put it back"
        for role in repository.teams
        if (newer := repository.newer(role))
    ]
    refused = [text for role in ["targets", *repository.teams] for text in _refused(repository, role)]
    return [*_expiring(repository), *_of_clock(repository), *lost, *_waiting(repository), *refused]


def expired(repository: Repository) -> list[str]:
    """Those of root and targets that have expired: devices refuse the whole site, however often cron signs the rest.

    Not so with a team's list: it stops nobody else, and must not stop cron.
    """
    needed: dict[str, Any] = {"root": repository.root, "targets": repository.targets}
    return [role for role, document in needed.items() if document.signed.expires <= clock.now()]


def _expiring(repository: Repository) -> list[str]:
    signed: dict[str, Any] = {"root": repository.root, "targets": repository.targets, **repository.teams}
    online: dict[str, Any] = {"snapshot": repository.snapshot, "timestamp": repository.timestamp}
    sentences = []
    for role, document in {**signed, **online}.items():
        if document is None or document.signed.expires - clock.now() >= min(EARLY, signing.half(repository, role)):
            continue
        date = clock.write(document.signed.expires)
        what = f"{role} expires on {date}"
        if document.signed.expires <= clock.now():
            whose = f"the tasks of {role}" if role in repository.teams else "this site"
            what = f"{role} has expired on {date}, and devices refuse {whose}"
        name = f" {role}" if role in signed else ""
        sentences.append(f"{what}: edgepatch publish refresh {repository.path}{name}, where its key is")
    return sentences


def _of_clock(repository: Repository) -> list[str]:
    issued = clock.read(repository.root.signed.unrecognized_fields.get(clock.ISSUED))
    if issued is None or not clock.is_ahead(issued):
        return []
    return [
        f"root was signed on {clock.write(issued)}, and by this machine's clock it is {clock.write(clock.now())}: "
        f"one of the two is wrong. If it was the other one, edgepatch publish refresh {repository.path} root: "
        "devices refuse what was signed in their future"
    ]


def _waiting(repository: Repository) -> list[str]:
    """Of teams whose key was replaced by one that is not here."""
    return [
        printable(
            f"{team}: has signed nothing with its present key. Devices keep what they have of its tasks until the team "
            f"has published them again, all in one command: edgepatch publish add {repository.path} FILE.epatch... "
            f"--team {team} ({', '.join(tasks[:20])}{f' and {len(tasks) - 20} more' if len(tasks) > 20 else ''})",
            None,
        )
        for team in repository.teams
        if (tasks := repository.waiting(team))
    ]


def _refused(repository: Repository, role: str) -> list[str]:
    """One sentence on all of a role's entries that devices refuse: there may be thousands."""
    reasons = {path: each for path, each in repository.listed(role).items() if isinstance(each, str)}
    if not reasons:
        return []
    path, reason = next(iter(reasons.items()))
    more = f", and of {len(reasons) - 1} more" if len(reasons) > 1 else ""
    return [printable(f"{role}: devices refuse its word on {path[:120]}{more}: {reason}")]
