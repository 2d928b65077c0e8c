"""HEIC and AVIF: how many pixels their decoders will produce, read from the coded pictures themselves.

The container declares a picture's size (``ispe``), but decoders go by the coded data. The two may disagree,
and a picture may be composed of others, or of one many times. Sources: ISO 23008-12 (HEIF), ISO 14496-12
(boxes), ITU-T H.265 (HEVC) and the AV1 bitstream specification.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

_MAX_BOXES = 20_000
"""The most boxes in one box, references of one picture, and coded units of all pictures together."""
_MAX_DEPTH = 4
"""The longest chain of pictures that are derived from each other."""

_DERIVED = {b"grid", b"iovl", b"iden", b"tmap"}
"""Types of pictures that are composed of others."""
_HEVC, _AV1 = b"hvc1", b"av01"

_STILL = {b"avis": b"avif", b"msf1": b"mif1", b"hevc": b"heic", b"hevx": b"heix"}
"""The brand of a single picture, by that of an animation."""

_SPS = 33
_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6


class Malformed(ValueError):
    """The file is broken, or what decoding its primary picture takes cannot be determined."""


@dataclass
class _File:
    """What the ``meta`` box says about the items."""

    data: bytes
    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Offset and length of each item's pieces in ``data``."""
    made_of: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """The items that an item is derived from, and its auxiliary items, such as its alpha channel."""
    auxiliary: list[tuple[int, int]] = field(default_factory=list)
    """Pairs of an item and one of its auxiliary items."""
    setups: list[bytes] = field(default_factory=list)
    """The ``hvcC`` and ``lhvC`` boxes: HEVC's parameter sets, as far as they are in the container."""
    units_left: int = _MAX_BOXES
    """How many more coded units may be parsed; the same bytes may belong to many pictures."""

    def count_unit(self) -> None:
        """Count a coded unit. Raises ``Malformed`` if there are too many in all pictures together."""
        self.units_left -= 1
        if self.units_left < 0:
            raise Malformed

    def add_auxiliary_items(self) -> None:
        """Add to ``made_of`` the auxiliary items that decoders do not ignore."""
        for item, part in self.auxiliary:
            if self.kinds.get(part) in (_HEVC, _AV1, *_DERIVED):
                self.made_of[item].append(part)

    @cached_property
    def sizes(self) -> set[int]:
        """The possible sizes, in bytes, of a coded unit's length field."""
        return {setup[21] % 4 + 1 for setup in self.setups} or {4}

    @cached_property
    def largest(self) -> Workload:
        """What a picture with the largest parameter set in the container takes."""
        return _largest(unit for setup in self.setups for unit in _parameter_sets(self, setup))


class Workload(NamedTuple):
    """How much a decoder would produce of a file."""

    pixels: int
    plane_bytes: int
    """The size of the planes of brightness and color, before conversion to BGR."""


def workload(data: bytes) -> Workload:
    """Return what would be decoded for the primary picture of ``data``, whatever the file declares.

    Raises:
        Malformed: this cannot be determined.
    """
    try:
        file = _described(data)
        if sum(length for pieces in file.extents.values() for _, length in pieces) > 4 * len(data):
            raise Malformed
        return _pixels(file, file.primary, 0, {})
    except (struct.error, LookupError) as error:
        raise Malformed from error


def without_sequence(data: bytes) -> bytes:
    """Return ``data`` with its animation, if any, hidden from decoders; the primary picture remains."""
    hidden = bytearray(data)
    for name, begin, end in _boxes(data, 0, len(data)):
        if name == b"moov":
            at = data.rindex(name, 0, begin)
            hidden[at : at + 4] = b"free"
        elif name == b"ftyp":
            for at in range(begin, min(end, begin + 256), 4):
                brand = data[at : at + 4]
                hidden[at : at + 4] = _STILL.get(brand, brand)
    return bytes(hidden)


# -- boxes ---------------------------------------------------------------------------------------------------


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, beginning and end of the content of each box between two offsets.

    The content begins after the name, or after the 64-bit length if there is one.
    """
    for _ in range(_MAX_BOXES):
        if at + 8 > end:
            return
        size, name = struct.unpack_from(">I4s", data, at)
        begin = at + 8
        if size == 1:
            if begin + 8 > end:
                raise Malformed
            (size,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        following = end if size == 0 else at + size
        if following < begin:
            raise Malformed
        yield name, begin, min(following, end)
        at = following
    raise Malformed


def _described(data: bytes) -> _File:
    """Read the first ``meta`` box (ISO 14496-12, 8.11)."""
    file, item_data, locations = _File(data), 0, None
    for name, begin, end in _boxes(data, *_meta(data)):
        version = data[begin]
        if name == b"pitm":
            (file.primary,) = struct.unpack_from(">I" if version else ">H", data, begin + 4)
        elif name == b"iinf":
            _read_kinds(file, begin + (8 if version else 6), end)
        elif name == b"iref":
            _read_references(file, begin + 4, end, ">I" if version else ">H")
        elif name == b"iprp":
            _read_setups(file, begin, end)
        elif name == b"idat":
            item_data = begin
        elif name == b"iloc":
            locations = begin
    if locations is None:
        raise Malformed
    _read_locations(file, locations, item_data)
    file.add_auxiliary_items()
    return file


def _meta(data: bytes) -> tuple[int, int]:
    """Return beginning and end of the boxes in the first ``meta`` box."""
    for name, begin, end in _boxes(data, 0, len(data)):
        if name == b"meta":
            return begin + 4, end
    raise Malformed


def _read_kinds(file: _File, begin: int, end: int) -> None:
    for name, at, _ in _boxes(file.data, begin, end):
        version = file.data[at]
        if name == b"infe" and version in (2, 3):
            number, _, kind = struct.unpack_from(">IH4s" if version == 3 else ">HH4s", file.data, at + 4)
            file.kinds[number] = kind


def _read_references(file: _File, begin: int, end: int, number: str) -> None:
    """Note which items are made of others, or belong to others, from the references between two offsets.

    ``number`` is the ``struct`` format of an item's number. Raises ``Malformed``.
    """
    size = struct.calcsize(number)
    for name, at, stop in _boxes(file.data, begin, end):
        (source,) = struct.unpack_from(number, file.data, at)
        (count,) = struct.unpack_from(">H", file.data, at + size)
        if at + size + 2 + size * count > stop:
            raise Malformed
        listed = file.data[at + size + 2 : at + size + 2 + size * count]
        targets = [n for (n,) in struct.iter_unpack(number, listed)]
        if name == b"dimg":
            file.made_of[source] += targets
        elif name == b"auxl":
            file.auxiliary += [(target, source) for target in targets]


def _read_setups(file: _File, begin: int, end: int) -> None:
    for name, at, stop in _boxes(file.data, begin, end):
        if name == b"ipco":
            file.setups += [
                file.data[first:last]
                for kind, first, last in _boxes(file.data, at, stop)
                if kind in (b"hvcC", b"lhvC")
            ]


def _read_locations(file: _File, at: int, item_data: int) -> None:
    """Read the ``iloc`` box at ``at``; ``item_data`` is the offset of the content of ``idat``."""
    data, version = file.data, file.data[at]
    sizes = data[at + 4] >> 4, data[at + 4] & 15, data[at + 5] >> 4, data[at + 5] & 15 if version else 0
    offset_size, length_size, base_size, index_size = sizes
    (count,) = struct.unpack_from(">I" if version == 2 else ">H", data, at + 6)
    at += 10 if version == 2 else 8
    if count > _MAX_BOXES:
        raise Malformed
    left = _MAX_BOXES
    for _ in range(count):
        (number,) = struct.unpack_from(">I" if version == 2 else ">H", data, at)
        at += 4 if version == 2 else 2
        method = 0
        if version:
            method, at = data[at + 1] & 15, at + 2
        base, at = _number(data, at + 2, base_size)
        (pieces,) = struct.unpack_from(">H", data, at)
        at, left = at + 2, left - pieces
        if left < 0 or method > 1:
            raise Malformed
        found = []
        for _ in range(pieces):
            offset, at = _number(data, at + index_size, offset_size)
            length, at = _number(data, at, length_size)
            begin = base + offset + (item_data if method else 0)
            found.append((begin, length or max(len(data) - begin, 0)))
        file.extents[number] = found


def _number(data: bytes, at: int, size: int) -> tuple[int, int]:
    if at + size > len(data):
        raise Malformed
    return int.from_bytes(data[at : at + size]), at + size


# -- pictures ------------------------------------------------------------------------------------------------


def _pixels(file: _File, item: int, depth: int, known: dict[int, Workload]) -> Workload:
    """Return what is decoded for ``item`` and all items that it is made of; ``known`` caches results."""
    if item in known:
        return known[item]
    if depth > _MAX_DEPTH:
        raise Malformed
    kind = file.kinds[item]
    if kind in _DERIVED:
        own = Workload(0, 0)
    elif kind in (_HEVC, _AV1):
        coded = b"".join(file.data[begin : begin + length] for begin, length in file.extents[item])
        own = _hevc(file, coded) if kind == _HEVC else _av1(file, coded)
    else:
        raise Malformed
    parts = file.made_of.get(item, [])
    if len(parts) > _MAX_BOXES:
        raise Malformed
    every = [own, *(_pixels(file, part, depth + 1, known) for part in parts)]
    known[item] = Workload(sum(each.pixels for each in every), sum(each.plane_bytes for each in every))
    return known[item]


class _Bits:
    """Reads the first 256 bytes of ``data`` bit by bit."""

    def __init__(self, data: bytes) -> None:
        self._bits = bin(int.from_bytes(b"\1" + data[:256]))[3:]
        self._at = 0

    def take(self, count: int) -> int:
        """Return the next ``count`` bits as a number."""
        taken = self._bits[self._at : self._at + count]
        if len(taken) < count:
            raise Malformed
        self._at += count
        return int(taken, 2) if count else 0

    def golomb(self) -> int:
        """Return the next number in Exp-Golomb code (H.265, 9.2)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _hevc(file: _File, coded: bytes) -> Workload:
    """Return what the pictures in ``coded`` take, if each has the largest parameter set of the file."""
    largest, pictures = file.largest, 0
    for size in file.sizes:
        found = list(_units(file, coded, size))
        # The first bit after the header marks the first slice of a picture (H.265, 7.3.6.1).
        starts = sum(unit[0] >> 1 & 63 < 32 and unit[2] >> 7 for unit in found if len(unit) > 2)
        pictures = max(pictures, starts)
        largest = max(largest, _largest(found))
    return Workload(largest.pixels * max(pictures, 1), largest.plane_bytes)


def _largest(units: Iterable[bytes]) -> Workload:
    """Return what a picture with the largest parameter set among ``units`` takes."""
    sets = (unit for unit in units if len(unit) > 2 and unit[0] >> 1 & 63 == _SPS)
    return max(map(_hevc_size, sets), default=Workload(0, 0))


def _units(file: _File, coded: bytes, size: int) -> Iterator[bytes]:
    at = 0
    while at + size <= len(coded):
        file.count_unit()
        length = int.from_bytes(coded[at : at + size])
        yield coded[at + size : at + size + min(length, 512)]
        at += size + length


def _parameter_sets(file: _File, setup: bytes) -> Iterator[bytes]:
    """Yield the units of an ``hvcC`` box (ISO 14496-15, 8.3.3.1)."""
    at = 23
    for _ in range(setup[22]):
        (count,) = struct.unpack_from(">H", setup, at + 1)
        at += 3
        for _ in range(count):
            file.count_unit()
            (length,) = struct.unpack_from(">H", setup, at)
            yield setup[at + 2 : at + 2 + length]
            at += 2 + length


def _hevc_size(unit: bytes) -> Workload:
    """Return what a picture with this sequence parameter set takes (H.265, 7.3.2.2)."""
    bits = _Bits(unit[2:].replace(b"\0\0\3", b"\0\0"))
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 96)
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.golomb()
    chroma = bits.golomb()
    if chroma == 3:
        bits.take(1)
    pixels = bits.golomb() * bits.golomb()
    if bits.take(1):  # the conformance window
        _ = [bits.golomb() for _ in range(4)]
    deep = max(bits.golomb(), bits.golomb()) > 0
    # Half-samples per pixel: gray, 4:2:0, 4:2:2 and 4:4:4. Above eight bits a sample takes two bytes.
    halves = {0: 2, 1: 3, 2: 4}.get(chroma, 6)
    return Workload(pixels, pixels * halves * (1 + deep) // 2)


def _av1(file: _File, coded: bytes) -> Workload:
    """Return what the frames in ``coded`` take, each with the largest sequence header (AV1, 5.3)."""
    largest, frames, at = 0, 0, 0
    while at < len(coded):
        file.count_unit()
        head, at = coded[at], at + 1 + (coded[at] >> 2 & 1)
        length = len(coded) - at
        if head & 2:
            length, at = _leb128(coded, at)
        kind = head >> 3 & 15
        if kind == _SEQUENCE:
            largest = max(largest, _av1_size(coded[at : at + min(length, 256)]))
        frames += kind in (_FRAME, _FRAME_HEADER)
        at += length
    # An approximation of the planes: AVIF's limit on pixels allows for more depth and color.
    return Workload(largest * max(frames, 1), 2 * largest)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for n in range(8):
        value |= (data[at + n] & 127) << 7 * n
        if data[at + n] < 128:
            return value, at + n + 1
    raise Malformed


def _av1_size(header: bytes) -> int:
    """Return the pixels of a sequence header (AV1, 5.5.1)."""
    bits = _Bits(header)
    bits.take(4)
    if bits.take(1):  # a still picture with the reduced header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    across, down = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(across) + 1) * (bits.take(down) + 1)


def _skip_operating_points(bits: _Bits) -> None:
    """Skip the timing and the operating points that precede the size in a sequence header (AV1, 5.5.1)."""
    delays = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):
            bits.golomb()
        if bits.take(1):  # the decoder's model
            delays = bits.take(5) + 1
            bits.take(32 + 10)
    delayed = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delays and bits.take(1):
            bits.take(2 * delays + 1)
        if delayed and bits.take(1):
            bits.take(4)
