"""What a body is told by: the vehicle's picture, its mirror image, its proportions, the detector's word."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from carsight import runtime
from carsight.detections import Detection
from carsight.geometry import box_corners
from carsight.plate.vehicles import ClassifierTuning, VehicleClassifier, proportions

TYPES = ("Sedan", "SUV")
CAR = np.array([100, 100, 500, 400], np.float32)
PLATE = np.array([250, 320, 350, 345], np.float32)


class Session:
    """Stands in for the model: answers ``left`` to a view that is lighter on the left, else ``right``."""

    def __init__(self, left: Sequence[float], right: Sequence[float]) -> None:
        self.answers = [np.array([values], np.float32) for values in (left, right)]
        self.looks = 0
        bodies = {
            "shares": [0.5, 0.5],
            "weights": [[0, 0, 0, 0], [0, 4, 0, 0]],
            "offsets": [0, -4 * float(np.log(4))],
        }
        metadata = {
            "types": json.dumps(TYPES),
            "colors": '["red"]',
            "orientations": '["front", "rear"]',
            "bodies": json.dumps(bodies),
        }
        self.metadata = SimpleNamespace(custom_metadata_map=metadata)

    def get_modelmeta(self) -> SimpleNamespace:
        return self.metadata

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="image", type="tensor(float)", shape=[1, 3, 128, 128])]

    def run(self, _: None, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        self.looks += 1
        view = feed["image"]
        lighter = view[..., :64].mean() > view[..., 64:].mean()
        return [self.answers[0 if lighter else 1], np.zeros((1, 1), np.float32), np.zeros((1, 2), np.float32)]


def vehicle(kind: str | None = None) -> Detection:
    return Detection(0.9, CAR, box_corners(CAR), vehicle_type=kind)


def half_lit() -> NDArray[np.uint8]:
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[:, :300] = 255
    return pixels


@pytest.mark.parametrize(("quarters", "turned"), [(1, 3), (2, 2), (3, 1)])
def test_proportions_are_those_of_the_upright_vehicle(quarters: int, turned: int) -> None:
    """A photo that lies on its side shows the same vehicle: its boxes are turned along."""

    def lying(box: NDArray[np.float32]) -> NDArray[np.float32]:
        mask = np.zeros((480, 640), np.uint8)
        x0, y0, x1, y1 = box.astype(int)
        mask[y0:y1, x0:x1] = 1
        ys, xs = np.nonzero(np.rot90(mask, turned))
        return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)

    upright = proportions(CAR, PLATE)
    assert upright[3] == pytest.approx((332.5 - 100) / 300)
    np.testing.assert_allclose(proportions(lying(CAR), lying(PLATE), quarters), upright, rtol=1e-5)


@pytest.mark.parametrize(("narrower", "body"), [(1.0, "Sedan"), (0.6, "SUV")])
def test_proportions_decide_about_an_ambiguous_picture(narrower: float, body: str) -> None:
    """The vehicle is 3 or 5 times as high as its plate is wide."""
    session = Session([0, 0], [0, 0])
    plate = PLATE * np.array([narrower, 1, narrower, 1], np.float32)
    assert VehicleClassifier(session).classify(half_lit(), vehicle(), 0, plate).type == body


def test_a_clear_picture_outweighs_proportions() -> None:
    session = Session([6, 0], [6, 0])
    tall = PLATE * np.array([0.6, 1, 0.6, 1], np.float32)
    assert VehicleClassifier(session).classify(half_lit(), vehicle(), 0, tall).type == "Sedan"


def test_the_mirror_image_is_used_only_for_ambiguous_pictures() -> None:
    torn = Session([0.1, 0], [0, 3])
    assert VehicleClassifier(torn).classify(half_lit(), vehicle()).type == "SUV"
    assert torn.looks == 2
    sure = Session([3, 0], [0, 9])
    assert VehicleClassifier(sure).classify(half_lit(), vehicle()).type == "Sedan"
    assert sure.looks == 1


def test_the_detector_decides_if_both_images_are_ambiguous() -> None:
    tuning = ClassifierTuning()
    assert 0 < tuning.detector_weight < 1
    for kind in TYPES:
        session = Session([0, 0], [0, 0])
        assert VehicleClassifier(session).classify(half_lit(), vehicle(kind)).type == kind


def test_the_shipped_model_knows_that_a_bus_is_higher_than_a_sedan() -> None:
    """Of two vehicles with the same plate, the one that is twice as high for it is rather a bus."""
    session = runtime.session(runtime.MODELS / "plate_vehicle.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    bodies = {name: np.array(values) for name, values in json.loads(metadata["bodies"]).items()}
    types = json.loads(metadata["types"])
    assert bodies["shares"].sum() == pytest.approx(1, abs=0.001)
    bus, sedan = types.index("Bus"), types.index("Sedan")
    evidence = [
        bodies["weights"] @ proportions(CAR, PLATE * np.array([size, 1, size, 1])) + bodies["offsets"]
        for size in (1.0, 0.5)
    ]
    assert evidence[0][bus] - evidence[0][sedan] < evidence[1][bus] - evidence[1][sedan]
