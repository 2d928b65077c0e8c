"""How VINs are written: in print, by dots, by one stroke of a tool; a line's ink, character by character."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.fonts import font_files
from training.vin_texts import SIGNS

Rng = np.random.Generator
Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]

# Families that stand for what is seen on cars; those not installed are left out. Debian packages
# fonts-opendin, -ocr-a, -ocr-b, -b612, -bebas-neue, -national-park, -roadgeek, -liberation, -dejavu; npm
# @fontsource/* where found.
LASER = """
    OCRB OCRBS OCRB OSP-DIN OSP-DIN LiberationSansNarrow-Regular LiberationSansNarrow-Bold
    LiberationSans-Regular LiberationSans-Bold LiberationMono-Regular LiberationMono-Bold DejaVuSansMono
    DejaVuSansMono-Bold DejaVuSansCondensed DejaVuSansCondensed-Bold DejaVuSans B612Mono-Regular
    B612Mono-Bold B612-Regular RG2014B RG2014C RG2014D BebasNeue-Book BebasNeue-Regular NationalPark-Regular
    share-tech-mono-latin-400-normal saira-semi-condensed-latin-500-normal
    barlow-semi-condensed-latin-600-normal rajdhani-latin-700-normal roboto-condensed-latin-600-normal
    overpass-latin-600-normal fira-sans-condensed-latin-600-normal chakra-petch-latin-600-normal
    saira-condensed-latin-500-normal LiberationSans-Italic LiberationSans-BoldItalic RG2014E
"""
SLAB = """
    LiberationSerif-Bold LiberationSerif-Regular DejaVuSerif DejaVuSerif-Bold OCRA
"""
_STROKE = """
    BebasNeue-Light BebasNeue-Thin NationalPark-Thin DejaVuSans-ExtraLight OCRB
    share-tech-mono-latin-400-normal OSP-DIN B612Mono-Regular
"""
WORDS = """
    DejaVuSansCondensed-Bold DejaVuSans LiberationSansNarrow-Bold LiberationSans-Bold LiberationSans-Regular
    DejaVuSansMono LiberationMono-Regular DejaVuSerif
"""

# Each glyph of the 5 x 7 matrix printers: seven rows of five dots, the high bit at the left.
_DOT_ROWS = """
    0:0E11131519110E 1:040C040404040E 2:0E11010204081F 3:1F02040201110E 4:02060A121F0202 5:1F101E0101110E
    6:0608101E11110E 7:1F010204080808 8:0E11110E11110E 9:0E11110F01020C A:0E11111F111111 B:1E11111E11111E
    C:0E11101010110E D:1E11111111111E E:1F10101E10101F F:1F10101E101010 G:0E11101711110F H:1111111F111111
    J:0702020202120C K:11121418141211 L:1010101010101F M:111B1515111111 N:11191513111111 P:1E11111E101010
    R:1E11111E141211 S:0F10100E01011E T:1F040404040404 U:1111111111110E V:11111111110A04 W:11111115151B11
    X:11110A040A1111 Y:11110A04040404 Z:1F01020408101F *:00150E1F0E1500
"""
DOTS = dict(entry.split(":") for entry in _DOT_ROWS.split())

# Each glyph of the single-stroke tools - pins, scribers, mills - as lines through points xy of a 4 x 6 grid;
# y points down. Diamonds, triangles, stars and dashes stand before and after a VIN.
_STROKE_LINES = """
    0:10-30-41-45-36-16-05-01-10 1:11-20-26 2:01-10-30-41-42-06-46 3:01-10-30-41-42-33-44-45-36-16-05,13-33
    4:36-30-04-44 5:40-00-02-32-43-45-36-16-05 6:41-30-10-01-05-16-36-45-44-33-13-04 7:00-40-16
    8:13-04-05-16-36-45-44-33-13-02-01-10-30-41-42-33 9:05-16-36-45-41-30-10-01-02-13-33-42 A:06-20-46,14-34
    B:33-42-41-30-00-06-36-45-44-33-03 C:41-30-10-01-05-16-36-45 D:06-00-30-41-45-36-06 E:40-00-06-46,03-33
    F:40-00-06,03-33 G:41-30-10-01-05-16-36-45-43-23 H:00-06,40-46,03-43 J:40-45-36-16-05 K:00-06,40-03-46
    L:00-06-46 M:06-00-23-40-46 N:06-00-46-40 P:06-00-30-41-42-33-03 R:06-00-30-41-42-33-03,23-46
    S:41-30-10-01-02-13-33-44-45-36-16-05 T:00-40,20-26 U:00-05-16-36-45-40 V:00-26-40 W:00-16-23-36-40
    X:00-46,40-06 Y:00-23-40,23-26 Z:00-40-06-46 I:20-26 O:10-30-41-45-36-16-05-01-10 -:13-33
    *:02-44,42-04,21-25
    ◇:20-43-26-03-20 △:06-20-46-06 /:06-40 .:26-26
"""
_STROKES = {
    sign: [
        np.array([(int(xy[0]), int(xy[1])) for xy in line.split("-")], np.float32)
        for line in lines.split(",")
    ]
    for sign, lines in (entry.split(":") for entry in _STROKE_LINES.split())
}


@functools.lru_cache(maxsize=512)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font_files()[name]), size)


def pick_font(names: str, rng: Rng) -> str:
    """Draw one of ``names`` that is installed."""
    return str(rng.choice([name for name in names.split() if name in font_files()]))


@functools.lru_cache(maxsize=8192)
def _glyph(name: str, size: int, character: str, bold: int) -> tuple[Mask, int]:
    """Return a character's ink, from the ascender line down (rows x columns), and its advance in pixels."""
    font = _font(name, size)
    advance = max(1, round(font.getlength(character)))
    image = Image.new("L", (advance + 2 * bold + 2, round(size * 1.3)), 0)
    ImageDraw.Draw(image).text((bold + 1, round(size * 0.1)), character, 255, font, stroke_width=bold)
    return np.asarray(image), advance


@functools.lru_cache(maxsize=1024)
def _dot_glyph(character: str, size: int, dot: int) -> Mask:
    """Return a 5 x 7 glyph ``size`` pixels high; ``dot`` is a dot's diameter in percent of the pitch."""
    rows = DOTS.get(character, "00000000000000")
    pitch = 8
    image = np.zeros((7 * pitch, 5 * pitch), np.uint8)
    for y in range(7):
        bits = int(rows[2 * y : 2 * y + 2], 16)
        for x in range(5):
            if bits >> (4 - x) & 1:
                cv2.circle(
                    image,
                    (x * pitch + pitch // 2, y * pitch + pitch // 2),
                    round(pitch * dot / 200),
                    255,
                    -1,
                    cv2.LINE_AA,
                )
    return np.asarray(
        cv2.resize(image, (max(3, round(size * 5 / 7)), size), interpolation=cv2.INTER_AREA), np.uint8
    )


def _rounded_off(points: Floats, radius: float) -> Floats:
    """Return a line through ``points`` (N x 2) whose corners are bows that begin ``radius`` before them."""
    if not radius:
        return points
    closed = bool((points[0] == points[-1]).all()) and len(points) > 2
    if closed:  # the corner at the seam is one as well
        points = np.concatenate([(points[:1] + points[1:2]) / 2, points[1:], (points[:1] + points[1:2]) / 2])
    parts = [points[:1]]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        reach = [min(radius / max(float(np.hypot(*(p - corner))), 1e-6), 0.5) for p in (before, after)]
        begin, end = corner + (before - corner) * reach[0], corner + (after - corner) * reach[1]
        along = np.linspace(0, 1, 5, dtype=np.float32)[:, None]
        parts.append(begin * (1 - along) ** 2 + corner * 2 * along * (1 - along) + end * along**2)
    return np.concatenate([*parts, points[-1:]]).astype(np.float32)


@functools.lru_cache(maxsize=4096)
def _stroke_glyph(character: str, size: int, width: int, dot: int, rounding: int) -> Mask:
    """Draw a single-stroke glyph ``size`` pixels high.

    ``width`` is the stroke's in percent of that height, ``dot`` the distance of pin marks in percent of their
    diameter (0: one groove), ``rounding`` the corners' radius in tenths of the grid's cells.
    """
    fine, edge = 4, 0.1
    height = size * fine
    box = np.array([height * 0.6, height], np.float32)
    image = np.zeros((height, round(float(box[0]))), np.uint8)
    thick = max(2, round(height * width / 100))
    for line in _STROKES.get(character, []):
        points = _rounded_off(line, rounding / 10) / np.array((4, 6), np.float32)
        points = (points * (1 - 2 * edge) + edge) * (box - 1)
        if not dot:
            cv2.polylines(image, [np.rint(points).astype(np.int32)], False, 255, thick, cv2.LINE_AA)
            continue
        lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        count = max(2, round(float(lengths[-1]) / (thick * dot / 100)) + 1)
        along = np.linspace(0, lengths[-1], count)
        for x, y in zip(*(np.interp(along, lengths, points[:, axis]) for axis in (0, 1)), strict=True):
            cv2.circle(image, (round(float(x)), round(float(y))), max(1, thick // 2), 255, -1, cv2.LINE_AA)
    small = (max(3, image.shape[1] // fine), size)
    return np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True)
class Style:
    """How a line is set: a font's name, the glyph height, pitch and weight.

    ``dots`` stands for the 5 x 7 matrix, ``strokes`` for a single-stroke tool; ``dot`` is how their marks
    stand (see ``_dot_glyph`` and ``_stroke_glyph``), ``bold`` then the stroke's width in percent of the
    height.
    """

    font: str
    size: int
    pitch: float
    """Space between characters, in parts of the size; with ``mono`` the whole pitch of a character."""
    mono: bool
    squeeze: float
    bold: int
    dot: int = 90
    rounding: int = 0


def _between(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def draw_style(rng: Rng, size: int) -> Style:
    """Return the type of a VIN line about ``size`` pixels high."""
    kind = rng.random()
    if kind < 0.13:
        return Style(
            "dots",
            size,
            _between(rng, 0.78, 1.15),
            True,
            _between(rng, 0.75, 1.3),
            0,
            int(rng.integers(60, 135)),
        )
    if kind < 0.2:
        return Style(pick_font(SLAB, rng), size, _between(rng, 0.0, 0.14), False, _between(rng, 0.8, 1.3), 0)
    if kind < 0.35:
        bold = int(rng.integers(0, max(1, size // 14) + 1))
        return Style(
            pick_font(_STROKE, rng), size, _between(rng, 0.6, 0.95), True, _between(rng, 0.8, 1.7), bold
        )
    mono = bool(rng.random() < 0.35)
    bold = int(rng.random() < 0.25)
    pitch = _between(rng, 0.62, 0.95) if mono else _between(rng, -0.01, 0.16)
    squeeze = float(np.exp(rng.normal(0, 0.22)))
    return Style(pick_font(LASER, rng), size, pitch, mono, squeeze, bold)


def draw_struck_style(rng: Rng, size: int) -> Style:
    """Return the type of a VIN about ``size`` pixels high that is struck, pinned or milled into metal."""
    kind = rng.random()
    pitch = _between(rng, 0.52, 0.95)
    if kind < 0.15:
        return Style("dots", size, pitch, True, _between(rng, 0.8, 1.2), 0, int(rng.integers(40, 95)))
    if kind < 0.75:
        pinned = rng.random() < 0.55
        spacing = int(rng.integers(75, 190)) if pinned else 0
        width = int(rng.integers(6, 12) if pinned else rng.integers(5, 17))
        rounding = int(rng.integers(0, 11))
        return Style("strokes", size, pitch, True, _between(rng, 0.75, 1.25), width, spacing, rounding)
    return draw_style(rng, size)


def set_line(text: str, style: Style) -> tuple[Mask, list[tuple[int, int]]]:
    """Return the ink of ``text`` (rows x columns) and, for each character, where it begins and ends in x."""
    glyphs: list[tuple[Mask, int]] = []
    for character in text:
        drawn: Mask | None = None
        if style.font == "dots" and (character in DOTS or character == " "):
            drawn = _dot_glyph(character, round(style.size * 0.75), style.dot)
        elif style.font == "strokes" and (character in _STROKES or character == " "):
            drawn = _stroke_glyph(character, round(style.size * 0.75), style.bold, style.dot, style.rounding)
        if drawn is not None:
            above_and_below = (round(style.size * 0.2), round(style.size * 0.35))
            glyphs.append((np.pad(drawn, (above_and_below, (0, 0))), drawn.shape[1]))
        else:
            by_tool = style.font in {"dots", "strokes"}
            name = "DejaVuSans" if by_tool or character in SIGNS else style.font
            glyphs.append(_glyph(name, style.size, character, 0 if by_tool else style.bold))
    rows = max(mask.shape[0] for mask, _ in glyphs)
    at = 2.0
    spans: list[tuple[int, int]] = []
    width = sum(max(mask.shape[1], round(style.size * 1.2)) for mask, _ in glyphs) + 8
    line = np.zeros((rows, width + len(text) * max(0, round(style.size * style.pitch))), np.uint8)
    for mask, advance in glyphs:
        step = style.pitch * style.size if style.mono else advance + style.pitch * style.size
        x = round(at + ((step - advance) / 2 if style.mono else 0))
        x = max(0, min(x, line.shape[1] - mask.shape[1]))
        part = line[: mask.shape[0], x : x + mask.shape[1]]
        np.maximum(part, mask, out=part)
        inset = 0 if style.font in {"dots", "strokes"} else style.bold
        spans.append((x + inset, x + inset + advance))
        at += max(step, 2.0)
    line = line[:, : min(line.shape[1], max(spans[-1][1] + 4, round(at)))]
    if abs(style.squeeze - 1) > 0.02:
        columns = max(8, round(line.shape[1] * style.squeeze))
        spans = [(round(a * columns / line.shape[1]), round(b * columns / line.shape[1])) for a, b in spans]
        line = np.asarray(cv2.resize(line, (columns, line.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
    return line, spans
