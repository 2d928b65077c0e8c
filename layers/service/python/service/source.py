"""Where a request's image is: every dialect that CarsXE's clients speak, on both routes."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """An object in a bucket that the deployment allows."""

    bucket: str
    key: str


ImageSource = UrlSource | BytesSource | Base64Source | S3Source


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
    request_id: str
