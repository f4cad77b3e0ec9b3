"""Progress on stderr: a bar that moves on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

import click

T = TypeVar("T")


class Reporter(Protocol):
    """Where long work says what it is doing; `Terminal` and `Quiet` are the two there are."""

    def say(self, text: str) -> None:
        """A sentence of its own."""

    def bar(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """The items one by one, and how far they are."""

    def status(self, text: str) -> None:
        """Loss, accuracy and the like beside the moving bar."""


class Terminal:
    """Bars with the time left, and sentences, on stderr."""

    def __init__(self) -> None:
        self._status = ""

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def bar(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        start, self._status = time.monotonic(), ""
        if not sys.stderr.isatty():
            yield from items
            self.say(f"{what}: {total} in {time.monotonic() - start:.1f} s")
            return
        with click.progressbar(
            items,
            length=total,
            label=what.ljust(18),
            file=sys.stderr,
            show_pos=True,
            width=24,
            item_show_func=lambda _: self._status,
        ) as moving:
            yield from moving

    def status(self, text: str) -> None:
        self._status = text


class Quiet:
    """Nothing at all: for tests and for callers with a display of their own."""

    def say(self, text: str) -> None:
        pass

    def bar(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        yield from items

    def status(self, text: str) -> None:
        pass
