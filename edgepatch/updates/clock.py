"""Time, as signed metadata tells it: UTC, whole seconds.

The Update Framework has dates of expiry alone. A device whose clock stands at 1970, as those without a battery do until
the network has set it, would take every document for fresh; so what is signed online also says when it was signed.
"""

from __future__ import annotations

import datetime
import re

from edgepatch.errors import UsageError

ISSUED = "x-edgepatch-issued"  # field of signed root and timestamp: when it was signed
PERIODS = "x-edgepatch-periods"  # field of signed root: for each role, how many seconds its documents are valid
DEFAULT_PERIODS = {"root": 365 * 86400, "targets": 365 * 86400, "snapshot": 30 * 86400, "timestamp": 7 * 86400}
TOLERANCE = datetime.timedelta(days=1)  # that a device's clock may be behind

_UNITS = {"m": 60, "h": 3600, "d": 86400}
_LONGEST = 10 * 365 * 86400


def now() -> datetime.datetime:
    """The time of this machine."""
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def is_ahead(time: datetime.datetime) -> bool:
    """Whether it has not come yet, by this machine's clock."""
    return now() + TOLERANCE < time


def write(time: datetime.datetime) -> str:
    """As text: `2026-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def read(text: object) -> datetime.datetime | None:
    """The time that `write` wrote, or None of anything else."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return None


def period(text: str) -> int:
    """Seconds of `90m`, `36h` or `7d`.

    Raises:
        UsageError: it is none, or longer than ten years.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,6})([mhd])", text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST:
        raise UsageError("is no period", field="--expires", got=text[:40], expected="such as 36h or 7d, up to 3650d")
    return seconds
