"""The steps of the batches' state machine that read no photo: lists are checked, results joined."""

from __future__ import annotations

from carsight_service.deployment import Deployment
from carsight_service.queue.results import BatchJobs

lambda_handler = BatchJobs(Deployment.from_environment()).handle
