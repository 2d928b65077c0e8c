"""The one way of a request through both functions.

Path, method, key, one unit of the key's allowance, image source, bytes, recogniser, answer. Whatever does not
end in a 200 gives the unit back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from carsight_service.contract.api import Answer, Api
from carsight_service.contract.errors import (
    InternalError,
    MethodNotAllowed,
    MissingImage,
    MissingKey,
    NotFound,
    Outcome,
    RequestTimedOut,
    ServiceError,
    envelope,
)
from carsight_service.deadline import OutOfTime, within
from carsight_service.http import snapshot
from carsight_service.images import Request, load, parse_request
from carsight_service.metering.meter_store import KeyStore
from carsight_service.settings import settings
from carsight_service.telemetry import logger, record, stage, timed

Event = dict[str, Any]
"""An API Gateway HTTP API event, payload format 2.0."""

Response = dict[str, Any]
"""What API Gateway is answered: ``statusCode``, ``headers``, ``body``."""

Recognise = Callable[[bytes, Sequence[str]], Answer]
"""Makes a 200 out of an image's bytes and the caller's region codes, or raises a ``ServiceError``."""

SECONDS_TO_ANSWER = 2.0
"""How long before the function's own timeout a request is given up, so that its unit can be given back."""

store = KeyStore(settings.table_name)


class Context(Protocol):
    """What Lambda says about an invocation, as far as it is used here."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Until the function's own timeout."""
        ...


def respond(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """An answer with a JSON object as its body; every answer of every route is made here."""
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json", "cache-control": "no-store", **(headers or {})},
        "body": json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        "isBase64Encoded": False,
    }


def refuse(error: ServiceError, request_id: str) -> Response:
    """The answer for ``error``."""
    return respond(error.status, envelope(error, request_id), error.headers)


def handle(event: Event, context: Context, api: Api, recognise: Recognise) -> Response:
    """Answer one request, whatever happens. ``event`` comes back without its body, query and key."""
    start = time.perf_counter()
    call = _Call(parse_request(event), context, api, recognise)
    outcome = Outcome.READ
    with timed() as stages:
        try:
            response = call.answer()
        except Exception as error:
            refused = _translated(error, api)
            outcome = refused.outcome
            call.said |= {"code": refused.code, "detail": refused.note}
            response = refuse(refused, call.request.request_id)
    call.said["status"] = response["statusCode"]
    record(api, outcome, {**stages, "total": (time.perf_counter() - start) * 1000}, call.said)
    return response


class _Call:
    """One request on its way through. Its methods return a 200, and raise any other answer."""

    def __init__(self, request: Request, context: Context, api: Api, recognise: Recognise) -> None:
        self.request = request
        self.said: dict[str, Any] = {
            "request_id": request.request_id,
            "function_request_id": context.aws_request_id,
            "method": request.method,
            "route": request.path,
            "source": request.source and type(request.source).__name__.removesuffix("Source").lower(),
        }
        """What the log will say of it."""
        self._context = context
        self._api = api
        self._recognise = recognise

    def answer(self) -> Response:
        """The 200, computed now or, for a retry, before."""
        request = self.request
        if request.path not in self._api.paths:
            raise NotFound
        if request.method != "POST":
            raise MethodNotAllowed("POST")
        if request.key is None:
            raise MissingKey(self._api)
        metered = partial(self._metered, request.key)
        if request.idempotency_key is None:
            return metered()
        from carsight_service.http.idempotency import (
            once,  # a heavy import, and few requests carry the header
        )

        token, fingerprint = request.idempotency_key, request.fingerprint()
        return once(store, self._api, request.key, token, fingerprint, self._context, metered)

    def _metered(self, key: str) -> Response:
        """A 200 that has been paid for; with any other answer the unit goes back."""
        with stage("keys"):
            usage = store.consume(key, self._api)
        self.said |= {"tier": usage.tier, "key": usage.prefix}
        seconds = self._context.get_remaining_time_in_millis() / 1000 - SECONDS_TO_ANSWER
        try:
            body = within(seconds, self._body)
        except Exception as error:
            refused = _translated(error, self._api)
            with stage("keys"):
                refused.headers |= store.give_back(usage).headers
            raise refused from error
        return respond(200, body, usage.headers)

    def _body(self) -> dict[str, Any]:
        source = self.request.source
        if source is None:
            raise MissingImage(self._api)
        recognise = self._recognise
        if self.request.path == snapshot.PATH:
            recognise = snapshot.in_snapshots_way(recognise, self.request.camera_id, self.request.timestamp)
        return read(lambda: load(source), recognise, self.request.regions, self.request.request_id)


def read(
    load: Callable[[], bytes], recognise: Recognise, regions: Sequence[str], request_id: str
) -> dict[str, Any]:
    """The body of a 200 for the image that ``load`` brings. Raises what ``load`` and ``recognise`` raise."""
    with stage("load"):
        image = load()
    start = time.perf_counter()
    answer = recognise(image, regions)
    return answer.body(request_id, (time.perf_counter() - start) * 1000)


def _translated(error: Exception, api: Api) -> ServiceError:
    """What a caller is told of ``error``; the log gets the whole of what nobody expected."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, OutOfTime):
        return RequestTimedOut()
    logger.exception("unexpected", exc_info=error)
    return InternalError(api)
