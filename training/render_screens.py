"""Draws what people write about a vehicle in e-mails, chats and papers, with its VIN in lower case.

A ``Screen`` is a few lines in one font, as a screenshot or a photo of them shows it.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.camera import compressed
from training.data import Pixels
from training.fonts import font_files
from training.vin_texts import draw_vin

Rng = np.random.Generator
Floats = NDArray[np.float32]

_NOT_FOR_TEXT = re.compile(
    "OCR|RG20|Bebas|National|OSP|D050|Symbols|Z003|Fallback|MathTeX|charter|utopia|Emoji|icon", re.IGNORECASE
)
"""Fonts of signs, symbols and plates, by parts of their names."""

_HELD_OUT = re.compile(
    r"roboto|inter-|inconsolata|courier-prime|noto-sans-|noto-serif|pt-sans|nimbus|notosansmono|notomono"
    "|gelasio|caladea|b612mono|crimson|anonymous",
    re.IGNORECASE,
)
"""What the names of fonts begin with that only the validation uses. They stand for fonts that are not
installed: Nimbus for Helvetica, Times and Courier New, Inconsolata for Consolas, Gelasio for Georgia."""

_BEFORE = (
    "vin: ", "VIN: ", "vin ", "VIN ", "fin: ", "my vin is ", "the vin is ", "vin no. ", "chassis no. ",
    "Fahrgestellnr. ", "vin=", "number ", "- ", "* ", "(", "car: ",
)  # fmt: skip
_AFTER = (",", ".", ";", ")", " ok?", " thanks", " (Golf)", " please", " km 42.000", " - 2016")
_WORDS = """
    the vehicle is in workshop since monday please check below and call me back dear mr smith thanks for your
    message order of parts customer Golf Passat 2.0 TDI mileage 84,500 km first registration 03/2016 color
    Hello, Hi there we need number car find attached photo Subject: Re: quotation From: To: info@example.com
    12:45 PM Delivered invoice no. 20391 total 129.00 EUR engine oil brake pads front axle left Kennzeichen
"""
_GROUPS = ((3, 6, 8), (3, 6, 8), (3, 3, 3, 8), (3, 6, 4, 4), (4, 4, 4, 5), (9, 8))
"""How many characters are together in a VIN that is written in groups."""


@dataclass(frozen=True)
class Screen:
    """The ``pixels`` (BGR) of a few lines, and the ``parts`` of one of them, from left to right.

    A part is its text and its corners (4 x 2, pixels): from the top of the digits to their foot.
    """

    pixels: Pixels
    parts: tuple[tuple[str, Floats], ...]


@functools.cache
def text_fonts(*, held_out: bool) -> tuple[str, ...]:
    """Return the names of the installed fonts for text that are taught, or of those that are ``held_out``."""
    names = [name for name in font_files() if not _NOT_FOR_TEXT.search(name)]
    return tuple(name for name in sorted(names) if (_HELD_OUT.match(name) is not None) == held_out)


@functools.lru_cache(maxsize=512)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font_files()[name]), size)


def draw_screen(rng: Rng, *, held_out: bool = False) -> Screen:
    """Draw a screen with a VIN, mostly in lower case, between other words, or with none."""
    font = _font(str(rng.choice(text_fonts(held_out=held_out))), round(math.exp(rng.uniform(2.6, 3.8))))
    parts = _written(rng)
    rows = int(rng.integers(1, 4))
    at = int(rng.integers(0, rows))
    lines = [" ".join(rng.choice(_WORDS.split(), int(rng.integers(2, 5)))) for _ in range(rows)]
    lines[at] = "".join(parts)
    size = font.size
    pitch, margin = round(size * rng.uniform(1.25, 1.9)), round(size * rng.uniform(0.6, 2))
    width = math.ceil(max(map(font.getlength, lines))) + 2 * margin
    ground, ink = _colors(rng)
    image = Image.new("RGB", (width, pitch * rows + 2 * margin), ground)
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        draw.text((margin, margin + row * pitch), line, font=font, fill=ink)
    _, top, _, foot = font.getbbox("0")
    y0, y1 = margin + at * pitch + top, margin + at * pitch + foot
    ends = [margin + font.getlength("".join(parts[:count])) for count in range(len(parts) + 1)]
    corners = np.array([((a, y0), (b, y0), (b, y1), (a, y1)) for a, b in pairwise(ends)], np.float32)
    pixels, corners = _sent(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]), corners, rng)
    return Screen(pixels, tuple(zip(parts, corners, strict=True)))


def _written(rng: Rng) -> list[str]:
    """Draw the parts of a line: what is before the VIN, the VIN, and what is after it."""
    if rng.random() < 0.08:
        return ["", " ".join(rng.choice(_WORDS.split(), int(rng.integers(1, 4)))), ""]
    vin = draw_vin(rng)
    text = vin if rng.random() < 0.1 else vin.lower()
    if rng.random() < 0.08:
        sizes = _GROUPS[int(rng.integers(len(_GROUPS)))]
        ends = np.cumsum(sizes)
        text = str(rng.choice([" ", " ", "-", "."])).join(
            text[end - size : end] for size, end in zip(sizes, ends, strict=True)
        )
    before = str(rng.choice(_BEFORE)) if rng.random() < 0.6 else ""
    after = str(rng.choice(_AFTER)) if rng.random() < 0.4 else ""
    return [before, text, after]


def _colors(rng: Rng) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Draw ground and ink (RGB): a page, a dark screen, or a chat's bubble."""
    kind = rng.random()
    if kind < 0.7:
        ground = rng.uniform(225, 256, 3) if rng.random() < 0.4 else np.full(3, 255.0)
        ink = rng.uniform(0, 100) + rng.normal(0, 15, 3)
        if rng.random() < 0.12:  # a link
            ink = rng.uniform((0, 60, 150), (60, 110, 220))
    elif kind < 0.9:
        ground = rng.uniform(5, 65) + rng.normal(0, 8, 3)
        ink = np.full(3, rng.uniform(165, 255))
    else:
        ground, ink = rng.uniform((0, 80, 60), (60, 150, 255)), np.full(3, 255.0)
    return tuple(np.clip(ground, 0, 255).astype(int).tolist()), tuple(
        np.clip(ink, 0, 255).astype(int).tolist()
    )


def _sent(pixels: Pixels, corners: Floats, rng: Rng) -> tuple[Pixels, Floats]:
    """Return ``pixels`` and ``corners`` (N x 4 x 2) as a screenshot, scaled or not, or as a photo."""
    if rng.random() < 0.3:
        pixels, corners = _photographed(pixels, corners, rng)
    elif rng.random() < 0.4:
        zoom = float(rng.uniform(0.7, 1.6))
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
        pixels = np.asarray(cv2.resize(pixels, None, fx=zoom, fy=zoom, interpolation=how), np.uint8)
        corners = corners * np.float32(zoom)
    return (compressed(pixels, int(rng.integers(40, 96))) if rng.random() < 0.7 else pixels), corners


def _photographed(pixels: Pixels, corners: Floats, rng: Rng) -> tuple[Pixels, Floats]:
    height, width = pixels.shape[:2]
    frame = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    turn = math.radians(float(rng.normal(0, 2.5)))
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    seen = (frame @ rotation) * rng.uniform(0.7, 1.3) + rng.normal(0, 0.012, (4, 2)) * (width, height)
    seen = (seen - seen.min(axis=0) + 4).astype(np.float32)
    columns, rows = (int(v) for v in seen.max(axis=0) + 4)
    matrix = cv2.getPerspectiveTransform(frame, seen)
    photo = cv2.warpPerspective(
        pixels, matrix, (columns, rows), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    photo = cv2.GaussianBlur(photo, (0, 0), float(rng.uniform(0.3, 1.1)))
    light = np.linspace(-1, 1, columns) * rng.uniform(-25, 25)
    light = light + np.linspace(-1, 1, rows)[:, None] * rng.uniform(-25, 25)
    noise = rng.standard_normal(photo.shape, np.float32) * np.float32(rng.uniform(0, 8))
    lit = photo * np.float32(rng.uniform(0.6, 1)) + light[:, :, None].astype(np.float32) + noise
    moved = cv2.perspectiveTransform(corners.reshape(1, -1, 2), matrix).reshape(corners.shape)
    return np.clip(lit + rng.normal(0, 6, 3), 0, 255).astype(np.uint8), np.asarray(moved, np.float32)
