"""A photo goes in by the command line, its reading comes out: gateway, buckets, queue and worker."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Running

PHOTOS = ROOT / "tests" / "data"

Carsight = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def carsight(gateway: Running, tmp_path: Path) -> Carsight:
    """Runs a command against the gateway, from a folder of its own."""
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "endpoint.json").symlink_to(gateway.endpoint)
    path = os.pathsep.join(str(ROOT / "layers" / layer / "python") for layer in ("recognition", "service"))

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "carsight_service.cli", *map(str, arguments), "--local"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


def test_a_photo_is_uploaded_and_its_reading_is_shown(carsight: Carsight) -> None:
    shown = carsight("upload", PHOTOS / "plate_us.jpg")
    assert (shown.returncode, shown.stderr) == (0, "")
    _, line = shown.stdout.splitlines()
    assert line.split()[1] == "200"
    assert "(us" in line


def test_every_photo_of_a_folder_is_uploaded_and_read(carsight: Carsight) -> None:
    shown = carsight("upload", PHOTOS, "--json")
    results = {Path(one["file"]).name: one for one in json.loads(shown.stdout)}
    assert results.keys() == {photo.name for photo in PHOTOS.iterdir() if photo.suffix != ".md"}
    assert results["plate_de.jpg"]["status"] == 200
    assert results["no_plate.jpg"]["code"] == "nothing_found"
    assert results["plate_de.jpg"]["key"].endswith("/plate/data/plate_de.jpg")


def test_a_photo_of_a_vin_is_uploaded_and_read(carsight: Carsight) -> None:
    shown = carsight("upload", PHOTOS / "vin_label.jpg", "--api", "vin", "--json")
    (result,) = json.loads(shown.stdout)
    assert (result["status"], len(result["vin"])) == (200, 17)


def test_what_is_wrong_with_a_file_that_is_not_a_photo_is_shown(carsight: Carsight, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no photo")
    shown = carsight("upload", "notes.jpg")
    assert shown.returncode == 0
    assert "Invalid image data format" in shown.stdout


@pytest.mark.parametrize("size", [0, 10 * 1024 * 1024 + 1])
def test_a_file_that_the_bucket_would_refuse_is_an_error(
    carsight: Carsight, tmp_path: Path, size: int
) -> None:
    (tmp_path / "car.jpg").write_bytes(b" " * size)
    shown = carsight("upload", "car.jpg")
    assert shown.returncode == 1
    assert "must have 1 to 10,485,760 bytes" in shown.stdout


def test_a_batch_is_followed_to_its_end(carsight: Carsight, gateway: Running, tmp_path: Path) -> None:
    carsight("upload", PHOTOS / "plate_us.jpg")
    uploaded = f"incoming/{gateway.settings()['key_id']}/plate/plate_us.jpg"
    (tmp_path / "list.csv").write_text(f"gate,image_url\n1,{uploaded}\n2,https://10.0.0.1/car.jpg\n")
    shown = carsight("batch", "create", "list.csv", "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    batch = json.loads(shown.stdout)
    assert (batch["state"], batch["rows"], batch["read"], batch["failed"]) == ("finished", 2, 1, 1)
    with Path(tmp_path / batch["results"]["csv"]).open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["status"], second["code"]) == ("200", "invalid_image")
    with Path(tmp_path / batch["results"]["manifest"]).open(encoding="utf-8") as file:
        assert json.load(file)["id"] == batch["id"]
    _, told = carsight("batch", "status", batch["id"]).stdout.splitlines()
    assert told.split()[:5] == [batch["id"], "finished", "2", "1", "1"]
    (tmp_path / "again").mkdir()
    fetched = carsight("batch", "results", batch["id"], "--output", "again")
    assert f"again/batch-{batch['id']}.jsonl" in fetched.stdout
    assert len((tmp_path / "again" / f"batch-{batch['id']}.jsonl").read_text().splitlines()) == 2


def test_a_list_in_a_bucket_and_one_too_long_for_a_request_are_read(
    carsight: Carsight, gateway: Running, tmp_path: Path
) -> None:
    carsight("upload", PHOTOS / "plate_us.jpg")
    bucket = gateway.settings()["UPLOADS_BUCKET"]
    photo = f"s3://{bucket}/incoming/{gateway.settings()['key_id']}/plate/plate_us.jpg"
    rows = json.dumps({"image": photo, "id": "gate 7"}) + "\n"
    gateway.client("s3").put_object(Bucket=bucket, Key="lists/today.jsonl", Body=rows.encode())
    by_address = carsight(
        "batch", "create", f"s3://{bucket}/lists/today.jsonl", "--regions", "us-ca", "--json"
    )
    # Too many lines for a request.
    (tmp_path / "long.csv").write_text(f"image_url\n{photo}\n" + "\n" * 10_000)
    by_form = carsight("batch", "create", "long.csv", "--json")
    for shown in (by_address, by_form):
        assert (shown.returncode, shown.stderr) == (0, "")
        batch = json.loads(shown.stdout)
        assert (batch["state"], batch["rows"], batch["read"]) == ("finished", 1, 1)
    read = json.loads((tmp_path / json.loads(by_address.stdout)["results"]["jsonl"]).read_text())
    assert (read["id"], read["results"][0]["region"]["code"]) == ("gate 7", "us-ca")


def test_dead_letters_are_redriven(carsight: Carsight, gateway: Running) -> None:
    settings = gateway.settings()
    sqs = gateway.client("sqs")
    test_event = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"})
    for _ in range(2):
        sqs.send_message(QueueUrl=settings["UPLOADS_DEAD_LETTERS_URL"], MessageBody=test_event)
    shown = carsight("redrive", "--json")
    assert json.loads(shown.stdout) == {"uploads": 2, "webhooks": 0}
    assert json.loads(carsight("redrive", "--json").stdout) == {"uploads": 0, "webhooks": 0}


def test_an_operator_redrives_a_batch_without_its_owners_key(
    carsight: Carsight, gateway: Running, tmp_path: Path
) -> None:
    key = gateway.keyring().create(owner="fleet@example.com", tier="pro")[0]
    (tmp_path / "list.csv").write_text("https://example.invalid/car.jpg\n" * 2_000)
    batch = carsight("batch", "create", "list.csv", "--key", key, "--detach").stdout.strip()
    assert "cancelled" in carsight("batch", "stop", batch, "--key", key).stdout
    assert carsight("batch", "watch", batch, "--key", key).returncode == 0  # until it has been joined
    redriven = carsight("redrive", "--batch", batch, "--json")
    assert (redriven.returncode, json.loads(redriven.stdout)["state"]) == (0, "running")
    assert "finished" in carsight("batch", "watch", batch, "--key", key).stdout
    refused = carsight("redrive", "--batch", batch)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("carsight: Only a batch that failed or was stopped")
    for none in ("0" * 32, ""):  # the second must not bring back uploads
        assert carsight("redrive", "--batch", none).stderr == f"carsight: there is no batch {none}\n"


def test_the_secret_of_a_webhook_is_shown_once(carsight: Carsight) -> None:
    assert carsight("webhooks", "set", "demo", "http://127.0.0.1:9/").stdout.startswith("whsec_")
    assert carsight("webhooks", "show", "demo").stdout == "http://127.0.0.1:9/\n"
    assert carsight("webhooks", "remove", "demo").returncode == 0
    assert carsight("webhooks", "show", "demo").stdout == "none\n"
    refused = carsight("webhooks", "set", "demo", "ftp://example.com/")
    assert (refused.returncode, refused.stdout) == (1, "")


@pytest.mark.parametrize("arguments", [("upload", "nowhere.jpg"), ("batch", "create", "nowhere.json")])
def test_a_missing_file_is_named(carsight: Carsight, arguments: tuple[str, ...]) -> None:
    shown = carsight(*arguments)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "nowhere" in shown.stderr
