"""The key check, usage, uploads, batches and the API's description; answers every path that is no other's."""

from __future__ import annotations

from carsight_service.http.account import handle
from carsight_service.http.endpoint import Context, Event, Response


def lambda_handler(event: Event, context: Context) -> Response:
    """Answer one API Gateway event."""
    return handle(event, context)
