"""The buckets of uploaded photos, and of the readings of uploads and batches.

uploads bucket   incoming/<account id>/<plate|vin>/<name>
results bucket   <account id>/<plate|vin>/<name>.json
                 <account id>/batches/<batch id>/...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from carsight_service.aws.clients import Clients
from carsight_service.aws.failures import THROTTLED, failure
from carsight_service.contract.api import MAX_IMAGE_BYTES, region_codes
from carsight_service.contract.errors import ImageTooLarge, InvalidRequest, ObjectGone, StoreUnavailable

if TYPE_CHECKING:
    from carsight_service.settings import Settings

INCOMING = "incoming/"
"""The prefix under which the uploads bucket announces objects; others are ignored."""

MAX_KEY_BYTES = 1024
"""The longest object key of S3, in UTF-8."""

RESULT_SECONDS = 3600
"""How long the address of a result is valid."""

_MISSING = {"NoSuchKey", "NoSuchBucket", "AccessDenied"}
"""S3's errors for a missing list: the last one if the caller may not list the bucket's keys."""

_TEMPORARY = {"ExpiredToken", "RequestTimeout", "RequestTimeTooSkewed", *THROTTLED}
"""S3's errors, answered with 400 and 403, that say nothing of the list: the call may be repeated."""

_GONE = {
    *("NoSuchKey", "NoSuchVersion", "404"),
    *("PreconditionFailed", "412", "MethodNotAllowed", "405"),
    "KeyTooLongError",
}
"""S3's errors for an object deleted, replaced, hidden behind a delete marker, or whose key cannot exist."""


def upload_prefix(account: str) -> str:
    """Return the prefix of an account's objects in the uploads bucket."""
    return f"{INCOMING}{account}/"


@contextmanager
def reading_list(name: str) -> Iterator[None]:
    """Raise S3's errors in the block as ``InvalidRequest`` (the list is refused) or ``StoreUnavailable``."""
    try:
        yield
    except Exception as error:
        failed = failure(error)
        if not failed.is_answered or failed.code in _TEMPORARY:
            raise StoreUnavailable(failed.code) from error
        why = "it does not exist, or may not be read" if failed.code in _MISSING else failed.code
        raise InvalidRequest(f"{name} cannot be read: {why}") from error


class StoredPhoto(NamedTuple):
    """An object with a photo."""

    data: bytes
    regions: tuple[str, ...]
    """Region codes from its metadata ``regions``, which are comma-separated there."""


class Storage:
    """The buckets of one deployment, safe to share between threads."""

    def __init__(self, settings: Settings, aws: Clients) -> None:
        self._settings = settings
        self._aws = aws

    @property
    def uploads_bucket(self) -> str:
        """The bucket of uploads; empty if the deployment has none."""
        return self._settings.uploads_bucket or ""

    def is_upload(self, bucket: str, key: str) -> bool:
        """Whether an object is an upload, which belongs to an account."""
        return bucket == self.uploads_bucket and key.startswith(INCOMING)

    @property
    def results_bucket(self) -> str:
        """The bucket of results. Raises ``RuntimeError`` if it is unset, or the bucket of uploads."""
        bucket = self._settings.results_bucket
        if not bucket or bucket == self._settings.uploads_bucket:
            raise RuntimeError("RESULTS_BUCKET must be set, and not be the uploads bucket")
        return bucket

    def read_photo(
        self, bucket: str, key: str, version: str | None = None, etag: str | None = None
    ) -> StoredPhoto:
        """Read an object of at most ``MAX_IMAGE_BYTES``.

        Raises ``ObjectGone`` if it does not exist any more or, by ``etag``, has been replaced,
        ``ImageTooLarge``, and ``StoreUnavailable`` for any other failure.
        """
        try:
            encoded = key.encode()
        except UnicodeEncodeError:  # JSON may contain lone surrogates
            raise ObjectGone("key is no text") from None
        if not 0 < len(encoded) <= MAX_KEY_BYTES:
            raise ObjectGone("no key, or one that is too long")
        which: Any = {"Bucket": bucket, "Key": key}
        if version:
            which["VersionId"] = version
        elif etag:
            which["IfMatch"] = f'"{etag}"'
        try:
            answer: Any = self._aws.photos.get_object(**which)
            body = answer["Body"]
            with body:  # without "as", which would give botocore's underlying stream, without its checks
                data = body.read() if answer["ContentLength"] <= MAX_IMAGE_BYTES else b""
        except Exception as error:
            code = failure(error).code
            if code in _GONE:
                raise ObjectGone(code) from error
            raise StoreUnavailable(f"object not readable: {code}") from error
        if answer["ContentLength"] > MAX_IMAGE_BYTES:
            raise ImageTooLarge
        return StoredPhoto(data, region_codes([answer["Metadata"].get("regions", "")]))

    def write_result(self, key: str, body: bytes, content_type: str = "application/json") -> None:
        """Write an object into the results bucket. Raises ``StoreUnavailable``."""
        bucket = self.results_bucket
        try:
            self._aws.s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)
        except Exception as error:
            raise StoreUnavailable(f"object not written: {failure(error).code}") from error

    def result_url(self, key: str) -> str:
        """Return an address of an object in the results bucket that is valid for an hour."""
        return self._aws.s3.generate_presigned_url(
            "get_object",
            Params={"Bucket": self.results_bucket, "Key": key},
            ExpiresIn=RESULT_SECONDS,
        )
