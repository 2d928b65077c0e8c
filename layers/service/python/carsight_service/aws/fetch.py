"""Fetching URLs of untrusted callers without letting them reach internal networks (SSRF).

A caller chooses the URL, the name server behind its host and every redirect. So a host is resolved once, all
of its addresses must belong to the public internet, and the connection is made to an address that was
checked, while TLS still verifies the name. Redirects are followed here and checked in the same way. Bytes and
seconds are limited while data arrives. Every failure is a ``UrlRefused``; its reason is for the log alone, as
a port scanner must not learn it.
"""

from __future__ import annotations

import io
import ipaddress
import random
import re
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from carsight_service.contract.api import MAX_IMAGE_BYTES, MAX_URL_CHARACTERS
from carsight_service.deadline import OutOfTime, Result, within

_MAX_WIRE_BYTES = MAX_IMAGE_BYTES + 1024 * 1024
"""The most bytes of one fetch including redirects: a photo, its framing and the headers."""
_MAX_LINES = 20_000
"""The most lines of headers and framing in one fetch. ``http.client`` takes 4 microseconds per line, and a
photo of 10 MB in chunks of 1 kB has this many."""
MAX_REDIRECTS = 3
CONNECT_SECONDS = 2.0
READ_SECONDS = 3.0
TOTAL_SECONDS = 8.0

PAUSES = (1.0, 3.0)
"""How many seconds at most to wait before a busy host is asked again, and how often."""
_BUSY = frozenset({429, 502, 503, 504})

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK_BYTES = 64 * 1024
_ADDRESSES_TRIED = 3

# Ranges that ``is_global`` accepts (in Python 3.11, 3.13 or both) although they reach, or may reach through a
# translator or relay, addresses that are not global. Names and ranges: IANA's special-purpose registries.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",  # carrier-grade NAT, also inside VPCs
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relay anycast
        "::/96",  # IPv4-compatible
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64, local use
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local, deprecated
    )
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class UrlRefused(Exception):
    """A URL may not be called, or got no usable answer; the message says why, for the log only."""


class HostIsBusy(UrlRefused):
    """A host has answered that it is busy, or has cut its answer short: it may answer the next time."""


def is_public(address: Address) -> bool:
    """Whether ``address`` belongs to the public internet, and cannot lead anywhere else."""
    address = _unwrapped(address)
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address.version == network.version and address in network for network in _NOT_PUBLIC)


def fetch(url: str, *, loopback: bool = False, patient: bool = False) -> bytes:
    """Fetch ``url``: at most 10 MB, within 8 seconds.

    ``loopback`` is for local development: it allows this machine's own addresses, on any port. If
    ``patient``, a host that is busy or hangs up is asked again, within the same 8 seconds and 10 MB. Raises
    ``UrlRefused``.
    """
    attempt = _Attempt(loopback)
    return attempt.bounded(lambda: attempt.follow(url, PAUSES if patient else ()))


def post(url: str, body: bytes, headers: Mapping[str, str], *, loopback: bool = False) -> int:
    """Send ``body`` to ``url`` with the same checks, and return the status of the response.

    Redirects are not followed, and the response's body is not read. Raises ``UrlRefused``.
    """
    attempt = _Attempt(loopback)
    return attempt.bounded(lambda: attempt.send(url, body, headers))


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL that has passed all checks that need no network."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


class _Attempt:
    """One fetch with its redirects; ``abandon`` may be called from another thread."""

    def __init__(self, loopback: bool) -> None:
        self._loopback = loopback
        self._abandoned = threading.Event()
        self._wire_bytes = self._lines = 0
        self._lifeline: socket.socket | None = None
        """A second handle on the connection, as the first is taken by the TLS socket and the response."""

    def follow(self, url: str, pauses: Sequence[float] = ()) -> bytes:
        for pause in pauses:
            with suppress(HostIsBusy, ConnectionResetError, IncompleteRead):
                return self._followed(url)
            # A cut connection looks like a host that hangs up, but nobody waits for this thread any more.
            if self._abandoned.wait(random.uniform(pause / 2, pause)):
                raise OSError("abandoned")
        return self._followed(url)

    def _followed(self, url: str) -> bytes:
        secure = False
        for _ in range(MAX_REDIRECTS + 1):
            target = _checked(url, any_port=self._loopback)
            if secure and target.scheme != "https":
                raise UrlRefused("redirect from https to http")
            secure = target.scheme == "https"
            with self._answered("GET", target, None, {"Accept": "image/*,*/*;q=0.5"}) as response:
                if response.status not in _REDIRECTS:
                    return _body(response)
                url = _next(url, response)
        raise UrlRefused("too many redirects")

    def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        with self._answered("POST", _checked(url, any_port=self._loopback), body, headers) as response:
            return response.status

    def bounded(self, call: Callable[[], Result]) -> Result:
        """Return ``call()``, or raise ``UrlRefused`` after ``TOTAL_SECONDS``."""
        try:
            return within(TOTAL_SECONDS, call)
        except OutOfTime:
            self.abandon()
            raise UrlRefused(f"not answered within {TOTAL_SECONDS:g} s") from None
        # http.client and its parser of mail headers raise the last two for malformed answers.
        except (HTTPException, OSError, ValueError, LookupError) as error:
            raise UrlRefused(f"could not be reached: {type(error).__name__}") from error

    def abandon(self) -> None:
        """Cut the connection, so that a server that sends bytes slowly does not occupy a thread."""
        self._abandoned.set()
        if self._lifeline is not None:
            with suppress(OSError):
                self._lifeline.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _answered(
        self, method: str, target: _Target, body: bytes | None, headers: Mapping[str, str]
    ) -> Iterator[HTTPResponse]:
        """Send one request, and yield the response while its connection is open."""
        connection = HTTPConnection(target.host, target.port)
        connection.response_class = self._response  # type: ignore[assignment]  # any callable will do
        with self._connected(target) as connection.sock:
            connection.request(
                method,
                target.path,
                body,
                headers={
                    **headers,
                    "Host": target.authority,
                    "Accept-Encoding": "identity",
                    "User-Agent": "carsight",
                    "Connection": "close",
                },
            )
            with connection.getresponse() as response:
                yield response

    def _response(self, sock: socket.socket, method: str | None = None) -> HTTPResponse:
        """Return a response that counts the bytes that arrive, and the lines of headers and framing."""
        response = HTTPResponse(sock, method=method)
        unbuffered = response.fp.detach()
        response.fp = _CountedLines(_Counted(unbuffered, self._count), self._count_line)
        return response

    def _count_line(self) -> None:
        self._lines += 1
        if self._lines > _MAX_LINES:
            raise HTTPException("more lines than an answer takes")

    def _count(self, arrived: int) -> None:
        self._wire_bytes += arrived
        if self._wire_bytes > _MAX_WIRE_BYTES:
            raise HTTPException("more bytes than a photo of 10 MB takes")

    @contextmanager
    def _connected(self, target: _Target) -> Iterator[socket.socket]:
        """Yield a socket to the first address that accepts a connection; all are checked before."""
        with self._dialled(target) as plain, plain.dup() as self._lifeline:
            if self._abandoned.is_set():
                raise OSError("abandoned")
            if target.scheme == "http":
                plain.settimeout(READ_SECONDS)
                yield plain
                return
            # OpenSSL verifies the name, although the connection goes to an address.
            with _trust().wrap_socket(plain, server_hostname=target.host) as secure:
                secure.settimeout(READ_SECONDS)
                yield secure

    def _dialled(self, target: _Target) -> socket.socket:
        failure = OSError("no address")
        for address in self._addresses(target)[:_ADDRESSES_TRIED]:
            try:
                return _dial(address, target.port)
            except OSError as error:
                failure = error
        raise failure

    def _addresses(self, target: _Target) -> list[Address]:
        addresses = _resolve(target.host, target.port)
        for address in addresses:
            local = self._loopback and _unwrapped(address).is_loopback
            if not local and (not is_public(address) or target.port != _PORTS[target.scheme]):
                raise UrlRefused("not an address of the public internet")
        return addresses


def _unwrapped(address: Address) -> Address:
    return getattr(address, "ipv4_mapped", None) or address


def _checked(url: str, any_port: bool) -> _Target:
    """Return what ``url`` names. Raises ``UrlRefused`` if its form alone says that it may not be fetched."""
    if len(url) > MAX_URL_CHARACTERS:
        raise UrlRefused("URL too long")
    # Parsers disagree on these characters, and must not see different hosts in one URL.
    if re.search(r"[\x00-\x20\x7f\\\ud800-\udfff]", url):
        raise UrlRefused("control character, blank, backslash or half a character in URL")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UrlRefused("malformed URL") from error
    if parts.scheme not in _PORTS:
        raise UrlRefused("not an http or https URL")
    if not host or parts.username is not None or parts.password is not None:
        raise UrlRefused("no host, or user info, in URL")
    if "%" in host:
        raise UrlRefused("escaped or scoped host")
    standard = _PORTS[parts.scheme]
    if port is None:
        port = standard
    if port != standard and not any_port:
        raise UrlRefused("port other than 80 and 443")
    return _Target(parts.scheme, _ascii(host), port, _path(parts))


def _ascii(host: str) -> str:
    if ":" in host:
        return host
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise UrlRefused("malformed host name") from error
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise UrlRefused("malformed host name")
    return name


def _path(parts: SplitResult) -> str:
    """Return the request target: without the fragment, and with invalid characters percent-encoded."""
    path = parts.path or "/"
    return quote(f"{path}?{parts.query}" if parts.query else path, safe="!#$%&'()*+,/:;=?@[]~")


def _resolve(host: str, port: int) -> list[Address]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(answer[4][0]) for answer in answers))


def _dial(address: Address, port: int) -> socket.socket:
    return socket.create_connection((str(address), port), CONNECT_SECONDS)


@cache
def _trust() -> ssl.SSLContext:
    """Return the system's certificates, read once, as that takes longer than most handshakes."""
    return ssl.create_default_context()


def _next(url: str, response: HTTPResponse) -> str:
    try:
        return urljoin(url, response.getheader("location", ""))
    except ValueError as error:
        raise UrlRefused("malformed redirect") from error


class _Counted(io.RawIOBase):
    """Reads from ``raw`` and counts the bytes that arrive."""

    def __init__(self, raw: io.RawIOBase, count: Callable[[int], None]) -> None:
        self._raw, self._count = raw, count

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read available bytes into ``buffer``."""
        arrived = self._raw.readinto(buffer)
        self._count(arrived or 0)
        return arrived

    def close(self) -> None:
        """Close this and ``raw``."""
        self._raw.close()
        super().close()


class _CountedLines(io.BufferedReader):
    """Reads from ``raw`` and counts each line before it is read."""

    def __init__(self, raw: io.RawIOBase, count: Callable[[], None]) -> None:
        super().__init__(raw)
        self._count = count

    def readline(self, size: int | None = -1) -> bytes:
        """Read one line."""
        self._count()
        return super().readline(size)


def _check_framing(response: HTTPResponse) -> None:
    """Refuse framing that two parsers might understand differently (RFC 9112, 6.1 and 6.3)."""
    lengths = {length.strip() for length in response.headers.get_all("content-length", [])}
    codings = [coding.strip().lower() for coding in response.headers.get_all("transfer-encoding", [])]
    if codings not in ([], ["chunked"]) or (codings and lengths):
        raise UrlRefused("transfer coding")
    if len(lengths) > 1 or not all(re.fullmatch("[0-9]{1,12}", length) for length in lengths):
        raise UrlRefused("content length")


def _decoded(body: bytes, coding: str) -> bytes:
    """Return ``body`` without the content coding that some servers apply although it was not requested."""
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise UrlRefused("content coding")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # detects gzip and zlib
    try:
        plain = unpacker.decompress(body, MAX_IMAGE_BYTES + 1)
    except zlib.error as error:
        raise UrlRefused("malformed content coding") from error
    if len(plain) > MAX_IMAGE_BYTES:
        raise UrlRefused("more than 10 MB")
    if not unpacker.eof:
        raise UrlRefused("cut short")
    return plain


def _body(response: HTTPResponse) -> bytes:
    """Return the decoded body of a 200.

    Raises ``HostIsBusy`` where another attempt may succeed, and ``UrlRefused`` for any other failure.
    """
    if response.status != 200:
        kind = HostIsBusy if response.status in _BUSY else UrlRefused
        raise kind(f"answered {response.status}")
    _check_framing(response)
    body = bytearray()
    while chunk := response.read(_CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_IMAGE_BYTES:
            raise UrlRefused("more than 10 MB")
    if response.length:
        raise HostIsBusy("cut short")
    return _decoded(bytes(body), response.getheader("content-encoding", ""))
