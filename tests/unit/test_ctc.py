"""CTC decoding against brute force over every path."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray

from carsight import ctc

ALPHABET = "AB1"


def random_probabilities(seed: int, steps: int) -> NDArray[np.float64]:
    return ctc.softmax(np.random.default_rng(seed).normal(0, 2, (steps, len(ALPHABET) + 1)))


def collapse(path: tuple[int, ...]) -> str:
    kept = [c for i, c in enumerate(path) if c and (i == 0 or c != path[i - 1])]
    return "".join(ALPHABET[c - 1] for c in kept)


def every_text(probabilities: NDArray[np.float64]) -> dict[str, float]:
    texts: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(probabilities.shape[1]), repeat=len(probabilities)):
        texts[collapse(path)] += float(np.prod(probabilities[range(len(path)), path]))
    return texts


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_true_probabilities(seed: int) -> None:
    probabilities = random_probabilities(seed, 6)
    truth = every_text(probabilities)
    found = ctc.best_texts(probabilities, ALPHABET, count=10, beam=2000)
    expected = sorted(truth.values(), reverse=True)[:10]
    assert [p for _, p in found] == pytest.approx(expected, rel=0.02)
    assert all(p == pytest.approx(truth[text], rel=0.02) for text, p in found)


def test_candidates_are_distinct_sorted_and_sum_to_at_most_one() -> None:
    found = ctc.best_texts(random_probabilities(7, 12), ALPHABET)
    scores = [score for _, score in found]
    assert len({text for text, _ in found}) == len(found)
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) <= 1 + 1e-9


def test_a_repeated_character_needs_a_blank_between() -> None:
    sure = np.full((3, 4), 0.01)
    sure[[0, 1, 2], [1, 1, 1]] = 0.97
    assert ctc.best_texts(sure, ALPHABET)[0][0] == "A"
    sure[1] = [0.97, 0.01, 0.01, 0.01]
    assert ctc.best_texts(sure, ALPHABET)[0][0] == "AA"


@pytest.mark.parametrize("whole", [False, True], ids=["some text", "the likeliest path's text"])
@pytest.mark.parametrize("seed", range(5))
def test_alignment_is_the_best_path_of_the_text(seed: int, whole: bool) -> None:
    probabilities = random_probabilities(seed, 6)
    likeliest = collapse(tuple(probabilities.argmax(axis=1).tolist()))
    text = likeliest if whole and likeliest else "AA1" if seed % 2 else "AB"
    paths = [p for p in itertools.product(range(4), repeat=6) if collapse(p) == text]
    best = max(paths, key=lambda path: float(np.prod(probabilities[range(6), path])))
    steps = ctc.align(probabilities, text, ALPHABET)
    rebuilt = [0] * 6
    for character, where in zip(text, steps, strict=True):
        for t in where:
            rebuilt[t] = ALPHABET.index(character) + 1
    assert tuple(rebuilt) == best


def test_a_text_longer_than_the_steps_cannot_be_aligned() -> None:
    with pytest.raises(ValueError, match="longer"):
        ctc.align(random_probabilities(0, 3), "AAA", ALPHABET)


def test_the_best_text_may_be_empty() -> None:
    blank = np.array([[0.99, 0.004, 0.003, 0.003]] * 4)
    assert ctc.best_texts(blank, ALPHABET)[0][0] == ""
    assert ctc.character_scores(blank, "", ALPHABET) == []


def test_character_scores_are_probabilities() -> None:
    scores = ctc.character_scores(random_probabilities(3, 8), "AB", ALPHABET)
    assert len(scores) == 2
    assert all(0 <= score <= 1 for score in scores)


def test_a_character_scores_everything_between_its_neighbors() -> None:
    rows = {"A": 1, "B": 2, "1": 3}

    def said(*steps: str) -> list[float]:
        """Scores of AB1 where each step says its characters alike, or one and a blank."""
        probabilities = np.full((len(steps), 4), 1e-4)
        for row, step in zip(probabilities, steps, strict=True):
            row[[rows.get(sign, ctc.BLANK) for sign in step]] = 1 / len(step)
        return ctc.character_scores(probabilities / probabilities.sum(axis=1, keepdims=True), "AB1", ALPHABET)

    # Whether it is at this step or at the next, it is a B.
    assert said("A", "-", "B-", "B-", "-", "1") == pytest.approx([1, 1, 1], abs=2e-3)
    # What is left of A is no doubt of B, which stands after it.
    assert said("A-", "A-", "B", "-", "1", "1") == pytest.approx([1, 1, 1], abs=2e-3)
    # Another character may stand there, or none at all.
    assert said("A", "-", "B", "-", "1A", "1A") == pytest.approx([1, 1, 0.5], abs=2e-3)
    assert said("A", "-", "B-", "-", "-", "1") == pytest.approx([1, 0.5, 1], abs=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_word_is_found_anywhere(seed: int) -> None:
    words, alphabet = ("A", "AB", "BB", "A0"), "AB0"
    probabilities = ctc.softmax(np.random.default_rng(seed).normal(0, 2, (5, 4)))
    evidence = ctc.WordSpotter(words, alphabet + "O").evidence(np.pad(probabilities, ((0, 0), (0, 1)))[None])
    best = dict.fromkeys(words, -np.inf)
    likeliest = probabilities.max(axis=1)
    for begin, end in itertools.combinations(range(6), 2):
        for path in itertools.product(range(4), repeat=end - begin):
            kept = [c for i, c in enumerate(path) if c and (i == 0 or c != path[i - 1])]
            word = "".join(alphabet[c - 1] for c in kept)
            if word in best:
                odds = probabilities[range(begin, end), path] / likeliest[begin:end]
                best[word] = max(best[word], float(np.log(odds).sum()))
    expected = [best[word] + 1.5 * len(word) for word in words]
    np.testing.assert_allclose(evidence, expected, atol=1e-6)


def test_a_word_may_be_written_with_a_zero() -> None:
    alphabet = "HI0O"
    steps = np.full((9, 5), 0.001)
    for step, sign in zip(range(1, 9, 2), "OHI0", strict=True):
        steps[step, alphabet.index(sign) + 1] = 0.996
    steps[::2, 0] = 0.996
    there, absent = ctc.WordSpotter(("OHIO", "HOHO"), alphabet).evidence(np.stack([steps[::-1], steps]))
    assert there > 5.9
    assert absent < 0
