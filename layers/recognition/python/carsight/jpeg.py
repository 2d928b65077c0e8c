"""JPEG: decodes every file that libjpeg can open, refuses pictures with missing rows, and bounds the work.

libjpeg-turbo decodes incomplete files too: it fills the missing part with gray and only warns. So the first
decoding is strict: without a warning the picture is complete, and the usual photo needs nothing more. After a
warning, the file is rewritten from its essential segments, which removes what cameras and programs get wrong
around the picture (stray bytes, wrong lengths, no end marker, another picture behind it). If libjpeg warns
again, the picture itself is damaged.
"""

from __future__ import annotations

import io
import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import simplejpeg

from carsight.formats import ImageError, TooManyPixels, check_size
from carsight.geometry import Pixels
from carsight.tiff import orientation

_COEFFICIENT_BYTES = 200_000_000
"""The most memory for coefficients: libjpeg keeps those of a picture in several scans, two bytes each."""
_SCAN_BLOCKS = 12_000_000
"""How many blocks of 8 x 8 all scans together may visit, at 30 ns each even if they contain little. The usual
ten scans of 50 megapixels visit 7 million, or 11 million counted with ``_REFINING``."""
_REFINING = 3
"""A scan that refines coefficients counts as this many visits: libjpeg looks at each one, 80 ns a block."""
_AGAIN = 4
"""How often a picture in several scans may be decoded when libjpeg warns."""
_MAX_SEGMENTS = 20_000
"""The most segments before the first scan, or from it on; a profile of 16 MB takes 255 segments."""

_SOI, _EOI, _SOS, _DRI = 0xD8, 0xD9, 0xDA, 0xDD
_APP0, _APP1, _APP14 = 0xE0, 0xE1, 0xEE
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDD})
"""Huffman tables, arithmetic conditioning, quantization tables, restart interval."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a segment."""
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_READ = _SEQUENTIAL | {0xC2, 0xC9, 0xCA}
"""Sequential and progressive, with Huffman or arithmetic coding; others are lossless or hierarchical."""
_JPEG_LS = 0xF7
"""The frame of another kind of picture (T.87), which begins like a JPEG."""

_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""The next marker after entropy-coded data, which contains only escaped FF and restart markers. Fill bytes
before the marker stay with the data: a pattern for any number of them would take quadratic time."""

_MARKER = re.compile(rb"\xff[^\x00\xff]")

_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"

_HARMLESS = re.compile(r"extraneous bytes|Inconsistent progression|Unknown Adobe")
"""Warnings of libjpeg that do not mean missing data."""

_MISSING = re.compile(r"premature end of data|bad Huffman code|instead of RST|bad arithmetic code")
"""Warnings that mean missing or broken data in the picture itself."""

_DAMAGED = (
    "Rows of the picture are missing or damaged: the file was cut short or changed on its way; send it again"
)
_NO_SCAN = "The JPEG ends before its picture begins; send the original"


@dataclass(slots=True)
class _Header:
    """The part of the file before the first scan."""

    frame: int = 0
    """The start-of-frame marker."""
    components: list[tuple[int, int, int]] = field(default_factory=list)
    """Identifier and horizontal and vertical sampling factor of each component."""
    size: tuple[int, int] = (0, 0)
    """Height and width."""
    frames: int = 0
    exif: bytes = b""
    kept: list[bytes] = field(default_factory=list)
    """The segments that decoding needs, in order."""
    scan: int = 0
    """Offset of the first start-of-scan marker."""
    restart: int = 0
    """Units between two restart markers; 0 without restart markers."""
    one_scan: bool = False
    """Whether the first scan is the whole picture."""

    @property
    def sampling(self) -> tuple[int, int]:
        """The largest horizontal and vertical sampling factors; 1 if none or 0 is declared."""
        h, v = (max((component[n] for component in self.components), default=0) or 1 for n in (1, 2))
        return h, v


class Jpeg:
    """One JPEG file: its header has been read, its picture not yet decoded.

    ``width`` and ``height`` are those of the decoded picture, before ``orientation`` (EXIF's, 1..8).
    """

    def __init__(self, data: bytes) -> None:
        """Read the header of ``data``.

        Raises:
            ImageError: it is not a JPEG that can be decoded, or exceeds a limit.
        """
        self._header = header = _header(data)
        if header.frames > 1:
            raise ImageError("The JPEG has frame headers that contradict each other; save it again")
        if not header.size[0] and header.frames:
            raise ImageError("The JPEG tells its height behind its picture alone (DNL); save it again")
        self._sent = self._data = data
        """The file as it was sent, and as it is decoded."""
        self._repaired = False
        """Whether ``_data`` has been rewritten from the essential segments."""
        self._unusual = False
        """Whether only libjpeg itself knows its subsampling."""
        self._warns = False
        """Whether even the rewritten file is decoded with a warning, a harmless one."""
        self.width: int
        self.height: int
        self.bytes_a_pixel: int
        """Bytes that decoding takes per pixel: CMYK is decoded to four channels before it becomes BGR."""
        self.orientation = orientation(header.exif)
        if data.rfind(b"\xff\xd9", header.scan) < 0:
            self._data = data + b"\xff\xd9"
        try:
            self._measure()
        except ValueError as error:
            self._repair(error)
        check_size(self.width, self.height)
        self.held = 0 if header.one_scan else self._coefficient_bytes()
        """Bytes that the decoder takes besides the pixels."""

    def decode(self, factor: int) -> Pixels:
        """Decode at one ``factor``-th (1, 2, 4, 8) of the size, without applying ``orientation``.

        Raises:
            ImageError: rows are missing or damaged.
        """
        if self._unusual:
            return self._decoded_by_pillow(factor)
        if self._warns:
            return self._decoded_leniently(factor)
        try:
            return self._decoded(factor)
        except ValueError as error:
            if _MISSING.search(str(error)):
                raise ImageError(_DAMAGED) from error
            if not self._repaired:
                self._repair(error)
                if not self._header.one_scan:
                    self._coefficient_bytes()  # of a rewritten file, fewer scans are allowed
        try:
            return self._decoded(factor)
        except ValueError as error:
            if not _HARMLESS.search(str(error)):
                raise ImageError(_DAMAGED) from error
        self._warns = True
        return self._decoded_leniently(factor)

    def _decoded_leniently(self, factor: int) -> Pixels:
        # libjpeg reports only its first warning, which may hide a later one about missing rows.
        pixels = self._decoded(factor, strict=False)
        if self._lacks_intervals() or (not self._header.one_scan and _ends_blank(pixels, factor)):
            raise ImageError(_DAMAGED)
        return pixels

    def _measure(self) -> None:
        """Set what the header says: size, bytes a pixel, and whether TurboJPEG lacks its subsampling.

        Raises simplejpeg's errors for any other header that it does not read.
        """
        try:
            self.height, self.width, colors, _ = simplejpeg.decode_jpeg_header(self._data)
        except (ValueError, KeyError) as error:
            # TurboJPEG, a layer over libjpeg, supports only the usual subsamplings; simplejpeg has no name
            # for the newest of them (4:4:1).
            header = self._header
            factors = {factor for component in header.components for factor in component[1:]}
            unnamed = isinstance(error, KeyError) or "subsampling level" in str(error)
            self._unusual = unnamed and header.frames == 1 and factors <= {1, 2, 3, 4}
            if not self._unusual:
                raise
            (self.height, self.width), colors = header.size, "CMYK"
        self.bytes_a_pixel = 7 if colors in ("CMYK", "YCCK") else 3

    def _decoded(self, factor: int, *, strict: bool = True) -> Pixels:
        pixels = simplejpeg.decode_jpeg(
            self._data,
            "BGR",
            min_height=-(-self.height // factor),
            min_width=-(-self.width // factor),
            min_factor=factor,
            strict=strict,
        )
        return np.asarray(pixels, np.uint8)

    def _decoded_by_pillow(self, factor: int) -> Pixels:
        """Decode with libjpeg itself, through Pillow.

        Missing data raises no warning there, and is recognized by the last row.
        """
        from PIL import JpegImagePlugin

        try:
            with JpegImagePlugin.JpegImageFile(io.BytesIO(_rewritten(self._sent, self._header))) as picture:
                picture.draft(picture.mode, (-(-self.width // factor), -(-self.height // factor)))
                pixels = np.asarray(picture.convert("RGB"), np.uint8)[:, :, ::-1]
        except Exception as error:
            raise ImageError(_DAMAGED) from error
        if pixels.shape[:2] != (-(-self.height // factor), -(-self.width // factor)) or _ends_blank(
            pixels, factor
        ):
            raise ImageError(_DAMAGED)
        return np.ascontiguousarray(pixels)

    def _repair(self, error: ValueError) -> None:
        """Rewrite the file from its essential segments.

        Raises:
            ImageError: that cannot be decoded either. The message contains ``error``, libjpeg's about the
                original file.
        """
        self._data, self._repaired = _rewritten(self._sent, self._header), True
        try:
            self._measure()
        except ValueError:
            reason = str(error).rpartition("(): ")[2]
            raise ImageError(f"The JPEG cannot be decoded ({reason}); save it again") from error

    def _coefficient_bytes(self) -> int:
        """Return how many bytes the coefficients take, for a picture in several scans.

        Raises:
            TooManyPixels: they would take too much memory.
            ImageError: there are more scans than a picture of this size needs.
        """
        across, down = self._header.sampling
        columns, rows = -(-self.width // (8 * across)), -(-self.height // (8 * down))
        blocks: dict[int, int] = defaultdict(int)
        for name, h, v in self._header.components:
            blocks[name] += columns * h * rows * v
        held = 128 * sum(blocks.values())
        if held > _COEFFICIENT_BYTES:
            raise TooManyPixels(
                f"The image is a progressive JPEG of {self.width} x {self.height} pixels, too large for this "
                "kind; send a smaller or a baseline one"
            )
        data, visited = self._sent, 0
        for begin, end in _walk(data, self._header.scan):
            if data[begin + 1] == _SOS:
                last = begin + 5 + 2 * data[begin + 4]
                names = data[begin + 5 : min(last, end) : 2]
                # The high bits of the last byte name the bit that was decoded before (T.81, B.2.3).
                refines = data[last : last + 1] != b"\0" and data[last + 2 : last + 3] > b"\x0f"
                visited += sum(blocks.get(name, 0) for name in names) * (_REFINING if refines else 1)
        if visited > _SCAN_BLOCKS // (_AGAIN if self._repaired else 1):
            raise ImageError("The JPEG has too many scans for its size; save it again as a baseline JPEG")
        return held

    def _lacks_intervals(self) -> bool:
        """Whether the only scan has fewer restart markers than its picture needs."""
        header = self._header
        if not header.one_scan or not header.restart:
            return False
        # A scan of one component has no units of several blocks (T.81, A.2.2).
        across, down = (1, 1) if len(header.components) == 1 else header.sampling
        units = -(-self.width // (8 * across)) * -(-self.height // (8 * down))
        return sum(1 for _ in _RESTART.finditer(self._data, header.scan)) < -(-units // header.restart) - 1


def _header(data: bytes) -> _Header:
    """Read the marker segments up to the first scan (ITU-T T.81, annex B), as leniently as libjpeg does.

    Raises:
        ImageError: there is no scan, or the JPEG is of a kind that is not read.
    """
    header = _Header()
    try:
        for marker, begin, end in _segments(data, 2, scans=False):
            if marker in (_SOI, _EOI):
                raise ImageError("The JPEG holds no picture; send the original")
            if marker == _SOS:
                header.scan = begin
                header.one_scan = header.frame in _SEQUENTIAL and data[begin + 4] == len(header.components)
                return header
            segment = data[begin:end]
            if marker in _FRAMES or marker == _JPEG_LS:
                _check_kind(marker, segment[4])
                header.frame, header.frames = marker, header.frames + 1
                header.size = struct.unpack_from(">HH", data, begin + 5)
                header.components = [
                    (data[n], data[n + 1] >> 4, data[n + 1] & 15)
                    for n in range(begin + 10, begin + 10 + 3 * data[begin + 9], 3)
                ]
            if marker == _DRI:
                (header.restart,) = struct.unpack_from(">H", segment, 4)
            if marker == _APP0 and segment[4:8] == b"JFIF":
                header.kept.append(_JFIF)
            elif marker in _FRAMES | _TABLES or marker == _APP14:
                header.kept.append(segment)
            elif marker == _APP1 and not header.exif and segment[4:8] == b"Exif":
                header.exif = segment[4:]
    except (struct.error, IndexError) as error:
        raise ImageError(_NO_SCAN) from error
    raise ImageError(_NO_SCAN)


def _check_kind(frame: int, bits: int) -> None:
    """Refuse a JPEG that libjpeg-turbo cannot decode to eight bits a channel."""
    if frame not in _READ:
        kind = "JPEG-LS" if frame == _JPEG_LS else "lossless or hierarchical JPEG"
        raise ImageError(f"This is a {kind} picture, which is not read; save it as a baseline JPEG")
    if bits != 8:
        raise ImageError(
            f"The JPEG has {bits} bits a channel, of which only 8 are read; save it again with 8"
        )


def _segments(data: bytes, at: int, *, scans: bool = True) -> Iterator[tuple[int, int, int]]:
    """Yield marker, beginning and end of each segment, skipping other bytes; scans include their data.

    Without ``scans``, the first scan is the last segment, and ends before its data. A declared end may be
    beyond the end of ``data``. Raises ``ImageError`` after ``_MAX_SEGMENTS``.
    """
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None:
            return
        begin, marker = found.start(), data[found.start() + 1]
        at = begin + 2
        if marker in _BARE:
            continue
        if marker not in (_SOI, _EOI):
            if len(data) < at + 3:
                return
            at += int.from_bytes(data[at : at + 2])
        if marker == _SOS and not scans:
            yield marker, begin, at
            return
        if marker == _SOS:
            found = _AFTER_SCAN.search(data, max(at, begin + 5))
            at = found.start() if found else len(data)
        yield marker, begin, at
    raise ImageError("The JPEG is cut into too many segments; save it again")


def _walk(data: bytes, scan: int) -> list[tuple[int, int]]:
    """Return beginning and end of each scan (including its data) and of each table, from ``scan`` on."""
    parts: list[tuple[int, int]] = []
    for marker, begin, end in _segments(data, scan):
        if marker in (_SOI, _EOI):
            break
        if marker == _SOS or marker in _TABLES:
            parts.append((begin, min(end, len(data))))
    return parts


def _rewritten(data: bytes, header: _Header) -> bytes:
    """Return the picture alone: essential segments of the header, scans, tables and an end marker."""
    places = _walk(data, header.scan)
    parts = [data[begin:end] for begin, end in (places[:1] if header.one_scan else places)]
    if header.frame in _SEQUENTIAL:
        # Some programs write values that only progressive scans may have.
        parts = [_whole_spectrum(part) if part[1] == _SOS else part for part in parts]
    return b"".join((b"\xff\xd8", *header.kept, *parts, b"\xff\xd9"))


def _whole_spectrum(scan: bytes) -> bytes:
    """Return ``scan`` with the spectral selection and approximation of a sequential scan (T.81, B.2.3)."""
    at = 5 + 2 * scan[4]
    return scan[:at] + b"\x00\x3f\x00" + scan[at + 3 :]


def _ends_blank(pixels: Pixels, factor: int) -> bool:
    """Whether the last row of blocks has a single color, which libjpeg leaves where data is missing."""
    last = pixels[-max(8 // factor, 1) :]
    return bool((last == last[:1, :1]).all())
