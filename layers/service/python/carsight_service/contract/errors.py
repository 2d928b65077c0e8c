"""Every error that a caller can be answered with, and the one envelope that carries them.

Messages and statuses are CarsXE's, byte for byte, including where its plate and VIN routes differ; programs
compare them. ``code`` and ``request_id`` are ours. An error is complete when it is raised: whoever catches it
needs to know nothing more to answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from carsight_service.contract.api import Api
from carsight_service.settings import settings

if TYPE_CHECKING:
    from carsight_service.metering.meter_store import Usage


class Outcome(StrEnum):
    """How a request ended, as operators count it; the values name CloudWatch metrics."""

    READ = "Reads"
    NOT_FOUND = "NotFound"
    """A photo without a plate or VIN."""
    REFUSED = "Refused"
    """The key, its plan or its limit."""
    INVALID = "Invalid"
    """The request or its image."""
    FAULT = "Faults"
    """Ours."""


class ServiceError(Exception):
    """An answer other than 200.

    ``detail`` is for the log alone and is never sent; it must not hold a key, an image or a URL's query.
    """

    status: int
    code: str
    message: str
    outcome: Outcome = Outcome.INVALID

    def __init__(
        self,
        detail: str = "",
        *,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or self.message)
        self.detail = detail
        self.extra: dict[str, Any] = dict(extra or {})
        """Further fields of the envelope."""
        self.headers: dict[str, str] = dict(headers or {})
        """Further headers of the answer."""


def envelope(error: ServiceError, request_id: str) -> dict[str, Any]:
    """The body of an answer that is not a 200."""
    return {
        "success": False,
        "message": error.message,
        "code": error.code,
        "request_id": request_id,
        **error.extra,
    }


# -- the request ---------------------------------------------------------------------------------------------


class MethodNotAllowed(ServiceError):
    """405, with the ``Allow`` header that RFC 9110 asks for."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, *allowed: str) -> None:
        self.message = f"Only {' and '.join(allowed)} allowed."
        super().__init__(headers={"allow": ", ".join(allowed)})


class NotFound(ServiceError):
    """A path, upload or batch that does not exist, or not for this key."""

    status = 404
    code = "not_found"
    message = "Not found"


class InvalidRequest(ServiceError):
    """A body or parameter, other than the image, that cannot be used; ``message`` says which and why."""

    status = 400
    code = "invalid_request"

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__()


class UnknownRegions(ServiceError):
    """The ``regions`` hint names regions that this service does not know."""

    status = 400
    code = "unknown_regions"

    def __init__(self, regions: Iterable[str]) -> None:
        self.message = f"Unknown regions: {', '.join(regions)}"
        super().__init__()


class RequestInProgress(ServiceError):
    """Another request with this ``Idempotency-Key`` has not been answered yet."""

    status = 409
    code = "request_in_progress"
    message = "A request with this Idempotency-Key is still being answered."


class IdempotencyKeyReused(ServiceError):
    """This ``Idempotency-Key`` has been used with another image."""

    status = 422
    code = "idempotency_key_reused"
    message = "This Idempotency-Key was used with a different request."


class RequestTimedOut(ServiceError):
    """The answer would have come after the function's own timeout."""

    status = 504
    code = "request_timed_out"
    outcome = Outcome.FAULT
    message = "Request timed out. Please try again."


class InternalError(ServiceError):
    """Our fault; the log has the reason under the answer's ``request_id``."""

    status = 500
    code = "internal_error"
    outcome = Outcome.FAULT

    def __init__(self, api: Api) -> None:
        self.message = {
            Api.PLATE: "Could not get information at this time",
            Api.VIN: "Internal server error",
        }[api]
        super().__init__()


# -- keys and usage ------------------------------------------------------------------------------------------


class MissingKey(ServiceError):
    """The request carries no API key."""

    code = "missing_api_key"
    outcome = Outcome.REFUSED
    message = "Missing API key"

    def __init__(self, api: Api) -> None:
        self.status = {Api.PLATE: 401, Api.VIN: 400}[api]
        super().__init__()


class UnknownKey(ServiceError):
    """No such key, or one that has been disabled; a caller is not told which."""

    code = "unknown_api_key"
    outcome = Outcome.REFUSED
    message = "User with this API key was not found or the API key is disabled"

    def __init__(self, api: Api) -> None:
        self.status = {Api.PLATE: 401, Api.VIN: 404}[api]
        super().__init__()


class InactiveKey(ServiceError):
    """The key's owner has to renew the plan."""

    status = 401
    code = "inactive_api_key"
    outcome = Outcome.REFUSED
    message = (
        f"User with this API key is not active. To activate update your billing on {settings.billing_url}"
    )


class BlockedKey(ServiceError):
    """The operator has blocked the key."""

    status = 403
    code = "blocked_api_key"
    outcome = Outcome.REFUSED
    message = "This API key has been blocked, please contact support if you believe this is an error."


class PlanWithoutApi(ServiceError):
    """The key's tier does not include this API."""

    status = 403
    code = "api_not_in_plan"
    outcome = Outcome.REFUSED
    message = (
        "This API is not available for your current subscription tier. "
        f"Visit {settings.pricing_url} to review upgrade options."
    )


class LimitExceeded(ServiceError):
    """The key has used its allowance for this API, and overage is off.

    ``usage`` is the key's usage, this request not counted; ``now`` (UTC) gives the month that CarsXE prints,
    not zero-padded, for a lifetime allowance too.
    """

    status = 429
    code = "limit_exceeded"
    outcome = Outcome.REFUSED

    def __init__(self, usage: Usage, now: datetime) -> None:
        self.usage = usage
        self.message = (
            f"API limit exceeded for {usage.api.contract_name} ({now.month}/{now.year}). "
            f"Subscription tier: {usage.tier}. Current usage: {usage.current}, Limit: {usage.limit}."
        )
        if usage.period == "lifetime":
            self.message += " Please upgrade your tier to continue using the API."
        else:
            self.message += (
                " Enable overage billing in your dashboard billing preferences"
                " to continue with overage charges"
            )
        super().__init__(
            extra={"usage": {"current": usage.current, "limit": usage.limit, "remaining": usage.remaining}},
            headers=usage.headers,
        )


class StoreUnavailable(ServiceError):
    """The key store cannot be reached or is throttled; nothing is ever answered unmetered."""

    status = 503
    code = "key_store_unavailable"
    outcome = Outcome.FAULT
    message = "Cannot access the internet at this time"


# -- the image -----------------------------------------------------------------------------------------------


class MissingImage(ServiceError):
    """The request carries no image."""

    status = 400
    code = "missing_image"

    def __init__(self, api: Api) -> None:
        self.message = {Api.PLATE: "Missing upload URL", Api.VIN: "Missing image data"}[api]
        super().__init__()


class InvalidImage(ServiceError):
    """Not an image, bad base64, or a URL that was refused or could not be fetched.

    One message for all, so that the answer tells nothing about networks that only the function can see.
    """

    status = 400
    code = "invalid_image"
    message = "Invalid image data format. Must be a valid URL or base64 encoded string."


class ImageTooLarge(ServiceError):
    """More bytes than the service takes."""

    status = 413
    code = "image_too_large"
    message = "Image is too large."


class ObjectGone(ServiceError):
    """Uploads: the photo had been deleted or replaced before it could be read."""

    status = 404
    code = "object_gone"
    message = "The photo is not there any more."


class NoTextDetected(ServiceError):
    """VIN: the photo holds no text at all."""

    status = 400
    code = "no_text_detected"
    outcome = Outcome.NOT_FOUND
    message = "No text detected in the image"


class NothingFound(ServiceError):
    """The photo holds text or a car, but no plate or no VIN good enough to answer with."""

    status = 404
    code = "nothing_found"
    outcome = Outcome.NOT_FOUND

    def __init__(self, api: Api) -> None:
        self.message = {
            Api.PLATE: "No plates detected in image",
            Api.VIN: "No valid VIN candidates found in the image",
        }[api]
        super().__init__()
