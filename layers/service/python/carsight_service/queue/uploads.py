"""A photo lands in the uploads bucket, its reading lands in the results bucket.

    incoming/<key id>/<plate|vin>/<name>   ->   <key id>/<plate|vin>/<name>.json

The unit is charged to the key of the path under the same limits as a call, and what a call would have been
refused with is written as the result. S3 and SQS may announce one photo several times: it is read, charged
and answered once. In the order in which a worker may die, and what the next delivery finds:

    lease taken          the lease runs out, and everything is done anew
    unit counted         its ticket is in the meter: not counted again
    result written       written again, the same
    reading announced    announced again under the same delivery id
    lease completed      nothing to do but to take the ticket out of the meter
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import unquote_plus

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, Field

from carsight_service.aws.clients import s3
from carsight_service.contract.api import Api
from carsight_service.contract.errors import (
    ImageTooLarge,
    InvalidRequest,
    ObjectGone,
    Outcome,
    ServiceError,
    StoreUnavailable,
    envelope,
)
from carsight_service.deadline import within
from carsight_service.http.endpoint import Recognise, read
from carsight_service.images import MAX_IMAGE_BYTES
from carsight_service.metering.meter_store import KeyStore
from carsight_service.notify.subscribers import Webhooks
from carsight_service.notify.webhooks import announce
from carsight_service.queue.leases import Leases
from carsight_service.settings import settings
from carsight_service.telemetry import logger, record, stage, timed

INCOMING = "incoming/"
"""What the bucket announces; nothing else in it is looked at."""

OFFER_SECONDS = 300
"""How long a presigned upload may be used."""

RESULT_SECONDS = 3600
"""How long the address of a result may be used."""

_PATH = re.compile(rf"{INCOMING}([0-9a-f]{{64}})/({'|'.join(Api)})/(.+)", re.DOTALL)
_GONE = {"NoSuchKey", "NoSuchVersion", "404", "PreconditionFailed", "412", "MethodNotAllowed", "405"}
"""S3's errors for an object deleted, replaced by another, or hidden behind a delete marker."""

LEASE_MARGIN_SECONDS = 15.0
"""How much longer than there is time for the work a lease lasts: a function may overrun until it is killed,
and the clocks of two machines may differ."""

READ_SECONDS = 25.0
"""What loading and reading one photo may take."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One object of the uploads bucket, as S3 announces it."""

    bucket: str
    key: str
    version: str | None
    """Version id, where the bucket is versioned."""
    etag: str
    size: int
    sequencer: str
    """Orders events of one key; longer or later in the alphabet is later."""
    time: str
    """When S3 took the object: ISO 8601, UTC."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Upload:
        """The upload of one record of an S3 event notification. Raises ``KeyError`` where it is none."""
        item = record["s3"]["object"]
        return cls(
            bucket=record["s3"]["bucket"]["name"],
            key=unquote_plus(item["key"]),
            version=item.get("versionId"),
            etag=item.get("eTag", ""),
            size=item.get("size", 0),
            sequencer=item.get("sequencer", ""),
            time=record["eventTime"],
        )

    @property
    def api(self) -> Api | None:
        """The API that the path asks for; None for an object that lies elsewhere."""
        path = _PATH.fullmatch(self.key)
        return Api(path[2]) if path else None

    @property
    def key_id(self) -> str:
        """The id of the key to charge, empty for an object that lies elsewhere."""
        path = _PATH.fullmatch(self.key)
        return path[1] if path else ""

    @property
    def identity(self) -> str:
        """Tells this object from others under its name; two uploads of the same bytes may be one."""
        return self.version or self.etag

    @property
    def result_key(self) -> str:
        """Where the reading goes; an object that lies elsewhere has no key to put it beside."""
        if self.api is None:
            return f"misplaced/{hashlib.sha256(self.key.encode()).hexdigest()}.json"
        return f"{self.key.removeprefix(INCOMING)}.json"

    def ticket(self, identity: str) -> str:
        """What counts the reading of ``identity`` under this upload's name, once; also its request id."""
        text = "\n".join((self.bucket, self.key, identity))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def upload_prefix(key_id: str) -> str:
    """Where the objects of one key lie in the uploads bucket."""
    return f"{INCOMING}{key_id}/"


def read_object(bucket: str, key: str, version: str | None = None, etag: str | None = None) -> bytes:
    """The bytes of an object, never more than a photo may have.

    Raises ``ObjectGone`` where it is not there any more or (by ``etag``) not the same any more,
    ``ImageTooLarge``, or botocore's errors: the bucket is ours, and what else goes wrong is our fault.
    """
    which: Any = {"Bucket": bucket, "Key": key}
    if version:
        which["VersionId"] = version
    elif etag:
        which["IfMatch"] = f'"{etag}"'
    try:
        answer = s3().get_object(**which)
    except ClientError as error:
        if error.response["Error"]["Code"] in _GONE:
            raise ObjectGone(error.response["Error"]["Code"]) from error
        raise
    with answer["Body"] as body:
        if answer["ContentLength"] > MAX_IMAGE_BYTES:
            raise ImageTooLarge
        return body.read()


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one image: the contract's answer, or its envelope."""

    status: int
    body: dict[str, Any]
    timings: dict[str, float]
    """Milliseconds by stage, ``total`` among them."""


class Reader:
    """From a key's id and an image to the contract's answer, as in the endpoint but known by a ticket."""

    def __init__(self, api: Api, recognise: Recognise, store: KeyStore) -> None:
        self.api = api
        self.store = store
        self._recognise = recognise

    def read(
        self, key_id: str, ticket: str, request_id: str, load: Callable[[], bytes], seconds: float
    ) -> Result:
        """Count a unit, read the image and say what came of it; anything but a 200 gives the unit back.

        Answers below 500 are outcomes. What is our fault is raised: a ``ServiceError`` of 500 or more, or
        whatever nobody expected.
        """
        start = time.perf_counter()
        said: dict[str, Any] = {"request_id": request_id, "route": "queue"}
        outcome = Outcome.READ
        with timed() as stages:
            try:
                status, body = 200, self._paid(key_id, ticket, request_id, load, seconds, said)
            except Exception as error:
                if not isinstance(error, ServiceError) or error.status >= 500:
                    record(self.api, Outcome.FAULT, stages, {**said, "reason": type(error).__name__})
                    raise
                status, body = error.status, envelope(error, request_id)
                outcome = error.outcome
                said |= {"code": error.code, "detail": error.note}
        stages["total"] = (time.perf_counter() - start) * 1000
        record(self.api, outcome, stages, {**said, "status": status})
        return Result(status, body, {name: round(value, 3) for name, value in stages.items()})

    def _paid(
        self,
        key_id: str,
        ticket: str,
        request_id: str,
        load: Callable[[], bytes],
        seconds: float,
        said: dict[str, Any],
    ) -> dict[str, Any]:
        with stage("keys"):
            try:
                usage = self.store.consume_by_id(key_id, self.api, ticket)
            except StoreUnavailable:
                # The unit may have been counted, and only the answer lost.
                with suppress(StoreUnavailable):
                    self.store.refund(key_id, self.api, ticket)
                raise
        said |= {"tier": usage.tier, "key": usage.prefix}
        try:
            return within(seconds, lambda: read(load, self._recognise, (), request_id))
        except Exception:
            with stage("keys"):
                self.store.refund(key_id, self.api, ticket)
            raise


class Uploads:
    """Reads uploads of one API; one per process, safe to share between threads."""

    def __init__(self, reader: Reader, leases: Leases, webhooks: Webhooks) -> None:
        self._reader = reader
        self._leases = leases
        self._webhooks = webhooks

    def process(self, upload: Upload, seconds: float) -> None:
        """Read ``upload`` and put its result beside those of its key; nobody else will for ``seconds``.

        Raises ``Busy`` where another delivery is at it, and whatever is our fault: it is to be tried again.
        """
        ticket = upload.ticket(upload.identity)
        if upload.api is None:
            error = InvalidRequest(f"Uploads lie at {INCOMING}<key id>/<{'|'.join(Api)}>/<name>")
            self._write(upload, Result(error.status, envelope(error, ticket), {}))
            return
        lease = self._leases.take(
            f"{upload.bucket}/{upload.key}",
            upload.identity,
            seconds + LEASE_MARGIN_SECONDS,
            upload.sequencer,
        )
        if lease is None:
            logger.info("upload done before", extra={"request_id": ticket})
            self._reader.store.settle(upload.key_id, upload.api, [ticket])
            return
        try:
            if lease.displaced:
                # Its worker died with the unit counted, and its photo has been replaced since.
                self._reader.store.refund(upload.key_id, upload.api, upload.ticket(lease.displaced))
            result = self._reader.read(
                upload.key_id, ticket, ticket, lambda: self._load(upload), READ_SECONDS
            )
            document = self._write(upload, result)
            announce("carsight.reading", upload.key_id, ticket, document, self._webhooks)
        except Exception:
            with suppress(BotoCoreError, ClientError):
                self._leases.abandon(lease)
            raise
        self._leases.complete(lease)
        if result.status == 200:
            self._reader.store.settle(upload.key_id, upload.api, [ticket])

    def _load(self, upload: Upload) -> bytes:
        if upload.size > MAX_IMAGE_BYTES:
            raise ImageTooLarge
        return read_object(upload.bucket, upload.key, upload.version, upload.etag)

    def _write(self, upload: Upload, result: Result) -> dict[str, Any]:
        """The result: the answer, and what it is an answer to."""
        waited = datetime.now(UTC) - datetime.fromisoformat(upload.time)
        document = {
            **result.body,
            "status": result.status,
            "api": upload.api,
            "bucket": upload.bucket,
            "key": upload.key,
            "version": upload.version,
            "etag": upload.etag,
            "size": upload.size,
            "uploaded": upload.time,
            "timings": {**result.timings, "since_upload": round(waited.total_seconds() * 1000, 3)},
            "result": {"bucket": results_bucket(), "key": upload.result_key},
        }
        s3().put_object(
            Bucket=results_bucket(),
            Key=upload.result_key,
            Body=json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(),
            ContentType="application/json",
        )
        return document


def results_bucket() -> str:
    """The bucket of results. Raises ``RuntimeError`` where none is set, or one that triggers readings."""
    bucket = settings.results_bucket
    if not bucket or bucket == settings.uploads_bucket:
        raise RuntimeError("RESULTS_BUCKET must be set, and not be the uploads bucket")
    return bucket


# -- presigned uploads ---------------------------------------------------------------------------------------


class UploadRequest(BaseModel):
    """The body of ``POST /v1/uploads``."""

    api: Api
    name: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f\\$/][^\x00-\x1f\x7f\\$]*$")
    """What the photo is to be called; with slashes, if it pleases. The result has the same name. S3 gives the
    dollar sign a meaning in forms."""
    content_type: str = Field(default="image/jpeg", max_length=100, pattern=r"^image/[a-z0-9.+-]+$")


class UploadOffer(BaseModel):
    """What ``POST /v1/uploads`` answers: a form to send the photo with, and where its reading will be."""

    success: Literal[True] = True
    url: str
    fields: dict[str, str]
    """To be sent before the field ``file``."""
    max_bytes: int = MAX_IMAGE_BYTES
    expires_in: int = OFFER_SECONDS
    """Seconds."""
    result: str
    """Address of the result, for an hour: 403 or 404 until the photo has been read."""
    request_id: str


def offer(key_id: str, wanted: UploadRequest, request_id: str) -> UploadOffer:
    """A presigned POST for exactly one object, and the address of its result. Nothing is counted yet.

    Raises ``InvalidRequest`` where the name does not fit into a key of S3's (1,024 bytes of UTF-8).
    """
    key = f"{upload_prefix(key_id)}{wanted.api}/{wanted.name}"
    if len(key.encode("utf-8", "surrogatepass")) > 1024:
        raise InvalidRequest("name is too long")
    form = s3().generate_presigned_post(
        Bucket=settings.uploads_bucket or "",
        Key=key,
        Fields={"Content-Type": wanted.content_type},
        Conditions=[
            {"Content-Type": wanted.content_type},
            ["content-length-range", 1, MAX_IMAGE_BYTES],
        ],
        ExpiresIn=OFFER_SECONDS,
    )
    result = s3().generate_presigned_url(
        "get_object",
        Params={"Bucket": results_bucket(), "Key": f"{key.removeprefix(INCOMING)}.json"},
        ExpiresIn=RESULT_SECONDS,
    )
    return UploadOffer(url=form["url"], fields=form["fields"], result=result, request_id=request_id)
