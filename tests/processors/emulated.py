"""The engine reads the same on processors that this machine has not got, under qemu's user mode.

    make processors

Not collected by a plain ``pytest``: ``rig.sh`` must have fetched the emulator. It is some 100 times slower
than a processor, so the photos are few, and what is compared is what they read, never the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.tolerance import differences

ROOT = Path(__file__).resolve().parents[2]
RIG = ROOT / ".processors"
ENGINE = ROOT / "layers" / "recognition" / "python"
PHOTOS = ROOT / "tests" / "data"

AMD64 = [str(RIG / "qemu-x86_64"), "-cpu"]
ARM64 = [str(RIG / "qemu-aarch64"), "-L", str(RIG / "arm64"), "-cpu"]
EMULATED = {
    "Haswell": [*AMD64, "Haswell", sys.executable],  # AVX2 without VNNI, the least that Lambda promises
    "neoverse-n1": [
        *ARM64,
        "neoverse-n1",
        str(RIG / "arm64/usr/bin/python3.13"),
    ],  # Graviton2, Lambda's arm64
    "max": [
        *ARM64,
        "max",
        str(RIG / "arm64/usr/bin/python3.13"),
    ],  # all that qemu knows, SVE and I8MM among it
}


def readings(command: list[str], *packages: Path) -> Any:
    """What the engine, run by ``command``, reads from the sample photos."""
    plates = [str(PHOTOS / name) for name in ("plate_us.jpg", "plate_de.jpg")]
    arguments = ["--plates", *plates, "--vins", str(PHOTOS / "vin_plate.jpg")]
    program = str(ROOT / "tests" / "processors" / "readings.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ENGINE, *packages)))}
    done = subprocess.run(
        [*command, program, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def here() -> Any:
    read = readings([sys.executable])
    assert {name: [one.get("text") or one["vin"] for one in found][:1] for name, found in read.items()} == {
        "plate_us.jpg": ["7kmr204"],
        "plate_de.jpg": ["kapl482"],
        "vin_plate.jpg": ["WVWZZZ1KZ7M047185"],
    }
    return read


@pytest.fixture(scope="module")
def emulated() -> dict[str, Any]:
    """What is read on each emulated processor; they run side by side."""
    packages = {
        name: [RIG / "packages"] if "qemu-aarch64" in command[0] else [] for name, command in EMULATED.items()
    }
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda name: readings(EMULATED[name], *packages[name]), EMULATED)
        return dict(zip(EMULATED, found, strict=True))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("processor", EMULATED)
def test_another_processor_reads_the_same(processor: str, here: Any, emulated: dict[str, Any]) -> None:
    assert list(differences(here, emulated[processor])) == []
