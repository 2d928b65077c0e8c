"""VINs in barcodes: linear and matrix codes of labels, PDF417 and Aztec of papers.

A photo's code is often small, tilted, dim or white on black, so it is looked for in several views. How many
is bounded by the pixels looked at, not by a clock: the same photo always gets the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import zxingcpp
from numpy.typing import NDArray

from carsight.vin.payloads import Place, find_vins
from carsight.vin.views import View

Floats = NDArray[np.float32]

# Code 39 as printed: "Code39" would turn "+V", "/A" and the like into other characters unasked.
_LINEAR = (
    zxingcpp.BarcodeFormat.Code39Std,
    zxingcpp.BarcodeFormat.Code93,
    zxingcpp.BarcodeFormat.Code128,
)
# PDF417 looks like a linear code to a camera and, as those, is not tried inverted by zxing-cpp itself.
_FORMATS = (
    *_LINEAR,
    zxingcpp.BarcodeFormat.PDF417,
    zxingcpp.BarcodeFormat.Aztec,
    zxingcpp.BarcodeFormat.DataMatrix,
    zxingcpp.BarcodeFormat.QRCode,
)

_SIDE = 1280
"""Longer side in pixels of the views of a whole photo."""

_ENLARGED = 3.0
"""Codes of 1.1 to 1.75 pixels a module are read once they are enlarged so much, and not before."""

_ENLARGED_PIXELS = 1_300_000
"""Most pixels of an enlarged view."""

_ANGLES = (20.0, -20.0, 40.0, -40.0)
"""Degrees; a linear code is read up to the angle whose tangent is the height of its bars over its length."""


@dataclass(frozen=True, slots=True)
class BarcodeVin:
    """What may be a VIN in a barcode. ``corners`` (4 x 2, pixels of the full photo) are the code's."""

    vin: str
    corners: Floats
    place: Place


def look(view: View, rotate: bool = True) -> list[BarcodeVin]:
    """Return what may be VINs in the codes of ``view``; only level ones where not ``rotate``."""
    found = []
    for code in zxingcpp.read_barcodes(
        view.grey().pixels,
        formats=_FORMATS,  # type: ignore[arg-type]  # its stub lags behind its own advice
        try_rotate=rotate,
        text_mode=zxingcpp.TextMode.Plain,  # the usual mode spells control characters out: <GS>, <LF>
    ):
        p = code.position
        points = [(q.x, q.y) for q in (p.top_left, p.top_right, p.bottom_right, p.bottom_left)]
        corners = view.to_photo(np.array(points, np.float32))
        found += [BarcodeVin(one.vin, corners, one.place) for one in find_vins(code.text)]
    return found


def beside(view: View, line: Floats) -> View | None:
    """Level the surroundings of the text line with the corners ``line`` (4 x 2, pixels of ``view``).

    A code is often longer than the text and set to one side of it. None where the line is too short.
    """
    along = line[1] - line[0]
    length = float(np.hypot(*along))
    if length < 8:
        return None
    x, y = along / length, np.array([-along[1], along[0]], np.float32) / length
    middle = line.mean(axis=0)
    reach, rise = x * length * 1.6, y * length * 0.7
    source = np.array([middle - reach - rise, middle + reach - rise, middle + reach + rise], np.float32)
    zoom = min(1.0, _SIDE / (3.2 * length))
    width, height = max(8, round(3.2 * length * zoom)), max(8, round(1.4 * length * zoom))
    return view.grey().warped(source, width, height)


def whole(view: View) -> View:
    """``view`` without its colors, as large as a code in it is looked for."""
    return view.grey().zoomed(min(1.0, _SIDE / max(view.width, view.height)))


def further_views(view: View) -> Iterator[View]:
    """Yield views in which to look for a code in ``view`` when the whole showed none, likeliest first.

    Each is made only when it is asked for: white on black; the densest parts enlarged; a third as large,
    where grain stands between the modules; turned.
    """
    level = whole(view)
    yield View(np.asarray(255 - level.pixels, np.uint8), level.matrix)
    yield from dense_parts(view.grey())
    if min(level.width, level.height) > 300:
        yield level.zoomed(1 / 3)
    for degrees in _ANGLES:
        yield level.zoomed(0.7).tilted(degrees)


def dense_parts(view: View, count: int = 2) -> Iterator[View]:
    """Enlarge the ``count`` parts of the grey ``view``, as large as a code, that have the most edges."""
    cell = 8
    rows, columns = view.height // cell, view.width // cell
    if rows < 1 or columns < 1:
        return
    even = view.pixels[: rows * cell, : columns * cell]
    across = cv2.convertScaleAbs(cv2.Sobel(even, cv2.CV_16S, 1, 0))
    down = cv2.convertScaleAbs(cv2.Sobel(even, cv2.CV_16S, 0, 1))
    across, down = (
        cv2.resize(edges, (columns, rows), interpolation=cv2.INTER_AREA) for edges in (across, down)
    )
    edges = np.maximum(across, down)
    busy = np.asarray(edges > max(24.0, 1.5 * float(edges.mean())), np.uint8)
    busy = np.asarray(cv2.morphologyEx(busy, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)), np.uint8)
    amount, _, stats, _ = cv2.connectedComponentsWithStats(busy)
    parts = []
    for index in range(1, amount):
        x, y, width, height, area = (int(v) for v in stats[index])
        if area >= 4 and max(width, height) >= 4:
            weight = float(edges[y : y + height, x : x + width].mean()) * math.sqrt(area)
            parts.append((weight, x, y, width, height))
    for _, x, y, width, height in sorted(parts, reverse=True)[:count]:
        part = view.cut(
            max(0, (x - 2) * cell),
            max(0, (y - 2) * cell),
            min(view.width, (x + width + 2) * cell),
            min(view.height, (y + height + 2) * cell),
        )
        zoom = min(_ENLARGED, math.sqrt(_ENLARGED_PIXELS / max(1, part.width * part.height)))
        if zoom > 1.2:
            yield part.zoomed(zoom)
