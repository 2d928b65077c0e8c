"""Every error that a caller may receive, and the envelope that carries them.

Messages and statuses are CarsXE's, byte for byte, including the differences between its plate and VIN routes,
as programs compare them. ``code``, ``detail`` (what is wrong and what to do about it) and ``request_id`` are
additions. An error is complete when it is raised: the handler needs to know nothing else to answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from carsight_service.contract.api import IMAGE_FIELDS, Api, region_codes

if TYPE_CHECKING:
    from carsight.photo import ImageError
    from carsight.refusal import Reason
    from carsight_service.metering.model import Usage
    from carsight_service.settings import Links

MAX_REGIONS = 50
MAX_REGION_CHARACTERS = 10


class Ending(StrEnum):
    """How a request ended, as operators count it; the values name CloudWatch metrics."""

    READ = "Reads"
    NOT_FOUND = "NotFound"
    """A photo without a plate or VIN."""
    REFUSED = "Refused"
    """Because of the key, its plan or its limit."""
    INVALID = "Invalid"
    """Because of the request or its image."""
    FAULT = "Faults"
    """A fault of the service."""


class ServiceError(Exception):
    """An answer other than 200.

    ``note`` is only logged and never sent; ``detail`` is sent, and logged if there is no note. Neither may
    contain a key, an image or a URL's query.
    """

    status: int
    code: str
    message: str
    link: Literal["billing_url", "pricing_url"] | None = None
    """The setting whose page replaces ``{url}`` in ``message``."""
    detail: str = ""
    """One or two sentences that name the problem and the remedy; empty if callers must not know."""
    ending: Ending = Ending.INVALID

    def __init__(
        self,
        note: str = "",
        *,
        detail: str = "",
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.detail = detail or self.detail
        self.note = note or detail
        super().__init__(self.note or self.message)
        self.extra: dict[str, Any] = dict(extra or {})
        """Additional fields of the envelope."""
        self.headers: dict[str, str] = dict(headers or {})
        """Additional headers of the answer."""


class ErrorOfApi(ServiceError):
    """An error whose status or message differs between CarsXE's two APIs."""

    statuses: ClassVar[Mapping[Api, int]] = {}
    messages: ClassVar[Mapping[Api, str]] = {}

    def __init__(self, api: Api, *, detail: str = "", extra: Mapping[str, Any] | None = None) -> None:
        if self.statuses:
            self.status = self.statuses[api]
        if self.messages:
            self.message = self.messages[api]
        super().__init__(detail=detail, extra=extra)


def envelope(error: ServiceError, request_id: str, links: Links) -> dict[str, Any]:
    """Return the body of the answer for ``error``; ``links`` are the pages that messages name."""
    message = error.message.format(url=getattr(links, error.link)) if error.link else error.message
    return {
        "success": False,
        "message": message,
        "code": error.code,
        **({"detail": error.detail} if error.detail else {}),
        "request_id": request_id,
        **error.extra,
    }


# -- the request ---------------------------------------------------------------------------------------------


class MethodNotAllowed(ServiceError):
    """405, with the ``Allow`` header that RFC 9110 requires."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, *allowed: str) -> None:
        self.message = f"Only {' and '.join(allowed)} allowed."
        self.detail = f"Use {' or '.join(allowed)} for this path."
        accepted = [*allowed, "HEAD"] if "GET" in allowed else allowed
        super().__init__(headers={"allow": ", ".join(accepted)})


class NotFound(ServiceError):
    """A path, upload or batch that does not exist, or that belongs to another key."""

    status = 404
    code = "not_found"
    message = "Not found"
    detail = (
        "There is nothing at this path, or this key has no access to it. GET /openapi.json lists every path; "
        "a batch is visible only to the account that submitted it."
    )


class InvalidRequest(ServiceError):
    """A body or parameter, other than the image, that cannot be used; ``message`` says which and why."""

    status = 400
    code = "invalid_request"
    detail = "Fix what the message points out and send the request again; GET /openapi.json has the format."

    def __init__(self, message: str, *, detail: str = "") -> None:
        self.message = message
        super().__init__(detail=detail)


class UnknownRegions(ServiceError):
    """The ``regions`` hint names regions that this service does not know."""

    status = 400
    code = "unknown_regions"
    detail = (
        "A region is a two-letter country code, or a country and its state, such as gb, de or us-ca. If you "
        "do not know the region, leave it out."
    )

    def __init__(self, regions: Iterable[str]) -> None:
        self.regions = tuple(regions)
        self.message = f"Unknown regions: {', '.join(self.regions)}"
        super().__init__()


def checked_regions(hints: Sequence[str]) -> tuple[str, ...]:
    """Return the codes in ``hints``, as ``region_codes`` does.

    Raises ``InvalidRequest`` if there are too many, or if one is too long.
    """
    # Parsing megabytes of hints, or long ones in each of many rows, would take seconds.
    is_long = sum(map(len, hints)) + len(hints) > 4 * MAX_REGIONS * MAX_REGION_CHARACTERS
    codes = () if is_long else region_codes(hints)
    if is_long or len(codes) > MAX_REGIONS or any(len(code) > MAX_REGION_CHARACTERS for code in codes):
        raise InvalidRequest(
            f"regions accepts at most {MAX_REGIONS} codes of at most {MAX_REGION_CHARACTERS} characters each"
        )
    return codes


class RequestInProgress(ServiceError):
    """Another request with this ``Idempotency-Key`` has not been answered yet."""

    status = 409
    code = "request_in_progress"
    message = "A request with this Idempotency-Key is still being answered."
    detail = "Wait for the first answer, or retry in a few seconds to get the same one."


class IdempotencyKeyReused(ServiceError):
    """This ``Idempotency-Key`` has been used with another request."""

    status = 422
    code = "idempotency_key_reused"
    message = "This Idempotency-Key was used with a different request."
    detail = "Use a new Idempotency-Key for each request, and repeat one only to retry the same request."


class RequestTimedOut(ServiceError):
    """The answer would have come after the function's own timeout."""

    status = 504
    code = "request_timed_out"
    ending = Ending.FAULT
    message = "Request timed out. Please try again."
    detail = "Nothing was counted. Smaller images are faster; 2,000 pixels on the longer side are enough."


class InternalError(ErrorOfApi):
    """A fault of the service; the log has the reason under the answer's ``request_id``."""

    status = 500
    code = "internal_error"
    detail = "The service failed, and nothing was counted. If this persists, report the request_id."
    ending = Ending.FAULT
    messages: ClassVar = {
        Api.PLATE: "Could not get information at this time",
        Api.VIN: "Internal server error",
    }


# -- keys and usage ------------------------------------------------------------------------------------------


class MissingKey(ErrorOfApi):
    """The request carries no API key."""

    code = "missing_api_key"
    ending = Ending.REFUSED
    message = "Missing API key"
    detail = (
        "Send the key in the query parameter key, in the header x-api-key, as Authorization: Token KEY, or "
        "in the field key of a JSON body."
    )
    statuses: ClassVar = {Api.PLATE: 401, Api.VIN: 400}


class UnknownKey(ErrorOfApi):
    """The key does not exist or has been disabled; the caller is not told which."""

    code = "unknown_api_key"
    ending = Ending.REFUSED
    message = "User with this API key was not found or the API key is disabled"
    detail = "Check that the key is complete, and ask the service's operator whether it is still enabled."
    statuses: ClassVar = {Api.PLATE: 401, Api.VIN: 404}


class InactiveKey(ServiceError):
    """The key's owner has to renew the plan."""

    status = 401
    code = "inactive_api_key"
    detail = "Renew the key's plan to use it again."
    ending = Ending.REFUSED
    link = "billing_url"
    message = "User with this API key is not active. To activate update your billing on {url}"


class BlockedKey(ServiceError):
    """The operator has blocked the key."""

    status = 403
    code = "blocked_api_key"
    detail = "The service's operator has blocked the key, and can unblock it."
    ending = Ending.REFUSED
    message = "This API key has been blocked, please contact support if you believe this is an error."


class PlanWithoutApi(ServiceError):
    """The key's tier does not include this API."""

    status = 403
    code = "api_not_in_plan"
    detail = "Use an API that the key's plan includes, or ask the service's operator to change the plan."
    ending = Ending.REFUSED
    link = "pricing_url"
    message = (
        "This API is not available for your current subscription tier. Visit {url} to review upgrade options."
    )


class LimitExceeded(ServiceError):
    """The key has used its allowance for this API, and overage is off.

    ``usage`` is the key's usage without this request; ``now`` (UTC) gives the month in CarsXE's message,
    which is not zero-padded and also there for a lifetime allowance.
    """

    status = 429
    code = "limit_exceeded"
    ending = Ending.REFUSED

    def __init__(self, usage: Usage, now: datetime) -> None:
        self.usage = usage
        self.detail = (
            "This plan's one-time allowance is used up; another plan comes with a new one."
            if usage.period == "lifetime"
            else f"The allowance is renewed on {next_month(now.year, now.month).date()} (UTC). With overage "
            "turned on, requests over the limit are answered and counted."
        )
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
    ending = Ending.FAULT
    message = "Cannot access the internet at this time"
    detail = "The service cannot reach its key store. Nothing was counted; try again in a few seconds."


# -- the image -----------------------------------------------------------------------------------------------


class MissingImage(ErrorOfApi):
    """The request carries no image."""

    status = 400
    code = "missing_image"
    detail = (
        f"The request contains no image. Send a URL or base64 in one of the fields {', '.join(IMAGE_FIELDS)} "
        "(JSON or a form), a form's file as upload or image, or the URL, the base64 or the image as the body."
    )
    messages: ClassVar = {Api.PLATE: "Missing upload URL", Api.VIN: "Missing image data"}


class InvalidImage(ServiceError):
    """Not an image, bad base64, or a URL that was refused or could not be fetched.

    All have the same message. For a URL there is a note and no ``detail``, so that the answer reveals nothing
    about networks that only the function can reach.
    """

    status = 400
    code = "invalid_image"
    message = "Invalid image data format. Must be a valid URL or base64 encoded string."


class ImageTooLarge(ServiceError):
    """The image has more bytes or pixels than the limit."""

    status = 413
    code = "image_too_large"
    message = "Image is too large."
    detail = (
        "An image may have at most 10 MB, or about 4.4 MB (6 MB as base64) if it is part of the request. "
        "2,000 pixels on the longer side are enough."
    )


class ObjectGone(ServiceError):
    """Uploads: the photo had been deleted or replaced before it could be read."""

    status = 404
    code = "object_gone"
    message = "The photo no longer exists."
    detail = "It was deleted or replaced before it was read; upload it again."


class NoTextDetected(ServiceError):
    """VIN: the photo holds no text at all."""

    status = 400
    code = "no_text_detected"
    ending = Ending.NOT_FOUND
    message = "No text detected in the image"
    detail = (
        "The photo shows neither text nor a barcode. Take one in which the VIN is sharp and fills the width."
    )


class NothingFound(ErrorOfApi):
    """The photo holds text or a car, but no plate or no VIN good enough to answer with.

    The envelope's ``reason``, ``figure`` and ``needed`` are those of ``carsight.refusal.Refusal``.
    """

    status = 404
    code = "nothing_found"
    ending = Ending.NOT_FOUND
    messages: ClassVar = {
        Api.PLATE: "No plates detected in image",
        Api.VIN: "No valid VIN candidates found in the image",
    }

    def __init__(
        self,
        api: Api,
        reason: Reason | None = None,
        figure: float | None = None,
        needed: float | None = None,
        *,
        detail: str = "",
    ) -> None:
        if reason is None:
            reason = "no_plate" if api is Api.PLATE else "no_vin"
        figures = {"figure": figure, "needed": needed}
        # A count is written as 3.0: readers of JSON Lines take a column that begins with 3 for integers.
        known = {name: round(float(value), 3) for name, value in figures.items() if value is not None}
        super().__init__(api, detail=detail or REASONS[reason], extra={"reason": reason, **known})


REASONS: dict[Reason, str] = {
    "no_plate": (
        "Nothing in the photo looks enough like a license plate. The whole plate should be visible, sharp "
        "and at least 100 pixels wide."
    ),
    "plate_too_small": (
        "There is a plate, but it is too small to read. Send the photo at its full size, or take it from "
        "closer up."
    ),
    "illegible": (
        "There seems to be a plate, but it is too blurred, dark, dirty or covered to read. Take a sharper "
        "photo, from straight ahead and without glare."
    ),
    "no_vin": (
        "None of the text and barcodes in the photo is a VIN. All 17 characters should be visible, sharp and "
        "on one line; the label's barcode will do as well."
    ),
    "not_sure": (
        "There may be a VIN, but not every character is certain. Take a sharper photo, from closer up and "
        "without glare."
    ),
}
"""What to do about it, by the reason why nothing was found."""


def unreadable(error: ImageError) -> ServiceError:
    """Return the answer for a photo that cannot be read because of ``error``."""
    return (ImageTooLarge if error.too_large else InvalidImage)(detail=f"{error}.")


def next_month(year: int, month: int) -> datetime:
    """Return the beginning (UTC) of the month after ``month``, when allowances are renewed."""
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
