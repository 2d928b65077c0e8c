"""A child of a batch's map: some fifty rows are read, counted under one ticket, and stored together.

They are counted once they are read, like a call: a ticket is in the meter for as long as it takes to store
what it pays for, and all children of a key share that item.

Step Functions may run a child twice, at once or after its worker died. What a child has come to is one object
of the results bucket, its outcome, and that object alone decides: units are charged for the outcome that
names their ticket, and given back for any other. Whoever runs a child, or ends its batch, first closes the
tickets that are open: where there is no outcome, a void one is stored, in whose place only those put another
who have seen it. Whoever comes late with an outcome of the same child finds one there, and returns it.

    a worker dies with   the next run
    rows read            reads them again
    units taken          gives them back, and reads again
    outcome stored       closes its ticket, and returns it

A photo that ends its worker each time ends as a row too: from the third attempt on, each row is noted before
it is read, and the one that was being read when the worker died is left out.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from carsight_service.aws.signed import failure
from carsight_service.aws.storage import INCOMING, upload_prefix
from carsight_service.batch_store import Batch, Batches
from carsight_service.contract.api import MAX_IMAGE_BYTES
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
"""Tickets in a meter from which on a child waits with its own: every write of the item pays for all of it."""

TURNS, TURN_SECONDS = 12, 2.0
"""How often a child waits to be counted, and how long at most each time; then it takes its units anyway."""

AHEAD = 8
"""Photos that are fetched while one is read."""

OUTCOMES_AHEAD = 32
"""Outcomes that are fetched while one is joined: 200,000 of ten million rows, each in some 20 ms."""

PATIENT_ATTEMPTS = 4
"""How often a child is tried again where a row's store does not answer; then the row ends as it is."""

SUSPICIOUS_ATTEMPTS = 2
"""From which attempt on a child notes which row it reads; one that ends its worker then is left out."""

_STOPPED = "the batch was stopped"

_VOID = "void"
"""The ticket of an outcome that stands for none."""

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
        about = {"input": self.input}
        with suppress(InvalidRequest):
            row = parse_row(self.input, self.row)
            about = {"input": row.image} if row.id is None else {"id": row.id, "input": row.image}
        return {"row": self.row, **about, "status": status, **body}

    def refusal(self, batch: Batch, error: ServiceError, links: Any) -> dict[str, Any]:
        """Return the row of a result that could not be read."""
        return self.answer(error.status, envelope(error, f"{batch.id}-{self.row}", links))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a child has come to."""

    lines: bytes
    """Its rows as JSON Lines."""
    read: int = 0
    """How many rows were answered with a 200, and so are charged."""
    ticket: str = "none"
    """What its units were counted under."""
    etag: str = ""
    """S3's name for these bytes, where they were found there."""

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], ticket: str = "none") -> Outcome:
        """Return the outcome that ``rows`` are."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return cls(lines.encode(), sum(row["status"] == 200 for row in rows), ticket)

    @classmethod
    def void(cls) -> Outcome:
        """Return one that says that there is none; each has bytes of its own, for S3 to tell them apart."""
        return cls(secrets.token_bytes(16), ticket=_VOID)

    @property
    def is_void(self) -> bool:
        """Whether the child has come to nothing yet."""
        return self.ticket == _VOID

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
        if (found := self._object(key)) is None:
            return None
        about = found["Metadata"]
        return Outcome(found["Body"].read(), int(about["read"]), about["ticket"], found["ETag"])

    def put(self, key: str, outcome: Outcome, instead: Outcome | None = None) -> Outcome:
        """Store an outcome where there is none, or ``instead`` of one; return the one that is there then."""
        condition: Any = {"IfMatch": instead.etag} if instead else {"IfNoneMatch": "*"}
        about = {"read": str(outcome.read), "ticket": outcome.ticket}
        try:
            self.deployment.aws.photos.put_object(
                Bucket=self._bucket, Key=key, Body=outcome.lines, Metadata=about, **condition
            )
        except Exception as error:
            if failure(error).code != "PreconditionFailed" or (found := self.get(key)) is None:
                raise
            return found
        return outcome

    def decide(self, key: str, otherwise: Outcome) -> Outcome:
        """Return the outcome under ``key``, which is ``otherwise`` from now on where there is none."""
        found = self.get(key)
        return self.put(key, otherwise, found) if found is None or found.is_void else found

    def all(self, batch: Batch) -> Iterator[Outcome]:
        """Yield the outcomes of a batch, in the order of its list, a few of them in memory."""
        pages = self.deployment.aws.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=batch.part()
        )
        keys = filter(None, pages.search("Contents[].Key"))
        with closing(fetched_ahead(self.get, keys, OUTCOMES_AHEAD)) as outcomes:
            for _, found in outcomes:
                if (outcome := found.result()) and not outcome.is_void:
                    yield outcome

    def open(self, batch: Batch) -> list[Grant]:
        """Return what is counted and not closed of children, of this batch and others of its account."""
        granted = self.deployment.meters.granted(batch.account, batch.api)
        return [grant for grant in granted if "-" in grant.ticket]  # no upload's ticket has a dash

    def settle(self, batch: Batch, first_row: int | None = None) -> None:
        """Close the open tickets of one child, or of all of a batch: nothing is stored under them then."""
        for grant in self.open(batch):
            if grant.ticket.startswith(batch.tickets(first_row)):
                outcome = self.decide(batch.part(batch.row_of(grant.ticket)), Outcome.void())
                self.deployment.meters.close(grant, outcome.paid_by(grant))

    def noted(self, batch: Batch, first_row: int) -> list[int]:
        """Return the rows of a child that its worker may have died over."""
        found = self._object(batch.notes(first_row))
        return json.loads(found["Body"].read()) if found else []

    def note(self, batch: Batch, first_row: int, rows: Sequence[int]) -> None:
        """Note the rows of a child that its worker will have died over, should it die now."""
        self.deployment.storage.write_result(batch.notes(first_row), json.dumps(rows).encode())

    def _object(self, key: str) -> Any:
        which: Any = {"Bucket": self._bucket, "Key": key}
        try:
            found: Any = self.deployment.aws.photos.get_object(**which)
        except Exception as error:
            if failure(error).code == "NoSuchKey":
                return None
            raise
        is_whole = found["ContentLength"] <= MAX_IMAGE_BYTES  # which is what this client brings at most
        return found if is_whole else self.deployment.aws.s3.get_object(**which)


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
        rows = [ChildRow(**item) for item in event["Items"]]
        child = Child(batch, rows, event["attempt"], min(deadline, time.monotonic() + CHILD_SECONDS))
        with timed(self._deployment.timer) as stages:
            with stage("keys"):
                self._outcomes.settle(batch, child.first)
            outcome = self._outcomes.get(batch.part(child.first))
            if outcome is None or outcome.is_void:
                outcome = self._read(child, outcome)
        if outcome.is_void:
            raise TryLater(_STOPPED)
        about = {"row": child.first, "rows": len(rows), "read": outcome.read}
        milliseconds = {name: round(value, 1) for name, value in stages.items()}
        logger.info("rows read", extra={"batch": batch.id, **about, "ms": milliseconds})
        return about

    def _running(self, batch_id: str) -> Batch | None:
        """Return the batch, None where it does not run."""
        batch = self._batches.get(batch_id)
        return batch if batch and batch.state == "running" else None

    def _read(self, child: Child, void: Outcome | None) -> Outcome:
        """Store what a child comes to, in the place of a ``void`` outcome where there is one.

        Return what is stored then: another run's, or a void outcome where the batch has ended meanwhile.
        """
        rows = [item.answer(200, {}) for item in child.rows]  # as far as is known
        try:
            with stage("keys"):
                self._deployment.meters.admit_by_id(child.batch.account, child.batch.api)
            rows = self._rows(child)
            if not (units := sum(row["status"] == 200 for row in rows)):
                return self._store(child, Outcome.of(rows), void)
            with stage("keys"):
                grant = self._take(child, units)
        except StoreUnavailable:
            raise
        except ServiceError as refused:  # the key, its plan or its limit
            return self._store(child, Outcome.of(self._charged(child, rows, 0, refused)), void)
        # Looked at behind the ticket: whoever ends the batch notes that before it looks for tickets.
        runs = self._running(child.batch.id)
        over = LimitExceeded(grant.usage, self._deployment.clock())
        rows = self._charged(child, rows, grant.units, over)
        outcome = self._store(child, Outcome.of(rows, grant.ticket) if runs else Outcome.void(), void)
        with stage("keys"):
            self._deployment.meters.close(grant, outcome.paid_by(grant))
        return outcome

    def _store(self, child: Child, mine: Outcome, void: Outcome | None) -> Outcome:
        with stage("store"):
            outcome = self._outcomes.put(child.batch.part(child.first), mine, void)
        if outcome is mine:
            self._batches.add(child.batch, mine.read, len(child.rows) - mine.read)
        return outcome

    def _take(self, child: Child, units: int) -> Grant:
        """Take the units of a child, when its turn has come: what it has read would have to be read again.

        The ticket has a name of its own, so that a run that comes late, when another has closed its ticket,
        has none to it.
        """
        batch = child.batch
        ticket = f"{batch.tickets(child.first)}{secrets.token_hex(3)}"
        turns = TURNS
        while True:
            try:
                if not turns or len(self._outcomes.open(batch)) < MOST_IN_HAND:
                    return self._deployment.meters.take(batch.account, batch.api, units, ticket)
            except StoreUnavailable:
                if not turns:
                    raise
            turns -= 1
            time.sleep(random.uniform(0, TURN_SECONDS))

    def _charged(
        self, child: Child, rows: list[dict[str, Any]], units: int, refusal: ServiceError
    ) -> list[dict[str, Any]]:
        """Return ``rows``, with those that were read beyond so many ``units`` refused."""
        for at, row in enumerate(rows):
            if row["status"] == 200 and (units := units - 1) < 0:
                rows[at] = self._refused(child, child.rows[at], refusal)
        return rows

    def _rows(self, child: Child) -> list[dict[str, Any]]:
        """Read the rows of a child, but for those that have ended its worker."""
        is_suspicious = child.attempt >= SUSPICIOUS_ATTEMPTS
        fatal = self._outcomes.noted(child.batch, child.first) if is_suspicious else []

        def note(fatal: Sequence[int]) -> None:
            if is_suspicious:
                self._outcomes.note(child.batch, child.first, fatal)

        rows: list[dict[str, Any]] = []
        try:
            with closing(fetched_ahead(partial(self._fetch, child.batch), child.rows)) as photos:
                for item, photo in photos:
                    if item.row in fatal:
                        row = self._refused(child, item, InternalError(child.batch.api))
                    else:
                        note([*fatal, item.row])
                        row = self._row(child, item, photo)
                    rows.append(row)
        except Exception:
            note(fatal)  # no row's fault
            raise
        note(fatal)  # nor will it be, whatever happens to what they have come to
        return rows

    def _row(self, child: Child, item: ChildRow, photo: Future[tuple[Row, bytes]]) -> dict[str, Any]:
        """Read one row. Raises where that is worth another attempt; anything else is the row's answer."""
        if time.monotonic() + SECONDS_A_ROW > child.deadline:
            return self._refused(child, item, RequestTimedOut())  # it would be as slow again
        start = self._deployment.timer()
        try:
            with stage("load"):
                row, image = photo.result(SECONDS_A_ROW)
            answer = self._recognize(image, row.regions or child.batch.regions)
            milliseconds = (self._deployment.timer() - start) * 1000
            return item.answer(200, answer.body(f"{child.batch.id}-{item.row}", milliseconds))
        except Exception as error:
            refusal = translate(OutOfTime() if isinstance(error, TimeoutError) else error, child.batch.api)
            # What is waited for in vain is an object: a URL is given up before that.
            if isinstance(refusal, StoreUnavailable | RequestTimedOut) and child.attempt < PATIENT_ATTEMPTS:
                raise
            answered = self._refused(child, item, refusal)
            forget_frames(error)
            return answered

    def _refused(self, child: Child, item: ChildRow, error: ServiceError) -> dict[str, Any]:
        return item.refusal(child.batch, error, self._deployment.settings)

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
