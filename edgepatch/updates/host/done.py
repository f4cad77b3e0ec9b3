"""What a publisher's command did, for its last words."""

from __future__ import annotations

import dataclasses

from edgepatch.updates.described import Published
from edgepatch.updates.host.repository import Repository


@dataclasses.dataclass(frozen=True)
class Done:
    """What a command did.

    Attributes:
        added, same: files that are new, and those that were there as they are.
        removed: by path, names of tasks and graphs that are no longer signed for.
        pending: roles whose keys are elsewhere: devices see nothing of this until they have signed.
        notes: sentences on what was made, and on what it does to others.
    """

    repository: Repository
    added: list[Published] = dataclasses.field(default_factory=list)
    same: list[Published] = dataclasses.field(default_factory=list)
    removed: dict[str, str] = dataclasses.field(default_factory=dict)
    pending: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
