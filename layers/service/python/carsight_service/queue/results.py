"""Before a batch's map, and after it: its list is looked at, and its results are joined and announced.

A map that has read every row leaves files of JSON Lines and a manifest that names them. Of one that failed or
was stopped, what its children have come to is joined; a redrive joins it anew, with what was missing.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from carsight_service.aws.clients import Clients
from carsight_service.batch_store import ENDS, Batch, Batches, State
from carsight_service.contract.api import Api
from carsight_service.contract.errors import InvalidRequest
from carsight_service.contract.lists import bounded_rows
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.batches import ChildRow, Outcomes, lines_of, unread
from carsight_service.queue.leases import Leases
from carsight_service.telemetry import logger

if TYPE_CHECKING:
    from carsight_service.aws.lambda_types import Context, Event
    from carsight_service.deployment import Deployment

SORTED_BYTES = 32 * 1024 * 1024
"""Results up to this size are put into the order of the list; larger ones stay as the map writes them."""

SETTLING_SECONDS = 2.0
"""After a batch was stopped, for children that have looked at its state just before."""

_PART_BYTES = 8 * 1024 * 1024
_COPIED_BYTES = 5 * 1024 * 1024
"""What S3 takes as a part of an object at least, but for the last."""


class BatchJobs:
    """What the batches' state machine has done beside reading; one per process."""

    def __init__(self, deployment: Deployment) -> None:
        settings, aws = deployment.settings, deployment.aws
        self._settings = settings
        self._aws = aws
        self._bucket = deployment.storage.results_bucket
        self._batches = Batches(deployment)
        self._outcomes = Outcomes(deployment)
        self._leases = Leases(settings.table_name, aws.dynamodb, deployment.clock)
        self._announcer = Announcer.of(deployment)

    def handle(self, event: Event, context: Context) -> dict[str, Any]:
        """Do what a state of the machine asks for, or deal with the event of an execution that has ended."""
        seconds = context.get_remaining_time_in_millis() / 1000
        if "check" in event:
            return self.check(event["check"], event["list"], seconds)
        ended = event.get("detail")
        if ended:
            return self.finish(ended["name"], ended.get("redriveCount", 0), seconds, ENDS[ended["status"]])
        return self.finish(event["finish"], event["redrives"], seconds, "finished", event["manifest"])

    # -- before ----------------------------------------------------------------------------------------------

    def check(self, batch_id: str, rows: Mapping[str, str], seconds: float) -> dict[str, Any]:
        """Look at every row of a list, and answer with the list that the map reads.

        A list with a row that names no image is refused: the batch has failed then, and says why.
        """
        batch = self._batches.get(batch_id)
        if batch is None:
            return {"kind": "refused"}
        body: Any = self._aws.s3.get_object(Bucket=rows["bucket"], Key=rows["key"])["Body"]
        count = 0
        try:
            with body, self._writer(batch.object("list.jsonl"), "application/jsonl") as checked:
                for row in bounded_rows(body, rows["kind"]):
                    count += 1
                    checked.write(row.line())
        except InvalidRequest as error:
            self._batches.note(batch, detail=error.message)
            self.finish(batch_id, batch.redrives, seconds, "failed")
            return {"kind": "refused"}
        self._batches.note(batch, rows=count)
        return {"kind": "rows", "bucket": self._bucket, "key": batch.object("list.jsonl")}

    # -- after -----------------------------------------------------------------------------------------------

    def finish(
        self, batch_id: str, redrives: int, seconds: float, state: State, manifest: str = ""
    ) -> dict[str, Any]:
        """Join the results of a batch that has ended, and announce it, once for each end.

        Raises ``TryLater`` where that is being done elsewhere, and whatever is our fault.
        """
        batch = self._batches.get(batch_id)
        if batch is None or batch.redrives != redrives:
            return {"id": batch_id, "state": "redriven"}
        lease = self._leases.take(f"batch/{batch.delivery}", state, seconds, holder=f"{state}/{manifest}")
        if lease is not None:
            with self._leases.held(lease):
                batch = self._finish(batch, state, manifest)
        return {"id": batch.id, "state": batch.state, "read": batch.read, "failed": batch.failed}

    def _finish(self, batch: Batch, state: State, manifest: str) -> Batch:
        if state != "finished" and batch.state == "running":
            # First, so that children that are still at it neither count nor store any more.
            self._batches.note(batch, state=state)
            batch = replace(batch, state=state)
            time.sleep(SETTLING_SECONDS)
        self._outcomes.settle(batch)
        read, failed, files = self._join(batch, manifest)
        if state == "finished" and batch.rows not in (None, read + failed):
            logger.error(
                "rows without a result", extra={"batch": batch.id, "rows": batch.rows, "have": read + failed}
            )
        counted: dict[str, Any] = {
            "rows": read + failed if state == "finished" else batch.rows,
            "read": read,
            "failed": failed,
        }
        # Announced before it is known to be finished: a worker that dies in between does both again, the
        # announcement under the same delivery id.
        ended = replace(batch, state=state, **counted)
        self._announcer.announce("carsight.batch", batch.account, batch.delivery, self._summary(ended, files))
        self._batches.end(batch, state, **counted)
        return ended

    def _join(self, batch: Batch, manifest: str) -> tuple[int, int, list[dict[str, Any]]]:
        """Write the results; return how many rows were read, how many were not, and the map's own files."""
        named: Mapping[str, Any] = {}
        if manifest:
            named = json.loads(self._outcomes.get(manifest) or b"")["ResultFiles"]
        files = sorted(named.get("SUCCEEDED", ()), key=lambda file: -file["Size"])
        large = sum(file["Size"] for file in files) > SORTED_BYTES
        lines = self._lines(batch, files, named.get("FAILED", ()), manifest)
        counts = {True: 0, False: 0}
        columns = _COLUMNS_OF[batch.api]
        with ExitStack() as stack:
            result = stack.enter_context(self._writer(batch.object("result.jsonl"), "application/jsonl"))
            table = stack.enter_context(self._writer(batch.object("result.csv"), "text/csv; charset=utf-8"))
            table.write(_csv_line(columns))
            for file in files if large else ():
                result.copy(self._bucket, file["Key"], file["Size"])
            for line, own in lines if large else sorted(lines, key=_row_of):
                row = json.loads(line)
                counts[row["status"] == 200] += 1
                table.write(_csv_line(_cells(row, columns)))
                if not (large and own):
                    result.write(line)
        read, failed = counts[True], counts[False]
        listed = [{"key": file["Key"], "bytes": file["Size"]} for file in files]
        about = {
            "id": batch.id,
            "api": batch.api,
            "rows": batch.rows,
            "read": read,
            "failed": failed,
            "files": listed,
        }
        self._aws.s3.put_object(
            Bucket=self._bucket,
            Key=batch.object("manifest.json"),
            Body=json.dumps(about).encode(),
            ContentType="application/json",
        )
        return read, failed, listed

    def _lines(
        self, batch: Batch, files: Sequence[Any], failed: Sequence[Any], manifest: str
    ) -> Iterator[tuple[bytes, bool]]:
        """Yield the rows of a result as JSON Lines, and whether they lie in the map's own ``files``."""
        if not manifest:
            for outcome in self._outcomes.all(batch):
                yield from ((line, False) for line in outcome.splitlines(keepends=True))
            return
        for file in files:
            yield from ((line, True) for line in self._open(file["Key"]))
        for file in failed:  # children that were given up, few enough for the map to go on
            for record in self._open(file["Key"]):
                items = [
                    ChildRow.model_validate(item) for item in json.loads(json.loads(record)["Input"])["Items"]
                ]
                outcome = self._outcomes.get(batch.part(items[0].row)) or lines_of(
                    unread(batch, item, self._settings) for item in items
                )
                yield from ((line, False) for line in outcome.splitlines(keepends=True))

    def _open(self, key: str) -> Iterator[bytes]:
        """Yield the lines of an object of the results bucket."""
        body: Any = self._aws.s3.get_object(Bucket=self._bucket, Key=key)["Body"]
        with body:
            yield from io.BufferedReader(body, 1 << 20)

    def _writer(self, key: str, content_type: str) -> _ObjectWriter:
        return _ObjectWriter(self._aws, self._bucket, key, content_type)

    def _summary(self, batch: Batch, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what is announced of a batch that has ended."""
        return {
            "id": batch.id,
            "api": batch.api,
            "state": batch.state,
            "rows": batch.rows,
            "read": batch.read,
            "failed": batch.failed,
            "created": batch.created,
            **({"detail": batch.detail} if batch.detail else {}),
            "result": {
                "bucket": self._bucket,
                "jsonl": batch.object("result.jsonl"),
                "csv": batch.object("result.csv"),
                "manifest": batch.object("manifest.json"),
            },
        }


class _ObjectWriter:
    """An object that is written piece by piece; it appears when the block is left."""

    def __init__(self, aws: Clients, bucket: str, key: str, content_type: str) -> None:
        self._s3 = aws.s3
        self._which: Any = {"Bucket": bucket, "Key": key}
        self._content_type = content_type

    def __enter__(self) -> Self:
        self._buffer = bytearray()
        self._parts: list[Any] = []
        upload = self._s3.create_multipart_upload(**self._which, ContentType=self._content_type)
        self._which["UploadId"] = upload["UploadId"]
        return self

    def write(self, data: bytes) -> None:
        """Add ``data`` at the end."""
        self._buffer += data
        if len(self._buffer) >= _PART_BYTES:
            self._flush()

    def copy(self, bucket: str, key: str, size: int) -> None:
        """Add an object at the end, within S3 where it lets us; largest first, and nothing written before."""
        if size < _COPIED_BYTES or self._buffer:
            self.write(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read())
            return
        number = len(self._parts) + 1
        source: Any = {"Bucket": bucket, "Key": key}
        part = self._s3.upload_part_copy(**self._which, PartNumber=number, CopySource=source)
        self._parts.append({"PartNumber": number, "ETag": part["CopyPartResult"]["ETag"]})

    def _flush(self) -> None:
        number = len(self._parts) + 1
        part = self._s3.upload_part(**self._which, PartNumber=number, Body=bytes(self._buffer))
        self._parts.append({"PartNumber": number, "ETag": part["ETag"]})
        self._buffer.clear()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._s3.abort_multipart_upload(**self._which)
            return
        if self._buffer or not self._parts:
            self._flush()
        self._s3.complete_multipart_upload(**self._which, MultipartUpload={"Parts": self._parts})


def _row_of(line: tuple[bytes, bool]) -> int:
    number: int = json.loads(line[0])["row"]
    return number


_FIRST_COLUMNS = ("row", "input", "status", "code", "message")
_COLUMNS_OF: Mapping[Api, Sequence[str]] = {
    Api.PLATE: (
        *_FIRST_COLUMNS,
        *(
            "plate",
            "score",
            "dscore",
            "region",
            "region_score",
            "vehicle_type",
            "xmin",
            "ymin",
            "xmax",
            "ymax",
        ),
        "plates",
        "id",
    ),
    Api.VIN: (
        *_FIRST_COLUMNS,
        *("vin", "confidence", "source", "check_digit_valid", "xmin", "ymin", "xmax", "ymax", "id"),
    ),
}
"""Of a result's CSV. ``plate`` and what follows is the first of ``plates``, which are separated by blanks."""


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[Any]:
    """Return a row of results in the order of ``columns``; what it does not have is empty."""
    flat = dict(row)
    if row["status"] == 200 and "results" in row:
        first = row["results"][0]
        flat |= {name: first[name] for name in ("plate", "score", "dscore")} | first["box"]
        flat |= {"region": first["region"]["code"], "region_score": first["region"]["score"]}
        flat |= {"vehicle_type": first["vehicle"]["type"]}
        flat |= {"plates": " ".join(result["plate"] for result in row["results"])}
    elif row["status"] == 200:
        flat |= row["box"] | {"check_digit_valid": row["check_digit"]["valid"]}
    return [flat.get(column, "") for column in columns]


def _csv_line(cells: Sequence[Any]) -> bytes:
    """One line (RFC 4180). Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    line = io.StringIO()
    safe = [f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in cells]
    csv.writer(line).writerow(safe)
    return line.getvalue().encode()


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
