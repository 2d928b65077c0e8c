"""Batches behind the queue: chunks of a list are read, and their results joined.

A chunk's rows are one object of results; whoever finishes the last chunk sends one more message, and who
takes that one joins the parts into ``result.jsonl`` and ``result.csv``.

Messages may come twice and workers may die. Each row is counted under a ticket of its own, each chunk is done
under a lease, and one conditional write adds a chunk's numbers to the batch together with the chunk's number
in the set of those that are done: a chunk can neither be missed nor added twice.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from carsight_service.aws.clients import Clients
from carsight_service.aws.storage import upload_prefix
from carsight_service.batch_store import CHUNK_ROWS, Batch, Batches, Chunk
from carsight_service.contract.api import Api
from carsight_service.contract.errors import InvalidImage, StoreUnavailable
from carsight_service.images import S3Source, UrlSource
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.leases import Leases
from carsight_service.queue.messages import TryLater
from carsight_service.reading import ByTicket, Reader, Recognize, Result, Work

if TYPE_CHECKING:
    from carsight_service.deployment import Deployment

SECONDS_A_ROW = 12.0
"""What one row may take: a fetch is given up after 8."""

_PARTS_AHEAD = 16
_WRITE_BYTES = 8 * 1024 * 1024
"""S3 takes parts of 5 MB and more."""


class BatchWorker:
    """Reads chunks of batches of one API; one per process, safe to share between threads."""

    def __init__(
        self,
        deployment: Deployment,
        reader: Reader,
        recognize: Recognize,
        batches: Batches,
        leases: Leases,
        announcer: Announcer,
    ) -> None:
        self._deployment = deployment
        self._storage = deployment.storage
        self._meters = deployment.meters
        self._reader = reader
        self._recognize = recognize
        self._batches = batches
        self._leases = leases
        self._announcer = announcer

    def read(self, chunk: Chunk, deadline: float) -> None:
        """Read the rows of a chunk before ``deadline``, and have the batch joined where it is the last.

        Raises ``TryLater`` where it is to be tried again later, and whatever is our fault.
        """
        batch = self._running(chunk.id)
        if batch is None:
            return
        if chunk.chunk not in batch.done:
            self._under_lease(batch, str(chunk.chunk), deadline, lambda: self._read(batch, chunk, deadline))
        self._meters.settle(batch.account, batch.api, _tickets(batch, chunk))
        now = self._batches.get(batch.id)
        if now and now.complete and now.state == "running":
            self._batches.send_join(now)

    def give_up(self, chunk: Chunk) -> None:
        """Give back what workers have counted for rows of a chunk and died over."""
        batch = self._batches.get(chunk.id)
        if batch is not None and chunk.chunk not in batch.done:
            for ticket in _tickets(batch, chunk):
                self._meters.refund(batch.account, batch.api, ticket)

    def join(self, batch_id: str, deadline: float) -> None:
        """Join what has been read of a batch, and announce it. Raises as ``read`` does."""
        batch = self._running(batch_id)
        if batch is None:
            return
        if batch.state == "running":
            self._under_lease(batch, "result", deadline, lambda: self._join(batch))
        # Last, and again where a worker has died before: they can be joined until the batch is finished.
        self._delete_parts(batch)

    def _running(self, batch_id: str) -> Batch | None:
        """Return the batch, None where nothing is left to do. Raises ``TryLater`` until it has been sent."""
        batch = self._batches.get(batch_id)
        if batch is None or batch.state == "cancelled":
            return None
        if batch.state == "preparing":
            raise TryLater("the batch is still being sent to the queue")
        return batch

    def _under_lease(self, batch: Batch, name: str, deadline: float, work: Callable[[], None]) -> None:
        seconds = deadline - time.monotonic()
        lease = self._leases.take(f"batch/{batch.id}/{name}", batch.id, seconds)
        if lease is not None:
            with self._leases.held(lease):
                work()

    # -- a chunk ---------------------------------------------------------------------------------------------

    def _read(self, batch: Batch, chunk: Chunk, deadline: float) -> None:
        span = f"bytes={chunk.start}-{chunk.end}"
        answer = self._deployment.aws.s3.get_object(
            Bucket=self._storage.results_bucket, Key=batch.object("list.jsonl"), Range=span
        )
        images = [json.loads(line) for line in answer["Body"].read().split(b"\n")[:-1]]
        rows = []
        for row, image in enumerate(images, chunk.chunk * CHUNK_ROWS + 1):
            if time.monotonic() + SECONDS_A_ROW > deadline:
                raise TryLater("no time for another row")
            result = self._row(batch, row, image)
            rows.append({"row": row, "input": image, "status": result.status, **result.body})
        body = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        self._storage.write_result(batch.part(chunk.chunk), body, "application/jsonl")
        read = sum(row["status"] == 200 for row in rows)
        self._batches.add(batch, chunk.chunk, read, len(rows) - read)

    def _row(self, batch: Batch, row: int, image: str) -> Result:
        """Read one row. One that makes us fail is a failure too: it must not hold up the others."""
        request_id = f"{batch.id}-{row}"
        work = Work(
            request_id=request_id,
            load=lambda: (self._load(image, batch), batch.regions),
            recognize=self._recognize,
            seconds=SECONDS_A_ROW,
            log_fields={"request_id": request_id, "route": "queue"},
        )
        charge = ByTicket(self._meters, batch.account, batch.api, _ticket(batch, row))
        result = self._reader.read(work, charge)
        if isinstance(result.error, StoreUnavailable):
            raise result.error
        return result

    def _load(self, image: str, batch: Batch) -> bytes:
        """Return the bytes that a row names.

        A URL, an object of a bucket that the deployment lists, or an upload of the same account (its object
        key in the uploads bucket, or an ``s3://`` address). Raises the contract's errors.
        """
        images = self._deployment.images
        if image.lower().startswith(("http://", "https://")):
            return images.load(UrlSource(image))
        bucket, key = self._storage.uploads_bucket, image
        if image.lower().startswith("s3://"):
            bucket, _, key = image[len("s3://") :].partition("/")
        if bucket != self._storage.uploads_bucket:
            return images.load(S3Source(bucket, key))
        if not key.startswith((upload_prefix(batch.account), upload_prefix(batch.key_id))):
            raise InvalidImage("not an upload of this account")
        return self._storage.read_photo(bucket, key).data

    # -- the result ------------------------------------------------------------------------------------------

    def _join(self, batch: Batch) -> None:
        """Join the parts in the order of the list, a few at a time."""
        columns = _COLUMNS_OF[batch.api]
        parts = (batch.part(chunk) for chunk in range(batch.chunks))
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(_PARTS_AHEAD))
            lines = stack.enter_context(self._writer(batch.object("result.jsonl"), "application/jsonl"))
            table = stack.enter_context(self._writer(batch.object("result.csv"), "text/csv; charset=utf-8"))
            table.write(_csv_line(columns))
            for part in self._in_order(pool, parts):
                lines.write(part)
                for line in part.split(b"\n")[:-1]:
                    table.write(_csv_line(_cells(json.loads(line), columns)))
        # Announced before it is known to be finished: a worker that dies in between does both again, the
        # announcement under the same delivery id.
        self._announcer.announce("carsight.batch", batch.account, batch.id, self._summary(batch))
        self._batches.finish(batch)

    def _delete_parts(self, batch: Batch) -> None:
        parts = [batch.part(chunk) for chunk in range(batch.chunks)]
        for start in range(0, len(parts), 1000):
            self._deployment.aws.s3.delete_objects(
                Bucket=self._storage.results_bucket,
                Delete={"Objects": [{"Key": key} for key in parts[start : start + 1000]], "Quiet": True},
            )

    def _writer(self, key: str, content_type: str) -> _ObjectWriter:
        return _ObjectWriter(self._deployment.aws, self._storage.results_bucket, key, content_type)

    def _in_order(self, pool: ThreadPoolExecutor, keys: Iterable[str]) -> Iterator[bytes]:
        """Return the objects of ``keys``, in order, with no more than ``_PARTS_AHEAD`` in memory."""
        ahead: deque[Future[bytes]] = deque()
        s3, bucket = self._deployment.aws.s3, self._storage.results_bucket

        def get(key: str) -> bytes:
            return s3.get_object(Bucket=bucket, Key=key)["Body"].read()

        for key in keys:
            ahead.append(pool.submit(get, key))
            if len(ahead) == _PARTS_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _summary(self, batch: Batch) -> dict[str, Any]:
        """Return what is announced of a finished batch."""
        return {
            "id": batch.id,
            "api": batch.api,
            "rows": batch.rows,
            "read": batch.read,
            "failed": batch.failed,
            "created": batch.created,
            "result": {
                "bucket": self._storage.results_bucket,
                "jsonl": batch.object("result.jsonl"),
                "csv": batch.object("result.csv"),
            },
        }


def _ticket(batch: Batch, row: int) -> str:
    return f"{batch.id}-{row}"


def _tickets(batch: Batch, chunk: Chunk) -> list[str]:
    rows = range(chunk.chunk * CHUNK_ROWS + 1, min((chunk.chunk + 1) * CHUNK_ROWS, batch.rows) + 1)
    return [_ticket(batch, row) for row in rows]


class _ObjectWriter:
    """An object of the results bucket that is written piece by piece; it appears when the block is left."""

    def __init__(self, aws: Clients, bucket: str, key: str, content_type: str) -> None:
        self._s3 = aws.s3
        self._which: Any = {"Bucket": bucket, "Key": key}
        self._content_type = content_type

    def __enter__(self) -> Self:
        self._buffer = bytearray()
        self._parts: list[Any] = []
        upload = self._s3.create_multipart_upload(**self._which, ContentType=self._content_type)
        self._which["UploadId"] = upload["UploadId"]
        return self

    def write(self, data: bytes) -> None:
        """Add ``data`` at the end."""
        self._buffer += data
        if len(self._buffer) >= _WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        number = len(self._parts) + 1
        part = self._s3.upload_part(**self._which, PartNumber=number, Body=bytes(self._buffer))
        self._parts.append({"PartNumber": number, "ETag": part["ETag"]})
        self._buffer.clear()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._s3.abort_multipart_upload(**self._which)
            return
        if self._buffer or not self._parts:
            self._flush()
        self._s3.complete_multipart_upload(**self._which, MultipartUpload={"Parts": self._parts})


_FIRST_COLUMNS = ("row", "input", "status", "code", "message")
_COLUMNS_OF: Mapping[Api, Sequence[str]] = {
    Api.PLATE: (
        *_FIRST_COLUMNS,
        *(
            "plate",
            "score",
            "dscore",
            "region",
            "region_score",
            "vehicle_type",
            "xmin",
            "ymin",
            "xmax",
            "ymax",
        ),
        "plates",
    ),
    Api.VIN: (
        *_FIRST_COLUMNS,
        *("vin", "confidence", "source", "check_digit_valid", "xmin", "ymin", "xmax", "ymax"),
    ),
}
"""Of a result's CSV. ``plate`` and what follows is the first of ``plates``, which are separated by blanks."""


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[Any]:
    """Return a row of results in the order of ``columns``; what it does not have is empty."""
    flat = dict(row)
    if row["status"] == 200 and "results" in row:
        first = row["results"][0]
        flat |= {name: first[name] for name in ("plate", "score", "dscore")} | first["box"]
        flat |= {"region": first["region"]["code"], "region_score": first["region"]["score"]}
        flat |= {"vehicle_type": first["vehicle"]["type"]}
        flat |= {"plates": " ".join(result["plate"] for result in row["results"])}
    elif row["status"] == 200:
        flat |= row["box"] | {"check_digit_valid": row["check_digit"]["valid"]}
    return [flat.get(column, "") for column in columns]


def _csv_line(cells: Sequence[Any]) -> bytes:
    """One line (RFC 4180). Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    line = io.StringIO()
    safe = [f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in cells]
    csv.writer(line).writerow(safe)
    return line.getvalue().encode()


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
