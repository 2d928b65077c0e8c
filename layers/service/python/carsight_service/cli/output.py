"""Output of commands: aligned tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import argparse

Item = TypeVar("Item")


class CommandError(Exception):
    """A command has failed; the message tells the user why."""


class NoAnswer(CommandError):
    """The service cannot be reached or is busy; a later attempt may succeed."""


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    """Add a command to ``commands``; ``text`` describes it in the list of commands and in its own help."""
    return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")


def progress(items: Iterable[Item], total: int, unit: str) -> Iterator[Item]:
    """Yield ``items`` with a progress bar if there is a terminal and tqdm is installed."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return iter(items)
    return iter(tqdm(items, total=total, unit=unit, disable=None, leave=False))


def print_json(value: Any) -> None:
    """Print ``value`` as one indented JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, nothing: str = "none") -> None:
    """Print ``rows`` under ``columns``, with numbers right-aligned; print ``nothing`` if there are none."""
    if not rows:
        print(nothing)
        return
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [isinstance(cell, int) for cell in rows[0]]
    for line in (columns, *cells):
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        print("  ".join(aligned).rstrip())
