"""Every dialect that CarsXE's clients speak, on both routes, as one typed ``Request``.

``parse_request`` empties the event of whatever must not be logged. It never fails: what cannot be an image is
found out when it is loaded, after the key's check.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import collapse_rfc2231_value
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl

from carsight_service.contract.api import region_codes
from carsight_service.contract.errors import IMAGE_FIELDS
from carsight_service.images import (
    Base64Source,
    BytesSource,
    ImageSource,
    S3Source,
    UnusableSource,
    UrlSource,
    image_source,
)

_IMAGE_FIELDS = (*IMAGE_FIELDS, "upload")
_SECRET_HEADERS = ("x-api-key", "authorization", "cookie", "referer")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as far as the service cares; made once by ``parse_request``."""

    method: str
    path: str
    """Without query, ``/eu`` prefix and trailing slash."""
    key: str | None = field(repr=False)
    source: ImageSource | None = field(repr=False)
    regions: tuple[str, ...]
    """Region codes that the caller expects, as sent but in lower case."""
    idempotency_key: str | None
    camera_id: str | None
    timestamp: str | None
    """When the photo was taken, as the caller writes it; echoed to clients of Plate Recognizer."""
    request_id: str

    def fingerprint(self) -> str:
        """SHA-256 in hex of what is asked for: the same for a client's retry, whatever else differs."""
        match self.source:
            case BytesSource(data):
                asked = data
            case UrlSource(text) | Base64Source(text):
                asked = text.encode("utf-8", "replace")
            case S3Source(bucket, key):
                asked = f"s3://{bucket}/{key}".encode("utf-8", "replace")
            case UnusableSource(detail):
                asked = detail.encode()
            case None:
                asked = b""
        return sha256(b"\n".join((self.path.encode(), ",".join(self.regions).encode(), asked))).hexdigest()


def parse_request(event: dict[str, Any]) -> Request:
    """The request that an API Gateway HTTP API event (payload format 2.0) describes.

    Body, query string and secret headers are removed from ``event``: nothing downstream can log them.
    """
    context = event.get("requestContext") or {}
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    query = _query(event)
    body = _body_fields(headers.get("content-type", ""), _body(event))
    _scrub(event)

    keys = (*query.get("key", ()), headers.get("x-api-key"), _token(headers), *body.get("key", ()))
    images = (value for name in _IMAGE_FIELDS for value in body.get(name, ()))
    return Request(
        method=(context.get("http") or {}).get("method", "POST").upper(),
        path=canonical_path(event.get("rawPath") or "/"),
        key=_first(keys),
        source=next((source for value in images if (source := image_source(value))), None),
        regions=region_codes(map(_text, (*query.get("regions", ()), *body.get("regions", ())))),
        idempotency_key=_text(headers.get("idempotency-key")) or None,
        camera_id=_first(body.get("camera_id", ())),
        timestamp=_first(body.get("timestamp", ())),
        request_id=request_id_of(event),
    )


def request_id_of(event: Mapping[str, Any]) -> str:
    """API Gateway's name for the request that ``event`` describes."""
    return str((event.get("requestContext") or {}).get("requestId", ""))


def canonical_path(raw: str) -> str:
    """``raw`` without the ``/eu`` prefix and trailing slashes that the routes tolerate; at least ``/``."""
    path = raw.rstrip("/")
    if path == "/eu" or path.startswith("/eu/"):
        path = path.removeprefix("/eu")
    return path or "/"


# -- the event -----------------------------------------------------------------------------------------------


def _query(event: Mapping[str, Any]) -> dict[str, list[str]]:
    """The query's parameters. The raw query is preferred: the parsed one joins repeated names with commas."""
    raw = event.get("rawQueryString")
    if raw:
        return _grouped(parse_qsl(raw, keep_blank_values=True))
    return {name: [value] for name, value in (event.get("queryStringParameters") or {}).items()}


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(body).encode("utf-8", "replace")
    try:
        return base64.b64decode(body)
    except ValueError:
        return b""


def _scrub(event: dict[str, Any]) -> None:
    for name in ("body", "rawQueryString", "queryStringParameters", "cookies"):
        event.pop(name, None)
    event["headers"] = {
        name: value
        for name, value in (event.get("headers") or {}).items()
        if name.lower() not in _SECRET_HEADERS
    }


def _token(headers: Mapping[str, str]) -> str:
    """The key of ``Authorization: Token KEY`` (Plate Recognizer's clients) or ``Bearer KEY``."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token if scheme.lower() in ("token", "bearer") else ""


def _first(values: Iterable[object]) -> str | None:
    """The first that is text and not empty."""
    return next((text for value in values if (text := _text(value))), None)


def _text(value: object) -> str:
    """``value`` where it is text, fit to be encoded again; JSON may hold lone surrogates."""
    return value.strip().encode("utf-8", "replace").decode() if isinstance(value, str) else ""


# -- the body ------------------------------------------------------------------------------------------------

Fields = Mapping[str, list[Any]]
"""Values by name: text, bytes of a file, or whatever else JSON held."""


def _body_fields(content_type: str, body: bytes) -> Fields:
    """The fields of a body. A bare image, URL or base64 text is a field named ``image``.

    The bytes decide and the declared type only helps: clients send JSON as ``text/plain`` and ``curl -d``
    calls everything a form.
    """
    declared = Message()
    declared["content-type"] = content_type
    kind = declared.get_content_type() if content_type else ""
    if kind == "multipart/form-data":
        return _multipart(str(declared.get_param("boundary", "")), body)
    if kind.startswith("image/"):
        return {"image": [body]}
    try:
        text = body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return {"image": [body]}
    if kind == "application/x-www-form-urlencoded":
        form = _grouped(parse_qsl(text, keep_blank_values=True))
        if not form.keys().isdisjoint(_IMAGE_FIELDS):
            # A plus of base64 that was not escaped has become a blank; neither base64 nor a URL holds blanks.
            return {name: [value.replace(" ", "+") for value in values] for name, values in form.items()}
    return _json(text)


def _json(text: str) -> Fields:
    """The members of a JSON object; text that does not begin like JSON stands for itself."""
    if not text.startswith(("{", "[", '"')):
        return {"image": [text]}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return {"image": [UnusableSource(_mistake(text, error))]}
    except (ValueError, RecursionError):
        return {
            "image": [UnusableSource("The JSON is nested too deeply, or holds a number too long to read.")]
        }
    if isinstance(value, dict):
        return {name: member if isinstance(member, list) else [member] for name, member in value.items()}
    return {"image": [value]} if isinstance(value, str) else {}


def _mistake(text: str, error: json.JSONDecodeError) -> str:
    """Where the JSON of ``text`` goes wrong; its first character is 1."""
    if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
        return f"The JSON ends at character {len(text)} although it is not complete. Was the body cut short?"
    return f"The JSON is broken at character {error.pos + 1}: {error.msg[0].lower()}{error.msg[1:]}."


def _multipart(boundary: str, body: bytes) -> Fields:
    """The parts of a ``multipart/form-data`` body (RFC 7578), file parts as bytes and the others as text.

    Split by hand because ``email`` goes through a body line by line, at 30 ms of CPU per megabyte of photo.
    """
    delimiter = b"\n--" + boundary.encode("ascii", "replace")
    fields: dict[str, list[Any]] = {}
    for section in (b"\n" + body).split(delimiter)[1:]:
        if section.startswith(b"--"):
            break
        head, *rest = re.split(rb"\r?\n\r?\n", section, maxsplit=1)
        if not rest:
            continue
        part = BytesHeaderParser().parsebytes(head.lstrip())
        name = collapse_rfc2231_value(part.get_param("name", "", header="content-disposition"))
        content = rest[0].removesuffix(b"\r")
        is_file = part.get_filename() is not None or part.get_content_maintype() == "image"
        # Clients that are given a buffer name no file; a photo is never text all the same.
        if not is_file and name in _IMAGE_FIELDS:
            is_file = not _is_text(content)
        fields.setdefault(name, []).append(content if is_file else content.decode("utf-8", "replace"))
    return fields


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in pairs:
        grouped.setdefault(name, []).append(value)
    return grouped
