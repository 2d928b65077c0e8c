"""Finding lines of clear print by their strokes, for VINs that the detector misses.

The detector was trained on lines of 17 characters in one piece. On papers and screens a VIN may also be in
groups, after its name, or on two lines; there the print is clear enough to be found by its contrast.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from carsight.geometry import Floats, Pixels
from carsight.pixels import percentile, resized, straighten
from carsight.vin.line_reader import HEIGHT, WIDTH
from carsight.vin.rules import LENGTH
from carsight.vin.views import View, components

# Finding lines, in pixels of a photo reduced to ``_SIDE``:

_SIDE = 1000
"""Longer side in pixels at which strokes are joined to words."""

_JOINED = 15
"""The widest gap between strokes of one word."""

_LOWEST, _HIGHEST = 7, 70
"""Heights of the lowest and of the highest word."""

_RULINGS = ((1, 80), (26, 1))
"""Height and width of the smallest level, and of the smallest upright stroke of a ruling."""

_MAX_WORDS = 300
_MAX_LINES = 60
"""How many words and lines are considered; a photo with more shows a page of text, not a VIN."""

_LONG_WORD = 3.0
"""Words at least this many times as long as high show the tilt of the print."""

_MIN_TELLING, _MAX_TELLING = 3, 24
"""How many such words are needed, and how many are used at most."""

_AGREEING = 3.0
"""How many degrees the middle half of their tilts may be apart."""

_LEVEL = 1.2
"""From this tilt on, in degrees, lines are turned level: with one degree, the box of a VIN's line is a
quarter higher than its text."""

_PITCH = 0.8
"""Width of a character in most fonts, in heights of a capital."""

_WORD_GAP = 2.3
"""The widest space between the groups of a line, relative to the pitch of its characters."""

_BESIDE = 1.2
"""How far beside a part of a line the rest of it is looked for, in lengths of the part."""

SHORTEST_LINE = 2.5
"""The fewest characters in a line that may be more than a title, and in either line of a VIN on two lines."""

_WITH_NAME = 18
"""The estimated number of characters of a VIN with "VIN:" beside it."""

_FEWEST_OF_TWO, _USUAL_OF_TWO, _MOST_OF_TWO = 8, 11, 24
"""The estimated number of characters of two lines with a VIN: at least, in narrow print; usually at least;
and at most, with the VIN's name."""

# Condensing text, in shares of the line's height unless stated otherwise:

_PIECE = 26
"""Height of condensed text in a crop, in pixels."""

_MARGIN, _TOP = 12, (HEIGHT - _PIECE) // 2
"""Margin of condensed text at each end of a crop, and above and below, in pixels."""

_MAX_COLUMNS = 1600
"""The most columns of a line, which have room for more than 80 characters."""

_MIN_CHARACTER = 0.34
"""Height of the lowest character; anything lower is not one."""

_INKED, _FAINT = 0.5, 0.25
"""How dark a stroke is at least, and a faint part of it, as shares of full ink."""

_GAP = 0.3
"""The widest gap that is kept between two characters; a space is wider."""

_SPACE = 1.8
"""A space is also wider than this many times the usual gap of its line."""

_X_HEIGHT = 0.82
"""Small letters without an ascender are lower than this share of the highest character."""

_MIN_SMALL_LETTERS = 3
"""A line with at least so many of these is in lower case."""

_LONG_LINE = 18
"""A line with at least so many characters may contain more than a VIN, such as its name."""

_MAX_TOUCHING = 3
"""How many characters of a VIN may touch their neighbors if it is recognized by their number."""


_MOST_PARTS = 3
"""How many parts of a line are looked at on their own."""

# Dropping the boxes of forms, in shares of the height of a line with its boxes:

_FORM_ROWS = 2 * _PIECE
"""Height in pixels at which characters are told from boxes; without these they are about half as high."""

_FOOT, _RULED, _RULED_SHARE = 0.15, 0.15, 0.6
"""The height of the foot of a line, how dark a rule is there at least, as a share of full ink, and the least
share of the line's length that it takes."""

_RULE = 1.5
"""Length of the shortest level rule; the strokes of a character are shorter."""

_THIN = 0.2
"""The greatest width of an upright rule."""

_TALL = 1.4
"""Length of the shortest upright rule, in heights of the characters."""

_FEWEST_BOXED = 8
"""The fewest characters and the fewest boxes, or sides of boxes, of a line in boxes."""


# -- finding lines -------------------------------------------------------------------------------------------


class TextLine(NamedTuple):
    """``corners`` (4 x 2) of a line, in pixels of the full photo, and about how many characters it has.

    ``level`` are the corners in the photo turned so that its lines are level.
    """

    corners: Floats
    characters: float
    level: Floats


def find_lines(view: View) -> list[TextLine]:
    """Find the lines of clear print in ``view``, from top to bottom; all have the same tilt.

    Lines shorter than ``SHORTEST_LINE`` may be the title of a number, such as S/N, or a mark.
    """
    small = view.gray().zoomed(min(1.0, _SIDE / max(view.width, view.height)))
    labels, stats = _words(small)
    tilt = _tilt(labels, stats)
    if abs(tilt) >= _LEVEL:
        small = small.tilted(tilt)
        _, stats = _words(small)
    boxes = [tuple(row[:4]) for row in stats[1:].tolist() if _is_word(row)]
    if len(boxes) > _MAX_WORDS:  # leaves or gravel: no sheet with a VIN has that many words
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
"""Returns the lines of print of a photo after a number of counterclockwise quarter turns."""


def print_of(view: View) -> Print:
    """Return the ``Print`` of the photo of ``view``, which searches each orientation only once."""
    return cache(lambda quarters: tuple(find_lines(view.rotated(quarters) if quarters else view)))


def _words(small: View) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the words that the strokes of a gray view form: labels by pixel, and OpenCV's statistics."""
    edges = cv2.morphologyEx(small.pixels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    _, strokes = cv2.threshold(edges, max(40.0, float(edges.mean()) * 2), 255, cv2.THRESH_BINARY)
    labels, stats = _joined_strokes(np.asarray(strokes, np.uint8))
    # Frames of a form's fields connect the words in them.
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
    """Return the median tilt of the longest words in degrees; 0 if they disagree."""
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
    """Two lines, one below the other, that together may be a VIN, and their ``text`` side by side."""

    upper: TextLine
    lower: TextLine
    text: SetText


def condensed(view: View, lines: Sequence[TextLine]) -> Callable[[int], SetText]:
    """Return a function that condenses a line, by its index in ``lines``, at the first call for it."""
    return cache(lambda number: set_close(view, lines[number].corners))


def pairs(lines: Sequence[TextLine], text: Callable[[int], SetText], most: int) -> list[Pair]:
    """Return up to ``most`` pairs of ``lines`` that together may be a VIN, likeliest first.

    ``text`` returns the text of a line by its index (see ``condensed``).

    The lower line begins where the upper one does, or farther right, after the VIN's name, and no other line
    is between them. Pairs with 17 characters together are the likeliest.
    """
    middles = np.array([line.level.mean(axis=0) for line in lines])
    found: list[tuple[float, int, int, tuple[SetText, SetText]]] = []
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
            and not _any_between(middles, a, b)
        ):
            continue
        counted = _seventeen_of(text(i), text(j))
        if counted is not None:
            found.append((-1.0, i, j, counted))
        elif both >= _USUAL_OF_TWO and min(upper.characters, lower.characters) >= SHORTEST_LINE:
            found.append((abs(both - _WITH_NAME), i, j, (text(i), text(j))))
    found.sort(key=lambda each: each[0])
    return [Pair(lines[i], lines[j], _side_by_side(*texts)) for _, i, j, texts in found[:most]]


def _seventeen_of(upper: SetText, lower: SetText) -> tuple[SetText, SetText] | None:
    """Return both texts, or ``upper`` without its first words, if they have 17 characters together."""
    first = len(upper.begins) + len(lower.begins) - LENGTH
    if not (upper.begins and lower.begins and (first == 0 or first in upper.groups)):
        return None
    return (upper._columns(upper.begins[first], upper.pixels.shape[1]) if first else upper), lower


def _any_between(middles: Floats, upper: Floats, lower: Floats) -> bool:
    """Whether one of ``middles`` (lines x 2) is under ``upper``, above ``lower`` and beside neither."""
    x, y = middles.T
    left, right = min(upper[0, 0], lower[0, 0]), max(upper[1, 0], lower[1, 0])
    return bool(((upper[3, 1] < y) & (y < lower[0, 1]) & (left < x) & (x < right)).any())


# -- condensing text -----------------------------------------------------------------------------------------


class SetText(NamedTuple):
    """A line's text, condensed for the reader: 26 pixels high, with its groups as close as its characters.

    ``places`` are the original places of the columns of ``pixels``, in shares of the line's length;
    ``changed`` says whether anything was moved or left out, and ``lower_case`` whether the characters have
    different heights. ``begins`` are the columns at which characters begin, as far as they do not touch,
    ``heights`` the heights of these in pixels, and ``groups`` the indices of those after a space or after
    something that was left out.
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
        """Whether the number of characters is that of a VIN, alone or with other words beside it."""
        return LENGTH - _MAX_TOUCHING <= len(self.begins) <= LENGTH or bool(self.parts())

    @property
    def ends_in_capitals(self) -> bool:
        """Whether the last or the first 17 characters have one height, as capitals and digits have."""
        return any(not _of_small_letters(end) for end in (self.heights[-LENGTH:], self.heights[:LENGTH]))

    def crop(self) -> Pixels:
        """Return the text as a crop for the reader: 48 x 384."""
        return _spread(self.pixels)

    def crop_places(self) -> Floats:
        """Return the place in the line of each column of ``crop``; its margins count as the text's ends."""
        columns = (np.arange(WIDTH) - _MARGIN) / (WIDTH - 2 * _MARGIN) * len(self.places)
        return np.interp(columns, np.arange(len(self.places)), self.places).astype(np.float32)

    def part(self, span: tuple[float, float]) -> SetText:
        """Return the text in the part ``span`` (shares of the width) of ``crop``."""
        columns = self.pixels.shape[1]
        first, last = (round((share * WIDTH - _MARGIN) / (WIDTH - 2 * _MARGIN) * columns) for share in span)
        first = min(max(first, 0), columns - 1)
        last = min(max(last, first + 1), columns)
        return self._columns(first, last)

    def parts(self) -> list[SetText]:
        """Return the parts of a longer line that may be a VIN by their number of characters, likeliest first.

        Those are the last and the first 17 characters, if a space is beside them, and words between others. A
        VIN may have its name before it, or other words after it; with these in the crop it would be small.
        """
        count, columns = len(self.begins), self.pixels.shape[1]
        if count < _LONG_LINE:
            return []
        lengths = range(LENGTH, LENGTH - _MAX_TOUCHING - 1, -1)
        last = next((length for length in lengths if count - length in self.groups), None)
        first = next((length for length in lengths if length in self.groups), None)
        ends = [(count - last, count)] if last else []
        ends += [(0, first)] if first else []
        # In lower case more characters touch, and serifs of others fall apart.
        most = LENGTH + _MAX_TOUCHING * self.lower_case
        bounds = [0, *sorted(self.groups), count]
        words = [
            (start, stop)
            for start, stop in pairwise(bounds)
            if LENGTH - _MAX_TOUCHING <= stop - start <= most and stop - start < count
        ]
        words.sort(key=lambda word: abs(word[1] - word[0] - LENGTH))
        found = dict.fromkeys([*ends, *words])
        edges = (*self.begins, columns)
        return [self._columns(edges[start], edges[stop]) for start, stop in list(found)[:_MOST_PARTS]]

    def _columns(self, first: int, last: int) -> SetText:
        return SetText(self.pixels[:, first:last], self.places[first:last], self.changed, self.lower_case)

    def corners(self, line: Floats) -> Floats:
        """Return the corners (4 x 2) of the text in the ``line`` from which it was condensed."""
        along = line[[1, 2]] - line[[0, 3]]
        (a, d), (b, c) = (line[[0, 3]] + along * place for place in self.places[[0, -1]])
        return np.stack([a, b, c, d])


def set_close(view: View, corners: Floats) -> SetText:
    """Condense the line within ``corners`` (4 x 2, pixels of the full photo) by leaving out its gaps.

    Anything lower than a third of the line, such as dots and dashes between groups, is left out as well.
    """
    strip = _strip(view, corners, _PIECE)
    strokes = _strokes(strip)
    if _is_ruled(strokes):
        freed = _without_boxes(_strip(view, corners, _FORM_ROWS))
        if freed is not None:
            strip, strokes = freed, _strokes(freed)
    columns = strip.shape[1]
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


class Shape(NamedTuple):
    """A character's widths, in heights of its line, and how far its left edge leans to the right, per height.

    ``middle`` is how much its middle row takes, without what is beside that; 0 if nothing is inked there.
    """

    width: float
    middle: float
    lean: float


def shapes(view: View, corners: Floats) -> list[Shape]:
    """Return the shapes of the characters within ``corners``, left to right."""
    strokes = _strokes(_strip(view, corners, _PIECE))
    found = []
    for first, last, _ in _characters(strokes):
        inked = strokes[:, first:last] > _INKED
        rows = np.flatnonzero(inked.any(axis=1))
        edges = inked[rows].argmax(axis=1)
        up = rows.mean() - rows
        middle = np.flatnonzero(inked[(int(rows[0]) + int(rows[-1])) // 2])
        across = int(middle[-1] - middle[0] + 1) if len(middle) else 0
        lean = float(up @ edges) / max(float(up @ up), 1.0)
        found.append(Shape((last - first) / _PIECE, across / _PIECE, lean))
    return found


def _strip(view: View, corners: Floats, rows: int) -> Pixels:
    """Return the line within ``corners`` (4 x 2, pixels of the full photo), level and ``rows`` high."""
    quad = view.from_photo(corners)
    height = max(1.0, float(np.hypot(*(quad[3] - quad[0]))))
    columns = np.clip(rows * float(np.hypot(*(quad[1] - quad[0]))) / height, 8, _MAX_COLUMNS)
    return straighten(view.pixels, quad, int(columns), rows, 0.0)


def _strokes(strip: Pixels) -> Floats:
    """Return how much ink is in each pixel of a line: 0 without, 1 with full ink."""
    gray = np.asarray(cv2.cvtColor(strip, cv2.COLOR_BGR2GRAY), np.uint8)
    low, ground, high = (percentile(gray, share) for share in (0.02, 0.5, 0.98))
    ink = high if high - ground > ground - low else low
    return (np.asarray(gray, np.float32) - ground) / np.float32((ink - ground) or 1.0)


def _is_ruled(strokes: Floats) -> bool:
    """Whether a row at the foot of a line is mostly inked, as by a rule or boxes; few lines of print are."""
    foot = strokes[-round(_FOOT * len(strokes)) :]
    return float((foot > _RULED).mean(axis=1).max()) > _RULED_SHARE


def _without_boxes(strip: Pixels) -> Pixels | None:
    """Return the characters (26 x columns) of a line (52 x columns) without boxes; None if it has none."""
    rows = len(strip)
    inked = _strokes(strip) > _FAINT
    rules = _opened(inked, 1, round(_RULE * rows))
    shapes = _Shapes.of(inked, rules)
    if min(shapes.boxes.sum(), shapes.characters.sum()) < _FEWEST_BOXED:  # a few are zeros with a dot
        return None
    # Uprights longer than these characters are of boxes that other characters touch.
    heights = sorted(shapes.heights[shapes.characters].tolist())
    tall = round(_TALL * heights[len(heights) // 2])
    rules |= shapes.boxes[shapes.labels]
    if tall < rows:
        rules |= _opened(inked, tall, 1)
    shapes = _Shapes.of(inked, rules)
    whole = shapes.characters & (shapes.heights <= tall)
    if not whole.any():
        return None
    first = max(0, int(shapes.tops[whole].min()) - 1)
    last = min(rows, int((shapes.tops + shapes.heights)[whole].max()) + 1)
    kept = shapes.characters[shapes.labels]
    freed = strip.copy()
    freed[(_around(inked & ~kept) | inked) & ~kept] = _ground(strip)
    columns = max(8, round(strip.shape[1] * _PIECE / (last - first)))
    return resized(np.ascontiguousarray(freed[first:last]), columns, _PIECE)


class _Shapes(NamedTuple):
    """The connected shapes of a line without its rules: ``labels`` by pixel, and what each label is.

    ``boxes`` and ``characters`` mark boxes or their sides, and what may be characters.
    """

    labels: NDArray[np.int32]
    tops: NDArray[np.int32]
    heights: NDArray[np.int32]
    boxes: NDArray[np.bool_]
    characters: NDArray[np.bool_]

    @classmethod
    def of(cls, inked: NDArray[np.bool_], rules: NDArray[np.bool_]) -> _Shapes:
        """Tell the shapes of ``inked`` apart, without ``rules``.

        Boxes have a character inside, and their sides are thin and meet a rule.
        """
        labels, stats = components(np.asarray(inked & ~rules, np.uint8))
        tops, heights = stats[:, cv2.CC_STAT_TOP], stats[:, cv2.CC_STAT_HEIGHT]
        high = heights >= _MIN_CHARACTER / 2 * len(inked)
        high[0] = False  # the background
        left, top, width, height = stats[high, : cv2.CC_STAT_AREA].T
        right, bottom = left + width, top + height
        inside = (left[:, None] < left) & (right < right[:, None])
        inside &= (top[:, None] < top) & (bottom < bottom[:, None])
        meeting = np.bincount(labels[_around(rules)], minlength=len(stats))[high] > 0
        boxes = np.zeros(len(stats), bool)
        boxes[high] = inside.any(axis=1) | (meeting & (width <= _THIN * len(inked)))
        return cls(labels, tops, heights, boxes, high & ~boxes)


def _around(marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels at the edges of what is ``marked``, inside and outside."""
    mask, ones = np.asarray(marked, np.uint8), np.ones((3, 3), np.uint8)
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, ones) > 0)


def _opened(inked: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Return the pixels of ``inked`` in rectangles of ``height`` and ``width`` that are all inked."""
    ones = np.ones((height, width), np.uint8)
    return np.asarray(cv2.morphologyEx(np.asarray(inked, np.uint8), cv2.MORPH_OPEN, ones) > 0)


class _Character(NamedTuple):
    """The columns from ``first`` to before ``last`` of a line with a character, or several that touch."""

    first: int
    last: int
    height: int


def _characters(strokes: Floats) -> list[_Character]:
    """Return the characters of a line, left to right, without dots and dashes.

    ``strokes`` (26 x columns) are 0 without ink and 1 with full ink. The thin foot of an L has less, so faint
    parts that touch a character belong to it, or an L would become an I.
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
    """Return how many columns at the beginning of ``marked`` are marked."""
    unmarked = np.flatnonzero(~marked)
    return int(unmarked[0]) if len(unmarked) else len(marked)


def _of_small_letters(heights: Sequence[int]) -> bool:
    """Whether several of the characters with ``heights`` are small letters without an ascender."""
    return sum(height < _X_HEIGHT * max(heights) for height in heights) >= _MIN_SMALL_LETTERS


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return beginning and end of each run of ``marked`` columns."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marked, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _side_by_side(upper: SetText, lower: SetText) -> SetText:
    """Return both texts side by side; the result's ``places`` have no meaning."""
    gap = np.empty((_PIECE, round(_GAP * _PIECE), 3), np.uint8)
    gap[:] = _ground(upper.pixels)
    pixels = np.hstack([upper.pixels, gap, lower.pixels])
    places = np.linspace(0, 1, pixels.shape[1], dtype=np.float32)
    return SetText(pixels, places, True, upper.lower_case or lower.lower_case)


def _spread(text: Pixels) -> Pixels:
    """Return a crop in which ``text`` (26 pixels high) takes the whole width except the margins."""
    crop = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    crop[:] = _ground(text)
    room = WIDTH - 2 * _MARGIN
    crop[_TOP : _TOP + _PIECE, _MARGIN : _MARGIN + room] = resized(text, room, _PIECE)
    return crop


def _ground(text: Pixels) -> list[float]:
    """Return the color of the background of ``text``."""
    return [percentile(text[..., channel], 0.5) for channel in range(3)]


def whole_line(view: View, corners: Floats, characters: int, space: float = _WORD_GAP) -> Floats:
    """Return the corners of a whole line; ``corners`` (4 x 2, pixels of the full photo) are those of a part.

    Columns of the leveled line count as text if their strokes are at least a third as strong as those in the
    part, which has ``characters``. Spaces up to ``space``, relative to the pitch of these, are included.
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
    """Return how many columns of ``inked``, from its beginning, are text with spaces up to ``gap``."""
    places = np.flatnonzero(inked)
    breaks = np.flatnonzero(np.diff(places, prepend=-1) > gap)
    reached = places[: breaks[0]] if len(breaks) else places
    return int(reached[-1]) + 1 if len(reached) else 0
