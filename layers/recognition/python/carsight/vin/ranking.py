"""Deciding which VIN a photo shows, and whether it shows one, by Bayes' rule over readings, votes and codes.

Most photos that are sent show a VIN, but other numbers look similar: serial, order and parcel numbers with 17
characters. So every text is weighed against the other texts that the pixels might show, and against the
chance that the number is not a VIN at all.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

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
"""Returns the odds that 17 characters are a VIN: ``Prior.odds``, or a cache of it for one photo."""


class Prior(NamedTuple):
    """The odds of a text to be a VIN: how much likelier it is as a VIN than as some other number.

    Each factor is a rounded ratio. There are 730 listed prefixes among some 36,000 combinations of three
    characters, and about one real VIN in thirty has a prefix that the table lacks. Where the check digit is
    mandatory it was valid for every VIN in 393 real photos, and it is for 1 in 11 misreadings or other
    numbers; elsewhere a valid digit still counts a little (Japanese and Korean makers follow the rule for
    export). VINs end in digits (49 CFR 565 demands 13-17 for light vehicles); letters among the last four are
    rare everywhere.
    """

    vin: float = 10.0
    """The odds that 17 characters are a VIN before they are known."""
    common_maker: float = 100.0
    """The prefix is a common maker's."""
    known_maker: float = 25.0
    """The prefix is that of another listed maker."""
    small_maker: float = 0.15
    """The region is known and the third character is 9: a maker of fewer than 1,000 vehicles a year."""
    known_region: float = 0.05
    """The prefix is not listed, but its region is known."""
    unknown_region: float = 0.002
    """Not even the region is known."""
    check_digit_holds: float = 11.0
    """A mandatory check digit is valid."""
    check_digit_fails: float = 0.0005
    """A mandatory check digit is not valid."""
    optional_digit_holds: float = 2.0
    """Position 9 is a valid check digit, although none is mandatory."""
    optional_digit_fails: float = 0.95
    """Position 9 is not a valid check digit, and need not be."""
    no_model_year: float = 0.1
    """Position 10 is 0, U or Z although 49 CFR 565 applies."""
    broken_filling: float = 0.05
    """See ``rules.breaks_filling``."""
    word: float = 0.001
    """The text begins with a word found on labels."""
    letter_at_end: float = 0.05
    """For each letter at positions 14-17."""
    letter_before: tuple[float, float] = (0.3, 0.02)
    """For a letter at position 12, and for one at 13: of 1,249 labeled VINs 22 and none have one."""
    digits_alone: float = 0.005
    """Only digits after the prefix, by a maker that is not known to write VINs like this. Among the 1,249
    only Fiat, Mercedes-Benz and Lada do, and many serial numbers are three letters and digits."""
    few_letters: tuple[float, ...] = (0.0001, 0.0002, 0.01)
    """For no, one and two letters: a number of digits alone is a counter's, also with one or two of them
    misread as letters. All of 1,900 labeled VINs have three letters or more."""
    familiar: float = 0.4
    """The weight of ``descriptors.familiarity``. It is less than 1, as the cars that were counted are from
    one market, and makers may use descriptors that were not seen."""
    hardly_familiar: float = 5.0
    """Familiarity up to this has no effect."""
    strange: float = -8.0
    """With a lower familiarity a text without a mandatory check digit is hardly its maker's. Serial numbers
    after "S/N", read as Nissan's SJN, have -18; the lowest of 124 VINs in photos that were not counted has
    -3, that of 120 from other markets -11."""
    strangeness: float = 0.7
    """The weight of familiarity below ``strange``."""

    def odds(self, vin: str) -> float:
        """Return the odds, any number above 0, that the 17 characters ``vin`` are a VIN."""
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
    """Return how many characters of ``text`` are not digits."""
    return len(text) - sum(map(str.isdigit, text))


_UNLISTED = 500.0
"""The mean odds of texts too unlikely to be listed, nearly all of which are misreadings of a VIN."""


def rank_by_posterior(reading: LineReading, odds: Odds) -> Ranking:
    """Rank the texts of ``reading`` by the probability that each is the line's VIN, best first.

    By Bayes' rule: the net's probability of each text, times the odds that it is a VIN, relative to the other
    texts and to each text being another number. No text is left out for breaking a rule.
    """
    if not reading.texts or _skips(reading):
        return ()
    weights = [(text, probability * odds(text)) for text, probability in reading.texts]
    listed = sum(probability for _, probability in reading.texts)
    total = sum(weight for _, weight in weights) + listed + max(0.0, 1 - listed) * _UNLISTED
    ranked = ((text, reading.share * weight / total) for text, weight in weights)
    return tuple(sorted(ranked, key=lambda item: -item[1]))


_SKIPPED = 2.6
"""How many times the usual step the first or second one is at least, if characters were skipped there."""


def _skips(reading: LineReading) -> bool:
    """Whether a wide gap follows the first or the second of the 17 characters of ``reading``.

    This is how "S/N" and a word on a label are taken for a maker's prefix. No maker sets groups this short:
    in 2,421 right readings of 147 photos in eleven ways, those steps were at most 2.5 times the usual one.
    """
    if len(reading.centers) != rules.LENGTH:
        return False
    steps = [after - before for before, after in itertools.pairwise(reading.centers)]
    return max(steps[:2]) >= _SKIPPED * sorted(steps)[len(steps) // 2]


_WINDOW_ODDS = 500.0
"""Lowest odds of 17 among more characters to be a VIN with other text beside it."""

_NAME = re.compile("[FV][1JLT]?N")
"""VIN or FIN, as seen by a reader that does not know the letter I."""

_IS = "1S"
"""The word "is" between that name and the VIN."""


def find_window(
    reading: LineReading, odds: Odds, places: NDArray[np.float32] | None = None
) -> tuple[float, float] | None:
    """Find a VIN in a line of more than 17 characters, in shares of the crop's width; None if there is none.

    ``places`` are the original places of the crop's columns in the line, if they have been moved since.
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
    """Return the range of characters of ``text`` that follow the name VIN and begin with a maker's prefix.

    They may be one more or less than 17, as they are easily misread if squeezed into one crop with the name.
    """
    for name in _NAME.finditer(text):
        begins = [name.end()] + [name.end() + len(_IS)] * text.startswith(_IS, name.end())
        for begin in begins:
            left = len(text) - begin
            if left >= rules.LENGTH - 1 and rules.known_maker(text[begin:]):
                return range(begin, len(text) if left <= rules.LENGTH + 1 else begin + rules.LENGTH)
    return None


def _likeliest_window(text: str, centers: Sequence[float], odds: Odds) -> range | None:
    windows = (range(at, at + rules.LENGTH) for at in range(len(text) - rules.LENGTH + 1))
    whole = [window for window in windows if not _goes_on(text, centers, window.stop)]
    best = max(whole, key=lambda window: odds(text[window.start : window.stop]), default=None)
    if best is None or odds(text[best.start : best.stop]) < _WINDOW_ODDS:
        return None
    return best


def _goes_on(text: str, centers: Sequence[float], end: int) -> bool:
    """Whether the digit before ``end`` is followed by two more without a space, as in a longer number.

    Letters do not count, as they more often belong to a word: places are known to one of 48 steps, which is
    too coarse to recognize every space.
    """
    if not text[end - 1 : end + 2].isdigit() or len(text) < end + 2:
        return False
    steps = [after - before for before, after in itertools.pairwise(centers)]
    return max(steps[end - 1], steps[end]) < _SPACE * sorted(steps)[len(steps) // 2]


_SPACE = 1.35
"""How many times the usual step a step with a space is at least."""


def merge_rankings(rankings: Sequence[Ranking], odds: Odds) -> Ranking:
    """Merge the rankings of several readings of a photo into one, best first.

    Cuts that miss a character are little evidence, so half of a text's probability is that of its surest cut,
    and half its share of all votes; if cuts are sure of different texts, these are reduced in proportion. Of
    588 photos in four ways (unchanged, cropped to the line, at two thirds of the size, tilted) 87 % are right
    with 0.7 % wrong, and 83 % if the surest reading is taken. Any number of agreeing cuts cannot make a text
    likelier to be a VIN than its odds do.
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
    """``valid``: position 9 is the check digit of 49 CFR 565.15; ``applies``: this VIN must have one."""

    valid: bool
    applies: bool

    @classmethod
    def of(cls, vin: str) -> CheckDigit:
        """Check the digit of ``vin``."""
        return cls(rules.is_valid(vin), rules.check_applies(vin))


@dataclass(frozen=True, slots=True)
class Repair:
    """A character that differs from the one that the pixels alone look most like; ``position`` is 1..17.

    ``reason``: ``check_digit``, ``barcode``, ``maker`` (positions 1-3) or ``pattern`` (digits where makers
    count vehicles).
    """

    position: int
    from_: str
    to: str
    reason: RepairReason


@dataclass(frozen=True, slots=True)
class VinCandidate:
    """A VIN with the probability that it is right, 0..1.

    ``box`` is that of its 17 characters, or of the code if only that was read, in pixels of the upright
    photo.
    """

    vin: str
    confidence: float
    box: Box
    source: Source
    check_digit: CheckDigit
    repairs: tuple[Repair, ...] = ()


class RankedLine(NamedTuple):
    """A line's reading, its ranking, and its box in pixels of the upright photo.

    ``pooled``: the reading is the mean of cuts that may contradict each other, as it is for small text.
    """

    reading: LineReading
    ranked: Ranking
    box: Box
    pooled: bool = False

    @property
    def seen(self) -> str:
        """The 17 characters that the pixels alone look most like; "" if there are none."""
        return self.reading.texts[0][0] if self.reading.texts else ""


class RankedCode(NamedTuple):
    """A barcode's VIN and its box in pixels of the upright photo."""

    code: BarcodeVin
    box: Box


_LISTED = 5
"""How many texts become candidates."""

_ALIKE = 1.5
"""The power to which the probability of text that is not small is raised: its cuts are alike, and so also
agree on wrong characters."""

_CODE_DOUBT = 0.02
"""How often a barcode that was read has another VIN than the vehicle's."""

_LEAST_DOUBT = 1e-4
"""The least doubt in a VIN that a line and a code agree on."""

_MISREAD_BESIDE_A_CODE = 5
"""The most characters in which a line may differ from a code's VIN and be taken for the same, misread."""

_AMONG_CODES = 0.3
"""How much rarer VINs are among numbers in codes than among printed ones, as all goods have codes."""


def repairs(seen: str, vin: str, reason: RepairReason | None = None) -> tuple[Repair, ...]:
    """Return the changes from ``seen``, the characters that the pixels alone look most like, to ``vin``."""
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
    """Return the candidates by all lines and codes of a photo together, likeliest first."""
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
    # A VIN that contradicts a barcode is at most as likely as the barcode is wrong.
    left = 1 - ranked[0].confidence
    return [ranked[0], *(replace(other, confidence=min(other.confidence, left)) for other in ranked[1:])]


def _with_code(
    barcode: RankedCode, lines: Sequence[RankedLine], same: VinCandidate | None, odds: Odds
) -> VinCandidate:
    """Return a barcode's VIN as a candidate, with the box of the text line that shows (nearly) the same."""
    vin, digit = barcode.code.vin, CheckDigit.of(barcode.code.vin)
    chances = odds(vin) * barcode.code.place.factor * _AMONG_CODES
    if same is not None and chances > 1:
        doubt = max((1 - same.confidence) * _CODE_DOUBT, _LEAST_DOUBT)
        # Text alone may be more certain than codes may, and agreement must not make it less certain.
        confidence = max(same.confidence, 1 - doubt)
        return VinCandidate(vin, confidence, same.box, "both", digit, same.repairs)
    confidence = (1 - _CODE_DOUBT) * chances / (1 + chances)
    for line in lines:
        if line.seen and sum(a != b for a, b in zip(line.seen, vin, strict=True)) <= _MISREAD_BESIDE_A_CODE:
            mended = repairs(line.seen, vin, "barcode")
            return VinCandidate(vin, confidence, line.box, "barcode", digit, mended)
    return VinCandidate(vin, confidence, barcode.box, "barcode", digit)
