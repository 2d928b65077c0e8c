"""Lists of images: what a batch may be made of, row by row, as JSON, JSON Lines, CSV or Parquet.

A list is read as a stream, so that one of ten million rows takes no more memory than one of ten.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, cast

from carsight_service.contract.api import IMAGE_FIELDS
from carsight_service.contract.errors import InvalidRequest, checked_regions

MAX_ROWS = 10_000_000
MAX_ROW_CHARACTERS = 2048
MAX_ID_CHARACTERS = 200
MAX_EXACT = 2**53
"""The largest whole number that JSONata, through which rows come to their worker, is sure not to round."""

_MAX_LINE_CHARACTERS = 65_536
_MEAN_CHARACTERS = 8192
_MORE_CHARACTERS = 82_000_000
"""What a list may have for each row, and beside: gzip packs a thousand times as many as it sends."""
_LEAST_CHARACTERS = 75
"""What an empty line counts for: a spreadsheet may write as many as it has rows, a million, but gigabytes of
them would take minutes."""

_IMAGE_COLUMNS = (
    *dict.fromkeys(name.replace("_", "").lower() for name in IMAGE_FIELDS),
    *("url", "uri", "s3uri", "imageuri", "photo", "photourl", "picture", "link", "key"),
)
"""Letters and digits of a column's or a member's name, whatever their case: ``Image URL`` is one too."""

_LONGEST_NAME = 64
"""Characters of a column's or a member's name that may be one of ours."""

_DELIMITERS = "\t;|,"
"""A spreadsheet writes the one that its country leaves free: a semicolon where the comma is decimal."""

_SEP = re.compile(r'\s*"?sep=([^"\r\n]?)', re.IGNORECASE)
"""A first line with a spreadsheet's own word for its delimiter, which it saves in quotes."""

_GZIP = b"\x1f\x8b"

_BYTES_LOOKED_AT = 64
"""For the encoding."""

_LINES_LOOKED_AT = 20
"""For the delimiter; a row may have several."""

_AS_WINDOWS = "carsight.windows-1252"


def _as_windows(error: UnicodeError) -> tuple[str, int]:
    """Decode what is no UTF-8 as Windows-1252."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(_AS_WINDOWS, _as_windows)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a list."""

    image: str
    """An http(s) URL, ``s3://bucket/key``, or the key of an upload; blanks around it may be a key's own."""
    id: str | float | None = None
    """The caller's own name for it, which comes back in the result."""
    regions: tuple[str, ...] = ()
    """Where this car may be from; those of the whole list where there are none."""

    def line(self) -> bytes:
        """Return the row as a line of JSON Lines, which ``parse_row`` reads again.

        An object even where the image is all: Step Functions says of no other value that it reads it.
        """
        cells = {"image": self.image, "id": self.id, "regions": self.regions}  # `asdict` takes thrice as long
        known = {name: cell for name, cell in cells.items() if cell not in (None, ())}
        return json.dumps(known, ensure_ascii=False).encode() + b"\n"


def parse_row(value: object, number: int) -> Row:
    """Return the row that ``value`` is: the image alone, or an object that names it, perhaps with more.

    Raises ``InvalidRequest``, with the row's ``number``, where it names no image.
    """
    # A data frame says NaN, which is unlike itself, where there is nothing.
    members = value if isinstance(value, Mapping) else {"image": value}
    named = {_letters(str(name)): cell for name, cell in members.items() if cell == cell}
    cells = map(named.get, _IMAGE_COLUMNS)
    image = next((cell for cell in cells if isinstance(cell, str) and cell.strip()), "")
    if not 1 <= len(image) <= MAX_ROW_CHARACTERS:
        raise InvalidRequest(
            f"Row {number} must be a URL or S3 key of 1 to {MAX_ROW_CHARACTERS} characters, or an object "
            "with one as its image"
        )
    try:
        regions = parse_regions(named.get("regions"))
    except InvalidRequest as error:
        raise InvalidRequest(f"Row {number}: {error.message}") from None
    identity = named.get("id")
    if not isinstance(identity, str | int | float | None) or len(str(identity)) > MAX_ID_CHARACTERS:
        raise InvalidRequest(
            f"Row {number}: id must be text or a number, of at most {MAX_ID_CHARACTERS} characters"
        )
    if isinstance(identity, float) and math.isinf(identity):
        raise InvalidRequest(f"Row {number}: id must be text, or a number that JSON has")
    if isinstance(identity, int) and abs(identity) > MAX_EXACT:
        identity = str(identity)
    identity = whole(identity) or None if isinstance(identity, str) else identity
    return Row(whole(image), identity, regions)


def names_a_member(name: str) -> bool:
    """Whether ``parse_row`` looks at what is called so."""
    return _letters(name) in (*_IMAGE_COLUMNS, "id", "regions")


def whole(text: str) -> str:
    """Return ``text`` fit to be stored or sent: JSON may hold half a character."""
    return text.encode("utf-8", "replace").decode()


def parse_regions(hints: object) -> tuple[str, ...]:
    """Return region codes of a list, or of text with commas between. Raises ``InvalidRequest``."""
    hints = [hints] if isinstance(hints, str) else hints or []
    if not isinstance(hints, list) or not all(isinstance(hint, str) for hint in hints):
        raise InvalidRequest("regions must be a list of region codes such as us-ca or de")
    return checked_regions(list(map(whole, hints)))


def parse_rows(values: Iterable[object], most: int = MAX_ROWS) -> Iterator[Row]:
    """Yield the rows that ``values`` are. Raises ``InvalidRequest`` as ``read_rows`` does."""
    number = 0
    for number, value in enumerate(values, 1):
        if number > most:
            break
        yield parse_row(value, number)
    if not 1 <= number <= most:
        raise InvalidRequest(f"The list must have 1 to {most} rows")


def read_rows(stream: Any, form: str, most: int = MAX_ROWS) -> Iterator[Row]:
    """Yield the rows of a list of the form ``jsonl`` or ``csv``, in UTF-8 or UTF-16.

    It may be compressed by gzip. What is no UTF-8 in a CSV is taken for Windows-1252, in which spreadsheets
    save notes with umlauts. ``stream`` has ``readinto``: a file, a ``BytesIO``, or what botocore calls a
    body. Raises ``InvalidRequest`` at the first invalid row, where there is no row, and after ``most``.
    """
    reader = io.BufferedReader(stream, 1 << 18)
    if reader.peek(2)[:2] == _GZIP:
        reader = io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=reader)), 1 << 18)
    number = 0
    try:
        encoding = _encoding(reader.peek(_BYTES_LOOKED_AT)[:_BYTES_LOOKED_AT])
        errors = _AS_WINDOWS if form == "csv" and encoding == "utf-8-sig" else "strict"
        lines = _Lines(io.TextIOWrapper(reader, encoding, errors, newline=""))
        values = _csv_values(lines) if form == "csv" else _json_values(lines)
        for number, row in enumerate(parse_rows(values, most), 1):  # noqa: B007
            lines.left += _MEAN_CHARACTERS
            yield row
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InvalidRequest(f"The list is broken after row {number}: gzip cannot unpack it") from None
    except UnicodeDecodeError:
        raise InvalidRequest("The list must be UTF-8 or UTF-16") from None
    except csv.Error as error:
        raise InvalidRequest(f"Not valid CSV after row {number}: {error}") from None


def _encoding(head: bytes) -> str:
    """Tell how a list is encoded by its first bytes: a spreadsheet's "Unicode text" is UTF-16.

    That has a byte order mark or, in its place, many zeros, most of them on one side: those of the letters,
    digits and signs that URLs and delimiters are of.
    """
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    before, behind = head[::2].count(0), head[1::2].count(0)
    if before == behind or max(before, behind) < len(head) / 8:  # stray ones, or what fills up a file
        return "utf-8-sig"
    return "utf-16-be" if before > behind else "utf-16-le"


@dataclass
class _Lines(Iterator[str]):
    """The lines of a list, as long as they are not too many for its rows."""

    text: io.TextIOWrapper
    left: int = _MORE_CHARACTERS

    def __next__(self) -> str:
        if not (line := self.text.readline(_MAX_LINE_CHARACTERS)):
            raise StopIteration
        if len(line) == _MAX_LINE_CHARACTERS:
            raise InvalidRequest(f"The list has a line of more than {_MAX_LINE_CHARACTERS:,} characters")
        self.left -= max(len(line), _LEAST_CHARACTERS)
        if self.left < 0:
            raise InvalidRequest(
                "The list has too many characters, or empty rows, for so few rows with an image"
            )
        return line


def _json_values(lines: Iterator[str]) -> Iterator[object]:
    """Yield what each line of JSON Lines holds; empty lines do not count."""
    for number, line in enumerate(filter(str.strip, lines), 1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            raise InvalidRequest(f"Row {number} is not JSON") from None


def _csv_values(lines: Iterator[str]) -> Iterator[object]:
    """Yield the rows of a CSV, by the names in its first line.

    Without such a line the image is in the column of URLs or, if there is none, in the first.
    """
    begun = list(islice(lines, _LINES_LOOKED_AT))
    if named := _SEP.match("".join(begun[:1])):
        begun, delimiter = begun[1:], named[1] or ","
    else:
        delimiter = max(_DELIMITERS, key=partial(_fits, begun))
    try:
        cells = csv.reader(chain(begun, lines), strict=True, delimiter=delimiter, skipinitialspace=True)
    except (TypeError, ValueError) as error:
        raise csv.Error(str(error)) from None
    rows: Iterator[list[str]] = (row for row in cells if any(map(str.strip, row)))
    head = next(rows, None)
    if head is None:
        return
    columns = [_letters(name) for name in head]
    if set(columns).isdisjoint(_IMAGE_COLUMNS):
        second = list(islice(rows, 1))
        urls, below = _urls(head), _urls(*second)
        names = "/" in head[0] or "." in head[0]  # as URLs and keys have, and the name of a column has not
        other_words = not urls and len(below) == 1 and (below[0] > 0 or not names)
        if other_words and below[0] < len(columns):
            columns[below[0]], rows = "image", chain(second, rows)
        elif urls or (names and not any(_names_columns(line, below=head) for line in begun)):
            columns, rows = [*([""] * (urls[0] if urls else 0)), "image"], chain([head], second, rows)
        else:
            raise InvalidRequest(
                f"Row 1 names no image: {head[0][:80]!r} is neither a URL nor an S3 key, nor the name of a "
                "column of them, such as image_url. Lines above the names of the columns must be removed"
            )
    for row in rows:
        yield dict(zip(columns, row, strict=False))


def _fits(lines: list[str], delimiter: str) -> tuple[bool, ...]:
    """Judge a delimiter by the first rows: it names a column of images, or leaves a URL whole, in columns."""
    rows: list[list[str]] = []
    with suppress(csv.Error):
        rows += islice(filter(any, csv.reader(lines, delimiter=delimiter, skipinitialspace=True)), 2)
    head, *below = rows or [[]]
    is_named = not {_letters(name) for name in head}.isdisjoint(_IMAGE_COLUMNS)
    begins = any(re.match(r"\w+://", cell) for row in rows for cell in row)
    is_table = len(head) > 1
    return is_named, begins, is_table and all(len(row) == len(head) for row in below), is_table


def _letters(name: str) -> str:
    """Return the letters and digits of a name, none of one that is too long to be ours: each row has it."""
    return "".join(filter(str.isalnum, name.lower())) if len(name) <= _LONGEST_NAME else ""


def _urls(row: Sequence[str] = ()) -> list[int]:
    """Tell which cells of ``row`` are URLs."""
    return [place for place, cell in enumerate(row) if "://" in cell]


def _names_columns(line: str, below: Sequence[str]) -> bool:
    """Whether a line may name the columns of a list that begins with another: it has a name that is known.

    And it has no image's slash, unless what it stands ``below`` is a single cell, as a title is.
    """
    names = list(map(_letters, re.split(f"[{_DELIMITERS}]", line)))
    is_below_a_title = sum(map(bool, below)) == 1 < len(names)
    return ("/" not in line or is_below_a_title) and not set(names).isdisjoint(_IMAGE_COLUMNS)
