"""Small letters stacked beside a plate's number, as on special American series.

A reader of single rows drops or merges them. ``spread`` places them side by side, enlarged to the number's
height, so that the same reader can read them.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from carsight.geometry import Pixels
from carsight.pixels import percentile, resized

WIDTH, HEIGHT = 480, 144
"""Size of the rectified plate that ``spread`` takes, pixels."""

_LETTER = 48
"""Width of a spread letter: about that of the number's characters."""

_KEPT = 14
"""Columns kept beyond stacks at either end; the rest is usually an emblem, not text."""

_NUMBER = WIDTH // 2, round(0.97 * WIDTH)
"""Columns that certainly contain a part of the number."""


_LEAST_HEIGHT = HEIGHT // 6
"""A number is at least this high."""


class _Sign(NamedTuple):
    """The bounding box of a connected component of ink, pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height


def spread(plate: Pixels) -> Pixels | None:
    """Return ``plate`` with its stacked letters side by side at the number's height; None if it has none.

    ``plate``: 144 x 480 x 3, upright, with the number in its right half. The result has the same height.
    """
    top, bottom = _rows(plate)
    height = bottom - top
    if height < _LEAST_HEIGHT:
        return None
    signs = _signs(_ink(plate, top, bottom))
    if sum(sign.height > 0.7 * height and sign.width < 0.2 * WIDTH for sign in signs) < 2:
        return None
    stacks = _stacks(signs, top, bottom)
    return _laid_out(plate, stacks, top, bottom) if stacks else None


def _rows(plate: Pixels) -> tuple[int, int]:
    """Return the number's first and last row: a run of rows with about equally many vertical edges."""
    gray = cv2.GaussianBlur(cv2.cvtColor(plate, cv2.COLOR_BGR2GRAY), (3, 3), 0)
    edges = np.abs(cv2.Sobel(gray[:, _NUMBER[0] : _NUMBER[1]], cv2.CV_16S, 1, 0))
    share = (edges > 0.35 * percentile(edges, 0.98)).mean(axis=1)
    share = cv2.GaussianBlur(share[:, None], (1, 9), 0).ravel()
    low, high = round(0.3 * HEIGHT), round(0.75 * HEIGHT)
    busy = share > 0.5 * percentile(share[low:high], 0.5)
    top = bottom = low + int(share[low:high].argmax())
    while top > 0 and busy[top - 1]:
        top -= 1
    while bottom < HEIGHT and busy[bottom]:
        bottom += 1
    return top, bottom


def _ink(plate: Pixels, top: int, bottom: int) -> Pixels:
    """Return a mask (0, 1) of the number's ink, from the color channel that separates it best.

    Each channel is thresholded (Otsu, 1979); characters cover less than half of the number's rows.
    """
    best, mask = -1.0, np.zeros(plate.shape[:2], np.uint8)
    for channel in cv2.split(plate):
        part = np.ascontiguousarray(channel[top:bottom, _NUMBER[0] : _NUMBER[1]])
        limit, bright = cv2.threshold(part, 0, 1, cv2.THRESH_OTSU)
        share = float(bright.mean())
        if not 0 < share < 1:
            continue
        contrast = float(part[bright > 0].mean()) - float(part[bright == 0].mean())
        explained = share * (1 - share) * contrast**3 / (float(part.var()) + 1)
        if explained > best:
            best, mask = explained, np.asarray((channel > limit) == (share < 0.5), np.uint8)
    return mask


def _signs(mask: Pixels) -> list[_Sign]:
    """Return the components of ink, without small and sparsely filled ones."""
    _, _, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    large = boxes[1:][(boxes[1:, 3] > 0.08 * HEIGHT) & (boxes[1:, 4] > 0.12 * boxes[1:, 2] * boxes[1:, 3])]
    return [_Sign(*(int(value) for value in box[:4])) for box in large]


def _stacks(signs: list[_Sign], top: int, bottom: int) -> list[list[_Sign]]:
    """Return the stacks of two or three letters, left to right; each is about as high as the number."""
    height = bottom - top
    small = [
        sign
        for sign in sorted(signs, key=lambda sign: sign.top)
        if 0.2 * height <= sign.height <= 0.64 * height
        and 0.05 * height <= sign.width <= 0.16 * WIDTH
        and top - 0.2 * height <= sign.top
        and sign.bottom <= bottom + 0.25 * height
    ]
    stacks = []
    while small:
        stack = [small.pop(0)]
        for sign in list(small):
            if _stands_under(sign, stack[-1], height):
                stack.append(sign)
                small.remove(sign)
        whole = stack[-1].bottom - stack[0].top
        if len(stack) in (2, 3) and 0.72 * height <= whole <= 1.4 * height:
            stacks.append(stack)
    return sorted(stacks, key=lambda stack: stack[0].left)


def _stands_under(lower: _Sign, upper: _Sign, height: int) -> bool:
    """Return whether ``lower`` is stacked under ``upper``: close, aligned, and about as high."""
    shared = min(upper.right, lower.right) - max(upper.left, lower.left)
    return (
        shared > 0.6 * min(upper.width, lower.width)
        and 0.8 * upper.height <= lower.top - upper.top <= upper.height + 0.35 * height
        and 0.6 * upper.height < lower.height < 1.6 * upper.height
    )


def _laid_out(plate: Pixels, stacks: list[list[_Sign]], top: int, bottom: int) -> Pixels:
    """Return ``plate`` with ``stacks`` spread, clipped beside a stack that is first or last in the row."""
    pieces, done = [], 0
    for index, stack in enumerate(stacks):
        begin = max(min(sign.left for sign in stack) - 3, done)
        end = min(max(sign.right for sign in stack) + 3, WIDTH)
        first, last = index == 0 and begin + end < WIDTH, begin + end >= WIDTH
        pieces.append(plate[:, max(begin - _KEPT, 0) if first else done : begin])
        pieces += [_enlarged(plate, sign, top, bottom) for sign in stack]
        done = end
        if last:
            pieces.append(plate[:, end : end + _KEPT])
            done = WIDTH
            break
    row = np.hstack([*pieces, plate[:, done:]])
    missing = max(WIDTH - row.shape[1], 0)
    return np.asarray(cv2.copyMakeBorder(row, 0, 0, missing, 0, cv2.BORDER_REPLICATE), np.uint8)


def _enlarged(plate: Pixels, sign: _Sign, top: int, bottom: int) -> Pixels:
    """Return a column of the plate's height with ``sign`` scaled to ``top``..``bottom``, edges replicated."""
    air_x, air_y = max(2, round(0.12 * sign.width)), max(2, round(0.1 * sign.height))
    part = plate[
        max(sign.top - air_y, 0) : sign.bottom + air_y + 1, max(sign.left - air_x, 0) : sign.right + air_x + 1
    ]
    air = round((bottom - top) * air_y / sign.height)
    over, under = max(top - air, 0), max(HEIGHT - bottom - air, 0)
    letter = resized(part, _LETTER, HEIGHT - over - under)
    return np.asarray(cv2.copyMakeBorder(letter, over, under, 0, 0, cv2.BORDER_REPLICATE), np.uint8)
