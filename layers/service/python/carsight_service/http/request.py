"""Parsing a request, in any of the forms that CarsXE's clients send, into one typed ``Request``.

``parse_request`` removes from the event whatever must not be logged, and parses the request's head. The body
is parsed on demand: after the key has been checked, unless the key is in the body. Parsing takes time linear
in the body's length, whatever the content. The parsers of JSON and of multipart forms are imported when
needed, as a cold start needs at most one of them.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from carsight_service.contract.api import IMAGE_FIELDS, MAX_IMAGE_BYTES, without_surrogates
from carsight_service.contract.errors import InvalidRequest, checked_regions
from carsight_service.images import (
    Base64Source,
    BytesSource,
    ImageSource,
    S3Source,
    UnusableSource,
    UrlSource,
    b64decode,
    image_source,
    percent_decoded,
    with_pluses,
)

if TYPE_CHECKING:
    from carsight_service.http.multipart import FormPart
    from carsight_service.http.plate_options import PlateOptions

MAX_FIELDS = 200
"""The most fields of a query or form, and the most values of one name."""

_IMAGE_FIELDS = (*IMAGE_FIELDS, "upload")
_FILE_NAME = "\0filename"
"""The field that stores the name of a form's file; clients cannot send a field with this name."""

FIELDS = (*_IMAGE_FIELDS, "key", "regions", "camera_id", "timestamp", "mmc", "config", "text_formats")
"""Fields read from a body; a test compares them with the API description."""


def _folded(name: str) -> str:
    """Return ``name`` without what differs between serializers: ``imageurl`` for ``Image-Url[0]``."""
    return name.partition("[")[0].replace("_", "").replace("-", "").lower()


_BY_FOLDED_NAME = {_folded(name): name for name in reversed(FIELDS) if name != "key"}
"""The fields by their folded names, except for the key, whose name has to be exact."""
_LONGEST_NAME = 30
"""A longer field name is not folded."""

_SECRET_HEADERS = ("x-api-key", "authorization", "cookie", "referer")

_KNOWN_FORM = re.compile(rf"(?:{'|'.join((*_IMAGE_FIELDS, 'key'))})=")
"""The beginning of a form that is not declared as one, such as ``image_url=https://...``. Neither base64 nor
URLs begin like this."""

_UNKNOWN_FORM = re.compile(r"[a-z_][\w.\[\]-]{0,40}=[^=&]", re.IGNORECASE)
"""The beginning of a form with unknown fields, such as ``photo=...``. Neither base64 nor URLs begin like
this."""

_GZIP, _GZIP_AS_TEXT = b"\x1f\x8b", b"\x1f\xef\xbf\xbd"
_MAX_UNPACKED = MAX_IMAGE_BYTES * 3 // 2
"""The most bytes that are decompressed of a body: enough for an image's base64 in JSON or a form."""
_COMPRESSED = "The body is compressed and cannot be decompressed. Send it without Content-Encoding."

_HEAD = 128
"""How many bytes of a body are examined to recognize its kind."""

_NO_PICTURE = (b"{", b'"', b"http://", b"https://", b"data:", b"\xef\xbb\xbf")
"""Beginnings of JSON, URLs and text with a byte order mark, which no picture has."""

Fields = Mapping[str, list[Any]]
"""Values by name: text, the bytes of a file, or any other JSON value."""


@dataclass(frozen=True)
class Request:
    """One request, as parsed by ``parse_request``.

    Properties that are read from the body raise ``InvalidRequest`` if it is a form that exceeds the limits.
    """

    method: str
    path: str
    """Without query, ``/eu`` prefix and trailing slash."""
    request_id: str
    idempotency_key: str | None
    content_type: str
    query: Mapping[str, list[str]] = field(repr=False)
    _head_key: str | None = field(repr=False)
    _raw_body: str = field(repr=False)
    _is_base64: bool

    @cached_property
    def body(self) -> bytes:
        """The body's bytes."""
        if not self._is_base64:
            return self._raw_body.encode("utf-8", "replace")
        with suppress(ValueError):
            return b64decode(self._raw_body)
        with suppress(ValueError):
            return base64.b64decode(self._raw_body)  # tolerates base64 that the gateway never sends
        return b""

    @cached_property
    def _fields(self) -> Fields:
        # ASCII text, which Python recognizes at no cost, need not be encoded and decoded.
        is_text = not self._is_base64 and self._raw_body.isascii()
        return _body_fields(self.content_type, self._raw_body if is_text else self.body)

    @cached_property
    def key(self) -> str | None:
        """The API key, from the query, a header or the body."""
        return self._head_key or _first(self._fields.get("key", ()))

    @cached_property
    def source(self) -> ImageSource | None:
        """Where the image is; None if the request has none."""
        named = (value for name in _IMAGE_FIELDS for value in self._fields.get(name, ()))
        # A form's file is the image, whatever the name of its field.
        files = (value for values in self._fields.values() for value in values if isinstance(value, bytes))
        unusable: ImageSource | None = None
        for value in chain(named, files):
            source = image_source(value)
            if source is not None and not isinstance(source, UnusableSource):
                return source
            unusable = unusable or source
        return unusable

    @property
    def misplaced_image(self) -> str:
        """The name of a query parameter that may have been meant as the image; "" if there is none."""
        return next((name for name in self.query if name in _IMAGE_FIELDS), "")

    @cached_property
    def regions(self) -> tuple[str, ...]:
        """Region codes that the caller expects, as sent but in lower case. Raises ``InvalidRequest``."""
        hints = (*self.query.get("regions", ()), *self._fields.get("regions", ()))
        return checked_regions(list(map(_text, hints)))

    @cached_property
    def camera_id(self) -> str | None:
        """The caller's name of the camera; returned to clients of Plate Recognizer."""
        return _first(self._fields.get("camera_id", ()))

    @cached_property
    def timestamp(self) -> str | None:
        """When the photo was taken, as sent; returned to clients of Plate Recognizer."""
        return _first(self._fields.get("timestamp", ()))

    @cached_property
    def filename(self) -> str:
        """The file's name as sent, or empty."""
        return _first(self._fields.get(_FILE_NAME, ())) or ""

    @cached_property
    def mmc(self) -> bool:
        """Whether make, model and color are requested; the name is Plate Recognizer's."""
        return str(next(iter(self._fields.get("mmc", ())), "")).lower() in ("true", "1", "yes")

    @cached_property
    def plate_options(self) -> PlateOptions:
        """The caller's filters on plates. Raises ``InvalidRequest``."""
        from carsight_service.http.plate_options import PlateOptions  # not needed for VINs

        formats = (*self.query.get("text_formats", ()), *self._fields.get("text_formats", ()))
        return PlateOptions.of(next(iter(self._fields.get("config", ())), None), formats, self.regions)

    def fingerprint(self) -> str:
        """Return the SHA-256 in hex of image and options, which is equal for a client's retry."""
        match self.source:
            case BytesSource(data):
                image = data
            case UrlSource(text) | Base64Source(text):
                image = text.encode("utf-8", "replace")
            case S3Source(bucket, key):
                image = f"s3://{bucket}/{key}".encode("utf-8", "replace")
            case UnusableSource(detail):
                image = detail.encode()
            case None:
                image = b""
        # Options are taken as sent: invalid ones are refused later, by the API that has them.
        fields = (self._fields.get(name) for name in ("mmc", "config", "text_formats"))
        options = repr((*fields, self.query.get("text_formats"))).encode("utf-8", "replace")
        return sha256(
            b"\n".join((self.path.encode(), ",".join(self.regions).encode(), options, image))
        ).hexdigest()


def parse_request(event: dict[str, Any]) -> Request:
    """Return the request in an event of an API Gateway HTTP API (payload format 2.0).

    Body, query string and secret headers are removed from ``event``, so that nothing can log them. Raises
    ``InvalidRequest`` for a query with more than ``MAX_FIELDS`` fields.
    """
    given = event.get("headers") or {}
    headers = {name.lower(): value for name, value in given.items() if isinstance(value, str)}
    raw_body, is_base64 = str(event.get("body") or ""), bool(event.get("isBase64Encoded"))
    raw_query, parsed_query = event.get("rawQueryString"), event.get("queryStringParameters") or {}
    for name in ("body", "rawQueryString", "queryStringParameters", "cookies"):
        event.pop(name, None)
    event["headers"] = {name: value for name, value in given.items() if name.lower() not in _SECRET_HEADERS}
    # The raw query is preferred, as the parsed one joins repeated names with commas.
    query = _form(raw_query) if raw_query else {name: [value] for name, value in parsed_query.items()}
    keys = (*query.get("key", ()), headers.get("x-api-key"), _token(headers))
    http = (event.get("requestContext") or {}).get("http") or {}
    return Request(
        method=_text(http.get("method", "POST")).upper(),
        path=canonical_path(_text(event.get("rawPath")) or "/"),
        request_id=request_id_of(event),
        idempotency_key=_text(headers.get("idempotency-key")) or None,
        content_type=headers.get("content-type", ""),
        query=query,
        _head_key=_first(keys),
        _raw_body=raw_body,
        _is_base64=is_base64,
    )


def request_id_of(event: Any) -> str:
    """Return API Gateway's id of the request in ``event``; empty if there is none."""
    context = event.get("requestContext") if isinstance(event, dict) else None
    return _text(context.get("requestId")) if isinstance(context, dict) else ""


def canonical_path(raw: str) -> str:
    """Return ``raw`` without the ``/eu`` prefix and trailing slashes, which are tolerated; at least ``/``."""
    path = raw.rstrip("/")
    if path == "/eu" or path.startswith("/eu/"):
        path = path.removeprefix("/eu")
    return path or "/"


def _token(headers: Mapping[str, str]) -> str:
    """Return the key of ``Authorization: Token KEY`` (Plate Recognizer's clients) or ``Bearer KEY``."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token if scheme.lower() in ("token", "bearer") else ""


def _first(values: Iterable[object]) -> str | None:
    """Return the first of ``values`` that is text and not empty, or None."""
    return next((text for value in values if (text := _text(value))), None)


def _text(value: object) -> str:
    """Return ``value`` stripped and without lone surrogates, which JSON may contain; "" if it is not text."""
    return without_surrogates(value.strip()) if isinstance(value, str) else ""


def _form(text: str) -> dict[str, list[str]]:
    """Return the fields of a query or of an ``application/x-www-form-urlencoded`` body."""
    fields = text.split("&", MAX_FIELDS)
    if len(fields) > MAX_FIELDS:
        raise InvalidRequest(f"A query or form may have at most {MAX_FIELDS} fields")
    grouped: dict[str, list[str]] = {}
    for field_ in fields:
        name, _, value = (_unescaped(side) for side in field_.partition("="))
        grouped.setdefault(_canonical(name), []).append(value)
    return grouped


def _canonical(name: str) -> str:
    """Return the name in ``FIELDS`` that ``name`` is a variant of, such as ``ImageUrl``; or ``name``."""
    return name if name in FIELDS or len(name) > _LONGEST_NAME else _BY_FOLDED_NAME.get(_folded(name), name)


def _unescaped(text: str) -> str:
    return percent_decoded(text.replace("+", " ")).decode("utf-8", "replace")


# -- the body ------------------------------------------------------------------------------------------------


def _body_fields(content_type: str, body: bytes | str) -> Fields:
    """Return the fields of a body. A bare image, URL or base64 text is a field named ``image``.

    The bytes decide, and the declared type is only a hint: clients send JSON as ``text/plain``, and
    ``curl -d`` declares everything as a form.
    """
    kind = content_type.partition(";")[0].strip().lower()
    head = body[:_HEAD].encode() if isinstance(body, str) else body[:_HEAD]
    if head.startswith((_GZIP, _GZIP_AS_TEXT)):
        return _unpacked(content_type, body)
    if kind == "multipart/form-data" or head.lstrip().startswith(b"--"):
        from carsight_service.http import multipart  # not needed for other bodies

        if boundary := multipart.boundary_of(content_type, head, body):
            return _fields_of_parts(multipart.parts(boundary, _bytes(body)))
    if kind.startswith("image/") and not head.lstrip().startswith(_NO_PICTURE):
        return {"image": [_bytes(body)]}
    try:
        text = body.strip() if isinstance(body, str) else body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return {"image": [body]}
    is_form = kind == "application/x-www-form-urlencoded" or _KNOWN_FORM.match(text)
    if is_form and not text.startswith(("{", "[", '"')):
        form = _form(text)
        # `curl -d` declares everything as a form. A bare URL may have known fields in its query, but not at
        # the beginning.
        if not form.keys().isdisjoint(_IMAGE_FIELDS) or next(iter(form)) in FIELDS:
            for name in form.keys() & set(_IMAGE_FIELDS):
                form[name] = [with_pluses(value) for value in form[name]]
            return dict(form)
        if _UNKNOWN_FORM.match(text):
            return dict(form)
    return _json(text)


def _unpacked(content_type: str, body: bytes | str) -> Fields:
    """Return the fields of a body compressed with gzip, as some clients send all bodies."""
    if isinstance(body, bytes):
        unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16)
        with suppress(zlib.error):
            unpacked = unpacking.decompress(body, _MAX_UNPACKED)
            if unpacking.eof and not unpacked.startswith(_GZIP):
                return _body_fields(content_type, unpacked)
    return {"image": [UnusableSource(_COMPRESSED)]}


def _json(text: str) -> Fields:
    """Return the members of a JSON object. Text that does not begin like JSON is taken for the image."""
    if not text.startswith(("{", "[", '"')):
        return {"image": [text]}
    from carsight_service.http import json_body  # not needed for other bodies

    value = json_body.parse(text, _IMAGE_FIELDS)
    if isinstance(value, dict):
        members = {name: value[name] for name in FIELDS if name in value}
        for name in islice(value, MAX_FIELDS):
            if name not in FIELDS and (canonical := _canonical(name)) in FIELDS:
                members.setdefault(canonical, value[name])
        return {
            name: member[:MAX_FIELDS] if isinstance(member, list) else [member]
            for name, member in members.items()
        }
    return {"image": [value]} if isinstance(value, (str, UnusableSource)) else {}


def _fields_of_parts(parts: Iterable[FormPart]) -> Fields:
    """Return the fields of a form: files as bytes, others as text."""
    fields: dict[str, list[Any]] = {}
    for part in parts:
        name, is_file = _canonical(part.name), part.is_file
        # Clients that send a buffer give no file name, but a photo is never valid text.
        if not is_file and (name in _IMAGE_FIELDS or name not in FIELDS):
            is_file = not _is_text(part.content)
        if part.filename:
            fields.setdefault(_FILE_NAME, []).append(part.filename)
        content = part.content if is_file else part.content.decode("utf-8", "replace")
        fields.setdefault(name, []).append(content)
    return fields


def _bytes(body: bytes | str) -> bytes:
    return body.encode() if isinstance(body, str) else body


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
