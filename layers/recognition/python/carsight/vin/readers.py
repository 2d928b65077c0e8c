"""Reading a line that was found: which of the three readers is asked, of which cuts, and who is believed.

The small reader is asked first; where it is not sure, the VIN reader; where that leaves a doubt, the reader
of hard lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from carsight.geometry import Floats
from carsight.photo import Photo, Pixels
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
"""Where the small reader sees fewer characters no other is asked.

Of 39 such lines, of 147 photos sent in six ways, the VIN reader was certain of none by 0.02.
"""

_FULL_SIZE_BELOW = 28.0
"""Lines lower than this many pixels are read in the photo at full size, if it is searched smaller."""

_FULL_SIZE_COST = 2.0
"""What that costs, in crops read (see ``Budget``)."""

_FULL_SIZE_SHARE = 0.02
"""It is not done for a line that holds 17 characters with less probability than this."""

_FEW_PIXELS = 8.0
"""Pixels of the line per character below which it is read from an enlarged cut too."""

_ENLARGED_SIDES = 0.3
"""Margin above and below of that cut, in line heights."""

_ONE_CUT_ENOUGH = 0.95
"""Certainty from which one cut of such a line is enough: of 673 lines 488 reached it, and all were right."""

_CONFIRMING_MARGINS = (0.08, 0.38, 0.46)
"""Margins of the cut by which the small reader confirms itself (see ``grown``)."""

_RULES_ADD = 0.05
"""How much less than its certainty the probability by the pixels alone may be where the small reader is
believed."""

_LOWER_CASE_MARGINS = tuple(
    (along, across, sides)
    for along, across in ((0.05, 0.33), (0.02, 0.2), (0.09, 0.5))
    for sides in (0.65, 0.9)
)
"""Margins of the cuts of lower case. The detector's corners leave ascenders and descenders out.

Of 500 drawn lines in 17 fonts the mean of the first two is right and answered for 317, wrong for 14; that of
all six for 351 and 9: l is taken for 1, r and f for t.
"""

_LOWER_CASE_SHARE = 0.02
"""Probability of 17 characters in the first two of these cuts below which the others are not read."""

_AROUND_LOWER_CASE = (0.02, 0.2, 0.25)
"""Margins of a line within which ascenders and descenders are looked for."""

_HARD_LEAST = 0.1
"""Certainty below which the reader of hard lines is not heard."""

_TEXT_FILLS_LINE = 0.9
"""Where the text is shorter than this share of the detector's line, something else stands beside it."""

_SEEN_IN_PIXELS = 0.6
"""Probability by the pixels alone below which even a sure VIN is searched for further.

Of 100 drawn photos of struck metal three were answered wrongly at the first reading, two of them from 0.33
and 0.58 by the pixels.
"""

_UNSEEN = 0.12
"""How far outside the photo the middle of an end character may be, in parts of the pitch.

At 0, 84 of 100 photos cut to their labeled box are read; so 87, and none that is cut through its last
character is read wrongly.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A line with everything that was read there. ``corners`` are in pixels of the full photo.

    ``reading`` is what the ``cuts`` say together.
    """

    corners: Floats
    score: float
    reading: LineReading
    ranked: Ranking
    cuts: tuple[LineReading, ...]
    agreed: bool = False
    """Whether two readers read the same VIN: the VIN reader, and the small one or that of hard lines; or the
    small one from all cuts of lower case."""
    lower_case: bool = False
    """Whether it was read as lower case, by the small reader."""
    hard: bool = False
    """Whether it was read by the reader of hard lines, and that is believed."""

    @property
    def certainty(self) -> float:
        """The probability of its likeliest VIN, 0..1; 0 where it has none."""
        return self.ranked[0][1] if self.ranked else 0.0

    @property
    def vin(self) -> str:
        """Its likeliest VIN; "" where it has none."""
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
        """The corners of its likeliest text; those of the line where it has none."""
        return self.corners if self.reading.span is None else trimmed(self.corners, self.reading.span)

    @property
    def is_longer_than_text(self) -> bool:
        """Whether something else stands beside its text, such as "VIN:"."""
        return length(self.text_corners) < _TEXT_FILLS_LINE * length(self.corners)

    def at_text(self) -> Line:
        """Return the line with the corners of its text.

        Where nothing stands beside it, the detector and the text both tell where it ends, the text to one of
        48 steps: the mean of both differs less between processors than either.
        """
        if self.reading.span is None:
            return self
        text = self.text_corners
        corners = text if self.is_longer_than_text else np.float32(0.5) * (text + self.corners)
        return replace(self, corners=corners)


class ReaderNets(Protocol):
    """The readers that are asked, and the tuning: those of a ``VinRecognizer``."""

    small: LineReader
    """Reads every line first, and calibrates how sure a VIN is."""
    reader: Callable[[], LineReader] | None
    """Returns the VIN reader, which is asked where the small one is not sure. None: the small one is."""
    hard: Callable[[], LineReader] | None
    """Returns the reader of hard lines, struck metal above all, which is asked in doubt. None: no one is."""
    tuning: VinTuning


class _Answer(NamedTuple):
    """The reading of a crop by the reader that is believed."""

    reading: LineReading
    other: str = ""
    """What another reader, or another cut, reads there; "" where there was none."""
    settled: bool = False
    """Whether the small reader is sure enough that no other needs to be asked."""
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
        """Those by the reader of hard lines, cut by cut, of the line with these corners."""

    def read(self, corners: Floats, score: float) -> Line:
        """Read the line with ``corners`` (pixels of the full photo); at full size too if small and unsure."""
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
        """Return the line of ``cuts``, the first of which tells where its characters are."""
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
        """Return the VIN reader, or the small one for ``lower_case``, which no other has learned."""
        if lower_case or self._nets.reader is None:
            return self._nets.small
        return self._nets.reader()

    def cut(self, corners: Floats, margins: CropMargins, *, lower_case: bool = False) -> Pixels:
        """Return the crop of the line with ``corners`` that differs from the usual one by ``margins``."""
        quad = self._view.from_photo(margins.moved(corners))
        sides = _LOWER_CASE_MARGINS[0][2] if lower_case else 0.35
        return cut(self._view.pixels, quad, 0.05, 0.33, sides + margins.sides)

    def is_small(self, line: Line) -> bool:
        """Whether the characters of ``line`` have too few pixels for one cut."""
        return _has_few_pixels(self._view.from_photo(line.corners), line.cuts[0])

    def read_hard(self, line: Line, count: int | None = None) -> Line | None:
        """Return ``line`` as the reader of hard lines reads it, from ``count`` of the first cuts (None: all).

        None where there is no such reader, where it is hardly certain of anything, or where the line is cut
        off by the edge of the photo.
        """
        cuts = self._tuning.cuts[:count]
        readings = self._hard_readings.setdefault(line.corners.tobytes(), [])
        left = cuts[len(readings) :]
        if self._nets.hard is not None and left:
            readings += self._nets.hard().read([self.cut(line.corners, margins) for margins in left])
        if not readings or self._is_cut(readings[0], line.corners):
            return None
        hard = replace(self.line(line.corners, line.score, *readings[:count]), hard=True)
        return hard if hard.certainty >= _HARD_LEAST else None

    def _read_in(self, view: View, corners: Floats, score: float) -> Line:
        """Read the line with ``corners`` from ``view``, in further cuts too where its text is small."""
        inside = view.from_photo(corners)
        answer = self._ask(view, inside)
        if self._is_cut(answer.reading, corners):
            return Line(corners, score, answer.reading, (), (answer.reading,))

        def line_of(*cuts: LineReading) -> Line:
            line = self.line(corners, score, *cuts)
            agreed = bool(answer.other) and answer.other == line.vin
            return replace(line, lower_case=answer.lower_case, agreed=agreed)

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
        """Read the line within ``inside``.

        The small reader is believed if it is sure, or reads the same from a looser cut, which is enlarged
        where the text is small. Otherwise the VIN reader is, except about lower case.
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
        certainty = self.likeliest(reading)[1]
        if certainty < tuning.likely and _is_lower_case(view, inside):
            # Capitals of a worn or tilted line are of different heights as well: the surer reader decides.
            readings: list[LineReading] = []
            for few in (_LOWER_CASE_MARGINS[:2], _LOWER_CASE_MARGINS[2:]):
                readings += small.read([cut(view.pixels, inside, *each) for each in few])
                other = pooled(readings)
                named = certainty < tuning.promising and find_window(other, self._odds) is not None
                if not named and other.share < _LOWER_CASE_SHARE:
                    return _Answer(reading, seen)
            vin, lower, _ = self.likeliest(other)
            if named or lower > max(certainty, tuning.promising):
                return _Answer(other, vin, lower_case=True)
        return _Answer(reading, seen)

    def _is_confirmed(self, view: View, inside: Floats, reading: LineReading, vin: str) -> bool:
        """Whether the small reader, whose ``reading`` was ``vin``, reads that from a looser cut as well."""
        few = _has_few_pixels(inside, reading)
        crop = (cut_enlarged if few else cut)(view.pixels, inside, *_CONFIRMING_MARGINS)
        least = self._tuning.settled_twice if few else self._tuning.settled_again
        same, certainty, _ = self.likeliest(self._nets.small.glance(crop, least - _RULES_ADD))
        return same == vin and certainty >= least

    def _with_second_opinion(self, line: Line) -> Line:
        """Return ``line`` with the same crop as the reader of hard lines reads it, if both agree surely."""
        if line.lower_case or (line.agreed and self._is_settled(line)):
            return line
        hard = self.read_hard(line, 1)
        if hard is None or hard.vin != line.vin:
            return line
        both = replace(self.line(line.corners, line.score, *line.cuts, *hard.cuts), agreed=True)
        return both if self._is_settled(both) else line

    def _is_settled(self, line: Line) -> bool:
        """Whether ``line`` by itself is certain enough."""
        return line.certainty >= (self._tuning.agreed if line.agreed else self._tuning.sure)

    def _is_cut(self, reading: LineReading, corners: Floats) -> bool:
        """Whether the edge of the photo cuts off a character of the line with ``corners``."""
        return is_cut(reading, grown(corners), (self._photo.width, self._photo.height))


def is_cut(reading: LineReading, crop: Floats, size: tuple[int, int]) -> bool:
    """Tell whether the first or the last of 17 characters is cut by the edge of the photo.

    Where they would stand follows from the others, which makers set at one pitch: what is left of a character
    that was cut is read as another one. ``crop`` (4 x 2) are the corners of what was read, ``size`` the width
    and height of the photo, all in its pixels.
    """
    if len(reading.centers) != LENGTH:
        return False
    # The line of least squares through the inner ones.
    from_middle = np.arange(LENGTH - 2) - (LENGTH - 3) / 2
    inner = np.array(reading.centers[1:-1])
    pitch = float(from_middle @ inner) / float(from_middle @ from_middle)
    reach = (LENGTH - 1) / 2 - _UNSEEN
    ends = inner.mean() + pitch * np.array([-reach, reach])
    left, right = (crop[0] + crop[3]) / 2, (crop[1] + crop[2]) / 2
    points = left + (right - left) * ends[:, None]
    return bool((points < 0).any() or (points > size).any())


def _is_lower_case(view: View, inside: Floats) -> bool:
    """Whether the characters of the line within ``inside`` have the heights of lower case."""
    return text_lines.set_close(view, view.to_photo(grown(inside, *_AROUND_LOWER_CASE))).lower_case


def _has_few_pixels(inside: Floats, reading: LineReading) -> bool:
    """Whether the 17 characters of ``reading`` have few pixels, within the corners ``inside`` of a view."""
    span = reading.span
    return span is not None and length(trimmed(inside, span)) < _FEW_PIXELS * LENGTH
