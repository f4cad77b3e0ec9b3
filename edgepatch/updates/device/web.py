"""HTTP as a device on a bad line and in front of a bad server needs it: over the standard library's client.

One connection is kept open. Every read is bounded in time and bytes; a watchdog ends answers that drip. Failures that
may pass (no connection, 5xx, a broken body) are `PassingError`, for the caller to try again; others are final.
Nothing here trusts what it reads: lengths and hashes are the callers' to check.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from types import TracebackType

from edgepatch.errors import EdgepatchError
from edgepatch.updates.device import addresses
from edgepatch.updates.device.limits import Deadline, Limits

CHUNK = 64 * 1024
MAX_REDIRECTS = 3
MAX_WAIT = 60.0  # seconds that a server may ask to be left alone for

_BROKEN = (OSError, http.client.HTTPException, ValueError)  # ValueError: of lengths and of closed sockets


class PassingError(Exception):
    """A request failed in a way that may pass.

    Attributes:
        wait: seconds that the server asked for.
    """

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = min(wait, MAX_WAIT)


class StatusError(EdgepatchError):
    """The server answered, and not with the file."""

    def __init__(self, url: str, status: int) -> None:
        reason = http.client.responses.get(status, "")
        super().__init__(f"the server answers {status} {reason}".strip(), file=url)
        self.status = status


class Answer:
    """A body that is being received.

    Attributes:
        begin: the place in the file of its first byte.
        size: of the whole file, as far as the server tells.
        gzipped: whether it is compressed.
    """

    def __init__(
        self,
        response: http.client.HTTPResponse,
        connection: http.client.HTTPConnection,
        web: Web,
        barked: threading.Event,
    ) -> None:
        self._response, self._connection, self._web, self._barked = response, connection, web, barked
        self._length = _number(response.getheader("Content-Length", ""))
        partial = response.status == http.client.PARTIAL_CONTENT
        self.begin, self.size = _content_range(response) if partial else (0, self._length)
        coding = response.getheader("Content-Encoding", "identity").strip().lower()
        if coding not in ("identity", "gzip"):
            raise EdgepatchError("the server compresses it, unasked", file=web.url, got=coding[:20])
        self.gzipped = coding == "gzip"

    def chunks(self) -> Iterator[bytes]:
        """The bytes, as they come.

        Raises:
            PassingError: the connection broke, or ended early.
            EdgepatchError: it is too slow.
        """
        limits, started, received = self._web.limits, time.monotonic(), 0
        while self._length is None or received < self._length:
            late = time.monotonic() - started - limits.grace
            if late > 0 and received < limits.rate * late:
                raise too_slow(self._web.url, f"{received} bytes in {late + limits.grace:.0f} s")
            if self._connection.sock is not None:
                self._connection.sock.settimeout(min(limits.stall, self._web.deadline.left()))
            try:
                chunk = self._response.read1(CHUNK)
            except TimeoutError as error:
                raise PassingError(f"not a byte came in {limits.stall:g} seconds") from error
            except _BROKEN as error:
                raise PassingError(f"the connection broke ({_reason(error)})") from error
            if not chunk:
                break
            received += len(chunk)
            yield chunk
        if self._barked.is_set() or (self._length is not None and received < self._length):
            raise PassingError(f"the answer ended after {received} of {self._length} bytes")
        self._response.close()  # the answer, not the connection


class Web:
    """A client for one update.

    Attributes:
        limits, deadline: of it.
        url: what was asked for last, for messages.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits, self.deadline = limits, Deadline(limits.total)
        self.url = ""
        self._connections: dict[tuple[str, str], http.client.HTTPConnection] = {}

    @contextlib.contextmanager
    def get(self, url: str, size: int, *, start: int = 0, compressed: bool = False) -> Iterator[Answer]:
        """Ask for a file, or for what is left of it.

        Args:
            size: how many bytes are expected at most; as many as that may take their time.
            start: from which byte on; an answer may begin at 0 all the same.
            compressed: whether gzip will do.

        Raises:
            PassingError: it failed, and may not fail the next time.
            StatusError: the server says no.
            EdgepatchError: it redirects to elsewhere, or takes longer than it may.
        """
        seconds = self.limits.grace + size / self.limits.rate
        for _ in range(MAX_REDIRECTS + 1):
            self.url = url
            parts = addresses.check(url)
            key = parts.scheme, parts.netloc
            connection = self._connections.get(key) or self._connections.setdefault(key, addresses.connection(parts))
            with _watchdog(connection, min(seconds, self.deadline.left())) as barked:
                response = None
                try:
                    response = self._ask(connection, parts, start, compressed, barked)
                    if barked.is_set():  # what was cut off may look whole
                        raise PassingError("no answer in time")
                    if (location := _redirect(response)) is not None:
                        url = addresses.same_place(url, location)
                        continue
                    if response.status not in (http.client.OK, http.client.PARTIAL_CONTENT):
                        raise _refusal(url, response)
                    yield Answer(response, connection, self, barked)
                    return
                except PassingError as error:
                    if barked.is_set():
                        self.deadline.left()
                        raise too_slow(url, f"not all of it came in {seconds:.0f} s") from error
                    raise
                finally:
                    if response is None or not response.isclosed():
                        connection.close()  # what is left of this answer would stand before the next one
                    if response is not None:
                        response.close()
        raise EdgepatchError("is redirected again and again", file=url, expected=f"at most {MAX_REDIRECTS} times")

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def __enter__(self) -> Web:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        parts: urllib.parse.SplitResult,
        start: int,
        compressed: bool,
        barked: threading.Event,
    ) -> http.client.HTTPResponse:
        used = connection.sock is not None
        connection.timeout = min(self.limits.stall, self.deadline.left())
        if connection.sock is not None:
            connection.sock.settimeout(connection.timeout)
        try:
            path, headers = addresses.request(parts, start, compressed)
            connection.request("GET", path, headers=headers)
            return connection.getresponse()
        except ssl.SSLCertVerificationError as error:
            raise EdgepatchError(
                f"the server's certificate is not valid: {error.verify_message}",
                file=self.url,
                mend="Look at this device's clock and at its list of certificates.",
            ) from error
        except _BROKEN as error:
            connection.close()
            idle = used and not barked.is_set() and not isinstance(error, TimeoutError)
            if idle:  # the server closed what it had kept open: that says nothing about the server
                return self._ask(connection, parts, start, compressed, barked)
            raise PassingError(f"cannot be reached ({_reason(error)})") from error


def too_slow(url: str, got: str) -> EdgepatchError:
    """What is said of a server that drips."""
    return EdgepatchError(
        "the server is too slow",
        file=url,
        got=got,
        mend="What was fetched is kept: run this again, and it goes on from there.",
    )


@contextlib.contextmanager
def _watchdog(connection: http.client.HTTPConnection, seconds: float) -> Iterator[threading.Event]:
    """End a connection after some time: a timeout of the socket alone begins anew with every byte of a header."""
    barked, over = threading.Event(), threading.Event()

    def watch() -> None:
        wait = seconds
        while not over.wait(wait):
            barked.set()
            wait = 0.05  # and again: it may not have had a socket yet
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # not TLS's own: a thread is in there

    threading.Thread(target=watch, name="edgepatch-watchdog", daemon=True).start()
    try:
        yield barked
    finally:
        over.set()


def _redirect(response: http.client.HTTPResponse) -> str | None:
    return response.getheader("Location", "") if response.status in (301, 302, 303, 307, 308) else None


def _refusal(url: str, response: http.client.HTTPResponse) -> Exception:
    if response.status < 500 and response.status not in (408, 425, 429):
        return StatusError(url, response.status)
    reason = http.client.responses.get(response.status, "")
    wait = _number(response.getheader("Retry-After", "")) or 0
    return PassingError(f"the server answers {response.status} {reason}".strip(), wait)


def _content_range(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Where a part begins, and the size of the whole: `bytes 1000-1999/2000`."""
    unit, _, rest = response.getheader("Content-Range", "").partition(" ")
    place, _, size = rest.partition("/")
    begin = _number(place.partition("-")[0])
    if unit != "bytes" or begin is None:
        raise PassingError("the server sends a part and does not say of what")
    return begin, _number(size)


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return f"its name is not found: {error.strerror}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
