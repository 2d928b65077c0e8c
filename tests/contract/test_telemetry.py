"""What a request leaves behind: its log line and metrics, and never a secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from carsight_service import telemetry
from carsight_service.contract.api import Api
from carsight_service.contract.errors import InvalidImage, NothingFound
from carsight_service.metering.model import Status, key_id, prefix_of
from tests.events import MULTIPART, Invocation, form
from tests.fakes import BASE64, NOW, PHOTO, ROUTES, Recognition, Service, deploy
from tests.serving import serving_photos

SIGNATURE = "5fd924625f6ab16a19cc9807c7c506ae1813490e4ba675f843d5a10e0baacdb8"


class Output:
    """Everything written while a test runs: by the service, by every library, and as metrics."""

    def __init__(self, log: io.StringIO, capture: pytest.CaptureFixture[str]) -> None:
        self._log = log
        self._capture = capture

    def read(self) -> str:
        written = self._capture.readouterr()
        return self._log.getvalue() + written.out + written.err


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Output]:
    log = io.StringIO()
    everything = logging.StreamHandler(log)
    everything.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    for handler in telemetry.logger.handlers:
        monkeypatch.setattr(handler, "stream", log)
    root = logging.getLogger()
    level = root.level
    root.addHandler(everything)
    yield Output(log, capsys)
    root.removeHandler(everything)
    root.setLevel(level)
    telemetry.logger.setLevel(logging.INFO)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_reading_is_logged_and_counted(service: Service, output: Output) -> None:
    key = service.key()
    service.call("/eu/platerecognition/", Api.PLATE, query=f"key={key}")
    log, metrics = lines(output.read())
    assert {name: log[name] for name in log if name not in ("timestamp", "location", "ms", "cold_start")} == {
        "level": "INFO",
        "message": "answered",
        "service": "carsight",
        "api": "plate",
        "request_id": "id-1",
        "function_request_id": "invocation-1",
        "method": "POST",
        "route": "/platerecognition",
        "source": "base64",
        "tier": "pro",
        "key": prefix_of(key),
        "status": 200,
    }
    assert set(log["ms"]) == {"keys", "load", "total"}
    declared = metrics["_aws"]["CloudWatchMetrics"][0]
    assert (declared["Namespace"], declared["Dimensions"]) == ("Carsight", [["api", "service"]])
    assert (metrics["api"], metrics["service"]) == ("plate", "carsight")
    units = {metric["Name"]: metric["Unit"] for metric in declared["Metrics"]}
    assert units["TotalLatency"] == units["KeysLatency"] == units["LoadLatency"] == "Milliseconds"
    assert units["Requests"] == units["Reads"] == "Count"
    assert metrics["Requests"] == metrics["Reads"] == [1]


@pytest.mark.parametrize(
    ("recognition", "body", "code", "metric"),
    [
        (NothingFound(Api.VIN), BASE64, "nothing_found", "NotFound"),
        (InvalidImage("cut short"), BASE64, "invalid_image", "Invalid"),
        (None, "", "missing_image", "Invalid"),
        (ZeroDivisionError("unforeseen"), BASE64, "internal_error", "Faults"),
    ],
)
def test_any_other_ending_is_logged_and_counted(
    service: Service, output: Output, recognition: Recognition | None, body: str, code: str, metric: str
) -> None:
    service.recognition = recognition
    service.call("/vinocr", Api.VIN, query=f"key={service.key()}", body=body, content_type="text/plain")
    *unforeseen, log, metrics = lines(output.read())
    assert (log["code"], log["api"], log["tier"]) == (code, "vin", "pro")
    counted = {name for name in ("Reads", "NotFound", "Refused", "Invalid", "Faults") if metrics[name] == [1]}
    assert counted == {metric}
    assert [("unforeseen" in line["exception"]) for line in unforeseen] == [True] * (metric == "Faults")


@pytest.mark.parametrize(("query", "code"), [("", "missing_api_key"), ("key=nobody", "unknown_api_key")])
def test_a_refused_key_is_counted_as_refused(service: Service, output: Output, query: str, code: str) -> None:
    service.call("/vinocr", Api.VIN, query=query)
    log, metrics = lines(output.read())
    assert (log["code"], log["level"], metrics["Refused"], metrics["Reads"]) == (code, "INFO", [1], [0])


def test_only_the_first_request_is_cold(
    service: Service, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "_cold", True)
    for _ in range(2):
        service.call("/platerecognition", Api.PLATE, query=f"key={service.key()}")
    written = lines(output.read())
    assert [line["cold_start"] for line in written if "cold_start" in line] == [True, False]
    assert [line["ColdStarts"] for line in written if "ColdStarts" in line] == [[1], [0]]


@pytest.fixture
def photos(service: Service) -> Iterator[str]:
    """A server of photos on this machine, where local development may fetch from."""
    service.deployment = deploy(service.table, service.client, lambda: NOW, local_fetch=True)
    with serving_photos(lambda path: PHOTO if path.startswith("/photo.jpg") else None) as address:
        yield address


def test_no_secret_is_ever_written(service: Service, output: Output, photos: str) -> None:
    logging.getLogger().setLevel(logging.DEBUG)  # which includes what is written at any other level
    telemetry.logger.setLevel(logging.DEBUG)
    statuses = set()
    for path, api in ROUTES.items():
        key, blocked = service.key("pro", limits={api: 3}, overage=False), service.key()
        service.keyring.set(key_id(blocked), status=Status.BLOCKED)
        secrets = [key, blocked]
        signed = f"{photos}/photo.jpg?X-Amz-Signature={SIGNATURE}"
        for request in (
            {"query": f"key={key}"},
            {"headers": {"x-api-key": key, "idempotency-key": "once"}},
            {"headers": {"authorization": f"Token {key}"}, "body": json.dumps({"image": signed})},
            {"query": f"key={key}"},  # over the limit
            {"query": f"key={blocked}"},
            {"query": "key="},
            {"query": f"key={key}", "method": "GET"},
        ):
            statuses.add(service.call(path, api, **request).status)
        key = service.key()
        secrets.append(key)
        for recognition, body, content_type in (
            (None, json.dumps({"key": key, "image": f"{photos}/gone.jpg?X-Amz-Signature={SIGNATURE}"}), None),
            (None, json.dumps({"image": f"https://169.254.169.254/?X-Amz-Signature={SIGNATURE}"}), None),
            (None, json.dumps({"image": f"https://[nonsense/?X-Amz-Signature={SIGNATURE}"}), None),
            (None, json.dumps({"image": BASE64 + "!"}), None),
            (None, json.dumps({"image": f"s3://bucket/{SIGNATURE}"}), None),
            (None, form(("key", key), ("upload", PHOTO)), MULTIPART),
            (NothingFound(api), BASE64, "text/plain"),
            (RuntimeError("unforeseen"), BASE64, "text/plain"),
        ):
            service.recognition = recognition
            statuses.add(
                service.call(path, api, query=f"key={key}", body=body, content_type=content_type).status
            )
        service.recognition = None
        statuses.add(service.call(path, api, Invocation(0), query=f"key={key}").status)
        written = output.read()
        assert "answered" in written
        for secret in (*secrets, *(quote(secret) for secret in secrets), BASE64, BASE64[:16], SIGNATURE):
            assert secret not in written
    assert statuses >= {200, 400, 403, 404, 405, 429, 500}


def test_no_handler_logs_an_event() -> None:
    """Powertools can; a key would be in it."""
    for file in Path("functions").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "log_event" not in text
        assert "print(" not in text
