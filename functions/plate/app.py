"""``POST /platerecognition`` on AWS Lambda: the plates of a photo."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from carsight.photo import ImageError, decode
from carsight.plate.recognizer import PlateRecognizer
from carsight.plate.regions import CODES
from carsight_service.contract.answers import plate_answer, vehicles_answer
from carsight_service.contract.api import Api, PlateAnswer
from carsight_service.contract.errors import UnknownRegions, unreadable
from carsight_service.deployment import Deployment
from carsight_service.http.endpoint import Endpoint
from carsight_service.telemetry import stage

deployment = Deployment.from_environment()
recognizer = PlateRecognizer.load()


def recognize(image: bytes, regions: Sequence[str] = (), *, vehicles: bool = False) -> PlateAnswer:
    """Return the contract's answer for ``image``, or raise one of its errors.

    With ``vehicles`` it is a ``PlatesAndVehicles``.
    """
    unknown = [code for code in regions if code not in CODES]
    if unknown:
        raise UnknownRegions(unknown)
    try:
        with stage("decode"):
            photo = decode(image)
        with stage("read"):
            readings = recognizer.read(photo, regions, vehicles=vehicles)
    except ImageError as error:
        raise unreadable(error) from error
    return vehicles_answer(readings, photo) if vehicles else plate_answer(readings, photo)


lambda_handler = Endpoint(deployment, Api.PLATE, recognize, partial(recognize, vehicles=True)).handle
