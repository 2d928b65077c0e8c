"""The messages of a worker's queue: S3's notifications of uploads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class TryLater(Exception):
    """Not a fault: the work is leased elsewhere, not ready, or time ran out. The message is to come again."""


class _FromS3(BaseModel):
    """S3 says more than is used here; a message that is passed on keeps it."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)


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


class S3TestEvent(_FromS3):
    """S3 says, once, that the bucket has been connected."""

    event: Annotated[Literal["s3:TestEvent"], Field(alias="Event")]


_MESSAGE: TypeAdapter[S3Notification | S3TestEvent] = TypeAdapter(S3Notification | S3TestEvent)


def created_objects(body: str) -> list[S3Record]:
    """Return what a queue's message says of new objects; S3's test event says nothing of any.

    Raises ``pydantic.ValidationError`` for a message of any other kind.
    """
    message = _MESSAGE.validate_json(body)
    records = message.records if isinstance(message, S3Notification) else ()
    return [record for record in records if record.event_name.startswith("ObjectCreated:")]
