"""What the batches' state machine has done beside reading: lists are looked at, results joined."""

from __future__ import annotations

from carsight_service.deployment import Deployment
from carsight_service.queue.results import BatchJobs

lambda_handler = BatchJobs(Deployment.from_environment()).handle
