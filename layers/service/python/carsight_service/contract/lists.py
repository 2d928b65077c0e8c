"""Parsing lists of images, the input of a batch: JSON, JSON Lines, CSV and the rows of Parquet.

Lists are read as streams, so that ten million rows take no more memory than ten.
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
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import Any

from carsight_service.contract.api import IMAGE_FIELDS, without_surrogates
from carsight_service.contract.errors import InvalidRequest, checked_regions

MAX_ROWS = 10_000_000
MAX_ROW_CHARACTERS = 2048
MAX_ID_CHARACTERS = 200
MAX_EXACT = 2**53
"""The largest whole number that JSONata, which passes rows to their worker, never rounds."""

_MAX_LINE_CHARACTERS = 65_536
_MEAN_CHARACTERS = 8192
_MORE_CHARACTERS = 82_000_000
"""The most characters per row on average, and in addition for the whole list: gzip can expand a
thousandfold."""
_LEAST_CHARACTERS = 75
"""How many characters a shorter line counts for. A spreadsheet may write a million empty rows, but gigabytes
of them would take minutes."""

_IMAGE_COLUMNS = (
    *dict.fromkeys(name.replace("_", "").lower() for name in IMAGE_FIELDS),
    *("url", "uri", "s3uri", "imageuri", "photo", "photourl", "picture", "link", "key", "input"),
)
"""Names of the image's column or member, compared by letters and digits in any case: ``Image URL`` is one
too. ``input`` is its name in results, so that rows of a result can be sent again."""

_LONGEST_NAME = 64
"""A longer name of a column or member is ignored."""

_DELIMITERS = "\t;|,"
"""The delimiters of CSV: spreadsheets write a semicolon in countries with a decimal comma."""

_SEP = re.compile(r'\s*"?sep=([^"\r\n]?)', re.IGNORECASE)
"""A first line by which spreadsheets declare the delimiter; they save it in quotes."""

_GZIP = b"\x1f\x8b"
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How the workbooks of spreadsheets begin: .xlsx and .ods are ZIP archives, .xls is a compound file."""

_BYTES_LOOKED_AT = 64
"""How many bytes are examined for the encoding."""

_LINES_LOOKED_AT = 20
"""How many lines are examined for the delimiter; a row may have several lines."""

_AS_WINDOWS = "carsight.windows-1252"


def _as_windows(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes that are not UTF-8 as Windows-1252."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(_AS_WINDOWS, _as_windows)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a list."""

    number: int = field(repr=False)  # the fingerprint of a request is of its representation
    """Its place in the list, from 1."""
    image: str
    """An http(s) URL, ``s3://bucket/key``, or the key of an upload. Spaces around it may belong to the
    key."""
    id: str | float | None = None
    """The caller's own name for the row, which is returned in the result."""
    regions: tuple[str, ...] = ()
    """Where this car may be from; if empty, the regions of the whole list apply."""

    @property
    def about(self) -> dict[str, Any]:
        """The members that its line in the result has in any case."""
        identity = {} if self.id is None else {"id": self.id}
        return {"row": self.number, **identity, "input": self.image}

    def line(self) -> bytes:
        """Return the row as a line of JSON Lines that ``parse_row`` can read.

        It is an object even if there is only an image, as Step Functions documents no other kind of line.
        """
        cells = {"image": self.image, "id": self.id, "regions": self.regions}  # `asdict` takes 3x as long
        known = {name: cell for name, cell in cells.items() if cell not in (None, ())}
        return json.dumps(known, ensure_ascii=False).encode() + b"\n"


def parse_row(value: object, number: int) -> Row:
    """Return the row in ``value``: the image alone, or an object with the image and possibly other members.

    Raises ``InvalidRequest``, with the row's ``number``, if there is no image or another member is invalid.
    """
    # Data frames write NaN, which is not equal to itself, for missing values.
    members = value if isinstance(value, Mapping) else {"image": value}
    named = {_letters(str(name)): cell for name, cell in members.items() if cell == cell}
    cells = map(named.get, _IMAGE_COLUMNS)
    image = next((cell for cell in cells if isinstance(cell, str) and cell.strip()), "")
    if not 1 <= len(image) <= MAX_ROW_CHARACTERS:
        raise InvalidRequest(
            f"Row {number} must be a URL or S3 key of 1 to {MAX_ROW_CHARACTERS} characters, or have one as "
            "image_url"
        )
    try:
        regions = parse_regions(named.get("regions"))
    except InvalidRequest as error:
        raise InvalidRequest(f"Row {number}: {error.message}") from None
    identity = named.get("id")
    if (
        isinstance(identity, bool)  # an ``int`` to Python
        or not isinstance(identity, str | int | float | None)
        or len(str(identity)) > MAX_ID_CHARACTERS
    ):
        raise InvalidRequest(
            f"Row {number}: id must be text or a number of at most {MAX_ID_CHARACTERS} characters"
        )
    if isinstance(identity, float) and math.isinf(identity):
        raise InvalidRequest(f"Row {number}: id must be text or a finite number")
    if isinstance(identity, int) and abs(identity) > MAX_EXACT:
        identity = str(identity)
    identity = without_surrogates(identity) or None if isinstance(identity, str) else identity
    return Row(number, without_surrogates(image), identity, regions)


def names_an_image(name: str) -> bool:
    """Whether a member with this name has the image of its row."""
    return _letters(name) in _IMAGE_COLUMNS


def names_a_member(name: str) -> bool:
    """Whether ``parse_row`` uses a member with this name."""
    return names_an_image(name) or _letters(name) in ("id", "regions")


def parse_regions(hints: object) -> tuple[str, ...]:
    """Return the region codes in a list or in comma-separated text. Raises ``InvalidRequest``."""
    hints = [hints] if isinstance(hints, str) else hints or []
    if not isinstance(hints, list) or not all(isinstance(hint, str) for hint in hints):
        raise InvalidRequest("regions must be a list of region codes such as us-ca or de")
    return checked_regions(list(map(without_surrogates, hints)))


def parse_rows(values: Iterable[object], most: int = MAX_ROWS) -> Iterator[Row]:
    """Yield ``values`` as rows. Raises ``InvalidRequest`` as ``read_rows`` does."""
    number = 0
    for number, value in enumerate(values, 1):
        if number > most:
            break
        yield parse_row(value, number)
    if not 1 <= number <= most:
        raise InvalidRequest(f"The list must have 1 to {most} rows")


def check_no_workbook(head: bytes) -> None:
    """Raise ``InvalidRequest`` if a list that begins with ``head`` is a workbook, or another archive."""
    if head.startswith(_WORKBOOKS):
        raise InvalidRequest("The list is a workbook (.xlsx, .ods, .xls) or an archive: save it as CSV")


def read_rows(stream: Any, form: str, most: int = MAX_ROWS) -> Iterator[Row]:
    """Yield the rows of a list with the format ``jsonl`` or ``csv``, in UTF-8 or UTF-16.

    It may be compressed with gzip. Bytes of a CSV that are not UTF-8 are decoded as Windows-1252, in which
    some spreadsheets save text with umlauts. ``stream`` has ``readinto``: a file, a ``BytesIO``, or
    botocore's streaming body. Raises ``InvalidRequest`` at the first invalid row, if there is no row, and
    after ``most``.
    """
    reader = io.BufferedReader(stream, 1 << 18)
    if reader.peek(2)[:2] == _GZIP:
        reader = io.BufferedReader(gzip.GzipFile(fileobj=reader), 1 << 18)
    number = 0
    try:
        check_no_workbook(reader.peek(_BYTES_LOOKED_AT))
        encoding = _encoding(reader.peek(_BYTES_LOOKED_AT)[:_BYTES_LOOKED_AT])
        errors = _AS_WINDOWS if form == "csv" and encoding == "utf-8-sig" else "strict"
        lines = _Lines(io.TextIOWrapper(reader, encoding, errors, newline=""))
        values = _csv_values(lines) if form == "csv" else _json_values(lines)
        for number, row in enumerate(parse_rows(values, most), 1):  # noqa: B007
            lines.left += _MEAN_CHARACTERS
            yield row
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InvalidRequest(f"The list is damaged after row {number}: gzip cannot unpack it") from None
    except UnicodeDecodeError:
        raise InvalidRequest("The list must be UTF-8 or UTF-16") from None
    except csv.Error as error:
        why = "a quote is not closed" if "unexpected end" in str(error) else error
        raise InvalidRequest(f"The list is not valid CSV after row {number}: {why}") from None


def _encoding(head: bytes) -> str:
    """Return the encoding of a list, by its first bytes; the "Unicode text" of spreadsheets is UTF-16.

    UTF-16 has a byte order mark or, without one, many zeros, most of them at even or most at odd offsets:
    those of the ASCII characters in URLs and delimiters.
    """
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    before, behind = head[::2].count(0), head[1::2].count(0)
    if before == behind or max(before, behind) < len(head) / 8:  # stray zeros, or padding
        return "utf-8-sig"
    return "utf-16-be" if before > behind else "utf-16-le"


@dataclass
class _Lines(Iterator[str]):
    """The lines of a list. Raises ``InvalidRequest`` if they are too long or too many for its rows."""

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
                "The list has too many characters, or too many empty rows, for so few rows with an image"
            )
        return line


def _json_values(lines: Iterator[str]) -> Iterator[object]:
    """Yield the value of each line of JSON Lines; empty lines do not count."""
    for number, line in enumerate(filter(str.strip, lines), 1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            raise InvalidRequest(
                f"Row {number} is not JSON: each line must be one JSON value, without a comma after it"
            ) from None


def _csv_values(lines: Iterator[str]) -> Iterator[object]:
    """Yield the rows of a CSV as mappings, by the names in its first line.

    Without such a line the image is in the column with URLs or, if there is none, in the first column.
    """
    begun = list(islice(lines, _LINES_LOOKED_AT))
    if named := _SEP.match("".join(begun[:1])):
        begun, delimiter = begun[1:], named[1] or ","
    else:
        delimiter = max(_DELIMITERS, key=partial(_rating, begun))
    try:
        cells = csv.reader(chain(begun, lines), strict=True, delimiter=delimiter, skipinitialspace=True)
    except (TypeError, ValueError) as error:
        raise csv.Error(str(error)) from None
    rows: Iterator[list[str]] = (row for row in cells if any(map(str.strip, row)))
    head = next(rows, None)
    if head is None:
        return
    columns = [_letters(name) for name in head]
    if "status" not in columns:  # then this is no result, and an input may be that of a camera
        columns = ["" if name == "input" else name for name in columns]
    if set(columns).isdisjoint(_IMAGE_COLUMNS):
        second = list(islice(rows, 1))
        urls, below = _urls(head), _urls(*second)
        names = "/" in head[0] or "." in head[0]  # which URLs and keys have, and names of columns do not
        other_words = not urls and len(below) == 1 and (below[0] > 0 or not names)
        if other_words and below[0] < len(columns):
            columns[below[0]], rows = "image", chain(second, rows)
        elif urls or (names and not any(_names_columns(line, below=head) for line in begun)):
            columns, rows = [*([""] * (urls[0] if urls else 0)), "image"], chain([head], second, rows)
        else:
            raise InvalidRequest(
                f"Row 1 has no image: {head[0][:80]!r} is neither a URL nor an S3 key, nor the name of a "
                "column with images, such as image_url. Remove any lines above the column names"
            )
    for number, row in enumerate(rows, 1):
        if any(map(str.strip, row[len(head) :])):
            # A URL that was cut at a delimiter may be of another photo.
            raise InvalidRequest(
                f"Row {number} has more cells than the first line: put quotes around a cell that contains "
                f"{delimiter!r}, as a URL may"
            )
        yield dict(zip(columns, row, strict=False))


def _rating(lines: list[str], delimiter: str) -> tuple[bool, ...]:
    """Return how well a delimiter divides the first rows; the greater, the better.

    What counts most comes first: a column named as an image's, a cell that begins with a URL, and rows of as
    many cells as the first has.
    """
    rows: list[list[str]] = []
    with suppress(csv.Error):
        rows += islice(filter(any, csv.reader(lines, delimiter=delimiter, skipinitialspace=True)), 2)
    head, *below = rows or [[]]
    is_named = not {_letters(name) for name in head}.isdisjoint(_IMAGE_COLUMNS)
    begins = any(re.match(r"\w+://", cell) for row in rows for cell in row)
    is_table = len(head) > 1
    return is_named, begins, is_table and all(len(row) == len(head) for row in below), is_table


def _letters(name: str) -> str:
    """Return the letters and digits of a name in lower case; "" for a long one, as every row may have it."""
    return "".join(filter(str.isalnum, name.lower())) if len(name) <= _LONGEST_NAME else ""


def _urls(row: Sequence[str] = ()) -> list[int]:
    """Return the indices of the cells of ``row`` that are URLs."""
    return [place for place, cell in enumerate(row) if "://" in cell]


def _names_columns(line: str, below: Sequence[str]) -> bool:
    """Whether a line after the first one may name the columns, as it contains a known name.

    It must not contain a slash, as images do, unless ``below``, the first row, has a single cell, as a title
    has.
    """
    names = list(map(_letters, re.split(f"[{_DELIMITERS}]", line)))
    is_below_a_title = sum(map(bool, below)) == 1 < len(names)
    return ("/" not in line or is_below_a_title) and not set(names).isdisjoint(_IMAGE_COLUMNS)
