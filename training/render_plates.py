"""Draws license plates: a design of `designs.py`, a text that may stand on it, then a photo of it.

    python -m training.render_plates --out sheet.png [--count 96] [--seed 0] [--region CODE]

writes a sheet of what the reader sees, of one region's designs or of all. Nothing here is a real plate; texts
are drawn at random.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from carsight.plate.reader import HEIGHT, rectify
from carsight.plate.reader import TWO_ROWS as TWO_ROWS_WIDTH
from training import designs
from training.camera import spoil_plate
from training.data import Pixels, read_image, read_labels, tiled
from training.designs import Color, Design, Token, fill_pattern, vanity_pattern
from training.fonts import font_files

Mask = NDArray[np.floating]


# Families by use. Debian packages fonts-roadgeek, -opendin, -ocr-b, -b612, -bebas-neue, -national-park,
# -liberation and -dejavu; files of npm @fontsource packages widen the choice where they are found.
_FONTS: dict[str, tuple[str, ...]] = {
    "us": (
        "RG2014B", "RG2014C", "RG2014D", "RG2014E", "BebasNeue-Bold", "LiberationSansNarrow-Bold",
        "NationalPark-Heavy", "OSP-DIN", "saira-condensed-latin-600-normal",
        "saira-condensed-latin-500-normal", "barlow-condensed-latin-600-normal", "oswald-latin-500-normal",
        "roboto-condensed-latin-600-normal", "pathway-gothic-one-latin-400-normal",
        "archivo-narrow-latin-600-normal", "rajdhani-latin-700-normal",
        "sofia-sans-extra-condensed-latin-700-normal",
    ),
    "eu": (
        "OSP-DIN", "RG2014C", "RG2014D", "DejaVuSansCondensed-Bold", "B612-Bold", "B612Mono-Bold", "OCRB",
        "LiberationSansNarrow-Bold", "barlow-semi-condensed-latin-600-normal",
        "barlow-semi-condensed-latin-700-normal", "saira-semi-condensed-latin-600-normal",
        "share-tech-mono-latin-400-normal", "chakra-petch-latin-600-normal",
        "fira-sans-condensed-latin-600-normal", "overpass-latin-600-normal", "rajdhani-latin-700-normal",
    ),
    "gb": (
        "RG2014D", "RG2014E", "RG2014EM", "LiberationSans-Bold", "overpass-latin-700-normal",
        "barlow-semi-condensed-latin-700-normal", "saira-semi-condensed-latin-700-normal",
        "fira-sans-condensed-latin-700-normal", "NationalPark-Heavy",
    ),
    "br": (
        "RG2014C", "RG2014D", "OSP-DIN", "BebasNeue-Bold", "LiberationSansNarrow-Bold",
        "barlow-condensed-latin-600-normal", "roboto-condensed-latin-600-normal",
    ),
}  # fmt: skip
_ANY = (
    "DejaVuSans-Bold", "LiberationSans-Bold", "LiberationSans-Regular", "DejaVuSansCondensed-Bold",
    "LiberationMono-Bold", "LiberationSerif-Bold", "DejaVuSerif-Bold", "OCRA", "teko-latin-600-normal",
    "B612-Regular", "NationalPark-Regular",
)  # fmt: skip
_WORDS = (
    "LiberationSans-Bold", "LiberationSerif-Bold", "LiberationSerif-BoldItalic", "DejaVuSans-Bold",
    "LiberationSansNarrow-Bold", "BebasNeue-Bold", "OSP-DIN",
)  # fmt: skip


# Other scripts: Arabic letters and digits are in DejaVu, the rest in npm @fontsource/noto-sans-{jp,kr,sc}.
_SCRIPTS = {
    "kanji": (
        "noto-sans-jp-japanese-700-normal",
        "品川練馬足立横浜湘南大阪和泉名古屋尾張神戸京都福岡札幌仙台千葉野田習志埼玉春日部熊谷所沢水戸土浦宇都宮群馬多摩八王子熊本広島岡山静岡",
    ),
    "kana": (
        "noto-sans-jp-japanese-700-normal",
        "さすせそたちつてとなにぬねのはひふほまみむめもやゆらりるろわれあいうえかきくけこを",
    ),
    "hangul": (
        "noto-sans-kr-korean-700-normal",
        "가나다라마거너더러머버서어저고노도로모보소오조구누두루무부수우주하허호바사아자서울경기",
    ),
    "hanzi": (
        "noto-sans-sc-chinese-simplified-700-normal",
        "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼",
    ),
    "arabic": ("DejaVuSans-Bold", "ابحدرسصطعقكلمنهوى٠١٢٣٤٥٦٧٨٩"),
}
_NAMES = {"tn": "تونس", "ly": "ليبيا"}
"""Regions whose name stands among the characters, in Arabic."""


@dataclasses.dataclass(frozen=True)
class Crop:
    """What the reader is taught: `pixels` 48 x W BGR, `text` in its alphabet, `region` the design's code."""

    pixels: Pixels
    text: str
    region: str


# --- signs ---


@functools.cache
def _family(name: str) -> tuple[str, ...]:
    wanted = (
        sorted({font for family in _FONTS.values() for font in family} | set(_ANY))
        if name == "any"
        else _FONTS[name]
    )
    found = tuple(font for font in wanted if font in font_files())
    if not found:
        raise OSError("no fonts for plates: install the Debian packages that training/render_plates.py names")
    return found


@functools.lru_cache(maxsize=20000)
def _line(font: str, text: str) -> Mask:
    """Return a word as a mask of its tight box, capital letters 64 px high."""
    face = _face(font)
    x0, y0, x1, y1 = face.getbbox(text)
    image = Image.new("L", (max(int(x1 - x0), 1) + 2, max(int(y1 - y0), 1) + 2))
    ImageDraw.Draw(image).text((1 - x0, 1 - y0), text, 255, face)
    mask = np.asarray(image, np.float32) / 255
    rows, columns = np.flatnonzero(mask.max(axis=1) > 0.1), np.flatnonzero(mask.max(axis=0) > 0.1)
    if not len(rows):
        return np.zeros((64, 20), np.float32)
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@functools.cache
def _face(font: str) -> ImageFont.FreeTypeFont:
    face = ImageFont.truetype(str(font_files()[font]), 64)
    _, top, _, bottom = face.getbbox("H")
    # Fonts of other scripts may have no H.
    return ImageFont.truetype(str(font_files()[font]), round(64 * 64 / ((bottom - top) or 48)))


def _foreign(region: str, count: int, rng: np.random.Generator) -> Mask:
    """Return a sign of the region's own script where a font for it is found, else something like it.

    The reader must learn to pass over signs that its alphabet lacks. `count`: signs standing together.
    """
    script = {"jp": "kanji" if count > 1 else "kana", "kr": "hangul", "cn": "hanzi"}.get(region, "arabic")
    font, signs = _SCRIPTS[script]
    if font not in font_files() or rng.random() < 0.2:
        return _strokes(rng)
    return _line(font, _NAMES.get(region) or str(rng.choice(list(signs))))


def _strokes(rng: np.random.Generator) -> Mask:
    """Draw something like a Chinese or Arabic sign: the reader must learn to pass over it."""
    size = 48
    mask = np.zeros((size, size), np.uint8)
    curved = rng.random() < 0.35
    for _ in range(int(rng.integers(3, 9))):
        a, b = rng.integers(2, size - 2, (2, 2))
        if curved:
            center, axes = (
                (int(a[0]), int(a[1])),
                (int(rng.integers(5, size // 2)), int(rng.integers(4, size // 3))),
            )
            cv2.ellipse(
                mask,
                center,
                axes,
                float(rng.integers(180)),
                0,
                float(rng.integers(90, 270)),
                255,
                3,
                cv2.LINE_AA,
            )
        else:
            b = (
                (b[0], a[1] + rng.integers(-3, 4))
                if rng.random() < 0.5
                else (a[0] + rng.integers(-3, 4), b[1])
            )
            cv2.line(mask, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), 255, 4, cv2.LINE_AA)
    return mask.astype(np.float32) / 255


def _blend(canvas: Pixels, mask: Mask, x: int, y: int, color: Sequence[float]) -> None:
    """Paint `color` through `mask`, whose top left goes to (x, y), as far as it is on the canvas."""
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + mask.shape[1], canvas.shape[1]), min(y + mask.shape[0], canvas.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    part = canvas[y0:y1, x0:x1]
    alpha = mask[y0 - y : y1 - y, x0 - x : x1 - x, None]
    part[:] = part * (1 - alpha) + np.asarray(color, np.float32) * alpha


def _scaled(mask: Mask, width: float, height: float) -> Mask:
    size = (max(round(width), 1), max(round(height), 1))
    shrink = size[1] < mask.shape[0]
    return np.asarray(
        cv2.resize(mask, size, interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR), np.float32
    )


# --- the plate itself ---


Backgrounds = Mapping[str, Sequence[Pixels]]
"""Pictures of plates without their characters, by region."""


def read_backgrounds(data: Path) -> Backgrounds:
    """Return the blank plates of `data`/plates/blank_us; none where there are none."""
    found: dict[str, list[Pixels]] = {}
    folder = data / "plates" / "blank_us"
    for label in read_labels(folder) if folder.exists() else []:
        found.setdefault(label["region"], []).append(read_image(folder / label["image"]))
    return found


def draw_plate(
    design: Design, rng: np.random.Generator, pattern: str | None = None, background: Pixels | None = None
) -> tuple[Pixels, str, int]:
    """Return a flat plate of a design: pixels, its text, the number of rows.

    `pattern` replaces the design's own, `background` everything but its characters, stickers and bolts.
    """
    if pattern is None:
        pattern = str(rng.choice(design.patterns))
        if "|" not in pattern and rng.random() < max(design.vanity, 0.03):
            pattern = vanity_pattern(rng)
    rows, text = fill_pattern(pattern, design.letters, rng)
    two = len(rows) > 1
    # Pixels per millimeter: the characters come out 40 to 60 px high, as fine as any crop shows them.
    scale = float(rng.uniform(0.55, 0.8)) * (1.15 if design.fonts == "us" else 1)
    width, height = round(design.size[0] * scale), round(design.size[1] * scale)
    index = int(rng.integers(1 << 16))
    ink = np.clip(_pick(design.ink, index) + rng.normal(0, 12, 3), 0, 255)
    paper = np.clip(_pick(design.paper, index) + rng.normal(0, 8, 3), 0, 255)
    if background is not None:
        middle_part = background[background.shape[0] // 3 : -background.shape[0] // 3]
        paper = np.asarray(np.median(middle_part.reshape(-1, 3), axis=0), np.float64)
    if np.abs(ink - paper).max() < 70:
        ink = np.full(3, 20.0) if paper.mean() > 110 else np.full(3, 235.0)
    if background is None:
        canvas = _paper(design, paper, width, height, rng)
        left, right = _bands(canvas, design, rng, paper)
        top, bottom = _words(canvas, design, ink, paper, index, left, right, rng)
    else:
        canvas = np.asarray(cv2.resize(background, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        left, right = 0.02 * width, 0.98 * width
        top, bottom = height * rng.uniform(0.16, 0.26), height * rng.uniform(0.76, 0.86)
    if rng.random() < design.stickers:
        _stickers(canvas, rng)
    if background is None and rng.random() < 0.75:
        edge = (ink if rng.random() < 0.6 else paper * 0.6).tolist()
        inset = int(rng.integers(0, max(height // 22, 2)))
        far, thick = (width - 1 - inset, height - 1 - inset), int(rng.integers(1, 3))
        cv2.rectangle(canvas, (inset, inset), far, edge, thick, cv2.LINE_AA)
    fonts = _family(design.fonts) if rng.random() > 0.12 else _family("any")
    font = str(rng.choice(fonts))
    letter = design.text * scale * float(rng.uniform(0.9, 1.08))
    if two:
        middle = (top + bottom) / 2 + float(rng.normal(0, 0.015)) * height
        uneven = float(rng.choice([0.0, 0.0, 0.35])) if design.region not in ("jp", "th") else 0.5
        small = min(letter, (middle - top) * 0.84) * (1 - uneven)
        middle -= (middle - top) * uneven * 0.6
        large = min(letter * (1 + uneven / 2), (bottom - middle) * 0.88)
        bands = [(rows[0], top, middle, small), (rows[1], middle, bottom, large)]
    else:
        bands = [(rows[0], top, bottom, min(letter, (bottom - top) * 0.94))]
    emboss = float(rng.uniform(0.1, 0.5)) if rng.random() < 0.5 else 0.0
    stretch = float(rng.uniform(0.85, 1.2))
    for row, y0, y1, size in bands:
        tracking, gap = size * float(rng.uniform(0.08, 0.24)), size * float(rng.uniform(0.2, 0.55))
        lettering = _Lettering(design.region, font, size, stretch, tracking, gap)
        _row(canvas, row, lettering, (left, right), (y0 + y1) / 2, _Paint(ink, paper, emboss), rng)
    if rng.random() < design.bolts:
        _bolts(canvas, rng)
    return canvas, text, len(rows)


def _pick(colors: tuple[Color, ...], index: int) -> NDArray[np.float64]:
    return np.array(colors[index % len(colors)], np.float64)


def _paper(
    design: Design, paper: NDArray[np.float64], width: int, height: int, rng: np.random.Generator
) -> Pixels:
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = paper
    if design.gradient is not None and rng.random() < 0.8:
        other = np.clip(np.array(design.gradient) + rng.normal(0, 15, 3), 0, 255)
        stops = np.sort(rng.uniform(0, 1, 2))
        ramp = np.clip((np.linspace(0, 1, height) - stops[0]) / max(stops[1] - stops[0], 0.1), 0, 1)
        ramp = (ramp if rng.random() < 0.5 else 1 - ramp)[:, None, None]
        if rng.random() < 0.3:
            ramp = np.maximum(ramp, ramp[::-1]) * 0.8
        canvas = canvas * (1 - ramp) + other.astype(np.float32) * ramp
    result = canvas.astype(np.uint8)
    if design.scenery and rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 4))):
            _hill(result, paper, rng)
    return result


def _hill(canvas: Pixels, paper: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Mountains, a shore or some figure in pale colors behind the text."""
    height, width = canvas.shape[:2]
    color = np.clip(paper * rng.uniform(0.55, 0.95) + rng.normal(0, 40, 3), 0, 255)
    mask = np.zeros((height, width), np.uint8)
    if rng.random() < 0.6:
        xs = np.linspace(0, width, 9)
        ys = height * (rng.uniform(0.35, 0.9) + rng.normal(0, 0.09, 9))
        points = np.vstack([np.column_stack([xs, ys]), [(width, height), (0, height)]]).astype(np.int32)
        cv2.fillPoly(mask, [points], 255)
    else:
        center = (int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.2, 0.9) * height))
        axes = (int(rng.uniform(0.04, 0.25) * width), int(rng.uniform(0.1, 0.4) * height))
        cv2.ellipse(
            mask, center, axes, float(rng.integers(180)), 0, 360, 255, -1 if rng.random() < 0.7 else 3
        )
    _blend(canvas, mask.astype(np.float32) / 255 * np.float32(rng.uniform(0.25, 0.7)), 0, 0, color.tolist())


def _bands(
    canvas: Pixels, design: Design, rng: np.random.Generator, paper: NDArray[np.float64]
) -> tuple[float, float]:
    """Country bands at the sides; returns the columns between which text may stand."""
    height, width = canvas.shape[:2]
    left, right = width * 0.02, width * 0.98
    band = design.band
    if band is None or (len(band) <= 4 and rng.random() < 0.12):
        return left, right
    if band in ("hanzi", "arabic"):
        return _sign(canvas, design, left, paper, rng), right
    if band == "mercosur":
        cv2.rectangle(canvas, (0, 0), (width, round(height * 0.23)), (150, 60, 20), -1)
        return left, right
    colors = {
        "green": (60, 120, 25),
        "picture": (150, 110, 40),
        "maroon": (45, 20, 110),
        "red": (45, 40, 180),
        "CUBA": (160, 80, 30),
    }
    color = np.clip(np.array(colors.get(band, (165, 65, 15))) + rng.normal(0, 18, 3), 0, 255).tolist()
    share = float(rng.uniform(0.075, 0.11)) * (1.0 if width / height > 3.5 else 1.35)
    if band in ("green", "picture", "maroon"):
        share = float(rng.uniform(0.12, 0.2))
    wide = round(width * share)
    cv2.rectangle(canvas, (0, 0), (wide, height), color, -1)
    bright = [min(c * 1.2 + 120, 255) for c in color]
    if band in ("green", "picture"):
        _blend(
            canvas,
            _scaled(_strokes(rng), wide * 0.7, height * 0.7),
            round(wide * 0.15),
            round(height * 0.15),
            bright,
        )
    else:
        for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
            spot = (
                int(wide / 2 + wide * 0.27 * np.cos(angle)),
                int(height * 0.3 + wide * 0.27 * np.sin(angle)),
            )
            cv2.circle(canvas, spot, max(wide // 16, 1), (30, 200, 240), -1, cv2.LINE_AA)
        if band not in ("maroon", "red", "blue"):
            word = _line(str(rng.choice(_word_fonts())), band)
            tall = min(height * 0.2, wide * 0.8 / max(word.shape[1] / word.shape[0], 0.6))
            word = _scaled(word, tall * word.shape[1] / word.shape[0], tall)
            _blend(canvas, word, int((wide - word.shape[1]) / 2), int(height * 0.68), (245, 245, 245))
    if design.region == "de" and rng.random() < 0.06:
        _expiry(canvas, right, rng)
        right -= width * 0.09
    if design.band_right and rng.random() < 0.8:
        cv2.rectangle(canvas, (width - wide, 0), (width, height), color, -1)
        word = _line("LiberationSans-Bold", str(rng.integers(1, 96)))
        _blend(
            canvas,
            _scaled(word, wide * 0.6, height * 0.2),
            round(width - wide * 0.8),
            round(height * 0.68),
            (245, 245, 245),
        )
        right = width - wide * 1.02
    return wide * 1.05, right


def _sign(
    canvas: Pixels, design: Design, left: float, paper: NDArray[np.float64], rng: np.random.Generator
) -> float:
    """Draw a sign of another script from the column ``left`` on; return the column where it ends."""
    height, width = canvas.shape[:2]
    ink = np.full(3, 20.0) if paper.mean() > 140 else np.full(3, 240.0)
    ink = ink if design.band == "arabic" or paper[0] < 90 else np.full(3, 240.0)
    size = (0.135 if design.band == "hanzi" else float(rng.uniform(0.08, 0.2))) * width
    tall = height * float(rng.uniform(0.5, 0.66))
    sign = _scaled(_foreign(design.region, 1, rng), size * 0.9, tall)
    _blend(canvas, sign, int(left + size * 0.1), int((height - tall) / 2), ink.tolist())
    return left + size * 1.06


def _expiry(canvas: Pixels, right: float, rng: np.random.Generator) -> None:
    """Draw the strip of a temporary German plate: day, month and year on each other at the right."""
    height, width = canvas.shape[:2]
    x, wide = round(right - width * 0.085), round(width * 0.085)
    color = (40, 190, 240) if rng.random() < 0.7 else (40, 40, 200)
    cv2.rectangle(canvas, (x, 0), (width, height), color, -1)
    for i in range(3):
        word = _line("LiberationSans-Bold", f"{rng.integers(1, 29):02}")
        y = round(height * (0.1 + 0.28 * i))
        _blend(canvas, _scaled(word, wide * 0.7, height * 0.22), x + round(wide * 0.15), y, (20, 20, 20))


@functools.cache
def _word_fonts() -> tuple[str, ...]:
    return tuple(name for name in _WORDS if name in font_files())


def _words(
    canvas: Pixels,
    design: Design,
    ink: NDArray[np.float64],
    paper: NDArray[np.float64],
    index: int,
    left: float,
    right: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Names and slogans above and below; returns the rows between which text may stand."""
    height, width = canvas.shape[:2]
    top, bottom = height * 0.06, height * 0.94
    for words, above in ((design.top, True), (design.bottom, False)):
        word = str(rng.choice(words)) if words else ""
        if not word or rng.random() < 0.06:
            continue
        color = _pick(design.words, index // 7 + above) if design.words else ink
        if design.band != "mercosur" and np.abs(color - paper).max() < 60:
            color = ink
        share = float(rng.uniform(0.11, 0.2) if design.fonts == "us" else rng.uniform(0.1, 0.17))
        mask = _line(str(rng.choice(_word_fonts())), word)
        tall = height * share * (1.0 if len(word) < 14 else 0.75)
        wide = min(mask.shape[1] / mask.shape[0] * tall * float(rng.uniform(0.9, 1.3)), (right - left) * 0.86)
        y = (
            height * float(rng.uniform(0.02, 0.07))
            if above
            else height * float(rng.uniform(0.93, 0.98)) - tall
        )
        x = (left + right - wide) / 2 + float(rng.normal(0, 0.02)) * width
        _blend(canvas, _scaled(mask, wide, tall), round(x), round(y), color.tolist())
        if above:
            top = y + tall * 1.06
        else:
            bottom = y - tall * 0.06
    return top, bottom


def _stickers(canvas: Pixels, rng: np.random.Generator) -> None:
    """Registration stickers in corners: colored, with the year or month in small print."""
    height, width = canvas.shape[:2]
    wide, tall = round(width * rng.uniform(0.07, 0.12)), round(height * rng.uniform(0.12, 0.2))
    for corner in rng.permutation(4)[: int(rng.integers(1, 3))]:
        x = round(width * 0.03) if corner % 2 == 0 else width - wide - round(width * 0.03)
        y = round(height * 0.03) if corner < 2 else height - tall - round(height * 0.03)
        color = rng.uniform(30, 255, 3)
        cv2.rectangle(canvas, (x, y), (x + wide, y + tall), color.tolist(), -1)
        word = _line(
            "LiberationSans-Bold",
            str(rng.choice(["09", "12", "JAN", "DEC", "97", "AUG", "15", "2007", "MAY"])),
        )
        _blend(
            canvas,
            _scaled(word, wide * 0.8, tall * 0.6),
            x + wide // 10,
            y + tall // 5,
            (255 - color).tolist(),
        )


def _bolts(canvas: Pixels, rng: np.random.Generator) -> None:
    height, width = canvas.shape[:2]
    radius = max(round(height * rng.uniform(0.02, 0.04)), 1)
    tone = float(rng.choice([40, 120, 200]))
    dx = float(rng.uniform(0.1, 0.3))
    for x in (dx, 1 - dx):
        for y in (0.08, 0.92) if height > width * 0.3 else (0.5 if rng.random() < 0.3 else 0.1,):
            if rng.random() < 0.8:
                cv2.circle(
                    canvas, (round(width * x), round(height * y)), radius, (tone, tone, tone), -1, cv2.LINE_AA
                )


@dataclasses.dataclass(frozen=True)
class _Lettering:
    """How a row's characters are made and set, pixels."""

    region: str
    font: str
    size: float
    """Their height."""
    stretch: float
    """How much wider than the font's they are."""
    tracking: float
    """What is left between two of them."""
    gap: float
    """What is left between two groups of them, besides."""


@dataclasses.dataclass(frozen=True)
class _Paint:
    """The colors of a row (BGR, 0..255), and how much of its edges catches the light, 0..1."""

    ink: NDArray[np.float64]
    paper: NDArray[np.float64]
    emboss: float


class _Piece(NamedTuple):
    """A sign of a row: what it looks like, its size, and how far below the row's middle it stands."""

    mask: Mask | None
    """None for a gap; a single pixel stands for an emblem."""
    width: float
    height: float
    down: float = 0.0


_BAR = np.ones((4, 4), np.float32)
"""A dash or a dot."""


def _pieces(token: Token, lettering: _Lettering, rng: np.random.Generator) -> list[_Piece]:
    """Return what a token of a row looks like."""
    size = lettering.size
    match token.kind:
        case "char":
            mask = _line(lettering.font, token.text)
            if token.text in "1I" and mask.shape[1] < mask.shape[0] * 0.2:
                return [_Piece(mask, mask.shape[1] / 64 * size, size)]
            return [_Piece(mask, mask.shape[1] / mask.shape[0] * size * lettering.stretch, size)]
        case "stack" | "small":
            return _small_pieces(token, lettering, rng)
        case "gap":
            return [_Piece(None, lettering.gap, 0)]
        case "dash" | "dot":
            if rng.random() < 0.25:
                return [_Piece(None, lettering.gap, 0)]
            wide = size * (0.13 if token.kind == "dot" else float(rng.uniform(0.14, 0.3)))
            down = 0.0 if token.kind == "dash" or rng.random() < 0.5 else size * 0.4
            return [_Piece(_BAR, wide, size * 0.12, down)]
    wide, tall = size * float(rng.uniform(0.35, 0.6)), size * float(rng.uniform(0.35, 0.8))
    return [_Piece(np.zeros((1, 1), np.float32), wide, tall)]


def _small_pieces(token: Token, lettering: _Lettering, rng: np.random.Generator) -> list[_Piece]:
    """Return small signs: one above the other, or side by side."""
    size = lettering.size
    if token.kind == "small" and token.text.isalpha():
        return [_Piece(_captioned(token.text, rng), size * float(rng.uniform(0.7, 1.1)), size * 0.9)]
    marks = [
        _mark(
            _foreign(lettering.region, token.text.count("*"), rng) if c == "*" else _line(lettering.font, c)
        )
        for c in token.text
        if c not in "-."
    ]
    if token.kind == "stack" or ("*" not in token.text and rng.random() < 0.5):
        share = min(1.0, len(marks) / max(len(marks), 2))
        return [
            _Piece(_stacked(marks), size * 0.4 * lettering.stretch, size * share, -size * (1 - share) / 2)
        ]
    line: Mask = np.concatenate(marks, 1)
    tall = size * float(rng.uniform(0.6, 1.05) if "*" in token.text else rng.uniform(0.35, 0.8))
    before: list[_Piece] = []
    if token.text[0] in "-." and rng.random() < 0.8:
        before = [_Piece(None, lettering.gap * 0.4, 0), _Piece(_BAR, size * 0.13, size * 0.12)]
    down = float(rng.uniform(-0.3, 0.3)) * (size - tall)
    return [*before, _Piece(line, line.shape[1] / 64 * tall, tall, down)]


def _row(
    canvas: Pixels,
    row: list[Token],
    lettering: _Lettering,
    columns: tuple[float, float],
    middle: float,
    paint: _Paint,
    rng: np.random.Generator,
) -> None:
    """Draw one row of text, centered, squeezed where it would not fit."""
    size, tracking = lettering.size, lettering.tracking
    pieces = [piece for token in row for piece in _pieces(token, lettering, rng)]
    total = sum(piece[1] + tracking for piece in pieces) - tracking
    room = (columns[1] - columns[0]) * float(rng.uniform(0.86, 0.97))
    squeeze = min(1.0, room / total)
    if squeeze == 1 and len(row) >= 5 and rng.random() < 0.6:
        tracking += min((room - total) / len(pieces), size * 0.3) * float(rng.uniform(0.2, 1))
        total = sum(piece[1] + tracking for piece in pieces) - tracking
    spare = columns[1] - columns[0] - total * squeeze
    x = columns[0] + spare * float(np.clip(rng.normal(0.5, 0.12), 0.05, 0.95))
    light = np.clip(paint.paper + (60 if paint.paper.mean() < 140 else -90), 0, 255)
    for sign, wide, tall, down in pieces:
        wide *= squeeze
        y = middle + down - tall / 2
        if sign is not None and sign.shape == (1, 1):
            _emblem(canvas, x, y, wide, tall, rng)
        elif sign is not None:
            scaled = _scaled(sign, wide, tall)
            if paint.emboss:
                _blend(canvas, scaled * np.float32(paint.emboss), round(x) + 1, round(y) + 1, light.tolist())
            _blend(canvas, scaled, round(x), round(y), paint.ink.tolist())
        x += wide + tracking * squeeze


def _mark(mask: Mask) -> Mask:
    """Return a small sign in a cell of 64 x 48, a word in a wider one, with a little room around it."""
    wide = mask.shape[1] / mask.shape[0] * 58
    return np.pad(_scaled(mask, wide if wide > 90 else 40, 58), ((3, 3), (4, 4)))


def _captioned(word: str, rng: np.random.Generator) -> Mask:
    """Return a word in small letters below a line of another script."""
    mask = np.zeros((64, 80), np.float32)
    mask[2:30, 4:76] = _scaled(_foreign("ae", 1, rng), 72, 28)
    mask[38:62, 2:78] = _scaled(_line(str(rng.choice(_word_fonts())), word), 76, 24)
    return mask


def _stacked(marks: list[Mask]) -> Mask:
    """Return signs one above the other, each in the middle of the widest one's column."""
    widest = max(mark.shape[1] for mark in marks)
    spare = [widest - mark.shape[1] for mark in marks]
    padded = [
        np.pad(mark, ((0, 0), (left // 2, left - left // 2))) for mark, left in zip(marks, spare, strict=True)
    ]
    stack: Mask = np.concatenate(padded)
    return stack


def _emblem(canvas: Pixels, x: float, y: float, wide: float, tall: float, rng: np.random.Generator) -> None:
    """Draw a seal, a coat of arms or a small map between characters; sometimes nothing but the gap."""
    if rng.random() < 0.2:
        return
    color = rng.uniform(20, 235, 3).tolist()
    center = (round(x + wide / 2), round(y + tall / 2))
    radius = max(round(min(wide, tall) / 2), 2)
    kind = rng.integers(4)
    if kind == 0:
        cv2.circle(canvas, center, radius, color, -1, cv2.LINE_AA)
        cv2.circle(canvas, center, max(radius // 2, 1), rng.uniform(20, 235, 3).tolist(), -1, cv2.LINE_AA)
    elif kind == 1:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 9))))
        points = np.array(center) + radius * np.column_stack([np.cos(angles), np.sin(angles)]) * rng.uniform(
            0.5, 1.1, (len(angles), 1)
        )
        cv2.fillPoly(canvas, [points.astype(np.int32)], color, cv2.LINE_AA)
    elif kind == 2:
        cv2.circle(canvas, (center[0], round(y + radius)), radius, color, -1, cv2.LINE_AA)
        cv2.circle(
            canvas,
            (center[0], round(y + tall - radius)),
            radius,
            rng.uniform(20, 235, 3).tolist(),
            -1,
            cv2.LINE_AA,
        )
    else:
        cv2.rectangle(canvas, (round(x), round(y)), (round(x + wide), round(y + tall)), color, -1)
        _blend(
            canvas, _scaled(_strokes(rng), wide, tall), round(x), round(y), rng.uniform(20, 235, 3).tolist()
        )


# --- the photo of it ---


def photograph(plate: Pixels, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.float32]]:
    """Return a photo of a flat plate on something: pixels, the plate's corners in them (4 x 2)."""
    height, width = plate.shape[:2]
    wide = float(np.clip(np.exp(rng.normal(4.75, 0.45)), 42 if width > 2 * height else 30, 300))
    tall = wide * height / width * float(rng.uniform(0.85, 1.1))
    size = (int(wide * 1.5) + 8, int(tall * 2) + 8)
    middle = np.array(size) / 2
    shape = np.array([(-wide, -tall), (wide, -tall), (wide, tall), (-wide, tall)], np.float64) / 2
    shape[:, 1] += shape[:, 0] * rng.normal(0, 0.07)
    shape[:, 0] += shape[:, 1] * rng.normal(0, 0.12)
    far = rng.normal(0, 0.05)
    shape[[1, 2], 1] *= 1 + far
    shape[[0, 3], 1] *= 1 - far
    corners: NDArray[np.float32] = (shape + middle).astype(np.float32)
    photo = _surround(size, rng)
    if rng.random() < 0.35:
        plate = _frame(plate, rng)
    shrink = wide / plate.shape[1]
    if shrink < 0.7:
        plate = np.asarray(
            cv2.resize(plate, None, fx=shrink * 1.2, fy=shrink * 1.2, interpolation=cv2.INTER_AREA), np.uint8
        )
    height, width = plate.shape[:2]
    source = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    matrix = cv2.getPerspectiveTransform(source, corners)
    cv2.warpPerspective(plate, matrix, size, photo, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    return photo, corners


def _surround(size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Bodywork: a color with a soft gradient, sometimes an edge, sometimes texture."""
    width, height = size
    base = rng.uniform(0, 220) + rng.normal(0, 18, 3)
    ramp = np.linspace(0, 1, height)[:, None, None] * rng.normal(0, 40) + np.linspace(0, 1, width)[
        None, :, None
    ] * rng.normal(0, 25)
    photo = np.clip(base + ramp, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 4))):
        y = int(rng.integers(height))
        cv2.rectangle(
            photo, (0, y), (width, y + int(rng.integers(2, height))), rng.uniform(0, 230, 3).tolist(), -1
        )
    return photo


def _frame(plate: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a dealer's frame over the plate's edge, with a line of advertising."""
    plate = plate.copy()
    height, width = plate.shape[:2]
    color = np.full(3, float(rng.choice([20, 60, 190, 230]))) + rng.normal(0, 8, 3)
    thick = [round(height * rng.uniform(0.02, share)) for share in (0.09, 0.12)]
    side = round(width * rng.uniform(0.005, 0.025))
    tone = np.clip(color, 0, 255).tolist()
    cv2.rectangle(plate, (0, 0), (width, thick[0]), tone, -1)
    cv2.rectangle(plate, (0, height - thick[1]), (width, height), tone, -1)
    cv2.rectangle(plate, (0, 0), (side, height), tone, -1)
    cv2.rectangle(plate, (width - side, 0), (width, height), tone, -1)
    letters = "".join(rng.choice(list(designs.ALL + "   .")) for _ in range(int(rng.integers(6, 18))))
    word = _line(str(rng.choice(_word_fonts())), letters.strip(" .") or "CARS")
    tall = thick[1] * 0.8
    _blend(
        plate,
        _scaled(word, min(word.shape[1] / word.shape[0] * tall, width * 0.8), tall),
        round(width * 0.12),
        round(height - thick[1] * 0.9),
        (255 - np.clip(color, 0, 255)).tolist(),
    )
    return plate


def jitter(
    corners: NDArray[np.float32], rng: np.random.Generator, amount: float = 1.0
) -> NDArray[np.float32]:
    """Corners as a detector may give them: each shifted, the whole larger or smaller, seldom just a box."""
    across = float(np.hypot(*(corners[1] - corners[0])))
    down = float(np.hypot(*(corners[3] - corners[0])))
    if rng.random() < 0.1 * amount:
        (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float32)
    sizes = np.array([across * 0.018, down * 0.04]) * amount
    shifted = corners + (rng.normal(0, 1, (4, 2)) + rng.normal(0, 1, 2)) * sizes
    center = shifted.mean(axis=0)
    factor = 1 + np.array([rng.uniform(-0.03, 0.12), rng.uniform(-0.04, 0.2)]) * amount
    return np.asarray(center + (shifted - center) * factor, np.float32)


# --- choosing ---


@functools.cache
def _shares() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weights = np.array([design.weight for design in designs.ONE_ROW])
    american = np.array([design.region.startswith("us-") for design in designs.ONE_ROW])
    weights[american] *= designs.US_SHARE / weights[american].sum()
    weights[~american] *= (1 - designs.US_SHARE) / weights[~american].sum()
    double = np.array([design.weight for design in designs.TWO_ROWS])
    return weights, double / double.sum()


def _any_design(rng: np.random.Generator, two_rows: bool) -> Design:
    one_row, double = _shares()
    if two_rows:
        return designs.TWO_ROWS[rng.choice(len(double), p=double)]
    return designs.ONE_ROW[rng.choice(len(one_row), p=one_row)]


def draw_any(rng: np.random.Generator, two_rows: bool) -> Pixels:
    """Draw a flat plate of any design, a third of them in a dealer's frame."""
    plate, _, _ = draw_plate(_any_design(rng, two_rows), rng)
    return _frame(plate, rng) if rng.random() < 0.33 else plate


def render(rng: np.random.Generator, two_rows: bool, backgrounds: Backgrounds | None = None) -> Crop:
    """Render a crop, rectified as the reader gets it; half of those that can on one of `backgrounds`."""
    design = _any_design(rng, two_rows)
    blanks = (backgrounds or {}).get(design.region, ()) if rng.random() < 0.5 and not two_rows else ()
    blank = blanks[int(rng.integers(len(blanks)))] if blanks else None
    return render_design(design, rng, blank)


def render_design(design: Design, rng: np.random.Generator, background: Pixels | None = None) -> Crop:
    """Return a rendered crop of one design, rectified as the reader gets it."""
    plate, text, _ = draw_plate(design, rng, background=background)
    photo, corners = photograph(plate, rng)
    return Crop(
        rectify(spoil_plate(photo, rng), jitter(corners, rng), design in designs.TWO_ROWS),
        text,
        design.region,
    )


def sheet(crops: Sequence[tuple[Pixels, str]], columns: int = 6) -> Pixels:
    """Crops in a grid, each above its label."""
    tiles = []
    for pixels, label in crops:
        tile = np.zeros((HEIGHT + 18, TWO_ROWS_WIDTH + 6, 3), np.uint8)
        tile[:HEIGHT, : pixels.shape[1]] = pixels
        cv2.putText(tile, label, (2, HEIGHT + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 255, 255), 1)
        tiles.append(tile)
    return tiled(tiles, columns)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--region", metavar="CODE", help="draw only this region's designs")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    drawn = [design for design in designs.DESIGNS if design.region == args.region]
    if args.region and not drawn:
        parser.error(f"no design of {args.region}")
    crops = [
        render_design(drawn[i % len(drawn)], rng) if drawn else render(rng, i % 4 == 3)
        for i in range(args.count)
    ]
    cv2.imwrite(str(args.out), sheet([(crop.pixels, f"{crop.text} {crop.region}") for crop in crops]))


if __name__ == "__main__":
    main()
