"""The routes that read photos, said once: which API each serves, and in whose dialect.

A dialect is how one family of clients is answered: what becomes of a reading, of the body when the unit has
been counted, and of a refusal. Requests are understood alike in all of them (``request``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carsight_service.contract.api import Answer, Api, PlateAnswer, VinAnswer
from carsight_service.http import snapshot

if TYPE_CHECKING:
    from carsight_service.contract.errors import ServiceError
    from carsight_service.http.request import Request
    from carsight_service.metering.model import Usage
    from carsight_service.reading import Recognize
    from carsight_service.settings import Settings


class Dialect:
    """CarsXE's: the contract as it stands."""

    def recognize(self, recognize: Recognize, request: Request) -> Recognize:
        """Wrap ``recognize`` so that it answers ``request`` in this dialect."""
        return recognize

    def tells_of_vehicles(self, request: Request) -> bool:
        """Return whether ``request`` asks for vehicles without a plate, and there is an answer for them."""
        return False

    def finish(self, body: dict[str, Any], usage: Usage) -> dict[str, Any]:
        """Complete the body of a 200 once its unit has been counted."""
        return body

    def refusal(self, error: ServiceError) -> ServiceError:
        """Turn ``error`` into what this dialect's clients expect."""
        return error

    def key_for_nobody(self, settings: Settings) -> str | None:
        """Return the key that pays for requests without one, where there is one."""
        return None


class SnapshotDialect(Dialect):
    """Plate Recognizer's Snapshot API."""

    def recognize(self, recognize: Recognize, request: Request) -> Recognize:
        """Answer as Snapshot does."""
        return snapshot.as_snapshot(recognize, request)

    def tells_of_vehicles(self, request: Request) -> bool:
        """Look at ``detection_mode``."""
        return request.plate_options.vehicles

    def finish(self, body: dict[str, Any], usage: Usage) -> dict[str, Any]:
        """Add what has been used."""
        return snapshot.with_usage(body, usage)

    def refusal(self, error: ServiceError) -> ServiceError:
        """Refuse a key with 403."""
        return snapshot.as_refusal(error)

    def key_for_nobody(self, settings: Settings) -> str | None:
        """Return the deployment's key for clients without a token."""
        return settings.snapshot_key


CARSXE, SNAPSHOT = Dialect(), SnapshotDialect()


@dataclass(frozen=True, slots=True)
class ReadingRoute:
    """One path that takes a photo by ``POST``."""

    path: str
    api: Api
    operation: str
    """Its ``operationId`` in the description."""
    summary: str
    answer: type[Answer]
    dialect: Dialect = CARSXE


_VIN = "Read the VIN of a photo"

READING_ROUTES: Mapping[str, ReadingRoute] = {
    route.path: route
    for route in (
        ReadingRoute("/platerecognition", Api.PLATE, "readPlates", "Read the plates of a photo", PlateAnswer),
        ReadingRoute(
            "/v1/plate-reader",
            Api.PLATE,
            "readPlatesForSnapshot",
            "The same for clients of Plate Recognizer",
            snapshot.SnapshotAnswer,
            SNAPSHOT,
        ),
        ReadingRoute("/v1/vinocr", Api.VIN, "readVin", _VIN, VinAnswer),
        ReadingRoute("/vinocr", Api.VIN, "readVinWithoutVersion", _VIN, VinAnswer),
        ReadingRoute("/vin-ocr", Api.VIN, "readVinHyphenated", _VIN, VinAnswer),
    )
}
"""By path, the canonical one of each API first; ``template.yaml`` routes the same paths."""
