"""Decodes every picture format but JPEG: HEIC with libheif, WebP with OpenCV, the others with Pillow.

The result is always the first frame in BGR with eight bits a channel, with transparent parts over white. This
module is imported only when such a file arrives. ``bounds`` has checked every file, so that the libraries
never do more than the limits allow, whatever the file declares; a file that cannot be decoded to its last row
is an ``ImageError``.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import cv2
import numpy as np
from PIL import Image

from carsight import bounds, formats, heif, tiff
from carsight.formats import Format, ImageError, TooManyPixels, check_size
from carsight.geometry import Pixels
from carsight.pixels import upright

# Pillow's warnings about broken files would be printed, and each distinct one kept in memory forever.
warnings.filterwarnings("ignore", module=r"PIL\.")
# OpenCV would write a message about each broken file to standard error.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

FINE_PIXELS = 25_000_000
"""A larger picture is halved while it is converted."""
_MAX_CONVERSION_BYTES = 190_000_000
"""So is a picture that would take more memory than this, including what its library still holds."""
_MAX_DECODED_BYTES = 160_000_000
"""How much memory a library may take for the pixels alone, before they are converted."""

_WHOLE_PIXELS = 6_000_000
"""A larger PNG is decoded strip by strip."""
_STRIP_PIXELS = 400_000
"""How much of a picture is decoded or converted at a time."""
_PIECE = 65_536
"""How many compressed bytes are passed to zlib at a time, as it copies those that it leaves."""

_FROM_THE_END = (3, 4, 6, 7)
"""The EXIF orientations in which the first row becomes the last row or column."""

_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""The passes of an interlaced PNG: first column, first row, and the steps to the next ones."""

_PILLOW = {
    formats.PNG: ("PngImagePlugin", "PngImageFile"),
    formats.AVIF: ("AvifImagePlugin", "AvifImageFile"),
    formats.TIFF: ("TiffImagePlugin", "TiffImageFile"),
    formats.GIF: ("GifImagePlugin", "GifImageFile"),
    formats.BMP: ("BmpImagePlugin", "BmpImageFile"),
}
"""Pillow's module and class for each format. ``Image.open`` would import the modules of all formats."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An upright picture: ``pixels`` are one ``factor``-th (1, 2 or 4) of ``width`` x ``height``."""

    pixels: Pixels
    width: int
    height: int
    factor: int


def read(kind: Format, data: bytes) -> Decoded:
    """Decode ``data``, a picture file of ``kind``, halved until its pixels fit into the memory limits.

    Raises:
        ImageError: the file is damaged, cut short, or exceeds a limit.
    """
    original, data = data, bounds.essential(kind, data)
    if kind is formats.HEIC:
        return _heic(data)
    if kind is formats.WEBP:
        return _webp(data)
    with _refusing(kind):
        picture = _opened(kind, data)
    with picture:
        width, height = picture.size
        check_size(width, height, kind.max_pixels, f"The {kind.name} picture")
        if kind is formats.PNG and _is_cut_up(data):
            exif = _exif_of_png(data)
            with _refusing(kind):
                strips = (part for strip in _png_strips(data) for part in _colors(strip))
                return _gathered(strips, width, height, tiff.orientation(exif))
        pixel_bytes = _bytes_a_pixel(picture.mode)
        check_size(width, height, _MAX_DECODED_BYTES // pixel_bytes, f"The {kind.name} picture, of its sort,")
        with _refusing(kind):
            if kind is formats.AVIF:
                return _avif(picture)
            picture.load()
            orientation = tiff.orientation(
                original if kind is formats.TIFF else picture.info.get("exif", b"")
            )
        if kind is formats.PNG and not _is_whole_png(picture, data):
            raise ImageError(bounds.damaged(kind))
        with _refusing(kind):
            return _gathered(_colors(picture), width, height, orientation, pixel_bytes)


def _opened(kind: Format, data: bytes) -> Image.Image:
    """Open ``data`` with Pillow, which does not read the pixels yet."""
    module, name = _PILLOW[kind]
    picture: Image.Image = getattr(import_module(f"PIL.{module}"), name)(io.BytesIO(data))
    return picture


def _bytes_a_pixel(mode: str) -> int:
    """Return how many bytes Pillow takes for a pixel of ``mode``."""
    return 1 if mode in ("1", "L", "P") else 2 if mode.startswith("I;16") else 4


@contextmanager
def _refusing(kind: Format) -> Iterator[None]:
    """Turn any exception of a library about a broken picture into an ``ImageError``."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise TooManyPixels(
            f"The {kind.name} picture declares more than {kind.max_pixels / 1e6:g} megapixels"
        ) from error
    except Exception as error:
        raise ImageError(bounds.damaged(kind)) from error


def _is_whole_png(picture: Image.Image, data: bytes) -> bool:
    """Whether a PNG has all its rows: Pillow accepts a valid stream with too few of them.

    Missing rows are black. Only if the last row is, the stream is decompressed again to count its bytes.
    """
    header = struct.unpack_from(">IIBBBBB", data, 16)
    width, height, depth, color, _, _, interlaced = header
    row = height - 1 if not interlaced else max(height - 1 - height % 2, 0)
    if picture.crop((0, row, width, row + 1)).convert("RGB").getbbox():
        return True
    bits = depth * _CHANNELS[color]
    missing = 0
    for x, y, step_x, step_y in _ADAM7 if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        missing += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    stream = zlib.decompressobj()
    try:
        for name, begin, end in bounds.png_chunks(data):
            part = data[begin:end] if name == b"IDAT" else b""
            while part and missing > 0:
                missing -= len(stream.decompress(part, 1 << 20))
                part = stream.unconsumed_tail
    except zlib.error:
        return False
    return missing <= 0


# -- a PNG in strips -----------------------------------------------------------------------------------------

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""The number of channels of each color type (PNG, 11.2.1)."""


def _is_cut_up(data: bytes) -> bool:
    """Whether to decode a PNG strip by strip: a large one with whole bytes per channel, not interlaced."""
    width, height, depth, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    whole_bytes = depth == 8 or (depth == 16 and color != 0)
    return width * height > _WHOLE_PIXELS and not interlaced and color in _CHANNELS and whole_bytes


def _exif_of_png(data: bytes) -> bytes:
    blocks = [data[begin:end] for name, begin, end in bounds.png_chunks(data) if name == b"eXIf"]
    return blocks[-1] if blocks else b""


def _png_strips(data: bytes) -> Iterator[Image.Image]:
    """Yield a PNG from top to bottom in strips decoded by Pillow, with eight bits a channel.

    Each strip is decoded as a PNG of its own. Its first row is the last row of the strip above, which the
    filters of the next row refer to (PNG, 9.2). Filters work byte by byte, so of sixteen bits the low byte
    can be dropped before.
    """
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    row_bytes = width * _CHANNELS[color]
    tables = b"".join(
        data[begin - 8 : end + 4]
        for name, begin, end in bounds.png_chunks(data)
        if name in (b"PLTE", b"tRNS")
    )
    above = b""
    for rows in _png_rows(data, 1 + row_bytes * depth // 8, height, _strip_rows(width)):
        if depth == 16:
            rows = np.concatenate((rows[:, :1], rows[:, 1::2]), axis=1)
        header = struct.pack(">IIBBBBB", width, len(rows) + bool(above), 8, color, 0, 0, 0)
        packed = zlib.compress(above + rows.tobytes(), 0)
        parts = (data[:8], _chunk(b"IHDR", header), tables, _chunk(b"IDAT", packed), _chunk(b"IEND", b""))
        with _opened(formats.PNG, b"".join(parts)) as picture:
            strip = picture.crop((0, bool(above), *picture.size))
        above = b"\0" + strip.crop((0, strip.height - 1, *strip.size)).tobytes()
        yield strip


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content), name) + content + struct.pack(">I", zlib.crc32(name + content))


def _png_rows(data: bytes, row_bytes: int, height: int, rows: int) -> Iterator[Pixels]:
    """Yield the filtered rows of a PNG, ``rows`` at a time.

    Raises:
        ImageError: there are fewer than ``height``.
    """
    stream, block, left = zlib.decompressobj(), bytearray(), height
    for part in _png_data(data):
        while left:
            wanted = min(rows, left) * row_bytes
            block += stream.decompress(part, wanted - len(block))
            part = stream.unconsumed_tail
            if len(block) < wanted:
                break
            yield np.frombuffer(bytes(block), np.uint8).reshape(-1, row_bytes)
            left -= min(rows, left)
            block.clear()
    if left:
        raise ImageError(bounds.damaged(formats.PNG))


def _png_data(data: bytes) -> Iterator[bytes]:
    """Yield the compressed rows of a PNG, one piece at a time."""
    for name, begin, end in bounds.png_chunks(data):
        if name == b"IDAT":
            for at in range(begin, min(end, len(data)), _PIECE):
                yield data[at : min(at + _PIECE, end)]


# -- other decoders ------------------------------------------------------------------------------------------


def _webp(data: bytes) -> Decoded:
    """Decode WebP with OpenCV, which takes 6 to 10 bytes a pixel; Pillow takes 16, for two canvases.

    The first picture of an animation is placed on a transparent canvas.
    """
    with _refusing(formats.WEBP):
        file = bounds.webp(data)
        (width, height), (left, top) = file.canvas, file.place
        pixels = np.asarray(
            cv2.imdecode(np.frombuffer(file.picture, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8
        )
        if pixels.shape[:2] != (height, width):
            if pixels.shape[2] == 3:
                pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2BGRA), np.uint8)
            canvas = np.zeros((height, width, 4), np.uint8)
            canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
            pixels = canvas
        return _gathered(_cut_array(pixels), width, height, tiff.orientation(file.exif), pixels.shape[2])


def _avif(picture: Image.Image) -> Decoded:
    """Decode AVIF with Pillow's decoder, without the copy that Pillow would make of its bytes."""
    width, height = picture.size
    orientation = tiff.orientation(picture.info.get("exif", b""))
    channels = len(picture.getbands())
    decoded = picture._decoder.get_frame(0)[0]  # type: ignore[attr-defined]
    del picture._decoder  # type: ignore[attr-defined]  # frees its planes
    pixels = np.frombuffer(decoded, np.uint8).reshape(height, width, channels)
    to_bgr = cv2.COLOR_RGBA2BGRA if channels == 4 else cv2.COLOR_RGB2BGR
    strips = (np.asarray(cv2.cvtColor(strip, to_bgr), np.uint8) for strip in _cut_array(pixels))
    return _gathered(strips, width, height, orientation, channels)


def _heic(data: bytes) -> Decoded:
    """Decode HEIC. libheif applies the container's rotation; EXIF's orientation has no meaning there.

    ``pi_heif.HeifFile`` would read all metadata first, and pi-heif 1.4.0 crashes the process at an item whose
    type is not ASCII. So only the pixels of libheif's primary picture are requested.
    """
    import _pi_heif
    from pi_heif.heif import BaseImage

    with _refusing(formats.HEIC):
        # One thread, eight bits, BGR, no padding, the only decoder, within libheif's own bounds.
        loaded = _pi_heif.load_file(data, 1, True, True, True, True, "", False)
        pictures = [picture for picture in loaded if picture is not None]
        file = BaseImage(next((picture for picture in pictures if picture.primary), pictures[0]))
        width, height = file.size
    check_size(width, height, formats.HEIC.max_pixels, "The HEIC picture")
    with _refusing(formats.HEIC):
        pixels = np.atleast_3d(np.asarray(file))
        if pixels.shape[2] <= 2:  # gray, with or without transparency
            pixels = pixels[:, :, [0, 0, 0, 1][: pixels.shape[2] + 2]]
        height, width, channels = pixels.shape
    check_size(width, height, formats.HEIC.max_pixels, "The HEIC picture")
    strips = _cut_array(pixels)
    if channels == 4:
        strips = (_over_white(strip, premultiplied=file.mode.endswith("a")) for strip in strips)
    # libheif keeps the planes of brightness and color as well.
    held = channels + heif.workload(data).plane_bytes / (width * height)
    return _gathered(strips, width, height, held=held)


# -- pixels --------------------------------------------------------------------------------------------------


def _gathered(
    strips: Iterator[Pixels], width: int, height: int, orientation: int = 1, held: float = 0
) -> Decoded:
    """Assemble a picture from its ``strips``, reduced if it is large, and turn it upright.

    Args:
        strips: BGR or BGRA, from top to bottom, each of ``_strip_rows`` rows but the last.
        width: Of the full picture, in pixels.
        height: The same.
        orientation: EXIF's orientation, 1..8.
        held: Bytes per pixel that the decoder keeps in the meantime.
    """
    factor = 2 if width * height * (held + 3) > _MAX_CONVERSION_BYTES else 1
    while width * height > FINE_PIXELS * factor**2:
        factor *= 2
    size = height // factor, width // factor
    pixels = np.empty((*(size[::-1] if orientation > 4 else size), 3), np.uint8)
    at, unseen = 0, True
    for strip in strips:
        rows = min(strip.shape[0] // factor, size[0] - at)
        if strip.shape[2] == 4:
            # Some programs write zeros into the fourth channel of an opaque picture.
            if unseen and strip[:, :, 3].any():
                unseen = False
                pixels[:] = 255
            strip = strip[:, :, :3] if unseen else _over_white(strip, premultiplied=False)
        if not rows:
            continue
        part = strip[: rows * factor, : size[1] * factor]
        if factor > 1:
            part = np.asarray(cv2.resize(part, (size[1], rows), interpolation=cv2.INTER_AREA), np.uint8)
        begin = size[0] - at - rows if orientation in _FROM_THE_END else at
        place = pixels[:, begin : begin + rows] if orientation > 4 else pixels[begin : begin + rows]
        place[:] = upright(part, orientation)
        at += rows
    return Decoded(pixels, *((height, width) if orientation > 4 else (width, height)), factor)


def _colors(picture: Image.Image) -> Iterator[Pixels]:
    """Yield the picture from top to bottom in strips: BGRA if it has an alpha channel, otherwise BGR."""
    black, white = _black_and_white(picture)
    for strip in _cut(picture):
        if picture.mode.startswith(("I", "F")):
            gray = (np.asarray(strip, np.float32) - black) * (255 / (white - black))
            yield np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
        elif strip.has_transparency_data:
            bgra = np.asarray(cv2.cvtColor(np.asarray(strip.convert("RGBA")), cv2.COLOR_RGBA2BGRA), np.uint8)
            own = picture.mode in ("RGBA", "LA", "PA")
            yield bgra if own else _over_white(bgra, premultiplied=False)
        else:
            yield np.asarray(cv2.cvtColor(np.asarray(strip.convert("RGB")), cv2.COLOR_RGB2BGR), np.uint8)


def _black_and_white(picture: Image.Image) -> tuple[float, float]:
    """Return the values of black and white in a picture with more than eight bits of gray.

    Only the bits in use count: often 10 or 12 of 16. In a TIFF the lowest value may be white, which Pillow
    only heeds where there are eight bits or fewer.
    """
    if not picture.mode.startswith(("I", "F")):
        return 0, 255
    ends = np.array([(strip.min(), strip.max()) for strip in map(np.asarray, _cut(picture))], np.float64)
    if not np.isfinite(ends).all():
        raise ImageError(bounds.damaged(formats.TIFF))
    least, most = min(float(ends.min()), 0.0), float(ends.max())
    if picture.mode == "F":
        most = 1.0 if most <= 1 else 255.0 if most <= 255 else most
    else:
        most = float(2 ** max(int(most).bit_length(), 8) - 1)
    is_negative = getattr(picture, "tag_v2", {}).get(tiff.PHOTOMETRIC) == 0  # WhiteIsZero (TIFF 6.0, page 37)
    return (most, least) if is_negative else (least, most)


def _cut(picture: Image.Image) -> Iterator[Image.Image]:
    """Yield ``picture`` from top to bottom, strip by strip."""
    width, height = picture.size
    rows = _strip_rows(width)
    for y in range(0, height, rows):
        yield picture.crop((0, y, width, min(y + rows, height)))


def _cut_array(pixels: Pixels) -> Iterator[Pixels]:
    """Yield ``pixels`` from top to bottom, strip by strip."""
    rows = _strip_rows(pixels.shape[1])
    return (pixels[y : y + rows] for y in range(0, pixels.shape[0], rows))


def _strip_rows(width: int) -> int:
    """Return how many rows a strip has: a multiple of every factor by which pictures are reduced."""
    return max(_STRIP_PIXELS // width // 8 * 8, 8)


def _over_white(pixels: Pixels, premultiplied: bool) -> Pixels:
    """Return BGRA ``pixels`` as BGR, blended with white."""
    alpha = cv2.cvtColor(np.ascontiguousarray(pixels[:, :, 3]), cv2.COLOR_GRAY2BGR)
    color = cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)
    if not premultiplied:
        color = cv2.multiply(color, alpha, scale=1 / 255)
    return np.asarray(cv2.add(color, cv2.bitwise_not(alpha)), np.uint8)
