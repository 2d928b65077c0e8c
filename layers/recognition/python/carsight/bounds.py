"""Limits on what a picture file may make its decoder do, checked before anything is decoded.

Decoders process every piece of a file, including those that the picture does not need. So a file is reduced
to its first picture, and refused if decoding would take disproportionate work or memory.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from carsight import heif, tiff
from carsight.formats import (
    AVIF,
    BMP,
    GIF,
    HEIC,
    PNG,
    TIFF,
    WEBP,
    Format,
    ImageError,
    TooManyPixels,
    check_size,
)

_MAX_PIECES = 50_000
"""The most chunks, blocks, strips or values of a file: libraries go through them one by one, in Python."""
_MAX_RUN_LENGTH_BYTES = 1_000_000
"""The largest run-length encoded BMP: Pillow decodes these in Python."""


def damaged(kind: Format) -> str:
    """Return the message for a picture of ``kind`` that its decoder cannot read to its end."""
    return (
        f"This {kind.name} picture cannot be decoded to its last row: it is damaged, cut short or of a rare "
        "kind; send the original, or a JPEG made from it"
    )


def essential(kind: Format, data: bytes) -> bytes:
    """Return ``data`` reduced to its first picture, as far as the decoder of ``kind`` would process more.

    Raises:
        ImageError: a limit is exceeded, or the description of the first picture is broken.
    """
    try:
        if kind is WEBP:
            check_size(*_webp_size(data), kind.max_pixels, "The WebP picture")
        elif kind is PNG:
            return _png(data)
        elif kind is GIF:
            _count(_gif_blocks(data), kind)
        elif kind is TIFF:
            return _tiff(data)
        elif kind in (HEIC, AVIF):
            return _heif(kind, data)
        elif kind is BMP:
            _check_bmp(data)
    except (struct.error, LookupError, ArithmeticError, heif.Malformed) as error:
        raise ImageError(damaged(kind)) from error
    return data


def _count(pieces: Iterable[object], kind: Format) -> None:
    for n, _ in enumerate(pieces):
        if n > _MAX_PIECES:
            raise ImageError(_too_many_pieces(kind))


def _too_many_pieces(kind: Format) -> str:
    return f"This {kind.name} picture is cut into too many pieces; save it again"


# -- WebP, PNG, GIF, BMP -------------------------------------------------------------------------------------

_FILM, _ALPHA = 0x02, 0x10
"""Flags of an extended WebP file."""


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height of the canvas, or of the only frame of a simple file (RFC 9649)."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _riff_chunks(data: bytes, at: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, beginning and end of the content of each chunk of a RIFF file from ``at`` on."""
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        yield name, at + 8, at + 8 + length
        at += 8 + length + length % 2


@dataclass(frozen=True, slots=True)
class WebP:
    """The first picture of a WebP file, as a file of its own, and its position on the canvas."""

    canvas: tuple[int, int]
    """Width and height in pixels."""
    place: tuple[int, int]
    """The picture's left and top edge, in pixels of the canvas."""
    picture: bytes
    exif: bytes


def webp(data: bytes) -> WebP:
    """Parse a WebP file that ``essential`` has accepted (RFC 9649).

    Raises:
        ImageError: it is an animation without a picture, or with one outside its canvas.
        LookupError, struct.error: a chunk is cut short.
    """
    canvas, place, picture, exif = _webp_size(data), (0, 0), data, b""
    is_film = data[12:16] == b"VP8X" and data[20] & _FILM
    for n, (name, begin, end) in enumerate(_riff_chunks(data, 12)):
        if n > _MAX_PIECES:
            raise ImageError(_too_many_pieces(WEBP))
        if name == b"EXIF":
            exif = data[begin:end]
        elif is_film and name == b"ANMF" and picture is data:
            left, top, width, height = (
                int.from_bytes(data[at : at + 3], "little") for at in range(begin, begin + 12, 3)
            )
            place = 2 * left, 2 * top
            if place[0] + width >= canvas[0] or place[1] + height >= canvas[1]:
                raise ImageError(damaged(WEBP))
            side = data[begin + 6 : begin + 12]
            header = b"VP8X" + struct.pack("<IB3x", 10, _ALPHA) + side
            body = b"WEBP" + header + data[begin + 16 : end]
            picture = b"RIFF" + struct.pack("<I", len(body)) + body
    if is_film and picture is data:
        raise ImageError(damaged(WEBP))
    return WebP(canvas, place, picture, exif)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, beginning and end of the content of each chunk of a PNG, up to the last."""
    at = 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name = data[at + 4 : at + 8]
        yield name, at + 8, at + 8 + length
        if name == b"IEND":
            return
        at += 12 + length


def _png(data: bytes) -> bytes:
    """Return a PNG without the chunks that decoding does not need, as Pillow fails at any that is broken.

    Of several headers only the first is kept; Pillow would use the last.
    """
    _count(png_chunks(data), PNG)
    parts: list[bytes] = []
    for name, begin, end in png_chunks(data):
        if name in (b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND") or (name == b"IHDR" and not parts):
            parts.append(data[begin - 8 : end + 4])
    if not parts or parts[0][4:8] != b"IHDR" or len(parts[0]) != 25:
        raise ImageError(damaged(PNG))
    return data[:8] + b"".join(parts)


def _gif_blocks(data: bytes) -> Iterator[int]:
    """Yield the offsets of the blocks before the first picture's data, which Pillow reads in Python."""
    at = 13 + (3 * 2 << (data[10] & 7) if data[10] & 0x80 else 0)
    while at < len(data) and data[at] == 0x21:  # an extension: a label and blocks
        at += 2
        while size := data[at]:
            yield at
            at += size + 1
        at += 1
        yield at


_BITMAP_INFO_BYTES = 40
"""The length of the first header that has a field for the compression; the one before is shorter."""

_RUN_LENGTHS = (1, 2)
"""Compressions of BMP: run lengths of pixels of eight and of four bits."""


def _check_bmp(data: bytes) -> None:
    """Raise ``ImageError`` for a large BMP that is run-length encoded."""
    (header_bytes,), (compression,) = struct.unpack_from("<I", data, 14), struct.unpack_from("<I", data, 30)
    is_encoded = header_bytes >= _BITMAP_INFO_BYTES and compression in _RUN_LENGTHS
    if is_encoded and len(data) > _MAX_RUN_LENGTH_BYTES:
        raise ImageError("This BMP picture is run-length encoded and large; send it as PNG or JPEG")


# -- TIFF ----------------------------------------------------------------------------------------------------

_TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_BYTES = 322, 323, 324, 325
_TABLES = 347
_PLANAR, _SEPARATE = 284, 2
"""The tag that says whether each color is a plane of its own, and its value if so."""
_TAGS = frozenset(
    {
        *(tiff.WIDTH, tiff.LENGTH, tiff.BITS, tiff.COMPRESSION, tiff.SAMPLES, tiff.STRIPS, tiff.STRIP_BYTES),
        *(_TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_BYTES, _TABLES),
        tiff.PHOTOMETRIC,
        266,  # fill order
        278,  # rows per strip
        _PLANAR,
        292,  # options of group 3
        293,  # options of group 4
        317,  # predictor
        320,  # color map
        332,  # ink set
        338,  # extra samples
        339,  # sample format
        *(529, 530, 531, 532),  # YCbCr coefficients, subsampling, positioning; reference black and white
    }
)
"""The tags of a directory that decoding needs (TIFF 6.0). Pillow and libtiff read all other tags as well, and
Pillow the data that they refer to. The orientation is left out because Pillow would apply it with a second
copy of the picture."""

_JPEG = 7
_COMPRESSIONS = {1, 2, 3, 4, 5, _JPEG, 8, 32773, 32946, 50000}
"""None, CCITT, LZW, JPEG, deflate, PackBits and Zstandard; not the JPEG compression of TIFF 6.0 itself, which
was withdrawn."""

_SUBFILE = 254
"""A tag whose lowest bit marks a reduced version of another picture in the same file."""
_MAX_PREVIEWS = 8

_MAX_TILE_PIXELS = 5_000_000
_MAX_SAMPLE_BYTES = 100_000_000
"""The most bytes of uncompressed pixels: 25 megapixels of RGBA or of floats."""
_OTHER_FRAMES = re.compile(rb"\xff[\xc2\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]")
"""Frame markers of JPEGs that are not sequential, of which libtiff would decode up to a hundred scans."""
_MAX_SCANS = 4


def _tiff(data: bytes) -> bytes:
    """Return a TIFF with a single directory, appended to its data, of the tags that decoding needs."""
    file = tiff.Tiff(data)
    kept = _tiff_directory(file)
    _check_tiff({tag: file.integers(entry) for tag, entry in kept.items() if tag != _TABLES}, data)
    padding = b"\0" * (len(data) % 2)
    entries = b"".join(data[entry : entry + 12] for _, entry in sorted(kept.items()))
    directory = struct.pack(f"{file.order}H", len(kept)) + entries + bytes(4)
    return data[:4] + struct.pack(f"{file.order}I", len(data) + len(padding)) + data[8:] + padding + directory


def _tiff_directory(file: tiff.Tiff) -> dict[int, int]:
    """Return the entries of the first directory that is not a preview's, or else of the first directory.

    They are given as offsets by tag, as by ``_tiff_entries``.
    """
    at = file.first
    first, is_preview = _tiff_entries(file, at)
    for _ in range(_MAX_PREVIEWS if is_preview else 0):
        at = file.following(at)
        if not at:
            break
        try:
            kept, is_preview = _tiff_entries(file, at)
        except struct.error:
            break
        if not is_preview and tiff.WIDTH in kept:
            return kept
    return first


def _tiff_entries(file: tiff.Tiff, at: int) -> tuple[dict[int, int], bool]:
    """Return the offsets of the entries that decoding needs, by tag, and whether this is a preview."""
    kept: dict[int, int] = {}
    is_preview = False
    for tag, count, entry in file.entries(at):
        if tag == _SUBFILE and count == 1 and not is_preview:
            is_preview = any(value & 1 for value in file.integers(entry))
        elif tag in _TAGS and tag not in kept:
            kept[tag] = entry
            if count > _MAX_PIECES and tag != _TABLES:
                raise ImageError(_too_many_pieces(TIFF))
    return kept, is_preview


def _check_tiff(values: dict[int, tuple[int, ...]], data: bytes) -> None:
    """Raise ``ImageError`` if a directory demands more work or memory than its picture needs."""
    width, height = values[tiff.WIDTH][0], values[tiff.LENGTH][0]
    check_size(width, height, TIFF.max_pixels, "The TIFF picture")
    (compression, *_) = values.get(tiff.COMPRESSION) or (1,)
    if compression not in _COMPRESSIONS:
        raise ImageError(
            f"The TIFF picture is compressed in a way that is not read (number {compression}); save it with "
            "LZW, deflate or no compression"
        )
    samples, bits = values.get(tiff.SAMPLES) or (1,), values.get(tiff.BITS) or (1,)
    if values.get(_PLANAR) == (_SEPARATE,) and samples[0] > 1 and max(bits) > 8 and compression == 1:
        # Pillow takes these planes for lines of eight bits, and shows another picture.
        raise ImageError(
            "The TIFF picture keeps its colors apart, with more than 8 bits and uncompressed, which is not "
            "read; save it with LZW or deflate"
        )
    stored = width * height * samples[0] * max(bits) // 8
    if stored > _MAX_SAMPLE_BYTES:
        raise TooManyPixels(
            f"The TIFF picture takes {stored / 1e6:,.0f} MB as it is stored, more than the limit of "
            f"{_MAX_SAMPLE_BYTES / 1e6:g}; send a smaller one, or 8 bits a channel"
        )
    if _TILES in values:
        across, down = values[_TILE_WIDTH][0], values[_TILE_LENGTH][0]
        tiles = -(-width // across) * -(-height // down)
        if across * down > _MAX_TILE_PIXELS or across * down * tiles > 2 * TIFF.max_pixels:
            raise ImageError("The tiles of this TIFF picture are too large for it; save it again")
    pieces = [
        *zip(values.get(tiff.STRIPS, ()), values.get(tiff.STRIP_BYTES, ()), strict=False),
        *zip(values.get(_TILES, ()), values.get(_TILE_BYTES, ()), strict=False),
    ]
    if sum(length for _, length in pieces) > 2 * len(data):
        raise ImageError(damaged(TIFF))
    if values.get(tiff.COMPRESSION) == (_JPEG,):
        for begin, length in pieces:
            piece = data[begin : begin + length]
            if _OTHER_FRAMES.search(piece) or piece.count(b"\xff\xda") > _MAX_SCANS:
                raise ImageError(damaged(TIFF))


# -- HEIC and AVIF -------------------------------------------------------------------------------------------

_MAX_PLANE_BYTES = 90_000_000
"""The most bytes of decoded brightness and color; converting them to BGR takes nine more per pixel."""

_MAX_CODED_SHARE = 1.4
"""How many pixels may be decoded for one picture, relative to its format's limit, including transparency and
the parts of tiles beyond its edges. With transparency a pixel takes nearly twice the memory."""


def _heif(kind: Format, data: bytes) -> bytes:
    """Return the file without its animation. Raises ``TooManyPixels`` if its pictures are too large."""
    pixels, plane_bytes = heif.workload(data)
    limit = _MAX_CODED_SHARE * kind.max_pixels
    if pixels > limit:
        raise TooManyPixels(
            f"The {kind.name} picture is coded as {pixels / 1e6:,.1f} megapixels, whatever it declares; the "
            f"limit is {limit / 1e6:g}; send a smaller one"
        )
    if plane_bytes > _MAX_PLANE_BYTES:
        raise TooManyPixels(
            f"The {kind.name} picture takes {plane_bytes / 1e6:,.0f} MB as it is coded, more than the limit "
            f"of {_MAX_PLANE_BYTES / 1e6:g}; send a smaller one, or 8 bits a channel"
        )
    return heif.without_sequence(data)
