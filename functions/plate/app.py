"""``POST /platerecognition`` on AWS Lambda: the plates of a photo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recognition.photo import ImageError, decode
from recognition.plates import PlateRecognizer
from recognition.regions import CODES
from service.answers import plate_answer
from service.contract import Api, PlateAnswer
from service.endpoint import Context, Event, Response, handle
from service.errors import InvalidImage, UnknownRegions
from service.telemetry import stage

recognizer = PlateRecognizer.load(Path(__file__).with_name("models"))


def recognise(image: bytes, regions: Sequence[str] = ()) -> PlateAnswer:
    """The contract's answer for ``image``. Raises the contract's errors where there is none."""
    unknown = [code for code in regions if code not in CODES]
    if unknown:
        raise UnknownRegions(unknown)
    try:
        with stage("decode"):
            photo = decode(image)
        with stage("read"):
            readings = recognizer.read(photo, regions)
    except ImageError as error:
        raise InvalidImage(str(error)) from error
    return plate_answer(readings, photo)


def lambda_handler(event: Event, context: Context) -> Response:
    """Answer one API Gateway event."""
    return handle(event, context, Api.PLATE, recognise)
