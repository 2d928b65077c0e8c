"""VINs in barcodes: Code 39 and Code 128 on labels, Data Matrix and QR on newer cars.

A photo's code is often small, tilted or dim, so it is looked for in several views. How many is bounded by
the pixels looked at, not by a clock: the same photo always gets the same answer.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import cv2
import numpy as np
import zxingcpp
from numpy.typing import NDArray

from carsight.photo import Pixels
from carsight.vin import rules as vin_rules

Floats = NDArray[np.float32]

_FORMATS = (
    zxingcpp.BarcodeFormat.Code39,
    zxingcpp.BarcodeFormat.Code128,
    zxingcpp.BarcodeFormat.DataMatrix,
    zxingcpp.BarcodeFormat.QRCode,
)

_RUN = re.compile("[0-9A-HJ-NPR-Z]{17,}")
_LONGEST_PACKED = 19
"""A VIN with a leading I and a trailing check character; longer runs are other data unless much speaks for
a VIN."""

_HARD_ANGLES = (0.0, 15.0, -15.0, 30.0, -30.0, 45.0)
"""Degrees; zxing-cpp reads a linear code up to some 10 degrees off level."""

_SIDE = 1280
"""Longer side in pixels of the views of a whole photo."""


@dataclass(frozen=True, slots=True)
class BarcodeVin:
    """A VIN read from a barcode. ``corners`` (4 x 2, pixels of the image searched) are the code's.

    ``sure``: the check digit holds, or the payload is a maker's known prefix and nothing but a VIN.
    """

    vin: str
    payload: str
    corners: Floats
    sure: bool


def vin_of(payload: str) -> tuple[str, bool] | None:
    """The VIN that a barcode's ``payload`` holds, and whether it is a sure one; None where there is none.

    Of 29 labels on real cars 20 held ``I`` + VIN, 7 the VIN alone, 1 VIN + a trailing check character. So
    the window of 17 characters whose check digit holds is taken, first the one after a leading I; failing
    that, a payload of nothing but a VIN (with or without I) is believed, since most European VINs have no
    check digit. Letters are not folded here: a barcode is never in doubt between I and 1.
    """
    text = payload.upper().strip(" *\x00\r\n\t")
    windows: list[tuple[int, str]] = []
    for run in _RUN.finditer(text):
        packed = run.group()
        whole = packed == (text.removeprefix("I"))
        for at in range(len(packed) - vin_rules.LENGTH + 1):
            vin = packed[at : at + vin_rules.LENGTH]
            after_i = run.start() + at == 1 and text[0] == "I"
            exact = whole and len(packed) == vin_rules.LENGTH
            alone = len(packed) == vin_rules.LENGTH
            valid, known = vin_rules.is_valid(vin), vin_rules.known_maker(vin)
            # A window of a longer run passes by chance 1 time in 11, and a run of digits is a serial number.
            if len(packed) > _LONGEST_PACKED and not (valid and known):
                continue
            if vin.isdigit() and not (valid and exact):
                continue
            if valid or exact or (alone and known):
                windows.append((4 * valid + 2 * after_i + exact + known, vin))
    if not windows:
        return None
    _, vin = max(windows, key=lambda item: item[0])
    return vin, vin_rules.is_valid(vin) or (vin_rules.known_maker(vin) and not vin_rules.check_applies(vin))


def near(pixels: Pixels, line: Floats, hard: bool = False) -> BarcodeVin | None:
    """The VIN in a barcode beside the text line with the corners ``line`` (4 x 2, pixels, reading order).

    One look at the levelled neighbourhood; with ``hard`` also the whole photo at several angles.
    """
    beside = _beside(pixels, line)
    found = _look(*beside) if beside is not None else None
    if found is not None or not hard:
        return found
    return anywhere(pixels, hard=True, angle=_tilt(line))


def anywhere(pixels: Pixels, hard: bool = False, angle: float = 0.0) -> BarcodeVin | None:
    """The VIN in a barcode anywhere in ``pixels``; ``angle`` (degrees) is the tilt to try first with
    ``hard``.

    Without ``hard`` one look at the whole photo; with it nine, about a tenth of a second of one processor.
    """
    whole = min(_SIDE / max(pixels.shape[:2]), 1.0)
    tries = [(whole, 0.0)]
    if hard:
        tries += [(whole * 0.7, 0.0), (min(whole * 1.6, _SIDE / max(pixels.shape[:2]) * 1.2), 0.0)]
        tries += [(whole, degrees + angle) for degrees in _HARD_ANGLES if abs(degrees + angle) > 3]
    for zoom, degrees in tries:
        method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        view = (
            pixels
            if zoom == 1
            else np.asarray(cv2.resize(pixels, None, fx=zoom, fy=zoom, interpolation=method), np.uint8)
        )
        turned, back = _turned(view, degrees)
        found = _look(turned, np.diag([1 / zoom, 1 / zoom, 1.0]) @ back)
        if found is not None:
            return found
    return None


def _look(view: Pixels, back: NDArray[np.float64]) -> BarcodeVin | None:
    """The first VIN in the barcodes of ``view``; ``back`` (3 x 3) leads from its pixels to the photo's."""
    grey = cv2.cvtColor(view, cv2.COLOR_BGR2GRAY)
    for code in zxingcpp.read_barcodes(
        grey,
        formats=_FORMATS,  # type: ignore[arg-type]  # its stub lags behind its own advice
        try_downscale=False,
    ):
        found = vin_of(code.text)
        if found is not None:
            p = code.position
            points = [(q.x, q.y) for q in (p.top_left, p.top_right, p.bottom_right, p.bottom_left)]
            corners = cv2.perspectiveTransform(np.array([points], np.float64), back)[0]
            return BarcodeVin(found[0], code.text, np.asarray(corners, np.float32), found[1])
    return None


def _tilt(line: Floats) -> float:
    """The line's angle in degrees, between -45 and 45: zxing-cpp turns views by 90 degrees itself."""
    along = line[1] - line[0]
    degrees = math.degrees(math.atan2(float(along[1]), float(along[0])))
    return (degrees + 45) % 90 - 45


def _beside(pixels: Pixels, line: Floats) -> tuple[Pixels, NDArray[np.float64]] | None:
    """The levelled surroundings of a line, where a code is often longer than the text and set to one side
    of it."""
    along = line[1] - line[0]
    length = float(np.hypot(*along))
    if length < 8:
        return None
    x, y = along / length, np.array([-along[1], along[0]], np.float32) / length
    middle = line.mean(axis=0)
    wide, high = length * 3.2, length * 1.4
    source = np.array(
        [
            middle - x * wide / 2 - y * high / 2,
            middle + x * wide / 2 - y * high / 2,
            middle + x * wide / 2 + y * high / 2,
        ],
        np.float32,
    )
    zoom = min(1.0, _SIDE / wide)  # enlarging was never seen to help
    size = (round(wide * zoom), round(high * zoom))
    target = np.array([(0, 0), (size[0], 0), (size[0], size[1])], np.float32)
    matrix = cv2.getAffineTransform(source, target)
    view = cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(view, np.uint8), np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))


def _turned(pixels: Pixels, degrees: float) -> tuple[Pixels, NDArray[np.float64]]:
    """``pixels`` turned so that a line tilted by ``degrees`` becomes level, and the way back (3 x 3)."""
    if abs(degrees) < 1:
        return pixels, np.eye(3)
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (int(width * cosine + height * sine), int(width * sine + height * cosine))
    matrix[:, 2] += (size[0] / 2 - width / 2, size[1] / 2 - height / 2)
    view = cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(view, np.uint8), np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))
