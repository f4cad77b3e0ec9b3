"""What the tests of many tasks share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepatch.many import jobs, tasks_file
from edgepatch.many.job import Event
from edgepatch.many.jobs import Row, Watcher

Write = Callable[..., Path]


class Listening(Watcher):
    """Keeps what happened."""

    def __init__(self, act: Callable[[Row, Event], None] = lambda row, event: None) -> None:
        self.events: list[Event] = []
        self.said: list[str] = []
        self.act = act

    def say(self, text: str) -> None:
        self.said.append(text)

    def changed(self, row: Row, event: Event) -> None:
        self.events.append(event)
        self.act(row, event)

    def epochs(self, name: str, attempt: int) -> list[int]:
        return [e.facts["epoch"] for e in self.events if (e.name, e.attempt, e.kind) == (name, attempt, "epoch")]


def train(path: Path, **options: Any) -> dict[str, Any]:
    return jobs.train(*tasks_file.read(path), **options)


def states(document: dict[str, Any]) -> dict[str, str]:
    return {task["task"]: task["state"] for task in document["tasks"]}
