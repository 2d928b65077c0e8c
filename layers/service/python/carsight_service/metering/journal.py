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
import os
import secrets
import weakref
from pathlib import Path

_RECORD_BYTES = 256


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
