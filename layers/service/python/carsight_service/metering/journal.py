"""A journal of calls that are being counted, which survives a crash of the process.

A call is noted on local disk before its unit is counted, and crossed out once it has been answered. If a
process dies, the calls that it had noted may have been counted without being answered: the next process on
the machine undoes them. On Lambda that is the next one in the same environment, whose ``/tmp`` survives a
crash. Without a writable folder, nothing is noted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import secrets
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from carsight_service.contract.api import Api
from carsight_service.metering.meter_table import Mark
from carsight_service.metering.model import is_key_id

MARK = "call:"
"""Prefix of the names of calls' marks."""

_RECORD_BYTES = 256


@dataclass(slots=True)
class Slot:
    """The name of the marks of one thread's successive calls, and their line in the journal."""

    name: str
    line: int
    last: int = 0
    noted: bool = False

    def next(self, now: float) -> int:
        """Return the next number, about the milliseconds since 1970.

        It is at least 2 larger than the last one, as undoing a call uses the number after its own.
        """
        self.last = max(self.last + 2, int(now * 1000))
        return self.last


class Slots:
    """The slots of one process. A thread keeps its slot as long as it lives; then another may take it."""

    def __init__(self) -> None:
        self.process = secrets.token_urlsafe(4)
        """Prefix of this process's slot names."""
        self._numbers = itertools.count()
        self._free: deque[Slot] = deque()
        self._threads = threading.local()

    def mine(self) -> Slot:
        """Return this thread's slot."""
        try:
            seat: _Seat = self._threads.seat
        except AttributeError:
            try:
                slot = self._free.pop()
            except IndexError:
                line = next(self._numbers)
                slot = Slot(f"{MARK}{self.process}.{line}", line)
            seat = self._threads.seat = _Seat(slot, self._free)
        return seat.slot

    def retire_mine(self) -> None:
        """Give this thread another slot from now on; the current one is never used again."""
        seat: _Seat = self._threads.seat
        seat.free = deque()
        del self._threads.seat


@dataclass(slots=True)
class _Seat:
    """A thread's hold on a slot."""

    slot: Slot
    free: deque[Slot]

    def __del__(self) -> None:
        self.free.append(self.slot)


@dataclass(frozen=True, slots=True)
class LostCall:
    """A call whose unit may have been counted, though it was not answered with a 200."""

    key_id: str
    api: Api
    mark: Mark

    def note(self) -> str:
        """Return it as a line of the journal."""
        return " ".join((self.key_id, self.api, self.mark.name, str(self.mark.number), self.mark.period))

    @classmethod
    def of(cls, note: str) -> LostCall:
        """Parse a ``note``. Raises ``ValueError`` if it is not a note of a call."""
        key_id, api, name, number, period = note.split(" ")
        if not is_key_id(key_id) or not name.startswith(MARK):
            raise ValueError("not a note of a call")
        return cls(key_id, Api(api), Mark(name, int(number), period=period))


class Journal:
    """The notes of one process; safe to share between threads that each have their own line."""

    def __init__(self, folder: Path, table_name: str) -> None:
        self._prefix = hashlib.sha256(table_name.encode()).hexdigest()[:16]
        self._folder = folder
        self._file: int | None = None

    def open(self, owner: str) -> list[list[str]]:
        """Start taking notes as ``owner``; return the notes of dead processes. Raises nothing.

        For each dead process, these are its owner and the notes that were not crossed out.
        """
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if self._folder.stat().st_uid != os.getuid():
                return []  # it belongs to another user, who could write anything there
            left = [notes for path in self._folder.glob(f"{self._prefix}-*") if (notes := _take_over(path))]
            path = self._folder / f"{self._prefix}-{secrets.token_hex(8)}"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file = None
            return []
        weakref.finalize(self, _close, self._file, path)
        self.note(-1, owner)
        return left

    def note(self, line: int, text: str) -> None:
        """Overwrite ``line`` with ``text`` (ASCII, at most 256 bytes); an empty text crosses it out."""
        if self._file is not None:
            record = text.encode("ascii").ljust(_RECORD_BYTES if text else 1, b"\0")
            with contextlib.suppress(OSError):  # a full disk must not fail a request
                os.pwrite(self._file, record, (line + 1) * _RECORD_BYTES)


def _take_over(path: Path) -> list[str]:
    """Return and delete the notes of a dead process; nothing for one that is alive."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails as long as its owner lives
        content = os.pread(file, 1 << 20, 0)
        path.unlink()
    except OSError:
        return []
    finally:
        os.close(file)
    records = (content[start : start + _RECORD_BYTES] for start in range(0, len(content), _RECORD_BYTES))
    return [record.rstrip(b"\0").decode("ascii", "replace") for record in records if record[:1] != b"\0"]


def _close(file: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
    os.close(file)
