"""Before a batch's map, and after it: its list is looked at, and its results are joined and announced.

A map that has read every row leaves files of JSON Lines and a manifest that names them. Of one that failed or
was stopped, what its children have come to is joined; a redrive joins it anew, with what was missing.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from carsight_service.aws.clients import Clients
from carsight_service.batch_store import ENDS, RESULTS, Batch, Batches, Kind, State
from carsight_service.contract.errors import InternalError, InvalidRequest
from carsight_service.contract.lists import read_rows
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.batches import ChildRow, Outcome, Outcomes, lines_of
from carsight_service.queue.leases import Leases
from carsight_service.queue.tables import write_tables
from carsight_service.telemetry import logger

if TYPE_CHECKING:
    from carsight_service.aws.lambda_types import Context, Event
    from carsight_service.deployment import Deployment

SORTED_BYTES = 32 * 1024 * 1024
"""Results up to this size are put into the order of the list; larger ones stay as the map writes them."""

SETTLING_SECONDS = 2.0
"""After a batch was stopped, for children that have looked at its state just before."""

_CONTENT_TYPES: Mapping[Kind, str] = {
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}

_PART_BYTES = 8 * 1024 * 1024
_COPIED_BYTES = 5 * 1024 * 1024
"""What S3 takes as a part of an object at least, but for the last."""


class BatchJobs:
    """What the batches' state machine has done beside reading; one per process."""

    def __init__(self, deployment: Deployment) -> None:
        settings, aws = deployment.settings, deployment.aws
        self._settings = settings
        self._aws = aws
        self._storage = deployment.storage
        self._bucket = deployment.storage.results_bucket
        self._writer = partial(_ObjectWriter, aws, self._bucket)
        self._batches = Batches(deployment)
        self._outcomes = Outcomes(deployment)
        self._leases = Leases(settings.table_name, aws.work, deployment.clock)
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
                for row in read_rows(body, rows["kind"]):
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
        files: Mapping[str, Sequence[Any]] = {}
        if manifest:
            files = json.loads(b"".join(self._open(manifest)))["ResultFiles"]
        read, failed = self._join(batch, manifest, files)
        have = read + failed
        if state == "finished" and batch.rows not in (None, have):
            logger.error("rows without a result", extra={"batch": batch.id, "rows": batch.rows, "have": have})
        rows = have if state == "finished" else batch.rows
        counted: dict[str, Any] = {"rows": rows, "read": read, "failed": failed}
        # Announced before it is known to be finished: a worker that dies in between does both again, the
        # announcement under the same delivery id.
        ended = replace(batch, state=state, **counted)
        summary = self._summary(ended)
        own = [{"key": file["Key"], "bytes": file["Size"]} for file in files.get("SUCCEEDED", ())]
        manifested = json.dumps({**summary, "files": own}).encode()
        self._storage.write_result(batch.object(RESULTS["manifest"]), manifested)
        self._announcer.announce("carsight.batch", batch.account, batch.delivery, summary)
        self._batches.end(batch, state, **counted)
        return ended

    def _join(self, batch: Batch, manifest: str, named: Mapping[str, Sequence[Any]]) -> tuple[int, int]:
        """Write the results; return how many rows were read, and how many were not."""
        files = sorted(named.get("SUCCEEDED", ()), key=lambda file: -file["Size"])
        large = sum(file["Size"] for file in files) > SORTED_BYTES
        lines = self._lines(batch, files, named.get("FAILED", ()), manifest)
        counts = {True: 0, False: 0}
        with ExitStack() as stack:
            result, sheet, parquet = (
                stack.enter_context(self._writer(batch.object(RESULTS[kind]), content_type))
                for kind, content_type in _CONTENT_TYPES.items()
            )
            for file in files if large else ():
                result.copy(self._bucket, file["Key"], file["Size"])

            def written() -> Iterator[dict[str, Any]]:
                for line, own in lines if large else sorted(lines, key=_row_of):
                    row = json.loads(line)
                    counts[row["status"] == 200] += 1
                    if not (large and own):
                        result.write(line)
                    yield row

            write_tables(written(), batch.api, sheet, parquet)
        return counts[True], counts[False]

    def _lines(
        self, batch: Batch, files: Sequence[Any], failed: Sequence[Any], manifest: str
    ) -> Iterator[tuple[bytes, bool]]:
        """Yield the rows of a result as JSON Lines, and whether they lie in the map's own ``files``."""
        if not manifest:
            for outcome in self._outcomes.all(batch):
                yield from ((line, False) for line in outcome.lines.splitlines(keepends=True))
            return
        for file in files:
            yield from ((line, True) for line in self._open(file["Key"]))
        for file in failed:  # children that were given up, few enough for the map to go on
            for record in self._open(file["Key"]):
                rows = [ChildRow(**item) for item in json.loads(json.loads(record)["Input"])["Items"]]
                outcome = self._outcomes.get(batch.part(rows[0].row)) or Outcome(
                    lines_of(row.refusal(batch, InternalError(batch.api), self._settings) for row in rows)
                )
                yield from ((line, False) for line in outcome.lines.splitlines(keepends=True))

    def _open(self, key: str) -> Iterator[bytes]:
        """Yield the lines of an object of the results bucket."""
        body: Any = self._aws.s3.get_object(Bucket=self._bucket, Key=key)["Body"]
        with body:
            yield from io.BufferedReader(body, 1 << 20)

    def _summary(self, batch: Batch) -> dict[str, Any]:
        """Return what is announced of a batch that has ended."""
        told = ("id", "api", "state", "rows", "read", "failed", "created")
        return {
            **{name: getattr(batch, name) for name in told},
            **({"detail": batch.detail} if batch.detail else {}),
            "result": {
                "bucket": self._bucket,
                **{kind: batch.object(name) for kind, name in RESULTS.items()},
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

    def write(self, data: bytes) -> int:
        """Add ``data`` at the end."""
        self._buffer += data
        if len(self._buffer) >= _PART_BYTES:
            self._flush()
        return len(data)

    def flush(self) -> None:
        """Do nothing: parts have a size of their own."""

    def seek(self, *_: int) -> int:
        """Refuse. What writes Parquet asks for the method, and writes from the beginning to the end."""
        raise io.UnsupportedOperation("seek")

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
