"""Lists of images: every row has its line in the result, and is counted once if it was read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from carsight_service.contract.api import Api
from carsight_service.metering.meter_store import MeterStore
from carsight_service.queue.children import ChildReader
from tests.batches import ask, begun, check_whole, lines, parquet, redrive, show, submit, table, throttled
from tests.events import event
from tests.pipeline import KEY, KEY_ID, PHOTO, UPLOADS, Pipeline, once
from tests.serving import serving_photos


@pytest.fixture
def host() -> Iterator[str]:
    """The address of a host of photos."""
    bodies = {"/car.jpg": PHOTO, "/fault.jpg": PHOTO + b" makes us fail", "/notes.txt": b"no photo"}
    with serving_photos(bodies.get) as address:
        yield address


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
        (f"incoming/{KEY_ID}/plate/{'ü' * 700}.jpg", 404, "object_gone"),  # a key that no object can have
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
    assert [row["row"] for row in rows] == list(range(1, 14))
    assert rows[0]["results"][0]["plate"] == "9djc652"
    assert rows[11]["detail"].startswith("The image of a row is an http or https URL")
    assert "detail" not in rows[3] | rows[5] | rows[8]  # refused, and nobody is told why

    cells = table(pipeline, batch)
    assert [cell["row"] for cell in cells] == [str(row) for row in range(1, 14)]
    assert (cells[0]["plate"], cells[0]["region"], cells[0]["xmin"]) == ("9djc652", "us-ca", "2045")
    assert cells[1]["input"] == uploaded
    assert (cells[10]["status"], cells[10]["code"]) == ("500", "internal_error")
    assert cells[11]["input"] == "'=HYPERLINK(1)"

    columns = parquet(pipeline, batch)
    assert columns["row"] == list(range(1, 14))
    assert columns["input"] == [image for image, _, _ in expected]
    assert columns["status"] == [status for _, status, _ in expected]
    assert (columns["plate"][0], columns["score"][0], columns["xmin"][0]) == ("9djc652", 1.0, 2045)
    assert (columns["plate"][3], columns["score"][3], columns["xmin"][3]) == (None, None, None)
    assert list(columns) == list(cells[0])

    said = show(pipeline, batch)
    assert said["state"] == "finished"
    assert (said["rows"], said["done"], said["read"], said["failed"]) == (13, 13, 4, 9)
    status, refused = redrive(pipeline, batch)
    assert (status, refused["code"]) == (400, "invalid_request")
    assert "as a new list" in refused["detail"]
    assert said["finished"] >= said["created"]
    assert set(said["results"]) == {"jsonl", "csv", "parquet", "manifest"}
    assert (said["pending"], said["running"], said["detail"]) == (0, 0, None)
    assert pipeline.used() == 4
    assert pipeline.tickets() == []
    assert pipeline.result(f"batches/{batch}/manifest.json")["read"] == 4
    pipeline.s3.delete_object(Bucket=UPLOADS, Key=f"incoming/{'0' * 64}/plate/theirs.jpg")


def test_a_batch_may_be_read_for_vins(pipeline: Pipeline, host: str) -> None:
    pipeline.create_key()
    batch = submit(pipeline, [f"{host}/car.jpg"], Api.VIN)
    pipeline.drain()
    (row,) = table(pipeline, batch)
    assert (row["vin"], row["check_digit_valid"], row["source"]) == ("JHLRD77874C026456", "True", "text")
    columns = parquet(pipeline, batch)
    assert (columns["vin"], columns["check_digit_valid"]) == (["JHLRD77874C026456"], [True])
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


def test_a_key_that_may_not_be_charged_has_no_photo_read(pipeline: Pipeline) -> None:
    _, batch = begun(pipeline, 5, limits={Api.PLATE: 0}, overage=False)
    pipeline.drain()
    assert [row["code"] for row in lines(pipeline, batch)] == ["limit_exceeded"] * 5
    assert (pipeline.recognized, pipeline.used()) == ([], 0)


@pytest.mark.parametrize(
    ("left", "statuses"),
    [(4, [200, 200, 200, 200, 400]), (2, [200, 200, 429, 429, 400]), (0, [429, 429, 429, 429, 400])],
)
def test_a_limit_that_others_reach_while_rows_are_read(
    pipeline: Pipeline, left: int, statuses: list[int]
) -> None:
    pipeline.create_key("sandbox", limits={Api.PLATE: 9})
    batch = submit(pipeline, [pipeline.put("car.jpg")] * 4 + ["nothing"])

    def meanwhile(row: Callable[..., Any], *arguments: Any) -> Any:
        meters = pipeline.deployment.meters
        meters.close(meters.take(KEY_ID, Api.PLATE, 9 - left, "another"), read=9 - left)
        return row(*arguments)

    with once(ChildReader, "_result", meanwhile):
        pipeline.drain()
    assert [row["status"] for row in lines(pipeline, batch)] == statuses
    assert (pipeline.used(), pipeline.tickets()) == (9, [])


def test_rows_of_which_none_is_read_are_not_counted_at_all(pipeline: Pipeline) -> None:
    pipeline.create_key("sandbox", limits={Api.PLATE: 1})
    batch = submit(pipeline, ["nothing"] * 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeterStore, "take", Mock(side_effect=AssertionError))
        pipeline.drain()
    assert [row["status"] for row in lines(pipeline, batch)] == [400] * 60
    assert (show(pipeline, batch)["state"], pipeline.used()) == ("finished", 0)


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


def test_a_table_that_is_throttled_is_a_503(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.create_key()
    batch = submit(pipeline, ["a"])

    def refused(**_: Any) -> None:
        raise throttled("GetItem")

    for operation in ("get_item", "put_item"):
        monkeypatch.setattr(pipeline.dynamodb, operation, refused)
    for method, path in (
        ("POST", ""),
        ("GET", f"/{batch}"),
        ("DELETE", f"/{batch}"),
        ("POST", f"/{batch}/redrive"),
    ):
        body = json.dumps({"api": "plate", "images": ["a"]})
        status, said = ask(pipeline, method, f"/v1/batches{path}", body)
        assert (status, said["code"]) == (503, "key_store_unavailable")


def test_a_batch_says_where_its_cars_may_be_from(pipeline: Pipeline) -> None:
    pipeline.create_key()
    body = json.dumps({"api": "plate", "images": [pipeline.put("car.jpg")], "regions": ["us-ca", "GB"]})
    ask(pipeline, "POST", "/v1/batches", body)
    pipeline.drain()
    assert pipeline.regions == [("us-ca", "gb")]


def test_a_batch_that_cannot_be_begun_is_none(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.create_key()

    def refused(**_: Any) -> None:
        raise throttled("StartExecution")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.states, "start_execution", refused)
        status, said = ask(pipeline, "POST", "/v1/batches", json.dumps({"api": "plate", "images": ["a"]}))
    assert (status, said["code"]) == (503, "key_store_unavailable")
    pipeline.drain()
    assert (pipeline.used(), pipeline.recognized) == (0, [])


def test_a_batch_of_before_batches_had_versions_is_read_to_its_end(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 3)
    key: Any = {"pk": {"S": f"BATCH#{batch}"}, "sk": {"S": "BATCH"}}
    pipeline.dynamodb.update_item(TableName=pipeline.table, Key=key, UpdateExpression="REMOVE version")
    pipeline.drain()
    check_whole(pipeline, batch, images)


@pytest.mark.parametrize("operation", ["list_map_runs", "describe_map_run"])
def test_a_batch_is_shown_while_its_engine_is_throttled(pipeline: Pipeline, operation: str) -> None:
    _, batch = begun(pipeline, 60)

    def during(read: Callable[..., Any], *arguments: Any) -> Any:
        answer = read(*arguments)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline.states, operation, Mock(side_effect=throttled(operation)))
            said = show(pipeline, batch)
        assert (said["state"], said["read"], said["failed"], said["pending"]) == ("running", 43, 7, None)
        return answer

    with once(ChildReader, "read", during):
        pipeline.drain()
    assert show(pipeline, batch)["state"] == "finished"


def test_a_batch_of_another_key_is_not_there(pipeline: Pipeline) -> None:
    pipeline.create_key()
    batch = submit(pipeline, ["a"])
    other, _ = pipeline.keyring.create(owner="other@example.com", tier="pro")
    sent = event(path=f"/v1/batches/{batch}", method="GET", headers={"x-api-key": other})
    assert pipeline.ask(sent)[0] == 404
    assert ask(pipeline, "GET", f"/v1/batches/{batch}")[0] == 200
    for unknown in ("unknown", "0" * 32, "0" * 3000, "%00", f"{batch}%20", batch.upper()):
        assert ask(pipeline, "GET", f"/v1/batches/{unknown}")[0] == 404
    for method, path in (("DELETE", ""), ("POST", "/redrive")):
        sent = event(path=f"/v1/batches/{batch}{path}", method=method, headers={"x-api-key": other})
        assert pipeline.ask(sent)[0] == 404
