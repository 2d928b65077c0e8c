"""Deliveries to the keys' webhooks, on AWS Lambda."""

from __future__ import annotations

from typing import Any

from service.endpoint import Context, Event
from service.settings import settings
from service.subscribers import Webhooks
from service.webhooks import deliver

webhooks = Webhooks(settings.table_name)


def lambda_handler(event: Event, context: Context) -> dict[str, Any]:
    """Deliver the messages of one SQS event."""
    return deliver(event, webhooks)
