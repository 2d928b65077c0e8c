"""A child of a batch's map: some fifty rows are read, stored together, and counted under one ticket.

If its worker dies, it is run again (``queue.outcomes``):

    the worker dies after   the next run
    reading rows            reads them again
    storing the outcome     takes units, and pays the outcome
    taking units            pays the outcome with them
    paying the outcome      closes its ticket

A photo that kills its worker every time gets a result too: from the fifth attempt on, each row is noted
before it is read, and a row during which the worker has died twice is skipped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from carsight_service.aws.storage import INCOMING, upload_prefix
from carsight_service.batch_store import Batch, Batches
from carsight_service.contract.errors import (
    InternalError,
    InvalidImage,
    ObjectGone,
    RequestTimedOut,
    ServiceError,
    StoreUnavailable,
)
from carsight_service.contract.lists import Row, parse_row
from carsight_service.deadline import OutOfTime
from carsight_service.images import S3Source, UrlSource, image_source
from carsight_service.queue.outcomes import Outcome, Outcomes
from carsight_service.queue.prefetch import fetched_ahead
from carsight_service.queue.retry import TryLater
from carsight_service.reading import Recognize, forget_frames, translate
from carsight_service.telemetry import logger, stage, timed

if TYPE_CHECKING:
    from concurrent.futures import Future

    from carsight_service.aws.lambda_types import Event
    from carsight_service.deployment import Deployment

SECONDS_A_ROW = 12.0
"""How long to wait for a row's photo (a fetch gives up after 8), and the time left that another row needs."""

CHILD_SECONDS = 110.0
"""How long reading a child may take, including fifty rows whose hosts do not answer."""

AHEAD = 8
"""How many photos are fetched ahead while one is read."""

_NO_ADDRESS = (
    "The image of a row is an http or https URL, s3://bucket/key, or the key of an upload of your own, which "
    f"begins with {INCOMING}"
)

PATIENT_ATTEMPTS = 4
"""How often a child is simply tried again. After that, a row whose store does not answer gets an error as its
result, and the row that is being read is noted: one that kills its worker twice is skipped from then on."""


@dataclass(frozen=True, slots=True)
class Child:
    """The work that Step Functions invokes a worker for."""

    batch: Batch
    rows: Sequence[Row]
    attempt: int
    deadline: float
    """When its outcome has to be ready (``time.monotonic``)."""

    @property
    def first(self) -> int:
        """The number of its first row, which identifies it: the map always divides a list in the same way."""
        return self.rows[0].number


class ChildReader:
    """Reads children of batches of one API; one per process, safe to share between threads."""

    def __init__(self, deployment: Deployment, recognize: Recognize) -> None:
        self._deployment = deployment
        self._recognize = recognize
        self._batches = Batches(deployment)
        self._outcomes = Outcomes(deployment)

    def read(self, event: Event, deadline: float) -> Mapping[str, Any]:
        """Read the rows of a child before ``deadline``; return the summary that Step Functions keeps.

        Raises ``TryLater`` if its batch was stopped, and any fault of the service: both are tried again.
        """
        batch = self._running(event["BatchInput"]["batch"])
        # A list has been checked before, and a prefix consists of objects.
        rows, attempt = [parse_row(item["input"], item["row"]) for item in event["Items"]], event["attempt"]
        child = Child(batch, rows, attempt, min(deadline, time.monotonic() + CHILD_SECONDS))
        with timed(self._deployment.timer) as stages:
            outcome = self._outcomes.get(batch.part(child.first)) or self._read(child)
            with stage("keys"):
                # Checked after storing the outcome: a batch's end is recorded before its outcomes are listed.
                self._running(batch.id)
                outcome = self._outcomes.pay(batch, outcome, waits=attempt < PATIENT_ATTEMPTS)
        about = {"row": child.first, "rows": len(rows), "read": outcome.read}
        milliseconds = {name: round(value, 1) for name, value in stages.items()}
        logger.info("rows read", extra={"batch": batch.id, **about, "ms": milliseconds})
        return about

    def _running(self, batch_id: str) -> Batch:
        """Return the batch. Raises ``TryLater`` if it is not running."""
        batch = self._batches.get(batch_id)
        if batch is None or batch.state != "running":
            raise TryLater("the batch was stopped")
        return batch

    def _read(self, child: Child) -> Outcome:
        """Read a child and store its outcome; return the stored one, which may be another run's."""
        try:
            with stage("keys"):
                self._deployment.meters.admit_by_id(child.batch.account, child.batch.api)
        except StoreUnavailable:
            raise
        except ServiceError as refused:  # the key, its plan or its limit
            results = [self._outcomes.refused(child.batch, row.about, refused) for row in child.rows]
        else:
            results = self._results(child)
        mine = Outcome.of(results)
        with stage("store"):
            outcome = self._outcomes.put(child.batch, mine)
        if outcome is mine:
            self._batches.add(child.batch, mine.read, len(results) - mine.read)
        return outcome

    def _results(self, child: Child) -> list[dict[str, Any]]:
        """Read the rows of a child, except those that have killed its worker twice."""
        is_noted = child.attempt >= PATIENT_ATTEMPTS
        noted = self._outcomes.noted(child.batch, child.first) if is_noted else []
        fatal = [number for number in noted if noted.count(number) > 1]  # one death may have another cause
        results: list[dict[str, Any]] = []
        with fetched_ahead(partial(self._fetch, child.batch), child.rows, AHEAD) as photos:
            for row, photo in photos:
                if row.number in fatal:
                    fault = InternalError(child.batch.api)
                    results.append(self._outcomes.refused(child.batch, row.about, fault))
                    continue
                if is_noted:
                    self._outcomes.note(child.batch, child.first, [*noted, row.number])
                results.append(self._result(child, row, photo))
        if is_noted:  # what happens to the outcome is no row's fault
            self._outcomes.note(child.batch, child.first, fatal)
        return results

    def _result(self, child: Child, row: Row, photo: Future[bytes]) -> dict[str, Any]:
        """Return the result of one row, or its error. Raises if the child is worth another attempt."""
        refused = partial(self._outcomes.refused, child.batch, row.about)
        if time.monotonic() + SECONDS_A_ROW > child.deadline:
            return refused(RequestTimedOut())  # another attempt would be as slow
        try:
            with stage("load"):
                image = photo.result(SECONDS_A_ROW)
            start = self._deployment.timer()  # a call's time, too, is that of the recognition
            answer = self._recognize(image, row.regions or child.batch.regions)
            milliseconds = (self._deployment.timer() - start) * 1000
            body = answer.body(f"{child.batch.id}-{row.number}", milliseconds)
            return {**row.about, "status": 200, **body}
        except Exception as error:
            refusal = translate(OutOfTime() if isinstance(error, TimeoutError) else error, child.batch.api)
            # Only reading an object from S3 can run out of time: a fetch of a URL gives up earlier.
            if isinstance(refusal, StoreUnavailable | RequestTimedOut) and child.attempt < PATIENT_ATTEMPTS:
                raise
            answered = refused(refusal)
            forget_frames(error)
            return answered

    def _fetch(self, batch: Batch, row: Row) -> bytes:
        """Return the bytes of a row's image.

        It is a URL, an object of a bucket that the deployment allows, or an upload of the same account (its
        object key in the uploads bucket, or an ``s3://`` address). Raises the contract's errors.
        """
        source = image_source(row.image)
        if isinstance(source, UrlSource):
            # A batch asks a host for many photos at once, and some hosts refuse a few of them.
            return self._deployment.images.load(source, patient=True)
        if not isinstance(source, S3Source):
            source = S3Source(self._deployment.storage.uploads_bucket, row.image.strip())
            if not source.key.startswith(INCOMING):
                raise InvalidImage("neither a URL nor an upload", detail=_NO_ADDRESS)
        if blanks := row.image[len(row.image.rstrip()) :]:
            with suppress(InvalidImage, ObjectGone):  # then the blanks do not belong to the key
                return self._object(batch, source._replace(key=source.key + blanks))
        return self._object(batch, source)

    def _object(self, batch: Batch, source: S3Source) -> bytes:
        storage = self._deployment.storage
        if storage.is_upload(source.bucket, source.key):
            if not source.key.startswith((upload_prefix(batch.account), upload_prefix(batch.key_id))):
                raise InvalidImage("not an upload of this account")
            return storage.read_photo(source.bucket, source.key).data
        return self._deployment.images.load(source)
