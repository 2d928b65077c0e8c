"""Deliveries to the keys' webhooks, on AWS Lambda."""

from __future__ import annotations

from typing import Any

from carsight_service.http.endpoint import Context, Event
from carsight_service.notify.subscribers import Webhooks
from carsight_service.notify.webhooks import deliver
from carsight_service.settings import settings

webhooks = Webhooks(settings.table_name)


def lambda_handler(event: Event, context: Context) -> dict[str, Any]:
    """Deliver the messages of one SQS event."""
    return deliver(event, webhooks)
