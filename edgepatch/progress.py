"""Progress on stderr: sentences, and on a terminal bars that move."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

import click

T = TypeVar("T")


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keep back what C++ libraries write to stderr by themselves; if the work fails, it is shown."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink:
        kept = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except BaseException:
            sink.seek(0)
            os.write(kept, sink.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


class Reporter(Protocol):
    """Where long work says what it is doing; `Terminal` and `Quiet` are the two there are."""

    def say(self, text: str) -> None:
        """A sentence of its own."""

    def bar(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """The items one by one, and how far they are."""

    def status(self, text: str) -> None:
        """Loss, accuracy and the like beside the moving bar."""

    def epoch(self, number: int, total: int, result: Mapping[str, float]) -> None:
        """An epoch is over, and what goes on after it is in the checkpoint."""


class Terminal:
    """Sentences on stderr, and bars with the time left where there is a terminal."""

    def __init__(self) -> None:
        self._status = ""

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def bar(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        self._status = ""
        if not sys.stderr.isatty():
            yield from items
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

    def epoch(self, number: int, total: int, result: Mapping[str, float]) -> None:
        pass


class Quiet:
    """Nothing at all: for tests and for callers with a display of their own."""

    def say(self, text: str) -> None:
        pass

    def bar(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        yield from items

    def status(self, text: str) -> None:
        pass

    def epoch(self, number: int, total: int, result: Mapping[str, float]) -> None:
        pass
