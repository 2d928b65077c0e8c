"""``/v1/batches``: what a list of images may look like, and what is told of the batch that it becomes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel

from carsight_service.aws.storage import Storage
from carsight_service.batch_store import Batch, BatchRequest, State
from carsight_service.contract.api import Api, region_codes
from carsight_service.contract.errors import InvalidRequest, checked_regions

MAX_ROWS = 10_000
MAX_ROW_CHARACTERS = 2048

_COLUMNS = ("image_url", "image", "imageurl", "upload_url", "url", "key")
"""Of a CSV's first line, whatever its case."""


def parse_batch(body: bytes, content_type: str, query: Mapping[str, Sequence[str]]) -> BatchRequest:
    """Read a list: a JSON object ``{"api", "images"}``, or a JSON list or CSV with ``?api=`` beside.

    A CSV has one image a line: in the column that its first line calls ``image_url``, ``image``, ``url`` or
    ``key``, or without such a line in the first. ``regions``, in the object or the query, are hints for all.
    Raises ``InvalidRequest`` where there are no images, too many, or one that can be neither URL nor key.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest("The list must be UTF-8") from None
    listed: Mapping[str, Any] = (
        {"images": _csv_column(text)} if "csv" in content_type.lower() else _json_list(text)
    )
    apis = [*([listed["api"]] if listed.get("api") is not None else []), *query.get("api", ())]
    if not apis or any(api not in tuple(Api) for api in apis):
        raise InvalidRequest(f"api must be {' or '.join(Api)}")
    regions = _regions(listed.get("regions", list(query.get("regions", ()))))
    return BatchRequest(Api(apis[0]), _images(listed.get("images")), regions)


def _json_list(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest("The list must be JSON, or CSV with the content type text/csv") from None
    return value if isinstance(value, dict) else {"images": value}


def _images(images: object) -> list[str]:
    if not isinstance(images, list) or not 1 <= len(images) <= MAX_ROWS:
        raise InvalidRequest(f"images must be a list of 1 to {MAX_ROWS} URLs or S3 keys")
    for row, image in enumerate(images, 1):
        if not isinstance(image, str) or not 1 <= len(image.strip()) <= MAX_ROW_CHARACTERS:
            raise InvalidRequest(f"Row {row} must be a URL or S3 key of 1 to {MAX_ROW_CHARACTERS} characters")
    return [image.strip().encode("utf-8", "replace").decode() for image in images]


def _regions(hints: object) -> tuple[str, ...]:
    hints = hints.split(",") if isinstance(hints, str) else hints or []
    if not isinstance(hints, list) or not all(isinstance(hint, str) for hint in hints):
        raise InvalidRequest("regions must be a list of region codes such as us-ca or de")
    return checked_regions(region_codes(hints))


def _csv_column(text: str) -> list[str]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if any(row)]
    except csv.Error as error:
        raise InvalidRequest(f"Not valid CSV: {error}") from None
    if not rows:
        return []
    named = [name.strip().lower() for name in rows[0]]
    column = next((named.index(name) for name in _COLUMNS if name in named), None)
    if column is None:
        column = 0
    else:
        del rows[0]
    return [row[column] if column < len(row) else "" for row in rows]


class BatchAnswer(BaseModel):
    """What ``POST /v1/batches`` and ``GET /v1/batches/<id>`` answer."""

    success: Literal[True] = True
    id: str
    api: Api
    state: State
    """``finished`` when all rows are in and joined; ``cancelled`` where it could not be sent to the queue."""
    rows: int
    done: int
    """Rows with a result, ``read`` and ``failed`` together."""
    read: int
    """Rows answered with a 200; only these are counted against the limit."""
    failed: int
    created: str
    finished: str | None
    results: dict[Literal["jsonl", "csv"], str] | None
    """Addresses of the finished results, for an hour; ask again for new ones."""
    request_id: str

    @classmethod
    def of(cls, batch: Batch, storage: Storage, request_id: str) -> Self:
        """Return the answer for ``batch``."""
        results: dict[Literal["jsonl", "csv"], str] | None = None
        if batch.state == "finished":
            results = {
                "jsonl": storage.result_url(batch.object("result.jsonl")),
                "csv": storage.result_url(batch.object("result.csv")),
            }
        return cls(
            id=batch.id,
            api=batch.api,
            state=batch.state,
            rows=batch.rows,
            done=batch.read + batch.failed,
            read=batch.read,
            failed=batch.failed,
            created=batch.created,
            finished=batch.finished,
            results=results,
            request_id=request_id,
        )
