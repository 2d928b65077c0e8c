"""``POST /v1/vinocr`` on AWS Lambda: the vehicle identification number of a photo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recognition.photo import ImageError, decode
from recognition.vins import VinRecognizer
from service.answers import vin_answer
from service.contract import Api, VinAnswer
from service.endpoint import Context, Event, Response, handle
from service.errors import InvalidImage
from service.telemetry import stage

recognizer = VinRecognizer.load(Path(__file__).with_name("models"))


def recognise(image: bytes, regions: Sequence[str] = ()) -> VinAnswer:
    """The contract's answer for ``image``; ``regions`` mean nothing here. Raises the contract's errors."""
    try:
        with stage("decode"):
            photo = decode(image)
        with stage("read"):
            result = recognizer.read(photo)
    except ImageError as error:
        raise InvalidImage(str(error)) from error
    return vin_answer(result, photo)


def lambda_handler(event: Event, context: Context) -> Response:
    """Answer one API Gateway event."""
    return handle(event, context, Api.VIN, recognise)
