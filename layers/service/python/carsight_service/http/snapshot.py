"""Plate Recognizer's Snapshot API, whose plate object CarsXE's is: a neighbour whose clients are welcome.

``POST /v1/plate-reader/`` takes what ``/platerecognition`` takes (its clients send
``Authorization: Token KEY`` and a multipart file ``upload``) and answers in Snapshot's way: a photo without a
plate is a 200 with empty ``results``, counted as any 200 is; a key that is not served is a 403; ``usage`` is
in every answer, as Home Assistant's client expects it. ``GET /v1/statistics/`` says what has been used.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal

from carsight_service.contract.api import Answer, Part, PlateAnswer, PlateResult, Score
from carsight_service.contract.errors import NothingFound, ServiceError, UnknownRegions
from carsight_service.http.request import Request
from carsight_service.metering.model import LIFETIME, Usage
from carsight_service.reading import Recognize


class ModelMake(Part):
    """Make and model, which are not told here, in the words that Snapshot has for unknown ones."""

    make: Literal["generic"] = "generic"
    model: Literal["Unknown"] = "Unknown"
    score: Score = 0


class Color(Part):
    """The vehicle's color, with the vehicle's score."""

    color: str
    score: Score


class Orientation(Part):
    """The side of the vehicle that shows, with the vehicle's score."""

    orientation: Literal["Front", "Rear", "Unknown"]
    score: Score


class SnapshotPlate(PlateResult):
    """One plate; the lists are there where ``mmc`` asks for them."""

    model_make: tuple[ModelMake, ...] | None = None
    color: tuple[Color, ...] | None = None
    orientation: tuple[Orientation, ...] | None = None


class CallsOf(Part):
    """What has been used of the allowance, with this request."""

    calls: int
    max_calls: int


class SnapshotAnswer(Answer):
    """200 of ``/v1/plate-reader/``."""

    processing_time: float = 0.0
    """Milliseconds from the image's bytes to the answer."""
    results: tuple[SnapshotPlate, ...]
    filename: str
    """As the request called the file, or a name of ours."""
    usage: CallsOf | None = None
    version: Literal[1] = 1
    camera_id: str | None = None
    """As the request had it."""
    timestamp: str
    """As the request had it, or when it was answered: ISO 8601, UTC."""
    request_id: str = ""


class Calls(Part):
    """What has been used in the month."""

    calls: int
    year: int
    month: int
    resets_on: str | None
    """When the next month begins: ISO 8601, UTC. None for an allowance that is given once."""


class Statistics(Part):
    """200 of ``/v1/statistics/``."""

    usage: Calls
    total_calls: int
    """The limit."""


def statistics(usage: Usage, now: datetime) -> Statistics:
    """``usage`` of plates as Snapshot tells it; ``now`` in UTC."""
    monthly = usage.period != LIFETIME
    year, month = (int(part) for part in usage.period.split("-")) if monthly else (now.year, now.month)
    following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return Statistics(
        usage=Calls(
            calls=usage.current,
            year=year,
            month=month,
            resets_on=following.strftime("%Y-%m-%dT%H:%M:%SZ") if monthly else None,
        ),
        total_calls=usage.limit,
    )


def as_snapshot(recognize: Recognize, request: Request) -> Recognize:
    """``recognize`` with Snapshot's answers in place of the contract's."""

    def read(image: bytes, regions: Sequence[str]) -> SnapshotAnswer:
        try:
            answer = _leniently(recognize, image, regions)
        except NothingFound:
            found: tuple[PlateResult, ...] = ()
        else:
            found = answer.results if isinstance(answer, PlateAnswer) else ()
        return SnapshotAnswer(
            results=tuple(_plate(plate, request.mmc) for plate in found),
            filename=request.filename or f"{request.request_id}.jpg",
            camera_id=request.camera_id,
            timestamp=request.timestamp or datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    return read


def with_usage(body: dict[str, Any], usage: Usage) -> dict[str, Any]:
    """Add what has been used to the answer ``body``: it is known once the unit has been counted."""
    return {**body, "usage": {"calls": usage.current, "max_calls": usage.limit}}


def as_refusal(error: ServiceError) -> ServiceError:
    """``error`` with the status that Snapshot's clients expect of a key that is not served."""
    if error.status == HTTPStatus.UNAUTHORIZED:
        error.status = HTTPStatus.FORBIDDEN.value
    return error


def _leniently(recognize: Recognize, image: bytes, regions: Sequence[str]) -> Answer:
    """Recognize with the hints that are known here: Snapshot has more states, such as ``th-37``."""
    try:
        return recognize(image, regions)
    except UnknownRegions as error:
        countries = (code.partition("-")[0] if code in error.regions else code for code in regions)
        wider = tuple(dict.fromkeys(countries))
    try:
        return recognize(image, wider)
    except UnknownRegions as error:
        return recognize(image, tuple(code for code in wider if code not in error.regions))


def _plate(plate: PlateResult, mmc: bool) -> SnapshotPlate:
    vehicle, lists = plate.vehicle, {}
    if mmc:
        color = (Color(color=vehicle.color, score=vehicle.score),) if vehicle.color else ()
        side = {"front": "Front", "rear": "Rear"}.get(vehicle.orientation or "", "Unknown")
        lists = {
            "model_make": (ModelMake(),),
            "color": color or (Color(color="unknown", score=0),),
            "orientation": ({"orientation": side, "score": vehicle.score if vehicle.orientation else 0},),
        }
    return SnapshotPlate.model_validate({**plate.model_dump(), **lists})
