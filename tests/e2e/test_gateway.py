"""The whole of Carsight over HTTP, as a new user meets it."""

from __future__ import annotations

import base64
import json
import re
import struct
import subprocess
import time
import zlib
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from tests.e2e.conftest import Running

DATA = Path(__file__).resolve().parents[1] / "data"
ROUTES = {"plate": "/platerecognition", "vin": "/v1/vinocr"}
PHOTOS = {"plate": DATA / "plate_us.jpg", "vin": DATA / "vin_label.jpg"}


def call(
    gateway: Running, method: str, path: str, body: bytes = b"", content_type: str = "application/json"
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, parsed body and headers of one request."""
    connection = HTTPConnection(urlsplit(gateway.url).netloc, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": content_type})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, json.loads(response.read() or b"{}"), headers
    finally:
        connection.close()


def as_json(image: bytes | str) -> bytes:
    text = image if isinstance(image, str) else base64.b64encode(image).decode()
    return json.dumps({"image_url": text}).encode()


@pytest.fixture(scope="module")
def own_key(gateway: Running) -> str:
    """A key that nobody else uses: batches that other tests have sent may still be read with ``demo``."""
    return gateway.keyring().create(owner="counted@example.com", tier="pro")[0]


def used(gateway: Running, key: str, api: str) -> int:
    """Units that ``key`` has used of ``api``."""
    _, answer, _ = call(gateway, "GET", f"/v1/usage?key={key}")
    return next(int(one["current"]) for one in answer["usage"] if one["api"].startswith(api))


def test_healthz_answers_once_it_is_ready(gateway: Running) -> None:
    assert call(gateway, "GET", "/healthz")[0] == 200


def test_a_plate_is_read(gateway: Running) -> None:
    status, answer, headers = call(
        gateway, "POST", "/platerecognition?key=demo", as_json(PHOTOS["plate"].read_bytes())
    )
    assert status == 200 and headers["content-type"] == "application/json"
    assert list(answer)[:4] == ["success", "message", "results", "processing_time"]
    (plate,) = answer["results"]
    assert plate["plate"] == "7kmr204" == plate["candidates"][0]["plate"]
    assert plate["region"]["code"].startswith("us")
    assert (
        plate["box"]["xmin"] < 620 < plate["box"]["xmax"]
        and plate["box"]["ymin"] < 478 < plate["box"]["ymax"]
    )
    vehicle = plate["vehicle"]["box"]
    assert vehicle["xmin"] < plate["box"]["xmin"] and plate["box"]["xmax"] < vehicle["xmax"]
    assert int(headers["x-usage-current"]) >= 1


def test_a_vin_is_read(gateway: Running) -> None:
    status, answer, _ = call(gateway, "POST", "/v1/vinocr?key=demo", as_json(PHOTOS["vin"].read_bytes()))
    assert status == 200
    assert re.fullmatch("[0-9A-HJ-NPR-Z]{17}", answer["vin"])
    assert answer["candidates"][0]["vin"] == answer["vin"] and answer["candidates"][0]["box"] == answer["box"]


def test_the_printed_commands_work_as_pasted(gateway: Running) -> None:
    commands = [line.strip() for line in gateway.lines if line.strip().startswith("curl ")]
    while len(commands) < 2:  # they are written just after the line that says it is ready
        time.sleep(0.05)
        commands = [line.strip() for line in gateway.lines if line.strip().startswith("curl ")]
    for command in commands:
        answer = json.loads(subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout)
        assert answer["success"] is True


def test_a_car_without_a_plate_is_the_404(gateway: Running, own_key: str) -> None:
    before = used(gateway, own_key, "plate")
    body = as_json((DATA / "no_plate.jpg").read_bytes())
    status, answer, _ = call(gateway, "POST", f"/platerecognition?key={own_key}", body)
    assert (status, answer["message"]) == (404, "No plates detected in image")
    assert used(gateway, own_key, "plate") == before


def _declaring(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


_INVALID = "Invalid image data format. Must be a valid URL or base64 encoded string."
_ONE_PIXEL = cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize("api", ROUTES)
@pytest.mark.parametrize(
    "body, status, message",
    [
        pytest.param(as_json("@@@ no base64 @@@"), 400, _INVALID, id="bad base64"),
        pytest.param(as_json(PHOTOS["plate"].read_bytes()[:20_000]), 400, _INVALID, id="truncated JPEG"),
        pytest.param(as_json(_ONE_PIXEL), 400, _INVALID, id="1x1"),
        pytest.param(as_json(b"just some text\n" * 40), 400, _INVALID, id="text file"),
        pytest.param(as_json(_declaring(30_000, 30_000)), 400, _INVALID, id="30,000 x 30,000 declared"),
        pytest.param(as_json("http://127.0.0.1/photo.jpg"), 400, _INVALID, id="loopback URL"),
        pytest.param(b"", 400, None, id="empty body"),
        pytest.param(b"[1, 2, 3]", 400, None, id="JSON array"),
        pytest.param(as_json(b"\0" * 9_000_000), 413, "Image is too large.", id="12 MB"),
        pytest.param(as_json(b"\0" * 5_000_000), 413, "Image is too large.", id="over Lambda's 6 MB"),
    ],
)
def test_bad_input_is_refused_and_costs_nothing(
    gateway: Running, own_key: str, api: str, body: bytes, status: int, message: str | None
) -> None:
    before = used(gateway, own_key, api)
    got, answer, _ = call(gateway, "POST", f"{ROUTES[api]}?key={own_key}", body)
    missing = {"plate": "Missing upload URL", "vin": "Missing image data"}[api]
    assert (got, answer["message"], answer["success"]) == (status, message or missing, False)
    assert used(gateway, own_key, api) == before


def test_browsers_may_call_it(gateway: Running) -> None:
    connection = HTTPConnection(urlsplit(gateway.url).netloc, timeout=10)
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
    connection.request("OPTIONS", "/platerecognition", headers=headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.status == 204
    assert response.getheader("access-control-allow-origin") == "*"
    assert "POST" in (response.getheader("access-control-allow-methods") or "")


def test_malformed_chunks_are_refused(gateway: Running) -> None:
    connection = HTTPConnection(urlsplit(gateway.url).netloc, timeout=10)
    connection.putrequest("POST", "/platerecognition?key=demo")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders(b"zz\r\nhello\r\n0\r\n\r\n")
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    assert (response.status, answer["success"], answer["code"]) == (400, False, "invalid_request")
