"""Reading the characters of one line: cut it level, let the net say what stands there, decode 17 characters of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .photo import Pixels
from .reader import straighten

Floats = NDArray[np.float32]

ALPHABET = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"
"""What a VIN may hold (ISO 3779): no I, O, Q. The net's class 0 is the CTC blank, class i + 1 is ALPHABET[i]."""

HEIGHT, WIDTH = 48, 320
"""Size in pixels of the crops that the net takes."""


def grown(corners: NDArray[np.floating]) -> Floats:
    """``corners`` (4 x 2, pixels, reading order) with the margins that a crop has round its line.

    A fifth of the line's height above and below, a third at either end: a detector's corners are not exact, and
    a lost first character is worse than a bit of frame.
    """
    corners = np.asarray(corners, np.float32)
    along = (corners[1] - corners[0] + corners[2] - corners[3]) / 2
    down = (corners[3] - corners[0] + corners[2] - corners[1]) / 2
    length = max(float(np.hypot(*along)), 1e-3)
    height = max(float(np.hypot(*down)), 1e-3)
    x = along / length * (0.015 * length + 0.33 * height)
    y = down * 0.2
    return np.stack([corners[0] - x - y, corners[1] + x - y, corners[2] + x + y, corners[3] - x + y])


def cut(pixels: Pixels, corners: NDArray[np.floating]) -> Pixels:
    """The line within ``corners`` (4 x 2, pixels of ``pixels``) level and with its margins: 48 x 320, BGR."""
    return straighten(pixels, grown(corners), WIDTH, HEIGHT, 0.0)
