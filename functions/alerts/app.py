"""Reads the key table's stream and tells owners how much of their allowance is used."""

from __future__ import annotations

from carsight_service.deployment import Deployment
from carsight_service.notify.alerts import Alerts

deployment = Deployment.from_environment()
alerts = Alerts(
    deployment.settings.table_name,
    deployment.settings.alerts_topic_arn or "",
    deployment.aws.dynamodb,
    deployment.aws.sns,
    deployment.clock,
)
lambda_handler = alerts.handle
