"""Lines of clear print that the detector of whole VINs misses: groups, names before the VIN, two lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from carsight.geometry import Pixels
from carsight.photo import Photo
from carsight.vin import text_lines
from carsight.vin.recognizer import VinRecognizer
from carsight.vin.views import View

CHECKED = "1HGCM82633A004352"
UNCHECKED = "WVWZZZ1KZ7M047185"


def printed(*lines: str, size: int = 30) -> Pixels:
    """A light page with ``lines`` in OpenCV's own sans serif."""
    page = np.full((700, 1200, 3), 230, np.uint8)
    for row, line in enumerate(lines):
        cv2.putText(page, line, (70, 90 + row * size * 3), (30, 30, 30), cv2.FontFace("sans"), size, 600)
    return np.asarray(cv2.GaussianBlur(page, (0, 0), 0.6), np.uint8)


def counted(asked: Counter[str], name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``real``, each call of which is counted in ``asked``."""

    def call(*arguments: Any) -> Any:
        asked[name] += 1
        return real(*arguments)

    return call


@pytest.fixture(scope="module")
def recognizer() -> VinRecognizer:
    return VinRecognizer.load()


@pytest.mark.parametrize(
    ("lines", "vin"),
    [
        (("MFD BY HONDA", "VIN 1HG CM8263 3A004352", "TYPE PASSENGER CAR"), CHECKED),
        (("Fahrzeug", "FIN: WVW ZZZ 1KZ 7M 047185", "km 42.000"), UNCHECKED),
        (("Vehicle", "VIN 1HGC-M826-33A0-04352", "Miles 12"), CHECKED),
        (("REGISTRATION", "VIN: " + CHECKED + " ACCORD"), CHECKED),
        (("Fahrzeugdaten", "vin: " + UNCHECKED.lower(), "km 42.000"), UNCHECKED),
        (("Fahrzeugdaten", "vin: yv1sw61r021234567", "km 42.000"), "YV1SW61R021234567"),
        (("Fahrzeugdaten", "vin: jtdkb20u703123456", "km 42.000"), "JTDKB20U703123456"),
        (("VEHICLE", "1HGCM8263", "3A004352", "USA"), CHECKED),
        (("VIN: 1HGCM8263", "3A004352", "Accord"), CHECKED),
        (("VEHICLE", "1HGCM82633A", "004352", "USA"), CHECKED),
        (("VIN", "WVW", "ZZZ1KZ7M047185", "Golf"), UNCHECKED),
        (("Vehicle", "VIN: 1HG", "       CM82633A004352", "km 42.000"), CHECKED),  # under the VIN itself
        (("Repair order", "VIN ZHW GE11S2 5LA01234", "km 42.000"), "ZHWGE11S25LA01234"),  # of rarer makers
        (("VIN: MNBUSFE90FW123456",), "MNBUSFE90FW123456"),
        (("Fahrzeugdaten", "vin: sjn.faaj10.u2123456"), "SJNFAAJ10U2123456"),
    ],
)
def test_a_vin_in_groups_behind_its_name_or_on_two_lines_is_read(
    recognizer: VinRecognizer, lines: tuple[str, ...], vin: str
) -> None:
    found = recognizer.read(printed(*lines)).candidates
    assert [candidate.vin for candidate in found[:1]] == [vin]
    row = next(index for index, line in enumerate(lines) if vin[:3].lower() in line.lower())
    below = lines[row + 1].strip() if row + 1 < len(lines) else ""
    middle = 90 + row * 90 - 10 + (45 if below and vin.endswith(below) else 0)
    assert abs((found[0].box.ymin + found[0].box.ymax) / 2 - middle) < 30


@pytest.mark.parametrize(
    ("lines", "size", "width"),
    [
        (("Fahrzeugdaten", "JTD", "KB20U703123456", "km 42.000"), 16, 0.7),
        (("Fahrzeugdaten", "JTDKB20U70", "3123456", "km 42.000"), 24, 0.6),
        (("Fahrzeugdaten", "TRUZZZ5P98M071", "134", "km 42.000"), 24, 0.7),
        (
            (
                "INSURANCE CARD",
                "YEAR MAKE   VEHICLE IDENTIFICATION NUMBER",
                "2019 EXAMPLE               SALNM84Y0LZ995771",
                "AGENCY EXAMPLE 12 MAIN STREET",
            ),
            16,
            0.7,
        ),
    ],
)
def test_the_characters_of_narrow_print_are_counted(
    recognizer: VinRecognizer, lines: tuple[str, ...], size: int, width: float
) -> None:
    """As wide as 17 characters are where print is of usual width, these lines are too short for a VIN."""
    page = np.asarray(
        cv2.resize(printed(*lines, size=size), None, fx=width, fy=1, interpolation=cv2.INTER_AREA), np.uint8
    )
    vin = lines[2][-17:] if len(lines[2]) > 17 else lines[1] + lines[2]
    assert [candidate.vin for candidate in recognizer.read(page).candidates[:1]] == [vin]


def test_a_name_before_the_first_of_two_lines_is_left_out() -> None:
    view = View.of(Photo.of(printed("VIN: VSSM", "AMGX187161099", "km 42.000")), 1600)
    lines = text_lines.find_lines(view)
    likeliest = text_lines.pairs(lines, text_lines.condensed(view, lines), 1)[0]
    assert likeliest.upper is lines[0]
    assert likeliest.lower is lines[1]
    named, rest = (text_lines.set_close(view, line.corners).pixels.shape[1] for line in lines[:2])
    assert likeliest.text.pixels.shape[1] < 0.7 * named + rest


def test_a_line_and_a_mark_of_no_characters_are_not_a_vin_on_two() -> None:
    """Whose line would be glanced at with the mark beside it, before pairs that may be one."""
    line, mark = (
        text_lines.SetText(np.zeros((26, 340, 3), np.uint8), np.zeros(1, np.float32), False, False, begins)
        for begins in (tuple(range(0, 340, 20)), ())
    )
    assert text_lines._seventeen_of(line, mark) is None
    assert text_lines._seventeen_of(mark, line) is None


def test_few_of_many_pairs_are_set_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of short numbers has hundreds of pairs, and few are glanced at."""
    page = np.full((1000, 1000, 3), 230, np.uint8)
    for row in range(24):
        cv2.putText(
            page, f"{row:02}KM40{row:02}", (70, 60 + row * 38), (30, 30, 30), cv2.FontFace("sans"), 22, 600
        )
    view = View.of(Photo.of(page), 1600)
    lines = text_lines.find_lines(view)
    assert len(lines) == 24
    asked: Counter[str] = Counter()
    for name in ("set_close", "_side_by_side"):
        monkeypatch.setattr(text_lines, name, counted(asked, name, getattr(text_lines, name)))
    assert len(text_lines.pairs(lines, text_lines.condensed(view, lines), 4)) == asked["_side_by_side"] == 4
    assert asked["set_close"] <= 24


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(
    ("line", "vin"),
    [
        ("{}", "WVWZZZ1JZ3W386752"),
        ("vin: {}", "XTAGFL110BY123456"),
        ("my vin is {} thanks", "JTDKB20U703123456"),
        ("vin {}, 2012", "5YJFA8YP4LS869107"),
        ("{} (Golf)", "WAUZZZ8P26A012345"),
        ("the vin is {} ok?", "1HGCM82633A004352"),
    ],
)
def test_a_vin_in_lower_case_is_read_wherever_it_stands_in_a_message(
    recognizer: VinRecognizer, line: str, vin: str, dark: bool
) -> None:
    page = printed("Hi, this is about my car", line.format(vin.lower()), "please call me back today")
    found = recognizer.read(255 - page if dark else page).candidates
    assert [candidate.vin for candidate in found[:1]] == [vin]


@pytest.mark.parametrize(
    "line",
    [
        "track 8f3a9c1e7b2d40556",
        "e3b0c44298fc1c149",
        "token abcdefghjkmnprstu",
        "sn tra8371404083721xk",
        "hello kmx nb78ab12cd34ef",
        "order vfb12ax9sk4417b2z",
        "id zfa0a1b2c3d4e5f6a",
    ],
)
def test_what_is_no_vin_in_lower_case_is_no_answer(recognizer: VinRecognizer, line: str) -> None:
    page = printed("Hi, this is about my car", line, "please call me back today")
    assert recognizer.read(page).candidates == ()


def test_words_between_others_may_be_a_vin() -> None:
    page = printed("number WVWZZZ1JZ3W386752 of car")
    view = View.of(Photo.of(page), 1600)
    (line,) = text_lines.find_lines(view)
    text = text_lines.set_close(view, line.corners)
    (word,) = text.parts()
    first, last = (word.places[0], word.places[-1])
    assert 0.2 < first < 0.3
    assert 0.7 < last < 0.85


@pytest.mark.parametrize("vin", ["SCFAB02A06GB01234", "9BGRM69809G123456"])
def test_a_page_on_its_head_is_turned(recognizer: VinRecognizer, vin: str) -> None:
    page = np.ascontiguousarray(
        printed("INSURANCE", f"VIN: {vin}", "IMEI 357691892226372", size=22)[::-1, ::-1]
    )
    assert [candidate.vin for candidate in recognizer.read(page).candidates[:1]] == [vin]


def test_lines_with_another_between_them_are_no_pair() -> None:
    """A car's mileage has as many digits as the end of a VIN."""
    view = View.of(Photo.of(printed("W0L0AHL4878", "053300", "km 42.000")), 1600)
    lines = text_lines.find_lines(view)
    assert len(lines) == 3
    found = [
        tuple(next(at for at, line in enumerate(lines) if line is each) for each in pair[:2])
        for pair in text_lines.pairs(lines, text_lines.condensed(view, lines), 9)
    ]
    assert (0, 1) in found
    assert (0, 2) not in found


def test_a_number_in_groups_that_is_no_vin_is_no_answer(recognizer: VinRecognizer) -> None:
    page = printed(
        "Order no. SN2 0A7K X441 0B2297",
        "1Z X61 3BG 88 5638 1942",
        "S/N 7Y2T0A41X",
        "9984KD03",
        "Ref. 16168325868859658",
    )
    assert recognizer.read(page).candidates == ()


def test_a_part_of_a_line_is_made_as_long_as_the_line() -> None:
    page = printed("ABCDEFGH JKLMNPRS TUVWXYZ1")
    view = View.of(Photo.of(page), 1600)
    (line,) = text_lines.find_lines(view)
    left, right = line.corners[0, 0], line.corners[1, 0]
    assert 60 < left < 80
    part = line.corners.copy()
    part[[0, 3], 0], part[[1, 2], 0] = left + 0.4 * (right - left), left + 0.7 * (right - left)
    whole = text_lines.whole_line(view, part, 8)
    assert abs(whole[0, 0] - left) < 25
    assert abs(whole[1, 0] - right) < 25


def test_the_thin_foot_of_an_l_is_not_cut_off() -> None:
    """In small or blurred serifs it is fainter than its stem, and without it an L is an I."""
    page = np.full((120, 400, 3), 230, np.uint8)
    for left in range(40, 340, 50):  # letters of a dark stem 40 high and a foot of a third of its contrast
        page[40:80, left : left + 6] = 30
        page[76:80, left + 6 : left + 30] = 160
    corners = np.array([(40, 40), (320, 40), (320, 80), (40, 80)], np.float32)
    text = text_lines.set_close(View(page, np.eye(3)), corners)
    assert len(text.begins) == 6
    feet = page[78, 40:320, 0] < 200
    assert np.isin(np.flatnonzero(feet)[3:-3] // 7, np.rint(text.places * 279).astype(int) // 7).all()


@pytest.mark.parametrize(
    ("vin", "kind", "cell", "font"),
    [
        (CHECKED, "apart", 60, cv2.FONT_HERSHEY_SIMPLEX),
        (UNCHECKED, "apart", 60, cv2.FONT_HERSHEY_COMPLEX),
        ("JTDKB20U703123456", "joined", 60, cv2.FONT_HERSHEY_COMPLEX),
        ("JTDKB20U703123456", "comb", 50, cv2.FONT_HERSHEY_SIMPLEX),
    ],
)
def test_characters_in_boxes_are_read(
    recognizer: VinRecognizer, vin: str, kind: str, cell: int, font: int
) -> None:
    page = printed("Vehicle identification number", "", "", "Owner: A. Example", size=22)
    top, bottom = 150, 150 + min(cell, 56)
    for number, character in enumerate(vin):
        left = 70 + number * cell
        right = left + cell - (5 if kind == "apart" else 0)
        if kind == "comb":
            corners = [(left, bottom - 20), (left, bottom), (right, bottom), (right, bottom - 20)]
        else:
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        cv2.polylines(page, [np.array(corners, np.int32)], kind != "comb", (60, 60, 60), 2)
        (width, height), _ = cv2.getTextSize(character, font, 0.9, 2)
        at = ((left + right - width) // 2, (top + bottom + height) // 2)
        cv2.putText(page, character, at, font, 0.9, (30, 30, 30), 2, cv2.LINE_AA)
    photo = np.asarray(cv2.GaussianBlur(page, (0, 0), 0.6), np.uint8)
    assert [candidate.vin for candidate in recognizer.read(photo).candidates[:1]] == [vin]


@pytest.mark.parametrize("tilt", [-8, -3, 5])
def test_tilted_print_is_leveled(recognizer: VinRecognizer, tilt: int) -> None:
    page = printed("MFD BY HONDA", "VIN 1HG CM8263 3A004352", "TYPE PASSENGER CAR", "GVWR 2100 KG")
    matrix = cv2.getRotationMatrix2D((600, 350), tilt, 1)
    photo = np.asarray(cv2.warpAffine(page, matrix, (1200, 700), borderValue=(120, 125, 130)), np.uint8)
    (*_, line) = text_lines.find_lines(View.of(Photo.of(photo), 1600))
    (left, right), across = line.corners[:2], line.corners[1] - line.corners[0]
    assert right[0] > left[0] and abs(np.degrees(np.arctan2(across[1], across[0])) + tilt) < 0.7
    assert [candidate.vin for candidate in recognizer.read(photo).candidates[:1]] == [CHECKED]


def test_a_vin_is_found_among_the_other_numbers_of_a_paper(recognizer: VinRecognizer) -> None:
    page = printed(
        "B 21.03.2007  2.1 0603  2.2 AFT000018",
        "D.2 FM5FM52S010FGL07MMEM1N7V",
        "K e1*2001/116*0242*21 18 04204",
        "P.3 Diesel / 0002 / 1896 / 1485",
        "E " + UNCHECKED + "  3 7",
        "C.1 20150612 004711 08 15 2233",
        "X 9944 1122 3344 5566 7788 99",
        size=22,
    )
    assert [candidate.vin for candidate in recognizer.read(page).candidates[:1]] == [UNCHECKED]
