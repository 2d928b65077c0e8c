"""The VIN recognizer: what is made of readings and barcodes, and whole photos of rendered labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zxingcpp

from carsight import runtime
from carsight.detections import Detection
from carsight.detector import Detector
from carsight.geometry import Box, Pixels
from carsight.photo import Photo, decode
from carsight.vin import barcodes, line_reader, readers, rules
from carsight.vin import recognizer as vins
from carsight.vin.barcodes import BarcodeVin
from carsight.vin.line_reader import Calibration, LineReader, LineReading
from carsight.vin.payloads import Place
from carsight.vin.ranking import Prior, find_window, rank_by_posterior
from carsight.vin.recognizer import CheckDigit, Repair, VinRecognizer, VinResult, VinTuning
from carsight.vin.rules import check_applies, is_valid, known_maker
from carsight.vin.search import Search
from carsight.vin.text_lines import shapes
from carsight.vin.views import View
from training.render_numbers import render_other
from training.render_vins import strike
from training.vin_glyphs import Style, set_line
from training.vin_texts import draw_vin

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
CHECKED = "1M8GDM9AXKP042788"
UNCHECKED = "WVWZZZ1KZ7M047185"
GRAY = np.full((200, 400, 3), 128, np.uint8)
"""A photo, of which the fakes find and read what they are told to."""
GRAY.flags.writeable = False
QUAD = np.array([(100, 50), (300, 50), (300, 70), (100, 70)], np.float32)


def pixels(name: str) -> Pixels:
    return decode((DATA / f"{name}.jpg").read_bytes()).pixels


def reading(*texts: tuple[str, float], share: float = 0.98) -> LineReading:
    return LineReading(share, texts, texts[0][0] if texts else "")


class Blind(Detector):
    """Finds the same line in every photo, or nothing."""

    def __init__(self, *quads: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        self.quads = quads

    def detect(self, pixels: Pixels) -> list[Detection]:
        return [Detection(0.9, np.concatenate([q.min(axis=0), q.max(axis=0)]), q) for q in self.quads]

    def promising_turns(self, pixels: Pixels) -> list[int]:
        return []


class Told(LineReader):
    """Reads the same from every crop."""

    def __init__(self, answer: LineReading) -> None:
        self.answer = answer
        self.calibration = Calibration()
        self.threshold = 0.77

    def read(self, crops: Sequence[Pixels]) -> list[LineReading]:
        return [self.answer] * len(crops)

    def glance(self, crop: Pixels, least: float) -> LineReading:
        (answer,) = self.read([crop])
        clear = bool(answer.texts) and answer.share * answer.texts[0][1] >= least
        return answer if clear else answer._replace(share=0.0, texts=())


def recognized(
    answer: LineReading, code: BarcodeVin | None, monkeypatch: pytest.MonkeyPatch, scale: float = 1.0
) -> VinResult:
    monkeypatch.setattr(barcodes, "look", lambda *_, **__: [] if code is None else [code])
    detector = Blind(QUAD)
    photo = Photo(round(400 / scale), round(200 / scale), GRAY, scale)
    monkeypatch.setattr(Photo, "full", lambda self: self)
    return VinRecognizer(detector, detector, Told(answer)).read(photo)


def barcode(vin: str, scale: float = 1.0) -> BarcodeVin:
    return BarcodeVin(vin, (QUAD + 60) / np.float32(scale), Place.ALONE)


def test_a_clear_line_is_answered_with_its_box(monkeypatch: pytest.MonkeyPatch) -> None:
    result = recognized(reading((CHECKED, 0.99)), None, monkeypatch, scale=0.5)
    first = result.candidates[0]
    assert (first.vin, first.source, first.repairs) == (CHECKED, "text", ())
    assert first.box == Box(200, 100, 600, 140)
    assert first.check_digit == CheckDigit(valid=True, applies=True)
    assert result.text_found


def test_a_failed_check_digit_is_repaired_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    misread = CHECKED[:11] + "8" + CHECKED[12:]
    result = recognized(reading((misread, 0.7), (CHECKED, 0.29)), None, monkeypatch)
    assert result.candidates[0].vin == CHECKED
    assert result.candidates[0].repairs == (Repair(12, "8", "0", "check_digit"),)
    assert all(c.confidence < result.candidates[0].confidence for c in result.candidates[1:])


def test_a_reading_that_must_pass_and_does_not_scores_below_one_that_does() -> None:
    broken = CHECKED[:16] + "9"
    assert Prior().odds(broken) * 50 < Prior().odds(CHECKED)
    assert rank_by_posterior(reading((broken, 0.9), (CHECKED, 0.1)), Prior().odds)[0][0] == CHECKED


@pytest.mark.parametrize(
    "number",
    [
        "SN20A7KX4410B2297",  # an order's
        "7Y2T0A41X9984KD03",  # a router's
        "3F2504E04F8911D39",  # hexadecimal
        "20240115000123456",  # a counter's
        "63176257234129748",
        "1HGCM82633A004353",  # a maker's, but for the check digit that must hold
    ],
)
def test_a_clear_line_that_is_no_vin_is_no_answer(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recognized(reading((number, 0.999), share=0.999), None, monkeypatch).candidates == ()
    assert recognized(reading(share=0.0), barcode(number), monkeypatch).candidates == ()


def test_a_code_that_is_no_vin_does_not_beat_the_printed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    result = recognized(reading((CHECKED, 0.99)), barcode("PX31A7KX4410B2297"), monkeypatch)
    assert (result.candidates[0].vin, result.candidates[0].source) == (CHECKED, "text")
    assert len(result.candidates) == 1


def test_no_check_digit_is_asked_where_none_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    first = recognized(reading((UNCHECKED, 0.97)), None, monkeypatch).candidates[0]
    assert first.vin == UNCHECKED
    assert first.check_digit == CheckDigit(valid=False, applies=False)


class Twice(Told):
    """Says one thing of the first crop, another of all others."""

    def __init__(self, first: LineReading, others: LineReading) -> None:
        super().__init__(first)
        self.others = others
        self.crops = 0

    def read(self, crops: Sequence[Pixels]) -> list[LineReading]:
        self.crops += len(crops)
        return [self.answer if self.crops == len(crops) else self.others] * len(crops)


@pytest.mark.parametrize(("pitch", "share", "crops"), [(6.0, 0.93, 2), (6.0, 0.99, 1), (9.0, 0.93, 1)])
def test_small_text_that_is_not_quite_clear_is_believed_only_where_an_enlarged_cut_says_the_same(
    pitch: float, share: float, crops: int
) -> None:
    other = UNCHECKED[:16] + "6"
    quad = QUAD.copy()
    quad[1:3, 0] = 100 + 17 * pitch
    detector = Blind(quad)
    whole = (0.05 + 0.33 * 20 / (17 * pitch)) / (1.1 + 0.66 * 20 / (17 * pitch))
    sure, unsure = (
        LineReading(share, ((text, 0.99),), text, (whole, 1 - whole)) for text in (UNCHECKED, other)
    )
    reader = Twice(sure, sure)
    found = VinRecognizer(detector, detector, reader).read(GRAY)
    assert found.candidates[0].vin == UNCHECKED
    assert reader.crops == crops
    found = VinRecognizer(detector, detector, Twice(sure, unsure)).read(GRAY)
    assert bool(found.candidates) == (crops == 1)


@pytest.mark.parametrize(
    ("small", "asked"),
    [
        (reading((CHECKED, 0.99), share=0.99), False),
        (reading((CHECKED, 0.8), (CHECKED[:16] + "1", 0.19), share=0.99), True),  # the check digit's word
        (reading((UNCHECKED, 0.8), (UNCHECKED[:16] + "6", 0.19), share=0.99), True),
        (reading((CHECKED, 0.99), share=0.8), True),
        (LineReading(0.0, (), CHECKED[:16]), True),
    ],
)
def test_the_vin_reader_is_asked_only_where_the_small_one_is_not_sure(
    small: LineReading, asked: bool
) -> None:
    vin_reader = Told(reading((CHECKED, 0.999), share=0.999))
    calls: list[int] = []

    def opened() -> LineReader:
        calls.append(1)
        return vin_reader

    detector = Blind(QUAD)
    recognizer = VinRecognizer(detector, detector, Told(small), reader=opened)
    found = recognizer.read(GRAY).candidates
    assert found[0].vin == CHECKED
    assert bool(calls) == asked


@pytest.mark.parametrize(("characters", "asked"), [(11, False), (12, True)])
def test_the_vin_reader_is_not_asked_where_the_small_one_sees_too_few_characters(
    characters: int, asked: bool
) -> None:
    calls: list[int] = []

    def opened() -> LineReader:
        calls.append(1)
        return Told(reading((CHECKED, 0.999), share=0.999))

    detector = Blind(QUAD)
    small = Told(LineReading(0.0, (), CHECKED[:characters]))
    found = VinRecognizer(detector, detector, small, reader=opened).read(GRAY)
    assert (bool(calls), bool(found.candidates)) == (asked, asked)


@pytest.mark.parametrize(("also", "once"), [(UNCHECKED, True), (UNCHECKED[:16] + "6", False)])
def test_a_line_of_which_both_readers_say_the_same_is_read_no_further(also: str, once: bool) -> None:
    other = UNCHECKED[:16] + "6"
    unsure = reading((UNCHECKED, 0.88), (other, 0.1), share=0.97)
    vin_reader = Twice(unsure, unsure)
    small = Told(reading((also, 0.6), ("WVWZZZ1KZ7M047188", 0.3), share=0.7))
    detector = Blind(QUAD)
    VinRecognizer(detector, detector, small, reader=lambda: vin_reader).read(GRAY)
    assert (vin_reader.crops == 1) == once


@pytest.mark.parametrize(
    ("says", "crops"),
    [
        ("dddddd", 5),  # the same every time, which is not enough
        ("dnnsss", 2),  # one of many others twice
        ("dnsddd", 5),  # once, but not after the second
        ("doosss", 5),  # another one, which is likely
        ("lsssss", 1),  # sure
        ("msssss", 0),  # answered whatever they say
    ],
)
def test_further_cuts_of_a_doubtful_line_end_where_it_is_sure_or_given_up(says: str, crops: int) -> None:
    other = UNCHECKED[:16] + "6"
    answers = {
        "s": reading((UNCHECKED, 0.99)),
        "m": reading((UNCHECKED, 0.88), (other, 0.1)),
        "d": reading((UNCHECKED, 0.7), (other, 0.25)),
        "l": reading((UNCHECKED, 0.99), share=0.6),
        "n": reading((UNCHECKED[:16] + "8", 0.4), (UNCHECKED[:16] + "2", 0.4)),
        "o": reading((other, 0.9), (UNCHECKED, 0.05)),
    }

    class InTurn(Told):
        def read(self, crops: Sequence[Pixels]) -> list[LineReading]:
            return [answers[next(left)] for _ in crops]

    first, rest = says[0], says[1:]
    left = iter(rest)
    detector = Blind(QUAD)
    photo = Photo.of(GRAY)
    search = Search(VinRecognizer(detector, detector, InTurn(reading())), photo)
    search.finds.keep(search.finds.readers.line(QUAD, 0.9, answers[first]))
    search._recut()
    assert len(rest) - len(list(left)) == crops


@pytest.mark.parametrize("pitch", [6.0, 12.0])
@pytest.mark.parametrize(("again", "asked"), [(UNCHECKED, False), (UNCHECKED[:16] + "6", True)])
def test_the_small_reader_looks_twice_before_the_vin_reader_is_asked(
    again: str, asked: bool, pitch: float
) -> None:
    class Looks(Told):
        def read(self, crops: Sequence[Pixels]) -> list[LineReading]:
            words.append(UNCHECKED if not words else again)
            return [LineReading(0.99, ((words[-1], 0.9),), words[-1], (0.1, 0.9))]

    words: list[str] = []
    vin_reader = Twice(reading((UNCHECKED, 0.99)), reading((UNCHECKED, 0.99)))
    quad = QUAD.copy()
    quad[1:3, 0] = 100 + 17 * pitch
    detector = Blind(quad)
    recognizer = VinRecognizer(detector, detector, Looks(reading()), reader=lambda: vin_reader)
    found = recognizer.read(GRAY).candidates
    assert found[0].vin == UNCHECKED
    assert len(words) == 2
    assert bool(vin_reader.crops) == asked


@pytest.mark.parametrize(
    ("share", "lower_share", "believed"),
    [(0.85, 0.2, "VIN"), (0.85, 0.8, "neither"), (0.5, 0.8, "lower"), (0.1, 0.8, "lower")],
)
def test_what_looks_like_lower_case_is_the_surer_readers(
    share: float, lower_share: float, believed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Capitals that are worn or tilted are of different heights as well."""
    monkeypatch.setattr(readers, "_is_lower_case", lambda *_: True)
    other = UNCHECKED[:15] + "58"
    small = Told(LineReading(0.0, (), other))
    lower = Told(LineReading(lower_share, ((other, 0.9),), other, (0.1, 0.9)))
    vin_reader = Told(LineReading(share, ((UNCHECKED, 0.95),), UNCHECKED, (0.1, 0.9)))
    recognizer = VinRecognizer(
        Blind(QUAD), Blind(QUAD), small, reader=lambda: vin_reader, lower=lambda: lower
    )
    search = Search(recognizer, Photo.of(GRAY))
    word = search.finds.readers._ask(search.view, QUAD)
    assert (word.reading is vin_reader.answer, word.lower_case) == (believed == "VIN", believed != "VIN")
    assert (word.other == other) == (believed != "neither")
    assert not word.settled


@pytest.mark.parametrize(("share", "seen", "crops"), [(0.01, 17, 2), (0.03, 17, 6), (0.03, 14, 0)])
def test_lower_case_is_read_from_further_cuts_only_where_it_may_have_17_characters(
    share: float, seen: int, crops: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_is_lower_case", lambda *_: True)
    asked: list[int] = []

    class Counted(Told):
        def read(self, crops: Sequence[Pixels]) -> list[LineReading]:
            asked.append(len(crops))
            return super().read(crops)

    small = Counted(LineReading(share, ((UNCHECKED, 0.9),), UNCHECKED[:seen], (0.1, 0.9)))
    vin_reader = Told(LineReading(0.0, (), UNCHECKED[1:]))
    recognizer = VinRecognizer(Blind(QUAD), Blind(QUAD), small, reader=lambda: vin_reader)
    search = Search(recognizer, Photo.of(GRAY))
    search.finds.readers._ask(search.view, QUAD)
    assert sum(asked) - 2 == crops  # less both glances


class Noted(Told):
    """Notes how many crops it was asked to read."""

    count = 0

    def read(self, crops: Sequence[Pixels]) -> list[LineReading]:
        self.count += len(crops)
        return super().read(crops)


@pytest.mark.parametrize(("turned", "read"), [(0.75, False), (0.82, True)])
def test_a_line_is_read_upside_down_only_if_it_looks_as_clear_to_the_same_reader(
    turned: float, read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Told(LineReading(0.0, (), UNCHECKED[1:], None, (), 0.82))
    vin_reader = Noted(LineReading(0.0, (), UNCHECKED[1:], None, (), 0.93))
    search = Search(VinRecognizer(Blind(QUAD), Blind(QUAD), small, reader=lambda: vin_reader), Photo.of(GRAY))
    search._look_first()
    (line,) = search.finds.lines
    seen = {True: small.answer, False: LineReading(0.0, (), UNCHECKED[1:], None, (), turned)}
    monkeypatch.setattr(
        search.finds.readers, "glance", lambda corners: seen[np.array_equal(corners, line.corners)]
    )
    search._flip()
    assert vin_reader.count == 1 + read


@pytest.mark.parametrize(
    ("missing", "clarity", "lengthened"), [(1, 0.95, True), (1, 0.85, False), (4, 0.95, False)]
)
def test_a_clear_line_that_lacks_few_characters_is_lengthened_first_and_once(
    missing: int, clarity: float, lengthened: bool
) -> None:
    small = Told(LineReading(0.0, (), UNCHECKED[missing:], None, (), clarity))
    vin_reader = Noted(LineReading(0.0, (), UNCHECKED[missing:], None, (), clarity))
    search = Search(VinRecognizer(Blind(QUAD), Blind(QUAD), small, reader=lambda: vin_reader), Photo.of(GRAY))
    search._look_first()
    (line,) = search.finds.lines
    search._lengthen()
    assert vin_reader.count == 1 + lengthened
    if lengthened:
        search._lengthen_line(line)
        assert vin_reader.count == 2


def test_the_vin_reader_is_opened_once_and_not_before_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    real = runtime.session

    def noted(path: Path) -> Any:
        opened.append(path.stem)
        return real(path)

    monkeypatch.setattr(runtime, "session", noted)
    recognizer = VinRecognizer.load()
    assert sorted(opened) == ["vin_detector", "vin_reader_small"]
    assert recognizer.reader is not None
    assert recognizer.reader() is recognizer.reader()
    assert opened.count("vin_reader") == 1
    assert recognizer.hard is not None
    assert recognizer.hard() is recognizer.hard()
    assert opened.count("vin_reader_hard") == 1
    assert recognizer.lower is not None
    assert recognizer.lower() is recognizer.lower()
    assert opened.count("vin_reader_lower") == 1


def small(answer: LineReading) -> LineReading:
    """Return ``answer`` as that of a line whose characters have few pixels."""
    return answer._replace(span=(0.4, 0.6))


IN_DOUBT = reading((UNCHECKED, 0.55), (UNCHECKED[:16] + "6", 0.44), share=0.95)
CLUELESS = reading((UNCHECKED, 0.55), (UNCHECKED[:16] + "6", 0.44), share=0.3)
LIKELY = reading((UNCHECKED, 0.8), (UNCHECKED[:16] + "6", 0.2))


@pytest.mark.parametrize(
    ("others", "hard", "believed"),
    [
        (IN_DOUBT, reading((UNCHECKED, 0.95), (UNCHECKED[:16] + "6", 0.05)), UNCHECKED),  # the same
        (IN_DOUBT, LIKELY, UNCHECKED),
        (IN_DOUBT, small(LIKELY), ""),
        (IN_DOUBT, reading((UNCHECKED, 0.5), (UNCHECKED[:16] + "6", 0.5)), ""),
        (reading((UNCHECKED, 0.99), share=0.5), small(reading((UNCHECKED, 0.99), share=0.8)), ""),
        (
            reading((CHECKED, 0.99), share=0.5),
            small(reading((CHECKED, 0.99), share=0.8)),
            CHECKED,
        ),  # it checks
        (IN_DOUBT, reading((CHECKED, 0.9), share=0.7), ""),
        (IN_DOUBT, reading((CHECKED, 0.9), share=0.9), CHECKED),
        (IN_DOUBT, small(reading((CHECKED, 0.9), share=0.9)), ""),
        (IN_DOUBT, small(reading((CHECKED, 0.999), share=0.999)), CHECKED),
        (
            IN_DOUBT,
            reading(("YZ7" + UNCHECKED[3:], 0.6), (UNCHECKED, 0.4), share=0.8),
            "",
        ),  # by its maker alone
        (CLUELESS, reading((CHECKED, 0.9), share=0.9), CHECKED),
        (CLUELESS, reading((CHECKED, 0.5), share=0.5), ""),
        (CLUELESS, reading((CHECKED[:16] + "9", 0.999), share=0.999), ""),  # its check digit fails
        (CLUELESS, reading(("YZ7" + UNCHECKED[3:], 0.999), share=0.999), ""),  # of no known maker
        (CLUELESS, LineReading(0.999, ((CHECKED, 0.999),), CHECKED, None, tuple(np.linspace(0, 1, 17))), ""),
    ],
)
def test_the_reader_of_hard_lines_is_believed_the_sooner_the_less_the_others_say(
    others: LineReading, hard: LineReading, believed: str
) -> None:
    edge = np.array([(0, 50), (400, 50), (400, 70), (0, 70)], np.float32)
    detector = Blind(edge if hard.centers else QUAD)  # the last one's first and last characters are cut off
    recognizer = VinRecognizer(detector, detector, Told(others), hard=lambda: Told(hard))
    found = recognizer.read(GRAY).candidates
    assert [candidate.vin for candidate in found[:1]] == [believed] * bool(believed)


@pytest.mark.parametrize(("below", "believed"), [(0.8, True), (0.2, False)])
def test_what_the_reader_of_hard_lines_reads_differently_in_two_finds_is_not_believed(
    below: float, believed: bool
) -> None:
    class ByLight(Told):
        """Reads a dark crop as LIKELY, a bright one as the same VIN with the probability ``below``."""

        def read(self, crops: Sequence[Pixels]) -> list[LineReading]:
            bright = reading((UNCHECKED, below), (UNCHECKED[:16] + "6", 0.98 - below))
            return [LIKELY if crop.mean() < 100 else bright for crop in crops]

    photo = np.full((200, 400, 3), 60, np.uint8)
    photo[100:] = 200
    detector = Blind(QUAD, QUAD + np.array((0, 80), np.float32))
    recognizer = VinRecognizer(detector, detector, Told(IN_DOUBT), hard=lambda: ByLight(LIKELY))
    assert bool(recognizer.read(photo).candidates) == believed


def _struck(rng: np.random.Generator) -> tuple[Pixels, str]:
    """Return a VIN struck or pinned into sheet metal, and what it is."""
    drawn = (draw_vin(rng) for _ in itertools.count())
    vin = next(v for v in drawn if known_maker(v) and (is_valid(v) or not check_applies(v)))
    pinned = int(rng.choice([0, 120]))
    marks, _ = set_line(vin, Style("strokes", 24, 0.75, True, 1.0, 10, pinned, 6))
    marks = np.pad(marks, ((70, 70), (50, 50)))
    sheet = rng.uniform(70, 190) + rng.normal(0, 4, (*marks.shape, 1)) + np.zeros(3)
    lit = strike(marks, sheet.clip(0, 255).astype(np.uint8), rng)
    return np.asarray(cv2.GaussianBlur(lit, (0, 0), 0.8), np.uint8), vin


def test_struck_metal_is_read_by_the_reader_of_hard_lines(recognizer: VinRecognizer) -> None:
    others = VinRecognizer(recognizer.near, recognizer.far, recognizer.small, reader=recognizer.reader)
    photos = [_struck(np.random.default_rng(seed)) for seed in range(12)]
    right = {}
    for name, each in (("with", recognizer), ("without", others)):
        answers = [each.read(photo).candidates[:1] for photo, _ in photos]
        said = [(answer[0].vin, vin) for answer, (_, vin) in zip(answers, photos, strict=True) if answer]
        assert all(read == vin for read, vin in said), name
        right[name] = len(said)
    assert right["with"] >= 8
    assert right["with"] >= right["without"] + 4


@pytest.mark.parametrize(
    ("others", "crops"),
    [
        (reading((CHECKED, 0.99)), 0),
        (reading(share=0.0), 0),
        (IN_DOUBT, 4),  # of the first cuts of two lines it says nothing
    ],
)
def test_the_reader_of_hard_lines_is_asked_only_about_what_is_still_in_doubt(
    others: LineReading, crops: int
) -> None:
    hard = Twice(reading(share=0.0), reading(share=0.0))
    detector = Blind(QUAD)
    VinRecognizer(detector, detector, Told(others), hard=lambda: hard).read(GRAY)
    assert hard.crops == crops


@pytest.mark.parametrize(
    ("certainty", "hard", "asked", "goes_on"),
    [
        (0.8, UNCHECKED, 1, False),  # both together are sure
        (0.5, UNCHECKED, 2, False),  # it is sure of a second cut as well
        (0.5, CHECKED, 3, True),  # another VIN: all looks are taken before it is believed, from two cuts
    ],
)
def test_the_reader_of_hard_lines_gives_a_second_opinion_before_all_else_is_tried(
    certainty: float, hard: str, asked: int, goes_on: bool
) -> None:
    rest = (UNCHECKED[:16] + "6", 0.95 - certainty)
    doubtful = reading((UNCHECKED, certainty), rest, share=0.99)
    others, second = Twice(doubtful, doubtful), Twice(*[reading((hard, 0.99), share=0.99)] * 2)
    detector = Blind(QUAD)
    recognizer = VinRecognizer(detector, detector, others, hard=lambda: second)
    found = recognizer.read(GRAY).candidates
    assert [candidate.vin for candidate in found[:1]] == [hard]
    assert second.crops == asked
    assert (others.crops > 1) == goes_on


@pytest.mark.parametrize(("certainty", "again"), [(0.2, False), (0.5, True)])
def test_a_line_is_cut_again_only_if_it_may_well_be_a_vin(certainty: float, again: bool) -> None:
    rest = [(UNCHECKED[:16] + end, (1 - certainty) / 4) for end in "6789"]
    crops = []
    for cuts in ((), VinTuning().cuts):
        reader = Twice(*[reading((UNCHECKED, certainty), *rest, share=0.99)] * 2)
        detector = Blind(QUAD)
        VinRecognizer(detector, detector, reader, VinTuning(cuts=cuts)).read(GRAY)
        crops.append(reader.crops)
    assert (crops[1] > crops[0]) == again


@pytest.mark.parametrize("others", [reading((UNCHECKED, 0.3), share=0.1), reading(share=0.0), None])
@pytest.mark.parametrize(
    "tuning",
    [VinTuning(cuts=()), VinTuning(promising=0.0)],
    ids=["no cut", "all promising"],
)
def test_a_search_may_have_no_further_cuts_and_take_all_for_promising(
    tuning: VinTuning, others: LineReading | None
) -> None:
    detector = Blind() if others is None else Blind(QUAD)
    reader = Told(others or reading(share=0.0))
    recognizer = VinRecognizer(detector, detector, reader, tuning, hard=lambda: reader)
    assert not recognizer.read(GRAY).candidates


def test_the_small_reader_reads_several_crops_as_it_reads_each(recognizer: VinRecognizer) -> None:
    photos = [pixels(name) for name in ("vin_label", "vin_plate")]
    crops = [line_reader.cut(photo, recognizer.near.detect(photo)[0].corners) for photo in photos]
    crops.append(np.random.default_rng(3).integers(0, 256, crops[0].shape, np.uint8))
    together = recognizer.small.read(crops)
    assert together == [recognizer.small.read([crop])[0] for crop in crops]
    assert [each.texts[0][0] for each in together[:2]] == [CHECKED, UNCHECKED]


@pytest.mark.parametrize(("by_pixels", "again"), [(0.95, False), (0.35, True)])
def test_a_vin_that_mostly_its_rules_make_sure_is_looked_at_again(by_pixels: float, again: bool) -> None:
    broken = [CHECKED[:16] + end for end in "01234"]
    rest = ((text, (0.98 - by_pixels) / 5) for text in broken)
    answer = reading((CHECKED, by_pixels), *rest, share=0.99)
    assert rank_by_posterior(answer, Prior().odds)[0][1] > 0.9
    detector, reader = Blind(QUAD), Twice(answer, answer)
    VinRecognizer(detector, detector, reader).read(GRAY)
    assert (reader.crops > 4) == again


@pytest.mark.parametrize(("moved", "lines"), [((3, 1), 1), ((0, 60), 2), ((60, 0), 2)])
def test_finds_of_one_line_of_small_text_are_one(moved: tuple[int, int], lines: int) -> None:
    number = LineReading(0.9, (("SN20A7KX4410B2297", 0.9),), "SN20A7KX4410B2297", (0.2, 0.6))
    detector = Blind(QUAD, QUAD + np.array(moved, np.float32))
    result = VinRecognizer(detector, detector, Told(number)).read(np.full((200, 600, 3), 128, np.uint8))
    assert result.refusal is not None
    assert (result.refusal.reason, result.refusal.figure) == ("no_vin", lines)


def test_a_faint_end_of_a_line_is_looked_for() -> None:
    part = LineReading(0.01, ((CHECKED, 0.9),), CHECKED[1:])

    class Longer(Told):
        def read(self, crops: Sequence[Pixels]) -> list[LineReading]:
            return [reading((CHECKED, 0.99)) if crop[:, :40].max() > 200 else part for crop in crops]

    photo = GRAY.copy()
    photo[:, 70:80] = 255  # where the first character is, before the find
    detector = Blind(QUAD)
    assert VinRecognizer(detector, detector, Longer(part)).read(photo).candidates[0].vin == CHECKED


def test_a_doubtful_reading_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    doubtful = reading(*((CHECKED[:13] + f"{n:04d}", 0.01) for n in range(48)), share=0.4)
    result = recognized(doubtful, None, monkeypatch)
    assert result.candidates == ()
    assert result.text_found


def test_text_and_barcode_that_agree_are_surer_than_either(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = recognized(reading((CHECKED, 0.8), share=0.9), None, monkeypatch).candidates[0]
    both = recognized(reading((CHECKED, 0.8), share=0.9), barcode(CHECKED), monkeypatch).candidates[0]
    assert both.source == "both"
    assert both.confidence > max(alone.confidence, 0.98)
    assert both.box == alone.box


def test_a_barcode_corrects_the_text_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    misread = UNCHECKED[:11] + "8" + UNCHECKED[12:]
    result = recognized(reading((misread, 0.9)), barcode(UNCHECKED), monkeypatch)
    first, second = result.candidates[:2]
    assert (first.vin, first.source) == (UNCHECKED, "barcode")
    assert first.repairs == (Repair(12, "8", "0", "barcode"),)
    assert first.box == Box(100, 50, 300, 70)
    assert second.vin == misread
    assert second.confidence <= 1 - first.confidence


def test_a_barcode_alone_is_answered_with_its_own_box(monkeypatch: pytest.MonkeyPatch) -> None:
    result = recognized(reading(share=0.0), barcode(CHECKED), monkeypatch)
    assert result.candidates[0].source == "barcode"
    assert result.candidates[0].box == Box(160, 110, 360, 130)


def test_writing_is_told_from_none() -> None:
    assert vins.shows_text(pixels("label_without_vin"))
    assert not vins.shows_text(np.full((480, 640, 3), 128, np.uint8))
    slope = np.tile(np.linspace(0, 255, 640, dtype=np.uint8)[None, :, None], (480, 1, 3))
    assert not vins.shows_text(slope)


@pytest.fixture(scope="module")
def recognizer() -> VinRecognizer:
    return VinRecognizer.load()


@pytest.mark.parametrize(("name", "vin"), [("vin_label", CHECKED), ("vin_plate", UNCHECKED)])
def test_a_vin_is_read_in_a_mirror(recognizer: VinRecognizer, name: str, vin: str) -> None:
    """As one that is etched into glass is seen from inside."""
    photo = pixels(name)
    (found, *_), (inside, *_) = (
        recognizer.read(each).candidates for each in (photo, np.ascontiguousarray(photo[:, ::-1]))
    )
    assert inside.vin == vin
    width = photo.shape[1]
    box, mirrored = inside.box, found.box
    assert abs(width - box.xmax - mirrored.xmin) < 30 and abs(width - box.xmin - mirrored.xmax) < 30


@pytest.mark.parametrize(
    ("text", "share", "kept"),
    [
        (UNCHECKED, 0.95, True),
        (UNCHECKED, 0.85, False),  # not sure
        (CHECKED, 0.85, True),  # but with a valid check digit
        ("1M8GDM9A0KP042788", 0.99, False),  # with one that is not
        ("Y0Y" + UNCHECKED[3:], 0.99, False),
    ],
)
def test_what_a_mirror_shows_has_to_be_surer(text: str, share: float, kept: bool) -> None:
    reading = Told(LineReading(share, ((text, 1.0),), text, (0.1, 0.9), (), 0.99))
    search = Search(VinRecognizer(Blind(QUAD), Blind(QUAD), reading), Photo.of(GRAY))
    unread = LineReading(0.0, (), UNCHECKED[:12], None, (), 0.8)
    search.finds.keep(search.finds.readers.line(QUAD, 1.0, unread))
    search._read_mirrored()
    assert any(line.vin == text for line in search.finds.lines) == kept


@pytest.mark.parametrize(("name", "vin"), [("vin_label", CHECKED), ("vin_plate", UNCHECKED)])
@pytest.mark.parametrize("quarters", range(4))
def test_a_label_is_read_whichever_way_it_is_turned(
    recognizer: VinRecognizer, name: str, vin: str, quarters: int
) -> None:
    photo = pixels(name)
    upright = recognizer.read(Photo.of(photo)).candidates[0]
    turned = np.ascontiguousarray(np.rot90(photo, quarters))
    found = recognizer.read(Photo.of(turned)).candidates[0]
    assert found.vin == upright.vin == vin
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[upright.box.ymin : upright.box.ymax, upright.box.xmin : upright.box.xmax] = 1
    expected = np.rot90(mask, quarters)
    got = np.zeros_like(expected)
    got[found.box.ymin : found.box.ymax, found.box.xmin : found.box.xmax] = 1
    assert (expected & got).sum() > 0.5 * (expected | got).sum()


@pytest.mark.parametrize("size", [14, 18, 24])
@pytest.mark.parametrize("tilt", [-110, -30, 20, 48, 135, 160])
def test_a_tilted_label_is_read(recognizer: VinRecognizer, tilt: int, size: int) -> None:
    page = np.full((500, 700, 3), 150, np.uint8)
    cv2.rectangle(page, (150, 170), (150 + size * 17, 170 + size * 6), (225, 225, 225), -1)
    for row, line in enumerate(("MFD BY HONDA 08/03", "GVWR 4079 LBS", CHECKED, "TYPE PASSENGER"), start=1):
        place = (150 + size, 170 + round(1.4 * size * row))
        cv2.putText(page, line, place, (25, 25, 25), cv2.FontFace("sans"), size, 600)
    matrix = cv2.getRotationMatrix2D((350, 250), -tilt, 1)
    tilted = cv2.warpAffine(page, matrix, (700, 500), borderValue=(150, 150, 150))
    found = recognizer.read(np.asarray(cv2.GaussianBlur(tilted, (0, 0), 0.6), np.uint8)).candidates
    assert [candidate.vin for candidate in found[:1]] == [CHECKED]


def sheet(lines: Sequence[str], font: str = "sans", weight: int = 500) -> Pixels:
    """A sheet of paper with ``lines``, slightly out of focus."""
    page = np.full((500, 1100, 3), (226, 232, 234), np.uint8)
    for row, line in enumerate(lines):
        cv2.putText(page, line, (60, 90 + 70 * row), (25, 25, 25), cv2.FontFace(font), 36, weight)
    return np.asarray(cv2.GaussianBlur(page, (0, 0), 0.6), np.uint8)


@pytest.mark.parametrize(
    "written",
    [
        "1M8 GDM9AX KP042788",
        "VIN 1M8 GDM9AX K P042788",
        "1M 8G DM 9A XK P0 42 788",
        "1M8GDM9AXKP 042788",
        "VIN: 1M8-GDM9AX-KP042788",
        "1M8.GDM9AX.KP042788",
        "1M8 - GDM9AX - KP042788",
        "CHASSIS NO. 1M8 GDM9AX KP042788",
        "Fahrgestell-Nr. 1M8GDM9AXKP042788",
        "1M8GDM9AXKP042788",
        "Fahrzeug-Ident.-Nummer 1M8G DM9A XKP0 4278 8",
        "Identification number (E): 1M8 GDM9AX KP042788",
        "1M8GDM9AXKP042788  TYPE: PASSENGER CAR",
        "1M8 GDM9AX KP042788   COLOR CODE 4711-AB",
    ],
)
def test_a_vin_is_read_as_people_write_it(recognizer: VinRecognizer, written: str) -> None:
    result = recognizer.read(sheet(["MFD BY EXAMPLE MOTORS", written, "TYPE: PASSENGER CAR"]))
    assert [candidate.vin for candidate in result.candidates[:1]] == [CHECKED]
    box = result.candidates[0].box
    assert 110 < (box.ymin + box.ymax) / 2 < 190


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("written", ["VIN: 1M8 GDM9AX KP042788", "Identification number 1M8GDM9AXKP042788"])
def test_print_is_read_whichever_way_up(recognizer: VinRecognizer, written: str, quarters: int) -> None:
    page = sheet(["CERTIFICATE OF REGISTRATION", "No. 4711-2298-1075", written, "Type: passenger car"])
    result = recognizer.read(np.ascontiguousarray(np.rot90(page, quarters)))
    assert [candidate.vin for candidate in result.candidates[:1]] == [CHECKED]


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("lines", [["VIN", "1M8G DM9A XKP0 4278 8"], ["VIN", "1M8GDM9AX", "KP042788"]])
def test_print_of_which_the_detector_sees_nothing_is_read_whichever_way_up(
    recognizer: VinRecognizer, lines: list[str], quarters: int
) -> None:
    result = recognizer.read(np.ascontiguousarray(np.rot90(sheet(lines), quarters)))
    assert [candidate.vin for candidate in result.candidates[:1]] == [CHECKED]


@pytest.mark.parametrize("turned", [0, 2])
def test_a_vin_in_a_form_with_framed_fields_is_read(recognizer: VinRecognizer, turned: int) -> None:
    form = np.full((420, 720, 3), (215, 232, 218), np.uint8)
    fields = ["12.04.2019", "0603 ADX000412", "M1", "1M8 GDM9AX KP042788", "EXAMPLE MOTORS", "1830"]
    for number, text in enumerate(fields):
        x, y = 20 + 310 * (number % 2), 20 + 130 * (number // 2)
        cv2.rectangle(form, (x, y), (x + (300 if number % 2 == 0 else 370), y + 62), (120, 130, 120), 1)
        cv2.putText(form, "ABDEJK"[number], (x + 4, y + 14), (110, 110, 110), cv2.FontFace("sans"), 13, 400)
        cv2.putText(form, text, (x + 12, y + 48), (25, 25, 25), cv2.FontFace("sans"), 23, 500)
    form = np.rot90(cv2.GaussianBlur(form, (0, 0), 0.6), turned)
    result = recognizer.read(np.ascontiguousarray(form))
    assert [candidate.vin for candidate in result.candidates[:1]] == [CHECKED]


@pytest.mark.parametrize("before", ["", "VIN: ", "CHASSIS NO. "])
def test_the_box_of_a_vin_in_groups_is_that_of_its_characters(recognizer: VinRecognizer, before: str) -> None:
    page = sheet([f"{before}1M8.GDM9AX.KP042788", "TYPE: PASSENGER CAR"])
    found = recognizer.read(page).candidates[0]
    # Where the VIN begins: what is left of it is the name alone.
    named = np.flatnonzero((sheet([before]) < 128).any(axis=(0, 2)))
    written = np.flatnonzero((page[40:110] < 128).any(axis=(0, 2)))
    first = written[0] if not before else written[written > named[-1] + 2][0]
    assert found.vin == CHECKED
    assert abs(found.box.xmin - first) < 20
    assert abs(found.box.xmax - written[-1]) < 20


@pytest.mark.parametrize(
    "lines",
    [
        ["Device label", "S/N 5JTEF123032779416", "Made in PRC"],
        ["Device label", "S/N: BHM5N8TJH75646", "Made in PRC"],  # "/" is like J, and SJN is Nissan's
        ["Device label", "S/N 96062307986830", "Made in PRC"],
        ["PACKING SLIP", "Order 4471-2298-1075-A", "Parcel 9400 1118 9922 3344"],
        ["ACME ROUTER", "S/N 7Y2 T0A41X 9984KD03", "MAC 00:1A:2B:3C:4D:5E"],
        ["INVOICE", "IBAN NO93 8601 1117 947", "Total 812.40"],
        ["LICENSE", "7KX2Q-91MMZ-B3T8R-22", "Valid 2027-06-30"],
        ["PARCEL", "Tracking 837140408372813211", "Weight 2.4 kg"],  # begins like TRA, Ikarus'
        ["CALL", "+49 151 2345 6789 01", "2024-06-12 12:41:37"],
        ["RECEIPT", "TRANS 186259361229", "Total 18.40"],  # begins like TRA as well
    ],
)
def test_other_numbers_in_groups_are_no_answer(recognizer: VinRecognizer, lines: list[str]) -> None:
    assert recognizer.read(sheet(lines)).candidates == ()


@pytest.mark.parametrize("number", ["YV5CFF9U769885905", "MALCX9ZS258853043"])
@pytest.mark.parametrize(
    ("name", "is_vin"),
    [
        ("S/N ", False),
        ("SN: ", False),
        ("P/N ", False),
        ("LOT ", False),
        ("ORDER ", False),
        ("Equipment serial number ", False),
        ("Tracking number: ", False),
        ("Reference: ", False),
        ("VIN ", True),
        ("Chassis No. ", True),
        ("Chassis serial number ", True),
        ("Fahrgestellnummer ", True),
        ("Identification number (E) ", True),
        ("N° de serie ", True),
        ("Número de serie ", True),
        ("", True),
    ],
)
def test_behind_another_numbers_name_a_makers_prefix_is_not_enough(
    recognizer: VinRecognizer, name: str, is_vin: bool, number: str
) -> None:
    result = recognizer.read(sheet(["ACME PUMP", name + number, "Made in Germany"]))
    assert [candidate.vin for candidate in result.candidates[:1]] == [number] * is_vin
    assert is_vin or (result.refusal is not None and result.refusal.reason == "no_vin")


@pytest.mark.parametrize(
    "word",
    [
        *(
            "PIN",
            "MODEL",
            "MODEL YEAR",
            "PAINT",
            "TIME",
            "TDI",
            "SEDAN",
            "MADE IN",
            "PASSENGER CAR",
            "IMPORT",
        ),
        *("LOTUS", "PARTNER", "SERENA", "COMMANDER"),
    ],
)
def test_words_of_labels_are_no_names_of_other_numbers(recognizer: VinRecognizer, word: str) -> None:
    number = "MALCX9ZS258853043"
    found = recognizer.read(sheet(["ACME PUMP", f"{word} {number}", "Made in Germany"])).candidates
    assert [candidate.vin for candidate in found[:1]] == [number]


@pytest.mark.parametrize(
    ("name", "is_vin"),
    [
        ("Auftragsnummer", False),
        ("Seriennummer", False),
        ("Teilenummer", False),
        ("Vertragsnummer", False),
        ("Konto-Nr.", False),
        ("Typ-Nr.", False),
        ("Product ID", False),
        ("Fahrgestellnummer", True),
        ("Fahrzeug-Ident.-Nr.", True),
        ("Typ", True),
    ],
)
def test_names_in_small_letters_are_read_as_such(recognizer: VinRecognizer, name: str, is_vin: bool) -> None:
    number = "MALCX9ZS258853043"
    found = recognizer.read(sheet(["ACME PUMP", f"{name}: {number}", "Made in Germany"])).candidates
    assert [candidate.vin for candidate in found[:1]] == [number] * is_vin


@pytest.mark.parametrize("weight", [300, 500])
@pytest.mark.parametrize(("name", "is_vin"), [("PN", False), ("PN:", False), ("P/N.", False), ("PIN", True)])
def test_an_n_and_a_slash_are_no_i(recognizer: VinRecognizer, name: str, is_vin: bool, weight: int) -> None:
    """The detector's corners may leave out what joins the strokes of an N."""
    number = "MALCX9ZS258853043"
    page = sheet(["ACME PUMP", f"{name} {number}", "Made in Germany"], weight=weight)
    assert [candidate.vin for candidate in recognizer.read(page).candidates[:1]] == [number] * is_vin


@pytest.mark.parametrize("angle", [0, 14])
@pytest.mark.parametrize("leaning", [0, 28], ids=["I", "slash"])
def test_a_slash_leans_more_than_the_letter_before_it(angle: int, leaning: int) -> None:
    tall = 80
    slant = round(tall * np.tan(np.radians(angle)))
    page = np.full((140, 400, 3), 255, np.uint8)
    for left, top in ((60, slant), (160, slant + leaning)):
        cv2.line(page, (left + top, 20), (left, 20 + tall), (0, 0, 0), 8)
    corners = np.array([(40, 16), (300, 16), (300, 104), (40, 104)], np.float32)
    first, other = shapes(View.of(Photo.of(page), 400), corners)
    assert (abs(other.lean - first.lean) > 0.25) == (leaning > 0)
    assert max(first.middle, other.middle) < 0.3


@pytest.mark.parametrize("quarters", [0, 1])
@pytest.mark.parametrize(
    ("title", "is_vin"),
    [
        ("Serial Number", False),
        ("Part No.", False),
        ("ORDER NUMBER", False),
        ("Engine number", False),
        ("Batch No.", False),
        ("S/N", False),
        ("P/N", False),
        ("SN:", False),
        ("Ser. No.", False),
        ("Vorgangsnummer", False),
        ("Case number", False),
        ("Document number", False),
        ("License key", False),
        ("VIN", True),
        ("FIN", True),
        ("Typ", True),
        ("M1", True),
        ("Chassis No.", True),
        ("Vehicle identification number", True),
        ("EXAMPLE MOTOR CO., LTD.", True),
        ("ENGINE NO. G4FC123456", True),
        ("PIN", True),
        ("PIN:", True),
        ("TIME", True),
        ("MEI", True),
        ("PAINT", True),
        ("TRIM", True),
        ("TDI", True),
        ("MODEL", True),
    ],
)
def test_below_another_numbers_title_a_makers_prefix_is_not_enough(
    recognizer: VinRecognizer, title: str, is_vin: bool, quarters: int
) -> None:
    number = "MALCX9ZS258853043"
    page = np.rot90(sheet(["ACME PUMP", title, number, "Made in Germany"]), quarters)
    result = recognizer.read(np.ascontiguousarray(page))
    assert [candidate.vin for candidate in result.candidates[:1]] == [number] * is_vin


def test_the_vin_is_found_beside_a_number_that_begins_like_one(recognizer: VinRecognizer) -> None:
    """What is sure ends the search, but not where its name says that it is none."""
    for lines in (
        ["Serial No. MALCX9ZS258853043", "VIN " + CHECKED],
        [CHECKED, "Order no. YV5CFF9U769885905"],
    ):
        found = recognizer.read(sheet(["ACME PUMP", *lines, "Made in Germany"])).candidates
        assert [candidate.vin for candidate in found[:1]] == [CHECKED]


@pytest.mark.parametrize(("name", "is_vin"), [("Serial No. ", False), ("Chassis No. ", True)])
def test_the_printed_name_holds_for_the_code_beside_it_as_well(
    recognizer: VinRecognizer, name: str, is_vin: bool
) -> None:
    number = "MALCX9ZS258853043"
    page = sheet(["ACME PUMP", name + number])
    made = zxingcpp.create_barcode(number, zxingcpp.BarcodeFormat.Code128)
    bars = np.asarray(zxingcpp.write_barcode_to_image(made, scale=3))
    page[300 : 300 + bars.shape[0], 60 : 60 + bars.shape[1]] = bars[:190, :, None]
    assert [candidate.vin for candidate in recognizer.read(page).candidates] == [number] * is_vin


@pytest.mark.parametrize("number", ["PNAHA51BX95123456", "PNVCFF9U769885905"])
def test_a_prefix_that_looks_like_another_numbers_name_is_a_prefix(
    recognizer: VinRecognizer, number: str
) -> None:
    assert [candidate.vin for candidate in recognizer.read(sheet([number])).candidates[:1]] == [number]
    assert recognizer.read(sheet(["P/N " + number])).candidates == ()


@pytest.mark.parametrize(
    ("before", "there"), [("VN", True), ("V1N", True), ("FTN", True), ("VTN", True), ("NR", False)]
)
def test_the_name_before_a_vin_speaks_for_it(before: str, there: bool) -> None:
    seen = before + "6T153SK100X123456"  # a listed maker's, not a common one's, and without a check digit
    line = LineReading(0.0, (), seen, None, tuple((at + 0.5) / len(seen) for at in range(len(seen))))
    window = find_window(line, Prior().odds)
    assert (window is not None) == there
    assert window is None or window == pytest.approx((len(before) / len(seen), 1.0), abs=0.01)


def test_what_follows_the_name_is_the_vin_even_if_a_character_too_long_or_short() -> None:
    """With its name in the crop a VIN is small, and characters are misread."""
    for after in ("3VWHD7L85L462823", "3VWHD7LB85L462823", "3VWHD7LBE85L462823"):
        seen = "VTN" + after
        line = LineReading(0.0, (), seen, None, tuple((at + 0.5) / len(seen) for at in range(len(seen))))
        assert find_window(line, Prior().odds) == pytest.approx((3 / len(seen), 1.0), abs=0.01)


@pytest.mark.parametrize(
    ("strange", "usual"),
    [
        ("SJN96062307986830", "SJNFDAJ11U1234567"),
        ("SJNA0BD15B6DA6849", "SJNFDAJ11U1234567"),
        ("XTA5N3ER2951Z8175", "XTA210990Y2766389"),
        ("TRACK1NG837140408", "TRA412V1XY0001234"),
        ("TRANS186259361229", "TRA412V1XY0001234"),
    ],
)
def test_what_a_maker_never_writes_is_hardly_its_vin(strange: str, usual: str) -> None:
    assert 100 * Prior().odds(strange) < Prior().odds(usual)


def test_a_serial_number_that_begins_like_a_rare_maker_is_seldom_a_vin() -> None:
    """By chance: what is left are makers who number so, and letters where a VIN may have them."""
    rng = np.random.default_rng(0)
    prefixes = [prefix for prefix in sorted(rules._MAKERS) if not rules.check_applies(prefix)]
    odds = Prior().odds

    def drawn(letters: int, digits: int) -> str:
        signs = [*rng.choice(list(rules.ALPHABET), letters), *rng.choice(list("0123456789"), digits)]
        return str(rng.choice(prefixes)) + "".join(signs)

    assert sum(odds(drawn(0, 14)) > 5 for _ in range(300)) < 30
    assert sum(odds(drawn(10, 4)) > 5 for _ in range(300)) < 130


def test_a_parcel_s_number_short_of_a_character_is_no_vin() -> None:
    assert rules.is_valid("1Z5G0LW7169565573")
    assert Prior().odds("1Z5G0LW7169565573") < 1 < Prior().odds("1ZVFT80N475211367")


@pytest.mark.parametrize("vin", ["ZFA31200000123456", "WDF44781313123456", "XTA21093022123456"])
def test_makers_who_describe_cars_by_digits_are_believed(vin: str) -> None:
    assert Prior().odds(vin) > 100


@pytest.mark.parametrize("tilt", [0, -12, 45])
@pytest.mark.parametrize(("light", "dark"), [(255, 0), (0, 255)])
@pytest.mark.parametrize("name", ["Code39", "Code128", "Code93"])
def test_a_code_without_its_text_is_read(
    recognizer: VinRecognizer, name: str, light: int, dark: int, tilt: int
) -> None:
    kind = getattr(zxingcpp.BarcodeFormat, name)
    bars = np.asarray(zxingcpp.write_barcode_to_image(zxingcpp.create_barcode(CHECKED, kind), scale=2))
    page = np.full((700, 1200, 3), 225, np.uint8)
    label = np.asarray(np.where(bars > 127, light, dark), np.uint8)
    page[300 : 300 + label.shape[0], 120 : 120 + label.shape[1]] = label[:, :, None]
    matrix = cv2.getRotationMatrix2D((600, 350), tilt, 1)
    photo = cv2.warpAffine(page, matrix, (1200, 700), borderValue=(225, 225, 225))
    result = recognizer.read(np.asarray(cv2.GaussianBlur(photo, (0, 0), 0.6), np.uint8))
    assert [candidate.vin for candidate in result.candidates] == [CHECKED]


def test_lines_that_say_nothing_and_cost_all_are_no_fault() -> None:
    turn = np.array([(np.cos(0.2), np.sin(0.2)), (-np.sin(0.2), np.cos(0.2))], np.float32)
    quads = [(QUAD * 2 + np.float32(100 * row)) @ turn for row in range(3)]
    blind = Blind(*(np.asarray(quad, np.float32) for quad in quads))
    nothing = Told(LineReading(0.0, (), "12345678901"))
    result = VinRecognizer(blind, blind, nothing).read(np.full((900, 1500, 3), 128, np.uint8))
    assert result.refusal is not None and result.refusal.reason == "no_vin"


@pytest.mark.parametrize("tilt", [-15, -8, 20])
def test_a_tilted_papers_code_is_read(recognizer: VinRecognizer, tilt: int) -> None:
    """The detector takes PDF417 for lines of text, and nothing may be left to spend on codes then."""
    payload = (
        f"@\n\x1e\rANSI 636014080002RG00410090VH01310060RGRAD20270630\nRMACME LLC\nVHVAD{CHECKED}\nVAK1989\n"
    )
    kind = zxingcpp.BarcodeFormat.PDF417
    bars = np.asarray(zxingcpp.write_barcode_to_image(zxingcpp.create_barcode(payload, kind), scale=3))
    page = np.full((800, 1200, 3), 230, np.uint8)
    cv2.putText(page, "REGISTRATION CARD", (70, 80), (25, 25, 25), cv2.FontFace("sans"), 36, 600)
    page[220 : 220 + bars.shape[0], 60 : 60 + bars.shape[1]] = bars[:, :, None]
    matrix = cv2.getRotationMatrix2D((600, 400), tilt, 1)
    photo = cv2.warpAffine(page, matrix, (1200, 800), borderValue=(120, 125, 130))
    result = recognizer.read(np.asarray(cv2.GaussianBlur(photo, (0, 0), 0.7), np.uint8))
    assert [candidate.vin for candidate in result.candidates[:1]] == [CHECKED]


def test_a_label_without_a_vin_is_no_answer(recognizer: VinRecognizer) -> None:
    photo = pixels("label_without_vin")
    for quarters in range(4):
        result = recognizer.read(Photo.of(np.ascontiguousarray(np.rot90(photo, quarters))))
        assert result.candidates == ()
        assert result.text_found


def test_an_empty_photo_shows_no_text(recognizer: VinRecognizer) -> None:
    result = recognizer.read(np.full((300, 400, 3), 90, np.uint8))
    assert result.candidates == ()
    assert not result.text_found


@pytest.mark.parametrize("seed", range(12))
def test_photos_of_other_numbers_are_no_answer(recognizer: VinRecognizer, seed: int) -> None:
    assert recognizer.read(render_other(np.random.default_rng(seed))).candidates == ()


@pytest.mark.parametrize("quarters", range(4))
def test_a_photo_of_nothing_but_the_line_is_read(recognizer: VinRecognizer, quarters: int) -> None:
    photo = pixels("vin_label")
    box = recognizer.read(photo).candidates[0].box
    line = photo[box.ymin - 4 : box.ymax + 4, box.xmin - 4 : box.xmax + 4]
    line = np.ascontiguousarray(np.rot90(line, quarters))
    found = recognizer.read(line).candidates[0]
    assert found.vin == CHECKED
    height, width = line.shape[:2]
    assert found.box.xmin >= 0
    assert found.box.ymin >= 0
    assert found.box.xmax <= width
    assert found.box.ymax <= height


@pytest.mark.parametrize(("name", "vin"), [("vin_label", CHECKED), ("vin_plate", UNCHECKED)])
@pytest.mark.parametrize("share", [0.4, 0.65, 0.85, 1.3, 1.6, 2.5])
def test_a_line_that_the_photo_cuts_is_refused(
    recognizer: VinRecognizer, name: str, vin: str, share: float
) -> None:
    photo = pixels(name)
    box = recognizer.read(photo).candidates[0].box
    pitch = (box.xmax - box.xmin) / 17
    # The barcode is cut off too, or it would be read.
    below = box.ymax + (box.ymax - box.ymin)
    first = np.ascontiguousarray(photo[:below, round(box.xmin + share * pitch) :])
    last = np.ascontiguousarray(photo[:below, : round(box.xmax - share * pitch)])
    for cut in (first, last):
        result = recognizer.read(cut)
        # The box has some air; of a character that is cut in the middle enough may be left.
        assert all(candidate.vin == vin for candidate in result.candidates[:1])
        if share > 1:
            assert result.refusal is not None
            assert result.refusal.reason in ("no_vin", "not_sure")


def test_no_code_is_sought_beside_text_too_small_for_it() -> None:
    photo = View.of(Photo.of(np.full((400, 400, 3), 128, np.uint8)), 1600)
    assert barcodes.beside(photo, QUAD) is not None
    assert barcodes.beside(photo, QUAD / np.float32(2)) is None


def _blank(rng: np.random.Generator) -> Pixels:
    return np.full((3000, 4000, 3), 250, np.uint8)


def _noise(rng: np.random.Generator) -> Pixels:
    return rng.integers(0, 255, (1200, 1600, 3), dtype=np.uint8)


def _page(rng: np.random.Generator) -> Pixels:
    page = np.full((1500, 1500, 3), 240, np.uint8)
    for y in range(30, 1490, 24):
        text = "".join(rng.choice(list("ABCDEFGH0123456789 "), 80))
        cv2.putText(page, text, (10, y), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (20, 20, 20), 2, cv2.LINE_AA)
    return page


_SMALL = 0.25
"""What the small reader takes of the VIN reader's time, at most."""


@pytest.mark.parametrize("draw", [_blank, _noise, _page])
def test_no_picture_costs_more_than_the_effort_allows(
    recognizer: VinRecognizer, draw: Callable[[np.random.Generator], Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    crops: list[float] = []
    coded: list[int] = []
    looks: list[int] = []
    read, look, detect = LineReader.read, barcodes.look, Detector.detect

    def counted_read(self: LineReader, given: Sequence[Pixels]) -> list[LineReading]:
        crops.append(len(given) * (_SMALL if self is recognizer.small else 1.0))
        return read(self, given)

    def counted_look(view: View, *formats: Any, rotate: bool = True) -> list[BarcodeVin]:
        coded.append(view.pixels.shape[0] * view.pixels.shape[1])
        return look(view, *formats, rotate=rotate)

    def counted_detect(self: Detector, given: Pixels) -> list[Detection]:
        looks.append(given.shape[0] * given.shape[1])
        return detect(self, given)

    monkeypatch.setattr(LineReader, "read", counted_read)
    monkeypatch.setattr(barcodes, "look", counted_look)
    monkeypatch.setattr(Detector, "detect", counted_detect)
    assert recognizer.read(draw(np.random.default_rng(0))).candidates == ()
    assert sum(crops) <= recognizer.tuning.effort * (1 + _SMALL)
    assert sum(coded) <= 8_000_000
    assert len(looks) <= 6
    assert max(looks) <= (1.6 * 3200) ** 2
