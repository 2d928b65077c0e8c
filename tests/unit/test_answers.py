"""From what was recognized to the contract's answers."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from carsight.geometry import Box
from carsight.photo import Photo
from carsight.plate.reader import Candidate
from carsight.plate.recognizer import PlateReading, PlateReadings, Vehicle
from carsight.refusal import Reason, Refusal
from carsight.vin.recognizer import CheckDigit, Repair, VinCandidate, VinResult
from carsight_service.contract.answers import plate_answer, vin_answer
from carsight_service.contract.errors import REASONS, NoTextDetected, NothingFound, envelope
from carsight_service.settings import Links

PHOTO = Photo.of(np.zeros((300, 400, 3), np.uint8))
READING = PlateReading(
    text="9djc652",
    score=0.99961,
    detection_score=0.92849,
    box=Box(10, 20, 110, 50),
    polygon=((10, 22), (108, 20), (110, 48), (12, 50)),
    candidates=(Candidate("9djc652", 0.99961), Candidate("9djc6s2", 0.0008), Candidate("9djc65z", 0.0004)),
    characters=tuple(Candidate(character, 0.9) for character in "9djc652"),
    region="us-ca",
    region_score=0.8494,
    vehicle=Vehicle(Box(0, 0, 400, 300), 0.963, "Pickup Truck", "red", "rear"),
)


def test_a_plate_is_answered_as_by_the_contract() -> None:
    body = plate_answer(PlateReadings([READING]), PHOTO).body("id-1", 12.34567)
    assert body == {
        "success": True,
        "message": "",
        "results": [
            {
                "box": {"xmin": 10, "ymin": 20, "xmax": 110, "ymax": 50},
                "plate": "9djc652",
                "region": {"code": "us-ca", "score": 0.849},
                "score": 1.0,
                "candidates": [{"score": 1.0, "plate": "9djc652"}, {"score": 0.001, "plate": "9djc6s2"}],
                "dscore": 0.928,
                "vehicle": {
                    "score": 0.963,
                    "type": "Pickup Truck",
                    "box": {"xmin": 0, "ymin": 0, "xmax": 400, "ymax": 300},
                    "color": "red",
                    "orientation": "rear",
                },
                "polygon": [[10, 22], [108, 20], [110, 48], [12, 50]],
                "characters": [{"character": character, "score": 0.9} for character in "9djc652"],
            }
        ],
        "processing_time": 12.346,
        "image": {"width": 400, "height": 300},
        "request_id": "id-1",
    }


def test_a_missing_vehicle_is_answered_with_zeros() -> None:
    body = plate_answer(PlateReadings([replace(READING, vehicle=None)]), PHOTO).body("", 1)
    assert body["results"][0]["vehicle"] == {
        "score": 0,
        "type": "Unknown",
        "box": {"xmin": 0, "ymin": 0, "xmax": 0, "ymax": 0},
    }


def test_unknown_attributes_are_left_out() -> None:
    vehicle = Vehicle(Box(0, 0, 9, 9), 0.5, "Van")
    body = plate_answer(PlateReadings([replace(READING, vehicle=vehicle)]), PHOTO).body("", 1)
    assert set(body["results"][0]["vehicle"]) == {"score", "type", "box"}


def test_without_a_plate_nothing_is_found() -> None:
    with pytest.raises(NothingFound) as error:
        plate_answer(PlateReadings(), PHOTO)
    assert (error.value.status, error.value.message) == (404, "No plates detected in image")


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "9DJC652"},
        {"text": ""},
        {"score": 1.2},
        {"detection_score": float("nan")},
        {"candidates": ()},
        {"box": Box(-1, 0, 5, 5)},
        {"vehicle": Vehicle(Box(0, 0, 9, 9), 0.5, "Spaceship")},
    ],
)
def test_invalid_answers_cannot_be_created(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        plate_answer(PlateReadings([replace(READING, **wrong)]), PHOTO)  # type: ignore[arg-type]


def test_rounding_errors_are_tolerated() -> None:
    assert plate_answer(PlateReadings([replace(READING, score=1.0000001)]), PHOTO).results[0].score == 1


CANDIDATE = VinCandidate(
    vin="JHLRD77874C026456",
    confidence=0.98342513,
    box=Box(257, 635, 1673, 793),
    source="both",
    check_digit=CheckDigit(valid=True, applies=True),
    repairs=(Repair(position=5, from_="O", to="0", reason="check_digit"),),
)


def test_a_vin_is_answered_as_by_the_contract() -> None:
    other = replace(CANDIDATE, vin="JHLRD77874C026458", confidence=0.01, source="text", repairs=())
    body = vin_answer(VinResult((CANDIDATE, other), text_found=True), PHOTO).body("id-1", 12.34567)
    box = {"xmin": 257, "xmax": 1673, "ymin": 635, "ymax": 793}
    check_digit = {"valid": True, "applies": True}
    repairs = [{"position": 5, "from": "O", "to": "0", "reason": "check_digit"}]
    best = {"vin": "JHLRD77874C026456", "confidence": 0.983425, "box": box}
    ours = {"source": "both", "check_digit": check_digit, "repairs": repairs}
    assert body == {
        "success": True,
        **best,
        "candidates": [
            {**best, **ours},
            {
                "vin": "JHLRD77874C026458",
                "confidence": 0.01,
                "box": box,
                "source": "text",
                "check_digit": check_digit,
                "repairs": [],
            },
        ],
        **ours,
        "processing_time": 12.346,
        "image": {"width": 400, "height": 300},
        "request_id": "id-1",
    }


def test_text_without_a_vin_is_a_404() -> None:
    with pytest.raises(NothingFound) as error:
        vin_answer(VinResult((), text_found=True), PHOTO)
    assert (error.value.status, error.value.message) == (404, "No valid VIN candidates found in the image")


@pytest.mark.parametrize("reason", get_args(Reason))
def test_nothing_found_says_why_and_what_to_do(reason: Reason) -> None:
    refusal = Refusal(reason, 0.12345, 0.3)
    for answer in (
        lambda: plate_answer(PlateReadings(refusal=refusal), PHOTO),
        lambda: vin_answer(VinResult((), text_found=True, refusal=refusal), PHOTO),
    ):
        with pytest.raises(NothingFound) as error:
            answer()
        told = envelope(error.value, "id-1", Links())
        assert (told["reason"], told["figure"], told["needed"]) == (reason, 0.123, 0.3)
        assert told["detail"] == REASONS[reason]


def test_a_reason_without_a_bound_has_none() -> None:
    with pytest.raises(NothingFound) as error:
        vin_answer(VinResult((), text_found=True, refusal=Refusal("no_vin", 3)), PHOTO)
    assert error.value.extra == {"reason": "no_vin", "figure": 3}


def test_figures_are_written_as_decimals() -> None:
    """Polars refuses and DuckDB rounds what follows whole numbers: 0.49 would be 0."""
    reading = replace(READING, score=1, detection_score=1, region_score=0, vehicle=None)
    body = plate_answer(PlateReadings([reading]), PHOTO).body("", 1.0)
    result = body["results"][0]
    for about in (result, result["region"], result["vehicle"], *result["candidates"], *result["characters"]):
        assert isinstance(about["score"], float)
    assert isinstance(result["dscore"], float) and isinstance(body["processing_time"], float)
    vin = vin_answer(VinResult((replace(CANDIDATE, confidence=1),), text_found=True), PHOTO).body("", 1.0)
    assert isinstance(vin["confidence"], float) and isinstance(vin["candidates"][0]["confidence"], float)
    for refusal in (Refusal("no_vin", 3), Refusal("plate_too_small", 6, 8)):
        with pytest.raises(NothingFound) as error:
            plate_answer(PlateReadings(refusal=refusal), PHOTO)
        told = error.value.extra
        assert {type(told[name]) for name in ("figure", "needed") if name in told} == {float}


def test_no_text_is_a_400() -> None:
    with pytest.raises(NoTextDetected) as error:
        vin_answer(VinResult((), text_found=False), PHOTO)
    assert (error.value.status, error.value.message) == (400, "No text detected in the image")


@pytest.mark.parametrize("vin", ["", "JHLRD77874C02645", "JHLRD77874C02645O", "jhlrd77874c026456", "J" * 18])
def test_an_invalid_vin_cannot_be_answered(vin: str) -> None:
    with pytest.raises(ValueError):
        vin_answer(VinResult((replace(CANDIDATE, vin=vin),), text_found=True), PHOTO)
