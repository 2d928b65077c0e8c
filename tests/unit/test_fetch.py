"""The guard on URLs that strangers choose."""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from carsight_service.aws import fetch as guard
from carsight_service.aws.fetch import UrlRefused, fetch, is_public
from carsight_service.contract.api import MAX_IMAGE_BYTES
from tests.serving import in_background

PHOTO = b"\xff\xd8\xff\xe0 a photo"


class Site(BaseHTTPRequestHandler):
    """A web server with every habit that a fetch must survive."""

    seen: list[tuple[str, dict[str, str]]]
    hang_up: threading.Event
    raw = again = b""

    def do_GET(self) -> None:  # noqa: C901  # a case for each habit
        path = urlsplit(self.path)
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        match path.path:
            case "/photo.jpg" | "/photo%20%C3%BC.jpg":
                self._send(200, PHOTO)
            case "/to":
                self._send(302, b"", location=unquote(parse_qs(path.query)["url"][0]))
            case "/hops":
                left = int(path.query)
                self._send(302, b"", location=f"/hops?{left - 1}" if left > 1 else "/photo.jpg")
            case "/busy":
                status, times = map(int, path.query.split(","))
                if len(self.seen) <= times:
                    self._send(status, b"")
                else:
                    self._send(200, PHOTO)
            case "/cut-once":
                self._start(200, **{"content-length": str(len(PHOTO))})
                self.wfile.write(PHOTO if len(self.seen) > 1 else PHOTO[:5])
            case "/silent-once":
                if len(self.seen) > 1:
                    self._send(200, PHOTO)
            case "/nowhere":
                self._send(302, b"")
            case "/declared":
                self._send(200, b"x" * (MAX_IMAGE_BYTES + 1))
            case "/endless":
                self._start(200)
                with suppress(OSError):
                    while True:
                        self.wfile.write(b"x" * 65536)
            case "/cut":
                self._start(200, **{"content-length": "1000"})
                self.wfile.write(b"x" * 10)
            case "/drip":
                self._start(200)
                self._drip()
            case "/drip-headers":
                self._drip()
            case "/raw":
                # An answer to the letter, as the test wants it.
                with suppress(OSError):
                    self.wfile.write(self.raw)
            case "/raw-endless":
                with suppress(OSError):
                    self.wfile.write(self.raw)
                    while not self.hang_up.is_set():
                        self.wfile.write(self.again)
            case "/nonsense":
                self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
            case _:
                self._send(404, PHOTO)

    def _drip(self) -> None:
        """Send a byte now and then until the client has gone."""
        with suppress(OSError):
            while not self.hang_up.wait(0.01):
                self.wfile.write(b"x")
        self.hang_up.set()

    def _start(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self._start(status, **headers, **{"content-length": str(len(body))})
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests read ``seen``."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[tuple[int, type[Site]]]:
    class Here(Site):
        pass

    Here.seen, Here.hang_up = [], threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Here)
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with in_background(server):
        try:
            yield server.server_port, Here
        finally:
            Here.hang_up.set()


@pytest.fixture
def site() -> Iterator[tuple[str, type[Site]]]:
    with serving() as (port, handler):
        yield f"http://127.0.0.1:{port}", handler


Resolver = Callable[..., None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Answers for host names in place of DNS; an address is its own answer."""
    known: dict[str, list[str]] = {}

    def resolve(host: str, port: int) -> list[guard.Address]:
        return [ipaddress.ip_address(address) for address in known.get(host, [host])]

    monkeypatch.setattr(guard, "_resolve", resolve)
    return lambda host, *addresses: known.update({host: list(addresses)})


@pytest.fixture
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def dial(address: object, port: int) -> None:
        pytest.fail(f"would have connected to {address}")

    monkeypatch.setattr(guard, "_dial", dial)


@pytest.mark.parametrize("path", ["/busy?429,1", "/busy?503,2", "/busy?502,1", "/cut-once", "/silent-once"])
def test_a_host_that_is_busy_is_asked_again_by_those_who_are_patient(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(guard, "PAUSES", (0.01, 0.02))
    url, handler = site
    with pytest.raises(UrlRefused):
        fetch(url + path, loopback=True)
    assert len(handler.seen) == 1
    handler.seen.clear()
    assert fetch(url + path, loopback=True, patient=True) == PHOTO


@pytest.mark.parametrize(
    ("path", "times"), [("/busy?503,9", 3), ("/missing", 1), ("/busy?500,9", 1), ("/nonsense", 1)]
)
def test_a_host_is_asked_no_more_than_three_times_and_only_if_it_may_help(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch, path: str, times: int
) -> None:
    monkeypatch.setattr(guard, "PAUSES", (0.01, 0.02))
    url, handler = site
    with pytest.raises(UrlRefused):
        fetch(url + path, loopback=True, patient=True)
    assert sum(seen.startswith(path) for seen, _ in handler.seen) == times


@pytest.mark.parametrize(("path", "pauses"), [("/raw-endless", (0.01, 0.02)), ("/busy?503,9", (9.0, 9.0))])
def test_patience_ends_with_the_time_of_a_fetch(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch, path: str, pauses: tuple[float, float]
) -> None:
    """Whether that is while the host answers, whose connection is then cut, or during a pause."""
    site[1].raw, site[1].again = OK + b"Content-Length: 9999999\r\n\r\n", b"x"
    assert sum(guard.PAUSES) < guard.TOTAL_SECONDS
    monkeypatch.setattr(guard, "PAUSES", pauses)
    monkeypatch.setattr(guard, "TOTAL_SECONDS", 0.2)
    dial, dialled, ended = guard._dial, [], threading.Event()
    follow = guard._Attempt.follow

    def counted(*address: Any) -> socket.socket:
        dialled.append(address)
        return dial(*address)

    def followed(*arguments: Any) -> bytes:
        try:
            return follow(*arguments)
        finally:
            ended.set()

    monkeypatch.setattr(guard, "_dial", counted)
    monkeypatch.setattr(guard._Attempt, "follow", followed)
    with pytest.raises(UrlRefused, match="not answered within"):
        fetch(site[0] + path, loopback=True, patient=True)
    assert ended.wait(2), "the thread is still busy"
    assert len(dialled) == 1


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:8.8.8.8"],
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "169.254.170.2",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.usefixtures("no_connections")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "photo.jpg",
        "//example.com/photo.jpg",
        "file:///proc/self/environ",
        "ftp://example.com/photo.jpg",
        "gopher://127.0.0.1:9001/_GET",
        "http://",
        "http:///photo.jpg",
        "http://:80/",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://@example.com/",
        "https://example.com:22/",
        "https://example.com:8443/",
        "http://example.com:443/",
        "https://example.com:80/",
        "https://example.com:99999/",
        "https://example.com:port/",
        "http://127.0.0.1/",
        "http://127.0.0.1:9001/2018-06-01/runtime/invocation/next",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://0/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[fe80::1%25eth0]/",
        "http://[::1",
        "http://[not-an-address]/",
        "http://localhost/",
        "http://localhost./",
        "http://LOCALHOST/",
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://１２７.0.0.1/",
        "http://127。0。0。1/",
        "http://example.com\\@127.0.0.1/",
        "http://127.0.0.1\\@example.com/",
        "http://127.0.0.1 example.com/",
        "http://exa\tmple.com/",
        "http://exam\r\nple.com/",
        "http://example.com/\r\nHost: 127.0.0.1",
        "http://example.com\x00.evil.example/",
        "http://exam%70le.com/",
        "http://a..b/",
        f"http://{'a' * 64}.example/",
        f"https://example.com/{'a' * 2048}",
        "http://ex\ud800ample.com/",
        "https://example.com/\ud800",
    ],
)
def test_hostile_urls_are_refused_before_any_connection(url: str) -> None:
    with pytest.raises(UrlRefused):
        fetch(url)


@pytest.mark.usefixtures("no_connections")
@pytest.mark.parametrize("private", ["10.0.0.7", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
def test_one_private_address_among_public_ones_refuses_the_host(names: Resolver, private: str) -> None:
    names("both.example", "93.184.216.34", private)
    with pytest.raises(UrlRefused):
        fetch("https://both.example/photo.jpg")


def test_the_connection_goes_to_the_address_that_was_checked(
    names: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[str] = []

    def dial(address: object, port: int) -> None:
        connected.append(str(address))
        raise OSError

    names("photos.example", "93.184.216.34")
    monkeypatch.setattr(guard, "_dial", dial)
    with pytest.raises(UrlRefused):
        fetch("https://photos.example/photo.jpg")
    assert connected == ["93.184.216.34"]


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int) -> list[guard.Address]:
        raise OSError("Name or service not known")

    monkeypatch.setattr(guard, "_resolve", resolve)
    with pytest.raises(UrlRefused):
        fetch("https://nowhere.example/photo.jpg")


def test_a_photo_is_fetched_from_the_host_that_its_url_names(
    site: tuple[str, type[Site]], names: Resolver
) -> None:
    address, handler = site
    port = urlsplit(address).port
    names("photos.example", "127.0.0.1")
    assert fetch(f"http://photos.example:{port}/photo.jpg?size=a%20b&x=ü#part", loopback=True) == PHOTO
    path, headers = handler.seen[0]
    assert path == "/photo.jpg?size=a%20b&x=%C3%BC"
    assert headers["host"] == f"photos.example:{port}"
    assert headers["accept-encoding"] == "identity"


def test_loopback_addresses_are_refused_by_default(site: tuple[str, type[Site]]) -> None:
    address, handler = site
    with pytest.raises(UrlRefused):
        fetch(f"{address}/photo.jpg")
    assert handler.seen == []


@pytest.mark.usefixtures("no_connections")
def test_local_development_opens_loopback_only(names: Resolver) -> None:
    names("public.example", "93.184.216.34")
    for url in ("http://10.0.0.1/", "http://169.254.169.254/", "http://public.example:8080/"):
        with pytest.raises(UrlRefused):
            fetch(url, loopback=True)


def test_proxies_in_the_environment_are_ignored(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch(f"{site[0]}/photo.jpg", loopback=True) == PHOTO


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_redirects_are_followed(site: tuple[str, type[Site]], hops: int) -> None:
    assert fetch(f"{site[0]}/hops?{hops}", loopback=True) == PHOTO


def test_a_fourth_redirect_is_refused(site: tuple[str, type[Site]]) -> None:
    with pytest.raises(UrlRefused):
        fetch(f"{site[0]}/hops?4", loopback=True)
    assert len(site[1].seen) == 4


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[::ffff:169.254.169.254]/",
        "file:///proc/self/environ",
        "http://user:password@127.0.0.1/",
        "//10.0.0.1/photo.jpg",
        "http://[::1",
    ],
)
def test_redirects_are_checked_again(site: tuple[str, type[Site]], target: str) -> None:
    with pytest.raises(UrlRefused):
        fetch(f"{site[0]}/to?url={target}", loopback=True)
    assert len(site[1].seen) == 1


@pytest.mark.parametrize("path", ["/missing", "/nowhere", "/declared", "/endless", "/cut", "/nonsense"])
def test_unusable_responses_are_refused(site: tuple[str, type[Site]], path: str) -> None:
    with pytest.raises(UrlRefused):
        fetch(f"{site[0]}{path}", loopback=True)


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Content-Length: 5\r\nContent-Length: 13\r\n\r\n" + PHOTO,
        OK + b"Content-Length: 5, 13\r\n\r\n" + PHOTO,
        OK + b"Content-Length: -1\r\n\r\n" + PHOTO,
        OK + b"Content-Length: +13\r\n\r\n" + PHOTO,
        OK + b"Content-Length: 99999999999999999999\r\n\r\n" + PHOTO,
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 13\r\n\r\nd\r\n" + PHOTO + b"\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\nd\r\n" + PHOTO + b"\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + PHOTO,
        OK + b"Transfer-Encoding: chunked\r\n\r\n-d\r\n" + PHOTO,
        OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + PHOTO,
        OK + b"Content-Type: multipart/x; boundary*0*=nowhere''x\r\n\r\n" + b"",
        OK + b"X: " + b"x" * 70_000 + b"\r\n\r\n" + PHOTO,
        OK + b"X: x\r\n" * 200 + b"\r\n" + PHOTO,
        b"HTTP/1.1 abc OK\r\n\r\n" + PHOTO,
        b"HTTP/1.1 99999 OK\r\n\r\n" + PHOTO,
        b"\r\n\r\n" + PHOTO,
        OK + b"Content-Encoding: br\r\n\r\n" + PHOTO,
        OK + b"Content-Encoding: gzip\r\n\r\n" + PHOTO,
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(PHOTO)[:-4],
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * (MAX_IMAGE_BYTES + 1)),
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://a..b/\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://" + b"a" * 70 + b".example/\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[fe80::1%25eth0]/\r\n\r\n",
    ],
)
def test_malformed_responses_are_refused(site: tuple[str, type[Site]], raw: bytes) -> None:
    site[1].raw = raw
    with suppress(UrlRefused):
        # Headers that mean nothing to a photo are no reason to refuse it.
        assert fetch(f"{site[0]}/raw", loopback=True) == b""


@pytest.mark.parametrize(
    ("raw", "again"),
    [
        (OK, b"X: x\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 60_000 + b"\r\nx\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: " + b"x" * 60_000 + b"\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_bytes_are_counted_on_the_wire(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch, raw: bytes, again: bytes
) -> None:
    counted: list[int] = []
    count = guard._Attempt._count

    def counting(attempt: guard._Attempt, arrived: int) -> None:
        counted.append(arrived)
        count(attempt, arrived)

    monkeypatch.setattr(guard._Attempt, "_count", counting)
    site[1].raw, site[1].again = raw, again
    with pytest.raises(UrlRefused):
        fetch(f"{site[0]}/raw-endless", loopback=True)
    assert sum(counted) < MAX_IMAGE_BYTES + 2 * 1024 * 1024


@pytest.mark.parametrize(
    ("raw", "again"),
    [
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: x\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_lines_are_counted_on_the_wire(site: tuple[str, type[Site]], raw: bytes, again: bytes) -> None:
    site[1].raw, site[1].again = raw, again * 1000
    start = time.process_time()
    with pytest.raises(UrlRefused) as refusal:
        fetch(f"{site[0]}/raw-endless", loopback=True)
    assert str(refusal.value) == "could not be reached: HTTPException"
    assert time.process_time() - start < 1


def test_a_photo_in_chunks_of_a_kilobyte_is_fetched(site: tuple[str, type[Site]]) -> None:
    site[1].raw = OK + b"Transfer-Encoding: chunked\r\n\r\n" + (b"400\r\n" + b"x" * 1024 + b"\r\n") * 9000
    site[1].raw += b"0\r\n\r\n"
    assert len(fetch(f"{site[0]}/raw", loopback=True)) == 9000 * 1024


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate"])
def test_an_unrequested_content_coding_is_decoded(site: tuple[str, type[Site]], coding: str) -> None:
    packed = zlib.compress(PHOTO) if coding == "deflate" else gzip.compress(PHOTO)
    site[1].raw = OK + f"Content-Encoding: {coding}\r\n\r\n".encode() + packed
    assert fetch(f"{site[0]}/raw", loopback=True) == PHOTO


@pytest.mark.parametrize("path", ["/drip", "/drip-headers"])
def test_a_slow_server_is_cut_off(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(guard, "TOTAL_SECONDS", 0.2)
    with pytest.raises(UrlRefused):
        fetch(f"{site[0]}{path}", loopback=True)
    assert site[1].hang_up.wait(30), "the connection is still open"


@pytest.fixture
def secure_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of an https server that photos.example's certificate belongs to."""
    certificate = _certificate(tmp_path, "photos.example")
    serving_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving_context.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(guard, "_trust", lambda: trusting)
    with serving(serving_context) as (port, _):
        yield port


def test_tls_verifies_the_name_although_it_connects_to_an_address(names: Resolver, secure_site: int) -> None:
    names("photos.example", "127.0.0.1")
    names("other.example", "127.0.0.1")
    assert fetch(f"https://photos.example:{secure_site}/photo.jpg", loopback=True) == PHOTO
    for host in ("other.example", "127.0.0.1"):
        with pytest.raises(UrlRefused):
            fetch(f"https://{host}:{secure_site}/photo.jpg", loopback=True)


def test_https_never_turns_into_http(names: Resolver, secure_site: int, site: tuple[str, type[Site]]) -> None:
    names("photos.example", "127.0.0.1")
    secure = f"https://photos.example:{secure_site}"
    assert fetch(f"{site[0]}/to?url={secure}/photo.jpg", loopback=True) == PHOTO
    with pytest.raises(UrlRefused):
        fetch(f"{secure}/to?url={site[0]}/photo.jpg", loopback=True)
    assert [path for path, _ in site[1].seen] == [f"/to?url={secure}/photo.jpg"]


def test_an_untrusted_certificate_is_refused(
    names: Resolver, secure_site: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_trust", ssl.create_default_context)
    names("photos.example", "127.0.0.1")
    with pytest.raises(UrlRefused):
        fetch(f"https://photos.example:{secure_site}/photo.jpg", loopback=True)


def _certificate(folder: Path, host: str) -> Path:
    """A self-signed certificate for ``host`` with its private key, in one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file
