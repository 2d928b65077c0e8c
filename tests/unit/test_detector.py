"""The detector's decoding, on a session whose answer is written by hand."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnxruntime as ort
import pytest

from carsight import runtime
from carsight.detections import Detection, carrier, decode_targets, decode_vehicles, keep_best
from carsight.detector import Detector, DetectorTuning, Fallback, net_input
from carsight.geometry import iou, turned_back


def inverse_softplus(distance: float) -> float:
    return math.log(math.expm1(max(distance, 1e-3)))


def put(
    raw: np.ndarray, cell: int, center: tuple[float, float], stride: int, box: list[float], score: float
) -> None:
    """Write into column ``cell`` what the net says of ``box`` from a cell with that center and stride."""
    x, y = center
    raw[0, cell] = math.log(score / (1 - score))
    for row, distance in enumerate((x - box[0], y - box[1], box[2] - x, box[3] - y), start=1):
        raw[row, cell] = inverse_softplus(distance / (2 * stride))


def answer(width: int, height: int, grids: tuple[int, ...], outputs: int) -> np.ndarray:
    raw = np.zeros((outputs, sum((width // s) * (height // s) for s in grids)), np.float32)
    raw[0] = -9
    return raw


TYPES = ("Big Truck", "Bus", "Motorcycle", "Pickup Truck", "Sedan", "SUV", "Van")


class Session:
    """A net that sees a plate wherever the picture is white, and keeps the shapes it was asked about.

    ``needs_gray``: it sees one only where something lies between it and the picture's left edge.
    """

    def __init__(
        self, vehicles: bool = False, score: float = 0.9, close_score: float = 0.9, needs_gray: bool = False
    ) -> None:
        self.vehicles = vehicles
        self.scores = (score, close_score)
        self.needs_gray = needs_gray
        self.vehicle = [0.5, 0.5, 60, 50]
        self.shapes: list[tuple[int, ...]] = []

    def get_modelmeta(self) -> SimpleNamespace:
        return SimpleNamespace(custom_metadata_map={"threshold": "0.3", "classes": json.dumps(TYPES)})

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(type="tensor(float)", shape=[1, 3, "rows", "columns"])]

    def get_outputs(self) -> list[str]:
        return ["targets", "vehicles"][: 1 + self.vehicles]

    def run(self, _: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        image = feeds["image"]
        first = not self.shapes
        self.shapes.append(image.shape)
        height, width = image.shape[2:]
        raw = answer(width, height, (8, 16, 32), 14)
        rows, columns = np.nonzero(image[0, 0] > 0.9)
        if len(rows) and not (self.needs_gray and columns.min() == 0):
            box = [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
            row, column = int((box[1] + box[3]) / 16), int((box[0] + box[2]) / 16)
            cell, center = row * (width // 8) + column, (8 * column + 4.0, 8 * row + 4.0)
            put(raw, cell, center, 8, box, self.scores[0 if first else 1])
            for corner, (x, y) in enumerate(np.array(box)[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)):
                raw[5 + 2 * corner, cell] = (x - center[0]) / 16
                raw[6 + 2 * corner, cell] = (y - center[1]) / 16
            raw[13, cell] = 3
        outputs = [raw[None]]
        if self.vehicles:
            other = answer(width, height, (16, 32), 12)
            put(other, 0, (8, 8), 16, self.vehicle, 0.8)
            other[5 + 5, 0] = 4
            outputs.append(other[None])
        return outputs


def detector(session: Session, **tuning: Any) -> Detector:
    return Detector(cast(ort.InferenceSession, session), DetectorTuning(**tuning))


def photo(height: int = 416, width: int = 832) -> np.ndarray:
    """Black, with a white plate at (400, 200) - (500, 232)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[200:232, 400:500] = 255
    return pixels


def test_boxes_and_corners_come_back_in_the_photos_pixels() -> None:
    session = Session()
    (plate,) = detector(session, side=294).detect(photo())
    assert session.shapes[0] == (1, 3, 224, 416)
    assert not plate.is_vehicle
    assert plate.score == pytest.approx(0.9, abs=1e-3)
    assert plate.box == pytest.approx([400, 200, 500, 232], abs=2)
    assert plate.corners[0] == pytest.approx([400, 200], abs=2)
    assert plate.corners[2] == pytest.approx([500, 232], abs=2)
    assert plate.two_rows > 0.9


def test_a_sure_find_on_a_vehicle_is_not_looked_at_again() -> None:
    session = Session(vehicles=True, score=0.75, close_score=0.05)
    session.vehicle = [0.5, 0.5, 600, 300]
    plate, _ = detector(session).detect(photo())
    assert plate.score == pytest.approx(0.75, abs=1e-3)
    assert len(session.shapes) == 1


def test_a_sure_find_without_a_vehicle_is_looked_for_with_gray_round_the_photo() -> None:
    session = Session(score=0.75, close_score=0.85)
    (plate,) = detector(session).detect(photo())
    assert plate.score == pytest.approx(0.8, abs=1e-3)
    assert len(session.shapes) == 3


def test_what_lies_inside_a_plate_that_fills_the_photo_is_dropped() -> None:
    """A sticker on the plate is all that the first look shows."""

    class Sticker(Session):
        def run(self, names: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            image = feeds["image"].copy()
            if not self.shapes:
                image[:, :, :, : image.shape[3] * 2 // 3] = 0
            return super().run(names, {"image": image})

    pixels = np.full((100, 300, 3), 255, np.uint8)
    (plate,) = detector(Sticker(score=0.65)).detect(pixels)
    assert plate.box == pytest.approx([0, 0, 300, 100], abs=6)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),
        ((0, 0, 4, 4), (1, 1, 3, 3), 1 / 4),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0.0),
        ((0, 0, 1, 1), (2, 2, 3, 3), 0.0),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0.0),
    ],
)
def test_boxes_overlap_by_what_they_share(a: tuple[int, ...], b: tuple[int, ...], expected: float) -> None:
    assert iou(a, b) == iou(b, a) == pytest.approx(expected)
    assert iou(np.array(a, np.float32), b) == pytest.approx(expected)


def test_the_second_look_takes_a_small_window() -> None:
    session = Session(score=0.6)
    detector(session, close_up=None).detect(photo())
    assert len(session.shapes) == 2
    first, second = (shape[2] * shape[3] for shape in session.shapes)
    assert second < 0.6 * first


def test_what_the_second_look_denies_is_not_answered() -> None:
    assert detector(Session(score=0.5, close_score=0.05)).detect(photo()) == []


def test_what_is_hardly_seen_on_a_vehicle_is_looked_at_again() -> None:
    session = Session(vehicles=True, score=0.1, close_score=0.9)
    session.vehicle = [0.5, 0.5, 600, 300]
    plate, _ = detector(session, close_up=None).detect(photo())
    assert plate.score == pytest.approx(0.5, abs=1e-3)
    assert len(session.shapes) == 2


def test_what_is_hardly_seen_beside_the_vehicles_is_not_looked_at() -> None:
    session = Session(vehicles=True, score=0.1, close_score=0.9)
    found = detector(session, close_up=None, fallbacks=()).detect(photo())
    assert [each.is_vehicle for each in found] == [True]


def test_the_score_is_that_of_both_looks() -> None:
    (plate,) = detector(Session(score=0.6, close_score=0.9)).detect(photo())
    assert plate.score == pytest.approx(0.75, abs=1e-3)


def test_a_sure_find_at_the_edge_is_looked_at_again_with_gray_beyond_it() -> None:
    session = Session()
    pixels = np.zeros((416, 832, 3), np.uint8)
    pixels[200:232, :100] = 255
    (plate,) = detector(session, close_up=None).detect(pixels)
    assert plate.box == pytest.approx([0, 200, 100, 232], abs=2)
    # A window of 3.5 plates all round, as anywhere else: nothing was cut off at the photo's edge.
    _, second = session.shapes
    assert (second[2], second[3]) == (224, 224)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_what_stands_upright_in_the_turned_photo_is_found_where_it_lies(quarters: int) -> None:
    upright = photo()
    lying = np.ascontiguousarray(np.rot90(upright, -quarters))
    (plate,) = detector(Session()).find(lying, quarters).targets
    rows, columns = np.nonzero(lying[:, :, 0])
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert plate.box == pytest.approx([float(v) for v in expected], abs=2)
    # The text's top left: where the white plate's top left pixel came to lie.
    corner = np.zeros(upright.shape[:2])
    corner[200, 400] = 1
    ((y, x),) = np.argwhere(np.rot90(corner, -quarters))
    assert plate.corners[0] == pytest.approx([float(x), float(y)], abs=2)


def test_a_plate_without_surroundings_is_found_with_some_laid_round_it() -> None:
    session = Session(needs_gray=True)
    pixels = np.full((100, 300, 3), 255, np.uint8)
    (plate,) = detector(session).detect(pixels)
    assert plate.box == pytest.approx([0, 0, 300, 100], abs=6)
    assert plate.corners == pytest.approx(np.array([[0, 0], [300, 0], [300, 100], [0, 100]]), abs=6)


def test_a_photo_that_may_show_a_plate_sideways_names_the_turns() -> None:
    white_at_the_left = np.zeros((400, 400, 3), np.uint8)
    white_at_the_left[150:250, 0:20] = 255

    class Lying(Session):
        """Sees only what is wider than high."""

        def run(self, names: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            image = feeds["image"]
            rows, columns = np.nonzero(image[0, 0] > 0.9)
            return super().run(names, {"image": image if np.ptp(columns) > np.ptp(rows) else image * 0})

    assert sorted(detector(Lying()).promising_turns(white_at_the_left)) == [1, 3]
    assert detector(Session()).promising_turns(np.zeros((400, 400, 3), np.uint8)) == []


def test_groups_are_pixels_as_they_lie_even_in_a_turned_picture() -> None:
    canvas = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3).transpose(1, 0, 2)
    laid = runtime.groups([canvas], 4)
    assert laid.shape == (1, 6, 2, 12)
    assert np.array_equal(runtime.groups([canvas, canvas], 4), np.concatenate([laid, laid]))
    for y, x, color in np.ndindex(6, 8, 3):
        assert laid[0, y, x // 4, x % 4 * 3 + color] == canvas[y, x, color]


def test_a_vehicle_has_carsxes_word_for_its_body() -> None:
    plate, vehicle = detector(Session(vehicles=True), side=416).detect(photo(416, 416 * 2)[:, 208:624])
    assert (plate.vehicle_type, vehicle.vehicle_type) == (None, "SUV")
    assert vehicle.box == pytest.approx([0.5, 0.5, 60, 50], abs=0.1)
    assert vehicle.corners[2] == pytest.approx([60, 50], abs=0.1)


def test_a_score_below_the_threshold_is_not_answered() -> None:
    assert detector(Session(), threshold=0.95).detect(photo()) == []


def test_what_a_second_look_doubts_is_told_where_that_is_asked_for() -> None:
    def found(**tuning: Any) -> list[Detection]:
        return detector(Session(score=0.25, close_score=0.2), **tuning).detect(photo())

    assert found() == []
    (plate,) = found(doubtful=0.2)
    assert plate.score == pytest.approx(0.225, abs=1e-3)
    assert found(doubtful=0.24) == []


def test_a_doubtful_find_does_not_keep_the_other_sizes_from_being_tried() -> None:
    session = Session(score=0.25, close_score=0.7)
    wide = np.zeros((720, 1280, 3), np.uint8)
    wide[300:400, 500:800] = 255
    (plate,) = detector(session, doubtful=0.2, threshold=0.6, fallbacks=(Fallback(608),)).detect(wide)
    assert plate.score == pytest.approx(0.7, abs=1e-3)


def test_where_nothing_is_found_other_sizes_are_tried() -> None:
    session = Session()
    looks = (Fallback(256), Fallback(608))
    assert detector(session, close_up=None, fallbacks=looks).detect(np.zeros((720, 1280, 3), np.uint8)) == []
    assert len({shape[3] for shape in session.shapes}) == 3


def test_a_look_that_wants_evidence_is_left_out_without_any() -> None:
    blank = np.zeros((720, 1280, 3), np.uint8)
    for score, looks in ((0.05, 1), (0.1, 2)):
        session = Session(score=score, close_score=score)
        with_plate = blank.copy()
        with_plate[300:400, 500:800] = 255
        detector(session, close_up=None, fallbacks=(Fallback(608, evidence=0.08),)).detect(with_plate)
        assert len(session.shapes) == looks


def test_many_threads_get_the_same_answer() -> None:
    session = Session(vehicles=True)
    session.shapes.append((0,))
    shared, pixels = detector(session), photo()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: shared.detect(pixels), range(32)))
    assert all(np.array_equal(a[0].corners, answers[0][0].corners) and len(a) == 2 for a in answers)


@pytest.mark.parametrize("shape", [(8, 8), (8, 4000), (720, 1280), (1600, 1200), (33, 500)])
def test_the_net_gets_whole_cells_and_about_the_area_asked_for(shape: tuple[int, int]) -> None:
    image = net_input(np.full((*shape, 3), 255, np.uint8), 416)
    assert image.dtype == np.float32 and image.min() >= 0 and image.max() == 1
    height, width = image.shape[2:]
    assert height % 32 == 0 and width % 32 == 0
    rows, columns = (image[0, 0] == 1).any(axis=1).sum(), (image[0, 0] == 1).any(axis=0).sum()
    assert rows <= 2 * shape[0] and columns <= 2 * shape[1]
    if rows < 2 * shape[0]:
        assert 0.8 * 416**2 <= height * width <= 1.35 * 416**2 or min(shape) < 40


def test_nothing_above_the_threshold_decodes_to_nothing() -> None:
    assert decode_targets(answer(64, 64, (8, 16, 32), 14), (64, 64), 0.3, 0.25) == []
    assert decode_vehicles(answer(64, 64, (16, 32), 12), (64, 64), 0.3, TYPES) == []


def test_of_overlapping_boxes_the_best_stays() -> None:
    boxes = np.array([[0, 0, 10, 4], [1, 0, 11, 4], [20, 0, 30, 4], [2, 1, 4, 2]], np.float32)
    assert keep_best(boxes, np.array([0.5, 0.9, 0.4, 0.3], np.float32), 0.4) == [1, 2, 3]


def test_a_box_within_a_like_one_goes_even_at_a_small_overlap() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 3]], np.float32)
    assert keep_best(boxes, np.array([0.9, 0.8], np.float32), 0.4) == [0]


def thing(vehicle_type: str | None, box: list[float], score: float = 0.8) -> Detection:
    return Detection(score, np.array(box, np.float32), np.zeros((4, 2), np.float32), 0.0, vehicle_type)


PLATE = thing(None, [140, 160, 180, 172])


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


def test_a_doubtful_part_of_a_vehicle_does_not_win_by_its_size() -> None:
    whole, part = thing("SUV", [20, 20, 380, 220], 0.8), thing("Sedan", [100, 80, 240, 210], 0.6)
    assert carrier(PLATE, [part, whole]) is whole


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_the_carrier_of_a_photo_that_lies_on_its_side_is_the_same(quarters: int) -> None:
    def lying(found: Detection) -> Detection:
        """Return ``found``, of an upright photo of 400 x 300, where it lies before that is turned."""
        ends = turned_back(found.box.reshape(2, 2), quarters, *((400, 300) if quarters == 2 else (300, 400)))
        return thing(found.vehicle_type, [*ends.min(axis=0), *ends.max(axis=0)])

    boxes = [[100, 100, 220, 200], [100, 155, 220, 300], [130, 100, 190, 180]]
    vehicles = [lying(thing("Sedan", [float(v) for v in box])) for box in boxes]
    assert carrier(lying(PLATE), vehicles, quarters) is vehicles[0]


def test_a_motorcycle_may_be_hardly_wider_than_its_plate() -> None:
    motorcycle = thing("Motorcycle", [120, 60, 200, 220])
    assert carrier(PLATE, [motorcycle]) is motorcycle
