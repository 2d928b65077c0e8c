"""What is known of a batch: its item in the table, and where its objects lie in S3.

The state machine ``Batches`` (``statemachines/batch.asl.json``) reads a batch: its execution is called like
the batch, its map hands some fifty rows at a time to the plate or the VIN worker. The item says whose the
batch is and how it ended; while it runs, the map run says how far it is.

    <account id>/batches/<id>/list.jsonl      the rows, where they do not lie elsewhere
                              map/...         what the map writes: which children it has run, and which failed
                              result.jsonl, result.csv, result.parquet, manifest.json
    parts/<id>/<first row>.jsonl              the outcome of each child, kept for as long as it may run again
    parts/notes/<id>/<first row>.json         rows that a child's worker may have died over
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

from carsight_service.aws.dynamo import attribute_names, expiry, item_of, value_of
from carsight_service.aws.failures import failure
from carsight_service.contract.api import Api
from carsight_service.contract.errors import IdempotencyKeyReused, StoreUnavailable

if TYPE_CHECKING:
    from carsight_service.deployment import Deployment

_ID = re.compile("[0-9a-f]{32}")

KEPT = timedelta(days=120)
"""How long a batch is known. Step Functions begins no execution of the same name for 90 days after it has
ended: if the batch were forgotten before, a repeat of its request would be told of one that never runs."""

Kind = Literal["jsonl", "csv", "parquet", "manifest"]

RESULTS: Mapping[Kind, tuple[str, str]] = {
    "manifest": ("manifest.json", "application/json"),
    "jsonl": ("result.jsonl", "application/jsonl"),
    "csv": ("result.csv", "text/csv; charset=utf-8"),
    "parquet": ("result.parquet", "application/vnd.apache.parquet"),
}
"""The objects of a batch that has ended: what each is called, and its content type."""

State = Literal["running", "finished", "failed", "cancelled"]

End = Literal["FAILED", "TIMED_OUT", "ABORTED"]

ENDS: Mapping[End, State] = {"FAILED": "failed", "TIMED_OUT": "failed", "ABORTED": "cancelled"}
"""What the status of an execution, or of its map, means for its batch; it is finished when it is joined."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, as its item in the table says: ``pk = BATCH#<id>``, ``sk = BATCH``."""

    id: str
    account: str
    """The account that is charged, and may ask for it."""
    key_id: str
    """The key that it was submitted with."""
    api: Api
    created: str
    """ISO 8601, UTC."""
    asked: str
    """SHA-256 of what was asked for, and must be asked for again under the same ``Idempotency-Key``."""
    tag: str
    """How its tickets begin, at random: whoever chooses an ``Idempotency-Key`` can make the ids of two
    batches begin alike, and one would give back what the other has counted."""
    regions: tuple[str, ...] = ()
    """Region codes that the caller expects in its photos."""
    state: State = "running"
    rows: int | None = None
    """None until the list has been counted."""
    read: int = 0
    """Rows answered with a 200, and so counted."""
    failed: int = 0
    finished: str | None = None
    detail: str | None = None
    """Why it has failed, for whoever submitted it."""
    redrives: int = 0
    is_unannounced: bool = False
    """Its end has been noted, and is to be announced."""
    version: int = 0
    """How often it has been changed: a change holds only if there was no other since it was looked at."""
    pending: int | None = None
    """Rows that wait, and rows that are being read: known where the engine was asked, and has begun."""
    running: int | None = None

    @property
    def delivery(self) -> str:
        """What tells the announcement of its end from others: each redrive ends anew."""
        return f"{self.id}-{self.redrives}" if self.redrives else self.id

    def object(self, name: str) -> str:
        """Return the key of one of its objects in the results bucket."""
        return f"{self.account}/batches/{self.id}/{name}"

    def part(self, first_row: int | None = None) -> str:
        """Return the key of the outcome of the child that begins with ``first_row``; without, of all."""
        return f"parts/{self.id}/" + (f"{first_row:08}.jsonl" if first_row else "")

    def notes(self, first_row: int) -> str:
        """Return the key of what a child notes for whoever tries it again."""
        return f"parts/notes/{self.id}/{first_row:08}.json"

    def tickets(self, first_row: int | None = None) -> str:
        """Return how the tickets of the child that begins with ``first_row`` begin; without, of all."""
        return f"{self.tag}-" + (f"{first_row}." if first_row else "")

    @staticmethod
    def row_of(ticket: str) -> int:
        """Return the first row of the child whose ticket it is."""
        return int(ticket.partition("-")[2].partition(".")[0])

    def to_item(self) -> dict[str, Any]:
        """Return the item that holds it."""
        return _key(self.id) | item_of(**asdict(self))

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """Return the batch held by a DynamoDB item."""
        known = {name: value_of(item[name]) for name in cls.__dataclass_fields__ if name in item}
        return cls(**known | {"api": Api(known["api"])})


class Batches:
    """The batches that the table knows. Methods raise ``StoreUnavailable`` where it is out of reach."""

    def __init__(self, deployment: Deployment) -> None:
        self._clock = deployment.clock
        self._table = deployment.settings.table_name
        self._client = deployment.aws.work

    def create(self, batch: Batch) -> Batch:
        """Note a batch, once, and return what is noted. Raises ``IdempotencyKeyReused`` for another's id."""
        item = batch.to_item() | {"expires": expiry(self._clock(), KEPT)}
        is_new = "attribute_not_exists(pk)"
        try:
            ask(self._client.put_item, TableName=self._table, Item=item, ConditionExpression=is_new)
        except Refused:
            known = self.get(batch.id) or batch
            if known.asked != batch.asked:
                raise IdempotencyKeyReused from None
            return known
        return batch

    def get(self, batch_id: str) -> Batch | None:
        """Return the batch, if there is one."""
        if not _ID.fullmatch(batch_id):
            return None
        key = _key(batch_id)
        item = ask(self._client.get_item, TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return Batch.from_item(item) if item else None

    def add(self, batch: Batch, read: int, failed: int) -> None:
        """Add a child's numbers, for whoever watches: the result has the exact ones."""
        with suppress(Refused):
            self._update(batch, "ADD #read :read, #failed :failed", read=read, failed=failed)

    def end(self, batch: Batch, **fields: Any) -> Batch:
        """Note how a batch has ended, as ``change`` does."""
        return self.change(batch, finished=self._clock().isoformat(timespec="seconds"), **fields)

    def change(self, batch: Batch, **fields: Any) -> Batch:
        """Set ``fields``, and return the batch as it is then.

        Raises ``Refused`` where it has been changed since it was read: nothing is written then.
        """
        fields["version"] = batch.version + 1
        self._update(batch, "SET " + ", ".join(f"#{name} = :{name}" for name in fields), **fields)
        return replace(batch, **fields)

    def _update(self, batch: Batch, expression: str, **values: Any) -> None:
        known = {f":{name}": value for name, value in values.items()} | {":known": batch.version}
        # An update of the service may find batches that run and have no version yet.
        is_same = "#version = :known OR (attribute_exists(pk) AND attribute_not_exists(#version))"
        ask(
            self._client.update_item,
            TableName=self._table,
            Key=_key(batch.id),
            UpdateExpression=expression,
            ConditionExpression=is_same,
            ExpressionAttributeNames=attribute_names(*{*values, "version"}),
            ExpressionAttributeValues=item_of(**known),
        )


class Refused(Exception):
    """A condition did not hold: a write's, or Step Functions' own."""


_REFUSALS = {
    "ConditionalCheckFailedException",
    "ExecutionAlreadyExists",
    "ExecutionDoesNotExist",
    "ExecutionNotRedrivable",
}


def ask(call: Callable[..., Any], **arguments: Any) -> Any:
    """Return what AWS answers. Raises ``Refused``, and ``StoreUnavailable`` for whatever else goes wrong."""
    try:
        return call(**arguments)
    except Exception as error:
        code = failure(error).code
        if code in _REFUSALS:
            raise Refused from None
        raise StoreUnavailable(code) from error


def _key(batch_id: str) -> dict[str, Any]:
    return {"pk": {"S": f"BATCH#{batch_id}"}, "sk": {"S": "BATCH"}}
