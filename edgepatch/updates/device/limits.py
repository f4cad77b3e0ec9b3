"""How long and how much: what a server may cost a device before it is given up on."""

from __future__ import annotations

import dataclasses
import time

from edgepatch.errors import EdgepatchError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of one update.

    Attributes:
        stall: seconds to connect, to be answered, and between two bytes.
        rate: bytes a second that a body must keep up on average once `grace` is over.
        grace: seconds that an answer and its body have in any case.
        total: seconds for everything.
        attempts: how often in a row a request is made without a byte gained.
        pause: seconds before the second attempt; it doubles from one to the next.
    """

    stall: float = 30.0
    rate: float = 256.0
    grace: float = 60.0
    total: float = 3600.0
    attempts: int = 5
    pause: float = 1.0


class Deadline:
    """The end of the time that everything together has."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._end = seconds, time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left.

        Raises:
            EdgepatchError: none.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise EdgepatchError(
                "the update took too long",
                field="--timeout",
                got=f"{self._seconds:g} s",
                mend="What was fetched is kept: run this again, and it goes on from there.",
            )
        return left
