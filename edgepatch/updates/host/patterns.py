"""Whose word on a task counts where several might sign for it: said before a team waits for what never comes."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable

from edgepatch.updates import names
from edgepatch.updates.host.repository import Repository


def overlap(one: str, other: str) -> bool:
    """Whether some name matches both patterns, in which `*` stands for anything, and nothing else for something."""
    for exact, pattern in ((one, other), (other, one)):
        if "*" not in exact:
            return fnmatch.fnmatchcase(exact, pattern)
    # a star takes whatever the other one asks for between its ends, so that only the ends can contradict each other
    starts, ends = zip(*((each.partition("*")[0], each.rpartition("*")[2]) for each in (one, other)), strict=True)
    return _agree(str.startswith, *starts) and _agree(str.endswith, *ends)


def of_team(found: Repository, team: str) -> list[str]:
    """Sentences on names that match a team's patterns and that another role signs for."""
    own_patterns, teams = found.patterns(team), list(found.teams)
    notes = []
    taken = [
        each.task
        for each in found.files()
        if each.role == "targets" and any(fnmatch.fnmatchcase(each.path, own) for own in own_patterns)
    ]
    if taken:
        more = f" and {len(taken) - 5} more" if len(taken) > 5 else ""
        notes.append(
            f"{team}: targets signs for {', '.join(taken[:5])}{more} itself, and goes before. To give them to the "
            f"team: edgepatch publish remove {found.path} TASK, with the key of targets"
        )
    for other in teams:
        pairs = ((own, its) for own in own_patterns for its in found.patterns(other) if overlap(own, its))
        if other != team and (pair := next(pairs, None)):
            own, its = map(names.pattern_text, pair)
            first = min(team, other, key=teams.index)
            notes.append(f"{team}: {own} overlaps {its} of {other}: tasks that match both are signed by {first} alone")
    return notes


def of_task(found: Repository, task: str) -> str:
    """What is said when `targets` takes a task that a team might sign for; empty if none might."""
    team = found.team_of(names.patch_path(task))
    if team is None:
        return ""
    return (
        f"{task}: matches the tasks of the team {team}, whose word on it counts no more: targets goes before. "
        f"Was that meant to be --team {team}, take it out again: edgepatch publish remove {found.path} {task}"
    )


def _agree(begins: Callable[[str, str], bool], one: str, other: str) -> bool:
    return begins(one, other) or begins(other, one)
