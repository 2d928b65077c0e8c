"""Lists of images: every row has its line in the result, and is counted once if it was read."""

from __future__ import annotations

import csv
import io
import json
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError

from carsight_service.batch_store import Batches, FinishedBatch, JoinBatch
from carsight_service.contract.api import Api
from carsight_service.contract.errors import InvalidRequest
from carsight_service.http.batches import parse_batch
from carsight_service.metering.meter_store import MeterStore
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.batches import BatchWorker
from tests.events import event
from tests.pipeline import KEY, KEY_ID, PHOTO, UPLOADS, Died, Pipeline


class _Photos(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = {"/car.jpg": PHOTO, "/fault.jpg": PHOTO + b" makes us fail", "/notes.txt": b"no photo"}
        body = found.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[str]:
    """The address of a host of photos."""
    with HTTPServer(("127.0.0.1", 0), _Photos) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def ask(
    pipeline: Pipeline,
    method: str,
    path: str,
    body: str = "",
    content_type: str = "application/json",
    **query: str,
) -> Any:
    """One request to the account function, with the key."""
    sent = event(body, content_type, path=path, method=method, headers={"x-api-key": KEY})
    return pipeline.ask({**sent, "queryStringParameters": query})


def submit(pipeline: Pipeline, images: list[str], api: Api = Api.PLATE) -> str:
    """A batch; answers with its id."""
    status, said = ask(pipeline, "POST", "/v1/batches", json.dumps({"api": api, "images": images}))
    assert (status, said["state"], said["rows"], said["done"]) == (200, "running", len(images), 0)
    assert said["results"] is None
    return str(said["id"])


def batches_of(pipeline: Pipeline) -> Batches:
    """The batches of the deployment."""
    of = pipeline.deployment
    return Batches(pipeline.table, pipeline.dynamodb, of.clock, of.storage, of.queues)


def lines(pipeline: Pipeline, batch: str) -> list[dict[str, Any]]:
    """The rows of a finished batch."""
    key = f"{KEY_ID}/batches/{batch}/result.jsonl"
    body = pipeline.s3.get_object(Bucket=pipeline.results, Key=key)["Body"].read()
    return [json.loads(line) for line in body.splitlines()]


def table(pipeline: Pipeline, batch: str) -> list[dict[str, str]]:
    """The rows of a finished batch, from its CSV."""
    key = f"{KEY_ID}/batches/{batch}/result.csv"
    body = pipeline.s3.get_object(Bucket=pipeline.results, Key=key)["Body"].read()
    return list(csv.DictReader(io.StringIO(body.decode(), newline="")))


# -- a whole batch -------------------------------------------------------------------------------------------


def test_every_row_is_there_whatever_became_of_it(pipeline: Pipeline, host: str) -> None:
    pipeline.create_key()
    uploaded = pipeline.put("own, with comma.jpg")
    pipeline.s3.put_object(Bucket=UPLOADS, Key=f"incoming/{'0' * 64}/plate/theirs.jpg", Body=PHOTO)
    expected = [
        (f"{host}/car.jpg", 200, None),
        (uploaded, 200, None),
        (f"s3://{UPLOADS}/{uploaded}", 200, None),
        (f"incoming/{'0' * 64}/plate/theirs.jpg", 400, "invalid_image"),
        (f"s3://{UPLOADS}/incoming/{'0' * 64}/plate/theirs.jpg", 400, "invalid_image"),
        ("s3://not-listed/car.jpg", 400, "invalid_image"),
        (f"incoming/{KEY_ID}/plate/gone.jpg", 404, "object_gone"),
        (f"{host}/missing.jpg", 400, "invalid_image"),
        (f"{host}/notes.txt", 400, "invalid_image"),
        (f"{host}/fault.jpg", 500, "internal_error"),
        ("=HYPERLINK(1)", 400, "invalid_image"),
        (f"{host}/car.jpg", 200, None),
    ]
    batch = submit(pipeline, [image for image, _, _ in expected])
    assert pipeline.used() == 0
    pipeline.drain()

    rows = lines(pipeline, batch)
    assert [(row["input"], row["status"], row.get("code")) for row in rows] == expected
    assert [row["row"] for row in rows] == list(range(1, 13))
    assert rows[0]["results"][0]["plate"] == "9djc652"

    cells = table(pipeline, batch)
    assert [cell["row"] for cell in cells] == [str(row) for row in range(1, 13)]
    assert (cells[0]["plate"], cells[0]["region"], cells[0]["xmin"]) == ("9djc652", "us-ca", "2045")
    assert cells[1]["input"] == uploaded
    assert (cells[9]["status"], cells[9]["code"]) == ("500", "internal_error")
    assert cells[10]["input"] == "'=HYPERLINK(1)"

    status, said = ask(pipeline, "GET", f"/v1/batches/{batch}")
    assert status == 200
    assert (said["state"], said["rows"], said["done"], said["read"], said["failed"]) == (
        "finished",
        12,
        12,
        4,
        8,
    )
    assert said["finished"] >= said["created"]
    assert set(said["results"]) == {"jsonl", "csv"}
    assert pipeline.used() == 4
    assert pipeline.tickets() == []
    assert sorted(name.rsplit("/", 1)[1] for name in pipeline.names()) == [
        "list.jsonl",
        "result.csv",
        "result.jsonl",
    ]
    pipeline.s3.delete_object(Bucket=UPLOADS, Key=f"incoming/{'0' * 64}/plate/theirs.jpg")


def test_vins(pipeline: Pipeline, host: str) -> None:
    pipeline.create_key()
    batch = submit(pipeline, [f"{host}/car.jpg"], Api.VIN)
    pipeline.drain()
    (row,) = table(pipeline, batch)
    assert (row["vin"], row["check_digit_valid"], row["source"]) == ("JHLRD77874C026456", "True", "text")
    assert (pipeline.used(Api.PLATE), pipeline.used(Api.VIN)) == (0, 1)


def test_a_limit_that_is_reached_on_the_way(pipeline: Pipeline) -> None:
    pipeline.create_key("sandbox", limits={Api.PLATE: 13})
    uploaded = pipeline.put("car.jpg")
    batch = submit(pipeline, [uploaded] * 25)
    pipeline.drain()
    rows = lines(pipeline, batch)
    assert [row["status"] for row in rows].count(200) == 13
    assert [row["code"] for row in rows if row["status"] == 429] == ["limit_exceeded"] * 12
    assert pipeline.used() == 13


# -- at least once, and only once ----------------------------------------------------------------------------


def chunk(pipeline: Pipeline) -> dict[str, Any]:
    """A message of the plate queue, as Lambda hands it over; it stays in the queue's hands."""
    (message,) = pipeline.sqs.receive_message(QueueUrl=pipeline.plate_queue)["Messages"]
    record = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": {"ApproximateReceiveCount": "1"},
    }
    return {"Records": [record]}


def test_chunks_that_come_twice_are_read_and_counted_once(pipeline: Pipeline) -> None:
    pipeline.create_key()
    batch = submit(pipeline, [pipeline.put("car.jpg")] * 14)
    first, second = chunk(pipeline), chunk(pipeline)
    for _ in range(2):
        assert pipeline.handle(first) == []
    assert ask(pipeline, "GET", f"/v1/batches/{batch}")[1]["done"] == 10
    for _ in range(2):
        assert pipeline.handle(second) == []
    pipeline.drain()
    assert pipeline.handle(first) == []
    assert len(lines(pipeline, batch)) == 14
    assert len(pipeline.recognized) == pipeline.used() == 14
    assert pipeline.tickets() == []


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (MeterStore, "consume_by_id", True),
        (BatchWorker, "_row", True),
        (Batches, "add", False),
        (Batches, "add", True),
        (MeterStore, "settle", False),
        (Batches, "send_join", False),
        (Batches, "finish", False),
        (Batches, "finish", True),
    ],
)
def test_a_worker_that_dies_on_a_chunk(pipeline: Pipeline, owner: Any, name: str, after: bool) -> None:
    pipeline.create_key()
    batch = submit(pipeline, [pipeline.put("car.jpg"), "nothing", pipeline.put("car.jpg")])
    message, real = chunk(pipeline), getattr(owner, name)
    with pytest.MonkeyPatch.context() as patch:

        def dies(*arguments: Any) -> None:
            patch.undo()
            if after:
                real(*arguments)
            raise Died

        patch.setattr(owner, name, dies)
        with pytest.raises(Died):
            pipeline.handle(message)
            pipeline.drain()
    pipeline.later = timedelta(hours=1)
    _all_visible(pipeline)
    assert pipeline.handle(message) == []
    pipeline.drain()
    assert [row["status"] for row in lines(pipeline, batch)] == [200, 400, 200]
    said = ask(pipeline, "GET", f"/v1/batches/{batch}")[1]
    assert (said["state"], said["read"], said["failed"]) == ("finished", 2, 1)
    assert pipeline.used() == 2
    assert pipeline.tickets() == []


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (Announcer, "announce", False),
        (Announcer, "announce", True),
        (Batches, "finish", False),
        (Batches, "finish", True),
        (BatchWorker, "_delete_parts", False),
    ],
)
def test_a_finished_batch_is_announced_and_its_parts_are_gone(
    pipeline: Pipeline, owner: Any, name: str, after: bool
) -> None:
    pipeline.create_key()
    announced: list[tuple[Any, ...]] = []
    announce = Announcer.announce
    with pytest.MonkeyPatch.context() as patch:

        def announces(self: Announcer, *said: Any) -> None:
            announce(self, *said)
            announced.append(said)

        patch.setattr(Announcer, "announce", announces)
        batch = submit(pipeline, [pipeline.put("car.jpg")])
        real = getattr(owner, name)
        with pytest.MonkeyPatch.context() as dying:

            def dies(*arguments: Any) -> None:
                dying.undo()
                if after:
                    real(*arguments)
                raise Died

            dying.setattr(owner, name, dies)
            with pytest.raises(Died):
                pipeline.drain()
        pipeline.later = timedelta(hours=1)
        again = {"messageId": "1", "receiptHandle": "1", "attributes": {"ApproximateReceiveCount": "2"}}
        join = JoinBatch(api=Api.PLATE, batch=FinishedBatch(id=batch)).model_dump_json()
        assert pipeline.handle({"Records": [{**again, "body": join}]}) == []
    assert ask(pipeline, "GET", f"/v1/batches/{batch}")[1]["state"] == "finished"
    assert {said[2] for said in announced if said[0] == "carsight.batch"} == {batch}
    assert not [name for name in pipeline.names() if "/parts/" in name]


def test_a_batch_survives_a_rotation(pipeline: Pipeline) -> None:
    pipeline.create_key()
    photo = pipeline.put("car.jpg")
    batch = submit(pipeline, [photo] * 12)
    new, account = pipeline.keyring.rotate(KEY_ID)
    pipeline.drain()
    assert [row["status"] for row in lines(pipeline, batch)] == [200] * 12
    assert account.usage[0].current == 0
    assert pipeline.keyring.show(account.profile.key_id).usage[0].current == 12
    assert pipeline.tickets() == []
    sent = event(path=f"/v1/batches/{batch}", method="GET", headers={"x-api-key": new})
    status, said = pipeline.ask(sent)
    assert (status, said["state"], said["read"]) == (200, "finished", 12)
    assert (
        pipeline.ask(event(path=f"/v1/batches/{batch}", method="GET", headers={"x-api-key": KEY}))[0] == 401
    )
    # What was uploaded before is still the account's.
    body = json.dumps({"api": "plate", "images": [photo]})
    status, said = pipeline.ask(event(body, path="/v1/batches", headers={"x-api-key": new}))
    pipeline.drain()
    assert lines(pipeline, said["id"])[0]["status"] == 200


@pytest.mark.parametrize("operation", ["get_item", "put_item", "update_item"])
def test_a_table_that_is_throttled_is_a_503(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    pipeline.create_key()
    batch = submit(pipeline, ["a"])

    def refused(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, operation)

    monkeypatch.setattr(pipeline.dynamodb, operation, refused)
    body = json.dumps({"api": "plate", "images": ["a"]})
    answers = [ask(pipeline, "POST", "/v1/batches", body)]
    if operation == "get_item":
        answers.append(ask(pipeline, "GET", f"/v1/batches/{batch}"))
    for status, said in answers:
        assert (status, said["code"]) == (503, "key_store_unavailable")


def test_a_row_with_a_key_that_no_object_can_have_is_a_row_of_the_result(pipeline: Pipeline) -> None:
    pipeline.create_key()
    batch = submit(pipeline, [f"incoming/{KEY_ID}/plate/{'ü' * 700}.jpg", pipeline.put("car.jpg")])
    pipeline.drain()
    assert [row["status"] for row in lines(pipeline, batch)] == [404, 200]


def test_a_batch_says_where_its_cars_may_be_from(pipeline: Pipeline) -> None:
    pipeline.create_key()
    body = json.dumps({"api": "plate", "images": [pipeline.put("car.jpg")], "regions": ["us-ca", "GB"]})
    ask(pipeline, "POST", "/v1/batches", body)
    pipeline.drain()
    assert pipeline.regions == [("us-ca", "gb")]


def _all_visible(pipeline: Pipeline) -> None:
    """What a dead worker held comes back."""
    pipeline.sqs.set_queue_attributes(QueueUrl=pipeline.plate_queue, Attributes={"VisibilityTimeout": "1"})


def test_a_batch_that_cannot_be_sent_whole_is_not_begun(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.create_key()
    images = [pipeline.put("car.jpg")] * 150
    refused: list[str] = []

    class Refusing:
        def send_message_batch(self, **arguments: Any) -> Any:
            if len(refused) == 1:
                raise ConnectionError
            refused.append("once")
            return pipeline.sqs.send_message_batch(**arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.clients, "sqs", Refusing())
        status, said = ask(pipeline, "POST", "/v1/batches", json.dumps({"api": "plate", "images": images}))
    assert (status, said["code"]) == (500, "internal_error")
    pipeline.drain()
    assert (pipeline.used(), pipeline.recognized) == (0, [])


def test_chunks_wait_until_the_batch_has_been_sent(pipeline: Pipeline) -> None:
    pipeline.create_key()
    batch = submit(pipeline, [pipeline.put("car.jpg")])
    message = chunk(pipeline)
    store = batches_of(pipeline)
    store._change(batch, "preparing")
    assert pipeline.handle(message) == [message["Records"][0]["messageId"]]
    store._change(batch, "running")
    assert pipeline.handle(message) == []


# -- what is asked for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type", "query", "images"),
    [
        (b'{"api": "plate", "images": ["a", " b "]}', "application/json", {}, ["a", "b"]),
        (b'["a", "b"]', "application/json", {"api": ["plate"]}, ["a", "b"]),
        (b"a.jpg\r\nb/c\r\n\r\n", "text/csv; charset=utf-8", {"api": ["plate"]}, ["a.jpg", "b/c"]),
        (b'\xef\xbb\xbfid,image_url\n1,a\n2,"b"\n', "text/csv", {"api": ["plate"]}, ["a", "b"]),
        ('"zürich, 1.jpg",1\n'.encode(), "text/csv", {"api": ["plate"]}, ["zürich, 1.jpg"]),
        (b"URL\na\nb\n", "text/csv", {"api": ["plate"]}, ["a", "b"]),
        (b"id,Image_URL\n1,a\n2,b\n", "text/csv", {"api": ["plate"]}, ["a", "b"]),
        (b"ID,imageURL\n1,a\n2,b\n", "text/csv", {"api": ["plate"]}, ["a", "b"]),
        (b"id;image_url;note\n1;a,1;x\n2;b;y\n", "text/csv", {"api": ["plate"]}, ["a,1", "b"]),
        (b"sep=|\nid|URL\n1|a;b,c\n", "text/csv", {"api": ["plate"]}, ["a;b,c"]),
        (b"Image URL\na\nb\n", "text/csv", {"api": ["plate"]}, ["a", "b"]),
        (b"No.\tPHOTO-URL\n1\ta\n", "text/csv", {"api": ["plate"]}, ["a"]),
        ("Link\nzürich\n".encode("utf-16"), "text/csv", {"api": ["plate"]}, ["zürich"]),
        ("\ufeffid;url\n1;a\n".encode("utf-16-be"), "text/csv", {"api": ["plate"]}, ["a"]),
    ],
)
def test_a_list(body: bytes, content_type: str, query: dict[str, list[str]], images: list[str]) -> None:
    request = parse_batch(body, content_type, query)
    assert (request.api, request.images) == (Api.PLATE, images)


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"", "application/json", "must be JSON"),
        (b"\xff", "text/csv", "UTF-8"),
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
        (b"id,url\n1,a\n2\n", "text/csv", "Row 2"),
        (b'"a', "text/csv", "Not valid CSV"),
        (b"Name of the picture\nhttps://photos.example/a.jpg\n", "text/csv", "Row 1 names no image"),
        (b"\xff\xfea", "text/csv", "UTF-16"),
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
    ],
)
def test_a_list_that_cannot_be_read(body: bytes, content_type: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_batch(body, content_type, {"api": ["plate"]})


def test_as_many_rows_as_may_be_are_taken() -> None:
    for head in (b"", b"url\n"):
        assert len(parse_batch(head + b"a.b\n" * 10_000, "text/csv", {"api": ["plate"]}).images) == 10_000


def test_millions_of_rows_are_not_kept() -> None:
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


def test_a_batch_of_another_key_is_not_there(pipeline: Pipeline) -> None:
    pipeline.create_key()
    batch = submit(pipeline, ["a"])
    other, _ = pipeline.keyring.create(owner="other@example.com", tier="pro")
    sent = event(path=f"/v1/batches/{batch}", method="GET", headers={"x-api-key": other})
    assert pipeline.ask(sent)[0] == 404
    assert ask(pipeline, "GET", f"/v1/batches/{batch}")[0] == 200
    for unknown in ("unknown", "0" * 32, "0" * 3000, "%00", f"{batch}%20", batch.upper()):
        assert ask(pipeline, "GET", f"/v1/batches/{unknown}")[0] == 404
    assert ask(pipeline, "DELETE", f"/v1/batches/{batch}")[0] == 405
