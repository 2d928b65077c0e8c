"""``import carsight``: its public names, what a photo may be given as, and what is loaded for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import cv2
import numpy as np
import pytest

import carsight
from carsight import runtime
from carsight.plate.recognizer import PlateRecognizer

DATA = Path(__file__).resolve().parents[1] / "data"
PLATE, LABEL = DATA / "plate_us.jpg", DATA / "vin_label.jpg"

Give = Callable[[Path], Any]
GIVEN: dict[str, Give] = {
    "path": lambda path: path,
    "str": str,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "array": lambda path: cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_BGR),
}


def test_every_public_name_is_there() -> None:
    assert carsight.__all__ == sorted(carsight.__all__)
    for name in carsight.__all__:
        assert getattr(carsight, name) is not None, name
    assert set(carsight.__all__) <= set(dir(carsight))
    with pytest.raises(AttributeError, match="no attribute 'read_faces'"):
        _ = carsight.read_faces


@pytest.mark.parametrize("give", GIVEN.values(), ids=GIVEN)
def test_a_photo_may_be_a_path_bytes_or_pixels(give: Give) -> None:
    (plate,) = carsight.read_plates(give(PLATE), regions=["us-ca"])
    assert plate.text == "7kmr204"
    vin = carsight.read_vin(give(LABEL))
    assert vin is not None
    assert vin.vin == "1M8GDM9AXKP042788"


def test_a_vin_that_would_be_a_guess_is_none() -> None:
    assert carsight.read_vin(DATA / "no_plate.jpg") is None


def test_files_that_are_not_photos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        carsight.read_plates(tmp_path / "nowhere.jpg")
    with pytest.raises(carsight.ImageError):
        carsight.read_plates(b"GIF89a")
    with pytest.raises(carsight.ImageError):
        carsight.read_plates(np.zeros((64, 64), np.uint8))
    huge = tmp_path / "huge.bmp"
    with huge.open("wb") as file:
        os.truncate(file.fileno(), 10**10)  # sparse: nothing is written
    with pytest.raises(carsight.ImageError, match="larger than 256,000,000 bytes"):
        carsight.read_plates(huge)


def test_a_refused_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("no photo")
    with pytest.raises(carsight.ImageError) as refused:
        carsight.read_plates(broken)
    assert refused.value.__notes__ == [f"The file is {broken}."]


def test_threads_share_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[PlateRecognizer] = []
    barrier = Barrier(4)

    class Engine:
        def read(self, image: bytes, regions: object) -> list[object]:
            return [self]

    def load() -> Engine:
        engine = Engine()
        loaded.append(engine)  # type: ignore[arg-type]
        return engine

    def read(_: int) -> object:
        barrier.wait(10)
        return carsight.read_plates(b"")[0]

    monkeypatch.setattr(carsight, "_engines", {})
    monkeypatch.setattr(PlateRecognizer, "load", load)
    with ThreadPoolExecutor(4) as pool:
        engines = set(pool.map(read, range(4)))
    assert engines == set(loaded)
    assert len(loaded) == 1


_REPORT = """
import json, os, sys
import carsight
at_import = sorted(sys.modules)
os.chdir("/")
getattr(carsight, sys.argv[1])(sys.argv[2])
print(json.dumps([at_import, sorted(sys.modules)]))
"""


@pytest.mark.parametrize(
    ("function", "photo", "never"),
    [
        ("read_plates", PLATE, ("zxingcpp", "carsight.vin")),
        ("read_vin", LABEL, ("carsight.plate",)),
    ],
)
def test_plates_and_vins_load_nothing_of_each_other(
    function: str, photo: Path, never: tuple[str, ...]
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _REPORT, function, str(photo)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    at_import, after = json.loads(ran.stdout)
    assert not {"cv2", "numpy", "onnxruntime", "zxingcpp"} & set(at_import)
    assert not set(never) & set(after)
    assert not {"boto3", "botocore", "carsight_service"} & set(after)


def test_what_is_made_once_is_made_again_only_after_an_error() -> None:
    calls: list[int] = []

    def make() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("not yet")
        time.sleep(0.02)  # long enough for the other threads to ask as well
        return len(calls)

    get = runtime.once(make)
    assert calls == []
    with pytest.raises(OSError, match="not yet"):
        get()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: get(), range(64))) == {2}
