"""The state of a batch: its item in the table, and the names of its objects in S3.

The state machine ``Batches`` (``statemachines/batch.asl.json``) reads a batch. Its execution has the batch's
id as its name, and its map gives some fifty rows at a time to the plate or the VIN worker. The item has the
owner of the batch and how it ended; while the batch runs, the map run has its progress.

    <account id>/batches/<id>/list.jsonl      the rows, unless they are objects below a prefix
                              map/...         written by the map: which children it has run, and which failed
                              result.jsonl, result.csv, result.parquet, manifest.json
    parts/<id>/<first row>.jsonl              the outcome of each child, kept as long as it may run again
    parts/notes/<id>/<first row>.json         rows that may have killed a child's worker
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
"""How long a batch is known. For 90 days after an execution has ended, Step Functions starts no other of its
name: if the batch were forgotten before, a repeated request would be answered with a batch that never
runs."""

Kind = Literal["jsonl", "csv", "parquet", "manifest"]

RESULTS: Mapping[Kind, tuple[str, str]] = {
    "manifest": ("manifest.json", "application/json"),
    "jsonl": ("result.jsonl", "application/jsonl"),
    "csv": ("result.csv", "text/csv; charset=utf-8"),
    "parquet": ("result.parquet", "application/vnd.apache.parquet"),
}
"""The objects of a batch that has ended: name and content type."""

State = Literal["running", "finished", "failed", "cancelled"]

End = Literal["FAILED", "TIMED_OUT", "ABORTED"]

ENDS: Mapping[End, State] = {"FAILED": "failed", "TIMED_OUT": "failed", "ABORTED": "cancelled"}
"""The state of a batch by the status of its execution or map; it is ``finished`` once its results are
joined."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, as in its item in the table: ``pk = BATCH#<id>``, ``sk = BATCH``."""

    id: str
    account: str
    """The account that is charged, and that may access it."""
    key_id: str
    """Id of the key with which it was submitted."""
    api: Api
    created: str
    """ISO 8601, UTC."""
    asked: str
    """SHA-256 of the request, which must be the same whenever its ``Idempotency-Key`` is used again."""
    tag: str
    """Random prefix of its tickets. A prefix of its id would not do: callers who choose the
    ``Idempotency-Key`` can find two ids that begin alike, and one batch would refund what the other has
    counted."""
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
    """Why it has failed, or what it has left out, for its owner."""
    redrives: int = 0
    """How many redrives have been recorded."""
    is_unannounced: bool = False
    """Whether its end has been recorded and is still to be announced."""
    version: int = 0
    """Number of changes. A change is only written if there was no other since the batch was read."""
    pending: int | None = None
    """Rows that wait; None unless the map run was asked, and has begun."""
    running: int | None = None
    """Rows that are being read; None as above."""

    @property
    def delivery(self) -> str:
        """The delivery id of the announcement of its end; there is one for each redrive."""
        return f"{self.id}-{self.redrives}" if self.redrives else self.id

    def object(self, name: str) -> str:
        """Return the key of one of its objects in the results bucket."""
        return f"{self.account}/batches/{self.id}/{name}"

    def part(self, first_row: int | None = None) -> str:
        """Return the key of the outcome of the child with this ``first_row``, or the prefix of all."""
        return f"parts/{self.id}/" + (f"{first_row:08}.jsonl" if first_row else "")

    def notes(self, first_row: int) -> str:
        """Return the key of a child's notes for its next attempt."""
        return f"parts/notes/{self.id}/{first_row:08}.json"

    def tickets(self, first_row: int | None = None) -> str:
        """Return the prefix of the tickets of the child with this ``first_row``, or of all tickets."""
        return f"{self.tag}-" + (f"{first_row}." if first_row else "")

    @staticmethod
    def row_of(ticket: str) -> int:
        """Return the first row of the child to which ``ticket`` belongs."""
        return int(ticket.partition("-")[2].partition(".")[0])

    def to_item(self) -> dict[str, Any]:
        """Return this batch as a DynamoDB item."""
        return _key(self.id) | item_of(**asdict(self))

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """Return the batch in a DynamoDB item."""
        known = {name: value_of(item[name]) for name in cls.__dataclass_fields__ if name in item}
        return cls(**known | {"api": Api(known["api"])})


class Batches:
    """The batches in the table. Methods raise ``StoreUnavailable`` if it cannot be reached."""

    def __init__(self, deployment: Deployment) -> None:
        self._clock = deployment.clock
        self._table = deployment.settings.table_name
        self._client = deployment.aws.work

    def create(self, batch: Batch) -> Batch:
        """Record a batch once, and return the recorded one.

        Raises ``IdempotencyKeyReused`` if there is a batch with this id for a different request.
        """
        item = batch.to_item() | {"expires": expiry(self._clock(), KEPT)}
        is_new = "attribute_not_exists(pk)"
        try:
            ask(self._client.put_item, TableName=self._table, Item=item, ConditionExpression=is_new)
        except Conflict:
            known = self.get(batch.id) or batch
            if known.asked != batch.asked:
                raise IdempotencyKeyReused from None
            return known
        return batch

    def get(self, batch_id: str) -> Batch | None:
        """Return the batch, or None if there is none."""
        if not _ID.fullmatch(batch_id):
            return None
        key = _key(batch_id)
        item = ask(self._client.get_item, TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return Batch.from_item(item) if item else None

    def add(self, batch: Batch, read: int, failed: int) -> None:
        """Add a child's counts to the progress; the result has the exact ones."""
        with suppress(Conflict):
            self._update(batch, "ADD #read :read, #failed :failed", read=read, failed=failed)

    def end(self, batch: Batch, **fields: Any) -> Batch:
        """Record how a batch has ended, as ``change`` does."""
        return self.change(batch, finished=self._clock().isoformat(timespec="seconds"), **fields)

    def change(self, batch: Batch, **fields: Any) -> Batch:
        """Set ``fields``, and return the changed batch.

        Raises ``Conflict`` if it has been changed since it was read; then nothing is written.
        """
        fields["version"] = batch.version + 1
        self._update(batch, "SET " + ", ".join(f"#{name} = :{name}" for name in fields), **fields)
        return replace(batch, **fields)

    def _update(self, batch: Batch, expression: str, **values: Any) -> None:
        """Update the item of a batch. Raises ``Conflict`` if it has been changed since it was read."""
        known = {f":{name}": value for name, value in values.items()} | {":known": batch.version}
        # Batches that were running when the service was updated may have no version yet.
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


class Conflict(Exception):
    """A batch or its execution is not in the state that a call needs; another call may have changed it."""


_CONFLICTS = {
    "ConditionalCheckFailedException",
    "ExecutionAlreadyExists",
    "ExecutionDoesNotExist",
    "ExecutionNotRedrivable",
}


def ask(call: Callable[..., Any], **arguments: Any) -> Any:
    """Return AWS's answer. Raises ``Conflict``, or ``StoreUnavailable`` for any other failure."""
    try:
        return call(**arguments)
    except Exception as error:
        code = failure(error).code
        if code in _CONFLICTS:
            raise Conflict from None
        raise StoreUnavailable(code) from error


def _key(batch_id: str) -> dict[str, Any]:
    return {"pk": {"S": f"BATCH#{batch_id}"}, "sk": {"S": "BATCH"}}
