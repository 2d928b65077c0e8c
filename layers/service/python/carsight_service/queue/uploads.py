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
from carsight_service.queue.messages import S3Record, TryLater
from carsight_service.reading import ByTicket, Reader, Recognize, Result, Work
from carsight_service.telemetry import logger

if TYPE_CHECKING:
    from carsight_service.deployment import Deployment

_PATH = re.compile(rf"{INCOMING}([0-9a-f]{{64}})/({'|'.join(Api)})/(.+)", re.DOTALL)

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
        """Return what counts the reading of ``identity`` under this name, once; also its request id."""
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
        """Read ``upload`` and put its result beside those of its key; nobody else will until ``deadline``.

        Raises ``TryLater`` where another delivery is at it, and whatever is our fault: both are tried again.
        """
        ticket = upload.ticket(upload.identity)
        if upload.api is None:
            error = InvalidRequest(f"Uploads lie at {INCOMING}<key id>/<{'|'.join(Api)}>/<name>")
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
        """Give back the unit that a worker has counted and died over."""
        if upload.api is not None:
            self.deployment.meters.refund(upload.key_id, upload.api, upload.ticket(upload.identity))

    def _read(self, upload: Upload, api: Api, ticket: str, lease: Lease) -> Result:
        if lease.displaced:
            # Its worker died with the unit counted, and its photo has been replaced since.
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
        if result.error:  # a worker that died may have counted what comes to nothing now
            self.deployment.meters.refund(upload.key_id, api, ticket)
        return result

    def _load(self, upload: Upload) -> tuple[bytes, Sequence[str]]:
        if upload.size > MAX_IMAGE_BYTES:
            raise ImageTooLarge
        photo = self.deployment.storage.read_photo(upload.bucket, upload.key, upload.version, upload.etag)
        return photo.data, photo.regions

    def _write(self, upload: Upload, result: Result) -> dict[str, Any]:
        """Write the result: the answer, and what it is an answer to."""
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
