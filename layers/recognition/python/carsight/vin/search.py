"""The search of one photo for its VINs: where to look, which reader to ask, and when to stop.

Every step asks first whether it is worth it and can still be paid for (see ``Search``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from carsight.detector import Detector
from carsight.geometry import Box
from carsight.photo import Photo, Pixels
from carsight.vin import text_lines
from carsight.vin.barcodes import BarcodeVin
from carsight.vin.code_search import Budget, CodeSearch
from carsight.vin.line_reader import LineReader, LineReading, cut, cut_enlarged, grown, pooled, trimmed
from carsight.vin.ranking import Prior, Ranking, find_window, merge_rankings, rank_by_posterior
from carsight.vin.rules import LENGTH, is_valid, known_maker
from carsight.vin.views import View

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CropMargins:
    """How another cut differs from a line's corners.

    It is longer by ``left`` and ``right`` (in line lengths), moved down by ``down`` and higher by ``sides``
    above and below (in line heights).
    """

    left: float = 0.0
    right: float = 0.0
    down: float = 0.0
    sides: float = 0.0


_CUTS = (
    (
        CropMargins(),
        CropMargins(left=0.07, right=0.07, sides=0.1),
        CropMargins(sides=-0.18),
        CropMargins(left=0.02, right=0.02, down=-0.35),
        CropMargins(left=0.02, right=0.02, down=0.35),
    ),
    (
        CropMargins(left=0.3),
        CropMargins(right=0.3),
        CropMargins(left=0.05, right=0.05, down=0.8),
        CropMargins(left=0.05, right=0.05, down=-0.8),
    ),
)
"""From which a line is read again, in two rounds: corners are off by about that much."""


@dataclass(frozen=True, slots=True)
class VinTuning:
    """What can be changed about the recognizer without training a model again.

    ``sides`` and ``scores``: about how large the photo is for the first look and for a closer one (the side
    of a square, pixels), and the score from which finds are read. ``prior``: how likely a text is to be a
    VIN. ``barcodes``: whether codes are looked for. ``sure``: a reading at least this certain ends the search
    for a better one. ``likely``: a line less certain than this may have been cut at the wrong place
    altogether, and is read again from ``cuts``. ``threshold`` is the lowest confidence of an answer, the
    reader's own where None, and ``least`` that of a candidate behind the first; a photo whose best is below
    ``doubtful`` is said to hold no VIN rather than one that is not sure. ``lines`` is how many of the
    detector's finds are read per look. ``effort`` bounds the search of a photo, ``promising_effort`` that
    of one with a line at least as certain as ``promising``, in crops read (see ``Budget``); ``level_effort``
    is added where a photo is turned level, so that the steps after that lose nothing.

    The small reader's word for a line is taken from the certainty ``settled`` and, by the pixels alone,
    ``settled_plain``; or from ``settled_twice``, if another cut says the same with ``settled_again``, or
    ``settled_twice`` again where text is small. Of 147 photos sent in eleven ways, the surest of five first
    looks that were wrong had 0.948; none was wrong twice from 0.85. Where another reader says the same as the
    careful one, ``agreed`` is as good as ``sure``. A line below ``hopeless`` that further cuts make less sure
    is given up.

    The word of the reader of hard lines is taken from the certainty ``hard_agreed`` where the others think
    the same likeliest. Where all else has left a line in doubt, ``hard_proven`` is enough if its check digit
    holds besides, and it is taken from ``hard_against`` where the others think another likeliest, and from
    ``hard_alone`` where they hardly think any (below ``clueless``).
    """

    sides: tuple[int, int] = (416, 640)
    scores: tuple[float, float] = (0.15, 0.05)
    lines: int = 3
    sure: float = 0.9
    likely: float = 0.3
    threshold: float | None = None
    least: float = 0.02
    doubtful: float = 0.2
    prior: Prior = field(default_factory=Prior)
    barcodes: bool = True
    promising: float = 0.02
    effort: float = 6.0
    promising_effort: float = 25.0
    level_effort: float = 3.0
    settled: float = 0.96
    settled_plain: float = 0.9
    settled_twice: float = 0.9
    settled_again: float = 0.85
    agreed: float = 0.8
    hopeless: float = 0.5
    hard_agreed: float = 0.9
    hard_proven: float = 0.7
    hard_alone: float = 0.6
    hard_against: float = 0.95
    clueless: float = 0.4
    cuts: tuple[tuple[CropMargins, ...], ...] = _CUTS


_WORKING_SIDE = 1600
"""Longer side in pixels at which a photo is searched, at least; text that is small there is read in full."""

_FULL_TEXT = 28.0
"""Lines lower than this many pixels are read in the photo at full size, where it is searched smaller."""

_FEW_PIXELS = 8.0
"""Pixels a character takes of the line, below which it is read from enlarged cuts too."""

_CLEAR = 0.95
"""Certainty from which one cut is enough: of 673 such lines 488 reached it, and all were right."""

_ENLARGED = (0.35, 0.25)
"""Margins above and below of those cuts, in line heights."""

_LOOSER = (0.08, 0.38, 0.46)
"""Margins of the small reader's second look: shares of length and height at the ends, and of height."""

_LOWER_CASE = ((0.05, 0.33, 0.65), (0.05, 0.33, 0.9))
"""Margins of the two looks at lower case. The detector's corners leave ascenders and descenders out.

Of 76 drawn lines in six fonts the small reader says the right text of 39 as other lines are cut, of 68 so.
"""

_LESS = 0.05
"""How much less the pixels alone may say than what is known about VINs with them, at either look."""

_FAR_OFF = 0.9
"""A text this much shorter than the detector's line shows that the line was drawn too long."""

_FIRST_LOOK, _SECOND_LOOK, _CLOSER_LOOK, _FULL_READ, _GLANCE = 0.6, 0.4, 2.5, 2.0, 0.25
"""What looks cost, in crops read (see ``Budget``)."""

_BORDER = 0.3
"""Width of the gray laid round a photo, in shares of its longer side."""

_HALF_TURN = [2, 3, 0, 1]
"""The order of the corners of a line that stands on its head."""

_TILTED, _STEEP = 4.0, 80.0
"""Degrees between which a find tells how the photo is to be turned for another look."""

_LINE_SHAPE = 4.0
"""A photo this much longer than high, or higher than long, may be a line and nothing else."""

_HARDLY = 0.02
"""A small line that holds 17 characters with less probability is not looked at in full."""

_OTHERS = 2
"""Where so many lines of 17 characters are legible and no VINs, a VIN would have been found beside them."""

_LOST, _LONGER = 3, 0.1
"""How many characters of a VIN a line may lack at its ends, and how much longer it is read then."""

_UNSEEN = 0.12
"""How far outside the photo the middle of an end character may be, in parts of the pitch.

At 0, 84 of 100 photos cut to their labeled box are read; so 87, and none that is cut through its last
character is read wrongly.
"""

_PLAIN = 0.6
"""Probability by the pixels below which even a sure VIN is looked at again.

Of 100 drawn photos of struck metal three were answered wrongly at the first look, two of them from 0.33 and
0.58 by the pixels.
"""

_UPRIGHT = 0.1
"""Certainty that no line has which is read upside down."""

_AROUND_LOWER_CASE = (0.02, 0.2, 0.25)
"""Margins of a line within which ascenders and descenders are looked for (see ``grown``)."""

_PRINTED, _PRINTED_AT_MOST = 6, 10
"""How many printed lines the small reader looks at, those first that end in capitals, and of how many."""

_CLEARLY_UPRIGHT = 0.93
"""Clarity that no line has which is read on its head."""

_ILLEGIBLE = 32
"""Characters in one crop from which on the readers see none of them."""

_PAIRS = 4
"""How many pairs of printed lines it looks at."""

_FEWEST_DIGITS = 5
"""A line of which fewer are seen says words."""

_HARD_FINDS, _HARD_FIRST, _HARDLY_ANY = 2, 2, 0.1
"""About how many finds the reader of hard lines is asked last, from how many cuts at first, and how sure it
must be of these to read on."""

_AT_ONCE = 3
"""From how many cuts it is asked right after the first look, as long as it says what the others say."""

_FEWEST_SEEN = 9
"""A line in which the net sees fewer characters is no VIN, not even upside down."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line with all that was read there. ``corners`` are in pixels of the full photo.

    ``reading`` is what the ``cuts`` say together.
    """

    corners: Floats
    score: float
    reading: LineReading
    ranked: Ranking
    cuts: tuple[LineReading, ...]
    agreed: bool = False
    """Whether two readers say the same VIN: the careful one, and the small one or that of hard lines."""
    lower_case: bool = False
    hard: bool = False
    """Whether it is the reader of hard lines that says so."""

    @property
    def certainty(self) -> float:
        """The probability of its likeliest VIN, 0..1; 0 where it has none."""
        return self.ranked[0][1] if self.ranked else 0.0

    @property
    def vin(self) -> str:
        """Its likeliest VIN; "" where it has none."""
        return self.ranked[0][0] if self.ranked else ""

    @property
    def is_plain(self) -> bool:
        """Whether the pixels alone speak for the likeliest VIN, not mostly what is known about VINs."""
        seen = dict(self.reading.texts).get(self.vin, 0.0)
        return self.reading.share * seen >= _PLAIN

    @property
    def is_legible(self) -> bool:
        """Whether the line says 17 characters clearly, a VIN's or not."""
        return self.reading.share > 0.9 and self.reading.texts[0][1] > 0.95


class Nets(Protocol):
    """The nets that a search asks, and its tuning: those of a ``VinRecognizer``."""

    near: Detector
    far: Detector
    """The same net, given the photo at about twice the size."""
    reader: LineReader
    """Reads every line first, and says how sure a VIN is."""
    careful: Callable[[], LineReader] | None
    """Returns the reader that is asked where the first is not sure; the first where None."""
    hard: Callable[[], LineReader] | None
    """Returns the reader of hard lines, struck metal above all, that is asked last; none where None."""
    tuning: VinTuning


class _Word(NamedTuple):
    """What a crop of a line says, by whichever reader is to be believed."""

    reading: LineReading
    other: str = ""
    """The VIN that a second reading says, "" where there was none."""
    settled: bool = False
    """Whether the small reader is sure enough that nothing more needs to be asked."""
    lower_case: bool = False


class Search:
    """The search of one photo: what was found so far, and what may still be spent on finding more.

    Every step asks first whether it is worth it and can still be paid (see ``Budget``), so that no picture
    costs more than so much. The reader of hard lines has no budget: it is asked about the few lines that are
    in doubt.
    """

    def __init__(self, nets: Nets, photo: Photo) -> None:
        self._nets = nets
        self._tuning = nets.tuning
        self._photo = photo
        self.odds = cache(self._tuning.prior.odds)
        """The prior's; two in three of the texts that a line's cuts may say have been said by another cut."""
        self._budget = Budget(self._tuning.effort, self._tuning.promising_effort)
        self.view = View.of(photo, _WORKING_SIDE)
        self.lines: list[Line] = []
        self._certainty = 0.0
        self._full: View | None = None
        self._codes = CodeSearch(self.view, self._budget, self.odds, enabled=self._tuning.barcodes)
        self._heard: dict[bytes, list[LineReading]] = {}
        """What the reader of hard lines has said, cut by cut, of the line with these corners."""

    def run(self) -> None:
        """Search until something is sure or all ways are tried, the cheap and likely ones first."""
        for way in (
            self._look_first,
            self._ask_at_once,
            self._look_level,
            self._flip,
            self._codes.look,
            self._codes.look_at_bars,
            self._trim,
            self._widen,
            self._look_with_border,
            self._read_whole,
            self._read_print,
            self._look_closer,
            self._recut,
            self._look_turned,
            self._codes.look_harder,
            self._ask_last,
        ):
            way()
            if self._sure:
                break
        if self.codes:
            self._look_for_text_of(self.codes[0])
        elif self.lines and self._best.ranked:
            self._codes.look_beside(self._best.vin, self._best.corners)

    @property
    def codes(self) -> list[BarcodeVin]:
        """What was read in codes."""
        return self._codes.found

    @property
    def places(self) -> list[Box]:
        """The boxes of the lines that were read, each place once."""
        return list(dict.fromkeys(self.box(line.corners) for line in self.lines))

    def box(self, corners: Floats) -> Box:
        """Return the box of ``corners``, inside the photo."""
        return Box.around(corners, self._photo.width, self._photo.height)

    @property
    def _sure(self) -> bool:
        """Whether nothing better is to be expected."""
        if self.lines:
            best = self._best
            enough = self._tuning.agreed if best.agreed else self._tuning.sure
            if best.hard or (self._certainty >= enough and best.is_plain):
                return True
        return self._codes.sure

    @property
    def _best(self) -> Line:
        """The reading that is surest for itself."""
        return max(self.lines, key=lambda line: line.certainty)

    # ---------------------------------------------------------------------------------------- lines

    def _look_first(self) -> None:
        self._find(self.view, self._nets.near)

    def _find(self, view: View, detector: Detector) -> None:
        """Read the lines that ``detector`` finds in ``view`` until one is sure."""
        for found in detector.detect(view.pixels)[: self._tuning.lines]:
            corners = view.to_photo(found.corners)
            if self._is_known(corners):
                continue
            if not self._budget.pay(_SECOND_LOOK + 1):
                break
            self._keep(self._read(corners, found.score))
            if self._sure:
                break

    def _read(self, corners: Floats, score: float) -> Line:
        """Read the line with ``corners`` (pixels of the full photo), in full too where small and unsure."""
        line = self._read_in(self.view, corners, score)
        span = find_window(line.reading, self.odds)
        if span is not None:  # a VIN and other characters beside it, such as its name
            line = self._read_in(self.view, trimmed(corners, span), score)
        if self._is_settled(line) or line.reading.share < _HARDLY:
            return line
        small = _height(self.view.from_photo(corners)) < _FULL_TEXT
        if small and self._photo.width > self.view.width and self._budget.pay(_FULL_READ):
            if self._full is None:
                full = self._photo.full()
                self._full = View.of(full, max(full.width, full.height))
            line = max(line, self._read_in(self._full, corners, score), key=lambda line: line.certainty)
        return line

    def _read_in(self, view: View, corners: Floats, score: float) -> Line:
        """Read the line with ``corners`` from ``view``, in further cuts too where its text is small."""
        inside = view.from_photo(corners)
        word = self._ask(view, inside)
        if is_cut(word.reading, grown(corners), (self._photo.width, self._photo.height)):
            return Line(corners, score, word.reading, (), (word.reading,))
        line = self._line(corners, score, word.reading)
        agreed = bool(word.other) and word.other == line.vin
        line = replace(line, lower_case=word.lower_case, agreed=agreed)
        small = self.is_small(line)
        enough = _CLEAR if small else self._tuning.sure
        if not word.settled and self._tuning.promising <= line.certainty < enough:
            line = self._with_second_opinion(line) if view is self.view else line
            whole = view.width >= self._photo.width
            if small and whole and line.agreed == agreed and self._budget.pay(len(_ENLARGED)):
                cuts = [cut_enlarged(view.pixels, inside, 0.05, 0.33, sides) for sides in _ENLARGED]
                cuts_say = self._reader(word.lower_case).read(cuts)
                line = self._line(corners, score, word.reading, *cuts_say)
                agreed = bool(word.other) and word.other == line.vin
                line = replace(line, lower_case=word.lower_case, agreed=agreed)
        return self._at_its_text(line) if self._is_settled(line) else line

    @staticmethod
    def _at_its_text(line: Line) -> Line:
        """Return ``line`` with the corners of its text: "VIN:" is not a part of it.

        Where nothing stands beside it, both tell where it ends, the text to one of 48 steps: their middle
        moves less from one processor's rounding to another's than either.
        """
        if line.reading.span is None:
            return line
        text = trimmed(line.corners, line.reading.span)
        beside = _length(text) < _FAR_OFF * _length(line.corners)
        return replace(line, corners=text if beside else np.float32(0.5) * (text + line.corners))

    def _is_settled(self, line: Line) -> bool:
        """Whether ``line`` is sure for itself."""
        return line.certainty >= (self._tuning.agreed if line.agreed else self._tuning.sure)

    def _with_second_opinion(self, line: Line) -> Line:
        """Return ``line`` with what the reader of hard lines says of the same crop, if both agree surely."""
        if line.lower_case or (line.agreed and self._is_settled(line)):
            return line
        word = self._hard_word(line, 1)
        if word is None or word.vin != line.vin:
            return line
        both = replace(self._line(line.corners, line.score, *line.cuts, *word.cuts), agreed=True)
        return both if self._is_settled(both) else line

    def _ask(self, view: View, inside: Floats) -> _Word:
        """Return what the line within ``inside`` says.

        The small reader's word is taken where that is sure, or says the same of a looser cut, which for small
        text is enlarged as well. Otherwise it is the careful reader's, but for lower case.
        """
        tuning, small = self._tuning, self._nets.reader
        crop = cut(view.pixels, inside)
        if self._nets.careful is None:
            return _Word(small.read([crop])[0])
        reading, seen = small.glance(crop, tuning.settled_twice - _LESS)
        if reading is not None:
            vin, certainty, by_pixels = self._likeliest(reading)
            if certainty >= tuning.settled and by_pixels >= tuning.settled_plain:
                return _Word(reading, settled=True)
            if certainty >= tuning.settled_twice and self._says_so_again(view, inside, reading, vin):
                return _Word(reading, vin, settled=True)
        reading = self._careful.read([crop])[0]
        certainty = self._likeliest(reading)[1]
        if certainty < tuning.likely and len(seen) >= _FEWEST_SEEN and self._is_lower_case(view, inside):
            # Capitals of a worn or tilted line are of different heights, too: the surer reader tells.
            other = pooled(small.read([cut(view.pixels, inside, *margins) for margins in _LOWER_CASE]))
            named = certainty < tuning.promising and find_window(other, self.odds) is not None
            if named or self._likeliest(other)[1] > max(certainty, tuning.promising):
                return _Word(other, lower_case=True)
        return _Word(reading, seen)

    def _is_lower_case(self, view: View, inside: Floats) -> bool:
        """Whether the characters of the line within ``inside`` have the heights of small letters."""
        return text_lines.set_close(view, view.to_photo(grown(inside, *_AROUND_LOWER_CASE))).lower_case

    def _says_so_again(self, view: View, inside: Floats, reading: LineReading, vin: str) -> bool:
        """Whether the small reader says ``vin`` of a looser cut as well."""
        few = self._has_few_pixels(inside, reading)
        crop = cut_enlarged(view.pixels, inside, *_LOOSER) if few else cut(view.pixels, inside, *_LOOSER)
        least = self._tuning.settled_twice if few else self._tuning.settled_again
        again, _ = self._nets.reader.glance(crop, least - _LESS)
        same, certainty, _ = ("", 0.0, 0.0) if again is None else self._likeliest(again)
        return same == vin and certainty >= least

    def _likeliest(self, reading: LineReading) -> tuple[str, float, float]:
        """Return the likeliest VIN of ``reading``, its probability, and that by the pixels alone."""
        ranked = rank_by_posterior(reading, self.odds)
        if not ranked:
            return "", 0.0, 0.0
        vin, certainty = ranked[0]
        return vin, certainty, reading.share * dict(reading.texts)[vin]

    @property
    def _careful(self) -> LineReader:
        careful = self._nets.careful
        return self._nets.reader if careful is None else careful()

    def _reader(self, lower_case: bool) -> LineReader:
        """Return the careful reader, or the small one for ``lower_case``, which only that has learned."""
        return self._nets.reader if lower_case else self._careful

    def is_small(self, line: Line) -> bool:
        """Whether the characters of ``line`` have too few pixels for one cut."""
        return self._has_few_pixels(self.view.from_photo(line.corners), line.cuts[0])

    @staticmethod
    def _has_few_pixels(inside: Floats, reading: LineReading) -> bool:
        """Whether the 17 characters of ``reading`` have, within the corners ``inside`` of a view."""
        span = reading.span
        return span is not None and _length(trimmed(inside, span)) < _FEW_PIXELS * LENGTH

    def _line(self, corners: Floats, score: float, *cuts: LineReading) -> Line:
        """Return the line of ``cuts``, the first of which tells where its characters are."""
        reading = pooled(cuts)
        return Line(corners, score, reading, rank_by_posterior(reading, self.odds), cuts)

    def _keep(self, *lines: Line) -> None:
        """Add ``lines``; finds of one line of small text are one reading, with all their cuts.

        Of 147 photos sent in eight ways, 2 to 18 more of each are right at one wrong of a way than where
        every cut has a vote of its own. Larger text is read alike from every cut, wrongly too.
        """
        for line in lines:
            index = self._index_of(line)
            if index is None:
                self.lines.append(line)
                continue
            other = self.lines[index]
            best, rest = (line, other) if line.certainty > other.certainty else (other, line)
            score = max(line.score, other.score)
            pooled_line = self._line(best.corners, score, *best.cuts, *rest.cuts)
            self.lines[index] = replace(pooled_line, lower_case=best.lower_case)
        merged = self._merged
        self._certainty = merged[0][1] if merged else 0.0
        self._budget.promising = self._certainty >= self._tuning.promising

    def _index_of(self, line: Line) -> int | None:
        """Find the line of small text that ``line`` is another find of."""
        if not line.ranked or not self.is_small(line):
            return None
        for index, other in enumerate(self.lines):
            if other.ranked and _are_one(line.corners, other.corners):
                return index
        return None

    def _flip(self) -> None:
        """Read the best find upside down, unless it is legible: corners may begin at the wrong end."""
        if not self.lines or self._certainty >= _UPRIGHT:
            return
        line = max(self.lines, key=lambda line: line.score)
        seen = line.reading.greedy
        words = sum(character.isdigit() for character in seen) < _FEWEST_DIGITS // 2
        if line.is_legible or len(seen) < _FEWEST_SEEN or words:
            return
        orders = [_HALF_TURN]
        if _height(line.corners) > 0.7 * _length(line.corners):
            orders += [[1, 2, 3, 0], [3, 0, 1, 2]]
        for order in orders:
            self._read_turned(line, order)

    def _read_turned(self, line: Line, order: list[int]) -> None:
        """Read ``line`` with its corners in another ``order``, if that can be paid."""
        if self._budget.pay(1):
            self._keep(self._read(line.corners[order], line.score))

    def _look_level(self) -> None:
        """Look at the photo turned level with its best find, where that is tilted and hardly says a VIN.

        Of lines tilted by more than 10 degrees the detector finds the place better than the corners. Of 147
        photos sent tilted by 8 degrees against the clock 133 are right at no wrong one without it, 139 so.
        What stands on its head is still that, and is read the other way up as well.
        """
        if not self.lines or self._certainty >= self._tuning.likely:
            return
        line = max(self.lines, key=lambda line: line.score)
        x, y = (float(v) for v in line.corners[1] - line.corners[0])
        tilt = math.degrees(math.atan2(y, x) if x >= 0 else math.atan2(-y, -x))
        other = line.is_legible and line.certainty < self._tuning.promising
        if _TILTED < abs(tilt) < _STEEP and not other:
            # The detector takes the bars of tilted papers for lines, and to read those in vain, level too,
            # costs what the looks for codes would take later.
            if self._certainty < self._tuning.promising:
                self._codes.glance_at_bars()
                if self._sure:
                    return
            self._budget.allow(self._tuning.level_effort)
            self._budget.pay(_FIRST_LOOK)
            known = len(self.lines)
            self._find(self.view.tilted(tilt), self._nets.near)
            found = self.lines[known:]
            if found and self._certainty < _UPRIGHT:
                self._read_turned(max(found, key=lambda line: line.score), _HALF_TURN)

    def _trim(self) -> None:
        """Read lines again whose text is much shorter than they are, cut to the text."""
        for line in list(self.lines):
            if line.reading.span is None or line.certainty < self._tuning.promising:
                continue
            corners = trimmed(line.corners, line.reading.span)
            if _length(corners) < _FAR_OFF * _length(line.corners) and self._budget.pay(1):
                self._keep(self._read(corners, line.score))

    def _look_with_border(self) -> None:
        """Look once more with gray round the photo, where a find touches its edge, is promising, or is none.

        The detector wants surroundings: of 50 photos cut to their VIN's box 33 are read without, 45 with
        them.
        """
        size = np.array([self._photo.width, self._photo.height], np.float32)
        near = any(
            min(line.corners.min(), (size - line.corners).min()) < 0.15 * _length(line.corners)
            for line in self.lines
        )
        worth = near or not self.lines or self._certainty >= self._tuning.promising
        if worth and self._budget.pay(_FIRST_LOOK):
            self._find(self.view.bordered(_BORDER), self._nets.near)

    def _read_whole(self) -> None:
        """Read the whole photo as a line, where it is as long as one: an app's viewfinder cuts it out so."""
        width, height = self._photo.width, self._photo.height
        whole = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
        orders = [[0, 1, 2, 3]] if width > height else [[3, 0, 1, 2], [1, 2, 3, 0]]
        if max(width, height) < _LINE_SHAPE * min(width, height):
            return
        for order in orders:
            if self._budget.pay(1):
                self._keep(self._read(whole[order], 0.0))

    def _look_closer(self) -> None:
        """Look at the photo larger, where the first look shrank it, unless it shows other numbers clearly."""
        other = sum(line.is_legible and line.certainty < self._tuning.promising for line in self.lines)
        if other >= _OTHERS:
            return
        if self.view.width * self.view.height > (1.2 * self._tuning.sides[0]) ** 2 and self._budget.pay(
            _CLOSER_LOOK
        ):
            self._find(self.view, self._nets.far)

    def _widen(self) -> None:
        """Read what may be a part of a VIN again with all that stands beside it."""
        parts = [line for line in self.lines if _may_be_a_part(line.reading.greedy)]
        # What is read on its head is less clear.
        for line in sorted(parts, key=lambda line: -len(line.reading.greedy) * line.reading.clarity)[:1]:
            seen = len(line.reading.greedy)
            wholes = [text_lines.whole_line(self.view, line.corners, seen)]
            if LENGTH - _LOST <= seen < LENGTH:  # faint characters at an end
                wholes.insert(0, _moved(line.corners, CropMargins(left=_LONGER, right=_LONGER)))
            for whole in wholes:
                if self._certainty < self._tuning.promising and self._budget.pay(1):
                    self._keep(self._read(whole, line.score))

    def _read_print(self) -> None:
        """Read lines of clear print that the detector missed, and those that stand one under the other.

        The small reader looks first: a line is worth more only if it says enough characters and digits. What
        it glances at, and what looks like a VIN then, is read in any case: on papers all else is often spent
        on their other numbers.
        """
        for view in self._ways_up():
            if self._certainty >= self._tuning.likely:
                break
            self._read_lines(text_lines.find_lines(view))

    def _ways_up(self) -> Iterator[View]:
        """Yield the photo as it is or, where the clearest line lies sideways or on its head, turned upright.

        Sideways photos are turned either way where none of their lines is clear.
        """
        lines = [line for line in self.lines if len(line.reading.greedy) >= _FEWEST_SEEN]
        line = max(lines, key=lambda line: line.reading.clarity, default=None)
        quarters = 0 if line is None else _quarters(line.corners)
        yield self.view.rotated(quarters) if quarters else self.view
        if line is not None and quarters % 2 and line.reading.clarity < _CLEARLY_UPRIGHT:
            yield self.view.rotated(4 - quarters)

    def _read_lines(self, found: list[text_lines.TextLine]) -> None:
        """Read the likeliest of the lines ``found``, alone and in pairs."""
        likely = [line for line in found if 13 <= line.characters <= 45 and not self._is_known(line.corners)]
        promising: list[tuple[bool, int, text_lines.TextLine, text_lines.SetText]] = []
        near = sorted(likely, key=lambda line: abs(line.characters - 21))[:_PRINTED_AT_MOST]
        texts = [(line, text_lines.set_close(self.view, line.corners)) for line in near]
        for line, text in sorted(texts, key=lambda each: not each[1].ends_in_capitals)[:_PRINTED]:
            text, seen = self._glance_at_ends(text)
            if 15 <= len(seen) <= 40 and sum(character.isdigit() for character in seen) >= _FEWEST_DIGITS:
                promising.append((not _may_hold_a_vin(seen), abs(len(seen) - LENGTH), line, text))
        for other, _, line, text in sorted(promising, key=lambda each: each[:2])[:2]:
            if self._sure or (other and not self._budget.pay(1)):
                break
            if not other:
                self._budget.pay_beyond(1)
            if text.changed:
                self._keep(self._read_set(text, line.corners))
            elif self._certainty < self._tuning.promising:
                self._keep(self._read(line.corners, 0.0))
        if self._certainty < self._tuning.promising:
            self._read_pairs(text_lines.pairs(found, _PAIRS))

    def _read_pairs(self, pairs: list[tuple[text_lines.TextLine, text_lines.TextLine]]) -> None:
        """Read two lines as one where the small reader, at a glance, sees a maker's prefix and digits."""
        for upper, lower in pairs:
            text = text_lines.side_by_side(self.view, (upper, lower))
            if _may_hold_a_vin(self._glance(text)) and not self._sure:
                self._budget.pay_beyond(1)
                corners = np.stack([*upper.corners[:2], *lower.corners[2:]])
                self._keep(replace(self._read_set(text, corners), corners=corners))

    def _glance(self, text: text_lines.SetText) -> str:
        """Return what the small reader sees of ``text``; that is always paid, whatever has been spent."""
        self._budget.spend(_GLANCE)
        _, seen = self._nets.reader.glance(text.crop(), 1.0)
        return seen

    def _glance_at_ends(self, text: text_lines.SetText) -> tuple[text_lines.SetText, str]:
        """Glance at the ends of a long ``text``, and else at all of it, if that is legible in a crop."""
        for end in text.ends():
            seen = self._glance(end)
            if _may_hold_a_vin(seen):
                return end, seen
        return text, self._glance(text) if len(text.begins) < _ILLEGIBLE else ""

    def _read_set(self, text: text_lines.SetText, corners: Floats) -> Line:
        """Read what was set anew from the line with ``corners``."""
        (reading,) = self._careful.read([text.crop()])
        lower_case = text.lower_case and self._likeliest(reading)[1] < self._tuning.likely
        reader = self._reader(lower_case)
        if lower_case:
            (reading,) = reader.read([text.crop()])
        span = find_window(reading, self.odds, text.crop_places())
        if span is not None:  # its name stands before it
            text = text.part(span)
            (reading,) = reader.read([text.crop()])
        place = text if reading.span is None else text.part(reading.span)
        return replace(self._line(place.corners(corners), 0.0, reading), lower_case=lower_case)

    def _is_known(self, corners: Floats) -> bool:
        """Whether a line that lies about where ``corners`` do says clearly something that is no VIN."""
        middle = corners.mean(axis=0)
        near = 0.5 * _height(corners)
        return any(
            line.is_legible
            and line.certainty < self._tuning.promising
            and float(np.hypot(*(line.corners.mean(axis=0) - middle))) < near
            for line in self.lines
        )

    def _recut(self) -> None:
        """Read a doubtful line from several cuts: what they agree on is surer, what they contradict less.

        They end early where the line is sure, or where it is less so than before them and than ``hopeless``:
        of 186 doubtful lines, in 147 photos sent in eleven ways, the same 102 are answered rightly and one
        wrongly as from all cuts, which are a sixth more.
        """
        before = self._certainty
        if not before or before < self._tuning.promising:
            return
        corners, lower_case = self._best.corners, self._best.lower_case
        reader = self._reader(lower_case)
        for cuts in self._tuning.cuts:
            for number, margins in enumerate(cuts, start=1):
                if not self._budget.pay(1):
                    return
                (reading,) = reader.read([self._cut(corners, margins, lower_case)])
                self._keep(replace(self._line(corners, 0.0, reading), lower_case=lower_case))
                if self._sure or (number > 1 and self._certainty < min(before, self._tuning.hopeless)):
                    return
            if self._certainty > self._tuning.likely:
                return

    def _ask_at_once(self) -> None:
        """Ask the reader of hard lines about the best line, if in doubt, while it says what the others say.

        Nearly all that it is believed in the end it says at once, and all that is tried in between takes ten
        times as long. Where it says another VIN its word is worth less, and all else is tried before.
        """
        if not self._is_in_doubt or self._best.lower_case:
            return
        line = self._best
        vin, certainty = self._merged[0]
        for count in range(1, _AT_ONCE + 1):
            word = self._hard_word(line, count)
            if word is None or word.vin != vin or word.certainty < self._tuning.likely:
                return
            together = (word.certainty + certainty) / 2
            if count > 1 and (word.certainty >= self._tuning.hard_agreed or together >= self._tuning.agreed):
                self.lines = [self._at_its_text(word)]
                return

    def _ask_last(self) -> None:
        """Ask the reader of hard lines about what is still in doubt; where it is believed, its word counts.

        Struck metal is what it learned most of. It sees more than the careful reader there, and is sure of
        more that is wrong elsewhere.
        """
        if not self._is_in_doubt:
            return
        likeliest = self._merged[0]
        for line in self._hard_lines():
            # After the first cuts it reads on only where they promise something.
            word = self._hard_word(line, _HARD_FIRST) and self._hard_word(line, len(self._first_cuts))
            if word is not None and word.certainty >= self._enough_of(word.vin, *likeliest):
                self.lines = [self._at_its_text(word)]
                return

    @property
    def _is_in_doubt(self) -> bool:
        """Whether a line says a VIN, if not surely."""
        return self._certainty > 0 and self._certainty >= self._tuning.promising

    @property
    def _merged(self) -> Ranking:
        return merge_rankings([line.ranked for line in self.lines], self.odds)

    @property
    def _first_cuts(self) -> tuple[CropMargins, ...]:
        return next(iter(self._tuning.cuts), ())

    def _enough_of(self, vin: str, likeliest: str, certainty: float) -> float:
        """Return how sure the reader of hard lines must be of ``vin``, where the others say ``likeliest``."""
        if self.odds(vin) < self._tuning.prior.vin:
            return math.inf  # of no known maker, or a check digit that must hold fails
        if vin == likeliest:
            return self._tuning.hard_proven if is_valid(vin) else self._tuning.hard_agreed
        return self._tuning.hard_alone if certainty < self._tuning.clueless else self._tuning.hard_against

    def _hard_lines(self) -> list[Line]:
        """Return the lines that the reader of hard lines is asked about: the surest, and the best finds."""
        finds = sorted(self.lines, key=lambda line: -line.score)[:_HARD_FINDS]
        best = self._best
        return [line for line in (best, *(line for line in finds if line is not best)) if not line.lower_case]

    def _hard_word(self, line: Line, count: int) -> Line | None:
        """Return what the reader of hard lines says of ``line`` from up to ``count`` cuts.

        None where there is no such reader, where it says hardly anything, or where the line is cut off.
        """
        heard = self._heard.setdefault(line.corners.tobytes(), [])
        left = self._first_cuts[len(heard) : count]
        if self._nets.hard is not None and left:
            heard += self._nets.hard().read([self._cut(line.corners, margins) for margins in left])
        if not heard or is_cut(heard[0], grown(line.corners), (self._photo.width, self._photo.height)):
            return None
        word = replace(self._line(line.corners, line.score, *heard[:count]), hard=True)
        return word if word.certainty >= _HARDLY_ANY else None

    def _cut(self, corners: Floats, margins: CropMargins, lower_case: bool = False) -> Pixels:
        quad = self.view.from_photo(_moved(corners, margins))
        sides = _LOWER_CASE[0][2] if lower_case else 0.35
        return cut(self.view.pixels, quad, 0.05, 0.33, sides + margins.sides)

    def _look_turned(self) -> None:
        """Look at the photo turned, where nothing is found in it as it is."""
        if self.lines or not self._budget.pay(_FIRST_LOOK):
            return
        for quarters in self._nets.near.promising_turns(self.view.pixels):
            if self.lines or not self._budget.pay(_FIRST_LOOK):
                break
            self._find(self.view.rotated(quarters), self._nets.near)

    # ---------------------------------------------------------------------------------------- codes

    def _look_for_text_of(self, code: BarcodeVin) -> None:
        """Look for the printed VIN once more the way up that its code is, where it was not found."""
        quarters = _quarters(code.corners)
        read = any(vin == code.vin for line in self.lines for vin, _ in line.ranked[:4])
        if quarters and not read:
            self._find(self.view.rotated(quarters), self._nets.near)


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


def _are_one(corners: Floats, others: Floats) -> bool:
    """Whether two finds are the same line, read in the same direction."""
    along, along_others = corners[1] - corners[0], others[1] - others[0]
    longer = max(_length(corners), _length(others))
    if not longer or float(along @ along_others) < 0.8 * _length(corners) * _length(others):
        return False
    off = corners.mean(axis=0) - others.mean(axis=0)
    x, y = along / np.float32(_length(corners))
    ahead, beside = abs(float(off[0] * x + off[1] * y)), abs(float(off[1] * x - off[0] * y))
    return ahead < 0.25 * longer and beside < 0.7 * max(_height(corners), _height(others))


def _quarters(corners: Floats) -> int:
    """Return by how many quarters of a turn, anticlockwise, what has ``corners`` is to be turned upright."""
    x, y = (float(v) for v in corners[1] - corners[0])
    return (0 if x >= 0 else 2) if abs(x) >= abs(y) else (1 if y >= 0 else 3)


def _moved(corners: Floats, margins: CropMargins) -> Floats:
    """Return ``corners`` with their ends moved out and all of them moved down by ``margins``."""
    down = corners[[3, 2, 2, 3]] - corners[[0, 1, 1, 0]]
    along = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]]
    ends = np.array([[-margins.left], [margins.right], [margins.right], [-margins.left]], np.float32)
    moved: Floats = corners + down * np.float32(margins.down) + along * ends
    return moved


def _may_be_a_part(seen: str) -> bool:
    """Whether the characters ``seen`` in a line may be most of a VIN's, or a VIN's and others."""
    return 11 <= len(seen) <= 22 and sum(character.isdigit() for character in seen) >= 5


def _may_hold_a_vin(seen: str) -> bool:
    """Whether a maker's prefix and digits stand where a VIN, alone or with others, would have them.

    A character or two may be missing: it was but a glance.
    """
    starts = range(max(0, len(seen) - LENGTH + 3))
    return any(
        known_maker(seen[at:]) and sum(map(str.isdigit, seen[at : at + LENGTH])) >= _FEWEST_DIGITS
        for at in starts
    )


def _length(corners: NDArray[np.floating]) -> float:
    return float(np.hypot(*(corners[1] - corners[0])))


def _height(corners: NDArray[np.floating]) -> float:
    return float(np.hypot(*(corners[3] - corners[0])))
