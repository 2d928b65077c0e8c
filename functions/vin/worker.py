"""VINs of uploads and batches, on AWS Lambda: the image of ``app.py`` with this command."""

from __future__ import annotations

from carsight_service.contract.api import Api
from carsight_service.queue.worker import Worker
from functions.vin.app import deployment, recognize

lambda_handler = Worker(deployment, Api.VIN, recognize).handle
