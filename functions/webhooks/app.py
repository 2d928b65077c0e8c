"""Deliveries to the keys' webhooks, on AWS Lambda."""

from __future__ import annotations

from carsight_service.deployment import Deployment
from carsight_service.notify.subscribers import Webhooks
from carsight_service.notify.webhooks import Deliverer

deployment = Deployment.from_environment()
webhooks = Webhooks(deployment.settings.table_name, deployment.aws.dynamodb)
lambda_handler = Deliverer(deployment.settings, webhooks, deployment.queues).handle
