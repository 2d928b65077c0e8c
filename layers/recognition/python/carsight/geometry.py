"""Boxes and quadrilaterals in pixels of the upright photo, what lies within them, and which way is up.

Boxes and single quadrilaterals are computed with as plain numbers, here and elsewhere: numpy takes five
times as long for so few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""A picture or a part of one: height x width x 3, blue-green-red, 0..255."""
Floats = NDArray[np.float32]
GRAY = (114, 114, 114)
"""What is laid round photos, in training as in the product."""
Point = tuple[int, int]
Polygon = tuple[Point, Point, Point, Point]
"""Four corners, clockwise, beginning at the top left of the *text* (not of the photo)."""


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box: top-left and bottom-right corners in whole pixels."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int

    @classmethod
    def around(cls, points: NDArray[np.floating] | Sequence[Sequence[float]], width: int, height: int) -> Box:
        """Fit a box round ``points`` (N x 2, pixels), clipped to a ``width`` x ``height`` photo.

        Its sides are the nearest whole pixels: rounded outwards, a small plate's would be a tenth longer.
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


def turned(pixels: Pixels, quarters: int) -> Pixels:
    """Return ``pixels`` turned counterclockwise by ``quarters`` of a turn."""
    code = _TURNS.get(quarters % 4)
    return pixels if code is None else np.asarray(cv2.rotate(pixels, code), np.uint8)


_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
"""OpenCV's constants for quarter turns counterclockwise; numpy's turn takes 3 to 40 times as long."""


def turned_back(points: NDArray[np.floating], quarters: int, width: int, height: int) -> NDArray[np.float32]:
    """Return ``points`` (N x 2) of a photo that was ``turned`` where they lie in it, width x height."""
    x, y = points[:, 0], points[:, 1]
    places = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))
    return np.stack(places[quarters % 4], axis=1).astype(np.float32)


def sides(corners: NDArray[np.float32]) -> tuple[float, float]:
    """Return the mean width and height of a quadrilateral (4 x 2, clockwise from its top left)."""
    a, b, c, d = corners.tolist()
    return (math.dist(a, b) + math.dist(d, c)) / 2, (math.dist(a, d) + math.dist(b, c)) / 2


def straighten(
    pixels: Pixels,
    corners: NDArray[np.floating],
    width: int,
    height: int,
    grow: float,
    *,
    sharp: bool = False,
) -> Pixels:
    """Return what lies within ``corners``, grown by the share ``grow``, warped to ``height`` x ``width``.

    Pixels are interpolated linearly, if ``sharp`` between those that are ``doubled`` before.
    """
    center = corners.mean(axis=0)
    grown = (center + (corners - center) * (1 + grow)).astype(np.float32)
    part, origin = surroundings(pixels, grown, 2)
    grown -= origin
    # Shrinking by the warp alone would alias thin strokes, so large plates are halved until they are near
    # its size.
    while min(part.shape[:2]) > 1 and sides(grown)[0] > 2 * width and sides(grown)[1] > 2 * height:
        scale = np.array((part.shape[1] // 2 / part.shape[1], part.shape[0] // 2 / part.shape[0]), np.float32)
        part = np.asarray(
            cv2.resize(part, (part.shape[1] // 2, part.shape[0] // 2), interpolation=cv2.INTER_AREA), np.uint8
        )
        grown *= scale
    if sharp:
        part, grown = doubled(part, grown)
    target = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    matrix = cv2.getPerspectiveTransform(grown, target)
    warped = cv2.warpPerspective(
        part, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, dtype=np.uint8)


def surroundings(pixels: Pixels, points: NDArray[np.floating], margin: int) -> tuple[Pixels, Floats]:
    """Return the part of ``pixels`` that holds ``points`` (N x 2) and ``margin`` round them; where it begins.

    Where all of that lies outside, the part is the last pixel.
    """
    x, y = points.T.tolist()
    x0, y0 = max(math.floor(min(x)) - margin, 0), max(math.floor(min(y)) - margin, 0)
    x1, y1 = math.ceil(max(x)) + margin + 1, math.ceil(max(y)) + margin + 1
    part = pixels[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    return part if part.size else pixels[-1:, -1:], np.array((x0, y0), np.float32)


def doubled(pixels: Pixels, points: Floats) -> tuple[Pixels, Floats]:
    """Return ``pixels`` twice as large, by Lanczos' filter, and where ``points`` (N x 2) lie there.

    It blurs less what is enlarged. OpenCV's cubic warp does as well, and is not equal to the bit on every
    processor.
    """
    larger = cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_LANCZOS4)
    return np.asarray(larger, np.uint8), (points + np.float32(0.5)) * np.float32(2) - np.float32(0.5)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror ``pixels`` from EXIF's ``orientation`` (1..8) to the way they are to be seen."""
    if orientation > 4:
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    # Horizontally, vertically, both; after the transposition where there is one.
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if flip is None else np.asarray(cv2.flip(pixels, flip), np.uint8)
