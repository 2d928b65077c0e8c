"""Decoding the outputs of nets: softmax, Platt scaling, and CTC with texts and positions of characters.

With CTC (Graves et al., 2006) a net emits one class per time step, class 0 being a blank. A text's
probability is the sum over all paths that collapse to it when repeats and then blanks are removed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.floating]
"""T x C, rows sum to 1; column 0 is the blank, column ``i`` the alphabet's character ``i - 1``."""

BLANK = 0

_NEGLIGIBLE = 5e-4
"""Classes less probable than this at a step start no new character there, which keeps decoding a plate under
a millisecond."""

_CHOICES = 6
"""At most this many classes start a new character at a step; if more are likely, nothing is legible."""

_HOPELESS = 1e-6
"""Prefixes this much less probable than the best one are dropped."""


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the probabilities of ``logits`` along the last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def platt(probability: float, slope: float, offset: float) -> float:
    """Return ``probability`` calibrated: a logistic function of its logit (Platt, 1999)."""
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return 1 / (1 + math.exp(-(slope * math.log(p / (1 - p)) + offset)))


def odds(probability: float) -> float:
    """Return the odds of a probability."""
    return probability / max(1.0 - probability, 1e-6)


def best_texts(
    probabilities: Probabilities, alphabet: str, count: int = 10, beam: int = 12
) -> list[tuple[str, float]]:
    """Return the ``count`` likeliest texts, best first, with their probabilities; at least one, possibly "".

    This is prefix beam search (Graves & Jaitly, 2014) with ``beam`` prefixes, each with the probabilities of
    ending in a blank and in its last character. The results are lower bounds, and exact for a wide beam.
    """
    starts: list[list[int]] = [[] for _ in probabilities]
    for step, character in np.argwhere(probabilities > _NEGLIGIBLE).tolist():
        if character != BLANK:
            starts[step].append(character)
    # prefix as class indices -> probability of ending in a blank, and of ending in its last character
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 0.0)}
    for row, likely in zip(probabilities.tolist(), starts, strict=True):
        if len(likely) > _CHOICES:
            likely = sorted(likely, key=row.__getitem__, reverse=True)[:_CHOICES]
        if likely:
            beams = _grown(beams, row, likely, beam)
        else:  # no character starts: the last one or a blank continues
            beams = {
                prefix: ((in_blank + in_last) * row[BLANK], in_last * row[prefix[-1]] if prefix else 0.0)
                for prefix, (in_blank, in_last) in beams.items()
            }
    ranked = sorted(
        ((in_blank + in_last, prefix) for prefix, (in_blank, in_last) in beams.items()), reverse=True
    )
    return [("".join([alphabet[c - 1] for c in prefix]), mass) for mass, prefix in ranked[:count]]


def _grown(
    beams: Mapping[tuple[int, ...], tuple[float, float]],
    row: Sequence[float],
    likely: Sequence[int],
    beam: int,
) -> dict[tuple[int, ...], tuple[float, float]]:
    """Return the ``beam`` likeliest prefixes after a step in which one of ``likely`` may start."""
    grown: dict[tuple[int, ...], list[float]] = {}
    for prefix, (in_blank, in_last) in beams.items():
        whole = in_blank + in_last
        last = prefix[-1] if prefix else BLANK
        entry = grown.get(prefix)
        if entry is None:
            entry = grown[prefix] = [0.0, 0.0]
        entry[0] += whole * row[BLANK]
        if prefix:
            entry[1] += in_last * row[last]
        for character in likely:
            # The same character again counts as new only after a blank.
            mass = in_blank if character == last else whole
            if mass:
                longer = (*prefix, character)
                entry = grown.get(longer)
                if entry is None:
                    grown[longer] = [0.0, mass * row[character]]
                else:
                    entry[1] += mass * row[character]
    alive = [(masses[0] + masses[1], prefix, masses[0], masses[1]) for prefix, masses in grown.items()]
    alive.sort(reverse=True)
    floor = _HOPELESS * alive[0][0]
    return {prefix: (in_blank, in_last) for mass, prefix, in_blank, in_last in alive[:beam] if mass > floor}


def align(probabilities: Probabilities, text: str, alphabet: str) -> list[list[int]]:
    """Return for each character of ``text`` the time steps at which the likeliest path (Viterbi) emits it.

    Raises:
        ValueError: the text needs more time steps than there are.
    """
    likeliest = probabilities.argmax(axis=1)
    steps: list[list[int]] = []
    emitted, last = "", BLANK
    for t, label in enumerate(likeliest.tolist()):
        if label != BLANK and label != last:
            emitted += alphabet[label - 1]
            steps.append([])
        if label != BLANK:
            steps[-1].append(t)
        last = label
    if emitted == text:
        return steps  # the path that is likeliest at every step is the most probable one of its text
    return _align(probabilities, text, alphabet)


def _align(probabilities: Probabilities, text: str, alphabet: str) -> list[list[int]]:
    """Find the path by dynamic programming (Viterbi)."""
    labels = [BLANK]
    for character in text:
        labels += [alphabet.index(character) + 1, BLANK]
    states = np.array(labels)
    # A character may follow its predecessor without a blank between them unless it is the same one.
    skip = np.zeros(len(states), dtype=bool)
    skip[3::2] = states[3::2] != states[1:-2:2]
    log = np.log(np.maximum(probabilities, 1e-30))[:, states]
    score = np.full(len(states), -np.inf)
    score[:2] = log[0, :2]
    backpointers = np.zeros(log.shape, dtype=np.int64)
    for t in range(1, len(log)):
        moves = np.full((3, len(states)), -np.inf)
        moves[0] = score
        moves[1, 1:] = score[:-1]
        moves[2, 2:] = np.where(skip[2:], score[:-2], -np.inf)
        backpointers[t] = moves.argmax(axis=0)
        score = moves.max(axis=0) + log[t]
    state = len(states) - 1
    if state and score[-2] > score[-1]:
        state -= 1
    if not np.isfinite(score[state]):
        raise ValueError("the text is longer than the time steps allow")
    steps: list[list[int]] = [[] for _ in text]
    for t in range(len(log) - 1, -1, -1):
        if state % 2:
            steps[state // 2].insert(0, t)
        state -= int(backpointers[t, state])
    return steps


def character_scores(probabilities: Probabilities, text: str, alphabet: str) -> list[float]:
    """Return for each character of ``text`` its share (0..1) of the probability at its steps.

    Its steps are all those between its neighbors', as an uncertain net spreads a character over several. The
    neighbors' own probability there is left out, and blanks count for less than one character.
    """
    steps = align(probabilities, text, alphabet)
    labels = [BLANK, *(alphabet.index(character) + 1 for character in text), BLANK]
    begin, scores = 0, []
    for place, own_steps in enumerate(steps, 1):
        end = steps[place][0] if place < len(steps) else len(probabilities)
        masses = probabilities[begin:end].sum(axis=0).tolist()
        others = {BLANK, labels[place - 1], labels[place + 1]} - {labels[place]}
        scores.append(masses[labels[place]] / max(1.0, sum(masses) - sum(masses[other] for other in others)))
        begin = own_steps[-1] + 1
    return scores


class WordSpotter:
    """Looks for known words in a net's output for small print, with any text around them.

    O and 0 count as the same character.
    """

    _CHANCE = 1.5
    """The evidence of a character: the logarithm of how much less often another one would fit there."""

    def __init__(self, words: Sequence[str], alphabet: str) -> None:
        """Look for ``words``, which consist of characters of ``alphabet``."""
        self._alike = [alphabet.index(character) + 1 for character in "O0"]
        states = 2 * max(map(len, words)) - 1
        self._classes = np.full((len(words), states), BLANK)
        self._direct = np.full((len(words), states), -np.inf)
        """0 where a character may follow the one before it without a blank between them."""
        for row, word in enumerate(words):
            self._classes[row, : 2 * len(word) : 2] = [alphabet.index(character) + 1 for character in word]
            different = [a != b for a, b in itertools.pairwise(word)]
            self._direct[row, 2 : 2 * len(word) : 2] = np.where(different, 0.0, -np.inf)
        self._lengths = np.array([len(word) for word in words])

    def evidence(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return for each word the logarithm of how much likelier it is there than any other text.

        ``probabilities`` (N x T x C) are those of one or more crops of equal width; each word's best crop
        counts. A word's best path (Viterbi), which may begin and end anywhere, is compared with the likeliest
        path over the same steps.
        """
        seen = probabilities.astype(np.float64)
        seen[..., self._alike] = seen[..., self._alike].sum(axis=-1, keepdims=True)
        log = np.log(np.maximum(seen, 1e-6)) - np.log(np.maximum(seen.max(axis=-1, keepdims=True), 1e-6))
        rows, states = self._classes.shape
        ends = slice(None), np.arange(rows), 2 * self._lengths - 2
        emitted = log[..., self._classes]
        best = np.full((len(log), rows), -np.inf)
        # Two impossible columns come first, so that each state has two predecessors.
        paths = np.full((len(log), rows, states + 2), -np.inf)
        grown = np.empty((len(log), rows, states))
        for step in range(log.shape[1]):
            np.add(paths[..., :-2], self._direct, out=grown)
            np.maximum(grown, paths[..., 1:-1], out=grown)
            np.maximum(grown, paths[..., 2:], out=grown)
            np.maximum(grown[..., 0], 0.0, out=grown[..., 0])
            np.add(grown, emitted[:, step], out=paths[..., 2:])
            np.maximum(best, paths[..., 2:][ends], out=best)
        result: NDArray[np.float64] = best.max(axis=0) + self._CHANCE * self._lengths
        return result
