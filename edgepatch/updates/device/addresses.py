"""Addresses: which are taken, where a redirect may lead, and the way to them through a proxy."""

from __future__ import annotations

import base64
import http.client
import ssl
import urllib.parse
import urllib.request

from edgepatch import __version__
from edgepatch.errors import EdgepatchError, UsageError


def check(url: str) -> urllib.parse.SplitResult:
    """The parts of an address.

    Raises:
        UsageError: it is none of a web server.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port, or of brackets
        valid = False
    if not valid or not url.isascii() or any(character.isspace() for character in url):
        raise UsageError("is no address of a web server", field="--url", got=url[:200], expected="https://HOST/PATH")
    return parts


def same_place(url: str, location: str) -> str:
    """Where a redirect leads, if that is the same server: another one was not named by whoever set the device up."""
    old = urllib.parse.urlsplit(url)
    try:
        there = urllib.parse.urljoin(url, location)
        new = urllib.parse.urlsplit(there)
        safer = (old.scheme, new.scheme) == ("http", "https") and old.hostname == new.hostname
    except ValueError:
        there, new, safer = location, urllib.parse.urlsplit(""), False
    if (old.scheme, old.netloc) != (new.scheme, new.netloc) and not safer:
        raise EdgepatchError(
            "is redirected to another server, which is not followed",
            file=url,
            got=there[:200],
            expected=f"a file on {old.netloc}",
            mend="If the repository has moved there: edgepatch update STORE --url URL",
        )
    try:
        check(there)
    except UsageError as error:
        raise EdgepatchError("is redirected to what is no address", file=url, got=there[:200]) from error
    return there


def connection(parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
    """A connection to the server, or to the proxy that the environment names for it."""
    host, via = parts.hostname or "", _proxy(parts)
    to = via or parts
    if parts.scheme == "http":
        return http.client.HTTPConnection(to.hostname or "", to.port)
    made = http.client.HTTPSConnection(to.hostname or "", to.port, context=ssl.create_default_context())
    if via is not None:
        made.set_tunnel(host, parts.port, _proxy_headers(via))
    return made


def request(parts: urllib.parse.SplitResult, start: int, compressed: bool) -> tuple[str, dict[str, str]]:
    """The path and the headers; a proxy is told the whole address, unless it tunnels."""
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    headers = {
        "User-Agent": f"edgepatch/{__version__}",
        "Accept-Encoding": "gzip" if compressed else "identity",
    }
    if start:
        headers["Range"] = f"bytes={start}-"
    via = _proxy(parts) if parts.scheme == "http" else None
    if via is not None:
        path = urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path or "/", parts.query, ""))
        headers |= _proxy_headers(via)
    return path, headers


def _proxy(parts: urllib.parse.SplitResult) -> urllib.parse.SplitResult | None:
    """The proxy for an address, by the environment: `https_proxy`, `http_proxy`, `no_proxy`.

    Raises:
        UsageError: what is named there is none.
    """
    named = urllib.request.getproxies().get(parts.scheme)
    if named is None or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    try:
        via = urllib.parse.urlsplit(named if "//" in named else f"//{named}")
        valid = bool(via.hostname) and via.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(
            "is no address of a proxy", field=f"{parts.scheme}_proxy", got=named[:200], expected="HOST:PORT"
        )
    return via


def _proxy_headers(via: urllib.parse.SplitResult) -> dict[str, str]:
    if via.username is None:
        return {}
    words = f"{urllib.parse.unquote(via.username)}:{urllib.parse.unquote(via.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(words.encode()).decode()}"}
