"""A child of a batch's map: some fifty rows are read, counted under one ticket, and answered together.

Step Functions may run a child twice, at once or after its worker died. What a child has come to is one object
of the results bucket, written once; whoever finds it returns it. Each run that takes units takes them under a
ticket of its own, and the object names the one that has paid for it: all others are given back. In the order
in which a worker may die, and what the next run finds:

    lease taken          its own lease, where it is the same child tried again; another's runs out
    units taken          the ticket is in the meter: the same units, not counted again
    outcome stored       nothing is read; what is left is to settle the ticket
    ticket closed        nothing left of it; the outcome is the answer

A photo that ends its worker each time ends as a row too: from the third attempt on, each row is noted in the
lease before it is read, and the one that was being read when the worker died is left out.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from carsight_service.aws.storage import INCOMING, upload_prefix
from carsight_service.batch_store import Batch, Batches
from carsight_service.contract.errors import (
    InternalError,
    InvalidImage,
    InvalidRequest,
    LimitExceeded,
    ServiceError,
    StoreUnavailable,
    envelope,
)
from carsight_service.contract.lists import Row, parse_row
from carsight_service.deadline import OutOfTime
from carsight_service.images import S3Source, UrlSource
from carsight_service.queue.leases import Lease, Leases
from carsight_service.queue.messages import TryLater
from carsight_service.reading import Recognize, forget_frames, translate
from carsight_service.telemetry import logger, stage, timed

if TYPE_CHECKING:
    from carsight_service.aws.lambda_types import Event
    from carsight_service.deployment import Deployment
    from carsight_service.metering.model import Grant

SECONDS_A_ROW = 12.0
"""How long a row's photo is waited for, and what is left for another row: a fetch is given up after 8."""

CHILD_SECONDS = 120.0
"""What a child may take, fifty rows whose hosts do not answer included; its lease lasts no longer."""

AHEAD = 8
"""Photos that are fetched while one is read."""

PATIENT_ATTEMPTS = 4
"""How often a child is tried again where a row's store does not answer; then the row ends as it is."""

SUSPICIOUS_ATTEMPTS = 2
"""From which attempt on a child notes which row it reads; one that ends its worker then is left out."""

ANSWER_BYTES = 240_000
"""The largest result of a child: Step Functions takes 256 KiB."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ChildRow:
    """One row, as the map hands it over."""

    row: int
    """Its place in the list, from 1."""
    input: Any
    """What ``contract.lists.parse_row`` takes."""

    def answer(self, status: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row of a result: which row of the list it is, and what it has come to."""
        try:
            row = parse_row(self.input, self.row)
        except InvalidRequest:
            about = {"input": self.input}
        else:
            about = {"input": row.image} if row.id is None else {"id": row.id, "input": row.image}
        return {"row": self.row, **about, "status": status, **body}

    def refusal(self, batch: Batch, error: ServiceError, links: Any) -> dict[str, Any]:
        """Return the row of a result that could not be read."""
        return self.answer(error.status, envelope(error, f"{batch.id}-{self.row}", links))


@dataclass(frozen=True, slots=True)
class Child:
    """What Step Functions invokes a worker for."""

    batch: Batch
    rows: Sequence[ChildRow]
    run: str
    """Names the child's execution, which tries again where a worker dies."""
    attempt: int

    @property
    def first(self) -> int:
        """The row that names the child: the map cuts a list in the same way whenever it is run."""
        return self.rows[0].row


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a child has come to."""

    lines: bytes
    """Its rows as JSON Lines."""
    read: int = 0
    """How many rows were answered with a 200, and so are charged."""
    ticket: str = "none"
    """What its units were counted under."""

    def paid_by(self, grant: Grant) -> int:
        """Return how many of the units of ``grant`` it keeps."""
        return self.read if grant.ticket == self.ticket else 0


class Outcomes:
    """What children have come to, each in an object that is written once."""

    def __init__(self, deployment: Deployment) -> None:
        self._s3 = deployment.aws.s3
        self._bucket = deployment.storage.results_bucket
        self._meters = deployment.meters

    def get(self, key: str) -> Outcome | None:
        """Return the outcome under ``key``, None where there is none."""
        try:
            found = self._s3.get_object(Bucket=self._bucket, Key=key)
        except self._s3.exceptions.NoSuchKey:
            return None
        about = found["Metadata"]
        return Outcome(found["Body"].read(), int(about["read"]), about["ticket"])

    def put(self, key: str, outcome: Outcome) -> Outcome:
        """Store an outcome unless there is one; return the one that is there."""
        try:
            self._s3.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=outcome.lines,
                Metadata={"read": str(outcome.read), "ticket": outcome.ticket},
                IfNoneMatch="*",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed" or (found := self.get(key)) is None:
                raise
            return found
        return outcome

    def all(self, batch: Batch) -> Iterator[Outcome]:
        """Yield the outcomes of a batch, in the order of its list, a few of them in memory."""
        listed = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=batch.part())
        keys = (found["Key"] for page in listed for found in page.get("Contents", ()))
        with fetched_ahead(self.get, keys) as found:
            yield from (outcome for _, future in found if (outcome := future.result()))

    def settle(self, batch: Batch, first_row: int | None = None) -> None:
        """Close what workers that died have left open: the tickets of one child, or of all of a batch."""
        for grant in self.open(batch, first_row):
            outcome = self.get(batch.part(batch.row_of(grant.ticket)))
            self._meters.close(grant, outcome.paid_by(grant) if outcome else 0)

    def open(self, batch: Batch, first_row: int | None = None) -> list[Grant]:
        """Return what is counted and not closed of one child, or of all of a batch."""
        return self._meters.granted(batch.account, batch.api, batch.tickets(first_row))


class BatchWorker:
    """Reads children of batches of one API; one per process, safe to share between threads."""

    def __init__(self, deployment: Deployment, recognize: Recognize, leases: Leases) -> None:
        self._deployment = deployment
        self._storage = deployment.storage
        self._meters = deployment.meters
        self._recognize = recognize
        self._batches = Batches(deployment)
        self._outcomes = Outcomes(deployment)
        self._leases = leases

    def read(self, event: Event, deadline: float) -> list[dict[str, Any]]:
        """Read the rows of a child before ``deadline``; return the rows of its result.

        Raises ``TryLater`` where another run is at it, and whatever is our fault: both are tried again.
        """
        batch = self._batches.get(event["BatchInput"]["batch"])
        if batch is None or batch.state != "running":
            raise TryLater("the batch was stopped")
        rows = [ChildRow(**item) for item in event["Items"]]
        child = Child(batch, rows, event["run"], event["attempt"])
        seconds = min(CHILD_SECONDS, deadline - time.monotonic())
        name = f"batch/{batch.id}/{child.first}"
        lease = self._leases.take(name, batch.id, seconds, holder=child.run)
        if lease is None:
            outcome = self._outcomes.get(batch.part(child.first))
            return fitting(outcome.lines if outcome else b"")
        with self._leases.held(lease), timed(self._deployment.timer) as stages:
            outcome = self._outcomes.get(batch.part(child.first)) if lease.is_again else None
            if outcome is None:
                outcome = self._read(child, lease, time.monotonic() + seconds)
            else:
                self._outcomes.settle(batch, child.first)
        about = {"batch": batch.id, "row": child.first, "rows": len(rows), "read": outcome.read}
        milliseconds = {name: round(value, 1) for name, value in stages.items()}
        logger.info("rows read", extra={**about, "ms": milliseconds})
        return fitting(outcome.lines)

    def _read(self, child: Child, lease: Lease, deadline: float) -> Outcome:
        batch = child.batch
        try:
            with stage("keys"):
                grant = self._take(child, lease)
        except StoreUnavailable:
            raise
        except ServiceError as refused:  # the key, its plan or its limit: that is every row's answer
            return self._store(child, [self._refused(batch, item, refused) for item in child.rows])
        noting = child.attempt >= SUSPICIOUS_ATTEMPTS
        fatal = [int(row) for row in lease.note.split(",") if row]
        try:
            rows = self._rows(child, grant, deadline, fatal, lease if noting else None)
        except Exception:
            if noting:  # no row's fault
                self._leases.note(lease, ",".join(map(str, fatal)))
            raise
        now = self._batches.get(batch.id)
        if now is None or now.state != "running" or now.redrives != batch.redrives:
            # It was stopped meanwhile: its result has been written, and what is open has been closed.
            self._meters.close(grant, 0)
            raise TryLater("the batch was stopped")
        outcome = self._store(child, rows, grant.ticket)
        with stage("keys"):
            self._meters.close(grant, outcome.paid_by(grant))
        return outcome

    def _take(self, child: Child, lease: Lease) -> Grant:
        """Take the units of a child, unless a run before has taken them and not come to an end."""
        if lease.is_again and (left := self._outcomes.open(child.batch, child.first)):
            return left[0]
        # Under a name of its own: a run that comes late, when another has closed its ticket, has none to it.
        ticket = child.batch.tickets(child.first) + secrets.token_hex(3)
        return self._meters.take(child.batch.account, child.batch.api, len(child.rows), ticket)

    def _store(self, child: Child, rows: Sequence[Mapping[str, Any]], ticket: str = "none") -> Outcome:
        mine = Outcome(lines_of(rows), sum(row["status"] == 200 for row in rows), ticket)
        with stage("store"):
            outcome = self._outcomes.put(child.batch.part(child.first), mine)
        if outcome is mine:
            self._batches.add(child.batch, mine.read, len(rows) - mine.read)
        return outcome

    def _rows(
        self, child: Child, grant: Grant, deadline: float, fatal: Sequence[int], noted: Lease | None
    ) -> list[dict[str, Any]]:
        """Read the rows of a child but those that were ``fatal`` to its worker; each is ``noted`` before."""
        batch, rows, read = child.batch, list[dict[str, Any]](), 0
        with fetched_ahead(partial(self._fetch, batch), child.rows) as photos:
            for item, photo in photos:
                if time.monotonic() + SECONDS_A_ROW > deadline:
                    raise TryLater("no time for another row")
                if item.row in fatal:
                    rows.append(self._refused(batch, item, InternalError(batch.api)))
                    continue
                if noted:
                    self._leases.note(noted, ",".join(map(str, [*fatal, item.row])))
                try:
                    rows.append(self._row(batch, item, photo, grant if read == grant.units else None))
                    read += 1
                except Exception as error:
                    refused = translate(error, batch.api)
                    if isinstance(refused, StoreUnavailable) and child.attempt < PATIENT_ATTEMPTS:
                        raise
                    rows.append(self._refused(batch, item, refused))
                    forget_frames(error)
        return rows

    def _row(
        self, batch: Batch, item: ChildRow, photo: Future[tuple[Row, bytes]], used_up: Grant | None
    ) -> dict[str, Any]:
        """Read one row, unless its child's units are ``used_up``. Raises whatever it cannot be read for."""
        if used_up:
            raise LimitExceeded(used_up.usage, self._deployment.clock())
        start = self._deployment.timer()
        with stage("load"):
            try:
                row, image = photo.result(SECONDS_A_ROW)
            except TimeoutError:
                raise OutOfTime from None
        answer = self._recognize(image, row.regions or batch.regions)
        milliseconds = (self._deployment.timer() - start) * 1000
        return item.answer(200, answer.body(f"{batch.id}-{item.row}", milliseconds))

    def _refused(self, batch: Batch, item: ChildRow, error: ServiceError) -> dict[str, Any]:
        return item.refusal(batch, error, self._deployment.settings)

    def _fetch(self, batch: Batch, item: ChildRow) -> tuple[Row, bytes]:
        """Return a row and the bytes that it names.

        A URL, an object of a bucket that the deployment lists, or an upload of the same account (its object
        key in the uploads bucket, or an ``s3://`` address). Raises the contract's errors.
        """
        row = parse_row(item.input, item.row)
        images = self._deployment.images
        if row.image.lower().startswith(("http://", "https://")):
            return row, images.load(UrlSource(row.image))
        bucket, key = self._storage.uploads_bucket, row.image
        if key.lower().startswith("s3://"):
            bucket, _, key = key[len("s3://") :].partition("/")
        if bucket != self._storage.uploads_bucket or not key.startswith(INCOMING):
            return row, images.load(S3Source(bucket, key))
        if not key.startswith((upload_prefix(batch.account), upload_prefix(batch.key_id))):
            raise InvalidImage("not an upload of this account")
        return row, self._storage.read_photo(bucket, key).data


def lines_of(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as JSON Lines."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def fitting(outcome: bytes) -> list[dict[str, Any]]:
    """Return the rows of an outcome, without what it takes too much room to pass on.

    What tells of single characters and candidates but the first go first, then plates behind the first of a
    row, which says so then.
    """
    rows: list[dict[str, Any]] = [json.loads(line) for line in outcome.splitlines()]
    for shorten in (_without_details, _with_one_plate):
        if len(outcome) > ANSWER_BYTES:
            for row in rows:
                shorten(row)
            outcome = lines_of(rows)
    return rows


def _without_details(row: dict[str, Any]) -> None:
    for reading in row.get("results") or [row]:
        for name in ("characters", "polygon", "repairs"):
            reading.pop(name, None)
        if "candidates" in reading:
            reading["candidates"] = reading["candidates"][:1]


def _with_one_plate(row: dict[str, Any]) -> None:
    if len(row.get("results", ())) > 1:
        row["truncated"] = len(row["results"])
        row["results"] = row["results"][:1]


@contextmanager
def fetched_ahead(
    fetch: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Iterator[tuple[Item, Future[Result]]]]:
    """Call ``fetch`` for ``AHEAD`` of ``items`` in threads; yields each item with what it comes to."""
    pool = ThreadPoolExecutor(AHEAD)

    def in_order() -> Iterator[tuple[Item, Future[Result]]]:
        ahead: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            ahead.append((item, pool.submit(fetch, item)))
            if len(ahead) == AHEAD:
                yield ahead.popleft()
        yield from ahead

    try:
        yield in_order()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
