"""The endpoints that read photos: from an event to an answer, the same for plates and VINs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from carsight_service.contract.api import Api
from carsight_service.contract.errors import MethodNotAllowed, MissingImage, MissingKey, NotFound
from carsight_service.deployment import Deployment
from carsight_service.http import snapshot
from carsight_service.http.request import Request, parse_request, request_id_of
from carsight_service.http.responses import refuse, respond
from carsight_service.lambda_types import Context, Event, Response
from carsight_service.reading import ByKey, Reader, Recognize, Work

SECONDS_TO_ANSWER = 2.0
"""How long before the function's own timeout a request is given up, so that its unit can be given back."""


class Endpoint:
    """Answers the requests of one API; one per process."""

    def __init__(self, deployment: Deployment, api: Api, recognize: Recognize) -> None:
        self._deployment = deployment
        self._meters = deployment.meters  # its client is made while the function starts
        self._api = api
        self._recognize = recognize
        self._reader = Reader(api, deployment.settings, deployment.timer)

    def handle(self, event: Event, context: Context) -> Response:
        """Answer one request, whatever happens. ``event`` comes back without its body, query and key."""
        request_id = request_id_of(event)
        log_fields = {"request_id": request_id, "function_request_id": context.aws_request_id}
        response, _ = self._reader.answered(
            log_fields,
            partial(self._answer, event, context, log_fields),
            lambda error: refuse(error, request_id, self._deployment.settings),
        )
        return response

    def _answer(self, event: Event, context: Context, log_fields: dict[str, Any]) -> Response:
        """The 200, computed now or, for a retry, before. Raises any other answer."""
        request = parse_request(event)
        log_fields.update(
            method=request.method,
            route=request.path,
            source=request.source and type(request.source).__name__.removesuffix("Source").lower(),
        )
        if request.path not in self._api.paths:
            raise NotFound
        if request.method != "POST":
            raise MethodNotAllowed("POST")
        if request.key is None:
            raise MissingKey(self._api)
        read = partial(self._read, request, request.key, context, log_fields)
        if request.idempotency_key is None:
            return read()
        # A heavy import, and few requests carry the header.
        from carsight_service.http.idempotency import once

        token, fingerprint = request.idempotency_key, request.fingerprint()
        return once(self._meters, self._api, request.key, token, fingerprint, context, read)

    def _read(self, request: Request, key: str, context: Context, log_fields: dict[str, Any]) -> Response:
        recognize = self._recognize
        if request.path == snapshot.PATH:
            recognize = snapshot.as_snapshot(recognize, request.camera_id, request.timestamp)
        work = Work(
            request_id=request.request_id,
            load=partial(self._load, request),
            recognize=recognize,
            seconds=context.get_remaining_time_in_millis() / 1000 - SECONDS_TO_ANSWER,
            log_fields=log_fields,
        )
        body, usage = self._reader.attempt(work, ByKey(self._meters, key, self._api))
        return respond(200, body, usage.headers)

    def _load(self, request: Request) -> tuple[bytes, Sequence[str]]:
        if request.source is None:
            raise MissingImage(self._api)
        return self._deployment.images.load(request.source), request.regions
