"""From the bytes of a photo to upright pixels, within limits on memory and time.

The format is detected from the bytes alone, and the size that the decoder will use is checked before anything
is decoded, so that a small file that declares a huge picture costs nothing. A large JPEG is decoded at a
half, a quarter or an eighth of its size, which libjpeg does in the frequency domain at a fraction of the
cost. That is enough to find plates and VINs; ``Photo.full`` decodes the full size if something small was
found.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from carsight.formats import JPEG, TIFF, Format, ImageError, check_size, sniff
from carsight.geometry import Pixels
from carsight.jpeg import Jpeg
from carsight.pixels import halve_to_cover, upright

__all__ = ["ImageError", "Photo", "PhotoSource", "decode", "open_photo"]

MAX_FILE_BYTES = 256_000_000
"""Larger files are refused: even an uncompressed BMP with the most pixels, four bytes each, is smaller."""
_WORKING_SIDE = 1600
"""A photo is first decoded at the smallest size whose longer side is still at least this many pixels."""
_MAX_DECODING_BYTES = 200_000_000
"""How much memory decoding may take; a photo that would take more is decoded at a reduced size."""


@dataclass(slots=True)
class Photo:
    """An upright photo.

    ``width`` and ``height`` are those of the full photo after EXIF's orientation has been applied. ``pixels``
    (height x width x 3, BGR, uint8) may be reduced by ``scale``: 1, 1/2, 1/4 or 1/8.
    """

    width: int
    height: int
    pixels: Pixels
    scale: float = 1.0
    _finer: Callable[[], Photo] | None = field(default=None, repr=False, compare=False)
    """Decodes the photo at its largest size; None if ``pixels`` have that size already."""
    _full: Photo | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, pixels: Pixels) -> Photo:
        """Return a photo of decoded, upright pixels (height x width x 3, BGR, uint8).

        Raises:
            ImageError: another shape or type, or a size outside the limits of ``formats``.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ImageError(f"expected height x width x 3 uint8 pixels, got {pixels.shape} {pixels.dtype}")
        height, width = pixels.shape[:2]
        check_size(width, height)
        return cls(width, height, pixels)

    def full(self) -> Photo:
        """Return the photo at full size, or at the largest ``scale`` that memory allows.

        A reduced photo is decoded again at the first call; later calls return the same object.
        """
        if self._finer is None:
            return self
        if self._full is None:
            self._full = self._finer()
        return self._full


PhotoSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Pixels | Photo
"""What a photo can be given as: a file's path, its bytes, decoded pixels, or a ``Photo``."""


def open_photo(source: PhotoSource) -> Photo:
    """Return the photo that ``source`` is or contains.

    Raises:
        ImageError: it is not a photo that can be read. If ``source`` is a path, a note names the file.
        OSError: the file cannot be opened.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, np.ndarray):
        return Photo.of(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode(bytes(source))
    path = Path(source)
    try:
        return decode(_contents(path))
    except ImageError as error:
        error.add_note(f"The file is {path}.")  # the traceback does not say which of many files it was
        raise


def _contents(path: Path) -> bytes:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ImageError(f"the file is larger than {MAX_FILE_BYTES:,} bytes")
    return path.read_bytes()


def decode(data: bytes) -> Photo:
    """Decode a picture file in any of ``formats.FORMATS``, and turn it upright.

    A large picture is decoded at a half, a quarter or an eighth of its size; see ``Photo.full``.

    Raises:
        ImageError: the file is of another format, damaged, cut short, or outside the limits of ``formats``.
    """
    kind = sniff(data)
    file = Jpeg(data) if kind is JPEG else _embedded_jpeg(data) if kind is TIFF else None
    return _decode_other(kind, data) if file is None else _decode_jpeg(file)


def _embedded_jpeg(data: bytes) -> Jpeg | None:
    """Return the JPEG to read from a camera's raw file; None for any other TIFF."""
    from carsight import raw

    return raw.jpeg(data)


def _decode_jpeg(file: Jpeg) -> Photo:
    width, height = _upright_size(file.width, file.height, file.orientation)

    def at(factor: int, finer: Callable[[], Photo] | None = None) -> Photo:
        return Photo(width, height, upright(file.decode(factor), file.orientation), 1 / factor, finer)

    finest, working = 1, _reduction(width, height)
    # While a picture is turned, there are two copies of it in memory.
    pixel_bytes = file.bytes_a_pixel if file.orientation == 1 else max(file.bytes_a_pixel, 6)
    while finest < working and width * height * pixel_bytes // finest**2 + file.held > _MAX_DECODING_BYTES:
        finest *= 2
    return at(working, (lambda: at(finest)) if finest < working else None)


def _decode_other(kind: Format, data: bytes) -> Photo:
    from carsight import containers

    picture = containers.read(kind, data)
    width, height = picture.width, picture.height
    full = Photo(width, height, picture.pixels, 1 / picture.factor)
    working = _reduction(width, height)
    if working <= picture.factor:
        return full
    small = halve_to_cover(full.pixels, width // working, height // working)
    return Photo(width, height, small, 1 / working, lambda: full)


def _reduction(width: int, height: int) -> int:
    """Return the factor by which a photo is reduced when it is first decoded: 1, 2, 4 or 8."""
    factor = 1
    while factor < 8 and max(width, height) // (factor * 2) >= _WORKING_SIDE:
        factor *= 2
    return factor


def _upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    return (height, width) if orientation > 4 else (width, height)
