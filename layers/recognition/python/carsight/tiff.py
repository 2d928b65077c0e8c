"""TIFF directories (TIFF 6.0, section 2), as found in pictures, in cameras' raw files and in EXIF data.

This is the only place that parses them; callers decide how to treat a broken one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES = 256, 257, 258, 259, 262, 274, 277
STRIPS, STRIP_BYTES = 273, 279

_MAX_ENTRIES = 512
"""How many entries of a directory of EXIF data are searched."""

_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I"}
"""The types of unsigned integers, with their ``struct`` formats."""


class Tiff:
    """A TIFF file, parsed on demand. All places are byte offsets.

    ``order`` is the byte order as in ``struct`` (``<`` or ``>``), ``first`` the place of the first directory.
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
        """Return the place of the directory after the one at ``at``; 0 if that is the last.

        Raises:
            struct.error: there is no directory at ``at``.
        """
        return self._place(self._end(at))

    def integers(self, entry: int) -> tuple[int, ...]:
        """Return the values of the entry at ``entry``; an empty tuple if they are not unsigned integers.

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
    r"""Return the orientation, 1..8, that a block of EXIF data declares; 1 if it declares none.

    EXIF data is a TIFF file, preceded by ``Exif\0\0`` in some containers; the orientation is a tag of its
    first directory (EXIF 2.32, 4.6).
    """
    for _ in range(2):  # Pillow prepends it to a PNG's EXIF data, even if it is there already
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
