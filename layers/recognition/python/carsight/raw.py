"""Cameras' raw files: TIFFs of sensor data that also contain JPEGs of the picture.

Read as an ordinary TIFF, the first picture of a DNG, NEF or ARW is a preview of 160 to 256 pixels, in which
no plate can be read. The largest JPEG in the file is usually the whole picture, as the camera itself would
have saved it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from carsight.formats import ImageError
from carsight.jpeg import Jpeg
from carsight.tiff import COMPRESSION, PHOTOMETRIC, STRIP_BYTES, STRIPS, WIDTH, Tiff, orientation

_SUBDIRECTORIES, _JPEG_BEGIN, _JPEG_BYTES = 330, 513, 514
_TAGS = {WIDTH, COMPRESSION, PHOTOMETRIC, STRIPS, STRIP_BYTES, _SUBDIRECTORIES, _JPEG_BEGIN, _JPEG_BYTES}

_SENSOR = {32803, 34892}
"""Photometric interpretations (TIFF/EP; DNG 1.7, chapter 4): color filter array, and linear raw."""
_JPEGS = {6, 7}
"""Compressions: JPEG as in TIFF 6.0, and as in its supplement of 2002."""

_MAX_DIRECTORIES = 24
_MAX_ENTRIES = 512
_MAX_VALUES = 16

_LEAST_SIDE = 640
"""The fewest pixels on the longer side of a JPEG that is read in place of its raw file."""

_REMEDY = "send the JPEG that the camera makes of it"


def jpeg(data: bytes) -> Jpeg | None:
    """Return the largest JPEG in ``data`` if that is a camera's raw file; None for any other TIFF.

    Its orientation is the file's, as the JPEGs in it are stored in the sensor's.

    Raises:
        ImageError: a raw file without a JPEG that is large enough.
    """
    directories = list(_directories(data))
    # Only the header identifies Canon's older raw files.
    if data[8:10] != b"CR" and not any(_of_sensor(directory) for directory in directories):
        return None
    pieces = list(_pieces(directories, data))
    if not pieces:
        raise ImageError(f"This is a camera's raw file without a JPEG in it; {_REMEDY}")
    begin, length = max(pieces, key=lambda piece: piece[1])
    file = Jpeg(data[begin : begin + length])
    if max(file.width, file.height) < _LEAST_SIDE:
        raise ImageError(
            "This is a camera's raw file, and the largest JPEG in it has "
            f"{file.width} x {file.height} pixels; {_REMEDY}"
        )
    file.orientation = orientation(data)
    return file


def _of_sensor(directory: dict[int, tuple[int, ...]]) -> bool:
    return not _SENSOR.isdisjoint(directory.get(PHOTOMETRIC, ()))


def _pieces(directories: list[dict[int, tuple[int, ...]]], data: bytes) -> Iterator[tuple[int, int]]:
    """Yield offset and length of the JPEGs of ``directories`` in ``data``."""
    for values in directories:
        begin, length = values.get(_JPEG_BEGIN, ()), values.get(_JPEG_BYTES, ())
        # Sensor data is compressed as lossless JPEG; Canon's directory of it has no width.
        coded = not _JPEGS.isdisjoint(values.get(COMPRESSION, ()))
        if not begin and coded and WIDTH in values and not _of_sensor(values):
            begin, length = values.get(STRIPS, ()), values.get(STRIP_BYTES, ())
        if len(begin) == len(length) == 1 and data[begin[0] : begin[0] + 3] == b"\xff\xd8\xff":
            yield begin[0], length[0]


def _directories(data: bytes) -> Iterator[dict[int, tuple[int, ...]]]:
    """Yield the values of ``_TAGS`` for each directory and subdirectory, as far as they can be parsed."""
    file = Tiff(data)
    waiting, seen = [file.first], {0}
    while waiting and len(seen) <= _MAX_DIRECTORIES:
        at = waiting.pop(0)
        if at in seen:
            continue
        seen.add(at)
        values = {}
        # ``containers`` reports errors in the first directory; the others are optional.
        with suppress(struct.error):
            for tag, count, entry in islice(file.entries(at), _MAX_ENTRIES):
                if tag in _TAGS and count <= _MAX_VALUES:
                    values[tag] = file.integers(entry)
            waiting += values.get(_SUBDIRECTORIES, ())
            waiting.append(file.following(at))
        yield values
