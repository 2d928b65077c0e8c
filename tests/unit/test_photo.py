"""Decoding: every format as cameras and programs write it, what is refused, and within which bounds."""

from __future__ import annotations

import io
import platform
import random
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from carsight import formats
from carsight.formats import FORMATS, MAX_PIXELS, TooManyPixels, sniff
from carsight.geometry import Pixels
from carsight.photo import ImageError, Photo, decode
from carsight.pixels import halve_to_cover, resized
from carsight.tiff import orientation

DATA = Path(__file__).resolve().parents[1] / "data"

# What Pillow says of broken files is its own; in the service it is a line in the log.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

RED_CORNER = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
"""Where the red corner (row, column) of ``picture`` is seen, by the orientation that a file declares."""


def picture(width: int, height: int) -> Pixels:
    """Red in the top-left quarter, so that every turn of the photo can be told from the others."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[: height // 2, : width // 2] = (0, 0, 250)
    return pixels


def grainy(width: int = 240, height: int = 160) -> Pixels:
    """A picture in which every row and every block differs from the others."""
    y, x = np.mgrid[:height, :width]
    ramps = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=2)
    grain = np.random.default_rng(7).normal(0, 6, ramps.shape)
    return np.clip(ramps + grain, 8, 255).astype(np.uint8)


def encoded(kind: str, pixels: NDArray[Any], *options: int) -> bytes:
    return bytes(cv2.imencode(kind, pixels, options)[1])


def saved(pixels: Pixels | Image.Image, kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """``pixels`` (BGR) as a file of ``kind``, written by Pillow."""
    image = Image.fromarray(pixels[:, :, ::-1]) if isinstance(pixels, np.ndarray) else pixels
    file = io.BytesIO()
    image.convert(mode).save(file, kind, **options)
    return file.getvalue()


def exif(value: int, order: str = "<") -> bytes:
    """A TIFF of one entry: tag 0x0112, the orientation (EXIF 2.32, 4.6.4)."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0)


def segment(marker: int, body: bytes, length: int | None = None) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2 if length is None else length) + body


def with_orientation(file: bytes, value: int) -> bytes:
    """The JPEG ``file`` with an EXIF segment."""
    return file[:2] + segment(0xE1, b"Exif\0\0" + exif(value)) + file[2:]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, rows: bytes | None = None, depth: int = 8, color: int = 2, interlace: int = 0
) -> bytes:
    """A PNG whose header declares ``width`` x ``height`` pixels, with ``rows`` (64 bytes where None)."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    data = zlib.compress(b"\0" * 64 if rows is None else rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def webp_with_exif(block: bytes) -> bytes:
    """A WebP of ``picture`` with ``block`` as its EXIF chunk."""
    file = saved(picture(120, 80), "WEBP", exif=b"Exif\0\0" + exif(1))
    at = file.index(b"EXIF")
    body = file[12:at] + b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def red_corner(pixels: Pixels) -> tuple[int, int]:
    """The corner (row, column) in which ``pixels`` are red."""
    height, width = pixels.shape[:2]
    found = [
        (row, column)
        for row in (0, 1)
        for column in (0, 1)
        if (
            pixels[height // 4 + row * height // 2, width // 4 + column * width // 2] > (60, 60, 200)
        ).tolist()
        == [False, False, True]
    ]
    assert len(found) == 1
    return found[0]


# -- formats -------------------------------------------------------------------------------------------------

WRITTEN: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: saved(picture(120, 80), "JPEG", quality=95),
    "PNG": lambda: saved(picture(120, 80), "PNG"),
    "WebP": lambda: saved(picture(120, 80), "WEBP", quality=95),
    "HEIC": lambda: (DATA / "red_corner.heic").read_bytes(),
    "AVIF": lambda: saved(picture(120, 80), "AVIF", quality=90),
    "TIFF": lambda: saved(picture(120, 80), "TIFF"),
    "GIF": lambda: saved(picture(120, 80), "GIF"),
    "BMP": lambda: saved(picture(120, 80), "BMP"),
}


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_every_format_decodes_to_its_declared_size_and_colors(kind: formats.Format) -> None:
    data = WRITTEN[kind.name]()
    assert sniff(data) is kind
    photo = decode(data)
    assert (photo.width, photo.height, photo.scale) == (120, 80, 1.0)
    assert np.abs(photo.pixels.astype(int) - picture(120, 80)).mean() < 4


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "L"},
        {"mode": "P"},
        {"mode": "1"},
        {"mode": "RGBA"},
        {"mode": "LA"},
        {"kind": "TIFF", "mode": "CMYK"},
        {"kind": "TIFF", "compression": "tiff_lzw"},
        {"kind": "TIFF", "compression": "tiff_deflate"},
        {"kind": "TIFF", "compression": "packbits"},
        {"kind": "TIFF", "compression": "jpeg", "quality": 95},
        {"kind": "TIFF", "mode": "1", "compression": "group4"},
        {"kind": "BMP", "mode": "P"},
        {"kind": "BMP", "mode": "L"},
        {"kind": "GIF", "mode": "L"},
        {"kind": "WEBP", "lossless": True},
        {"kind": "JPEG", "mode": "CMYK", "quality": 95},
        {"kind": "JPEG", "mode": "L"},
        {"kind": "AVIF", "mode": "L"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_every_pixel_format_is_converted_to_bgr(options: dict[str, Any]) -> None:
    pixels = np.full((80, 120, 3), 255, np.uint8)
    pixels[20:60, 30:90] = 0
    photo = decode(saved(pixels, **{"kind": "PNG", **options}))
    assert np.abs(photo.pixels.astype(int) - pixels).mean() < 6


@pytest.mark.parametrize("shape", [(80, 120), (80, 120, 3), (80, 120, 4)])
@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_sixteen_bits_are_read_as_eight(kind: str, shape: tuple[int, ...]) -> None:
    pixels = np.full(shape, 65535, np.uint16)
    pixels[20:60, 30:90] = 0x8000
    pixels[:2] = 0
    if shape[2:] == (4,):
        pixels[..., 3] = 65535
    photo = decode(encoded(kind, pixels))
    assert photo.pixels[40, 60] == pytest.approx([128] * 3, abs=1)
    assert photo.pixels[70, 10] == pytest.approx([255] * 3, abs=1)


def test_uncompressed_planes_of_sixteen_bits_are_not_taken_for_another_picture() -> None:
    """Pillow decodes them as if they were lines of eight bits."""
    planes = [np.full((80, 120), value, "<u2").tobytes() for value in (0, 40_000, 65_535)]
    at = 8 + sum(map(len, planes))  # of the directory; behind it are the values that it has no room for
    behind = at + 2 + 12 * 10 + 4
    entries = [(256, 3, 1, 120), (257, 3, 1, 80), (258, 3, 3, behind), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 3, behind + 6), (277, 3, 1, 3), (278, 3, 1, 80), (279, 4, 3, behind + 18)]
    entries += [(284, 3, 1, 2)]
    values = struct.pack("<3H6I", 16, 16, 16, 8, 8 + 19_200, 8 + 38_400, *[19_200] * 3)
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    file = struct.pack("<2sHI", b"II", 42, at) + b"".join(planes)
    file += struct.pack("<H", len(entries)) + directory + bytes(4) + values
    with pytest.raises(ImageError, match="keeps its colors apart"):
        decode(file)


def test_ten_bits_in_sixteen_are_not_black() -> None:
    pixels = np.full((80, 120), 1023, np.uint16)
    pixels[20:60, 30:90] = 0
    photo = decode(encoded(".png", pixels))
    assert photo.pixels[10, 10].tolist() == [255] * 3
    assert photo.pixels[40, 60].tolist() == [0] * 3


@pytest.mark.parametrize(
    ("kind", "black"), [("u1", 255), ("u2", 1023), ("u2", 65535), ("f4", 1.0)], ids=["8", "10", "16", "float"]
)
def test_zero_is_white_in_a_tiff_that_says_so(kind: str, black: float) -> None:
    """As in faxes, whatever the depth; Pillow and OpenCV turn pictures of up to eight bits alone."""
    pixels = np.zeros((80, 120), kind)
    pixels[20:60, 30:90] = black
    photometric = struct.Struct("<HHIH")
    file = encoded(".tiff", pixels).replace(photometric.pack(262, 3, 1, 1), photometric.pack(262, 3, 1, 0))
    photo = decode(file)
    assert photo.pixels[10, 10].tolist() == [255] * 3
    assert photo.pixels[40, 60].tolist() == [0] * 3


def test_float_pixels_are_scaled_by_their_range() -> None:
    gray = np.full((80, 120), 1.0, np.float32)
    gray[20:60, 30:90] = 0.25
    file = io.BytesIO()
    Image.fromarray(gray).save(file, "TIFF")
    assert decode(file.getvalue()).pixels[40, 60].tolist() == [63] * 3


def transparent(kind: str) -> bytes:
    """Black on nothing, in every way that a format knows."""
    alpha = np.zeros((80, 120), np.uint8)
    alpha[20:60, 30:90] = 255
    black = Image.merge("RGBA", [Image.new("L", (120, 80))] * 3 + [Image.fromarray(alpha)])
    if kind == "HEIC":
        return (DATA / "transparent.heic").read_bytes()
    if kind == "color key":
        pixels = np.zeros((80, 120, 3), np.uint8)
        pixels[alpha == 0] = (0, 0, 1)
        return saved(pixels, "PNG", transparency=(1, 0, 0))
    if kind == "palette":
        return saved(
            Image.fromarray(np.where(alpha > 0, 0, 3).astype(np.uint8), "L"), "PNG", "P", transparency=3
        )
    if kind == "LA":
        return saved(black, "PNG", "LA")
    return saved(black, kind, "RGBA", lossless=True, quality=95)


@pytest.mark.parametrize("kind", ["PNG", "LA", "palette", "color key", "GIF", "WEBP", "TIFF", "AVIF", "HEIC"])
def test_transparent_pixels_are_white(kind: str) -> None:
    pixels = decode(transparent(kind)).pixels
    assert pixels[5, 5].min() >= 250
    assert pixels[32, 45].max() <= 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_all_zero_alpha_channel_is_ignored(kind: str) -> None:
    image = Image.fromarray(picture(120, 80)[:, :, ::-1]).convert("RGBA")
    image.putalpha(0)
    assert (decode(saved(image, kind, "RGBA")).pixels == picture(120, 80)).all()


def test_a_png_with_broken_ancillary_chunks_is_read() -> None:
    file = saved(picture(120, 80), "PNG")
    broken = chunk(b"tEXt", b"a\0b")[:-1] + b"\0"
    assert (decode(file[:33] + broken + file[33:]).pixels == picture(120, 80)).all()


def test_half_transparent_is_half_white() -> None:
    pixels = Image.new("RGBA", (40, 40), (0, 0, 0, 128))
    assert decode(saved(pixels, "PNG", "RGBA")).pixels[0, 0].tolist() == [127] * 3


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"])
def test_the_first_of_several_pictures_is_read(kind: str) -> None:
    first, second = (Image.fromarray(picture(120, 80)[::step, ::step, ::-1]) for step in (1, -1))
    data = saved(first, kind, save_all=True, append_images=[second])
    photo = decode(data)
    assert photo.pixels.shape == (80, 120, 3)
    assert red_corner(photo.pixels) == (0, 0)


def filtered(height: int, depth: int, color: int) -> bytes:
    """Rows of a PNG 70 pixels wide, random, with each filter in turn; only bytes have all five."""
    row = 70 * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color] * depth // 8
    rows = np.random.default_rng(color).integers(0, 255, (height, row + 1), np.uint8)
    rows[:, 0] = np.arange(height) % 5
    return rows.tobytes()


@pytest.mark.parametrize("transparency", [b"", b"\0\7\0\7\0\7"], ids=["opaque", "with a transparent color"])
@pytest.mark.parametrize("color, depth", [(0, 8), (2, 8), (3, 8), (4, 8), (6, 8), (2, 16), (4, 16), (6, 16)])
def test_a_png_decoded_in_strips_is_the_same(
    color: int, depth: int, transparency: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = chunk(b"PLTE", bytes(range(256)) * 3) if color == 3 else b""
    table += chunk(b"tRNS", transparency[: 2 if color == 0 else 6]) if transparency and color < 4 else b""
    file = png(70, 53, filtered(53, depth, color), depth, color)
    file = file[:33] + table + file[33:]
    whole = decode(file).pixels
    monkeypatch.setattr("carsight.containers._WHOLE_PIXELS", 0)
    monkeypatch.setattr("carsight.containers._STRIP_PIXELS", 70 * 16)
    assert (decode(file).pixels == whole).all()
    for rows in (0, 15, 16, 52):
        with pytest.raises(ImageError, match="damaged"):
            decode(png(70, 53, filtered(rows, depth, color), depth, color))


def test_alpha_may_be_zero_in_the_first_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.full((80, 120, 4), 90, np.uint8)
    pixels[:, :, 3] = 0
    pixels[70:, :, 3] = 255
    monkeypatch.setattr("carsight.containers._STRIP_PIXELS", 120 * 16)
    seen = decode(encoded(".png", pixels)).pixels
    assert seen[:70].min() == 255
    assert seen[70:].max() == 90


@pytest.mark.parametrize("before", [b"", chunk(b"PLTE", b"\0\1\2" * 40)])
def test_only_the_first_header_of_a_png_counts(before: bytes) -> None:
    """Where they contradict each other, Pillow takes the last and others the first."""
    file = png(70, 53, filtered(53, 8, 2))
    second = png(24_000, 24_000)[8:33]
    if before:
        with pytest.raises(ImageError, match="damaged"):
            decode(file[:8] + before + file[8:])
    else:
        assert (decode(file[:33] + second + file[33:]).pixels == decode(file).pixels).all()


def film(canvas: tuple[int, int], left: int, top: int, *, mode: str = "RGB") -> bytes:
    """A WebP film on a ``canvas``, whose only picture of 40 x 30 gray pixels lies at ``left``, ``top``."""
    still = saved(Image.new(mode, (40, 30), (90, 90, 90, 255)[: len(mode)]), "WEBP", mode, lossless=True)[12:]

    def numbers(*values: int) -> bytes:
        return b"".join(value.to_bytes(3, "little") for value in values)

    frame = numbers(left // 2, top // 2, 39, 29, 100) + b"\0" + still
    parts = {
        b"VP8X": b"\x12\0\0\0" + numbers(canvas[0] - 1, canvas[1] - 1),
        b"ANIM": bytes(6),
        b"ANMF": frame,
    }
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(part)) + part for name, part in parts.items())
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("place", [(0, 0), (20, 8), (60, 20)])
def test_the_first_frame_of_an_animation_is_placed_on_its_canvas(place: tuple[int, int], mode: str) -> None:
    data = film((100, 50), *place, mode=mode)
    with Image.open(io.BytesIO(data)) as shown:
        paper = Image.new("RGBA", shown.size, "white")
        paper.alpha_composite(shown.convert("RGBA"))
    assert (decode(data).pixels[:, :, ::-1] == np.asarray(paper.convert("RGB"))).all()


@pytest.mark.parametrize("place", [(62, 0), (0, 22), (20_000_000, 0)])
def test_an_animation_with_a_frame_outside_its_canvas_is_refused(place: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="damaged"):
        decode(film((100, 50), *place))


def test_an_animation_without_frames_is_refused() -> None:
    with pytest.raises(ImageError, match="damaged"):
        decode(film((100, 50), 0, 0).replace(b"ANMF", b"ANMG"))


# -- which way up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [200, 3600])
@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientation_of_a_jpeg_is_applied(width: int, value: int) -> None:
    photo = decode(with_orientation(encoded(".jpg", picture(width, width // 2)), value))
    assert (photo.width, photo.height) == ((width // 2, width) if value > 4 else (width, width // 2))
    assert photo.pixels.shape[:2] == (photo.height * photo.scale, photo.width * photo.scale)
    assert red_corner(photo.pixels) == RED_CORNER[value]
    assert red_corner(photo.full().pixels) == RED_CORNER[value]
    assert photo.full().pixels.shape[:2] == (photo.height, photo.width)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize(
    "container", ["PNG", "PNG with Exif00", "WebP", "WebP with Exif00", "TIFF", "AVIF", "HEIC"]
)
def test_orientation_is_applied_in_every_container(
    container: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carsight.containers._STRIP_PIXELS", 120 * 24)
    tag = Image.Exif()
    tag[0x0112] = value
    if container.startswith("WebP"):
        data = webp_with_exif(b"Exif\0\0" * (container != "WebP") + exif(value, ">"))
    elif container == "PNG with Exif00":
        file = saved(picture(120, 80), "PNG")
        data = file[:33] + chunk(b"eXIf", b"Exif\0\0" + exif(value)) + file[33:]
    elif container == "HEIC":
        data = (DATA / (f"red_corner_{value}.heic" if value > 1 else "red_corner.heic")).read_bytes()
    else:
        data = saved(picture(120, 80), container, exif=tag)
    photo = decode(data)
    assert (photo.width, photo.height) == ((80, 120) if value > 4 else (120, 80))
    assert red_corner(photo.pixels) == RED_CORNER[value]


@pytest.mark.parametrize("container", ["JPEG", "PNG", "WebP", "TIFF", "AVIF"])
def test_an_orientation_in_xmp_only_is_ignored(container: str) -> None:
    xmp = '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp)
    ways: dict[str, Any] = {"PNG": {"pnginfo": text}, "TIFF": {"tiffinfo": {700: xmp.encode()}}}
    data = saved(picture(120, 80), container, **ways.get(container, {"xmp": xmp.encode()}))
    assert xmp.encode() in data
    assert red_corner(decode(data).pixels) == RED_CORNER[1]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_orientation_is_found_in_both_byte_orders(order: str, prefix: bytes) -> None:
    assert orientation(prefix + exif(6, order)) == 6


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4])  # BYTE, SHORT as the standard has it, LONG
def test_an_orientation_stored_as_another_integer_type_is_applied(order: str, kind: int) -> None:
    value = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I"}[kind], 6)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IHHHI", 8, 1, 0x0112, kind, 1)
    file = encoded(".jpg", picture(120, 80))
    photo = decode(file[:2] + segment(0xE1, b"Exif\0\0" + head + value + bytes(4)) + file[2:])
    assert (photo.width, photo.height) == (80, 120)
    assert red_corner(photo.pixels) == RED_CORNER[6]


@pytest.mark.parametrize(
    "block", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", exif(0), exif(9), exif(6)[:18], b"Exif"]
)
def test_broken_exif_means_upright(block: bytes) -> None:
    assert orientation(block) == 1


# -- JPEG as cameras write it --------------------------------------------------------------------------------

JPEG = encoded(".jpg", grainy(), cv2.IMWRITE_JPEG_QUALITY, 90)
PROGRESSIVE = encoded(".jpg", grainy(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
RESTARTS = encoded(".jpg", grainy(), cv2.IMWRITE_JPEG_RST_INTERVAL, 4)
TABLES = JPEG.index(b"\xff\xdb")
SCAN = JPEG.index(b"\xff\xda")


def wrong_spectrum(file: bytes) -> bytes:
    """``file`` with a start of scan as only progressive pictures have it."""
    at = file.index(b"\xff\xda") + 2 + 3 + 2 * 3
    return file[:at] + b"\x00\x00\x00" + file[at + 3 :]


THUMBNAIL = encoded(".jpg", picture(40, 30))
ODD = {
    "as it is": JPEG,
    "a byte before a table": JPEG[:TABLES] + b"\0" + JPEG[TABLES:],
    "18 bytes before a segment": JPEG[:TABLES] + bytes(18) + segment(0xE2, bytes(24)) + JPEG[TABLES:],
    "text between segments": JPEG[:TABLES] + b"left by a program" + JPEG[TABLES:],
    "fill bytes and stray ones after the first marker": JPEG[:2] + b"\xff\xff" + bytes(5) + JPEG[2:],
    "stray bytes after the first marker": JPEG[:2] + bytes(5) + JPEG[2:],
    "a line end after the first marker": JPEG[:2] + b"\r\n" + JPEG[2:],
    "stray bytes before the scan": JPEG[:SCAN] + bytes(300) + JPEG[SCAN:],
    "a segment 2 bytes too short": JPEG[:2]
    + segment(0xE1, b"Exif\0\0" + exif(1) + bytes(200), 205)
    + JPEG[2:],
    "a comment 5 bytes too short": JPEG[:TABLES] + segment(0xFE, b"a camera's comment", 15) + JPEG[TABLES:],
    "fill bytes": JPEG[:TABLES] + b"\xff" * 9 + JPEG[TABLES:],
    "an unknown marker": JPEG[:TABLES] + segment(0x4F, b"unknown") + JPEG[TABLES:],
    "a marker without a segment": JPEG[:TABLES] + b"\xff\x01\xff\xd3" + JPEG[TABLES:],
    "a thumbnail in EXIF": JPEG[:2] + segment(0xE1, b"Exif\0\0" + exif(1) + THUMBNAIL) + JPEG[2:],
    "no end marker": JPEG[:-2],
    "no end marker, with a thumbnail": JPEG[:2]
    + segment(0xE1, b"Exif\0\0" + exif(1) + THUMBNAIL)
    + JPEG[2:-2],
    "half an end marker": JPEG[:-1],
    "zeros in place of the end marker": JPEG[:-2] + bytes(700),
    "zeros before the end marker": JPEG[:-2] + bytes(700) + b"\xff\xd9",
    "zeros after the end": JPEG + bytes(4096),
    "text after the end": JPEG + b"MotionPhoto_Data" * 20,
    "two end markers": JPEG + b"\xff\xd9",
    "another picture behind it": JPEG + THUMBNAIL,
    "a gain map behind it": JPEG + segment(0xE2, b"MPF\0" + bytes(40)) + THUMBNAIL + bytes(9),
    "another picture in place of the end marker": JPEG[:-2] + THUMBNAIL,
    "a broken picture behind it": JPEG + THUMBNAIL[: len(THUMBNAIL) // 2],
    "a video behind it": JPEG + b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40,
    "a spectrum of one": wrong_spectrum(JPEG),
    "an unknown JFIF revision": JPEG.replace(b"JFIF\0\x01", b"JFIF\0\x07"),
    "stray bytes and no end marker": JPEG[:TABLES] + b"\0\0\0" + JPEG[TABLES:-2],
    "stray bytes and another picture behind it": JPEG[:TABLES] + b"\0\0\0" + JPEG[TABLES:] + THUMBNAIL,
}
DAMAGED = {
    "the last quarter lost": JPEG[: -len(JPEG) // 4],
    "the last quarter lost, then an end marker": JPEG[: -len(JPEG) // 4] + b"\xff\xd9",
    "the last quarter lost, then zeros": JPEG[: -len(JPEG) // 4] + bytes(len(JPEG) // 4),
    "the last quarter lost, then a picture": JPEG[: -len(JPEG) // 4] + THUMBNAIL,
    "the middle lost": JPEG[: len(JPEG) // 3] + JPEG[len(JPEG) // 2 :],
    "the last rows lost": JPEG[:-400] + b"\xff\xd9",
    "all rows lost": JPEG[: SCAN + 14] + b"\xff\xd9",
    "a stray byte, and the end lost": JPEG[:TABLES] + b"\0" + JPEG[TABLES : -len(JPEG) // 3] + b"\xff\xd9",
}


@pytest.mark.parametrize("name", ODD)
def test_a_jpeg_that_libjpeg_opens_is_read(name: str) -> None:
    photo = decode(ODD[name])
    assert (photo.pixels == decode(JPEG).pixels).all()


@pytest.mark.parametrize("file", [JPEG, PROGRESSIVE, RESTARTS], ids=["baseline", "progressive", "restarts"])
def test_pixels_are_those_of_opencv(file: bytes) -> None:
    assert (decode(file).pixels == cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)).all()


@pytest.mark.parametrize("file", [PROGRESSIVE, RESTARTS], ids=["progressive", "restarts"])
@pytest.mark.parametrize("odd", ["stray", "no end", "zeros", "picture"])
def test_every_kind_of_jpeg_decodes_like_opencv(file: bytes, odd: str) -> None:
    at = file.index(b"\xff\xdb")
    changed = {
        "stray": file[:at] + b"\0" * 7 + file[at:],
        "no end": file[:-2],
        "zeros": file + bytes(900),
        "picture": file[:-2] + THUMBNAIL,
    }[odd]
    assert (decode(changed).pixels == decode(file).pixels).all()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("tjDecompressHeader3(): Could not determine subsampling level of JPEG image"),
        KeyError(6),
    ],
    ids=["none", "new"],
)
def test_unusual_sampling_factors_are_decoded_by_libjpeg_itself(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = encoded(".jpg", grainy(3400, 400))
    wanted = [decode(JPEG).pixels, decode(large).pixels, decode(large).full().pixels]

    def unknown(*_: object) -> None:
        raise error

    monkeypatch.setattr(simplejpeg, "decode_jpeg_header", unknown)
    got = [decode(JPEG).pixels, decode(large).pixels, decode(large).full().pixels]
    for one, other in zip(got, wanted, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 2
    assert (decode(ODD["18 bytes before a segment"]).pixels == got[0]).all()
    for name in ("the last quarter lost", "the middle lost", "all rows lost"):
        with pytest.raises(ImageError, match=r"missing or damaged"):
            decode(DAMAGED[name])


def test_color_at_a_quarter_of_the_height_is_read() -> None:
    """4:4:1, six blocks a unit as 4:2:0: of a picture that both divide, only the frame's header differs."""
    file = encoded(".jpg", grainy(320, 256))
    at = file.index(b"\xff\xc0") + 11
    assert file[at] == 0x22
    odd = file[:at] + b"\x14" + file[at + 1 :]
    with Image.open(io.BytesIO(odd)) as wanted:
        assert np.abs(decode(odd).pixels[:, :, ::-1].astype(int) - np.asarray(wanted)).max() <= 2


@pytest.mark.parametrize("name", DAMAGED)
def test_a_jpeg_with_missing_rows_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match=r"missing or damaged"):
        decode(DAMAGED[name])


@pytest.mark.parametrize("file", [PROGRESSIVE, RESTARTS], ids=["progressive", "restarts"])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9", bytes(500)])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
def test_every_kind_of_jpeg_that_was_cut_short_is_refused(file: bytes, end: bytes, share: float) -> None:
    with pytest.raises(ImageError):
        decode(file[: int(len(file) * share)] + end)


def test_a_restart_interval_that_was_lost_is_noticed() -> None:
    third, fourth = RESTARTS.index(b"\xff\xd2"), RESTARTS.index(b"\xff\xd3")
    with pytest.raises(ImageError, match=r"missing or damaged"):
        decode(RESTARTS[: third + 2] + RESTARTS[fourth:])


@pytest.mark.parametrize("width, height, scale", [(1500, 900, 1.0), (3400, 1700, 0.5), (6800, 3400, 0.25)])
def test_a_large_jpeg_is_decoded_reduced_and_full_on_demand(width: int, height: int, scale: float) -> None:
    photo = decode(encoded(".jpg", picture(width, height)))
    assert (photo.width, photo.height, photo.scale) == (width, height, scale)
    assert photo.pixels.shape[:2] == (height * scale, width * scale)
    assert photo.full().pixels.shape[:2] == (height, width)


def test_a_large_jpeg_is_decoded_in_full_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decodes: list[tuple[int, ...]] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        decodes.append(simplejpeg_decode(*arguments, **options).shape)
        return simplejpeg_decode(*arguments, **options)

    simplejpeg_decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", counted)
    photo = decode(encoded(".jpg", picture(4000, 3000)))
    assert all(photo.full() is photo.full() for _ in range(5))
    assert decodes == [(1500, 2000, 3), (3000, 4000, 3)]


def test_other_formats_are_reduced_too_and_decoded_once() -> None:
    photo = decode(saved(picture(3400, 1700), "PNG", compress_level=1))
    assert (photo.width, photo.height, photo.scale) == (3400, 1700, 0.5)
    assert photo.pixels.shape == (850, 1700, 3)
    full = photo.full()
    assert (full.scale, full.pixels.shape) == (1.0, (1700, 3400, 3))
    assert (full.pixels == picture(3400, 1700)).all()


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("kind", [kind.name for kind in FORMATS])
def test_a_picture_cut_short_is_refused(kind: str, share: float) -> None:
    name = {"WebP": "WEBP"}.get(kind, kind)
    data = WRITTEN["HEIC"]() if kind == "HEIC" else saved(grainy(), name)
    with pytest.raises(ImageError):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("tail", [bytes(4096), b"\r\n", b"IEND" * 99, bytes(range(256))])
@pytest.mark.parametrize("kind", [kind.name for kind in FORMATS])
def test_data_behind_a_picture_does_not_matter(kind: str, tail: bytes) -> None:
    data = WRITTEN[kind]()
    assert (decode(data + tail).pixels == decode(data).pixels).all()


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("rows", [0, 1, 60, 99])
def test_a_png_with_a_valid_stream_of_too_few_rows_is_refused(rows: int, interlace: int) -> None:
    whole = bytes(30_000) if interlace else (b"\0" + b"\x80" * 300) * 100
    with pytest.raises(ImageError):
        decode(png(100, 100, whole[: len(whole) * rows // 100], interlace=interlace))


@pytest.mark.parametrize("color, depth, bytes_a_row", [(2, 8, 300), (0, 1, 13), (6, 16, 800)])
def test_a_black_png_is_complete(color: int, depth: int, bytes_a_row: int) -> None:
    assert decode(png(100, 100, bytes(101 * bytes_a_row + 101), depth, color)).width == 100


@pytest.mark.parametrize(
    "data, message",
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"hello, this is no photo", "text, not a picture", id="text"),
        pytest.param(b"\xef\xbb\xbf <!DOCTYPE html><html>", "web page", id="web page"),
        pytest.param(b"%PDF-1.7", "PDF document", id="PDF"),
        pytest.param(b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "video", id="video"),
        pytest.param(b"\xff\x0a\x00", "JPEG XL", id="JPEG XL"),
        pytest.param(b"II+\0\x08\0\0\0", "BigTIFF", id="BigTIFF"),
        pytest.param(b"\0\0\1\0\1\0", "an icon", id="icon"),
        pytest.param(b"FUJIFILMCCD-RAW 0201", "camera's raw file", id="raw file that is no TIFF"),
        pytest.param(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera's raw file", id="raw file in boxes"),
        pytest.param(bytes(128) + b"DICM\2\0", "DICOM", id="DICOM"),
        pytest.param(b"\0\5\x16\7\0\2\0\0Mac OS X", "an AppleDouble file", id="AppleDouble"),
        pytest.param(b"\xef\xbb\xbf" + JPEG, "JPEG begins at byte 3", id="JPEG behind a byte order mark"),
        pytest.param(
            b"--x\r\nContent-Type: image/png\r\n\r\n" + png(100, 100),
            "PNG begins at byte 32",
            id="PNG in a form",
        ),
        pytest.param(
            JPEG.replace(JPEG[(frame := JPEG.index(b"\xff\xc0") + 5) : frame + 2], b"\0\0", 1),
            "height behind its picture",
            id="JPEG without a height",
        ),
        pytest.param(b"\xff\xd8", "before its picture", id="two bytes of a JPEG"),
        pytest.param(b"\xff\xd8\xff\xd9", "holds no picture", id="JPEG of two markers"),
        pytest.param(
            b"\xff\xd8\xff\xda\x00\x08" + b"\0" * 50 + b"\xff\xd9", "cannot", id="JPEG without a frame"
        ),
        pytest.param(encoded(".png", picture(1, 1)), "at least 8", id="1x1"),
        pytest.param(png(100, 100), "last row", id="pixels missing"),
        pytest.param(encoded(".png", np.zeros((8, 12_000), np.uint8)), "longer side", id="12,000 x 8"),
        pytest.param(encoded(".jpg", np.zeros((20_480, 16), np.uint8)), "longer side", id="16 x 20,480"),
        pytest.param(encoded(".bmp", np.zeros((9, 600), np.uint8)), "longer side", id="600 x 9"),
    ],
)
def test_unreadable_files_are_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message) as error:
        decode(data)
    assert not error.value.too_large
    assert not str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (1, 0xC3, "lossless"),
        (1, 0xF7, "JPEG-LS"),
        (1, 0xC5, "hierarchical"),
        (4, 12, "12 bits a channel"),
    ],
)
def test_an_unsupported_kind_of_jpeg_is_not_called_damaged(place: int, value: int, message: str) -> None:
    frame = JPEG.index(b"\xff\xc0")
    with pytest.raises(ImageError, match=message):
        decode(JPEG[: frame + place] + bytes([value]) + JPEG[frame + place + 1 :])


def test_exif_with_very_many_prefixes_takes_no_time() -> None:
    start = time.process_time()
    assert orientation(b"Exif\0\0" * 100_000 + exif(6)) == 1
    assert time.process_time() - start < 0.05


@pytest.mark.parametrize("kind", [".png", ".jpg"])
@pytest.mark.parametrize("shape", [(50, 1000), (1000, 50), (20, 1200)])
def test_a_long_strip_is_a_photo(kind: str, shape: tuple[int, int]) -> None:
    assert decode(encoded(kind, np.full(shape, 200, np.uint8))).pixels.shape[:2] == shape


# -- bounds --------------------------------------------------------------------------------------------------


def declared_jpeg(*sizes: tuple[int, int]) -> bytes:
    """A small JPEG with a frame header for each of ``sizes`` (width, height) in place of its own."""
    file = encoded(".jpg", picture(64, 64))
    at = file.index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", file, at + 2)
    frame = file[at : at + 2 + length]
    frames = [frame[:5] + struct.pack(">HH", height, width) + frame[9:] for width, height in sizes]
    return file[:at] + b"".join(frames) + file[at + len(frame) :]


def declared(kind: str, width: int, height: int) -> bytes:
    """A picture of ``kind`` whose header says ``width`` x ``height`` and that holds next to nothing."""
    file = bytearray(WRITTEN.get(kind, WRITTEN["PNG"])())
    if kind == "JPEG":
        return declared_jpeg((width, height))
    if kind == "PNG":
        return png(width, height)
    if kind == "GIF":
        struct.pack_into("<HH", file, 6, width, height)
    elif kind == "BMP":
        struct.pack_into("<ii", file, 18, width, height)
    elif kind == "TIFF":
        for tag, value in ((256, width), (257, height)):
            at = max(file.find(struct.pack("<HHI", tag, kind, 1)) for kind in (3, 4))
            struct.pack_into("<HHII", file, at, tag, 4, 1, value)
    elif kind == "WebP":
        extended = b"VP8X" + struct.pack("<II", 10, 0) + (width - 1).to_bytes(3, "little")
        body = b"WEBP" + extended + (height - 1).to_bytes(3, "little") + bytes(file[12:])
        return b"RIFF" + struct.pack("<I", len(body)) + body
    else:
        at = file.index(b"ispe") + 8
        struct.pack_into(">II", file, at, width, height)
    return bytes(file)


@pytest.mark.parametrize(
    "size", [(12_000, 9_000), (15_000, 14_000)], ids=["108 megapixels", "210 megapixels"]
)
@pytest.mark.parametrize("kind", [kind.name for kind in FORMATS if kind.name not in ("AVIF", "HEIC")])
def test_too_many_pixels_are_too_large_in_every_format(kind: str, size: tuple[int, int]) -> None:
    with pytest.raises(TooManyPixels) as error:
        decode(declared(kind, *size))
    assert error.value.too_large
    assert "megapixels" in str(error.value)


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_a_container_that_declares_more_pixels_than_its_picture_has_is_refused(kind: str) -> None:
    with pytest.raises(ImageError):
        decode(declared(kind, 12_000, 9_000))


@pytest.mark.parametrize("sizes", [((64, 64), (24_000, 24_000)), ((24_000, 24_000), (64, 64))])
def test_frame_headers_that_contradict_each_other_are_refused(sizes: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ImageError, match="contradict each other"):
        decode(declared_jpeg(*sizes))


@pytest.mark.parametrize("height, over", [(9_100, r"41\.0"), (5_001, r"0\.1")])
def test_the_error_for_too_many_pixels_says_by_how_much(height: int, over: str) -> None:
    message = f"10000 x {height} pixels, {over} megapixels more than the limit of 50"
    with pytest.raises(TooManyPixels, match=message):
        decode(declared_jpeg((10_000, height)))


def many_scans(count: int, pixels: Pixels) -> bytes:
    """A progressive JPEG whose last scan comes ``count`` times more."""
    file = encoded(".jpg", pixels, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last = file.rindex(b"\xff\xda")
    return file[:-2] + file[last:-2] * count + b"\xff\xd9"


def test_scans_are_bounded_before_they_are_decoded() -> None:
    assert decode(many_scans(3, grainy())).width == 240
    with pytest.raises(ImageError, match="too many scans"):
        decode(many_scans(300, np.full((1500, 2000, 3), 128, np.uint8)))


@pytest.mark.parametrize("factors", [0x00, 0x01, 0x10, 0x55])
@pytest.mark.parametrize("file", [JPEG, PROGRESSIVE], ids=["baseline", "progressive"])
def test_invalid_sampling_factors_are_refused(file: bytes, factors: int) -> None:
    at = file.index(b"\xff\xc0" if file is JPEG else b"\xff\xc2")
    components = b"".join(bytes((file[at + n], factors, file[at + n + 2])) for n in (10, 13, 16))
    with pytest.raises(ImageError):
        decode(file[: at + 10] + components + file[at + 19 :])


def test_a_heif_item_type_that_is_not_ascii_does_not_crash_the_process() -> None:
    file = (DATA / "red_corner_6.heic").read_bytes()
    assert red_corner(decode(file.replace(b"Exif\0\0", b"\xc5xif\0\0", 1)).pixels) == RED_CORNER[6]


def test_coefficients_are_bounded() -> None:
    file = bytearray(encoded(".jpg", picture(64, 64), cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    at = file.index(b"\xff\xc2")
    struct.pack_into(">HH", file, at + 5, 6_000, 8_000)
    file[at + 11] = 0x11  # no subsampling: three whole planes
    with pytest.raises(TooManyPixels, match="progressive"):
        decode(bytes(file))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            png(100, 100)[:33] + chunk(b"tEXt", b"a\0b") * 60_000 + png(100, 100)[33:], id="chunks of a PNG"
        ),
        pytest.param(
            WRITTEN["GIF"]()[:13] + b"\x21\xfe" + b"\x01a" * 60_000 + b"\0" + WRITTEN["GIF"]()[13:],
            id="blocks of a GIF's comment",
        ),
    ],
)
def test_pieces_are_bounded(data: bytes) -> None:
    if data[:3] == b"GIF":
        data = data[:10] + bytes([data[10] & 0x7F]) + data[11:]
    with pytest.raises(ImageError, match="pieces"):
        decode(data)


def test_the_pixel_bound_is_checked_for_arrays_too() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(TooManyPixels):
        Photo.of(np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (side, side, 3)))
    with pytest.raises(ImageError):
        Photo.of(np.zeros((20, 20), np.uint8))


SEEDS: list[bytes] = [WRITTEN[kind.name]() for kind in FORMATS] + [
    JPEG,
    PROGRESSIVE,
    RESTARTS,
    saved(grainy(), "TIFF", compression="tiff_lzw"),
    saved(grainy(), "TIFF", "CMYK", compression="tiff_deflate"),
    saved(grainy(), "PNG", "P"),
    saved(grainy(), "GIF", save_all=True, append_images=[Image.new("RGB", (240, 160))]),
    saved(grainy(), "WEBP", save_all=True, append_images=[Image.new("RGB", (240, 160))]),
    (DATA / "transparent.heic").read_bytes(),
    (DATA / "red_corner_6.heic").read_bytes(),
    webp_with_exif(exif(6)),
]


@seed(20261128)
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(SEEDS),
    st.lists(
        st.tuples(
            st.sampled_from(["flip", "cut", "insert", "repeat", "field", "swap"]), st.integers(0, 2**31 - 1)
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_a_broken_picture_is_an_image_error_or_a_photo_within_bounds(
    data: bytes, changes: list[tuple[str, int]]
) -> None:
    for change, number in changes:
        data = mutated(data, change, random.Random(number))
    try:
        photo = decode(data)
        full = photo.full()
    except ImageError:
        return
    assert photo.width * photo.height <= MAX_PIXELS
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.shape[2] == 3
    for each in (photo, full):
        rows, columns = each.pixels.shape[:2]
        assert abs(rows - photo.height * each.scale) < 1
        assert abs(columns - photo.width * each.scale) < 1


def mutated(data: bytes, change: str, chance: random.Random) -> bytes:
    """``data`` with one thing wrong; most of what decides lies near the beginning."""
    at = chance.randrange(max(1, chance.choice([64, 700, len(data)])))
    length = chance.randrange(1, 40)
    if change == "flip":
        return (
            data[:at]
            + bytes([data[at] ^ 1 << chance.randrange(8)] if at < len(data) else [])
            + data[at + 1 :]
        )
    if change == "cut":
        return data[:at] + data[at + length :]
    if change == "insert":
        return data[:at] + chance.randbytes(length) + data[at:]
    if change == "repeat":
        return data[:at] + data[at : at + length] * chance.choice([2, 100]) + data[at:]
    if change == "field":  # a number of two or four bytes becomes an extreme one
        width = chance.choice([2, 4])
        extreme = chance.choice([0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 20_000])
        packed = int(extreme % 2 ** (8 * width)).to_bytes(width, "big" if chance.random() < 0.5 else "little")
        return data[:at] + packed + data[at + width :]
    other: bytes = chance.choice(SEEDS)
    return data[:at] + other[at:]


# -- and back ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="it is there that both are alike")
@pytest.mark.parametrize("channels", [(), (3,)], ids=["gray", "color"])
def test_resizing_as_on_other_processors_gives_the_same_bits(
    channels: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(len(channels))
    for width, height, *shape in rng.integers(1, 200, (60, 4)).tolist():
        pixels = rng.integers(0, 256, (*shape, *channels), np.uint8)
        here = resized(pixels, width, height)
        with monkeypatch.context() as patch:
            patch.setattr("carsight.pixels._X86", False)
            elsewhere = resized(pixels, width, height)
        assert elsewhere.flags.c_contiguous
        np.testing.assert_array_equal(elsewhere, here)


@pytest.mark.parametrize(
    "least, shape",
    [((9, 5), (5, 10)), ((5, 3), (5, 10)), ((5, 2), (2, 5)), ((11, 1), (10, 21)), ((1, 1), (1, 2))],
)
def test_a_photo_is_halved_while_enough_pixels_remain(least: tuple[int, int], shape: tuple[int, int]) -> None:
    pixels = np.zeros((10, 21, 3), np.uint8)
    pixels[:, 10:] = 200
    small = halve_to_cover(pixels, *least)
    assert small.shape == (*shape, 3)
    assert small[:, 0].max() == 0
    assert small[:, -1].min() >= 100
