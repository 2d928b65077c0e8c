"""Search for clear print that the detector missed: VINs in groups, after their name, or on two lines.

The small reader, or that of lower case, glances at each line, and only lines with enough characters and
digits are read in full. The glances, and reading lines that then look like a VIN, may exceed the budget,
which on papers is often spent on other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from carsight.geometry import Floats
from carsight.vin import text_lines
from carsight.vin.finds import FEWEST_CHARACTERS, FEWEST_DIGITS, Finds, count_digits
from carsight.vin.line_reader import LineReader, LineReading
from carsight.vin.ranking import find_window
from carsight.vin.readers import Line
from carsight.vin.rules import LENGTH, known_maker
from carsight.vin.text_lines import Pair, Print, SetText, TextLine
from carsight.vin.tuning import Budget, VinTuning
from carsight.vin.views import View, quarters_to_upright

_GLANCE_COST = 0.25
"""The cost, in crops read (see ``Budget``), of a glance of the small reader at a crop."""

_SHORTEST, _LONGEST, _LIKELIEST = 13, 45, 21
"""The fewest and the most characters, estimated from its length, of a line that may contain a VIN. Lines
closest to the third number are considered first."""

_SHORTEST_NARROW = 8
"""The fewest estimated characters of a line of narrow print, whose characters are counted."""

_SHORTEST_OF_TWO = 6
"""The fewest estimated characters of the longer one of two lines of a VIN."""

_CONSIDERED, _GLANCED_AT, _READ = 16, 6, 2
"""How many lines are considered; how many of these the small reader glances at, first those that end in
capitals, and among these those with a VIN's number of characters; and how many of these are read in full,
first those that look like a VIN."""

_PAIRS = 4
"""How many pairs of lines the small reader glances at."""

_LONGEST_GLANCE, _UNSEEN = 40, 2
"""The most characters that a glance may show in a line that is read in full, and how many characters of a VIN
may be missing there."""

_MOST_IN_A_CROP = 32
"""With this many characters or more, a crop is not legible to any reader."""


class _Glance(NamedTuple):
    """A line, its condensed ``text`` or one part of that, and the characters ``seen`` there."""

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
        """Whether the characters may contain a VIN."""
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
        """Read the likeliest lines, and pairs of lines below each other."""
        for quarters in self._turns():
            if self.finds.certainty >= self.tuning.likely:
                break
            lines = self.print_of(quarters)
            text = text_lines.condensed(self.view, lines)
            self._read_lines(lines, text)
            if not self.finds.promising:
                self._read_pairs(text_lines.pairs(lines, text, _PAIRS))

    def _turns(self) -> Iterator[int]:
        """Yield the quarter turns after which print may be upright, by the clearest line.

        If not even that line is clear, a photo that was turned is also turned the other way. If the detector
        found no line, the photo is turned so that print is level, and then upside down.
        """
        lines = [line for line in self.finds.lines if len(line.reading.greedy) >= FEWEST_CHARACTERS]
        line = max(lines, key=lambda line: line.reading.clarity, default=None)
        if line is None:
            for quarters in (0, 1):
                found = self._lines(quarters)
                if any(each.characters >= _SHORTEST_OF_TWO for each in found):
                    yield quarters
                    yield quarters + 2
                if len(found) > 1:  # sideways print looks like one line at most
                    break
            return
        quarters = quarters_to_upright(line.corners)
        yield quarters
        if quarters and line.reading.clarity < self.tuning.clear:
            yield 4 - quarters if quarters % 2 else 0

    def _lines(self, quarters: int) -> list[TextLine]:
        """Return the lines of print after ``quarters`` counterclockwise quarter turns, without titles."""
        return [line for line in self.print_of(quarters) if line.characters >= text_lines.SHORTEST_LINE]

    def _read_lines(self, lines: Sequence[TextLine], text_of: Callable[[int], SetText]) -> None:
        """Read the likeliest of ``lines``; ``text_of`` returns the text of a line by its index."""
        glances = [glance for glance in self._glances(lines, text_of) if glance.is_worthwhile]
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

    def _glances(self, lines: Sequence[TextLine], text_of: Callable[[int], SetText]) -> Iterator[_Glance]:
        """Glance at those of ``lines`` that may contain a VIN by their lengths and characters."""
        likely = [
            number
            for number, line in enumerate(lines)
            if _SHORTEST_NARROW <= line.characters <= _LONGEST and not self.finds.is_known(line.corners)
        ]
        likely.sort(key=lambda number: abs(lines[number].characters - _LIKELIEST))
        texts = [(lines[number], text_of(number)) for number in likely[:_CONSIDERED]]
        texts = [each for each in texts if each[0].characters >= _SHORTEST or each[1].may_be_a_vin]
        texts.sort(key=lambda each: (not each[1].ends_in_capitals, not each[1].may_be_a_vin))
        for line, text in texts[:_GLANCED_AT]:
            yield self._glance_at_parts(line, text)

    def _glance_at_parts(self, line: TextLine, text: SetText) -> _Glance:
        """Glance at the parts of a long ``text``, or at all of it if it is legible in one crop."""
        for part in text.parts():
            seen = self._glance(part)
            if len(seen) >= LENGTH - 1 and _may_hold_a_vin(seen):
                return _Glance(line, part, seen)
        return _Glance(line, text, self._glance(text) if len(text.begins) < _MOST_IN_A_CROP else "")

    def _glance(self, text: SetText) -> str:
        """Return what is seen in ``text`` at a glance, even if the budget is spent."""
        self.budget.spend(_GLANCE_COST)
        reader = self.finds.readers.reader(lower_case=True) if text.lower_case else self.small
        return reader.glance(text.crop(), 1.0).greedy

    def _read_pairs(self, pairs: Sequence[Pair]) -> None:
        """Read two lines as one if the small reader, at a glance, sees a maker's prefix and digits."""
        for upper, lower, text in pairs:
            if self.finds.sure:
                break
            if _may_hold_a_vin(self._glance(text)):
                self.budget.pay_beyond(1)
                corners = np.stack([*upper.corners[:2], *lower.corners[2:]])
                self.finds.keep(self._read_set(text, corners)._replace(corners=corners))

    def _read_set(self, text: SetText, corners: Floats) -> Line:
        """Read ``text``, condensed from the line with ``corners``."""
        readers = self.finds.readers
        reader, lower_case = readers.reader(), False
        (reading,) = reader.read([text.crop()])
        if text.lower_case:  # or worn capitals: the surer reader decides
            lower = readers.reader(lower_case=True)
            (other,) = lower.read([text.crop()])
            lower_case = _sureness(other, self.finds) > _sureness(reading, self.finds)
            if lower_case:
                reader, reading = lower, other
        span = find_window(reading, self.finds.odds, text.crop_places())
        if span is not None:  # there is other text beside it, such as its name
            text = text.part(span)
            (reading,) = reader.read([text.crop()])
        place = text if reading.span is None else text.part(reading.span)
        return readers.line(place.corners(corners), 0.0, reading)._replace(lower_case=lower_case)


def _sureness(reading: LineReading, finds: Finds) -> tuple[bool, float]:
    """Return what compares readings: whether a VIN is beside other text, and the likelihood of one alone."""
    return find_window(reading, finds.odds) is not None, finds.readers.likeliest(reading)[1]


def _may_hold_a_vin(seen: str) -> bool:
    """Whether there are a maker's prefix and digits at the places of a VIN, alone or with other text.

    One or two characters may be missing, as this was only a glance.
    """
    starts = range(max(0, len(seen) - LENGTH + _UNSEEN + 1))
    return any(
        known_maker(seen[at:]) and count_digits(seen[at : at + LENGTH]) >= FEWEST_DIGITS for at in starts
    )
