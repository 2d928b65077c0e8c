"""Barcodes: which part of a payload is the VIN, and codes found tilted, turned and beside a line."""

from __future__ import annotations

import base64
import time

import cv2
import numpy as np
import pytest
import zxingcpp

from carsight.geometry import Pixels
from carsight.photo import Photo
from carsight.vin import barcodes, payloads
from carsight.vin.barcodes import BarcodeVin
from carsight.vin.payloads import find_vins
from carsight.vin.ranking import Prior
from carsight.vin.views import View

CHECKED = "JHLRD77874C026456"
UNCHECKED = "WVWZZZ1KZ7M047185"


@pytest.mark.parametrize(
    ("payload", "vin"),
    [
        ("I" + CHECKED, CHECKED),
        (CHECKED, CHECKED),
        (CHECKED + "K", CHECKED),
        ("I" + CHECKED + "7", CHECKED),
        ("*" + CHECKED + "*", CHECKED),
        ("i" + CHECKED.lower(), CHECKED),
        (UNCHECKED, UNCHECKED),
        ("I" + UNCHECKED, UNCHECKED),
        ("VIN:" + UNCHECKED + ";2.0", UNCHECKED),
        ("VIN" + UNCHECKED, UNCHECKED),
        ("P+" + UNCHECKED, UNCHECKED),
        (UNCHECKED + "9", UNCHECKED),  # with the check character of Code 39
        ("WVWZZZ1KZ7M997195O", "WVWZZZ1KZ7M997195"),
        ("IWVWZZZ1KZ7M007195O", "WVWZZZ1KZ7M007195"),
        (CHECKED + "\x00\x00", CHECKED),
        ("[)>\x1e06\x1dI" + CHECKED + "\x1d1T4711\x1e\x04", CHECKED),
        ("JHL RD778 7 4C026456", CHECKED),
        ("JHL-RD7787-4C026456", CHECKED),
        ("VIN JHL.RD7787.4C026456", CHECKED),
        (
            "@\n\x1e\rANSI 636000080002RG00410050VH00910060RGRBANSAMPLE\nVHVAD" + CHECKED + "\nVALHOND\n",
            CHECKED,
        ),
        (
            "%MVL1CC55%0144%4024T0TF%1%40240LG%NX12345%VOLKSWAGEN%" + UNCHECKED + "%CWS012345%2027-10-31%",
            UNCHECKED,
        ),
        ('{"plate":"4ABC123","vin":"' + CHECKED + '"}', CHECKED),
        ("<car><fin>" + UNCHECKED + "</fin></car>", UNCHECKED),
        ("https://example.com/label?vin=" + CHECKED + "&lot=7", CHECKED),
        ("https://example.com/?id%3D" + CHECKED, CHECKED),
        ("example.com/car?q=%7B%22vin%22%3A%22" + UNCHECKED + "%22%7D", UNCHECKED),
        ("mailto:fleet@example.com?subject=VIN%20" + UNCHECKED, UNCHECKED),
        ("https://example.com/?to=https%253A%252F%252Fa.example%252F%253Fvin%253D" + UNCHECKED, UNCHECKED),
        ("Chassis No. WVW ZZZ1KZ 7M047185", UNCHECKED),
        ("GOLF;VIN: WVW-ZZZ1KZ-7M047185 2007;PETROL;SILVER;MANUAL;FIVE DOORS", UNCHECKED),
        ("WVWZZZ1KZ\n7M047185", UNCHECKED),
        ("WVW/ZZZ1KZ/7M047185", UNCHECKED),
        ("WVW\xa0ZZZ1KZ\xa07M047185", UNCHECKED),
        ("WVWZZZ1KZ\xad7M047185", UNCHECKED),
        ("".join(chr(ord(sign) + 0xFEE0) for sign in UNCHECKED), UNCHECKED),  # full-width
        ("\u8eca\u53f0\u756a\u53f7" + UNCHECKED, UNCHECKED),  # "chassis number" in Japanese
        ("S/N 1HGCM82633A004352", "1HGCM82633A004352"),  # a common maker's, and the check digit holds
        ("010401234567890121" + UNCHECKED, UNCHECKED),  # GS1: an article and its serial number
        ("\x1d010401234567890121" + UNCHECKED, UNCHECKED),  # with the sign that makes it GS1's
        ("0104012345678901\x1d21" + UNCHECKED + "\x1d10A7", UNCHECKED),
        ("[)>\x1e06\x1d1P4711\x1dS" + UNCHECKED + "\x1e\x04", UNCHECKED),
    ],
)
def test_the_vin_in_a_payload_is_found_and_believed(payload: str, vin: str) -> None:
    assert list(find_vins(payload)) == [vin]
    assert is_believed(payload)


def is_believed(payload: str) -> bool:
    """Whether a code with ``payload`` is answered where nothing else is read."""
    return any(Prior().odds(vin) * place.factor > 10 for vin, place in find_vins(payload).items())


@pytest.mark.parametrize("name", ["VIN/Serial No: ", "CHASSIS SERIAL NUMBER ", "Frame S/N "])
def test_a_vehicles_serial_number_is_its_vin(name: str) -> None:
    assert is_believed(name + "KPBGRY14892384282")
    assert not is_believed("Engine serial no. KPBGRY14892384282")


@pytest.mark.parametrize(
    ("name", "is_vin"),
    [
        ("Fahrzeug-Ident.-Nr.: ", True),
        ("Fahrzeugidentifizierungsnummer ", True),
        ("VOERTUIGIDENTIFICATIENUMMER: ", True),
        ("Vehicle ident. no. ", True),
        ("VIN kód: ", True),
        ('{"carVin":"', True),
        ("?vehicleVIN=", True),
        ("vehicleVinNumber: ", True),
        ("车架号：", True),
        ("车辆识别代码:", True),
        ("車台番号 ", True),
        ("차대번호: ", True),
        ("Fahrzeugfarbe ", False),
        ("carVinyl: ", False),
        ("CARVIN: ", False),  # a word in capitals may end in anything
        ("发动机号:", False),  # an engine's
        ("", False),
    ],
)
def test_names_of_a_vin_in_other_languages_and_in_keys_are_known(name: str, is_vin: bool) -> None:
    """A VIN of a rare maker without a valid check digit is only believed behind its name."""
    assert is_believed(name + "XZ9GRY14892384282") is is_vin


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "I1234567",
        "12345678901234567",  # a serial number
        "0" * 17,  # the check digit of one repeated digit holds
        "1" * 17,
        "E4-2001/116-0105-07",
        "https://example.com/label/7",
        UNCHECKED + "8",  # no check character of Code 39
        UNCHECKED + "000000",  # a longer number in which the VIN is only a guess
        "IOQ" * 6,
        "1ZX613BG8856381942",  # a parcel's; its first 17 characters keep a VIN's check digit
        "PX31A7KX4410B2297",
        "PALLET00123456789012",
        "LOT0Q1234567890ABCD",  # without the letters that no VIN has it is 17 characters
        "0ZZZ1KZ7M047185AB",
        "3F2504E04F8911D39A0C0305E82C3301",
        CHECKED[:8] + CHECKED[8:].lower(),  # a VIN is in one case
        "4711 WVW ZZZ1KZ 7M047185 4711",  # groups of a longer number
        "00:1A:2B:3C:4D:5E 67246",
        "990401234567890121" + UNCHECKED,
        "S/N: YV3B97ZF468811378",  # a maker's prefix, as one number in fifty has by chance
        "SERIAL NO. KPBGRY14892384282",
        '{"sn":"WBAVA31070VC12345"}',
        "P/N JS2MJ20V785834713",
        "Order ID: TMBK5165108027432",
    ],
)
def test_other_payloads_hold_no_vin(payload: str) -> None:
    assert not is_believed(payload)


def test_packed_data_holds_no_vin_by_chance() -> None:
    rng = np.random.default_rng(0)
    assert not any(is_believed(base64.b64encode(rng.bytes(560)).decode()) for _ in range(300))


def test_a_polish_papers_packed_code_is_read() -> None:
    text = ("XXX|1|C/SERIA|AB 1234567|" + UNCHECKED + "|VOLKSWAGEN|GOLF|").encode("utf-16-le")
    stream = packed([token for byte in text for token in ("1", byte)])
    payload = base64.b64encode(len(text).to_bytes(4, "little") + stream).decode()
    assert list(find_vins(payload)) == [UNCHECKED]
    assert not find_vins(base64.b64encode(b"\xff\xff\xff\x7f" + stream).decode())  # no gigabytes for a length


def test_many_blanks_behind_a_payload_take_no_time() -> None:
    payload = "A" * 64 + " " * 16_000 + "!"
    start = time.process_time()
    assert not find_vins(payload)
    assert time.process_time() - start < 0.1


def packed(tokens: list[str | int]) -> bytes:
    """An NRV2E stream of bits ("0", "1") and bytes: eight bits stand where the first of them is needed."""
    out, used = bytearray(), 8
    for token in tokens:
        if isinstance(token, int):
            out.append(token)
            continue
        if used == 8:
            out.append(0)
            place, used = len(out) - 1, 0
        out[place] |= int(token) << (7 - used)
        used += 1
    return bytes(out)


def test_a_repeated_part_of_a_packed_code_is_copied() -> None:
    tokens: list[str | int] = ["1", ord("a"), "1", ord("b")]
    # A copy: distance code 3 and the byte 2 are two before, with a short length of 1 + 1, and one.
    tokens += ["0", "1", "1", 2, "1"]
    # The same distance again (code 2), a long length: 1 -> 10, and 3, and one.
    tokens += ["0", "0", "1", "0", "0", "0", "1"]
    tokens += ["1", ord("c")]
    assert payloads._inflate(packed(tokens), 12) == b"ab" + b"aba" + b"bababa" + b"c"
    with pytest.raises(IndexError):
        payloads._inflate(packed(tokens), 13)


def code(payload: str, kind: zxingcpp.BarcodeFormat) -> Pixels:
    """A clean code, dark on light, in the middle of a gray photo of 900 x 700."""
    drawn = np.asarray(zxingcpp.write_barcode_to_image(zxingcpp.create_barcode(payload, kind), scale=3))
    if drawn.shape[0] < 80:
        drawn = np.repeat(drawn, 2, axis=0)
    photo = np.full((700, 900, 3), 190, np.uint8)
    y, x = (700 - drawn.shape[0]) // 2, (900 - drawn.shape[1]) // 2
    photo[y : y + drawn.shape[0], x : x + drawn.shape[1]] = drawn[:, :, None]
    return photo


def read(pixels: Pixels) -> list[BarcodeVin]:
    """What the looks at a photo without any text find, in their order."""
    view = View.of(Photo.of(pixels), 1600)
    if found := barcodes.look(barcodes.whole(view)):
        return found
    for one in barcodes.bars(barcodes.busy_parts(view)):
        if found := barcodes.look(one, barcodes.BARS, rotate=False):
            return found
    for one in barcodes.dense_parts(view):
        if found := barcodes.look(one, barcodes.MATRIX):
            return found
    for one in barcodes.further_views(view):
        if found := barcodes.look(one):
            return found
    return []


@pytest.mark.parametrize(
    "name", ["Code39", "Code93", "Code128", "DataMatrix", "QRCode", "MicroQRCode", "Aztec", "PDF417"]
)
def test_every_kind_of_code_is_read(name: str) -> None:
    found = barcodes.look(View.of(Photo.of(code("I" + CHECKED, getattr(zxingcpp.BarcodeFormat, name))), 1600))
    assert [one.vin for one in found] == [CHECKED]
    assert np.abs(found[0].corners.mean(axis=0) - (450, 350)).max() < 40


@pytest.mark.parametrize("printed", ["%" + UNCHECKED, "P+" + CHECKED, CHECKED + "/A", "$" + CHECKED])
def test_a_code_39_is_read_as_it_is_printed(printed: str) -> None:
    """A sign and a letter stand for one other character in "Full ASCII" only, which no label means."""
    (found,) = read(code(printed, zxingcpp.BarcodeFormat.Code39Std))
    assert found.vin in printed


@pytest.mark.parametrize("name", ["Code39", "Code128", "PDF417", "DataMatrix"])
def test_a_white_code_on_black_is_read(name: str) -> None:
    found = read(np.asarray(255 - code(CHECKED, getattr(zxingcpp.BarcodeFormat, name)), np.uint8))
    assert [one.vin for one in found] == [CHECKED]


@pytest.mark.parametrize(("name", "module"), [("Code128", 1.2), ("Code39", 1.3), ("Code39", 1.6)])
def test_a_small_code_in_a_large_photo_is_read(name: str, module: float) -> None:
    drawn = code(CHECKED, getattr(zxingcpp.BarcodeFormat, name))[270:430, 40:860]
    small = cv2.resize(drawn, None, fx=module / 3, fy=module / 3, interpolation=cv2.INTER_AREA)
    photo = np.full((1000, 1400, 3), 190, np.uint8)
    photo[600 : 600 + small.shape[0], 700 : 700 + small.shape[1]] = small
    (found,) = read(photo)
    assert found.vin == CHECKED
    x, y = found.corners.mean(axis=0)
    assert 700 < x < 700 + small.shape[1]
    assert 590 < y < 610 + small.shape[0]


@pytest.mark.parametrize("module", [1.5, 1.75])
@pytest.mark.parametrize("name", ["Code39", "Code93", "Code128"])
def test_a_small_code_out_of_focus_is_read(name: str, module: float) -> None:
    drawn = code(CHECKED, getattr(zxingcpp.BarcodeFormat, name))[270:430, 40:860]
    small = cv2.resize(drawn, None, fx=module / 3, fy=module / 3, interpolation=cv2.INTER_AREA)
    photo = np.full((400, 900, 3), 190, np.uint8)
    photo[150 : 150 + small.shape[0], 200 : 200 + small.shape[1]] = small
    grain = np.random.default_rng(1).normal(0, 3, photo.shape)
    blurred = np.clip(cv2.GaussianBlur(photo, (0, 0), 0.6) + grain, 0, 255).astype(np.uint8)
    assert [one.vin for one in read(blurred)] == [CHECKED]


@pytest.mark.parametrize("module", [1.5, 2.0, 2.5])
@pytest.mark.parametrize("name", ["DataMatrix", "QRCode", "Aztec"])
@pytest.mark.parametrize("white_on_black", [False, True])
def test_a_small_matrix_code_on_a_label_is_read(name: str, module: float, white_on_black: bool) -> None:
    made = zxingcpp.create_barcode("I" + CHECKED, getattr(zxingcpp.BarcodeFormat, name))
    drawn = np.asarray(zxingcpp.write_barcode_to_image(made, scale=8), np.uint8)
    small = cv2.resize(drawn, None, fx=module / 8, fy=module / 8, interpolation=cv2.INTER_AREA)
    photo = np.full((600, 900, 3), 120, np.uint8)
    cv2.rectangle(photo, (180, 120), (560, 330), (235, 235, 235), -1)
    for row, line in enumerate(("MFD BY HONDA 08/03", "GVWR 4079 LBS GAWR 2205", "TYPE PASSENGER CAR")):
        cv2.putText(photo, line, (190, 150 + 24 * row), (30, 30, 30), cv2.FontFace("sans"), 18, 500)
    photo[230 : 230 + small.shape[0], 420 : 420 + small.shape[1]] = small[:, :, None]
    grain = np.random.default_rng(1).normal(0, 2, photo.shape)
    blurred = np.clip(cv2.GaussianBlur(photo, (0, 0), 0.5) + grain, 0, 255).astype(np.uint8)
    (found,) = read(255 - blurred if white_on_black else blurred)
    assert found.vin == CHECKED
    x, y = found.corners.mean(axis=0)
    assert 420 < x < 420 + small.shape[1]
    assert 230 < y < 230 + small.shape[0]


@pytest.mark.parametrize(("ground", "left"), [(90, 2), (30, 1), (0, 1), (120, 0)])
@pytest.mark.parametrize("name", ["Code39", "Code128"])
def test_a_code_without_its_quiet_zones_is_read(name: str, ground: int, left: int) -> None:
    """``left`` modules are left of them, and what lies beside is as dark as ``ground``."""
    bars = np.asarray(
        zxingcpp.write_barcode_to_image(
            zxingcpp.create_barcode(CHECKED, getattr(zxingcpp.BarcodeFormat, name)),
            scale=3,
            add_quiet_zones=False,
        )
    )
    label = np.pad(bars[:80], 3 * left, constant_values=255)
    photo = np.full((500, 1200, 3), ground, np.uint8)
    photo[200 : 200 + label.shape[0], 80 : 80 + label.shape[1]] = label[:, :, None]
    assert [one.vin for one in read(photo)] == [CHECKED]


@pytest.mark.parametrize("paper", [45, 60, 75])
def test_a_code_on_a_label_darker_than_what_is_around_it_is_read(paper: int) -> None:
    """As on a red or a blue one on a white page, whose gray is between that of the page and of the bars."""
    drawn = code(CHECKED, zxingcpp.BarcodeFormat.Code39)
    bars = cv2.resize(drawn[230:470, 30:870], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    photo = np.full((400, 900, 3), 238, np.uint8)
    photo[140 : 140 + bars.shape[0], 200 : 200 + bars.shape[1]] = np.rint(bars / 190 * (paper - 12) + 12)
    assert [one.vin for one in read(photo)][:1] == [CHECKED]


@pytest.mark.parametrize("name", ["DataMatrix", "QRCode", "Aztec"])
def test_a_small_matrix_code_on_a_label_darker_than_what_is_around_it_is_read(name: str) -> None:
    made = zxingcpp.create_barcode("I" + CHECKED, getattr(zxingcpp.BarcodeFormat, name))
    drawn = np.asarray(zxingcpp.write_barcode_to_image(made, scale=8), np.uint8)
    small = cv2.resize(drawn, None, fx=1.5 / 8, fy=1.5 / 8, interpolation=cv2.INTER_AREA)
    photo = np.full((600, 900, 3), 238, np.uint8)
    photo[230 : 230 + small.shape[0], 420 : 420 + small.shape[1]] = (small // 5 + 12)[:, :, None]
    grain = np.random.default_rng(1).normal(0, 2, photo.shape)
    blurred = np.clip(cv2.GaussianBlur(photo, (0, 0), 0.5) + grain, 0, 255).astype(np.uint8)
    assert [one.vin for one in read(blurred)] == [CHECKED]


@pytest.mark.parametrize("name", ["DataMatrix", "QRCode"])
def test_a_grainy_close_up_is_read(name: str) -> None:
    rng = np.random.default_rng(3)
    drawn = np.asarray(
        zxingcpp.write_barcode_to_image(
            zxingcpp.create_barcode(CHECKED, getattr(zxingcpp.BarcodeFormat, name)), scale=20
        )
    )
    grain = np.clip(drawn.astype(np.float32) * 0.6 + 40 + rng.normal(0, 45, drawn.shape), 0, 255)
    found = read(np.repeat(grain.astype(np.uint8)[:, :, None], 3, axis=2))
    assert [one.vin for one in found] == [CHECKED]


@pytest.mark.parametrize("name", ["Code39Std", "Code93", "Code128", "QRCode", "DataMatrix", "Aztec"])
@pytest.mark.parametrize("shadow", [0.3, 0.2])
def test_a_code_half_in_the_shade_is_read(name: str, shadow: float) -> None:
    photo = code(CHECKED, getattr(zxingcpp.BarcodeFormat, name))
    light = np.clip((450 - np.arange(900)) / 6, 0, 1) * (1 - shadow) + shadow
    shaded = (np.maximum(photo, 15) * light[None, :, None]).astype(np.uint8)
    assert [found.vin for found in read(shaded)][:1] == [CHECKED]


@pytest.mark.parametrize("degrees", [15, -15, 30, 90, 105, 180])
def test_a_tilted_code_is_found_with_effort(degrees: float) -> None:
    photo = code(CHECKED, zxingcpp.BarcodeFormat.Code128)
    turn = cv2.getRotationMatrix2D((450, 350), degrees, 1.0)
    tilted = np.asarray(cv2.warpAffine(photo, turn, (900, 700), borderValue=(190, 190, 190)), np.uint8)
    (found,) = read(tilted)
    assert found.vin == CHECKED
    assert np.abs(found.corners.mean(axis=0) - (450, 350)).max() < 40


def test_a_code_beside_a_tilted_line_is_found_at_the_first_look() -> None:
    photo = code(CHECKED, zxingcpp.BarcodeFormat.Code128)
    turn = cv2.getRotationMatrix2D((450, 350), 20, 1.0)
    tilted = np.asarray(cv2.warpAffine(photo, turn, (900, 700), borderValue=(190, 190, 190)), np.uint8)
    line = np.array([(300, 240), (600, 240), (600, 270), (300, 270)], np.float64)
    moved = cv2.transform(line[None], turn)[0].astype(np.float32)
    view = barcodes.beside(View.of(Photo.of(tilted), 1600), moved)
    assert view is not None
    assert [one.vin for one in barcodes.look(view, rotate=False)] == [CHECKED]


def test_a_code_beside_a_level_line_is_found_where_it_is() -> None:
    photo = np.full((900, 1800, 3), 190, np.uint8)
    photo[100:800, 700:1600] = code(CHECKED, zxingcpp.BarcodeFormat.Code128)
    line = np.array([(950, 340), (1350, 350), (1350, 380), (950, 370)], np.float32)
    view = barcodes.beside(View.of(Photo.of(photo), 1600), line)
    assert view is not None
    (found,) = barcodes.look(view, rotate=False)
    assert found.vin == CHECKED
    assert np.abs(found.corners.mean(axis=0) - (1150, 450)).max() < 40


def test_codes_of_other_kinds_count_where_a_linear_one_says_another_vin() -> None:
    drawn = np.concatenate(
        [code(CHECKED, zxingcpp.BarcodeFormat.Code128), code(UNCHECKED, zxingcpp.BarcodeFormat.DataMatrix)]
    )
    view = View.of(Photo.of(drawn), 1600)
    assert [one.vin for one in barcodes.look_for(CHECKED, view)] == [CHECKED]
    assert [one.vin for one in barcodes.look_for(UNCHECKED, view)] == [CHECKED, UNCHECKED]


def test_nothing_is_found_where_there_is_no_code() -> None:
    assert read(np.full((300, 400, 3), 120, np.uint8)) == []


@pytest.mark.parametrize(("payload", "looked_at"), [(CHECKED, True), (None, False)])
def test_what_has_fewer_bars_than_a_vins_code_is_not_looked_at(payload: str | None, looked_at: bool) -> None:
    fence = np.full((700, 900, 3), 190, np.uint8)
    fence[200:500, 300:600] = np.where(np.arange(300) % 30 < 12, 20, 190)[None, :, None]
    parts = barcodes.busy_parts(
        View.of(Photo.of(code(payload, zxingcpp.BarcodeFormat.PDF417) if payload else fence), 1600)
    )
    assert parts
    assert any(True for _ in barcodes.bars(parts)) == looked_at
