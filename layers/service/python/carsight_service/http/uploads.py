"""``/v1/uploads``: a form for uploading one photo to S3, and the address of its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, Field, field_validator

from carsight_service.aws.storage import INCOMING, MAX_KEY_BYTES, upload_prefix
from carsight_service.contract.api import MAX_IMAGE_BYTES, Api
from carsight_service.contract.errors import MAX_REGION_CHARACTERS, MAX_REGIONS, InvalidRequest

if TYPE_CHECKING:
    from carsight_service.deployment import Deployment

OFFER_SECONDS = 300
"""How long a presigned upload may be used."""


class UploadRequest(BaseModel):
    """The photo to be uploaded."""

    api: Api
    name: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f\\$/][^\x00-\x1f\x7f\\$]*$")
    """Object name; may contain slashes. The result has the same name. A dollar sign has a special meaning in
    S3's forms."""
    content_type: str = Field(default="image/jpeg", max_length=100, pattern=r"^image/[a-z0-9.+-]+$")
    regions: list[Annotated[str, Field(max_length=MAX_REGION_CHARACTERS, pattern=r"^[A-Za-z-]+$")]] = Field(
        default=[], max_length=MAX_REGIONS
    )
    """Plates only: where the car may be from."""

    @field_validator("name")
    @classmethod
    def _has_no_dot_segments(cls, name: str) -> str:
        # Clients resolve them in a URL: the object would be put under another name than the one offered.
        if any(segment in (".", "..") for segment in name.split("/")):
            raise ValueError("must not contain the segments . and ..")
        return name


PATTERNS_IN_WORDS = {
    "name": "must not begin with a slash, nor contain backslashes, dollar signs or control characters",
    "content_type": "must be the type of an image, such as image/jpeg",
    "regions": "must be the code of a country or state, such as de or us-ca",
}
"""The error for each field of ``UploadRequest`` that does not match its pattern."""


class UploadOffer(BaseModel):
    """A form for uploading a photo, and the address of its result."""

    success: Literal[True] = True
    url: str
    fields: dict[str, str]
    """The fields to send before the field ``file``."""
    max_bytes: int = MAX_IMAGE_BYTES
    expires_in: int = OFFER_SECONDS
    """Seconds."""
    result: str
    """URL of the result, valid for an hour: 403 or 404 until the photo has been read."""
    request_id: str


def offer(deployment: Deployment, account: str, wanted: UploadRequest, request_id: str) -> UploadOffer:
    """Create a presigned POST for exactly one object, and the URL of its result.

    Raises ``InvalidRequest`` if the object key would be longer than S3 allows (1,024 bytes of UTF-8).
    """
    key = f"{upload_prefix(account)}{wanted.api}/{wanted.name}"
    if len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise InvalidRequest(f"name is too long: with its path it may have at most {MAX_KEY_BYTES} bytes")
    fields = {"Content-Type": wanted.content_type}
    if wanted.regions:
        fields["x-amz-meta-regions"] = ",".join(wanted.regions)
    storage = deployment.storage
    form = deployment.aws.s3.generate_presigned_post(
        Bucket=storage.uploads_bucket,
        Key=key,
        Fields=fields,
        Conditions=[
            *({name: value} for name, value in fields.items()),
            ["content-length-range", 1, MAX_IMAGE_BYTES],
        ],
        ExpiresIn=OFFER_SECONDS,
    )
    result = storage.result_url(f"{key.removeprefix(INCOMING)}.json")
    return UploadOffer(url=form["url"], fields=form["fields"], result=result, request_id=request_id)
