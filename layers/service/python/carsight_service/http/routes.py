"""Every route in one table: path, methods, answers, errors, the API that it reads for, and its dialect.

The endpoints route by ``ROUTES``, the description is rendered from it (``openapi``), and a test compares it
with ``template.yaml``. Answers, bodies and parameters are named as the description's components are, so that
a function imports none that it does not answer with.

A dialect is how one family of clients is answered: what becomes of a reading, of the body when the unit has
been counted, and of a refusal. Requests are understood alike in all of them (``request``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from carsight_service.contract.api import Api
from carsight_service.contract.errors import (
    IdempotencyKeyReused,
    InvalidRequest,
    NotFound,
    PlanWithoutApi,
    UnknownRegions,
)

if TYPE_CHECKING:
    from carsight_service.contract.errors import ServiceError
    from carsight_service.http.request import Request
    from carsight_service.metering.model import Usage
    from carsight_service.reading import Recognize
    from carsight_service.settings import Settings


class Dialect:
    """CarsXE's: the contract as it stands."""

    def adapt(self, recognize: Recognize, request: Request) -> Recognize:
        """Wrap ``recognize`` so that it answers ``request`` in this dialect."""
        return recognize

    def wants_vehicles(self, request: Request) -> bool:
        """Return whether ``request`` asks for vehicles without a plate, and this dialect can answer them."""
        return False

    def finish(self, body: dict[str, Any], usage: Usage) -> dict[str, Any]:
        """Complete the body of a 200 once its unit has been counted."""
        return body

    def refusal(self, error: ServiceError) -> ServiceError:
        """Turn ``error`` into what this dialect's clients expect."""
        return error

    def default_key(self, settings: Settings) -> str | None:
        """Return the key that is charged for requests without one; None refuses them."""
        return None


class SnapshotDialect(Dialect):
    """Plate Recognizer's Snapshot API, imported when a request speaks it."""

    def adapt(self, recognize: Recognize, request: Request) -> Recognize:
        """Answer as Snapshot does."""
        from carsight_service.http import snapshot

        return snapshot.as_snapshot(recognize, request)

    def wants_vehicles(self, request: Request) -> bool:
        """Return whether ``detection_mode`` is ``vehicle``."""
        return request.plate_options.vehicles

    def finish(self, body: dict[str, Any], usage: Usage) -> dict[str, Any]:
        """Add what has been used."""
        from carsight_service.http import snapshot

        return snapshot.with_usage(body, usage)

    def refusal(self, error: ServiceError) -> ServiceError:
        """Refuse a key with 403."""
        from carsight_service.http import snapshot

        return snapshot.as_refusal(error)

    def default_key(self, settings: Settings) -> str | None:
        """Return the deployment's key for clients without a token."""
        return settings.snapshot_key


CARSXE, SNAPSHOT = Dialect(), SnapshotDialect()

Tag = Literal["Recognition", "Keys", "Uploads", "Description", "Pages"]
"""What a route is about. Pages are for people and are not described; they and the description need no key."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a path does when it is called with one method."""

    name: str
    """Its ``operationId`` in the description; the endpoint finds the function that answers by it."""
    summary: str
    answer: str = ""
    """The schema of its 200; empty where no model describes it."""
    errors: Callable[[], Sequence[ServiceError]] = tuple
    """Examples of what it may be refused with, besides what every operation of its tag may be."""
    body: str | None = None
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One path."""

    path: str
    """A part in braces matches any one part."""
    tag: Tag
    operations: Mapping[str, Operation]
    """By method; every other is a 405."""
    api: Api | None = None
    """What it reads photos for; None for the routes that read none."""
    dialect: Dialect = CARSXE

    def match(self, path: str) -> dict[str, str] | None:
        """Return the parts of ``path`` that this route names in braces, by name; None for another path."""
        names, parts = self.path.split("/"), path.split("/")
        if len(names) != len(parts):
            return None
        parameters = {}
        for name, part in zip(names, parts, strict=True):
            if name.startswith("{") and part:
                parameters[name[1:-1]] = part
            elif name != part:
                return None
        return parameters


def _reading(
    path: str, api: Api, operation: str, summary: str, answer: str, dialect: Dialect = CARSXE
) -> Route:
    """Return a route that takes a photo."""
    parameters = ("idempotency-key", "source")
    post = Operation(operation, summary, answer, body="Image", parameters=parameters)
    return Route(path, "Recognition", {"POST": post}, api, dialect)


def _single(
    path: str, tag: Tag, method: str, name: str, summary: str, answer: str = "", **more: Any
) -> Route:
    """Return a route with one operation."""
    return Route(path, tag, {method: Operation(name, summary, answer, **more)})


_READ_VIN = ("Read the VIN of a photo", "VinAnswer")
_VALIDATE = ("Whether a key would be served, and whose it is", "Validation")

ROUTES: Sequence[Route] = (
    # The canonical path of each API first.
    _reading("/platerecognition", Api.PLATE, "readPlates", "Read the plates of a photo", "PlateAnswer"),
    _reading(
        "/v1/plate-reader",
        Api.PLATE,
        "readPlatesForSnapshot",
        "The same for clients of Plate Recognizer",
        "SnapshotAnswer",
        SNAPSHOT,
    ),
    _reading("/v1/vinocr", Api.VIN, "readVin", *_READ_VIN),
    _reading("/vinocr", Api.VIN, "readVinWithoutVersion", *_READ_VIN),
    _reading("/vin-ocr", Api.VIN, "readVinHyphenated", *_READ_VIN),
    Route(
        "/v1/auth/validate",
        "Keys",
        {"GET": Operation("validateKey", *_VALIDATE), "POST": Operation("validateKeyByPost", *_VALIDATE)},
    ),
    _single("/v1/usage", "Keys", "GET", "usage", "What a key has used, now and before", "UsageReport"),
    _single(
        "/v1/statistics",
        "Keys",
        "GET",
        "statistics",
        "What a key has used of plates, for clients of Plate Recognizer",
        "Statistics",
        errors=lambda: [PlanWithoutApi()],
    ),
    _single(
        "/v1/uploads",
        "Uploads",
        "POST",
        "offerUpload",
        "A form to send one photo to S3 with, and where its reading will be",
        "UploadOffer",
        errors=lambda: [
            InvalidRequest("name: Field required"),
            UnknownRegions(["us-xx"]),
            PlanWithoutApi(),
        ],
        body="Upload",
    ),
    _single(
        "/v1/batches",
        "Uploads",
        "POST",
        "submitBatch",
        "Have a list of images read in the background",
        "BatchAnswer",
        errors=lambda: [
            InvalidRequest("api must be plate or vin"),
            UnknownRegions(["us-xx"]),
            PlanWithoutApi(),
            IdempotencyKeyReused(),
        ],
        body="Batch",
        parameters=("api", "regions", "idempotency-key"),
    ),
    _single(
        "/v1/batches/lists",
        "Uploads",
        "POST",
        "offerList",
        "A form to send a long list to S3 with",
        "ListOffer",
        errors=lambda: [InvalidRequest("format must be jsonl, csv or parquet")],
        body="List",
    ),
    Route(
        "/v1/batches/{id}",
        "Uploads",
        {
            "GET": Operation(
                "showBatch",
                "How far a batch is, and where its results are",
                "BatchAnswer",
                errors=lambda: [NotFound()],
                parameters=("id",),
            ),
            "DELETE": Operation(
                "stopBatch",
                "Stop a batch; what it has read remains",
                "BatchAnswer",
                errors=lambda: [NotFound()],
                parameters=("id",),
            ),
        },
    ),
    _single(
        "/v1/batches/{id}/redrive",
        "Uploads",
        "POST",
        "redriveBatch",
        "Read what has not been read of a batch that failed or was stopped",
        "BatchAnswer",
        errors=lambda: [
            NotFound(),
            InvalidRequest("Only a batch that has failed ... can be redriven"),
        ],
        parameters=("id",),
    ),
    _single("/openapi.json", "Description", "GET", "openapiJson", "This description"),
    _single("/openapi.yaml", "Description", "GET", "openapiYaml", "This description"),
    _single("/", "Pages", "GET", "index", "A page to read photos on"),
    _single("/docs", "Pages", "GET", "docs", "The API, to be read and tried"),
    _single("/docs/swagger-ui.js", "Pages", "GET", "docsScript", "The script of /docs"),
    _single("/docs/swagger-ui.css", "Pages", "GET", "docsStyle", "The style of /docs"),
)

READING_ROUTES: Mapping[str, Route] = {route.path: route for route in ROUTES if route.api is not None}
"""Those that take a photo, by path."""
