"""The deployment's settings: one frozen object, read from the environment when a function starts.

A missing or malformed variable raises ``ValueError``, so that a bad deployment fails while it starts and not
at its first request. ``template.yaml`` sets the variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

from carsight_service.contract.parts import Part, Pattern

WebPage = Annotated[str, Pattern(r"^https?://")]


class Links(Part):
    """Web pages that messages to a key's owner refer to."""

    billing_url: WebPage = "https://carsxe.com/dashboard/billing"
    """The page in the message for an inactive key."""

    pricing_url: WebPage = "https://carsxe.com/pricing"
    """The page in the message for a plan without this API."""


class Settings(Links):
    """Each field is read from the environment variable of its name in upper case; an empty one is unset."""

    table_name: Annotated[str, Pattern(r"^[A-Za-z0-9_.-]{3,255}$")]
    """DynamoDB table of keys and usage."""

    uploads_bucket: str | None = None
    """Bucket for uploaded photos, under ``incoming/``."""

    results_bucket: str | None = None
    """Bucket for the readings of uploads and batches; never the one that triggers them."""

    plate_queue_url: str | None = None
    """Queue of the plate worker, to which S3 announces every upload."""

    vin_queue_url: str | None = None
    """Queue of the VIN worker, to which the plate worker passes uploads on."""

    webhooks_queue_url: str | None = None
    """Queue of events to be delivered to webhooks."""

    batches_machine_arn: str | None = None
    """State machine of Step Functions that reads batches."""

    alerts_topic_arn: str | None = None
    """SNS topic of usage alerts."""

    event_bus: str | None = None
    """EventBridge bus to which every reading is published; if unset, none is."""

    allowed_buckets: frozenset[str] = frozenset()
    """Buckets that a request may name as ``s3://bucket/key``."""

    local_fetch: bool = False
    """Local development only: image URLs may point at this machine's loopback addresses, on any port."""

    snapshot_key: str | None = None
    """Key that is charged for requests to ``/v1/plate-reader/`` without a token; if unset, they are
    refused."""

    pages: bool = True
    """Serve the pages for people, ``/`` and ``/docs``."""

    custom_metrics: bool = False
    """Write each request's outcome and milliseconds as CloudWatch metrics, which cost more than the reads."""

    tracing: bool = False
    """Send each stage of a request to X-Ray as a subsegment."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings in ``environment``. Raises ``ValueError`` for missing or malformed ones."""
        named = {name: environment.get(name.upper(), "") for name in cls.names()}
        return cls.of({name: _READ.get(name, str)(value) for name, value in named.items() if value})


def _switch(value: str) -> bool:
    """Read ``true`` or ``false``, or another of the usual words for them, in any case."""
    if value.lower() not in _SWITCH:
        raise ValueError(f"{value!r} is neither true nor false")
    return _SWITCH[value.lower()]


_SWITCH = dict.fromkeys(("true", "1", "yes", "on", "t", "y"), True) | dict.fromkeys(
    ("false", "0", "no", "off", "f", "n"), False
)


def _split(value: str) -> frozenset[str]:
    """Split ``"a, b"``: CloudFormation hands a CommaDelimitedList over as one string."""
    return frozenset(part.strip() for part in value.split(",") if part.strip())


_READ: Mapping[str, Callable[[str], Any]] = {
    "allowed_buckets": _split,
    **dict.fromkeys(("local_fetch", "pages", "custom_metrics", "tracing"), _switch),
}
"""How variables that are not text are parsed."""
