"""What commands print: aligned tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import argparse

Item = TypeVar("Item")


class CommandError(Exception):
    """A command cannot be done; the message tells its user why."""


class NoAnswer(CommandError):
    """The other side cannot be reached, or is busy; a later attempt may succeed."""


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    """Add a command to ``commands``; ``text`` says in a list of them, and at its head, what it does."""
    return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")


def progress(items: Iterable[Item], total: int, unit: str) -> Iterator[Item]:
    """Pass ``items`` on under a progress bar, where there is a terminal to show it and tqdm is installed."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return iter(items)
    return iter(tqdm(items, total=total, unit=unit, disable=None, leave=False))


def print_json(value: Any) -> None:
    """Print ``value`` as one indented JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, nothing: str = "none") -> None:
    """Print ``rows`` under ``columns``, numbers to the right; ``nothing`` where there are none."""
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
