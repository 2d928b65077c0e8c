"""The endpoint that reads photos, for plates or VINs: from an event to an answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from carsight_service.contract.api import Answer, Api
from carsight_service.contract.errors import (
    InvalidRequest,
    MethodNotAllowed,
    MissingImage,
    MissingKey,
    NotFound,
    ServiceError,
)
from carsight_service.http.request import Request, parse_request, request_id_of
from carsight_service.http.responses import refuse, respond
from carsight_service.http.routes import READING_ROUTES, Dialect
from carsight_service.reading import ByKey, Reader, Recognize, Work

if TYPE_CHECKING:
    from carsight_service.aws.lambda_types import Context, Event, Response
    from carsight_service.deployment import Deployment
    from carsight_service.http.idempotency import Retries

SECONDS_TO_ANSWER = 2.0
"""How long before the function's own timeout the answer has to be ready."""

SECONDS_TO_COUNT = 5.0
"""How long before that the photo has to be read: the store may take this long to count it."""

MAX_ECHO_CHARACTERS = 200
"""The most characters of a parameter that the answer repeats."""


class Endpoint:
    """Answers the requests of one API; one per process.

    ``with_vehicles`` reads for requests that also ask for vehicles without a plate.
    """

    def __init__(
        self, deployment: Deployment, api: Api, recognize: Recognize, with_vehicles: Recognize | None = None
    ) -> None:
        self._deployment = deployment
        self._meters = deployment.meters  # its client is made while the function starts
        self._api = api
        self._recognize = recognize
        self._with_vehicles = with_vehicles or recognize
        self._reader = Reader(api, deployment.settings, deployment.timer)

    def handle(self, event: Event, context: Context) -> Response:
        """Answer one request; raises nothing. Body, query and key are removed from ``event``."""
        request_id = request_id_of(event)
        log_fields = {"request_id": request_id, "function_request_id": context.aws_request_id}
        response, _ = self._reader.answered(
            log_fields,
            partial(self._answer, event, context, log_fields),
            partial(self._refuse, log_fields),
        )
        self._meters.answered()
        self._deployment.heap.trim()
        return response

    def _refuse(self, log_fields: dict[str, Any], error: ServiceError) -> Response:
        route = READING_ROUTES.get(log_fields.get("route", ""))
        if route is not None:
            error = route.dialect.refusal(error)
        return refuse(error, log_fields["request_id"], self._deployment.settings)

    def _answer(self, event: Event, context: Context, log_fields: dict[str, Any]) -> Response:
        """Return the 200, or the stored one for a retry. Raises any other answer as an exception."""
        request = parse_request(event)
        log_fields.update(method=request.method, route=request.path)
        route = READING_ROUTES.get(request.path)
        if route is None or route.api is not self._api:
            raise NotFound
        if request.method not in route.operations:
            raise MethodNotAllowed(*route.operations)
        key = request.key or route.dialect.default_key(self._deployment.settings)
        if key is None:
            raise MissingKey(self._api)
        read = partial(self._read, request, route.dialect, key, context, log_fields)
        if request.idempotency_key is None:
            return read()
        # Check the key first: a stranger writes nothing, and a disabled key gets no stored answer.
        self._meters.authorize(key, self._api)
        token, fingerprint = request.idempotency_key, request.fingerprint()
        return self._retries.once(self._api, key, token, fingerprint, context, read)

    @cached_property
    def _retries(self) -> Retries:
        from carsight_service.http.idempotency import Retries  # a heavy import, and few requests need it

        return Retries(self._deployment.settings.table_name, self._deployment.aws.metering)

    def _read(
        self, request: Request, dialect: Dialect, key: str, context: Context, log_fields: dict[str, Any]
    ) -> Response:
        seconds = context.get_remaining_time_in_millis() / 1000 - SECONDS_TO_ANSWER
        work = Work(
            request_id=request.request_id,
            load=partial(self._load, request, log_fields),
            recognize=partial(self._recognized, request, dialect),
            seconds=seconds - SECONDS_TO_COUNT,
            log_fields=log_fields,
        )
        charge = ByKey(self._meters, key, self._api, time.monotonic() + seconds)
        body, usage = self._reader.attempt(work, charge)
        return respond(200, dialect.finish(body, usage), usage.headers)

    def _recognized(self, request: Request, dialect: Dialect, image: bytes, regions: Sequence[str]) -> Answer:
        """Read the image according to the request's dialect and options."""
        recognize = self._with_vehicles if dialect.wants_vehicles(request) else self._recognize
        if self._api is Api.PLATE:
            recognize = request.plate_options.choose(recognize)
        return dialect.adapt(recognize, request)(image, regions)

    def _load(self, request: Request, log_fields: dict[str, Any]) -> tuple[bytes, Sequence[str]]:
        log_fields["source"] = request.source and type(request.source).__name__.removesuffix("Source").lower()
        if request.source is None:
            name = request.misplaced_image
            misplaced = (
                f"The query parameter {name} is not read. Send the image in the body of the POST: as JSON "
                f'{{"{name}": "..."}}, or as a file of a form.'
            )
            raise MissingImage(self._api, detail=misplaced if name else "")
        regions = request.regions
        if self._api is Api.PLATE:
            _ = request.plate_options  # refuses invalid options before anything is fetched
        for name, value in (("camera_id", request.camera_id), ("timestamp", request.timestamp)):
            if value and len(value) > MAX_ECHO_CHARACTERS:
                raise InvalidRequest(f"{name} must have at most {MAX_ECHO_CHARACTERS} characters")
        return self._deployment.images.load(request.source), regions
