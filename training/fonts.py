"""The fonts that renderers draw with: whatever is installed, by the name of its file."""

from __future__ import annotations

import functools
import os
from pathlib import Path

_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".local/share/fonts")
_SUFFIXES = (".ttf", ".otf", ".woff")


@functools.cache
def font_files() -> dict[str, Path]:
    """Return every font's file by its name; ``PLATE_FONTS`` names further folders, with colons between."""
    more = (Path(folder) for folder in os.environ.get("PLATE_FONTS", "").split(":") if folder)
    return {
        file.stem: file
        for folder in (*_FOLDERS, *more)
        for file in sorted(folder.rglob("*"))
        if file.suffix in _SUFFIXES
    }
