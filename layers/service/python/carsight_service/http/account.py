"""The routes without pixels: keys, usage, uploads, batches, the API's description, and any other path."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import ValidationError

from carsight_service.contract.api import Api, CurrentUsage, PastUsage, UsageReport, User, Validation
from carsight_service.contract.errors import (
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    MissingKey,
    NotFound,
    PlanWithoutApi,
    ServiceError,
)
from carsight_service.http import openapi, page, snapshot
from carsight_service.http.endpoint import Context, Event, Response, refuse, respond, store
from carsight_service.images import parse_request
from carsight_service.metering import model as key_table
from carsight_service.queue.batches import BatchAnswer, Batches, parse_batch
from carsight_service.queue.uploads import UploadRequest, offer
from carsight_service.settings import settings
from carsight_service.telemetry import logger


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a route of this module."""

    method: str
    path: str
    parameters: Mapping[str, str]
    """The parts of the path that the route names in braces."""
    key: str | None = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    content_type: str
    request_id: str

    def require_key(self) -> str:
        """The key. Raises ``MissingKey``."""
        if self.key is None:
            raise MissingKey(Api.PLATE)
        return self.key

    def account(self) -> key_table.Account:
        """What is known of the key, if it is served. Raises ``MissingKey``, or as ``KeyStore.account``."""
        return store.account(self.require_key())


Handler = Callable[[Call], Response]


def handle(event: Event, context: Context) -> Response:
    """Answer one API Gateway event. ``event`` comes back without its body, query and key."""
    body, content_type = _body(event)
    query = event.get("queryStringParameters") or {}
    request = parse_request(event)
    said: dict[str, Any] = {
        "request_id": request.request_id,
        "function_request_id": context.aws_request_id,
        "method": request.method,
    }
    try:
        route, handler, parameters = _find(request.method, request.path)
        said["route"] = route
        call = Call(
            method=request.method,
            path=request.path,
            parameters=parameters,
            key=request.key,
            query=query,
            body=body,
            content_type=content_type,
            request_id=request.request_id,
        )
        response = handler(call)
    except ServiceError as error:
        said |= {"code": error.code, "detail": error.note}
        response = refuse(error, request.request_id)
    except Exception:
        logger.exception("unexpected")
        response = refuse(InternalError(Api.VIN), request.request_id)
    logger.info("answered", extra={**said, "status": response["statusCode"]})
    return response


def _body(event: Event) -> tuple[bytes, str]:
    """The body's bytes and declared type, taken before the event is emptied."""
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    text = event.get("body") or ""
    body = base64.b64decode(text) if event.get("isBase64Encoded") else text.encode("utf-8", "surrogatepass")
    return body, headers.get("content-type", "")


def _find(method: str, path: str) -> tuple[str, Handler, dict[str, str]]:
    """The route of ``path`` with its handler and parameters. Raises ``NotFound`` or ``MethodNotAllowed``."""
    parts = path.split("/")
    for route, handlers in ROUTES.items():
        names = route.split("/")
        if len(names) != len(parts):
            continue
        if all(
            name == part or (name.startswith("{") and part) for name, part in zip(names, parts, strict=True)
        ):
            if method not in handlers:
                raise MethodNotAllowed(*handlers)
            named = zip(names, parts, strict=True)
            parameters = {name[1:-1]: part for name, part in named if name.startswith("{")}
            return route, handlers[method], parameters
    raise NotFound


# -- answers -------------------------------------------------------------------------------------------------


def validate(call: Call) -> Response:
    """``/v1/auth/validate``: whether a key would be served, and whose it is."""
    profile = store.status(call.require_key())
    user = User(
        email=profile.owner,
        label=profile.label,
        tier=profile.tier,
        key=profile.prefix,
        created=profile.created,
    )
    return respond(200, Validation(user=user, request_id=call.request_id).model_dump(mode="json"))


def usage(call: Call) -> Response:
    """``/v1/usage``: this period's usage of each API, and the past ones'."""
    account = store.account(call.require_key())
    report = UsageReport(
        tier=account.profile.tier,
        usage=tuple(_current(usage) for usage in account.usage),
        history=tuple(_past(past) for past in account.history),
        request_id=call.request_id,
    )
    return respond(200, report.model_dump(mode="json"))


def statistics(call: Call) -> Response:
    """``/v1/statistics``: the usage of plates, for clients of Plate Recognizer."""
    plates = next((usage for usage in call.account().usage if usage.api is Api.PLATE), None)
    if plates is None:
        raise PlanWithoutApi
    return respond(200, snapshot.statistics(plates, key_table.utc_now()).model_dump(mode="json"))


def _current(usage: key_table.Usage) -> CurrentUsage:
    return CurrentUsage(
        api=usage.api.contract_name,
        period=usage.period,
        current=usage.current,
        limit=usage.limit,
        remaining=usage.remaining,
        overage=usage.overage,
    )


def _past(past: key_table.PastUsage) -> PastUsage:
    return PastUsage(
        api=past.api.contract_name, period=past.period, current=past.used, limit=past.limit, tier=past.tier
    )


def offer_upload(call: Call) -> Response:
    """``POST /v1/uploads``: a form to send one photo to S3 with, and where its reading will be."""
    account = call.account()
    try:
        wanted = UploadRequest.model_validate_json(call.body)
    except ValidationError as error:
        raise InvalidRequest(_first(error)) from None
    _require_api(account, wanted.api)
    return respond(200, offer(account.profile.key_id, wanted, call.request_id).model_dump(mode="json"))


def submit_batch(call: Call) -> Response:
    """``POST /v1/batches``: a list of images to be read in the background."""
    account = call.account()
    request = parse_batch(call.body, call.content_type, call.query)
    _require_api(account, request.api)
    batch = Batches(settings.table_name, store.client).submit(account.profile.key_id, request)
    return respond(200, BatchAnswer.of(batch, call.request_id).model_dump(mode="json"))


def show_batch(call: Call) -> Response:
    """``GET /v1/batches/<id>``: how far a batch is, and where its results are."""
    account = call.account()
    batch = Batches(settings.table_name, store.client).get(call.parameters["id"])
    if batch is None or batch.key_id != account.profile.key_id:
        raise NotFound
    return respond(200, BatchAnswer.of(batch, call.request_id).model_dump(mode="json"))


def _require_api(account: key_table.Account, api: Api) -> None:
    """Raises ``PlanWithoutApi`` where the key's tier does not include ``api``."""
    if api not in {usage.api for usage in account.usage}:
        raise PlanWithoutApi


def _first(error: ValidationError) -> str:
    """What is wrong with a body, in one line."""
    problem = error.errors(include_url=False, include_input=False)[0]
    return ": ".join((*map(str, problem["loc"]), problem["msg"]))


def openapi_json(_: Call) -> Response:
    """``/openapi.json``."""
    return respond(200, openapi.document())


def openapi_yaml(_: Call) -> Response:
    """``/openapi.yaml``."""
    answer = respond(200, {})
    return {
        **answer,
        "headers": {**answer["headers"], "content-type": "application/yaml"},
        "body": openapi.as_yaml(),
    }


def _page(make: Callable[[], Response], _: Call) -> Response:
    """A page for people. Raises ``NotFound`` where the deployment has switched them off."""
    if not settings.pages:
        raise NotFound
    return make()


ROUTES: Mapping[str, Mapping[str, Handler]] = {
    "/v1/auth/validate": {"GET": validate, "POST": validate},
    "/v1/usage": {"GET": usage},
    "/v1/statistics": {"GET": statistics},
    "/v1/uploads": {"POST": offer_upload},
    "/v1/batches": {"POST": submit_batch},
    "/v1/batches/{id}": {"GET": show_batch},
    "/openapi.json": {"GET": openapi_json},
    "/openapi.yaml": {"GET": openapi_yaml},
    **{path: {"GET": partial(_page, make)} for path, make in page.PAGES.items()},
}
"""What answers which path; a part in braces matches any one part of a path."""
