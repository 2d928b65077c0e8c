"""``make run`` as somebody who tries it meets it: what it keeps, what it prints, what it refuses early."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.e2e.conftest import ROOT, Running

PHOTO = ROOT / "tests" / "data" / "plate_us.jpg"


def ask(url: str, body: bytes | None = None, key: str = "demo") -> dict[str, object]:
    kind = "application/json" if body and body.startswith(b"{") else "image/jpeg"
    request = Request(url, body, {"x-api-key": key, "content-type": kind})
    with urlopen(request, timeout=60) as response:
        answer: dict[str, object] = json.loads(response.read())
    return answer


def used(running: Running, key: str) -> int:
    report = ask(f"{running.url}/v1/usage", key=key)
    usage = report["usage"]
    assert isinstance(usage, list)
    return int(next(one["current"] for one in usage if one["api"] == "plate_image_recognition"))


def test_keys_usage_uploads_and_results_outlive_a_restart(tmp_path: Path) -> None:
    first = Running(tmp_path)
    key, account = first.keyring().create(owner="kept@example.com", tier="pro")
    ask(f"{first.url}/platerecognition", PHOTO.read_bytes(), key)
    settings = first.settings()
    s3 = first.client("s3")
    name = f"{account.profile.key_id}/plate/" + "long/" * 180 + "photo.jpg.json"
    s3.put_object(Bucket=settings["RESULTS_BUCKET"], Key=name, Body=b"{}", ContentType="application/json")
    assert first.stop() == 0

    second = Running(tmp_path)
    assert any("last run" in line for line in second.lines)
    assert used(second, key) == 1
    again = second.client("s3")
    kept = again.get_object(Bucket=settings["RESULTS_BUCKET"], Key=name)
    assert (kept["Body"].read(), kept["ContentType"]) == (b"{}", "application/json")
    assert second.stop() == 0


def test_a_killed_run_loses_at_most_its_last_seconds(tmp_path: Path) -> None:
    first = Running(tmp_path)
    key, account = first.keyring().create(owner="kept@example.com", tier="pro")
    ask(f"{first.url}/platerecognition", PHOTO.read_bytes(), key)
    settings = first.settings()
    name = "a+b ü/photo.jpg"
    first.client("s3").put_object(
        Bucket=settings["UPLOADS_BUCKET"],
        Key=f"incoming/{account.profile.key_id}/plate/{name}",
        Body=PHOTO.read_bytes(),
    )
    time.sleep(3)
    first.kill()

    second = Running(tmp_path)
    assert used(second, key) >= 1
    result = f"{account.profile.key_id}/plate/{name}.json"
    found = wait_for(second.client("s3"), settings["RESULTS_BUCKET"], result)
    assert json.loads(found)["status"] == 200
    assert used(second, key) == 2
    assert second.stop() == 0


def test_it_stops_immediately_while_a_batch_is_read_and_goes_on_when_asked(tmp_path: Path) -> None:
    running = Running(tmp_path)
    settings = running.settings()
    photo = f"incoming/{settings['key_id']}/plate/car.jpg"
    running.client("s3").put_object(Bucket=settings["UPLOADS_BUCKET"], Key=photo, Body=PHOTO.read_bytes())
    count = 800  # which take several seconds, however fast the machine is
    rows = json.dumps({"api": "plate", "images": [photo] * count}).encode()
    batch = ask(f"{running.url}/v1/batches", rows)
    time.sleep(1)
    assert ask(f"{running.url}/v1/batches/{batch['id']}")["state"] == "running"
    assert running.stop() == 0

    again = Running(tmp_path)
    assert ask(f"{again.url}/v1/batches/{batch['id']}")["state"] == "cancelled"
    ask(f"{again.url}/v1/batches/{batch['id']}/redrive", b"{}")
    for _ in range(120):
        if (said := ask(f"{again.url}/v1/batches/{batch['id']}"))["finished"]:
            break
        time.sleep(1)
    of_the_upload = 1
    assert (said["state"], said["read"], used(again, "demo")) == ("finished", count, count + of_the_upload)
    assert again.stop() == 0


def test_a_signal_to_any_thread_ends_it(tmp_path: Path) -> None:
    """The kernel may hand it to any; one that waits for a lock would not hear of it."""
    running = Running(tmp_path)
    threads = sorted(int(task.name) for task in Path(f"/proc/{running.process.pid}/task").iterdir())
    assert len(threads) > 1
    ctypes.CDLL(None).tgkill(running.process.pid, threads[-1], signal.SIGTERM)
    assert running.ended() == 0


def wait_for(s3: Any, bucket: str, key: str) -> bytes:
    """The object ``key`` once it is there: read before the kill, or after it."""
    for _ in range(60):
        try:
            body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except s3.exceptions.NoSuchKey:
            time.sleep(1)
        else:
            return body
    raise TimeoutError(key)


def test_each_request_is_one_readable_line(tmp_path: Path) -> None:
    running = Running(tmp_path, POWERTOOLS_LOG_LEVEL="WARNING", CUSTOM_METRICS="false")
    ask(f"{running.url}/platerecognition?key=demo", PHOTO.read_bytes())
    ask(f"{running.url}/healthz")
    assert running.stop() == 0
    ready = next(i for i, line in enumerate(running.lines) if "Stop with Ctrl-C" in line)
    lines = [line for line in running.lines[ready + 1 :] if line.strip()]
    assert len(lines) == 1, lines
    (line,) = lines
    assert re.fullmatch(r"\d\d:\d\d:\d\d POST /platerecognition 200 +\d+ ms\n", line)


def test_it_is_not_ready_without_its_stores(tmp_path: Path) -> None:
    running = Running(tmp_path)
    assert ask(f"{running.url}/healthz")["status"] == "ready"
    running.kill_stores()
    with pytest.raises(HTTPError, match="503"):
        ask(f"{running.url}/healthz")
    running.stop()


def test_a_port_in_use_is_reported_immediately() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = subprocess.run(
            [sys.executable, "-m", "local"],
            cwd=ROOT,
            env={**os.environ, "PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ran.returncode == 1
    assert (
        ran.stderr
        == f"Port {port} is taken. Stop what runs there, or take another: PORT={port + 1} make run\n"
    )
