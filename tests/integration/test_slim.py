"""What is left of an image's packages still does everything that the product asks of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carsight.formats import FORMATS, HEIC
from slim.prune import SERVICES, prune
from tests import cv2_calls, numpy_calls
from tests.named import called

ROOT = Path(__file__).resolve().parents[2]
LAYERS = [ROOT / "layers" / layer / "python" for layer in ("recognition", "service")]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stubs are for Lambda's loaders")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an image holds of the installed packages."""
    folder = tmp_path_factory.mktemp("packages")
    locked = (ROOT / "requirements" / "recognition.txt").read_text(encoding="utf-8")
    tops: set[Path] = set()
    for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[\w+\])?==", locked, re.MULTILINE):
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # locked for another platform
            continue
        site = Path(str(distribution.locate_file("")))
        tops |= {site / file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
    for top in tops - {site / "__pycache__" for site in {top.parent for top in tops}}:
        copy = shutil.copytree if top.is_dir() else shutil.copy
        copy(top, folder / top.name)
    before = size(folder)
    prune(folder)
    assert size(folder) < 0.6 * before
    return folder


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def run(packages: Path, *command: str) -> str:
    """What Python prints with ``packages``, both layers and nothing of this environment."""
    ran = subprocess.run(
        [sys.executable, "-S", *command],
        env={"PYTHONPATH": ":".join(map(str, [packages, *LAYERS])), "AWS_DEFAULT_REGION": "eu-central-1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr or f"ended by signal {-ran.returncode}"
    return ran.stdout


def test_every_opencv_function_that_the_product_names_runs(packages: Path) -> None:
    assert json.loads(run(packages, str(ROOT / "tests" / "cv2_calls.py"))) == sorted(cv2_calls.CALLS)


def test_every_function_of_numpy_that_the_product_names_runs(packages: Path) -> None:
    """``np.median`` and ``np.unique``, say, import masked arrays when they are called."""
    printed = run(packages, str(ROOT / "tests" / "numpy_calls.py"))
    # Types and ufuncs, with their methods, are there from the start.
    named = {
        name for name in called("np") if not isinstance(getattr(np, name.split(".")[0]), type | np.ufunc)
    }
    assert json.loads(printed) == sorted(numpy_calls.CALLS) == sorted(named)


_READ = """
import sys
import carsight
import cv2
print(cv2.__file__)
print(carsight.read_plates(sys.argv[1])[0].text, carsight.read_vin(sys.argv[2]).vin)
"""


def test_photos_are_read(packages: Path) -> None:
    data = ROOT / "tests" / "data"
    cv2_at, read = run(
        packages, "-c", _READ, str(data / "plate_us.jpg"), str(data / "vin_label.jpg")
    ).splitlines()
    assert Path(cv2_at).is_relative_to(packages)
    assert read == "7kmr204 1M8GDM9AXKP042788"


_DECODE = """
import sys
from pathlib import Path
from carsight.photo import decode
for name in sys.argv[1:]:
    print(name, decode(Path(name).read_bytes()).pixels.shape)
"""


def test_every_format_is_decoded(packages: Path, tmp_path: Path) -> None:
    files = [ROOT / "tests" / "data" / "red_corner.heic"]
    picture = Image.new("RGB", (120, 80), (20, 60, 200))
    for kind in FORMATS:
        if kind is not HEIC:
            files.append(tmp_path / f"picture{kind.suffixes[0]}")
            picture.save(files[-1])
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "zstd"):
        files.append(tmp_path / f"{compression}.tiff")
        picture.save(files[-1], compression=compression)
    shapes = run(packages, "-c", _DECODE, *map(str, files)).splitlines()
    assert shapes == [f"{file} (80, 120, 3)" for file in files]


_CLIENTS = """
import sys
import botocore.session
session = botocore.session.Session()
for name in sys.argv[1:]:
    client = session.create_client(name, aws_access_key_id="a", aws_secret_access_key="b")
    model = client.meta.service_model
    for operation in model.operation_names:
        model.operation_model(operation).input_shape, model.operation_model(operation).output_shape
    print(name, client.meta.endpoint_url)
"""


def test_the_clients_that_are_used_can_be_made(packages: Path) -> None:
    made = dict(line.split() for line in run(packages, "-c", _CLIENTS, *sorted(SERVICES)).splitlines())
    assert made.keys() == SERVICES
    assert made["dynamodb"] == "https://dynamodb.eu-central-1.amazonaws.com"
