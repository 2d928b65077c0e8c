"""Turning, cutting and resizing pictures, with the same bits on every processor."""

from __future__ import annotations

import math
import platform

import cv2
import numpy as np
from numpy.typing import NDArray

from carsight.geometry import Floats, Pixels, sides

_X86 = platform.machine() in {"x86_64", "AMD64"}


def turned(pixels: Pixels, quarters: int) -> Pixels:
    """Return ``pixels`` turned counterclockwise by ``quarters`` quarter turns."""
    code = _TURNS.get(quarters % 4)
    return pixels if code is None else np.asarray(cv2.rotate(pixels, code), np.uint8)


_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
"""OpenCV's constants for quarter turns counterclockwise; numpy's turn takes 3 to 40 times as long."""


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return ``pixels`` turned and mirrored as EXIF's ``orientation`` (1..8) demands."""
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
    """Return the area within ``corners`` (4 x 2), enlarged by the share ``grow``, as ``height`` x ``width``.

    Pixels are interpolated linearly; with ``sharp``, after the area has been ``doubled``.
    """
    center = corners.mean(axis=0)
    grown = (center + (corners - center) * (1 + grow)).astype(np.float32)
    part, origin = surroundings(pixels, grown, 2)
    grown -= origin
    # Shrinking by the warp alone would alias thin strokes, so large areas are halved until they are close to
    # the target size.
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
    """Return the part of ``pixels`` with ``points`` (N x 2) and a ``margin`` of pixels; its origin (x, y).

    If all of that lies outside, the part is the last pixel.
    """
    x, y = points.T.tolist()
    x0, y0 = max(math.floor(min(x)) - margin, 0), max(math.floor(min(y)) - margin, 0)
    x1, y1 = math.ceil(max(x)) + margin + 1, math.ceil(max(y)) + margin + 1
    part = pixels[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    return part if part.size else pixels[-1:, -1:], np.array((x0, y0), np.float32)


def doubled(pixels: Pixels, points: Floats) -> tuple[Pixels, Floats]:
    """Return ``pixels`` enlarged twice with a Lanczos filter, and the positions of ``points`` (N x 2) there.

    Enlarging blurs less this way than by linear interpolation. So it does with OpenCV's cubic warp, whose
    bits differ between processors.
    """
    larger = cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_LANCZOS4)
    return np.asarray(larger, np.uint8), (points + np.float32(0.5)) * np.float32(2) - np.float32(0.5)


def halve_to_cover(pixels: Pixels, width: int, height: int) -> Pixels:
    """Halve ``pixels`` by averaging as often as at least ``width`` x ``height`` of them remain.

    OpenCV does this several times faster than area resampling by a fractional factor, so inputs of nets that
    are cut from large photos are halved first. An odd last row or column is dropped.
    """
    while pixels.shape[1] >= 2 * width and pixels.shape[0] >= 2 * height:
        rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
        even = pixels[: rows * 2, : columns * 2]
        pixels = np.asarray(cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    return pixels


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize ``pixels`` (one channel or three) linearly, with the same bits on every processor.

    On arm64 OpenCV passes up to four channels to another library, which rounds a fifth of the values
    differently. More than four channels it computes in the same way everywhere.
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
    """Return the value in ``values`` below which the given ``share`` (0..1) of them lies.

    ``np.percentile`` and ``np.median`` import masked arrays, which take time at a cold start and are not in
    the images.
    """
    ordered = np.sort(values, axis=None, kind="stable")  # for bytes a radix sort, in a twentieth of the time
    return float(ordered[round(share * (len(ordered) - 1))])
