"""What the body of a batch's request may look like, and what is said of one that cannot be read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import time
import tracemalloc

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from carsight.plate.regions import CODES
from carsight_service.contract.api import Api
from carsight_service.contract.errors import InvalidRequest, UnknownRegions
from carsight_service.contract.lists import Row, read_rows
from carsight_service.contract.regions import REGIONS
from carsight_service.http.batches import parse_batch
from carsight_service.http.request import parse_request
from carsight_service.queue.tables import write_tables
from local.gateway import to_event


@pytest.mark.parametrize(
    ("body", "content_type", "query", "images"),
    [
        (b'{"api": "plate", "images": ["a", " b "]}', "application/json", {}, ["a", " b "]),
        (b'["a", "b"]', "application/json", {"api": ["plate"]}, ["a", "b"]),
        (b"a.jpg\r\nb/c\r\n\r\n", "text/csv; charset=utf-8", {"api": ["plate"]}, ["a.jpg", "b/c"]),
        (b'\xef\xbb\xbfid,image_url\n1,a\n2,"b"\n', "text/csv", {"api": ["plate"]}, ["a", "b"]),
        ('"zürich, 1.jpg",1\n'.encode(), "text/csv", {"api": ["plate"]}, ["zürich, 1.jpg"]),
        (b"URL\na\nb\n", "text/csv", {"api": ["plate"]}, ["a", "b"]),
        (b"a.jpg\nhttps://x/b.jpg\n", "text/csv", {"api": ["plate"]}, ["a.jpg", "https://x/b.jpg"]),
        (b"id,Image_URL\n1,a\n2,b\n", "text/csv", {"api": ["plate"]}, ["a", "b"]),
        (b"ID,imageURL\n1,a\n2,b\n", "text/csv", {"api": ["plate"]}, ["a", "b"]),
        (b"id;image_url;note\n1;a,1;x\n2;b;y\n", "text/csv", {"api": ["plate"]}, ["a,1", "b"]),
        (b"sep=|\nid|URL\n1|a;b,c\n", "text/csv", {"api": ["plate"]}, ["a;b,c"]),
        (b'"sep=;"\r\nid;URL\r\n1;a,b\r\n', "text/csv", {"api": ["plate"]}, ["a,b"]),
        (b'"sep=|"||\nid|URL|note\n1|a;b|\n', "text/csv", {"api": ["plate"]}, ["a;b"]),
        (b"\xef\xbb\xbfsep=\t\nid\tURL\n1\ta;b,c\n", "text/csv", {"api": ["plate"]}, ["a;b,c"]),
        (b"sep=\nid,URL\n1,a;b\n", "text/csv", {"api": ["plate"]}, ["a;b"]),
        (b"Image URL\na\nb\n", "text/csv", {"api": ["plate"]}, ["a", "b"]),
        (b"input,snapshot\nfront,https://x/a\n", "text/csv", {"api": ["plate"]}, ["https://x/a"]),
        (b"input,id\nhttps://x/a,1\n", "text/csv", {"api": ["plate"]}, ["https://x/a"]),
        (b"row,input,status,message\n1,a,403,Visit https://x\n", "text/csv", {"api": ["plate"]}, ["a"]),
        (b"image,url\n,a\nb,\n", "text/csv", {"api": ["plate"]}, ["a", "b"]),
        (b'[{"image": null, "url": "a"}]', "application/json", {"api": ["plate"]}, ["a"]),
        (b'[{"image": " ", "url": "a"}]', "application/json", {"api": ["plate"]}, ["a"]),
        (b'[{"photo": 7, "picture": ["x"], "key": "a"}]', "application/json", {"api": ["plate"]}, ["a"]),
        (
            b"incoming/a.jpg;car\nincoming/b.jpg;photo\n",
            "text/csv",
            {"api": ["plate"]},
            ["incoming/a.jpg", "incoming/b.jpg"],
        ),
        (b"No.\tPHOTO-URL\n1\ta\n", "text/csv", {"api": ["plate"]}, ["a"]),
        ("Link\nzürich\n".encode("utf-16"), "text/csv", {"api": ["plate"]}, ["zürich"]),
        ("\ufeffid;url\n1;a\n".encode("utf-16-be"), "text/csv", {"api": ["plate"]}, ["a"]),
        ("id;url\n1;zürich\n".encode("utf-16-be"), "text/csv", {"api": ["plate"]}, ["zürich"]),
        ("Größe;url\n1;zürich\n".encode("utf-16-le"), "text/csv", {"api": ["plate"]}, ["zürich"]),
        ("№;url\n1;zürich\n".encode("utf-16-le"), "text/csv", {"api": ["plate"]}, ["zürich"]),
        ("Āboli;url\n1;zürich\n".encode("utf-16-be"), "text/csv", {"api": ["plate"]}, ["zürich"]),
        ("Āboli;url\n1;zürich\n".encode("utf-16-le"), "text/csv", {"api": ["plate"]}, ["zürich"]),
        ("車;url\n1;zürich\n".encode("utf-16-be"), "text/csv", {"api": ["plate"]}, ["zürich"]),
        (b"id;url\n1\0;https://x/a.jpg\n", "text/csv", {"api": ["plate"]}, ["https://x/a.jpg"]),
        ('"zürich"\n'.encode("utf-16-le"), "application/jsonl", {"api": ["plate"]}, ["zürich"]),
        ("Größe;url\n2 MB;zürich\n".encode("cp1252"), "text/csv", {"api": ["plate"]}, ["zürich"]),
        (
            b"Nr.;Bild vom Tor\n1;https://x/a.jpg\n2;b.jpg\n",
            "text/csv",
            {"api": ["plate"]},
            ["https://x/a.jpg", "b.jpg"],
        ),
        (
            b"1;https://x/a.jpg;x\n2;https://x/b.jpg;y\n",
            "text/csv",
            {"api": ["plate"]},
            ["https://x/a.jpg", "https://x/b.jpg"],
        ),
        (
            b"id;url (jpg, png, heic)\n1;https://x/a.jpg\n",
            "text/csv",
            {"api": ["plate"]},
            ["https://x/a.jpg"],
        ),
        (
            b"https://x/?a=1,2;7\nhttps://x/?a=1,2;8\n",
            "text/csv",
            {"api": ["plate"]},
            ["https://x/?a=1,2"] * 2,
        ),
        (b"1\thttps://x/a,b.jpg\n", "text/csv", {"api": ["plate"]}, ["https://x/a,b.jpg"]),
        (b"url\nhttps://x/w_1,h_2/a.jpg\n", "text/csv", {"api": ["plate"]}, ["https://x/w_1,h_2/a.jpg"]),
        (b'id, url\n1, "https://x/a,b.jpg"\n', "text/csv", {"api": ["plate"]}, ["https://x/a,b.jpg"]),
        (b"url,note\nhttps://x/a.jpg,red;blue\n", "text/csv", {"api": ["plate"]}, ["https://x/a.jpg"]),
        (
            b"https://x/a.jpg,gate 7\nhttps://x/b.jpg\n",
            "text/csv",
            {"api": ["plate"]},
            ["https://x/a.jpg", "https://x/b.jpg"],
        ),
        (
            b'id,"Image\nURL",note\n1,a,"two\nlines; and ""quotes"""\n2,b,\n',
            "text/csv",
            {"api": ["plate"]},
            ["a", "b"],
        ),
        (b"url\nhttps://x/w_1,h_2/a.jpg\n", "text/csv", {"api": ["plate"]}, ["https://x/w_1,h_2/a.jpg"]),
        (b"id,url\n1,a,,\n2,b, \n", "text/csv", {"api": ["plate"]}, ["a", "b"]),  # cells that are empty
        (
            b'{"row": 7, "input": "a", "status": 429, "success": false, "message": "API limit exceeded"}\n'
            b'{"row": 8, "input": "b", "status": 200, "image": {"width": 640, "height": 480}}\n',
            "application/jsonl",  # rows of a result, which are sent again
            {"api": ["plate"]},
            ["a", "b"],
        ),
        (b"id,s3_uri\r1,s3://b/a.jpg\r", "text/csv", {"api": ["plate"]}, ["s3://b/a.jpg"]),
        (gzip.compress("\ufeffid;url\n1;a\n".encode("utf-16-le")), "text/csv", {"api": ["plate"]}, ["a"]),
        (gzip.compress(b'"a"\n'), "application/jsonl", {"api": ["plate"]}, ["a"]),
    ],
)
def test_what_lists_look_like(
    body: bytes, content_type: str, query: dict[str, list[str]], images: list[str]
) -> None:
    request = parse_batch(body, content_type, query)
    assert (request.api, [row.image for row in request.rows]) == (Api.PLATE, images)


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"", "application/json", "must be JSON"),
        (b"\xff", "application/jsonl", "UTF-8"),
        (gzip.compress(b'"a"\n')[:-9], "application/jsonl", "gzip"),
        (b"\x1f\x8bnothing of the kind", "text/csv", "gzip"),
        (gzip.compress((b" " * 60_000 + b"\n") * 1400), "text/csv", "characters"),
        (b'{"url": "a", "id": true}', "application/jsonl", "Row 1: id must be text or a number"),
        (b'[{"url": "a", "id": 0}, {"url": "b", "id": false}]', "", "Row 2: id must be text or a number"),
        (b'{"url": "a", "id": Infinity}', "application/jsonl", "text or a finite number"),
        (b'{"url": "a", "id": -1e999}', "application/jsonl", "text or a finite number"),
        (b"{", "application/json", "must be JSON"),
        (b"[" * 100_000, "application/json", "must be JSON"),
        (b"3", "application/json", "1 to 10000"),
        (b'{"images": "a"}', "application/json", "1 to 10000"),
        (b"[]", "application/json", "1 to 10000"),
        (b"", "text/csv", "1 to 10000"),
        (json.dumps(["a"] * 10_001).encode(), "application/json", "1 to 10000"),
        (b'["a", ""]', "application/json", "Row 2"),
        (b'["a", "b", 3]', "application/json", "Row 3"),
        (json.dumps(["a" * 2049]).encode(), "application/json", "Row 1"),
        (json.dumps(["a" + "\u3000" * 40_000]).encode(), "application/json", "Row 1"),  # as long for the map
        (b'["a", " "]', "application/json", "Row 2"),
        (b"id,url\n1,a\n2\n", "text/csv", "Row 2"),
        (b'"a', "text/csv", "The list is not valid CSV after row 0: a quote is not closed"),
        (b'id,url\n1,a\n2,"b\n3,c\n', "text/csv", "after row 1: a quote is not closed"),
        (b'{"url": "a"},\n{"url": "b"},\n', "application/jsonl", "Row 1 is not JSON: each line must be one"),
        (b"url,id\na,1\nhttps://x/w_1,h_2/a.jpg,7\n", "text/csv", "Row 2 has more cells than the first line"),
        (b"https://x/a.jpg,1\nhttps://x/w_1,h_2/b.jpg,2\n", "text/csv", "Row 2 has more cells"),
        (b"id;url\n1;https://x/a;b.jpg\n", "text/csv", "put quotes around a cell that contains ';'"),
        (b"Name of the picture\na.jpg\n", "text/csv", "Row 1 has no image"),
        (b"Page;Snapshot\nhttps://x/page;https://x/a.jpg\n", "text/csv", "Row 1 has no image"),
        (b"Fleet\n\nid;url\n1;a.jpg\n", "text/csv", "Remove any lines above the column names"),
        (b"Fleet, 31.3.2026\nid;url\n1;a.jpg\n", "text/csv", "Remove any lines above the column names"),
        (
            b"Fleet 31.3.2026\nphoto,date/time\na.jpg,1\n",
            "text/csv",
            "Remove any lines above the column names",
        ),
        (b"v1.2;;\nid;URL/key;url\n1;2;a.jpg\n", "text/csv", "Remove any lines above the column names"),
        (b"\xff\xfea", "text/csv", "UTF-16"),
        (b"u\0r\0l\0\n\0a", "text/csv", "UTF-16"),
        (b'[{"photo": 7}]', "application/json", "Row 1 must be"),
        (b"PK\x03\x04\x14\0\x06\0" + bytes(99), "text/csv", "is a workbook"),
        (b"PK\x03\x04\x14\0\x06\0\xef\xbf\xbd", "text/csv", "is a workbook"),  # through the gateway
        (gzip.compress(b"PK\x03\x04" + bytes(99), mtime=0), "application/csv", "is a workbook"),
        (b"PK\x03\x04" + bytes(99), "application/vnd.ms-excel", "is a workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "application/csv", "save it as CSV"),
        (b"url\n" + b"a\n" * 10_001, "text/csv", "1 to 10000"),
        (b"a.b\n\n" * 10_001, "text/csv", "1 to 10000"),
        (b"[" + b",".join([b"{}"] * 100_000) + b"]", "application/json", "must be JSON"),
        (b'{"api": "faces", "images": ["a"]}', "application/json", "plate or vin"),
        (b'{"api": null, "images": ["a"], "regions": 3}', "application/json", "regions"),
        (b'{"images": ["a"], "regions": ["x", null]}', "application/json", "regions"),
        (
            json.dumps({"images": ["a"], "regions": ["x"] * 9 + ["y" * 11]}).encode(),
            "application/json",
            "regions",
        ),
        (
            json.dumps({"images": ["a"], "regions": "de," * 700}).encode(),
            "application/json",
            "at most 50 codes",
        ),
        (
            json.dumps({"images": ["a"], "regions": [""] * 2001}).encode(),
            "application/json",
            "at most 50 codes",
        ),
        (b'url,regions\na.b,"' + b"de," * 700 + b'"', "text/csv", "Row 1: regions accepts"),
    ],
)
def test_a_list_that_cannot_be_read(body: bytes, content_type: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_batch(body, content_type, {"api": ["plate"]})


LIST = "id;url\nStraße;https://x/a.jpg\n"
ENCODED = {name: LIST.encode(name) for name in ("utf-8", "cp1252", "utf-16", "utf-16-be")}


@pytest.mark.parametrize("body", [*ENCODED.values(), gzip.compress(LIST.encode())], ids=[*ENCODED, "gzip"])
@pytest.mark.parametrize("content_type", ["text/csv", "application/csv"])
def test_a_list_comes_through_the_gateway_as_it_is_or_not_at_all(body: bytes, content_type: str) -> None:
    """API Gateway makes a string of ``text/*``, as of UTF-8, whatever it is."""
    sent = Request(EnvironBuilder(method="POST", data=body, content_type=content_type).get_environ())
    request = parse_request(to_event(sent, "/v1/batches", body))
    if content_type == "application/csv" or body == ENCODED["utf-8"]:
        (row,) = parse_batch(request.body, content_type, {"api": ["plate"]}).rows
        assert row == Row(1, "https://x/a.jpg", "Straße")
    else:
        with pytest.raises(InvalidRequest, match="application/csv"):
            parse_batch(request.body, content_type, {"api": ["plate"]})


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (b'{"images": ["a"], "regions": ["us-ca", "us-xx", "Germany"]}', {}),
        (b'{"images": ["a"], "regions": "us-ca,us-xx,germany"}', {}),
        (b'{"images": ["a"]}', {"regions": ["us-ca", "us-xx,germany"]}),
        (b'{"list": "s3://b/a.csv"}', {"regions": ["us-ca,us-xx,germany"]}),
    ],
)
def test_regions_that_are_not_known_are_refused_before_anything_is_read(
    body: bytes, query: dict[str, list[str]]
) -> None:
    with pytest.raises(UnknownRegions) as refused:
        parse_batch(body, "application/json", {"api": ["plate"], **query})
    assert refused.value.regions == ("us-xx", "germany")
    assert parse_batch(body, "application/json", {"api": ["vin"], **query}).api is Api.VIN  # which has no use


def test_regions_are_known_as_the_engine_knows_them() -> None:
    assert REGIONS == CODES


def test_ids_that_a_double_cannot_hold_are_text() -> None:
    """JSONata's numbers are doubles, and so are those of most programs that read JSON."""
    ids = (2**53, -(2**53), 2**53 + 1, -(2**53) - 1)
    body = "\n".join(json.dumps({"url": "a", "id": one}) for one in ids)
    rows = list(read_rows(io.BytesIO(body.encode()), "jsonl"))
    assert [row.id for row in rows] == [2**53, -(2**53), "9007199254740993", "-9007199254740993"]


def test_ids_below_zero_are_no_formulas() -> None:
    """Half of all hashes of 64 bits are: with an apostrophe they would match nobody's."""
    numbers = -5, "-9223372036854775808", -7.5, -1e-05, -1e22
    ids = {one: str(one) for one in numbers} | {"-5+1": "'-5+1", "-": "'-"}
    row = {"input": "a.jpg", "status": 400, "code": "invalid_image", "message": "+1"}
    rows = [{"row": number, **row, "id": one} for number, one in enumerate(ids, 1)]
    sheet = io.BytesIO()
    write_tables(iter(rows), Api.PLATE, sheet, io.BytesIO())
    found = list(csv.DictReader(io.StringIO(sheet.getvalue().decode(), newline="")))
    assert [one["id"] for one in found] == list(ids.values())
    assert {one["message"] for one in found} == {"'+1"}


def test_ids_of_data_frames_are_kept_and_missing_ones_left_out() -> None:
    """Whole numbers beside a missing one are floats there, and what is missing is not a number."""
    body = b'{"url": "a", "id": 7.0}\n{"url": "b", "id": NaN, "regions": NaN}\n{"url": "c", "id": null}\n'
    rows = parse_batch(body, "application/jsonl", {"api": ["plate"]}).rows
    assert [(row.id, row.regions) for row in rows] == [(7.0, ()), (None, ()), (None, ())]
    assert [json.loads(row.line()) for row in rows] == [
        {"image": "a", "id": 7.0},
        {"image": "b"},
        {"image": "c"},
    ]


def test_a_request_keeps_its_fingerprint_from_one_version_to_the_next() -> None:
    """It is kept with the batch, and a client may repeat its request after an update."""
    body = b'{"api": "plate", "images": ["a.jpg", {"url": "b.jpg", "id": 7}], "regions": ["de"]}'
    assert repr(parse_batch(body, "", {})) == (
        "BatchRequest(api=<Api.PLATE: 'plate'>, rows=[Row(image='a.jpg', id=None, regions=()), "
        "Row(image='b.jpg', id=7, regions=())], regions=('de',), address='')"
    )


def test_half_a_character_is_none() -> None:
    body = b'{"api": "vin", "images": [{"url": "\\ud800", "id": "\\udfff"}], "regions": ["u\\udc00"]}'
    listed = parse_batch(body, "", {})
    assert (listed.rows, listed.regions) == ([Row(1, "?", "?")], ("u?",))
    assert listed.rows[0].line()


@pytest.mark.parametrize("kind", ["text/csv", "application/jsonl"])
def test_empty_rows_on_end_are_bounded(kind: str) -> None:
    assert len(parse_batch(b"\n" * 100_000 + b'"a.b"\n', kind, {"api": ["plate"]}).rows) == 1
    # In succession, or with a row here and there.
    for rows in (b"\n" * 1_200_000, (b"\n" * 200_000 + b'"a.b"\n') * 6):
        with pytest.raises(InvalidRequest, match="empty rows"):
            parse_batch(rows, kind, {"api": ["plate"]})


def test_as_many_rows_as_may_be_are_taken() -> None:
    for head in (b"", b"url\n"):
        assert len(parse_batch(head + b"a.b\n" * 10_000, "text/csv", {"api": ["plate"]}).rows) == 10_000


def test_rows_beyond_the_most_are_not_kept() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest):
            parse_batch(b"a.b\n" * 300_000, "text/csv", {"api": ["plate"]})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("api", [["null", "null"], ["null"], [""], ["plate", "null"]])
def test_a_parameter_that_is_no_api_is_refused_whatever_the_body_says(api: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="plate or vin"):
        parse_batch(b'{"api": "plate", "images": ["a"]}', "application/json", {"api": api})


def test_a_column_s_long_name_is_not_gone_through_for_each_row() -> None:
    data = b"url," + b"a" * 65_000 + b"\n" + b"https://x/a.jpg,\n" * 1000
    start = time.process_time()
    assert len(list(read_rows(io.BytesIO(data), "csv"))) == 1000
    assert time.process_time() - start < 0.3
