"""Batches whose list lies in a bucket, and lists that are refused."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import urllib3
from arro3 import core
from arro3.io import write_parquet
from botocore.exceptions import ClientError, ReadTimeoutError

from carsight_service.batch_store import Batches
from carsight_service.contract.errors import InvalidImage
from carsight_service.images import S3Source
from carsight_service.queue.batch_steps import BatchSteps
from carsight_service.queue.children import ChildReader
from local.step_functions import MACHINE_ARN
from tests.batches import ask, deliveries, lines, put_list, redrive, send, show, table
from tests.pipeline import PHOTO, UPLOADS, Pipeline, dying, once


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_a_list_in_a_bucket_is_read_with_its_ids_and_regions(listing: Pipeline, name: str) -> None:
    photo = listing.put("car.jpg")
    body = f"id;image_url;regions\nA1;{photo};us-ca,gb\nB2;nothing;\n\n;{photo};\n"
    if name.endswith("jsonl"):
        rows = [
            {"id": "A1", "image": photo, "regions": ["us-ca", "GB"]},
            {"id": "B2", "url": "nothing"},
            photo,
        ]
        body = "\n".join(map(json.dumps, rows))
    status, said = send(listing, put_list(listing, name, body.encode()), regions=["de"])
    assert (status, said["state"], said["rows"], said["done"], said["pending"]) == (
        200,
        "running",
        None,
        0,
        None,
    )
    listing.drain()
    found = lines(listing, said["id"])
    assert [(row["row"], row.get("id"), row["status"]) for row in found] == [
        (1, "A1", 200),
        (2, "B2", 400),
        (3, None, 200),
    ]
    assert listing.regions == [("us-ca", "gb"), ("de",)]
    assert [row["id"] for row in table(listing, said["id"])] == ["A1", "B2", ""]
    assert show(listing, said["id"])["rows"] == 3


@pytest.mark.parametrize("name", ["list.csv.gz", "list.csv"])
def test_a_compressed_list_is_read(listing: Pipeline, name: str) -> None:
    """By its name, or by S3's ``Content-Encoding`` alone."""
    body = gzip.compress(f"id,url\nA1,{listing.put('car.jpg')}\n".encode())
    status, said = send(listing, put_list(listing, name, body))
    assert status == 200
    listing.drain()
    assert [(row["id"], row["status"]) for row in lines(listing, said["id"])] == [("A1", 200)]


def a_parquet(**columns: Any) -> bytes:
    """A file with ``columns``, of texts where they are lists."""
    arrays = {
        name: core.Array(cells, core.DataType.string()) if isinstance(cells, list) else cells
        for name, cells in columns.items()
    }
    body = io.BytesIO()
    write_parquet(core.Table.from_pydict(arrays), body)
    return body.getvalue()


def test_a_list_in_parquet_is_counted_before_it_is_read(listing: Pipeline) -> None:
    """Its rows are known before one is read, and checked as those of any other list."""
    photo = listing.put("car.jpg")
    body = a_parquet(
        id=["A1", None, "C3"], image_url=[photo, photo, "nothing"], regions=["us-ca,gb", None, None]
    )
    status, said = send(listing, put_list(listing, "list.parquet", body))
    assert (status, said["rows"]) == (200, None)
    counted: list[int] = []

    def read(real: Callable[..., Any], *arguments: Any) -> Any:
        counted.append(show(listing, said["id"])["rows"])
        return real(*arguments)

    with once(ChildReader, "read", read):
        listing.drain()
    assert counted == [3]
    assert [(row["row"], row.get("id"), row["status"]) for row in lines(listing, said["id"])] == [
        (1, "A1", 200),
        (2, None, 200),
        (3, "C3", 400),
    ]
    assert listing.regions == [("us-ca", "gb"), ()]


def test_a_parquet_is_read_whatever_its_other_columns_hold(listing: Pipeline) -> None:
    """Numbers of a database are decimals, and photos may lie beside their addresses."""
    numbers = core.Array([17, None], core.DataType.int64())
    body = a_parquet(
        image_url=[listing.put("car.jpg")] * 2,
        id=numbers.cast(core.DataType.decimal128(38, 0)),
        taken=numbers.cast(core.DataType.timestamp("ms")),
        raw=core.Array([b"\xff\x00" * 500, None], core.DataType.binary()),
    )
    _, said = send(listing, put_list(listing, "list.parquet", body))
    listing.drain()
    assert [(row.get("id"), row["status"]) for row in lines(listing, said["id"])] == [
        ("17", 200),
        (None, 200),
    ]


_UUIDS = ["61e659e5-7293-4e4b-af38-561c56978479", "00000000-0000-4000-8000-000000000000"]
_PADDED, _NIL = "gate 7".ljust(16, "\0"), "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (core.Array([b"A1", "Ü".encode()], core.DataType.binary()), ["A1", "Ü"]),
        (
            core.Array([61, 3600], core.DataType.int32()).cast(core.DataType.time32("s")),
            ["00:01:01", "01:00:00"],
        ),
        (core.Array([2**53, 2**53 + 1], core.DataType.int64()), [2**53, "9007199254740993"]),
        (
            core.Array([uuid.UUID(text).bytes for text in _UUIDS], core.DataType.binary(16)),
            _UUIDS,
        ),
        (core.Array([b"0123456789abcdef"] * 2, core.DataType.binary(16)), ["0123456789abcdef"] * 2),
        (core.Array([b"gate 7".ljust(16, b"\0"), bytes(16)], core.DataType.binary(16)), [_PADDED, _NIL]),
    ],
    ids=["binary", "time", "long", "uuid", "text of a fixed width", "padded text"],
)
def test_ids_of_a_parquet_come_back_as_text_or_exact_numbers(
    listing: Pipeline, ids: core.Array, found: list[object]
) -> None:
    """Older programs write text as binary; what a double cannot hold would be rounded on its way.

    Parquet's UUIDs, as DuckDB and databases write them, are sixteen bytes (findings/parquet_ids.sh).
    """
    image = core.Array([listing.put("car.jpg").encode()] * 2, core.DataType.binary())
    _, said = send(listing, put_list(listing, "list.parquet", a_parquet(url=image, id=ids)))
    listing.drain()
    assert [(row["id"], row["status"]) for row in lines(listing, said["id"])] == [(one, 200) for one in found]


def test_a_parquet_with_photos_in_it_does_not_fill_the_memory() -> None:
    """A row may hold megabytes beside the address: a thousand of them at once were gigabytes."""
    rows, photo = 1000, b"\xff" * 200_000
    body = a_parquet(image_url=["a.jpg"] * rows, raw=core.Array([photo] * rows, core.DataType.binary()))
    assert len(body) < 1_000_000  # all in one group, of 200 MB
    read = (
        "import sys; from pathlib import Path; from carsight_service.queue.tables import read_table;"
        "print(sum(1 for _ in read_table(sys.stdin.buffer)),"
        " Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.seek(0)
        said = subprocess.run([sys.executable, "-c", read], stdin=file, stdout=subprocess.PIPE, check=True)
    count, kilobytes = map(int, said.stdout.split())
    assert count == rows
    assert kilobytes < 150_000


def test_a_parquet_that_is_too_large_for_the_disk_is_refused(
    listing: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = a_parquet(image_url=["a.jpg"])
    address = put_list(listing, "list.parquet", body)
    monkeypatch.setattr("carsight_service.http.batches.MAX_LIST_BYTES", len(body) - 1)
    status, said = send(listing, address)
    assert (status, said["code"]) == (400, "invalid_request")
    assert said["message"] == f"A list in Parquet must have at most {len(body) - 1:,} bytes"
    monkeypatch.setattr("carsight_service.http.batches.MAX_LIST_BYTES", len(body))
    assert send(listing, address)[0] == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (a_parquet(image_url=["a.jpg"])[:-20] + b"PAR1", "The list is not Parquet"),
        (b"PAR1 and its end is missing", "The list is not Parquet"),
        (b"", "The list is not Parquet, or is damaged: Parquet file too small"),
        (a_parquet(image_url=["a.jpg"]).replace(b"a.jpg", b"\xff.jpg"), "The list is not Parquet"),
        (a_parquet(image_url=["a.jpg", None]), "Row 2 must be a URL"),
        (a_parquet(image_url=["a.jpg"], id=["x" * 201]), "Row 1: id must be text or a number"),
        (
            a_parquet(image_url=["a.jpg"], id=core.Array([b"\xff"], core.DataType.binary())),
            "Row 1: id must be text or a number",
        ),
        (
            a_parquet(image_url=["a.jpg"], id=core.Array([True], core.DataType.bool())),
            "Row 1: id must be text or a number",
        ),
        (
            a_parquet(name=["a.jpg"], id=["1"]),
            "The list has no column with images, such as image_url; its columns are name, id",
        ),
        (a_parquet(image_url=[]), "The list must have 1 to 10000000 rows"),
    ],
)
def test_a_parquet_that_is_broken_ends_its_batch(listing: Pipeline, body: bytes, said: str) -> None:
    _, sent = send(listing, put_list(listing, "list.parquet", body))
    listing.drain()
    ended = show(listing, sent["id"])
    assert (ended["state"], ended["done"], lines(listing, sent["id"])) == ("failed", 0, [])
    assert ended["detail"].startswith(said)


def test_a_parquet_that_s3_does_not_deliver_is_asked_for_again(listing: Pipeline) -> None:
    """It is not called broken."""
    body = a_parquet(image_url=[listing.put("car.jpg")])
    _, said = send(listing, put_list(listing, "list.parquet", body))

    def lost(*_: Any) -> None:
        raise ReadTimeoutError(endpoint_url="https://s3")

    with once(BatchSteps, "_body", lost):
        listing.drain()
    assert show(listing, said["id"])["state"] == "finished"


def test_every_object_under_a_prefix_is_read(listing: Pipeline) -> None:
    for number in range(3):
        listing.s3.put_object(Bucket=UPLOADS, Key=f"fleet/{number} ü.jpg", Body=PHOTO)
    listing.s3.put_object(Bucket=UPLOADS, Key="fleeting.jpg", Body=PHOTO)
    status, said = send(listing, f"s3://{UPLOADS}/fleet/")
    assert (status, said["rows"]) == (200, None)
    listing.drain()
    assert [(row["input"], row["status"]) for row in lines(listing, said["id"])] == [
        (f"s3://{UPLOADS}/fleet/{n} ü.jpg", 200) for n in range(3)
    ]


def test_of_too_many_objects_under_a_prefix_the_first_are_read(
    listing: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listing ten million takes longer than a function may run, so that nobody can count them before."""
    monkeypatch.setattr("carsight_service.queue.batch_steps.MAX_ROWS", 2)
    listing.states._definition["States"]["Prefix"]["ItemReader"]["ReaderConfig"]["MaxItems"] = 2
    for number in range(3):
        listing.s3.put_object(Bucket=UPLOADS, Key=f"fleet/{number}.jpg", Body=PHOTO)
    ids = [send(listing, f"s3://{UPLOADS}/fleet/")[1]["id"]]
    listing.s3.delete_object(Bucket=UPLOADS, Key="fleet/0.jpg")
    listing.s3.delete_object(Bucket=UPLOADS, Key="fleet/1.jpg")
    listing.drain()
    for number in range(2):
        listing.s3.put_object(Bucket=UPLOADS, Key=f"fleet/{number}.jpg", Body=PHOTO)
    ids.append(send(listing, f"s3://{UPLOADS}/fleet/")[1]["id"])
    listing.drain()
    details = [None, "A batch reads the first 2 objects under a prefix, and no others"]
    for batch, rows, detail in zip(ids, (1, 2), details, strict=True):
        said = show(listing, batch)
        assert (said["state"], said["rows"], said["read"], said["detail"]) == ("finished", rows, rows, detail)
        assert listing.result(f"batches/{batch}/manifest.json").get("detail") == detail


@pytest.mark.parametrize(
    "answer",
    [
        {"return_value": {"BucketRegion": "us-east-1"}},
        {
            "side_effect": ClientError(
                {"Error": {"Code": "403", "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 403}},  # type: ignore[typeddict-item]
                "HeadBucket",
            )
        },
    ],
    ids=["Region", "account"],
)
def test_a_prefix_in_another_region_or_account_is_refused(listing: Pipeline, answer: dict[str, Any]) -> None:
    """Step Functions lists neither; a list there is read as any other."""
    photo = listing.put("car.jpg")
    head = Mock(**answer)
    listing.patch.setattr(listing.clients.s3, "head_bucket", head)
    status, said = send(listing, f"s3://{UPLOADS}/{photo.rpartition('/')[0]}/")
    assert (status, said["code"]) == (400, "invalid_request")
    assert "another AWS account or Region" in said["message"]
    head.assert_called_once_with(Bucket=UPLOADS, ExpectedBucketOwner="123456789012")
    assert send(listing, put_list(listing, "list.jsonl", json.dumps(photo).encode()))[0] == 200


def test_uploads_are_listed_and_read_for_their_own_account_alone(listing: Pipeline) -> None:
    own = listing.put("car.jpg").rpartition("/")[0]
    theirs = f"incoming/{'0' * 64}/plate"
    listing.s3.put_object(Bucket=UPLOADS, Key=f"{theirs}/car.jpg", Body=PHOTO)
    listing.s3.put_object(Bucket=UPLOADS, Key=f"{theirs}/list.csv", Body=b"url\nhttps://example.com/a.jpg")
    for prefix in ("", "incoming/", f"{theirs}/", f"{theirs}/list.csv"):
        status, said = send(listing, f"s3://{UPLOADS}/{prefix}")
        assert (status, said["code"]) == (400, "invalid_request"), prefix
        assert "its own account" in said["message"]
    _, of_prefix = send(listing, f"s3://{UPLOADS}/{own}/")
    _, of_rows = send(
        listing, put_list(listing, "list.csv", f"url\ns3://{UPLOADS}/{theirs}/car.jpg\n".encode())
    )
    listing.drain()
    assert [row["status"] for row in lines(listing, of_prefix["id"])] == [200]
    assert [row["status"] for row in lines(listing, of_rows["id"])] == [400]
    for image in (f"s3://{UPLOADS}/{own}/car.jpg", f"s3://{UPLOADS}/{theirs}/car.jpg"):
        with pytest.raises(InvalidImage, match="where it lands"):
            listing.deployment.images.load(S3Source(*image.removeprefix("s3://").split("/", 1)))


def test_blanks_at_the_end_of_a_key_are_its_own_where_there_is_such_an_object(listing: Pipeline) -> None:
    keys = ["fleet/gate 7 ", "fleet/gate 8\t.jpg"]
    for key in keys:
        listing.s3.put_object(Bucket=UPLOADS, Key=key, Body=PHOTO)
    own, trimmed = listing.put("car "), listing.put("car.jpg")
    addresses = [
        *(f"s3://{UPLOADS}/{key}" for key in keys),
        own,
        f"{trimmed} \n",
        f" {own}",
        f"{trimmed[:-1]} ",
    ]
    _, of_prefix = send(listing, f"s3://{UPLOADS}/fleet/")
    _, of_rows = send(
        listing, put_list(listing, "list.jsonl", "\n".join(map(json.dumps, addresses)).encode())
    )
    listing.drain()
    assert [row["status"] for row in lines(listing, of_prefix["id"])] == [200, 200]
    rows = lines(listing, of_rows["id"])
    assert [row["input"] for row in rows] == addresses
    assert [row["status"] for row in rows] == [200, 200, 200, 200, 200, 404]
    for key in keys:
        listing.s3.delete_object(Bucket=UPLOADS, Key=key)


def test_a_listed_bucket_that_does_not_answer_is_tried_again(listing: Pipeline) -> None:
    address = f"s3://{UPLOADS}/photos/car.jpg"
    listing.s3.put_object(Bucket=UPLOADS, Key="photos/car.jpg", Body=PHOTO)
    status, said = ask(listing, "POST", "/v1/batches", json.dumps({"api": "plate", "images": [address]}))
    assert status == 200

    def busy(_: Any, **__: Any) -> None:
        raise ReadTimeoutError(endpoint_url="https://s3")

    with once(type(listing.clients.photos), "get_object", busy):
        listing.drain()
    assert [row["status"] for row in lines(listing, said["id"])] == [200]


def test_a_list_that_is_sent_with_a_form(listing: Pipeline) -> None:
    status, form = ask(listing, "POST", "/v1/batches/lists", json.dumps({"format": "csv"}))
    assert (status, form["max_bytes"], form["expires_in"]) == (200, 2 * 1024**3, 3600)
    body, content_type = urllib3.encode_multipart_formdata(
        {**form["fields"], "file": ("list.csv", f"{listing.put('car.jpg')}\n".encode())}
    )
    assert send(listing, form["list"])[0] == 400  # not there yet
    address = f"{os.environ['AWS_ENDPOINT_URL']}/{listing.results}"
    sent = urllib3.request("POST", address, body=body, headers={"content-type": content_type})
    assert sent.status in (200, 204)
    status, said = send(listing, form["list"])
    assert status == 200
    listing.drain()
    assert [row["status"] for row in lines(listing, said["id"])] == [200]
    assert (
        ask(listing, "POST", "/v1/batches/lists", json.dumps({"format": "exe"}))[1]["code"]
        == "invalid_request"
    )


BROKEN_LISTS = (
    ("list.jsonl", b"", "1 to 10000000 rows"),
    ("list.csv", b"image\n", "1 to 10000000 rows"),
    ("list.jsonl", b'"a.jpg"\n{"image": 3}\n', "Row 2"),
    ("list.jsonl", b'"a.jpg"\n\n"b.jpg"\n{', "Row 3 is not JSON"),
    ("list.jsonl", b'{"image": "a.jpg", "regions": "' + b"x" * 20 + b'"}', "Row 1: regions"),
    ("list.jsonl", b'{"image": "a.jpg", "id": {}}', "Row 1: id"),
    ("list.jsonl", b'"' + b"x" * 100_000 + b'"', "65,536"),
    ("list.csv", b"id,url\n1,a.jpg\n2\n", "Row 2"),
    ("list.csv", b'url\n"a.jpg', "The list is not valid CSV"),
    ("list.jsonl", b"\xff", "UTF-8"),
    ("list.csv", b"PK\x03\x04\x14\0\x06\0" + bytes(99), "is a workbook"),
    ("list.xlsx", b"PK", "end in .jsonl"),
)


NO_LISTS = (
    (f"s3://{UPLOADS}/nowhere.csv", "does not exist"),
    (f"s3://{UPLOADS}/nowhere/", "no object"),
    ("s3://theirs/list.csv", "does not allow"),
    ("https://example.com/list.csv", "list must be"),
    (f"lists/{'0' * 32}.csv", "does not exist"),
    (f"lists/{'0' * 32}.parquet", "does not exist"),
    ("lists/../list.csv", "list must be"),
)


def test_a_broken_or_missing_list_is_refused_at_once(listing: Pipeline) -> None:
    broken = [
        (put_list(listing, f"{number}/{name}", body), said)
        for number, (name, body, said) in enumerate(BROKEN_LISTS)
    ]
    for address, message in (*broken, *NO_LISTS):
        status, said = send(listing, address)
        assert (status, said["code"]) == (400, "invalid_request"), address
        assert message in said["message"], address
    assert not [name for name in listing.names() if "batches/" in name]


def test_an_address_with_half_a_character_is_refused(listing: Pipeline) -> None:
    for address in (f"s3://{UPLOADS}/\ud800.csv", f"s3://{UPLOADS}/\ud800/", "s3://\ud800/a.csv"):
        assert send(listing, address)[0] == 400


def test_a_bucket_that_does_not_answer_is_a_503(listing: Pipeline) -> None:
    address = put_list(listing, "list.jsonl", b'"a.jpg"')
    busy = ClientError(
        {"Error": {"Code": "SlowDown", "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 503}},  # type: ignore[typeddict-item]
        "GetObject",
    )
    for error in (busy, ReadTimeoutError(endpoint_url="https://s3")):
        for operation in ("get_object", "put_object", "list_objects_v2"):
            listing.patch.setattr(listing.clients.s3, operation, Mock(side_effect=error))
        prefix = f"s3://{UPLOADS}/photos/"
        asked = [send(listing, address), send(listing, prefix)]
        asked.append(ask(listing, "POST", "/v1/batches", json.dumps({"api": "plate", "images": ["a"]})))
        assert [(status, said["code"]) for status, said in asked] == [(503, "key_store_unavailable")] * 3
    assert listing.states._waiting == deque()


def test_a_broken_row_far_down_ends_a_batch_before_anything_is_read(listing: Pipeline) -> None:
    photo = listing.put("car.jpg")
    rows = [json.dumps(photo)] * 1500 + ["{}"]
    announced = deliveries(listing)
    status, said = send(listing, put_list(listing, "list.jsonl", "\n".join(rows).encode()))
    assert status == 200
    listing.drain()
    said = show(listing, said["id"])
    assert (said["state"], said["done"]) == ("failed", 0)
    assert said["detail"].startswith("Row 1501 must be")
    assert listing.recognized == []
    assert announced == [said["id"]]
    assert redrive(listing, said["id"])[1]["code"] == "invalid_request"


@pytest.mark.parametrize(("code", "status"), [("NoSuchKey", 404), ("AccessDenied", 403)])
def test_a_list_that_is_deleted_before_it_is_checked_ends_its_batch(
    listing: Pipeline, code: str, status: int
) -> None:
    """It is its owner's doing: no attempt brings it back, and no operator need be woken."""
    _, sent = send(listing, put_list(listing, "list.jsonl", b'"a.jpg"'))
    gone: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with once(BatchSteps, "_body", Mock(side_effect=ClientError(gone, "GetObject"))):
        listing.drain()
    said = show(listing, sent["id"])
    assert (said["state"], said["done"]) == ("failed", 0)
    assert said["detail"] == "The list cannot be read: it does not exist, or may not be read"


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeout", "ThrottlingException"])
def test_a_list_that_s3_does_not_serve_just_now_is_checked_again(listing: Pipeline, code: str) -> None:
    """A batch whose list was refused cannot be redriven."""
    _, sent = send(listing, put_list(listing, "list.jsonl", b'"a.jpg"'))
    busy: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    with once(BatchSteps, "_body", Mock(side_effect=ClientError(busy, "GetObject"))):
        listing.drain()
    assert show(listing, sent["id"])["state"] == "finished"


@pytest.mark.parametrize(
    ("owner", "name"), [(BatchSteps, "check"), (BatchSteps, "finish"), (Batches, "change"), (Batches, "end")]
)
@pytest.mark.parametrize("after", [False, True])
def test_who_dies_while_refusing_a_list_refuses_it_again(
    listing: Pipeline, owner: type, name: str, after: bool
) -> None:
    """Its execution does not fail, which would wake an operator; its owner is told of it once."""
    listing.patch.setattr("carsight_service.http.batches._ROWS_CHECKED", 1)
    _, sent = send(listing, put_list(listing, "list.jsonl", b'"a.jpg"\n{}'))
    announced = deliveries(listing)
    with dying(owner, name, after):
        listing.drain()
    said = show(listing, sent["id"])
    assert (said["state"], said["done"]) == ("failed", 0)
    assert said["detail"].startswith("Row 2 must be")
    arn = f"{MACHINE_ARN.replace(':stateMachine:', ':execution:')}:{sent['id']}"
    assert listing.states.describe_execution(executionArn=arn)["status"] == "SUCCEEDED"
    assert len(announced) == 1


def test_a_list_that_is_longer_than_step_functions_reads_ends_its_batch(listing: Pipeline) -> None:
    body = b'"a.jpg"\n' * 10
    for bytes_read, state in ((10 * len(b'{"image": "a.jpg"}\n'), "finished"), (100, "failed")):
        listing.patch.setattr("carsight_service.queue.batch_steps._MAX_READ_BYTES", bytes_read)
        _, sent = send(listing, put_list(listing, "list.jsonl", body))
        listing.drain()
        said = show(listing, sent["id"])
        assert said["state"] == state
    assert said["detail"] == "The list may have at most 100 bytes as JSON Lines, and has more from row 6 on"


@pytest.mark.parametrize(("last", "rows", "said"), [('"a.jpg"', 3, None), ("{}", None, "Row 3 must be")])
def test_a_batch_that_is_changed_while_its_list_is_checked_has_what_that_has_found(
    listing: Pipeline, last: str, rows: int | None, said: str | None
) -> None:
    """As by whoever notes a redrive."""
    body = '"a.jpg"\n' * 2 + last
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("carsight_service.http.batches._ROWS_CHECKED", 1)
        _, sent = send(listing, put_list(listing, "list.jsonl", body.encode()))
    known: list[Any] = []

    def meanwhile(change: Callable[..., Any], batches: Batches, batch: Any, **fields: Any) -> Any:
        change(batches, batch)
        return change(batches, batch, **fields)

    def looked_at(finish: Callable[..., Any], *arguments: Any) -> Any:
        known.append(show(listing, sent["id"]))
        return finish(*arguments)

    with once(Batches, "change", meanwhile), once(BatchSteps, "finish", looked_at):
        listing.drain()
    assert known[0]["rows"] == rows
    assert (known[0]["detail"] or "").startswith(said or "")
    assert show(listing, sent["id"])["state"] == ("failed" if said else "finished")


def test_a_list_that_may_not_be_seen_is_told_as_one_that_is_not_there(listing: Pipeline) -> None:
    """S3 denies access to a key that is missing, where keys may not be listed."""
    denied: Any = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    listing.patch.setattr(
        listing.clients.s3, "get_object", Mock(side_effect=ClientError(denied, "GetObject"))
    )
    _, said = send(listing, f"lists/{'0' * 32}.csv")
    assert said["message"].endswith("cannot be read: it does not exist, or may not be read")
