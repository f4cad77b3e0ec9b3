"""What python-tuf refused, in a sentence of ours: which document, what is wrong with it, what mends it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Any

from edgepatch import container
from edgepatch.errors import BadFileError, EdgepatchError
from edgepatch.updates import clock

_EXPIRED = re.compile(r"([\w-]+)(\.json)? is expired")
_MIRROR = "Somebody may be holding back or changing files: the store is as it was. Try another network or --url."


def explain(error: Exception, url: str, documents: Iterable[bytes], team: str | None = None) -> EdgepatchError:
    """The error of ours for one of python-tuf's.

    Args:
        url: of the document that was fetched last.
        documents: those at hand, to find the date of expiry in: the one fetched last first.
        team: whose list it is; None of the repository's own documents.
    """
    from tuf.api import exceptions as tuf

    text = str(error)
    if isinstance(error, tuf.ExpiredMetadataError):
        found = _EXPIRED.search(text)
        return _expired(found[1] if found else "", url, documents)
    if isinstance(error, tuf.UnsignedMetadataError) and team is not None:
        return BadFileError(
            "is not signed by the team's key",
            file=url,
            field="signatures",
            got=text,
            expected=f"the key of {team} that targets names",
            mend=f"If that was replaced, the team publishes again with the new one. Of {team} all stays as it is here.",
        )
    if isinstance(error, tuf.UnsignedMetadataError):
        return BadFileError(
            "is not signed by the keys that this device trusts",
            file=url,
            field="signatures",
            got=text,
            expected="enough signatures of the keys that the root names",
            mend="Is it the repository of this root? If its keys were changed, metadata/N.root.json has to lead from "
            "the old ones to the new. The store is as it was.",
        )
    if isinstance(error, tuf.BadVersionNumberError):
        older = text.startswith("New ") or re.match(r"Expected \S+\.json version", text)
        problem = "is older than what this device has seen" if older else "is of another version than was signed for"
        return BadFileError(problem, file=url, field="version", got=text, mend=_MIRROR)
    if isinstance(error, tuf.LengthOrHashMismatchError):
        return BadFileError("is not the document that was signed for", file=url, field="sha256", got=text, mend=_MIRROR)
    if "missing info for" in text:
        return BadFileError(
            "names fewer documents than this device has seen", file=url, field="meta", got=text, mend=_MIRROR
        )
    return BadFileError("is no signed document", file=url, got=text[:200], mend=_MIRROR)


def wrong_clock(issued: datetime.datetime, where: str) -> EdgepatchError:
    """What is said of a clock before a time that has certainly been."""
    return EdgepatchError(
        "this device's clock is wrong, and by it nothing ever expires",
        field="clock",
        got=clock.write(clock.now()),
        expected=f"not before {clock.write(issued)}, when {where} was signed",
        mend="Set the clock (timedatectl set-ntp true; or by hand: date -s), then run this again.",
    )


def _expired(name: str, url: str, documents: Iterable[bytes]) -> EdgepatchError:
    kind = name if name in ("root", "snapshot", "timestamp") else "targets"
    date = next((date for data in documents if (date := _date(data, kind))), "a date that it does not tell")
    file = (
        url if kind in ("targets", "snapshot") else f"{url.rpartition('/')[0]}/{name}.json"
    )  # fetched last, or before
    return BadFileError(
        f"expired on {date}",
        file=file,
        field="expires",
        got=f"{clock.write(clock.now())} on this device's clock",
        mend="If this clock is right, the publisher has to run edgepatch publish refresh. Has that been done, somebody "
        "is holding the new files back: try another network or --url. The store is as it was.",
    )


def _date(data: bytes, kind: str) -> str | None:
    try:
        signed: Any = container.load_json(data)["signed"]
        return str(signed["expires"])[:40] if signed["_type"] == kind else None
    except (ValueError, TypeError, KeyError):
        return None
