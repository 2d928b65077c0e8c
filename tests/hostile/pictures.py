"""Pictures that nobody means well with: of every format, changed, contradictory, cut, huge or busy.

``picture`` makes one from a random generator, the same for the same seed. They go to the API alone, which
refuses before a library sees what it should not.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import cv2
import numpy as np
import zxingcpp
from numpy.typing import NDArray
from PIL import Image, ImageDraw

DATA = Path(__file__).resolve().parents[1] / "data"

Pixels = NDArray[np.uint8]

SAMPLES = (
    "plate_us.jpg",
    "plate_de.jpg",
    "no_plate.jpg",
    "vin_label.jpg",
    "vin_plate.jpg",
    "label_without_vin.jpg",
)

LARGEST = 10_400_000
"""Bytes; what is longer is cut."""

_EXTREMES = (0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
_SIDES = (0, 1, 7, 8, 9, 64, 500, 4999, 7071, 7072, 16_383, 16_384, 30_000, 65_500, 65_535)


def picture(chance: Random) -> tuple[str, bytes]:
    """Return the name of a kind and a file of it."""
    kind = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    return kind, KINDS[kind][1](chance)[:LARGEST]


T = TypeVar("T")


def one_of(chance: Random, *makers: Callable[[], T]) -> T:
    """Make one of several things."""
    return chance.choice(makers)()


# -- what they are made of -----------------------------------------------------------------------------------


@cache
def _texture(side: int) -> Pixels:
    return np.random.default_rng(side).integers(0, 255, (side, side, 3), np.uint8)


def _drawn(chance: Random, longest: int = 900) -> Image.Image:
    """Return something to look at: flat, a ramp, noise or a street."""
    width, height = chance.randrange(8, longest), chance.randrange(8, longest)
    sort = chance.choice(["flat", "ramp", "noise", "photo"])
    if sort == "flat":
        return Image.new("RGB", (width, height), tuple(chance.randrange(256) for _ in range(3)))
    if sort == "ramp":
        return Image.linear_gradient("L").resize((width, height)).convert("RGB")
    if sort == "noise":
        return Image.fromarray(cv2.resize(_texture(chance.choice([16, 128])), (width, height)))
    photo = Image.open(DATA / chance.choice(SAMPLES))
    return photo.resize((chance.randrange(200, 1300), chance.randrange(200, 1000)))


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _exif(chance: Random) -> bytes:
    """Return a TIFF of EXIF's: an orientation, perhaps of a wrong type, count or place."""
    order = chance.choice("<>")
    entry = struct.pack(
        f"{order}HHII",
        chance.choice([0x0112, 0x0112, 0x8769, 0x0111]),
        chance.choice([3, 3, 1, 4, 0, 0xFFFF]),
        chance.choice([1, 1, 0, 0xFFFFFFFF]),
        chance.choice([6 << 16, 6, 3, 0, 0xFFFFFFFF]),
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(
        f"{order}I", chance.choice([8, 8, 0, 1 << 31])
    )
    return head + struct.pack(f"{order}H", chance.choice([1, 1, 0xFFFF])) + entry * chance.choice([1, 500])


def _written(chance: Random) -> tuple[str, bytes]:
    """Return a well-formed file of any format, and its format."""
    image, exif = _drawn(chance), b"Exif\0\0" + _exif(chance)
    match chance.choice(["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "HEIC", "MPO"]):
        case "JPEG":
            sub, restart = chance.choice([0, 1, 2]), chance.choice([0, 0, 1, 7])
            options = {"progressive": chance.random() < 0.4, "subsampling": sub, "exif": exif}
            shown = image.convert(chance.choice(["RGB", "RGB", "L", "CMYK"]))
            return "JPEG", _saved(
                shown, "JPEG", quality=chance.randrange(5, 96), restart_marker_rows=restart, **options
            )
        case "PNG":
            return "PNG", _saved(
                image.convert(chance.choice(["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])), "PNG"
            )
        case "WEBP":
            options = {"lossless": chance.random() < 0.4, "exif": exif}
            more = [image.rotate(90)] * chance.choice([0, 0, 3])
            return "WebP", _saved(image, "WEBP", save_all=bool(more), append_images=more, method=0, **options)
        case "AVIF":
            more = [image] * chance.choice([0, 0, 2])
            return "AVIF", _saved(image, "AVIF", speed=10, save_all=bool(more), append_images=more)
        case "TIFF":
            coding = chance.choice([None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd"])
            mode = (
                "RGB"
                if coding in ("jpeg", "webp")
                else chance.choice(["RGB", "RGBA", "L", "CMYK", "P", "F", "I;16"])
            )
            shown = image.convert("L").convert(mode) if mode in ("F", "I;16") else image.convert(mode)
            return "TIFF", _saved(shown, "TIFF", compression=coding)
        case "GIF":
            more = [image.rotate(90)] * chance.choice([0, 3])
            return "GIF", _saved(image.convert("P"), "GIF", save_all=bool(more), append_images=more)
        case "BMP":
            return "BMP", _saved(image.convert(chance.choice(["RGB", "L", "P", "1"])), "BMP")
        case "MPO":
            return "MPO", _saved(image, "MPO", save_all=True, append_images=[image])
    return "HEIC", (
        DATA / chance.choice(["red_corner_6.heic", "transparent.heic", "gray_corner.heic"])
    ).read_bytes()


# -- changes -------------------------------------------------------------------------------------------------


def changed(data: bytes, chance: Random, other: bytes = b"") -> bytes:
    """Return ``data`` with one thing wrong; most of what decides lies near the beginning."""
    at = chance.randrange(max(1, min(len(data), chance.choice([40, 64, 700, 1 << 30]))))
    length = chance.choice([1, 2, 4, chance.randrange(1, 200)])
    match chance.randrange(8):
        case 0:
            return (
                data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)] if data else b"\0") + data[at + 1 :]
            )
        case 1:
            return data[:at] + data[at + length :]
        case 2:
            return data[:at] + chance.randbytes(length) + data[at:]
        case 3:
            return data[:at] + data[at : at + length] * chance.choice([2, 50, 5000]) + data[at + length :]
        case 4:  # a number of two or four bytes becomes an extreme one
            width, order = chance.choice([2, 4]), chance.choice(["big", "little"])
            extreme = chance.choice([*_EXTREMES, 1 << 31, (1 << 32) - 1]) % (1 << 8 * width)
            return (
                data[:at]
                + extreme.to_bytes(width, "big" if order == "big" else "little")
                + data[at + width :]
            )
        case 5:
            return data[:at] + other[chance.randrange(max(1, len(other))) :]
        case 6:
            return data[: chance.randrange(len(data) + 1)]
    return data[:at] + bytes([chance.choice([0, 255])]) * length + data[at + length :]


def _mutated(chance: Random) -> bytes:
    _, data = _written(chance)
    _, other = _written(chance)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        data = changed(data, chance, other)
    return data


def _cut(chance: Random) -> bytes:
    _, data = _written(chance)
    data = data[: int(len(data) * chance.random())]
    return data + chance.choice([b"", b"\0" * 999, b"\xff\xd9", b"\0\0\0\0IEND\xaeB`\x82"])


# -- JPEG ----------------------------------------------------------------------------------------------------


def _segment(marker: int, body: bytes, length: int | None = None) -> bytes:
    return (
        bytes([0xFF, marker])
        + struct.pack(">H", (len(body) + 2 if length is None else length) & 0xFFFF)
        + body
    )


def _segments(data: bytes) -> list[bytes]:
    """Return a JPEG's segments in their order, each scan with its data."""
    parts, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xD9:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if data[at + 1] == 0xDA:
            while end < len(data) and not (
                data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))
            ):
                end += 1
        parts.append(data[at:end])
        at = end
    return parts


def _jpeg_of_parts(chance: Random) -> bytes:
    """Return a JPEG whose frames, scans, tables and metadata were mixed up."""
    image = _drawn(chance, 300)
    parts = _segments(_saved(image, "JPEG", progressive=chance.random() < 0.6, exif=_exif(chance)))
    for _ in range(chance.choice([1, 2, 4])):
        at = chance.randrange(len(parts))
        width, height = chance.choice(_SIDES), chance.choice(_SIDES)
        samplings = [
            chance.choice([0x11, 0x22, 0x41, 0x14, 0x44, 0x00, 0xFF, 0x31])
            for _ in range(chance.choice([1, 3, 4]))
        ]
        frame = struct.pack(
            ">BHHB", chance.choice([8, 8, 12, 0]), height, width, chance.choice([len(samplings), 0, 255])
        )
        frame += b"".join(bytes([n + 1, sampling, 0]) for n, sampling in enumerate(samplings))
        scan = bytes([chance.choice([1, 3, 0, 4, 255]), 1, 0, 2, 0, 3, 0])[: chance.randrange(1, 8)]
        scan += bytes(
            [
                chance.choice([0, 1, 63, 64]),
                chance.choice([0, 63, 255]),
                chance.choice([0, 1, 0x10, 0x21, 0xFF]),
            ]
        )
        match chance.randrange(9):
            case 0:
                parts.insert(at, _segment(chance.choice([0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA]), frame))
            case 1:
                parts[at] = parts[at] * chance.choice([2, 30, 400])
            case 2:
                parts.insert(at, _segment(0xDA, scan) + chance.randbytes(chance.choice([0, 3, 400])))
            case 3:
                parts.insert(at, _segment(0xDD, struct.pack(">H", chance.choice(_EXTREMES))))
            case 4:
                parts.insert(
                    at,
                    b"\xff" * chance.choice([1, 99, 200_000]) + chance.choice([b"", b"\0", b"\xd3", b"\x01"]),
                )
            case 5:
                parts.insert(
                    at, _segment(chance.choice([0xC4, 0xDB]), chance.randbytes(chance.randrange(300)))
                )
            case 6:
                parts.insert(
                    at,
                    _segment(
                        chance.randrange(0xE0, 0xF0),
                        b"Exif\0\0" + _exif(chance),
                        chance.choice([None, 0, 2, 0xFFFF]),
                    ),
                )
            case 7:
                parts.insert(at, _segment(0xFE, b"") * chance.choice([5, 30_000]))
            case 8:
                del parts[at]
                parts = parts or [b""]
    return b"\xff\xd8" + b"".join(parts) + chance.choice([b"\xff\xd9", b"", b"\xff\xd9" * 99, b"\xff\xda\0"])


def _scans(chance: Random) -> bytes:
    """Return a progressive JPEG with some scans many times over."""
    side = chance.choice([64, 800, 2400])
    parts = _segments(
        _saved(Image.fromarray(cv2.resize(_texture(16), (side, side))), "JPEG", progressive=True, quality=30)
    )
    at = chance.randrange(1, 4)
    parts[-at] = parts[-at] * chance.choice([2, 20, 99, 1500])
    return b"\xff\xd8" + b"".join(parts) + b"\xff\xd9"


def _arithmetic(chance: Random) -> bytes:
    """Return a JPEG of arithmetic codes, which decode to something whatever they are, and go on for ever."""
    side = chance.choice([64, 1000, 5000, 7070])
    frame, last = chance.choice([(0xC9, 63), (0xCA, 63), (0xCA, 0), (0xC3, 0), (0xCB, 0)])
    samplings = [0x22, 0x11, 0x11] if chance.random() < 0.5 else [0x11]
    data = one_of(
        chance,
        lambda: b"",
        lambda: chance.choice([b"\x7f", b"\xaa", b"\0", b"\xff\0"]) * 100,
        lambda: chance.randbytes(200_000).replace(b"\xff", b"\xfe"),
    )
    file = b"\xff\xd8" + _segment(0xDB, b"\0" + b"\1" * 64)
    file += _segment(
        frame,
        struct.pack(">BHHB", chance.choice([8, 8, 8, 12, 16]), side, side, len(samplings))
        + b"".join(bytes([n, sampling, 0]) for n, sampling in enumerate(samplings, 1)),
    )
    names = b"".join(bytes([n, 0]) for n in range(1, len(samplings) + 1))
    file += _segment(0xDA, bytes([len(samplings)]) + names + bytes([0, last, 0])) + data
    for n in range(chance.choice([0, 1, 9, 40]) if frame == 0xCA else 0):
        spectrum = bytes([1, 63, chance.choice([0, 0, 0x21, 0x10])])
        file += _segment(0xDA, bytes([1, 1 + n % len(samplings), 0]) + spectrum) + data
    return file + b"\xff\xd9"


# -- PNG, GIF, WebP, BMP -------------------------------------------------------------------------------------


def _chunk(name: bytes, data: bytes, length: int | None = None) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data) if length is None else length) + name + data + check


@cache
def _bomb(megabytes: int) -> bytes:
    """Return so many zeros, packed a thousandfold."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()


def _png(chance: Random) -> bytes:
    """Return a PNG of chunks with right sums and wrong contents."""
    width, height = chance.choice([(chance.choice(_SIDES), chance.choice(_SIDES)), (640, 480), (2000, 1500)])
    header = struct.pack(
        ">IIBBBBB",
        width,
        height,
        chance.choice([1, 2, 4, 8, 8, 16, 0, 255]),
        chance.choice([0, 2, 3, 4, 6, 7]),
        chance.choice([0, 0, 1]),
        chance.choice([0, 0, 1]),
        chance.choice([0, 1, 1, 2]),
    )
    rows = one_of(
        chance,
        lambda: zlib.compress(bytes(99)),
        lambda: _bomb(4),
        lambda: _bomb(60),
        lambda: chance.randbytes(999),
    )
    between = [
        _chunk(b"PLTE", chance.randbytes(chance.choice([3, 768, 5, 9999]))),
        _chunk(b"tRNS", chance.randbytes(chance.choice([1, 6, 300]))),
        _chunk(b"iCCP", b"a\0\0" + _bomb(60)),
        _chunk(b"iTXt", b"a\0\1\0\0\0" + _bomb(60)),
        _chunk(b"zTXt", b"a\0\0" + _bomb(60)) * 9,
        _chunk(b"eXIf", _exif(chance) * chance.choice([1, 9999])),
        _chunk(b"acTL", struct.pack(">II", 0xFFFFFFFF, 0)) + _chunk(b"fcTL", bytes(26)),
        _chunk(b"tEXt", b"a\0b") * chance.choice([9, 60_000]),
        _chunk(b"IDAT", b"") * chance.choice([1, 40_000]),
        _chunk(b"IHDR", header),
        _chunk(b"gAMA", b"", chance.choice([4, 0x7FFFFFFF, 0xFFFFFFFF])),
    ]
    middle = b"".join(chance.sample(between, chance.randrange(4)))
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + middle + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    )


def _gif(chance: Random) -> bytes:
    """Return a GIF whose screen, frames and blocks disagree."""

    def side() -> int:
        return chance.choice(_SIDES)

    head = (
        b"GIF89a" + struct.pack("<HHBBB", side(), side(), chance.choice([0x80, 0xF7, 0]), 0, 0) + bytes(768)
    )
    blocks = chance.choice(
        [b"", b"\x21\xfe" + b"\x01a" * chance.choice([9, 60_000]) + b"\0", b"\x21\xf9\4\1\0\0\0\0"]
    )
    frame = b"\x2c" + struct.pack(
        "<HHHHB", chance.choice([0, side()]), 0, side(), side(), chance.choice([0, 0x40, 0x87])
    )
    body = bytes([chance.choice([2, 8, 12, 255])]) + (b"\xfe" + bytes(254)) * chance.choice([1, 2000]) + b"\0"
    return head + blocks + (frame + body) * chance.choice([1, 1, 50]) + b"\x3b"


def _webp(chance: Random) -> bytes:
    """Return a WebP whose canvas, frames and lengths disagree."""
    image = _saved(_drawn(chance, 200), "WEBP", lossless=chance.random() < 0.5, method=0)[12:]

    def side() -> bytes:
        return chance.choice(_SIDES).to_bytes(3, "little")

    canvas = (
        b"VP8X" + struct.pack("<I", 10) + bytes([chance.choice([0, 2, 16, 0x3E]), 0, 0, 0]) + side() + side()
    )
    frame = side() + side() + side() + side() + b"\1\0\0\0" + image
    animated = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    animated += (b"ANMF" + struct.pack("<I", len(frame)) + frame) * chance.choice([1, 300])
    body = canvas + chance.choice([image, animated, b"ALPH" + struct.pack("<I", 9) + bytes(10) + image])
    body += chance.choice([b"", b"EXIF" + struct.pack("<I", 1 << 31), b"ICCP" + struct.pack("<I", 2) + b"aa"])
    return b"RIFF" + struct.pack("<I", chance.choice([len(body) + 4, 4, 0xFFFFFFFF])) + b"WEBP" + body


def _bmp(chance: Random) -> bytes:
    """Return a BMP whose header declares what it likes."""
    width, height = chance.choice(_SIDES), chance.choice([*_SIDES, -100, -(1 << 31)])
    head = struct.pack(
        "<IiiHHIIiiII",
        chance.choice([40, 12, 108, 124, 0, 0xFFFFFFFF]),
        width,
        height,
        1,
        chance.choice([1, 4, 8, 16, 24, 32, 0, 64]),
        chance.choice([0, 1, 2, 3, 4, 6]),
        0,
        0,
        0,
        chance.choice([0, 2, 256, 65_536, 0xFFFFFFFF]),
        0,
    )
    place = chance.choice([54, 1078, 0, 0xFFFFFFFF])
    return (
        b"BM"
        + struct.pack("<IHHI", 0, 0, 0, place)
        + head
        + chance.choice([b"\0\1", b"\xff\x09", b"abc"]) * chance.choice([9, 300_000])
    )


# -- TIFF ----------------------------------------------------------------------------------------------------


def _tiff(chance: Random) -> bytes:
    """Return a TIFF whose directory holds wrong types, counts, places and values."""
    order, data = (
        chance.choice("<>"),
        chance.choice([bytes(30_000), _bomb(4), _bomb(60), _saved(_drawn(chance, 99), "JPEG")]),
    )
    side = chance.choice([100, 100, 1000, *_SIDES])
    strips = chance.choice([1, 1, 10, 40_000])
    wanted: dict[int, Sequence[int]] = {
        256: [side],
        257: [chance.choice([side, 100])],
        258: [chance.choice([8, 8, 16, 1, 32])] * chance.choice([1, 3, 4]),
        259: [chance.choice([1, 5, 7, 8, 8, 6, 32_773, 34_925, 50_000, 0, 34_676])],
        262: [chance.choice([0, 1, 2, 3, 5, 6])],
        273: [8] * strips,
        277: [chance.choice([1, 3, 4, 300])],
        278: [chance.choice([1, side, 0xFFFFFFFF])],
        279: [chance.choice([len(data), 99, 0, 0xFFFFFFFF])] * strips,
    }
    if chance.random() < 0.4:
        tile = chance.choice([16, 256, 5000, 20_000, 0, 0xFFFFFFF0])
        wanted |= {322: [tile], 323: [tile], 324: [8] * strips, 325: [len(data)] * strips}
    for tag in chance.sample(
        [266, 274, 282, 284, 292, 317, 320, 330, 338, 339, 347, 530, 34_665, 700, 33_432], 3
    ):
        wanted[tag] = [chance.choice(_EXTREMES)] * chance.choice([1, 1, 3, 768, 300_000])
    entries, body = b"", data + bytes(len(data) % 2)
    for tag, values in sorted(wanted.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        kind, count = (
            chance.choice([4, 4, 4, 4, 3, 5, 7, 0]),
            chance.choice([len(values)] * 9 + [0, 0xFFFFFFFF]),
        )
        kept = packed
        if len(packed) > 4:
            kept, body = struct.pack(f"{order}I", 8 + len(body)), body + packed
        entries += struct.pack(f"{order}HHI", tag, kind, count) + kept
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body))
    return (
        head
        + body
        + struct.pack(f"{order}H", chance.choice([len(wanted), len(wanted), 0xFFFF]))
        + entries
        + bytes(4)
    )


# -- HEIC and AVIF -------------------------------------------------------------------------------------------


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + name + body


def _full(name: bytes, version: int, *parts: bytes) -> bytes:
    return _box(name, struct.pack(">I", version << 24), *parts)


def _inside(data: bytes, *path: bytes) -> list[bytes]:
    """Return the whole boxes of one name, at the end of ``path``, in ``data``."""
    found, at = [], 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name == path[0]:
            found.append(data[at : at + size])
        at += max(size, 8)
    if len(path) == 1:
        return found
    skipped = 12 if path[0] == b"meta" else 8
    return [box for one in found for box in _inside(one[skipped:], *path[1:])]


@dataclass(frozen=True)
class Item:
    """One item of a HEIF file."""

    kind: bytes
    content: bytes
    properties: Sequence[bytes] = ()
    """Boxes."""
    made_of: Sequence[int] = ()
    belongs_to: int = 0


def heif(brand: bytes, items: Mapping[int, Item], primary: int = 1) -> bytes:
    """Return a HEIF file of ``items`` (ISO 23008-12); those of one content share its bytes."""
    contents = dict.fromkeys(item.content for item in items.values())
    boxes = dict.fromkeys(box for item in items.values() for box in item.properties)
    numbered = {box: bytes([0x80 | n]) for n, box in enumerate(boxes, 1)}
    linked = b"".join(
        struct.pack(">HB", n, len(item.properties)) + b"".join(numbered[box] for box in item.properties)
        for n, item in items.items()
    )
    names = b"".join(
        _full(b"infe", 2, struct.pack(">HH", n, 0), item.kind, b"\0") for n, item in items.items()
    )
    refers = b""
    for n, item in items.items():
        if item.made_of:
            targets = b"".join(struct.pack(">H", target) for target in item.made_of)
            refers += _box(b"dimg", struct.pack(">HH", n, len(item.made_of)), targets)
        if item.belongs_to:
            refers += _box(b"auxl", struct.pack(">HHH", n, 1, item.belongs_to))

    def meta(begin: int) -> bytes:
        places, at = {}, begin
        for content in contents:
            places[content], at = at, at + len(content)
        table = b"".join(
            struct.pack(">HHHHII", n, 0, 0, 1, places[item.content], len(item.content))
            for n, item in items.items()
        )
        # Sizes of 4 bytes, no index; then construction method, data reference, base of 0 bytes, one extent.
        return _full(
            b"meta",
            0,
            _full(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            _full(b"pitm", 0, struct.pack(">H", primary)),
            _full(b"iloc", 1, b"\x44\0", struct.pack(">H", len(items)), table),
            _full(b"iinf", 0, struct.pack(">H", len(items)), names),
            _full(b"iref", 0, refers),
            _box(b"iprp", _box(b"ipco", *boxes), _full(b"ipma", 0, struct.pack(">I", len(items)), linked)),
        )

    head = _box(b"ftyp", brand, bytes(4), b"mif1", brand, b"miaf")
    return head + meta(len(head) + len(meta(0)) + 8) + _box(b"mdat", *contents)


def size_box(width: int, height: int) -> bytes:
    """Return what a HEIF file declares of an item's size."""
    return _full(b"ispe", 0, struct.pack(">II", width, height))


def coded(data: bytes, setup: bytes) -> tuple[bytes, bytes]:
    """Return the box ``setup`` (``hvcC``, ``av1C``) and the coded picture of a file with one item."""
    return _inside(data, b"meta", b"iprp", b"ipco", setup)[0], _inside(data, b"mdat")[0][8:]


def _heif(chance: Random) -> bytes:
    """Return a HEIC or AVIF of many items that refer to one picture: grids, overlays, lying sizes."""
    if chance.random() < 0.5:
        brand, kind, shown = b"heic", b"hvc1", (120, 80)
        setup, content = coded((DATA / "red_corner.heic").read_bytes(), b"hvcC")
    else:
        brand, kind, shown = b"avif", b"av01", chance.choice([(120, 80), (3000, 2000)])
        setup, content = coded(_saved(Image.new("RGB", shown, (90, 90, 90)), "AVIF", speed=10), b"av1C")
    count = chance.choice([1, 2, 16, 255, 3000])
    canvas = chance.choice([shown, (shown[0] * 2, shown[1] * 2), (5000, 5000), (16_384, 16_384), (65_535, 1)])
    derived = chance.choice([b"grid", b"grid", b"iovl", b"iden", b"tmap", kind])
    rows = chance.choice([row for row in (1, 2, 16, 256) if row <= count])
    layout = bytes([0, 1, rows - 1, min(count // rows, 256) - 1]) + struct.pack(">II", *canvas)
    if derived == b"iovl":
        layout = bytes([0, 1]) + bytes(8) + struct.pack(">II", *canvas) + bytes(8) * count
    tiles = [2] * count if chance.random() < 0.5 else list(range(2, 2 + count))
    lie = chance.choice([shown, shown, (64, 64), (30_000, 30_000), (0, 0)])
    tile = Item(kind, content, [size_box(*lie), setup], belongs_to=chance.choice([0, 0, 1]))
    items = {1: Item(derived, layout, [size_box(*canvas)], tiles), **dict.fromkeys(tiles, tile)}
    return heif(brand, items, chance.choice([1, 1, 1, 2, 99]))


@cache
def _large_avif(side: int) -> bytes:
    return _saved(Image.new("RGB", (side, side), (90, 90, 90)), "AVIF", speed=10)


def _lying_avif(chance: Random) -> bytes:
    """Return an AVIF that says it is smaller or larger than its sequence header does."""
    data = _large_avif(chance.choice([600, 4000, 9000]))
    at = data.index(b"ispe") + 8
    return (
        data[:at] + struct.pack(">II", *chance.choice([(640, 480), (64, 64), (4999, 4999)])) + data[at + 8 :]
    )


# -- large and busy ------------------------------------------------------------------------------------------


@cache
def _blank(kind: str, width: int, height: int) -> bytes:
    options: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True, "method": 0},
        "TIFF": {"compression": "tiff_lzw"},
        "AVIF": {"speed": 10},
    }
    return _saved(Image.new("P" if kind == "GIF" else "RGB", (width, height)), kind, **options.get(kind, {}))


_LIMITS = {"JPEG": 50, "PNG": 50, "WEBP": 16, "AVIF": 16, "TIFF": 25, "GIF": 50}
"""Megapixels."""


def _large(chance: Random) -> bytes:
    """Return a blank picture about as large as its format may be."""
    kind = chance.choice(list(_LIMITS))
    long = chance.choice([1, 1, 4, 55])
    height = int((_LIMITS[kind] * 10**6 * chance.choice([0.99, 0.99, 1.01]) / long) ** 0.5)
    if height * long > 16_383 and kind in ("WEBP", "AVIF"):
        long, height = 1, 3500
    data = _blank(kind, height * long, height)
    if kind == "JPEG" and chance.random() < 0.5:
        return (
            data[:2]
            + _segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0")
            + data[2:]
        )
    return data


def _turn(chance: Random) -> Image.Exif:
    """Return EXIF data that says which way up a picture is."""
    exif = Image.Exif()
    exif[0x0112] = chance.randrange(1, 9)
    return exif


def _plain_png(chance: Random) -> bytes:
    """Return a PNG of one color, of any depth and sort, interlaced or not, up to the limit and beyond."""
    color, depth = chance.choice([(2, 8), (2, 16), (6, 8), (6, 16), (4, 16), (0, 16), (0, 1), (3, 8), (3, 2)])
    side, interlaced = chance.choice([2600, 6300, 6330, 7060, 7080]), chance.choice([0, 0, 1])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    rows = [
        (1 + math.ceil(math.ceil((side - x) / across) * bits / 8), math.ceil((side - y) / down))
        for x, y, across, down in (passes if interlaced else [(0, 0, 1, 1)])
    ]
    packer = zlib.compressobj(1)
    # Each byte is one more than the one before it, which a filter says once for all.
    row = chance.choice([b"\0\0", b"\1\0", b"\1\1", b"\2\0", b"\3\0", b"\4\1"])
    parts = [
        packer.compress(row[:1] + row[1:] * (length - 1)) for length, count in rows for _ in range(count)
    ]
    if chance.random() < 0.2:
        parts = parts[: len(parts) * 9 // 10]
    header = struct.pack(">IIBBBBB", side, side, depth, color, 0, 0, interlaced)
    tables = _chunk(b"PLTE", bytes(range(256)) * 3) if color == 3 else b""
    if chance.random() < 0.3 and color < 4:
        tables += _chunk(b"tRNS", bytes(6))
    data = b"".join(parts) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + tables
        + b"".join(_chunk(b"IDAT", data[at : at + 8192]) for at in range(0, len(data), 8192))
        + _chunk(b"IEND", b"")
    )


def _sort(chance: Random) -> bytes:
    """Return a large blank picture of a rare sort: transparent, in four inks, of floats, a film."""
    sorts: list[tuple[str, str, dict[str, Any]]] = [
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "RGB", {"subsampling": 0}),
        ("JPEG", "RGB", {"subsampling": 0, "progressive": True}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("JPEG", "L", {"restart_marker_rows": 1}),
        ("MPO", "RGB", {"save_all": True}),
        ("TIFF", "RGBA", {"compression": "tiff_lzw"}),
        ("TIFF", "CMYK", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", "F", {"compression": "zstd"}),
        ("TIFF", "I;16", {"compression": "packbits"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("WEBP", "RGBA", {"lossless": True, "method": 0}),
        ("WEBP", "RGBA", {"method": 0}),
        ("AVIF", "RGBA", {"speed": 10}),
        ("AVIF", "RGB", {"speed": 10, "subsampling": "4:4:4"}),
        ("GIF", "P", {"transparency": 0}),
        ("BMP", "1", {}),
    ]
    kind, mode, options = chance.choice(sorts)
    limit = _LIMITS.get(kind, 50) * chance.choice([0.49, 0.98])
    side = int((limit * 10**6) ** 0.5)
    ink = {"RGBA": (9, 9, 9, chance.choice([0, 128])), "RGB": (9, 9, 9), "CMYK": (9, 9, 9, 9)}
    options = dict(options)
    if kind in ("JPEG", "TIFF", "WEBP", "AVIF"):
        options["exif"] = _turn(chance)
    if kind in ("WEBP", "GIF") and chance.random() < 0.3:
        options |= {"save_all": True, "append_images": [Image.new(mode, (side, side))]}
    return _saved(Image.new(mode, (side, side), ink.get(mode, 0)), kind, **options)


def _busy(chance: Random) -> bytes:
    """Return a picture with more to look at than any photo: noise, stripes, text, plates or codes."""
    pixels = _crowd(chance, chance.choice([600, 1600, 3000]))
    return _saved(Image.fromarray(pixels), chance.choice(["PNG", "JPEG"]))


def _busy_and_large(chance: Random) -> bytes:
    """Return the same, so often side by side and one below the other that it is as large as may be."""
    pixels = _crowd(chance, chance.choice([600, 1600]))
    kind, limit = chance.choice(list(_LIMITS.items()))
    times = max(1, int((limit * 10**6) ** 0.5 * chance.choice([0.5, 0.98]) / pixels.shape[0]))
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 20, "progressive": chance.random() < 0.3, "exif": _turn(chance)},
        "PNG": {"compress_level": 1, "exif": _turn(chance)},
        "WEBP": {"method": 0, "quality": 20},
        "TIFF": {"compression": "tiff_lzw"},
        "AVIF": {"speed": 10, "quality": 20},
    }
    shown = Image.fromarray(np.tile(pixels, (times, times, 1)))
    return _saved(shown.convert("P") if kind == "GIF" else shown, kind, **options.get(kind, {}))


def _crowd(chance: Random, side: int) -> Pixels:
    """Return ``side`` x ``side`` pixels with more to look at than any photo."""
    match chance.choice(["noise", "stripes", "checks", "text", "codes", "plates", "digits"]):
        case "noise":
            pixels = cv2.resize(
                _texture(chance.choice([64, 500])), (side, side), interpolation=cv2.INTER_NEAREST
            )
        case "stripes":
            width = chance.choice([1, 2, 3, 5, 9, 30])
            pixels = np.repeat(
                (np.arange(side) // width % 2 * 255).astype(np.uint8)[None, :, None], 3, axis=2
            ).repeat(side, axis=0)
        case "checks":
            width = chance.choice([1, 2, 4, 9, 30])
            one = np.arange(side) // width
            pixels = np.repeat(((one[:, None] + one[None]) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
        case "text" | "digits" as sort:
            pixels = np.full((side, side, 3), 255, np.uint8)
            size = chance.choice([0.3, 0.6, 1.2, 3])
            letters = "0123456789" if sort == "digits" else "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"
            for y in range(10, side, max(int(34 * size), 11)):
                line = "".join(chance.choice(letters) for _ in range(17)) + " "
                cv2.putText(
                    pixels, line * int(side / (300 * size) + 1), (0, y), 0, size, (0, 0, 0), 1 + int(size)
                )
        case "codes":
            sheet = Image.new("RGB", (side, side), "white")
            for _ in range(chance.choice([5, 40])):
                text = "".join(chance.choice("0123456789ABCDEFGHJKLM") for _ in range(17))
                code = zxingcpp.create_barcode(
                    text,
                    chance.choice(
                        [
                            zxingcpp.BarcodeFormat.Code39,
                            zxingcpp.BarcodeFormat.QRCode,
                            zxingcpp.BarcodeFormat.DataMatrix,
                            zxingcpp.BarcodeFormat.PDF417,
                        ]
                    ),
                )
                drawn = Image.fromarray(np.asarray(code.to_image(scale=chance.choice([1, 2, 4]))))
                sheet.paste(drawn, (chance.randrange(side), chance.randrange(side)))
            pixels = np.asarray(sheet)
        case _:
            sheet = Image.new("RGB", (side, side), (90, 90, 90))
            with Image.open(DATA / "plate_us.jpg") as photo:
                small = photo.resize((side // 10, side // 14))
            for y in range(0, side, side // 14):
                for x in range(0, side, side // 10):
                    sheet.paste(small, (x, y))
            draw = ImageDraw.Draw(sheet)
            for n in range(0, side, 60):
                draw.rectangle((n, n, n + 50, n + 16), "white", "black")
                draw.text((n + 3, n + 2), "AB12CDE", "black")
            pixels = np.asarray(sheet)
    return np.asarray(pixels, np.uint8)


# -- none at all ---------------------------------------------------------------------------------------------


def _other(chance: Random) -> bytes:
    """Return what is no picture of a kind that is read."""
    image = _drawn(chance, 200)
    return one_of(
        chance,
        lambda: _saved(image.resize((64, 64)), "ICO"),
        lambda: _saved(image, "PPM"),
        lambda: _saved(image, "TGA"),
        lambda: _saved(image, "PDF"),
        lambda: b"\xff\x0a" + chance.randbytes(99),
        lambda: b"8BPS" + bytes(999),
        lambda: b"PK\x03\x04" + bytes(99),
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        lambda: b"\x1f\x8b" + _bomb(60),
        lambda: b"",
        lambda: chance.randbytes(chance.choice([1, 2, 3, 11, 12, 5000])),
        lambda: chance.choice(
            [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"II*\0", b"GIF89a", b"BM"]
        ),
        lambda: (
            b"\0\0\0\x18ftyp" + chance.choice([b"heic", b"avif", b"mif1", b"qt  "]) + chance.randbytes(40)
        ),
    )


def _sample(chance: Random) -> bytes:
    """Return a photo that is what it says: there are answers to be counted, too."""
    return (DATA / chance.choice(SAMPLES)).read_bytes()


KINDS: dict[str, tuple[int, Callable[[Random], bytes]]] = {
    "photo as it should be": (3, _sample),
    "picture of any format": (4, lambda chance: _written(chance)[1]),
    "changed picture": (14, _mutated),
    "picture cut short": (5, _cut),
    "JPEG of mixed segments": (12, _jpeg_of_parts),
    "JPEG of many scans": (3, _scans),
    "JPEG of arithmetic codes": (3, _arithmetic),
    "PNG of odd chunks": (7, _png),
    "GIF of odd blocks": (4, _gif),
    "WebP of odd chunks": (4, _webp),
    "BMP of odd headers": (3, _bmp),
    "TIFF of odd directories": (8, _tiff),
    "HEIC or AVIF of odd items": (6, _heif),
    "AVIF that lies about its size": (2, _lying_avif),
    "large and blank": (2, _large),
    "PNG of one color": (1, _plain_png),
    "large, of a rare sort": (1, _sort),
    "busy": (3, _busy),
    "busy and large": (1, _busy_and_large),
    "no picture": (4, _other),
}
"""How often each kind comes, and what makes one."""
