"""Nothing that a full run writes, at debug level, holds a key, an image or a signed URL's query."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from carsight_service.contract.api import Api
from carsight_service.metering.model import Status, key_id
from tests.e2e.conftest import Running
from tests.events import form
from tests.serving import serving_photos

PHOTO = (Path(__file__).resolve().parents[1] / "data" / "plate_us.jpg").read_bytes()
BASE64 = base64.b64encode(PHOTO).decode()
SIGNATURE = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
ROUTES = ("/platerecognition", "/v1/vinocr")


class Sender:
    """Sends requests to a gateway and remembers how they were answered."""

    def __init__(self, gateway: Running) -> None:
        self._host = urlsplit(gateway.url).netloc
        self.statuses: set[int] = set()

    def send(
        self,
        method: str,
        path: str,
        body: str | bytes = b"",
        content_type: str = "application/json",
        **headers: str,
    ) -> bytes:
        connection = HTTPConnection(self._host, timeout=60)
        declared = {"content-type": content_type, **{n.replace("_", "-"): v for n, v in headers.items()}}
        connection.request(method, path, body, declared)
        response = connection.getresponse()
        self.statuses.add(response.status)
        answer = response.read()
        connection.close()
        return answer


def send_everything(sender: Sender, key: str, refused: list[str], server: str) -> None:
    """Every way to send a key and an image, right and wrong."""
    signed = f"{server}/photo.jpg?X-Amz-Credential=AKIAEXAMPLE&X-Amz-Signature={SIGNATURE}"
    gone = signed.replace("photo.jpg", "gone.jpg")
    images = [
        BASE64,
        f"data:image/jpeg;base64,{BASE64}",
        signed,
        gone,
        BASE64[:-3] + "!!",
        "",
        f"s3://b/{SIGNATURE}",
    ]
    for route in ROUTES:
        post = partial(sender.send, "POST")
        for image in images:
            post(f"{route}?key={key}", json.dumps({"image": image}))
        post(route, json.dumps({"image": BASE64, "key": key}))
        post(route, json.dumps({"image": BASE64}), x_api_key=key)
        post(route, BASE64, "text/plain", authorization=f"Token {key}")
        post(route, signed, "text/plain", x_api_key=key)
        post(f"{route}?key={key}", PHOTO, "image/jpeg")
        post(f"{route}?key={key}", form(("upload", PHOTO)), "multipart/form-data; boundary=XyZ")
        post(f"{route}?key={key}", "A" * 7_000_000, "text/plain")
        for _ in range(2):
            post(f"{route}?key={key}", json.dumps({"image": BASE64}), idempotency_key=f"retry-{SIGNATURE}")
        post(f"{route}?key={key}", json.dumps({"image": signed}), idempotency_key=f"retry-{SIGNATURE}")
        for other in refused:
            post(f"{route}?key={other}", json.dumps({"image": BASE64}))
        sender.send("GET", f"{route}?key={key}&image={BASE64[:200]}")
    sender.send("GET", f"/v1/auth/validate?key={key}")
    sender.send("POST", "/v1/auth/validate", json.dumps({"key": key}))
    sender.send("GET", f"/v1/usage?key={key}")
    sender.send("GET", f"/nowhere?key={key}")
    for other in refused:
        sender.send("GET", f"/v1/usage?key={other}")
    sender.send("POST", f"/v1/uploads?key={key}", json.dumps({"api": "plate", "name": "a.jpg"}))
    sender.send("POST", f"/v1/uploads?key={key}", json.dumps({"api": "plate", "key": key}))
    sender.send("POST", f"/v1/batches?key={key}", json.dumps({"api": "plate", "images": [signed, gone]}))
    sender.send("POST", f"/v1/batches?key={key}", json.dumps({"api": key, "images": [signed]}))
    sender.send("POST", f"/v1/batches?key={key}", json.dumps({"api": "plate", "list": signed}))


@pytest.fixture(scope="module")
def debugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway that logs all it can, and may fetch from this machine."""
    running = Running(tmp_path_factory.mktemp("debug"), POWERTOOLS_LOG_LEVEL="DEBUG", LOCAL_FETCH="true")
    yield running
    if running.process.poll() is None:
        running.stop()


def test_nothing_secret_is_ever_logged(debugged: Running) -> None:
    keyring = debugged.keyring()
    key, _ = keyring.create(owner="o", tier="pro")
    blocked, _ = keyring.create(owner="o", tier="pro")
    keyring.set(key_id(blocked), status=Status.BLOCKED)
    spent, _ = keyring.create(owner="o", tier="pro", limits=dict.fromkeys(Api, 0), overage=False)
    unknown = "cs_" + "Unknown0" * 5 + "end"
    sender = Sender(debugged)
    with serving_photos(lambda path: None if path.startswith("/gone.jpg") else PHOTO) as server:
        send_everything(sender, key, [blocked, spent, unknown], server)
    assert {200, 400, 401, 403, 404, 405, 413, 422, 429} <= sender.statuses
    assert not {status for status in sender.statuses if status >= 500}
    debugged.stop()

    written = "".join(debugged.lines)
    assert written.count('"answered"') > 50
    secrets = {
        **{f"key {number}": text for number, text in enumerate((key, blocked, spent, unknown))},
        "the rest of the key": key[11:],
        "a signature": SIGNATURE,
        "a URL's query": "X-Amz-",
        **{f"base64 at {at}": BASE64[at : at + 32] for at in range(0, len(BASE64), len(BASE64) // 50)},
        "the start of the bytes": repr(PHOTO[:16])[2:-1],
        "a large payload": "A" * 64,
    }
    assert [name for name, secret in secrets.items() if secret in written] == []
