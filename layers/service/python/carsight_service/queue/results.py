"""Before a batch's map, and after it: its list is checked, and its results are joined and announced.

Whatever has ended a map, results are joined out of what its children have come to, in the order of the list;
a redrive joins them anew, with what was missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from smart_open import s3

from carsight_service.batch_store import ENDS, RESULTS, Batch, Batches, Kind, State
from carsight_service.contract.errors import InternalError, InvalidRequest
from carsight_service.contract.lists import read_rows
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.batches import ChildRow, Outcome, Outcomes
from carsight_service.queue.tables import write_tables
from carsight_service.telemetry import logger

if TYPE_CHECKING:
    from carsight_service.aws.lambda_types import Context, Event
    from carsight_service.deployment import Deployment

_CONTENT_TYPES: Mapping[Kind, str] = {
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}

_PART_BYTES = 8 * 1024 * 1024


class BatchJobs:
    """The steps of the batches' state machine that read no photo; one per process."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._s3 = deployment.aws.s3
        self._bucket = deployment.storage.results_bucket
        self._batches = Batches(deployment)
        self._outcomes = Outcomes(deployment)
        self._announcer = Announcer(deployment)

    def handle(self, event: Event, _: Context) -> dict[str, Any]:
        """Do what a state of the machine asks for, or deal with the event of an execution that has ended."""
        if "check" in event:
            return self.check(event["check"], event["list"])
        if ended := event.get("detail"):
            return self.finish(ended["name"], ended.get("redriveCount", 0), ENDS[ended["status"]])
        return self.finish(event["finish"], event["redrives"], "finished", event["manifest"])

    # -- before ----------------------------------------------------------------------------------------------

    def check(self, batch_id: str, rows: Mapping[str, str]) -> dict[str, Any]:
        """Look at every row of a list, and answer with the list that the map reads.

        A list with a row that names no image is refused: the batch has failed then, and says why.
        """
        batch = self._batches.get(batch_id)
        if batch is None:
            return {"kind": "refused"}
        body = self._body(rows["bucket"], rows["key"])
        count = 0
        try:
            with body, self._writer(batch.object("list.jsonl"), _CONTENT_TYPES["jsonl"]) as checked:
                for row in read_rows(body, rows["kind"]):
                    count += 1
                    checked.write(row.line())
        except InvalidRequest as error:
            self._batches.change(batch, detail=error.message)
            self.finish(batch_id, batch.redrives, "failed")
            return {"kind": "refused"}
        self._batches.change(batch, rows=count)
        return {"kind": "rows", "bucket": self._bucket, "key": batch.object("list.jsonl")}

    # -- after -----------------------------------------------------------------------------------------------

    def finish(self, batch_id: str, redrives: int, state: State, manifest: str = "") -> dict[str, Any]:
        """Join the results of a batch that has ended, and announce it; an end that is noted is over.

        Raises whatever is our fault. Whoever does it again, or beside another, writes and announces the same.
        """
        batch = self._batches.get(batch_id)
        if batch is None or batch.redrives != redrives:
            return {"id": batch_id, "state": "redriven"}
        if not batch.finished:
            batch = self._finish(batch, state, manifest)
        self._outcomes.settle(batch)
        return {"id": batch.id, "state": batch.state, "read": batch.read, "failed": batch.failed}

    def _finish(self, batch: Batch, state: State, manifest: str) -> Batch:
        if state != "finished" and batch.state == "running":
            # First of all: a child that has been read from now on finds that the batch is over. Somebody may
            # be stopping it at this moment, or be told of the same end.
            batch = self._batches.change(batch, state=state) or self._batches.get(batch.id) or batch
        failures = (
            json.loads(self._body(self._bucket, manifest).read())["ResultFiles"]["FAILED"] if manifest else ()
        )
        for file in failures:
            self._give_up(batch, file["Key"])
        read, failed = self._join(batch)
        rows = read + failed if state == "finished" else batch.rows
        if batch.rows not in (None, rows):
            logger.error("rows without a result", extra={"batch": batch.id, "rows": batch.rows, "have": rows})
        # Announced before it is known to be finished: a worker that dies in between does both again, the
        # announcement under the same delivery id.
        known: dict[str, Any] = {"state": state, "rows": rows, "read": read, "failed": failed}
        ended = replace(batch, **known)
        summary = self._summary(ended)
        self._deployment.storage.write_result(batch.object(RESULTS["manifest"]), json.dumps(summary).encode())
        self._announcer.announce("carsight.batch", batch.account, batch.delivery, summary)
        self._batches.end(batch, **known)
        return ended

    def _give_up(self, batch: Batch, failures: str) -> None:
        """Refuse the rows of children that have failed for good, few enough for the map to go on."""
        for record in self._body(self._bucket, failures).iter_lines(1 << 20):
            items = [ChildRow(**item) for item in json.loads(json.loads(record)["Input"])["Items"]]
            fault = InternalError(batch.api)
            rows = [self._outcomes.refused(batch, item.about, fault) for item in items]
            self._outcomes.put(batch, Outcome.of(rows))

    def _join(self, batch: Batch) -> tuple[int, int]:
        """Write the results; return how many rows were read, and how many were not."""
        counts = {True: 0, False: 0}
        with ExitStack() as stack:
            result, sheet, parquet = (
                stack.enter_context(self._writer(batch.object(RESULTS[kind]), content_type))
                for kind, content_type in _CONTENT_TYPES.items()
            )

            def rows() -> Iterator[dict[str, Any]]:
                for outcome in self._outcomes.all(batch):
                    result.write(outcome.lines)
                    for line in outcome.lines.splitlines():
                        row = json.loads(line)
                        counts[row["status"] == 200] += 1
                        yield row

            write_tables(rows(), batch.api, sheet, parquet)
        return counts[True], counts[False]

    def _body(self, bucket: str, key: str) -> Any:
        return self._s3.get_object(Bucket=bucket, Key=key)["Body"]

    @contextmanager
    def _writer(self, key: str, content_type: str) -> Iterator[Any]:
        """Yield an object that is written piece by piece; it appears when the block is left."""
        about = {"S3.Client.create_multipart_upload": {"ContentType": content_type}}
        options: Any = {"client": self._s3, "client_kwargs": about, "min_part_size": _PART_BYTES}
        with TemporaryFile() as piece:  # on disk until it is sent: small results have small pieces
            options["writebuffer"] = piece
            with s3.open(self._bucket, key, "wb", **options) as file:
                yield file

    def _summary(self, batch: Batch) -> dict[str, Any]:
        """Return what is announced of a batch that has ended."""
        told = ("id", "api", "state", "rows", "read", "failed", "created")
        summary: dict[str, Any] = {name: getattr(batch, name) for name in told}
        if batch.detail:
            summary["detail"] = batch.detail
        objects: dict[str, str] = {kind: batch.object(name) for kind, name in RESULTS.items()}
        return summary | {"result": {"bucket": self._bucket} | objects}
