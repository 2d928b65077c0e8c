"""The one way of a request through both functions.

Path, method, key, one unit of the key's allowance, image source, bytes, recogniser, answer. Whatever does not
end in a 200 gives the unit back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from service.contract import Answer, Api
from service.deadline import OutOfTime, within
from service.errors import (
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
from service.keys import KeyStore
from service.settings import settings
from service.source import Request, load, parse_request
from service.telemetry import logger, record, stage, timed

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
    request = parse_request(event)
    said: dict[str, Any] = {
        "request_id": request.request_id,
        "function_request_id": context.aws_request_id,
        "method": request.method,
        "route": request.path,
        "source": request.source and type(request.source).__name__.removesuffix("Source").lower(),
    }
    outcome = Outcome.READ
    with timed() as stages:
        try:
            response = _answer(request, context, api, recognise, said)
        except Exception as error:
            refused = _translated(error, api)
            outcome = refused.outcome
            said |= {"code": refused.code, "detail": refused.detail}
            response = refuse(refused, request.request_id)
    said["status"] = response["statusCode"]
    record(api, outcome, {**stages, "total": (time.perf_counter() - start) * 1000}, said)
    return response


def _answer(
    request: Request, context: Context, api: Api, recognise: Recognise, said: dict[str, Any]
) -> Response:
    if request.path not in api.paths:
        raise NotFound
    if request.method != "POST":
        raise MethodNotAllowed("POST")
    if request.key is None:
        raise MissingKey(api)
    key, token = request.key, request.idempotency_key

    def metered() -> Response:
        return _metered(request, key, context, api, recognise, said)

    if token is None:
        return metered()
    from service.idempotency import once  # few requests carry a token

    return once(store, api, key, token, request.fingerprint(), context, metered)


def _metered(
    request: Request, key: str, context: Context, api: Api, recognise: Recognise, said: dict[str, Any]
) -> Response:
    """A 200, paid for; any other outcome is raised, with the usage as it stands after the unit went back."""
    with stage("keys"):
        usage = store.consume(key, api)
    said |= {"tier": usage.tier, "key": usage.prefix}
    seconds = context.get_remaining_time_in_millis() / 1000 - SECONDS_TO_ANSWER
    try:
        body = within(seconds, lambda: _body(request, api, recognise))
    except Exception as error:
        refused = _translated(error, api)
        with stage("keys"):
            refused.headers |= store.give_back(usage).headers
        raise refused from error
    return respond(200, body, usage.headers)


def _body(request: Request, api: Api, recognise: Recognise) -> dict[str, Any]:
    if request.source is None:
        raise MissingImage(api)
    with stage("load"):
        image = load(request.source)
    start = time.perf_counter()
    answer = recognise(image, request.regions)
    return answer.body(request.request_id, (time.perf_counter() - start) * 1000)


def _translated(error: Exception, api: Api) -> ServiceError:
    """What a caller is told of ``error``; the log gets the whole of what nobody expected."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, OutOfTime):
        return RequestTimedOut()
    logger.exception("unexpected", exc_info=error)
    return InternalError(api)
