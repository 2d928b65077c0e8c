"""The one way of a request through both functions.

Method, key, image source, one unit of the key's allowance, bytes, recogniser, answer. Anything but a 200 gives
the unit back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from service.contract import Api
from service.errors import ServiceError, envelope
from service.keys import KeyStore
from service.settings import settings
from service.source import Request

Event = dict[str, Any]
"""An API Gateway HTTP API event, payload format 2.0."""

Response = dict[str, Any]
"""What API Gateway is answered: ``statusCode``, ``headers``, ``body``."""

store = KeyStore(settings.table_name)


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


def handle(event: Event, context: Any, api: Api, answer: Callable[[bytes, Request], BaseModel]) -> Response:
    """Answer one request.

    ``answer`` makes the contract's 200 out of the image's bytes; it raises ``ServiceError`` for anything else.
    An ``Idempotency-Key`` header wraps everything after the key check in ``idempotency.once(api, key, token,
    fingerprint, call)``: ``call()`` returns the response of a 200 and raises otherwise; only a 200 is kept.
    """
    raise NotImplementedError
