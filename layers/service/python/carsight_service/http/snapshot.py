"""Plate Recognizer's Snapshot API, whose plate object CarsXE's is: a neighbour whose clients are welcome.

``POST /v1/plate-reader/`` takes what ``/platerecognition`` takes (its clients send
``Authorization: Token KEY`` and a multipart file ``upload``) and answers in Snapshot's way: a photo without a
plate is a 200 with empty ``results``, counted as any 200 is. ``GET /v1/statistics/`` says what has been used.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from carsight_service.contract.api import Answer, Part, PlateAnswer, PlateResult
from carsight_service.contract.errors import NothingFound
from carsight_service.http.request import Request
from carsight_service.metering.model import LIFETIME, Usage
from carsight_service.reading import Recognize

PATH = "/v1/plate-reader"


class SnapshotAnswer(Answer):
    """200 of ``/v1/plate-reader/``."""

    processing_time: float = 0.0
    """Milliseconds from the image's bytes to the answer."""
    results: tuple[PlateResult, ...]
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
            answer = recognize(image, regions)
        except NothingFound:
            results: tuple[PlateResult, ...] = ()
        else:
            results = answer.results if isinstance(answer, PlateAnswer) else ()
        when = request.timestamp or datetime.now(UTC).isoformat(timespec="milliseconds")
        return SnapshotAnswer(results=results, camera_id=request.camera_id, timestamp=when)

    return read
