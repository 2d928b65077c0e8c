"""What the calls of a process are counting, on this machine's disk: it outlives a process that is killed.

A call is noted before its unit is counted and crossed out when it has been answered. What a dead process has
left noted was counted, perhaps, and not answered: the next process on the machine undoes it. On Lambda that
is the next one in the same environment, whose ``/tmp`` stays when a function crashes. Without a folder that
can be written to, nothing is noted.
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
    """The notes of one process; safe to share between threads that have a line each."""

    def __init__(self, folder: Path, table_name: str) -> None:
        self._prefix = hashlib.sha256(table_name.encode()).hexdigest()[:16]
        self._folder = folder
        self._file: int | None = None

    def open(self, owner: str) -> list[list[str]]:
        """Begin to take notes as ``owner``; return what dead processes have left. Raises nothing.

        Of each: who it was, and the notes that are not crossed out.
        """
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if self._folder.stat().st_uid != os.getuid():
                return []  # somebody else's, who might note what they like
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
        """Write ``text`` (ASCII) at ``line``, over what stood there; an empty one crosses it out."""
        if self._file is not None:
            record = text.encode("ascii").ljust(_RECORD_BYTES if text else 1, b"\0")
            with contextlib.suppress(OSError):  # a full disk keeps nobody from being answered
                os.pwrite(self._file, record, (line + 1) * _RECORD_BYTES)


def _take_over(path: Path) -> list[str]:
    """Return and delete the notes of a process that is dead; none of one that lives."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its owner has it locked as long as it lives
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
