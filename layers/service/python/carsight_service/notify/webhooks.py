"""Telling whoever wants to know of a reading: EventBridge for the deployment, a webhook for a key.

What a webhook is told goes through a queue, so that a receiver that is slow or gone holds up nobody: one
delivery a message, tried again after 30 seconds, a minute, two and so on until it is answered with a 2xx or
ends in the dead-letter queue. Each carries

    carsight-delivery: <the same for every attempt>
    carsight-signature: t=<Unix seconds>,v1=<HMAC-SHA256 of "<t>.<body>" in hex>

and ``subscribers.verify`` is how a receiver checks it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from carsight_service.aws.clients import events, sqs
from carsight_service.aws.fetch import post
from carsight_service.contract.errors import ServiceError
from carsight_service.notify.subscribers import DELIVERY, SIGNATURE, Webhooks, sign
from carsight_service.settings import settings

MAX_DETAIL_BYTES = 100_000
"""EventBridge and SQS take 256 KB, and JSON within JSON has its quotes escaped."""

_FIRST_RETRY_SECONDS = 30
_LONGEST_RETRY_SECONDS = 3600

logger = logging.getLogger(__name__)


def announce(kind: str, key_id: str, delivery: str, detail: Mapping[str, Any], webhooks: Webhooks) -> None:
    """Tell the event bus, and the key's webhook, that ``detail`` has happened. Raises botocore's errors.

    ``kind`` is the event's detail type (``carsight.reading``, ``carsight.batch``). ``delivery`` is the same
    when the same thing is announced again, which happens where a worker dies before it can note that it is
    done. A detail too large for an event goes without its ``results``; the object that it names has them.
    """
    said = {"delivery": delivery, **detail}
    text = json.dumps(said, ensure_ascii=False)
    if len(text.encode()) > MAX_DETAIL_BYTES:
        text = json.dumps(
            {name: value for name, value in said.items() if name != "results"}, ensure_ascii=False
        )
    if settings.event_bus:
        answer = events().put_events(
            Entries=[
                {"Source": "carsight", "DetailType": kind, "Detail": text, "EventBusName": settings.event_bus}
            ]
        )
        if answer["FailedEntryCount"]:
            raise RuntimeError(f"event refused: {answer['Entries'][0].get('ErrorCode')}")
    if settings.webhooks_queue_url and webhooks.get(key_id):
        message = {
            "key_id": key_id,
            "delivery": delivery,
            "body": json.dumps({"type": kind, "detail": json.loads(text)}),
        }
        sqs().send_message(QueueUrl=settings.webhooks_queue_url, MessageBody=json.dumps(message))


def deliver(event: Mapping[str, Any], webhooks: Webhooks) -> dict[str, Any]:
    """Deliver the messages of an SQS event; those that have to be tried again come back as failures."""
    failed = []
    for record in event["Records"]:
        message = json.loads(record["body"])
        attempts = int(record["attributes"]["ApproximateReceiveCount"])
        outcome = _delivered(message, webhooks)
        logger.info(
            "webhook", extra={"delivery": message["delivery"], "attempt": attempts, "outcome": outcome}
        )
        if outcome not in ("delivered", "no webhook"):
            failed.append({"itemIdentifier": record["messageId"]})
            sqs().change_message_visibility(
                QueueUrl=settings.webhooks_queue_url or "",
                ReceiptHandle=record["receiptHandle"],
                VisibilityTimeout=min(_FIRST_RETRY_SECONDS * 2 ** (attempts - 1), _LONGEST_RETRY_SECONDS),
            )
    return {"batchItemFailures": failed}


def _delivered(message: Mapping[str, Any], webhooks: Webhooks) -> str:
    webhook = webhooks.get(message["key_id"])
    if webhook is None:
        return "no webhook"
    body = message["body"].encode()
    headers = {
        "Content-Type": "application/json",
        DELIVERY: message["delivery"],
        SIGNATURE: sign(webhook.secret, int(time.time()), body),
    }
    try:
        status = post(webhook.url, body, headers, loopback=settings.local_fetch)
    except ServiceError as error:
        return error.note
    return "delivered" if 200 <= status < 300 else f"answered {status}"
