"""What takes messages out of a worker's queue: uploads announced by S3, and chunks of batches.

The same images as the HTTP functions, with another command. A message that could not be dealt with is
reported alone (``ReportBatchItemFailures``) and comes back after five seconds, ten, twenty; what fails to
the end lands in the dead-letter queue, from where ``carsight redrive`` brings it back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from carsight_service.aws.clients import sqs
from carsight_service.contract.api import Api
from carsight_service.deadline import OutOfTime
from carsight_service.http.endpoint import Context, Event, Recognise, store
from carsight_service.notify.subscribers import Webhooks
from carsight_service.queue.batches import Batches, BatchWorker, NotReady, queue_of
from carsight_service.queue.leases import Busy, Leases
from carsight_service.queue.uploads import Reader, Upload, Uploads
from carsight_service.settings import settings
from carsight_service.telemetry import logger

UPLOAD_SECONDS = 30.0
"""What one upload may take."""

SECONDS_TO_ANSWER = 5.0
"""How long before the function's own timeout nothing is begun or left running any more."""

_RETRY_SECONDS = 5
_WAITING = (Busy, NotReady, OutOfTime)
"""Not faults: somebody else is at it, or there was no time."""


class Worker:
    """Deals with the messages of one API's queue."""

    def __init__(self, api: Api, recognise: Recognise) -> None:
        reader = Reader(api, recognise, store)
        leases, webhooks = Leases(settings.table_name), Webhooks(settings.table_name)
        self._api = api
        self._uploads = Uploads(reader, leases, webhooks)
        self._batches = BatchWorker(reader, Batches(settings.table_name), leases, webhooks)

    def handle(self, event: Event, context: Context) -> dict[str, Any]:
        """Deal with the messages of one SQS event, one after the other; answers with those that failed."""
        failed = []
        for message in event["Records"]:
            seconds = context.get_remaining_time_in_millis() / 1000 - SECONDS_TO_ANSWER
            try:
                self._process(json.loads(message["body"]), seconds)
            except Exception as error:
                failed.append({"itemIdentifier": message["messageId"]})
                said = {"message_id": message["messageId"], "reason": type(error).__name__}
                if isinstance(error, _WAITING):
                    logger.info("not now", extra=said)
                else:
                    logger.exception("failed", extra=said)
                self._retry_sooner(message)
        return {"batchItemFailures": failed}

    def _process(self, body: Mapping[str, Any], seconds: float) -> None:
        match body:
            case {"Event": "s3:TestEvent"}:
                return  # S3 says that the bucket has been connected
            case {"batch": message}:  # of this API alone: they are sent to its queue
                self._batches.process(message, seconds)
            case {"Records": records}:
                for record in records:
                    if record["eventName"].startswith("ObjectCreated:"):
                        self._upload(record, seconds)
            case _:
                raise ValueError("neither an S3 event nor a chunk of a batch")

    def _upload(self, record: Mapping[str, Any], seconds: float) -> None:
        upload = Upload.of(record)
        if upload.api not in (self._api, None):
            # S3 filters by prefix and suffix alone and cannot tell plates from VINs behind a key's id.
            passed_on = json.dumps({"Records": [record]})
            sqs().send_message(QueueUrl=queue_of(upload.api), MessageBody=passed_on)
            return
        if seconds < UPLOAD_SECONDS:
            raise OutOfTime
        self._uploads.process(upload, seconds)

    def _retry_sooner(self, message: Mapping[str, Any]) -> None:
        """Have a message back before the queue's visibility timeout, made for functions that died."""
        attempts = int(message["attributes"]["ApproximateReceiveCount"])
        try:
            sqs().change_message_visibility(
                QueueUrl=queue_of(self._api),
                ReceiptHandle=message["receiptHandle"],
                VisibilityTimeout=_RETRY_SECONDS * 2 ** min(attempts - 1, 8),
            )
        except (BotoCoreError, ClientError) as error:
            logger.warning("message comes back late", extra={"reason": type(error).__name__})


def handler(api: Api, recognise: Recognise) -> Callable[[Event, Context], dict[str, Any]]:
    """The Lambda handler of the worker that reads with ``recognise``."""
    return Worker(api, recognise).handle
