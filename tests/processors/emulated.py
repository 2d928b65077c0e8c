"""The product answers the same on processors that this machine has not got, under qemu's user mode.

    make processors

Not collected by a plain ``pytest``: ``rig.sh`` must have fetched the emulator. It is some 100 times slower
than a processor, so the photos are few, and what is compared is what they read, never the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from carsight_service.aws.clients import Clients
from carsight_service.metering.keyring import Keyring
from local.template import create_table
from tests.tolerance import differences

ROOT = Path(__file__).resolve().parents[2]
RIG = ROOT / ".processors"
PHOTOS = ROOT / "tests" / "data"
TABLE = "carsight-processors"

HERE = [sys.executable]
PYTHON_ON_ARM = [str(RIG / "arm64/usr/bin/python3.13")]
EMULATED = {
    # AVX2 without VNNI, the least that Lambda promises.
    "Haswell": [str(RIG / "qemu-x86_64"), "-cpu", "Haswell", *HERE],
    # Graviton2, Lambda's arm64; and all that qemu knows of Arm, SVE and I8MM among it.
    "neoverse-n1": [
        str(RIG / "qemu-aarch64"),
        "-L",
        str(RIG / "arm64"),
        "-cpu",
        "neoverse-n1",
        *PYTHON_ON_ARM,
    ],
    "max": [str(RIG / "qemu-aarch64"), "-L", str(RIG / "arm64"), "-cpu", "max", *PYTHON_ON_ARM],
}


def said(command: Sequence[str], program: str, arguments: Sequence[str]) -> Any:
    """What ``program`` of this folder, run by ``command``, prints last."""
    folders = [*os.environ["PYTHONPATH"].split(os.pathsep), "."]
    if command[-1] in PYTHON_ON_ARM:
        folders.append(str(RIG / "packages"))
    done = subprocess.run(
        [*command, f"tests/processors/{program}.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(folders), "TABLE_NAME": TABLE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def readings(command: Sequence[str]) -> Any:
    """What the engine, run by ``command``, reads from sample photos."""
    plates = [str(PHOTOS / name) for name in ("plate_us.jpg", "plate_de.jpg")]
    return said(command, "readings", ["--plates", *plates, "--vins", str(PHOTOS / "vin_plate.jpg")])


@pytest.fixture(scope="module")
def here() -> Any:
    read = readings(HERE)
    assert {name: [one.get("text") or one["vin"] for one in found][:1] for name, found in read.items()} == {
        "plate_us.jpg": ["7kmr204"],
        "plate_de.jpg": ["kapl482"],
        "vin_plate.jpg": ["WVWZZZ1KZ7M047185"],
    }
    return read


@pytest.fixture(scope="module")
def emulated() -> dict[str, Any]:
    """What is read on each emulated processor; they run side by side."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(EMULATED, pool.map(readings, EMULATED.values()), strict=True))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("processor", EMULATED)
def test_another_processor_reads_the_same(processor: str, here: Any, emulated: dict[str, Any]) -> None:
    assert list(differences(here, emulated[processor])) == []


def comparable(answers: dict[str, Any]) -> dict[str, Any]:
    """Each answer's status, as text, headers and body, without the body's timing."""
    found = {}
    for event, answer in answers.items():
        body = json.loads(answer["body"])
        body.pop("processing_time", None)
        found[event] = {
            "status": str(answer["statusCode"]),
            "headers": sorted(answer["headers"]),
            "body": body,
        }
    return found


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("function", ["plate", "vin"])
def test_a_function_answers_the_same_on_arm64(function: str, aws: str) -> None:
    # With the packages of the image for arm64, as slim as there: what `make images ARCH=arm64` is made of.
    client = Clients().metering
    create_table(client, TABLE)
    Keyring(TABLE, client).create(owner="owner@example.com", tier="pro", key="demo")
    events = sorted(str(path) for path in (ROOT / "events").glob(f"{function}_*.json"))
    mine, theirs = (
        comparable(said(command, "answers", [function, *events]))
        for command in (HERE, EMULATED["neoverse-n1"])
    )
    client.delete_table(TableName=TABLE)
    assert len(mine) == len(events)
    assert list(differences(mine, theirs)) == []
