"""TIFF's directories (TIFF 6.0, section 2): those of a picture, of a camera's raw file and of EXIF data.

They are walked here and nowhere else; what to make of one that is broken is for whoever asked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES = 256, 257, 258, 259, 262, 274, 277
STRIPS, STRIP_BYTES = 273, 279

_MAX_ENTRIES = 512
"""As far as a directory of EXIF data is searched."""

_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I"}
"""The kinds of unsigned integers, as ``struct`` names them."""


class Tiff:
    """A TIFF file, of which nothing is read before it is asked for. Its places are offsets in bytes.

    ``order`` is its byte order, as ``struct`` writes it, and ``first`` the place of its first directory.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self.first = self._place(4)

    def entries(self, at: int) -> Iterator[tuple[int, int, int]]:
        """Yield tag, number of values and place of each entry (12 bytes) of the directory at ``at``.

        Raises:
            struct.error: the file ends before that.
        """
        head = struct.Struct(f"{self.order}HHI").unpack_from
        for entry in range(at + 2, self._end(at), 12):
            tag, _, count = head(self._data, entry)
            yield tag, count, entry

    def following(self, at: int) -> int:
        """Return the place of the directory behind the one at ``at``; 0 where there is none.

        Raises:
            struct.error: there is none at ``at``.
        """
        return self._place(self._end(at))

    def integers(self, entry: int) -> tuple[int, ...]:
        """Return the values of the entry at ``entry``; none where they are not unsigned integers.

        Raises:
            struct.error: the file ends before that.
        """
        _, kind, count, at = struct.unpack_from(f"{self.order}HHII", self._data, entry)
        letter = _INTEGERS.get(kind)
        if letter is None:
            return ()
        layout = f"{self.order}{count}{letter}"
        return struct.unpack_from(layout, self._data, entry + 8 if struct.calcsize(layout) <= 4 else at)

    def _end(self, at: int) -> int:
        (count,) = struct.unpack_from(f"{self.order}H", self._data, at)
        return at + 2 + 12 * int(count)

    def _place(self, at: int) -> int:
        place = self._data[at : at + 4]
        return int.from_bytes(place, "little" if self.order == "<" else "big") if len(place) == 4 else 0


def orientation(exif: bytes) -> int:
    r"""Return the orientation, 1..8, that a block of EXIF data declares; 1 where it declares none.

    EXIF 2.32, 4.6: a TIFF file of its own, after ``Exif\0\0`` in some containers; a tag of its first
    directory.
    """
    for _ in range(2):  # Pillow adds one to a PNG's, whether or not it has one
        exif = exif.removeprefix(b"Exif\0\0")
    if exif[:2] not in (b"II", b"MM"):
        return 1
    file = Tiff(exif)
    try:
        for tag, _, entry in islice(file.entries(file.first), _MAX_ENTRIES):
            if tag == ORIENTATION:
                (kind,) = struct.unpack_from(f"{file.order}H", exif, entry + 2)
                (value,) = struct.unpack_from(file.order + {1: "B", 4: "I"}.get(kind, "H"), exif, entry + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
