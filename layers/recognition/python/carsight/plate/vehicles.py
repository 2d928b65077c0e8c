"""Which vehicle carries a plate, and what it looks like: body, color, and the side that shows."""

from __future__ import annotations

import json
from dataclasses import dataclass

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carsight import runtime
from carsight.detector import Detection
from carsight.photo import Pixels, halve_to_cover

SIDE = 128
"""Side of the square that a vehicle is brought to, pixels."""


@dataclass(frozen=True, slots=True)
class ClassifierTuning:
    """What can be changed about the classifier without training it again.

    ``detector_weight`` is the weight of the body that the detector named, against 1 for the classifier's: it
    decides where that is torn. A color less likely than ``min_color_score`` is not told, nor a side that is
    so little likelier than the other: a wrong one is worse than none. Of 240 validation vehicles 82 % get a
    color, which is right for 76 % of them.
    """

    detector_weight: float = 0.3
    min_color_score: float = 0.3


@dataclass(frozen=True, slots=True)
class VehicleAttributes:
    """What a vehicle looks like, in the model's words; None is unclear."""

    type: str
    color: str | None
    orientation: str | None


class VehicleClassifier:
    """Says what a vehicle looks like. Made once; safe to call from many threads."""

    def __init__(self, session: ort.InferenceSession, tuning: ClassifierTuning | None = None) -> None:
        """Classify with ``session``.

        The model takes ``image`` as in ``runtime.picture_input``, a vehicle's box stretched to 128 x 128, and
        gives raw ``type``, ``color`` and ``orientation`` (1 x classes each). Its metadata names
        their classes in ``types``, ``colors`` and ``orientations``, JSON arrays.

        Raises:
            KeyError: The model carries no such metadata.
        """
        metadata = session.get_modelmeta().custom_metadata_map
        self._session = session
        self._input = runtime.picture_input(session)
        self._tuning = tuning or ClassifierTuning()
        self.types, self.colors, self.orientations = (
            tuple(json.loads(metadata[key])) for key in ("types", "colors", "orientations")
        )

    def classify(self, pixels: Pixels, vehicle: Detection, quarters: int = 0) -> VehicleAttributes:
        """Classify ``vehicle`` in ``pixels`` (height x width x 3, BGR), the photo it was found in.

        It stands upright once the photo is turned anticlockwise by ``quarters`` of a turn.
        """
        upright = np.ascontiguousarray(np.rot90(cut(pixels, vehicle.box), quarters))
        raw = self._session.run(None, {"image": self._input([upright])})
        types, colors, sides = (_softmax(np.asarray(values)[0]) for values in raw)
        if vehicle.vehicle_type in self.types:
            types[self.types.index(vehicle.vehicle_type)] += self._tuning.detector_weight
        color, side, sure = int(colors.argmax()), int(sides.argmax()), self._tuning.min_color_score
        return VehicleAttributes(
            self.types[int(types.argmax())],
            self.colors[color] if colors[color] >= sure else None,
            self.orientations[side] if sides[side] >= 0.5 + sure / 2 else None,
        )


def cut(pixels: Pixels, box: NDArray[np.floating]) -> Pixels:
    """Cut ``box`` (xmin, ymin, xmax, ymax) out of ``pixels``, stretched to ``SIDE`` x ``SIDE``."""
    height, width = pixels.shape[:2]
    x0, y0 = int(np.clip(box[0], 0, width - 2)), int(np.clip(box[1], 0, height - 2))
    x1, y1 = int(np.clip(np.ceil(box[2]), x0 + 2, width)), int(np.clip(np.ceil(box[3]), y0 + 2, height))
    part = halve_to_cover(pixels[y0:y1, x0:x1], SIDE, SIDE)
    return np.asarray(cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.uint8)


def _softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(values - values.max())
    return np.asarray(powers / powers.sum(), np.float32)
