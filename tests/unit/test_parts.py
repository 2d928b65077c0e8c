"""Parts check themselves as pydantic's model of the same annotations would."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as some
from pydantic import ValidationError

from carsight_service.contract.api import (
    Box,
    Image,
    PlateAnswer,
    Repair,
    Score,
    UsageReport,
    Vehicle,
    VinAnswer,
)
from carsight_service.contract.parts import Part, model_of
from tests.fakes import PLATES, VINS


@pytest.mark.parametrize("answer", [PLATES, VINS], ids=["plates", "vins"])
def test_an_answer_is_what_pydantic_describes(answer: PlateAnswer | VinAnswer) -> None:
    body = answer.body("id-1", 12.3456)
    described = model_of(type(answer)).model_validate(body)
    assert json.loads(described.model_dump_json(exclude_none=True)) == body
    assert list(body) == [name for name in type(answer).names() if name in body]


_NUMBERS = some.sampled_from([0, 1, -1, 0.5, 1.0004, 1.0006, -0.0004, float("nan"), float("inf"), 17])
_WORDS = some.sampled_from(["Van", "Unknown", "van", "", "front", "side", None, 0.5, True])


@hypothesis(max_examples=400, deadline=None, derandomize=True)
@given(
    score=_NUMBERS | _WORDS,
    type_=_WORDS,
    color=_WORDS,
    orientation=_WORDS,
    corner=some.integers(-2, 5) | some.just(None) | some.just("x") | some.just(0.5),
)
def test_a_vehicle_is_refused_where_pydantic_refuses_it(
    score: Any, type_: Any, color: Any, orientation: Any, corner: Any
) -> None:
    def made() -> dict[str, Any] | None:
        try:
            box = Box.of({"xmin": corner, "ymin": 0, "xmax": 1, "ymax": 1})
            values = {"score": score, "type": type_, "box": box, "color": color, "orientation": orientation}
            return Vehicle.of(values).as_json()
        except (ValueError, TypeError):
            return None

    values = {"type": type_, "box": {"xmin": corner, "ymin": 0, "xmax": 1, "ymax": 1}, "color": color}
    try:
        rounded = round(float(score), 3) if isinstance(score, float) else score
        model = model_of(Vehicle).model_validate(
            {**values, "score": rounded, "orientation": orientation}, strict=True
        )
        expected: dict[str, Any] | None = model.model_dump()
    except ValidationError:
        expected = None
    found = made()
    if expected is not None and not 0 <= expected["score"] <= 1:
        expected = None  # the model describes bounds, and a part keeps them
    if expected is not None and expected["box"]["xmin"] < 0:
        expected = None
    assert found == expected


@pytest.mark.parametrize(
    ("part", "values"),
    [
        (Box, {"xmin": 0, "ymin": 0, "xmax": 1}),
        (Box, {"xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1, "zmax": 1}),
        (Box, {"xmin": 0.5, "ymin": 0, "xmax": 1, "ymax": 1}),
        (Image, {"width": "1", "height": 1}),
        (Repair, {"position": 18, "from_": "O", "to": "0", "reason": "check digit"}),
        (UsageReport, {"tier": "pro", "usage": (), "history": (Box(xmin=0, ymin=0, xmax=1, ymax=1),)}),
        (PlateAnswer, PLATES.values() | {"success": False}),
        (PlateAnswer, PLATES.values() | {"results": (VINS,)}),
        (VinAnswer, VINS.values() | {"candidates": ()}),
        (VinAnswer, VINS.values() | {"vin": VINS.vin + "\n"}),
    ],
)
def test_invalid_values_are_refused(part: type[Part], values: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        part.of(values)


def test_parts_compare_by_value_and_are_immutable() -> None:
    class Found(Part):
        score: Score
        name: str = "plate"

    found = Found(score=0.12345)
    assert (found.score, found.name) == (0.123, "plate")
    assert found == Found(score=0.123) and hash(found) == hash(Found(score=0.123))
    assert found != Found(score=0.124) and found != 0.123
    assert found.changed(name="sign").as_json() == {"score": 0.123, "name": "sign"}
    assert repr(found) == "Found(score=0.123, name='plate')"
    with pytest.raises(AttributeError):
        found.score = 0.5  # type: ignore[misc]
