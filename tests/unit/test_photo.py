"""Decoding: what is refused before a pixel is decoded, and which way up a photo comes out."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from carsight.photo import MAX_PIXELS, ImageError, Photo, Pixels, decode, halved


def picture(width: int, height: int) -> Pixels:
    """Red in the top-left quarter, so that every turn of the photo can be told from the others."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[: height // 2, : width // 2] = (0, 0, 250)
    return pixels


def encoded(kind: str, pixels: Pixels) -> bytes:
    return cv2.imencode(kind, pixels)[1].tobytes()


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """``jpeg`` with an EXIF segment of one entry: tag 0x0112, the orientation (EXIF 2.32, 4.6.4)."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def declaring(width: int, height: int) -> bytes:
    """A PNG whose header declares ``width`` x ``height`` pixels and that holds next to none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp", ".bmp"])
def test_every_supported_type_decodes_to_its_declared_size(kind: str) -> None:
    photo = decode(encoded(kind, picture(120, 80)))
    assert (photo.width, photo.height, photo.scale) == (120, 80, 1.0)
    assert photo.pixels.shape == (80, 120, 3)


@pytest.mark.parametrize("width, height, scale", [(1500, 900, 1.0), (3400, 1700, 0.5), (6800, 3400, 0.25)])
def test_a_large_jpeg_is_decoded_reduced_and_full_on_demand(width: int, height: int, scale: float) -> None:
    photo = decode(encoded(".jpg", picture(width, height)))
    assert (photo.width, photo.height, photo.scale) == (width, height, scale)
    assert photo.pixels.shape[:2] == (height * scale, width * scale)
    assert photo.full().pixels.shape[:2] == (height, width)


@pytest.mark.parametrize("width", [200, 3600])
@pytest.mark.parametrize("orientation, red_corner", [(1, (0, 0)), (3, (1, 1)), (6, (0, 1)), (8, (1, 0))])
def test_exif_orientation_is_applied(width: int, orientation: int, red_corner: tuple[int, int]) -> None:
    photo = decode(with_orientation(encoded(".jpg", picture(width, width // 2)), orientation))
    turned = orientation in (6, 8)
    assert (photo.width, photo.height) == ((width // 2, width) if turned else (width, width // 2))
    rows, columns = photo.pixels.shape[:2]
    y = rows // 4 + red_corner[0] * rows // 2
    x = columns // 4 + red_corner[1] * columns // 2
    assert photo.pixels[y, x, 2] > 200 and photo.pixels[y, x, 0] < 60
    assert photo.full().pixels.shape[:2] == (photo.height, photo.width)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello, this is no photo", id="text"),
        pytest.param(b"\xff\xd8", id="two bytes of a JPEG"),
        pytest.param(b"\xff\xd8\xff\xda\x00\x08" + b"\0" * 50 + b"\xff\xd9", id="JPEG without frame header"),
        pytest.param(encoded(".jpg", picture(400, 300))[:2000], id="truncated JPEG"),
        pytest.param(encoded(".png", picture(400, 300))[:700], id="truncated PNG"),
        pytest.param(encoded(".webp", picture(400, 300))[:40], id="truncated WebP"),
        pytest.param(encoded(".bmp", picture(400, 300))[:9000], id="truncated BMP"),
        pytest.param(encoded(".png", picture(1, 1)), id="1x1"),
        pytest.param(declaring(30_000, 30_000), id="900 megapixels declared"),
        pytest.param(declaring(100, 100), id="pixels missing"),
    ],
)
def test_what_is_no_readable_photo_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode(data)


def test_the_pixel_bound_is_checked_for_arrays_too() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(ImageError):
        Photo.of(np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (side, side, 3)))
    with pytest.raises(ImageError):
        Photo.of(np.zeros((20, 20), np.uint8))


@pytest.mark.parametrize(
    "least, shape",
    [((9, 5), (5, 10)), ((5, 3), (5, 10)), ((5, 2), (2, 5)), ((11, 1), (10, 21)), ((1, 1), (1, 2))],
)
def test_a_photo_is_halved_for_as_long_as_enough_is_left(
    least: tuple[int, int], shape: tuple[int, int]
) -> None:
    pixels = np.zeros((10, 21, 3), np.uint8)
    pixels[:, 10:] = 200
    small = halved(pixels, *least)
    assert small.shape == (*shape, 3)
    assert small[:, 0].max() == 0
    assert small[:, -1].min() >= 100
