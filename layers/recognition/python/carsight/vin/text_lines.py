"""Lines of clear print, found by their strokes: what a detector of whole VINs misses.

The detector knows lines of 17 characters in one piece. On papers and screens a VIN also stands in groups,
behind its name, or on two lines; there the print is clear, and contrast is enough to find it by.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from carsight.geometry import Floats
from carsight.photo import Pixels
from carsight.pixels import percentile, resized, straighten
from carsight.vin.line_reader import HEIGHT, WIDTH
from carsight.vin.rules import LENGTH
from carsight.vin.views import View, components

# Finding lines, in pixels of a photo reduced to ``_SIDE``:

_SIDE = 1000
"""Longer side in pixels at which strokes are joined to words."""

_JOINED = 15
"""Gaps between strokes that belong to a word."""

_LOWEST, _HIGHEST = 7, 70
"""Heights of words."""

_RULINGS = ((1, 80), (26, 1))
"""Down and across: from where a level or an upright stroke is a ruling's."""

_MAX_WORDS = 300
_MAX_LINES = 60
"""How many are looked at: a photo with more shows a page of text, not a VIN."""

_LONG_WORD = 3.0
"""A word at least this many times as long as high tells how the print is tilted."""

_MIN_TELLING, _MAX_TELLING = 3, 24
"""How many such words are needed, and how many are asked."""

_AGREEING = 3.0
"""Degrees that the middle half of their tilts may lie apart."""

_LEVEL = 1.2
"""Degrees from which lines are turned level: a line of a VIN is as much higher than its text as it is tilted,
by a quarter at one degree."""

_PITCH = 0.8
"""Width of a character in heights of a capital, of most fonts."""

_WORD_GAP = 2.3
"""The widest space between the groups of a line, in the pitch of its characters."""

_BESIDE = 1.2
"""How far beside a part of a line the rest is looked for, in the part's lengths."""

SHORTEST_LINE = 2.5
"""Characters in a line of print that may be more than a title, and in either line of a VIN on two."""

_WITH_NAME = 18
"""How many characters a VIN has with "VIN:" beside it, as they are estimated."""

_FEWEST_OF_TWO, _USUAL_OF_TWO, _MOST_OF_TWO = 8, 11, 24
"""How many characters two lines of a VIN have, as they are estimated: in narrow print, usually, and with the
VIN's name."""

# Setting text anew, in shares of the line's height:

_PIECE = 26
"""Height in pixels of the text that is set anew in a crop."""

_MARGIN, _TOP = 12, (HEIGHT - _PIECE) // 2
"""Pixels at each end of such a crop, and above the lines."""

_MAX_COLUMNS = 1600
"""Columns of a line that are looked at: more than 80 characters."""

_MIN_CHARACTER = 0.34
"""What is lower is not a character."""

_INKED, _FAINT = 0.5, 0.25
"""How dark a stroke is, and what belongs to one that it touches, at least, in shares of full ink."""

_GAP = 0.3
"""The widest gap left between two characters; a space is wider, ..."""

_SPACE = 1.8
"""... and this many times the usual gap of its line."""

_X_HEIGHT = 0.82
"""Small letters without an ascender are lower than this share of the highest character, ..."""

_MIN_SMALL_LETTERS = 3
"""... and as many of them tell that a line is in lower case."""

_LONG_LINE = 18
"""Characters from which on a line may hold more than a VIN, such as its name."""

_MAX_TOUCHING = 3
"""How many characters of a VIN may touch their neighbors where it is told by the number of its characters."""


# -- finding lines -------------------------------------------------------------------------------------------


class TextLine(NamedTuple):
    """``corners`` (4 x 2) of a line, in pixels of the full photo, and about how many characters it has.

    ``level`` holds the corners where the lines of the photo are level.
    """

    corners: Floats
    characters: float
    level: Floats


def find_lines(view: View) -> list[TextLine]:
    """Find the lines of clear print in ``view``, all of which are tilted alike, from the top.

    Those shorter than ``SHORTEST_LINE`` may be the title of a number, such as S/N, or a mark.
    """
    small = view.gray().zoomed(min(1.0, _SIDE / max(view.width, view.height)))
    labels, stats = _words(small)
    tilt = _tilt(labels, stats)
    if abs(tilt) >= _LEVEL:
        small = small.tilted(tilt)
        _, stats = _words(small)
    boxes = [tuple(row[:4]) for row in stats[1:].tolist() if _is_word(row)]
    if len(boxes) > _MAX_WORDS:  # leaves and gravel: no sheet with one VIN has as many
        boxes = [box for box in boxes if box[2] >= 2 * box[3]][:_MAX_WORDS]
    lines: list[TextLine] = []
    for box in sorted(_joined(boxes), key=lambda box: box[1])[:_MAX_LINES]:
        x, y, width, height = box
        if width < height:
            continue
        quad = np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], np.float32)
        lines.append(TextLine(small.to_photo(quad), width / (_PITCH * height), quad))
    return lines


Print = Callable[[int], Sequence[TextLine]]
"""The lines of print of a photo once turned counterclockwise by so many quarters."""


def print_of(view: View) -> Print:
    """Return the ``Print`` of the photo of ``view``, in which lines are looked for once each way up."""
    return cache(lambda quarters: tuple(find_lines(view.rotated(quarters) if quarters else view)))


def _words(small: View) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return what the strokes of a gray view are joined to: labels by pixel, and OpenCV's statistics."""
    edges = cv2.morphologyEx(small.pixels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    _, strokes = cv2.threshold(edges, max(40.0, float(edges.mean()) * 2), 255, cv2.THRESH_BINARY)
    labels, stats = _joined_strokes(np.asarray(strokes, np.uint8))
    # The frames of a form's fields join the words in them.
    framed = np.array([not _is_word(row) for row in stats.tolist()])
    if framed[1:].any():
        frames = [cv2.morphologyEx(strokes, cv2.MORPH_OPEN, np.ones(size, np.uint8)) for size in _RULINGS]
        if frames[0].any():
            ruled = framed[labels] & (np.maximum(*frames) > 0)
            labels, stats = _joined_strokes(np.asarray(np.where(ruled, 0, strokes), np.uint8))
    return labels, stats


def _joined_strokes(strokes: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    words = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, np.ones((1, _JOINED), np.uint8))
    return components(np.asarray(words, np.uint8))


def _is_word(row: list[int]) -> bool:
    """Whether a ``row`` of OpenCV's statistics has the size and the shape of a word."""
    _, _, width, height, area = row
    return _LOWEST <= height <= _HIGHEST and 4 * width >= height and area > 0.4 * width * height


def _tilt(labels: NDArray[np.int32], stats: NDArray[np.int32]) -> float:
    """Return by how many degrees the longest words are tilted, in their middle; 0 where they disagree."""
    order = np.argsort(-stats[1:, cv2.CC_STAT_WIDTH])[:_MAX_TELLING] + 1
    angles = []
    for word in order.tolist():
        x, y, width, height, _ = stats[word].tolist()
        if _LOWEST <= height <= _HIGHEST and width >= _LONG_WORD * height:
            mask = np.asarray(labels[y : y + height, x : x + width] == word, np.uint8)
            of = cv2.moments(mask, binaryImage=True)
            angles.append(math.degrees(math.atan2(2 * of["mu11"], of["mu20"] - of["mu02"]) / 2))
    if len(angles) < _MIN_TELLING:
        return 0.0
    angles.sort()
    near, middle, far = (angles[len(angles) * quarter // 4] for quarter in (1, 2, 3))
    return middle if far - near < _AGREEING else 0.0


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


class Pair(NamedTuple):
    """Two lines, one under the other, that together may hold a VIN, and their ``text``, set side by side."""

    upper: TextLine
    lower: TextLine
    text: SetText


def pairs(view: View, lines: Sequence[TextLine], most: int) -> list[Pair]:
    """Find up to ``most`` pairs of ``lines`` that together may hold a VIN, likeliest first.

    The lower begins where the upper does, or farther right, behind the VIN's name; no other line is between.
    Two that have 17 characters together are the likeliest.
    """
    text = cache(lambda number: set_close(view, lines[number].corners))
    found: list[tuple[float, int, Pair]] = []
    for (i, upper), (j, lower) in itertools.permutations(enumerate(lines), 2):
        a, b = upper.level, lower.level
        high, low = float(a[3, 1] - a[0, 1]), float(b[3, 1] - b[0, 1])
        alike = 0.75 < high / max(low, 1.0) < 1.33
        under = 0 < float(b[0, 1] - a[3, 1]) < 3 * high
        begins = -0.8 * high < float(b[0, 0] - a[0, 0]) < 0.7 * float(a[1, 0] - a[0, 0])
        both = upper.characters + lower.characters
        if not (
            alike
            and under
            and begins
            and _FEWEST_OF_TWO <= both <= _MOST_OF_TWO
            and not any(_is_between(line.level, a, b) for line in lines)
        ):
            continue
        counted = _seventeen_of(text(i), text(j))
        if counted is not None:
            found.append((-1.0, len(found), Pair(upper, lower, _side_by_side(*counted))))
        elif both >= _USUAL_OF_TWO and min(upper.characters, lower.characters) >= SHORTEST_LINE:
            pair = Pair(upper, lower, _side_by_side(text(i), text(j)))
            found.append((abs(both - _WITH_NAME), len(found), pair))
    return [pair for _, _, pair in sorted(found, key=lambda each: each[:2])[:most]]


def _seventeen_of(upper: SetText, lower: SetText) -> tuple[SetText, SetText] | None:
    """Return what has 17 characters together: both texts, or the ``upper`` without its first words."""
    for first in (0, *sorted(upper.groups)):
        if len(upper.begins) - first + len(lower.begins) == LENGTH:
            return (upper._columns(upper.begins[first], upper.pixels.shape[1]) if first else upper), lower
    return None


def _is_between(line: Floats, upper: Floats, lower: Floats) -> bool:
    """Whether the middle of ``line`` is under ``upper``, above ``lower`` and beside neither."""
    x, y = (float(v) for v in line.mean(axis=0))
    left, right = min(upper[0, 0], lower[0, 0]), max(upper[1, 0], lower[1, 0])
    return bool(upper[3, 1] < y < lower[0, 1] and left < x < right)


# -- setting text anew ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetText:
    """A line's text, set anew for the reader: 26 pixels high, its groups as close as its characters.

    ``places`` tells of each column of ``pixels`` where in the line it stands, in shares of its length,
    ``changed`` whether anything was moved or left out, and ``lower_case`` whether its characters are of
    different heights. ``begins`` holds the columns at which characters begin, as far as they do not touch,
    ``heights`` how high these are, and ``groups`` the numbers of those behind a space or a sign left out.
    """

    pixels: Pixels
    places: Floats
    changed: bool
    lower_case: bool
    begins: tuple[int, ...] = ()
    heights: tuple[int, ...] = ()
    groups: frozenset[int] = frozenset()

    @property
    def may_be_a_vin(self) -> bool:
        """Whether a VIN, alone or with other words beside it, has so many characters."""
        return LENGTH - _MAX_TOUCHING <= len(self.begins) <= LENGTH or bool(self.ends())

    @property
    def ends_in_capitals(self) -> bool:
        """Whether the last or the first 17 characters are of one height, as capitals and digits are."""
        return any(not _of_small_letters(end) for end in (self.heights[-LENGTH:], self.heights[:LENGTH]))

    def crop(self) -> Pixels:
        """Return the text as a crop for the reader: 48 x 384."""
        return _spread(self.pixels)

    def crop_places(self) -> Floats:
        """Return where in the line each column of ``crop`` stands, its margins at the text's ends."""
        columns = (np.arange(WIDTH) - _MARGIN) / (WIDTH - 2 * _MARGIN) * len(self.places)
        return np.interp(columns, np.arange(len(self.places)), self.places).astype(np.float32)

    def part(self, span: tuple[float, float]) -> SetText:
        """Return what stands in the part ``span`` (shares of the width) of ``crop``."""
        columns = self.pixels.shape[1]
        first, last = (round((share * WIDTH - _MARGIN) / (WIDTH - 2 * _MARGIN) * columns) for share in span)
        first = min(max(first, 0), columns - 1)
        last = min(max(last, first + 1), columns)
        return self._columns(first, last)

    def ends(self) -> list[SetText]:
        """Return the last and the first 17 characters of a longer line, where a space stands beside them.

        The name of a VIN stands before it, or other words behind; with these in its crop it would be small.
        """
        count, columns = len(self.begins), self.pixels.shape[1]
        if count < _LONG_LINE:
            return []
        lengths = range(LENGTH, LENGTH - _MAX_TOUCHING - 1, -1)
        last = next((length for length in lengths if count - length in self.groups), None)
        first = next((length for length in lengths if length in self.groups), None)
        parts = [self._columns(self.begins[-last], columns)] if last else []
        return parts + ([self._columns(0, self.begins[first])] if first else [])

    def _columns(self, first: int, last: int) -> SetText:
        return SetText(self.pixels[:, first:last], self.places[first:last], self.changed, self.lower_case)

    def corners(self, line: Floats) -> Floats:
        """Return the corners (4 x 2) of the text in the ``line`` that it was set from."""
        along = line[[1, 2]] - line[[0, 3]]
        (a, d), (b, c) = (line[[0, 3]] + along * place for place in self.places[[0, -1]])
        return np.stack([a, b, c, d])


def set_close(view: View, corners: Floats) -> SetText:
    """Set the text of the line within ``corners`` (4 x 2, pixels of the full photo) without its gaps.

    What is lower than a third of the line, such as dots and dashes between groups, is left out with them.
    """
    quad = view.from_photo(corners)
    height = max(1.0, float(np.hypot(*(quad[3] - quad[0]))))
    columns = int(np.clip(_PIECE * float(np.hypot(*(quad[1] - quad[0]))) / height, 8, _MAX_COLUMNS))
    strip = straighten(view.pixels, quad, columns, _PIECE, 0.0)
    gray = np.asarray(cv2.cvtColor(strip, cv2.COLOR_BGR2GRAY), np.uint8)
    low, ground, high = (percentile(gray, share) for share in (0.02, 0.5, 0.98))
    ink = high if high - ground > ground - low else low
    strokes = (np.asarray(gray, np.float32) - ground) / ((ink - ground) or 1.0)
    characters = _characters(strokes)
    if not characters:
        return SetText(strip, np.linspace(0, 1, columns, dtype=np.float32), False, False)
    gaps = [after.first - before.last for before, after in pairwise(characters)]
    kept = np.zeros(columns, bool)
    for character in characters:
        kept[character.first : character.last] = True
    for gap, (before, after) in zip(gaps, pairwise(characters), strict=True):
        left = min(gap, round(_GAP * _PIECE))
        kept[before.last : before.last + left // 2] = True
        kept[after.first - (left - left // 2) : after.first] = True
    inside = kept[characters[0].first : characters[-1].last]
    usual = sorted(gaps)[len(gaps) // 2] if gaps else 0
    wide = max(_GAP * _PIECE, _SPACE * usual)
    heights = tuple(character.height for character in characters)
    return SetText(
        pixels=np.ascontiguousarray(strip[:, kept]),
        places=np.flatnonzero(kept).astype(np.float32) / np.float32(max(1, columns - 1)),
        changed=not bool(inside.all()),
        lower_case=_of_small_letters(heights),
        begins=tuple((np.cumsum(kept)[[character.first for character in characters]] - 1).tolist()),
        heights=heights,
        groups=frozenset(number for number, gap in enumerate(gaps, start=1) if gap > wide),
    )


class _Character(NamedTuple):
    """Columns from ``first`` to before ``last`` of a line that hold a character or several that touch."""

    first: int
    last: int
    height: int


def _characters(strokes: Floats) -> list[_Character]:
    """Return the characters of a line (26 x columns), left to right; dots and dashes are none.

    ``strokes`` are 0 where nothing is written, and 1 where the ink is full. The thin foot of an L has less:
    what is fainter and touches a character belongs to it, or an L would become an I.
    """
    inked, faint = strokes > _INKED, np.asarray((strokes > _FAINT).any(axis=0))
    runs = _runs(np.asarray(inked.any(axis=0)))
    bounds = [0, *(edge for run in runs for edge in run), len(faint)]
    characters: list[_Character] = []
    for number, (first, last) in enumerate(runs):
        rows = np.flatnonzero(inked[:, first:last].any(axis=1))
        height = int(rows[-1] - rows[0] + 1)
        if height >= _MIN_CHARACTER * _PIECE:
            free = max(bounds[2 * number], characters[-1].last if characters else 0)
            left, right = faint[free:first][::-1], faint[last : bounds[2 * number + 3]]
            characters.append(_Character(first - _leading(left), last + _leading(right), height))
    return characters


def _leading(marked: NDArray[np.bool_]) -> int:
    """Return how many columns at the beginning of ``marked`` are."""
    unmarked = np.flatnonzero(~marked)
    return int(unmarked[0]) if len(unmarked) else len(marked)


def _of_small_letters(heights: Sequence[int]) -> bool:
    """Whether some of the characters with ``heights`` are small letters without an ascender."""
    return sum(height < _X_HEIGHT * max(heights) for height in heights) >= _MIN_SMALL_LETTERS


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where the runs of ``marked`` columns begin and end."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marked, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _side_by_side(upper: SetText, lower: SetText) -> SetText:
    """Set both texts one beside the other; the ``places`` of that say nothing."""
    gap = np.empty((_PIECE, round(_GAP * _PIECE), 3), np.uint8)
    gap[:] = _ground(upper.pixels)
    pixels = np.hstack([upper.pixels, gap, lower.pixels])
    places = np.linspace(0, 1, pixels.shape[1], dtype=np.float32)
    return SetText(pixels, places, True, upper.lower_case or lower.lower_case)


def _spread(text: Pixels) -> Pixels:
    """Lay ``text`` (26 high) over the width of a crop, but for its margins."""
    crop = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    crop[:] = _ground(text)
    room = WIDTH - 2 * _MARGIN
    crop[_TOP : _TOP + _PIECE, _MARGIN : _MARGIN + room] = resized(text, room, _PIECE)
    return crop


def _ground(text: Pixels) -> list[float]:
    """Return the color of what ``text`` stands on."""
    return [percentile(text[..., channel], 0.5) for channel in range(3)]


def whole_line(view: View, corners: Floats, characters: int, space: float = _WORD_GAP) -> Floats:
    """Make ``corners`` (4 x 2, the full photo's) of a part of a line as long as the text around it.

    Columns of the leveled line whose strokes are a third as strong as those of the part's ``characters`` are
    text, and spaces up to ``space``, in the pitch of the characters, belong to it.
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
    gap = round((last - first) / max(1, characters) * space)
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
