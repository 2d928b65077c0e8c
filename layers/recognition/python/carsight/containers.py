"""Every picture file but JPEG: decoded by Pillow, HEIC by libheif, and brought to one form.

That form is blue-green-red of eight bits, laid over white where it was transparent, of the first frame.
Imported only when such a file comes. Both libraries are asked for no more than their own bounds and ours let
them do, whatever a file declares; a file that they cannot decode to its last row is an ``ImageError``.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carsight import bounds, formats
from carsight.formats import Format, ImageError, TooManyPixels, check_size

Pixels = NDArray[np.uint8]

# Each text that a broken file makes Pillow warn with would be kept for good, and printed.
warnings.filterwarnings("ignore", module=r"PIL\.")

FINE_PIXELS = 25_000_000
"""A larger picture is halved while it is converted, so that it never lies in memory twice."""

_STRIP_PIXELS = 1_000_000
"""How much of a picture is converted at a time."""

_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""An interlaced PNG's passes: first column and row, and the step to the next."""

_PILLOW = {
    formats.PNG: ("PngImagePlugin", "PngImageFile"),
    formats.WEBP: ("WebPImagePlugin", "WebPImageFile"),
    formats.AVIF: ("AvifImagePlugin", "AvifImageFile"),
    formats.TIFF: ("TiffImagePlugin", "TiffImageFile"),
    formats.GIF: ("GifImagePlugin", "GifImageFile"),
    formats.BMP: ("BmpImagePlugin", "BmpImageFile"),
}
"""Pillow's module and class for each format; ``Image.open`` would import those of all formats."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture, still to be turned by ``orientation`` (1..8).

    ``pixels`` are one ``factor``-th (1, 2 or 4) of ``width`` x ``height``.
    """

    pixels: Pixels
    width: int
    height: int
    factor: int
    orientation: int


def read(kind: Format, data: bytes) -> Decoded:
    """Decode ``data``, a picture of ``kind``, halved until it has at most ``FINE_PIXELS``.

    Raises:
        ImageError: damaged, cut short, or over a bound.
    """
    data = bounds.essential(kind, data)
    if kind is formats.HEIC:
        return _heic(data)
    with _refusing(kind):
        module, name = _PILLOW[kind]
        picture: Image.Image = getattr(import_module(f"PIL.{module}"), name)(io.BytesIO(data))
    with picture:
        width, height = picture.size
        check_size(width, height, kind.max_pixels, f"The {kind.name} picture")
        with _refusing(kind):
            picture.load()
            turned = formats.orientation(picture.info.get("exif", b""))
            if kind is formats.TIFF:  # Pillow has turned it
                (width, height), turned = picture.size, 1
        if kind is formats.PNG and not _whole_png(picture, data):
            raise ImageError(bounds.damaged(kind))
        with _refusing(kind):
            return _gathered(_strips(picture), width, height, turned)


@contextmanager
def _refusing(kind: Format) -> Iterator[None]:
    """Turn whatever a library raises for a broken picture into ``ImageError``."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise TooManyPixels(
            f"The {kind.name} picture declares more than {kind.max_pixels / 1e6:g} megapixels"
        ) from error
    except Exception as error:
        raise ImageError(bounds.damaged(kind)) from error


def _whole_png(picture: Image.Image, data: bytes) -> bool:
    """Whether a PNG's data held all rows: Pillow takes a stream that ends well before them for whole.

    Missing rows are black. Only where the last one is, the stream is unpacked again, to count its bytes.
    """
    header = struct.unpack_from(">IIBBBBB", data, 16)
    width, height, depth, color, _, _, interlaced = header
    row = height - 1 if not interlaced else max(height - 1 - height % 2, 0)
    if picture.crop((0, row, width, row + 1)).convert("RGB").getbbox():
        return True
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    missing = 0
    for x, y, step_x, step_y in _ADAM7 if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        missing += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    stream = zlib.decompressobj()
    try:
        for name, begin, end in bounds.png_chunks(data):
            part = data[begin:end] if name == b"IDAT" else b""
            while part and missing > 0:
                missing -= len(stream.decompress(part, 1 << 20))
                part = stream.unconsumed_tail
    except zlib.error:
        return False
    return missing <= 0


# -- pixels --------------------------------------------------------------------------------------------------


def _heic(data: bytes) -> Decoded:
    """Decode HEIC. The container says which way up it is; EXIF's orientation means nothing there.

    ``pi_heif.HeifFile`` would read all metadata first: pi-heif 1.4.0 ends the process over an item whose type
    is not ASCII. So libheif's primary picture is asked for its pixels and nothing else.
    """
    import _pi_heif
    from pi_heif.heif import BaseImage

    with _refusing(formats.HEIC):
        # One thread, eight bits, BGR, no padding, the only decoder, within libheif's own bounds.
        loaded = _pi_heif.load_file(data, 1, True, True, True, True, "", False)
        pictures = [picture for picture in loaded if picture is not None]
        file = BaseImage(next((picture for picture in pictures if picture.primary), pictures[0]))
        width, height = file.size
    check_size(width, height, formats.HEIC.max_pixels, "The HEIC picture")
    with _refusing(formats.HEIC):
        pixels = np.atleast_3d(np.asarray(file))
        if pixels.shape[2] <= 2:  # gray, with or without transparency
            pixels = pixels[:, :, [0, 0, 0, 1][: pixels.shape[2] + 2]]
        height, width = pixels.shape[:2]
    check_size(width, height, formats.HEIC.max_pixels, "The HEIC picture")
    rows = _strip_rows(width)
    strips = (pixels[y : y + rows] for y in range(0, height, rows))
    if pixels.shape[2] == 4:
        strips = (_over_white(strip, file.mode.endswith("a")) for strip in strips)
    return _gathered(strips, width, height)


def _gathered(strips: Iterator[Pixels], width: int, height: int, turned: int = 1) -> Decoded:
    """Return the picture whose ``strips`` of ``_strip_rows`` rows each these are."""
    factor = 1
    while width * height > FINE_PIXELS * factor**2:
        factor *= 2
    pixels = np.empty((height // factor, width // factor, 3), np.uint8)
    columns, at = width // factor, 0
    for strip in strips:
        rows = strip.shape[0] // factor
        even = strip[: rows * factor, : columns * factor]
        if factor > 1 and rows:
            even = np.asarray(cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
        pixels[at : at + rows] = even
        at += rows
    return Decoded(pixels, width, height, factor, turned)


def _strips(picture: Image.Image) -> Iterator[Pixels]:
    """Yield the picture from top to bottom, strip by strip, BGR."""
    darkest, brightest = _range(picture)
    # Some programs leave the fourth channel of an opaque picture empty.
    seen = (
        not picture.has_transparency_data
        or picture.mode not in ("RGBA", "LA", "PA")
        or bool(picture.getchannel("A").getextrema()[1])
    )
    for strip in _cut(picture):
        if picture.mode.startswith(("I", "F")):
            gray = (np.asarray(strip, np.float32) - darkest) * (255 / max(brightest - darkest, 1e-9))
            yield np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
        elif seen and strip.has_transparency_data:
            straight = strip if strip.mode in ("RGBA", "LA") else strip.convert("RGBA")
            yield _over_white(np.asarray(straight.convert("RGBA"))[:, :, [2, 1, 0, 3]], premultiplied=False)
        else:
            yield np.asarray(strip.convert("RGB"))[:, :, ::-1]


def _range(picture: Image.Image) -> tuple[float, float]:
    """Return what is black and what is white in a picture of more than eight bits of gray.

    The bits that are used count: 10 or 12 of them often lie in 16.
    """
    if not picture.mode.startswith(("I", "F")):
        return 0, 255
    ends = np.array([(strip.min(), strip.max()) for strip in map(np.asarray, _cut(picture))], np.float64)
    if not np.isfinite(ends).all():
        raise ImageError(bounds.damaged(formats.TIFF))
    least, most = float(ends.min()), float(ends.max())
    if picture.mode == "F":
        return min(least, 0.0), 1.0 if most <= 1 else 255.0 if most <= 255 else most
    return min(least, 0.0), float(2 ** max(int(most).bit_length(), 8) - 1)


def _cut(picture: Image.Image) -> Iterator[Image.Image]:
    """Yield ``picture`` from top to bottom, strip by strip."""
    width, height = picture.size
    rows = _strip_rows(width)
    for y in range(0, height, rows):
        yield picture.crop((0, y, width, min(y + rows, height)))


def _strip_rows(width: int) -> int:
    """Return how many rows a strip has: a multiple of every factor by which a picture is reduced."""
    return max(_STRIP_PIXELS // width // 8 * 8, 8)


def _over_white(pixels: Pixels, premultiplied: bool) -> Pixels:
    """BGR of BGRA ``pixels``, as they look on white paper."""
    alpha = pixels[:, :, 3:].astype(np.uint16)
    color = pixels[:, :, :3].astype(np.uint16)
    if not premultiplied:
        color = (color * alpha + 127) // 255
    return np.asarray(np.minimum(color + 255 - alpha, 255), np.uint8)
