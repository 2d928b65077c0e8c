"""Drawing readings into a copy of their photo."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from carsight.geometry import Box, Pixels, Point
from carsight.photo import Photo

if TYPE_CHECKING:
    from carsight.plate.recognizer import PlateReading
    from carsight.vin.recognizer import VinCandidate

_TEXT, _GROUND = (255, 255, 255), (40, 110, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_plates(photo: Photo, plates: Iterable[PlateReading]) -> Pixels:
    """Draw each plate's outline, with its text and score, into a copy of the full photo."""
    pixels = photo.full().pixels.copy()
    for plate in plates:
        label = f"{plate.text.upper()} {plate.region} {plate.score:.2f}"
        _draw(pixels, plate.polygon, plate.box, label)
    return pixels


def draw_vins(photo: Photo, vins: Iterable[VinCandidate]) -> Pixels:
    """Draw each VIN's box, with the VIN and its confidence, into a copy of the full photo."""
    pixels = photo.full().pixels.copy()
    for vin in vins:
        box = vin.box
        corners = [(box.xmin, box.ymin), (box.xmax, box.ymin), (box.xmax, box.ymax), (box.xmin, box.ymax)]
        _draw(pixels, corners, box, f"{vin.vin} {vin.confidence:.2f}")
    return pixels


def _draw(pixels: Pixels, corners: Iterable[Point], box: Box, label: str) -> None:
    """Outline ``corners`` and write ``label`` above ``box``, or below it if there is no room above."""
    height, width = pixels.shape[:2]
    thickness = max(1, round(max(height, width) / 500))
    size = max(0.4, max(height, width) / 1200)
    (wide, high), baseline = cv2.getTextSize(label, _FONT, size, thickness)
    x = max(0, min(box.xmin, width - wide))
    bottom = box.ymin if box.ymin >= high + baseline else min(height, box.ymax + high + baseline)
    cv2.polylines(pixels, [np.array(list(corners), np.int32)], True, _GROUND, 2 * thickness, cv2.LINE_AA)
    cv2.rectangle(pixels, (x, bottom - high - baseline), (x + wide, bottom), _GROUND, cv2.FILLED)
    cv2.putText(pixels, label, (x, bottom - baseline), _FONT, size, _TEXT, thickness, cv2.LINE_AA)
