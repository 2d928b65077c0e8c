"""The detector's decoding, on a session whose answer is written by hand."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import onnxruntime as ort
import pytest

from carsight.detector import (
    TARGET,
    Detection,
    Detector,
    decode_targets,
    decode_vehicles,
    keep_best,
    net_input,
)
from carsight.plate.vehicles import carrier


def inverse_softplus(distance: float) -> float:
    return math.log(math.expm1(distance))


def put(
    raw: np.ndarray, cell: int, centre: tuple[float, float], stride: int, box: list[float], score: float
) -> None:
    """Write into column ``cell`` what the net says of ``box`` from a cell with that centre and stride."""
    x, y = centre
    raw[0, cell] = math.log(score / (1 - score))
    for row, distance in enumerate((x - box[0], y - box[1], box[2] - x, box[3] - y), start=1):
        raw[row, cell] = inverse_softplus(distance / (2 * stride))


def answer(width: int, height: int, grids: tuple[int, ...], outputs: int) -> np.ndarray:
    raw = np.zeros((outputs, sum((width // s) * (height // s) for s in grids)), np.float32)
    raw[0] = -9
    return raw


class Session:
    """A net that sees a plate wherever the picture is white, and keeps the shapes it was asked about."""

    def __init__(self, vehicles: bool = False, score: float = 0.9, close_score: float = 0.9) -> None:
        self.vehicles = vehicles
        self.scores = (score, close_score)
        self.shapes: list[tuple[int, ...]] = []

    def run(self, _: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        image = feeds["image"]
        first = not self.shapes
        self.shapes.append(image.shape)
        height, width = image.shape[2:]
        raw = answer(width, height, (8, 16, 32), 14)
        rows, columns = np.nonzero(image[0, 0] > 0.9)
        if len(rows):
            box = [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
            row, column = int((box[1] + box[3]) / 16), int((box[0] + box[2]) / 16)
            cell, centre = row * (width // 8) + column, (8 * column + 4.0, 8 * row + 4.0)
            put(raw, cell, centre, 8, box, self.scores[0 if first else 1])
            for corner, (x, y) in enumerate(np.array(box)[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)):
                raw[5 + 2 * corner, cell] = (x - centre[0]) / 16
                raw[6 + 2 * corner, cell] = (y - centre[1]) / 16
            raw[13, cell] = 3
        outputs = [raw[None]]
        if self.vehicles:
            other = answer(width, height, (16, 32), 12)
            put(other, 0, (8, 8), 16, [0.5, 0.5, 60, 50], 0.8)
            other[5 + 5, 0] = 4
            outputs.append(other[None])
        return outputs


def detector(session: Session, **options: Any) -> Detector:
    return Detector(cast(ort.InferenceSession, session), **options)


def photo(height: int = 416, width: int = 832) -> np.ndarray:
    """Black, with a white plate at (400, 200) - (500, 232)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[200:232, 400:500] = 255
    return pixels


def test_boxes_and_corners_come_back_in_the_photos_pixels() -> None:
    session = Session()
    (plate,) = detector(session, side=294).detect(photo())
    assert session.shapes[0] == (1, 3, 224, 416)
    assert plate.kind == TARGET and not plate.is_vehicle
    assert plate.score == pytest.approx(0.9, abs=1e-3)
    assert plate.box == pytest.approx([400, 200, 500, 232], abs=2)
    assert plate.corners[0] == pytest.approx([400, 200], abs=2)
    assert plate.corners[2] == pytest.approx([500, 232], abs=2)
    assert plate.two_rows > 0.9


def test_the_closer_look_takes_a_small_window() -> None:
    session = Session()
    detector(session).detect(photo())
    assert len(session.shapes) == 2
    first, second = (shape[2] * shape[3] for shape in session.shapes)
    assert second < 0.6 * first


def test_what_the_closer_look_denies_is_not_answered() -> None:
    assert detector(Session(score=0.5, close_score=0.05)).detect(photo()) == []


def test_the_score_is_that_of_both_looks() -> None:
    (plate,) = detector(Session(score=0.9, close_score=0.5)).detect(photo())
    assert plate.score == pytest.approx(0.7, abs=1e-3)


def test_a_vehicle_has_carsxes_word_for_its_body() -> None:
    plate, vehicle = detector(Session(vehicles=True), side=416).detect(photo(416, 416 * 2)[:, 208:624])
    assert (plate.kind, vehicle.kind) == (TARGET, "SUV")
    assert vehicle.box == pytest.approx([0.5, 0.5, 60, 50], abs=0.1)
    assert vehicle.corners[2] == pytest.approx([60, 50], abs=0.1)


def test_a_score_below_the_threshold_is_not_answered() -> None:
    assert detector(Session(), threshold=0.95).detect(photo()) == []


def test_where_nothing_is_found_other_sizes_are_tried() -> None:
    session = Session()
    assert detector(session).detect(np.zeros((720, 1280, 3), np.uint8)) == []
    assert len({shape[3] for shape in session.shapes}) == 3


def test_many_threads_get_the_same_answer() -> None:
    session = Session(vehicles=True)
    session.shapes.append((0,))
    shared, pixels = detector(session), photo()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: shared.detect(pixels), range(32)))
    assert all(np.array_equal(a[0].corners, answers[0][0].corners) and len(a) == 2 for a in answers)


@pytest.mark.parametrize("shape", [(8, 8), (8, 4000), (720, 1280), (1600, 1200), (33, 500)])
def test_the_net_gets_whole_cells_and_about_the_area_asked_for(shape: tuple[int, int]) -> None:
    image, zoom = net_input(np.full((*shape, 3), 255, np.uint8), 416)
    assert image.dtype == np.float32 and image.min() >= 0 and image.max() == 1
    assert image.shape[2] % 32 == 0 and image.shape[3] % 32 == 0
    assert max(zoom) <= 2.0
    assert round(zoom[0] * shape[1]) <= image.shape[3] and round(zoom[1] * shape[0]) <= image.shape[2]
    if zoom[0] < 2:
        assert 0.8 * 416**2 <= image.shape[2] * image.shape[3] <= 1.35 * 416**2 or min(shape) < 40


def test_nothing_above_the_threshold_decodes_to_nothing() -> None:
    assert decode_targets(answer(64, 64, (8, 16, 32), 14), (64, 64), 0.3) == []
    assert decode_vehicles(answer(64, 64, (16, 32), 12), (64, 64), 0.3) == []


def test_of_overlapping_boxes_the_best_stays() -> None:
    boxes = np.array([[0, 0, 10, 4], [1, 0, 11, 4], [20, 0, 30, 4], [2, 1, 4, 2]], np.float32)
    assert keep_best(boxes, np.array([0.5, 0.9, 0.4, 0.3], np.float32), 0.4) == [1, 2, 3]


def test_a_box_within_a_like_one_goes_even_at_a_small_overlap() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 3]], np.float32)
    assert keep_best(boxes, np.array([0.9, 0.8], np.float32), 0.4) == [0]


def thing(kind: str, box: list[float], score: float = 0.8) -> Detection:
    return Detection(kind, score, np.array(box, np.float32), np.zeros((4, 2), np.float32))


PLATE = thing(TARGET, [140, 160, 180, 172])


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([], None),
        ([[300, 0, 400, 100]], None),  # beside it
        ([[100, 100, 220, 200], [0, 0, 400, 400]], 0),  # the smaller of two that hold it
        ([[100, 155, 220, 300]], None),  # in the top quarter of what is below it
        ([[130, 100, 190, 180]], None),  # hardly wider than the plate
    ],
)
def test_the_carrier_is_the_smallest_vehicle_with_the_plate_low_on_it(
    boxes: list[list[float]], expected: int | None
) -> None:
    vehicles = [thing("Sedan", box) for box in boxes]
    assert carrier(PLATE, vehicles) is (None if expected is None else vehicles[expected])


def test_a_motorcycle_may_be_hardly_wider_than_its_plate() -> None:
    motorcycle = thing("Motorcycle", [120, 60, 200, 220])
    assert carrier(PLATE, [motorcycle]) is motorcycle
