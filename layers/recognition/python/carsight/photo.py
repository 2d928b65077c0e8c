"""From the bytes of a photo to upright pixels, within bounds of memory and time.

The type is decided by the bytes alone and width x height is read from the header before anything is
decoded, so that a small file that declares a huge picture costs nothing. A large JPEG is decoded at a
half, a quarter or an eighth of its size (libjpeg does that in the frequency domain, for far less than the
whole): that is enough to find things, and ``Photo.full`` brings the rest where something small was found.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""Height x width x 3, blue-green-red, 0..255."""

MAX_FILE_BYTES = 256_000_000
"""No photo of ``MAX_PIXELS`` needs a larger file, not even as an uncompressed BMP with four bytes a pixel."""
MAX_PIXELS = 50_000_000
MIN_SIDE = 8
_WORKING_SIDE = 1600
"""A photo is first decoded at the smallest size whose longer side is still at least this many pixels."""

_REDUCED = {
    1: cv2.IMREAD_COLOR_BGR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class ImageError(ValueError):
    """The bytes are not a photo that can be read: wrong type, cut short, too large or too small.

    The text names the mistake and the remedy, without a full stop.
    """

    too_large = False
    """Whether it has more pixels than are read."""


class TooManyPixels(ImageError):
    """More than ``MAX_PIXELS``."""

    too_large = True


@dataclass(slots=True)
class Photo:
    """An upright photo. ``width`` and ``height`` are those of the full photo, EXIF orientation applied.

    ``pixels`` may be smaller: ``scale`` is pixels per full-size pixel (1, 1/2, 1/4 or 1/8).
    """

    width: int
    height: int
    pixels: Pixels
    scale: float = 1.0
    _data: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, pixels: Pixels) -> Photo:
        """A photo from decoded, upright pixels (height x width x 3, BGR, uint8)."""
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ImageError(f"expected height x width x 3 uint8 pixels, got {pixels.shape} {pixels.dtype}")
        height, width = pixels.shape[:2]
        _check_size(width, height)
        return cls(width, height, pixels)

    def full(self) -> Photo:
        """The same photo with every pixel decoded. Costs a second decode where ``scale`` is below 1."""
        if self.scale == 1.0:
            return self
        return Photo(self.width, self.height, _imdecode(self._data, 1))


PhotoSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Pixels | Photo
"""What a photo can be read from: a file's path, its bytes, decoded pixels, or a photo."""


def open_photo(source: PhotoSource) -> Photo:
    """Make a photo from whatever it is given as.

    Raises:
        ImageError: it is not a photo that can be read.
        OSError: the file cannot be opened.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, np.ndarray):
        return Photo.of(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode(bytes(source))
    path = Path(source)
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ImageError(f"the file is larger than {MAX_FILE_BYTES:,} bytes")
    return decode(path.read_bytes())


def decode(data: bytes) -> Photo:
    """Decode a JPEG, PNG, WebP or BMP file.

    Raises:
        ImageError: not such a file, cut short, more than ``MAX_PIXELS`` declared, or a side below
        ``MIN_SIDE``.
    """
    width, height = _declared_size(data)
    _check_size(width, height)
    factor = 1
    if data[:2] == b"\xff\xd8":
        while factor < 8 and max(width, height) // (factor * 2) >= _WORKING_SIDE:
            factor *= 2
    pixels = _imdecode(data, factor)
    # OpenCV has turned the pixels upright; the header's size has to follow where they lie on the other side.
    rows, columns = pixels.shape[:2]
    as_declared = abs(columns * factor - width) + abs(rows * factor - height)
    if as_declared > abs(columns * factor - height) + abs(rows * factor - width):
        width, height = height, width
    if factor == 1:
        return Photo(width, height, pixels)
    return Photo(width, height, pixels, 1.0 / factor, data)


def _imdecode(data: bytes, factor: int) -> Pixels:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[factor])
    except cv2.error as error:
        raise ImageError("not a readable image") from error
    if pixels is None:
        raise ImageError("not a readable image")
    return np.asarray(pixels, dtype=np.uint8)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        over = (width * height - MAX_PIXELS) / 1e6
        raise TooManyPixels(
            f"The image declares {width} x {height} pixels, {over:,.1f} megapixels more than the limit of "
            f"{MAX_PIXELS // 1_000_000}; send a smaller one"
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{width} x {height} is too small to read")


def _declared_size(data: bytes) -> tuple[int, int]:
    """Width and height as the file's header declares them; raises ``ImageError`` for a file cut short."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg_size(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png_size(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_size(data)
        if data[:2] == b"BM":
            return _bmp_size(data)
    except (struct.error, IndexError) as error:
        raise ImageError("the image is cut short") from error
    raise ImageError("not a JPEG, PNG, WebP or BMP file")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """ITU-T T.81, annex B: walk the marker segments to the frame header, then ask for the end marker."""
    size: tuple[int, int] | None = None
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ImageError("the JPEG's segments are broken")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xDA:  # start of scan: the frame header must have come
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        # SOF0..SOF15 without DHT (C4), JPG (C8) and DAC (CC)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = width, height
        at += 2 + length
    if size is None:
        raise ImageError("the JPEG has no frame header")
    # Entropy-coded data never holds FF D9, so its absence means that the file was cut.
    if data.find(b"\xff\xd9", at) < 0:
        raise ImageError("the image is cut short")
    return size


def _png_size(data: bytes) -> tuple[int, int]:
    """W3C PNG, 11.2.2: IHDR is the first chunk; 11.2.5: IEND ends the file."""
    width, height = struct.unpack_from(">II", data, 16)
    if width * height <= MAX_PIXELS and b"IEND" not in data[-1024:]:
        raise ImageError("the image is cut short")
    return width, height


def _webp_size(data: bytes) -> tuple[int, int]:
    """RFC 9649: a lossy, lossless or extended first chunk, each with its own layout of the size."""
    (riff_size,) = struct.unpack_from("<I", data, 4)
    if len(data) < riff_size + 8:
        raise ImageError("the image is cut short")
    chunk = data[12:16]
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    raise ImageError("not a WebP image")


def _bmp_size(data: bytes) -> tuple[int, int]:
    """BITMAPINFOHEADER: a negative height means rows from the top."""
    (file_size,) = struct.unpack_from("<I", data, 2)
    width, height = struct.unpack_from("<ii", data, 18)
    if len(data) < file_size:
        raise ImageError("the image is cut short")
    return abs(width), abs(height)


def halved(pixels: Pixels, width: int, height: int) -> Pixels:
    """``pixels`` averaged two by two for as long as at least ``width`` x ``height`` of them are left.

    OpenCV does that several times faster than it averages areas of broken sizes, so the nets' inputs, cut
    from large photos, begin here. A last row or column that has no partner falls away.
    """
    while pixels.shape[1] >= 2 * width and pixels.shape[0] >= 2 * height:
        rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
        even = pixels[: rows * 2, : columns * 2]
        pixels = np.asarray(cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    return pixels
