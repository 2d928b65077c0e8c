"""Every route in one table: path, methods, answers, errors, the API that it reads for, and its dialect.

The endpoints route by ``ROUTES``, the description is rendered from it (``openapi``), and a test compares it
with ``template.yaml``. Answers, bodies and parameters are given by the names of the description's components,
so that a function imports only the classes that it answers with.

A dialect is how one family of clients is answered: it converts readings, completes bodies once the unit has
been counted, and converts refusals. Requests are parsed in the same way for all dialects (``request``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
    """CarsXE's dialect: the contract without changes."""

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
        """Return ``error`` as this dialect's clients expect it."""
        return error

    def default_key(self, settings: Settings) -> str | None:
        """Return the key that is charged for requests without one; None refuses them."""
        return None


class SnapshotDialect(Dialect):
    """Plate Recognizer's Snapshot API, imported when a request uses it."""

    def adapt(self, recognize: Recognize, request: Request) -> Recognize:
        """Wrap ``recognize`` so that it answers as Snapshot does."""
        from carsight_service.http import snapshot

        return snapshot.as_snapshot(recognize, request)

    def wants_vehicles(self, request: Request) -> bool:
        """Return whether ``detection_mode`` is ``vehicle``."""
        return request.plate_options.vehicles

    def finish(self, body: dict[str, Any], usage: Usage) -> dict[str, Any]:
        """Add the key's usage."""
        from carsight_service.http import snapshot

        return snapshot.with_usage(body, usage)

    def refusal(self, error: ServiceError) -> ServiceError:
        """Return refusals of keys with a 403."""
        from carsight_service.http import snapshot

        return snapshot.as_refusal(error)

    def default_key(self, settings: Settings) -> str | None:
        """Return the deployment's key for clients without a token."""
        return settings.snapshot_key


CARSXE, SNAPSHOT = Dialect(), SnapshotDialect()

Tag = Literal["Recognition", "Keys", "Uploads", "Description", "Pages"]
"""The group of a route. Pages are for people and not described; pages and description need no key."""


class Operation(NamedTuple):
    """What a path does for one method."""

    name: str
    """Its ``operationId`` in the description, by which the endpoint finds the handler."""
    summary: str
    answer: str = ""
    """The name of the schema of its 200; empty if no model describes it."""
    errors: Callable[[], Sequence[ServiceError]] = tuple
    """Examples of its errors, besides those of all operations with its tag."""
    body: str | None = None
    parameters: tuple[str, ...] = ()


class Route(NamedTuple):
    """One path."""

    path: str
    """A segment in braces is a parameter, and matches any one segment."""
    tag: Tag
    operations: Mapping[str, Operation]
    """By method; any other method is answered with a 405."""
    api: Api | None = None
    """The API that it reads photos for; None for routes that read no photo."""
    dialect: Dialect = CARSXE

    def match(self, path: str) -> dict[str, str] | None:
        """Return the parameters in ``path`` by name, or None if this is not the route of ``path``."""
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
_VALIDATE = ("Check a key, and show whose it is", "Validation")

ROUTES: Sequence[Route] = (
    # The canonical path of each API first.
    _reading("/platerecognition", Api.PLATE, "readPlates", "Read the plates of a photo", "PlateAnswer"),
    _reading(
        "/v1/plate-reader",
        Api.PLATE,
        "readPlatesForSnapshot",
        "Read the plates of a photo, for clients of Plate Recognizer",
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
    _single("/v1/usage", "Keys", "GET", "usage", "Show a key's usage, now and in the past", "UsageReport"),
    _single(
        "/v1/statistics",
        "Keys",
        "GET",
        "statistics",
        "Show a key's usage of plates, for clients of Plate Recognizer",
        "Statistics",
        errors=lambda: [PlanWithoutApi()],
    ),
    _single(
        "/v1/uploads",
        "Uploads",
        "POST",
        "offerUpload",
        "Get a form to upload one photo to S3, and the address of its result",
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
        "Submit a list of images to be read in the background",
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
        "Get a form to upload a long list to S3",
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
                "Show a batch's progress and the addresses of its results",
                "BatchAnswer",
                errors=lambda: [NotFound()],
                parameters=("id",),
            ),
            "DELETE": Operation(
                "stopBatch",
                "Stop a batch, and keep what it has read",
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
        "Read the rows that a failed or stopped batch has not read",
        "BatchAnswer",
        errors=lambda: [
            NotFound(),
            InvalidRequest("Only a batch that failed or was stopped in the last 14 days can be redriven ..."),
        ],
        parameters=("id",),
    ),
    _single("/openapi.json", "Description", "GET", "openapiJson", "This description"),
    _single("/openapi.yaml", "Description", "GET", "openapiYaml", "This description"),
    _single("/", "Pages", "GET", "index", "A page for reading photos"),
    _single("/docs", "Pages", "GET", "docs", "The API's documentation, for reading and trying it"),
    _single("/docs/swagger-ui.js", "Pages", "GET", "docsScript", "The script of /docs"),
    _single("/docs/swagger-ui.css", "Pages", "GET", "docsStyle", "The style of /docs"),
)

READING_ROUTES: Mapping[str, Route] = {route.path: route for route in ROUTES if route.api is not None}
"""The routes that read photos, by path."""
