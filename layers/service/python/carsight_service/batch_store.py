"""What is known of a batch: its item in the table, its objects in S3, and its execution in Step Functions.

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

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

from carsight_service.aws.dynamo import attribute_names, expiry, item_of, value_of
from carsight_service.aws.signed import failure
from carsight_service.contract.api import Api
from carsight_service.contract.errors import IdempotencyKeyReused, InvalidRequest, StoreUnavailable

if TYPE_CHECKING:
    from carsight_service.deployment import Deployment

_ID = re.compile("[0-9a-f]{32}")

KEPT = timedelta(days=120)
"""How long a batch is known. Step Functions begins no execution of the same name for 90 days after it has
ended: if the batch were forgotten before, a repeat of its request would be told of one that never runs."""

Kind = Literal["jsonl", "csv", "parquet", "manifest"]

RESULTS: Mapping[Kind, str] = {
    "jsonl": "result.jsonl",
    "csv": "result.csv",
    "parquet": "result.parquet",
    "manifest": "manifest.json",
}
"""The objects of a batch that has ended."""

State = Literal["running", "finished", "failed", "cancelled"]

ENDS: Mapping[str, State] = {"FAILED": "failed", "TIMED_OUT": "failed", "ABORTED": "cancelled"}
"""What the status of an execution, or of its map, means for its batch; it is finished when it is joined."""


@dataclass(frozen=True, slots=True)
class List:
    """Where the rows of a batch are."""

    kind: str
    """``jsonl``, ``csv``, ``parquet``, ``prefix``, or ``rows``: JSON Lines that have been looked at, each as
    ``contract.lists.Row.line`` writes it."""
    bucket: str
    key: str


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
        identity = item["pk"]["S"].removeprefix("BATCH#")
        return cls(**known | {"id": identity, "api": Api(known["api"])})


@dataclass(frozen=True)
class Batches:
    """The batches of one deployment.

    Methods raise ``StoreUnavailable`` where the table or Step Functions is throttled or out of reach, and
    botocore's errors for buckets.
    """

    deployment: Deployment

    # -- its execution ---------------------------------------------------------------------------------------

    def begin(self, batch: Batch, rows: List, lines: bytes = b"") -> Batch:
        """Note the batch, write the ``lines`` of its list if they are here, and have its rows read.

        One that was begun before is returned as it is, once what was missing of that has been done. Raises
        ``IdempotencyKeyReused`` where another request has begun it. If it raises anything else, the next
        request of the same ``Idempotency-Key`` begins it, and nobody else knows of it.
        """
        item = batch.to_item() | {"expires": expiry(self.deployment.clock(), KEPT)}
        wanted = {"account": batch.account, "api": batch.api, "list": asdict(rows)}
        settings, aws = self.deployment.settings, self.deployment.aws
        table, begun, is_new = settings.table_name, batch, "attribute_not_exists(pk)"
        try:
            _asked(aws.work.put_item, TableName=table, Item=item, ConditionExpression=is_new)
        except _Refused:
            begun = self.get(batch.id) or batch
            if begun.asked != batch.asked:
                raise IdempotencyKeyReused from None
        if begun.state == "running":
            start, machine = aws.states.start_execution, settings.batches_machine_arn
            if lines:
                self.deployment.storage.write_result(rows.key, lines, "application/jsonl")
            with suppress(_Refused):
                _asked(start, stateMachineArn=machine, name=batch.id, input=json.dumps(wanted))
        return begun

    def progress(self, batch: Batch) -> Batch:
        """Return how far the map of a batch is; a map that is over ends it before that has been noted."""
        if batch.state != "running":
            return replace(batch, pending=0, running=0)
        states = self.deployment.aws.states
        with suppress(_Refused, StoreUnavailable):  # which may be throttled, and the item says the rest
            for known in _asked(states.list_map_runs, executionArn=self._execution(batch))["mapRuns"]:
                run = _asked(states.describe_map_run, mapRunArn=known["mapRunArn"])
                state, counts = ENDS.get(run["status"], batch.state), run["itemCounts"]
                return replace(batch, state=state, pending=counts["pending"], running=counts["running"])
        return batch

    def stop(self, batch: Batch) -> None:
        """Read no more rows of a batch; one that has ended is left as it is."""
        if batch.state == "running":
            if batch.redrives:
                self._begin_redrive(batch, "cancelled")  # what never begins has no end that is joined
            stop = self.deployment.aws.states.stop_execution
            with suppress(_Refused):
                _asked(stop, executionArn=self._execution(batch), cause="Stopped by its owner")
            self.change(batch, state="cancelled")

    def redrive(self, batch: Batch) -> Batch:
        """Read what has not been read of a batch that failed or was stopped.

        Raises ``InvalidRequest`` where it is another, or has ended too long ago. Where it raises
        ``StoreUnavailable`` it may run again, and is to be asked again: a redrive is begun once.
        """
        otherwise: State = "failed"
        # Until its end has been joined, what is open in the meter is closed, and must be no redriven child's.
        if batch.state in ENDS.values() and batch.finished and not batch.detail:
            again = self.change(batch, state="running", redrives=batch.redrives + 1, finished=None)
            otherwise, batch = batch.state, again or batch
        if batch.state != "running" or not batch.redrives or not self._begin_redrive(batch, otherwise):
            raise InvalidRequest(
                "Only a batch that has failed or been stopped, within 14 days, can be redriven; one that was "
                "stopped just now may need a minute to come to rest"
            )
        return batch

    def _begin_redrive(self, batch: Batch, otherwise: State) -> bool:
        """Begin the redrive of a running batch, unless it has begun: whoever asked for it may have died.

        A batch that cannot be redriven any more has ended as ``otherwise`` says, and the answer is False. A
        token is known for fifteen minutes; by then the number of redrives, which may lag, is certain.
        """
        states, execution = self.deployment.aws.states, self._execution(batch)
        try:
            if _asked(states.describe_execution, executionArn=execution)["redriveCount"] < batch.redrives:
                _asked(states.redrive_execution, executionArn=execution, clientToken=batch.delivery)
        except _Refused:
            self.end(batch, state=otherwise, redrives=batch.redrives - 1)
            return False
        return True

    def _execution(self, batch: Batch) -> str:
        machine = self.deployment.settings.batches_machine_arn or ""
        return f"{machine.replace(':stateMachine:', ':execution:')}:{batch.id}"

    # -- its item --------------------------------------------------------------------------------------------

    def get(self, batch_id: str) -> Batch | None:
        """Return the batch, if there is one."""
        if not _ID.fullmatch(batch_id):
            return None
        table = self.deployment.settings.table_name
        item = _asked(
            self.deployment.aws.work.get_item, TableName=table, Key=_key(batch_id), ConsistentRead=True
        ).get("Item")
        return Batch.from_item(item) if item else None

    def add(self, batch: Batch, read: int, failed: int) -> None:
        """Add a child's numbers, for whoever watches: the result has the exact ones."""
        self._update(batch, "ADD #read :read, #failed :failed", read=read, failed=failed)

    def end(self, batch: Batch, **fields: Any) -> None:
        """Note how a batch has ended, unless it has been redriven since."""
        self.change(batch, finished=self.deployment.clock().isoformat(timespec="seconds"), **fields)

    def change(self, batch: Batch, **fields: Any) -> Batch | None:
        """Set ``fields`` while the batch is in the state that is known here; None where it is in another."""
        sets = ", ".join(f"#{name} = :{name}" for name in fields)
        return replace(batch, **fields) if self._update(batch, f"SET {sets}", **fields) else None

    def _update(self, batch: Batch, expression: str, **values: Any) -> bool:
        """Return False where the batch is in another state than is known here: nothing is written then."""
        try:
            _asked(
                self.deployment.aws.work.update_item,
                TableName=self.deployment.settings.table_name,
                Key=_key(batch.id),
                UpdateExpression=expression,
                ConditionExpression="#state = :was AND #redrives = :before",
                ExpressionAttributeNames=attribute_names(*values, "state", "redrives"),
                ExpressionAttributeValues=item_of(
                    **{f":{name}": value for name, value in values.items()},
                    **{":was": batch.state, ":before": batch.redrives},
                ),
            )
        except _Refused:
            return False
        return True


class _Refused(Exception):
    """A condition did not hold: a write's, or Step Functions' own."""


_REFUSALS = {
    "ConditionalCheckFailedException",
    "ExecutionAlreadyExists",
    "ExecutionDoesNotExist",
    "ExecutionNotRedrivable",
}


def _asked(call: Callable[..., Any], **arguments: Any) -> Any:
    """Return what AWS answers."""
    try:
        return call(**arguments)
    except Exception as error:
        code = failure(error).code
        if code in _REFUSALS:
            raise _Refused from None
        raise StoreUnavailable(code) from error


def _key(batch_id: str) -> dict[str, Any]:
    return {"pk": {"S": f"BATCH#{batch_id}"}, "sk": {"S": "BATCH"}}
