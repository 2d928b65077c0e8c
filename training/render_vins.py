"""Draws VINs where they are found: labels, plates, dashboards, stamped metal, papers, screens.

    python -m training.render_vins --out sheet.png [--count 24] [--seed 0] [--lines]

writes a sheet of what the detector (or, with ``--lines``, the reader) is taught, and with ``--samples DIR``
the photos that the tests read. No VIN drawn here is a real one but by chance: the maker's prefix is real, the
rest is drawn at random.

A ``Sheet`` is the flat object - the label, the plate, the strip - with three layers: its colors, what was
printed by other means than the VIN, and the VIN's own marks. It is lit, and seen by a camera through one
homography.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import zxingcpp
from numpy.typing import NDArray

from carsight.vin.line_reader import cut
from carsight.vin.rules import ALPHABET
from training.camera import compressed, sharpened
from training.data import Pixels, tiled
from training.vin_glyphs import (
    DOTS,
    LASER,
    SLAB,
    WORDS,
    Style,
    draw_struck_style,
    draw_style,
    pick_font,
    set_line,
)
from training.vin_texts import MAKERS, draw_other, draw_vin

Rng = np.random.Generator
Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]

# -------------------------------------------------------------------------------------------- sheets


@dataclass
class Sheet:
    """A flat thing with text.

    ``pixels`` is its face; ``corners`` (4 x 2) those of the VIN's 17 characters on it.
    """

    pixels: Pixels
    opacity: Mask
    corners: Floats | None
    text: str
    faint: bool = False
    """Whether one steps up to it for a photo, as it can hardly be seen from afar."""


class _Layout:
    """Lines set one under another on growing sheets of ink, remembering where the VIN came to stand."""

    def __init__(self, rng: Rng, width: int, height: int) -> None:
        self.rng = rng
        self.print = np.zeros((height, width), np.uint8)
        self.marks = np.zeros((height, width), np.uint8)
        self.corners: Floats | None = None

    def put(self, layer: Mask, line: Mask, x: int, y: int) -> None:
        height, width = layer.shape
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + line.shape[1], width), min(y + line.shape[0], height)
        if x1 > x0 and y1 > y0:
            part = layer[y0:y1, x0:x1]
            np.maximum(part, line[y0 - y : y1 - y, x0 - x : x1 - x], out=part)

    def words(
        self, text: str, x: int, y: int, size: int, font: str | None = None, width: int | None = None
    ) -> int:
        """Print ``text``, at most ``width`` wide, with its left end at x; return where it ends."""
        style = Style(
            font or pick_font(WORDS, self.rng), size, 0.02, False, float(self.rng.uniform(0.8, 1.15)), 0
        )
        line, _ = set_line(text or " ", style)
        if width is not None and line.shape[1] > width:
            line = np.asarray(
                cv2.resize(line, (max(4, width), line.shape[0]), interpolation=cv2.INTER_AREA), np.uint8
            )
        self.put(self.print, line, x, y)
        return int(x + line.shape[1])

    def vin(self, line: Mask, spans: Sequence[tuple[int, int]], x: int, y: int) -> None:
        """Mark a line whose VIN's characters cover ``spans``, and keep the VIN's corners."""
        self.put(self.marks, line, x, y)
        x0, x1 = spans[0][0], spans[-1][1]
        rows = np.flatnonzero(line[:, x0:x1].max(axis=1) > 60)
        top, bottom = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, line.shape[0])
        self.corners = np.array(
            [(x0 + x, top + y), (x1 + x, top + y), (x1 + x, bottom + y), (x0 + x, bottom + y)], np.float32
        )


_GROUPS = ((3, 6, 8), (3, 6, 8), (3, 6, 4, 4), (4, 4, 4, 5), (3, 5, 1, 1, 1, 6), (9, 8), (3, 14), (3, 5, 9))
"""How many characters stand together where a VIN is written in groups."""


def _written(vin: str, rng: Rng) -> str:
    """Return the VIN as people write it: mostly as it is, now and then in groups or in lower case."""
    text = vin
    if len(vin) == 17 and rng.random() < 0.08:
        sizes = _GROUPS[int(rng.integers(len(_GROUPS)))]
        ends = np.cumsum(sizes)
        sign = str(rng.choice([" ", " ", " ", "-", ".", " - "]))
        text = sign.join(vin[end - size : end] for size, end in zip(sizes, ends, strict=True))
    return text.lower() if rng.random() < 0.03 else text


def _dressed(vin: str, rng: Rng, struck: bool = False) -> tuple[str, slice]:
    """Return the VIN as written with what hugs it - stars, a prefix - and where in that it stands."""
    text = vin if struck else _written(vin, rng)
    kind = rng.random()
    before = after = ""
    if struck:
        before = str(rng.choice(["", "*", "-", "◇", "△", "☆"], p=(0.4, 0.2, 0.15, 0.12, 0.05, 0.08)))
        return before + text + before, slice(len(before), len(before) + len(text))
    if 0.6 <= kind < 0.8:
        before = str(rng.choice(["*", "*", "☆", "★", "-", "<", "#", "/", "* ", "- ", "•"]))
        after = before[::-1] if rng.random() < 0.9 else ""
    elif kind >= 0.8:
        before = str(
            rng.choice(
                ["VIN: ", "VIN ", "VIN:", "V.I.N. ", "Vin No. ", "№ ", "ID: ", "VIN : ", "FIN ", "E ",
                 "vin: ", "Order no. ", "Serial no. ", "Chassis "]
            )
        )  # fmt: skip
    return before + text + after, slice(len(before), len(before) + len(text))


def barcode(text: str, kind: str, height: int) -> Mask:
    """Return a barcode's dark modules as ink, ``height`` pixels high. ``kind`` is a zxing-cpp format name."""
    code = zxingcpp.create_barcode(text, getattr(zxingcpp.BarcodeFormat, kind))
    modules = 255 - np.asarray(zxingcpp.write_barcode_to_image(code, scale=1), np.uint8)
    columns = np.flatnonzero(modules.max(axis=0))
    modules = modules[:, columns[0] : columns[-1] + 1]
    if kind in {"Code39", "Code128"}:
        row = modules[modules.shape[0] // 2 : modules.shape[0] // 2 + 1]
        return np.asarray(np.repeat(np.repeat(row, height, axis=0), 2, axis=1), np.uint8)
    rows = np.flatnonzero(modules.max(axis=1))
    modules = modules[rows[0] : rows[-1] + 1]
    zoom = max(2, round(height / modules.shape[0]))
    return np.asarray(np.kron(modules, np.ones((zoom, zoom), np.uint8)), np.uint8)


def _colors(rng: Rng) -> tuple[Floats, Floats]:
    """Draw ground and ink (BGR, 0..255) of a label: dark on light, the reverse, silver on black, odd ones."""
    kind = rng.random()
    tint = rng.normal(0, 5, 3)
    if kind < 0.38:
        ground, ink = rng.uniform(200, 252) + tint, rng.uniform(10, 70) + tint
    elif kind < 0.82:
        ground, ink = rng.uniform(8, 60) + tint, rng.uniform(150, 250) + tint
    elif kind < 0.93:
        ground, ink = rng.uniform(120, 200) + tint, rng.uniform(5, 70) + tint
    else:
        ground = rng.uniform(30, 230, 3)
        ink = np.full(3, 20.0 if ground.mean() > 120 else 235.0)
    return np.clip(ground, 0, 255).astype(np.float32), np.clip(ink, 0, 255).astype(np.float32)


def _paint(layout: _Layout, ground: Floats, ink: Floats, mark: Floats) -> Pixels:
    """Return the face of a printed sheet from its layers, in two blends."""
    face = np.empty((*layout.print.shape, 3), np.float32)
    face[:] = ground
    for layer, color in ((layout.print, ink), (layout.marks, mark)):
        weight = layer.astype(np.float32)[:, :, None] / 255
        face += (color - face) * weight
    return np.clip(face, 0, 255).astype(np.uint8)


def _shaded(slope_x: Floats, slope_y: Floats, lights: Sequence[NDArray[np.float64]], gloss: float) -> Floats:
    """Return how bright a surface of these slopes is (rows x columns): matt and, by ``gloss``, mirroring.

    A light is its direction (x, y, z), its strength and how sharply it is mirrored.
    """
    inverse = 1 / np.sqrt(slope_x**2 + slope_y**2 + 1)
    bright = np.full_like(slope_x, 0.35)
    for x, y, z, strength, sharp in lights:
        bright += np.float32(strength) * np.maximum((z - x * slope_x - y * slope_y) * inverse, 0)
        half = np.array([x, y, z + 1.0])
        half /= np.linalg.norm(half)
        mirrored = np.maximum((half[2] - half[0] * slope_x - half[1] * slope_y) * inverse, 0)
        bright += np.float32(strength * gloss) * mirrored ** np.float32(sharp)
    return np.asarray(bright, np.float32)


def strike(layer: Mask, face: Pixels, rng: Rng) -> Pixels:
    """Strike ``layer`` into the face, or press it out: grooves with burrs under one to three lights.

    The surface is curved, and more or less glossy.

    What the marks change in the light is scaled to a contrast that can still be read: the light from the
    wrong side leaves nothing, and nobody sends that photo.
    """
    height, width = layer.shape
    ink = layer.astype(np.float32) / 255
    wide = float(rng.uniform(0.6, 1.7))
    relief = cv2.GaussianBlur(ink, (0, 0), wide)
    if rng.random() < 0.5:  # what the tool pushed aside stands up around the groove
        relief = relief - np.float32(rng.uniform(0.3, 0.8)) * cv2.GaussianBlur(ink, (0, 0), wide * 2.2)
    relief = relief * np.float32(rng.choice([-1, 1]) * rng.uniform(1.5, 5))
    brushed = cv2.blur(rng.normal(0, 1, (height, width)).astype(np.float32), (31, 1))
    # A surface's own slopes: curved as a panel or bent as a thin plate, so that lights lie somewhere on it.
    bent = float(rng.uniform(0, 0.2) if rng.random() < 0.6 else 0.0)
    tilt_x, tilt_y = rng.normal(0, 0.15, 2)
    own_x = _field(rng, height, width, 2) * bent + tilt_x
    own_y = _field(rng, height, width, 2) * bent + tilt_y + brushed * float(max(rng.uniform(-0.3, 0.35), 0))
    lights = []
    for _ in range(int(rng.integers(1, 4))):
        angle, up = rng.uniform(0, 2 * math.pi), math.radians(float(rng.uniform(15, 75)))
        direction = (math.cos(angle) * math.cos(up), math.sin(angle) * math.cos(up), math.sin(up))
        lights.append(np.array([*direction, rng.uniform(0.3, 1), np.exp(rng.uniform(1.5, 4.5))]))
    gloss = float(rng.uniform(0, 1.5))
    slope_x = cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=0.25)
    slope_y = cv2.Sobel(relief, cv2.CV_32F, 0, 1, scale=0.25)
    plain = _shaded(own_x.astype(np.float32), own_y.astype(np.float32), lights, gloss)
    marked = _shaded(
        (own_x + slope_x).astype(np.float32), (own_y + slope_y).astype(np.float32), lights, gloss
    )
    change = marked - plain
    if rng.random() < 0.5:  # dirt or paint in the groove, or bare metal where paint is gone
        change += cv2.GaussianBlur(ink, (0, 0), 0.6) * np.float32(rng.normal(0, 0.4))
    near = cv2.dilate(layer, np.ones((3, 3), np.uint8)) > 60
    contrast = float(np.sqrt((change[near] ** 2).mean())) if near.any() else 0.0
    wanted = float(np.exp(rng.uniform(math.log(18), math.log(80))))
    lit = face.astype(np.float32) * (plain / max(float(plain.mean()), 1e-3))[:, :, None]
    lit += (change * np.float32(wanted / max(contrast, 1e-3)))[:, :, None]
    if rng.random() < 0.2:  # rust, or the dust of years
        spots = np.clip(_field(rng, height, width, max(4, width // 40)) - float(rng.uniform(0.6, 1.6)), 0, 1)
        color = np.array((35, 70, 120) if rng.random() < 0.6 else (150, 155, 160), np.float32)
        lit += (color - lit) * (spots * float(rng.uniform(0.3, 0.9)))[:, :, None]
    for _ in range(int(rng.integers(0, 6)) if rng.random() < 0.3 else 0):
        a, b = rng.uniform(0, 1, (2, 2)) * (width, height)
        shade = float(rng.uniform(60, 255))
        cv2.line(lit, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), (shade, shade, shade), 1, cv2.LINE_AA)
    return np.clip(lit, 0, 255).astype(np.uint8)


def _metal(rng: Rng, height: int, width: int) -> Pixels:
    """Bare, brushed or painted sheet metal."""
    base = np.full((height, width, 3), rng.uniform(50, 205) + rng.normal(0, 6, 3), np.float32)
    if rng.random() < 0.15:
        base[:] = rng.uniform(20, 200, 3)
    grain = rng.normal(0, 1, (max(2, height // 2), max(2, width // 2))).astype(np.float32)
    if rng.random() < 0.5:
        grain = np.asarray(cv2.blur(grain, (25, 1)) * 4, np.float32)
    base += cv2.resize(grain, (width, height))[:, :, None] * float(rng.uniform(1, 9))
    return np.clip(base, 0, 255).astype(np.uint8)


def _rounded(height: int, width: int, radius: int) -> Mask:
    mask = np.zeros((height, width), np.uint8)
    cv2.rectangle(mask, (radius, 0), (width - radius - 1, height - 1), 255, -1)
    cv2.rectangle(mask, (0, radius), (width - 1, height - radius - 1), 255, -1)
    for x in (radius, width - radius - 1):
        for y in (radius, height - radius - 1):
            cv2.circle(mask, (x, y), radius, 255, -1)
    return mask


@dataclass
class _Column:
    """Where the lines of a label stand: pixels of its sheet."""

    left: int
    width: int
    size: int
    """Height of a line."""
    pitch: int
    """From one line to the next."""
    centered: bool

    def x(self, wide: int) -> int:
        """Left end of a line that is ``wide``."""
        return (self.width - wide) // 2 if self.centered else self.left

    def y(self, row: int) -> int:
        """Top of the line ``row``."""
        return self.size // 4 + self.pitch * row


def _label(rng: Rng, vin: str | None, size: int, rows: int) -> Sheet:
    """Draw a door label or maker's plate: lines, the VIN among the first, marks and codes at the sides."""
    struck = bool(rng.random() < 0.2)
    style = draw_struck_style(rng, size) if struck else draw_style(rng, size)
    dressed, place = _dressed(vin, rng, struck) if vin else (draw_other(rng), slice(0))
    line, spans = set_line(dressed, style)
    gap = float(rng.uniform(0.95, 1.7))
    left = int(size * rng.uniform(0.4, 3.0)) if rng.random() < 0.5 else int(size * rng.uniform(0.2, 0.8))
    right = int(size * rng.uniform(0.3, 5.0)) if rng.random() < 0.45 else int(size * rng.uniform(0.2, 0.8))
    pitch = round(size * gap)
    layout = _Layout(rng, left + line.shape[1] + right, pitch * (rows + 1) + size // 2)
    at = int(rng.choice([1, 1, 2, 2, 2, 3, 4])) if rng.random() < 0.75 else int(rng.integers(0, rows + 1))
    at = min(at, rows - 1)
    font = pick_font(WORDS, rng)
    other = Style(
        style.font,
        max(8, round(size * rng.uniform(0.7, 1.05))),
        style.pitch,
        style.mono,
        style.squeeze * 0.9,
        style.bold,
        style.dot,
        style.rounding,
    )
    column = _Column(left, layout.print.shape[1], size, pitch, bool(rng.random() < 0.4))
    for row in range(rows):
        if row != at:
            text = draw_other(rng) if row else str(rng.choice(MAKERS))
            _other_line(layout, rng, column, text, column.y(row), font, other)
            continue
        x, y = column.x(line.shape[1]), column.y(row)
        if vin:
            layout.vin(line, spans[place], x, y)
        else:
            layout.put(layout.marks, line, x, y)
        if rng.random() < 0.1:
            cv2.rectangle(layout.print, (x - 4, y), (x + line.shape[1] + 3, y + line.shape[0] - 1), 255, 1)
    if left > size * 1.4 and rng.random() < 0.7:
        _approval(layout, rng, column)
    if rng.random() < 0.22:
        _code(layout, rng, column, vin, row=rows - 1 if at < rows - 2 else 0, taken=at)
    _rules(layout, rng)
    face = _printed_or_struck(layout, rng, struck)
    if rng.random() < 0.15:  # black film cut out around the text, on a silver ground
        face = np.asarray(
            cv2.copyMakeBorder(face, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(200, 200, 200)), np.uint8
        )
        if layout.corners is not None:
            layout.corners = layout.corners + 2
    opacity = _rounded(face.shape[0], face.shape[1], int(rng.integers(0, size)))
    return Sheet(face, opacity, layout.corners, vin or "")


def _other_line(
    layout: _Layout, rng: Rng, column: _Column, text: str, y: int, font: str, style: Style
) -> None:
    """Set a line that is no VIN: as the marks are, or in words of another font, perhaps in two columns."""
    left, width, size = column.left, column.width, column.size
    if rng.random() < 0.5:
        if any(c in DOTS or c == " " for c in text) and rng.random() < 0.6 and text.isascii():
            mark, _ = set_line(text, style)
            mark = mark[:, : width - left // 2]
            x = max(2, column.x(mark.shape[1])) if column.centered else left
            layout.put(layout.marks, mark, x, y)
        else:
            layout.words(text, left, y, max(8, round(size * rng.uniform(0.6, 1.2))), font, width - left)
        return
    end = layout.words(text, left, y, max(8, round(size * rng.uniform(0.55, 1.1))), font, width - left)
    if end < width * 0.6 and rng.random() < 0.35:
        layout.words(
            draw_other(rng), end + size, y, max(8, round(size * 0.8)), font, max(8, width - end - size)
        )


def _approval(layout: _Layout, rng: Rng, column: _Column) -> None:
    """Set a mark of approval, tall and narrow, into the left margin."""
    tall, _ = set_line(
        str(rng.choice(["EAC", "EAC", "CTP", "E1", "CE"])),
        Style("DejaVuSansCondensed-Bold", int(column.size * 2.4), -0.05, False, 0.5, 0),
    )
    tall = np.asarray(cv2.resize(tall, (max(4, int(column.left * 0.8)), tall.shape[0])), np.uint8)
    y = int(rng.integers(0, max(1, layout.print.shape[0] - tall.shape[0])))
    layout.put(layout.print, tall, int(column.left * 0.1), y)


def _code(layout: _Layout, rng: Rng, column: _Column, vin: str | None, row: int, taken: int) -> None:
    """Print a code in place of the line ``row``, unless that is the one that is ``taken``."""
    payload = ("I" if rng.random() < 0.5 else "") + (vin or "".join(rng.choice(list(ALPHABET), 9))).upper()
    code = barcode(
        payload,
        str(rng.choice(["Code39", "Code39", "Code128", "DataMatrix", "QRCode"])),
        int(column.size * rng.uniform(0.8, 2.2)),
    )
    if code.shape[1] > column.width * 0.95:
        code = np.asarray(
            cv2.resize(code, (int(column.width * 0.95), code.shape[0]), interpolation=cv2.INTER_AREA),
            np.uint8,
        )
    y = column.y(row)
    if row != taken:
        layout.print[y : y + code.shape[0]] = 0
        layout.put(layout.print, code, int(rng.integers(0, max(1, column.width - code.shape[1]))), y)


def _rules(layout: _Layout, rng: Rng) -> None:
    """Draw a frame now and then, and a rule across that does not strike the VIN out."""
    height, width = layout.print.shape
    if rng.random() < 0.35:
        inset = int(rng.integers(1, 5))
        cv2.rectangle(
            layout.print,
            (inset, inset),
            (width - 1 - inset, height - 1 - inset),
            255,
            int(rng.integers(1, 3)),
        )
    if rng.random() < 0.3:
        y = int(rng.integers(0, height))
        if layout.corners is None or not layout.corners[0, 1] - 2 <= y <= layout.corners[2, 1] + 2:
            cv2.line(layout.print, (0, y), (width, y), 255, int(rng.integers(1, 3)))


def _printed_or_struck(layout: _Layout, rng: Rng, struck: bool) -> Pixels:
    """Paint the label's face; where ``struck``, its marks are struck into it."""
    ground, ink = _colors(rng)
    shade = np.clip(ink + rng.normal(0, 25, 3) * (rng.random() < 0.2), 0, 255).astype(np.float32)
    if not struck:
        return _paint(layout, ground, ink, shade)
    hidden = layout.marks
    layout.marks = np.zeros_like(hidden)
    face = _paint(layout, ground, ink, shade)
    if rng.random() < 0.7:
        metal = _metal(rng, *layout.print.shape)
        face = np.where(layout.print[:, :, None] > 128, face, metal)
    return strike(hidden, face, rng)


def _strip(rng: Rng, vin: str | None, size: int) -> Sheet:
    """Draw a dashboard strip: one line, often rounded, with stars or a barcode beside it."""
    style = draw_style(rng, size)
    dressed, place = _dressed(vin, rng) if vin else (draw_other(rng), slice(0))
    line, spans = set_line(dressed, style)
    side = int(size * rng.uniform(0.2, 2.0))
    above = below = int(size * rng.uniform(0.02, 0.4))
    code: Mask | None = None
    if rng.random() < 0.35:
        code = barcode(
            vin or "".join(rng.choice(list(ALPHABET), 12)),
            str(rng.choice(["Code39", "Code128"])),
            int(size * rng.uniform(0.5, 1.2)),
        )
        length = min(int(line.shape[1] * rng.uniform(0.85, 1.25)), line.shape[1] + 2 * side)
        code = np.asarray(cv2.resize(code, (length, code.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
        if rng.random() < 0.6:
            below += code.shape[0]
        else:
            above += code.shape[0]
    width, height = line.shape[1] + 2 * side, line.shape[0] + above + below
    layout = _Layout(rng, width, height)
    if vin:
        layout.vin(line, spans[place], side, above)
    else:
        layout.put(layout.marks, line, side, above)
    if code is not None:
        low = below > above
        layout.put(
            layout.print,
            code,
            (width - code.shape[1]) // 2,
            above + line.shape[0] - 2 if low else max(0, above - code.shape[0]),
        )
    if side > size and rng.random() < 0.5:  # the maker's sign
        cv2.circle(layout.print, (side // 2, height // 2), int(size * 0.35), 255, max(1, size // 10))
    ground, ink = _colors(rng)
    if rng.random() < 0.5:  # pressed or lasered into dark plastic or metal
        face = _metal(rng, height, width)
        if rng.random() < 0.5:
            face = np.asarray(face * float(rng.uniform(0.15, 0.6)), np.uint8)
        if rng.random() < 0.5:
            face = strike(np.maximum(layout.marks, layout.print), face, rng)
        else:
            weight = np.maximum(layout.marks, layout.print).astype(np.float32)[:, :, None] / 255
            contrast = float(rng.uniform(50, 180)) * (1 if face.mean() < 120 else -1)
            face = np.clip(face + weight * contrast, 0, 255).astype(np.uint8)
    else:
        face = _paint(layout, ground, ink, ink)
    return Sheet(
        face, _rounded(height, width, int(rng.integers(0, max(1, height // 2)))), layout.corners, vin or ""
    )


def _stamp(rng: Rng, vin: str | None, size: int, close: bool) -> Sheet:
    """Draw a number stamped, pin-marked or milled into the body: the sheet is metal and has no edge."""
    text, place = _dressed(vin, rng, struck=True) if vin else (draw_other(rng), slice(0))
    style = draw_struck_style(rng, size)
    line, spans = set_line(text, style)
    if rng.random() < 0.3:  # by hand, one punch a character, or unevenly
        depths = rng.uniform(0.45, 1, len(spans))
        for (begin, end), depth in zip(spans, depths, strict=True):
            line[:, begin:end] = line[:, begin:end] * float(depth)
    # Most are in a panel that fills the photo; the others on a plate, or in a window of the carpet.
    margin = int(size * (rng.uniform(0.5, 2.5) if close or rng.random() < 0.4 else rng.uniform(5, 14)))
    width, height = line.shape[1] + 2 * margin, line.shape[0] + 2 * margin
    layout = _Layout(rng, width, height)
    if vin:
        layout.vin(line, spans[place], margin, margin)
    else:
        layout.put(layout.marks, line, margin, margin)
    face = _metal(rng, height, width)
    face = strike(layout.marks, face, rng)
    return Sheet(face, np.full((height, width), 255, np.uint8), layout.corners, vin or "", faint=True)


def _paper(rng: Rng, vin: str | None, size: int, rows: int) -> Sheet:
    """Draw a registration paper or a screen: many lines left and right of the VIN, tables, light or dark."""
    style = Style(pick_font(LASER + SLAB, rng), size, 0.02, False, 1.0, 0)
    text, place = _dressed(vin, rng) if vin else (draw_other(rng), slice(0))
    line, spans = set_line(text, style)
    width = int(line.shape[1] * rng.uniform(1.1, 2.6))
    pitch = round(size * rng.uniform(1.2, 2.2))
    height = pitch * (rows + 1)
    layout = _Layout(rng, width, height)
    at = int(rng.integers(0, rows))
    x = int(rng.integers(2, max(3, width - line.shape[1])))
    for row in range(rows):
        y = size // 3 + row * pitch
        if row == at:
            if vin:
                layout.vin(line, spans[place], x, y)
            else:
                layout.put(layout.marks, line, x, y)
            continue
        end = layout.words(
            draw_other(rng), 6, y, max(8, round(size * rng.uniform(0.6, 1.1))), width=width - 8
        )
        if end < width * 0.7 and rng.random() < 0.6:
            layout.words(
                draw_other(rng),
                end + size,
                y,
                max(8, round(size * rng.uniform(0.6, 1.1))),
                width=max(8, width - end - size),
            )
    if rng.random() < 0.5:
        for row in range(rows + 1):
            cv2.line(layout.print, (0, row * pitch), (width, row * pitch), 160, 1)
    light = rng.random() < 0.75
    ground = np.clip(
        (rng.uniform(200, 255) if light else rng.uniform(5, 50)) + rng.normal(0, 6, 3), 0, 255
    ).astype(np.float32)
    ink = np.clip(
        (rng.uniform(10, 80) if light else rng.uniform(170, 250)) + rng.normal(0, 10, 3), 0, 255
    ).astype(np.float32)
    face = _paint(layout, ground, ink, ink)
    if rng.random() < 0.2:  # a screen's dots against the camera's
        ripple = np.sin(np.arange(width) * rng.uniform(0.4, 2.5) + rng.uniform(0, 6)) * rng.uniform(3, 14)
        face = np.clip(face.astype(np.float32) + ripple.astype(np.float32)[None, :, None], 0, 255).astype(
            np.uint8
        )
    return Sheet(face, np.full((height, width), 255, np.uint8), layout.corners, vin or "")


KINDS = ("label", "dashboard", "stamped", "paper")
"""What VINs are drawn on."""


def draw_sheet(
    rng: Rng,
    vin: str | None,
    size: int | None = None,
    rows: tuple[int, int] = (3, 10),
    close: bool = False,
    kind: str | None = None,
) -> tuple[Sheet, bool]:
    """Return a sheet that bears ``vin`` (or, where None, other text only) and whether it lies behind glass.

    ``size`` is the height of its characters in pixels, ``rows`` the bounds of a label's number of lines;
    ``close`` says that only the VIN's line is wanted, ``kind`` which of `KINDS` is (by default each as often
    as such photos are sent).
    """
    size = size or int(rng.integers(18, 34))
    kind = kind or str(rng.choice(KINDS, p=(0.45, 0.23, 0.2, 0.12)))
    if kind == "label":
        return _label(rng, vin, size, int(rng.integers(*rows))), bool(rng.random() < 0.06)
    if kind == "dashboard":
        return _strip(rng, vin, size), bool(rng.random() < 0.85)
    if kind == "stamped":
        return _stamp(rng, vin, size, close), False
    return _paper(rng, vin, size, int(rng.integers(*rows))), False


# -------------------------------------------------------------------------------------------- photos


def _field(rng: Rng, height: int, width: int, cells: int) -> Floats:
    """Smooth noise about 0 with deviation 1 (rows x columns)."""
    coarse = rng.normal(0, 1, (cells + 1, cells + 1)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _surroundings(rng: Rng, height: int, width: int) -> Pixels:
    """Return what lies around a label: painted panels with seams, shadows and bolts."""
    color = rng.uniform(10, 240) + rng.normal(0, 12, 3) if rng.random() < 0.85 else rng.uniform(10, 240, 3)
    picture = np.full((height, width, 3), color, np.float32)
    picture += _field(rng, height, width, int(rng.integers(1, 5)))[:, :, None] * float(rng.uniform(3, 40))
    for _ in range(int(rng.integers(0, 5))):
        a, b = rng.uniform(-0.2, 1.2, (2, 2)) * (width, height)
        shade = tuple(float(v) for v in rng.uniform(0, 255) + rng.normal(0, 8, 3))
        thickness = int(abs(rng.normal(0, 0.09)) * max(width, height)) + 1
        cv2.line(picture, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), shade, thickness)
    for _ in range(int(rng.integers(0, 4))):
        center = rng.uniform(0, 1, 2) * (width, height)
        radius = max(1, int(rng.uniform(0.01, 0.06) * width))
        shade = tuple(float(v) for v in rng.uniform(0, 255) + rng.normal(0, 8, 3))
        cv2.circle(
            picture,
            (int(center[0]), int(center[1])),
            radius,
            shade,
            -1 if rng.random() < 0.6 else 2,
            cv2.LINE_AA,
        )
    sigma = float(rng.uniform(0.5, 4))
    return np.clip(cv2.GaussianBlur(picture, (0, 0), sigma), 0, 255).astype(np.uint8)


def _light(rng: Rng, picture: Pixels, glass: bool) -> Pixels:
    """Uneven light, glare, and for ``glass`` a reflected world of bright and dark shapes."""
    height, width = picture.shape[:2]
    lit = picture.astype(np.float32)
    lit *= np.exp(_field(rng, height, width, 2) * float(rng.uniform(0, 0.25)))[:, :, None]
    if glass or rng.random() < 0.12:
        veil = np.full((height, width, 3), rng.uniform(40, 230) + rng.normal(0, 12, 3), np.float32)
        for _ in range(int(rng.integers(1, 6))):  # the hand, the telephone, trees, roofs
            points = (rng.uniform(-0.2, 1.2, (1, 2)) + rng.normal(0, 0.25, (int(rng.integers(3, 8)), 2))) * (
                width,
                height,
            )
            shade = tuple(float(v) for v in rng.uniform(0, 1) ** 2 * 255 + rng.normal(0, 6, 3))
            cv2.fillPoly(veil, [cv2.convexHull(points.astype(np.int32))], shade)
        veil = np.asarray(cv2.GaussianBlur(veil, (0, 0), float(rng.uniform(0.5, 8))), np.float32)
        lit = lit * float(rng.uniform(0.6, 1)) + veil * float(rng.uniform(0.08, 0.55))
    for _ in range(int(rng.random() < 0.25)):
        center = rng.uniform(0, 1, 2) * (width, height)
        blob = np.zeros((height, width), np.float32)
        axes = (int(width * rng.uniform(0.02, 0.3)) + 1, int(height * rng.uniform(0.02, 0.12)) + 1)
        cv2.ellipse(blob, (int(center[0]), int(center[1])), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        blob = np.asarray(cv2.GaussianBlur(blob, (0, 0), float(rng.uniform(2, 15))), np.float32)
        lit += blob[:, :, None] * float(rng.uniform(40, 200))
    gain = float(np.exp(rng.normal(0, 0.25)))
    lit = (lit - 128) * float(rng.uniform(0.55, 1.15)) + 128 if rng.random() < 0.5 else lit
    return np.clip(lit * gain + rng.normal(0, 6, 3), 0, 255).astype(np.uint8)


def _camera(rng: Rng, picture: Pixels, steady: bool = False) -> Pixels:
    """Blur of focus or, unless ``steady``, of motion; sensor noise, JPEG."""
    kind = rng.random() * (0.3 if steady else 1.0)
    if kind < 0.3:
        sigma = float(rng.uniform(0.3, 0.6 if steady else 1.1))
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)
    elif kind < 0.42:
        length = int(rng.integers(2, 5))
        kernel = np.zeros((length * 2 + 1, length * 2 + 1), np.float32)
        angle = rng.uniform(0, math.pi)
        dx, dy = math.cos(angle) * length / 2, math.sin(angle) * length / 2
        cv2.line(
            kernel, (round(length - dx), round(length - dy)), (round(length + dx), round(length + dy)), 1.0, 1
        )
        picture = np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.uint8)
    elif kind < 0.5:
        picture = sharpened(picture, 1.2, 0.8)
    if rng.random() < 0.5:
        noise = rng.standard_normal((*picture.shape[:2], 1), np.float32) * float(rng.uniform(1, 9))
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        picture = compressed(picture, int(rng.integers(35, 95)))
    return picture


def _homography(
    rng: Rng, sheet: Sheet, height: int, width: int, turn: float, share: float, off: float = 0.2
) -> Floats:
    """Draw a view: the text ``share`` of the photo's width long, turned by ``turn`` radians.

    Its middle is off the photo's by ``off`` of the photo's sides at most.
    """
    rows, columns = sheet.pixels.shape[:2]
    source = np.array([(0, 0), (columns, 0), (columns, rows), (0, rows)], np.float64)
    text = sheet.corners if sheet.corners is not None else source
    length = float(np.linalg.norm(text[1] - text[0]))
    across = abs(math.cos(turn)) * width + abs(math.sin(turn)) * height
    zoom = share * across / length
    middle = text.mean(axis=0)
    flat = (source - middle) * zoom
    flat[:, 1] *= float(np.exp(rng.normal(0, 0.14)))  # seen from above or below
    flat = flat * (
        1 + (flat / (np.abs(flat).max() + 1e-6)) @ rng.normal(0, 0.06, (2, 1))
    )  # and from the side
    flat += flat[:, ::-1] * (float(rng.normal(0, 0.06)), 0.0)
    cosine, sine = math.cos(turn), math.sin(turn)
    turned = flat @ np.array([(cosine, sine), (-sine, cosine)])
    where = np.array([(width, height)]) * rng.uniform(0.5 - off, 0.5 + off, 2)
    return np.asarray(
        cv2.getPerspectiveTransform(source.astype(np.float32), (turned + where).astype(np.float32)),
        np.float32,
    )


def draw_turn(rng: Rng) -> float:
    """How a photo's text is turned, in radians: mostly nearly level, but every direction occurs."""
    kind = rng.random()
    degrees = (
        rng.normal(0, 5)
        if kind < 0.6
        else rng.uniform(-45, 45)
        if kind < 0.78
        else rng.choice([90, 180, 270]) + rng.normal(0, 7)
    )
    return math.radians(float(degrees))


def _moved(corners: Floats, matrix: Floats) -> Floats:
    return np.asarray(
        cv2.perspectiveTransform(corners.reshape(1, 4, 2), matrix.astype(np.float64))[0], np.float32
    )


_PLAIN = (-0.85, 0.45, 0.12, 0.2)
_FAINT = (-0.45, 0.2, 0.45, 0.06)
"""How much of a photo's width a VIN takes: mean and deviation of the logarithm, the least share, and how far
its middle is off the photo's. Of 74 real photos of struck metal, lines take 0.46 to 0.93, half of them more
than 0.64."""


def _photograph(rng: Rng, vin: str | None, kind: str | None = None) -> tuple[Pixels, Floats | None]:
    width = int(rng.integers(256, 640))
    height = int(np.clip(width * np.exp(rng.normal(0, 0.25)), 200, 640))
    sheet, glass = draw_sheet(rng, vin, kind=kind)
    turn = draw_turn(rng)
    typical, spread, least, off = _FAINT if sheet.faint else _PLAIN
    share = float(np.clip(np.exp(rng.normal(typical, spread)), least, 0.95))
    for _ in range(8):
        matrix = _homography(rng, sheet, height, width, turn, share, off)
        if sheet.corners is None:
            break
        seen = _moved(sheet.corners, matrix)
        if seen.min() >= 0 and (seen <= (width, height)).all():
            break
        share *= 0.85
    picture = _surroundings(rng, height, width)
    for other in range(int(rng.random() < 0.3)):  # another label, without a VIN
        extra, _ = draw_sheet(rng, None, 14 + other)
        _lay(picture, extra, _homography(rng, extra, height, width, turn, share * 0.6))
    _lay(picture, sheet, matrix)
    picture = _camera(rng, _light(rng, picture, glass))
    return picture, None if sheet.corners is None else _moved(sheet.corners, matrix)


def _lay(picture: Pixels, sheet: Sheet, matrix: Floats) -> None:
    height, width = picture.shape[:2]
    zoom = math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))
    pixels, opacity = sheet.pixels, sheet.opacity
    if zoom < 0.7:  # shrink by areas, or thin strokes would be lost between the samples
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.45 / zoom), np.uint8)
    face = cv2.warpPerspective(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR)
    alpha = cv2.warpPerspective(opacity, matrix, (width, height), flags=cv2.INTER_LINEAR)
    cv2.copyTo(np.asarray(face), np.where(alpha > 127, np.uint8(255), np.uint8(0)), picture)


def render_photo(rng: Rng, kind: str | None = None) -> tuple[Pixels, Floats, str]:
    """Return a photo with one VIN, on one of `KINDS` if given.

    BGR pixels, the corners (4 x 2, pixels) of its 17 characters in reading order (top left of the text first,
    then clockwise as one reads it), and the VIN.
    """
    while True:
        vin = draw_vin(rng)
        picture, corners = _photograph(rng, vin, kind)
        height, width = picture.shape[:2]
        if corners is not None and corners.min() >= 0 and (corners <= (width, height)).all():
            return picture, corners, vin


def render_without(rng: Rng) -> Pixels:
    """Return a photo of a label, plate or paper that bears no VIN."""
    return _photograph(rng, None)[0]


# --------------------------------------------------------------------------------------------- lines


def jittered(corners: Floats, rng: Rng, amount: float = 1.0) -> Floats:
    """Return ``corners`` (4 x 2) as a detector would give them.

    The ends are off by a twentieth of the line's length, the whole is shifted, tilted and stretched by a
    fifth of its height (deviations, times ``amount``), as measured on real photos.
    """
    along, down = corners[1] - corners[0], corners[3] - corners[0]
    left, right = rng.normal(0, 0.045 * amount, 2)
    top, bottom = rng.normal(0, 0.16 * amount, 2) + rng.normal(0, 0.16 * amount)
    moved = corners + rng.normal(0, 0.08 * amount, (4, 1)) * down
    moved[[0, 3]] += along * float(left)
    moved[[1, 2]] += along * float(right)
    moved[:2] += down * float(top)
    moved[2:] += down * float(bottom)
    return np.asarray(moved, np.float32)


def render_line(rng: Rng) -> tuple[Pixels, str]:
    """Return a line as the reader gets it, cut by a detector's corners (48 x 384 BGR), and what it says."""
    picture, corners, text = photograph_line(rng)
    return cut(picture, jittered(corners, rng)), text


def photograph_line(rng: Rng, lower: bool = False, kind: str | None = None) -> tuple[Pixels, Floats, str]:
    """Return a line as a photo shows it, its corners (4 x 2, pixels) and what it says in ``ALPHABET``.

    ``lower`` says that it is printed in lower case, ``kind`` on which of `KINDS` it is, if given.

    Characters are 6 to 45 pixels high. One line in sixteen is not a VIN, so that the reader
    does not learn to see seventeen characters everywhere; its text leaves out what the alphabet does not
    hold.
    """
    vin = draw_vin(rng)
    if rng.random() < 0.06:
        vin = "".join(rng.choice(list(ALPHABET), int(rng.integers(5, 15))))
    if lower:
        kind = str(rng.choice(("label", "paper")))
    sheet, glass = draw_sheet(rng, vin.lower() if lower else vin, rows=(2, 5), close=True, kind=kind)
    assert sheet.corners is not None
    text = sheet.corners
    tall = float(
        np.exp(
            rng.uniform(math.log(6), math.log(45))
            if rng.random() < 0.8
            else rng.uniform(math.log(6), math.log(12))
        )
    )
    length = (
        float(np.linalg.norm(text[1] - text[0])) * tall / max(float(np.linalg.norm(text[3] - text[0])), 1.0)
    )
    turn = math.radians(float(rng.normal(0, 7)))
    width = int(length * 1.1 + 2 * tall)
    height = int(length * abs(math.sin(turn)) + 4 * tall)
    matrix = _homography(rng, sheet, height, width, turn, length / width)
    seen = _moved(text, matrix)
    shift = np.array([width, height]) / 2 - seen.mean(axis=0)
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]], np.float32)
    matrix, seen = np.asarray(move @ matrix, np.float32), np.asarray(seen + shift, np.float32)
    picture = (
        np.full((height, width, 3), rng.uniform(10, 240) + rng.normal(0, 8, 3), np.float32)
        .clip(0, 255)
        .astype(np.uint8)
    )
    _lay(picture, sheet, matrix)
    if rng.random() < 0.25:  # photos squeezed to another shape and enlarged again by those who stored them
        shape = (max(60, round(width * rng.uniform(0.5, 0.9))), max(9, round(height * rng.uniform(0.6, 1.0))))
        picture = np.asarray(
            cv2.resize(cv2.resize(picture, shape, interpolation=cv2.INTER_AREA), (width, height)), np.uint8
        )
    picture = _camera(rng, _light(rng, picture, glass), steady=tall < 14)
    return picture, seen, vin


# ------------------------------------------------------------------------------------------- samples

_DOOR_LABEL = (
    "MFD BY EXAMPLE MOTOR COMPANY      DATE: 08/24",
    "GVWR: 2495 KG (5500 LB)    GAWR FRT: 1250 KG    RR: 1320 KG",
    "THIS VEHICLE CONFORMS TO ALL APPLICABLE FEDERAL MOTOR VEHICLE",
    "SAFETY AND THEFT PREVENTION STANDARDS IN EFFECT ON THE DATE OF",
    "MANUFACTURE SHOWN ABOVE.",
)
_PLATE = (
    "EXAMPLE AUTOMOBIL AG",
    "e1-2007/46-0105-02",
    "",
    "2180 kg",
    "3780 kg",
    "1 -  1120 kg",
    "2 -  1110 kg",
)
_TIRES = (
    "TIRE AND LOADING INFORMATION",
    "SEATING CAPACITY   TOTAL 5   FRONT 2   REAR 3",
    "ORIGINAL TIRE SIZE      COLD TIRE PRESSURE",
    "FRONT  P225/65R17 101H     230 KPA / 33 PSI",
    "REAR   P225/65R17 101H     230 KPA / 33 PSI",
    "e4*2001/116*0105*11     PART 81940-R1234",
    "CALL 1-800-555-0142 FOR ASSISTANCE",
)


def _sample(layout: _Layout, dark: bool, turn: float, seed: int) -> Pixels:
    """Return a composed label photographed at 1600 x 1200, as a telephone would."""
    rng = np.random.default_rng(seed)
    ground, ink = (np.full(3, v, np.float32) for v in ((22, 225) if dark else (238, 28)))
    face = _paint(layout, ground, ink, ink)
    sheet = Sheet(face, _rounded(face.shape[0], face.shape[1], 16), layout.corners, "")
    picture = np.full((1200, 1600, 3), (96, 74, 60), np.float32)
    picture += (_field(rng, 1200, 1600, 3) * 18)[:, :, None]
    for edge, shade in ((150, 20), (1120, 30)):
        cv2.line(picture, (0, edge), (1600, edge - 60), (shade, shade, shade), 26)
    photo = np.clip(cv2.GaussianBlur(picture, (0, 0), 3), 0, 255).astype(np.uint8)
    rows, columns = face.shape[:2]
    source = np.array([(0, 0), (columns, 0), (columns, rows), (0, rows)], np.float32)
    turned = (source - (columns / 2, rows / 2)) @ np.array(
        [(math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))]
    ) * (1150 / columns) + (800, 600)
    turned[1] += (-14, 22)
    _lay(photo, sheet, np.asarray(cv2.getPerspectiveTransform(source, turned.astype(np.float32)), np.float32))
    light = np.exp(_field(rng, 1200, 1600, 2) * 0.12)[:, :, None]
    noise = rng.standard_normal((1200, 1600, 1), np.float32) * 2
    return np.asarray(np.clip(cv2.GaussianBlur(photo, (0, 0), 0.8) * light + noise, 0, 255), np.uint8)


def _words(layout: _Layout, texts: Sequence[str], x: int, y: int, size: int, pitch: int, font: str) -> None:
    for row, text in enumerate(texts):
        line, _ = set_line(text or " ", Style(font, size, 0.02, False, 1.0, 0))
        layout.put(layout.print, line, x, y + row * pitch)


def _samples(folder: Path) -> None:
    """Write the photos of tests/data: a door label with a barcode, a maker's plate, a label without a VIN."""
    rng = np.random.default_rng(0)
    door = _Layout(rng, 1240, 480)
    _words(door, _DOOR_LABEL, 30, 20, 34, 50, "LiberationSansNarrow-Bold")
    line, spans = set_line("VIN: 1M8GDM9AXKP042788", Style("LiberationMono-Bold", 52, 0.02, False, 1.0, 0))
    door.vin(line, spans[5:], 30, 280)
    code = np.repeat(barcode("I1M8GDM9AXKP042788", "Code39", 88), 2, axis=1)
    door.put(door.print, code, (1240 - code.shape[1]) // 2, 362)
    plate = _Layout(rng, 1000, 640)
    _words(plate, _PLATE, 60, 30, 56, 84, "OSP-DIN")
    line, spans = set_line("WVWZZZ1KZ7M047185", Style("OSP-DIN", 62, 0.04, False, 1.05, 0))
    plate.vin(line, spans, 60, 30 + 2 * 84)
    cv2.rectangle(plate.print, (14, 14), (985, 625), 255, 3)
    tires = _Layout(rng, 1100, 460)
    _words(tires, _TIRES, 40, 24, 40, 60, "LiberationSans-Bold")
    for name, layout, dark, turn in (
        ("vin_label", door, False, 0.05),
        ("vin_plate", plate, True, -0.09),
        ("label_without_vin", tires, False, 0.03),
    ):
        quality = [cv2.IMWRITE_JPEG_QUALITY, 62]
        cv2.imwrite(str(folder / f"{name}.jpg"), _sample(layout, dark, turn, 1), quality)


def _main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file of the sheet")
    parser.add_argument("--samples", type=Path, help="folder for the sample photos of tests/data")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lines", action="store_true")
    args = parser.parse_args()
    if args.samples:
        _samples(args.samples)
    if args.out:
        _sheet(args.out, args.count, args.seed, args.lines)


def _sheet(out: Path, count: int, seed: int, lines: bool) -> None:
    rng = np.random.default_rng(seed)
    tiles = []
    for _ in range(count):
        if lines:
            tiles.append(render_line(rng)[0])
            continue
        picture, corners, _text = render_photo(rng)
        cv2.polylines(picture, [corners.astype(np.int32)], True, (0, 255, 0))
        zoom = 256 / max(picture.shape)
        small = cv2.resize(picture, None, fx=zoom, fy=zoom)
        tiles.append(np.pad(small, ((0, 256 - small.shape[0]), (0, 256 - small.shape[1]), (0, 0))))
    cv2.imwrite(str(out), tiled(tiles, 4 if lines else 6))


if __name__ == "__main__":
    _main()
