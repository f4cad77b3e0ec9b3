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
_UNSIGNED = re.compile(r"(\S+) was signed by (\d+)/(\d+) keys")
_BELOW = re.compile(r"New \w+ version (?:(?P<got>\d+) )?must be >= (?P<least>\d+)(?:, got version (?P<late>\d+))?")
_OTHER = re.compile(
    r"Expected (?P<name>\S+) (?:version |v)(?P<named>\d+)(?: instead|,) got (?:version |v)?(?P<got>\d+)"
)
_OBSERVED = re.compile(r"Observed (hash|length) (\S+) does not match expected \1 (\S+)")
_MISSING = re.compile(r"missing info for '(.*)'")
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
            got=_signatures(text),
            expected=f"the key of {team} that targets names",
            mend=f"If that was replaced, the team publishes again with the new one. Of {team} all stays as it is here.",
        )
    if isinstance(error, tuf.UnsignedMetadataError):
        return BadFileError(
            "is not signed by the keys that this device trusts",
            file=url,
            field="signatures",
            got=_signatures(text),
            expected="enough signatures of the keys that the root names",
            mend="Is it the repository of this root? If its keys were changed, metadata/N.root.json has to lead from "
            "the old ones to the new. The store is as it was.",
        )
    if isinstance(error, tuf.BadVersionNumberError):
        return _other_version(text, url)
    if isinstance(error, tuf.LengthOrHashMismatchError):
        facts: dict[str, Any] = {"field": "sha256", "got": text}
        if found := _OBSERVED.search(text):
            facts = {"field": "sha256" if found[1] == "hash" else "size", "got": found[2], "expected": found[3]}
        return BadFileError("is not the document that was signed for", file=url, mend=_MIRROR, **facts)
    if "missing info for" in text:
        missing = _MISSING.search(text)
        expected = missing[1] if missing else text
        return BadFileError(
            "names fewer documents than this device has seen", file=url, field="meta", expected=expected, mend=_MIRROR
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


def _signatures(text: str) -> str:
    found = _UNSIGNED.search(text)
    return f"{found[2]} of {found[3]} for {found[1]}" if found else text


def _other_version(text: str, url: str) -> BadFileError:
    """A number that is lower than one seen before, or another than the one that was signed for."""
    got: object = text
    expected: object = None
    below, other = _BELOW.search(text), _OTHER.search(text)
    is_older = below is not None or (other is not None and other["name"].endswith(".json"))
    field = f"version of {other['name']}" if other and is_older else "version"
    if below:
        got, expected = int(below["got"] or below["late"] or 0), f"{below['least']} or more"
    elif other and is_older:  # python-tuf says here first what is named now, and then what was seen
        got, expected = int(other["named"]), f"{other['got']} or more"
    elif other:
        got, expected = int(other["got"]), int(other["named"])
    problem = "is older than what this device has seen" if is_older else "is of another version than was signed for"
    return BadFileError(problem, file=url, field=field, got=got, expected=expected, mend=_MIRROR)


def _expired(name: str, url: str, documents: Iterable[bytes]) -> EdgepatchError:
    kind = name if name in ("root", "snapshot", "timestamp") else "targets"
    date, version = next((found for data in documents if (found := _dated(data, kind))), ("a date that it hides", 0))
    folder = url.rpartition("/")[0]
    files = {"root": f"{folder}/{version}.root.json", "timestamp": f"{folder}/timestamp.json"}  # not fetched last
    role = "" if name in ("", "snapshot", "timestamp") else f" {name}"  # which need no more than their daily signing
    return BadFileError(
        f"expired on {date}",
        file=files.get(kind, url),
        field="expires",
        got=f"{clock.write(clock.now())} on this device's clock",
        mend=f"If this clock is right, the publisher has to run edgepatch publish refresh SITE{role}, where the key of "
        f"{name or 'the role'} is. Has that been done, somebody is holding the new files back: try another network or "
        "--url. The store is as it was.",
    )


def _dated(data: bytes, kind: str) -> tuple[str, int] | None:
    """When a document of this kind expires, and its version."""
    try:
        signed: Any = container.load_json(data)["signed"]
        return (str(signed["expires"])[:40], int(signed["version"])) if signed["_type"] == kind else None
    except (ValueError, TypeError, KeyError):
        return None
