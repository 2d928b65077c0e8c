"""DynamoDB's one signed POST, for the calls that every request waits for.

botocore takes 100 CPU-milliseconds to be imported and 2 for a call, most of it for services that are not
DynamoDB. This client knows what meters need: three operations, credentials and region of the environment, as
Lambda sets them, and Signature Version 4 (AWS General Reference, "Create a signed AWS API request") of one
kind of request. Whatever else an environment may say about AWS is botocore's to understand:
``from_environment`` returns nothing then, and who asks takes botocore's client, whose methods have the same
names.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import select
import socket
import ssl
import time
import weakref
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection, RemoteDisconnected
from typing import Any
from urllib.parse import urlsplit

CONNECT_SECONDS = 1.0
READ_SECONDS = 5.0

_ORDINARY_REGION = re.compile(r"(af|ap|ca|eu|il|me|mx|sa|us|us-gov)-[a-z]+-\d+")
"""Regions whose addresses end in amazonaws.com."""

_PLAIN_URL = re.compile(r"https?://[^/?#@]+/?")

_FOR_BOTOCORE = (
    "AWS_PROFILE",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
"""Variables that change how DynamoDB is reached."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_CONTENT_TYPE = "application/x-amz-json-1.0"
_TARGET = "DynamoDB_20120810."


class Refused(Exception):
    """DynamoDB has answered with an error: its ``code``, and the item that failed a condition."""

    def __init__(self, code: str, status: int, item: dict[str, Any] | None) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.item = item


class NotSent(Exception):
    """DynamoDB has not got the request."""


class AnswerLost(Exception):
    """DynamoDB may have got the request, and done what it asks for."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What it means that a call has failed."""

    code: str
    item: dict[str, Any] | None = None
    is_sent: bool = True
    """Whether DynamoDB may have got the request."""
    is_answered: bool = True
    """Whether DynamoDB has said what became of it."""


def failure(error: Exception) -> Failure:
    """Return what ``error`` of a call means, of this client or of botocore's. Raises any other again."""
    match error:
        case Refused():
            return Failure(error.code, error.item, is_answered=error.status < 500)
        case NotSent():
            return Failure(str(error), is_sent=False, is_answered=False)
        case AnswerLost():
            return Failure(str(error), is_answered=False)
    from botocore import exceptions as of_botocore  # whose client has raised it, and has been imported then

    match error:
        case of_botocore.ClientError():
            response: Any = error.response
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            return Failure(response["Error"]["Code"], response.get("Item"), is_answered=status < 500)
        case (
            of_botocore.ConnectTimeoutError()
            | of_botocore.EndpointConnectionError()
            | of_botocore.ConnectionClosedError()
        ):
            return Failure(type(error).__name__, is_sent=False, is_answered=False)
        case of_botocore.BotoCoreError():
            return Failure(type(error).__name__, is_answered=False)
    raise error


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys to AWS."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


class DynamoClient:
    """DynamoDB of one region, safe to share between threads; each call has a connection for itself.

    Calls raise ``Refused``, ``NotSent`` or ``AnswerLost``, within seconds. None is repeated.
    """

    def __init__(self, url: str, region: str, credentials: Credentials) -> None:
        address = urlsplit(url)
        self._is_secure = address.scheme == "https"
        self._host = address.hostname or ""
        self._port = address.port
        self._authority = address.netloc
        self._region = region
        self._credentials = credentials
        self._idle: deque[HTTPConnection] = deque()
        weakref.finalize(self, _close, self._idle)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> DynamoClient | None:
        """Make the client that ``environment`` describes; None where it takes botocore to understand it."""
        access_key, secret_key = (
            environment.get("AWS_ACCESS_KEY_ID"),
            environment.get("AWS_SECRET_ACCESS_KEY"),
        )
        region = environment.get("AWS_DEFAULT_REGION", "")
        if not access_key or not secret_key or any(map(environment.get, _FOR_BOTOCORE)):
            return None
        url = environment.get("AWS_ENDPOINT_URL_DYNAMODB") or environment.get("AWS_ENDPOINT_URL")
        if not _ORDINARY_REGION.fullmatch(region) or (url and not _PLAIN_URL.fullmatch(url)):
            return None
        url = url or f"https://dynamodb.{region}.amazonaws.com"
        if not _is_direct(url, environment):
            return None
        token = environment.get("AWS_SESSION_TOKEN", "")
        return cls(url, region, Credentials(access_key, secret_key, token))

    def update_item(self, **arguments: Any) -> dict[str, Any]:
        """Call ``UpdateItem`` with its arguments as botocore takes them."""
        return self._call("UpdateItem", arguments)

    def get_item(self, **arguments: Any) -> dict[str, Any]:
        """Call ``GetItem``."""
        return self._call("GetItem", arguments)

    def query(self, **arguments: Any) -> dict[str, Any]:
        """Call ``Query``."""
        return self._call("Query", arguments)

    def _call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(arguments).encode()
        headers = self._signed(operation, body, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
        connection = self._connection()
        try:
            status, content = _exchange(connection, headers, body)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        try:
            answer = json.loads(content)
        except ValueError:
            answer = {}
        if status == 200 and isinstance(answer, dict):
            return answer
        name = answer.get("__type", "") if isinstance(answer, dict) else ""
        raise Refused(name.rpartition("#")[2] or str(status), status, answer.get("Item") if name else None)

    def _connection(self) -> HTTPConnection:
        """Return a connection that is not in use: one that was left open, or a new one."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if connection.sock is not None and not _is_readable(connection.sock):
                return connection
            connection.close()  # the other side has closed it, while the function was frozen for example
        if self._is_secure:
            connection = HTTPSConnection(self._host, self._port, timeout=CONNECT_SECONDS, context=_trust())
        else:
            connection = HTTPConnection(self._host, self._port, timeout=CONNECT_SECONDS)
        try:
            connection.connect()
        except OSError as error:
            raise NotSent(type(error).__name__) from error
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.sock.settimeout(READ_SECONDS)
        return connection

    def _signed(self, operation: str, body: bytes, moment: str) -> dict[str, str]:
        """Return the headers of a call at ``moment`` (``YYYYMMDDThhmmssZ``), its signature among them."""
        headers = {
            "content-type": _CONTENT_TYPE,
            "host": self._authority,
            "x-amz-date": moment,
            "x-amz-target": _TARGET + operation,
        }
        if self._credentials.session_token:
            headers["x-amz-security-token"] = self._credentials.session_token
        names = ";".join(sorted(headers))
        listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = f"POST\n/\n\n{listed}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{moment[:8]}/{self._region}/dynamodb/aws4_request"
        signed = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = _signing_key(self._credentials.secret_key, scope)
        signature = hmac.digest(key, signed.encode(), "sha256").hex()
        headers["authorization"] = (
            f"{_ALGORITHM} Credential={self._credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return headers


def _close(connections: deque[HTTPConnection]) -> None:
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


def _exchange(connection: HTTPConnection, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    """Send a request and return the status and the content of its answer."""
    try:
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        content = response.read()
    except RemoteDisconnected as error:
        # Closed without a word: a connection that was left open, when the request was on its way.
        raise NotSent(type(error).__name__) from error
    except (OSError, HTTPException) as error:
        raise AnswerLost(type(error).__name__) from error
    checksum = response.getheader("x-amz-crc32")
    if checksum and checksum != str(zlib.crc32(content)):
        raise AnswerLost("checksum")
    return response.status, content


def _is_readable(sock: socket.socket) -> bool:
    """Whether there is something to be read on a connection on which nothing is expected: its end."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


@cache
def _trust() -> ssl.SSLContext:
    """Whom the system trusts, or a file of whom botocore would trust; read once."""
    bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    return ssl.create_default_context(cafile=bundle or None)


@lru_cache(maxsize=4)
def _signing_key(secret: str, scope: str) -> bytes:
    """Derive the key that signs for one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
