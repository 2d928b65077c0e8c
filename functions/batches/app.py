"""The steps of the batches' state machine that read no photo: lists are checked, results joined."""

from __future__ import annotations

from carsight_service.deployment import Deployment
from carsight_service.queue.batch_steps import BatchSteps

lambda_handler = BatchSteps(Deployment.from_environment()).handle
