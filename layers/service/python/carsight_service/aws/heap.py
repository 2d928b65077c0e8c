"""Limiting the memory that the C library keeps after photos have been freed."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of <malloc.h>."""

_LARGEST_KEPT = 1 << 25
"""Larger allocations are returned to the system as soon as they are freed; this is glibc's maximum."""

_STATM = Path("/proc/self/statm")

SLACK = 32_000_000
"""How many bytes a process may grow before free memory is returned, as a trim takes up to 10 ms."""


class Heap:
    """glibc's heap. With any other C library, methods do nothing."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._malloc_trim = getattr(library, "malloc_trim", None) if _STATM.exists() else None
        self._mallopt = getattr(library, "mallopt", None)
        self._after_last: int | None = None

    def use_one_arena(self) -> None:
        """Allocate from a single arena.

        Otherwise the first threads get an arena each, and memory that a photo has freed in one cannot be used
        by the next photo's thread; docs/decisions.md has figures.
        """
        if self._mallopt is not None:
            self._mallopt(_ARENA_MAX, 1)
            # Keep the top of the heap between photos, as far as ``trim`` leaves it: page faults would take
            # 3 % of the time of a 12-megapixel label.
            self._mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
            self._mallopt(_TRIM_THRESHOLD, SLACK)

    def trim(self) -> None:
        """Return free memory to the system if the process has grown since the last time.

        Otherwise glibc keeps free memory below a block in use: 58 MB after 500 hostile calls.
        """
        if self._malloc_trim is None:
            return
        if self._after_last is None:
            self._after_last = resident_bytes()
        elif resident_bytes() > self._after_last + SLACK:
            self._malloc_trim(0)
            self._after_last = resident_bytes()


def resident_bytes() -> int:
    """Return this process's resident memory."""
    file = os.open(_STATM, os.O_RDONLY)  # called by every request; pathlib takes twice as long
    try:
        return int(os.read(file, 100).split()[1]) * os.sysconf("SC_PAGE_SIZE")
    finally:
        os.close(file)
