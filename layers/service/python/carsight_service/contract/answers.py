"""Converting readings to the contract's answers, or to its errors if nothing was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carsight_service.contract.api import (
    Api,
    Box,
    Character,
    CheckDigit,
    Image,
    PlateAnswer,
    PlateCandidate,
    PlateResult,
    PlatesAndVehicles,
    Region,
    Repair,
    Vehicle,
    VinAnswer,
    VinBox,
    VinReading,
)
from carsight_service.contract.errors import NoTextDetected, NothingFound

if TYPE_CHECKING:
    from carsight.geometry import Box as PixelBox
    from carsight.photo import Photo
    from carsight.plate.recognizer import PlateReading, PlateReadings
    from carsight.plate.recognizer import Vehicle as VehicleFound
    from carsight.refusal import Refusal
    from carsight.vin.recognizer import VinCandidate, VinResult

_LEAST = 0.0005
"""Candidates after the first that score less are left out: their score would be written as 0.000."""


def plate_answer(readings: PlateReadings, image: Photo) -> PlateAnswer:
    """Return the answer for the plates of ``image``. Raises ``NothingFound`` if there are none."""
    if not readings:
        raise _nothing_found(Api.PLATE, readings.refusal)
    return PlateAnswer(results=tuple(_plate(reading) for reading in readings), image=_size(image))


def vehicles_answer(readings: PlateReadings, image: Photo) -> PlatesAndVehicles:
    """Return the same with the vehicles without a plate. Raises ``NothingFound`` if there is neither."""
    if not readings and not readings.vehicles:
        raise _nothing_found(Api.PLATE, readings.refusal)
    return PlatesAndVehicles(
        results=tuple(_plate(reading) for reading in readings),
        vehicles=tuple(_vehicle(vehicle) for vehicle in readings.vehicles),
        image=_size(image),
    )


def vin_answer(result: VinResult, image: Photo) -> VinAnswer:
    """Return the answer for the VIN of ``image``.

    Raises ``NoTextDetected``, or ``NothingFound`` if there is text but no sufficiently certain VIN.
    """
    if not result.candidates:
        raise _nothing_found(Api.VIN, result.refusal) if result.text_found else NoTextDetected
    candidates = tuple(_vin(candidate) for candidate in result.candidates)
    best = candidates[0]
    return VinAnswer(
        vin=best.vin,
        box=best.box,
        confidence=best.confidence,
        candidates=candidates,
        source=best.source,
        check_digit=best.check_digit,
        repairs=best.repairs,
        image=_size(image),
    )


def _nothing_found(api: Api, refusal: Refusal | None) -> NothingFound:
    if refusal is None:
        return NothingFound(api)
    return NothingFound(api, refusal.reason, refusal.figure, refusal.needed)


def _plate(reading: PlateReading) -> PlateResult:
    return PlateResult(
        box=_box(reading.box),
        plate=reading.text,
        region=Region(code=reading.region, score=reading.region_score),
        score=reading.score,
        candidates=tuple(
            PlateCandidate(score=candidate.score, plate=candidate.text)
            for rank, candidate in enumerate(reading.candidates)
            if rank == 0 or candidate.score >= _LEAST
        ),
        dscore=reading.detection_score,
        vehicle=_vehicle(reading.vehicle),
        polygon=reading.polygon,
        characters=tuple(Character(character=each.text, score=each.score) for each in reading.characters),
    )


def _vehicle(found: VehicleFound | None) -> Vehicle:
    if found is None:
        return Vehicle(score=0, type="Unknown", box=Box(xmin=0, ymin=0, xmax=0, ymax=0))
    return Vehicle.of(
        {
            "score": found.score,
            "type": found.type,
            "box": _box(found.box),
            "color": found.color,
            "orientation": found.orientation,
        }
    )


def _vin(candidate: VinCandidate) -> VinReading:
    box, check = candidate.box, candidate.check_digit
    return VinReading(
        vin=candidate.vin,
        confidence=candidate.confidence,
        box=VinBox(xmin=box.xmin, xmax=box.xmax, ymin=box.ymin, ymax=box.ymax),
        source=candidate.source,
        check_digit=CheckDigit(valid=check.valid, applies=check.applies),
        repairs=tuple(
            Repair(position=repair.position, from_=repair.from_, to=repair.to, reason=repair.reason)
            for repair in candidate.repairs
        ),
    )


def _box(box: PixelBox) -> Box:
    return Box(xmin=box.xmin, ymin=box.ymin, xmax=box.xmax, ymax=box.ymax)


def _size(image: Photo) -> Image:
    return Image(width=image.width, height=image.height)
