"""Where a photo comes from: a URL, an object of a bucket, or the request itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carsight_service.aws.storage import Storage
from carsight_service.contract.api import MAX_IMAGE_BYTES
from carsight_service.contract.errors import ImageTooLarge, InvalidImage, ObjectGone, StoreUnavailable

if TYPE_CHECKING:
    from carsight_service.settings import Settings

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
_LIKE_A_URL = re.compile(r"[.:%?@\\[\]]|^//")
"""Characters of addresses that base64 does not have."""


@dataclass(frozen=True, slots=True)
class UrlSource:
    """An http or https URL, fetched under guard."""

    url: str


@dataclass(frozen=True, slots=True)
class BytesSource:
    """The image itself."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Base64Source:
    """The image as base64, decoded when the request has been paid for."""

    text: str
    data: bytes | None = field(default=None, repr=False, compare=False)
    """What it stands for, where that is known already."""


@dataclass(frozen=True, slots=True)
class S3Source:
    """An object of a bucket, which the deployment must allow."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class UnusableSource:
    """What stands in an image's place and cannot be one; ``detail`` is what the caller is told."""

    detail: str


ImageSource = UrlSource | BytesSource | Base64Source | S3Source | UnusableSource

_PIECE = 65_536
"""Bytes that are unescaped at a time: two million escapes at once take 150 MB."""
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_DIGITS = "0123456789ABCDEFabcdef"
_BYTES = {(a + b).encode(): bytes.fromhex(a + b) for a in _DIGITS for b in _DIGITS}


def percent_decoded(text: str) -> bytes:
    """``text`` with its ``%xx`` as the bytes that they stand for (RFC 3986).

    As ``urllib.parse`` does it, in a quarter of its memory where there are very many.
    """
    data, parts, at = text.encode("utf-8", "replace"), [], 0
    while at < len(data):
        end = at + _PIECE
        while end < len(data) and b"%" in data[end - 2 : end]:  # not within an escape
            end += 1
        parts.append(_ESCAPE.sub(lambda escape: _BYTES[escape[1]], data[at:end]))
        at = end
    return b"".join(parts)


def image_source(value: object) -> ImageSource | None:
    """Return what ``value`` points at, None where there is nothing."""
    if value is None or isinstance(value, (UnusableSource, Base64Source)):
        return value
    if isinstance(value, bytes):
        return BytesSource(value) if value else None
    if not isinstance(value, str):
        return UnusableSource("The image has to be text: an http or https URL, or base64.")
    text = value.strip()
    scheme = text[:8].lower()
    if scheme.startswith(("http://", "https://")):
        return UrlSource(text)
    if scheme.startswith("s3://"):
        bucket, _, key = text[len("s3://") :].partition("/")
        return S3Source(bucket, key)
    if scheme.startswith("data:"):
        description, _, data = text.partition(",")
        return (
            Base64Source(data)
            if description.lower().endswith(";base64")
            else BytesSource(percent_decoded(data))
        )
    return Base64Source(text) if text else None


_DATA_URI = re.compile(r"data:[a-z0-9/;=.+-]*;base64,", re.IGNORECASE)


def decoded_source(text: str) -> Base64Source | None:
    """Return ``image_source(text)`` where that is nothing but base64, decoded already.

    None for anything else: other characters than those of base64, but for a plain ``data:...;base64,`` before
    them, or not as many as come of whole bytes.
    """
    head = _DATA_URI.match(text, 0, 100)
    packed = text[head.end() :] if head else text
    try:
        return Base64Source(packed, b64decode(packed))
    except ValueError:
        return None


def b64decode(text: str) -> bytes:
    """Decode ``text``, whole groups of four of base64 and nothing else; ``ValueError`` for anything else."""
    import pybase64  # the account function reads no photos, and does without

    return pybase64.b64decode(text, validate=True)


class ImageLoader:
    """Brings the bytes of an image, whatever its source; safe to share between threads."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage

    def load(self, source: ImageSource) -> bytes:
        """Load the bytes of the image, at most 10 MB; whether they are an image is not known yet.

        Raises ``InvalidImage`` for what is not base64, may not be fetched or is not there, ``ImageTooLarge``.
        """
        match source:
            case UrlSource(url):
                from carsight_service.aws.fetch import fetch  # most photos come with their request

                return fetch(url, loopback=self._settings.local_fetch)
            case S3Source(bucket, key):
                return self._object(bucket, key)
            case Base64Source(text, data):
                return _bounded(_decoded(text) if data is None else data)
            case BytesSource(data):
                return _bounded(data)
            case UnusableSource(detail):
                raise InvalidImage(detail=detail)

    def _object(self, bucket: str, key: str) -> bytes:
        if bucket not in self._settings.allowed_buckets or not key:
            raise InvalidImage("bucket not allowed, or no object named")
        try:
            return self._storage.read_photo(bucket, key).data
        except (ObjectGone, StoreUnavailable) as error:
            raise InvalidImage(error.note) from error


_BLANKS = " \t\n\r\v\f"


def _decoded(text: str) -> bytes:
    """Return ``text`` as base64: either alphabet, in lines or not, with its padding or without."""
    packed = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return _unpacked(packed)
    except ValueError:
        packed = packed.translate(dict.fromkeys(map(ord, _BLANKS))).rstrip("=")
    try:
        return _unpacked(packed)
    except ValueError as error:
        raise InvalidImage("not base64", detail=_mistake(packed)) from error


def _unpacked(packed: str) -> bytes:
    return b64decode(packed + "=" * (-len(packed) % 4))


def _mistake(packed: str) -> str:
    """Return what is wrong with ``packed`` base64; nothing where it may have been meant as a URL.

    Whatever is refused as a URL is refused alike, of which kind it may be.
    """
    if packed.startswith("\ufffd"):
        return (
            "The image's bytes were sent as text, which has destroyed them; send a file, or their base64. "
            "A form takes a Blob or a File where a Buffer becomes text."
        )
    if _LIKE_A_URL.search(packed):
        return ""
    if wrong := _NOT_BASE64.search(packed):
        return (
            f"The base64 is broken at its character {wrong.start() + 1}, blanks not counted; encode the "
            "image's bytes again, or send them as they are."
        )
    return f"The base64 ends early: {len(packed)} characters are no whole number of bytes. Was it cut short?"


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageTooLarge(
            detail=f"The image has {len(data):,} bytes, {len(data) - MAX_IMAGE_BYTES:,} more than the limit; "
            "2,000 pixels a side are enough."
        )
    return data
