"""``/v1/batches``: parsing a request for a batch, starting it, and the answer about its state."""

from __future__ import annotations

import io
import json
import re
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ValidationError

from carsight_service.aws.failures import failure
from carsight_service.aws.storage import INCOMING, reading_list, upload_prefix
from carsight_service.batch_store import RESULTS, Batch, Batches, Kind, State
from carsight_service.contract.api import Api, bounded_json, without_surrogates
from carsight_service.contract.errors import InvalidRequest
from carsight_service.contract.lists import (
    Row,
    check_no_workbook,
    parse_regions,
    parse_row,
    read_rows,
)
from carsight_service.contract.regions import known_regions
from carsight_service.http.executions import Executions, List

if TYPE_CHECKING:
    from carsight_service.aws.storage import Storage
    from carsight_service.deployment import Deployment

MAX_BODY_ROWS = 10_000
"""The most rows of a list in the body of a request; a longer list is uploaded to S3 first."""

MAX_BRACKETS = 100_000
"""The most brackets of a JSON list, including those in its strings."""

MAX_LIST_BYTES = 2 * 1024**3
LIST_SECONDS = 3600
"""How long the form for a list is valid."""

_ROWS_CHECKED = 1000
"""How many rows of a list in S3 are checked before its batch is accepted; the others are checked before its
first photo is read."""

Format = Literal["jsonl", "csv", "parquet"]

_REPLACED = "\ufffd".encode()
"""What the gateway turns bytes that are not UTF-8 into: it passes ``text/*`` on as a string."""

_SENT = re.compile(r"lists/[0-9a-f]{32}\.(jsonl|csv|parquet)")
_NAMED = re.compile(r"s3://([^/]+)/(.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A parsed ``POST /v1/batches``: rows, or the address of a list of rows."""

    api: Api
    rows: Sequence[Row] = ()
    regions: tuple[str, ...] = ()
    address: str = ""


def parse_batch(body: bytes, content_type: str, query: Mapping[str, Sequence[str]]) -> BatchRequest:
    """Parse a request: ``{"api", "images"}``, ``{"api", "list"}``, or a bare list with ``?api=``.

    A bare list is JSON, JSON Lines or CSV. ``regions``, in the object or the query, are hints for all rows.
    Raises ``InvalidRequest`` if there are no images, too many, or one that is neither a URL nor a key, and
    ``UnknownRegions``.
    """
    check_no_workbook(body)
    kind = content_type.lower()
    asked: Mapping[str, Any] = {}
    address = ""
    if "csv" in kind or "jsonl" in kind or "ndjson" in kind:
        form = "csv" if "csv" in kind else "jsonl"
        if kind.startswith("text/") and _REPLACED in body:
            raise InvalidRequest(
                f"The list is not UTF-8 and was damaged on the way: send it as application/{form}, which "
                "keeps every encoding, and gzip, intact"
            )
        rows = list(read_rows(io.BytesIO(body), form, MAX_BODY_ROWS))
    else:
        asked = _json_object(body)
        images, address = asked.get("images") or [], asked.get("list") or ""
        are_either = isinstance(images, list) and isinstance(address, str) and bool(images) != bool(address)
        if not are_either or len(images) > MAX_BODY_ROWS:
            raise InvalidRequest(
                f"images must be a list of 1 to {MAX_BODY_ROWS} URLs or S3 keys; or list must be the address "
                "of a list in S3"
            )
        rows = [parse_row(image, number) for number, image in enumerate(images, 1)]
    apis = [*([asked["api"]] if asked.get("api") is not None else []), *query.get("api", ())]
    if not apis or any(api not in tuple(Api) for api in apis):
        raise InvalidRequest(f"api must be {' or '.join(Api)}")
    api = Api(apis[0])
    regions = parse_regions(asked.get("regions", list(query.get("regions", ()))))
    if api is Api.PLATE:
        regions = known_regions(regions)
    return BatchRequest(api, rows, regions, without_surrogates(address))


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        value = bounded_json(body.decode(json.detect_encoding(body)), MAX_BRACKETS)
    except ValueError:
        raise InvalidRequest(
            "The list must be JSON, CSV with the content type text/csv, or JSON Lines with application/jsonl"
        ) from None
    return value if isinstance(value, dict) else {"images": value}


def submit(
    deployment: Deployment, account: str, key_id: str, request: BatchRequest, token: str | None
) -> tuple[Batch, bool]:
    """Start a batch; return it, and whether an earlier request with the same ``token`` has started it.

    Raises ``InvalidRequest`` if its list cannot be read, and ``IdempotencyKeyReused``.
    """
    created = deployment.clock().isoformat(timespec="seconds")
    name = _digest(f"{account} {token or secrets.token_hex(16)}")[:32]
    asked, tag = _digest(repr(request)), secrets.token_hex(6)
    batch = Batch(name, account, key_id, request.api, created, asked, tag, request.regions)
    rows = List("rows", deployment.storage.results_bucket, batch.object("list.jsonl"))
    if request.address:
        rows = _named_list(deployment, (account, key_id), request.address)
        if not Batches(deployment).get(batch.id):
            _check_beginning(deployment, rows, request.address)
    else:
        batch = replace(batch, rows=len(request.rows))
    begun = Executions(deployment).begin(batch, rows, b"".join(row.line() for row in request.rows))
    return begun, begun is not batch


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()


def _named_list(deployment: Deployment, owners: tuple[str, str], address: str) -> List:
    """Return the list at ``address``, whether or not it exists. Raises ``InvalidRequest`` for a bad address.

    ``owners`` are the ids of the caller's account and key: a batch may only read their own uploads.
    """
    storage = deployment.storage
    if sent := _SENT.fullmatch(address):
        return List(sent[1], storage.results_bucket, f"{owners[0]}/{address}")
    if not (named := _NAMED.fullmatch(address)):
        raise InvalidRequest(
            "list must be s3://bucket/list.jsonl, .csv or .parquet, s3://bucket/prefix/, or the list "
            "returned by /v1/batches/lists"
        )
    bucket, key = named[1], named[2]
    if bucket not in deployment.settings.allowed_buckets:
        raise InvalidRequest(f"This deployment does not allow reading from the bucket {bucket[:63]}")
    is_upload = storage.is_upload(bucket, key or INCOMING)  # without a key, every object is listed
    if is_upload and not key.startswith(tuple(map(upload_prefix, owners))):
        raise InvalidRequest("A batch may only read uploads of its own account")
    name = key.lower().removesuffix(".gz")
    form = "prefix" if not key or key.endswith("/") else name.rpartition(".")[2]
    if form not in ("jsonl", "csv", "parquet", "prefix"):
        raise InvalidRequest(
            "The name of a list must end in .jsonl, .csv or .parquet, and a prefix in a slash"
        )
    return List(form, bucket, key)


def _check_beginning(deployment: Deployment, rows: List, address: str) -> None:
    """Raise ``InvalidRequest`` if a list is missing, too large, or invalid in its first rows.

    Also if a prefix is in a bucket that Step Functions does not list.
    """
    s3 = deployment.aws.s3
    with reading_list(address[:200]):
        if rows.kind == "prefix":
            if not s3.list_objects_v2(Bucket=rows.bucket, Prefix=rows.key, MaxKeys=1).get("Contents"):
                raise InvalidRequest(f"There are no objects under {address[:200]}")
            if not _is_at_home(deployment, rows.bucket):
                raise InvalidRequest(
                    f"The bucket {rows.bucket[:63]} is in another AWS account or Region, where a batch "
                    "cannot list objects: send a list of them instead"
                )
            return
        found = s3.get_object(Bucket=rows.bucket, Key=rows.key)
        with closing(found["Body"]) as body:
            if rows.kind == "parquet":  # its rows are checked later, on disk
                if found["ContentLength"] > MAX_LIST_BYTES:
                    raise InvalidRequest(f"A list in Parquet must have at most {MAX_LIST_BYTES:,} bytes")
            else:
                deque(islice(read_rows(body, rows.kind), _ROWS_CHECKED), maxlen=0)


def _is_at_home(deployment: Deployment, bucket: str) -> bool:
    """Whether a bucket is in the deployment's own account and Region."""
    s3, arn = deployment.aws.s3, deployment.settings.batches_machine_arn or ""
    try:
        found = s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=arn.split(":")[4])
    except Exception as error:
        if failure(error).code != "403":
            raise
        return False
    return found["BucketRegion"] == s3.meta.region_name


class ListRequest(BaseModel):
    """The list to be uploaded."""

    format: Format


class ListOffer(BaseModel):
    """A form for uploading a list, and its name in ``POST /v1/batches``."""

    success: Literal[True] = True
    list: str
    """The value of ``list`` in ``POST /v1/batches``, once the list has been uploaded."""
    url: str
    fields: dict[str, str]
    """The fields to send before the field ``file``."""
    max_bytes: int = MAX_LIST_BYTES
    expires_in: int = LIST_SECONDS
    """Seconds."""
    request_id: str


def offer_list(deployment: Deployment, account: str, body: bytes, request_id: str) -> ListOffer:
    """Create a presigned POST for one list. Raises ``InvalidRequest`` for an unknown format."""
    try:
        wanted = ListRequest.model_validate_json(body)
    except ValidationError:
        raise InvalidRequest("format must be jsonl, csv or parquet") from None
    name = f"lists/{secrets.token_hex(16)}.{wanted.format}"
    form = deployment.aws.s3.generate_presigned_post(
        Bucket=deployment.storage.results_bucket,
        Key=f"{account}/{name}",
        Conditions=[["content-length-range", 1, MAX_LIST_BYTES]],
        ExpiresIn=LIST_SECONDS,
    )
    return ListOffer(list=name, url=form["url"], fields=form["fields"], request_id=request_id)


class BatchAnswer(BaseModel):
    """A batch: its state, progress and results."""

    success: Literal[True] = True
    id: str
    api: Api
    state: State
    """``finished`` once all results are joined; a ``failed`` or ``cancelled`` batch may be redriven."""
    rows: int | None
    """Null until the rows of a list in S3 have been counted."""
    done: int
    """Rows with a result: ``read`` plus ``failed``."""
    read: int
    """Rows with a 200; only these count against the limit."""
    failed: int
    pending: int | None
    """Rows that are waiting; null if reading has not begun."""
    running: int | None
    """Rows that are being read; null if reading has not begun."""
    created: str
    finished: str | None
    detail: str | None
    """Why the batch failed, or what a finished one left out."""
    results: dict[Kind, str] | None
    """URLs of the results, valid for an hour; ask again for new ones."""
    request_id: str

    @classmethod
    def of(cls, batch: Batch, storage: Storage, request_id: str) -> Self:
        """Return the answer for a batch."""
        results: dict[Kind, str] | None = None
        if batch.finished:
            results = {kind: storage.result_url(batch.object(name)) for kind, (name, _) in RESULTS.items()}
        done = batch.read + batch.failed
        return cls(**asdict(batch), done=done, results=results, request_id=request_id)
