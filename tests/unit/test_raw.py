"""Cameras' raw files: the JPEG in them is the photo, whatever else a TIFF's reader would find first."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
import pytest

from carsight import ImageError
from carsight.geometry import Pixels
from carsight.photo import decode

Values = Mapping[int, tuple[str, Sequence[int]]]
"""Tag -> the letter of its values' type for ``struct``, and the values."""

PREVIEW = np.full((120, 160, 3), 90, np.uint8)
SENSOR = np.full((600, 800), 90, np.uint8)


def photo(width: int, height: int) -> bytes:
    """A JPEG, red in its upper left quarter."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[: height // 2, : width // 2] = (0, 0, 250)
    return bytes(cv2.imencode(".jpg", pixels)[1])


class Raw:
    """A TIFF that is written from its end to its beginning."""

    def __init__(self, order: str, mark: bytes = b"") -> None:
        self.order = order
        self.body = mark.ljust(8, b"\0")

    def put(self, content: bytes) -> int:
        """Add ``content``, and return where it begins."""
        at = 8 + len(self.body)
        self.body += content + b"\0" * (len(content) % 2)
        return at

    def directory(self, values: Values, following: int = 0) -> int:
        """Add a directory, and return where it begins."""
        entries = b""
        for tag, (letter, numbers) in sorted(values.items()):
            packed = struct.pack(f"{self.order}{len(numbers)}{letter}", *numbers)
            place = (
                struct.pack(f"{self.order}I", self.put(packed)) if len(packed) > 4 else packed.ljust(4, b"\0")
            )
            entries += (
                struct.pack(f"{self.order}HHI", tag, {"B": 1, "H": 3, "I": 4}[letter], len(numbers)) + place
            )
        counted = struct.pack(f"{self.order}H", len(values)) + entries
        return self.put(counted + struct.pack(f"{self.order}I", following))

    def pixels(
        self, pixels: Pixels, photometric: int, **other: tuple[str, Sequence[int]]
    ) -> dict[int, tuple[str, Sequence[int]]]:
        """Add ``pixels`` as they are, and return what a directory says of them."""
        height, width = pixels.shape[:2]
        depth = pixels.shape[2] if pixels.ndim == 3 else 1
        return {
            254: ("I", [int(photometric == 2)]),
            256: ("I", [width]),
            257: ("I", [height]),
            258: ("H", [8] * depth),
            259: ("H", [1]),
            262: ("H", [photometric]),
            273: ("I", [self.put(pixels.tobytes())]),
            277: ("H", [depth]),
            278: ("I", [height]),
            279: ("I", [pixels.size]),
        }

    def file(self, first: int) -> bytes:
        start = struct.pack(f"{self.order}HI", 42, first)
        return (b"II" if self.order == "<" else b"MM") + start + self.body


def dng(jpeg: bytes, turned: int = 1, order: str = "<") -> bytes:
    """DNG: a preview, and below it what the sensor saw and a JPEG in a strip."""
    raw = Raw(order)
    sensor = raw.directory(raw.pixels(SENSOR, 32803))
    strip = {
        256: ("I", [1]),
        259: ("H", [7]),
        262: ("H", [6]),
        273: ("I", [raw.put(jpeg)]),
        279: ("I", [len(jpeg)]),
    }
    below = [sensor, raw.directory(strip)] if jpeg else [sensor]
    return raw.file(raw.directory(raw.pixels(PREVIEW, 2) | {274: ("H", [turned]), 330: ("I", below)}))


def nef(jpeg: bytes, turned: int, order: str) -> bytes:
    """NEF: the same, the JPEG by the tags that TIFF 6.0 had for one."""
    raw = Raw(order)
    sensor = raw.directory(raw.pixels(SENSOR, 32803))
    old = raw.directory({259: ("H", [6]), 513: ("I", [raw.put(jpeg)]), 514: ("I", [len(jpeg)])})
    return raw.file(raw.directory(raw.pixels(PREVIEW, 2) | {274: ("H", [turned]), 330: ("I", [old, sensor])}))


def cr2(jpeg: bytes, turned: int, order: str) -> bytes:
    """CR2: one directory behind the other; the last has what the sensor saw, in a JPEG without loss."""
    raw = Raw(order, b"CR\2\0")
    lossless = b"\xff\xd8\xff\xc3" + bytes(len(jpeg) * 2)
    sensor = raw.directory({259: ("H", [6]), 273: ("I", [raw.put(lossless)]), 279: ("I", [len(lossless)])})
    strip = {256: ("I", [1]), 259: ("H", [6]), 273: ("I", [raw.put(jpeg)]), 279: ("I", [len(jpeg)])}
    return raw.file(raw.directory(strip | {274: ("H", [turned])}, following=sensor))


@pytest.mark.parametrize("make", [dng, nef, cr2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_jpeg_in_a_raw_file_has_the_files_orientation(
    make: Callable[[bytes, int, str], bytes], order: str
) -> None:
    upright = decode(make(photo(800, 600), 1, order))
    assert (upright.width, upright.height) == (800, 600)
    assert upright.pixels[10, 10].tolist()[2] > 200
    turned = decode(make(photo(800, 600), 6, order))
    assert (turned.width, turned.height) == (600, 800)
    assert turned.pixels[10, -10].tolist()[2] > 200


@pytest.mark.parametrize(
    ("jpeg", "message"), [(b"", "without a JPEG"), (photo(320, 240), "320 x 240 pixels")]
)
def test_a_raw_file_without_a_large_jpeg_is_refused_as_such(jpeg: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=rf"raw file.*{message}.*send the JPEG"):
        decode(dng(jpeg))


def test_a_tiff_with_reduced_versions_is_read_as_before() -> None:
    raw = Raw("<")
    small = raw.directory(raw.pixels(PREVIEW, 2))
    first = raw.directory(
        raw.pixels(np.full((240, 320, 3), 90, np.uint8), 2) | {330: ("I", [small])}, following=4_000_000
    )
    read = decode(raw.file(first))
    assert (read.width, read.height) == (320, 240)


def test_circular_directories_end() -> None:
    raw = Raw("<")
    every = [raw.directory({tag: ("I", [1, 2, 3]) for tag in range(1000, 1500)}) for _ in range(40)]
    first = raw.directory(raw.pixels(PREVIEW, 2) | {330: ("I", every[:16])}, following=every[-1])
    data = raw.file(first).replace(struct.pack("<I", every[0]), struct.pack("<I", first))
    start = time.process_time()
    decode(data)
    assert time.process_time() - start < 0.5
