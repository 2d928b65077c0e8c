"""Tables of spreadsheets and data frames: a list in Parquet, and a batch's results as CSV and Parquet."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date, time
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import read_parquet, write_parquet

from carsight_service.contract.api import Api
from carsight_service.contract.errors import InvalidRequest
from carsight_service.contract.lists import names_a_member, names_an_image

_FIRST = {"row": int, "input": str, "status": int, "code": str, "message": str}
_BOX = dict.fromkeys(("xmin", "ymin", "xmax", "ymax"), int)
_PLATE = {"plate": str, "score": float, "dscore": float, "region": str, "region_score": float}
_VIN = {"vin": str, "confidence": float, "source": str, "check_digit_valid": bool}
_COLUMNS: Mapping[Api, Mapping[str, type]] = {
    Api.PLATE: {**_FIRST, **_PLATE, "vehicle_type": str, **_BOX, "plates": str, "id": str},
    Api.VIN: {**_FIRST, **_VIN, **_BOX, "id": str},
}
"""``plate`` and the columns after it describe the first of ``plates``, which are separated by blanks."""

_KINDS = {int: DataType.int32(), float: DataType.float64(), str: DataType.string(), bool: DataType.bool()}

_ROWS_AT_ONCE = 5_000
_ROWS_A_GROUP = 10_000
"""Rows in a row group of a Parquet file, which is in memory until it is written."""

_ROWS_READ = 32
"""Rows of a list that are in memory at once: each may contain a photo of megabytes."""

_PANIC = re.compile(r'.*`Err` value: \w+\("(.*)"\)', re.DOTALL)
"""The text of the parser's panic, around what is wrong with the file."""

_UUID = DataType.binary(16)

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_BELOW_ZERO = re.compile(r"-[0-9]+(\.[0-9]+)?(e[+-][0-9]+)?")


def read_table(file: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, with only the columns that a list may have: others may be photos.

    Raises ``InvalidRequest`` if the file is invalid. ``file`` can seek, and does not fail.
    """
    try:
        for batch in read_parquet(file, batch_size=_ROWS_READ):
            names = _names_of(batch)
            columns: list[Any] = [_cells_of(batch, name) for name in names]
            for cells in zip(*columns, strict=True):
                yield dict(zip(names, cells, strict=True))
    except (InvalidRequest, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the parser panics on some invalid files
        why = _PANIC.sub(r"\1", str(error))[:200]
        raise InvalidRequest(f"The list is not Parquet, or is damaged: {why}") from None


def _names_of(batch: RecordBatch) -> list[str]:
    """Return the names of the columns that a list may have. Raises ``InvalidRequest`` if none has images."""
    names = [name for name in batch.schema.names if names_a_member(name)]
    if not any(map(names_an_image, names)):
        raise InvalidRequest(
            "The list has no column with images, such as image_url; its columns are "
            f"{', '.join(batch.schema.names)[:200]}"
        )
    return names


def _cells_of(batch: RecordBatch, name: str) -> list[Any]:
    """Return a column's cells as JSON would represent them.

    The parser gives UUIDs as sixteen bytes, and so does it text of sixteen bytes in a column of such a width.
    """
    may_be_uuids = batch.schema.field(name).type == _UUID
    return [_as_in_json(cell, may_be_uuids) for cell in batch[name].to_pylist()]


def _as_in_json(cell: Any, may_be_uuid: bool) -> Any:
    """Return a cell as JSON would represent it; older programs write text as bytes."""
    if isinstance(cell, bytes):
        with suppress(UnicodeDecodeError):
            text = cell.decode()
            padded = text.rstrip("\0")
            if not may_be_uuid or (padded and padded.isprintable()):
                return text
        return str(UUID(bytes=cell)) if may_be_uuid else cell
    return str(cell) if isinstance(cell, Decimal | date | time) else cell


def write_tables(rows: Iterator[dict[str, Any]], api: Api, sheet: Any, parquet: Any) -> None:
    """Write the rows of a result as a stream, as CSV to ``sheet`` and as Parquet to ``parquet``.

    In the CSV (RFC 4180), text that a spreadsheet would treat as a formula is prefixed with an apostrophe.
    """
    columns = _COLUMNS[api]
    schema = Schema([Field(name, _KINDS[kind]) for name, kind in columns.items()])
    lines = csv.writer(codecs.getwriter("utf-8")(sheet))
    lines.writerow(columns)

    def batches() -> Iterator[RecordBatch]:
        while some := [_cells(row, columns) for row in islice(rows, _ROWS_AT_ONCE)]:
            lines.writerows(map(_safe, row) for row in some)
            arrays = [
                Array(cells, _KINDS[kind])
                for cells, kind in zip(zip(*some, strict=True), columns.values(), strict=True)
            ]
            yield RecordBatch.from_arrays(arrays, schema=schema)

    table = RecordBatchReader.from_batches(schema, batches())
    write_parquet(table, parquet, compression="zstd(1)", max_row_group_size=_ROWS_A_GROUP)


def _cells(row: dict[str, Any], columns: Mapping[str, type]) -> list[Any]:
    """Return the cells of a row of results in the order of ``columns``; missing values are None."""
    if row.get("results"):
        first = row["results"][0]
        row |= first | first["box"]
        row |= {"region": first["region"]["code"], "region_score": first["region"]["score"]}
        row |= {"vehicle_type": first["vehicle"]["type"]}
        row["plates"] = " ".join(result["plate"] for result in row["results"])
    elif row["status"] == 200:
        row |= row["box"] | {"check_digit_valid": row["check_digit"]["valid"]}
    return [None if (cell := row.get(name)) is None else kind(cell) for name, kind in columns.items()]


def _safe(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(_FORMULA) and not _BELOW_ZERO.fullmatch(cell):
        return f"'{cell}"
    return cell
