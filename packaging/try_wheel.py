"""Use an installed Carsight as the README describes: as a library, on threads, and from the command line.

python try_wheel.py tests/data
"""

from __future__ import annotations

import csv
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import carsight

CHECKOUT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Fail if the installed package does not work as described."""
    data = Path(sys.argv[1])
    assert not Path(carsight.__file__).is_relative_to(CHECKOUT), carsight.__file__
    for module in ("boto3", "botocore", "pydantic", "aws_lambda_powertools"):
        assert find_spec(module) is None, f"the engine alone brings {module}"

    (plate,) = carsight.read_plates(data / "plate_us.jpg", regions=["us-ca"])
    assert (plate.text, plate.region) == ("7kmr204", "us-ca"), plate
    vin = carsight.read_vin((data / "vin_label.jpg").read_bytes())
    assert vin is not None
    assert vin.vin == "1M8GDM9AXKP042788", vin

    recognizer = carsight.PlateRecognizer.load()
    with ThreadPoolExecutor(2) as pool:
        texts = {plates[0].text for plates in pool.map(recognizer.read, [data / "plate_de.jpg"] * 4)}
    assert len(texts) == 1, texts

    ran = subprocess.run(
        ["carsight", "read", str(data), "--csv"], capture_output=True, text=True, check=True
    ).stdout
    read = {Path(row["file"]).name: row["plate"] for row in csv.DictReader(ran.splitlines())}
    assert read["plate_us.jpg"] == "7kmr204", ran
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    print(f"carsight {carsight.__version__} reads plates and VINs on Python {version}")


if __name__ == "__main__":
    main()
