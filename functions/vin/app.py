"""``POST /v1/vinocr`` on AWS Lambda: the vehicle identification number of a photo."""

from __future__ import annotations

from collections.abc import Sequence

from carsight.photo import ImageError, decode
from carsight.vin.recognizer import VinRecognizer
from carsight_service.contract.answers import vin_answer
from carsight_service.contract.api import Api, VinAnswer
from carsight_service.contract.errors import unreadable
from carsight_service.http.endpoint import Context, Event, Response, handle
from carsight_service.telemetry import stage

recognizer = VinRecognizer.load()


def recognise(image: bytes, regions: Sequence[str] = ()) -> VinAnswer:
    """The contract's answer for ``image``; ``regions`` mean nothing here. Raises the contract's errors."""
    try:
        with stage("decode"):
            photo = decode(image)
        with stage("read"):
            result = recognizer.read(photo)
    except ImageError as error:
        raise unreadable(error) from error
    return vin_answer(result, photo)


def lambda_handler(event: Event, context: Context) -> Response:
    """Answer one API Gateway event."""
    return handle(event, context, Api.VIN, recognise)
