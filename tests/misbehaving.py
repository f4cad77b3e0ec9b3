"""A real web server in a thread: it hosts a folder, knows ranges, counts every byte, and misbehaves on demand.

>>> with Server(folder) as server:
...     server.tricks["timestamp.json"] = status(500)
...     server.url
'http://127.0.0.1:41234'
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import http.server
import io
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Trick = Callable[["Handler", bytes | None], None]  # is given the bytes that an honest server would send; None: 404


@dataclasses.dataclass
class Request:
    """What was asked for, and what it cost: bytes of both ways, headers included."""

    path: str
    range: str | None = None
    received: int = 0
    sent: int = 0
    status: int = 0
    body: int = 0


class Counting(io.RawIOBase):
    """Passes bytes through and counts them."""

    def __init__(self, inner: Any, count: Callable[[int], None]) -> None:
        self._inner, self._count = inner, count

    def write(self, data: Any) -> int:
        self._count(len(data))
        self._inner.write(data)
        return len(data)

    def readline(self, limit: int | None = -1) -> bytes:
        line: bytes = self._inner.readline(limit)
        self._count(len(line))
        return line

    def flush(self) -> None:
        self._inner.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().close()
        self._inner.close()

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for its headers to be acknowledged
    server: Server
    request_seen: Request

    def setup(self) -> None:
        super().setup()
        self.request_seen, self._waiting = Request(""), 0
        self.rfile: Any = Counting(self.rfile, self._count_received)
        self.wfile: Any = Counting(self.wfile, self._count_sent)

    def _count_received(self, count: int) -> None:
        self._waiting += count  # a request line comes before its request is known

    def _count_sent(self, count: int) -> None:
        self.request_seen.sent += count

    def do_GET(self) -> None:
        self.request_seen = Request(self.path, self.headers.get("Range"), self._waiting)
        self._waiting = 0
        self.server.requests.append(self.request_seen)
        data = self.server.read(self.path)
        name = next((name for name in self.server.tricks if name in self.path), None)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has seen enough
            (self.server.tricks[name] if name else honest)(self, data)

    def answer(self, status: int, body: bytes = b"", **headers: object) -> None:
        """An answer with its length, unless a header says another."""
        self.head(status, **{"Content_Length": len(body), **headers})
        self.body(body)

    def head(self, status: int, **headers: object) -> None:
        self.request_seen.status = status
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, data: bytes) -> None:
        self.wfile.write(data)
        self.request_seen.body += len(data)

    def hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """Hosts `folder` at `url`.

    Attributes:
        folder: may be exchanged at any time.
        tricks: what to do instead, by part of the path.
        requests: all so far.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.requests = folder, list[Request]()
        self.tricks: dict[str, Trick] = {}
        self.stopped = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def read(self, path: str) -> bytes | None:
        place = self.folder / urllib.parse.unquote(urllib.parse.urlsplit(path).path).lstrip("/")
        return place.read_bytes() if place.is_file() else None

    def bytes(self) -> int:
        """On the wire so far, both ways."""
        return sum(request.sent + request.received for request in self.requests)

    def forget(self) -> None:
        """Begin to count anew."""
        self.requests.clear()

    def paths(self) -> list[str]:
        """What was asked for."""
        return [request.path.lstrip("/") for request in self.requests]

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients go away in the middle: that is what the tests are about

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stopped.set()
        self.shutdown()
        self.server_close()


def honest(handler: Handler, data: bytes | None) -> None:
    """The file, or the part that was asked for."""
    if data is None:
        handler.answer(404, b"not here")
        return
    asked = re.fullmatch(r"bytes=([0-9]+)-", handler.headers.get("Range") or "")
    if not asked:
        handler.answer(200, data)
    elif int(asked[1]) >= len(data):
        handler.answer(416, b"", Content_Range=f"bytes */{len(data)}")
    else:
        begin = int(asked[1])
        handler.answer(206, data[begin:], Content_Range=f"bytes {begin}-{len(data) - 1}/{len(data)}")


def ignoring_ranges(handler: Handler, data: bytes | None) -> None:
    handler.answer(200, data or b"")


def status(code: int, **headers: object) -> Trick:
    return lambda handler, data: handler.answer(code, b"no", **headers)


def other(body: bytes) -> Trick:
    """Something else than the file."""
    return lambda handler, data: handler.answer(200, body)


def changed(handler: Handler, data: bytes | None) -> None:
    """As long as the file, with one bit of it turned."""
    assert data is not None
    handler.answer(200, data[:-1] + bytes([data[-1] ^ 1]))


def shorter(handler: Handler, data: bytes | None) -> None:
    assert data is not None
    honest(handler, data[:-10])


def longer(handler: Handler, data: bytes | None) -> None:
    assert data is not None
    honest(handler, data + b"0123456789")


def endless(handler: Handler, data: bytes | None) -> None:
    """A body that never ends, and does not say how long it is."""
    handler.head(200, Connection="close")
    handler.hang_up()
    while not handler.server.stopped.is_set():
        handler.body(b"x" * 65536)


def drip(seconds: float, *, of: str = "body") -> Trick:
    """A byte now and then: of the body, or of a header that never ends."""

    def act(handler: Handler, data: bytes | None) -> None:
        handler.hang_up()
        if of == "body":
            handler.head(200, Content_Length=len(data or b""))
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for place in range(10_000):
            if handler.server.stopped.wait(seconds):
                return
            handler.wfile.write((data or b"")[place : place + 1] if of == "body" else b"x")

    return act


def silent(handler: Handler, data: bytes | None) -> None:
    """Takes the request and says nothing."""
    handler.hang_up()
    handler.server.stopped.wait(30)


def breaking_after(count: int, times: int = 1) -> Trick:
    """The first `times` answers break after `count` bytes of their body."""
    left = [times]

    def act(handler: Handler, data: bytes | None) -> None:
        if not left[0]:
            honest(handler, data)
            return
        left[0] -= 1
        handler.hang_up()
        whole = handler.body
        handler.body = lambda body: whole(body[:count])  # type: ignore[method-assign]
        honest(handler, data)

    return act


def then_honest(trick: Trick, times: int) -> Trick:
    """A trick that is played so often, and then no more."""
    left = [times]

    def act(handler: Handler, data: bytes | None) -> None:
        left[0] -= 1
        (trick if left[0] >= 0 else honest)(handler, data)

    return act


def declaring(length: Callable[[int], int]) -> Trick:
    """A Content-Length that is not true: the body is whole, then the connection is closed."""

    def act(handler: Handler, data: bytes | None) -> None:
        body = data or b""
        begin = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        handler.hang_up()
        headers = {"Content_Range": f"bytes {begin}-{len(body) - 1}/{len(body)}"} if begin else {}
        handler.answer(206 if begin else 200, body[begin:], Content_Length=length(len(body) - begin), **headers)

    return act


def zipped(handler: Handler, data: bytes | None) -> None:
    """As servers do that compress: only for those who take it."""
    if data is None or "gzip" not in (handler.headers.get("Accept-Encoding") or ""):
        honest(handler, data)
    else:
        handler.answer(200, gzip.compress(data, mtime=0), Content_Encoding="gzip")


@contextlib.contextmanager
def waiting(server: Server, name: str) -> Iterator[threading.Event]:
    """Answers of this name stop in the middle; the event says that one has begun."""
    begun = threading.Event()

    def act(handler: Handler, data: bytes | None) -> None:
        handler.hang_up()
        handler.head(200, Content_Length=len(data or b""))
        handler.body((data or b"")[: len(data or b"") // 2])
        handler.wfile.flush()
        begun.set()
        server.stopped.wait(30)

    server.tricks[name] = act
    try:
        yield begun
    finally:
        del server.tricks[name]
