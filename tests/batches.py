"""What tests of batches have in common: asking for one, running a child of it, and checking its result."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from arro3.io import read_parquet
from botocore.exceptions import ClientError

from carsight_service.batch_store import Batches
from carsight_service.contract.api import Api
from carsight_service.http.account import AccountEndpoint
from carsight_service.metering.meter_store import MeterStore
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.children import ChildReader
from carsight_service.queue.outcomes import Outcomes
from tests.events import Invocation, event
from tests.pipeline import KEY, KEY_ID, UPLOADS, Died, Pipeline


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


def ask_once(pipeline: Pipeline, body: dict[str, Any], token: str = "t") -> tuple[int, Any, bool]:
    """One request with an ``Idempotency-Key``; the last says whether its answer is called a repetition."""
    headers = {"x-api-key": KEY, "idempotency-key": token}
    sent = event(json.dumps(body), "application/json", path="/v1/batches", headers=headers)
    answer = AccountEndpoint(pipeline.deployment).handle(sent, Invocation())
    return answer["statusCode"], json.loads(answer["body"]), "idempotent-replayed" in answer["headers"]


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


def stop(pipeline: Pipeline, batch: str) -> Any:
    """Ask for a batch to be stopped: status and body."""
    return ask(pipeline, "DELETE", f"/v1/batches/{batch}")


def redrive(pipeline: Pipeline, batch: str) -> Any:
    """Ask for a batch to be redriven: status and body."""
    return ask(pipeline, "POST", f"/v1/batches/{batch}/redrive")


def aborted(batch: str, redrives: int = 0) -> dict[str, Any]:
    """What EventBridge tells of a batch that was stopped."""
    return {"detail": {"name": batch, "status": "ABORTED", "redriveCount": redrives}}


def throttled(operation: str) -> ClientError:
    """The refusal of a service that is asked too often."""
    return ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, operation)


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
    assert said["state"] == "finished"
    assert (said["rows"], said["read"], said["done"]) == (len(images), read, len(images))
    assert pipeline.used() == read
    assert pipeline.tickets() == []
    assert len(table(pipeline, batch)) == len(images)


POINTS = [
    (Outcomes, "get"),
    (Outcomes, "pay"),
    (MeterStore, "granted"),
    (MeterStore, "take"),
    (ChildReader, "_result"),
    (Outcomes, "put"),
    (Batches, "add"),
    (MeterStore, "close"),
]
"""Where a worker may die over a child: before each of these, or behind it."""


def run_child(pipeline: Pipeline, batch: str, images: list[str], attempt: int = 0, first: int = 1) -> Any:
    """Invoke a worker as Step Functions does, with rows from ``first`` on; answers with what it says."""
    items = [{"row": row, "input": image} for row, image in enumerate(images, first)]
    child = {"Items": items, "BatchInput": {"batch": batch, "api": "plate"}, "attempt": attempt}
    return pipeline.workers[Api.PLATE].handle(child, Invocation(300_000))


def deliveries(pipeline: Pipeline) -> list[str]:
    """The deliveries of batches that are announced from now on."""
    announced: list[str] = []
    announce = Announcer.announce

    def announces(self: Announcer, kind: str, key: str, delivery: str, detail: Any) -> None:
        announce(self, kind, key, delivery, detail)
        announced.append(delivery)

    pipeline.patch.setattr(Announcer, "announce", announces)
    return announced


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


@contextmanager
def failing(pipeline: Pipeline, batch: str, row: int) -> Iterator[None]:
    """Every run of the child whose first row is ``row`` dies."""
    read = ChildReader.read

    def dies(self: ChildReader, event: Any, deadline: float) -> Any:
        if event["Items"][0]["row"] == row:
            raise Died
        return read(self, event, deadline)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChildReader, "read", dies)
        yield


def put_list(pipeline: Pipeline, name: str, body: bytes) -> str:
    """A list in a bucket that the deployment lists; answers with its address."""
    pipeline.s3.put_object(Bucket=UPLOADS, Key=name, Body=body)
    return f"s3://{UPLOADS}/{name}"


def send(pipeline: Pipeline, address: str, **more: Any) -> Any:
    return ask(pipeline, "POST", "/v1/batches", json.dumps({"api": "plate", "list": address, **more}))
