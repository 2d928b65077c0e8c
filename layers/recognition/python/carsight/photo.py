"""From the bytes of a photo to upright pixels, within bounds of memory and time.

The bytes alone decide the type, and the size that the decoder will use is bounded before anything is decoded,
so that a small file that declares a huge picture costs nothing. A large JPEG is decoded at a half, a quarter
or an eighth of its size, which libjpeg does in the frequency domain at a fraction of the cost: that is enough
to find things, and ``Photo.full`` decodes the rest where something small was found.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from carsight.formats import JPEG, MAX_PIXELS, TIFF, Format, ImageError, TooManyPixels, check_size, sniff
from carsight.geometry import Pixels
from carsight.jpeg import Jpeg
from carsight.pixels import halve_to_cover, upright

__all__ = [
    "MAX_PIXELS",
    "ImageError",
    "Photo",
    "PhotoSource",
    "Pixels",
    "TooManyPixels",
    "decode",
    "open_photo",
]

MAX_FILE_BYTES = 256_000_000
"""No photo of ``MAX_PIXELS`` needs a larger file, not even as an uncompressed BMP with four bytes a pixel."""
_WORKING_SIDE = 1600
"""A photo is first decoded at the smallest size whose longer side is still at least this many pixels."""
_HELD_BYTES = 200_000_000
"""What decoding may hold at a time, where there is a choice."""


@dataclass(slots=True)
class Photo:
    """An upright photo. ``width`` and ``height`` are those of the full photo, EXIF orientation applied.

    ``pixels`` may be smaller: ``scale`` is pixels per full-size pixel (1, 1/2, 1/4 or 1/8).
    """

    width: int
    height: int
    pixels: Pixels
    scale: float = 1.0
    _finer: Callable[[], Photo] | None = field(default=None, repr=False, compare=False)
    """Decodes it as fine as it is ever needed, where ``pixels`` are not that already."""
    _full: Photo | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, pixels: Pixels) -> Photo:
        """Return a photo from decoded, upright pixels (height x width x 3, BGR, uint8)."""
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ImageError(f"expected height x width x 3 uint8 pixels, got {pixels.shape} {pixels.dtype}")
        height, width = pixels.shape[:2]
        check_size(width, height)
        return cls(width, height, pixels)

    def full(self) -> Photo:
        """Return the same photo with every pixel, or as many as memory allows: its ``scale`` tells.

        Decoded at the first call, where ``scale`` is below 1; every other gives the same.
        """
        if self._finer is None:
            return self
        if self._full is None:
            self._full = self._finer()
        return self._full


PhotoSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Pixels | Photo
"""What a photo can be read from: a file's path, its bytes, decoded pixels, or a photo."""


def open_photo(source: PhotoSource) -> Photo:
    """Make a photo from whatever it is given as.

    Raises:
        ImageError: it is not a photo that can be read. A note names the file, where it was given as a path.
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
        error.add_note(f"The file is {path}.")  # of many that are read in threads, the traceback names none
        raise


def _contents(path: Path) -> bytes:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ImageError(f"the file is larger than {MAX_FILE_BYTES:,} bytes")
    return path.read_bytes()


def decode(data: bytes) -> Photo:
    """Decode a picture file of any of ``formats.FORMATS``, and turn it upright.

    A large one is decoded at a half, a quarter or an eighth of its size; ``Photo.full`` brings the rest.

    Raises:
        ImageError: not such a file, damaged, cut short, or over a bound of ``formats``.
    """
    kind = sniff(data)
    file = Jpeg(data) if kind is JPEG else _embedded_jpeg(data) if kind is TIFF else None
    return _decode_other(kind, data) if file is None else _decode_jpeg(file)


def _embedded_jpeg(data: bytes) -> Jpeg | None:
    """Return the JPEG that is read of a camera's raw file; None of any other TIFF."""
    from carsight import raw

    return raw.jpeg(data)


def _decode_jpeg(file: Jpeg) -> Photo:
    width, height = _upright_size(file.width, file.height, file.orientation)

    def at(factor: int, finer: Callable[[], Photo] | None = None) -> Photo:
        return Photo(width, height, upright(file.decode(factor), file.orientation), 1 / factor, finer)

    fine, working = 1, _reduction(width, height)
    # A picture that is turned lies in memory twice for a moment.
    each = file.bytes_a_pixel if file.orientation == 1 else max(file.bytes_a_pixel, 6)
    while fine < working and width * height * each // fine**2 + file.held > _HELD_BYTES:
        fine *= 2
    return at(working, (lambda: at(fine)) if fine < working else None)


def _decode_other(kind: Format, data: bytes) -> Photo:
    from carsight import containers

    picture = containers.read(kind, data)
    width, height = picture.width, picture.height
    fine = Photo(width, height, picture.pixels, 1 / picture.factor)
    working = _reduction(width, height)
    if working <= picture.factor:
        return fine
    small = halve_to_cover(fine.pixels, width // working, height // working)
    return Photo(width, height, small, 1 / working, lambda: fine)


def _reduction(width: int, height: int) -> int:
    """Return by how much a photo is reduced for the first look at it: 1, 2, 4 or 8."""
    factor = 1
    while factor < 8 and max(width, height) // (factor * 2) >= _WORKING_SIDE:
        factor *= 2
    return factor


def _upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    return (height, width) if orientation > 4 else (width, height)
