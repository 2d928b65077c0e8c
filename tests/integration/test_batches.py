"""Lists of images: every row has its line in the result, and is counted once if it was read."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY, Mock

import pytest
import urllib3
from arro3 import core
from arro3.io import read_parquet, write_parquet
from botocore.exceptions import ClientError, ReadTimeoutError

from carsight_service.aws.storage import Photo, Storage
from carsight_service.batch_store import ENDS, Batches, Refused
from carsight_service.contract.api import Api
from carsight_service.contract.errors import InvalidImage, StoreUnavailable
from carsight_service.http.account import AccountEndpoint
from carsight_service.http.executions import Executions
from carsight_service.images import S3Source
from carsight_service.metering.meter_store import MeterStore
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.batches import PATIENT_ATTEMPTS, BatchWorker
from carsight_service.queue.messages import TryLater
from carsight_service.queue.outcomes import MOST_IN_HAND, Outcomes
from carsight_service.queue.results import BatchJobs
from carsight_service.queue.tables import write_tables
from local.step_functions import MACHINE_ARN
from tests.events import Invocation, event
from tests.pipeline import KEY, KEY_ID, PHOTO, UPLOADS, Died, Pipeline, dying, have_listed, once
from tests.serving import in_background


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
    server = HTTPServer(("127.0.0.1", 0), _Photos)
    with in_background(server):
        yield f"http://127.0.0.1:{server.server_port}"


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


def show(pipeline: Pipeline, batch: str) -> dict[str, Any]:
    """What is told of a batch."""
    status, said = ask(pipeline, "GET", f"/v1/batches/{batch}")
    assert status == 200
    return dict(said)


def tag(pipeline: Pipeline, batch: str) -> str:
    """How the tickets of a batch begin."""
    known = Batches(pipeline.deployment).get(batch)
    assert known is not None
    return known.tag


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


def parquet(pipeline: Pipeline, batch: str) -> dict[str, Any]:
    """The columns of a finished batch, from its Parquet."""
    key = f"{KEY_ID}/batches/{batch}/result.parquet"
    body = pipeline.s3.get_object(Bucket=pipeline.results, Key=key)["Body"].read()
    found: Any = read_parquet(io.BytesIO(body)).read_all()
    return {name: found[name].to_pylist() for name in found.column_names}


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

    columns = parquet(pipeline, batch)
    assert columns["row"] == list(range(1, 13))
    assert columns["input"] == [image for image, _, _ in expected]
    assert columns["status"] == [status for _, status, _ in expected]
    assert (columns["plate"][0], columns["score"][0], columns["xmin"][0]) == ("9djc652", 1.0, 2045)
    assert (columns["plate"][3], columns["score"][3], columns["xmin"][3]) == (None, None, None)
    assert list(columns) == list(cells[0])

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
    assert set(said["results"]) == {"jsonl", "csv", "parquet", "manifest"}
    assert (said["pending"], said["running"], said["detail"]) == (0, 0, None)
    assert pipeline.used() == 4
    assert pipeline.tickets() == []
    assert pipeline.result(f"batches/{batch}/manifest.json")["read"] == 4
    pipeline.s3.delete_object(Bucket=UPLOADS, Key=f"incoming/{'0' * 64}/plate/theirs.jpg")


def test_vins(pipeline: Pipeline, host: str) -> None:
    pipeline.create_key()
    batch = submit(pipeline, [f"{host}/car.jpg"], Api.VIN)
    pipeline.drain()
    (row,) = table(pipeline, batch)
    assert (row["vin"], row["check_digit_valid"], row["source"]) == ("JHLRD77874C026456", "True", "text")
    columns = parquet(pipeline, batch)
    assert (columns["vin"], columns["check_digit_valid"]) == (["JHLRD77874C026456"], [True])
    assert (pipeline.used(Api.PLATE), pipeline.used(Api.VIN)) == (0, 1)


def test_a_child_that_is_given_up_is_in_its_place(pipeline: Pipeline) -> None:
    """One of a hundred and one may fail."""
    pipeline.create_key()
    images = ["nothing"] * (100 * 50) + [pipeline.put("car.jpg")] * 50
    batch = submit(pipeline, images)
    with failing(pipeline, batch, row=51):
        pipeline.drain()
    found = lines(pipeline, batch)
    every = list(range(1, len(images) + 1))
    assert [row["row"] for row in found] == every
    assert [row["code"] for row in found[50:100]] == ["internal_error"] * 50
    assert [row["status"] for row in (*found[:50], *found[100:])] == [400] * 4950 + [200] * 50
    assert [int(row["row"]) for row in table(pipeline, batch)] == every
    assert parquet(pipeline, batch)["row"] == every
    said = show(pipeline, batch)
    assert (said["state"], said["read"], said["failed"]) == ("finished", 50, 5000)
    assert (pipeline.used(), pipeline.tickets()) == (50, [])


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

    with once(BatchWorker, "_row", meanwhile):
        pipeline.drain()
    assert [row["status"] for row in lines(pipeline, batch)] == statuses
    assert (pipeline.used(), pipeline.tickets()) == (9, [])


@pytest.mark.parametrize(
    ("limit", "statuses"), [(4, [200, 200, 200, 200]), (2, [200, 200, 429, 429]), (1, [200, 429, 429, 429])]
)
@pytest.mark.parametrize(("owner", "name"), [(Outcomes, "put"), (MeterStore, "take"), (MeterStore, "close")])
@pytest.mark.parametrize("after", [False, True])
def test_the_last_units_are_still_there_when_their_worker_has_died(
    pipeline: Pipeline, owner: Any, name: str, after: bool, limit: int, statuses: list[int]
) -> None:
    pipeline.create_key("sandbox", limits={Api.PLATE: limit})
    batch = submit(pipeline, [pipeline.put("car.jpg")] * 4)
    with dying(owner, name, after):
        pipeline.drain()
    assert [row["status"] for row in lines(pipeline, batch)] == statuses
    assert (pipeline.used(), pipeline.tickets()) == (limit, [])
    assert len(pipeline.recognized) == (8 if name == "put" and not after else 4)


@pytest.mark.parametrize("limit", [4, 5])
def test_runs_of_a_child_do_not_take_the_last_units_from_each_other(pipeline: Pipeline, limit: int) -> None:
    """One has all that are left or needed, and stands still or dies: the other pays with these."""
    pipeline.create_key("sandbox", limits={Api.PLATE: limit})
    images = [pipeline.put("car.jpg")] * 4
    batch = submit(pipeline, images)
    worker, child = pipeline.workers[Api.PLATE], a_child(pipeline, batch, images)

    def second(take: Callable[..., Any], *arguments: Any) -> Any:
        with dying(MeterStore, "take", after=True), pytest.raises(Died):
            worker.handle(child, Invocation(300_000))
        return take(*arguments)

    with once(MeterStore, "take", second):
        assert worker.handle(child, Invocation(300_000))["read"] == 4
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_rows_of_which_none_is_read_are_not_counted_at_all(pipeline: Pipeline) -> None:
    pipeline.create_key("sandbox", limits={Api.PLATE: 1})
    batch = submit(pipeline, ["nothing"] * 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeterStore, "take", Mock(side_effect=AssertionError))
        pipeline.drain()
    assert [row["status"] for row in lines(pipeline, batch)] == [400] * 60
    assert (show(pipeline, batch)["state"], pipeline.used()) == ("finished", 0)


def test_a_child_waits_until_few_others_have_units_in_hand(pipeline: Pipeline) -> None:
    """Each write of the key's item pays for all that is in it; what was read meanwhile is not read again."""
    images, batch = begun(pipeline, 5)
    meters = pipeline.deployment.meters
    others = [
        meters.take(KEY_ID, Api.PLATE, 1, f"{tag(pipeline, batch)}-{n}.")
        for n in range(100, 100 + MOST_IN_HAND)
    ]
    for upload in range(MOST_IN_HAND):
        meters.consume_by_id(KEY_ID, Api.PLATE, f"{upload:032x}")
    worker, child = pipeline.workers[Api.PLATE], a_child(pipeline, batch, images)
    for attempt in range(3):
        with pytest.raises(TryLater):
            worker.handle(child | {"attempt": attempt}, Invocation(300_000))
    assert len(pipeline.recognized) == 5
    meters.close(others.pop(), read=0)
    assert worker.handle(child | {"attempt": 3}, Invocation(300_000))["read"] == 5
    assert len(pipeline.recognized) == 5
    # Tickets that nobody closes any more hold nobody up for long.
    others.append(meters.take(KEY_ID, Api.PLATE, 1, f"{tag(pipeline, batch)}-99."))
    more = a_child(pipeline, batch, images)
    for item in more["Items"]:
        item["row"] += 5
    with pytest.raises(TryLater):
        worker.handle(more | {"attempt": PATIENT_ATTEMPTS - 1}, Invocation(300_000))
    assert worker.handle(more | {"attempt": PATIENT_ATTEMPTS}, Invocation(300_000))["read"] == 5
    assert len(pipeline.recognized) == 10
    # One that has units there itself, of a run that died, waits for nobody.
    meters.take(KEY_ID, Api.PLATE, 5, f"{tag(pipeline, batch)}-11.")
    for item in more["Items"]:
        item["row"] += 5
    assert worker.handle(more, Invocation(300_000))["read"] == 5


# -- at least once, and only once ----------------------------------------------------------------------------


def a_list(pipeline: Pipeline, rows: int, every: int = 7) -> list[str]:
    """So many rows, one in ``every`` of which names nothing."""
    photo = pipeline.put("car.jpg")
    return ["nothing" if row % every == 0 else photo for row in range(1, rows + 1)]


def begun(pipeline: Pipeline, rows: int, **limits: Any) -> tuple[list[str], str]:
    """A list of so many rows, and the batch of it, of a key with ``limits``."""
    pipeline.create_key(**limits)
    images = a_list(pipeline, rows)
    return images, submit(pipeline, images)


def check_whole(pipeline: Pipeline, batch: str, images: list[str]) -> None:
    """Each row of the list is in the result once, in its order, and each that was read is charged once."""
    rows = lines(pipeline, batch)
    assert [row["row"] for row in rows] == list(range(1, len(images) + 1))
    assert [row["input"] for row in rows] == images
    assert [row["status"] for row in rows] == [400 if image == "nothing" else 200 for image in images]
    read = sum(image != "nothing" for image in images)
    said = show(pipeline, batch)
    assert (said["state"], said["rows"], said["read"], said["done"]) == (
        "finished",
        len(images),
        read,
        len(images),
    )
    assert pipeline.used() == read
    assert pipeline.tickets() == []
    assert len(table(pipeline, batch)) == len(images)


POINTS = [
    (Outcomes, "get"),
    (Outcomes, "pay"),
    (MeterStore, "granted"),
    (MeterStore, "take"),
    (BatchWorker, "_row"),
    (Outcomes, "put"),
    (Batches, "add"),
    (MeterStore, "close"),
]
"""Where a worker may die over a child: before each of these, or behind it."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), POINTS)
def test_a_worker_that_dies_over_a_child(pipeline: Pipeline, owner: Any, name: str, after: bool) -> None:
    images, batch = begun(pipeline, 12)
    with dying(owner, name, after):
        pipeline.drain()
    check_whole(pipeline, batch, images)


def test_twenty_deaths_lose_double_and_miscount_nothing(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 1200, overage=True)
    chance, deaths = random.Random(17), 0

    def mortal(name: str, real: Any) -> Any:
        def dying(*arguments: Any, **more: Any) -> Any:
            nonlocal deaths
            dies = deaths < 20 and chance.random() < (0.005 if name == "_row" else 0.15)
            deaths += dies
            answer = None if dies and chance.random() < 0.5 else real(*arguments, **more)
            if dies:
                raise Died
            return answer

        return dying

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "read_photo", lambda *_: Photo(PHOTO, ()))
        for owner, name in POINTS:
            patch.setattr(owner, name, mortal(name, getattr(owner, name)))
        pipeline.drain()
    assert deaths == 20
    check_whole(pipeline, batch, images)


def test_a_photo_that_ends_its_worker_each_time_is_a_row_of_the_result(pipeline: Pipeline) -> None:
    pipeline.create_key()
    images = a_list(pipeline, 60)
    images[3] = images[40] = pipeline.put("fatal.jpg", PHOTO + b" fatal")
    batch = submit(pipeline, images)
    row = BatchWorker._row

    def dies(self: BatchWorker, batch: Any, item: Any, *more: Any) -> Any:
        if item.listed.image == images[3]:
            raise Died
        return row(self, batch, item, *more)

    pipeline.patch.setattr(BatchWorker, "_row", dies)
    pipeline.drain()
    expected = {"nothing": 400, images[3]: 500}
    assert [row["status"] for row in lines(pipeline, batch)] == [expected.get(image, 200) for image in images]
    said = show(pipeline, batch)
    assert (said["state"], said["read"], pipeline.used(), pipeline.tickets()) == ("finished", 50, 50, [])


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), [(BatchWorker, "_row"), (Outcomes, "note")])
def test_a_row_over_which_a_worker_dies_once_is_not_blamed(
    pipeline: Pipeline, owner: Any, name: str, after: bool
) -> None:
    images, batch = begun(pipeline, 5)
    worker, child = pipeline.workers[Api.PLATE], a_child(pipeline, batch, images)
    with dying(owner, name, after), pytest.raises(Died):
        worker.handle(child | {"attempt": PATIENT_ATTEMPTS}, Invocation(300_000))
    worker.handle(child | {"attempt": PATIENT_ATTEMPTS + 1}, Invocation(300_000))
    pipeline.drain()
    check_whole(pipeline, batch, images)


@pytest.mark.parametrize("after", [False, True])
def test_whoever_dies_over_an_outcome_again_and_again_blames_no_row(pipeline: Pipeline, after: bool) -> None:
    images, batch = begun(pipeline, 5)
    put, deaths = Outcomes.put, 0

    def dies(*arguments: Any) -> Any:
        nonlocal deaths
        deaths += 1
        if after or deaths > 4:
            stored = put(*arguments)
        if deaths <= 4:
            raise Died
        return stored

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outcomes, "put", dies)
        pipeline.drain()
    check_whole(pipeline, batch, images)


def a_child(pipeline: Pipeline, batch: str, images: list[str], **more: Any) -> dict[str, Any]:
    """What Step Functions invokes a worker with."""
    items = [{"row": row, "input": image} for row, image in enumerate(images, 1)]
    return {
        "Items": items,
        "BatchInput": {"batch": batch, "api": "plate"},
        "attempt": 0,
        **more,
    }


def test_a_child_that_is_run_twice_is_read_once(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 9)
    worker, child = pipeline.workers[Api.PLATE], a_child(pipeline, batch, images)
    first = worker.handle(child, Invocation(300_000))
    assert worker.handle(child, Invocation(300_000)) == first
    assert worker.handle(child | {"attempt": 1}, Invocation(300_000)) == first
    assert len(pipeline.recognized) == pipeline.used() == 8
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_child_that_is_run_twice_at_once_is_charged_once(pipeline: Pipeline) -> None:
    """Both read, on the same units: they are enough, though no more are left."""
    pipeline.create_key("sandbox", limits={Api.PLATE: 9})
    images = a_list(pipeline, 9)
    batch = submit(pipeline, images)
    worker, child = pipeline.workers[Api.PLATE], a_child(pipeline, batch, images)
    answers = []

    def meanwhile(row: Callable[..., Any], *arguments: Any) -> Any:
        answers.append(worker.handle(child | {"attempt": 1}, Invocation(300_000)))
        return row(*arguments)

    with once(BatchWorker, "_row", meanwhile):
        assert worker.handle(child, Invocation(300_000)) == answers[0]
    assert (pipeline.used(), pipeline.tickets()) == (8, [])
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_child_whose_invocation_is_taken_for_lost_counts_once(pipeline: Pipeline) -> None:
    """The first goes on while the same execution tries again."""
    images, batch = begun(pipeline, 9)
    worker, child = pipeline.workers[Api.PLATE], a_child(pipeline, batch, images)

    def meanwhile(put: Callable[..., Any], *arguments: Any) -> Any:
        assert worker.handle(child | {"attempt": 1}, Invocation(300_000))["read"] == 8
        return put(*arguments)

    with once(Outcomes, "put", meanwhile):
        assert worker.handle(child, Invocation(300_000))["read"] == 8
    pipeline.drain()
    check_whole(pipeline, batch, images)


@pytest.mark.parametrize("dies", [False, True])
def test_units_that_are_taken_when_another_run_has_finished_are_given_back(
    pipeline: Pipeline, dies: bool
) -> None:
    """The first has looked for an outcome and stands still until the next has stored and counted its own."""
    pipeline.create_key()
    images = a_list(pipeline, 9)
    batch = submit(pipeline, images)
    worker, child = pipeline.workers[Api.PLATE], a_child(pipeline, batch, images)
    take = MeterStore.take

    def late(*arguments: Any) -> Any:
        patch.undo()
        assert worker.handle(child | {"attempt": 1}, Invocation(300_000))["read"] == 8
        grant = take(*arguments)
        if dies:
            raise Died
        return grant

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeterStore, "take", late)
        with pytest.raises(Died) if dies else nullcontext():
            worker.handle(child, Invocation(300_000))
    if not dies:
        assert (pipeline.used(), pipeline.tickets()) == (8, [])
    pipeline.drain()
    check_whole(pipeline, batch, images)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), [(BatchJobs, "_join"), (Announcer, "announce"), (Batches, "end")])
def test_whoever_dies_over_a_result_has_it_announced_under_one_name(
    pipeline: Pipeline, owner: Any, name: str, after: bool
) -> None:
    pipeline.create_key()
    batch = submit(pipeline, [pipeline.put("car.jpg")])
    announced = deliveries(pipeline)
    real, jobs = getattr(owner, name), BatchJobs._finish
    with pytest.MonkeyPatch.context() as patch:

        def finishes(*arguments: Any) -> Any:
            def dies(*inner: Any, **more: Any) -> None:
                patch.undo()
                if after:
                    real(*inner, **more)
                raise Died

            patch.setattr(owner, name, dies)
            return jobs(*arguments)

        patch.setattr(BatchJobs, "_finish", finishes)
        pipeline.drain()
    said = show(pipeline, batch)
    assert (said["state"], said["read"]) == ("finished", 1)
    assert set(announced) == {batch}
    assert len(announced) <= 2


@pytest.mark.parametrize("stopped", [False, True])
def test_an_end_that_is_told_again_is_not_announced_again(pipeline: Pipeline, stopped: bool) -> None:
    """As EventBridge may do, and Step Functions where an answer is lost."""
    _, batch = begun(pipeline, 5)
    announced = deliveries(pipeline)
    if stopped:
        ask(pipeline, "DELETE", f"/v1/batches/{batch}")
    pipeline.drain()
    ended = show(pipeline, batch)
    jobs = BatchJobs(pipeline.deployment)
    for told in (
        {"detail": {"name": batch, "status": "ABORTED", "redriveCount": 0}},
        {"finish": batch, "redrives": 0, "manifest": ""},
    ):
        assert jobs.handle(told, Invocation())["state"] == ended["state"]
    again = show(pipeline, batch)
    for name in ("state", "rows", "read", "failed", "finished"):
        assert again[name] == ended[name]
    assert announced == [batch]


def deliveries(pipeline: Pipeline) -> list[str]:
    """The deliveries of batches that are announced from now on."""
    announced: list[str] = []
    announce = Announcer.announce

    def announces(self: Announcer, kind: str, key: str, delivery: str, detail: Any) -> None:
        announce(self, kind, key, delivery, detail)
        announced.append(delivery)

    pipeline.patch.setattr(Announcer, "announce", announces)
    return announced


# -- stopped, failed, redriven -------------------------------------------------------------------------------


def test_a_stopped_batch_keeps_what_it_has_read_and_can_be_redriven(pipeline: Pipeline) -> None:
    pipeline.create_key()
    images = a_list(pipeline, 130)
    batch, announced = submit(pipeline, images), deliveries(pipeline)
    read = BatchWorker.read
    children = 0

    def stops(*arguments: Any) -> Any:
        nonlocal children
        children += 1
        answer = read(*arguments)
        if children == 2:
            status, said = ask(pipeline, "DELETE", f"/v1/batches/{batch}")
            assert (status, said["state"]) == (200, "cancelled")
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchWorker, "read", stops)
        pipeline.drain()
    said = show(pipeline, batch)
    assert (said["state"], said["rows"], said["done"], said["read"]) == ("cancelled", 130, 100, 86)
    assert [row["row"] for row in lines(pipeline, batch)] == list(range(1, 101))
    assert pipeline.used() == len(pipeline.recognized) == 86
    assert ask(pipeline, "DELETE", f"/v1/batches/{batch}")[0] == 200

    status, said = ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")
    assert (status, said["state"], said["results"]) == (200, "running", None)
    assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive") == (200, said | {"request_id": ANY})
    pipeline.drain()
    check_whole(pipeline, batch, images)
    assert len(pipeline.recognized) == pipeline.used()
    assert announced == [batch, f"{batch}-1"]
    assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[1]["code"] == "invalid_request"


def test_a_batch_that_is_stopped_while_its_failure_is_noted_can_be_redriven(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 5)

    def crosses(change: Callable[..., Any], batches: Batches, known: Any, **fields: Any) -> Any:
        change(batches, known, state="cancelled")
        return change(batches, known, **fields)

    with failing(pipeline, batch, row=1), once(Batches, "change", crosses):
        pipeline.drain()
    said = show(pipeline, batch)
    assert (said["state"], said["done"], pipeline.tickets()) == ("failed", 0, [])
    assert said["finished"] and said["results"]
    assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 200
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_batch_that_is_stopped_from_the_console_says_so_at_once(pipeline: Pipeline) -> None:
    _, batch = begun(pipeline, 60)
    execution = f"{MACHINE_ARN.replace(':stateMachine:', ':execution:')}:{batch}"

    def stopped(read: Callable[..., Any], *arguments: Any) -> Any:
        pipeline.states.stop_execution(executionArn=execution)
        said = show(pipeline, batch)
        assert (said["state"], said["results"]) == ("cancelled", None)
        return read(*arguments)

    with once(BatchWorker, "read", stopped):
        pipeline.drain()
    said = show(pipeline, batch)
    assert (said["state"], said["done"], pipeline.used()) == ("cancelled", 50, 43)
    assert said["results"]


@pytest.mark.parametrize("redriven", [False, True])
def test_rows_that_are_being_read_when_a_batch_is_stopped_cost_nothing(
    pipeline: Pipeline, redriven: bool
) -> None:
    """When it runs again by then, they are counted like any others, and not read again."""
    images, batch = begun(pipeline, 5)
    rows = BatchWorker._rows

    def stopped(*arguments: Any) -> Any:
        answer = rows(*arguments)
        ask(pipeline, "DELETE", f"/v1/batches/{batch}")
        assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 400  # not joined yet
        pipeline.drain()
        if redriven:
            assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 200
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchWorker, "_rows", stopped)
        with nullcontext() if redriven else pytest.raises(TryLater):
            pipeline.workers[Api.PLATE].handle(a_child(pipeline, batch, images), Invocation(300_000))
    if redriven:
        assert (pipeline.used(), pipeline.tickets(), len(pipeline.recognized)) == (5, [], 5)
    else:
        said = show(pipeline, batch)
        assert (said["state"], said["done"], pipeline.used(), pipeline.tickets()) == ("cancelled", 0, 0, [])
        assert lines(pipeline, batch) == []
        ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")
    pipeline.drain()
    check_whole(pipeline, batch, images)
    assert len(pipeline.recognized) == 5


@pytest.mark.parametrize("redriven", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), [(BatchWorker, "_running"), *POINTS])
def test_a_batch_that_ends_while_a_child_stands_still(
    pipeline: Pipeline, owner: Any, name: str, after: bool, redriven: bool
) -> None:
    """However long a child takes over a step: what it stores is charged, what is charged is in the result."""
    images, batch = begun(pipeline, 5)

    def ends(step: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        answer = step(*arguments, **more) if after else None
        ask(pipeline, "DELETE", f"/v1/batches/{batch}")
        pipeline.drain()
        check_ended(pipeline, batch)
        if redriven:
            assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 200
        return answer if after else step(*arguments, **more)

    with once(owner, name, ends), suppress(TryLater):
        pipeline.workers[Api.PLATE].handle(a_child(pipeline, batch, images), Invocation(300_000))
    if not redriven:
        check_ended(pipeline, batch)
        ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_whoever_settles_while_a_child_is_counted_pays_with_its_units(pipeline: Pipeline) -> None:
    """As an end does that is told twice, when the batch has been redriven by then."""
    images, batch = begun(pipeline, 5)
    outcomes, known = Outcomes(pipeline.deployment), Batches(pipeline.deployment).get(batch)
    assert known is not None

    def settled(take: Callable[..., Any], *arguments: Any) -> Any:
        grant = take(*arguments)
        outcomes.settle(known)
        return grant

    with once(MeterStore, "take", settled):
        child = a_child(pipeline, batch, images)
        assert pipeline.workers[Api.PLATE].handle(child, Invocation(300_000))["read"] == 5
    assert (pipeline.used(), pipeline.tickets()) == (5, [])
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_what_a_run_leaves_that_dies_after_the_end_is_closed_when_that_is_told_again(
    pipeline: Pipeline,
) -> None:
    images, batch = begun(pipeline, 5)

    def late(take: Callable[..., Any], *arguments: Any) -> None:
        ask(pipeline, "DELETE", f"/v1/batches/{batch}")
        pipeline.drain()
        take(*arguments)
        raise Died

    with once(MeterStore, "take", late), pytest.raises(Died):
        pipeline.workers[Api.PLATE].handle(a_child(pipeline, batch, images), Invocation(300_000))
    assert (pipeline.used(), len(pipeline.tickets())) == (10, 1)
    again = {"detail": {"name": batch, "status": "ABORTED", "redriveCount": 0}}
    BatchJobs(pipeline.deployment).handle(again, Invocation())
    check_ended(pipeline, batch)
    assert pipeline.used() == 5


@pytest.mark.parametrize("dies", [False, True])
def test_an_end_that_is_told_twice_at_once_misses_nothing_that_either_has_paid(
    pipeline: Pipeline, dies: bool
) -> None:
    """The first has joined when a child is stored; the second finds that, pays it, and may die over it."""
    images, batch = begun(pipeline, 5)
    jobs = BatchJobs(pipeline.deployment)
    told = {"detail": {"name": batch, "status": "ABORTED", "redriveCount": 0}}

    def stored_late(put: Callable[..., Any], *arguments: Any) -> Any:
        def told_again(end: Callable[..., Any], *ended: Any, **fields: Any) -> Any:
            put(*arguments)
            with dying(Outcomes, "pay", after=True) if dies else nullcontext(), suppress(Died):
                jobs.handle(told, Invocation())
            return end(*ended, **fields)

        ask(pipeline, "DELETE", f"/v1/batches/{batch}")
        with once(Batches, "end", told_again):
            pipeline.drain()
        return put(*arguments)

    with once(Outcomes, "put", stored_late), suppress(TryLater):
        pipeline.workers[Api.PLATE].handle(a_child(pipeline, batch, images), Invocation(300_000))
    check_ended(pipeline, batch)
    assert (len(lines(pipeline, batch)), pipeline.used()) == (5, 5)
    ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_whoever_is_slow_over_a_result_does_not_write_over_a_later_one(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 5)
    jobs = BatchJobs(pipeline.deployment)
    told = {"detail": {"name": batch, "status": "ABORTED", "redriveCount": 0}}

    def slow(*arguments: Any) -> None:
        patch.undo()
        write_tables(*arguments)
        jobs.handle(told, Invocation())
        ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")
        pipeline.states.drain()
        check_whole(pipeline, batch, images)

    ask(pipeline, "DELETE", f"/v1/batches/{batch}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("carsight_service.queue.results.write_tables", slow)
        with pytest.raises(ClientError, match="PreconditionFailed"):
            jobs.handle(told, Invocation())
    check_whole(pipeline, batch, images)
    assert pipeline.result(f"batches/{batch}/manifest.json")["read"] == 5


def check_ended(pipeline: Pipeline, batch: str) -> None:
    """Of a batch that was stopped, the result is what has been paid, row by row, and nothing else is charged.

    What was stored later may stay there unpaid, for a redrive: nobody is given it.
    """
    said, rows = show(pipeline, batch), lines(pipeline, batch)
    read = sum(row["status"] == 200 for row in rows)
    assert (said["state"], said["read"], pipeline.used(), pipeline.tickets()) == ("cancelled", read, read, [])
    outcomes = Outcomes(pipeline.deployment)
    listed = pipeline.s3.list_objects_v2(Bucket=pipeline.results, Prefix=f"parts/{batch}/")
    stored = [outcomes.get(item["Key"]) for item in listed.get("Contents", ())]
    paid = [outcome for outcome in stored if outcome and outcome.is_paid]
    assert [json.loads(line) for outcome in paid for line in outcome.lines.splitlines()] == rows


def check_stopped_and_redriven(pipeline: Pipeline, batch: str) -> None:
    """Stop a batch, and redrive it to its end, unless it has come there: redriven while its end was told."""
    if show(pipeline, batch)["state"] != "finished":
        ask(pipeline, "DELETE", f"/v1/batches/{batch}")
        pipeline.drain()
        check_ended(pipeline, batch)
        ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")
        pipeline.drain()


@pytest.mark.parametrize("after", [False, True])
def test_a_batch_that_is_stopped_while_its_list_is_checked_can_be_redriven(
    listing: Pipeline, after: bool
) -> None:
    images = a_list(listing, 60)
    address = put_list(listing, "list.csv", "\n".join(["image", *images]).encode())
    batch = send(listing, address)[1]["id"]

    def stopped(check: Callable[..., Any], *arguments: Any) -> Any:
        answer = check(*arguments) if after else None
        assert ask(listing, "DELETE", f"/v1/batches/{batch}")[1]["state"] == "cancelled"
        return answer or check(*arguments)

    with once(BatchJobs, "check", stopped):
        listing.drain()
    said = show(listing, batch)
    assert (said["state"], said["done"], lines(listing, batch), listing.used()) == ("cancelled", 0, [], 0)
    assert ask(listing, "POST", f"/v1/batches/{batch}/redrive")[0] == 200
    listing.drain()
    check_whole(listing, batch, images)


@pytest.mark.parametrize("step", [(BatchJobs, "_join"), (Batches, "end")])
def test_a_batch_that_is_stopped_while_its_results_are_joined_ends_and_can_be_redriven(
    pipeline: Pipeline, step: tuple[Any, str]
) -> None:
    images, batch = begun(pipeline, 5)

    def stopped(real: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        assert ask(pipeline, "DELETE", f"/v1/batches/{batch}")[0] == 200
        return real(*arguments, **more)

    with once(*step, stopped):
        pipeline.drain()
    check_ended(pipeline, batch)
    assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 200
    pipeline.drain()
    check_whole(pipeline, batch, images)


@pytest.mark.parametrize(
    ("step", "state"),
    [
        ((BatchJobs, "_join"), "cancelled"),
        ((Batches, "end"), "cancelled"),
        ((Announcer, "announce"), "finished"),
    ],
)
@pytest.mark.parametrize("dies", [False, True])
def test_a_batch_that_is_stopped_while_its_results_are_joined_is_announced_as_what_it_is(
    pipeline: Pipeline, step: tuple[Any, str], state: str, dies: bool
) -> None:
    """Whoever heard of a finished one before would take a cancelled one for the same delivery."""
    _, batch = begun(pipeline, 5)
    announced: list[tuple[str, str]] = []

    def announces(_: Announcer, kind: str, key: str, delivery: str, detail: Any) -> None:
        announced.append((delivery, detail["state"]))

    def stopped(real: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        ask(pipeline, "DELETE", f"/v1/batches/{batch}")
        answer = real(*arguments, **more)
        if dies:
            raise Died
        return answer

    pipeline.patch.setattr(Announcer, "announce", announces)
    with once(*step, stopped):
        pipeline.drain()
    assert show(pipeline, batch)["state"] == state
    assert announced == [(batch, state)] * (2 if dies and state == "finished" else 1)


@pytest.mark.parametrize("redrives", [0, 1])
def test_an_end_that_cannot_be_announced_is_told_again_until_it_is(pipeline: Pipeline, redrives: int) -> None:
    """Its results are there, and it cannot be redriven but from the console: it is this end that is told."""
    _, batch = begun(pipeline, 5)
    announced = deliveries(pipeline)
    ask(pipeline, "DELETE", f"/v1/batches/{batch}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Announcer, "announce", Mock(side_effect=StoreUnavailable("the bus")))
        with pytest.MonkeyPatch.context() as quiet:
            quiet.setattr("sys.excepthook", Mock())
            pipeline.drain()
    assert (show(pipeline, batch)["state"], lines(pipeline, batch), announced) == ("cancelled", [], [])
    assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 400
    told = {"detail": {"name": batch, "status": "ABORTED", "redriveCount": redrives}}
    for _ in range(2):
        BatchJobs(pipeline.deployment).handle(told, Invocation())
    assert announced == [batch]
    assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 200


def crossed_by(something: Callable[[], None], real: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``real`` with ``something`` happening before it and behind it."""

    def step(*arguments: Any, **more: Any) -> Any:
        something()
        answer = real(*arguments, **more)
        something()
        return answer

    return step


def test_stops_redrives_and_deaths_in_any_order(pipeline: Pipeline) -> None:
    """A child's workers stand still or die while others of the same child run and its batch ends."""
    images, batch = begun(pipeline, 8, overage=True)
    chance, worker = random.Random(17), pipeline.workers[Api.PLATE]
    events: list[str] = []
    within: list[str] = []

    def run() -> None:
        with suppress(TryLater, Died):
            worker.handle(a_child(pipeline, batch, images, attempt=len(events) % 3), Invocation(300_000))

    def end() -> None:
        ask(pipeline, "DELETE", f"/v1/batches/{batch}")
        pipeline.drain()

    def redrive() -> None:
        ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")

    def die() -> None:
        if "end" not in within:
            raise Died

    happen = [run, run, end, redrive, die]

    def something() -> None:
        if len(within) < 3 and len(events) < 60 and chance.random() < 0.3:
            event = chance.choice(happen)
            events.append(event.__name__)
            within.append(event.__name__)
            try:
                event()
            finally:
                within.pop()

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in POINTS:
            patch.setattr(owner, name, crossed_by(something, getattr(owner, name)))
        while len(events) < 60 and show(pipeline, batch)["state"] != "finished":
            run()
            redrive()
    check_stopped_and_redriven(pipeline, batch)
    check_whole(pipeline, batch, images)
    assert set(events) == {event.__name__ for event in happen}


def tell_end(pipeline: Pipeline, batch: str) -> None:
    """Tell of the end of an execution, if it has not succeeded, as EventBridge may once more."""
    arn = f"{MACHINE_ARN.replace(':stateMachine:', ':execution:')}:{batch}"
    execution = pipeline.states.describe_execution(executionArn=arn)
    if execution["status"] in ENDS:
        detail = {name: execution[name] for name in ("status", "redriveCount")}
        with suppress(TryLater, Refused, ClientError):
            BatchJobs(pipeline.deployment).handle({"detail": {"name": batch, **detail}}, Invocation())


def test_whatever_crosses_an_end_each_is_announced_as_one_thing(pipeline: Pipeline) -> None:
    """Ends are told again, batches stopped and redriven, and workers die, while results are joined."""
    pipeline.create_key()
    images, chance = a_list(pipeline, 5), random.Random(5)
    crossed: list[str] = []
    batches: list[str] = []
    announced: dict[str, set[str]] = {}

    def stop() -> None:
        ask(pipeline, "DELETE", f"/v1/batches/{batches[-1]}")

    def redrive() -> None:
        ask(pipeline, "POST", f"/v1/batches/{batches[-1]}/redrive")

    def tell() -> None:
        tell_end(pipeline, batches[-1])

    def die() -> None:
        raise Died

    def something() -> None:
        if chance.random() < 0.25:
            event = chance.choice([stop, tell, redrive, die])
            crossed.append(event.__name__)
            event()

    def announces(_: Announcer, kind: str, key: str, delivery: str, detail: Any) -> None:
        announced.setdefault(delivery, set()).add(json.dumps(detail))

    for _ in range(8):
        batches.append(submit(pipeline, images))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Announcer, "announce", crossed_by(something, announces))
            for owner, name in ((BatchJobs, "_join"), (Batches, "end")):
                patch.setattr(owner, name, crossed_by(something, getattr(owner, name)))
            for event in (pipeline.drain, tell, redrive, pipeline.drain):
                with suppress(Died):
                    event()
        pipeline.patch.setattr(Announcer, "announce", announces)
        for event in (pipeline.drain, tell, redrive, pipeline.drain):
            event()
        said = show(pipeline, batches[-1])
        assert (said["state"], len(lines(pipeline, batches[-1])), said["done"]) == ("finished", 5, 5)
    assert pipeline.tickets() == []
    assert {len(details) for details in announced.values()} == {1}
    assert set(crossed) == {"stop", "tell", "redrive", "die"}


@pytest.mark.parametrize("leaves", [(Outcomes, "put"), (MeterStore, "take"), (MeterStore, "close")])
def test_a_batch_whose_machine_is_gone_is_stopped_when_another_starts(
    pipeline: Pipeline, leaves: tuple[Any, str]
) -> None:
    """As under ``make run``, which keeps no executions: what has been read is counted, and in the result."""
    images, batch = begun(pipeline, 60)
    child, worker = a_child(pipeline, batch, images[:50]), pipeline.workers[Api.PLATE]
    with dying(*leaves, after=True), suppress(Died):
        worker.handle(child, Invocation(300_000))
    pipeline.machine().end_what_was_interrupted(pipeline.table)
    said = show(pipeline, batch)
    assert (said["state"], said["done"], pipeline.used(), pipeline.tickets()) == ("cancelled", 50, 43, [])
    assert len(lines(pipeline, batch)) == 50


def list_ended(pipeline: Pipeline, ago: timedelta) -> None:
    """Have Step Functions list what has ended, so long ago; no page is full, and the first is empty."""

    def listed(**asked: Any) -> Any:
        found = [one for one in pipeline.states._executions.values() if one.status == asked["statusFilter"]]
        stopped = pipeline.deployment.clock() - ago
        at = int(asked.get("nextToken", 0))
        return {
            "executions": [
                {"name": one.name, "redriveCount": one.redrives, "stopDate": stopped}
                for one in found[at - 1 : at]
            ]
        } | ({"nextToken": str(at + 1)} if at < len(found) else {})

    have_listed(pipeline, listed)


def untold(pipeline: Pipeline) -> list[str]:
    """Two batches that were stopped, and one that failed, of which nobody was told."""
    pipeline.create_key()
    batches = [submit(pipeline, a_list(pipeline, 60)) for _ in range(3)]
    for batch in batches[:2]:
        assert ask(pipeline, "DELETE", f"/v1/batches/{batch}")[0] == 200
    with pytest.MonkeyPatch.context() as patch, failing(pipeline, batches[2], row=1):
        patch.setattr(pipeline.states, "_ended", lambda event: None)
        pipeline.drain()
    assert not any(show(pipeline, batch)["finished"] for batch in batches)
    return batches


def test_an_end_that_nobody_is_told_of_is_found(pipeline: Pipeline) -> None:
    """EventBridge delivers Step Functions' events at its best effort."""
    batches, announced = untold(pipeline), deliveries(pipeline)
    jobs = BatchJobs(pipeline.deployment)
    for ago in (timedelta(minutes=50), timedelta(days=3)):  # it may be told yet; and what is long over
        list_ended(pipeline, ago)
        jobs.handle({"sweep": True}, Invocation())
    assert announced == []
    list_ended(pipeline, timedelta(hours=2))
    for _ in range(2):
        jobs.handle({"sweep": True}, Invocation())
    said = [show(pipeline, batch) for batch in batches]
    assert [one["state"] for one in said] == ["cancelled", "cancelled", "failed"]
    assert [one["done"] for one in said] == [0, 0, 10]
    assert all(one["finished"] and one["results"] for one in said)
    assert sorted(announced) == sorted(batches)
    assert (pipeline.used(), pipeline.tickets()) == (said[2]["read"], [])
    ask(pipeline, "POST", f"/v1/batches/{batches[2]}/redrive")
    jobs.handle({"sweep": True}, Invocation())  # not this one, which runs again
    pipeline.drain()
    assert show(pipeline, batches[2])["state"] == "finished"


def test_an_end_that_cannot_be_dealt_with_keeps_none_from_being_found(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    first, *others = untold(pipeline)
    list_ended(pipeline, timedelta(hours=2))
    real = BatchJobs.finish

    def finish(self: BatchJobs, batch: str, *known: Any) -> Any:
        if batch == first:
            raise StoreUnavailable("busy")
        return real(self, batch, *known)

    pipeline.patch.setattr(BatchJobs, "finish", finish)
    with pytest.raises(StoreUnavailable):  # for the alarm
        BatchJobs(pipeline.deployment).handle({"sweep": True}, Invocation())
    assert all(show(pipeline, batch)["finished"] for batch in others)
    (said,) = (vars(record) for record in caplog.records if record.levelname == "ERROR")
    assert said["batch"] == first


def test_an_end_that_ends_whoever_deals_with_it_keeps_none_from_being_found(pipeline: Pipeline) -> None:
    """One whose results take longer to join than a function may run, say."""
    *others, worst = untold(pipeline)  # a failed one, which are listed first
    list_ended(pipeline, timedelta(hours=2))
    real = BatchJobs.finish

    def finish(self: BatchJobs, batch: str, *known: Any) -> Any:
        if batch == worst:
            raise Died
        return real(self, batch, *known)

    pipeline.patch.setattr(BatchJobs, "finish", finish)
    for _ in range(100):
        with pytest.raises(Died):
            BatchJobs(pipeline.deployment).handle({"sweep": True}, Invocation())
    assert all(show(pipeline, batch)["finished"] for batch in others)


def test_a_child_that_fails_for_good(pipeline: Pipeline) -> None:
    """One of two is too many: its batch has failed, keeps what the other has read, and can be redriven."""
    pipeline.create_key()
    images = ["nothing"] * 5 + [pipeline.put("car.jpg")] * 55
    batch = submit(pipeline, images)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    said = show(pipeline, batch)
    assert (said["state"], said["rows"], said["done"], said["read"]) == ("failed", 60, 10, 10)
    assert [row["row"] for row in lines(pipeline, batch)] == list(range(51, 61))
    assert (pipeline.used(), pipeline.tickets(), len(pipeline.recognized)) == (10, [], 10)
    ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")
    pipeline.drain()
    check_whole(pipeline, batch, images)
    assert len(pipeline.recognized) == 55


@contextmanager
def failing(pipeline: Pipeline, batch: str, row: int) -> Iterator[None]:
    """Every run of the child whose first row is ``row`` dies."""
    read = BatchWorker.read

    def dies(self: BatchWorker, event: Any, deadline: float) -> Any:
        if event["Items"][0]["row"] == row:
            raise Died
        return read(self, event, deadline)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchWorker, "read", dies)
        yield


def test_a_store_that_stops_is_waited_for(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 5)
    refusals = 0
    real = pipeline.dynamodb.update_item

    def refused(**arguments: Any) -> Any:
        nonlocal refusals
        refusals += 1
        if refusals < 4:
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "UpdateItem")
        return real(**arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.dynamodb, "update_item", refused)
        pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_row_whose_store_does_not_answer_ends_as_it_is(pipeline: Pipeline) -> None:
    pipeline.create_key()
    photo, broken = pipeline.put("car.jpg"), pipeline.put("broken.jpg")
    batch = submit(pipeline, [photo, broken, photo])
    read_photo = Storage.read_photo
    tries = 0

    def fails(self: Storage, bucket: str, key: str, *more: Any) -> Any:
        nonlocal tries
        if key == broken:
            tries += 1
            raise StoreUnavailable("object not readable: SlowDown")
        return read_photo(self, bucket, key, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "read_photo", fails)
        pipeline.drain()
    assert [row["status"] for row in lines(pipeline, batch)] == [200, 503, 200]
    assert (tries, pipeline.used(), pipeline.tickets()) == (5, 2, [])


def test_an_object_that_is_waited_for_in_vain_is_tried_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.create_key()
    photo, slow = pipeline.put("car.jpg"), pipeline.put("slow.jpg")
    batch = submit(pipeline, [photo, slow, photo])
    monkeypatch.setattr("carsight_service.queue.batches.SECONDS_A_ROW", 0.2)
    read_photo = Storage.read_photo
    hanging, tries = threading.Event(), 0

    def hangs(self: Storage, bucket: str, key: str, *more: Any) -> Any:
        nonlocal tries
        if key == slow and (tries := tries + 1) < 3:
            hanging.wait(20)
        return read_photo(self, bucket, key, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "read_photo", hangs)
        pipeline.drain()
    hanging.set()
    assert [row["status"] for row in lines(pipeline, batch)] == [200, 200, 200]
    assert (tries, pipeline.used(), pipeline.tickets()) == (3, 3, [])


def test_rows_that_there_is_no_time_for_are_rows_of_the_result(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty photos that take longer than a child has."""
    pipeline.create_key()
    batch = submit(pipeline, [pipeline.put("car.jpg")] * 6)
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 30.0 * next(ticks))
    monkeypatch.setattr("carsight_service.queue.batches.time", clock)
    attempts = []
    read = BatchWorker.read

    def reads(self: BatchWorker, event: Any, deadline: float) -> Any:
        nonlocal ticks
        ticks = itertools.count()
        attempts.append(event["attempt"])
        return read(self, event, 1e9)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchWorker, "read", reads)
        pipeline.drain()
    assert attempts == [0]
    assert [row["status"] for row in lines(pipeline, batch)] == [200] * 3 + [504] * 3
    assert (pipeline.used(), pipeline.tickets()) == (3, [])


# -- lists that lie elsewhere --------------------------------------------------------------------------------


def put_list(pipeline: Pipeline, name: str, body: bytes) -> str:
    """A list in a bucket that the deployment lists; answers with its address."""
    pipeline.s3.put_object(Bucket=UPLOADS, Key=name, Body=body)
    return f"s3://{UPLOADS}/{name}"


def send(pipeline: Pipeline, address: str, **more: Any) -> Any:
    return ask(pipeline, "POST", "/v1/batches", json.dumps({"api": "plate", "list": address, **more}))


@pytest.fixture
def listing(pipeline: Pipeline) -> Pipeline:
    """A pipeline that may read lists, and photos, of its uploads bucket."""
    pipeline.create_key()
    pipeline.deployment = pipeline.deploy(allowed_buckets=frozenset({UPLOADS}))
    pipeline.workers = {api: pipeline.worker(api, pipeline.deployment) for api in Api}
    pipeline.states = pipeline.machine()
    return pipeline


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_a_list_in_a_bucket(listing: Pipeline, name: str) -> None:
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
def test_a_list_that_is_compressed(listing: Pipeline, name: str) -> None:
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


def test_a_list_in_parquet(listing: Pipeline) -> None:
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

    with once(BatchWorker, "read", read):
        listing.drain()
    assert counted == [3]
    assert [(row["row"], row.get("id"), row["status"]) for row in lines(listing, said["id"])] == [
        (1, "A1", 200),
        (2, None, 200),
        (3, "C3", 400),
    ]
    assert listing.regions == [("us-ca", "gb"), ()]


def test_a_parquet_with_columns_of_other_kinds(listing: Pipeline) -> None:
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


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (a_parquet(image_url=["a.jpg"])[:-20] + b"PAR1", "The list is not Parquet, or broken"),
        (b"PAR1 and its end is missing", "The list is not Parquet, or broken"),
        (b"", "The list is not Parquet, or broken"),
        (a_parquet(image_url=["a.jpg"]).replace(b"a.jpg", b"\xff.jpg"), "The list is not Parquet, or broken"),
        (a_parquet(image_url=["a.jpg", None]), "Row 2 must be a URL"),
        (a_parquet(image_url=["a.jpg"], id=["x" * 201]), "Row 1: id must be text"),
        (a_parquet(name=["a.jpg"]), "Row 1 must be a URL"),
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

    with once(BatchJobs, "_body", lost):
        listing.drain()
    assert show(listing, said["id"])["state"] == "finished"


def test_every_object_under_a_prefix(listing: Pipeline) -> None:
    for number in range(3):
        listing.s3.put_object(Bucket=UPLOADS, Key=f"fleet/{number} ü.jpg", Body=PHOTO)
    listing.s3.put_object(Bucket=UPLOADS, Key="fleeting.jpg", Body=PHOTO)
    status, said = send(listing, f"s3://{UPLOADS}/fleet/")
    assert (status, said["rows"]) == (200, None)
    listing.drain()
    assert [(row["input"], row["status"]) for row in lines(listing, said["id"])] == [
        (f"s3://{UPLOADS}/fleet/{n} ü.jpg", 200) for n in range(3)
    ]


def test_uploads_are_listed_and_read_for_their_own_account_alone(listing: Pipeline) -> None:
    own = listing.put("car.jpg").rpartition("/")[0]
    theirs = f"incoming/{'0' * 64}/plate"
    listing.s3.put_object(Bucket=UPLOADS, Key=f"{theirs}/car.jpg", Body=PHOTO)
    listing.s3.put_object(Bucket=UPLOADS, Key=f"{theirs}/list.csv", Body=b"url\nhttps://example.com/a.jpg")
    for prefix in ("", "incoming/", f"{theirs}/", f"{theirs}/list.csv"):
        status, said = send(listing, f"s3://{UPLOADS}/{prefix}")
        assert (status, said["code"]) == (400, "invalid_request"), prefix
        assert "its own account's" in said["message"]
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
    ("list.csv", b'url\n"a.jpg', "Not valid CSV"),
    ("list.jsonl", b"\xff", "UTF-8"),
    ("list.xlsx", b"PK", "end in .jsonl"),
)
NO_LISTS = (
    (f"s3://{UPLOADS}/nowhere.csv", "not there"),
    (f"s3://{UPLOADS}/nowhere/", "no object"),
    ("s3://theirs/list.csv", "not among those"),
    ("https://example.com/list.csv", "list must be"),
    (f"lists/{'0' * 32}.csv", "not there"),
    (f"lists/{'0' * 32}.parquet", "not there"),
    ("lists/../list.csv", "list must be"),
)


def test_a_list_that_is_refused_at_once(listing: Pipeline) -> None:
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
    assert ask(listing, "POST", f"/v1/batches/{said['id']}/redrive")[1]["code"] == "invalid_request"


@pytest.mark.parametrize(("last", "rows", "said"), [('"a.jpg"', 3, None), ("{}", None, "Row 3 must be")])
def test_a_batch_that_is_changed_while_its_list_is_checked_has_what_that_has_found(
    listing: Pipeline, last: str, rows: int | None, said: str | None
) -> None:
    """As by whoever notes a redrive."""
    body = '"a.jpg"\n' * 2 + last
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("carsight_service.http.batches._ROWS_LOOKED_AT", 1)
        _, sent = send(listing, put_list(listing, "list.jsonl", body.encode()))
    known: list[Any] = []

    def meanwhile(change: Callable[..., Any], batches: Batches, batch: Any, **fields: Any) -> Any:
        change(batches, batch)
        return change(batches, batch, **fields)

    def looked_at(finish: Callable[..., Any], *arguments: Any) -> Any:
        known.append(show(listing, sent["id"]))
        return finish(*arguments)

    with once(Batches, "change", meanwhile), once(BatchJobs, "finish", looked_at):
        listing.drain()
    assert known[0]["rows"] == rows
    assert (known[0]["detail"] or "").startswith(said or "")
    assert show(listing, sent["id"])["state"] == ("failed" if said else "finished")


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
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "GetItem")

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


def test_a_batch_that_cannot_be_begun_is_none(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.create_key()

    def refused(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "StartExecution")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.states, "start_execution", refused)
        status, said = ask(pipeline, "POST", "/v1/batches", json.dumps({"api": "plate", "images": ["a"]}))
    assert (status, said["code"]) == (503, "key_store_unavailable")
    pipeline.drain()
    assert (pipeline.used(), pipeline.recognized) == (0, [])


def test_a_list_that_may_not_be_seen_is_told_as_one_that_is_not_there(listing: Pipeline) -> None:
    """S3 denies access to a key that is missing, where keys may not be listed."""
    denied: Any = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    listing.patch.setattr(
        listing.clients.s3, "get_object", Mock(side_effect=ClientError(denied, "GetObject"))
    )
    _, said = send(listing, f"lists/{'0' * 32}.csv")
    assert said["message"].endswith("cannot be read: it is not there, or may not be read")


# -- asked for twice -----------------------------------------------------------------------------------------


def ask_once(pipeline: Pipeline, body: dict[str, Any], token: str = "t") -> tuple[int, Any, bool]:
    """One request with an ``Idempotency-Key``; the last says whether its answer is called a repetition."""
    headers = {"x-api-key": KEY, "idempotency-key": token}
    sent = event(json.dumps(body), "application/json", path="/v1/batches", headers=headers)
    answer = AccountEndpoint(pipeline.deployment).handle(sent, Invocation())
    return answer["statusCode"], json.loads(answer["body"]), "idempotent-replayed" in answer["headers"]


def test_a_batch_that_is_asked_for_again_is_begun_once(pipeline: Pipeline) -> None:
    pipeline.create_key()
    asked = {"api": "plate", "images": [pipeline.put("car.jpg")] * 3}
    status, first, replayed = ask_once(pipeline, asked)
    assert (status, first["state"], replayed) == (200, "running", False)
    assert ask_once(pipeline, asked)[1:] == (first | {"request_id": ANY}, True)
    pipeline.drain()
    status, again, replayed = ask_once(pipeline, asked)
    assert (status, again["id"], again["state"], again["read"], replayed) == (
        *(200, first["id"], "finished", 3, True),
    )
    pipeline.drain()
    assert (pipeline.used(), len(pipeline.recognized)) == (3, 3)
    status, other, replayed = ask_once(pipeline, asked, "u")
    assert (status, replayed) == (200, False)
    assert other["id"] != first["id"]
    status, refused, _ = ask_once(pipeline, asked | {"regions": ["de"]})
    assert (status, refused["code"]) == (422, "idempotency_key_reused")
    key, _ = pipeline.keyring.create(owner="other@example.com", tier="pro")
    sent = event(json.dumps(asked), path="/v1/batches", headers={"x-api-key": key, "idempotency-key": "t"})
    assert pipeline.ask(sent)[1]["id"] not in (first["id"], other["id"])


@pytest.mark.parametrize("dies", ["put_item", "start_execution"])
@pytest.mark.parametrize("after", [False, True])
def test_a_batch_whose_function_dies_is_begun_by_the_next_request(
    pipeline: Pipeline, dies: str, after: bool
) -> None:
    pipeline.create_key()
    asked = {"api": "plate", "images": [pipeline.put("car.jpg")] * 3}
    owner = pipeline.dynamodb if dies == "put_item" else pipeline.states
    real = getattr(owner, dies)

    def died(**arguments: Any) -> None:
        patch.undo()
        if after:
            real(**arguments)
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, dies, died)
        with pytest.raises(Died):
            ask_once(pipeline, asked)
    status, said, replayed = ask_once(pipeline, asked)
    assert (status, replayed) == (200, after or dies == "start_execution")
    pipeline.drain()
    assert (show(pipeline, said["id"])["read"], pipeline.used()) == (3, 3)


def test_requests_for_one_batch_at_once(pipeline: Pipeline) -> None:
    """The list of the one that comes late must not take the place of the other's."""
    pipeline.create_key()
    photo = pipeline.put("car.jpg")
    same, other = ({"api": "plate", "images": [photo] * rows} for rows in (3, 5))
    answers = []

    def meanwhile(begin: Callable[..., Any], *arguments: Any) -> Any:
        answers.append(ask_once(pipeline, same))
        return begin(*arguments)

    with once(Executions, "begin", meanwhile):
        answers.append(ask_once(pipeline, same))
    assert [(status, replayed) for status, _, replayed in answers] == [(200, False), (200, True)]
    assert answers[0][1]["id"] == answers[1][1]["id"]
    with once(Executions, "begin", meanwhile):
        assert ask_once(pipeline, other)[0] == 422
    pipeline.drain()
    assert len(lines(pipeline, answers[0][1]["id"])) == pipeline.used() == 3


def test_a_batch_whose_first_request_fails_while_another_has_begun_it_runs(pipeline: Pipeline) -> None:
    pipeline.create_key()
    images = [pipeline.put("car.jpg")] * 3
    asked = {"api": "plate", "images": images}
    throttled = ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "StartExecution")
    answers: list[tuple[int, Any, bool]] = []

    def meanwhile(**_: Any) -> None:
        patch.undo()
        answers.append(ask_once(pipeline, asked))
        raise throttled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.states, "start_execution", meanwhile)
        assert ask_once(pipeline, asked)[0] == 503
    assert answers[0][0] == 200
    pipeline.drain()
    check_whole(pipeline, answers[0][1]["id"], images)


def test_batches_whose_ids_begin_alike_keep_what_they_have_counted(pipeline: Pipeline) -> None:
    """Whoever chooses keys can find two such ids in seconds."""
    pipeline.create_key()
    images = [pipeline.put("car.jpg")] * 3
    digest = "carsight_service.http.batches._digest"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest, lambda text: "0" * 12 + sha256(text.encode()).hexdigest())
        one, other = (ask_once(pipeline, {"api": "plate", "images": images}, token)[1] for token in "tu")
    assert one["id"][:12] == other["id"][:12]
    worker, put = pipeline.workers[Api.PLATE], Outcomes.put

    def meanwhile(*arguments: Any) -> Any:
        patch.setattr(Outcomes, "put", put)
        worker.handle(a_child(pipeline, one["id"], images), Invocation(300_000))
        return put(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outcomes, "put", meanwhile)
        worker.handle(a_child(pipeline, other["id"], images), Invocation(300_000))
    assert (pipeline.used(), pipeline.tickets()) == (6, [])


def test_a_batch_is_known_for_as_long_as_its_execution_s_name_is_taken(pipeline: Pipeline) -> None:
    pipeline.create_key()
    _, said, _ = ask_once(pipeline, {"api": "plate", "images": ["a"]})
    table, key = pipeline.deployment.settings.table_name, {"pk": {"S": f"BATCH#{said['id']}"}}
    item = pipeline.dynamodb.get_item(TableName=table, Key=key | {"sk": {"S": "BATCH"}})["Item"]
    assert int(item["expires"]["N"]) > pipeline.deployment.clock().timestamp() + 100 * 86_400


def test_a_batch_of_before_batches_had_versions_is_read_to_its_end(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 3)
    key: Any = {"pk": {"S": f"BATCH#{batch}"}, "sk": {"S": "BATCH"}}
    pipeline.dynamodb.update_item(TableName=pipeline.table, Key=key, UpdateExpression="REMOVE version")
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_list_that_is_gone_does_not_matter_once_it_has_been_read(listing: Pipeline) -> None:
    listing.put("car.jpg")
    asked = {"api": "plate", "list": put_list(listing, "list.csv", listing.put("car.jpg").encode())}
    status, said, _ = ask_once(listing, asked)
    assert status == 200
    listing.drain()
    listing.s3.delete_object(Bucket=UPLOADS, Key="list.csv")
    status, again, replayed = ask_once(listing, asked)
    assert (status, again["id"], again["state"], replayed) == (200, said["id"], "finished", True)
    assert ask_once(listing, asked, "u")[0] == 400


@pytest.mark.parametrize("operation", ["list_map_runs", "describe_map_run"])
def test_a_batch_is_shown_while_its_engine_is_throttled(pipeline: Pipeline, operation: str) -> None:
    _, batch = begun(pipeline, 60)
    throttled = ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, operation)

    def during(read: Callable[..., Any], *arguments: Any) -> Any:
        answer = read(*arguments)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline.states, operation, Mock(side_effect=throttled))
            said = show(pipeline, batch)
        assert (said["state"], said["read"], said["failed"], said["pending"]) == ("running", 43, 7, None)
        return answer

    with once(BatchWorker, "read", during):
        pipeline.drain()
    assert show(pipeline, batch)["state"] == "finished"


def test_rows_that_wait_to_be_redriven_are_pending(pipeline: Pipeline) -> None:
    """Step Functions counts them apart from those that have not been tried yet."""
    _, batch = begun(pipeline, 60)
    real = pipeline.states.describe_map_run

    def redriving(**arguments: Any) -> Any:
        counts = {"pending": 0, "running": 50, "pendingRedrive": 10}
        return {**real(**arguments), "itemCounts": counts}

    def during(read: Callable[..., Any], *arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline.states, "describe_map_run", redriving)
            said = show(pipeline, batch)
        assert (said["pending"], said["running"]) == (10, 50)
        return read(*arguments)

    with once(BatchWorker, "read", during):
        pipeline.drain()
    assert show(pipeline, batch)["state"] == "finished"


def test_a_stop_that_is_throttled_leaves_a_batch_as_it_is(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 5)
    throttled = ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "StopExecution")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.states, "stop_execution", Mock(side_effect=throttled))
        status, said = ask(pipeline, "DELETE", f"/v1/batches/{batch}")
    assert (status, said["code"]) == (503, "key_store_unavailable")
    assert show(pipeline, batch)["state"] == "running"
    pipeline.drain()
    check_whole(pipeline, batch, images)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("runs", [False, True])
def test_a_redrive_that_is_asked_for_again_is_begun_once(
    pipeline: Pipeline, after: bool, dies: bool, runs: bool
) -> None:
    """Its function died or Step Functions did not answer; it may have begun, and failed, all the same."""
    images, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    announced = deliveries(pipeline)
    lose_redrive(pipeline, batch, after, dies)
    if runs:
        pipeline.drain()
    assert ask(pipeline, "DELETE", f"/v1/batches/{batch}")[0] == 200  # which has ended
    said = show(pipeline, batch)
    assert (said["state"], said["done"], bool(said["results"]), pipeline.recognized) == (
        "failed",
        0,
        True,
        [],
    )
    status, said = ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")
    assert (status, said["state"]) == (200, "running")
    pipeline.drain()
    check_whole(pipeline, batch, images)
    assert announced == [f"{batch}-{2 if runs and after else 1}"]


def lose_redrive(pipeline: Pipeline, batch: str, after: bool, dies: bool) -> None:
    """Ask for a redrive whose function dies, or is not answered, before or ``after`` it has begun."""
    real = pipeline.states.redrive_execution

    def lost(**arguments: Any) -> None:
        patch.undo()
        if after:
            real(**arguments)
        raise Died if dies else ReadTimeoutError(endpoint_url="https://states")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.states, "redrive_execution", lost)
        with pytest.raises(Died) if dies else nullcontext():
            assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 503


@contextmanager
def before_it_is_noted(pipeline: Pipeline, something: Callable[[], object]) -> Iterator[None]:
    """Have ``something`` happen when a redrive has begun."""
    real = pipeline.states.redrive_execution

    def redriven(**arguments: Any) -> Any:
        answer = real(**arguments)
        something()
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.states, "redrive_execution", redriven)
        yield


def test_a_redrive_that_fails_before_it_is_noted_is_not_noted_any_more(pipeline: Pipeline) -> None:
    """Nobody would tell of its end again, and it would run for good."""
    images, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    with before_it_is_noted(pipeline, pipeline.drain):
        assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 400
    assert show(pipeline, batch)["state"] == "failed"
    assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 200
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_redrive_whose_end_is_told_while_it_is_noted_is_told_again(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()

    def noted(change: Callable[..., Any], *arguments: Any) -> Any:
        assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 200
        return change(*arguments)

    told = {"detail": {"name": batch, "status": "FAILED", "redriveCount": 1}}
    with once(Batches, "change", noted), pytest.raises(Refused):
        BatchJobs(pipeline.deployment).handle(told, Invocation())
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_results_are_joined_once_their_redrive_is_noted(pipeline: Pipeline) -> None:
    """All rows were read when it failed: a redrive comes to its end at once."""
    images, batch = begun(pipeline, 5)
    finish = BatchJobs.finish

    def unlucky(self: BatchJobs, name: str, redrives: int, state: Any, *more: Any) -> Any:
        if state == "finished":
            raise Died
        return finish(self, name, redrives, state, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchJobs, "finish", unlucky)
        pipeline.drain()
    assert (show(pipeline, batch)["state"], pipeline.used()) == ("failed", 5)
    announced = deliveries(pipeline)

    def joins() -> None:
        with pytest.raises(TryLater):
            BatchJobs(pipeline.deployment).finish(batch, 1, "finished")

    with before_it_is_noted(pipeline, joins):
        assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 200
    pipeline.drain()
    check_whole(pipeline, batch, images)
    assert announced == [f"{batch}-1"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/redrive"), ("DELETE", "")])
def test_a_redrive_is_begun_once_when_its_token_is_forgotten(
    pipeline: Pipeline, method: str, path: str
) -> None:
    """Somebody asks again while the end of a long redrive has not been noted yet."""
    images, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 200

    def asked_again(finish: Callable[..., Any], *arguments: Any) -> Any:
        real = pipeline.states.redrive_execution
        with pytest.MonkeyPatch.context() as patch:
            forgotten = lambda **known: real(executionArn=known["executionArn"])  # noqa: E731
            patch.setattr(pipeline.states, "redrive_execution", forgotten)
            assert ask(pipeline, method, f"/v1/batches/{batch}{path}")[0] == 200
        return finish(*arguments)

    with failing(pipeline, batch, row=1), once(BatchJobs, "finish", asked_again):
        pipeline.drain()
    assert show(pipeline, batch)["finished"]
    assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 200
    pipeline.drain()
    check_whole(pipeline, batch, images)


@pytest.mark.parametrize("times", [1, 3])
def test_a_batch_that_was_redriven_from_the_console_can_be_redriven(pipeline: Pipeline, times: int) -> None:
    """Which reads nothing, as nobody has noted that it runs, and is not taken for the redrive asked for."""
    images, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    announced = deliveries(pipeline)
    (arn,) = pipeline.states._executions
    for _ in range(times):
        pipeline.states.redrive_execution(executionArn=arn)
        pipeline.drain()
    assert show(pipeline, batch)["state"] == "failed"
    assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[1]["state"] == "running"
    pipeline.drain()
    check_whole(pipeline, batch, images)
    assert announced == [f"{batch}-{times + 1}"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_batch_that_was_redriven_from_the_console_before_its_end_was_told(
    pipeline: Pipeline, fails: bool
) -> None:
    """Nothing has noted that it failed, so its rows are read, and are to be joined."""
    images, batch = begun(pipeline, 60)
    with pytest.MonkeyPatch.context() as patch, failing(pipeline, batch, row=51):
        patch.setattr(pipeline.states, "_ended", lambda event: None)
        pipeline.drain()
    announced = deliveries(pipeline)
    (arn,) = pipeline.states._executions
    pipeline.states.redrive_execution(executionArn=arn)
    with failing(pipeline, batch, row=51) if fails else nullcontext():
        pipeline.drain()
    assert announced == [batch]
    if fails:
        said = show(pipeline, batch)
        assert (said["state"], said["done"]) == ("failed", 50)
        assert said["finished"] and said["results"]
        assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 200
        pipeline.drain()
    check_whole(pipeline, batch, images)
    BatchJobs(pipeline.deployment).finish(batch, 0, "failed")  # its first end, told late
    check_whole(pipeline, batch, images)
    assert announced == [batch, f"{batch}-2"][: 1 + fails]


@pytest.mark.parametrize("gone", ["ExecutionNotRedrivable", "ExecutionDoesNotExist"])
def test_a_batch_that_cannot_be_redriven_any_more_stays_as_it_is(pipeline: Pipeline, gone: str) -> None:
    """Step Functions redrives for fourteen days, and knows an execution for ninety."""
    _, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    ended = show(pipeline, batch)
    refused = Mock(side_effect=ClientError({"Error": {"Code": gone, "Message": ""}}, "RedriveExecution"))
    with pytest.MonkeyPatch.context() as patch:
        for operation in ("redrive_execution", "describe_execution")[: 1 + (gone == "ExecutionDoesNotExist")]:
            patch.setattr(pipeline.states, operation, refused)
        assert ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")[0] == 400
    assert show(pipeline, batch) == ended | {"request_id": ANY, "results": ANY}


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
