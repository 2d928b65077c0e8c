"""The outcomes of children of a batch's map, and charging for them.

Step Functions may run a child twice, concurrently or after its worker died. The outcome of a child is an
object in the results bucket that is stored once. Then it is paid: units are taken for the rows that were
read, and the outcome is replaced by one that names their ticket; S3 allows that only once. If the child's
next run, or the end of its batch, finds an unpaid outcome, it pays it. The units of the ticket that the
outcome names are charged, and those of any other are refunded.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from carsight_service.aws.failures import failure
from carsight_service.contract.errors import (
    LimitExceeded,
    ServiceError,
    StoreUnavailable,
    envelope,
)
from carsight_service.queue.prefetch import fetched_ahead
from carsight_service.queue.retry import TryLater

if TYPE_CHECKING:
    from carsight_service.batch_store import Batch
    from carsight_service.deployment import Deployment
    from carsight_service.metering.model import Grant

MOST_IN_HAND = 20
"""With this many tickets in the meter, a child has to wait: every write of the item is charged by its
size."""

OUTCOMES_AHEAD = 32
"""How many outcomes are fetched ahead: ten million rows have 200,000, and each takes some 20 ms."""

_UNPAID = "unpaid"
"""The ticket of an outcome whose rows have not been counted."""


@dataclass(slots=True)
class Outcome:
    """The result of a child."""

    row: int
    """The number of its first row, which identifies the child."""
    read: int
    """How many rows have a 200, and so are charged."""
    ticket: str
    """The ticket under which its units were counted, or ``unpaid``, or ``none``."""
    lines: bytes
    """The rows of the result, as JSON Lines."""
    etag: str = ""
    """The object's eTag, once it is stored."""

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], ticket: str = _UNPAID) -> Outcome:
        """Return the outcome with ``rows``; if none was read, nothing has to be paid."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        read = sum(row["status"] == 200 for row in rows)
        return cls(rows[0]["row"], read, ticket if read else "none", lines.encode())

    @classmethod
    def from_object(cls, found: Mapping[str, Any]) -> Outcome:
        """Return the outcome in an object of S3."""
        head, _, lines = found["Body"].read().partition(b"\n")
        return cls(**json.loads(head), lines=lines, etag=found["ETag"])

    @property
    def body(self) -> bytes:
        """The content of its object: a line about it, so that payment changes the eTag, and its rows."""
        about = {"row": self.row, "read": self.read, "ticket": self.ticket}
        return json.dumps(about).encode() + b"\n" + self.lines

    @property
    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the result, parsed."""
        return map(json.loads, self.lines.splitlines())

    @property
    def is_paid(self) -> bool:
        """Whether its units have been counted."""
        return self.ticket != _UNPAID


class Outcomes:
    """The outcomes of one deployment's batches; safe to share between threads."""

    def __init__(self, deployment: Deployment) -> None:
        self._aws, self._storage = deployment.aws, deployment.storage
        self._meters, self._clock = deployment.meters, deployment.clock
        self._settings = deployment.settings

    def get(self, key: str) -> Outcome | None:
        """Return the outcome under ``key``; None if there is none."""
        found = self._object(key)
        return Outcome.from_object(found) if found else None

    def put(self, batch: Batch, outcome: Outcome, instead: Outcome | None = None) -> Outcome:
        """Store an outcome if there is none, or ``instead`` of that one; return the one that is stored."""
        condition: Any = {"IfMatch": instead.etag} if instead else {"IfNoneMatch": "*"}
        which: Any = {"Bucket": self._storage.results_bucket, "Key": batch.part(outcome.row)}
        try:
            stored = self._aws.photos.put_object(**which, Body=outcome.body, **condition)
        except Exception as error:
            if failure(error).code != "PreconditionFailed" or (found := self.get(which["Key"])) is None:
                raise
            return found
        outcome.etag = stored["ETag"]
        return outcome

    def all_paid(self, batch: Batch) -> Iterator[Outcome]:
        """Yield the outcomes of a batch in the order of its list, after paying those that are not paid.

        Only a few are in memory.
        """
        pages = self._aws.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._storage.results_bucket, Prefix=batch.part()
        )
        # A page without objects gives None (findings/botocore_search_of_nothing.sh).
        keys = filter(None, pages.search("Contents[].Key"))
        with fetched_ahead(self.get, keys, OUTCOMES_AHEAD) as outcomes:
            for _, found in outcomes:
                if outcome := found.result():
                    yield outcome if outcome.is_paid else self.pay(batch, outcome)

    def pay(self, batch: Batch, outcome: Outcome, *, waits: bool = False) -> Outcome:
        """Count what was read of a child, and only once however often it is called; return the paid outcome.

        With ``waits``, raises ``TryLater`` if ``MOST_IN_HAND`` others are being counted.
        """
        granted = self._meters.granted(batch.account, batch.api)
        grants = [grant for grant in granted if grant.ticket.startswith(batch.tickets(outcome.row))]
        if not outcome.is_paid:
            in_hand = sum("-" in grant.ticket for grant in granted)  # no upload's has a dash
            if waits and not grants and in_hand >= MOST_IN_HAND:
                raise TryLater("others are being counted")
            paid, grants = self._paid(batch, outcome, grants)
            outcome = self.put(batch, paid, outcome)
        for grant in grants:
            self._meters.close(grant, outcome.read if grant.ticket == outcome.ticket else 0)
        return outcome

    def _paid(self, batch: Batch, outcome: Outcome, grants: list[Grant]) -> tuple[Outcome, list[Grant]]:
        """Return the paid form of an unpaid outcome, and the open grants of its child."""
        ticket = f"{batch.tickets(outcome.row)}{secrets.token_hex(3)}"
        try:
            grants = grants or [self._meters.take(batch.account, batch.api, outcome.read, ticket)]
            refusal: ServiceError = LimitExceeded(grants[0].usage, self._clock())
        except StoreUnavailable:
            raise
        except ServiceError as error:  # the key, its plan or its limit
            refusal = error
        if all(grant.units < outcome.read for grant in grants):
            # Another run of the child may have taken the last units; if no grant is open, one has paid.
            grants = self.open_grants(batch, outcome.row) or grants
        most = max(grants, key=lambda grant: grant.units, default=None)
        units, ticket = (most.units, most.ticket) if most else (0, "none")
        if units >= outcome.read:
            return replace(outcome, ticket=ticket), grants
        rows = list(outcome.rows)
        for at, row in enumerate(rows):
            if row["status"] == 200 and (units := units - 1) < 0:
                rows[at] = self.refused(batch, row, refusal)
        return Outcome.of(rows, ticket), grants

    def settle(self, batch: Batch) -> None:
        """Close the tickets that runs of children have left open, after paying the outcomes of these."""
        for row in {batch.row_of(grant.ticket) for grant in self.open_grants(batch)}:
            if outcome := self.get(batch.part(row)):
                self.pay(batch, outcome)

    def open_grants(self, batch: Batch, first_row: int | None = None) -> list[Grant]:
        """Return the grants of one child, or of the whole batch, that are counted and not closed."""
        granted = self._meters.granted(batch.account, batch.api)
        return [grant for grant in granted if grant.ticket.startswith(batch.tickets(first_row))]

    def refused(self, batch: Batch, row: Mapping[str, Any], error: ServiceError) -> dict[str, Any]:
        """Return the result's line for a row that could not be read or counted."""
        about = {name: row[name] for name in ("row", "id", "input") if name in row}
        refusal = envelope(error, f"{batch.id}-{row['row']}", self._settings)
        return {**about, "status": error.status, **refusal}

    def noted(self, batch: Batch, first_row: int) -> list[int]:
        """Return the numbers of the rows that may have killed a child's worker."""
        found = self._object(batch.notes(first_row))
        return json.loads(found["Body"].read()) if found else []

    def note(self, batch: Batch, first_row: int, rows: Sequence[int]) -> None:
        """Record the rows that will have killed a child's worker, should it die now."""
        self._storage.write_result(batch.notes(first_row), json.dumps(rows).encode())

    def _object(self, key: str) -> Any:
        try:
            return self._aws.photos.get_object(Bucket=self._storage.results_bucket, Key=key)
        except Exception as error:
            if failure(error).code == "NoSuchKey":
                return None
            raise
