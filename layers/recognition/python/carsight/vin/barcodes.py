"""VINs in barcodes: linear and matrix codes on labels, PDF417 and Aztec on papers.

A code is often small, tilted, dim or white on black, so it is looked for in several views. The work is
limited by the number of pixels, not by time: the same photo always gets the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import zxingcpp

from carsight.geometry import Floats, Pixels
from carsight.pixels import halve_to_cover
from carsight.vin.payloads import Place, find_vins
from carsight.vin.views import View, components

# Code 39 as printed: "Code39" would convert "+V", "/A" and the like to other characters.
_LINEAR = (
    zxingcpp.BarcodeFormat.Code39Std,
    zxingcpp.BarcodeFormat.Code93,
    zxingcpp.BarcodeFormat.Code128,
)
# PDF417 looks like linear codes to a camera and, like them, is not tried inverted by zxing-cpp.
_STACKED_AND_MATRIX = (
    zxingcpp.BarcodeFormat.PDF417,
    zxingcpp.BarcodeFormat.Aztec,
    zxingcpp.BarcodeFormat.DataMatrix,
    zxingcpp.BarcodeFormat.QRCode,
)

BARS = (*_LINEAR, _STACKED_AND_MATRIX[0])
"""Codes that consist of bars."""

MATRIX = _STACKED_AND_MATRIX[1:]
"""Codes that consist of square modules."""

_SIDE = 1280
"""Longer side in pixels of the views of a whole photo."""

_ENLARGED, _ENLARGED_SHARP = (6.0, 1.0), (4.0, 2.0)
"""Factors by which averaged and sharpened bars are enlarged, across and along them: with 1.1 to 1.75 pixels a
module they cannot be read otherwise."""

_ALONG = 5
"""How many rows are averaged along level bars, as grain and JPEG's errors differ between rows."""

_LEVEL_LINE = 3.0
"""Most degrees by which a line may be tilted for the code beside it to be level enough."""

_LEGIBLE = 150
"""Fewest pixels of a text line beside which a code may be legible: Code 39 of a VIN has some 300 modules."""

_ENLARGED_PIXELS = 1_300_000
"""Most pixels of an enlarged view."""

_LOGARITHM = np.asarray(np.rint(255 * np.log1p(np.arange(256) / 8) / np.log1p(255 / 8)), np.uint8)
"""The logarithm of each brightness."""

_AROUND = 41
"""Side in pixels of the neighborhood that determines a shadow: several modules of any legible code."""

_PARTS = 4
"""In how many parts of a photo bars are looked for."""

_MATRIX_ENLARGED, _ENLARGED_SIDE = 3.0, 600
"""The largest factor by which a matrix code is enlarged, and the largest side to which it is, in pixels."""

_HARDLY_LARGER = 1.5
"""A matrix code that could only be enlarged by less is not, as its modules have enough pixels."""

_CELL, _NEIGHBORS = 4, 3
"""Side of the cells in which edges are counted, in pixels, and of a neighborhood, in cells."""

_CLEAR = 10.0
"""Lowest mean step of gray, in both directions, of a neighborhood that may belong to a matrix code."""

_AS_DENSE = 0.5
"""Lowest mean step in a matrix code, as a share of that of its densest neighborhood."""

_DENSE_PARTS = 3
"""In how many parts of a photo matrix codes are looked for."""

_LEVEL = 1.0
"""Most degrees by which bars may be tilted: in a flat code no line crosses all bars otherwise."""

_COHERENT = 0.4
"""Lowest coherence (0..1) of the edges of bars: that of text is 0.1 to 0.4, that of PDF417 from 0.4."""

_ROWS, _FAINT = 16, 4
"""In how many rows edges are counted, and the largest step of gray that does not count."""

_FEWEST_EDGES = 30
"""Fewest edges in a row of a code with a VIN: PDF417 with one column has 41, and of 99 drawn codes that are
read none has fewer than 55."""


class BarcodeVin(NamedTuple):
    """A possible VIN, and the ``corners`` (4 x 2, pixels of the full photo) of the barcode with it."""

    vin: str
    corners: Floats
    place: Place


def look(
    view: View,
    formats: Sequence[zxingcpp.BarcodeFormat] = (*_LINEAR, *_STACKED_AND_MATRIX),
    *,
    rotate: bool = True,
) -> list[BarcodeVin]:
    """Return the possible VINs in the codes of ``view``; without ``rotate``, only in level codes."""
    found = []
    for code in zxingcpp.read_barcodes(
        view.gray().pixels,
        formats=formats,  # type: ignore[arg-type]  # the stub does not know the recommended form yet
        try_rotate=rotate,
        text_mode=zxingcpp.TextMode.Plain,  # the default mode writes control characters as <GS>, <LF>
    ):
        p = code.position
        points = [(q.x, q.y) for q in (p.top_left, p.top_right, p.bottom_right, p.bottom_left)]
        corners = view.to_photo(np.array(points, np.float32))
        found += [BarcodeVin(vin, corners, place) for vin, place in find_vins(code.text).items()]
    return found


def look_for(vin: str, view: View) -> list[BarcodeVin]:
    """Return the possible VINs in the level codes of ``view``, only in linear ones if one of them is ``vin``.

    Most labels have linear codes, and looking for these takes a third of the time that all codes take.
    """
    found = look(view, _LINEAR, rotate=False)
    if any(code.vin == vin for code in found):
        return found
    return found + look(view, _STACKED_AND_MATRIX, rotate=False)


def beside(view: View, line: Floats) -> View | None:
    """Return the surroundings of a text line, leveled; ``line`` are its corners (4 x 2, pixels of ``view``).

    A code is often longer than the text and shifted to one side. If the line is level enough, the
    surroundings are cut out without warping. None if the line is too short for a code beside it to be
    legible.
    """
    along = line[1] - line[0]
    length = float(np.hypot(*along))
    if length < _LEGIBLE:
        return None
    x, y = along / length, np.array([-along[1], along[0]], np.float32) / length
    middle = line.mean(axis=0)
    zoom = min(1.0, _SIDE / (3.2 * length))
    if x[0] > 0 and abs(x[1]) < math.sin(math.radians(_LEVEL_LINE)):
        size, reach = np.array((view.width, view.height)), np.array((1.6, 0.7)) * length
        x0, y0 = np.clip(middle - reach, 0, size - 1).astype(int).tolist()
        x1, y1 = np.clip(middle + reach, (x0 + 1, y0 + 1), size).astype(int).tolist()
        return view.cut(x0, y0, x1, y1).gray().zoomed(zoom)
    reach, rise = x * length * 1.6, y * length * 0.7
    source = np.array([middle - reach - rise, middle + reach - rise, middle + reach + rise], np.float32)
    width, height = max(8, round(3.2 * length * zoom)), max(8, round(1.4 * length * zoom))
    return view.gray().warped(source, width, height)


def whole(view: View) -> View:
    """Return ``view`` in gray, at the size at which codes are looked for in it."""
    return view.gray().zoomed(min(1.0, _SIDE / max(view.width, view.height)))


def busy_parts(view: View) -> list[View]:
    """Return the parts of ``view`` with the most edges, busiest first; each may be a code."""
    view, cell = view.gray(), 8
    rows, columns = view.height // cell, view.width // cell
    if min(rows, columns) < 1:
        return []
    even = view.pixels[: rows * cell, : columns * cell]
    across = cv2.convertScaleAbs(cv2.Sobel(even, cv2.CV_16S, 1, 0))
    down = cv2.convertScaleAbs(cv2.Sobel(even, cv2.CV_16S, 0, 1))
    size = (columns, rows)
    edges = np.maximum(*(cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in (across, down)))
    busy = np.asarray(edges > max(24.0, 1.5 * float(edges.mean())), np.uint8)
    busy = np.asarray(cv2.morphologyEx(busy, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)), np.uint8)
    _, stats = components(busy)
    parts = []
    for x, y, width, height, area in stats[1:].tolist():
        if area >= 4 and max(width, height) >= 4:
            weight = float(edges[y : y + height, x : x + width].mean()) * math.sqrt(area)
            parts.append((weight, x, y, width, height))
    return [
        view.cut(
            max(0, (x - 2) * cell),
            max(0, (y - 2) * cell),
            min(view.width, (x + width + 2) * cell),
            min(view.height, (y + height + 2) * cell),
        )
        for _, x, y, width, height in sorted(parts, reverse=True)[:_PARTS]
    ]


def bars(parts: Sequence[View]) -> Iterator[View]:
    """Yield leveled views of the ``parts`` that look like bars, to be searched for unrotated ``BARS``.

    Each part is yielded dark on light and then light on dark, which zxing-cpp tries only for matrix codes;
    both averaged along the bars and enlarged, and sharpened and enlarged. Of 288 clear codes with 1.1 to 1.5
    pixels a module 255 are read, and 227 without averaging (of 60 with Code 39 at 1.1 to 1.3 pixels 35 and
    16).
    """
    for part in parts:
        angle = _angle_of_bars(part.pixels)
        if angle is None:
            continue
        level = part if abs(angle) < _LEVEL else part.tilted(angle)
        if _edges_across(level.pixels) < _FEWEST_EDGES:
            continue  # fences, grilles and the frames of labels
        for pixels in (level.pixels, np.asarray(255 - level.pixels, np.uint8)):
            even = np.asarray(cv2.blur(pixels, (1, _ALONG)), np.uint8)
            for clear, across, along in ((even, *_ENLARGED), (_sharp(pixels), *_ENLARGED_SHARP)):
                yield with_quiet_zones(_stretched(View(clear, level.matrix), across, along))


def _stretched(view: View, across: float, along: float) -> View:
    """Enlarge level bars by factors ``across`` and ``along`` them, at most to ``_ENLARGED_PIXELS``."""
    least = math.sqrt(min(1.0, _ENLARGED_PIXELS / max(1.0, view.width * view.height * across * along)))
    columns, rows = round(view.width * across * least), round(view.height * along * least)
    size = (max(view.width, columns), max(view.height, rows))
    pixels = cv2.resize(view.pixels, size, interpolation=cv2.INTER_LANCZOS4)
    scale = np.diag([view.width / size[0], view.height / size[1], 1.0])
    return View(np.asarray(pixels, np.uint8), view.matrix @ scale)


def _sharp(gray: Pixels) -> Pixels:
    """Return ``gray`` sharpened: details that a blur of one pixel removes become four times as strong."""
    return np.asarray(cv2.addWeighted(gray, 4, cv2.GaussianBlur(gray, (7, 7), 1.0), -3, 0), np.uint8)


def with_quiet_zones(view: View) -> View:
    """Return the gray ``view`` of level bars with areas at its left and right edge as light as its own light.

    Some codes are printed or cut without quiet zones, and dark areas beside them would be taken for bars.
    Lighter areas, as around a colored label, would make all of the code dark.
    """
    third, margin = max(1, view.height // 3), view.width // 8
    profile = view.pixels[third : 2 * third].mean(axis=0) if third > 1 else view.pixels.mean(axis=0)
    lightest = math.ceil(float(profile[margin : view.width - margin].max()))
    light = profile >= (float(profile.min()) + min(float(profile.max()), lightest)) / 2
    first, last = int(light.argmax()), len(light) - int(light[::-1].argmax())
    if first == 0 and last == len(light) and float(profile.max()) <= lightest:
        return view
    pixels = np.asarray(np.minimum(view.pixels, lightest), np.uint8)
    pixels[:, :first] = lightest
    pixels[:, last:] = lightest
    return View(pixels, view.matrix)


def dense_parts(view: View) -> Iterator[View]:
    """Yield the parts of ``view`` that may be small matrix codes, to be searched for ``MATRIX``.

    Each is sharpened and enlarged when it is requested. A matrix code has more edges in both directions than
    the print, the frames and the bars around it. Of 216 drawn codes on labels with 1.3 to 3 pixels a module,
    80 are read in the whole photo, and 167 in this way.
    """
    view = view.gray()
    rows, columns = (view.height - 1) // _CELL, (view.width - 1) // _CELL
    if min(rows, columns) < _NEIGHBORS:
        return
    gray, bottom, right = view.pixels, rows * _CELL, columns * _CELL
    here = gray[:bottom, :right]
    beside, below = gray[:bottom, 1 : right + 1], gray[1 : bottom + 1, :right]
    steps = (np.asarray(cv2.absdiff(here, other), np.uint8) for other in (beside, below))
    both = np.minimum(*(halve_to_cover(each, columns, rows) for each in steps))
    dense = np.asarray(cv2.blur(both, (_NEIGHBORS, _NEIGHBORS)), np.uint8)
    for _ in range(_DENSE_PARTS):
        y, x = divmod(int(dense.argmax()), columns)
        most = int(dense[y, x])
        if most < _CLEAR:
            return
        less, how = int((1 - _AS_DENSE) * most), 8 | cv2.FLOODFILL_FIXED_RANGE
        left, top, wide, high = cv2.floodFill(dense, None, (x, y), 0, less, most, how)[3]
        dense[top : top + high, left : left + wide] = 0
        around = _NEIGHBORS * _CELL
        part = view.cut(
            max(0, left * _CELL - around),
            max(0, top * _CELL - around),
            min(view.width, (left + wide) * _CELL + around),
            min(view.height, (top + high) * _CELL + around),
        )
        zoom = min(_MATRIX_ENLARGED, _ENLARGED_SIDE / max(part.width, part.height))
        if zoom > _HARDLY_LARGER:
            # Around a colored label it may be lighter, and all of the code would be dark.
            x0, x1 = (left + 1) * _CELL, (left + wide - 1) * _CELL
            code = gray[(top + 1) * _CELL : (top + high - 1) * _CELL, x0:x1]
            pixels = np.minimum(part.pixels, code.max()) if code.size else part.pixels
            yield _sharp_enlarged(View(np.asarray(pixels, np.uint8), part.matrix), zoom)


def further_views(view: View) -> Iterator[View]:
    """Yield views of ``view`` in which to look for a matrix code when nothing was read, likeliest first.

    They are created on request: one without shadows, and one at a third of the size, against grain between
    the modules.
    """
    level = whole(view)
    yield View(_without_shadows(level.pixels), level.matrix)
    if min(level.width, level.height) > 300:
        yield level.zoomed(1 / 3)


def _without_shadows(gray: Pixels) -> Pixels:
    """Return how much lighter than its neighborhood each pixel of ``gray`` is, as a logarithm around 128.

    The edge of a shadow is as strong as the edges of a code, and zxing-cpp separates dark from light by the
    surrounding brightness. But a shadow divides brightness by two to six, and ink by ten or more. Of 35 codes
    with shadows (seven kinds; upright and slanting edges, bands, gradients) 9 are read unchanged, and 33 in
    this way.
    """
    logarithm = cv2.GaussianBlur(cv2.LUT(gray, _LOGARITHM), (0, 0), 0.6)
    around = cv2.blur(logarithm, (_AROUND, _AROUND))
    return np.asarray(cv2.addWeighted(logarithm, 1, around, -1, 128), np.uint8)


def _sharp_enlarged(view: View, zoom: float) -> View:
    """Return the gray ``view`` sharpened, and enlarged by ``zoom``.

    Values are clipped to black and white only after enlarging, as small modules would merge otherwise.
    """
    pixels = view.pixels.astype(np.float32)
    sharp = cv2.addWeighted(pixels, 3, cv2.GaussianBlur(pixels, (7, 7), 1.0), -2, 0)
    size = (round(view.width * zoom), round(view.height * zoom))
    larger = cv2.resize(sharp, size, interpolation=cv2.INTER_LANCZOS4)
    scale = np.diag([view.width / size[0], view.height / size[1], 1.0])
    return View(np.asarray(larger.clip(0, 255), np.uint8), view.matrix @ scale)


def _angle_of_bars(gray: Pixels) -> float | None:
    """Return the tilt, -90 to 90 degrees, of the bars in ``gray``; None if there are none.

    It is that of all of ``gray`` or of its middle, which has no frame and no edge of a label, whichever has
    the more coherent edges.
    """
    height, width = gray.shape
    inner = gray[height // 4 : height - height // 4, width // 8 : width - width // 8]
    coherence, angle = max(_direction(part) for part in (gray, inner))
    return angle if coherence >= _COHERENT else None


def _edges_across(gray: Pixels) -> int:
    """Return the number of edges of level bars in the row of ``gray`` with the most, of ``_ROWS`` rows."""
    steps = np.diff(gray[:: max(1, len(gray) // _ROWS)].astype(np.int16), axis=1)
    most = 0
    for row in steps:
        lighter = row[np.abs(row) > _FAINT] > 0
        most = max(most, int((lighter[1:] != lighter[:-1]).sum()))
    return most


def _direction(gray: Pixels) -> tuple[float, float]:
    """Return the coherence (0..1) of the edges of ``gray``, and their tilt in degrees.

    They are measured by the structure tensor (Bigün and Granlund, 1987): edges of bars have one direction.
    """
    across, down = (cv2.Sobel(gray, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    xx, yy, xy = (float((a * b).mean()) for a, b in ((across, across), (down, down), (across, down)))
    return math.hypot(xx - yy, 2 * xy) / (xx + yy + 1e-6), math.degrees(math.atan2(2 * xy, xx - yy) / 2)
