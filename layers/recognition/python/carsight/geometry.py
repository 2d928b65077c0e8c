"""Boxes and quadrilaterals in pixels of the upright photo.

Calculations with single boxes and quadrilaterals use plain numbers, here and elsewhere: with so few numpy
takes five times as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""A picture or a part of one: height x width x 3, blue-green-red, 0..255."""
Floats = NDArray[np.float32]
GRAY = (114, 114, 114)
"""The color of borders around photos, in training as in the product."""
Point = tuple[int, int]
Polygon = tuple[Point, Point, Point, Point]
"""Four corners, clockwise from the top left of the *text* (not of the photo)."""


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box: top-left and bottom-right corners in whole pixels."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int

    @classmethod
    def around(cls, points: NDArray[np.floating] | Sequence[Sequence[float]], width: int, height: int) -> Box:
        """Fit a box around ``points`` (N x 2, pixels), clipped to a ``width`` x ``height`` photo.

        Its sides are rounded to the nearest pixel: rounded outwards, a small plate's would be a tenth longer.
        """
        xs, ys = np.asarray(points, np.float64).T.tolist()
        x0, y0 = round(min(xs)), round(min(ys))
        x1, y1 = max(round(max(xs)), x0 + 1), max(round(max(ys)), y0 + 1)
        return cls(_within(x0, width), _within(y0, height), _within(x1, width), _within(y1, height))


def polygon(points: NDArray[np.floating], width: int, height: int) -> Polygon:
    """Return ``points`` (4 x 2, pixels) as whole pixels inside a ``width`` x ``height`` photo."""
    a, b, c, d = ((_within(round(x), width), _within(round(y), height)) for x, y in points.tolist())
    return a, b, c, d


def _within(place: int, size: int) -> int:
    return min(max(place, 0), size)


def turned_back(points: NDArray[np.floating], quarters: int, width: int, height: int) -> NDArray[np.float32]:
    """Return ``points`` (N x 2), found after turning a ``width`` x ``height`` photo, in the unturned photo.

    ``quarters`` are quarter turns counterclockwise, as in ``pixels.turned``.
    """
    x, y = points[:, 0], points[:, 1]
    places = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))
    return np.stack(places[quarters % 4], axis=1).astype(np.float32)


def sides(corners: NDArray[np.float32]) -> tuple[float, float]:
    """Return the mean width and height of a quadrilateral (4 x 2, clockwise from its top left)."""
    a, b, c, d = corners.tolist()
    return (math.dist(a, b) + math.dist(d, c)) / 2, (math.dist(a, d) + math.dist(b, c)) / 2


def box_corners(box: Sequence[float] | Floats) -> Floats:
    """Return the corners (4 x 2) of ``box`` (xmin, ymin, xmax, ymax), clockwise from its top left."""
    x0, y0, x1, y1 = (float(side) for side in box)
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float32)


def iou(a: Sequence[float] | Floats, b: Sequence[float] | Floats) -> float:
    """Return the intersection over union of two boxes (xmin, ymin, xmax, ymax), 0..1."""
    both = _shared(a, b)
    return both / (_area(a) + _area(b) - both) if both else 0.0


def lies_in(inner: Sequence[float] | Floats, outer: Sequence[float] | Floats) -> bool:
    """Return whether more than half of the box ``inner`` is inside ``outer``."""
    return _shared(inner, outer) > 0.5 * _area(inner)


def _shared(a: Sequence[float] | Floats, b: Sequence[float] | Floats) -> float:
    """Return the area that two boxes share."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return float(max(wide, 0)) * float(max(high, 0))


def _area(box: Sequence[float] | Floats) -> float:
    return float(box[2] - box[0]) * float(box[3] - box[1])
