"""``/v1/batches``: what a list of images may look like, and what is told of the batch that it becomes."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Literal, Self

from pydantic import BaseModel

from carsight_service.aws.storage import Storage
from carsight_service.batch_store import Batch, BatchRequest, State
from carsight_service.contract.api import IMAGE_FIELDS, Api, region_codes
from carsight_service.contract.errors import InvalidRequest, checked_regions

MAX_ROWS = 10_000
MAX_ROW_CHARACTERS = 2048
MAX_BRACKETS = 100_000
"""Of a JSON list, in its texts too."""

_COLUMNS = (
    *dict.fromkeys(name.replace("_", "").lower() for name in IMAGE_FIELDS),
    *("url", "photo", "photourl", "picture", "link", "key"),
)
"""Of a CSV's first line: its letters alone, whatever their case, so that ``Image URL`` is a name too."""

_DELIMITERS = ",;\t|"
"""A spreadsheet writes the one that its country leaves free: a semicolon where the comma is decimal."""


def parse_batch(body: bytes, content_type: str, query: Mapping[str, Sequence[str]]) -> BatchRequest:
    """Read a list: a JSON object ``{"api", "images"}``, or a JSON list or CSV with ``?api=`` beside.

    A CSV has one image a line: in the column that its first line calls ``image_url``, ``image``, ``url`` or
    ``key``, or without such a line in the first. ``regions``, in the object or the query, are hints for all.
    Raises ``InvalidRequest`` where there are no images, too many, or one that can be neither URL nor key.
    """
    # Spreadsheets save "Unicode text" as UTF-16, with the mark that tells which.
    encoding = "utf-16" if body[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError:
        raise InvalidRequest("The list must be UTF-8, or UTF-16 with a byte order mark") from None
    listed: Mapping[str, Any] = (
        {"images": _csv_column(text)} if "csv" in content_type.lower() else _json_list(text)
    )
    apis = [*([listed["api"]] if listed.get("api") is not None else []), *query.get("api", ())]
    if not apis or any(api not in tuple(Api) for api in apis):
        raise InvalidRequest(f"api must be {' or '.join(Api)}")
    regions = _regions(listed.get("regions", list(query.get("regions", ()))))
    return BatchRequest(Api(apis[0]), _images(listed.get("images")), regions)


def _json_list(text: str) -> Mapping[str, Any]:
    refused = InvalidRequest("The list must be JSON, or CSV with the content type text/csv")
    # A list of texts holds few brackets, and each that is read as JSON's takes up to 200 bytes.
    if text.count("{") + text.count("[") > MAX_BRACKETS:
        raise refused
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise refused from None
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
    """Return the images of a CSV. Raises ``InvalidRequest`` where no column can be told to hold them."""
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep="):  # a spreadsheet's own word for its delimiter
        delimiter, text = first.strip()[4:5] or ",", rest
    else:
        delimiter = max(_DELIMITERS, key=first.count)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
        filled = (row for row in lines if any(cell.strip() for cell in row))
        # As many as may be, the head, and one that is too many: millions of rows take 200 MB.
        rows = list(islice(filled, MAX_ROWS + 2))
    except (csv.Error, TypeError, ValueError) as error:
        raise InvalidRequest(f"Not valid CSV: {error}") from None
    if not rows:
        return []
    named = ["".join(filter(str.isalnum, name.lower())) for name in rows[0]]
    column = next((named.index(name) for name in _COLUMNS if name in named), None)
    if column is not None:
        del rows[0]
    elif _names_an_image(rows[0][0]):
        column = 0
    else:
        raise InvalidRequest(
            f"Row 1 names no image: {rows[0][0][:80]!r} is no URL, no S3 key, and no column of them such as "
            "image_url"
        )
    return [row[column] if column < len(row) else "" for row in rows]


def _names_an_image(cell: str) -> bool:
    """Whether ``cell`` may be a URL or a key: these have a slash or a dot, the head of a column has none."""
    return "/" in cell or "." in cell


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
