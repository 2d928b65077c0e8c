"""CarsXE's own clients against Carsight, and one of Plate Recognizer's.

The Python and the npm clients run as they are published, apart from their base URL. The requests of the
others are replayed byte for byte.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from carsxe_api import CarsXE

from carsight_service.contract.api import Api
from carsight_service.metering.keyring import Keyring
from carsight_service.metering.model import Status, key_id
from tests.e2e.conftest import Running

TESTS = Path(__file__).resolve().parents[1]
NODE_CLIENT = TESTS / "clients"

Body = dict[str, Any]
Ask = Callable[["Api", str, str], Body]
"""Asks for an API with a key and an image, as a client does, and returns what the client returns."""


@pytest.fixture(scope="module")
def keyring(gateway: Running) -> Keyring:
    """The keys of the running gateway."""
    return gateway.keyring()


# -- the published clients -----------------------------------------------------------------------------------


def python_client(gateway: Running) -> Ask:
    """``carsxe`` from PyPI."""

    class Local(CarsXE):  # type: ignore[misc]
        def _get_api_base_url(self) -> str:
            return gateway.url

    def ask(api: Api, key: str, image: str) -> Body:
        client = Local(key)
        method = {Api.PLATE: client.plate_image_recognition, Api.VIN: client.vin_ocr}[api]
        answer: Body = asyncio.run(method({"upload_url": image}))
        return answer

    return ask


def run_node(script: str, given: Mapping[str, Any], folder: Path) -> list[Any]:
    """What ``script`` of ``tests/clients`` makes of what it is ``given``."""
    node = shutil.which("node")
    if node is None or not (NODE_CLIENT / "node_modules").is_dir():
        pytest.skip("needs node, and `npm ci` in tests/clients")
    answers = folder / "answers.json"
    subprocess.run(
        [node, script, str(answers)],
        cwd=NODE_CLIENT,
        input=json.dumps(given),
        text=True,
        check=True,
        capture_output=True,
        timeout=120,
    )
    made: list[Any] = json.loads(answers.read_text(encoding="utf-8"))
    return made


def node_client(gateway: Running, folder: Path) -> Ask:
    """``carsxe-api`` from npm."""

    def ask(api: Api, key: str, image: str) -> Body:
        method = {Api.PLATE: "plateImageRecognition", Api.VIN: "vinOcr"}[api]
        calls = {"baseUrl": gateway.url, "calls": [{"key": key, "method": method, "image": image}]}
        answer: Body = run_node("call.mjs", calls, folder)[0]
        return answer

    return ask


@pytest.fixture(params=["PyPI carsxe 1.4.0", "npm carsxe-api 1.4.0"])
def ask(request: pytest.FixtureRequest, gateway: Running, tmp_path: Path) -> Ask:
    return python_client(gateway) if request.param.startswith("PyPI") else node_client(gateway, tmp_path)


def in_base64(name: str) -> str:
    return base64.b64encode((TESTS / "data" / name).read_bytes()).decode()


def blank() -> str:
    """A gray image, as a data URI."""
    encoded = cv2.imencode(".png", np.full((480, 640, 3), 128, np.uint8))[1]
    return f"data:image/png;base64,{base64.b64encode(encoded.tobytes()).decode()}"


PHOTOS = {Api.PLATE: "plate_us.jpg", Api.VIN: "vin_label.jpg"}


def test_a_client_gets_a_plate(ask: Ask, keyring: Keyring) -> None:
    key, _ = keyring.create(owner="o", tier="pro")
    answer = ask(Api.PLATE, key, in_base64(PHOTOS[Api.PLATE]))
    assert answer["success"] is True
    plate = answer["results"][0]
    assert plate["plate"] == plate["candidates"][0]["plate"]
    assert plate["box"]["xmin"] < plate["box"]["xmax"]
    assert plate["vehicle"].keys() >= {"score", "type", "box"}
    assert keyring.show(key_id(key)).usage[0].current == 1


def test_a_client_gets_a_vin(ask: Ask, keyring: Keyring) -> None:
    key, _ = keyring.create(owner="o", tier="pro")
    answer = ask(Api.VIN, key, in_base64(PHOTOS[Api.VIN]))
    assert answer["success"] is True
    assert answer["vin"] == answer["candidates"][0]["vin"]
    assert len(answer["vin"]) == 17
    assert all(
        candidate["box"].keys() == {"xmin", "xmax", "ymin", "ymax"} for candidate in answer["candidates"]
    )
    assert keyring.show(key_id(key)).usage[1].current == 1


@dataclass(frozen=True)
class Case:
    """Something a client can be told; ``messages`` by API."""

    image: str
    messages: Mapping[Api, str]
    settings: Mapping[str, Any]


def both(message: str) -> dict[Api, str]:
    return dict.fromkeys(Api, message)


GOOD, ANY = "the photo", "plate_us.jpg"
UNKNOWN = "User with this API key was not found or the API key is disabled"
NOT_AN_IMAGE = "Invalid image data format. Must be a valid URL or base64 encoded string."
CASES = {
    "inactive": Case(
        GOOD,
        both(
            "User with this API key is not active. "
            "To activate update your billing on https://carsxe.com/dashboard/billing"
        ),
        {"status": Status.INACTIVE},
    ),
    "disabled": Case(GOOD, both(UNKNOWN), {"status": Status.DISABLED}),
    "blocked": Case(
        GOOD,
        both("This API key has been blocked, please contact support if you believe this is an error."),
        {"status": Status.BLOCKED},
    ),
    "no image": Case("", {Api.PLATE: "Missing upload URL", Api.VIN: "Missing image data"}, {}),
    "not an image": Case("aGVsbG8=", both(NOT_AN_IMAGE), {}),
    "not base64": Case("not an image!", both(NOT_AN_IMAGE), {}),
    "a URL refused": Case("http://127.0.0.1:1/photo.jpg", both(NOT_AN_IMAGE), {}),
    "a bucket refused": Case("s3://somebody-else/photo.jpg", both(NOT_AN_IMAGE), {}),
    "nothing there": Case(
        blank(),
        {Api.PLATE: "No plates detected in image", Api.VIN: "No text detected in the image"},
        {},
    ),
    "too large": Case("A" * 7_000_000, both("Image is too large."), {}),
}


# The Python client hands aiohttp a large body in one piece, which aiohttp finds unwise.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_client_receives_the_error_message(ask: Ask, keyring: Keyring, case: Case, api: Api) -> None:
    key, _ = keyring.create(owner="o", tier="pro")
    if case.settings:
        keyring.set(key_id(key), **case.settings)
    answer = ask(api, key, in_base64(ANY) if case.image == GOOD else case.image)
    assert (answer["success"], answer["message"]) == (False, case.messages[api])
    assert sum(usage.current for usage in keyring.show(key_id(key)).usage) == 0


@pytest.mark.parametrize("api", Api)
def test_a_client_without_a_key_receives_the_error(ask: Ask, api: Api) -> None:
    assert ask(api, "", in_base64(ANY))["message"] == "Missing API key"


@pytest.mark.parametrize("api", Api)
def test_a_client_with_an_unknown_key_receives_the_error(ask: Ask, api: Api) -> None:
    assert ask(api, "cs_" + "0" * 43, in_base64(ANY))["message"] == UNKNOWN


def test_a_client_without_the_api_in_its_plan_receives_the_error(ask: Ask, keyring: Keyring) -> None:
    for api, other in ((Api.PLATE, Api.VIN), (Api.VIN, Api.PLATE)):
        key, _ = keyring.create(owner="o", tier="enterprise", limits={other: 5})
        assert ask(api, key, in_base64(ANY))["message"] == (
            "This API is not available for your current subscription tier. "
            "Visit https://carsxe.com/pricing to review upgrade options."
        )


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("tier", ["sandbox", "starter"])
def test_a_client_over_its_limit_receives_the_error(ask: Ask, keyring: Keyring, api: Api, tier: str) -> None:
    key, _ = keyring.create(owner="o", tier=tier, limits=dict.fromkeys(Api, 0), overage=False)
    answer = ask(api, key, in_base64(ANY))
    assert answer["message"].startswith(f"API limit exceeded for {api.contract_name} (")
    assert f"Subscription tier: {tier}. Current usage: 0, Limit: 0." in answer["message"]
    assert answer["message"].endswith(
        "Please upgrade your tier to continue using the API."
        if tier == "sandbox"
        else "Enable overage billing in your dashboard billing preferences to continue with overage charges"
    )
    assert answer["usage"] == {"current": 0, "limit": 0, "remaining": 0}


# -- Plate Recognizer's: node-red-contrib-plate-recognizer 1.0.3 from npm ------------------------------------

DATA = TESTS / "data"


def node_red(gateway: Running, folder: Path, token: str, *calls: Mapping[str, Any]) -> list[Any]:
    """What a node sends and shows for each of ``calls``."""
    paths = {"plate-recognizer": "/v1/plate-reader/", "plate-statistics": "/v1/statistics/"}
    usual = {"makeAndModel": True, "statusText": "plates", "cameraId": "gate"}
    made = [
        {**call, "settings": {**usual, **call.get("settings", {}), "url": gateway.url + paths[call["type"]]}}
        for call in calls
    ]
    return run_node("node_red.mjs", {"token": token, "calls": made}, folder)


def test_node_red_reads_plates_and_its_usage(gateway: Running, keyring: Keyring, tmp_path: Path) -> None:
    key, _ = keyring.create(owner="o", tier="pro")
    hints = {"regionFilter": True, "regionList": '["us-ca", "th-37"]'}
    photo = {"type": "plate-recognizer", "photo": str(DATA / "plate_us.jpg"), "settings": hints}
    none = {"type": "plate-recognizer", "photo": str(DATA / "no_plate.jpg")}
    read, empty, statistics = node_red(gateway, tmp_path, key, photo, none, {"type": "plate-statistics"})
    sent, failed = read["sent"]
    assert failed is None
    assert (sent["payload"]["status"], sent["payload"]["camera_id"]) == (200, "gate")
    (plate,) = sent["payload"]["results"]
    assert read["shown"] == plate["plate"].upper() == "7KMR204"
    assert plate.keys() >= {"color", "orientation", "model_make"}
    assert (empty["sent"][0]["payload"]["results"], empty["shown"]) == ([], "")
    assert statistics["sent"]["payload"]["usage"]["calls"] == 2


def test_node_red_sends_a_refusal_to_its_second_output(gateway: Running, tmp_path: Path) -> None:
    (refused,) = node_red(
        gateway, tmp_path, "unknown", {"type": "plate-recognizer", "photo": str(DATA / "plate_us.jpg")}
    )
    assert refused["sent"][0] is None
    assert refused["sent"][1]["image"]


# -- the others, byte for byte -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    """How a client sends an image. ``body`` is made of a key and the image, and sent in one chunk or whole.

    ``head`` is what it begins with, but for the host and the length. It names the ``path`` of an API, or the
    ``short`` one without its version, and the ``key``.
    """

    head: str
    body: Callable[[str, str], str]
    chunked: bool = False

    def request(self, path: str, key: str, image: str) -> bytes:
        """The request, byte for byte."""
        body = self.body(key, image).encode()
        length = "Transfer-Encoding: chunked" if self.chunked else f"Content-Length: {len(body)}"
        head = self.head.format(path=path, short=path.removeprefix("/v1"), key=key)
        first, *headers = (line.strip() for line in head.strip().splitlines())
        lines = [first, "Host: api.example", *headers, length, "Connection: close", "", ""]
        sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if self.chunked else body
        return "\r\n".join(lines).encode() + sent


def tight(**members: str) -> str:
    """JSON without spaces."""
    return json.dumps(members, separators=(",", ":"))


def escaped_for_html(text: str) -> str:
    """What ``System.Text.Json`` makes of JSON, ``+`` of base64 among it."""
    return re.sub("[+&'<>]", lambda character: f"\\u{ord(character[0]):04X}", text)


CLIENTS = {
    # ``encoding/json`` by an Encoder: a newline at the end, and ``&`` escaped.
    "go": Client(
        """
        POST {path}?key={key}&source=go HTTP/1.1
        User-Agent: Go-http-client/1.1
        Content-Type: application/json
        Accept-Encoding: gzip
        """,
        lambda _, image: tight(image=image).replace("&", "\\u0026") + "\n",
    ),
    "dotnet": Client(
        """
        POST {path}?key={key}&source=c%23 HTTP/1.1
        Content-Type: application/json; charset=utf-8
        Accept: application/json
        """,
        lambda _, image: escaped_for_html(tight(image=image)),
        chunked=True,
    ),
    # ``java.net.http`` asks for HTTP/2 first.
    "java": Client(
        """
        POST {path}?key={key}&source=java HTTP/1.1
        Upgrade: h2c
        HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA
        User-Agent: Java-http-client/17.0.9
        Content-Type: application/json
        """,
        lambda _, image: json.dumps({"image": image}),
    ),
    # ``json_encode`` escapes slashes.
    "php": Client(
        """
        POST {path}?key={key}&source=php HTTP/1.1
        User-Agent: GuzzleHttp/7
        Content-Type: application/json
        Accept: */*
        """,
        lambda _, image: tight(upload_url=image).replace("/", "\\/"),
    ),
    # ``Net::HTTP``, with a key of its own spelling.
    "ruby": Client(
        """
        POST {path}?key={key}&source=ruby HTTP/1.1
        Content-Type: application/json
        Accept-Encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3
        Accept: */*
        User-Agent: Ruby
        """,
        lambda _, image: json.dumps({"imageUrl": image}),
    ),
    # The MCP servers' ``fetch``: the bare image as text, at the short path.
    "mcp": Client(
        """
        POST {short}?key={key}&source=mcp HTTP/1.1
        content-type: text/plain;charset=UTF-8
        accept: */*
        accept-language: *
        user-agent: node
        """,
        lambda _, image: image,
    ),
    # The key in the body.
    "early_npm": Client(
        """
        POST {short} HTTP/1.1
        Content-Type: application/json
        """,
        lambda key, image: tight(key=key, image=image),
    ),
    # A trailing slash, the region's prefix, and words that nobody knows.
    "careless": Client(
        """
        POST /eu{path}/?key={key}&source=cli&unknown=1 HTTP/1.1
        Content-Type: application/json
        """,
        lambda _, image: json.dumps({"image": image, "unknown": [1, 2]}),
    ),
}
PATHS = {Api.PLATE: "/platerecognition", Api.VIN: "/v1/vinocr"}


def exchange(gateway: Running, sent: bytes) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of the answer to ``sent``, written as it is."""
    address = urlsplit(gateway.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(sent)
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head_received, _, body_received = received.partition(b"\r\n\r\n")
    status, *lines = head_received.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(status.split()[1]), headers, body_received


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_every_other_client_s_request_is_understood(
    gateway: Running, keyring: Keyring, client: Client, api: Api
) -> None:
    key, _ = keyring.create(owner="o", tier="pro")
    status, headers, body = exchange(gateway, client.request(PATHS[api], key, in_base64(PHOTOS[api])))
    answer = json.loads(body)
    assert (status, answer["success"]) == (200, True)
    assert headers["content-type"] == "application/json"
    assert headers["x-usage-current"] == "1"


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_every_other_client_can_read_its_errors(gateway: Running, client: Client, api: Api) -> None:
    status, headers, body = exchange(gateway, client.request(PATHS[api], "unknown", "aGVsbG8="))
    assert status == {Api.PLATE: 401, Api.VIN: 404}[api]
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["message"] == UNKNOWN
