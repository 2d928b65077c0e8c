"""Deliveries to the keys' webhooks, on AWS Lambda."""

from __future__ import annotations

from carsight_service.deployment import Deployment
from carsight_service.notify.webhooks import Deliverer

lambda_handler = Deliverer(Deployment.from_environment()).handle
