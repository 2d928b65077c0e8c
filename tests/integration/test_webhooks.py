"""Whoever wants to be told of a reading is: by the event bus, and by a signed webhook that is tried again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from carsight_service.contract.api import Api
from carsight_service.notify.subscribers import DELIVERY, SIGNATURE, sign, verify
from carsight_service.notify.webhooks import MAX_DETAIL_BYTES
from tests.pipeline import KEY_ID, Pipeline, read_event
from tests.serving import in_background


class Receiver(HTTPServer):
    """Takes deliveries; answers with ``status``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 204
        self.received: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/readings?camera=7"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        self.send_header("location", self.server.url)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    with in_background(receiver):
        yield receiver


def taken(pipeline: Pipeline) -> dict[str, Any]:
    """What the webhooks' function is called with."""
    found = pipeline.sqs.receive_message(
        QueueUrl=pipeline.webhooks_queue, MessageSystemAttributeNames=["All"]
    )
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
            }
            for message in found.get("Messages", [])
        ]
    }


def test_a_reading_is_delivered_and_signed(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.create_key()
    webhook = pipeline.webhooks.set(KEY_ID, receiver.url, plain=True)
    pipeline.put("gate 7/car.jpg")
    assert pipeline.handle(read_event("upload")) == []
    event = taken(pipeline)
    assert [record["attributes"]["MessageGroupId"] for record in event["Records"]] == [KEY_ID]
    assert pipeline.deliver(event) == {"batchItemFailures": []}
    ((headers, body),) = receiver.received
    assert verify(webhook.secret, headers[SIGNATURE], body)
    delivered = json.loads(body)
    result = pipeline.result("plate/gate 7/car.jpg.json")
    assert delivered["type"] == "carsight.reading"
    assert delivered["detail"] == {"delivery": headers[DELIVERY], **result}
    assert headers["content-type"] == "application/json"


def test_a_key_without_a_webhook_costs_no_message(pipeline: Pipeline) -> None:
    pipeline.create_key()
    pipeline.put("gate 7/car.jpg")
    assert pipeline.handle(read_event("upload")) == []
    assert taken(pipeline) == {"Records": []}


@pytest.mark.parametrize("status", [302, 400, 500])
def test_a_delivery_that_is_not_accepted_is_retried(
    pipeline: Pipeline, receiver: Receiver, status: int
) -> None:
    pipeline.create_key()
    pipeline.webhooks.set(KEY_ID, receiver.url, plain=True)
    pipeline.announcer.announce("carsight.reading", KEY_ID, "d-1", {"a": 1})
    message = taken(pipeline)
    receiver.status = status
    assert pipeline.deliver(message) == {
        "batchItemFailures": [{"itemIdentifier": message["Records"][0]["messageId"]}]
    }
    receiver.status = 200
    assert pipeline.deliver(message) == {"batchItemFailures": []}
    assert [headers[DELIVERY] for headers, _ in receiver.received] == ["d-1", "d-1"]


def test_attempts_have_growing_intervals(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.create_key()
    pipeline.webhooks.set(KEY_ID, receiver.url, plain=True)
    receiver.status = 503
    waits: list[int] = []

    class Queue:
        def change_message_visibility(self, **arguments: Any) -> None:
            waits.append(arguments["VisibilityTimeout"])

    pipeline.clients.sqs = Queue()  # type: ignore[assignment]
    message = {"key_id": KEY_ID, "delivery": "d-1", "body": "{}"}
    for attempt in range(1, 11):
        record = {
            "messageId": "1",
            "receiptHandle": "1",
            "body": json.dumps(message),
            "attributes": {"ApproximateReceiveCount": str(attempt)},
        }
        pipeline.deliver({"Records": [record]})
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_a_failed_visibility_change_does_not_repeat_other_deliveries(
    pipeline: Pipeline, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.create_key()
    pipeline.webhooks.set(KEY_ID, receiver.url, plain=True)
    pipeline.announcer.announce("carsight.reading", KEY_ID, "d-1", {"a": 1})
    delivered = taken(pipeline)["Records"][0]
    refused = {**delivered, "messageId": "2", "body": "not JSON"}

    class Queue:
        def change_message_visibility(self, **_: Any) -> None:
            raise ClientError({"Error": {"Code": "Throttling", "Message": ""}}, "ChangeMessageVisibility")

    monkeypatch.setattr(pipeline.clients, "sqs", Queue())
    assert pipeline.deliver({"Records": [refused, delivered]}) == {
        "batchItemFailures": [{"itemIdentifier": "2"}]
    }
    assert len(receiver.received) == 1


def test_announcements_before_a_rotation_are_delivered_after_it(
    pipeline: Pipeline, receiver: Receiver
) -> None:
    pipeline.create_key()
    _, second = pipeline.keyring.rotate(KEY_ID)
    pipeline.webhooks.set(second.profile.key_id, receiver.url, plain=True)
    pipeline.announcer.announce("carsight.reading", KEY_ID, "d-1", {"a": 1})
    pipeline.keyring.rotate(second.profile.key_id)
    assert pipeline.deliver(taken(pipeline)) == {"batchItemFailures": []}
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/", "https://169.254.169.254/latest/", "https://[::1]:443/", "https://10.0.0.1/"],
)
def test_a_webhook_cannot_reach_internal_addresses(pipeline: Pipeline, url: str) -> None:
    pipeline.create_key()
    pipeline.webhooks.set(KEY_ID, url)
    pipeline.announcer.announce("carsight.reading", KEY_ID, "d-1", {"a": 1})
    assert len(pipeline.deliver(taken(pipeline), local_fetch=False)["batchItemFailures"]) == 1


@pytest.mark.parametrize("url", ["http://example.com/", "ftp://example.com/", "", "https://" + "a" * 2048])
def test_invalid_webhook_addresses_are_refused(pipeline: Pipeline, url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        pipeline.webhooks.set(KEY_ID, url)


def test_a_removed_webhook_receives_nothing(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.create_key()
    pipeline.webhooks.set(KEY_ID, receiver.url, plain=True)
    pipeline.announcer.announce("carsight.reading", KEY_ID, "d-1", {"a": 1})
    pipeline.webhooks.remove(KEY_ID)
    assert pipeline.deliver(taken(pipeline)) == {"batchItemFailures": []}
    assert receiver.received == []


def test_a_webhook_moves_with_its_rotated_key(pipeline: Pipeline) -> None:
    pipeline.create_key()
    webhook = pipeline.webhooks.set(KEY_ID, "https://example.com/")
    _, account = pipeline.keyring.rotate(KEY_ID)
    assert pipeline.webhooks.get(account.profile.key_id) == webhook
    assert pipeline.webhooks.get(KEY_ID) is None


def test_a_signature_covers_body_secret_and_time() -> None:
    now = int(time.time())
    header = sign("secret", now, b"body")
    assert header.startswith(f"t={now},v1=")
    assert verify("secret", header, b"body")
    assert not verify("secret", header, b"another")
    assert not verify("other", header, b"body")
    assert not verify("secret", sign("secret", now - 301, b"body"), b"body")
    assert not verify("secret", header.replace(f"t={now}", f"t={now + 1}"), b"body")
    for garbage in ("", "t=", "t=x,v1=y", f"t={now}", "v1=abc", "t=²,v1=y"):
        assert not verify("secret", garbage, b"body")


# -- the event bus -------------------------------------------------------------------------------------------


def test_readings_are_published_on_the_event_bus(pipeline: Pipeline) -> None:
    events = boto3.client("events")
    arn = pipeline.sqs.get_queue_attributes(QueueUrl=pipeline.webhooks_queue, AttributeNames=["QueueArn"])[
        "Attributes"
    ]["QueueArn"]
    pattern = {"source": ["carsight"], "detail-type": ["carsight.reading"]}
    events.put_rule(Name="readings", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="readings", Targets=[{"Id": "queue", "Arn": arn}])
    deployment = pipeline.deploy(event_bus="default", webhooks_queue_url=None)
    pipeline.workers[Api.PLATE] = pipeline.worker(Api.PLATE, deployment)
    pipeline.create_key()
    pipeline.put("gate 7/car.jpg")
    assert pipeline.handle(read_event("upload")) == []
    (message,) = taken(pipeline)["Records"]
    event = json.loads(message["body"])
    assert event["detail-type"] == "carsight.reading"
    assert event["detail"]["results"][0]["plate"] == "9djc652"
    assert event["detail"]["result"]["key"] == f"{KEY_ID}/plate/gate 7/car.jpg.json"
    events.remove_targets(Rule="readings", Ids=["queue"])
    events.delete_rule(Name="readings")


def test_a_detail_too_large_for_an_event_goes_without_its_results(pipeline: Pipeline) -> None:
    pipeline.create_key()
    pipeline.webhooks.set(KEY_ID, "https://example.com/")
    detail = {"results": ["x" * MAX_DETAIL_BYTES], "result": {"key": "where it all is"}}
    pipeline.announcer.announce("carsight.reading", KEY_ID, "d-1", detail)
    (message,) = taken(pipeline)["Records"]
    body = json.loads(json.loads(message["body"])["body"])
    assert body["detail"] == {"delivery": "d-1", "result": {"key": "where it all is"}}
