"""The table of many tasks while they are trained: redrawn in place on a terminal, else a line a change."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence

import click

from edgepatch.cli.common import number_of, table
from edgepatch.many.job import Event
from edgepatch.many.jobs import DONE, FAILED, RUNNING, WAITING, Row, Watcher

REDRAWN = 0.5  # seconds between two drawings
ERASE = "\x1b[0J"  # from the cursor to the end of the screen


class Lines(Watcher):
    """A line a change, on stderr."""

    def begin(self, rows: Sequence[Row]) -> None:
        waiting = sum(row.state == WAITING for row in rows)
        self.say(f"{number_of(len(rows), 'task')}, {waiting} of them to be trained")

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def changed(self, row: Row, event: Event) -> None:
        if text := sentence(row, event):
            self.say(text)


class Table(Lines):
    """All that runs, and counts of the rest."""

    def __init__(self) -> None:
        self.height, self.drawn = 0, 0.0
        self.rows: Sequence[Row] = ()

    def begin(self, rows: Sequence[Row]) -> None:
        super().begin(rows)
        self.rows = rows

    def say(self, text: str) -> None:
        self._clear()
        click.echo(text, err=True)

    def changed(self, row: Row, event: Event) -> None:
        if event.kind in ("failed", "died"):  # these stay on the screen
            super().changed(row, event)

    def tick(self, rows: Sequence[Row], left: float | None) -> None:
        if time.monotonic() - self.drawn >= REDRAWN:
            self._draw(rows, left)

    def end(self) -> None:
        if self.rows:
            self._draw(self.rows, None)
        self.height = 0

    def _draw(self, rows: Sequence[Row], left: float | None) -> None:
        size = shutil.get_terminal_size()
        lines = [line[: size.columns - 1] for line in picture(rows, left, max(3, size.lines - 4))]
        self._clear()
        sys.stderr.write("\n".join(lines) + "\n")
        sys.stderr.flush()
        self.height, self.drawn = len(lines), time.monotonic()

    def _clear(self) -> None:
        if self.height:
            sys.stderr.write(f"\x1b[{self.height}A\r{ERASE}")
            self.height = 0


def watcher() -> Watcher:
    """What suits the place that stderr goes to."""
    return Table() if sys.stderr.isatty() else Lines()


def picture(rows: Sequence[Row], left: float | None, most: int) -> list[str]:
    """The lines of the table: of at most so many tasks, those that run first, then those that failed, the last done."""
    order = [row for state in (RUNNING, FAILED) for row in rows if row.state == state]
    order += [row for row in reversed(rows) if row.state == DONE] + [row for row in rows if row.state == WAITING]
    cells = [["task", "state", "epoch", "validation", "seconds"]]
    for row in order[:most]:
        running = time.monotonic() - row.began if row.began is not None else 0.0
        cells.append(
            [
                row.name[:40],
                row.phase if row.state == RUNNING else row.state,
                f"{row.epoch}/{row.epochs}" if row.epochs else "",
                "" if row.validation is None else f"{row.validation:.1%}",
                f"{row.seconds + running:.0f}" if row.seconds or running else "",
            ]
        )
    states = [row.state for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    rest = "" if not left else f"; about {duration(left)} left"
    return [*table(cells).splitlines(), f"{counts}{rest}"]


def sentence(row: Row, event: Event) -> str:
    """An event in one line, or nothing if it is not worth one."""
    if event.kind == "started":
        return f"{row.name}: started" + (f", attempt {row.attempts}" if row.attempts > 1 else "")
    if event.kind == "epoch":
        return f"{row.name}: epoch {row.epoch}/{row.epochs}, validation {row.validation:.3f}"
    if event.kind == "done":
        return f"{row.name}: done, validation {row.validation:.3f}, {row.seconds:.0f} s"
    if event.kind in ("failed", "died"):
        said = str((row.error or {}).get("message", "")).splitlines() or [""]
        return f"{row.name}: {event.kind}, {'to be tried again' if row.state == WAITING else 'given up'}: {said[0]}"
    return ""


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
