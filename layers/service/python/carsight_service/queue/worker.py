"""The worker function: reads uploads announced in its queue, and children of batches' maps.

It runs in the same image as the HTTP function, with another command. A message that failed is reported alone
(``ReportBatchItemFailures``) and delivered again after 5, 10, 20 seconds and so on; after the last attempt it
is moved to the dead-letter queue, from which ``carsight redrive`` retries it.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from carsight_service.aws.lambda_types import Context, Event
from carsight_service.aws.records import Record, partial_failures
from carsight_service.contract.api import Api
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.children import ChildReader
from carsight_service.queue.leases import Leases
from carsight_service.queue.messages import S3Notification, S3Record, created_objects
from carsight_service.queue.retry import TryLater
from carsight_service.queue.uploads import Upload, UploadProcessor
from carsight_service.reading import Reader, Recognize
from carsight_service.telemetry import logger

if TYPE_CHECKING:
    from carsight_service.deployment import Deployment

UPLOAD_SECONDS = 30.0
"""How long one upload may take."""

SECONDS_TO_ANSWER = 5.0
"""How long before the function's own timeout all work has to have ended."""

TRIES = 8
"""How often a message is processed; one more delivery refunds what it has been charged."""

_RETRY_SECONDS = 5


class GivenUp(Exception):
    """Every attempt has failed or killed the worker: the message goes to the dead-letter queue."""


class Worker:
    """Processes one API's uploads and batches; one per process."""

    def __init__(self, deployment: Deployment, api: Api, recognize: Recognize) -> None:
        reader = Reader(api, deployment.settings, deployment.timer)
        leases = Leases(deployment.settings.table_name, deployment.aws.work, deployment.clock)
        announcer = Announcer(deployment)
        self._api = api
        self._heap = deployment.heap
        self._queues = deployment.queues
        self._uploads = UploadProcessor(deployment, reader, recognize, leases, announcer)
        self._children = ChildReader(deployment, recognize)

    def handle(self, event: Event, context: Context) -> Any:
        """Process the messages of an SQS event in turn, and return those that failed.

        A child of a map is read instead; its summary is returned, as its rows are in its outcome.
        """
        try:
            return self._handled(event, context)
        finally:
            self._heap.trim()

    def _handled(self, event: Event, context: Context) -> Any:
        if "Items" in event:
            return self._children.read(event, self._deadline(context))
        return partial_failures(
            event["Records"],
            identifier=lambda record: str(record["messageId"]),
            process=partial(self._process, context),
            failed=self._postpone,
        )

    @staticmethod
    def _deadline(context: Context) -> float:
        return time.monotonic() + context.get_remaining_time_in_millis() / 1000 - SECONDS_TO_ANSWER

    def _process(self, context: Context, record: Record) -> None:
        if int(record["attributes"]["ApproximateReceiveCount"]) > TRIES:
            self._give_up(record)
        deadline = self._deadline(context)
        for uploaded in created_objects(record["body"]):
            self._upload(uploaded, deadline)

    def _give_up(self, record: Record) -> None:
        """Refund what workers that died have charged for a message. Raises ``GivenUp``."""
        for uploaded in created_objects(record["body"]):
            self._uploads.give_up(Upload.of(uploaded))
        raise GivenUp(f"{TRIES} tries have failed")

    def _upload(self, record: S3Record, deadline: float) -> None:
        upload = Upload.of(record)
        if upload.api not in (self._api, None):
            # S3 filters by prefix and suffix only, and cannot distinguish the API after a key's id.
            passed_on = S3Notification(records=[record]).model_dump_json(by_alias=True, exclude_unset=True)
            self._queues.send(self._queues.of(upload.api), passed_on, upload.key_id)
            return
        if time.monotonic() + UPLOAD_SECONDS > deadline:
            raise TryLater("no time for another upload")
        self._uploads.process(upload, deadline)

    def _postpone(self, record: Record, error: Exception) -> None:
        """Have a message delivered again before the queue's visibility timeout, which is for dead workers."""
        log_fields = {"message_id": record["messageId"], "reason": str(error) or type(error).__name__}
        if isinstance(error, TryLater):
            logger.info("message postponed", extra=log_fields)
        else:
            logger.error("message failed", extra=log_fields, exc_info=error)
        attempts = int(record["attributes"]["ApproximateReceiveCount"])
        seconds = _RETRY_SECONDS * 2 ** min(attempts - 1, 8)
        self._queues.return_after(self._queues.of(self._api), record["receiptHandle"], seconds)
