"""Where a photo comes from: a URL, an object of a bucket, or the request itself."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from carsight_service.aws.fetch import fetch
from carsight_service.aws.storage import Storage
from carsight_service.contract.api import MAX_IMAGE_BYTES
from carsight_service.contract.errors import ImageTooLarge, InvalidImage, ObjectGone, StoreUnavailable
from carsight_service.settings import Settings


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


@dataclass(frozen=True, slots=True)
class S3Source:
    """An object of a bucket, which the deployment must allow."""

    bucket: str
    key: str


ImageSource = UrlSource | BytesSource | Base64Source | S3Source


def image_source(value: object) -> ImageSource | None:
    """What ``value`` points at, None where there is nothing; a value of another type points at no image."""
    if isinstance(value, bytes):
        return BytesSource(value) if value else None
    if not isinstance(value, str):
        return BytesSource(b"") if value is not None else None
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
            else BytesSource(unquote_to_bytes(data))
        )
    return Base64Source(text) if text else None


class ImageLoader:
    """Brings the bytes of an image, whatever its source; safe to share between threads."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage

    def load(self, source: ImageSource) -> bytes:
        """The bytes of the image, at most 10 MB of them; whether they are an image is not known yet.

        Raises ``InvalidImage`` for what is not base64, may not be fetched or is not there, ``ImageTooLarge``.
        """
        match source:
            case UrlSource(url):
                return fetch(url, loopback=self._settings.local_fetch)
            case S3Source(bucket, key):
                return self._object(bucket, key)
            case Base64Source(text):
                return _bounded(_decoded(text))
            case BytesSource(data):
                return _bounded(data)

    def _object(self, bucket: str, key: str) -> bytes:
        if bucket not in self._settings.allowed_buckets or not key:
            raise InvalidImage("bucket not allowed, or no object named")
        try:
            return self._storage.read_photo(bucket, key).data
        except (ObjectGone, StoreUnavailable) as error:
            raise InvalidImage(error.note) from error


def _decoded(text: str) -> bytes:
    """``text`` as base64: either alphabet, broken into lines or not, with its padding or without."""
    packed = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidImage("not base64") from error


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageTooLarge
    return data
