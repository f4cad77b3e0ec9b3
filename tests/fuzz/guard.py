"""What a reader may take of memory and time, and how it is held to that."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Any

MEMORY = 64 << 20  # bytes that reading one input may add to the process; inputs are at most 256 KiB
SECONDS = 20  # for one input, with room for a busy machine
ROOM = 1 << 30  # of address space beyond what a process has when it starts


class Exceeded(BaseException):
    """An input took more than it may. No `except Exception` of a reader gets it."""


@dataclasses.dataclass
class Peak:
    """The most memory that an input took, in bytes beyond what the process had, and what that input was."""

    taken: int = 0
    size: int = 0


class Memory:
    """Resident memory of this process, and its highest since it was last asked."""

    def __init__(self) -> None:
        self._status = os.open("/proc/self/status", os.O_RDONLY)
        self._clear = os.open("/proc/self/clear_refs", os.O_WRONLY)

    def reset(self) -> int:
        """Forget the highest; returns what is resident now, in bytes."""
        os.pwrite(self._clear, b"5", 0)
        return self._field(b"VmRSS:")

    def peak(self) -> int:
        """The highest since `reset`, in bytes."""
        return self._field(b"VmHWM:")

    def _field(self, name: bytes) -> int:
        text = os.pread(self._status, 4096, 0)
        at = text.index(name) + len(name)
        return int(text[at : text.index(b"kB", at)]) * 1024


def limited(one: Callable[[bytes], None], worst: Peak | None = None) -> Callable[[bytes], None]:
    """A target that raises `Exceeded` where an input takes too much memory.

    Args:
        worst: is told the most that any input took.
    """
    memory = Memory()

    def call(data: bytes) -> None:
        before = memory.reset()
        one(data)
        taken = memory.peak() - before
        if worst is not None and taken > worst.taken:
            worst.taken, worst.size = taken, len(data)
        if taken > MEMORY:
            raise Exceeded(f"an input of {len(data)} bytes took {taken >> 20} MiB")

    return call


@contextlib.contextmanager
def in_time(seconds: float = SECONDS) -> Iterator[None]:
    """Raises `Exceeded` where the block takes longer."""

    def late(*_: Any) -> None:
        raise Exceeded(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def confine(cpu_seconds: int | None = None) -> None:
    """Bound this process for good: address space, so that a bomb is a MemoryError, and processor time."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        now = int(stream.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, now + ROOM))
    if cpu_seconds is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))


def outcome(one: Callable[[bytes], None], data: bytes) -> str | None:
    """What is wrong with a target on an input: the exception and the last places of ours that it went through.

    None where nothing is. Two inputs of the same outcome have found the same bug.
    """
    try:
        with in_time():
            one(data)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "edgepatch" in frame.filename]
        where = " < ".join(f"{os.path.basename(frame.filename)}:{frame.name}" for frame in frames[:-4:-1])  # noqa: PTH119
        # of assertions, what they say before the first thing that differs from input to input
        what = re.split(r"[\d'\"]", str(error))[0].strip() if isinstance(error, AssertionError) else ""
        return f"{type(error).__name__}{': ' + what if what else ''} at {where or 'the target'}"
    return None
