"""Reading a line: which of the four readers is used, on which cuts, and which reading is trusted.

The small reader is used first; if it is not sure, the VIN reader, and that of lower case for what looks like
it; if a doubt remains, the reader of hard lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from carsight.geometry import Floats, Pixels
from carsight.photo import Photo
from carsight.vin import text_lines
from carsight.vin.line_reader import (
    LineReader,
    LineReading,
    cut,
    cut_enlarged,
    grown,
    height,
    length,
    pooled,
    trimmed,
)
from carsight.vin.ranking import Odds, Ranking, find_window, rank_by_posterior
from carsight.vin.rules import LENGTH
from carsight.vin.tuning import Budget, CropMargins, VinTuning
from carsight.vin.views import View

_FEWEST_SEEN = 12
"""If the small reader sees fewer characters, no other reader is used.

On 39 such lines in 147 photos in six ways, the VIN reader's certainty was always below 0.02.
"""

_FULL_SIZE_BELOW = 28.0
"""Lines less high than this, in pixels, are also read at full size, if the photo is searched at a smaller
one."""

_FULL_SIZE_COST = 2.0
"""The cost of reading at full size, in crops read (see ``Budget``)."""

_FULL_SIZE_SHARE = 0.02
"""Lines that have 17 characters with a lower probability are not read at full size."""

_FEW_PIXELS = 8.0
"""A line with fewer pixels per character is also read from an enlarged cut."""

_ENLARGED_SIDES = 0.3
"""Margin above and below of the enlarged cut, in line heights."""

_ONE_CUT_ENOUGH = 0.95
"""With this certainty one cut of such a line is enough: of 673 lines 488 reached it, and all were right."""

_CONFIRMING_MARGINS = (0.08, 0.38, 0.46)
"""Margins of the cut with which the small reader confirms its reading (see ``grown``)."""

_RULES_ADD = 0.05
"""How much lower than its certainty the probability by the pixels alone may be for the small reader to be
trusted."""

_LOWER_CASE_MARGINS = tuple(
    (along, across, sides)
    for along, across in ((0.05, 0.33), (0.02, 0.2), (0.09, 0.5))
    for sides in (0.65, 0.9)
)
"""Margins of the cuts of lower case, as the detector's corners leave out ascenders and descenders."""

_FEWEST_IN_LOWER_CASE = 15
"""Nor is a line read as lower case in which the reader of that sees fewer.

On 195 lines in 147 photos in five ways, 80 of which have fewer, none of those was read as lower case; of 113
lines of drawn screens that were, all have as many.
"""

_LOWER_CASE_SHARE = 0.02
"""The other cuts are not read if the first two have 17 characters with a lower probability."""

_AROUND_LOWER_CASE = (0.02, 0.2, 0.25)
"""Margins around a line in which ascenders and descenders are looked for."""

_HARD_LEAST = 0.1
"""Readings of the reader of hard lines with a lower certainty are ignored."""

_TEXT_FILLS_LINE = 0.9
"""If the text is shorter than this share of the detector's line, there is something else beside it."""

_SEEN_IN_PIXELS = 0.6
"""With a lower probability by the pixels alone, the search continues even if the VIN is certain.

Of 100 drawn photos of stamped metal three had a wrong answer after the first reading, two of these with 0.33
and 0.58 by the pixels.
"""

_UNSEEN = 0.12
"""How far outside the photo the center of the first or last character may be, as a share of the pitch.

Of 100 photos cropped to the labeled box 87 are read, and 84 with 0; of those that are cropped through the
last character none is read wrongly.
"""


class Line(NamedTuple):
    """A line with everything that was read there.

    ``corners`` (4 x 2) are in pixels of the full photo, ``score`` (0..1) is the detector's. ``reading`` is
    the mean of the ``cuts``.
    """

    corners: Floats
    score: float
    reading: LineReading
    ranked: Ranking
    cuts: tuple[LineReading, ...]
    agreed: bool = False
    """Whether two readers agree on the VIN: the VIN reader, and the small one or that of hard lines; or, in
    lower case, the reader of that on all cuts."""
    lower_case: bool = False
    """Whether it was read as lower case, by the reader of that."""
    hard: bool = False
    """Whether this is the reading of the reader of hard lines."""

    @property
    def certainty(self) -> float:
        """The probability (0..1) of its likeliest VIN; 0 if it has none."""
        return self.ranked[0][1] if self.ranked else 0.0

    @property
    def vin(self) -> str:
        """Its likeliest VIN; "" if it has none."""
        return self.ranked[0][0] if self.ranked else ""

    @property
    def is_seen(self) -> bool:
        """Whether the likeliest VIN is seen in the pixels, and not mostly inferred from the rules of VINs."""
        seen = dict(self.reading.texts).get(self.vin, 0.0)
        return self.reading.share * seen >= _SEEN_IN_PIXELS

    @property
    def is_legible(self) -> bool:
        """Whether the line clearly shows 17 characters, a VIN's or not."""
        return self.reading.share > 0.9 and self.reading.texts[0][1] > 0.95

    @property
    def text_corners(self) -> Floats:
        """The corners of its likeliest text; those of the line if it has none."""
        return self.corners if self.reading.span is None else trimmed(self.corners, self.reading.span)

    @property
    def is_longer_than_text(self) -> bool:
        """Whether there is something else beside its text, such as "VIN:"."""
        return length(self.text_corners) < _TEXT_FILLS_LINE * length(self.corners)

    def at_text(self) -> Line:
        """Return the line with the corners of its text.

        If nothing is beside the text, both the detector and the text (to one of 48 steps) show where it ends;
        the mean of both differs less between processors than either.
        """
        if self.reading.span is None:
            return self
        text = self.text_corners
        corners = text if self.is_longer_than_text else np.float32(0.5) * (text + self.corners)
        return self._replace(corners=corners)


class ReaderNets(Protocol):
    """The readers and the tuning of a ``VinRecognizer``."""

    small: LineReader
    """Reads every line first; confidences are calibrated with its figures."""
    reader: Callable[[], LineReader] | None
    """Returns the VIN reader, which is used if the small one is not sure. None: only the small one is
    used."""
    hard: Callable[[], LineReader] | None
    """Returns the reader of hard lines, above all of stamped metal, for lines in doubt. None: there is
    none."""
    lower: Callable[[], LineReader] | None
    """Returns the reader of lower case. None: the small one reads it."""
    tuning: VinTuning


class _Answer(NamedTuple):
    """The reading of a crop by the reader that is trusted."""

    reading: LineReading
    other: str = ""
    """What another reader has read there, or the same one from another cut; "" if there was none."""
    settled: bool = False
    """Whether the small reader is so sure that no other is needed."""
    lower_case: bool = False


class Readers:
    """The readers of the lines of one photo, which is searched in ``view``."""

    def __init__(self, nets: ReaderNets, photo: Photo, view: View, budget: Budget, odds: Odds) -> None:
        self._nets = nets
        self._tuning = nets.tuning
        self._photo = photo
        self._view = view
        self._budget = budget
        self._odds = odds
        self._full_view: View | None = None
        self._hard_readings: dict[bytes, list[LineReading]] = {}
        """By a line's corners: its readings by the reader of hard lines, one per cut."""

    def read(self, corners: Floats, score: float) -> Line:
        """Read the line with ``corners`` (pixels of the full photo), and at full size if small and unsure."""
        line = self._read_in(self._view, corners, score)
        span = find_window(line.reading, self._odds)
        if span is not None:  # a VIN and other characters beside it, such as its name
            line = self._read_in(self._view, trimmed(corners, span), score)
        if self._is_settled(line) or line.reading.share < _FULL_SIZE_SHARE:
            return line
        low = height(self._view.from_photo(corners)) < _FULL_SIZE_BELOW
        if low and self._photo.width > self._view.width and self._budget.pay(_FULL_SIZE_COST):
            if self._full_view is None:
                full = self._photo.full()
                self._full_view = View.of(full, max(full.width, full.height))
            line = max(line, self._read_in(self._full_view, corners, score), key=lambda line: line.certainty)
        return line

    def line(self, corners: Floats, score: float, *cuts: LineReading) -> Line:
        """Return the line of ``cuts``; the first of them gives the places of its characters."""
        reading = pooled(cuts)
        return Line(corners, score, reading, rank_by_posterior(reading, self._odds), cuts)

    def likeliest(self, reading: LineReading) -> tuple[str, float, float]:
        """Return the likeliest VIN of ``reading``, its probability, and that by the pixels alone."""
        ranked = rank_by_posterior(reading, self._odds)
        if not ranked:
            return "", 0.0, 0.0
        vin, certainty = ranked[0]
        return vin, certainty, reading.share * dict(reading.texts)[vin]

    def reader(self, *, lower_case: bool = False) -> LineReader:
        """Return the VIN reader or, for ``lower_case``, that of lower case."""
        of_case = self._nets.lower if lower_case else self._nets.reader
        return self._nets.small if of_case is None else of_case()

    def cut(self, corners: Floats, margins: CropMargins, *, lower_case: bool = False) -> Pixels:
        """Return a crop of the line with ``corners`` that differs from the usual one by ``margins``."""
        quad = self._view.from_photo(margins.moved(corners))
        sides = _LOWER_CASE_MARGINS[0][2] if lower_case else 0.35
        return cut(self._view.pixels, quad, 0.05, 0.33, sides + margins.sides)

    def glance(self, corners: Floats) -> LineReading:
        """Return what the small reader sees in the line with ``corners``, without texts."""
        return self._nets.small.glance(self.cut(corners, CropMargins()), math.inf)

    def text_in(self, crop: Pixels) -> str:
        """Return the text that the small reader or that of lower case, whichever is surer, sees in ``crop``.

        Names of numbers are in lower case as often as in capitals.
        """
        sights = [each.glance(crop, math.inf) for each in (self._nets.small, self.reader(lower_case=True))]
        return max(sights, key=lambda sight: sight.clarity).greedy

    def is_small(self, line: Line) -> bool:
        """Whether the characters of ``line`` have too few pixels for one cut."""
        return _has_few_pixels(self._view.from_photo(line.corners), line.cuts[0])

    def read_hard(self, line: Line, count: int | None = None) -> Line | None:
        """Return ``line`` as read by the reader of hard lines, from the first ``count`` cuts (None: all).

        Returns None if there is no such reader, if its certainty is too low, or if the edge of the photo cuts
        off the line.
        """
        cuts = self._tuning.cuts[:count]
        readings = self._hard_readings.setdefault(line.corners.tobytes(), [])
        left = cuts[len(readings) :]
        if self._nets.hard is not None and left:
            readings += self._nets.hard().read([self.cut(line.corners, margins) for margins in left])
        if not readings or self._is_cut(readings[0], line.corners):
            return None
        hard = self.line(line.corners, line.score, *readings[:count])._replace(hard=True)
        return hard if hard.certainty >= _HARD_LEAST else None

    def _read_in(self, view: View, corners: Floats, score: float) -> Line:
        """Read the line with ``corners`` in ``view``, from a further cut too if its text is small."""
        inside = view.from_photo(corners)
        answer = self._ask(view, inside)
        if self._is_cut(answer.reading, corners):
            return Line(corners, score, answer.reading, (), (answer.reading,))

        def line_of(*cuts: LineReading) -> Line:
            line = self.line(corners, score, *cuts)
            agreed = bool(answer.other) and answer.other == line.vin
            return line._replace(lower_case=answer.lower_case, agreed=agreed)

        line = first = line_of(answer.reading)
        small = self.is_small(line)
        enough = _ONE_CUT_ENOUGH if small else self._tuning.sure
        if not answer.settled and self._tuning.promising <= line.certainty < enough:
            line = self._with_second_opinion(line) if view is self._view else line
            whole = view.width >= self._photo.width
            if small and whole and line.agreed == first.agreed and self._budget.pay(1):
                crop = cut_enlarged(view.pixels, inside, 0.05, 0.33, _ENLARGED_SIDES)
                reader = self.reader(lower_case=answer.lower_case)
                line = line_of(answer.reading, *reader.read([crop]))
        return line.at_text() if self._is_settled(line) else line

    def _ask(self, view: View, inside: Floats) -> _Answer:
        """Read the line within ``inside`` (4 x 2, pixels of ``view``).

        The small reader is trusted if it is sure, or if it reads the same from a looser cut, which is
        enlarged if the text is small. Otherwise the VIN reader is. If that is not sure, or the small one has
        seen something else, a line whose characters have different heights is also read as lower case.
        """
        tuning, small = self._tuning, self._nets.small
        crop = cut(view.pixels, inside)
        if self._nets.reader is None:
            return _Answer(small.read([crop])[0])
        glance = small.glance(crop, tuning.settled_twice - _RULES_ADD)
        seen = glance.greedy
        if glance.texts:
            vin, certainty, by_pixels = self.likeliest(glance)
            if certainty >= tuning.settled and by_pixels >= tuning.settled_plain:
                return _Answer(glance, settled=True)
            if certainty >= tuning.settled_twice and self._is_confirmed(view, inside, glance, vin):
                return _Answer(glance, vin, settled=True)
        if len(seen) < _FEWEST_SEEN:
            return _Answer(glance)
        reading = self.reader().read([crop])[0]
        vin, certainty, _ = self.likeliest(reading)
        lower = None
        if (certainty < tuning.sure or seen != vin) and _is_lower_case(view, inside):
            lower = self._as_lower_case(view, inside, reading)
        return _Answer(reading, seen) if lower is None else lower

    def _as_lower_case(self, view: View, inside: Floats, reading: LineReading) -> _Answer | None:
        """Read the line within ``inside`` (4 x 2, pixels of ``view``), which looks like lower case, as such.

        Capitals of a worn or tilted line have different heights as well, so the surer reader decides. Returns
        None if that is the VIN reader, which has read ``reading``. If it is surer, but another VIN is likely
        in lower case, the answer is the mean of both, which is hardly sure of either.
        """
        vin, certainty, _ = self.likeliest(reading)
        crop = cut(view.pixels, inside, *_LOWER_CASE_MARGINS[0])
        glance = self.reader(lower_case=True).glance(crop, self._tuning.likely)
        if len(glance.greedy) < _FEWEST_IN_LOWER_CASE:
            return None
        if certainty >= self._tuning.likely and self.likeliest(glance)[0] in {"", vin}:
            return None
        readings: list[LineReading] = []
        for few in (_LOWER_CASE_MARGINS[:2], _LOWER_CASE_MARGINS[2:]):
            crops = [cut(view.pixels, inside, *margins) for margins in few]
            readings += self.reader(lower_case=True).read(crops)
            other = pooled(readings)
            named = certainty < self._tuning.promising and find_window(other, self._odds) is not None
            other_vin, lower, _ = self.likeliest(other)
            if not named and (other.share < _LOWER_CASE_SHARE or (other_vin == vin and certainty >= lower)):
                return None
        if named or lower > max(certainty, self._tuning.promising):
            return _Answer(other, other_vin, lower_case=True)
        if other_vin != vin and lower >= self._tuning.likely:
            return _Answer(pooled((reading, other)), lower_case=True)
        return None

    def _is_confirmed(self, view: View, inside: Floats, reading: LineReading, vin: str) -> bool:
        """Whether the small reader, which has read ``vin``, reads the same from a looser cut."""
        few = _has_few_pixels(inside, reading)
        crop = (cut_enlarged if few else cut)(view.pixels, inside, *_CONFIRMING_MARGINS)
        least = self._tuning.settled_twice if few else self._tuning.settled_again
        same, certainty, _ = self.likeliest(self._nets.small.glance(crop, least - _RULES_ADD))
        return same == vin and certainty >= least

    def _with_second_opinion(self, line: Line) -> Line:
        """Return ``line`` together with the reading of hard lines of the same crop, if both surely agree."""
        if line.lower_case or (line.agreed and self._is_settled(line)):
            return line
        hard = self.read_hard(line, 1)
        if hard is None or hard.vin != line.vin:
            return line
        both = self.line(line.corners, line.score, *line.cuts, *hard.cuts)._replace(agreed=True)
        return both if self._is_settled(both) else line

    def _is_settled(self, line: Line) -> bool:
        """Whether ``line`` by itself is certain enough."""
        return line.certainty >= (self._tuning.agreed if line.agreed else self._tuning.sure)

    def _is_cut(self, reading: LineReading, corners: Floats) -> bool:
        """Whether the edge of the photo cuts off a character of the line with ``corners``."""
        return is_cut(reading, grown(corners), (self._photo.width, self._photo.height))


def is_cut(reading: LineReading, crop: Floats, size: tuple[int, int]) -> bool:
    """Return whether the edge of the photo cuts off the first or the last of 17 characters.

    The rest of a cut character is read as another one, so its place is computed from the other characters,
    which have a constant pitch. ``crop`` (4 x 2) are the corners of what was read, ``size`` is the width and
    height of the photo, all in its pixels.
    """
    if len(reading.centers) != LENGTH:
        return False
    # A least-squares line through the inner characters.
    from_middle = np.arange(LENGTH - 2) - (LENGTH - 3) / 2
    inner = np.array(reading.centers[1:-1])
    pitch = float(from_middle @ inner) / float(from_middle @ from_middle)
    reach = (LENGTH - 1) / 2 - _UNSEEN
    ends = inner.mean() + pitch * np.array([-reach, reach])
    left, right = (crop[0] + crop[3]) / 2, (crop[1] + crop[2]) / 2
    points = left + (right - left) * ends[:, None]
    return bool((points < 0).any() or (points > size).any())


def _is_lower_case(view: View, inside: Floats) -> bool:
    """Whether the characters of the line within ``inside`` have different heights, as lower case has."""
    return text_lines.set_close(view, view.to_photo(grown(inside, *_AROUND_LOWER_CASE))).lower_case


def _has_few_pixels(inside: Floats, reading: LineReading) -> bool:
    """Whether the 17 characters of ``reading``, within the corners ``inside`` of a view, have few pixels."""
    span = reading.span
    return span is not None and length(trimmed(inside, span)) < _FEW_PIXELS * LENGTH
