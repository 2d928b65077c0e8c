"""Usage alerts, on AWS Lambda: reads the key table's stream."""

from __future__ import annotations

from carsight_service.deployment import Deployment
from carsight_service.notify.alerts import Alerts

deployment = Deployment.from_environment()
lambda_handler = Alerts(deployment).handle
