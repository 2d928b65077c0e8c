"""The messages of a worker's queue: S3's notifications of uploads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _FromS3(BaseModel):
    """Part of S3's messages. Fields that are not used here are kept when a message is passed on."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)


class S3Object(_FromS3):
    """An object in an event."""

    key: str
    """Form-encoded."""
    version: Annotated[str | None, Field(alias="versionId")] = None
    etag: Annotated[str, Field(alias="eTag")] = ""
    size: int = 0
    sequencer: str = ""


class S3Bucket(_FromS3):
    """A bucket."""

    name: str


class S3Entity(_FromS3):
    """An object and its bucket."""

    bucket: S3Bucket
    object: S3Object


class S3Record(_FromS3):
    """An event of an object."""

    event_name: Annotated[str, Field(alias="eventName")]
    event_time: Annotated[str, Field(alias="eventTime")]
    s3: S3Entity


class S3Notification(_FromS3):
    """A message about uploads."""

    records: Annotated[Sequence[S3Record], Field(alias="Records")]


class S3TestEvent(_FromS3):
    """The message that S3 sends once, when the bucket's notifications are configured."""

    event: Annotated[Literal["s3:TestEvent"], Field(alias="Event")]


_MESSAGE: TypeAdapter[S3Notification | S3TestEvent] = TypeAdapter(S3Notification | S3TestEvent)


def created_objects(body: str) -> list[S3Record]:
    """Return the events of new objects in a message; none for S3's test event.

    Raises ``pydantic.ValidationError`` for a message of any other kind.
    """
    message = _MESSAGE.validate_json(body)
    records = message.records if isinstance(message, S3Notification) else ()
    return [record for record in records if record.event_name.startswith("ObjectCreated:")]
