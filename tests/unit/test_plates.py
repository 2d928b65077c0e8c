"""Plates end to end with the shipped models, as a library's user calls them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from carsight.photo import Photo, decode
from carsight.plate.recognizer import PlateReading, PlateRecognizer

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("plate_us", "plate_de", "no_plate")
THREADS = 8


def photo(name: str) -> Photo:
    return decode((ROOT / "tests" / "data" / f"{name}.jpg").read_bytes())


@pytest.fixture(scope="module")
def recognizer() -> PlateRecognizer:
    return PlateRecognizer.load()


@pytest.mark.parametrize(
    "name, text, country", [("plate_us", "7kmr204", "us"), ("plate_de", "kapl482", "de")]
)
def test_a_plate_is_read_with_its_place_and_vehicle(
    recognizer: PlateRecognizer, name: str, text: str, country: str
) -> None:
    (reading,) = recognizer.read(photo(name))
    assert reading.text == reading.candidates[0].text == text
    assert "".join(character.text for character in reading.characters) == text
    assert reading.region.split("-")[0] == country
    assert reading.vehicle is not None
    assert reading.vehicle.box.xmin < reading.box.xmin < reading.box.xmax < reading.vehicle.box.xmax


def test_several_plates_each_have_their_own_vehicle(recognizer: PlateRecognizer) -> None:
    both = np.hstack([photo("plate_us").pixels, photo("plate_de").pixels])
    readings = {reading.text: reading for reading in recognizer.read(both)}
    assert readings.keys() == {"7kmr204", "kapl482"}
    for reading in readings.values():
        assert reading.vehicle is not None
        assert reading.vehicle.box.xmin < reading.box.xmin < reading.box.xmax < reading.vehicle.box.xmax


def test_a_car_without_a_plate_has_none(recognizer: PlateRecognizer) -> None:
    assert recognizer.read(photo("no_plate")) == []


def test_eight_threads_get_the_same_answers(recognizer: PlateRecognizer) -> None:
    photos = [photo(name) for name in NAMES] * THREADS
    alone = [recognizer.read(one) for one in photos[: len(NAMES)]] * THREADS

    def read(one: Photo) -> list[PlateReading]:
        return recognizer.read(one)

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(read, photos)) == alone
