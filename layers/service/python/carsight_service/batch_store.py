"""What is known of a batch: its item in the table, its list in S3, and the messages to its workers.

A list is stored as JSON Lines and cut into chunks of ten rows, each a message that names its range of bytes,
so that no worker ever holds more than ten rows.

    <account id>/batches/<id>/list.jsonl
                              parts/00000.jsonl ...      until they have been joined
                              result.jsonl, result.csv
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel

from carsight_service.aws.dynamo import Clock, attribute_names, expiry
from carsight_service.aws.queues import Queues
from carsight_service.aws.storage import Storage
from carsight_service.contract.api import Api
from carsight_service.contract.errors import StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CHUNK_ROWS = 10

_ID = re.compile("[0-9a-f]{32}")

KEPT = timedelta(days=30)
"""How long a batch is known."""


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What ``POST /v1/batches`` asks for."""

    api: Api
    images: Sequence[str]
    regions: Sequence[str] = ()


class Chunk(BaseModel):
    """Rows of a batch: their number, and their first and last byte in the list."""

    id: str
    """The batch."""
    chunk: int
    start: int
    end: int


class ReadChunk(BaseModel):
    """The message that has a chunk read."""

    api: Api
    batch: Chunk


class FinishedBatch(BaseModel):
    """A batch of which every row has been read."""

    id: str
    chunk: None = None


class JoinBatch(BaseModel):
    """The message that has the results of a batch joined."""

    api: Api
    batch: FinishedBatch


State = Literal["preparing", "running", "finished", "cancelled"]


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, as its item in the table says: ``pk = BATCH#<id>``, ``sk = BATCH``."""

    id: str
    account: str
    """The account that is charged, and may ask for it."""
    key_id: str
    """The key that it was submitted with."""
    api: Api
    regions: tuple[str, ...]
    """Region codes that the caller expects in its photos."""
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
        """Return the key of one of its objects in the results bucket."""
        return f"{self.account}/batches/{self.id}/{name}"

    def part(self, chunk: int) -> str:
        """Return the key of the results of one chunk."""
        return self.object(f"parts/{chunk:05}.jsonl")

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """Return the batch held by a DynamoDB item."""
        return cls(
            id=item["pk"]["S"].removeprefix("BATCH#"),
            account=item["account"]["S"] if "account" in item else item["key_id"]["S"],
            key_id=item["key_id"]["S"],
            api=Api(item["api"]["S"]),
            regions=tuple(item["regions"]["S"].split(",")) if "regions" in item else (),
            state=item["state"]["S"],
            rows=int(item["rows"]["N"]),
            done=frozenset(map(int, item["done"]["NS"])) if "done" in item else frozenset(),
            read=int(item["read"]["N"]),
            failed=int(item["failed"]["N"]),
            created=item["created"]["S"],
            finished=item["finished"]["S"] if "finished" in item else None,
        )


class Batches:
    """The batches of one deployment.

    Methods raise ``StoreUnavailable`` where the table is throttled or out of reach, and botocore's errors for
    buckets and queues.
    """

    def __init__(
        self, table_name: str, client: DynamoDBClient, clock: Clock, storage: Storage, queues: Queues
    ) -> None:
        self._table = table_name
        self._client = client
        self._clock = clock
        self._storage = storage
        self._queues = queues

    def submit(self, account: str, key_id: str, request: BatchRequest) -> Batch:
        """Store the list and send its chunks to the workers. Nothing is counted yet.

        The workers wait until everything has been sent: a batch that could not be sent whole is cancelled,
        and none of its rows is read.
        """
        batch = Batch(
            id=secrets.token_hex(16),
            account=account,
            key_id=key_id,
            api=request.api,
            regions=tuple(request.regions),
            state="preparing",
            rows=len(request.images),
            done=frozenset(),
            read=0,
            failed=0,
            created=self._now(),
            finished=None,
        )
        lines = [json.dumps(image, ensure_ascii=False).encode() + b"\n" for image in request.images]
        self._storage.write_result(batch.object("list.jsonl"), b"".join(lines), "application/jsonl")
        self._put(batch)
        try:
            self._send(batch.api, *_chunk_messages(batch, lines))
        except Exception:
            self._change(batch.id, "cancelled")
            raise
        self._change(batch.id, "running")
        return self.get(batch.id) or batch

    def get(self, batch_id: str) -> Batch | None:
        """Return the batch, if there is one."""
        if not _ID.fullmatch(batch_id):
            return None
        with _reaching_the_table():
            answer = self._client.get_item(TableName=self._table, Key=_key(batch_id), ConsistentRead=True)
        return Batch.from_item(answer["Item"]) if "Item" in answer else None

    def add(self, batch: Batch, chunk: int, read: int, failed: int) -> None:
        """Add a chunk's numbers, unless they have been added before."""
        with suppress(_Refused), _reaching_the_table():
            self._client.update_item(
                TableName=self._table,
                Key=_key(batch.id),
                UpdateExpression="ADD #done :chunks, #read :read, #failed :failed",
                ConditionExpression="attribute_exists(pk) AND NOT contains(#done, :chunk)",
                ExpressionAttributeNames=attribute_names("done", "read", "failed"),
                ExpressionAttributeValues={
                    ":chunks": {"NS": [str(chunk)]},
                    ":chunk": {"N": str(chunk)},
                    ":read": {"N": str(read)},
                    ":failed": {"N": str(failed)},
                },
            )

    def finish(self, batch: Batch) -> None:
        """Note that the results have been joined."""
        self._change(batch.id, "finished", finished=self._now())

    def send_join(self, batch: Batch) -> None:
        """Have the results of a complete batch joined."""
        self._send(batch.api, JoinBatch(api=batch.api, batch=FinishedBatch(id=batch.id)))

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="seconds")

    def _put(self, batch: Batch) -> None:
        item = {
            **_key(batch.id),
            "account": {"S": batch.account},
            "key_id": {"S": batch.key_id},
            "api": {"S": batch.api.value},
            "state": {"S": batch.state},
            "rows": {"N": str(batch.rows)},
            "read": {"N": "0"},
            "failed": {"N": "0"},
            "created": {"S": batch.created},
            "expires": expiry(self._clock(), KEPT),
            **({"regions": {"S": ",".join(batch.regions)}} if batch.regions else {}),
        }
        with _reaching_the_table():
            self._client.put_item(TableName=self._table, Item=item)

    def _change(self, batch_id: str, state: State, finished: str | None = None) -> None:
        values = {":state": {"S": state}} | ({":finished": {"S": finished}} if finished else {})
        with _reaching_the_table():
            self._client.update_item(
                TableName=self._table,
                Key=_key(batch_id),
                UpdateExpression="SET #state = :state" + (", #finished = :finished" if finished else ""),
                ExpressionAttributeNames=attribute_names("state", *(["finished"] if finished else [])),
                ExpressionAttributeValues=values,
            )

    def _send(self, api: Api, *messages: ReadChunk | JoinBatch) -> None:
        self._queues.send(self._queues.of(api), *(message.model_dump_json() for message in messages))


class _Refused(Exception):
    """A write's condition did not hold."""


@contextmanager
def _reaching_the_table() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "ConditionalCheckFailedException":
            raise _Refused from None
        raise StoreUnavailable(code) from error
    except BotoCoreError as error:
        raise StoreUnavailable(type(error).__name__) from error


def _key(batch_id: str) -> dict[str, Any]:
    return {"pk": {"S": f"BATCH#{batch_id}"}, "sk": {"S": "BATCH"}}


def _chunk_messages(batch: Batch, lines: Sequence[bytes]) -> list[ReadChunk]:
    """One message a chunk."""
    messages, start = [], 0
    for chunk in range(batch.chunks):
        size = sum(map(len, lines[chunk * CHUNK_ROWS : (chunk + 1) * CHUNK_ROWS]))
        part = Chunk(id=batch.id, chunk=chunk, start=start, end=start + size - 1)
        messages.append(ReadChunk(api=batch.api, batch=part))
        start += size
    return messages
