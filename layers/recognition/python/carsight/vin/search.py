"""The search of one photo for its VINs: where to look, what to read there, and when to stop.

Each step first checks whether it is worthwhile and within the budget (see ``Search``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from carsight.detector import Detector
from carsight.geometry import Box, Floats
from carsight.photo import Photo
from carsight.vin import text_lines
from carsight.vin.barcodes import BarcodeVin
from carsight.vin.code_search import CodeSearch
from carsight.vin.finds import FEWEST_CHARACTERS, FEWEST_DIGITS, Finds, count_digits
from carsight.vin.line_reader import height, length
from carsight.vin.readers import Line, ReaderNets
from carsight.vin.rules import LENGTH, is_valid
from carsight.vin.tuning import Budget, CropMargins
from carsight.vin.views import View, quarters_to_upright

_WORKING_SIDE = 1600
"""The longer side, in pixels, of the photo as it is searched, at least; small text is read at full size."""

_DETECTOR_COST, _CLOSER_COST, _CORNERS_COST = 0.6, 2.5, 0.4
"""Costs, in crops read (see ``Budget``), of running the detector on a photo, on a larger one, and on a find
for its corners."""

_BORDER, _NEAR_AN_EDGE = 0.3, 0.15
"""Width of the gray border added around a photo, as a share of its longer side; and how close to the photo's
edge a find has to be for that, in the find's lengths."""

_SHRUNK = 1.2
"""A photo larger than the detector's side by this factor is worth a closer look."""

_HALF_TURN, _QUARTER_TURNS = [2, 3, 0, 1], [[1, 2, 3, 0], [3, 0, 1, 2]]
"""The orders of the corners of a line that is upside down, and of one that is on either side."""

_MIRRORED = [1, 0, 3, 2]
"""The order of the corners of a line in a mirror."""

_MISSING_IN_MIRROR = 2
"""How many characters the small reader may see more or less than 17 in such a line."""

_LESS_CLEAR = 0.05
"""By how much less clear than before, to the small reader, a line may look if it is turned and then read.

Of 257 lines in photos turned by quarters that are read rightly like this, none was less clear by more; of
five in the same photos upright, for which this is in vain, four were.
"""

_HARDLY_LONGER = 0.7
"""A find higher than this, in its lengths, may be on its side."""

_TEXTS_OF_A_LINE = 4
"""A code's VIN has been found in print if it is among this many of a line's likeliest texts."""

_LEAST_TILT, _MOST_TILT = 4.0, 80.0
"""The photo is turned level and searched again if a find is tilted by more and by less than this, in
degrees."""

_LINE_SHAPE = 4.0
"""A photo with at least this ratio of its sides may show a single line and nothing else."""

_OTHER_NUMBERS = 2
"""If so many lines are legible and not VINs, a VIN beside them would have been found."""

_PART_OF_A_VIN = range(11, 23)
"""How many characters may be seen in a line with most of a VIN, or with a VIN and other text."""

_MISSING_CHARACTERS, _LENGTHENED = 3, 0.1
"""How many characters of a VIN a line may lack at its ends, and by what share of its length it is then
lengthened at either end."""

_HARDLY_MORE = 2000.0
"""With lower odds, neither the vehicle descriptor nor a mandatory check digit confirms a VIN."""


class SearchNets(ReaderNets, Protocol):
    """The nets and the tuning of a search: those of a ``VinRecognizer``."""

    near: Detector
    """The detector of lines."""
    far: Detector
    """The same net, which gets the photo at about twice the size."""


class Search:
    """The search of one photo: what was found so far, and what may still be spent on finding more.

    Each step first checks whether it is worthwhile and within the ``Budget``, which limits the cost of a
    photo. The reader of hard lines is outside the budget, as it only reads the few lines in doubt.
    """

    def __init__(self, nets: SearchNets, photo: Photo) -> None:
        self._nets = nets
        self._tuning = nets.tuning
        self._photo = photo
        self._budget = Budget(self._tuning.effort, self._tuning.promising_effort)
        self.view = View.of(photo, _WORKING_SIDE)
        self.finds = Finds(nets, photo, self.view, self._budget)
        self._readers = self.finds.readers
        self._print_of = text_lines.print_of(self.view)
        self._codes = CodeSearch(self.view, self._budget, self.finds.odds, enabled=self._tuning.barcodes)
        self._lengthened: list[Line] = []

    def run(self) -> None:
        """Search until a VIN is sure or all steps have been taken, cheap and promising ones first."""
        for step in (
            self._look_first,
            self._ask_at_once,
            self._lengthen,
            self._look_level,
            self._flip,
            self._read_mirrored,
            self._codes.look,
            self._codes.look_at_bars,
            self._codes.look_at_dense_parts,
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
            self._forget_other_numbers,
        ):
            step()
            if self._sure:
                self._forget_other_numbers()
            if self._sure:
                break
        if self.codes:
            self._look_for_text_of(self.codes[0])
        elif self.finds.lines and self.finds.best.ranked:
            self._codes.look_beside(self.finds.best.vin, self.finds.best.corners)

    def _forget_other_numbers(self) -> None:
        """Forget VINs with hardly more evidence than a maker's prefix if they have another number's name.

        One serial number in fifty begins with a listed maker's prefix.
        """
        finds = self.finds
        while finds.lines and finds.best.ranked and finds.promising:
            line = finds.best
            if finds.odds(line.vin) >= _HARDLY_MORE or not self._is_named_otherwise(line):
                break
            finds.forget(line)

    def _is_named_otherwise(self, line: Line) -> bool:
        from carsight.vin import names  # seldom needed

        return names.is_named_otherwise(line, self.view, self._print_of, self._readers)

    @property
    def codes(self) -> list[BarcodeVin]:
        """The possible VINs that were read in codes."""
        return self._codes.found

    def box(self, corners: Floats) -> Box:
        """Return the box of ``corners``, inside the photo."""
        return Box.around(corners, self._photo.width, self._photo.height)

    @property
    def _sure(self) -> bool:
        """Whether the search may end."""
        return self.finds.sure or self._codes.sure

    # ---------------------------------------------------------------------------------------- lines

    def _look_first(self) -> None:
        self._find(self.view, self._nets.near)

    def _find(self, view: View, detector: Detector) -> list[Line]:
        """Read the lines that ``detector`` finds in ``view`` until one is sure; return the new ones."""
        known = len(self.finds.lines)
        for found in detector.detect(view.pixels):
            corners = view.to_photo(found.corners)
            if self.finds.is_known(corners):
                continue
            if not self._budget.pay(_CORNERS_COST + 1):
                break
            self.finds.keep(self._readers.read(corners, found.score))
            if self._sure:
                break
        return self.finds.lines[known:]

    def _flip(self) -> None:
        """Read the best find upside down, unless it is legible: its corners may begin at the wrong end."""
        if self.finds.lines:
            self._flip_best(self.finds.lines)

    def _flip_best(self, lines: Sequence[Line]) -> None:
        """Read the best find of ``lines`` (at least one) upside down, unless it is legible."""
        if self.finds.certainty >= self._tuning.upright:
            return
        line = _best_seen(lines)
        seen = line.reading.greedy
        words = count_digits(seen) < FEWEST_DIGITS // 2
        if line.is_legible or len(seen) < FEWEST_CHARACTERS or words:
            return
        orders = [_HALF_TURN]
        if height(line.corners) > _HARDLY_LONGER * length(line.corners):
            orders += _QUARTER_TURNS
        self._read_turned(line, orders)

    def _read_turned(self, line: Line, orders: Sequence[list[int]]) -> None:
        """Read ``line`` with its corners in the ``orders`` in which it looks as clear, within the budget."""
        # By one reader: the VIN reader, which may have read the line, is surer of text on its head.
        before = self._readers.glance(line.corners).clarity
        for order in orders:
            turned = line.corners[order]
            if self._readers.glance(turned).clarity >= before - _LESS_CLEAR and self._budget.pay(1):
                self.finds.keep(self._readers.read(turned, line.score))

    def _read_mirrored(self) -> None:
        """Read the best find mirrored if nothing is likely, as VINs etched into glass are seen from inside.

        The mirrored text has to be sure, or nearly so with a valid check digit, and of a known maker.
        """
        if not self.finds.lines or self.finds.promising:
            return
        line = _best_seen(self.finds.lines)
        mirrored = line.corners[_MIRRORED]
        seen = self._readers.glance(mirrored)
        if abs(len(seen.greedy) - LENGTH) > _MISSING_IN_MIRROR or seen.clarity < line.reading.clarity:
            return
        self._budget.pay_beyond(1)  # print and codes, which come later, need what is left
        read = self._readers.read(mirrored, line.score)
        least = self._tuning.agreed if is_valid(read.vin) else self._tuning.sure
        if read.certainty >= least and self._is_makers(read.vin):
            self.finds.keep(read)

    def _look_level(self) -> None:
        """If the best find is tilted and not certain to be a VIN, turn the photo level and search it again.

        The detector finds the place of lines tilted by more than 10 degrees better than their corners. Of 147
        photos tilted by 8 degrees counterclockwise 139 are right with this step and 133 without it, none
        wrong. Finds in the level photo may still be upside down, and are read that way as well.
        """
        if not self.finds.lines or self.finds.certainty >= self._tuning.likely:
            return
        line = _best_seen(self.finds.lines)
        x, y = (float(v) for v in line.corners[1] - line.corners[0])
        tilt = math.degrees(math.atan2(y, x) if x >= 0 else math.atan2(-y, -x))
        if _LEAST_TILT < abs(tilt) < _MOST_TILT and not self.finds.is_other_text(line):
            # The detector takes the bars of tilted papers for lines. Reading these in vain, and again when
            # level, would spend the budget that the search for codes needs later.
            if not self.finds.promising:
                self._codes.glance_at_bars()
                if self._sure:
                    return
            self._budget.allow(self._tuning.level_effort)
            self._budget.pay(_DETECTOR_COST)
            found = self._find(self.view.tilted(tilt), self._nets.near)
            if found and self.finds.certainty < self._tuning.upright:
                self._read_turned(_best_seen(found), [_HALF_TURN])

    def _trim(self) -> None:
        """Read lines that are much longer than their text again, cut to the text."""
        for line in list(self.finds.lines):
            worth = line.certainty >= self._tuning.promising and line.is_longer_than_text
            if worth and self._budget.pay(1):
                self.finds.keep(self._readers.read(line.text_corners, line.score))

    def _look_with_border(self) -> None:
        """Search the photo with a gray border if a find is near its edge or promising, or there is none.

        The detector needs surroundings: of 50 photos cropped to their VIN's box 33 are read without a border,
        and 45 with it.
        """
        size = np.array([self._photo.width, self._photo.height], np.float32)
        near = any(
            min(line.corners.min(), (size - line.corners).min()) < _NEAR_AN_EDGE * length(line.corners)
            for line in self.finds.lines
        )
        worth = near or not self.finds.lines or self.finds.promising
        if worth and self._budget.pay(_DETECTOR_COST):
            found = self._find(self.view.bordered(_BORDER), self._nets.near)
            if found:
                self._flip_best(found)

    def _read_whole(self) -> None:
        """Read the whole photo as a line if it has the shape of one, as crops of an app's viewfinder do."""
        right, bottom = self._photo.width, self._photo.height
        if max(right, bottom) < _LINE_SHAPE * min(right, bottom):
            return
        whole = np.array([(0, 0), (right, 0), (right, bottom), (0, bottom)], np.float32)
        orders = [[0, 1, 2, 3], _HALF_TURN] if right > bottom else _QUARTER_TURNS[::-1]
        for order in orders:
            if self._budget.pay(1):
                self.finds.keep(self._readers.read(whole[order], 0.0))
            if self.finds.certainty >= self._tuning.upright:
                break

    def _look_closer(self) -> None:
        """Search the photo at a larger size if it was shrunk, unless it clearly shows other numbers."""
        if sum(map(self.finds.is_other_text, self.finds.lines)) >= _OTHER_NUMBERS:
            return
        shrunk = self.view.width * self.view.height > (_SHRUNK * self._tuning.sides[0]) ** 2
        if shrunk and self._budget.pay(_CLOSER_COST):
            self._find(self.view, self._nets.far)

    def _lengthen(self) -> None:
        """Read the best find again, longer, if it clearly shows nearly as many characters as a VIN has.

        Otherwise what follows reads the same part of it in other ways first.
        """
        if self.finds.lines:
            line = _best_seen(self.finds.lines)
            if line.reading.clarity >= self._tuning.clear and _may_be_a_part(line.reading.greedy):
                self._lengthen_line(line)

    def _lengthen_line(self, line: Line) -> None:
        """Read ``line`` longer, once, if a few characters of a VIN may be missing or faint at its ends."""
        missing = LENGTH - len(line.reading.greedy)
        if 0 < missing <= _MISSING_CHARACTERS and all(line is not each for each in self._lengthened):
            self._lengthened.append(line)
            longer = CropMargins(left=_LENGTHENED, right=_LENGTHENED)
            self._read_whole_of(line, longer.moved(line.corners))

    def _read_whole_of(self, line: Line, corners: Floats) -> None:
        """Read the text within ``corners``, of which ``line`` may be a part, unless a VIN has been found."""
        if not self.finds.promising and self._budget.pay(1):
            self.finds.keep(self._readers.read(corners, line.score))

    def _widen(self) -> None:
        """Read a line that may be a part of a VIN again, with all text beside it."""
        parts = [line for line in self.finds.lines if _may_be_a_part(line.reading.greedy)]
        # Text that is read upside down is less clear.
        for line in sorted(parts, key=lambda line: -len(line.reading.greedy) * line.reading.clarity)[:1]:
            self._lengthen_line(line)
            if not self.finds.promising:
                whole = text_lines.whole_line(self.view, line.corners, len(line.reading.greedy))
                self._read_whole_of(line, whole)

    def _read_print(self) -> None:
        """Read lines of clear print that the detector missed."""
        from carsight.vin.print_search import PrintSearch  # only for papers, screens and hard photos

        PrintSearch(self.finds, self.view, self._print_of, self._nets.small, self._tuning, self._budget).run()

    def _recut(self) -> None:
        """Read a doubtful line from several cuts: it becomes more certain if they agree, and less otherwise.

        This ends early if the line is sure, or if its certainty is below ``hopeless`` and lower than before.
        Of 186 doubtful lines in 147 photos in eleven ways, 102 are answered rightly and one wrongly, the same
        as with all cuts, which are a sixth more. No line with a certainty below ``likely`` became right.
        """
        before = self.finds.certainty
        if before < self._tuning.likely or (before >= self._tuning.enough and self.finds.best.is_seen):
            return
        corners, lower_case = self.finds.best.corners, self.finds.best.lower_case
        reader = self._readers.reader(lower_case=lower_case)
        for number, margins in enumerate(self._tuning.cuts, start=1):
            if not self._budget.pay(1):
                return
            (reading,) = reader.read([self._readers.cut(corners, margins, lower_case=lower_case)])
            self.finds.keep(self._readers.line(corners, 0.0, reading)._replace(lower_case=lower_case))
            if self._sure or (number > 1 and self.finds.certainty < min(before, self._tuning.hopeless)):
                return

    def _ask_at_once(self) -> None:
        """Read the best line, if in doubt, with the reader of hard lines while that agrees with the others.

        Nearly all readings for which it is trusted in the end are the same here, and the steps in between
        take ten times as long. If it reads another VIN it is less reliable, and all other steps come first.
        """
        if not self._is_in_doubt or self.finds.best.lower_case:
            return
        line = self.finds.best
        vin, certainty = self.finds.merged[0]
        for count in range(1, self._tuning.hard_cuts_at_once + 1):
            hard = self._readers.read_hard(line, count)
            if hard is None or hard.vin != vin or hard.certainty < self._tuning.likely:
                return
            mean = (hard.certainty + certainty) / 2
            if count > 1 and (hard.certainty >= self._tuning.hard_agreed or mean >= self._tuning.agreed):
                self.finds.settle(hard)
                return

    def _ask_about_doubts(self) -> None:
        """Read lines still in doubt with the reader of hard lines; its reading, if trusted, is the answer.

        It was trained on stamped metal above all. There it sees more than the VIN reader; on small text it is
        more often sure of wrong readings.
        """
        if not self._is_in_doubt or self.finds.best.lower_case:
            return
        likeliest = self.finds.merged[0]
        heard: list[Line] = []
        for line in self._hard_lines():
            hard: Line | None = None
            for count, enough in self._tuning.hard_cuts:
                hard = self._readers.read_hard(line, count)
                if hard is None or hard.certainty < self._tuning.hard_promising:
                    break
                if hard.certainty >= max(enough, self._hard_threshold(hard.vin, *likeliest)):
                    self.finds.settle(hard)
                    return
            heard += [] if hard is None else [hard]
        surest = max(heard, key=lambda hard: hard.certainty, default=None)
        if surest is not None and self._is_plain(surest) and all(hard.vin == surest.vin for hard in heard):
            self.finds.settle(surest)

    def _is_plain(self, hard: Line) -> bool:
        """Whether ``hard``, by the reader of hard lines, may be trusted whatever the other readers see.

        On small text, and if the VIN follows more from the rules than from the pixels, its sure readings are
        too often wrong.
        """
        enough = hard.certainty >= self._tuning.hard_large and not self._readers.is_small(hard)
        return enough and self._is_makers(hard.vin) and (hard.is_seen or is_valid(hard.vin))

    def _is_makers(self, vin: str) -> bool:
        """Whether ``vin`` has a known maker's prefix, and a valid check digit if that is mandatory."""
        return self.finds.odds(vin) >= self._tuning.prior.vin

    @property
    def _is_in_doubt(self) -> bool:
        """Whether a line may be a VIN; used only when none is sure."""
        return self.finds.certainty > 0 and self.finds.promising

    def _hard_threshold(self, vin: str, likeliest: str, certainty: float) -> float:
        """Return the certainty that the reader of hard lines needs for ``vin``.

        ``likeliest`` is the likeliest VIN of the other readers, with its ``certainty``.
        """
        if not self._is_makers(vin):
            return math.inf
        if vin == likeliest:
            return self._tuning.hard_proven if is_valid(vin) else self._tuning.hard_agreed
        return self._tuning.hard_alone if certainty < self._tuning.clueless else self._tuning.hard_against

    def _hard_lines(self) -> list[Line]:
        """Return the lines for the reader of hard lines: the most certain one and the best finds."""
        finds = sorted(self.finds.lines, key=lambda line: -line.score)[: self._tuning.hard_finds]
        best = self.finds.best
        return [line for line in (best, *(line for line in finds if line is not best)) if not line.lower_case]

    def _look_turned(self) -> None:
        """Search the photo in other orientations if it has no find."""
        if self.finds.lines or not self._budget.pay(_DETECTOR_COST):
            return
        for quarters in self._nets.near.promising_turns(self.view.pixels):
            if self.finds.lines or not self._budget.pay(_DETECTOR_COST):
                break
            self._find(self.view.rotated(quarters), self._nets.near)

    # ---------------------------------------------------------------------------------------- codes

    def _look_for_text_of(self, code: BarcodeVin) -> None:
        """Search for the printed VIN of ``code``, if it was not found, in the code's orientation."""
        quarters = quarters_to_upright(code.corners)
        read = any(vin == code.vin for line in self.finds.lines for vin, _ in line.ranked[:_TEXTS_OF_A_LINE])
        if quarters and not read:
            self._find(self.view.rotated(quarters), self._nets.near)


def _best_seen(lines: Sequence[Line]) -> Line:
    """Return the one of ``lines`` (at least one) with the detector's highest score."""
    return max(lines, key=lambda line: line.score)


def _may_be_a_part(seen: str) -> bool:
    """Whether the characters ``seen`` in a line may be most of a VIN, or a VIN and other text."""
    return len(seen) in _PART_OF_A_VIN and count_digits(seen) >= FEWEST_DIGITS
