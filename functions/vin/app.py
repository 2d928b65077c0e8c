"""``POST /v1/vinocr`` on AWS Lambda: the vehicle identification number of a photo."""

from __future__ import annotations

from collections.abc import Sequence

from carsight.photo import ImageError, decode
from carsight.vin.recognizer import VinRecognizer
from carsight_service.contract.answers import vin_answer
from carsight_service.contract.api import Api, VinAnswer
from carsight_service.contract.errors import unreadable
from carsight_service.deployment import Deployment
from carsight_service.http.endpoint import Endpoint
from carsight_service.telemetry import stage

deployment = Deployment.from_environment()
recognizer = VinRecognizer.load()


def recognize(image: bytes, regions: Sequence[str] = ()) -> VinAnswer:
    """Return the contract's answer for ``image``, or raise one of its errors; ``regions`` are ignored."""
    try:
        with stage("decode"):
            photo = decode(image)
        with stage("read"):
            result = recognizer.read(photo)
    except ImageError as error:
        raise unreadable(error) from error
    return vin_answer(result, photo)


lambda_handler = Endpoint(deployment, Api.VIN, recognize).handle
