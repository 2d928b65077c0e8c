"""Plate Recognizer's Snapshot API, for its clients: CarsXE's plate object is the same.

``POST /v1/plate-reader/`` accepts what ``/platerecognition`` accepts (Snapshot's clients send
``Authorization: Token KEY`` and a multipart file ``upload``) and answers as Snapshot does: a photo without a
plate gets a 200 with empty ``results``, which is counted like any other; a key that is not served gets a 403;
every answer has ``usage``, which Home Assistant's client expects. ``GET /v1/statistics/`` returns the usage.

With ``config={"detection_mode": "vehicle"}``, vehicles without a plate are returned too, and every result is
an object with ``plate`` and ``vehicle``, whose attributes are in ``props`` (Snapshot's API reference,
"Vehicle Only Response"). Both are optional there. A missing plate is null, because Plate Recognizer's
``plate_recognition.py`` reads ``result["plate"]``; a missing vehicle is left out, because its webhook
middleware reads ``result.get("vehicle", {}).get("props", {})``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal

from carsight_service.contract.api import (
    Answer,
    Box,
    PlateAnswer,
    PlateResult,
    PlatesAndVehicles,
    Score,
    Vehicle,
    VehicleType,
)
from carsight_service.contract.errors import NothingFound, ServiceError, UnknownRegions, next_month
from carsight_service.contract.parts import Part
from carsight_service.http.request import Request
from carsight_service.metering.model import LIFETIME, Usage
from carsight_service.reading import Recognize


class ModelMake(Part):
    """Make and model, which Carsight does not recognize: always Snapshot's values for unknown ones."""

    make: Literal["generic"] = "generic"
    model: Literal["Unknown"] = "Unknown"
    score: Score = 0


class Color(Part):
    """The vehicle's color, with the vehicle's score."""

    color: str
    score: Score


class Orientation(Part):
    """The visible side of the vehicle, with the vehicle's score."""

    orientation: Literal["Front", "Rear", "Unknown"]
    score: Score


class SnapshotPlate(PlateResult):
    """One plate; with ``mmc``, it also has the three lists."""

    model_make: tuple[ModelMake, ...] | None = None
    color: tuple[Color, ...] | None = None
    orientation: tuple[Orientation, ...] | None = None


class Value(Part):
    """One attribute of a plate or vehicle."""

    value: str
    score: Score


class PlateProps(Part):
    """A plate's possible texts, best first, and its region."""

    plate: tuple[Value, ...]
    region: tuple[Value, ...]


class VehicleProps(Part):
    """The vehicle's attributes, if ``mmc`` requests them."""

    make_model: tuple[ModelMake, ...] | None = None
    orientation: tuple[Value, ...] | None = None
    color: tuple[Value, ...] | None = None


class PlateFound(Part):
    """A plate, if vehicles are requested; ``score`` is the probability that it is one."""

    type: Literal["Plate"] = "Plate"
    score: Score
    box: Box
    props: PlateProps


class VehicleFound(Part):
    """A vehicle, with or without a plate."""

    type: VehicleType
    score: Score
    box: Box
    props: VehicleProps


class SnapshotObject(Part):
    """One result, if vehicles are requested: a plate, a vehicle, or a plate and its vehicle."""

    plate: PlateFound | None
    vehicle: VehicleFound | None = None


class CallsOf(Part):
    """The usage of the allowance, including this request."""

    calls: int
    max_calls: int


class SnapshotAnswer(Answer):
    """The plates in a photo, as Snapshot returns them."""

    processing_time: float = 0.0
    """Milliseconds from the image's bytes to the answer."""
    results: tuple[SnapshotPlate | SnapshotObject, ...]
    """``SnapshotObject`` if ``detection_mode`` is ``vehicle``, otherwise ``SnapshotPlate``."""
    filename: str
    """The file name in the request, or a generated one."""
    usage: CallsOf | None = None
    version: Literal[1] = 1
    camera_id: str | None = None
    """As sent."""
    timestamp: str
    """As sent, or else the time of the answer: ISO 8601, UTC."""
    request_id: str = ""

    def body(self, request_id: str, milliseconds: float) -> dict[str, Any]:
        """Return the JSON object to answer with, in which a missing plate is null."""
        body = super().body(request_id, milliseconds)
        for result in body["results"]:
            result.setdefault("plate", None)
        return body


class Calls(Part):
    """The usage of a month."""

    calls: int
    year: int
    month: int
    resets_on: str | None
    """When the next month begins: ISO 8601, UTC. Null for a one-time allowance."""


class Statistics(Part):
    """A key's usage of plates, as Snapshot returns it."""

    usage: Calls
    total_calls: int
    """The limit."""


def statistics(usage: Usage, now: datetime) -> Statistics:
    """Return the ``usage`` of plates as Snapshot does; ``now`` is in UTC."""
    monthly = usage.period != LIFETIME
    year, month = (int(part) for part in usage.period.split("-")) if monthly else (now.year, now.month)
    return Statistics(
        usage=Calls(
            calls=usage.current,
            year=year,
            month=month,
            resets_on=next_month(year, month).strftime("%Y-%m-%dT%H:%M:%SZ") if monthly else None,
        ),
        total_calls=usage.limit,
    )


def as_snapshot(recognize: Recognize, request: Request) -> Recognize:
    """Return ``recognize`` with Snapshot's answers instead of the contract's."""

    def read(image: bytes, regions: Sequence[str]) -> SnapshotAnswer:
        try:
            answer = _leniently(recognize, image, regions)
        except NothingFound:
            results: tuple[SnapshotPlate | SnapshotObject, ...] = ()
        else:
            results = _results(answer, request.mmc)
        return SnapshotAnswer(
            results=results,
            filename=request.filename or f"{request.request_id}.jpg",
            camera_id=request.camera_id,
            timestamp=request.timestamp or datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    return read


def with_usage(body: dict[str, Any], usage: Usage) -> dict[str, Any]:
    """Add the usage to the answer ``body``; it is known once the unit has been counted."""
    return {**body, "usage": {"calls": usage.current, "max_calls": usage.limit}}


def as_refusal(error: ServiceError) -> ServiceError:
    """Return ``error``, with the status that Snapshot's clients expect for a key that is not served."""
    if error.status == HTTPStatus.UNAUTHORIZED:
        error.status = HTTPStatus.FORBIDDEN.value
    return error


def _leniently(recognize: Recognize, image: bytes, regions: Sequence[str]) -> Answer:
    """Recognize with the known ones of the hints: Snapshot has more states, such as ``th-37``."""
    try:
        return recognize(image, regions)
    except UnknownRegions as error:
        countries = (code.partition("-")[0] if code in error.regions else code for code in regions)
        wider = tuple(dict.fromkeys(countries))
    try:
        return recognize(image, wider)
    except UnknownRegions as error:
        return recognize(image, tuple(code for code in wider if code not in error.regions))


def _results(answer: Answer, mmc: bool) -> tuple[SnapshotPlate | SnapshotObject, ...]:
    if isinstance(answer, PlatesAndVehicles):
        bare = (SnapshotObject(plate=None, vehicle=_vehicle(vehicle, mmc)) for vehicle in answer.vehicles)
        return (*(_object(plate, mmc) for plate in answer.results), *bare)
    return tuple(_plate(plate, mmc) for plate in answer.results) if isinstance(answer, PlateAnswer) else ()


def _plate(plate: PlateResult, mmc: bool) -> SnapshotPlate:
    lists: dict[str, Any] = {}
    if mmc:
        (color, color_score), (side, side_score) = _appearance(plate.vehicle)
        lists = {
            "model_make": (ModelMake(),),
            "color": (Color(color=color, score=color_score),),
            "orientation": (Orientation.of({"orientation": side, "score": side_score}),),
        }
    return SnapshotPlate.of(plate.values() | lists)


def _object(plate: PlateResult, mmc: bool) -> SnapshotObject:
    props = PlateProps(
        plate=tuple(Value(value=text.plate, score=text.score) for text in plate.candidates),
        region=(Value(value=plate.region.code, score=plate.region.score),),
    )
    return SnapshotObject(
        plate=PlateFound(score=plate.dscore, box=plate.box, props=props),
        vehicle=_vehicle(plate.vehicle, mmc) if plate.vehicle.score > 0 else None,
    )


def _vehicle(vehicle: Vehicle, mmc: bool) -> VehicleFound:
    props = VehicleProps()
    if mmc:
        (color, color_score), (side, side_score) = _appearance(vehicle)
        props = VehicleProps(
            make_model=(ModelMake(),),
            orientation=(Value(value=side, score=side_score),),
            color=(Value(value=color, score=color_score),),
        )
    return VehicleFound(type=vehicle.type, score=vehicle.score, box=vehicle.box, props=props)


def _appearance(vehicle: Vehicle) -> tuple[tuple[str, float], tuple[str, float]]:
    """Return color and side in Snapshot's terms, each with the vehicle's score, or 0 if unknown."""
    side = {"front": "Front", "rear": "Rear"}.get(vehicle.orientation or "", "Unknown")
    return (
        (vehicle.color or "unknown", vehicle.score if vehicle.color else 0),
        (side, vehicle.score if vehicle.orientation else 0),
    )
