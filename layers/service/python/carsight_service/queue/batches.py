"""Lists of images, read in the background: up to 10,000 URLs or S3 keys at once.

A list is stored as JSON Lines and cut into chunks of ten rows, each a message that names its range of bytes,
so that no worker ever holds more than ten rows. A chunk's rows are one object of results; whoever finishes
the last chunk sends one more message, and who takes that one joins the parts into ``result.jsonl`` and
``result.csv``.

    <key id>/batches/<id>/list.jsonl
                          parts/00000.jsonl ...      until they have been joined
                          result.jsonl, result.csv

Messages may come twice and workers may die. Each row is counted under a ticket of its own, each chunk is done
under a lease, and one conditional write adds a chunk's numbers to the batch together with the chunk's number
in the set of those that are done: a chunk can neither be missed nor added twice.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel

from carsight_service.aws.clients import dynamodb, s3, sqs
from carsight_service.contract.api import Api
from carsight_service.contract.errors import (
    InternalError,
    InvalidImage,
    InvalidRequest,
    RequestTimedOut,
    ServiceError,
    StoreUnavailable,
    envelope,
)
from carsight_service.deadline import OutOfTime
from carsight_service.images import S3Source, UrlSource, load
from carsight_service.metering.model import Clock, expiry, names, utc_now
from carsight_service.notify.subscribers import Webhooks
from carsight_service.notify.webhooks import announce
from carsight_service.queue.leases import Leases
from carsight_service.queue.uploads import (
    LEASE_MARGIN_SECONDS,
    RESULT_SECONDS,
    Reader,
    Result,
    read_object,
    results_bucket,
    upload_prefix,
)
from carsight_service.settings import settings
from carsight_service.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MAX_ROWS = 10_000
MAX_ROW_CHARACTERS = 2048
CHUNK_ROWS = 10

KEPT = timedelta(days=30)
"""How long a batch is known."""

SECONDS_A_ROW = 12.0
"""What one row may take: a fetch is given up after 8."""

_MESSAGES_AT_ONCE = 10
_PARTS_AHEAD = 16
_WRITE_BYTES = 8 * 1024 * 1024
"""S3 takes parts of 5 MB and more."""

_COLUMNS = ("image_url", "image", "imageUrl", "upload_url", "url", "key")


class NotReady(Exception):
    """The batch is still being sent to the queue."""


# -- what is asked for ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What ``POST /v1/batches`` asks for."""

    api: Api
    images: Sequence[str]


def parse_batch(body: bytes, content_type: str, query: Mapping[str, str]) -> BatchRequest:
    """The list in a body: a JSON object ``{"api", "images"}``, or a JSON list or CSV with ``?api=`` beside.

    A CSV has one image a line: in the column that its first line calls ``image_url``, ``image``, ``url`` or
    ``key``, or without such a line in the first. Raises ``InvalidRequest`` where there are no images, too
    many, or one that can be neither URL nor key.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest("The list must be UTF-8") from None
    api: Any = query.get("api")
    images: Any
    if "csv" in content_type.lower():
        images = _csv_column(text)
    else:
        try:
            images = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidRequest("The list must be JSON, or CSV with the content type text/csv") from None
        if isinstance(images, dict):
            api, images = images.get("api", api), images.get("images")
    if api not in tuple(Api):
        raise InvalidRequest(f"api must be {' or '.join(Api)}")
    if not isinstance(images, list) or not 1 <= len(images) <= MAX_ROWS:
        raise InvalidRequest(f"images must be a list of 1 to {MAX_ROWS} URLs or S3 keys")
    for row, image in enumerate(images, 1):
        if not isinstance(image, str) or not 1 <= len(image.strip()) <= MAX_ROW_CHARACTERS:
            raise InvalidRequest(f"Row {row} is no URL or S3 key of 1 to {MAX_ROW_CHARACTERS} characters")
    return BatchRequest(Api(api), [image.strip().encode("utf-8", "replace").decode() for image in images])


def _csv_column(text: str) -> list[str]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if any(row)]
    except csv.Error as error:
        raise InvalidRequest(f"The list is no CSV: {error}") from None
    if not rows:
        return []
    named = [name.strip() for name in rows[0]]
    column = next((named.index(name) for name in _COLUMNS if name in named), None)
    if column is None:
        column = 0
    else:
        del rows[0]
    return [row[column] if column < len(row) else "" for row in rows]


# -- what is known of a batch --------------------------------------------------------------------------------

State = Literal["preparing", "running", "finished", "cancelled"]


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, as its item in the table says: ``pk = BATCH#<id>``, ``sk = BATCH``."""

    id: str
    key_id: str
    api: Api
    state: State
    rows: int
    done: frozenset[int]
    """Numbers of the chunks whose results are in, from 0."""
    read: int
    """Rows answered with a 200, and so counted."""
    failed: int
    created: str
    """ISO 8601, UTC."""
    finished: str | None

    @property
    def chunks(self) -> int:
        """How many chunks the list was cut into."""
        return -(-self.rows // CHUNK_ROWS)

    @property
    def complete(self) -> bool:
        """Whether all results are in, joined or not."""
        return len(self.done) == self.chunks

    def object(self, name: str) -> str:
        """The key of one of its objects in the results bucket."""
        return f"{self.key_id}/batches/{self.id}/{name}"

    def part(self, chunk: int) -> str:
        """The key of the results of one chunk."""
        return self.object(f"parts/{chunk:05}.jsonl")

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """The batch held by a DynamoDB item."""
        return cls(
            id=item["pk"]["S"].removeprefix("BATCH#"),
            key_id=item["key_id"]["S"],
            api=Api(item["api"]["S"]),
            state=item["state"]["S"],
            rows=int(item["rows"]["N"]),
            done=frozenset(map(int, item["done"]["NS"])) if "done" in item else frozenset(),
            read=int(item["read"]["N"]),
            failed=int(item["failed"]["N"]),
            created=item["created"]["S"],
            finished=item["finished"]["S"] if "finished" in item else None,
        )


class Batches:
    """The batches of one deployment. Methods raise botocore's errors."""

    def __init__(self, table_name: str, client: DynamoDBClient | None = None, clock: Clock = utc_now) -> None:
        self._table = table_name
        self._client = client or dynamodb()
        self._clock = clock

    def submit(self, key_id: str, request: BatchRequest) -> Batch:
        """Store the list and send its chunks to the workers. Nothing is counted yet.

        The workers wait until everything has been sent: a batch that could not be sent whole is cancelled,
        and none of its rows is read.
        """
        batch = Batch(
            id=secrets.token_hex(16),
            key_id=key_id,
            api=request.api,
            state="preparing",
            rows=len(request.images),
            done=frozenset(),
            read=0,
            failed=0,
            created=self._now(),
            finished=None,
        )
        lines = [json.dumps(image, ensure_ascii=False).encode() + b"\n" for image in request.images]
        s3().put_object(
            Bucket=results_bucket(),
            Key=batch.object("list.jsonl"),
            Body=b"".join(lines),
            ContentType="application/jsonl",
        )
        self._put(batch)
        try:
            self._send(batch, _chunk_messages(batch, lines))
        except Exception:
            self._change(batch.id, "cancelled")
            raise
        self._change(batch.id, "running")
        return self.get(batch.id) or batch

    def get(self, batch_id: str) -> Batch | None:
        """The batch, if there is one."""
        answer = self._client.get_item(TableName=self._table, Key=_key(batch_id), ConsistentRead=True)
        return Batch.from_item(answer["Item"]) if "Item" in answer else None

    def add(self, batch: Batch, chunk: int, read: int, failed: int) -> None:
        """Add a chunk's numbers, unless they have been added before."""
        with suppress(self._client.exceptions.ConditionalCheckFailedException):
            self._client.update_item(
                TableName=self._table,
                Key=_key(batch.id),
                UpdateExpression="ADD #done :chunks, #read :read, #failed :failed",
                ConditionExpression="attribute_exists(pk) AND NOT contains(#done, :chunk)",
                ExpressionAttributeNames=names("done", "read", "failed"),
                ExpressionAttributeValues={
                    ":chunks": {"NS": [str(chunk)]},
                    ":chunk": {"N": str(chunk)},
                    ":read": {"N": str(read)},
                    ":failed": {"N": str(failed)},
                },
            )

    def finish(self, batch: Batch) -> None:
        """The results have been joined."""
        self._change(batch.id, "finished", finished=self._now())

    def send_join(self, batch: Batch) -> None:
        """Have the results of a complete batch joined."""
        self._send(batch, [{"id": batch.id, "chunk": None}])

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="seconds")

    def _put(self, batch: Batch) -> None:
        self._client.put_item(
            TableName=self._table,
            Item={
                **_key(batch.id),
                "key_id": {"S": batch.key_id},
                "api": {"S": batch.api.value},
                "state": {"S": batch.state},
                "rows": {"N": str(batch.rows)},
                "read": {"N": "0"},
                "failed": {"N": "0"},
                "created": {"S": batch.created},
                "expires": expiry(self._clock(), KEPT),
            },
        )

    def _change(self, batch_id: str, state: State, finished: str | None = None) -> None:
        values = {":state": {"S": state}} | ({":finished": {"S": finished}} if finished else {})
        self._client.update_item(
            TableName=self._table,
            Key=_key(batch_id),
            UpdateExpression="SET #state = :state" + (", #finished = :finished" if finished else ""),
            ExpressionAttributeNames=names("state", *(["finished"] if finished else [])),
            ExpressionAttributeValues=values,
        )

    def _send(self, batch: Batch, messages: Sequence[Mapping[str, Any]]) -> None:
        for start in range(0, len(messages), _MESSAGES_AT_ONCE):
            bodies = [
                json.dumps({"batch": one, "api": batch.api})
                for one in messages[start : start + _MESSAGES_AT_ONCE]
            ]
            for _ in range(3):
                answer = sqs().send_message_batch(
                    QueueUrl=queue_of(batch.api),
                    Entries=[{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)],
                )
                bodies = [bodies[int(failed["Id"])] for failed in answer.get("Failed", ())]
                if not bodies:
                    break
            else:
                raise RuntimeError("the queue refused a part of the batch")


def queue_of(api: Api) -> str:
    """The address of the queue of an API's worker."""
    return {Api.PLATE: settings.plate_queue_url, Api.VIN: settings.vin_queue_url}[api] or ""


def _key(batch_id: str) -> dict[str, Any]:
    return {"pk": {"S": f"BATCH#{batch_id}"}, "sk": {"S": "BATCH"}}


def _chunk_messages(batch: Batch, lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """One message a chunk: its number, and its first and last byte in the list."""
    messages, start = [], 0
    for chunk in range(batch.chunks):
        size = sum(map(len, lines[chunk * CHUNK_ROWS : (chunk + 1) * CHUNK_ROWS]))
        messages.append({"id": batch.id, "chunk": chunk, "start": start, "end": start + size - 1})
        start += size
    return messages


# -- the worker ----------------------------------------------------------------------------------------------


class BatchWorker:
    """Reads chunks of batches of one API; one per process, safe to share between threads."""

    def __init__(self, reader: Reader, batches: Batches, leases: Leases, webhooks: Webhooks) -> None:
        self._reader = reader
        self._batches = batches
        self._leases = leases
        self._webhooks = webhooks

    def process(self, message: Mapping[str, Any], seconds: float) -> None:
        """Do what one message asks for, within ``seconds``: read a chunk, or join what all have read.

        Raises ``Busy`` or ``NotReady`` where it is to be tried again later, and whatever is our fault.
        """
        deadline = time.monotonic() + seconds
        chunk: int | None = message["chunk"]
        batch = self._batches.get(message["id"])
        if batch is None or batch.state == "cancelled":
            return
        if batch.state == "preparing":
            raise NotReady
        if chunk is None:
            if batch.state == "running":
                self._once(batch, "result", seconds + LEASE_MARGIN_SECONDS, lambda: self._join(batch))
            return
        if chunk not in batch.done:
            span = f"bytes={message['start']}-{message['end']}"
            lease = seconds + LEASE_MARGIN_SECONDS
            self._once(batch, str(chunk), lease, lambda: self._read(batch, chunk, span, deadline))
        rows = range(chunk * CHUNK_ROWS + 1, min((chunk + 1) * CHUNK_ROWS, batch.rows) + 1)
        self._reader.store.settle(batch.key_id, batch.api, [_ticket(batch, row) for row in rows])
        now = self._batches.get(batch.id)
        if now and now.complete and now.state == "running":
            self._batches.send_join(now)

    def _once(self, batch: Batch, name: str, seconds: float, work: Callable[[], None]) -> None:
        lease = self._leases.take(f"batch/{batch.id}/{name}", batch.id, seconds)
        if lease is None:
            return
        try:
            work()
        except Exception:
            with suppress(BotoCoreError, ClientError):
                self._leases.abandon(lease)
            raise
        self._leases.complete(lease)

    # -- a chunk ---------------------------------------------------------------------------------------------

    def _read(self, batch: Batch, chunk: int, span: str, deadline: float) -> None:
        answer = s3().get_object(Bucket=results_bucket(), Key=batch.object("list.jsonl"), Range=span)
        images = [json.loads(line) for line in answer["Body"].read().split(b"\n")[:-1]]
        rows = []
        for row, image in enumerate(images, chunk * CHUNK_ROWS + 1):
            if time.monotonic() + SECONDS_A_ROW > deadline:
                raise OutOfTime
            result = self._row(batch, row, image)
            rows.append({"row": row, "input": image, "status": result.status, **result.body})
        s3().put_object(
            Bucket=results_bucket(),
            Key=batch.part(chunk),
            Body=b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows),
            ContentType="application/jsonl",
        )
        read = sum(row["status"] == 200 for row in rows)
        self._batches.add(batch, chunk, read, len(rows) - read)

    def _row(self, batch: Batch, row: int, image: str) -> Result:
        """What became of one row. One that makes us fail is a failure too: it must not hold up the others."""
        request_id = f"{batch.id}-{row}"
        error: ServiceError
        try:
            return self._reader.read(
                batch.key_id,
                _ticket(batch, row),
                request_id,
                lambda: _load(image, batch.key_id),
                SECONDS_A_ROW,
            )
        except (StoreUnavailable, BotoCoreError, ClientError):
            raise
        except OutOfTime:
            error = RequestTimedOut()
        except Exception:
            logger.exception("unexpected", extra={"request_id": request_id})
            error = InternalError(batch.api)
        return Result(error.status, envelope(error, request_id), {})

    # -- the result ------------------------------------------------------------------------------------------

    def _join(self, batch: Batch) -> None:
        """Join the parts in the order of the list, a few at a time."""
        columns = _COLUMNS_OF[batch.api]
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(_PARTS_AHEAD))
            lines = stack.enter_context(_ObjectWriter(batch.object("result.jsonl"), "application/jsonl"))
            table = stack.enter_context(_ObjectWriter(batch.object("result.csv"), "text/csv; charset=utf-8"))
            table.write(_csv_line(columns))
            for part in _in_order(pool, (batch.part(chunk) for chunk in range(batch.chunks))):
                lines.write(part)
                for line in part.split(b"\n")[:-1]:
                    table.write(_csv_line(_cells(json.loads(line), columns)))
        self._batches.finish(batch)
        announce("carsight.batch", batch.key_id, batch.id, _summary(batch), self._webhooks)
        parts = [batch.part(chunk) for chunk in range(batch.chunks)]
        for start in range(0, len(parts), 1000):
            s3().delete_objects(
                Bucket=results_bucket(),
                Delete={"Objects": [{"Key": key} for key in parts[start : start + 1000]], "Quiet": True},
            )


def _ticket(batch: Batch, row: int) -> str:
    return f"{batch.id}-{row}"


def _load(image: str, key_id: str) -> bytes:
    """The bytes that a row names: a URL, an object of a bucket that the deployment lists, or an upload of the
    same key (its key in the uploads bucket, or an ``s3://`` address). Raises as ``source.load`` does.
    """
    if image.lower().startswith(("http://", "https://")):
        return load(UrlSource(image))
    bucket, key = settings.uploads_bucket or "", image
    if image.lower().startswith("s3://"):
        bucket, _, key = image[len("s3://") :].partition("/")
    if bucket != settings.uploads_bucket:
        return load(S3Source(bucket, key))
    if not key.startswith(upload_prefix(key_id)):
        raise InvalidImage("not an upload of this key")
    return read_object(bucket, key)


def _in_order(pool: ThreadPoolExecutor, keys: Iterable[str]) -> Iterator[bytes]:
    """The objects of ``keys``, in order, with no more than ``_PARTS_AHEAD`` in memory."""
    ahead: deque[Future[bytes]] = deque()

    def get(key: str) -> bytes:
        return s3().get_object(Bucket=results_bucket(), Key=key)["Body"].read()

    for key in keys:
        ahead.append(pool.submit(get, key))
        if len(ahead) == _PARTS_AHEAD:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


class _ObjectWriter:
    """An object of the results bucket that is written piece by piece; it appears when the block is left."""

    def __init__(self, key: str, content_type: str) -> None:
        self._which: Any = {"Bucket": results_bucket(), "Key": key}
        self._content_type = content_type

    def __enter__(self) -> Self:
        self._buffer = bytearray()
        self._parts: list[Any] = []
        upload = s3().create_multipart_upload(**self._which, ContentType=self._content_type)
        self._which["UploadId"] = upload["UploadId"]
        return self

    def write(self, data: bytes) -> None:
        """Add ``data`` at the end."""
        self._buffer += data
        if len(self._buffer) >= _WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        number = len(self._parts) + 1
        part = s3().upload_part(**self._which, PartNumber=number, Body=bytes(self._buffer))
        self._parts.append({"PartNumber": number, "ETag": part["ETag"]})
        self._buffer.clear()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            s3().abort_multipart_upload(**self._which)
            return
        if self._buffer or not self._parts:
            self._flush()
        s3().complete_multipart_upload(**self._which, MultipartUpload={"Parts": self._parts})


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
    """A row of results in the order of ``columns``; what it does not have is empty."""
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


# -- what a caller is told -----------------------------------------------------------------------------------


class BatchAnswer(BaseModel):
    """What ``POST /v1/batches`` and ``GET /v1/batches/<id>`` answer."""

    success: Literal[True] = True
    id: str
    api: Api
    state: State
    """``finished`` when all rows are in and joined; ``cancelled`` where it could not be sent to the queue."""
    rows: int
    done: int
    """Rows with a result, ``read`` and ``failed`` together."""
    read: int
    """Rows answered with a 200; only these are counted against the limit."""
    failed: int
    created: str
    finished: str | None
    results: dict[Literal["jsonl", "csv"], str] | None
    """Addresses of the finished results, for an hour; ask again for new ones."""
    request_id: str

    @classmethod
    def of(cls, batch: Batch, request_id: str) -> Self:
        """The answer for ``batch``."""
        results: dict[Literal["jsonl", "csv"], str] | None = None
        if batch.state == "finished":
            results = {"jsonl": _address(batch, "result.jsonl"), "csv": _address(batch, "result.csv")}
        return cls(
            id=batch.id,
            api=batch.api,
            state=batch.state,
            rows=batch.rows,
            done=batch.read + batch.failed,
            read=batch.read,
            failed=batch.failed,
            created=batch.created,
            finished=batch.finished,
            results=results,
            request_id=request_id,
        )


def _address(batch: Batch, name: str) -> str:
    return s3().generate_presigned_url(
        "get_object",
        Params={"Bucket": results_bucket(), "Key": batch.object(name)},
        ExpiresIn=RESULT_SECONDS,
    )


def _summary(batch: Batch) -> dict[str, Any]:
    """What is announced of a finished batch."""
    return {
        "id": batch.id,
        "api": batch.api,
        "rows": batch.rows,
        "read": batch.read,
        "failed": batch.failed,
        "created": batch.created,
        "result": {
            "bucket": results_bucket(),
            "jsonl": batch.object("result.jsonl"),
            "csv": batch.object("result.csv"),
        },
    }
