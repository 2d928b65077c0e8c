"""Announcing readings: to the deployment on EventBridge, and to a key's owner by a webhook.

Webhook deliveries go through a queue, so that a slow or dead receiver delays no other. Each delivery is a
message, and retried after 30 seconds, a minute, two minutes and so on until it is answered with a 2xx or
moved to the dead-letter queue. Each has the headers

    carsight-delivery: <the same for every attempt>
    carsight-signature: t=<Unix seconds>,v1=<HMAC-SHA256 of "<t>.<body>" in hex>

which a receiver can check with ``subscribers.verify``.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from carsight_service.aws.fetch import UrlRefused, post
from carsight_service.aws.lambda_types import Event
from carsight_service.aws.records import Record, partial_failures
from carsight_service.notify.subscribers import DELIVERY, SIGNATURE, Webhooks, sign

if TYPE_CHECKING:
    from carsight_service.deployment import Deployment

MAX_DETAIL_BYTES = 100_000
"""The largest event: EventBridge and SQS accept 256 KB, and JSON within JSON has its quotes escaped."""

_FIRST_RETRY_SECONDS = 30
_LONGEST_RETRY_SECONDS = 3600

logger = logging.getLogger(__name__)


class Message(BaseModel):
    """One delivery to one key's webhook, as queued."""

    key_id: str
    delivery: str
    body: str


class NotDelivered(Exception):
    """The webhook did not accept the delivery. The message is for the log."""


class Announcer:
    """Publishes on the event bus and, through the queue, to keys' webhooks; safe to share between threads."""

    def __init__(self, deployment: Deployment) -> None:
        self._settings = deployment.settings
        self._aws = deployment.aws
        self._webhooks = Webhooks(deployment.settings.table_name, deployment.aws.dynamodb)
        self._queues = deployment.queues

    def announce(self, kind: str, key_id: str, delivery: str, detail: Mapping[str, Any]) -> None:
        """Announce ``detail`` on the event bus and to the key's webhook. Raises botocore's errors.

        ``kind`` is the event's detail type (``carsight.reading``, ``carsight.batch``). If a worker dies
        before it has recorded an announcement, that is repeated with the same ``delivery``. A detail that is
        too large for an event is sent without its ``results``, which are in the object that it names.
        """
        event = {"delivery": delivery, **detail}
        text = json.dumps(event, ensure_ascii=False)
        if len(text.encode()) > MAX_DETAIL_BYTES:
            del event["results"]
            text = json.dumps(event, ensure_ascii=False)
        if self._settings.event_bus:
            self._put_event(self._settings.event_bus, kind, text)
        if self._settings.webhooks_queue_url and self._webhooks.find(key_id):
            body = json.dumps({"type": kind, "detail": json.loads(text)})
            message = Message(key_id=key_id, delivery=delivery, body=body)
            self._queues.send(self._settings.webhooks_queue_url, message.model_dump_json(), key_id)

    def _put_event(self, bus: str, kind: str, text: str) -> None:
        answer = self._aws.events.put_events(
            Entries=[{"Source": "carsight", "DetailType": kind, "Detail": text, "EventBusName": bus}]
        )
        if answer["FailedEntryCount"]:
            raise RuntimeError(f"event refused: {answer['Entries'][0].get('ErrorCode')}")


class Deliverer:
    """Delivers the messages of the webhooks' queue; one per process."""

    def __init__(self, deployment: Deployment) -> None:
        self._settings = deployment.settings
        self._webhooks = Webhooks(deployment.settings.table_name, deployment.aws.dynamodb)
        self._queues = deployment.queues

    def handle(self, event: Event, context: object) -> dict[str, Any]:
        """Deliver the messages of an SQS event; those to be tried again are returned as failures."""
        return partial_failures(
            event["Records"],
            identifier=lambda record: str(record["messageId"]),
            process=self._process,
            failed=self._postpone,
        )

    def _process(self, record: Record) -> None:
        message = Message.model_validate_json(record["body"])
        log = partial(logger.info, "webhook")
        log_fields = {"delivery": message.delivery, "attempt": _attempt(record)}
        try:
            outcome = self._deliver(message)
        except NotDelivered as error:
            log(extra={**log_fields, "outcome": str(error)})
            raise
        log(extra={**log_fields, "outcome": outcome})

    def _deliver(self, message: Message) -> Literal["delivered", "no webhook"]:
        """Deliver one message. Raises ``NotDelivered`` if it has to be tried again."""
        webhook = self._webhooks.find(message.key_id)
        if webhook is None:
            return "no webhook"
        body = message.body.encode()
        headers = {
            "Content-Type": "application/json",
            DELIVERY: message.delivery,
            SIGNATURE: sign(webhook.secret, int(time.time()), body),
        }
        try:
            status = post(webhook.url, body, headers, loopback=self._settings.local_fetch)
        except UrlRefused as error:
            raise NotDelivered(str(error)) from error
        if not 200 <= status < 300:
            raise NotDelivered(f"answered {status}")
        return "delivered"

    def _postpone(self, record: Record, error: Exception) -> None:
        if not isinstance(error, NotDelivered):
            logger.error("message failed", extra={"message_id": record["messageId"]}, exc_info=error)
        seconds = min(_FIRST_RETRY_SECONDS * 2 ** (_attempt(record) - 1), _LONGEST_RETRY_SECONDS)
        self._queues.return_after(self._settings.webhooks_queue_url or "", record["receiptHandle"], seconds)


def _attempt(record: Record) -> int:
    return int(record["attributes"]["ApproximateReceiveCount"])
