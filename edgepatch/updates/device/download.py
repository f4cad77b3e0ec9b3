"""Files from a server: documents whole, patches and graphs in as many pieces as the line breaks them into.

What is fetched lies in a part file named by the hash that was signed, and goes on from there when it broke, in this run
or a later one. It is opened by nobody before it has the length and the hash that were signed.
"""

from __future__ import annotations

import hashlib
import http.client
import time
import zlib
from pathlib import Path

from edgepatch.errors import BadFileError, EdgepatchError
from edgepatch.updates import names
from edgepatch.updates.described import Published
from edgepatch.updates.device.web import Answer, PassingError, StatusError, Web

PART = ".part"
_PACKING = 4096  # bytes that gzip may add to a document
_UNCHANGED = "The store is as it was."


def document(web: Web, url: str, limit: int) -> bytes:
    """A signed document of at most `limit` bytes. Compressed on the way, if the server likes.

    Raises:
        StatusError: the server does not have it.
        BadFileError: it is longer than that.
        EdgepatchError: the server cannot be reached, fails again and again, or is too slow.
    """
    limit = min(limit, names.MAX_METADATA)
    failures = 0
    while True:
        try:
            with web.get(url, limit, compressed=True) as answer:
                return _whole(answer, limit, url)
        except PassingError as error:
            failures += 1
            _pause(web, error, failures)


def part(folder: Path, wanted: Published) -> Path:
    """The part file of what was signed."""
    return folder / f"{wanted.sha256}{PART}"


def size(path: Path) -> int:
    """The bytes of a file; 0 of one that is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def file(web: Web, url: str, wanted: Published, folder: Path) -> Path:
    """The part file of what was signed, whole and verified.

    Args:
        url: of the file.
        folder: of the part files.

    Raises:
        BadFileError: the server has something else than what was signed.
        StatusError: it has nothing.
        EdgepatchError: it cannot be reached, fails again and again or is too slow, or the disk is full.
    """
    path = part(folder, wanted)
    try:
        begun = size(path) > 0  # in an earlier run: what is there may be anything
        if size(path) > wanted.length:
            path.unlink()
        while True:
            _fill(web, url, wanted, path)
            if _sha256(path) == wanted.sha256:
                return path
            path.unlink()
            if not begun:
                raise BadFileError(
                    "is not the file that was signed",
                    file=url,
                    field="sha256",
                    got="another",
                    expected=wanted.sha256,
                    mend=_UNCHANGED,
                )
            begun = False
    except OSError as error:
        raise EdgepatchError(f"cannot be written: {error.strerror}", file=path, mend=_UNCHANGED) from error


def _fill(web: Web, url: str, wanted: Published, path: Path) -> None:
    """Fetch what a part file lacks of the length that was signed."""
    failures, furthest = 0, size(path)
    while (have := size(path)) < wanted.length:
        try:
            with web.get(url, wanted.length - have, start=have) as answer:
                _append(answer, url, wanted, path, have)
            if size(path) <= furthest:  # all that the server has, and no more than before
                raise _of_another_size(url, size(path), wanted)
            failures = 0
        except StatusError as error:
            if error.status != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            path.unlink(missing_ok=True)
            raise _of_another_size(url, have, wanted) from error
        except PassingError as error:
            failures = failures + 1 if size(path) <= furthest else 1
            _pause(web, error, failures)
        furthest = max(furthest, size(path))


def _append(answer: Answer, url: str, wanted: Published, path: Path, have: int) -> None:
    if answer.gzipped:
        raise EdgepatchError("the server compresses it, unasked", file=url, got="gzip", expected="the file as it is")
    if answer.begin not in (0, have):
        raise PassingError(f"the server sends bytes from {answer.begin} on, and was asked for those from {have} on")
    if answer.size is not None and answer.size > wanted.length:
        raise _of_another_size(url, answer.size, wanted)
    with open(path, "ab" if answer.begin else "wb") as stream:  # a server that knows no ranges begins anew
        at = answer.begin
        for chunk in answer.chunks():
            at += len(chunk)
            if at > wanted.length:
                raise _of_another_size(url, f"more than {wanted.length}", wanted)
            stream.write(chunk)


def _whole(answer: Answer, limit: int, url: str) -> bytes:
    def too_long(got: object) -> BadFileError:
        return BadFileError(
            "is longer than it may be",
            file=url,
            field="size",
            got=got,
            expected=f"at most {limit} bytes",
            mend=_UNCHANGED,
        )

    if answer.begin:
        raise PassingError("the server sends a part, and was asked for the whole")
    if answer.size is not None and answer.size > limit and not answer.gzipped:
        raise too_long(answer.size)
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS) if answer.gzipped else None
    found, received = bytearray(), 0
    try:
        for chunk in answer.chunks():
            received += len(chunk)
            found += unpack.decompress(chunk, limit + 1 - len(found)) if unpack else chunk
            if len(found) > limit or received > limit + _PACKING:
                raise too_long(f"more than {limit}")
    except zlib.error as error:
        raise PassingError("the server's compression is broken") from error
    if unpack and not unpack.eof:
        raise PassingError("the server's compression ends early")
    return bytes(found)


def _pause(web: Web, error: PassingError, failures: int) -> None:
    """Wait before the next attempt, longer each time; or give up."""
    if failures >= web.limits.attempts:
        times = f", {failures} times" if failures > 1 else ""
        raise EdgepatchError(
            f"{error}{times}",
            file=web.url,
            mend=f"{_UNCHANGED} Run this again when the network and the server are there: it goes on from here.",
        ) from error
    time.sleep(min(max(web.limits.pause * 2 ** (failures - 1), error.wait), web.deadline.left()))


def _of_another_size(url: str, got: object, wanted: Published) -> BadFileError:
    return BadFileError(
        "is not the file that was signed", file=url, field="size", got=got, expected=wanted.length, mend=_UNCHANGED
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1024 * 1024):
            digest.update(chunk)
        return digest.hexdigest()
