"""Signed requests to AWS without botocore, for the calls that every request or every photo waits for.

Importing botocore takes 100 CPU-milliseconds and each call 2, mostly for features of other services. This
module has what calls to DynamoDB and S3 share: credentials and region from the environment, as Lambda sets
them, Signature Version 4 (AWS General Reference, "Create a signed AWS API request"), and connections that
stay open. Any other AWS configuration is left to botocore: ``Service.of`` then returns None, and the caller
uses botocore's client, whose methods have the same names.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import re
import select
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from carsight_service.aws.failures import AnswerLost, NotSent

_ORDINARY_REGION = re.compile(r"(af|ap|ca|eu|il|me|mx|sa|us|us-gov)-[a-z]+-\d+")
"""Regions whose addresses end in amazonaws.com."""

_PLAIN_URL = re.compile(r"https?://[^/?#@]+/?")

_FOR_BOTOCORE = (
    "AWS_PROFILE",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
"""Variables that change how a service is reached."""

_ALGORITHM = "AWS4-HMAC-SHA256"

_LINE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Credentials:
    """AWS credentials."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Service:
    """A service in one region, with credentials."""

    name: str
    """As in its address and in signatures: ``dynamodb``, ``s3``."""
    region: str
    url: str
    credentials: Credentials

    @classmethod
    def of(cls, name: str, environment: Mapping[str, str]) -> Service | None:
        """Return the service that ``environment`` describes; None if only botocore supports it."""
        access_key, secret_key = (
            environment.get("AWS_ACCESS_KEY_ID"),
            environment.get("AWS_SECRET_ACCESS_KEY"),
        )
        region = environment.get("AWS_DEFAULT_REGION", "")
        if not access_key or not secret_key or any(map(environment.get, _FOR_BOTOCORE)):
            return None
        url = environment.get(f"AWS_ENDPOINT_URL_{name.upper()}") or environment.get("AWS_ENDPOINT_URL")
        if not _ORDINARY_REGION.fullmatch(region) or (url and not _PLAIN_URL.fullmatch(url)):
            return None
        url = url or f"https://{name}.{region}.amazonaws.com"
        if not _is_direct(url, environment):
            return None
        token = environment.get("AWS_SESSION_TOKEN", "")
        return cls(name, region, url, Credentials(access_key, secret_key, token))

    def signed(
        self, method: str, target: str, headers: Mapping[str, str], payload: str, moment: str | None = None
    ) -> dict[str, str]:
        """Return the headers of a request, including its signature.

        Args:
            method: In upper case.
            target: Path and query, escaped as they are sent.
            headers: With lower-case names.
            payload: The SHA-256 of the body in hex.
            moment: When it is sent: ``YYYYMMDDThhmmssZ``; None for now.
        """
        moment = moment or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        sent = {**headers, "x-amz-date": moment}
        if self.credentials.session_token:
            sent["x-amz-security-token"] = self.credentials.session_token
        names = ";".join(sorted(sent))
        listed = "".join(f"{name}:{sent[name]}\n" for name in sorted(sent))
        path, _, query = target.partition("?")
        request = f"{method}\n{path}\n{query}\n{listed}\n{names}\n{payload}"
        scope = f"{moment[:8]}/{self.region}/{self.name}/aws4_request"
        text = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = _signing_key(self.credentials.secret_key, scope)
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        sent["authorization"] = (
            f"{_ALGORITHM} Credential={self.credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return sent


class Response(NamedTuple):
    """A server's response."""

    status: int
    headers: Mapping[str, str]
    """With lower-case names."""
    content: bytes
    is_whole: bool
    """Whether it has been read completely, so that the connection may be reused."""


@dataclass(slots=True)
class _Connection:
    """A connection to a server, and a file for reading from it."""

    socket: socket.socket
    file: io.BufferedReader

    def close(self) -> None:
        """Close the connection."""
        self.file.close()
        self.socket.close()


class Host:
    """Connections to one server, kept open between calls and safe to share; each call uses one exclusively.

    http.client takes five times as long per call, as it parses headers as if they were an e-mail's, and
    importing it, with the mail parser, takes 3 % of a cold start.
    """

    def __init__(self, url: str, connect_seconds: float, read_seconds: float) -> None:
        address = urlsplit(url)
        self._is_secure = address.scheme == "https"
        self._name = address.hostname or ""
        self._port = address.port or (443 if self._is_secure else 80)
        self._seconds = connect_seconds, read_seconds
        self._idle: deque[_Connection] = deque()
        self.authority = address.netloc
        weakref.finalize(self, _close, self._idle)

    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        most: int | None = None,
    ) -> Response:
        """Send a request and return the response.

        A body that is declared to have more than ``most`` bytes is not read; of any other, at most one byte
        more than that is. Raises ``NotSent`` or ``AnswerLost``.
        """
        lines = [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"content-length: {len(body)}")
        if any("\n" in line or "\r" in line for line in lines):
            raise ValueError("a header has more than one line")
        head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")
        connection = self._connection()
        try:
            connection.socket.sendall(head + body)
            answer = _read(connection.file, most)
        except NotSent:
            connection.close()
            raise
        except (OSError, ValueError) as error:
            connection.close()
            raise AnswerLost(type(error).__name__) from error
        except BaseException:
            connection.close()
            raise
        if answer.is_whole:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _connection(self) -> _Connection:
        """Return an idle connection, or a new one."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if not _is_readable(connection.socket):
                return connection
            connection.close()  # the other side has closed it, while the function was frozen for example
        trust = _trust() if self._is_secure else None
        try:
            made = self._connected(trust)
        except OSError as error:
            raise NotSent(type(error).__name__) from error
        return _Connection(made, made.makefile("rb"))

    def _connected(self, trust: ssl.SSLContext | None) -> socket.socket:
        """Return a new connection, encrypted if there is somebody to ``trust``."""
        connect_seconds, read_seconds = self._seconds
        made = socket.create_connection((self._name, self._port), connect_seconds)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if trust is not None:
                made = trust.wrap_socket(made, server_hostname=self._name)
            made.settimeout(read_seconds)
        except BaseException:
            made.close()
            raise
        return made


def _read(file: io.BufferedReader, most: int | None) -> Response:
    """Read a response (RFC 9112); see ``Host.exchange`` for ``most``."""
    line = file.readline(_LINE_BYTES)
    if not line:  # an idle connection that was closed while the request was on its way
        raise NotSent("RemoteDisconnected")
    version, status, *_ = line.decode("latin-1").split(maxsplit=2)
    headers: dict[str, str] = {}
    while line := file.readline(_LINE_BYTES).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    length = headers.get("content-length")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        content, is_whole = _chunks(file, most)
    elif length is None:
        content, is_whole = file.read(-1 if most is None else most + 1), False
    elif most is not None and int(length) > most:
        content, is_whole = b"", False
    else:
        content, is_whole = _exactly(file, int(length)), True
    is_kept = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return Response(int(status), headers, content, is_whole and is_kept)


def _chunks(file: io.BufferedReader, most: int | None) -> tuple[bytes, bool]:
    """Return a chunked body, and whether it is complete."""
    content = b""
    while size := int(file.readline(_LINE_BYTES).partition(b";")[0], 16):
        content += _exactly(file, size)
        if most is not None and len(content) > most:
            return content[: most + 1], False
        file.readline(_LINE_BYTES)
    while file.readline(_LINE_BYTES).strip():
        pass
    return content, True


def _exactly(file: io.BufferedReader, size: int) -> bytes:
    """Read exactly ``size`` bytes, with fewer system calls than ``read``, which also fills its buffer."""
    content = bytearray(size)
    if file.readinto(content) < size:
        raise ConnectionError("cut short")
    return bytes(content)


def _close(connections: deque[_Connection]) -> None:
    for connection in connections:
        connection.close()


def _is_direct(url: str, environment: Mapping[str, str]) -> bool:
    """Whether the host of ``url`` is reached without a proxy."""
    address = urlsplit(url)
    if not any(
        environment.get(name) for name in (f"{address.scheme}_proxy", f"{address.scheme}_proxy".upper())
    ):
        return True
    from urllib.request import proxy_bypass  # Lambda has no proxies

    return bool(proxy_bypass(address.netloc))


def _is_readable(sock: socket.socket) -> bool:
    """Whether an idle connection is readable, which means that the other side has closed it."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


@cache
def _trust() -> ssl.SSLContext:
    """Return the system's certificate authorities, or those of botocore's file; read once."""
    bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    return ssl.create_default_context(cafile=bundle or None)


@lru_cache(maxsize=4)
def _signing_key(secret: str, scope: str) -> bytes:
    """Derive the key that signs for one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
