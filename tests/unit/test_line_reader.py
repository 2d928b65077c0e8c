"""Decoding exactly 17 characters, against a count of all paths on a toy, and the cut of a line."""

from __future__ import annotations

import itertools
from collections import defaultdict

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from carsight.vin import line_reader
from carsight.vin.rules import ALPHABET


def all_texts(matrix: NDArray[np.float64]) -> dict[tuple[int, ...], float]:
    """Every text of a tiny CTC output with its exact probability, by walking every path."""
    texts: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(matrix.shape[1]), repeat=matrix.shape[0]):
        text = tuple(c for i, c in enumerate(path) if c and (i == 0 or c != path[i - 1]))
        texts[text] += float(np.prod([matrix[t, c] for t, c in enumerate(path)]))
    return texts


@pytest.mark.parametrize("seed", range(4))
def test_places_and_shares_equal_the_sum_over_all_paths(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_reader, "LENGTH", 3)
    rng = np.random.default_rng(seed)
    matrix = rng.dirichlet(np.full(4, 0.7), 5 + seed % 2)
    exact = {text: p for text, p in all_texts(matrix).items() if len(text) == 3}
    shares, places = line_reader.length_posterior(matrix[None])
    assert shares[0] == pytest.approx(sum(exact.values()))
    expected = np.zeros((3, 3))
    for text, p in exact.items():
        for place, character in enumerate(text):
            expected[place, character - 1] += p / sum(exact.values())
    assert places[0] == pytest.approx(expected)
    names = ["".join(ALPHABET[c - 1] for c in text) for text in exact]
    assert line_reader.text_probabilities(matrix, names) == pytest.approx(list(exact.values()))


def said(text: str, certain: float = 0.9) -> NDArray[np.float64]:
    """A CTC output that says ``text``, with a blank after each character and the rest spread evenly."""
    matrix = np.full((2 * len(text), 34), (1 - certain) / 33)
    for index, character in enumerate(text):
        matrix[2 * index, ALPHABET.index(character) + 1] = certain
        matrix[2 * index + 1, 0] = certain
    result: NDArray[np.float64] = matrix / matrix.sum(axis=1, keepdims=True)
    return result


def test_a_clear_line_is_read_as_it_stands() -> None:
    reading = line_reader.decode(said("1M8GDM9AXKP042788", 0.99)[None])[0]
    assert reading.texts[0][0] == reading.greedy == "1M8GDM9AXKP042788"
    assert reading.share > 0.8
    assert len(reading.centers) == 17
    assert list(reading.centers) == sorted(reading.centers)


def test_repeated_characters_are_kept() -> None:
    assert line_reader.decode(said("11111111111111111", 0.99)[None])[0].texts[0][0] == "11111111111111111"


@pytest.mark.parametrize("text", ["", "1M8GDM9A", "1M8GDM9AXKP0427881M8"])
def test_lines_of_another_length_hardly_share(text: str) -> None:
    matrix = np.concatenate([said(text, 0.99), np.tile(np.eye(34)[0] * 0.99 + 0.01 / 34, (4, 1))])
    assert line_reader.decode(matrix[None])[0].share < 0.05


def test_the_likeliest_combinations_come_in_order_without_repetition() -> None:
    places = np.random.default_rng(1).dirichlet(np.full(33, 0.05), 17)
    texts = line_reader.likeliest(places, 40)
    scores = [float(np.prod([places[i, ALPHABET.index(c)] for i, c in enumerate(text)])) for text in texts]
    assert len(set(texts)) == len(texts) == 40
    assert scores == sorted(scores, reverse=True)


def test_a_tilted_line_is_cut_level() -> None:
    photo = np.full((400, 400, 3), 255, np.uint8)
    corners = np.array([(100, 150), (300, 150), (300, 170), (100, 170)], np.float64)
    turn = cv2.getRotationMatrix2D((200, 160), -25, 1.0)
    tilted = cv2.transform(corners[None], turn)[0].astype(np.float32)
    cv2.fillPoly(photo, [tilted.astype(np.int32)], (0, 0, 0))
    crop = line_reader.cut(photo, tilted)
    assert crop.shape == (48, 384, 3)
    assert crop[12:36, 20:300].mean() < 40
    assert crop[:3].mean() > 215
    assert crop[-3:].mean() > 215


def test_small_text_is_cut_from_the_same_place_when_it_is_enlarged() -> None:
    photo = np.full((60, 200, 3), 200, np.uint8)
    for x in range(30, 170, 8):  # the bars of a line whose characters have 8 pixels
        photo[24:34, x : x + 4] = 20
    corners = np.array([(30, 24), (170, 24), (170, 34), (30, 34)], np.float32)
    plain, enlarged = line_reader.cut(photo, corners), line_reader.cut_enlarged(photo, corners)
    assert enlarged.shape == plain.shape
    rows = [crop[24].mean(axis=1) - crop[24].mean() for crop in (plain, enlarged)]
    shifts = [float((rows[0] * np.roll(rows[1], shift)).sum()) for shift in range(-8, 9)]
    assert abs(int(np.argmax(shifts)) - 8) <= 1
    assert enlarged[24].std() > plain[24].std()
    outside = line_reader.cut_enlarged(photo, corners + 500)
    assert outside.shape == plain.shape


def test_cuts_that_disagree_are_less_sure_together() -> None:
    one = line_reader.LineReading(
        1.0, (("1M8GDM9AXKP042788", 0.98), ("1M8GDM9AXKP042768", 0.02)), "first", (0.1, 0.9)
    )
    other = line_reader.LineReading(0.5, (("1M8GDM9AXKP042768", 1.0),), "other")
    both = line_reader.pooled([one, other])
    assert both.share == pytest.approx(1.25 / 1.5)
    assert (both.greedy, both.span) == ("first", (0.1, 0.9))
    assert [text for text, _ in both.texts] == ["1M8GDM9AXKP042788", "1M8GDM9AXKP042768"]
    assert [p for _, p in both.texts] == pytest.approx([0.98 / 1.25, 0.27 / 1.25])
    nothing = line_reader.LineReading(0.0, (), "")
    assert line_reader.pooled([nothing, nothing]) == nothing
