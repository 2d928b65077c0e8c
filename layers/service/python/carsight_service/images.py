"""Where a photo comes from: a URL, an object of a bucket, or the request itself."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from carsight_service.aws.failures import failure
from carsight_service.aws.storage import Storage
from carsight_service.contract.api import MAX_IMAGE_BYTES
from carsight_service.contract.errors import ImageTooLarge, InvalidImage, ObjectGone, StoreUnavailable

if TYPE_CHECKING:
    from carsight_service.settings import Settings

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
_LIKE_A_URL = re.compile(r"[a-z][a-z0-9+.-]+(?::|%3a)|//|\[[0-9a-f:.]*\]|[^\s/\\]*[.:]", re.IGNORECASE)
"""Beginnings of URLs and hosts: a scheme, slashes, an address in brackets, or a name with dots or a port."""

_LIKE_A_PATH = re.compile(r"[a-z]:[/\\]|(?:\.{0,2}|~)/(?!/).*\.\w{3,4}$|@\w+\.\w{3,4}$", re.IGNORECASE)
"""A path on the caller's machine, possibly after an @, which curl resolves only in some options."""

_WRAPPED = re.compile(r"(?:b?['\"])?((?:[a-z0-9:/;=.+-]{0,100}base64[,:;]\s*)*)", re.IGNORECASE)
"""What clients leave before base64: the quotes of Python's ``b'...'``, or parts of a data URI."""

_ESCAPED = re.compile(r"\\[nrt]|%(?:2b|2f|3d|0a|0d)", re.IGNORECASE)
_TEXT_OF_BASE64 = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:b?['\"])?(?:data:[^,]{0,100},\s*|[a-z0-9:/;=.+-]{0,100}base64[,:;]\s*)*+"
    rb"(?:[A-Za-z0-9+/_-]|\\/|%2[bf]){60}",
    re.IGNORECASE,
)
"""The beginning of base64 sent as text. The repetition is possessive, as backtracking would try very many
ways to divide the same beginning."""
_LIKE_A_DOCUMENT = re.compile(r"[<{]|%PDF|[^\x00-\x08\x0e-\x1f]{0,16}[\x00-\x08\x0e-\x1f]")


class UrlSource(NamedTuple):
    """An http or https URL, which ``aws.fetch`` fetches from public addresses only."""

    url: str


class BytesSource(NamedTuple):
    """The image itself."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Base64Source:
    """The image as base64, decoded once the key has been checked."""

    text: str
    data: bytes | None = field(default=None, repr=False, compare=False)
    """The decoded bytes, if already known."""


class S3Source(NamedTuple):
    """An object in a bucket, which the deployment has to allow."""

    bucket: str
    key: str


class UnusableSource(NamedTuple):
    """A value that cannot be an image; ``detail`` tells the caller why."""

    detail: str


ImageSource = UrlSource | BytesSource | Base64Source | S3Source | UnusableSource

_PIECE = 65_536
"""How many bytes are unescaped at a time: two million escapes at once would take 150 MB."""


def percent_decoded(text: str) -> bytes:
    """Return ``text`` with each ``%xx`` decoded (RFC 3986).

    The result is that of ``urllib.parse``, with a quarter of the memory if there are very many escapes.
    """
    data, parts, at = text.encode("utf-8", "replace"), [], 0
    while at < len(data):
        end = at + _PIECE
        if end < len(data) and (escape := data.rfind(b"%", end - 2, end)) >= 0:
            end = escape  # do not cut an escape
        parts.append(unquote_to_bytes(data[at:end]))
        at = end
    return b"".join(parts)


_INVISIBLE = "\ufeff\u200b"
"""Invisible characters around text that was read from a file or copied from a page."""
_NO_VALUE = ("null", "undefined", "None")
"""What programs write into a field for which they have no value."""


def image_source(value: object) -> ImageSource | None:
    """Return the source that ``value`` describes; None if it is empty."""
    if value is None or isinstance(value, (UnusableSource, Base64Source)):
        return value
    if isinstance(value, bytes):
        return BytesSource(value) if value else None
    if not isinstance(value, str):
        return UnusableSource("The image must be text: an http or https URL, or base64.")
    text = value.strip().lstrip(_INVISIBLE).rstrip(_INVISIBLE + "\0")  # C programs may send a final NUL
    if text in _NO_VALUE:
        return UnusableSource(f'The image is the text "{text}": the program that sent it had no image.')
    scheme = text[:8].lower()
    if scheme.startswith(("http://", "https://")):
        return UrlSource(text)
    if scheme.startswith("s3://"):
        bucket, _, key = text[len("s3://") :].partition("/")
        return S3Source(bucket, key)
    if scheme.startswith("data:") and "," in text:
        description, _, data = text.partition(",")
        return (
            Base64Source(data)
            if description.lower().endswith(";base64")
            else BytesSource(percent_decoded(data))
        )
    return Base64Source(text) if text else None


_DATA_URI = re.compile(r"data:[a-z0-9/;=.+-]*;base64,", re.IGNORECASE)


def decoded_source(text: str) -> Base64Source | None:
    """Return ``image_source(text)``, already decoded, if ``text`` is nothing but base64.

    A plain ``data:...;base64,`` may precede it. None for any other characters and for incomplete groups.
    """
    head = _DATA_URI.match(text, 0, 100)
    packed = text[head.end() :] if head else text
    try:
        return Base64Source(packed, b64decode(packed))
    except ValueError:
        return None


def b64decode(text: str) -> bytes:
    """Decode ``text``, complete groups of base64 and nothing else. Raises ``ValueError`` otherwise."""
    import pybase64  # the account function reads no photos and does not have it

    return pybase64.b64decode(text, validate=True)


class ImageLoader:
    """Loads the bytes of an image from any source; safe to share between threads."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage

    def load(self, source: ImageSource, *, patient: bool = False) -> bytes:
        """Load the image's bytes, at most 10 MB, without checking whether they are an image.

        If ``patient``, a host that is busy is asked again, as ``aws.fetch.fetch`` does.

        Raises ``InvalidImage`` for bad base64 and for a URL or object that may not be fetched or does not
        exist, ``ImageTooLarge``, and ``StoreUnavailable`` if S3 does not answer.
        """
        match source:
            case UrlSource(url):
                return self._fetched(url, patient)
            case S3Source(bucket, key):
                return self._object(bucket, key)
            case Base64Source(text, data):
                return _bounded(_without_base64(_decoded(text) if data is None else data))
            case BytesSource(data):
                return _bounded(_without_base64(data))
            case UnusableSource(detail):
                raise InvalidImage(detail=detail)

    def _fetched(self, url: str, patient: bool) -> bytes:
        from carsight_service.aws.fetch import UrlRefused, fetch  # most photos are in the request itself

        try:
            return fetch(url, loopback=self._settings.local_fetch, patient=patient)
        except UrlRefused as error:
            raise InvalidImage(str(error)) from error

    def _object(self, bucket: str, key: str) -> bytes:
        if bucket not in self._settings.allowed_buckets or not key:
            raise InvalidImage("bucket not allowed, or no object named")
        if self._storage.is_upload(bucket, key):
            # The upload may belong to another account, even if the bucket is listed.
            raise InvalidImage("an upload, which is read where it lands")
        try:
            return self._storage.read_photo(bucket, key).data
        except (ObjectGone, StoreUnavailable) as error:
            if isinstance(error.__cause__, Exception) and not failure(error.__cause__).is_answered:
                raise  # the object may exist nevertheless
            raise InvalidImage(error.note) from error


_LONGEST_PATH = 300
_LONG_TEXT = 1000
"""Text at least this long is treated as a picture's base64, in which one character in 64 is a plus."""

_SHORT_TEXT = 100
"""Shorter text is not a whole picture's base64."""

_PICTURES = ("/9j/", "iVBOR", "UklGR", "R0lGOD", "Qk", "AAAA", "SUkq", "TU0A")
"""Beginnings of the base64 of pictures."""


def _decoded(text: str) -> bytes:
    """Decode base64 in either alphabet, with or without line breaks and padding.

    Wrapping and escapes that clients add by mistake are removed if base64 remains. A document sent as text is
    returned as bytes, so that the decoder can say what it is.
    """
    packed = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return _unpacked(packed)
    except ValueError:
        packed = packed.strip()
        packed = with_pluses(packed) if len(packed) >= _LONG_TEXT else packed
        packed = _without_blanks(packed).rstrip("=")
    try:
        return _unpacked(packed)
    except ValueError as error:
        if (bare := _bare(text)) != text:
            with suppress(ValueError):
                return _unpacked(bare)
        if text.startswith(_BINARY_STRINGS):
            with suppress(UnicodeEncodeError):
                return text.encode("latin-1")
        if "\ufffd" not in text[:64] and _LIKE_A_DOCUMENT.match(text):
            return text.encode("utf-8", "replace")
        raise InvalidImage("not base64", detail=_mistake(packed)) from error


def _without_blanks(text: str) -> str:
    # `translate` would take forty times as long as these six passes if a character is not ASCII.
    for blank in " \t\n\r\v\f":
        text = text.replace(blank, "")
    return text


def with_pluses(text: str) -> str:
    """Restore the pluses that a form has turned into blanks, unless the blanks separate lines.

    Lines have equal lengths, whereas pluses are anywhere in a picture's base64.
    """
    width = text.find(" ") + 1
    if not width or "\n" in text:
        return text
    ends = text[width - 1 :: width]
    if len(ends) > 1 and ends.isspace():
        return text
    return text.replace(" ", "+")


def _unpacked(packed: str) -> bytes:
    return b64decode(packed + "=" * (-len(packed) % 4))


def _bare(text: str) -> str:
    """Return ``text`` unescaped, and without anything wrapped around its base64."""
    wrapped = _WRAPPED.match(text)
    bare = text[wrapped.end() if wrapped else 0 :].rstrip("'\"")
    if _ESCAPED.search(bare):
        bare = percent_decoded(re.sub(r"\\[nrt]", "", bare)).decode("utf-8", "replace")
    bare = bare.replace("\\/", "/").replace("-", "+").replace("_", "/")
    return _without_blanks(bare).rstrip("=")


def _without_base64(data: bytes) -> bytes:
    """Return ``data``, a body or a form's file, decoded if it is base64 text."""
    if data.startswith(_REPLACED):
        raise InvalidImage("bytes sent as text", detail=_DESTROYED)
    try:
        if data.startswith(_WIDENED):
            return data.decode().encode("latin-1")
        if _TEXT_OF_BASE64.match(data, 0, 400):
            source = image_source(data.decode("utf-8-sig"))
            return _decoded(source.text) if isinstance(source, Base64Source) else data
    except (UnicodeError, InvalidImage):
        pass
    return data


_REPLACED = "\ufffd".encode()
_BINARY_STRINGS = ("\xff\xd8\xff", "\x89PNG\r\n\x1a\n")
"""Beginnings of JPEG and PNG in which each byte has become the character with its number, as in a browser's
binary strings. Neither format ends with a byte that stripping blanks would remove."""
_WIDENED = tuple(text.encode() for text in _BINARY_STRINGS)
"""The same, encoded as UTF-8."""
_DESTROYED = (
    "The image's bytes were sent as text, which has destroyed them. Send a file, or the bytes as base64. "
    "In a form, use a Blob or a File: a Buffer becomes text."
)


def _mistake(packed: str) -> str:
    """Return what is wrong with ``packed`` base64, or "" if it may have been meant as a URL.

    All refused URLs get the same answer, including text that only looks like one.
    """
    if "\ufffd" in packed[:64]:
        return _DESTROYED
    if len(packed) < _LONGEST_PATH and _LIKE_A_PATH.match(packed):
        return (
            "This is the path of a file on your machine, which the service cannot open. Send the file "
            "itself, its base64, or a URL that begins with http:// or https://."
        )
    if _LIKE_A_URL.match(packed, 0, _LONGEST_PATH):
        return ""
    if len(packed) < _SHORT_TEXT and not packed.startswith(_PICTURES):
        return (
            f"These {len(packed)} characters are neither a URL, which begins with http:// or https://, nor "
            "an image as base64."
        )
    if wrong := _NOT_BASE64.search(packed):
        return (
            f"The base64 is invalid at character {wrong.start() + 1}, not counting blanks. Encode the "
            "image's bytes again, or send them as they are."
        )
    return f"The base64 is incomplete: {len(packed)} characters do not make whole bytes. Was it cut off?"


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageTooLarge(
            detail=f"The image has {len(data):,} bytes, {len(data) - MAX_IMAGE_BYTES:,} more than the limit. "
            "2,000 pixels on the longer side are enough."
        )
    return data
