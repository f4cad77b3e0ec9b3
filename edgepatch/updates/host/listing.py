"""What is in a repository, for people and programs."""

from __future__ import annotations

import os
from typing import Any

from edgepatch.updates import clock, names
from edgepatch.updates.host import repository, signing


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Its roles, teams, graphs and patches, and what has to be signed before it expires.

    Raises:
        UsageError, BadFileError: as `repository.read`.
    """
    found = repository.read(path)
    documents = {role: getattr(found, role) for role in names.ROLES} | found.teams
    rows = []
    for role, document in documents.items():
        known, threshold = found.keys(role)
        rows.append(
            {
                "role": role,
                "version": document.signed.version if document else 0,
                "expires": clock.write(document.signed.expires) if document else None,
                "keys": [key.keyid for key in known],
                "threshold": threshold,
                "period_s": found.periods.get(role, found.periods["targets"]),
                **(
                    {"tasks": [names.pattern_text(each) for each in found.patterns(role)]}
                    if role in found.teams
                    else {}
                ),
            }
        )
    published = found.files()
    return {
        "repository": str(path),
        "roles": rows,
        "graphs": [each.to_json() for each in published if each.is_graph],
        "patches": [each.to_json() for each in published if not each.is_graph],
        "bytes": sum(each.length for each in published),
        "reminders": signing.reminders(found),
    }
