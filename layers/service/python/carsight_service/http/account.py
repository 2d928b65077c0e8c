"""The routes that read no photo: keys, usage, uploads, batches, the API's description, and unknown paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from carsight_service.batch_store import Batch, Batches
from carsight_service.contract.api import (
    Api,
    CurrentUsage,
    PastUsage,
    UsageReport,
    User,
    Validation,
    region_codes,
)
from carsight_service.contract.errors import (
    InvalidRequest,
    MethodNotAllowed,
    MissingKey,
    NotFound,
    PlanWithoutApi,
)
from carsight_service.contract.regions import known_regions
from carsight_service.http import openapi, page, snapshot
from carsight_service.http.batches import BatchAnswer, offer_list, parse_batch, submit
from carsight_service.http.executions import Executions
from carsight_service.http.request import Request, parse_request, request_id_of
from carsight_service.http.responses import refuse, respond
from carsight_service.http.routes import ROUTES, Route
from carsight_service.http.uploads import PATTERNS_IN_WORDS, UploadRequest, offer
from carsight_service.metering import model
from carsight_service.reading import forget_frames, translate
from carsight_service.telemetry import logger

if TYPE_CHECKING:
    from carsight_service.aws.lambda_types import Context, Event, Response
    from carsight_service.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a route of this module."""

    deployment: Deployment
    request: Request
    parameters: Mapping[str, str]
    """The parameters in the path, by name."""

    @property
    def request_id(self) -> str:
        """API Gateway's id of the request."""
        return self.request.request_id

    def account(self) -> model.Account:
        """Return the key's account. Raises ``MissingKey``, or as ``MeterStore.account`` does.

        As in the plate API, keys are refused with a 401.
        """
        if self.request.key is None:
            raise MissingKey(Api.PLATE)
        return self.deployment.meters.account(self.request.key)

    @property
    def executions(self) -> Executions:
        """The executions of batches."""
        return Executions(self.deployment)


Handler = Callable[[Call], "Response"]


class AccountEndpoint:
    """Answers every route that reads no photo, and every unknown path; one per process."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        _ = deployment.meters  # its client is made while the function starts

    def handle(self, event: Event, context: Context) -> Response:
        """Answer one request; raises nothing. Body, query and key are removed from ``event``."""
        request_id = request_id_of(event)
        log_fields = {"request_id": request_id, "function_request_id": context.aws_request_id}
        try:
            response = self._answer(event, log_fields)
        except Exception as error:
            refused = translate(error, Api.VIN)  # whose message for an internal error is the clearer one
            log_fields |= {"code": refused.code, "detail": refused.note}
            response = refuse(refused, request_id, self._deployment.settings)
            forget_frames(error)
        logger.info("answered", extra={**log_fields, "status": response["statusCode"]})
        return response

    def _answer(self, event: Event, log_fields: dict[str, Any]) -> Response:
        request = parse_request(event)
        log_fields["method"] = request.method
        route, handler, parameters = _find(request.method, request.path)
        log_fields["route"] = route.path
        return handler(Call(self._deployment, request, parameters))


def _find(method: str, path: str) -> tuple[Route, Handler, dict[str, str]]:
    """Find the route of ``path``, its handler and parameters. Raises ``NotFound``, ``MethodNotAllowed``."""
    for route in ROUTES:
        if route.api is None and (parameters := route.match(path)) is not None:
            # A route with GET also answers HEAD (RFC 9110, 9.1); the gateway leaves out the body.
            operation = route.operations.get("GET" if method == "HEAD" else method)
            if operation is None:
                raise MethodNotAllowed(*route.operations)
            return route, HANDLERS[operation.name], parameters
    raise NotFound


# -- answers -------------------------------------------------------------------------------------------------


def validate(call: Call) -> Response:
    """``/v1/auth/validate``: whether a key would be served, and whose it is."""
    profile = call.account().profile
    user = User(
        email=profile.owner,
        label=profile.label,
        tier=profile.tier,
        key=profile.prefix,
        created=profile.created,
    )
    return respond(200, Validation(user=user, request_id=call.request_id).as_json())


def usage(call: Call) -> Response:
    """``/v1/usage``: the usage of each API in the current and in past periods."""
    account = call.account()
    report = UsageReport(
        tier=account.profile.tier,
        usage=tuple(_current(usage) for usage in account.usage),
        history=tuple(_past(past) for past in account.history),
        request_id=call.request_id,
    )
    return respond(200, report.as_json())


def statistics(call: Call) -> Response:
    """``/v1/statistics``: the usage of plates, for clients of Plate Recognizer."""
    plates = next((usage for usage in call.account().usage if usage.api is Api.PLATE), None)
    if plates is None:
        raise PlanWithoutApi
    return respond(200, snapshot.statistics(plates, call.deployment.clock()).as_json())


def _current(usage: model.Usage) -> CurrentUsage:
    return CurrentUsage(
        api=usage.api.contract_name,
        period=usage.period,
        current=usage.current,
        limit=usage.limit,
        remaining=usage.remaining,
        overage=usage.overage,
    )


def _past(past: model.PastUsage) -> PastUsage:
    return PastUsage(
        api=past.api.contract_name, period=past.period, current=past.used, limit=past.limit, tier=past.tier
    )


MAX_DESCRIPTION_BYTES = 65_536
"""The longest body that describes a file: refusing six million characters of JSON objects took 760 MB."""


def _description(call: Call) -> bytes:
    """Return the body of a call that requests a form. Raises ``InvalidRequest`` if it is too long."""
    if len(call.request.body) > MAX_DESCRIPTION_BYTES:
        raise InvalidRequest(
            f"The body has {len(call.request.body):,} bytes, but may have at most "
            f"{MAX_DESCRIPTION_BYTES:,}. Send the file itself to the URL in the answer"
        )
    return call.request.body


def offer_upload(call: Call) -> Response:
    """``POST /v1/uploads``: a form to send one photo to S3 with, and where its reading will be."""
    account = call.account()
    try:
        wanted = UploadRequest.model_validate_json(_description(call))
    except ValidationError as error:
        raise InvalidRequest(_first(error)) from None
    _require_api(account, wanted.api)
    if wanted.api is Api.PLATE:
        known_regions(region_codes(wanted.regions))
    offered = offer(call.deployment, account.profile.account, wanted, call.request_id)
    return respond(200, offered.model_dump(mode="json"))


def offer_batch_list(call: Call) -> Response:
    """``POST /v1/batches/lists``: a form to send a long list with."""
    account = call.account().profile.account
    offered = offer_list(call.deployment, account, _description(call), call.request_id)
    return respond(200, offered.model_dump(mode="json"))


def submit_batch(call: Call) -> Response:
    """``POST /v1/batches``: read a list of images in the background."""
    account = call.account()
    request = parse_batch(call.request.body, call.request.content_type, call.request.query)
    _require_api(account, request.api)
    profile = account.profile
    token = call.request.idempotency_key
    batch, is_known = submit(call.deployment, profile.account, profile.key_id, request, token)
    if is_known:
        return _about(call, call.executions.progress(batch), {"idempotent-replayed": "true"})
    return _about(call, batch)


def show_batch(call: Call) -> Response:
    """``GET /v1/batches/<id>``: how far a batch is, and where its results are."""
    return _about(call, call.executions.progress(_batch(call)))


def stop_batch(call: Call) -> Response:
    """``DELETE /v1/batches/<id>``: stop a batch."""
    call.executions.stop(_batch(call))
    return show_batch(call)


def redrive_batch(call: Call) -> Response:
    """``POST /v1/batches/<id>/redrive``: read the rows that a batch has not read."""
    return _about(call, call.executions.redrive(_batch(call)))


def _batch(call: Call) -> Batch:
    """Return the batch in the path. Raises ``NotFound`` if it belongs to another account."""
    profile = call.account().profile
    batch = Batches(call.deployment).get(call.parameters["id"])
    if batch is None or batch.account not in (profile.account, profile.key_id):
        raise NotFound
    return batch


def _about(call: Call, batch: Batch, headers: Mapping[str, str] | None = None) -> Response:
    answer = BatchAnswer.of(batch, call.deployment.storage, call.request_id)
    return respond(200, answer.model_dump(mode="json"), headers)


def _require_api(account: model.Account, api: Api) -> None:
    """Raise ``PlanWithoutApi`` if the key's tier does not include ``api``."""
    if api not in {usage.api for usage in account.usage}:
        raise PlanWithoutApi


def _first(error: ValidationError) -> str:
    """Return the first error in a body, in one line."""
    problem = error.errors(include_url=False, include_input=False)[0]
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "string_pattern_mismatch":
        text = PATTERNS_IN_WORDS[str(problem["loc"][0])]
    return ": ".join((*map(str, problem["loc"]), text))


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


def _page(make: Callable[[], Response], call: Call) -> Response:
    """Answer with a page for people. Raises ``NotFound`` if the deployment does not serve pages."""
    if not call.deployment.settings.pages:
        raise NotFound
    return make()


HANDLERS: Mapping[str, Handler] = {
    "validateKey": validate,
    "validateKeyByPost": validate,
    "usage": usage,
    "statistics": statistics,
    "offerUpload": offer_upload,
    "offerList": offer_batch_list,
    "submitBatch": submit_batch,
    "showBatch": show_batch,
    "stopBatch": stop_batch,
    "redriveBatch": redrive_batch,
    "openapiJson": openapi_json,
    "openapiYaml": openapi_yaml,
    "index": partial(_page, page.index),
    "docs": partial(_page, page.docs),
    "docsScript": partial(_page, page.docs_script),
    "docsStyle": partial(_page, page.docs_style),
}
"""The handlers of all operations in ``ROUTES`` that read no photo."""
