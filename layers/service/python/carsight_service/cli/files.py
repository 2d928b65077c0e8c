"""Finding the photos that a command's arguments name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from carsight.formats import SUFFIXES
from carsight_service.cli.output import CommandError


def find_photos(paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """Return photos, each with a unique name: relative to the given folder, or its whole path if necessary.

    Raises:
        CommandError: a path does not exist, or no photo was found.
    """
    names: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            inside = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            names |= {file: file.relative_to(path.parent).as_posix() for file in sorted(inside)}
        elif path.is_file():
            names[path] = path.name
        else:
            raise CommandError(f"{path}: no such file or folder")
    if not names:
        raise CommandError("no photos found")
    uses = Counter(names.values())
    return [
        (path, name if uses[name] == 1 else path.resolve().as_posix().lstrip("/"))
        for path, name in names.items()
    ]
