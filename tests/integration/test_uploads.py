"""A photo lands in S3, its reading lands beside it: once, charged once, whatever happens on the way."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session

from carsight_service.aws.clients import Clients
from carsight_service.aws.dynamo_client import DynamoClient
from carsight_service.aws.failures import AnswerLost
from carsight_service.aws.signed import Host
from carsight_service.contract.api import MAX_IMAGE_BYTES, Api
from carsight_service.http.uploads import UploadRequest, offer
from carsight_service.metering.meter_store import MeterStore
from carsight_service.metering.meter_table import MeterTable
from carsight_service.metering.model import Status
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.leases import Leases
from carsight_service.queue.retry import TryLater
from carsight_service.queue.uploads import UploadProcessor
from carsight_service.queue.worker import TRIES
from tests.events import Invocation, event
from tests.pipeline import KEY, KEY_ID, PHOTO, UPLOADS, Died, Pipeline, dying, once, read_event

ENVELOPE = {"success", "message", "code", "request_id"}


def altered(**changes: Any) -> dict[str, Any]:
    """An event of one upload with other members in its object."""
    changed = read_event("upload")
    for record in changed["Records"]:
        body = json.loads(record["body"])
        body["Records"][0]["s3"]["object"] |= changes
        record["body"] = json.dumps(body)
    return changed


# -- what lands ----------------------------------------------------------------------------------------------


def test_a_name_with_plus_space_and_umlaut(pipeline: Pipeline) -> None:
    pipeline.create_key()
    key = pipeline.put("Zürich 1+2.jpg")
    assert pipeline.handle(read_event("upload_named_with_plus_space_and_umlaut")) == []
    result = pipeline.result("plate/Zürich 1+2.jpg.json")
    assert result["success"] is True
    assert result["results"][0]["plate"] == "9djc652"
    assert (result["status"], result["bucket"], result["key"]) == (200, UPLOADS, key)
    assert result["version"] is None
    assert result["etag"] == hashlib.md5(PHOTO, usedforsecurity=False).hexdigest()
    assert {"keys", "load", "total", "since_upload"} <= result["timings"].keys()
    assert pipeline.used() == 1
    assert pipeline.tickets() == []


def test_a_name_with_folders_in_it(pipeline: Pipeline) -> None:
    pipeline.create_key()
    pipeline.put("gate 7/car.jpg")
    assert pipeline.handle(read_event("upload")) == []
    assert pipeline.names() == ["plate/gate 7/car.jpg.json"]


def test_s3_s_test_event_is_ignored(pipeline: Pipeline) -> None:
    assert pipeline.handle(read_event("upload_s3_test_event")) == []
    assert pipeline.names() == []


def groups(pipeline: Pipeline, queue: str) -> list[str | None]:
    """To whom the messages of ``queue`` belong; they are visible again at once."""
    found = pipeline.sqs.receive_message(
        QueueUrl=queue, MessageSystemAttributeNames=["MessageGroupId"], VisibilityTimeout=0
    )
    return [message.get("Attributes", {}).get("MessageGroupId") for message in found["Messages"]]


def test_a_vin_is_passed_on_to_its_own_worker(pipeline: Pipeline) -> None:
    pipeline.create_key()
    pipeline.put("label.jpg", api=Api.VIN)
    assert pipeline.handle(read_event("upload_of_a_vin")) == []
    assert pipeline.names() == []
    assert groups(pipeline, pipeline.vin_queue) == [KEY_ID]
    pipeline.drain()
    assert pipeline.result("vin/label.jpg.json")["vin"] == "JHLRD77874C026456"
    assert (pipeline.used(Api.PLATE), pipeline.used(Api.VIN)) == (0, 1)


def test_one_of_two_messages_fails_alone_and_is_not_charged(pipeline: Pipeline) -> None:
    pipeline.create_key()
    pipeline.put("fine.jpg")
    pipeline.put("faulty.jpg", PHOTO[:3] + b" makes us fail")
    both = read_event("upload_two_with_one_failing")
    assert pipeline.handle(both) == [both["Records"][1]["messageId"]]
    assert pipeline.names() == ["plate/fine.jpg.json"]
    assert pipeline.used() == 1
    # It comes back, and fails again at once: nothing of the first time is in its way.
    assert pipeline.handle({"Records": both["Records"][1:]}) == [both["Records"][1]["messageId"]]
    assert len(pipeline.recognized) == 3
    assert pipeline.used() == 1
    assert pipeline.tickets() == []


def test_the_announced_version_is_read(pipeline: Pipeline) -> None:
    pipeline.create_key()
    pipeline.s3.put_bucket_versioning(Bucket=UPLOADS, VersioningConfiguration={"Status": "Enabled"})
    key = f"incoming/{KEY_ID}/plate/gate 7/car.jpg"
    first = pipeline.s3.put_object(Bucket=UPLOADS, Key=key, Body=PHOTO + b" first")["VersionId"]
    second = pipeline.s3.put_object(Bucket=UPLOADS, Key=key, Body=PHOTO + b" second")["VersionId"]
    assert pipeline.handle(altered(versionId=first)) == []
    assert pipeline.recognized == [PHOTO + b" first"]
    assert pipeline.result("plate/gate 7/car.jpg.json")["version"] == first
    for version in (first, second):
        pipeline.s3.delete_object(Bucket=UPLOADS, Key=key, VersionId=version)


# -- what is refused: a result that says so, and no retry ----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "status"),
    [
        ("upload_deleted_before_it_is_read", "object_gone", 404),
        ("upload_of_0_bytes", "invalid_image", 400),
        ("upload_of_60_megabytes", "image_too_large", 413),
        ("upload_of_text", "invalid_image", 400),
    ],
)
def test_a_file_that_is_not_a_photo_is_answered_and_not_charged(
    pipeline: Pipeline, name: str, code: str, status: int
) -> None:
    pipeline.create_key()
    pipeline.put("empty.jpg", b"")
    pipeline.put("notes.jpg", b"no photo")
    if status == 413:
        pipeline.put("huge.jpg", bytes(60 * 1024 * 1024))
    assert pipeline.handle(read_event(name)) == []
    (result,) = pipeline.names()
    reply = pipeline.result(result)
    assert reply.keys() >= ENVELOPE
    assert (reply["success"], reply["code"], reply["status"]) == (False, code, status)
    assert pipeline.used() == 0
    assert pipeline.tickets() == []
    assert pipeline.recognized == []


def test_an_object_larger_than_announced_is_not_loaded(pipeline: Pipeline) -> None:
    pipeline.create_key()
    body = bytes(MAX_IMAGE_BYTES + 1)
    pipeline.put("gate 7/car.jpg", body)
    etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert pipeline.handle(altered(size=10, eTag=etag)) == []
    assert pipeline.result("plate/gate 7/car.jpg.json")["code"] == "image_too_large"


def test_a_photo_replaced_before_it_was_read_is_gone(pipeline: Pipeline) -> None:
    pipeline.create_key()
    pipeline.put("gate 7/car.jpg", PHOTO + b", another")
    assert pipeline.handle(read_event("upload")) == []
    assert pipeline.result("plate/gate 7/car.jpg.json")["code"] == "object_gone"


def test_an_upload_over_the_limit_is_answered_with_a_429(pipeline: Pipeline) -> None:
    pipeline.create_key("sandbox", limits={Api.PLATE: 0})
    pipeline.put("gate 7/car.jpg")
    assert pipeline.handle(read_event("upload")) == []
    reply = pipeline.result("plate/gate 7/car.jpg.json")
    assert (reply["code"], reply["status"]) == ("limit_exceeded", 429)
    assert reply["usage"] == {"current": 0, "limit": 0, "remaining": 0}
    assert pipeline.recognized == []


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.DISABLED, "unknown_api_key"),
        (Status.INACTIVE, "inactive_api_key"),
        (Status.BLOCKED, "blocked_api_key"),
    ],
)
def test_a_key_that_is_not_served(pipeline: Pipeline, status: Status, code: str) -> None:
    pipeline.create_key()
    pipeline.keyring.set(KEY_ID, status=status)
    pipeline.put("gate 7/car.jpg")
    assert pipeline.handle(read_event("upload")) == []
    assert pipeline.result("plate/gate 7/car.jpg.json")["code"] == code


def test_an_upload_of_an_unknown_key_is_answered(pipeline: Pipeline) -> None:
    assert pipeline.handle(read_event("upload_of_an_unknown_key")) == []
    (name,) = pipeline.names()
    assert name == f"{'0' * 64}/plate/car.jpg.json"


def test_an_object_in_the_wrong_place_is_answered(pipeline: Pipeline) -> None:
    assert pipeline.handle(read_event("upload_in_the_wrong_place")) == []
    (name,) = pipeline.names()
    assert name.startswith("misplaced/")
    reply = json.loads(pipeline.s3.get_object(Bucket=pipeline.results, Key=name)["Body"].read())
    assert (reply["key"], reply["status"], reply["code"]) == ("incoming/car.jpg", 400, "invalid_request")


# -- our own faults: tried again -----------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["no JSON", "[]", '{"something": "else"}'])
def test_an_unknown_message_ends_in_the_dead_letter_queue(pipeline: Pipeline, body: str) -> None:
    strange = read_event("upload")
    strange["Records"][0]["body"] = body
    assert pipeline.handle(strange) == [strange["Records"][0]["messageId"]]


def test_an_unreachable_table_is_retried(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.create_key()
    pipeline.put("gate 7/car.jpg")
    upload = read_event("upload")
    with monkeypatch.context() as patch:
        patch.setattr(MeterTable, "count", _unavailable)
        assert pipeline.handle(upload) == [upload["Records"][0]["messageId"]]
    assert pipeline.names() == []
    assert pipeline.handle(upload) == []
    assert pipeline.used() == 1


def _unavailable(*_: object) -> None:
    from carsight_service.contract.errors import StoreUnavailable

    raise StoreUnavailable("no answer")


def test_nothing_is_started_without_enough_time(pipeline: Pipeline) -> None:
    pipeline.create_key()
    upload = read_event("upload")
    answer = pipeline.workers[Api.PLATE].handle(upload, Invocation(10_000))
    assert [failure["itemIdentifier"] for failure in answer["batchItemFailures"]] == [
        upload["Records"][0]["messageId"]
    ]
    assert pipeline.used() == 0


# -- at least once, and only once ----------------------------------------------------------------------------


def test_a_second_delivery_changes_nothing(pipeline: Pipeline) -> None:
    pipeline.create_key()
    pipeline.put("car.jpg")
    assert pipeline.handle(read_event("upload_delivered_twice")) == []
    first = pipeline.result("plate/car.jpg.json")
    pipeline.later = timedelta(days=1)
    assert pipeline.handle(read_event("upload_delivered_twice")) == []
    assert pipeline.result("plate/car.jpg.json") == first
    assert len(pipeline.recognized) == 1
    assert pipeline.used() == 1


def test_deliveries_at_the_same_moment_read_and_count_a_photo_once(pipeline: Pipeline) -> None:
    pipeline.create_key()
    pipeline.put("car.jpg")
    start = threading.Barrier(8)

    def deliver() -> None:
        start.wait()
        pipeline.handle(read_event("upload_delivered_twice"))

    threads = [threading.Thread(target=deliver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pipeline.handle(read_event("upload_delivered_twice")) == []
    assert len(pipeline.recognized) == 1
    assert pipeline.used() == 1
    assert pipeline.tickets() == []


def dying_at(where: str) -> AbstractContextManager[None]:
    """Have the worker die once: before the named step, or after it where it is called ``after ...``."""
    name = where.removeprefix("after ")
    owner = {
        "_load": UploadProcessor,
        "_write": UploadProcessor,
        "announce": Announcer,
        "consume_by_id": MeterStore,
        "settle": MeterStore,
    }[name]
    return dying(owner, name, after=name != where)


@pytest.mark.parametrize(
    "where",
    ["consume_by_id", "after consume_by_id", "_load", "_write", "after _write", "after announce", "settle"],
)
def test_a_worker_that_dies_leaves_one_result_and_one_charge(pipeline: Pipeline, where: str) -> None:
    pipeline.create_key()
    pipeline.put("gate 7/car.jpg")
    upload = read_event("upload")
    with dying_at(where), pytest.raises(Died):
        pipeline.handle(upload)
    if where != "settle":  # its lease still holds
        assert pipeline.handle(upload) == [upload["Records"][0]["messageId"]]
    pipeline.later = timedelta(hours=1)
    assert pipeline.handle(upload) == []
    assert pipeline.result("plate/gate 7/car.jpg.json")["status"] == 200
    assert pipeline.used() == 1
    assert pipeline.tickets() == []


def test_a_worker_that_dies_again_and_again(pipeline: Pipeline) -> None:
    """Whatever happens in whatever order: one result and one charge once a delivery has come through."""
    pipeline.create_key()
    chance = random.Random(7)
    steps = ["consume_by_id", "after consume_by_id", "_load", "_write", "after _write", "after announce"]
    for number in range(12):
        name = f"gate 7/{number}.jpg"
        pipeline.put(name)
        key = f"incoming/{KEY_ID}/plate/gate+7/{number}.jpg"
        for _ in range(chance.randrange(5)):
            with dying_at(chance.choice(steps)), pytest.raises(Died):
                pipeline.handle(altered(key=key))
            pipeline.later += timedelta(hours=1)
        for _ in range(chance.randrange(1, 3)):
            assert pipeline.handle(altered(key=key)) == []
        assert pipeline.used() == number + 1
        assert pipeline.tickets() == []
        assert pipeline.result(f"plate/{name}.json")["status"] == 200


def nth(number: int, event: dict[str, Any]) -> dict[str, Any]:
    """``event``, delivered for the ``number``-th time."""
    for record in event["Records"]:
        record["attributes"]["ApproximateReceiveCount"] = str(number)
    return event


@pytest.mark.parametrize(("where", "counted"), [("_load", 0), ("_write", 1)])
def test_a_photo_that_kills_every_worker_is_not_charged(pipeline: Pipeline, where: str, counted: int) -> None:
    pipeline.create_key()
    pipeline.put("gate 7/car.jpg")
    message = read_event("upload")["Records"][0]["messageId"]
    for delivery in range(1, TRIES + 1):
        with dying_at(where), pytest.raises(Died):
            pipeline.handle(nth(delivery, read_event("upload")))
        pipeline.later += timedelta(hours=1)
    assert pipeline.used() == counted
    assert pipeline.handle(nth(TRIES + 1, read_event("upload"))) == [message]
    assert (pipeline.used(), pipeline.tickets(), pipeline.names()) == (0, [], [])
    # Once the cause is gone, a redrive reads it as if nothing had been.
    assert pipeline.handle(read_event("upload")) == []
    assert pipeline.used() == 1


def test_nothing_is_counted_while_a_photo_is_read(pipeline: Pipeline) -> None:
    """What lies in a meter is paid for by every write of its key."""
    pipeline.create_key()
    pipeline.put("gate 7/car.jpg")
    seen = []

    def load(real: Callable[..., Any], *arguments: Any) -> Any:
        seen.append((pipeline.used(), pipeline.tickets()))
        return real(*arguments)

    with once(UploadProcessor, "_load", load):
        assert pipeline.handle(read_event("upload")) == []
    assert seen == [(0, [])]
    assert (pipeline.used(), pipeline.tickets()) == (1, [])


def test_the_last_unit_remains_for_a_photo_whose_worker_died(pipeline: Pipeline) -> None:
    pipeline.create_key("sandbox", limits={Api.PLATE: 1})
    pipeline.put("gate 7/car.jpg")
    with dying_at("_write"), pytest.raises(Died):
        pipeline.handle(read_event("upload"))
    pipeline.later += timedelta(hours=1)
    assert pipeline.handle(read_event("upload")) == []
    assert pipeline.result("plate/gate 7/car.jpg.json")["status"] == 200
    assert (pipeline.used(), pipeline.tickets()) == (1, [])


@pytest.mark.parametrize(("happens", "status"), [("deleted", 404), ("blocked", 403), ("spent", 429)])
def test_a_unit_counted_by_a_dead_worker_is_refunded_without_a_reading(
    pipeline: Pipeline, happens: str, status: int
) -> None:
    pipeline.create_key("sandbox", limits={Api.PLATE: 1})
    key = pipeline.put("gate 7/car.jpg")
    counted = "_load" if happens == "spent" else "_write"
    with dying_at(counted), pytest.raises(Died):
        pipeline.handle(read_event("upload"))
    if happens == "deleted":
        pipeline.s3.delete_object(Bucket=UPLOADS, Key=key)
    elif happens == "blocked":
        pipeline.keyring.set(KEY_ID, status=Status.BLOCKED)
    else:
        meters = pipeline.deployment.meters
        meters.close(meters.take(KEY_ID, Api.PLATE, 1, "another"), read=1)
    pipeline.later += timedelta(hours=1)
    assert pipeline.handle(read_event("upload")) == []
    assert pipeline.result("plate/gate 7/car.jpg.json")["status"] == status
    assert (pipeline.used(), pipeline.tickets()) == (int(happens == "spent"), [])


def test_an_upload_in_progress_survives_a_rotation(pipeline: Pipeline) -> None:
    pipeline.create_key()
    pipeline.put("gate 7/car.jpg")
    _, account = pipeline.keyring.rotate(KEY_ID)
    assert pipeline.handle(read_event("upload")) == []
    assert pipeline.result("plate/gate 7/car.jpg.json")["status"] == 200
    assert pipeline.keyring.show(account.profile.key_id).usage[0].current == 1
    assert pipeline.tickets() == []


def test_an_upload_s_metadata_has_the_region_hint(pipeline: Pipeline) -> None:
    pipeline.create_key()
    key = f"incoming/{KEY_ID}/plate/gate 7/car.jpg"
    pipeline.s3.put_object(Bucket=UPLOADS, Key=key, Body=PHOTO, Metadata={"regions": "us-ca, GB"})
    assert pipeline.handle(read_event("upload")) == []
    assert pipeline.regions == [("us-ca", "gb")]


def test_an_older_photo_of_the_same_name_is_ignored(pipeline: Pipeline) -> None:
    pipeline.create_key()
    key = pipeline.put("gate 7/car.jpg")
    older = altered(sequencer="0055")
    assert pipeline.handle(read_event("upload")) == []
    newer = pipeline.result("plate/gate 7/car.jpg.json")
    pipeline.s3.put_object(Bucket=UPLOADS, Key=key, Body=b"older")
    older = altered(sequencer="0055", eTag=hashlib.md5(b"older").hexdigest())
    assert pipeline.handle(older) == []
    assert pipeline.result("plate/gate 7/car.jpg.json") == newer
    assert pipeline.used() == 1


def test_a_photo_replaced_while_its_worker_died_is_not_charged(pipeline: Pipeline) -> None:
    pipeline.create_key()
    pipeline.put("gate 7/car.jpg")
    with dying_at("after consume_by_id"), pytest.raises(Died):
        pipeline.handle(read_event("upload"))
    assert pipeline.used() == 1
    body = PHOTO + b", another"
    pipeline.put("gate 7/car.jpg", body)
    pipeline.later = timedelta(hours=1)
    etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert pipeline.handle(altered(eTag=etag, sequencer="0068A1B2C3D4E5F602")) == []
    assert pipeline.result("plate/gate 7/car.jpg.json")["etag"] == etag
    assert pipeline.used() == 1
    assert pipeline.handle(read_event("upload")) == []
    assert pipeline.used() == 1
    assert pipeline.tickets() == []


def test_a_unit_is_given_back_in_the_month_it_was_counted_in(pipeline: Pipeline) -> None:
    from datetime import UTC, datetime

    pipeline.create_key()
    # Later than today, when the key is created: no month is counted after a later one.
    november, december = datetime(2099, 11, 30, 23, 59, tzinfo=UTC), datetime(2099, 12, 1, tzinfo=UTC)
    pipeline.keyring = type(pipeline.keyring)(pipeline.table, pipeline.dynamodb, lambda: december)
    store = MeterStore(pipeline.table, pipeline.dynamodb, lambda: now)
    now = november
    store.consume_by_id(KEY_ID, Api.PLATE, "a")
    store.consume_by_id(KEY_ID, Api.PLATE, "a")
    store.consume_by_id(KEY_ID, Api.PLATE, "b")
    now = december
    assert store.consume_by_id(KEY_ID, Api.PLATE, "c").current == 1
    assert store.consume_by_id(KEY_ID, Api.PLATE, "a").current == 1
    for _ in range(2):
        store.refund(KEY_ID, Api.PLATE, "a")
    store.settle(KEY_ID, Api.PLATE, ["b", "c"])
    history = {past.period: past.used for past in pipeline.keyring.show(KEY_ID).history}
    assert (pipeline.used(), history["2099-11"]) == (1, 1)
    assert pipeline.tickets() == []


# -- presigned uploads ---------------------------------------------------------------------------------------


def test_a_form_allows_exactly_one_object_key(pipeline: Pipeline) -> None:
    pipeline.create_key()
    body = json.dumps({"api": "plate", "name": "gate 7/ü.jpg"})
    status, offered = pipeline.ask(event(body, path="/v1/uploads", query=f"key={KEY}"))
    assert status == 200
    assert offered["fields"]["key"] == f"incoming/{KEY_ID}/plate/gate 7/ü.jpg"
    assert offered["fields"]["Content-Type"] == "image/jpeg"
    assert (offered["expires_in"], offered["max_bytes"]) == (300, MAX_IMAGE_BYTES)
    assert pipeline.used() == 0


def test_a_form_limits_size_and_type(pipeline: Pipeline) -> None:
    wanted = UploadRequest(api=Api.VIN, name="a.png", content_type="image/png")
    offered = offer(pipeline.deployment, KEY_ID, wanted, "id-1")
    policy = json.loads(base64.b64decode(offered.fields["policy"]))
    assert {"Content-Type": "image/png"} in policy["conditions"]
    assert ["content-length-range", 1, MAX_IMAGE_BYTES] in policy["conditions"]
    assert {"key": f"incoming/{KEY_ID}/vin/a.png"} in policy["conditions"]
    assert {"bucket": UPLOADS} in policy["conditions"]
    assert "x-amz-meta-regions" not in offered.fields
    wanted = UploadRequest(api=Api.PLATE, name="a.jpg", regions=["us-ca", "de"])
    offered = offer(pipeline.deployment, KEY_ID, wanted, "id-1")
    assert offered.fields["x-amz-meta-regions"] == "us-ca,de"
    assert {"x-amz-meta-regions": "us-ca,de"} in json.loads(base64.b64decode(offered.fields["policy"]))[
        "conditions"
    ]


@pytest.mark.parametrize("path", ["/v1/uploads", "/v1/batches/lists"])
def test_the_description_of_a_file_has_a_maximum_length(pipeline: Pipeline, path: str) -> None:
    """Of a long one each object of seven characters would take 800 bytes."""
    pipeline.create_key()
    status, reply = pipeline.ask(event("[" + '{"":0},' * 10_000 + "{}]", path=path, query=f"key={KEY}"))
    assert (status, reply["success"]) == (400, False)
    assert "70,004 bytes" in reply["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "Invalid JSON"),
        ("[]", "object"),
        ('{"api": "faces", "name": "a.jpg"}', "api"),
        ('{"api": "plate"}', "name"),
        ('{"api": "plate", "name": ""}', "name"),
        ('{"api": "plate", "name": "/a.jpg"}', "name: must not begin with a slash"),
        ('{"api": "plate", "name": "dir/../x.jpg"}', "name: must not contain the segments"),
        ('{"api": "plate", "name": "./y.jpg"}', "name"),
        ('{"api": "plate", "name": "a/./z.jpg"}', "name"),
        ('{"api": "plate", "name": ".."}', "name"),
        ('{"api": "plate", "name": "${filename}"}', "name"),
        ('{"api": "plate", "name": "a\\u0000.jpg"}', "name"),
        (
            '{"api": "plate", "name": "a.html", "content_type": "text/html"}',
            "content_type: must be the type of an",
        ),
        ('{"api": "plate", "name": "a.jpg", "regions": ["de", "u s"]}', "regions: 1: must be the code of"),
    ],
)
def test_invalid_upload_requests_are_refused(pipeline: Pipeline, body: str, message: str) -> None:
    pipeline.create_key()
    status, reply = pipeline.ask(event(body, path="/v1/uploads", query=f"key={KEY}"))
    assert (status, reply["code"]) == (400, "invalid_request")
    assert message in reply["message"]


def test_an_upload_with_an_unknown_region_is_refused(pipeline: Pipeline) -> None:
    pipeline.create_key()
    body = '{"api": "%s", "name": "a.jpg", "regions": ["US-CA", "uk", "us-xx"]}'
    status, reply = pipeline.ask(event(body % "plate", path="/v1/uploads", query=f"key={KEY}"))
    assert (status, reply["message"]) == (400, "Unknown regions: us-xx")
    assert pipeline.ask(event(body % "vin", path="/v1/uploads", query=f"key={KEY}"))[0] == 200


def test_an_upload_for_an_api_that_is_not_in_the_plan_is_refused(pipeline: Pipeline) -> None:
    pipeline.create_key(limits={Api.VIN: None})
    body = '{"api": "vin", "name": "a.jpg"}'
    assert pipeline.ask(event(body, path="/v1/uploads", query=f"key={KEY}"))[1]["code"] == "api_not_in_plan"


@pytest.mark.parametrize("ours", [True, False])
def test_taking_a_lease_may_be_repeated_after_a_lost_response(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    owner: Any = Host if ours else URLLib3Session
    name = "exchange" if ours else "send"
    real, sent = getattr(owner, name), []

    def lose(*request: Any) -> Any:
        """Lose the answer to the first write; the client sends it again."""
        answer = real(*request)
        sent.append(request)
        if len(sent) == 1:
            raise AnswerLost if ours else ReadTimeoutError(endpoint_url="https://dynamodb")
        return answer

    clients = Clients()
    assert isinstance(clients.work, DynamoClient)
    leases = Leases(pipeline.table, clients.work if ours else clients.dynamodb)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, lose)
        lease = leases.take("a name", "first", 60)
    assert len(sent) == 2
    assert lease is not None
    with pytest.raises(TryLater):
        leases.take("a name", "first", 60)
    leases.complete(lease)
    assert leases.take("a name", "first", 60) is None
