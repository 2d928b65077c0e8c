"""Draws photos that bear numbers but no VIN: parcels, products, orders, screens, pages of text, streets.

    python -m training.render_numbers --out sheet.png [--count 24] [--seed 0]

writes a sheet of them. A VIN recognizer must answer none of these. Serial, order and parcel numbers of 17
characters are drawn on purpose; those that a maker could have written as a VIN by chance are drawn again.
OpenCV's own fonts are enough, so the tests draw a handful of these too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import zxingcpp
from numpy.typing import NDArray

from carsight.vin import rules
from training.data import Pixels, tiled

Rng = np.random.Generator
Mask = NDArray[np.uint8]

_DIGITS, _HEX = "0123456789", "0123456789ABCDEF"
_LETTERS = rules.ALPHABET[10:]
_CODES = ("Code39", "Code93", "Code128", "DataMatrix", "QRCode", "PDF417", "Aztec")


def _some(rng: Rng, signs: str, count: int) -> str:
    return "".join(rng.choice(list(signs), count))


def draw_number(rng: Rng) -> str:
    """Draw a number of 17 characters, or one near it, as shops, factories and carriers write them."""
    kinds: tuple[Callable[[], str], ...] = (
        lambda: "SN" + _some(rng, rules.ALPHABET, 11) + _some(rng, _DIGITS, 4),
        lambda: _some(rng, rules.ALPHABET, 17),
        lambda: _some(rng, _HEX, 17),
        lambda: _some(rng, _HEX, 16),
        lambda: _some(rng, _DIGITS, 17),
        lambda: "1Z" + _some(rng, rules.ALPHABET, 6) + _some(rng, _DIGITS, 10),
        lambda: "JD" + _some(rng, _DIGITS, 18),
        lambda: (
            _some(rng, _LETTERS, 2) + _some(rng, _DIGITS, 2) + "A" + _some(rng, rules.ALPHABET, 8) + "2297"
        ),
        lambda: "20" + _some(rng, _DIGITS, 6) + _some(rng, _LETTERS, 3) + _some(rng, _DIGITS, 6),
        lambda: _some(rng, _LETTERS, 3) + _some(rng, _DIGITS, 14),
        lambda: ":".join(_some(rng, _HEX, 2) for _ in range(6)),
        lambda: _some(rng, _HEX, 8) + "-" + _some(rng, _HEX, 4) + "-" + _some(rng, _HEX, 4),
    )
    while True:
        number = str(kinds[int(rng.integers(len(kinds)))]())
        if not _might_be_a_vin(number):
            return number


def _might_be_a_vin(number: str) -> bool:
    """Whether nobody could tell ``number`` from a VIN."""
    if not rules.is_vin(number):
        return False
    return rules.is_valid(number) if rules.check_applies(number) else rules.known_maker(number)


_WORDS = (
    "SHIP TO", "ORDER CONFIRMATION", "Order no.", "Total", "Router AC1200", "S/N", "Serial No.", "MODEL",
    "Tracking number", "Invoice", "Ref.", "MAC", "Made in Germany", "Input 100-240V 50/60Hz", "Rev. 2.1",
    "12 EXAMPLE ST", "SPRINGFIELD", "Part no.", "Lot", "Best before 12/2027", "Warranty void if removed",
    "Delivered", "Amount due", "CUSTOMER COPY", "WEIGHT 2.4 KG", "1 OF 1", "GVWR 2495 KG", "MFD 08/24",
)  # fmt: skip


def _text(face: Pixels, text: str, x: int, y: int, size: int, ink: tuple[int, int, int], font: str) -> int:
    right, _ = cv2.putText(face, text, (x, y), ink, cv2.FontFace(font), size)[0], None
    return int(right[0])


def _font(rng: Rng) -> str:
    return str(rng.choice(["sans", "serif", "italic", "uni"], p=(0.55, 0.25, 0.1, 0.1)))


def _ink(rng: Rng, dark: bool) -> tuple[int, int, int]:
    shade = rng.uniform(170, 245) if dark else rng.uniform(10, 80)
    return (int(shade), int(shade), int(shade))


def code(payload: str, kind: str, module: int, height: int = 60) -> Mask:
    """Draw a barcode, dark on light, ``module`` pixels a module, linear ones ``height`` pixels high."""
    if kind in {"Code39", "Code93"}:
        payload = payload.replace(":", "-")  # their only sign of `draw_number` that these lack
    made = zxingcpp.create_barcode(payload, getattr(zxingcpp.BarcodeFormat, kind))
    drawn = np.asarray(zxingcpp.write_barcode_to_image(made, scale=1), np.uint8)
    if kind.startswith("Code"):
        drawn = np.repeat(drawn[drawn.shape[0] // 2 : drawn.shape[0] // 2 + 1], height, axis=0)
        return np.ascontiguousarray(np.repeat(drawn, module, axis=1))
    return np.ascontiguousarray(np.kron(drawn, np.ones((module, module), np.uint8)))


def _label(rng: Rng) -> Pixels:
    """Draw a parcel's or product's label, an order, an invoice: words, numbers, perhaps a code."""
    width, height = int(rng.integers(500, 1400)), int(rng.integers(300, 900))
    dark = bool(rng.random() < 0.25)
    face = np.full((height, width, 3), rng.uniform(10, 60) if dark else rng.uniform(200, 250), np.uint8)
    font, ink, size = _font(rng), _ink(rng, dark), int(rng.integers(16, 44))
    y = size * 2
    while y < height - size:
        x = _text(face, str(rng.choice(_WORDS)), int(size * 0.8), y, size, ink, font)
        if rng.random() < 0.6:
            _text(face, draw_number(rng), x + size // 2, y, size, ink, font)
        y += int(size * rng.uniform(1.3, 2.4))
        if rng.random() < 0.25 and y < height - 200:
            drawn = code(
                draw_number(rng), str(rng.choice(_CODES)), int(rng.integers(2, 4)), int(rng.integers(40, 110))
            )
            drawn = drawn[: height - y - 10, : width - 60]
            face[y : y + drawn.shape[0], 40 : 40 + drawn.shape[1]] = drawn[:, :, None]
            y += drawn.shape[0] + size * 2
    return face


def _page(rng: Rng) -> Pixels:
    """Return a page or a screen full of text."""
    width, height = int(rng.integers(700, 1500)), int(rng.integers(700, 1500))
    dark = bool(rng.random() < 0.3)
    face = np.full((height, width, 3), rng.uniform(10, 40) if dark else rng.uniform(225, 255), np.uint8)
    font, ink, size = _font(rng), _ink(rng, dark), int(rng.integers(13, 24))
    for y in range(size * 2, height - size, int(size * rng.uniform(1.3, 1.9))):
        words: list[str] = []
        while sum(map(len, words)) < width / size * 1.3:
            some = _some(
                rng, "etaoinshrdlu" if rng.random() < 0.85 else rules.ALPHABET, int(rng.integers(2, 11))
            )
            words.append(draw_number(rng) if rng.random() < 0.04 else some)
        _text(face, " ".join(words), size, y, size, ink, font)
    return face


def _street(rng: Rng) -> Pixels:
    """Sky, houses, a road, a car and a sign, in flat shapes."""
    width, height = int(rng.integers(600, 1600)), int(rng.integers(450, 1200))
    face = np.full((height, width, 3), 0, np.uint8)
    face[: height // 2] = rng.integers(140, 255, 3)
    face[height // 2 :] = rng.integers(50, 120, 3)
    for x in range(0, width, 160):
        top = int(rng.uniform(0.1, 0.4) * height)
        cv2.rectangle(face, (x, top), (x + 140, height // 2), [int(v) for v in rng.integers(60, 220, 3)], -1)
        for row in range(top + 20, height // 2 - 30, 50):
            for column in range(x + 15, x + 120, 40):
                cv2.rectangle(face, (column, row), (column + 22, row + 30), (60, 50, 40), -1)
    x, y = int(rng.uniform(0.1, 0.5) * width), int(height * 0.6)
    paint = [int(v) for v in rng.integers(20, 230, 3)]
    cv2.rectangle(face, (x, y), (x + width // 3, y + height // 6), paint, -1)
    cv2.rectangle(face, (x + width // 15, y - height // 10), (x + width // 4, y), paint, -1)
    for wheel in (x + width // 15, x + width // 4):
        cv2.circle(face, (wheel, y + height // 6), height // 18, (15, 15, 15), -1)
    plate = _some(rng, _LETTERS, 3) + " " + _some(rng, _DIGITS, 4)
    _text(face, plate, x + width // 12, y + height // 8, max(12, width // 40), (20, 20, 20), "sans")
    _text(face, str(rng.choice(_WORDS)), int(width * 0.6), int(height * 0.3), 40, (240, 240, 240), "sans")
    return face


def _photographed(rng: Rng, face: Pixels) -> Pixels:
    """``face`` as a camera sees it: tilted, unevenly lit, a little soft, grainy, packed as JPEG."""
    height, width = face.shape[:2]
    turn = cv2.getRotationMatrix2D(
        (width / 2, height / 2), float(rng.normal(0, 3)), float(rng.uniform(0.8, 1.0))
    )
    ground = [int(v) for v in rng.integers(30, 200, 3)]
    picture = cv2.warpAffine(face, turn, (width, height), flags=cv2.INTER_AREA, borderValue=ground)
    if rng.random() < 0.2:
        picture = np.ascontiguousarray(np.rot90(picture, int(rng.integers(1, 4))))
    light = cv2.resize(rng.normal(1, 0.15, (3, 3)).astype(np.float32), (picture.shape[1], picture.shape[0]))
    lit = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.1))) * light[:, :, None]
    lit += rng.standard_normal(lit.shape[:2], np.float32)[:, :, None] * float(rng.uniform(0, 6))
    picture = np.clip(lit, 0, 255).astype(np.uint8)
    packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 95))])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)


def render_other(rng: Rng) -> Pixels:
    """Draw a photo without a VIN (height x width x 3, BGR)."""
    kinds = (_label, _label, _label, _page, _street)
    return _photographed(rng, kinds[int(rng.integers(len(kinds)))](rng))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="file of the sheet")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    tiles = []
    for _ in range(args.count):
        picture = render_other(rng)
        zoom = 256 / max(picture.shape)
        small = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        tile = np.zeros((256, 256, 3), np.uint8)
        tile[: small.shape[0], : small.shape[1]] = small
        tiles.append(tile)
    cv2.imwrite(str(args.out), tiled(tiles, 6))


if __name__ == "__main__":
    main()
