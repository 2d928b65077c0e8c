"""What a file may ask of its decoder: work and memory follow what it shows, not what it declares."""

from __future__ import annotations

import ctypes
import gc
import io
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carsight.formats import ImageError, TooManyPixels
from carsight.photo import Photo, decode

SIDE = 64

PIXELS = Image.fromarray(np.random.default_rng(5).integers(0, 255, (SIDE, SIDE, 3), np.uint8))


def jpeg(**options: object) -> bytes:
    file = io.BytesIO()
    PIXELS.save(file, "JPEG", **options)
    return file.getvalue()


BASELINE, PROGRESSIVE = jpeg(), jpeg(progressive=True)
SCAN = PROGRESSIVE.index(b"\xff\xda")

Value = tuple[int, str, Sequence[int]]
"""A tag, the letter of its values' type for ``struct``, and the values."""


def tiff(changed: Sequence[Value] = (), data: bytes = b"", without: int = 0) -> bytes:
    """Return a TIFF of ``SIDE`` x ``SIDE`` RGB pixels in one strip, with other or more tags."""
    data = data or PIXELS.tobytes()
    values: dict[int, Value] = {
        tag: (tag, letter, value)
        for tag, letter, value in (
            (256, "I", [SIDE]),
            (257, "I", [SIDE]),
            (258, "H", [8, 8, 8]),
            (259, "H", [1]),
            (262, "H", [2]),
            (273, "I", [8]),
            (277, "H", [3]),
            (278, "I", [SIDE]),
            (279, "I", [len(data)]),
            *changed,
        )
    }
    values.pop(without, None)
    body, directory = data + b"\0" * (len(data) % 2), b""
    for tag, letter, value in sorted(values.values(), key=lambda one: one[0]):
        packed = struct.pack(f"<{len(value)}{letter}", *value)
        place = packed.ljust(4, b"\0")
        if len(packed) > 4:
            place, body = struct.pack("<I", 8 + len(body)), body + packed + b"\0" * (len(packed) % 2)
        directory += struct.pack("<HHI", tag, {"B": 1, "H": 3, "I": 4}[letter], len(value)) + place
    start = struct.pack("<I", 8 + len(body))
    return b"II*\0" + start + body + struct.pack("<H", len(values)) + directory + bytes(4)


def seconds(data: bytes) -> float:
    """Return the CPU time that it takes to decode ``data``, or to refuse it."""
    start = time.process_time()
    with suppress(ImageError):
        decode(data)
    return time.process_time() - start


def megabytes(data: bytes) -> float:
    """Return what it takes at most to decode ``data``, first small and then as fine as it is needed."""
    status = Path("/proc/self/status")

    def size(name: str) -> float:
        return int(status.read_text().partition(f"{name}:")[2].split()[0]) / 1000

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = size("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: proc(5)
    decode(data).full()
    return size("VmHWM") - before


def blank(kind: str, megapixels: float, mode: str = "RGB", turned: int = 1, **options: object) -> bytes:
    """Return a blank square picture of ``kind``."""
    exif = Image.Exif()
    if turned > 1:
        options["exif"] = exif
        exif[0x0112] = turned
    side = int((megapixels * 1e6) ** 0.5)
    file = io.BytesIO()
    image = Image.new(mode, (side, side), (90, 90, 90, 128)[: len(mode)] if len(mode) > 2 else 9)
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
@pytest.mark.parametrize(
    ("most", "make"),
    [
        pytest.param(170, lambda: blank("JPEG", 50), id="JPEG"),
        pytest.param(110, lambda: blank("JPEG", 50, turned=6), id="turned JPEG"),
        pytest.param(80, lambda: blank("PNG", 50, turned=6), id="PNG"),
        pytest.param(90, lambda: blank("PNG", 50, "RGBA", compress_level=1), id="transparent PNG"),
        pytest.param(130, lambda: blank("PNG", 25, turned=6), id="turned PNG"),
        pytest.param(200, lambda: blank("TIFF", 25, turned=6, compression="tiff_lzw"), id="turned TIFF"),
        pytest.param(130, lambda: blank("WEBP", 16, lossless=True, method=0), id="WebP"),
        pytest.param(160, lambda: blank("WEBP", 16, "RGBA", lossless=True, method=0), id="transparent WebP"),
        pytest.param(160, lambda: blank("AVIF", 16, speed=10), id="AVIF"),
        pytest.param(160, lambda: blank("AVIF", 11, "RGBA", speed=10), id="transparent AVIF"),
        pytest.param(120, lambda: blank("GIF", 50, "P"), id="GIF"),
    ],
)
def test_the_largest_pictures_take_bounded_memory(most: float, make: Callable[[], bytes]) -> None:
    assert megabytes(make()) < most


# -- JPEG ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\0", b"\xd0", b"\xe1", b""])
@pytest.mark.parametrize("at", [2, SCAN, SCAN + 20, len(PROGRESSIVE) - 2])
def test_fill_bytes_take_linear_time(at: int, end: bytes) -> None:
    fills = [PROGRESSIVE[:at] + b"\xff" * n + end + PROGRESSIVE[at:] for n in (100_000, 4_000_000)]
    assert seconds(fills[0]) < 0.2
    assert seconds(fills[1]) < 1


def test_fill_bytes_are_accepted() -> None:
    filled = PROGRESSIVE[:SCAN] + b"\xff" * 1000 + PROGRESSIVE[SCAN:]
    assert (decode(filled).pixels == decode(PROGRESSIVE).pixels).all()


@pytest.mark.parametrize("segment", [b"\xff\xe1\0\2", b"\xff\xc4\0\2", b"\xff\xfe\0\2", b"\xff\x01"])
@pytest.mark.parametrize("at", [2, len(PROGRESSIVE) - 2])
def test_segments_are_bounded(segment: bytes, at: int) -> None:
    data = PROGRESSIVE[:at] + segment * 1_000_000 + PROGRESSIVE[at:]
    assert seconds(data) < 0.3
    with pytest.raises(ImageError):
        decode(data)


def test_a_large_profile_is_not_too_many_segments() -> None:
    profile = b"".join(
        b"\xff\xe2" + struct.pack(">H", 2 + 14 + 1000) + b"ICC_PROFILE\0" + bytes([n, 255]) + bytes(1000)
        for n in range(1, 256)
    )
    assert decode(BASELINE[:2] + profile + BASELINE[2:]).width == SIDE


@pytest.mark.parametrize("length", range(6))
@pytest.mark.parametrize("end", [b"", b"\0", b"\0\3\1", b"\xff\xd9"])
@pytest.mark.parametrize("file", [BASELINE, PROGRESSIVE], ids=["baseline", "progressive"])
def test_a_scan_that_ends_in_its_header_is_handled(file: bytes, length: int, end: bytes) -> None:
    for header in (file[: file.index(b"\xff\xda")], file[:-2]):
        seconds(header + b"\xff\xda" + bytes([0, length]) + end)


def refined(times: int, side: int) -> bytes:
    """Return a progressive JPEG of ``side`` x ``side`` gray pixels, refined so often without any news."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    blocks = (side // 8) ** 2
    tables = segment(0xDB, b"\0" + b"\1" * 64) + segment(
        0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"
    )
    codes = segment(0xC4, bytes([0x00, 1, *[0] * 15, 0])) + segment(0xC4, bytes([0x10, 1, *[0] * 15, 0]))
    first = segment(0xDA, b"\1\1\0\0\0\1") + bytes(-(-blocks // 8))
    again = segment(0xDA, b"\1\1\0\1\x3f\x10") + bytes(-(-blocks // 8))
    return b"\xff\xd8" + tables + codes + first + again * times + b"\xff\xd9"


def test_refining_scans_count_more() -> None:
    with pytest.raises(ImageError, match="too many scans"):
        decode(refined(170, 1280))  # 4.4 million blocks, each looked at in full


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_turned_picture_counts_twice(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.new("RGB", (4000, 3200), (90, 90, 90)).save(file, "JPEG", exif=exif)
    monkeypatch.setattr("carsight.photo._MAX_DECODING_BYTES", 4000 * 3200 * 4)
    assert decode(file.getvalue()).full().scale == (1 if orientation == 1 else 0.5)


# -- TIFF ----------------------------------------------------------------------------------------------------


def test_the_first_directory_s_picture_is_read() -> None:
    photo = decode(tiff())
    assert (photo.pixels[:, :, ::-1] == np.asarray(PIXELS)).all()


def with_preview(file: bytes, preview: int = 1) -> bytes:
    """``file`` behind a directory of one row of pixels, a preview by the lowest bit of ``preview``."""
    entries = (
        (254, "I", preview),
        (256, "I", 32),
        (257, "I", 1),
        (258, "H", 8),
        (259, "H", 1),
        (262, "H", 1),
        (273, "I", 8),
        (278, "I", 1),
        (279, "I", 32),
    )
    (following,) = struct.unpack_from("<I", file, 4)
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack(f"<HHI{letter}", tag, {"H": 3, "I": 4}[letter], 1, value).ljust(12, b"\0")
        for tag, letter, value in entries
    )
    return file[:4] + struct.pack("<I", len(file)) + file[8:] + directory + struct.pack("<I", following)


def test_a_preview_is_not_read_in_place_of_its_picture() -> None:
    assert decode(with_preview(tiff())).height == SIDE
    with pytest.raises(ImageError, match="32 x 1 pixels"):
        decode(with_preview(tiff(), 0))


def test_many_repeated_preview_directories_take_no_time() -> None:
    preview = struct.pack("<HHII", 254, 4, 1, 1) * 65_535
    assert seconds(b"II*\0" + struct.pack("<IH", 8, 65_535) + preview + struct.pack("<I", 8)) < 0.35


def test_if_all_directories_are_previews_the_first_is_read() -> None:
    assert decode(tiff([(254, "I", [1])])).height == SIDE


def test_an_unsupported_compression_is_named() -> None:
    with pytest.raises(ImageError, match=r"TIFF picture is compressed in a way.*50001"):
        decode(tiff([(259, "H", [50001])]))


def test_unneeded_tags_take_no_time() -> None:
    resolutions: list[Value] = [(282, "I", [1] * 1_000_000), (34665, "I", [0]), (700, "B", [1] * 1_000_000)]
    assert seconds(tiff(resolutions)) < 0.3
    assert isinstance(decode(tiff(resolutions)), Photo)


BLANK = zlib.compress(bytes(SIDE * SIDE * 3))

HOSTILE_TIFFS: dict[str, Callable[[], bytes]] = {
    "a tile of 400 megapixels": lambda: tiff(
        [
            (259, "H", [8]),
            (322, "I", [20_000]),
            (323, "I", [20_000]),
            (324, "I", [8]),
            (325, "I", [len(BLANK)]),
        ],
        BLANK,
    ),
    "a tile without a width": lambda: tiff(
        [(322, "I", [0]), (323, "I", [64]), (324, "I", [8]), (325, "I", [99])]
    ),
    "a tile without a length": lambda: tiff([(322, "I", [64]), (324, "I", [8]), (325, "I", [99])]),
    "very many bits": lambda: tiff([(258, "H", [8] * 60_000)]),
    "very many strips": lambda: tiff([(273, "I", [8] * 60_000), (279, "I", [1] * 60_000)]),
    "strips that share their bytes": lambda: tiff(
        [(273, "I", [8] * SIDE), (278, "I", [1]), (279, "I", [SIDE * SIDE * 3] * SIDE)]
    ),
    "a compression of JPEG's that is withdrawn": lambda: tiff([(259, "H", [6])]),
    "a progressive JPEG": lambda: tiff(
        [(259, "H", [7]), (262, "H", [6]), (279, "I", [len(PROGRESSIVE)])], PROGRESSIVE
    ),
    "no width": lambda: tiff(without=256),
    "no bits": lambda: tiff([(258, "H", [])]),
    "no samples": lambda: tiff([(277, "H", [])]),
    "a directory beyond the end": lambda: tiff()[:4] + struct.pack("<I", 1 << 30) + tiff()[8:],
}


@pytest.mark.parametrize("name", HOSTILE_TIFFS)
def test_a_directory_that_asks_for_too_much_is_refused(name: str) -> None:
    data = HOSTILE_TIFFS[name]()
    assert seconds(data) < 0.2
    with pytest.raises(ImageError, match=r"TIFF"):
        decode(data)


@pytest.mark.parametrize("bits, samples", [(16, 4), (32, 3), (16, 6)])
def test_stored_bytes_are_bounded(bits: int, samples: int) -> None:
    wide: list[Value] = [
        (256, "I", [5000]),
        (257, "I", [4900]),
        (258, "H", [bits] * samples),
        (277, "H", [samples]),
    ]
    with pytest.raises(TooManyPixels, match="MB as it is stored"):
        decode(tiff(wide))


def test_a_baseline_jpeg_in_a_tiff_is_read() -> None:
    file = io.BytesIO()
    PIXELS.save(file, "TIFF", compression="jpeg")
    assert decode(file.getvalue()).width == SIDE
