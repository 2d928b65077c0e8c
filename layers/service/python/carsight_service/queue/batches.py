"""A child of a batch's map: some fifty rows are read, stored together, and counted under one ticket.

Step Functions may run a child twice, at once or after its worker died. What a child has come to is one object
of the results bucket, its outcome, stored once. Then it is paid: units are taken for the rows that were read,
and the outcome is replaced by one that names the ticket they were taken under, which S3 lets only one do.
Whoever finds an outcome unpaid, the child's next run or the end of its batch, pays it. Units are charged for
the ticket that the outcome names, and those of any other are given back.

    a worker dies with   the next run
    rows read            reads them again
    outcome stored       takes units, and pays it
    units taken          pays it with them
    outcome paid         closes its ticket

A photo that ends its worker each time ends as a row too: from the fifth attempt on, each row is noted before
it is read, and one that was being read when the worker died twice is left out.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from carsight_service.aws.signed import failure
from carsight_service.aws.storage import INCOMING, upload_prefix
from carsight_service.batch_store import Batch, Batches
from carsight_service.contract.errors import (
    InternalError,
    InvalidImage,
    InvalidRequest,
    LimitExceeded,
    RequestTimedOut,
    ServiceError,
    StoreUnavailable,
    envelope,
)
from carsight_service.contract.lists import Row, parse_row
from carsight_service.deadline import OutOfTime
from carsight_service.images import S3Source, UrlSource, image_source
from carsight_service.queue.messages import TryLater
from carsight_service.reading import Recognize, forget_frames, translate
from carsight_service.telemetry import logger, stage, timed

if TYPE_CHECKING:
    from carsight_service.aws.lambda_types import Event
    from carsight_service.deployment import Deployment
    from carsight_service.metering.model import Grant

SECONDS_A_ROW = 12.0
"""How long a row's photo is waited for, and what is left for another row: a fetch is given up after 8."""

CHILD_SECONDS = 110.0
"""What reading a child may take, fifty rows whose hosts do not answer included."""

MOST_IN_HAND = 20
"""Tickets in a meter from which on a child comes back later: every write of the item pays for all of it."""

AHEAD = 8
"""Photos that are fetched while one is read."""

OUTCOMES_AHEAD = 32
"""Outcomes that are fetched while one is joined: 200,000 of ten million rows, each in some 20 ms."""

PATIENT_ATTEMPTS = 4
"""How often a child is simply tried again. Then a row whose store does not answer ends as it is, and the row
that is being read is noted: one that ends its worker twice is left out of the next attempt."""

_STOPPED = "the batch was stopped"

_UNPAID = "unpaid"
"""The ticket of an outcome whose rows have not been counted."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ChildRow:
    """One row, as the map hands it over."""

    row: int
    """Its place in the list, from 1."""
    input: Any
    """What ``contract.lists.parse_row`` takes."""

    @property
    def about(self) -> dict[str, Any]:
        """What its line in a result says of it, whatever it has come to."""
        with suppress(InvalidRequest):
            row = parse_row(self.input, self.row)
            return {"row": self.row, **({} if row.id is None else {"id": row.id}), "input": row.image}
        return {"row": self.row, "input": self.input}


@dataclass(slots=True)
class Outcome:
    """What a child has come to."""

    row: int
    """Its first row, which names the child."""
    read: int
    """How many rows were answered with a 200, and so are charged."""
    ticket: str
    """What its units were counted under."""
    lines: bytes
    """Its rows as JSON Lines."""
    etag: str = ""
    """S3's name for the object, once it is there."""

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], ticket: str = _UNPAID) -> Outcome:
        """Return the outcome that ``rows`` are; there is nothing to be paid where none was read."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        read = sum(row["status"] == 200 for row in rows)
        return cls(rows[0]["row"], read, ticket if read else "none", lines.encode())

    @classmethod
    def from_object(cls, found: Mapping[str, Any]) -> Outcome:
        """Return the outcome that an object of S3 is."""
        head, _, lines = found["Body"].read().partition(b"\n")
        return cls(**json.loads(head), lines=lines, etag=found["ETag"])

    @property
    def body(self) -> bytes:
        """What its object holds: a line about it, by which S3 tells paid from unpaid, and its rows."""
        about = {"row": self.row, "read": self.read, "ticket": self.ticket}
        return json.dumps(about).encode() + b"\n" + self.lines

    @property
    def is_paid(self) -> bool:
        """Whether its units have been counted."""
        return self.ticket != _UNPAID

    def paid_by(self, grant: Grant) -> int:
        """Return how many of the units of ``grant`` it keeps."""
        return self.read if grant.ticket == self.ticket else 0


@dataclass(frozen=True)
class Outcomes:
    """What children have come to, each in an object that S3 lets only one of them write."""

    deployment: Deployment

    @property
    def _bucket(self) -> str:
        return self.deployment.storage.results_bucket

    def get(self, key: str) -> Outcome | None:
        """Return the outcome under ``key``, None where there is none."""
        found = self._object(key)
        return Outcome.from_object(found) if found else None

    def put(self, batch: Batch, outcome: Outcome, instead: Outcome | None = None) -> Outcome:
        """Store an outcome where there is none, or ``instead`` of one; return the one that is there then."""
        condition: Any = {"IfMatch": instead.etag} if instead else {"IfNoneMatch": "*"}
        which: Any = {"Bucket": self._bucket, "Key": batch.part(outcome.row)}
        try:
            stored = self.deployment.aws.photos.put_object(**which, Body=outcome.body, **condition)
        except Exception as error:
            if failure(error).code != "PreconditionFailed" or (found := self.get(which["Key"])) is None:
                raise
            return found
        outcome.etag = stored["ETag"]
        return outcome

    def pay(self, batch: Batch, outcome: Outcome, *, waits: bool = False) -> Outcome:
        """Count what was read of a child, once whoever does it; return its outcome, which is paid then.

        Raises ``TryLater`` where it ``waits`` for others: each write of the meter pays for all tickets in it.
        """
        meters = self.deployment.meters
        granted = meters.granted(batch.account, batch.api)
        grants = [grant for grant in granted if grant.ticket.startswith(batch.tickets(outcome.row))]
        if not outcome.is_paid:
            in_hand = sum("-" in grant.ticket for grant in granted)  # no upload's has a dash
            if waits and not grants and in_hand >= MOST_IN_HAND:
                raise TryLater("others are being counted")
            paid, grants = self._paid(batch, outcome, grants)
            outcome = self.put(batch, paid, outcome)
        for grant in grants:
            meters.close(grant, outcome.paid_by(grant))
        return outcome

    def _paid(self, batch: Batch, outcome: Outcome, grants: list[Grant]) -> tuple[Outcome, list[Grant]]:
        """Return an unpaid outcome as it is when it has been paid, and what is open of its child."""
        refusal: ServiceError
        if not grants:
            ticket = f"{batch.tickets(outcome.row)}{secrets.token_hex(3)}"
            try:
                grants = [self.deployment.meters.take(batch.account, batch.api, outcome.read, ticket)]
            except StoreUnavailable:
                raise
            except ServiceError as error:  # the key, its plan or its limit
                refusal = error
        if grants:
            refusal = LimitExceeded(grants[0].usage, self.deployment.clock())
        if all(grant.units < outcome.read for grant in grants):
            grants = self.open(batch, outcome.row)  # another run of the child may have taken the last
        most = max(grants, key=lambda grant: grant.units, default=None)
        units, ticket = (most.units, most.ticket) if most else (0, "none")
        if units >= outcome.read:
            return replace(outcome, ticket=ticket), grants
        rows = [json.loads(line) for line in outcome.lines.splitlines()]
        for at, row in enumerate(rows):
            if row["status"] == 200 and (units := units - 1) < 0:
                rows[at] = self.refused(batch, row, refusal)
        return Outcome.of(rows, ticket), grants

    def refused(self, batch: Batch, row: Mapping[str, Any], error: ServiceError) -> dict[str, Any]:
        """Return the line of a result for a row that could not be read, or not be counted."""
        about = {name: row[name] for name in ("row", "id", "input") if name in row}
        refusal = envelope(error, f"{batch.id}-{row['row']}", self.deployment.settings)
        return {**about, "status": error.status, **refusal}

    def settle(self, batch: Batch) -> None:
        """Close the tickets that runs of children have left open: each has an outcome, which is paid then."""
        for row in {batch.row_of(grant.ticket) for grant in self.open(batch)}:
            if outcome := self.get(batch.part(row)):
                self.pay(batch, outcome)

    def all(self, batch: Batch) -> Iterator[Outcome]:
        """Yield the outcomes of a batch, each paid, in the order of its list, a few of them in memory."""
        pages = self.deployment.aws.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=batch.part()
        )
        keys = filter(None, pages.search("Contents[].Key"))
        with closing(fetched_ahead(self.get, keys, OUTCOMES_AHEAD)) as outcomes:
            for _, found in outcomes:
                if outcome := found.result():
                    yield outcome if outcome.is_paid else self.pay(batch, outcome)

    def open(self, batch: Batch, first_row: int | None = None) -> list[Grant]:
        """Return what is counted and not closed of one child, or of all of a batch."""
        granted = self.deployment.meters.granted(batch.account, batch.api)
        return [grant for grant in granted if grant.ticket.startswith(batch.tickets(first_row))]

    def noted(self, batch: Batch, first_row: int) -> list[int]:
        """Return the rows of a child that its worker may have died over."""
        found = self._object(batch.notes(first_row))
        return json.loads(found["Body"].read()) if found else []

    def note(self, batch: Batch, first_row: int, rows: Sequence[int]) -> None:
        """Note the rows of a child that its worker will have died over, should it die now."""
        self.deployment.storage.write_result(batch.notes(first_row), json.dumps(rows).encode())

    def _object(self, key: str) -> Any:
        try:
            return self.deployment.aws.photos.get_object(Bucket=self._bucket, Key=key)
        except Exception as error:
            if failure(error).code == "NoSuchKey":
                return None
            raise


@dataclass(frozen=True, slots=True)
class Child:
    """What Step Functions invokes a worker for."""

    batch: Batch
    rows: Sequence[ChildRow]
    attempt: int
    deadline: float
    """When it has to have come to something (``time.monotonic``)."""

    @property
    def first(self) -> int:
        """The row that names the child: the map cuts a list in the same way whenever it is run."""
        return self.rows[0].row


class BatchWorker:
    """Reads children of batches of one API; one per process, safe to share between threads."""

    def __init__(self, deployment: Deployment, recognize: Recognize) -> None:
        self._deployment = deployment
        self._recognize = recognize
        self._batches = Batches(deployment)
        self._outcomes = Outcomes(deployment)

    def read(self, event: Event, deadline: float) -> Mapping[str, Any]:
        """Read the rows of a child before ``deadline``; return what Step Functions keeps of it.

        Raises ``TryLater`` where its batch was stopped, and whatever is our fault: both are tried again.
        """
        batch = self._running(event["BatchInput"]["batch"])
        if batch is None:
            raise TryLater(_STOPPED)
        rows, attempt = [ChildRow(**item) for item in event["Items"]], event["attempt"]
        child = Child(batch, rows, attempt, min(deadline, time.monotonic() + CHILD_SECONDS))
        with timed(self._deployment.timer) as stages:
            outcome = self._outcomes.get(batch.part(child.first)) or self._read(child)
            with stage("keys"):
                # Looked at behind the outcome: whoever ends the batch notes that before it looks for these.
                if self._running(batch.id) is None:
                    raise TryLater(_STOPPED)
                outcome = self._outcomes.pay(batch, outcome, waits=attempt < PATIENT_ATTEMPTS)
        about = {"row": child.first, "rows": len(rows), "read": outcome.read}
        milliseconds = {name: round(value, 1) for name, value in stages.items()}
        logger.info("rows read", extra={"batch": batch.id, **about, "ms": milliseconds})
        return about

    def _running(self, batch_id: str) -> Batch | None:
        """Return the batch, None where it does not run."""
        batch = self._batches.get(batch_id)
        return batch if batch and batch.state == "running" else None

    def _read(self, child: Child) -> Outcome:
        """Store what a child comes to; return what is stored then, which may be another run's."""
        try:
            with stage("keys"):
                self._deployment.meters.admit_by_id(child.batch.account, child.batch.api)
        except StoreUnavailable:
            raise
        except ServiceError as refused:  # the key, its plan or its limit
            rows = [self._outcomes.refused(child.batch, item.about, refused) for item in child.rows]
        else:
            rows = self._rows(child)
        mine = Outcome.of(rows)
        with stage("store"):
            outcome = self._outcomes.put(child.batch, mine)
        if outcome is mine:
            self._batches.add(child.batch, mine.read, len(rows) - mine.read)
        return outcome

    def _rows(self, child: Child) -> list[dict[str, Any]]:
        """Read the rows of a child, but for those that have ended its worker."""
        is_noted = child.attempt >= PATIENT_ATTEMPTS
        noted = self._outcomes.noted(child.batch, child.first) if is_noted else []
        fatal = [row for row in noted if noted.count(row) > 1]  # once may be the worker's end, or a store's
        rows: list[dict[str, Any]] = []
        with closing(fetched_ahead(partial(self._fetch, child.batch), child.rows)) as photos:
            for item, photo in photos:
                if item.row in fatal:
                    fault = InternalError(child.batch.api)
                    rows.append(self._outcomes.refused(child.batch, item.about, fault))
                    continue
                if is_noted:
                    self._outcomes.note(child.batch, child.first, [*noted, item.row])
                rows.append(self._row(child, item, photo))
        if is_noted:  # no row's fault, whatever happens to what they have come to
            self._outcomes.note(child.batch, child.first, fatal)
        return rows

    def _row(self, child: Child, item: ChildRow, photo: Future[tuple[Row, bytes]]) -> dict[str, Any]:
        """Read one row. Raises where that is worth another attempt; anything else is the row's answer."""
        refused = partial(self._outcomes.refused, child.batch, item.about)
        if time.monotonic() + SECONDS_A_ROW > child.deadline:
            return refused(RequestTimedOut())  # it would be as slow again
        start = self._deployment.timer()
        try:
            with stage("load"):
                row, image = photo.result(SECONDS_A_ROW)
            answer = self._recognize(image, row.regions or child.batch.regions)
            milliseconds = (self._deployment.timer() - start) * 1000
            body = answer.body(f"{child.batch.id}-{item.row}", milliseconds)
            return {**item.about, "status": 200, **body}
        except Exception as error:
            refusal = translate(OutOfTime() if isinstance(error, TimeoutError) else error, child.batch.api)
            # What is waited for in vain is an object: a URL is given up before that.
            if isinstance(refusal, StoreUnavailable | RequestTimedOut) and child.attempt < PATIENT_ATTEMPTS:
                raise
            answered = refused(refusal)
            forget_frames(error)
            return answered

    def _fetch(self, batch: Batch, item: ChildRow) -> tuple[Row, bytes]:
        """Return a row and the bytes that it names.

        A URL, an object of a bucket that the deployment lists, or an upload of the same account (its object
        key in the uploads bucket, or an ``s3://`` address). Raises the contract's errors.
        """
        row, storage = parse_row(item.input, item.row), self._deployment.storage
        source = image_source(row.image)
        if not isinstance(source, UrlSource | S3Source):
            source = S3Source(storage.uploads_bucket, row.image)
        match source:
            case S3Source(storage.uploads_bucket, key) if key.startswith(INCOMING):
                if not key.startswith((upload_prefix(batch.account), upload_prefix(batch.key_id))):
                    raise InvalidImage("not an upload of this account")
                return row, storage.read_photo(source.bucket, key).data
        return row, self._deployment.images.load(source)


def fetched_ahead(
    fetch: Callable[[Item], Result], items: Iterable[Item], most: int = AHEAD
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """Call ``fetch`` for ``most`` of ``items`` in threads; yield each item with what it comes to."""
    pool = ThreadPoolExecutor(most)
    ahead: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            ahead.append((item, pool.submit(fetch, item)))
            if len(ahead) == most:
                yield ahead.popleft()
        yield from ahead
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
