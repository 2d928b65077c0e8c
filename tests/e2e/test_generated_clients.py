"""Clients that generators make of the description: they compile, and they read a photo."""

from __future__ import annotations

import base64
import importlib
import json
import os
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Running

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
CLIENTS = ROOT / "tests" / "clients"
PLATE, VIN = DATA / "plate_us.jpg", DATA / "vin_label.jpg"
INVALID = "Invalid image data format. Must be a valid URL or base64 encoded string."


def run(*command: str | Path, folder: Path) -> str:
    # openapi-python-client has Ruff put its code in order, where it finds it.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    ran = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_what_openapi_python_client_generates_reads_plates_and_vins(
    gateway: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Path(sys.executable).with_name("openapi-python-client")
    url = f"{gateway.url}/openapi.json"
    run(generator, "generate", "--url", url, "--output-path", "client", "--meta", "none", folder=tmp_path)
    (tmp_path / "client").rename(tmp_path / "generated_client")
    monkeypatch.syspath_prepend(str(tmp_path))
    client: Any = importlib.import_module("generated_client")
    models: Any = importlib.import_module("generated_client.models")
    types: Any = importlib.import_module("generated_client.types")
    recognition = "generated_client.api.recognition"
    read_plates: Any = importlib.import_module(f"{recognition}.read_plates")
    read_vin: Any = importlib.import_module(f"{recognition}.read_vin")

    with client.AuthenticatedClient(gateway.url, "demo", prefix="", auth_header_name="x-api-key") as ours:
        text = base64.b64encode(PLATE.read_bytes()).decode()
        plates = read_plates.sync(client=ours, body=models.ImageRequest(image_url=text, regions=["us-ca"]))
        assert [result.plate for result in plates.results] == ["7kmr204"]
        file = types.File(BytesIO(VIN.read_bytes()), "vin.jpg", "image/jpeg")
        number = read_vin.sync(client=ours, body=models.ImageForm(upload=file))
        assert number.vin == "1M8GDM9AXKP042788"
        refused = read_plates.sync(client=ours, body=models.ImageRequest(image_url="not an image!"))
        assert (refused.message, refused.code) == (INVALID, "invalid_image")


@pytest.mark.skipif(shutil.which("npx") is None, reason="no npm here")
def test_what_openapi_typescript_generates_compiles_and_reads_plates_and_vins(
    gateway: Running, tmp_path: Path
) -> None:
    tools = CLIENTS / "node_modules" / ".bin"
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    shutil.copy(CLIENTS / "generated.ts", tmp_path)
    run(tools / "openapi-typescript", f"{gateway.url}/openapi.json", "-o", "api.d.ts", folder=tmp_path)
    strict = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "--types", "node")
    run(tools / "tsc", *strict, "generated.ts", folder=tmp_path)
    called = json.loads(run("node", "generated.js", gateway.url, "demo", PLATE, VIN, folder=tmp_path))
    assert called == {
        "plate": "7kmr204",
        "vin": "1M8GDM9AXKP042788",
        "message": INVALID,
        "code": "invalid_image",
    }
