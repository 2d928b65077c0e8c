"""The plate reader: rectified crops in, text with candidates and region out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carsight import ctc, runtime
from carsight.geometry import Pixels
from carsight.pixels import resized, straighten
from carsight.plate.regions import agrees, plausibilities, words

HEIGHT = 48
"""Height in pixels of every crop the reader takes."""

ONE_ROW = 160
"""Width of a crop of one row."""

TWO_ROWS = 224
"""Width of a crop of two rows, which lie side by side, the top row left."""

GROW = 0.06
"""How much wider and higher than the detected corners a crop is, as a share: corners tend to lie on the
plate's edge."""

_TOP_ENDS, _BOTTOM_BEGINS = 0.54, 0.46
"""Where the rows of a two-row plate are cut, in shares of its height. They overlap, as rows differ in
height."""

_SMALL_PRINT = (0.0, 0.36), (0.72, 1.0)
"""Where a plate's small print is: from and to, in shares of its height."""

_PRINT_WIDTH = 256
"""Width of a crop of small print."""

_ALIKE = str.maketrans("OI", "01")
"""Letters that look like digits."""


def rectify(
    pixels: Pixels,
    corners: NDArray[np.floating],
    two_rows: bool,
    grow: float = GROW,
    *,
    sharp: bool = False,
) -> Pixels:
    """Cut out a plate upright: 48 x 160 for one row, 48 x 224 for two rows, side by side.

    Parts outside the photo repeat its edge.

    Args:
        pixels: The photo (height x width x 3, BGR).
        corners: The plate's (4 x 2, pixels), clockwise from its top left.
        two_rows: Whether the plate has two rows.
        grow: Share by which width and height are enlarged.
        sharp: As in ``straighten``.
    """
    if two_rows:
        return side_by_side(straighten(pixels, corners, TWO_ROWS // 2, 2 * HEIGHT, grow, sharp=sharp))
    return straighten(pixels, corners, ONE_ROW, HEIGHT, grow, sharp=sharp)


def side_by_side(plate: Pixels) -> Pixels:
    """Lay out an upright two-row plate of any size as 48 x 224: top row left, bottom row right."""
    height = plate.shape[0]
    rows = plate[: round(height * _TOP_ENDS)], plate[round(height * _BOTTOM_BEGINS) :]
    return np.hstack([resized(row, TWO_ROWS // 2, HEIGHT) for row in rows])


def small_print(pixels: Pixels, corners: NDArray[np.floating]) -> list[Pixels]:
    """Cut out a plate's top and bottom (48 x 256 each), where the name and motto of a state are."""
    plate = straighten(pixels, corners, _PRINT_WIDTH, 4 * HEIGHT, 2 * GROW)
    strips = [plate[round(begin * len(plate)) : round(end * len(plate))] for begin, end in _SMALL_PRINT]
    return [
        np.asarray(cv2.resize(strip, (_PRINT_WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)
        for strip in strips
    ]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text (lower case) or one of its characters, with the probability that it is right, 0..1."""

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The text and region of a crop; if it is illegible, ``text`` is "" and ``score`` 0.

    ``text`` is lower case, letters and digits only, and equals ``candidates[0].text``. ``score`` (0..1) is
    the probability that all of it is right. ``region`` is a code of ``regions.CODES``, ``region_score`` its
    probability. ``shares`` are the uncalibrated probabilities of all regions that the model knows, and
    ``design`` their log probabilities by the plate's looks alone, up to a constant.
    """

    text: str
    score: float
    candidates: tuple[Candidate, ...]
    characters: tuple[Candidate, ...]
    region: str
    region_score: float
    shares: NDArray[np.float64] = field(compare=False, repr=False)
    design: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)


def vote(readings: Sequence[Reading]) -> Reading:
    """Merge the readings of several cuts of one plate, which vote with their scores.

    A text's score is halfway between its mean over the cuts and its maximum, which has a better Brier score
    on training photos than either.
    """
    scores: dict[str, list[float]] = {}
    for reading in readings:
        for candidate in reading.candidates:
            scores.setdefault(candidate.text, []).append(candidate.score)
    votes: dict[str, float] = {}
    for reading in readings:
        votes[reading.text] = votes.get(reading.text, 0.0) + reading.score
    best = max(readings, key=lambda reading: (votes[reading.text], reading.score))
    if not best.text:
        return best
    found = {text: (sum(each) / len(readings) + max(each)) / 2 for text, each in scores.items()}
    total = max(1.0, sum(found.values()))
    score = found[best.text] / total
    ranked = sorted(found, key=lambda text: (text != best.text, -found[text]))
    candidates = tuple(Candidate(text, min(score, found[text] / total)) for text in ranked)
    return replace(best, score=score, candidates=candidates)


class Calibration(NamedTuple):
    """Figures fitted on the validation plates, stored in the model's metadata by training/plate_reader.py.

    The probability that a text is right is ``1 / (1 + exp(-(text_slope * logit + text_offset)))`` of its
    share's logit (Platt, 1999). Region logits are divided by ``region_temperature`` before they are combined
    with the text; the result is calibrated like the text, by ``region_slope`` and ``region_offset``. A state
    whose share is below ``state_threshold`` is not named.
    """

    text_slope: float = 1.0
    text_offset: float = 0.0
    region_temperature: float = 1.0
    region_slope: float = 1.0
    region_offset: float = 0.0
    state_threshold: float = 0.4


class ReaderTuning(NamedTuple):
    """Settings of the reader that can be changed without training it again.

    A hinted region becomes ``hint_weight`` times as likely: enough to settle doubts, too little to overrule a
    clear design. A text that scores less than ``min_text_score`` is ignored: blank crops of any gray score up
    to 0.006, and all answers to validation photos at least 0.02. If the series distinguish texts that differ
    only in O and 0 or in I and 1, the net's probabilities are raised to the power ``lookalike_trust``.

    A region is doubtful if it scores less than ``sure_region``, or if it is a country whose state is not
    named. As reading small print costs as much as two plates, it is read only if the regions with known words
    together have at least ``worded_share`` of all shares. A word makes its region up to
    exp(``most_evidence``) times as likely: on 343 training plates from states, the word with the most
    evidence is that of the right state on 128, and never that of another.
    """

    hint_weight: float = 20.0
    min_text_score: float = 0.01
    lookalike_trust: float = 0.3
    sure_region: float = 0.6
    worded_share: float = 0.05
    most_evidence: float = 7.0


class PlateReader:
    """Reads rectified crops. Keeps no state between calls, so threads may share one."""

    def __init__(
        self, session: ort.InferenceSession, tuning: ReaderTuning | None = None, *, centered: bool = True
    ) -> None:
        """Read with ``session``, a model of training/lean_plate_reader.py or training/plate_reader.py.

        It takes ``image`` as in ``runtime.picture_input``, ``centered`` or not. Its metadata holds
        ``alphabet``, ``regions`` (a JSON array) and ``calibration`` (a JSON object).

        Raises:
            KeyError: The model carries no such metadata.
        """
        self._tuning = tuning or ReaderTuning()
        metadata = session.get_modelmeta().custom_metadata_map
        self._session = session
        self._input = runtime.picture_input(session, centered=centered)
        self.alphabet: str = metadata["alphabet"]
        self.regions: tuple[str, ...] = tuple(json.loads(metadata["regions"]))
        countries = [code.partition("-")[0] for code in self.regions]
        self._countries = sorted(set(countries))
        self._country_of = np.array([self._countries.index(country) for country in countries])
        self._calibration = Calibration(**json.loads(metadata["calibration"]))
        known = [(word, self.regions.index(code)) for word, code in words() if code in self.regions]
        self._spotter = ctc.WordSpotter([word for word, _ in known], self.alphabet)
        self._region_of_word = np.array([region for _, region in known])
        self._worded = sorted({region for _, region in known})
        self._federal = {code.partition("-")[0] for code in self.regions if "-" in code}

    def read(self, crops: Sequence[Pixels], regions: Sequence[str] = ()) -> list[Reading]:
        """Read crops of ``rectify``, in order; ``regions`` are the caller's hint, of ``regions.CODES``."""
        readings: dict[int, Reading] = {}
        for width in {crop.shape[1] for crop in crops}:
            where = [i for i, crop in enumerate(crops) if crop.shape[1] == width]
            logits, region_logits = self._run([crops[i] for i in where])
            for i, steps, scores in zip(where, logits, region_logits, strict=True):
                readings[i] = self.decode(ctc.softmax(steps), scores, regions)
        return [readings[i] for i in range(len(crops))]

    def doubts_region(self, reading: Reading) -> bool:
        """Return whether small print may improve the region of ``reading``."""
        doubtful = reading.region_score < self._tuning.sure_region or reading.region in self._federal
        return doubtful and reading.shares[self._worded].sum() >= self._tuning.worded_share

    def also_seen(self, reading: Reading, other: Reading) -> Reading:
        """Return ``reading`` with its region judged from the design as seen by two readers.

        ``other`` is the reading of the same plate by another reader with the same regions; ``reading`` has
        twice its weight.
        """
        if reading.design is None or other.design is None:
            return reading
        gain = (other.design - reading.design) / 3
        shares = reading.shares * np.exp(gain - gain.max())
        shares /= shares.sum()
        code, score = self._region(shares)
        return replace(reading, region=code, region_score=score, shares=shares)

    def with_small_print(self, reading: Reading, strips: Sequence[Pixels]) -> Reading:
        """Return ``reading`` with its region judged with the words on ``strips``, those of ``small_print``.

        The series of that region decide again between O and 0, and between I and 1, in its text.
        """
        logits, _ = self._run(strips)
        found = self._spotter.evidence(ctc.softmax(logits))
        evidence = np.zeros(len(self.regions))
        np.maximum.at(evidence, self._region_of_word, np.minimum(found, self._tuning.most_evidence))
        shares = reading.shares * np.exp(evidence)
        shares /= shares.sum()
        reading = self._with_lookalikes_settled(reading, shares)
        code, score = self._region(reading.shares)
        return replace(reading, region=code, region_score=score)

    def _with_lookalikes_settled(self, reading: Reading, shares: NDArray[np.float64]) -> Reading:
        """Return ``reading``, or a look-alike text that fits better, now that the regions have ``shares``."""
        folded = reading.text.upper().translate(_ALIKE)
        group = [each for each in reading.candidates if each.text.upper().translate(_ALIKE) == folded]
        if len(group) < 2 or group[0].text != reading.text:
            return replace(reading, shares=shares)
        fits = np.stack([plausibilities(each.text.upper(), self.regions) for each in group])
        # The shares include how well the text fits; dividing by that leaves all other evidence of the region.
        before, after = reading.shares / fits[0], shares / fits[0]
        gains = (fits @ after) / after.sum() * before.sum() / (fits @ before)
        scores = np.array([each.score for each in group])
        weights = scores * gains
        best = int(np.argmax(weights))
        if best == 0:
            return replace(reading, shares=shares)
        rescored = dict(
            zip([each.text for each in group], scores.sum() * weights / weights.sum(), strict=True)
        )
        text, score = group[best].text, float(rescored[group[best].text])
        others = [
            Candidate(each.text, min(score, float(rescored.get(each.text, each.score))))
            for each in reading.candidates
            if each.text != text
        ]
        return replace(
            reading,
            text=text,
            score=score,
            candidates=(Candidate(text, score), *sorted(others, key=lambda each: -each.score)),
            characters=tuple(
                each if each.text == character else Candidate(character, 1 - each.score)
                for each, character in zip(reading.characters, text, strict=True)
            ),
            shares=fits[best] * after / (fits[best] @ after),
        )

    def _run(self, crops: Sequence[Pixels]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the net's logits of texts and of regions for ``crops`` of equal width."""
        logits, regions = self._session.run(["logits", "regions"], {"image": self._input(crops)})
        return np.asarray(logits), np.asarray(regions)

    def decode(
        self,
        probabilities: NDArray[np.float64],
        region_logits: NDArray[np.float32],
        hints: Sequence[str] = (),
    ) -> Reading:
        """Decode a crop's text and region together, as each is evidence for the other.

        Args:
            probabilities: Of the characters, as in ``ctc``.
            region_logits: One for each of ``self.regions``.
            hints: Regions that the caller expects.
        """
        found = ctc.best_texts(probabilities, self.alphabet)
        design = region_logits / np.float64(self._calibration.region_temperature)
        region_probs = ctc.softmax(design)
        if hints:
            hinted = np.array([any(agrees(code, hint) for hint in hints) for code in self.regions])
            region_probs = np.where(hinted, region_probs * self._tuning.hint_weight, region_probs)
            region_probs /= region_probs.sum()
        if not found[0][0]:
            return Reading("", 0.0, (), (), *self._region(region_probs), region_probs, design)
        found = [(text, p) for text, p in found if text]
        series_fit = np.stack([plausibilities(text, self.regions) for text, _ in found])
        found = self._reweight_lookalikes(found, series_fit @ region_probs)
        joint = np.array([p for _, p in found])[:, None] * series_fit * region_probs
        order = np.argsort(-joint.sum(axis=1), kind="stable")
        texts = [found[i][0] for i in order]
        mass = joint.sum(axis=1)[order]
        # Texts dropped by the beam count against every candidate, as if they fitted as well as the best one.
        pruned_mass = max(0.0, 1 - sum(p for _, p in found)) * float(series_fit[order[0]] @ region_probs)
        shares = mass / (mass.sum() + pruned_mass)
        scores = self._scores(shares)
        if scores[0] < self._tuning.min_text_score:
            return Reading("", 0.0, (), (), *self._region(region_probs), region_probs, design)
        region_shares = joint[order[0]] / joint[order[0]].sum()
        code, region_score = self._region(region_shares)
        characters = ctc.character_scores(probabilities, texts[0], self.alphabet)
        return Reading(
            texts[0].lower(),
            scores[0],
            tuple(Candidate(text.lower(), score) for text, score in zip(texts, scores, strict=True)),
            tuple(Candidate(c.lower(), s) for c, s in zip(texts[0], characters, strict=True)),
            code,
            region_score,
            region_shares,
            design,
        )

    def _reweight_lookalikes(
        self, found: list[tuple[str, float]], fits: NDArray[np.float64]
    ) -> list[tuple[str, float]]:
        """Reweight texts among ``found`` that differ only in O and 0 or in I and 1.

        If the series distinguish them by their ``fits``, the net's probabilities count less.
        """
        groups: dict[str, list[int]] = {}
        for index, (text, _) in enumerate(found):
            groups.setdefault(text.translate(_ALIKE), []).append(index)
        reweighted = list(found)
        for group in groups.values():
            if len(group) > 1 and max(fits[group]) > 2 * min(fits[group]):
                powers = [found[i][1] ** self._tuning.lookalike_trust for i in group]
                share = sum(found[i][1] for i in group) / sum(powers)
                for i, power in zip(group, powers, strict=True):
                    reweighted[i] = found[i][0], power * share
        return reweighted

    def _scores(self, shares: NDArray[np.float64]) -> list[float]:
        """Calibrate the best share, and divide the remaining probability in proportion to the others."""
        first = min(max(float(shares[0]), 1e-6), 1 - 1e-6)
        best = ctc.platt(first, self._calibration.text_slope, self._calibration.text_offset)
        left = (1 - best) / (1 - first)
        return [best, *(min(best, float(share) * left) for share in shares[1:])]

    def _region(self, shares: NDArray[np.float64]) -> tuple[str, float]:
        """Return the likeliest country, or its state if that is certain enough, and the calibrated score."""
        calibration = self._calibration
        by_country = np.bincount(self._country_of, weights=shares)
        country = int(np.argmax(by_country))
        best = int(np.argmax(np.where(self._country_of == country, shares, -1.0)))
        named = self.regions[best] == self._countries[country]
        if named or shares[best] >= calibration.state_threshold:
            code, share = self.regions[best], shares[best]
        else:
            code, share = self._countries[country], by_country[country]
        return code, ctc.platt(float(share), calibration.region_slope, calibration.region_offset)
