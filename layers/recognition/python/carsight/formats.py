"""Which picture formats are accepted, and how large pictures may be.

This module imports no decoder, so that code which only needs the formats' names can import it cheaply.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MAX_PIXELS = 50_000_000
MIN_SIDE = 8
MAX_ASPECT = 60
"""The largest ratio of a picture's sides. Ratios of up to 20 occur in practice, in cropped lines of VINs."""


class ImageError(ValueError):
    """The bytes are not a photo that can be read: wrong type, cut short, too large or too small.

    The message names the problem and the remedy, without a full stop.
    """

    too_large = False
    """Whether the photo has more pixels than the limit."""


class TooManyPixels(ImageError):
    """The photo has more pixels than the limit, or would take more memory than its decoder may use."""

    too_large = True


class Format(NamedTuple):
    """One kind of picture file."""

    name: str
    suffixes: tuple[str, ...]
    """File name extensions, in lower case; ``mimetypes`` knows the first."""
    max_pixels: int = MAX_PIXELS
    """Less than ``MAX_PIXELS`` for formats that take more memory or time per pixel to decode."""


JPEG = Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"))
PNG = Format("PNG", (".png",))
WEBP = Format("WebP", (".webp",), 16_000_000)
HEIC = Format("HEIC", (".heic", ".heif", ".hif"), 25_000_000)
AVIF = Format("AVIF", (".avif",), 16_000_000)
TIFF = Format("TIFF", (".tif", ".tiff"), 25_000_000)
GIF = Format("GIF", (".gif",))
BMP = Format("BMP", (".bmp",))

FORMATS = (JPEG, PNG, WEBP, HEIC, AVIF, TIFF, GIF, BMP)
NAMES = f"{', '.join(kind.name for kind in FORMATS[:-1])} or {FORMATS[-1].name}"
LIMITS = f"{MAX_PIXELS // 10**6} megapixels ({{}})".format(
    ", ".join(f"{kind.name} {kind.max_pixels / 1e6:g}" for kind in FORMATS if kind.max_pixels < MAX_PIXELS)
)
SUFFIXES = frozenset(suffix for kind in FORMATS for suffix in kind.suffixes)
"""The extensions that a folder is searched for. A file that is named explicitly may have any other."""

_BRANDS = {
    AVIF: {b"avif", b"avis"},
    HEIC: {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"},
}
"""The major and compatible brands of each format (ISO 23000-22, AVIF 1.1). AVIF comes first, as its files may
also have the brand ``mif1``."""

_OTHERS = (
    (0, b"\xff\x0a", "JPEG XL picture"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL picture"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000 picture"),
    (0, b"II\xbc\x01", "JPEG XR picture"),
    (0, b"II+\0", "BigTIFF picture"),
    (0, b"MM\0+", "BigTIFF picture"),
    (0, b"8BPS", "Photoshop document"),
    (0, b"\0\0\1\0", "icon"),
    (0, b"%PDF", "PDF document"),
    (0, b"%!PS", "PostScript document"),
    (128, b"DICM", "DICOM file"),
    (0, b"PK\x03\x04", "ZIP archive"),
    (0, b"\x1f\x8b", "gzip archive"),
    (0, b"Rar!", "RAR archive"),
    (0, b"7z\xbc\xaf", "7-Zip archive"),
    (0, b"FUJIFILMCCD-RAW", "camera's raw file"),
    (0, b"IIRO", "camera's raw file"),
    (0, b"IIRS", "camera's raw file"),
    (0, b"IIU\0", "camera's raw file"),
    (4, b"ftypcrx ", "camera's raw file"),
    (0, b"\0\5\x16\7", "AppleDouble file, which a Mac lays beside the picture"),
    (0, b"\x1a\x45\xdf\xa3", "video"),
    (8, b"AVI ", "video"),
    (4, b"ftyp", "video"),
)
"""Files that people send instead of a supported picture: offset, signature and name."""


_SEARCHED = 4096
"""How many bytes are searched for a picture behind something else, such as HTTP headers or a warning."""


def sniff(data: bytes) -> Format:
    """Return the format of ``data`` by its first bytes, regardless of file name and declared type.

    Raises:
        ImageError: it is none of ``FORMATS``; the message says what it is instead, if that is known.
    """
    if data[:2] == b"\xff\xd8":  # libjpeg skips bytes before the next marker
        return JPEG
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return PNG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data[:4] in (b"II*\0", b"MM\0*"):
        return TIFF
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return GIF
    if data[:2] == b"BM":
        return BMP
    brands = _brands(data)
    for known, names in _BRANDS.items():
        if not names.isdisjoint(brands):
            return known
    raise ImageError(f"{_described(data)}; send a {NAMES} picture")


def _brands(data: bytes) -> list[bytes]:
    """Return the brands in the first box of an ISO base media file; empty if ``data`` is not such a file."""
    if data[4:8] != b"ftyp":
        return []
    (length,) = struct.unpack_from(">I", data)
    box = data[8 : min(length, 256)]
    return [box[at : at + 4] for at in range(0, len(box), 4) if at != 4]


def _described(data: bytes) -> str:
    """Return in a sentence what ``data``, which is no picture of a known format, is instead."""
    if not data:
        return "The image is empty"
    start = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "This is a web page, not the picture that it shows"
    if start.startswith((b"<svg", b"<?xml")):
        return "This is an XML document or drawing"
    for offset, signature, name in _OTHERS:
        if data.startswith(signature, offset):
            return f"This is {'an' if name[0] in 'Ai' else 'a'} {name}"
    for signature, name in ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG")):
        if (at := data.find(signature, 0, _SEARCHED)) > 0:
            return f"A {name} begins at byte {at} of this, behind what is no part of it"
    if start.isascii() and start.translate(None, b"\t\r\n\f").decode().isprintable():
        return "This is text, not a picture"
    return "This is not a picture of a known format"


def check_size(width: int, height: int, limit: int = MAX_PIXELS, kind: str = "The image") -> None:
    """Check that a picture of ``width`` x ``height`` pixels can be read.

    Args:
        width: Width of the picture that the decoder would produce.
        height: Its height.
        limit: The most pixels that are read.
        kind: The subject of the error's message.

    Raises:
        TooManyPixels: more pixels than ``limit``.
        ImageError: a side is shorter than ``MIN_SIDE``, or the ratio of the sides exceeds ``MAX_ASPECT``.
    """
    if width * height > limit:
        over = -(-(width * height - limit) // 100_000) / 10  # never "0.0 more"
        raise TooManyPixels(
            f"{kind} has {width} x {height} pixels, {over:,.1f} megapixels more than the limit of "
            f"{limit / 1e6:g}; send a smaller one"
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{kind} has {width} x {height} pixels; each side needs at least {MIN_SIDE}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"{kind} has {width} x {height} pixels; its longer side may be at most {MAX_ASPECT} times its "
            "shorter one"
        )
