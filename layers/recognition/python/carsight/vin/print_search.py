"""The search of one photo for clear print that the detector missed: in groups, behind its name, on two lines.

The small reader glances at each line: only one with enough characters and digits is read in full. These
glances, and reading what then looks like a VIN, may exceed the budget, which on papers is often spent on
their other numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from carsight.geometry import Floats
from carsight.vin import text_lines
from carsight.vin.finds import FEWEST_CHARACTERS, FEWEST_DIGITS, Finds, count_digits
from carsight.vin.line_reader import LineReader
from carsight.vin.ranking import find_window
from carsight.vin.readers import Line
from carsight.vin.rules import LENGTH, known_maker
from carsight.vin.text_lines import Pair, Print, SetText, TextLine
from carsight.vin.tuning import Budget, VinTuning
from carsight.vin.views import View, quarters_to_upright

_GLANCE_COST = 0.25
"""What it costs, in crops read (see ``Budget``), to have the small reader glance at a crop."""

_SHORTEST, _LONGEST, _LIKELIEST = 13, 45, 21
"""How many characters a line may have, as its length tells, to hold a VIN, from and to; those nearest to the
last are considered first."""

_SHORTEST_NARROW = 8
"""The same of narrow print, whose characters are counted."""

_SHORTEST_OF_TWO = 6
"""How many characters, by their outlines, the longer of two lines of a VIN has at least."""

_CONSIDERED, _GLANCED_AT, _READ = 16, 6, 2
"""How many lines are considered; at how many of these the small reader glances, those that end in capitals
first, and of these those that have a VIN's number of characters; how many of these are read in full, those
that look like a VIN first."""

_PAIRS = 4
"""How many pairs of lines it glances at."""

_LONGEST_GLANCE, _UNSEEN = 40, 2
"""Characters that a line may show at a glance, at most, to be read in full; how many of a VIN's may be
missing there."""

_MOST_IN_A_CROP = 32
"""Characters from which on no reader can make any out in one crop."""


class _Glance(NamedTuple):
    """A line, its ``text`` set anew, or an end of that, and the characters ``seen`` there."""

    line: TextLine
    text: SetText
    seen: str

    @property
    def is_worthwhile(self) -> bool:
        """Whether the line may be read in full."""
        fits = LENGTH - _UNSEEN <= len(self.seen) <= _LONGEST_GLANCE
        return fits and count_digits(self.seen) >= FEWEST_DIGITS

    @property
    def looks_like_a_vin(self) -> bool:
        """Whether a VIN may be among the characters."""
        return _may_hold_a_vin(self.seen)


@dataclass(frozen=True, slots=True)
class PrintSearch:
    """Reads clear print in the photo of ``view``, and adds the lines to ``finds``."""

    finds: Finds
    view: View
    print_of: Print
    small: LineReader
    tuning: VinTuning
    budget: Budget

    def run(self) -> None:
        """Read the likeliest lines, and those that stand one under the other."""
        for quarters in self._turns():
            if self.finds.certainty >= self.tuning.likely:
                break
            lines = self.print_of(quarters)
            self._read_lines(lines)
            if not self.finds.promising:
                self._read_pairs(text_lines.pairs(self.view, lines, _PAIRS))

    def _turns(self) -> Iterator[int]:
        """Yield by how many quarters to turn the photo to have its print upright, as its clearest line says.

        If not even that line is clear, a photo that was turned is turned the other way, too; if the detector
        found no line, it is turned so that print is level, and then upside down.
        """
        lines = [line for line in self.finds.lines if len(line.reading.greedy) >= FEWEST_CHARACTERS]
        line = max(lines, key=lambda line: line.reading.clarity, default=None)
        if line is None:
            for quarters in (0, 1):
                found = self._lines(quarters)
                if any(each.characters >= _SHORTEST_OF_TWO for each in found):
                    yield quarters
                    yield quarters + 2
                if len(found) > 1:  # sideways print looks like a line at most
                    break
            return
        quarters = quarters_to_upright(line.corners)
        yield quarters
        if quarters and line.reading.clarity < self.tuning.clear:
            yield 4 - quarters if quarters % 2 else 0

    def _lines(self, quarters: int) -> list[TextLine]:
        """Return the lines of print once turned counterclockwise by so many quarters, without titles."""
        return [line for line in self.print_of(quarters) if line.characters >= text_lines.SHORTEST_LINE]

    def _read_lines(self, lines: Sequence[TextLine]) -> None:
        """Read the likeliest of ``lines``."""
        glances = [glance for glance in self._glances(lines) if glance.is_worthwhile]
        glances.sort(key=lambda each: (not each.looks_like_a_vin, abs(len(each.seen) - LENGTH)))
        for glance in glances[:_READ]:
            if self.finds.sure:
                break
            line, text = glance.line, glance.text
            if not text.changed and self.finds.promising:
                continue
            if glance.looks_like_a_vin:
                self.budget.pay_beyond(1)
            elif not self.budget.pay(1):
                break
            if text.changed:
                self.finds.keep(self._read_set(text, line.corners))
            else:
                self.finds.keep(self.finds.readers.read(line.corners, 0.0))

    def _glances(self, lines: Sequence[TextLine]) -> Iterator[_Glance]:
        """Glance at those of ``lines`` that may hold a VIN by their length and their heights."""
        likely = [
            line
            for line in lines
            if _SHORTEST_NARROW <= line.characters <= _LONGEST and not self.finds.is_known(line.corners)
        ]
        likely.sort(key=lambda line: abs(line.characters - _LIKELIEST))
        texts = [(line, text_lines.set_close(self.view, line.corners)) for line in likely[:_CONSIDERED]]
        texts = [each for each in texts if each[0].characters >= _SHORTEST or each[1].may_be_a_vin]
        texts.sort(key=lambda each: (not each[1].ends_in_capitals, not each[1].may_be_a_vin))
        for line, text in texts[:_GLANCED_AT]:
            yield self._glance_at_ends(line, text)

    def _glance_at_ends(self, line: TextLine, text: SetText) -> _Glance:
        """Glance at the ends of a long ``text``, else at all of it if that is legible in one crop."""
        for end in text.ends():
            seen = self._glance(end)
            if len(seen) >= LENGTH - 1 and _may_hold_a_vin(seen):
                return _Glance(line, end, seen)
        return _Glance(line, text, self._glance(text) if len(text.begins) < _MOST_IN_A_CROP else "")

    def _glance(self, text: SetText) -> str:
        """Return what the small reader sees in ``text``, however little of the budget is left."""
        self.budget.spend(_GLANCE_COST)
        return self.small.glance(text.crop(), 1.0).greedy

    def _read_pairs(self, pairs: Sequence[Pair]) -> None:
        """Read two lines as one where the small reader, at a glance, sees a maker's prefix and digits."""
        for upper, lower, text in pairs:
            if self.finds.sure:
                break
            if _may_hold_a_vin(self._glance(text)):
                self.budget.pay_beyond(1)
                corners = np.stack([*upper.corners[:2], *lower.corners[2:]])
                self.finds.keep(replace(self._read_set(text, corners), corners=corners))

    def _read_set(self, text: SetText, corners: Floats) -> Line:
        """Read ``text``, which was set from the line with ``corners``."""
        reader = self.finds.readers.reader()
        (reading,) = reader.read([text.crop()])
        lower_case = False
        if text.lower_case:  # or it is worn: then both readers see the same
            (other,) = self.small.read([text.crop()])
            lower_case = self.finds.readers.likeliest(other)[0] != self.finds.readers.likeliest(reading)[0]
        if lower_case:
            reader, reading = self.small, other
        span = find_window(reading, self.finds.odds, text.crop_places())
        if span is not None:  # other characters stand beside it, such as its name
            text = text.part(span)
            (reading,) = reader.read([text.crop()])
        place = text if reading.span is None else text.part(reading.span)
        return replace(self.finds.readers.line(place.corners(corners), 0.0, reading), lower_case=lower_case)


def _may_hold_a_vin(seen: str) -> bool:
    """Whether a maker's prefix and digits stand where a VIN, alone or with others, would have them.

    A character or two may be missing, as it was only a glance.
    """
    starts = range(max(0, len(seen) - LENGTH + _UNSEEN + 1))
    return any(
        known_maker(seen[at:]) and count_digits(seen[at : at + LENGTH]) >= FEWEST_DIGITS for at in starts
    )
