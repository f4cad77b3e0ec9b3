"""Bad lines and servers: what breaks goes on where it broke, what hangs is given up on, and the store is as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tuf", reason="needs the extra [publish]")

from misbehaving import (
    Handler,
    Server,
    breaking_after,
    declaring,
    drip,
    honest,
    ignoring_ranges,
    other,
    silent,
    status,
    then_honest,
)
from sites import CALM, Site

from edgepatch.errors import BadFileError, EdgepatchError
from edgepatch.updates.described import Published
from edgepatch.updates.device import download
from edgepatch.updates.device.limits import Limits

IMPATIENT = Limits(stall=0.5, rate=1e6, grace=1.0, total=30.0, attempts=3, pause=0.01)
AGAIN = "The store is as it was. Run this again when the network and the server are there: it goes on from here."
LATER = "What was fetched is kept: run this again, and it goes on from there."


@pytest.fixture
def site(site: Site) -> Site:
    """A device with version 1 of cats, and version 2 of it published."""
    site.publish("cats")
    site.update()
    site.publish("cats", version=2)
    site.server.forget()
    return site


@pytest.fixture
def cats(site: Site) -> Published:
    return next(each for each in site.read().files() if each.task == "cats")


def fails(site: Site, message: str, *, kind: type[EdgepatchError] = EdgepatchError, **options: Any) -> None:
    """An update that ends with this sentence, and leaves the store alone."""
    before = site.contents()
    with pytest.raises(EdgepatchError) as caught:
        site.update(**options)
    assert (str(caught.value), type(caught.value).exit_code) == (message, kind.exit_code)
    assert site.contents() == before


def bodies(site: Site, path: str) -> list[tuple[str | None, int]]:
    """For each request for a file: the range that was asked for, and the bytes of the body that were sent."""
    return [(request.range, request.body) for request in site.server.requests if path in request.path]


# what broke goes on


def test_a_broken_download_goes_on_in_the_same_run(site: Site, cats: Published) -> None:
    site.server.tricks[cats.sha256] = breaking_after(1000, times=2)
    site.update()
    assert site.versions() == {"cats": 2}
    assert bodies(site, cats.sha256) == [
        (None, 1000),
        ("bytes=1000-", 1000),
        ("bytes=2000-", cats.length - 2000),
    ]


def test_a_broken_download_goes_on_in_the_next_run(site: Site, cats: Published, edgepatch: Any) -> None:
    before = site.contents()
    site.server.tricks[cats.sha256] = breaking_after(1500)
    done = edgepatch(*site.call())
    assert (done.code, done.err.splitlines()) == (
        1,
        [
            f"edgepatch: {site.url}/targets/{cats.hosted_path}: the answer ended after 1500 of {cats.length} bytes",
            AGAIN,
        ],
    )
    assert site.contents() == before
    site.server.forget()
    assert edgepatch(*site.call()).code == 0
    assert bodies(site, cats.sha256) == [("bytes=1500-", cats.length - 1500)]
    assert site.versions() == {"cats": 2}


def test_what_lay_there_from_before_is_not_trusted(site: Site, cats: Published) -> None:
    part = site.store / "updates" / "parts" / f"{cats.sha256}.part"
    for rubbish in (b"x" * 100, b"x" * cats.length, b"x" * (cats.length + 1)):
        part.write_bytes(rubbish)
        site.server.forget()
        assert download_whole(site, cats) == site.read().hosted(cats).read_bytes()
        asked = [request.range for request in site.server.requests]
        assert asked == (["bytes=100-", None] if len(rubbish) == 100 else [None])
        part.unlink()


def download_whole(site: Site, wanted: Published) -> bytes:
    from edgepatch.updates.device.web import Web

    with Web(CALM) as web:
        url = f"{site.url}/targets/{wanted.hosted_path}"
        return download.file(web, url, wanted, site.store / "updates" / "parts").read_bytes()


def test_a_server_that_knows_no_ranges_begins_anew(site: Site, cats: Published) -> None:
    (site.store / "updates" / "parts" / f"{cats.sha256}.part").write_bytes(b"x" * 1000)
    site.server.tricks[cats.sha256] = ignoring_ranges
    site.update()
    assert site.versions() == {"cats": 2}
    assert bodies(site, cats.sha256) == [("bytes=1000-", cats.length)]


def test_a_server_that_knows_no_ranges_and_breaks_is_given_up_on(site: Site, cats: Published) -> None:
    def act(handler: Handler, data: bytes | None) -> None:
        handler.hang_up()
        handler.head(200, Content_Length=len(data or b""))
        handler.body((data or b"")[:700])

    site.server.tricks[cats.sha256] = act
    url = f"{site.url}/targets/{cats.hosted_path}"
    fails(site, f"{url}: the answer ended after 700 of {cats.length} bytes, 3 times\n{AGAIN}")
    assert len(bodies(site, cats.sha256)) == 3


def test_parts_that_are_not_what_was_asked_for(site: Site, cats: Published) -> None:
    part = site.store / "updates" / "parts" / f"{cats.sha256}.part"
    data = site.read().hosted(cats).read_bytes()
    url = f"{site.url}/targets/{cats.hosted_path}"
    answers = {
        "bytes 500-999/2000": "the server sends bytes from 500 on, and was asked for those from 1000 on, 3 times",
        "lines 1000-1/2": "the server sends a part and does not say of what, 3 times",
        "": "the server sends a part and does not say of what, 3 times",
        "bytes 9999999999999999999-/2": "the server sends a part and does not say of what, 3 times",
    }
    for words, message in answers.items():
        part.write_bytes(data[:1000])
        site.server.tricks[cats.sha256] = status(206, Content_Range=words)
        fails(site, f"{url}: {message}\n{AGAIN}")
    site.server.tricks[cats.sha256] = status(206, Content_Range=f"bytes 1000-99999/{cats.length + 1}")
    fails(
        site,
        f"{url}: is not the file that was signed (field size, got {cats.length + 1}, expected {cats.length})\n"
        "The store is as it was.",
        kind=BadFileError,
    )
    site.server.tricks[cats.sha256] = then_honest(status(206, Content_Range="bytes 500-999/2000"), 1)
    part.write_bytes(data[:1000])
    site.update()
    assert site.versions() == {"cats": 2}


@pytest.mark.parametrize("length", [lambda left: max(1, left // 2), lambda left: left + 100], ids=["less", "more"])
def test_a_wrong_content_length(site: Site, cats: Published, length: Any) -> None:
    site.server.tricks[cats.sha256] = declaring(length)
    url = f"{site.url}/targets/{cats.hosted_path}"
    if length(100) < 100:  # the rest is asked for, until there is none
        site.update()
        assert site.versions() == {"cats": 2}
    else:
        fails(
            site,
            f"{url}: is not the file that was signed (field size, got {cats.length + 100}, expected {cats.length})\n"
            "The store is as it was.",
            kind=BadFileError,
        )


def test_a_length_that_is_no_number(site: Site, cats: Published) -> None:
    for words in ("-1", "x", "1" * 40, "12,12"):
        site.server.tricks[cats.sha256] = lambda handler, data, words=words: (
            handler.hang_up(),
            handler.answer(200, data or b"", Content_Length=words),
        )
        (site.store / "updates" / "parts" / f"{cats.sha256}.part").unlink(missing_ok=True)
        assert download_whole(site, cats) == site.read().hosted(cats).read_bytes()


def test_a_body_in_chunks(site: Site, cats: Published) -> None:
    def act(handler: Handler, data: bytes | None) -> None:
        handler.head(200, Transfer_Encoding="chunked")
        for begin in range(0, len(data or b""), 999):
            piece = (data or b"")[begin : begin + 999]
            handler.body(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.body(b"0\r\n\r\n")

    site.server.tricks[cats.sha256] = site.server.tricks["timestamp.json"] = act
    site.update()
    assert site.versions() == {"cats": 2}


def test_a_body_in_broken_chunks(site: Site, cats: Published) -> None:
    def act(handler: Handler, data: bytes | None) -> None:
        handler.hang_up()
        handler.head(200, Transfer_Encoding="chunked")
        handler.body(b"zz\r\nnonsense")

    site.server.tricks[cats.sha256] = act
    before = site.contents()
    with pytest.raises(EdgepatchError, match=r"the connection broke \(.*\), 3 times"):
        site.update()
    assert site.contents() == before


# servers that fail


def test_a_server_that_fails_for_a_moment(site: Site, cats: Published) -> None:
    for name in (cats.sha256, "timestamp.json", "2.root.json"):
        site.server.tricks[name] = then_honest(status(500), 2)
    site.update()
    assert site.versions() == {"cats": 2}
    assert [request.status for request in site.server.requests if cats.sha256 in request.path] == [500, 500, 200]


@pytest.mark.parametrize("code", [500, 502, 503, 429])
def test_a_server_that_fails_for_good(site: Site, cats: Published, code: int) -> None:
    from http.client import responses

    site.server.tricks[cats.sha256] = status(code)
    url = f"{site.url}/targets/{cats.hosted_path}"
    fails(site, f"{url}: the server answers {code} {responses[code]}, 3 times\n{AGAIN}")
    site.server.tricks = {"metadata/": status(code)}
    fails(site, f"{site.url}/metadata/2.root.json: the server answers {code} {responses[code]}, 3 times\n{AGAIN}")


def test_a_server_that_asks_for_time(site: Site, cats: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    site.server.tricks[cats.sha256] = then_honest(status(503, Retry_After="7"), 1)
    site.server.tricks["timestamp.json"] = then_honest(status(503, Retry_After="999999"), 1)
    site.server.tricks["2.snapshot.json"] = then_honest(status(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), 1)
    site.update(limits=dataclasses.replace(CALM, total=1000))
    assert slept == [60.0, 7.0] and site.versions() == {"cats": 2}


def test_a_file_that_was_not_uploaded(site: Site, cats: Published, edgepatch: Any) -> None:
    site.server.tricks[cats.sha256] = status(404)
    before = site.contents()
    done = edgepatch(*site.call())
    url = f"{site.url}/targets/{cats.hosted_path}"
    assert (done.code, done.err) == (1, f"edgepatch: {url}: the server answers 404 Not Found\n")
    site.server.tricks = {"timestamp.json": status(404)}
    done = edgepatch(*site.call())
    assert done.code == 1 and done.err.splitlines() == [
        f"edgepatch: {site.url}/metadata/timestamp.json: the server answers 404",
        "Is this the repository's address, and was all of it uploaded, metadata/timestamp.json last? "
        "The store is as it was.",
    ]
    assert site.contents() == before


def test_a_redirect_to_elsewhere(site: Site, cats: Published) -> None:
    there = "http://elsewhere.example/file?x=1"
    for name, path in ((cats.sha256, f"targets/{cats.hosted_path}"), ("2.root.json", "metadata/2.root.json")):
        for code in (301, 302, 303, 307, 308):
            site.server.tricks = {name: status(code, Location=there)}
            fails(
                site,
                f"{site.url}/{path}: is redirected to another server, which is not followed (got {there}, expected a "
                f"file on {site.url[7:]})\n"
                "If the repository has moved there: edgepatch update STORE --url URL",
            )
    site.server.tricks = {"2.root.json": lambda handler, data: handler.answer(302, b"", Location=handler.path)}
    fails(
        site,
        f"{site.url}/metadata/2.root.json: is redirected again and again (expected at most 3 times)",
    )
    for odd in (
        "file:///etc/passwd",
        "//elsewhere.example/",
        "https://127.0.0.2/",
        "gopher://x",
        "http://[",
        "http://h:x/",
        "/a b",
        "/ä",
    ):
        site.server.tricks = {"2.root.json": status(302, Location=odd)}
        before = site.contents()
        with pytest.raises(EdgepatchError, match="is redirected to") as caught:
            site.update()
        assert caught.value.exit_code == 1 and site.contents() == before


# servers that take their time


@pytest.mark.parametrize("of", ["body", "head"])
def test_a_slow_drip(site: Site, cats: Published, of: str) -> None:
    site.server.tricks[cats.sha256] = drip(0.02, of=of)
    with pytest.raises(EdgepatchError) as caught:
        site.update(limits=IMPATIENT)
    assert caught.value.exit_code == 1 and caught.value.message == "the server is too slow"
    assert caught.value.details["mend"] == LATER
    assert site.versions() == {"cats": 1}
    site.server.tricks = {"timestamp.json": drip(0.02, of=of)}
    with pytest.raises(EdgepatchError) as caught:
        site.update(limits=IMPATIENT)
    assert caught.value.details["file"] == f"{site.url}/metadata/timestamp.json"
    assert caught.value.message == "the server is too slow"
    site.server.tricks = {}
    site.update()
    assert site.versions() == {"cats": 2}


def test_a_handshake_that_drips(site: Site) -> None:
    stop = threading.Event()

    def serve(listening: socket.socket) -> None:
        while not stop.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB of handshake
                while not stop.wait(0.02):
                    connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        fails(
            site,
            f"{url}/metadata/2.root.json: cannot be reached (no answer in time), 3 times\n{AGAIN}",
            url=url,
            limits=IMPATIENT,
        )
        stop.set()
        listening.shutdown(socket.SHUT_RDWR)


def test_what_dripped_is_kept(site: Site, cats: Published) -> None:
    site.server.tricks[cats.sha256] = drip(0.01)
    with pytest.raises(EdgepatchError, match="the server is too slow"):
        site.update(limits=IMPATIENT)
    site.server.tricks = {}
    site.server.forget()
    site.update()
    ((asked, sent),) = bodies(site, cats.sha256)
    assert asked is not None and 0 < sent < cats.length


def test_silence(site: Site, cats: Published) -> None:
    site.server.tricks[cats.sha256] = silent
    fails(
        site,
        f"{site.url}/targets/{cats.hosted_path}: cannot be reached (no answer in time), 3 times\n{AGAIN}",
        limits=IMPATIENT,
    )


def test_silence_in_the_middle(site: Site, cats: Published) -> None:
    def act(handler: Handler, data: bytes | None) -> None:
        handler.hang_up()
        handler.head(200, Content_Length=len(data or b""))
        handler.body((data or b"")[:500])
        handler.server.stopped.wait(30)

    site.server.tricks[cats.sha256] = act
    fails(
        site,
        f"{site.url}/targets/{cats.hosted_path}: not a byte came in 0.5 seconds, 3 times\n{AGAIN}",
        limits=dataclasses.replace(IMPATIENT, grace=9.0),
    )
    site.server.tricks = {}
    site.server.forget()
    site.update()
    assert bodies(site, cats.sha256) == [("bytes=500-", cats.length - 500)]


def test_headers_without_end(site: Site, cats: Published) -> None:
    def act(handler: Handler, data: bytes | None) -> None:
        handler.hang_up()
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not handler.server.stopped.is_set():
            handler.wfile.write(b"X-More: and more\r\n" * 50)

    site.server.tricks[cats.sha256] = act
    fails(
        site, f"{site.url}/targets/{cats.hosted_path}: cannot be reached (got more than 100 headers), 3 times\n{AGAIN}"
    )


def test_everything_together_takes_too_long(site: Site, cats: Published) -> None:
    site.server.tricks[cats.sha256] = drip(0.05)
    before = site.contents()
    with pytest.raises(EdgepatchError, match=r"the update took too long \(field --timeout, got 0.6 s\)|too slow"):
        site.update(limits=dataclasses.replace(CALM, total=0.6))
    assert site.contents() == before


# no network


def test_no_server(site: Site, edgepatch: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    before = site.contents()
    done = edgepatch("update", site.store, "--url", url, "--attempts", "1")
    assert (done.code, done.err) == (
        1,
        f"edgepatch: {url}/metadata/2.root.json: cannot be reached (Connection refused)\n{AGAIN}\n",
    )
    assert site.contents() == before
    site.update()  # the address that failed was not remembered
    assert site.versions() == {"cats": 2}


def test_no_names(site: Site, edgepatch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name(*arguments: Any, **options: Any) -> Any:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    done = edgepatch("update", site.store, "--url", "https://updates.example/site", "--attempts", "1")
    assert (done.code, done.err) == (
        1,
        "edgepatch: https://updates.example/site/metadata/2.root.json: cannot be reached (its name is not found: "
        f"Temporary failure in name resolution)\n{AGAIN}\n",
    )


def test_no_certificate(site: Site, tmp_path: Path, edgepatch: Any) -> None:
    import datetime
    import ssl

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    both = certificate.public_bytes(pem) + key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "both.pem").write_bytes(both)
    with Server(site.repo) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "both.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        done = edgepatch("update", site.store, "--url", url, "--attempts", "3", "--stall", "5")
    assert done.code == 1 and done.err.splitlines() == [
        f"edgepatch: {url}/metadata/2.root.json: the server's certificate is not valid: self-signed certificate",
        "Look at this device's clock and at its list of certificates.",
    ]


def test_an_idle_connection_that_the_server_closed_is_opened_again(site: Site, cats: Published) -> None:
    def last(handler: Handler, data: bytes | None) -> None:
        honest(handler, data)
        handler.hang_up()  # without saying so

    site.server.tricks["metadata/"] = last
    site.update(limits=dataclasses.replace(CALM, attempts=1))
    assert site.versions() == {"cats": 2}


def test_a_login_page_in_the_place_of_everything(site: Site) -> None:
    site.server.tricks["/"] = other(b"<html>Please log in to this hotel</html>")
    before = site.contents()
    with pytest.raises(BadFileError, match=r"metadata/2\.root\.json: is no signed document"):
        site.update()
    assert site.contents() == before
