"""What lies in a worker's queue: what S3 says of an upload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter


class TryLater(Exception):
    """Not a fault: the work is leased elsewhere, not ready, or time ran out. The message is to come again."""


class _FromS3(BaseModel):
    """S3 says more than is used here; a message that is passed on keeps it."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)


class S3TestEvent(_FromS3):
    """S3 says that the bucket has been connected."""

    event: Annotated[Literal["s3:TestEvent"], Field(alias="Event")]


class S3Object(_FromS3):
    """An object, as an event describes it."""

    key: str
    """Escaped as in a form."""
    version: Annotated[str | None, Field(alias="versionId")] = None
    etag: Annotated[str, Field(alias="eTag")] = ""
    size: int = 0
    sequencer: str = ""


class S3Bucket(_FromS3):
    """A bucket."""

    name: str


class S3Entity(_FromS3):
    """Which object of which bucket."""

    bucket: S3Bucket
    object: S3Object


class S3Record(_FromS3):
    """Something that has happened to an object."""

    event_name: Annotated[str, Field(alias="eventName")]
    event_time: Annotated[str, Field(alias="eventTime")]
    s3: S3Entity


class S3Notification(_FromS3):
    """What S3 says of uploads."""

    records: Annotated[Sequence[S3Record], Field(alias="Records")]


def _kind(message: Any) -> str:
    if not isinstance(message, dict):
        return ""
    return "uploads" if "Records" in message else "test"


Message = Annotated[
    Annotated[S3Notification, Tag("uploads")] | Annotated[S3TestEvent, Tag("test")],
    Discriminator(_kind),
]

_ADAPTER: TypeAdapter[S3Notification | S3TestEvent] = TypeAdapter(Message)


def parse_message(body: str) -> S3Notification | S3TestEvent:
    """Parse a queue's message. Raises ``pydantic.ValidationError`` for what does not belong there."""
    return _ADAPTER.validate_json(body)
