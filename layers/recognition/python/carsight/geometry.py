"""Boxes and polygons in pixels of the upright photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
        """The tightest box round ``points`` (N x 2, pixels), clipped to a ``width`` x ``height`` photo."""
        array = np.asarray(points, dtype=np.float64)
        x0, y0 = np.floor(array.min(axis=0))
        x1, y1 = np.ceil(array.max(axis=0))
        return cls(
            int(min(max(x0, 0), width)),
            int(min(max(y0, 0), height)),
            int(min(max(x1, 0), width)),
            int(min(max(y1, 0), height)),
        )


def polygon(points: NDArray[np.floating], width: int, height: int) -> Polygon:
    """``points`` (4 x 2, pixels) as whole pixels inside a ``width`` x ``height`` photo."""
    clipped = np.clip(np.rint(points), 0, (width, height)).astype(int)
    a, b, c, d = ((int(x), int(y)) for x, y in clipped)
    return a, b, c, d
