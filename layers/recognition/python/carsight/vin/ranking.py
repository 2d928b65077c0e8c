"""Which VIN it is, and whether it is one: Bayes' rule over readings, votes, text against code.

A photo for this recognizer shows a VIN more often than not, but its other numbers look alike: serial, order
and parcel numbers of 17 characters. So every text stands against two rivals: the other texts that the
pixels might show, and the chance that the number is not a VIN at all.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from carsight.geometry import Box
from carsight.vin import rules
from carsight.vin.barcodes import BarcodeVin
from carsight.vin.descriptors import familiarity
from carsight.vin.line_reader import Calibration, LineReading

Source = Literal["text", "barcode", "both"]
RepairReason = Literal["check_digit", "barcode", "maker", "pattern"]
Ranking = tuple[tuple[str, float], ...]
"""VINs with the probability of each, best first."""

Odds = Callable[[str], float]
"""Returns the odds that 17 characters are a VIN's: ``Prior.odds``, or what remembers them for a photo."""


@dataclass(frozen=True, slots=True)
class Prior:
    """How much likelier makers are to write a text than others are to write it as some other number.

    Each factor is a rounded ratio. A listed maker's prefix is one of 730 where any three characters are one
    of 36,000, and about one real VIN in thirty has a prefix that the table lacks. A check digit that must
    hold did on every such VIN of 393 real photos, while a misreading or another number passes 1 time in 11;
    elsewhere a passing digit still speaks a little for the reading (Japanese and Korean makers keep the
    rule for export). Serial numbers end in digits (49 CFR 565 demands 13-17 for light vehicles); letters
    among the last four are rare anywhere.
    """

    vin: float = 10.0
    """Odds that 17 characters which were found are a VIN's, before they are known."""
    common_maker: float = 100.0
    known_maker: float = 25.0
    small_maker: float = 0.15
    """The third character is 9, and the region known: the maker of fewer than 1,000 vehicles a year."""
    known_region: float = 0.05
    unknown_region: float = 0.002
    check_digit_holds: float = 11.0
    check_digit_fails: float = 0.0005
    optional_digit_holds: float = 2.0
    optional_digit_fails: float = 0.95
    no_model_year: float = 0.1
    """Position 10 is 0, U or Z where 49 CFR 565 applies."""
    broken_filling: float = 0.05
    word: float = 0.001
    """It begins with a label's word."""
    letter_at_end: float = 0.05
    """Each letter at positions 14-17."""
    letter_before: tuple[float, float] = (0.3, 0.02)
    """A letter at position 12, and one at 13: 22 and none of 1,249 labeled VINs have one."""
    digits_alone: float = 0.005
    """Nothing but digits after the prefix of a maker that is not known to write so: those of the 1,249 are
    Fiats, Mercedes-Benz and Ladas, and many serial numbers are three letters and digits."""
    few_letters: tuple[float, ...] = (0.0001, 0.0002, 0.01)
    """None, one, two: a number of digits alone is a counter's, and misread at a place or two it still looks
    like one. Every VIN of 1,900 labeled ones has three letters or more."""
    familiar: float = 0.4
    """How much of ``descriptors.familiarity`` to believe: not all, as the cars that were counted are of one
    market, and a maker may write what was never seen."""
    hardly_familiar: float = 5.0
    """Familiarity up to which it says nothing."""
    strange: float = -8.0
    """Familiarity below which a text that needs no check digit is hardly its maker's: behind "S/N", read as
    Nissan's SJN, serial numbers have -18, and of 124 VINs in photos that were not counted the strangest has
    -3, of 120 of other markets -11."""
    strangeness: float = 0.7
    """How much of that to believe."""

    def odds(self, vin: str) -> float:
        """Return the odds, any number above 0, that the 17 characters ``vin`` are a VIN's."""
        applies, valid = rules.check_applies(vin), rules.is_valid(vin)
        odds = self.vin * self._maker(vin) * self._check_digit(applies, valid)
        odds *= self.letter_at_end ** _letters(vin[13:])
        odds *= math.prod(
            rare for rare, sign in zip(self.letter_before, vin[11:13], strict=True) if not sign.isdigit()
        )
        if applies and vin[rules.YEAR_PLACE] in "0UZ":
            odds *= self.no_model_year
        if rules.breaks_filling(vin):
            odds *= self.broken_filling
        if rules.begins_with_word(vin):
            odds *= self.word
        if vin[3:].isdigit() and not rules.describes_by_digits(vin):
            odds *= self.digits_alone
        if valid or not applies:
            familiar = familiarity(vin)
            odds *= math.exp(self.familiar * max(0.0, familiar - self.hardly_familiar))
            if not applies:
                odds *= math.exp(self.strangeness * min(0.0, familiar - self.strange))
        letters = _letters(vin)
        return odds * (self.few_letters[letters] if letters < len(self.few_letters) else 1.0)

    def _maker(self, vin: str) -> float:
        if rules.common_maker(vin):
            return self.common_maker
        if rules.known_maker(vin):
            return self.known_maker
        if not rules.known_region(vin):
            return self.unknown_region
        return self.small_maker if vin[2] == "9" else self.known_region

    def _check_digit(self, applies: bool, valid: bool) -> float:
        if applies:
            return self.check_digit_holds if valid else self.check_digit_fails
        return self.optional_digit_holds if valid else self.optional_digit_fails


def _letters(text: str) -> int:
    """Count what is no digit."""
    return len(text) - sum(map(str.isdigit, text))


_UNLISTED = 500.0
"""The mean odds of the texts that are too unlikely to be listed, nearly all of them misreadings of a VIN."""


def rank_by_posterior(reading: LineReading, odds: Odds) -> Ranking:
    """Rank the texts of ``reading`` by the probability that each is the line's VIN, best first.

    Bayes' rule: what the net gives each text, times the odds that it is a VIN, against the other texts and
    against each text being another number. Nothing is left out for breaking a rule.
    """
    if not reading.texts or _skips(reading):
        return ()
    weights = [(text, probability * odds(text)) for text, probability in reading.texts]
    listed = sum(probability for _, probability in reading.texts)
    total = sum(weight for _, weight in weights) + listed + max(0.0, 1 - listed) * _UNLISTED
    ranked = ((text, reading.share * weight / total) for text, weight in weights)
    return tuple(sorted(ranked, key=lambda item: -item[1]))


_SKIPPED = 2.6
"""How many times the usual step the first or second one has, at least, if characters were skipped there."""


def _skips(reading: LineReading) -> bool:
    """Whether a wide gap follows the first or the second of the 17 characters of ``reading``.

    A label's "S/N" and a word run together to a maker's prefix so. Makers who set VINs in groups make none so
    short: of 2,421 right readings, of 147 photos sent in eleven ways, those steps were 2.5 times the usual at
    most.
    """
    if len(reading.centers) != rules.LENGTH:
        return False
    steps = [after - before for before, after in itertools.pairwise(reading.centers)]
    return max(steps[:2]) >= _SKIPPED * sorted(steps)[len(steps) // 2]


_WINDOW_ODDS = 500.0
"""Odds from which 17 of more characters are taken for a VIN with others beside it."""

_NAME = re.compile("[FV][1JLT]?N")
"""VIN or FIN, as a reader that knows no I sees it."""


def find_window(
    reading: LineReading, odds: Odds, places: NDArray[np.float32] | None = None
) -> tuple[float, float] | None:
    """Find where in a line of more than 17 characters a VIN stands, in shares of the crop's width.

    ``places`` tells where the crop's columns stood in the line, if they have been moved since.
    """
    text, centers = reading.greedy, reading.centers
    if len(text) <= rules.LENGTH:
        return None
    stood = (
        [places[min(int(c * len(places)), len(places) - 1)] for c in centers]
        if places is not None
        else centers
    )
    window = _named_window(text) or _likeliest_window(text, stood, odds)
    if window is None:
        return None
    first, last = centers[window.start], centers[window.stop - 1]
    half = (last - first) / (2 * (len(window) - 1))
    return max(0.0, first - half), min(1.0, last + half)


def _named_window(text: str) -> range | None:
    """Return which characters of ``text`` stand behind the name VIN and begin like a maker's.

    They may be a character more or fewer than 17: squeezed into one crop with the name they are easily
    misread.
    """
    for name in _NAME.finditer(text):
        left = len(text) - name.end()
        if left >= rules.LENGTH - 1 and rules.known_maker(text[name.end() :]):
            return range(name.end(), len(text) if left <= rules.LENGTH + 1 else name.end() + rules.LENGTH)
    return None


def _likeliest_window(text: str, centers: Sequence[float], odds: Odds) -> range | None:
    windows = (range(at, at + rules.LENGTH) for at in range(len(text) - rules.LENGTH + 1))
    whole = [window for window in windows if not _goes_on(text, centers, window.stop)]
    best = max(whole, key=lambda window: odds(text[window.start : window.stop]), default=None)
    if best is None or odds(text[best.start : best.stop]) < _WINDOW_ODDS:
        return None
    return best


def _goes_on(text: str, centers: Sequence[float], end: int) -> bool:
    """Whether at least two digits follow the one before ``end`` without a space: it is a longer number.

    A letter there is more often a word's: places are known to one of 48 steps, too few to tell every space.
    """
    if not text[end - 1 : end + 2].isdigit() or len(text) < end + 2:
        return False
    steps = [after - before for before, after in itertools.pairwise(centers)]
    return max(steps[end - 1], steps[end]) < _SPACE * sorted(steps)[len(steps) // 2]


_SPACE = 1.35
"""From how many times the usual step on characters are apart."""


def merge_rankings(rankings: Sequence[Ranking], odds: Odds) -> Ranking:
    """Merge the rankings of several looks at a photo into one, best first.

    Cuts that miss a character say little, so half of a text's probability is that of its surest cut, and
    half its share of all the votes; but where cuts are sure of different texts, each is believed only in
    proportion. Of 588 photos sent in four ways (as they are, cut to the line, at two thirds of their size,
    tilted), 87 % are right at 0.7 % wrong with it, 83 % where the surest look is believed. However many
    agree on a text, it is no likelier to be a VIN than its own rules make it.
    """
    best: dict[str, float] = {}
    votes: dict[str, float] = {}
    for ranking in rankings:
        for text, probability in ranking[:8]:
            best[text] = max(best.get(text, 0.0), probability)
            votes[text] = votes.get(text, 0.0) + probability
    surest, cast = max(1.0, sum(best.values())), max(1.0, sum(votes.values()))
    together = {
        text: min((best[text] / surest + votes[text] / cast) / 2, odds(text) / (1 + odds(text)))
        for text in best
    }
    return tuple(sorted(together.items(), key=lambda item: -item[1]))


@dataclass(frozen=True, slots=True)
class CheckDigit:
    """``valid``: position 9 is what 49 CFR 565.15 computes; ``applies``: this VIN must have a check digit."""

    valid: bool
    applies: bool

    @classmethod
    def of(cls, vin: str) -> CheckDigit:
        """Check the digit of ``vin``."""
        return cls(rules.is_valid(vin), rules.check_applies(vin))


@dataclass(frozen=True, slots=True)
class Repair:
    """A character that is not the one the pixels alone look most like. ``position`` counts from 1.

    ``reason``: ``check_digit``, ``barcode``, ``maker`` (positions 1-3) or ``pattern`` (digits where makers
    count).
    """

    position: int
    from_: str
    to: str
    reason: RepairReason


@dataclass(frozen=True, slots=True)
class VinCandidate:
    """A VIN with the probability that it is right, 0..1.

    ``box`` is that of its 17 characters (of the code, where only that was read) in pixels of the upright
    photo.
    """

    vin: str
    confidence: float
    box: Box
    source: Source
    check_digit: CheckDigit
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True, slots=True)
class RankedLine:
    """A line's reading, its ranking and its box in pixels of the upright photo.

    ``pooled``: the reading is the mean of cuts that may contradict each other, as those of small text are.
    """

    reading: LineReading
    ranked: Ranking
    box: Box
    pooled: bool = False

    @property
    def seen(self) -> str:
        """The 17 characters that the pixels alone look most like; "" where they show none."""
        return self.reading.texts[0][0] if self.reading.texts else ""


@dataclass(frozen=True, slots=True)
class RankedCode:
    """A barcode's VIN and its box in pixels of the upright photo."""

    code: BarcodeVin
    box: Box


_LISTED = 5
"""How many of the texts are made candidates."""

_ALIKE = 1.5
"""Power of the probability of text that is not small: its cuts are alike, and agree on what is wrong, too."""

_CODE_DOUBT = 0.02
"""How often a barcode that is read holds another VIN than the vehicle's."""

_AMONG_CODES = 0.3
"""How much rarer a VIN is among the numbers in codes than among printed ones: all goods bear codes."""


def repairs(seen: str, vin: str, reason: RepairReason | None = None) -> tuple[Repair, ...]:
    """Return what makes ``vin`` of ``seen``, the characters that the pixels alone look most like."""
    mended = rules.check_applies(vin) and rules.is_valid(vin) and not rules.is_valid(seen)
    return tuple(
        Repair(
            index + 1, was, now, reason or ("check_digit" if mended else "maker" if index < 3 else "pattern")
        )
        for index, (was, now) in enumerate(zip(seen, vin, strict=True))
        if was != now
    )


def weigh(
    lines: Sequence[RankedLine], codes: Sequence[RankedCode], odds: Odds, calibration: Calibration
) -> list[VinCandidate]:
    """All that was read in a photo, lines and codes together, the likeliest VIN first."""
    found: dict[str, VinCandidate] = {}
    for vin, probability in merge_rankings([line.ranked for line in lines], odds)[:_LISTED]:
        surest = max(lines, key=lambda line: dict(line.ranked).get(vin, 0.0))
        mended = repairs(surest.seen, vin)
        confidence = calibration(probability if surest.pooled else probability**_ALIKE)
        found[vin] = VinCandidate(vin, confidence, surest.box, "text", CheckDigit.of(vin), mended)
    texts = dict(found)
    for barcode in codes:
        vin = barcode.code.vin
        candidate = _with_code(barcode, lines, texts.get(vin), odds)
        if vin not in found or found[vin].confidence <= candidate.confidence:
            found[vin] = candidate
    ranked = sorted(found.values(), key=lambda c: -c.confidence)
    if not ranked or ranked[0].source == "text":
        return ranked
    # What disagrees with a barcode is at most as likely as the barcode is wrong.
    left = 1 - ranked[0].confidence
    return [
        ranked[0],
        *(
            VinCandidate(c.vin, min(c.confidence, left), c.box, c.source, c.check_digit, c.repairs)
            for c in ranked[1:]
        ),
    ]


def _with_code(
    barcode: RankedCode, lines: Sequence[RankedLine], same: VinCandidate | None, odds: Odds
) -> VinCandidate:
    """Return a barcode's VIN as a candidate, boxed by the text line that says the same or nearly so."""
    vin, digit = barcode.code.vin, CheckDigit.of(barcode.code.vin)
    chances = odds(vin) * barcode.code.place.factor * _AMONG_CODES
    if same is not None and chances > 1:
        doubt = (1 - same.confidence) * 0.02
        # Text alone may be surer than any code is let be, and agreement makes nothing less sure.
        confidence = max(same.confidence, 1 - max(doubt, 1e-4))
        return VinCandidate(vin, confidence, same.box, "both", digit, same.repairs)
    confidence = (1 - _CODE_DOUBT) * chances / (1 + chances)
    for line in lines:
        if line.seen and sum(a != b for a, b in zip(line.seen, vin, strict=True)) <= 5:
            mended = repairs(line.seen, vin, "barcode")
            return VinCandidate(vin, confidence, line.box, "barcode", digit, mended)
    return VinCandidate(vin, confidence, barcode.box, "barcode", digit)
