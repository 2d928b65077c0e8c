"""The deployed handlers, with their models, over an embedded key table: each event's answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carsight_service.contract.api import Api
from carsight_service.http.endpoint import Endpoint
from carsight_service.metering.keyring import Keyring
from tests.events import Invocation
from tests.fakes import deploy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ROOT = Path(__file__).resolve().parents[2]
INVALID = "Invalid image data format. Must be a valid URL or base64 encoded string."


Invoke = Callable[[str], tuple[int, dict[str, Any]]]


@pytest.fixture
def invoke(table: str, dynamodb: DynamoDBClient) -> Invoke:
    """Hands an event to the function it is named after. There is a key ``demo``."""
    Keyring(table, dynamodb).create(owner="owner@example.com", tier="pro", key="demo")
    deployment = deploy(table, dynamodb)

    def answer(name: str) -> tuple[int, dict[str, Any]]:
        event = json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))
        api = Api(name.partition("_")[0])
        recognize = import_module(f"functions.{api}.app").recognize
        response = Endpoint(deployment, api, recognize).handle(event, Invocation())
        assert response["headers"]["content-type"] == "application/json"
        return response["statusCode"], json.loads(response["body"])

    return answer


@pytest.mark.parametrize(
    "event",
    [
        "plate_json_base64",
        "plate_multipart_file_and_regions",
        "plate_data_uri_with_eu_prefix_and_slash",
        "plate_raw_jpeg_and_key_in_header",
    ],
)
def test_a_plate_is_read(invoke: Invoke, event: str) -> None:
    status, answer = invoke(event)
    assert status == 200
    (plate,) = answer["results"]
    assert plate["plate"] == "7kmr204" == plate["candidates"][0]["plate"]
    assert plate["region"]["code"].startswith("us")
    assert plate["vehicle"]["score"] > 0
    assert answer["image"]["width"] == 720


def test_a_vin_is_read(invoke: Invoke) -> None:
    status, answer = invoke("vin_json_base64")
    assert status == 200
    assert answer["vin"] == "1M8GDM9AXKP042788" == answer["candidates"][0]["vin"]
    assert answer["box"] == answer["candidates"][0]["box"]
    assert answer["check_digit"] == {"valid": True, "applies": True}
    assert answer["image"] == {"width": 800, "height": 600}


@pytest.mark.parametrize(
    ("event", "status", "message"),
    [
        ("plate_photo_without_a_plate", 404, "No plates detected in image"),
        ("plate_url_of_a_private_address", 400, INVALID),
        ("plate_unknown_region", 400, "Unknown regions: atlantis"),
        ("plate_no_image", 400, "Missing upload URL"),
        ("plate_no_key", 401, "Missing API key"),
        ("plate_wrong_method", 405, "Only POST allowed."),
        ("vin_no_key", 400, "Missing API key"),
        ("vin_unknown_key", 404, "User with this API key was not found or the API key is disabled"),
        ("vin_bad_base64_and_key_in_body", 400, INVALID),
        ("vin_label_without_a_vin", 404, "No valid VIN candidates found in the image"),
        ("vin_photo_without_text", 400, "No text detected in the image"),
    ],
)
def test_errors_have_their_status_and_message(invoke: Invoke, event: str, status: int, message: str) -> None:
    got, answer = invoke(event)
    assert (got, answer["success"], answer["message"]) == (status, False, message)
