"""Answers to API Gateway, whose body is always a JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from carsight_service.contract.api import without_surrogates
from carsight_service.contract.errors import ServiceError, envelope

if TYPE_CHECKING:
    from carsight_service.aws.lambda_types import Response
    from carsight_service.settings import Links


def respond(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer with a JSON object as its body; the answers of all routes are created here."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json", "cache-control": "no-store", **(headers or {})},
        # What an answer repeats from a request must not keep it from being sent.
        "body": without_surrogates(text),
        "isBase64Encoded": False,
    }


def refuse(error: ServiceError, request_id: str, links: Links) -> Response:
    """Return the answer for ``error``."""
    return respond(error.status, envelope(error, request_id, links), error.headers)
