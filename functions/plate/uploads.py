"""Plates of uploads and batches, on AWS Lambda: the image of ``app.py`` with this command."""

from app import recognise

from carsight_service.contract.api import Api
from carsight_service.queue.worker import handler

lambda_handler = handler(Api.PLATE, recognise)
