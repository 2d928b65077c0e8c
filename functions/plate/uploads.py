"""Plates of uploads and batches, on AWS Lambda: the image of ``app.py`` with this command."""

from app import recognise

from service.contract import Api
from service.worker import handler

lambda_handler = handler(Api.PLATE, recognise)
