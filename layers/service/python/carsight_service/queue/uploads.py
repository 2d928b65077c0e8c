"""Reading photos from the uploads bucket, and writing their readings to the results bucket.

    incoming/<key id>/<plate|vin>/<name>   ->   <key id>/<plate|vin>/<name>.json

The unit is charged to the key in the path under the same limits as a call, and a refusal is written as the
result. S3 and SQS may announce a photo several times, but it is read, charged and answered once. If a worker
dies after one of these steps, the next delivery finds:

    lease taken          the lease expires, and everything is done again
    unit counted         its ticket is in the meter: not counted again
    result written       the same result is written again
    reading announced    announced again with the same delivery id
    lease completed      only the ticket has to be removed from the meter
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from carsight_service.aws.storage import INCOMING
from carsight_service.contract.api import MAX_IMAGE_BYTES, Api
from carsight_service.contract.errors import (
    ImageTooLarge,
    InvalidRequest,
    RequestTimedOut,
    envelope,
)
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.leases import Lease, Leases
from carsight_service.queue.messages import S3Record
from carsight_service.queue.retry import TryLater
from carsight_service.reading import ByTicket, Reader, Recognize, Result, Work
from carsight_service.telemetry import logger

if TYPE_CHECKING:
    from carsight_service.deployment import Deployment

_PATH = re.compile(rf"{INCOMING}([0-9a-f]{{64}})/({'|'.join(Api)})/(.+)", re.DOTALL)

READ_SECONDS = 25.0
"""How long loading and reading one photo may take."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One object of the uploads bucket, as S3 announces it."""

    bucket: str
    key: str
    version: str | None
    """Version id, if the bucket is versioned."""
    etag: str
    size: int
    sequencer: str
    """Orders the events of one object key; a longer or alphabetically later one is later."""
    time: str
    """When the object was uploaded: ISO 8601, UTC."""

    @classmethod
    def of(cls, record: S3Record) -> Upload:
        """Return the upload that S3 has announced."""
        item = record.s3.object
        return cls(
            bucket=record.s3.bucket.name,
            key=unquote_plus(item.key),
            version=item.version,
            etag=item.etag,
            size=item.size,
            sequencer=item.sequencer,
            time=record.event_time,
        )

    @property
    def api(self) -> Api | None:
        """The API in the path; None for an object elsewhere."""
        path = _PATH.fullmatch(self.key)
        return Api(path[2]) if path else None

    @property
    def key_id(self) -> str:
        """The id of the key to charge; empty for an object elsewhere."""
        path = _PATH.fullmatch(self.key)
        return path[1] if path else ""

    @property
    def identity(self) -> str:
        """Distinguishes this object from others of its name; uploads of the same bytes may be equal."""
        return self.version or self.etag

    @property
    def result_key(self) -> str:
        """The key of the result; those of objects elsewhere are under ``misplaced/``."""
        if self.api is None:
            return f"misplaced/{hashlib.sha256(self.key.encode()).hexdigest()}.json"
        return f"{self.key.removeprefix(INCOMING)}.json"

    def ticket(self, identity: str) -> str:
        """Return the ticket for reading ``identity`` under this name, which is also the request id."""
        text = "\n".join((self.bucket, self.key, identity))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class UploadProcessor:
    """Reads uploads of one API; one per process, safe to share between threads."""

    deployment: Deployment
    reader: Reader
    recognize: Recognize
    leases: Leases
    announcer: Announcer

    def process(self, upload: Upload, deadline: float) -> None:
        """Read ``upload`` and write its result, under a lease until ``deadline`` (``time.monotonic``).

        Raises ``TryLater`` if another delivery holds the lease, and any fault of the service; the message is
        then delivered again.
        """
        ticket = upload.ticket(upload.identity)
        if upload.api is None:
            error = InvalidRequest(
                f"The object key of an upload must be {INCOMING}<key id>/<{'|'.join(Api)}>/<name>"
            )
            self._write(upload, Result(error.status, envelope(error, ticket, self.deployment.settings)))
            return
        lease = self.leases.take(
            f"{upload.bucket}/{upload.key}",
            upload.identity,
            deadline - time.monotonic(),
            upload.sequencer,
        )
        if lease is None:
            logger.info("upload done before", extra={"request_id": ticket})
            self.deployment.meters.settle(upload.key_id, upload.api, [ticket])
            return
        with self.leases.held(lease):
            result = self._read(upload, upload.api, ticket, lease)
            document = self._write(upload, result)
            self.announcer.announce("carsight.reading", upload.key_id, ticket, document)
        if result.status == 200:
            self.deployment.meters.settle(upload.key_id, upload.api, [ticket])

    def give_up(self, upload: Upload) -> None:
        """Refund the unit if a worker has counted it and died."""
        if upload.api is not None:
            self.deployment.meters.refund(upload.key_id, upload.api, upload.ticket(upload.identity))

    def _read(self, upload: Upload, api: Api, ticket: str, lease: Lease) -> Result:
        """Read an upload and count it under ``ticket``; a refusal is refunded, and is a result too.

        Raises ``TryLater`` if time ran out, and any fault of the service.
        """
        if lease.displaced:
            # A worker died after counting the unit of an earlier photo, which has been replaced since.
            self.deployment.meters.refund(upload.key_id, api, upload.ticket(lease.displaced))
        work = Work(
            request_id=ticket,
            load=lambda: self._load(upload),
            recognize=self.recognize,
            seconds=READ_SECONDS,
            log_fields={"request_id": ticket, "route": "queue"},
        )
        result = self.reader.read(work, ByTicket(self.deployment.meters, upload.key_id, api, ticket))
        if isinstance(result.error, RequestTimedOut):
            raise TryLater("the photo took too long") from result.error
        if result.error and result.is_fault:
            raise result.error
        if result.error:  # a worker that died may have counted a unit that is not due
            self.deployment.meters.refund(upload.key_id, api, ticket)
        return result

    def _load(self, upload: Upload) -> tuple[bytes, Sequence[str]]:
        if upload.size > MAX_IMAGE_BYTES:
            raise ImageTooLarge
        photo = self.deployment.storage.read_photo(upload.bucket, upload.key, upload.version, upload.etag)
        return photo.data, photo.regions

    def _write(self, upload: Upload, result: Result) -> dict[str, Any]:
        """Write the result: the answer, and a description of the upload."""
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
            "result": {"bucket": self.deployment.storage.results_bucket, "key": upload.result_key},
        }
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        self.deployment.storage.write_result(upload.result_key, body)
        return document
