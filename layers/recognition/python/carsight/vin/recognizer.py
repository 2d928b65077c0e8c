"""VINs: a photo in, the number out - from its text line, its barcode, or both.

``VinRecognizer.read`` finds lines that may hold a VIN, reads each as 17 characters, weighs the readings by
what is known about VINs, looks for a barcode that confirms or corrects them, and answers only what it is
sure of: a wrong VIN does more harm than none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from carsight import runtime
from carsight.detector import LINES, Detector, DetectorTuning, Fallback
from carsight.geometry import Box
from carsight.photo import Photo, PhotoSource, Pixels, open_photo
from carsight.refusal import Refusal
from carsight.vin import barcodes
from carsight.vin import rules as vin_rules
from carsight.vin.barcodes import BarcodeVin
from carsight.vin.line_reader import LineReader, LineReading, cut, trimmed

Floats = NDArray[np.float32]
Source = Literal["text", "barcode", "both"]

_SIDES = (416, 832)
"""Sides of the detector's looks at a photo: the second only where the first led to no sure answer."""

_LINES = 3
"""How many of the detector's lines are read."""

_SURE = 0.9
"""A reading at least this certain ends the search for a better one."""

_LIKELY = 0.3
"""A line less certain than this may have been cut at the wrong place altogether."""

THRESHOLD = 0.77
"""Lowest confidence of an answer, chosen on the 147 validation photos: 0.89 right and 0.01 wrong there. The
curve is in docs/accuracy.md."""

_LEAST = 0.02
"""Lowest confidence of a candidate behind the first."""

_FAR_OFF = 0.9
"""A text this much shorter than the detector's line shows that the line was drawn too long."""

_CUTS = (
    (
        (0.0, 0.0, 0.0, 0.0),
        (0.07, 0.07, 0.0, 0.1),
        (0.0, 0.0, 0.0, -0.18),
        (0.02, 0.02, -0.35, 0.0),
        (0.02, 0.02, 0.35, 0.0),
    ),
    ((0.3, 0.0, 0.0, 0.0), (0.0, 0.3, 0.0, 0.0), (0.05, 0.05, 0.8, 0.0), (0.05, 0.05, -0.8, 0.0)),
)
"""Other cuts from which a doubtful line is read again, in two rounds: longer at the left and at the right
end (in line lengths), moved down, and higher above and below (in line heights). Corners are off by about
that much."""

_FULL_TEXT = 28.0
"""Lines lower than this many pixels are cut from the photo at full size, where it was decoded at a reduced
one."""


@dataclass(frozen=True, slots=True)
class CheckDigit:
    """``valid``: position 9 is what 49 CFR 565.15 computes; ``applies``: this VIN must have a check digit."""

    valid: bool
    applies: bool

    @classmethod
    def of(cls, vin: str) -> CheckDigit:
        return cls(vin_rules.is_valid(vin), vin_rules.check_applies(vin))


@dataclass(frozen=True, slots=True)
class Repair:
    """A character that is not the one the pixels alone look most like. ``position`` counts from 1.

    ``reason``: ``check_digit``, ``barcode``, ``maker`` (positions 1-3) or ``pattern`` (digits where makers
    count).
    """

    position: int
    from_: str
    to: str
    reason: str


@dataclass(frozen=True, slots=True)
class VinCandidate:
    """A VIN with the probability that it is right (0..1) and the box of its 17 characters (of the code,
    where only that was read) in pixels of the upright photo."""

    vin: str
    confidence: float
    box: Box
    source: Source
    check_digit: CheckDigit
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True, slots=True)
class VinResult:
    """``candidates`` best first, empty where none is good enough. ``text_found``: the photo shows text at
    all."""

    candidates: tuple[VinCandidate, ...]
    text_found: bool
    refusal: Refusal | None = None
    """Why there is no candidate, where there is none."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the photo with all that was read there: corners in pixels of ``Photo.pixels``."""

    corners: Floats
    score: float
    reading: LineReading
    ranked: tuple[tuple[str, float], ...]

    @property
    def certainty(self) -> float:
        return self.ranked[0][1] if self.ranked else 0.0


class VinRecognizer:
    """Reads the VIN of a photo. Made once per process; safe to call from many threads."""

    def __init__(
        self, near: Detector, far: Detector, reader: LineReader, threshold: float = THRESHOLD
    ) -> None:
        self._near = near
        self._far = far
        self._reader = reader
        self._threshold = threshold

    @classmethod
    def load(cls, models: Path = runtime.MODELS, threshold: float = THRESHOLD) -> VinRecognizer:
        """Open the models in the folder ``models`` and run each once, so that the first photo finds them
        warm."""
        session = runtime.session(models / "vin_detector.onnx")
        near, far = (Detector(session, _looking(side)) for side in _SIDES)
        recognizer = cls(near, far, LineReader(runtime.session(models / "vin_reader.onnx")), threshold)
        blank = np.full((64, 128, 3), 128, np.uint8)
        recognizer._near.detect(blank)
        recognizer._reader.read([blank[:48, :64].repeat(6, axis=1)])
        return recognizer

    def read(self, image: PhotoSource) -> VinResult:
        """Read the VINs of ``image``, usually one. ``open_photo`` tells what it may be and what is raised."""
        photo = open_photo(image)
        lines = self._lines(photo, self._near)
        # A closer look can only show more where the first one shrank the photo.
        if (not lines or lines[0].certainty < _SURE) and photo.pixels[:, :, 0].size > (1.2 * _SIDES[0]) ** 2:
            closer = self._lines(photo, self._far)
            lines = sorted([*lines, *closer], key=lambda line: -line.certainty)
        code = self._barcode(photo, lines)
        if code is not None and all(code.vin != vin for line in lines for vin, _ in line.ranked[:4]):
            # The code says which way is up, and the text is easier to find upright.
            lines = [*self._turned(photo, _quarters(code.corners)), *lines]
        elif code is None and not lines:
            lines = next(filter(None, (self._turned(photo, quarters) for quarters in (1, 3, 2))), [])
        candidates = combine(photo, lines, code, self._threshold)
        seen = bool(lines or code) or shows_text(photo.pixels)
        return VinResult(candidates, seen)

    def _lines(self, photo: Photo, detector: Detector) -> list[_Line]:
        """The photo's lines, the surest reading first."""
        lines: list[_Line] = []
        found = [d for d in detector.detect(photo.pixels) if not d.is_vehicle][:_LINES]
        if not found:
            return []
        source = photo
        if photo.scale < 1 and min(_height(d.corners) for d in found) < _FULL_TEXT:
            source = photo.full()
        back = photo.scale / source.scale
        quads = [np.asarray(d.corners / back, np.float32) for d in found]
        for detection, quad, reading in zip(found, quads, self._read(source.pixels, quads), strict=True):
            line = _Line(detection.corners, detection.score, reading, weighed(reading))
            if line.certainty < _LIKELY:  # perhaps the corners begin at the wrong end, or stand on their side
                line = self._other_ways(source.pixels, quad, line, back)
            if line.certainty < _SURE:
                line = self._fitted(source.pixels, line, back)
            if line.certainty >= _SURE and line.reading.span is not None:
                line = replace(line, corners=trimmed(line.corners, line.reading.span))
            if line.certainty < _SURE:
                line = self._again(source.pixels, np.asarray(line.corners / back, np.float32), line)
            lines.append(line)
        return sorted(lines, key=lambda line: -line.certainty)

    def _turned(self, photo: Photo, quarters: int) -> list[_Line]:
        """The lines found in the photo turned anticlockwise by ``quarters`` of a turn, where they lie
        unturned."""
        height, width = photo.pixels.shape[:2]
        turned = Photo.of(np.ascontiguousarray(np.rot90(photo.pixels, quarters)))
        return [
            replace(line, corners=_unturned(line.corners, quarters, width, height))
            for line in self._lines(turned, self._near)
        ]

    def _read(self, pixels: Pixels, quads: Sequence[Floats]) -> list[LineReading]:
        return self._reader.read([cut(pixels, quad) for quad in quads])

    def _other_ways(self, pixels: Pixels, quad: Floats, line: _Line, back: float) -> _Line:
        ways = [quad[[2, 3, 0, 1]]]
        if _height(quad) > 0.7 * _length(quad):
            ways += [quad[[1, 2, 3, 0]], quad[[3, 0, 1, 2]]]
        others = [
            _Line(np.asarray(way * back, np.float32), line.score, reading, weighed(reading))
            for way, reading in zip(ways, self._read(pixels, ways), strict=True)
        ]
        return max([line, *others], key=lambda one: one.certainty)

    def _fitted(self, pixels: Pixels, line: _Line, back: float) -> _Line:
        """A doubtful line cut again where its text begins and ends, if the detector was far off."""
        if line.reading.span is None:
            return line
        corners = trimmed(line.corners, line.reading.span)
        if _length(corners) > _FAR_OFF * _length(line.corners):
            return line
        (reading,) = self._read(pixels, [np.asarray(corners / back, np.float32)])
        return max(line, _Line(corners, line.score, reading, weighed(reading)), key=lambda one: one.certainty)

    def _again(self, pixels: Pixels, quad: Floats, line: _Line) -> _Line:
        """A doubtful line read from several cuts: the surest reading, less sure where others contradict
        it."""
        down = quad[[3, 2, 2, 3]] - quad[[0, 1, 1, 0]]
        along = quad[[1, 1, 2, 2]] - quad[[0, 0, 3, 3]]
        readings, rankings = [line.reading], [line.ranked]
        for cuts in _CUTS:
            crops = []
            for left, right, shift, sides in cuts:
                ends = np.array([[-left], [right], [right], [-left]], np.float32)
                crops.append(
                    cut(pixels, quad + down * np.float32(shift) + along * ends, 0.05, 0.33, 0.35 + sides)
                )
            more = self._reader.read(crops)
            readings += more
            rankings += [weighed(reading) for reading in more]
            line = replace(line, reading=_surest(readings), ranked=agreed(rankings))
            if line.certainty > _LIKELY:
                break
        return line

    def _barcode(self, photo: Photo, lines: Sequence[_Line]) -> BarcodeVin | None:
        """The VIN in the photo's barcode; looked for hard only where the text alone gives no sure answer."""
        sure = bool(lines) and lines[0].certainty >= _SURE
        if lines:
            found = barcodes.near(photo.pixels, lines[0].corners)
            if found is not None or sure:
                return found
        return barcodes.anywhere(photo.pixels, hard=True)


# ------------------------------------------------------------------------------------------ weighing


def weighed(reading: LineReading) -> tuple[tuple[str, float], ...]:
    """The texts of ``reading`` with the probability that each is the line's VIN, best first.

    Bayes' rule: what the net gives each text, times how likely makers are to write it. Nothing is left out
    for breaking a rule; the prior only has to be strong where it is sure (a check digit that must hold).
    """
    if not reading.texts:
        return ()
    weights = [(text, probability * math.exp(log_prior(text))) for text, probability in reading.texts]
    unlisted = max(0.0, 1 - sum(probability for _, probability in reading.texts))
    total = sum(weight for _, weight in weights) + unlisted * _UNLISTED
    if total <= 0:
        return ()
    return tuple(
        sorted(
            ((text, reading.share * weight / total) for text, weight in weights), key=lambda item: -item[1]
        )
    )


_UNLISTED = 0.05
"""What the rules make, on average, of the texts that are too unlikely to be listed."""


def agreed(rankings: Sequence[tuple[tuple[str, float], ...]]) -> tuple[tuple[str, float], ...]:
    """One ranking from those of several cuts of a line, best first.

    Cuts that miss a character say little, so half of a text's probability is that of its surest cut, and half
    its share of all the cuts' votes; but where cuts are sure of different texts, each is believed only in
    proportion.
    """
    best: dict[str, float] = {}
    votes: dict[str, float] = {}
    for ranking in rankings:
        for text, probability in ranking[:8]:
            best[text] = max(best.get(text, 0.0), probability)
            votes[text] = votes.get(text, 0.0) + probability
    surest, cast = max(1.0, sum(best.values())), max(1.0, sum(votes.values()))
    together = {text: (best[text] / surest + votes[text] / cast) / 2 for text in best}
    return tuple(sorted(together.items(), key=lambda item: -item[1]))


def _surest(readings: Sequence[LineReading]) -> LineReading:
    return max(readings, key=lambda reading: reading.share * reading.texts[0][1] if reading.texts else 0.0)


def log_prior(vin: str) -> float:
    """How much likelier (natural logarithm) than any 17 characters ``vin`` is to be one that a maker wrote.

    The factors are rounded shares: a check digit that must hold did on every such VIN of 393 real photos,
    while a misreading passes 1 time in 11; elsewhere a passing digit still speaks a little for the reading
    (Japanese and Korean makers keep the rule for export). About one real VIN in thirty has a prefix that
    the table lacks. Serial numbers end in digits (49 CFR 565 demands 13-17 for light vehicles); letters
    among the last four are rare anywhere.
    """
    prior = 0.0
    valid = vin_rules.is_valid(vin)
    if vin_rules.check_applies(vin):
        prior += 0.0 if valid else math.log(0.004)
    else:
        prior += math.log(2.0) if valid else 0.0
    if not vin_rules.known_maker(vin):
        prior += math.log(0.02)
    elif vin_rules.common_maker(vin):
        prior += math.log(4)
    if vin_rules.breaks_filling(vin):
        prior += math.log(0.05)
    prior += math.log(0.05) * sum(character.isalpha() for character in vin[13:])
    prior += math.log(0.3) * sum(character.isalpha() for character in vin[11:13])
    return prior


def repairs(seen: str, vin: str, reason: str | None = None) -> tuple[Repair, ...]:
    """What makes ``vin`` of ``seen``, the characters that the pixels alone look most like."""
    found = []
    for index, (was, now) in enumerate(zip(seen, vin, strict=True)):
        if was != now:
            why = reason
            if (
                why is None
                and vin_rules.check_applies(vin)
                and vin_rules.is_valid(vin)
                and not vin_rules.is_valid(seen)
            ):
                why = "check_digit"
            if why is None:
                why = "maker" if index < 3 else "pattern"
            found.append(Repair(index + 1, was, now, why))
    return tuple(found)


def combine(
    photo: Photo, lines: Sequence[_Line], code: BarcodeVin | None, threshold: float = THRESHOLD
) -> tuple[VinCandidate, ...]:
    """The answer from the text ``lines`` (surest first) and the barcode's VIN; empty where the best is
    doubtful."""
    found: dict[str, VinCandidate] = {}
    for line in lines:
        for vin, probability in line.ranked[:4]:
            confidence = calibrated(probability)
            if vin not in found or found[vin].confidence < confidence:
                seen = line.reading.texts[0][0]
                box = _box(photo, line.corners)
                found[vin] = VinCandidate(
                    vin, confidence, box, "text", CheckDigit.of(vin), repairs(seen, vin)
                )
    if code is not None:
        found[code.vin] = _with_code(photo, lines, code, found)
        others = [c for c in found.values() if c.vin != code.vin]
        # What disagrees with a barcode is at most as likely as the barcode is wrong.
        left = 1 - found[code.vin].confidence
        for other in others:
            found[other.vin] = replace(other, confidence=min(other.confidence, left))
    ranked = sorted(found.values(), key=lambda c: -c.confidence)
    if not ranked or ranked[0].confidence < threshold:
        return ()
    return tuple(c for i, c in enumerate(ranked[:5]) if i == 0 or c.confidence >= _LEAST)


def _with_code(
    photo: Photo, lines: Sequence[_Line], code: BarcodeVin, found: dict[str, VinCandidate]
) -> VinCandidate:
    """The barcode's VIN as a candidate, boxed by the text line that says the same or nearly so."""
    digit = CheckDigit.of(code.vin)
    same = found.get(code.vin)
    if same is not None:
        doubt = (1 - same.confidence) * 0.02
        return VinCandidate(code.vin, 1 - max(doubt, 1e-4), same.box, "both", digit, same.repairs)
    confidence = 0.98 if code.sure and (digit.valid or not digit.applies) else 0.9
    for line in lines:
        seen = line.reading.texts[0][0] if line.reading.texts else ""
        if seen and sum(a != b for a, b in zip(seen, code.vin, strict=True)) <= 5:
            return VinCandidate(
                code.vin,
                confidence,
                _box(photo, line.corners),
                "barcode",
                digit,
                repairs(seen, code.vin, "barcode"),
            )
    return VinCandidate(code.vin, confidence, _box(photo, code.corners), "barcode", digit)


def calibrated(probability: float) -> float:
    """The share of right answers among validation readings to which the rules gave ``probability``."""
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return 1 / (1 + math.exp(-(_SLOPE * math.log(p / (1 - p)) + _OFFSET)))


_SLOPE, _OFFSET = 1.08, 0.33
"""Fitted by training/evaluate_vins.py on the validation split."""


# ------------------------------------------------------------------------------------------- looking


def _looking(side: int) -> DetectorTuning:
    """Return how lines are looked for at ``side``: each one twice, and at other sizes where there is none."""
    looks = (Fallback(608), Fallback(256))
    return DetectorTuning(side=side, second_look=LINES, sure=2.0, close_up=None, fallbacks=looks)


def shows_text(pixels: Pixels) -> bool:
    """Whether ``pixels`` show anything like a line of writing: a row of strokes, longer than high, any way
    round.

    It decides only which of two refusals is given, so a cheap test of shapes is enough.
    """
    zoom = min(1.0, 640 / max(pixels.shape[:2]))
    grey = cv2.cvtColor(
        cv2.resize(pixels, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY
    )
    edges = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    _, strong = cv2.threshold(edges, max(30.0, float(edges.mean()) * 2.5), 255, cv2.THRESH_BINARY)
    for kernel in ((9, 1), (1, 9)):
        joined = cv2.morphologyEx(strong, cv2.MORPH_CLOSE, np.ones(kernel[::-1], np.uint8))
        _, _, stats, _ = cv2.connectedComponentsWithStats(joined)
        for _, _, width, height, area in stats[1:]:
            long, short = max(width, height), min(width, height)
            if short >= 5 and long >= 4 * short and 0.45 * width * height < area:
                return True
    return False


def _quarters(corners: Floats) -> int:
    """How many quarter turns anticlockwise bring a text or code with ``corners`` upright."""
    x, y = (float(v) for v in corners[1] - corners[0])
    if abs(x) >= abs(y):
        return 0 if x >= 0 else 2
    return 1 if y >= 0 else 3


def _unturned(corners: Floats, quarters: int, width: int, height: int) -> Floats:
    """Where ``corners`` of a ``width`` x ``height`` photo turned by ``np.rot90(..., quarters)`` lie in it
    unturned."""
    x, y = corners[:, 0], corners[:, 1]
    ways = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))
    return np.stack(ways[quarters], axis=1).astype(np.float32)


def _box(photo: Photo, corners: Floats) -> Box:
    return Box.around(corners / photo.scale, photo.width, photo.height)


def _length(corners: NDArray[np.floating]) -> float:
    return float(np.hypot(*(corners[1] - corners[0])))


def _height(corners: NDArray[np.floating]) -> float:
    return float(np.hypot(*(corners[3] - corners[0])))
