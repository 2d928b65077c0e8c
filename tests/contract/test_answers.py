"""The contract's answers, byte for byte, on both routes and their aliases."""

from __future__ import annotations

import json
import threading
from typing import Any

import boto3
import pytest
from botocore.config import Config

from carsight_service.contract.api import MAX_IMAGE_BYTES, Api
from carsight_service.contract.errors import InvalidImage, NoTextDetected, NothingFound
from carsight_service.metering.model import Status, key_id
from tests.events import MULTIPART, Invocation, form
from tests.fakes import BASE64, BODY, PHOTO, PLATES, ROUTES, VINS, Recognition, Reply, Service, deploy

routes = pytest.mark.parametrize(("path", "api"), ROUTES.items())
INVALID = "Invalid image data format. Must be a valid URL or base64 encoded string."


def expect(reply: Reply, plate: tuple[int, str], vin: tuple[int, str], api: Api) -> None:
    """That ``reply`` is the row of the contract's table for ``api``: status and message."""
    assert (reply.status, reply.body["message"]) == {Api.PLATE: plate, Api.VIN: vin}[api]
    assert reply.body["success"] is False
    assert reply.body["request_id"] == "id-1"
    assert reply.body["code"].replace("_", "").isalpha()


# -- 200 -----------------------------------------------------------------------------------------------------


def test_plates_are_answered_as_by_the_contract(service: Service) -> None:
    reply = service.call("/platerecognition", Api.PLATE, query=f"key={service.key()}")
    assert reply.status == 200
    assert list(reply.body) == ["success", "message", "results", "processing_time", "image", "request_id"]
    assert reply.body["success"] is True
    assert reply.body["message"] == ""
    assert reply.body["processing_time"] > 0
    assert reply.body["image"] == {"width": 4032, "height": 3024}
    (plate,) = reply.body["results"]
    assert list(plate)[:7] == ["box", "plate", "region", "score", "candidates", "dscore", "vehicle"]
    assert {name: plate[name] for name in list(plate)[:7]} == {
        "box": {"xmin": 2045, "ymin": 1400, "xmax": 2732, "ymax": 1849},
        "plate": "9djc652",
        "region": {"code": "us-ca", "score": 0.849},
        "score": 1,
        "candidates": [{"score": 1, "plate": "9djc652"}],
        "dscore": 0.928,
        "vehicle": {
            "score": 0.963,
            "type": "Sedan",
            "box": {"xmin": 56, "ymin": 0, "xmax": 3594, "ymax": 2913},
        },
    }
    assert plate["polygon"] == [[2045, 1400], [2732, 1400], [2732, 1849], [2045, 1849]]
    assert plate["characters"][0] == {"character": "9", "score": 1}


@pytest.mark.parametrize("path", [path for path, api in ROUTES.items() if api is Api.VIN])
def test_a_vin_is_answered_as_by_the_contract(service: Service, path: str) -> None:
    reply = service.call(path, Api.VIN, query=f"key={service.key()}")
    assert reply.status == 200
    assert list(reply.body)[:5] == ["success", "vin", "box", "confidence", "candidates"]
    box = {"xmin": 257, "xmax": 1673, "ymin": 635, "ymax": 793}
    assert reply.body["vin"] == "JHLRD77874C026456"
    assert reply.body["box"] == box
    assert list(reply.body["box"]) == list(box)
    assert reply.body["confidence"] == 0.983425
    ours = {
        "source": "text",
        "check_digit": {"valid": True, "applies": True},
        "repairs": [{"position": 9, "from": "B", "to": "8", "reason": "check digit"}],
    }
    assert {name: reply.body[name] for name in ours} == ours
    assert reply.body["candidates"] == [
        {"vin": "JHLRD77874C026456", "confidence": 0.983425, "box": box, **ours}
    ]
    assert reply.body["processing_time"] > 0


@routes
@pytest.mark.parametrize("prefix", ["", "/eu"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_prefix_a_final_slash_and_unknown_parameters_are_accepted(
    service: Service, path: str, api: Api, prefix: str, slash: str
) -> None:
    query = f"key={service.key()}&source=c%23&format=xml&unknown"
    assert service.call(f"{prefix}{path}{slash}", api, query=query).status == 200


@routes
@pytest.mark.parametrize("place", ["query", "header", "token", "json", "multipart"])
def test_a_key_is_found_wherever_it_may_be_sent(service: Service, path: str, api: Api, place: str) -> None:
    key = service.key()
    places: dict[str, dict[str, Any]] = {
        "query": {"query": f"key={key}"},
        "header": {"headers": {"x-api-key": key}},
        "token": {"headers": {"authorization": f"Token {key}"}},
        "json": {"body": json.dumps({"image": BASE64, "key": key})},
        "multipart": {"body": form(("key", key), ("upload", PHOTO)), "content_type": MULTIPART},
    }
    assert service.call(path, api, **places[place]).status == 200
    assert service.used(key, api) == 1


@routes
def test_every_way_of_sending_gives_the_same_photo(service: Service, path: str, api: Api) -> None:
    query = f"key={service.key()}&regions=us-ca"
    for body, content_type in (
        *(
            (json.dumps({name: BASE64}), "application/json")
            for name in ("image_url", "image", "upload_url", "imageUrl")
        ),
        (json.dumps({"image": f"data:image/jpeg;base64,{BASE64}"}), "application/json; charset=utf-8"),
        (BASE64, "text/plain"),
        (form(("upload", PHOTO)), MULTIPART),
        (form(("image", PHOTO)), MULTIPART),
        (PHOTO, "image/jpeg"),
    ):
        assert service.call(path, api, query=query, body=body, content_type=content_type).status == 200
    assert service.recognized == [(PHOTO, ("us-ca",))] * 9


def test_snapshot_clients_get_snapshot_answers(service: Service) -> None:
    """Plate Recognizer's API: a token, a file, hints, and 200 with no results where there is no plate."""
    key = service.key()
    hints = (("regions", "us-ca"), ("camera_id", "gate 2"), ("timestamp", "2026-03-09T12:00"))
    token = {"authorization": f"Token {key}"}

    def call(body: bytes) -> Reply:
        return service.call("/v1/plate-reader/", Api.PLATE, body=body, content_type=MULTIPART, headers=token)

    reply = call(form(*hints, ("upload", PHOTO)))
    assert reply.status == 200
    assert (reply.body["camera_id"], reply.body["timestamp"]) == ("gate 2", "2026-03-09T12:00")
    assert (reply.body["version"], reply.body["processing_time"] > 0) == (1, True)
    assert reply.body["results"][0]["plate"] == "9djc652"
    assert service.recognized == [(PHOTO, ("us-ca",))]
    service.recognition = NothingFound(Api.PLATE)
    reply = call(form(("upload", PHOTO)))
    assert (reply.status, reply.body["results"]) == (200, [])
    assert reply.body["timestamp"]
    assert "camera_id" not in reply.body
    assert service.used(key, Api.PLATE) == 2
    assert service.call("/v1/plate-reader/", Api.VIN, query=f"key={key}").status == 404


@pytest.mark.parametrize(
    ("tier", "usage"),
    [
        ("pro", {"calls": 1, "year": 2026, "month": 3, "resets_on": "2026-04-01T00:00:00Z"}),
        ("sandbox", {"calls": 1, "year": 2026, "month": 3, "resets_on": None}),
    ],
)
def test_snapshots_statistics_are_the_keys_usage(service: Service, tier: str, usage: dict[str, Any]) -> None:
    token = {"authorization": f"Token {service.key(tier)}"}
    service.call("/v1/plate-reader/", Api.PLATE, headers=token)
    reply = service.ask("/v1/statistics/", headers=token)
    assert (reply.status, reply.body["usage"]) == (200, usage)
    assert reply.body["total_calls"] == {"pro": 1000, "sandbox": 100}[tier]


# -- keys ----------------------------------------------------------------------------------------------------


@routes
def test_a_request_without_a_key_is_refused(service: Service, path: str, api: Api) -> None:
    for query in ("", "key=", "source=npm"):
        expect(service.call(path, api, query=query), (401, "Missing API key"), (400, "Missing API key"), api)


@routes
def test_an_unknown_key_is_refused(service: Service, path: str, api: Api) -> None:
    message = "User with this API key was not found or the API key is disabled"
    for key in ("nobody", "cs_" + "0" * 43, "%ED%A0%80", "k" * 5000):
        expect(service.call(path, api, query=f"key={key}"), (401, message), (404, message), api)


@routes
@pytest.mark.parametrize(
    ("status", "plate", "vin", "message"),
    [
        (Status.DISABLED, 401, 404, "User with this API key was not found or the API key is disabled"),
        (
            Status.INACTIVE,
            401,
            401,
            "User with this API key is not active. "
            "To activate update your billing on https://carsxe.com/dashboard/billing",
        ),
        (
            Status.BLOCKED,
            403,
            403,
            "This API key has been blocked, please contact support if you believe this is an error.",
        ),
    ],
)
def test_keys_that_are_not_served(
    service: Service, path: str, api: Api, status: Status, plate: int, vin: int, message: str
) -> None:
    key = service.key()
    service.keyring.set(key_id(key), status=status)
    for body in (BODY, "{}", "not an image!"):
        expect(service.call(path, api, query=f"key={key}", body=body), (plate, message), (vin, message), api)
    assert service.recognized == []


@routes
def test_a_key_whose_plan_lacks_the_api_is_refused(service: Service, path: str, api: Api) -> None:
    other = {Api.PLATE: Api.VIN, Api.VIN: Api.PLATE}[api]
    key = service.key("enterprise", limits={other: 10})
    message = (
        "This API is not available for your current subscription tier. "
        "Visit https://carsxe.com/pricing to review upgrade options."
    )
    expect(service.call(path, api, query=f"key={key}"), (403, message), (403, message), api)


def limit_message(api: Api, tier: str, limit: int, remedy: str) -> str:
    """CarsXE's words where an allowance is used up."""
    name = {Api.PLATE: "plate_image_recognition", Api.VIN: "vin_optical_character_recognition"}[api]
    return (
        f"API limit exceeded for {name} (3/2026). Subscription tier: {tier}."
        f" Current usage: {limit}, Limit: {limit}. {remedy}"
    )


@routes
def test_a_call_over_the_months_limit_is_refused(service: Service, path: str, api: Api) -> None:
    key = service.key("pro", limits={api: 2}, overage=False)
    for used in (1, 2):
        reply = service.call(path, api, query=f"key={key}")
        assert reply.status == 200
        assert usage_headers(reply) == (used, 2, 2 - used)
    remedy = "Enable overage billing in your dashboard billing preferences to continue with overage charges"
    message = limit_message(api, "pro", 2, remedy)
    reply = service.call(path, api, query=f"key={key}")
    expect(reply, (429, message), (429, message), api)
    assert reply.body["usage"] == {"current": 2, "limit": 2, "remaining": 0}
    assert usage_headers(reply) == (2, 2, 0)


@routes
def test_a_call_over_a_lifetimes_allowance_is_refused(service: Service, path: str, api: Api) -> None:
    key = service.key("sandbox", limits={api: 1})
    assert service.call(path, api, query=f"key={key}").status == 200
    message = limit_message(api, "sandbox", 1, "Please upgrade your tier to continue using the API.")
    reply = service.call(path, api, query=f"key={key}")
    expect(reply, (429, message), (429, message), api)
    assert reply.body["usage"] == {"current": 1, "limit": 1, "remaining": 0}


@routes
def test_overage_is_served_and_counted(service: Service, path: str, api: Api) -> None:
    key = service.key("pro", limits={api: 1})
    replies = [service.call(path, api, query=f"key={key}") for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert usage_headers(replies[-1]) == (3, 1, 0)


@routes
def test_the_key_store_is_out_of_reach(service: Service, path: str, api: Api) -> None:
    nowhere = boto3.client(
        "dynamodb",
        endpoint_url="http://127.0.0.1:1",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=1),
    )
    service.deployment = deploy("keys", nowhere)
    message = "Cannot access the internet at this time"
    expect(service.call(path, api, query="key=any"), (503, message), (503, message), api)
    assert service.recognized == []


# -- images --------------------------------------------------------------------------------------------------


def refused(service: Service, path: str, api: Api, **request: Any) -> Reply:
    """The answer to a request that costs nothing."""
    key = service.key()
    reply = service.call(path, api, query=f"key={key}", **request)
    assert service.used(key, api) == 0
    assert usage_headers(reply) == (0, 1000, 1000)
    return reply


@routes
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("", "application/json"),
        ("", None),
        ("", "text/plain"),
        ("{}", "application/json"),
        ("[]", "application/json"),
        ('["https://photos.example/a.jpg"]', "application/json"),
        ('{"image": ""}', "application/json"),
        ('{"image_url": null}', "application/json"),
        ('{"picture": "https://photos.example/a.jpg"}', "application/json"),
        (form(("camera_id", "7")), MULTIPART),
        (b"", "image/jpeg"),
    ],
)
def test_a_request_without_an_image_is_refused(
    service: Service, path: str, api: Api, body: str | bytes, content_type: str | None
) -> None:
    reply = refused(service, path, api, body=body, content_type=content_type)
    expect(reply, (400, "Missing upload URL"), (400, "Missing image data"), api)
    assert "image_url, image, upload_url, imageUrl" in reply.body["detail"]


@routes
@pytest.mark.parametrize("name", ["image", "image_url", "upload_url", "imageUrl"])
def test_an_image_in_the_query_is_pointed_out(service: Service, path: str, api: Api, name: str) -> None:
    query = f"key={service.key()}&{name}=https://photos.example/a.jpg"
    reply = service.call(path, api, query=query, body="", content_type=None)
    expect(reply, (400, "Missing upload URL"), (400, "Missing image data"), api)
    assert reply.body["detail"].startswith(f"The query parameter {name} is not read.")


@routes
@pytest.mark.parametrize(
    "body",
    [
        '{"image": "not base64!"}',
        '{"image": 7}',
        '{"image": {"url": "https://photos.example/a.jpg"}}',
        '{"image": "file:///proc/self/environ"}',
        '{"image": "http://169.254.169.254/latest/meta-data/"}',
        '{"image": "http://127.0.0.1:9001/2018-06-01/runtime/invocation/next"}',
        '{"image": "https://photos.example:22/a.jpg"}',
        '{"image": "s3://somebody-elses-bucket/a.jpg"}',
        '{"image": "https://photos.exam',
        "hello there",
    ],
)
def test_values_that_are_not_images(service: Service, path: str, api: Api, body: str) -> None:
    expect(refused(service, path, api, body=body), (400, INVALID), (400, INVALID), api)
    assert service.recognized == []


@routes
def test_bytes_that_are_not_an_image(service: Service, path: str, api: Api) -> None:
    service.recognition = InvalidImage("cut short")
    expect(refused(service, path, api), (400, INVALID), (400, INVALID), api)


@routes
def test_an_image_that_is_too_large_is_refused(service: Service, path: str, api: Api) -> None:
    reply = refused(service, path, api, body=bytes(MAX_IMAGE_BYTES + 1), content_type="image/png")
    expect(reply, (413, "Image is too large."), (413, "Image is too large."), api)


@routes
def test_a_photo_in_which_nothing_is_found_is_a_404(service: Service, path: str, api: Api) -> None:
    service.recognition = NothingFound(api)
    expect(
        refused(service, path, api),
        (404, "No plates detected in image"),
        (404, "No valid VIN candidates found in the image"),
        api,
    )


@pytest.mark.parametrize("path", [path for path, api in ROUTES.items() if api is Api.VIN])
def test_a_photo_without_text_is_a_400(service: Service, path: str) -> None:
    service.recognition = NoTextDetected()
    reply = refused(service, path, Api.VIN)
    expect(reply, (0, ""), (400, "No text detected in the image"), Api.VIN)


# -- the rest ------------------------------------------------------------------------------------------------


@routes
def test_an_unexpected_exception_is_a_500(service: Service, path: str, api: Api) -> None:
    service.recognition = ZeroDivisionError("nobody expected this")
    expect(
        refused(service, path, api),
        (500, "Could not get information at this time"),
        (500, "Internal server error"),
        api,
    )


@routes
def test_a_photo_that_takes_too_long_is_refused_in_time(service: Service, path: str, api: Api) -> None:
    released = threading.Event()

    def never() -> Any:
        released.wait(60)
        return {Api.PLATE: PLATES, Api.VIN: VINS}[api]

    service.recognition = never
    reply = refused(service, path, api, invocation=Invocation(milliseconds=2050))
    released.set()
    message = "Request timed out. Please try again."
    expect(reply, (504, message), (504, message), api)


@routes
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_any_method_but_post_is_refused(service: Service, path: str, api: Api, method: str) -> None:
    key = service.key()
    reply = service.call(path, api, method=method, query=f"key={key}")
    expect(reply, (405, "Only POST allowed."), (405, "Only POST allowed."), api)
    assert reply.headers["allow"] == "POST"
    assert service.used(key, api) == 0


@routes
def test_a_path_below_a_route_is_not_found(service: Service, path: str, api: Api) -> None:
    for method in ("POST", "GET"):
        reply = service.call(f"{path}/more", api, method=method, query=f"key={service.key()}")
        expect(reply, (404, "Not found"), (404, "Not found"), api)
    assert service.recognized == []


@routes
def test_only_readings_are_counted(service: Service, path: str, api: Api) -> None:
    key = service.key()
    outcomes: list[Recognition | None] = [None, NothingFound(api), None, InvalidImage(), ValueError(), None]
    statuses = []
    for service.recognition in outcomes:
        statuses.append(service.call(path, api, query=f"key={key}").status)
    assert statuses == [200, 404, 200, 400, 500, 200]
    assert service.used(key, api) == 3


@routes
def test_a_retry_is_neither_counted_nor_computed_again(service: Service, path: str, api: Api) -> None:
    key = service.key()
    headers = {"idempotency-key": "retry-1"}
    first = service.call(path, api, query=f"key={key}", headers=headers)
    second = service.call(path, api, query=f"key={key}", headers=headers)
    assert (first.status, second.body) == (200, first.body)
    assert service.used(key, api) == len(service.recognized) == 1


@routes
def test_an_unknown_key_with_an_idempotency_key_writes_nothing(service: Service, path: str, api: Api) -> None:
    written = service.client.scan(TableName=service.table)["Items"]
    headers = {"idempotency-key": "retry-1"}
    assert service.call(path, api, query="key=nobody", headers=headers).body["code"] == "unknown_api_key"
    assert service.client.scan(TableName=service.table)["Items"] == written


@routes
def test_a_blocked_key_gets_no_stored_answer(service: Service, path: str, api: Api) -> None:
    key = service.key()
    headers = {"idempotency-key": "retry-1"}
    assert service.call(path, api, query=f"key={key}", headers=headers).status == 200
    service.keyring.set(key_id(key), status=Status.BLOCKED)
    assert service.call(path, api, query=f"key={key}", headers=headers).status == 403


@routes
def test_a_retry_is_answered_after_the_limit_is_reached(service: Service, path: str, api: Api) -> None:
    key = service.key(limits={api: 1}, overage=False)
    headers = {"idempotency-key": "retry-1"}
    first = service.call(path, api, query=f"key={key}", headers=headers)
    assert service.call(path, api, query=f"key={key}", headers=headers).body == first.body
    assert service.call(path, api, query=f"key={key}").status == 429


@routes
@pytest.mark.parametrize(
    ("name", "value"),
    [("camera_id", "x" * 300), ("timestamp", "x" * 300), ("regions", "x" * 300), ("regions", "de," * 999)],
)
def test_parameters_repeated_in_the_answer_have_a_maximum_length(
    service: Service, path: str, api: Api, name: str, value: str
) -> None:
    body = form((name, value), ("upload", PHOTO))
    reply = refused(service, path, api, body=body, content_type=MULTIPART)
    assert (reply.status, reply.body["code"]) == (400, "invalid_request")
    assert name in reply.body["message"]
    assert len(json.dumps(reply.body)) < 1000


def usage_headers(reply: Reply) -> tuple[int, int, int]:
    """What the answer says of the key's usage: current, limit, remaining."""
    current, limit, remaining = (
        int(reply.headers[f"x-usage-{name}"]) for name in ("current", "limit", "remaining")
    )
    return current, limit, remaining
