"""Lines of clear print, found by their strokes: what a detector of whole VINs misses.

The detector knows lines of 17 characters in one piece. On papers and screens a VIN also stands in groups,
behind its name, or on two lines; there the print is clear, and contrast is enough to find it by.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from carsight.geometry import straighten
from carsight.photo import Pixels
from carsight.vin.line_reader import HEIGHT, WIDTH
from carsight.vin.views import View

Floats = NDArray[np.float32]

_SIDE = 1000
"""Longer side in pixels at which strokes are joined to words."""

_JOINED = 15
"""Gaps between strokes, in pixels there, that belong to a word."""

_LOWEST, _HIGHEST = 7, 70
"""Heights of words in pixels there."""

_PITCH = 0.8
"""Width of a character in heights of a capital, of most fonts."""

_BESIDE = 1.2
"""How far beside a part of a line the rest is looked for, in the part's lengths."""

_WORD_GAP = 1.7
"""The widest space between the groups of a line, in the pitch of its characters."""

_PIECE = 26
"""Height in pixels of the two lines that are set side by side in a crop."""

_MARGIN, _TOP = 12, (HEIGHT - _PIECE) // 2
"""Pixels at each end of such a crop, and above the lines."""


class TextLine(NamedTuple):
    """``corners`` (4 x 2) of a line, in pixels of the full photo, and about how many characters it has."""

    corners: Floats
    characters: float


def find_lines(view: View) -> list[TextLine]:
    """Find the level lines of clear print in ``view``, from the top."""
    small = view.gray().zoomed(min(1.0, _SIDE / max(view.width, view.height)))
    edges = cv2.morphologyEx(small.pixels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    _, strokes = cv2.threshold(edges, max(40.0, float(edges.mean()) * 2), 255, cv2.THRESH_BINARY)
    words = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, np.ones((1, _JOINED), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(words)
    boxes = [
        (int(x), int(y), int(width), int(height))
        for x, y, width, height, area in stats[1:]
        if _LOWEST <= height <= _HIGHEST and width >= 2 * height and area > 0.5 * width * height
    ]
    lines: list[TextLine] = []
    for box in sorted(_joined(boxes), key=lambda box: box[1])[:_MOST]:
        x, y, width, height = box
        quad = np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], np.float32)
        lines.append(TextLine(small.to_photo(quad), width / (_PITCH * height)))
    return lines


_MOST = 60
"""A page has more lines; it is none that shows one VIN."""


def _joined(boxes: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Join the words of a line that are no farther apart than a space."""
    joined: list[tuple[int, int, int, int]] = []
    for x, y, width, height in sorted(boxes):
        for index, (left, top, wide, high) in enumerate(joined):
            level = abs(top + high / 2 - y - height / 2) < 0.3 * max(high, height)
            near = x - (left + wide) < _WORD_GAP * _PITCH * max(high, height)
            if level and near:
                right, bottom = max(left + wide, x + width), max(top + high, y + height)
                joined[index] = (left, min(top, y), right - left, bottom - min(top, y))
                break
        else:
            joined.append((x, y, width, height))
    return joined


def pairs(lines: list[TextLine], most: int) -> list[tuple[TextLine, TextLine]]:
    """Find up to ``most`` pairs of lines, one under the other, that together may hold a VIN."""
    found = []
    for upper in lines:
        for lower in lines:
            a, b = upper.corners, lower.corners
            high, low = float(a[3, 1] - a[0, 1]), float(b[3, 1] - b[0, 1])
            alike = 0.75 < high / max(low, 1.0) < 1.33
            under = 0 < float(b[0, 1] - a[3, 1]) < 2.5 * high
            begins = abs(float(a[0, 0] - b[0, 0])) < 0.8 * high
            both = upper.characters + lower.characters
            short = min(upper.characters, lower.characters)
            if alike and under and begins and short >= 4 and 13 <= both <= 22:
                found.append((upper, lower))
    return found[:most]


def side_by_side(view: View, pair: tuple[TextLine, TextLine]) -> Pixels:
    """Cut both lines of ``pair`` into one crop (48 x 384), one beside the other."""
    pieces = []
    for line in pair:
        quad = view.from_photo(line.corners)
        height = max(1.0, float(quad[3, 1] - quad[0, 1]))
        width = max(8, round(_PIECE * float(quad[1, 0] - quad[0, 0]) / height))
        pieces.append(straighten(view.pixels, quad, width, _PIECE, 0.0))
    return _spread(np.hstack(pieces))


def narrowed(crop: Pixels, span: tuple[float, float]) -> Pixels:
    """Make a crop of the part ``span`` (shares of the width) of what ``side_by_side`` has made."""
    first, last = (round(share * WIDTH) for share in span)
    return _spread(crop[_TOP : _TOP + _PIECE, first : max(last, first + 1)])


def _spread(text: Pixels) -> Pixels:
    """Lay ``text`` (26 high) over the width of a crop, but for its margins."""
    crop = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    crop[:] = np.median(text, axis=(0, 1))
    room = WIDTH - 2 * _MARGIN
    wide = cv2.resize(text, (room, _PIECE), interpolation=cv2.INTER_LINEAR)
    crop[_TOP : _TOP + _PIECE, _MARGIN : _MARGIN + room] = wide
    return crop


def whole_line(view: View, corners: Floats, characters: int) -> Floats:
    """Make ``corners`` (4 x 2, the full photo's) of a part of a line as long as the text around it.

    Columns of the leveled line whose strokes are a third as strong as those of the part's ``characters`` are
    text, and spaces up to ``_WORD_GAP`` belong to it.
    """
    rows, quad = 24, view.from_photo(corners)
    along = (quad[[1, 2]] - quad[[0, 3]]).astype(np.float32)
    (a, d), (b, c) = quad[[0, 3]] - along * np.float32(_BESIDE), quad[[1, 2]] + along * np.float32(_BESIDE)
    height = max(1.0, float(np.hypot(*(quad[3] - quad[0]))))
    columns = int(np.clip(rows * float(np.hypot(*(b - a))) / height, 32, 4096))
    strip = view.gray().warped(np.stack([a, b, c]), columns, rows).pixels
    strokes = np.abs(cv2.Sobel(strip, cv2.CV_32F, 1, 0)).mean(axis=0)
    first = round(columns * _BESIDE / (1 + 2 * _BESIDE))
    last = columns - first
    inked = strokes > strokes[first:last].mean() / 3
    gap = round((last - first) / max(1, characters) * _WORD_GAP)
    left, right = (
        np.float32(_reach(part, gap) / max(1, last - first)) for part in (inked[:first][::-1], inked[last:])
    )
    step = (corners[[1, 2]] - corners[[0, 3]]).astype(np.float32)
    (a, d), (b, c) = corners[[0, 3]] - step * left, corners[[1, 2]] + step * right
    return np.stack([a, b, c, d])


def _reach(inked: NDArray[np.bool_], gap: int) -> int:
    """Count the columns from the beginning of ``inked`` that belong to a text with spaces up to ``gap``."""
    places = np.flatnonzero(inked)
    breaks = np.flatnonzero(np.diff(places, prepend=-1) > gap)
    reached = places[: breaks[0]] if len(breaks) else places
    return int(reached[-1]) + 1 if len(reached) else 0
