"""Barcodes: which part of a payload is the VIN, and codes found tilted, turned and beside a line."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import zxingcpp

from carsight.photo import Pixels
from carsight.vin import barcodes

CHECKED = "JHLRD77874C026456"
UNCHECKED = "WVWZZZ1KZ7M047185"


@pytest.mark.parametrize(
    ("payload", "vin", "sure"),
    [
        ("I" + CHECKED, CHECKED, True),
        (CHECKED, CHECKED, True),
        (CHECKED + "K", CHECKED, True),
        ("I" + CHECKED + "7", CHECKED, True),
        ("*" + CHECKED + "*", CHECKED, True),
        ("i" + CHECKED.lower(), CHECKED, True),
        (UNCHECKED, UNCHECKED, True),
        ("I" + UNCHECKED, UNCHECKED, True),
        ("VIN:" + UNCHECKED + ";2.0", UNCHECKED, True),
        ("EQ0ZZZ1KZ7M047185"[2:] + "AB", "0ZZZ1KZ7M047185AB", False),
    ],
)
def test_the_vin_of_a_payload(payload: str, vin: str, sure: bool) -> None:
    assert barcodes.vin_of(payload) == (vin, sure)


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "I1234567",
        "12345678901234567",  # a serial number
        "E4-2001/116-0105-07",
        "https://example.com/label/7",
        UNCHECKED + "000000",  # a longer number in which the VIN is only a guess
        "IOQ" * 6,
    ],
)
def test_other_payloads_hold_no_vin(payload: str) -> None:
    assert barcodes.vin_of(payload) is None


def code(payload: str, kind: zxingcpp.BarcodeFormat) -> Pixels:
    """A clean code, dark on light, in the middle of a grey photo of 900 x 700."""
    drawn = np.asarray(zxingcpp.write_barcode_to_image(zxingcpp.create_barcode(payload, kind), scale=3))
    if drawn.shape[0] < 80:
        drawn = np.repeat(drawn, 2, axis=0)
    photo = np.full((700, 900, 3), 190, np.uint8)
    y, x = (700 - drawn.shape[0]) // 2, (900 - drawn.shape[1]) // 2
    photo[y : y + drawn.shape[0], x : x + drawn.shape[1]] = drawn[:, :, None]
    return photo


@pytest.mark.parametrize("name", ["Code39", "Code128", "DataMatrix", "QRCode"])
def test_every_kind_of_code_is_read(name: str) -> None:
    found = barcodes.anywhere(code("I" + CHECKED, getattr(zxingcpp.BarcodeFormat, name)))
    assert found is not None
    assert found.vin == CHECKED
    assert np.abs(found.corners.mean(axis=0) - (450, 350)).max() < 40


@pytest.mark.parametrize("degrees", [15, -15, 30, 90, 105, 180])
def test_a_tilted_code_is_found_with_effort(degrees: float) -> None:
    photo = code(CHECKED, zxingcpp.BarcodeFormat.Code128)
    turn = cv2.getRotationMatrix2D((450, 350), degrees, 1.0)
    tilted = np.asarray(cv2.warpAffine(photo, turn, (900, 700), borderValue=(190, 190, 190)), np.uint8)
    found = barcodes.anywhere(tilted, hard=True)
    assert found is not None
    assert found.vin == CHECKED


def test_a_code_beside_a_tilted_line_is_found_at_the_first_look() -> None:
    photo = code(CHECKED, zxingcpp.BarcodeFormat.Code128)
    turn = cv2.getRotationMatrix2D((450, 350), 20, 1.0)
    tilted = np.asarray(cv2.warpAffine(photo, turn, (900, 700), borderValue=(190, 190, 190)), np.uint8)
    line = np.array([(300, 240), (600, 240), (600, 270), (300, 270)], np.float64)
    moved = cv2.transform(line[None], turn)[0].astype(np.float32)
    found = barcodes.near(tilted, moved)
    assert found is not None
    assert found.vin == CHECKED


def test_no_code_no_vin() -> None:
    assert barcodes.anywhere(np.full((300, 400, 3), 120, np.uint8), hard=True) is None
