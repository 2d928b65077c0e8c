"""Pictures as arrays: turned, cut out, resized, the same bits on every processor."""

from __future__ import annotations

import math
import platform

import cv2
import numpy as np
from numpy.typing import NDArray

from carsight.geometry import Floats, Pixels, sides

_X86 = platform.machine() in {"x86_64", "AMD64"}


def turned(pixels: Pixels, quarters: int) -> Pixels:
    """Return ``pixels`` turned counterclockwise by ``quarters`` of a turn."""
    code = _TURNS.get(quarters % 4)
    return pixels if code is None else np.asarray(cv2.rotate(pixels, code), np.uint8)


_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
"""OpenCV's constants for quarter turns counterclockwise; numpy's turn takes 3 to 40 times as long."""


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror ``pixels`` from EXIF's ``orientation`` (1..8) to the way they are to be seen."""
    if orientation > 4:
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    # Horizontally, vertically, both; after the transposition where there is one.
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if flip is None else np.asarray(cv2.flip(pixels, flip), np.uint8)


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


def halve_to_cover(pixels: Pixels, width: int, height: int) -> Pixels:
    """Average ``pixels`` two by two for as long as at least ``width`` x ``height`` of them are left.

    OpenCV does that several times faster than area resampling by a fractional factor, so the nets' inputs,
    cut from large photos, begin here. A last row or column that has no partner falls away.
    """
    while pixels.shape[1] >= 2 * width and pixels.shape[0] >= 2 * height:
        rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
        even = pixels[: rows * 2, : columns * 2]
        pixels = np.asarray(cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    return pixels


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize ``pixels``, of one channel or three, linearly, to the same bits on every processor.

    On arm64 OpenCV leaves up to four channels to a library of its own, which rounds a fifth of the values
    otherwise. More than four it computes alike everywhere.
    """
    size = width, height
    if _X86:
        return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    if pixels.ndim == 2:
        many = cv2.resize(np.stack([pixels] * 5, axis=2), size, interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(many[..., 0], np.uint8)
    twice = cv2.resize(np.concatenate([pixels] * 2, axis=2), size, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(twice[..., :3], np.uint8)


def percentile(values: NDArray[np.generic], share: float) -> float:
    """Return which of ``values`` has ``share`` (0..1) of them below it.

    ``np.percentile`` and ``np.median`` import masked arrays, for which a cold start would wait, and which the
    images do not hold.
    """
    ordered = np.sort(values, axis=None, kind="stable")  # of bytes a radix sort, in a twentieth of the time
    return float(ordered[round(share * (len(ordered) - 1))])
