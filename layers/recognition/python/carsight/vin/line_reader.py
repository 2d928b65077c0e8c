"""Reading the characters of one line: cut it level, ask the net, decode 17 characters.

The net is a CTC reader (see ``ctc``). A VIN has 17 characters whatever the net's favorite text is, so this
decoder sums over *all* paths that say exactly 17: that gives the probability that the line holds 17 at all,
and for each of the 17 places the exact probability of each character. Candidates are combinations of those,
each then given its own exact CTC probability.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carsight import ctc, runtime
from carsight.geometry import Floats, Pixels
from carsight.pixels import doubled, straighten, surroundings
from carsight.vin.rules import ALPHABET, LENGTH

Doubles = NDArray[np.float64]

_CLASS = {character: number for number, character in enumerate(ALPHABET, start=1)}
"""The net's class of each character."""

HEIGHT, WIDTH = 48, 384
"""Size in pixels of the crops that the net takes."""

_FEW = 12
"""Texts of a reading whose first has nearly all of the probability."""

_NEGLIGIBLE = 1e-6
"""A line that holds 17 characters with less probability than this has no texts worth the search."""


def grown(
    corners: NDArray[np.floating], share: float = 0.05, ends: float = 0.33, sides: float = 0.35
) -> Floats:
    """Return ``corners`` (4 x 2, pixels, reading order) with the margins that a crop has around its line.

    At either end ``share`` of its length and ``ends`` of its height, above and below ``sides`` of its
    height: a detector's corners are not exact, and a lost first character is worse than a bit of frame.
    """
    corners = np.asarray(corners, np.float32)
    along = (corners[1] - corners[0] + corners[2] - corners[3]) / 2
    down = (corners[3] - corners[0] + corners[2] - corners[1]) / 2
    length = max(float(np.hypot(*along)), 1e-3)
    height = max(float(np.hypot(*down)), 1e-3)
    x = along / length * (share * length + ends * height)
    y = down * sides
    return np.stack([corners[0] - x - y, corners[1] + x - y, corners[2] + x + y, corners[3] - x + y])


def trimmed(corners: NDArray[np.floating], span: tuple[float, float]) -> Floats:
    """Move the ends of ``corners`` (4 x 2) to those of the text, which has the ``span`` of a ``LineReading``.

    That is in shares of the width of a crop with the usual margins.
    """
    corners = np.asarray(corners, np.float32)
    outer = grown(corners)
    left, right = np.float32(span[0]), np.float32(span[1])
    long = length(corners) or 1.0
    margin = float(np.hypot(*((outer[1] - outer[0] - corners[1] + corners[0]) / 2)))
    along = (corners[[1, 2]] - corners[[0, 3]]) / np.float32(long)
    whole = np.float32(long + 2 * margin)
    begin, end = left * whole - np.float32(margin), right * whole - np.float32(margin)
    starts = corners[[0, 3]]
    a, d = starts + along * begin
    b, c = starts + along * end
    return np.stack([a, b, c, d])


def length(corners: NDArray[np.floating]) -> float:
    """Return how long the upper side of a line with ``corners`` is, in their unit."""
    return float(np.hypot(*(corners[1] - corners[0])))


def height(corners: NDArray[np.floating]) -> float:
    """Return how long the left side of a line with ``corners`` is, in their unit."""
    return float(np.hypot(*(corners[3] - corners[0])))


def cut(pixels: Pixels, corners: NDArray[np.floating], *margins: float) -> Pixels:
    """Cut the line within ``corners`` (4 x 2, pixels) level and with its ``margins``: 48 x 384, BGR."""
    return straighten(pixels, grown(corners, *margins), WIDTH, HEIGHT, 0.0)


def cut_enlarged(pixels: Pixels, corners: NDArray[np.floating], *margins: float) -> Pixels:
    """Cut as ``cut`` does, from pixels that are ``doubled`` before: small text comes out sharper."""
    around, origin = surroundings(pixels, grown(corners, *margins), 4)
    return cut(*doubled(around, np.asarray(corners, np.float32) - origin), *margins)


class LineReading(NamedTuple):
    """What the net says of one crop.

    ``share`` (0..1) is the probability that the line holds exactly 17 characters. ``texts`` are the
    likeliest ones, each with its probability among all texts of 17, best first. ``greedy`` is what the net
    would say unasked, of any length, ``centers`` where each of those characters stands, and ``clarity`` their
    mean probability, 0..1: of print at least 0.93, on its head at most that. ``span`` is where the likeliest
    text of 17 begins and ends. Places are in shares of the crop's width.
    """

    share: float
    texts: tuple[tuple[str, float], ...]
    greedy: str
    span: tuple[float, float] | None = None
    centers: tuple[float, ...] = ()
    clarity: float = 0.0


class Calibration(NamedTuple):
    """Logistic map from the rules' probability to the share that is right on the validation photos."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, probability: float) -> float:
        """Turn the net's ``probability`` into one that holds."""
        return ctc.platt(probability, self.slope, self.offset)


class LineReader:
    """Reads crops of lines. Made once; safe to call from many threads.

    Args:
        session: A model that takes ``image`` as in ``runtime.picture_input``, of crops of 48 x 384, and gives
            ``logits`` (B x T x 34): class 0 is the CTC blank, class i + 1 the character i of
            ``rules.ALPHABET``. Its metadata holds ``calibration`` (slope and offset, JSON) and ``threshold``,
            both fitted on the validation photos.
        centered: Whether the model takes numbers of -1..1 where it takes floats.

    Raises:
        KeyError: The model carries no such metadata.
    """

    def __init__(self, session: ort.InferenceSession, *, centered: bool = True) -> None:
        self._session = session
        self._input = runtime.picture_input(session, centered=centered)
        self._one_at_a_time = session.get_inputs()[0].shape[0] == 1
        metadata = session.get_modelmeta().custom_metadata_map
        self.calibration = Calibration(**json.loads(metadata["calibration"]))
        self.threshold = float(metadata["threshold"])

    def read(self, crops: Sequence[Pixels]) -> list[LineReading]:
        """Return what each of ``crops`` (48 x 384 BGR, see ``cut``) says."""
        return decode(self._probabilities(crops)) if crops else []

    def glance(self, crop: Pixels, least: float) -> LineReading:
        """Return what ``crop`` says, with texts only if that is clear.

        It is clear where the text on the likeliest path has 17 characters and at least the probability
        ``least``. What is not is not decoded, which takes longer than a small net.
        """
        probabilities = self._probabilities([crop])
        text, centers, clarity = _greedy(probabilities[0])
        if len(text) != LENGTH or text_probabilities(probabilities[0], [text])[0] < least:
            return LineReading(0.0, (), text, None, centers, clarity)
        return decode(probabilities, _FEW)[0]

    def _probabilities(self, crops: Sequence[Pixels]) -> Doubles:
        parts = [[crop] for crop in crops] if self._one_at_a_time else [crops]
        logits = [self._session.run(["logits"], {"image": self._input(part)})[0] for part in parts]
        return ctc.softmax(np.concatenate(logits).astype(np.float64))


def decode(probabilities: Doubles, count: int = 48) -> list[LineReading]:
    """Decode a batch of CTC outputs (B x T x 34, rows sum to 1), to up to ``count`` texts each."""
    shares, places = length_posterior(probabilities)
    readings = []
    for matrix, share, place in zip(probabilities, shares, places, strict=True):
        greedy, centers, clarity = _greedy(matrix)
        texts: list[tuple[str, float]] = []
        if share > _NEGLIGIBLE:
            proposals = likeliest(place, count)
            exact = text_probabilities(matrix, proposals) / share
            texts = sorted(zip(proposals, exact.tolist(), strict=True), key=lambda item: -item[1])
        span = _span(matrix, texts[0][0]) if texts else None
        readings.append(LineReading(float(share), tuple(texts), greedy, span, centers, clarity))
    return readings


def pooled(readings: Sequence[LineReading]) -> LineReading:
    """Return what several cuts of one line say together, placed as the first of ``readings`` is.

    The probabilities of a text are averaged: what a single cut is sure of by mistake, the others doubt. A cut
    counts by how surely it holds 17 characters, as one that misses some says nothing about the text.
    """
    whole = sum(reading.share for reading in readings)
    if not whole:
        return readings[0]
    share = sum(reading.share**2 for reading in readings) / whole
    together: dict[str, float] = {}
    for reading in readings:
        weight = reading.share**2 / whole
        for text, probability in reading.texts:
            together[text] = together.get(text, 0.0) + weight * probability
    texts = ((text, min(1.0, joint / share)) for text, joint in together.items())
    return readings[0]._replace(share=share, texts=tuple(sorted(texts, key=lambda item: -item[1])))


def _greedy(matrix: Doubles) -> tuple[str, tuple[float, ...], float]:
    """Take each step's likeliest class, less repeats and blanks.

    Return the text, where its characters stand, and the mean probability of the steps that say them.
    """
    path = matrix.argmax(axis=1)
    text, centers = "", []
    begin = 0
    for end in range(1, len(path) + 1):
        if end == len(path) or path[end] != path[begin]:
            if path[begin] != ctc.BLANK:
                text += ALPHABET[path[begin] - 1]
                centers.append((begin + end) / 2 / len(path))
            begin = end
    spoken = matrix.max(axis=1)[path != ctc.BLANK]
    return text, tuple(centers), float(spoken.mean()) if len(spoken) else 0.0


def _span(matrix: Doubles, text: str) -> tuple[float, float]:
    """Tell where ``text`` begins and ends, in shares of the crop.

    That is half a character's pitch before the first one's steps and after the last one's.
    """
    steps = ctc.align(matrix, text, ALPHABET)
    first, last = float(np.mean(steps[0])) + 0.5, float(np.mean(steps[-1])) + 0.5
    half = (last - first) / (2 * (len(text) - 1))
    return max(0.0, (first - half) / len(matrix)), min(1.0, (last + half) / len(matrix))


def length_posterior(probabilities: Doubles) -> tuple[Doubles, Doubles]:
    """Return the probability of exactly 17 characters (B), and of each at each place then (B x 17 x 33).

    Forward-backward over the states (characters so far, last character, whether a blank followed). A line
    that is read backwards is one, too: both ways are gone together, as a batch of twice as many.
    """
    batch, steps, classes = probabilities.shape
    both = np.concatenate([probabilities, probabilities[:, ::-1]])
    blank, character = both[:, :, :1], both[:, :, None, 1:]
    # Before each step: k characters so far, whichever the last is; the k-th is being emitted (k from 1); and
    # what comes before a character that is the k-th, be it the same one still or one that starts.
    whole = np.zeros((steps + 1, 2 * batch, LENGTH + 1))
    emitted = np.zeros((steps + 1, 2 * batch, LENGTH, classes - 1))
    before = np.empty((steps, 2 * batch, LENGTH, classes - 1))
    whole[0, :, 0] = 1.0
    for t in range(steps):
        np.add(emitted[t], whole[t, :, :LENGTH, None], out=before[t])
        before[t, :, 1:] -= emitted[t, :, :-1]  # the same one once more takes a blank between them
        np.multiply(before[t], character[:, t], out=emitted[t + 1])
        np.multiply(whole[t], blank[:, t], out=whole[t + 1])
        whole[t + 1, :, 1:] += emitted[t + 1].sum(axis=2)
    shares = whole[steps, :batch, LENGTH]
    starts = (before[:, :batch] - emitted[:-1, :batch]) * character[:batch].swapaxes(0, 1)
    places = (starts * before[::-1, batch:, ::-1]).sum(axis=0)
    return shares, places / np.maximum(shares, 1e-300)[:, None, None]


def likeliest(places: Doubles, count: int) -> list[str]:
    """Return the ``count`` likeliest combinations of characters at their places (17 x 33), best first."""
    order = np.argsort(-places, axis=1)[:, :6]
    costs = -np.log(np.maximum(np.take_along_axis(places, order, axis=1), 1e-12))
    costs -= costs[:, :1]
    steps = np.diff(costs, axis=1).tolist()
    choices = [[ALPHABET[character] for character in place] for place in order.tolist()]
    # Best-first over how far down each place's list a combination goes; each is reached by one way only.
    heap: list[tuple[float, tuple[int, ...], int]] = [(0.0, (0,) * len(places), 0)]
    found: list[str] = []
    while heap and len(found) < count:
        cost, ranks, first = heapq.heappop(heap)
        found.append("".join([choices[i][rank] for i, rank in enumerate(ranks)]))
        for i in range(first, len(places)):
            if ranks[i] < len(steps[i]) and cost + steps[i][ranks[i]] < 14:
                heapq.heappush(
                    heap, (cost + steps[i][ranks[i]], (*ranks[:i], ranks[i] + 1, *ranks[i + 1 :]), i)
                )
    return found


def text_probabilities(probabilities: Doubles, texts: Sequence[str]) -> Doubles:
    """Compute the CTC probability of each of ``texts`` (of one length) under one crop's output (T x 34).

    From both ends at once, as they meet in the middle; T is at least 2.
    """
    labels = np.zeros((len(texts), 2 * len(texts[0]) + 1), np.int64)
    labels[:, 1::2] = [[_CLASS[character] for character in text] for text in texts]
    number, half = len(texts), len(probabilities) // 2
    both = np.concatenate([labels, labels[:, ::-1]])
    emitted = np.concatenate(
        [probabilities[:half, labels], probabilities[: -half - 1 : -1, labels[:, ::-1]]], axis=1
    )
    # A character may follow its predecessor without a blank between them unless it is the same one.
    skip = np.zeros(both.shape)
    skip[:, 3::2] = both[:, 3::2] != both[:, 1:-2:2]
    # Two columns of nothing before the first label, so that each has two before it.
    alpha = np.zeros((2 * number, both.shape[1] + 2))
    alpha[:, 2:4] = emitted[0, :, :2]

    def before() -> Doubles:
        ways = alpha[:, :-2] * skip
        ways += alpha[:, 1:-1]
        ways += alpha[:, 2:]
        return ways

    for step in emitted[1:]:
        np.multiply(before(), step, out=alpha[:, 2:])
    if len(probabilities) % 2:
        np.multiply(before()[:number], probabilities[half, labels], out=alpha[:number, 2:])
    result: Doubles = (before()[:number] * alpha[number:, :1:-1]).sum(axis=1)
    return result
