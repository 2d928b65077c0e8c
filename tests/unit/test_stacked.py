"""Small letters on each other beside a plate's number: found, spread, read."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from carsight import runtime
from carsight.plate import stacked
from carsight.plate.reader import HEIGHT, ONE_ROW, PlateReader
from carsight.plate.recognizer import PlateRecognizer

Pixels = NDArray[np.uint8]
INK = (60, 30, 20)


def plate(number: str, before: str = "", behind: str = "", paper: int = 235, ink: int = 0) -> Pixels:
    """Draw a plate of 144 x 480: a number from 45 to 102, letters on each other at its sides."""
    pixels = np.full((stacked.HEIGHT, stacked.WIDTH, 3), paper, np.uint8)
    color = (ink, ink, ink) if ink else INK
    cv2.putText(pixels, "OREGON", (170, 28), cv2.FONT_HERSHEY_DUPLEX, 0.9, color, 2, cv2.LINE_AA)
    cv2.putText(pixels, "Pacific Wonderland", (130, 132), cv2.FONT_HERSHEY_DUPLEX, 0.6, color, 1, cv2.LINE_AA)
    left = 130 if before else 40
    for x, letters in ((90, before), (430, behind)):
        each = 66 // max(len(letters), 1)
        for row, letter in enumerate(letters):
            bottom = 42 + (row + 1) * each - 5
            size = (each - 9) / 21
            cv2.putText(pixels, letter, (x, bottom), cv2.FONT_HERSHEY_DUPLEX, size, color, 3, cv2.LINE_AA)
    for index, sign in enumerate(number):
        cv2.putText(
            pixels, sign, (left + 56 * index, 102), cv2.FONT_HERSHEY_DUPLEX, 2.6, color, 7, cv2.LINE_AA
        )
    return pixels


@pytest.fixture(scope="module")
def reader() -> PlateReader:
    return PlateReader(runtime.session(runtime.MODELS / "plate_reader.onnx"))


@pytest.fixture(scope="module")
def recognizer() -> PlateRecognizer:
    return PlateRecognizer.load()


def read(reader: PlateReader, pixels: Pixels) -> str:
    crop = cv2.resize(pixels, (ONE_ROW, HEIGHT), interpolation=cv2.INTER_AREA)
    return reader.read([np.asarray(crop, np.uint8)])[0].text


@pytest.mark.parametrize(
    "before, behind, text",
    [("SN", "", "sn95032"), ("8B", "", "8b95032"), ("MSC", "", "msc95032"), ("", "WT", "95032wt")],
)
@pytest.mark.parametrize("paper, ink", [(235, 20), (60, 230)])
def test_stacked_letters_are_read_once_they_are_spread(
    reader: PlateReader, before: str, behind: str, text: str, paper: int, ink: int
) -> None:
    drawn = plate("95032", before, behind, paper, ink)
    spread = stacked.spread(drawn)
    assert spread is not None
    assert spread.shape[0] == stacked.HEIGHT
    assert spread.shape[1] >= stacked.WIDTH
    assert read(reader, spread) == text


@pytest.mark.parametrize(
    "before, number", [("SN", "95032"), ("MSC", "95032"), ("BR", "2515"), ("SN", "95003")]
)
def test_stacked_letters_are_part_of_the_answer(
    recognizer: PlateRecognizer, before: str, number: str
) -> None:
    size = (stacked.WIDTH, stacked.WIDTH // 2)
    drawn = cv2.resize(plate(number, before), size, interpolation=cv2.INTER_LINEAR)
    photo = cv2.copyMakeBorder(drawn, 150, 150, 200, 200, cv2.BORDER_CONSTANT, value=(90, 90, 90))
    (reading,) = recognizer.read(np.asarray(photo, np.uint8))
    assert reading.text == reading.candidates[0].text == (before + number).lower()
    assert "".join(character.text for character in reading.characters) == reading.text
    assert reading.region.split("-")[0] == "us"


@pytest.mark.parametrize("number", ["95032", "B8B8B8", "EFZ258", "0KQ806"])
def test_a_number_alone_has_nothing_to_spread(number: str) -> None:
    assert stacked.spread(plate(number)) is None


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_blank_plate_has_nothing_to_spread(value: int) -> None:
    assert stacked.spread(np.full((stacked.HEIGHT, stacked.WIDTH, 3), value, np.uint8)) is None


def test_a_profile_is_smoothed_by_every_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of one dimension is a column to OpenCV 4 and a row to OpenCV 5: none may be handed over."""
    dimensions = []

    def blurred(pixels: Any, *options: Any) -> Any:
        dimensions.append(pixels.ndim)
        return blur(pixels, *options)

    blur = cv2.GaussianBlur
    monkeypatch.setattr(cv2, "GaussianBlur", blurred)
    top, bottom = stacked._rows(plate("95032"))
    assert dimensions == [2, 2]
    assert abs(top - 45) <= 8 and abs(bottom - 102) <= 8


def test_noise_does_not_fail() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).integers(0, 256, (36, 120, 3), dtype=np.uint8)
        coarse = cv2.resize(noise, (stacked.WIDTH, stacked.HEIGHT), interpolation=cv2.INTER_LINEAR)
        spread = stacked.spread(np.asarray(coarse, np.uint8))
        assert spread is None or spread.shape[0] == stacked.HEIGHT
