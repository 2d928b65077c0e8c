"""Reads the key table's stream and tells owners how much of their allowance is used."""

from __future__ import annotations

import logging
import os
from typing import Any

import boto3

from carsight_service.metering.alerts import Alerts
from carsight_service.metering.model import new_client

logger = logging.getLogger(__name__)

alerts = Alerts(os.environ["TABLE_NAME"], os.environ["ALERTS_TOPIC_ARN"], new_client(), boto3.client("sns"))


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Handle one batch of stream records, in order; from the first that fails on, the batch comes again."""
    for record in event["Records"]:
        try:
            alerts.handle(record)
        except Exception:
            logger.exception("record not handled")
            return {"batchItemFailures": [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]}]}
    return {"batchItemFailures": []}
