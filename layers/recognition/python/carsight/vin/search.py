"""The search of one photo for its VINs: where to look, what to read there, and when to stop.

Each step first asks whether it is worthwhile and within the budget (see ``Search``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Protocol

import numpy as np

from carsight.detector import Detector
from carsight.geometry import Box
from carsight.photo import Photo
from carsight.vin import text_lines
from carsight.vin.barcodes import BarcodeVin
from carsight.vin.code_search import CodeSearch
from carsight.vin.line_reader import Floats, height, length
from carsight.vin.ranking import Ranking, find_window, merge_rankings
from carsight.vin.readers import FEWEST_CHARACTERS, Line, ReaderNets, Readers
from carsight.vin.rules import LENGTH, is_valid, known_maker
from carsight.vin.tuning import Budget, CropMargins
from carsight.vin.views import View

_WORKING_SIDE = 1600
"""Longer side in pixels at which a photo is searched, at least; small text is read at full size."""

_DETECTOR_COST, _CLOSER_COST, _CORNERS_COST, _GLANCE_COST = 0.6, 2.5, 0.4, 0.25
"""What it costs, in crops read (see ``Budget``), to run the detector on a photo, and on a larger one; to have
it look at a find again for its corners; and to have the small reader glance at a crop."""

_BORDER, _NEAR_AN_EDGE = 0.3, 0.15
"""Width of the gray border laid round a photo, in shares of its longer side; and how close to the photo's
edge a find calls for it, in its lengths."""

_SHRUNK = 1.2
"""A photo this many times the detector's side is worth a closer look."""

_HALF_TURN, _QUARTER_TURNS = [2, 3, 0, 1], [[1, 2, 3, 0], [3, 0, 1, 2]]
"""The order of the corners of a line that is upside down, and of one on either side."""

_HARDLY_LONGER = 0.7
"""A find at least this high, in its lengths, may be on its side."""

_PARALLEL, _AHEAD, _BESIDE = 0.8, 0.25, 0.7
"""Two finds are one line if the cosine of the angle between them is the first, and their middles are no
farther apart than the second, in lengths along the text, and the third, in heights across it."""

_SAME_PLACE = 0.5
"""Two finds are at one place if their middles are no farther apart, in heights."""

_TEXTS_OF_A_LINE = 4
"""Among how many of a line's likeliest texts that of a code may be to have been found in print."""

_LEAST_TILT, _MOST_TILT = 4.0, 80.0
"""Degrees of a find's tilt between which the photo is turned level and searched again."""

_LINE_SHAPE = 4.0
"""A photo this many times longer than its shorter side may be a line and nothing else."""

_OTHER_NUMBERS = 2
"""Where so many lines of 17 characters are legible and no VINs, a VIN would have been found beside them."""

_PART_OF_A_VIN = range(11, 23)
"""How many characters a line may show that is most of a VIN, or a VIN and others."""

_MISSING_CHARACTERS, _LENGTHENED = 3, 0.1
"""How many characters of a VIN a line may lack at its ends; how much longer either end is read then."""

_SHORTEST_PRINT, _LONGEST_PRINT, _LIKELY_PRINT = 13, 45, 21
"""How many characters a printed line may have, by their outlines, to hold a VIN, from and to; those nearest
to the last are considered first."""

_PRINTED_LINES, _PRINTED_CONSIDERED = 6, 10
"""How many printed lines the small reader glances at, those that end in capitals first; of how many."""

_LONGEST_GLANCE, _UNSEEN = 40, 2
"""Characters that a line may show at a glance, at most, to be read in full; how many of a VIN's may be
missing there."""

_PRINTED_READ = 2
"""How many of these lines are read in full, those that look like a VIN first."""

_PRINTED_PAIRS = 4
"""How many pairs of printed lines it glances at."""

_MOST_IN_A_CROP = 32
"""Characters from which on no reader can make any out in one crop."""

_FEWEST_DIGITS = 5
"""A line that shows fewer digits consists of words."""

_HARDLY_MORE = 2000.0
"""Odds below which neither its model nor a check digit that must hold speaks for a VIN."""

_NONE = 1e-9
"""Odds of what is surely no VIN."""

_SHORTEST_NAME = 1.2
"""Characters before a line from which on they may be a name: S/N takes 1.7 and more, noise up to 0.8."""


_NAME_PARTS = (12.0, 24.0)
"""How many characters before a number the crops begin, as long as a VIN, in which the small reader sees its
name: the second takes in what stands before "number" in longer names."""

_AROUND_NAME = CropMargins(sides=0.25)
"""Small letters reach beyond the corners that the detector finds of capitals and digits."""

_PREFIX = 3
"""Characters of a maker's prefix."""

_SPACE_BEHIND_NAME = 4.0
"""The widest space between a name and its number, in the pitch of the latter."""


class SearchNets(ReaderNets, Protocol):
    """The nets that a search asks, and its tuning: those of a ``VinRecognizer``."""

    near: Detector
    far: Detector
    """The same net, given the photo at about twice the size."""


class Search:
    """The search of one photo: what was found so far, and what may still be spent on finding more.

    Each step first asks whether it is worthwhile and within the ``Budget``, so that what a photo can cost is
    bounded. The reader of hard lines is outside the budget: it is asked about the few lines in doubt.
    """

    def __init__(self, nets: SearchNets, photo: Photo) -> None:
        self._nets = nets
        self._tuning = nets.tuning
        self._photo = photo
        self._prior_odds = cache(self._tuning.prior.odds)
        """Cached: two in three of the texts that a cut may say have come up in another cut."""
        self._other_numbers: dict[str, Floats] = {}
        """What looked like a VIN but was named as another number, and where."""
        self._budget = Budget(self._tuning.effort, self._tuning.promising_effort)
        self.view = View.of(photo, _WORKING_SIDE)
        self.lines: list[Line] = []
        self._certainty = 0.0
        self._codes = CodeSearch(self.view, self._budget, self.odds, enabled=self._tuning.barcodes)
        self.readers = Readers(nets, photo, self.view, self._budget, self.odds)

    def odds(self, vin: str) -> float:
        """Return the odds, any number above 0, that the 17 characters ``vin`` are a VIN's."""
        return _NONE if vin in self._other_numbers else self._prior_odds(vin)

    def run(self) -> None:
        """Search until something is sure or all steps are taken, the cheap and likely ones first."""
        for step in (
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
            self._ask_about_doubts,
            self._recut,
            self._look_turned,
            self._codes.look_harder,
        ):
            step()
            if self._sure:
                self._forget_other_numbers()
            if self._sure:
                break
        else:
            self._forget_other_numbers()
        if self.codes:
            self._look_for_text_of(self.codes[0])
        elif self.lines and self._best.ranked:
            self._codes.look_beside(self._best.vin, self._best.corners)

    def _forget_other_numbers(self) -> None:
        """Forget a VIN for which hardly more than its maker's prefix speaks, behind another number's name.

        One serial number in fifty begins like a listed maker's VIN.
        """
        while self.lines and self._best.ranked and self._certainty >= self._tuning.promising:
            line = self._best
            if self.odds(line.vin) >= _HARDLY_MORE or not self._is_named_otherwise(line):
                return
            self._other_numbers[line.vin] = line.corners
            self._keep(*self._take_lines())

    def _is_named_otherwise(self, line: Line) -> bool:
        """Whether the name of another number stands before ``line``."""
        from carsight.vin.names import names_another_number  # seldom needed

        return names_another_number(self._seen_before(line))

    def _take_lines(self) -> list[Line]:
        """Return all lines and leave none."""
        taken, self.lines = self.lines, []
        return taken

    def _is_another_number(self, line: Line) -> bool:
        """Whether ``line`` is a number that was forgotten, or another find of it."""
        return any(vin == line.vin or _are_one(line.corners, of) for vin, of in self._other_numbers.items())

    def _seen_before(self, line: Line) -> list[str]:
        """Return what the small reader sees of the text before ``line``: its last part, and the one before.

        Where there is no room for a name that is nothing: some makers' prefixes begin with PN.
        """
        whole = text_lines.whole_line(self.view, line.corners, LENGTH, _SPACE_BEHIND_NAME)
        room = math.dist(whole[0], line.corners[0]) * LENGTH / max(length(line.corners), 1e-3)
        step = (line.corners[[1, 2]] - line.corners[[0, 3]]) / np.float32(LENGTH)
        seen = []
        for least, most in zip((_SHORTEST_NAME, _NAME_PARTS[0]), _NAME_PARTS, strict=True):
            if room > least:
                before = min(room, most)
                left = line.corners[[0, 3]] - step * np.float32(before)
                right = left + step * np.float32(LENGTH)
                crop = self.readers.cut(np.stack([left[0], *right, left[1]]), _AROUND_NAME)
                text = self._nets.small.glance(crop, 1.0).greedy
                begins = text.rfind(line.vin[:_PREFIX])
                seen.append(text[:begins] if begins >= 0 else text[: round(before)])
        return seen

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
            if best.hard or (self._certainty >= enough and best.is_seen):
                return True
        return self._codes.sure

    @property
    def _best(self) -> Line:
        """The line that is by itself the most certain."""
        return max(self.lines, key=lambda line: line.certainty)

    # ---------------------------------------------------------------------------------------- lines

    def _look_first(self) -> None:
        self._find(self.view, self._nets.near)

    def _find(self, view: View, detector: Detector) -> None:
        """Read the lines that ``detector`` finds in ``view`` until one is sure."""
        for found in detector.detect(view.pixels):
            corners = view.to_photo(found.corners)
            if self._is_known(corners):
                continue
            if not self._budget.pay(_CORNERS_COST + 1):
                break
            self._keep(self.readers.read(corners, found.score))
            if self._sure:
                break

    def _keep(self, *lines: Line) -> None:
        """Add ``lines``; where one is another find of a line of small text, the cuts of both are pooled.

        Of 147 photos sent in eight ways, 2 to 18 more of each are right, with one wrong per way, than if
        every cut votes on its own. Larger text is read alike from every cut, even if wrongly.
        """
        for line in lines:
            if self._is_another_number(line):
                line = replace(line, ranked=(), hard=False)
            index = self._index_of(line)
            if index is None:
                self.lines.append(line)
                continue
            other = self.lines[index]
            best, rest = (line, other) if line.certainty > other.certainty else (other, line)
            score = max(line.score, other.score)
            pooled_line = self.readers.line(best.corners, score, *best.cuts, *rest.cuts)
            self.lines[index] = replace(pooled_line, lower_case=best.lower_case)
        merged = self._merged
        self._certainty = merged[0][1] if merged else 0.0
        self._budget.promising = self._certainty >= self._tuning.promising

    def _index_of(self, line: Line) -> int | None:
        """Return the index of the line of small text that ``line`` is another find of."""
        if not line.ranked or not self.readers.is_small(line):
            return None
        for index, other in enumerate(self.lines):
            if other.ranked and _are_one(line.corners, other.corners):
                return index
        return None

    def _flip(self) -> None:
        """Read the best find the other way up, unless legible: its corners may begin at the wrong end."""
        if not self.lines or self._certainty >= self._tuning.upright:
            return
        line = max(self.lines, key=lambda line: line.score)
        seen = line.reading.greedy
        words = _digits(seen) < _FEWEST_DIGITS // 2
        if line.is_legible or len(seen) < FEWEST_CHARACTERS or words:
            return
        orders = [_HALF_TURN]
        if height(line.corners) > _HARDLY_LONGER * length(line.corners):
            orders += _QUARTER_TURNS
        for order in orders:
            self._read_turned(line, order)

    def _read_turned(self, line: Line, order: list[int]) -> None:
        """Read ``line`` with its corners in another ``order``, if the budget allows."""
        if self._budget.pay(1):
            self._keep(self.readers.read(line.corners[order], line.score))

    def _look_level(self) -> None:
        """Turn the photo level with its best find and search it, where that is tilted and may be no VIN.

        Of lines tilted by more than 10 degrees the detector finds the place better than the corners. Of 147
        photos sent tilted by 8 degrees counterclockwise 133 are right and none wrong without it, 139 with it.
        What was upside down still is, and is read the other way up as well.
        """
        if not self.lines or self._certainty >= self._tuning.likely:
            return
        line = max(self.lines, key=lambda line: line.score)
        x, y = (float(v) for v in line.corners[1] - line.corners[0])
        tilt = math.degrees(math.atan2(y, x) if x >= 0 else math.atan2(-y, -x))
        other = line.is_legible and line.certainty < self._tuning.promising
        if _LEAST_TILT < abs(tilt) < _MOST_TILT and not other:
            # The detector takes the bars of tilted papers for lines. Reading those in vain, and once more
            # when level, would spend what the search for codes needs later.
            if self._certainty < self._tuning.promising:
                self._codes.glance_at_bars()
                if self._sure:
                    return
            self._budget.allow(self._tuning.level_effort)
            self._budget.pay(_DETECTOR_COST)
            known = len(self.lines)
            self._find(self.view.tilted(tilt), self._nets.near)
            found = self.lines[known:]
            if found and self._certainty < self._tuning.upright:
                self._read_turned(max(found, key=lambda line: line.score), _HALF_TURN)

    def _trim(self) -> None:
        """Read lines again whose text is much shorter than they are, cut to the text."""
        for line in list(self.lines):
            worth = line.certainty >= self._tuning.promising and line.is_longer_than_text
            if worth and self._budget.pay(1):
                self._keep(self.readers.read(line.text_corners, line.score))

    def _look_with_border(self) -> None:
        """Search the photo with a gray border if a find is near its edge or promising, or none was made.

        The detector wants surroundings: of 50 photos cut to their VIN's box 33 are read without, 45 with
        them.
        """
        size = np.array([self._photo.width, self._photo.height], np.float32)
        near = any(
            min(line.corners.min(), (size - line.corners).min()) < _NEAR_AN_EDGE * length(line.corners)
            for line in self.lines
        )
        worth = near or not self.lines or self._certainty >= self._tuning.promising
        if worth and self._budget.pay(_DETECTOR_COST):
            self._find(self.view.bordered(_BORDER), self._nets.near)

    def _read_whole(self) -> None:
        """Read the whole photo as a line, where it has the shape of one: so an app's viewfinder crops it."""
        right, bottom = self._photo.width, self._photo.height
        if max(right, bottom) < _LINE_SHAPE * min(right, bottom):
            return
        whole = np.array([(0, 0), (right, 0), (right, bottom), (0, bottom)], np.float32)
        orders = [[0, 1, 2, 3]] if right > bottom else [[3, 0, 1, 2], [1, 2, 3, 0]]
        for order in orders:
            if self._budget.pay(1):
                self._keep(self.readers.read(whole[order], 0.0))

    def _look_closer(self) -> None:
        """Search the photo larger if the detector saw it shrunk, unless it clearly shows other numbers."""
        other = sum(line.is_legible and line.certainty < self._tuning.promising for line in self.lines)
        if other >= _OTHER_NUMBERS:
            return
        shrunk = self.view.width * self.view.height > (_SHRUNK * self._tuning.sides[0]) ** 2
        if shrunk and self._budget.pay(_CLOSER_COST):
            self._find(self.view, self._nets.far)

    def _widen(self) -> None:
        """Read what may be a part of a VIN again with all that stands beside it."""
        parts = [line for line in self.lines if _may_be_a_part(line.reading.greedy)]
        # What is read upside down is less clear.
        for line in sorted(parts, key=lambda line: -len(line.reading.greedy) * line.reading.clarity)[:1]:
            seen = len(line.reading.greedy)
            wholes = [text_lines.whole_line(self.view, line.corners, seen)]
            if LENGTH - _MISSING_CHARACTERS <= seen < LENGTH:  # faint characters at an end
                longer = CropMargins(left=_LENGTHENED, right=_LENGTHENED)
                wholes.insert(0, longer.moved(line.corners))
            for whole in wholes:
                if self._certainty < self._tuning.promising and self._budget.pay(1):
                    self._keep(self.readers.read(whole, line.score))

    def _read_print(self) -> None:
        """Read lines of clear print that the detector missed, and those that stand one under the other.

        The small reader glances at each: only one with enough characters and digits is read in full. These
        glances, and reading what then looks like a VIN, may exceed the budget, which on papers is often spent
        on their other numbers.
        """
        for view in self._upright_views():
            if self._certainty >= self._tuning.likely:
                break
            self._read_lines(text_lines.find_lines(view))

    def _upright_views(self) -> Iterator[View]:
        """Yield the photo as it is or, where its clearest line is sideways or upside down, turned upright.

        If not even that line is clear, a photo that was turned is yielded turned the other way, too.
        """
        lines = [line for line in self.lines if len(line.reading.greedy) >= FEWEST_CHARACTERS]
        line = max(lines, key=lambda line: line.reading.clarity, default=None)
        quarters = 0 if line is None else _quarters(line.corners)
        yield self.view.rotated(quarters) if quarters else self.view
        if line is not None and quarters and line.reading.clarity < self._tuning.clear:
            yield self.view.rotated(4 - quarters) if quarters % 2 else self.view

    def _read_lines(self, found: list[text_lines.TextLine]) -> None:
        """Read the likeliest of the lines ``found``, alone and in pairs."""
        likely = [
            line
            for line in found
            if _SHORTEST_PRINT <= line.characters <= _LONGEST_PRINT and not self._is_known(line.corners)
        ]
        promising: list[tuple[bool, int, text_lines.TextLine, text_lines.SetText]] = []
        near = sorted(likely, key=lambda line: abs(line.characters - _LIKELY_PRINT))[:_PRINTED_CONSIDERED]
        texts = [(line, text_lines.set_close(self.view, line.corners)) for line in near]
        for line, text in sorted(texts, key=lambda each: not each[1].ends_in_capitals)[:_PRINTED_LINES]:
            text, seen = self._glance_at_ends(text)
            if LENGTH - _UNSEEN <= len(seen) <= _LONGEST_GLANCE and _digits(seen) >= _FEWEST_DIGITS:
                promising.append((not _may_hold_a_vin(seen), abs(len(seen) - LENGTH), line, text))
        for other, _, line, text in sorted(promising, key=lambda each: each[:2])[:_PRINTED_READ]:
            if self._sure:
                break
            if not text.changed and self._certainty >= self._tuning.promising:
                continue
            if not other:
                self._budget.pay_beyond(1)
            elif not self._budget.pay(1):
                break
            if text.changed:
                self._keep(self._read_set(text, line.corners))
            else:
                self._keep(self.readers.read(line.corners, 0.0))
        if self._certainty < self._tuning.promising:
            self._read_pairs(text_lines.pairs(found, _PRINTED_PAIRS))

    def _read_pairs(self, pairs: list[tuple[text_lines.TextLine, text_lines.TextLine]]) -> None:
        """Read two lines as one where the small reader, at a glance, sees a maker's prefix and digits."""
        for upper, lower in pairs:
            if self._sure:
                break
            text = text_lines.side_by_side(self.view, (upper, lower))
            if _may_hold_a_vin(self._glance(text)):
                self._budget.pay_beyond(1)
                corners = np.stack([*upper.corners[:2], *lower.corners[2:]])
                self._keep(replace(self._read_set(text, corners), corners=corners))

    def _glance(self, text: text_lines.SetText) -> str:
        """Return what the small reader sees in ``text``, however little of the budget is left."""
        self._budget.spend(_GLANCE_COST)
        return self._nets.small.glance(text.crop(), 1.0).greedy

    def _glance_at_ends(self, text: text_lines.SetText) -> tuple[text_lines.SetText, str]:
        """Glance at the ends of a long ``text``, else at all of it if that is legible in one crop.

        Return what was glanced at, and the characters seen there.
        """
        for end in text.ends():
            seen = self._glance(end)
            if len(seen) >= LENGTH - 1 and _may_hold_a_vin(seen):
                return end, seen
        return text, self._glance(text) if len(text.begins) < _MOST_IN_A_CROP else ""

    def _read_set(self, text: text_lines.SetText, corners: Floats) -> Line:
        """Read ``text``, which was set from the line with ``corners``."""
        reader = self.readers.reader()
        (reading,) = reader.read([text.crop()])
        lower_case = False
        if text.lower_case:  # or it is worn: then both readers see the same
            (other,) = self._nets.small.read([text.crop()])
            lower_case = self.readers.likeliest(other)[0] != self.readers.likeliest(reading)[0]
        if lower_case:
            reader, reading = self._nets.small, other
        span = find_window(reading, self.odds, text.crop_places())
        if span is not None:  # other characters stand beside it, such as its name
            text = text.part(span)
            (reading,) = reader.read([text.crop()])
        place = text if reading.span is None else text.part(reading.span)
        return replace(self.readers.line(place.corners(corners), 0.0, reading), lower_case=lower_case)

    def _is_known(self, corners: Floats) -> bool:
        """Whether a line was read at about ``corners`` that clearly shows something other than a VIN."""
        middle = corners.mean(axis=0)
        near = _SAME_PLACE * height(corners)
        return any(
            line.is_legible
            and line.certainty < self._tuning.promising
            and float(np.hypot(*(line.corners.mean(axis=0) - middle))) < near
            for line in self.lines
        )

    def _recut(self) -> None:
        """Read a doubtful line from several cuts: what they agree on is surer, what they contradict less so.

        This ends early where the line is sure, or less certain than before and than ``hopeless``: of 186
        doubtful lines, in 147 photos sent in eleven ways, the same 102 are answered rightly and one wrongly
        as if all cuts were read, which are a sixth more. No line less certain than ``likely`` came right.
        """
        before = self._certainty
        if before < self._tuning.likely or (before >= self._tuning.enough and self._best.is_seen):
            return
        corners, lower_case = self._best.corners, self._best.lower_case
        reader = self.readers.reader(lower_case=lower_case)
        for number, margins in enumerate(self._tuning.cuts, start=1):
            if not self._budget.pay(1):
                return
            (reading,) = reader.read([self.readers.cut(corners, margins, lower_case=lower_case)])
            self._keep(replace(self.readers.line(corners, 0.0, reading), lower_case=lower_case))
            if self._sure or (number > 1 and self._certainty < min(before, self._tuning.hopeless)):
                return

    def _ask_at_once(self) -> None:
        """Ask the reader of hard lines about the best line, if in doubt, while it agrees with the others.

        Nearly everything it is believed in the end it reads at once, and what is tried in between takes ten
        times as long. Where it reads another VIN it is less reliable, and everything else is tried first.
        """
        if not self._is_in_doubt or self._best.lower_case:
            return
        line = self._best
        vin, certainty = self._merged[0]
        for count in range(1, self._tuning.hard_cuts_at_once + 1):
            hard = self.readers.read_hard(line, count)
            if hard is None or hard.vin != vin or hard.certainty < self._tuning.likely:
                return
            mean = (hard.certainty + certainty) / 2
            if count > 1 and (hard.certainty >= self._tuning.hard_agreed or mean >= self._tuning.agreed):
                self.lines = [hard.at_text()]
                return

    def _ask_about_doubts(self) -> None:
        """Ask the reader of hard lines about what is still in doubt; its reading, if believed, is the answer.

        It learned struck metal above all. There it sees more than the VIN reader; of small text it is sure of
        more that is wrong.
        """
        if not self._is_in_doubt:
            return
        likeliest = self._merged[0]
        heard: list[Line] = []
        for line in self._hard_lines():
            hard: Line | None = None
            for count, enough in self._tuning.hard_cuts:
                hard = self.readers.read_hard(line, count)
                if hard is None or hard.certainty < self._tuning.hard_promising:
                    break
                if hard.certainty >= max(enough, self._hard_threshold(hard.vin, *likeliest)):
                    self.lines = [hard.at_text()]
                    return
            heard += [] if hard is None else [hard]
        surest = max(heard, key=lambda hard: hard.certainty, default=None)
        if surest is not None and self._is_plain(surest) and all(hard.vin == surest.vin for hard in heard):
            self.lines = [surest.at_text()]

    def _is_plain(self, hard: Line) -> bool:
        """Whether what the reader of hard lines made of ``hard`` may be believed, whatever others see.

        Of small text, and where the rules of VINs say more than the pixels, what it is sure of is too often
        wrong.
        """
        enough = hard.certainty >= self._tuning.hard_large and not self.readers.is_small(hard)
        return enough and self._is_makers(hard.vin) and (hard.is_seen or is_valid(hard.vin))

    def _is_makers(self, vin: str) -> bool:
        """Whether ``vin`` is of a known maker, and its check digit valid if it must be."""
        return self.odds(vin) >= self._tuning.prior.vin

    @property
    def _is_in_doubt(self) -> bool:
        """Whether a line may well be a VIN; asked where it is not sure."""
        return self._certainty > 0 and self._certainty >= self._tuning.promising

    @property
    def _merged(self) -> Ranking:
        return merge_rankings([line.ranked for line in self.lines], self.odds)

    def _hard_threshold(self, vin: str, likeliest: str, certainty: float) -> float:
        """Return how certain the reader of hard lines must be of ``vin``.

        ``likeliest`` is the VIN that the others hold likeliest, with that ``certainty``.
        """
        if not self._is_makers(vin):
            return math.inf
        if vin == likeliest:
            return self._tuning.hard_proven if is_valid(vin) else self._tuning.hard_agreed
        return self._tuning.hard_alone if certainty < self._tuning.clueless else self._tuning.hard_against

    def _hard_lines(self) -> list[Line]:
        """Return the lines for the reader of hard lines to read: the surest and the best finds."""
        finds = sorted(self.lines, key=lambda line: -line.score)[: self._tuning.hard_finds]
        best = self._best
        return [line for line in (best, *(line for line in finds if line is not best)) if not line.lower_case]

    def _look_turned(self) -> None:
        """Search the photo turned, where nothing is found in it as it is."""
        if self.lines or not self._budget.pay(_DETECTOR_COST):
            return
        for quarters in self._nets.near.promising_turns(self.view.pixels):
            if self.lines or not self._budget.pay(_DETECTOR_COST):
                break
            self._find(self.view.rotated(quarters), self._nets.near)

    # ---------------------------------------------------------------------------------------- codes

    def _look_for_text_of(self, code: BarcodeVin) -> None:
        """Search for the printed VIN the way up that its code is, where it was not found."""
        quarters = _quarters(code.corners)
        read = any(vin == code.vin for line in self.lines for vin, _ in line.ranked[:_TEXTS_OF_A_LINE])
        if quarters and not read:
            self._find(self.view.rotated(quarters), self._nets.near)


def _are_one(corners: Floats, others: Floats) -> bool:
    """Whether two finds are the same line, read in the same direction."""
    along, along_others = corners[1] - corners[0], others[1] - others[0]
    longer = max(length(corners), length(others))
    if not longer or float(along @ along_others) < _PARALLEL * length(corners) * length(others):
        return False
    off = corners.mean(axis=0) - others.mean(axis=0)
    x, y = along / np.float32(length(corners))
    ahead, beside = abs(float(off[0] * x + off[1] * y)), abs(float(off[1] * x - off[0] * y))
    return ahead < _AHEAD * longer and beside < _BESIDE * max(height(corners), height(others))


def _quarters(corners: Floats) -> int:
    """Return how many counterclockwise quarter turns bring what has ``corners`` upright."""
    x, y = (float(v) for v in corners[1] - corners[0])
    return (0 if x >= 0 else 2) if abs(x) >= abs(y) else (1 if y >= 0 else 3)


def _may_be_a_part(seen: str) -> bool:
    """Whether the characters ``seen`` in a line may be most of a VIN's, or a VIN's and others."""
    return len(seen) in _PART_OF_A_VIN and _digits(seen) >= _FEWEST_DIGITS


def _may_hold_a_vin(seen: str) -> bool:
    """Whether a maker's prefix and digits stand where a VIN, alone or with others, would have them.

    A character or two may be missing, as it was only a glance.
    """
    starts = range(max(0, len(seen) - LENGTH + _UNSEEN + 1))
    return any(known_maker(seen[at:]) and _digits(seen[at : at + LENGTH]) >= _FEWEST_DIGITS for at in starts)


def _digits(text: str) -> int:
    """Return how many digits ``text`` holds."""
    return sum(map(str.isdigit, text))
