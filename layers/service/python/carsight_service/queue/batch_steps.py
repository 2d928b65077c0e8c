"""The steps before and after a batch's map: checking the list, and joining and announcing the results.

However a map has ended, the results are joined from the outcomes of its children, in the order of the list.
After a redrive they are joined again, with the rows that were missing.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from smart_open import s3

from carsight_service.aws.storage import reading_list
from carsight_service.batch_store import ENDS, RESULTS, Batch, Batches, State
from carsight_service.contract.errors import InternalError, InvalidRequest
from carsight_service.contract.lists import MAX_ROWS, parse_row, parse_rows, read_rows
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.outcomes import Outcome, Outcomes
from carsight_service.queue.retry import TryLater
from carsight_service.queue.tables import read_table, write_tables
from carsight_service.telemetry import logger

if TYPE_CHECKING:
    from carsight_service.aws.lambda_types import Context, Event
    from carsight_service.deployment import Deployment

_PART_BYTES = 8 * 1024 * 1024

_MAX_READ_BYTES = 10_000_000_000
"""The largest object that Step Functions reads ("ItemReader (Map)" in its guide)."""

_TOLD_WITHIN, _SWEPT_FOR = timedelta(hours=1), timedelta(days=2)
"""How long an end is left to the event about it, for three attempts of 15 minutes; and for how long after
that ``sweep`` looks for it."""


class BatchSteps:
    """The steps of the batches' state machine that read no photo; one per process."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._s3 = deployment.aws.s3
        self._bucket = deployment.storage.results_bucket
        self._batches = Batches(deployment)
        self._outcomes = Outcomes(deployment)
        self._announcer = Announcer(deployment)

    def handle(self, event: Event, _: Context) -> dict[str, Any]:
        """Run a step of the state machine or a sweep, or handle the event of an execution that has ended."""
        if "check" in event:
            return self.check(event["check"], event["list"])
        if "sweep" in event:
            return self.sweep()
        if ended := event.get("detail"):
            return self.finish(ended["name"], ended.get("redriveCount", 0), ENDS[ended["status"]])
        return self.finish(event["finish"], event["redrives"], "finished", event["manifest"])

    # -- before ----------------------------------------------------------------------------------------------

    def check(self, batch_id: str, rows: Mapping[str, str]) -> dict[str, Any]:
        """Check every row of a list, and return the place of the list that the map reads.

        A list that is missing, too long, or has an invalid row is refused: the batch is then ``failed``, and
        its ``detail`` says why. Raises ``TryLater`` if the batch is not running.
        """
        batch = self._batches.get(batch_id)
        if batch is None or (batch.state != "running" and not batch.detail):
            # Changing it would prevent recording its redrive.
            raise TryLater("the batch was stopped, or its redrive is not noted yet")
        if not batch.detail:
            try:
                count = self._convert(batch, rows)
            except InvalidRequest as error:
                batch = self._batches.change(batch, detail=error.message)
            else:
                self._batches.change(batch, rows=count)
                return {"kind": "rows", "bucket": self._bucket, "key": batch.object("list.jsonl")}
        # Also if an earlier attempt has refused the list, and may have died before announcing it.
        self.finish(batch_id, batch.redrives, "failed")
        return {"kind": "refused"}

    def _convert(self, batch: Batch, rows: Mapping[str, str]) -> int:
        """Write a list in the map's format; return its number of rows. Raises ``InvalidRequest``."""
        with reading_list("The list"):
            body = self._body(rows["bucket"], rows["key"])
        count = size = 0
        writer = self._writer(batch.object("list.jsonl"), "application/jsonl")
        with body, TemporaryFile() as file, writer as checked:
            if rows["kind"] == "parquet":  # whose index is at its end
                shutil.copyfileobj(body, file)
                listed = parse_rows(read_table(file))
            else:
                listed = read_rows(body, rows["kind"])
            for count, row in enumerate(listed, 1):
                size += checked.write(row.line())
                if size > _MAX_READ_BYTES:
                    raise InvalidRequest(
                        f"The list may have at most {_MAX_READ_BYTES:,} bytes as JSON Lines, and has more "
                        f"from row {count} on"
                    )
        return count

    # -- after -----------------------------------------------------------------------------------------------

    def finish(self, batch_id: str, redrives: int, state: State, manifest: str = "") -> dict[str, Any]:
        """Join the results of a batch that has ended, record the end, and announce it.

        An end that has been recorded is not joined again. Raises ``TryLater`` for the end of a redrive that
        is not recorded yet, ``Conflict`` if the batch is changed at the same time, and any fault of the
        service.
        """
        batch = self._batches.get(batch_id)
        # More redrives than recorded have been started from the console: this end still counts.
        if batch is None or batch.redrives > redrives:
            return {"id": batch_id, "state": "redriven"}
        if not batch.finished:
            batch = self._end(batch, state, manifest)
        elif batch.state != "finished" and redrives > batch.redrives:
            # The redrive is not recorded: its children wait for that, and so does this. If it has failed, it
            # must not be recorded any more, as the event of its end would be over, hence the new version.
            if state == "finished":
                raise TryLater("the redrive is not noted yet")
            batch = self._batches.change(batch)
        if batch.is_unannounced:
            # From the recorded state: if the worker dies before the next change, the same is announced again.
            self._announcer.announce("carsight.batch", batch.account, batch.delivery, self._summary(batch))
            self._batches.change(batch, is_unannounced=False)
        self._outcomes.settle(batch)
        return {"id": batch.id, "state": batch.state, "read": batch.read, "failed": batch.failed}

    def sweep(self) -> dict[str, Any]:
        """Finish batches whose end was not handled, as EventBridge delivers events on a best-effort basis.

        Tries all of them, and then raises the last error, if any.
        """
        latest = self._deployment.clock() - _TOLD_WITHIN
        machine = self._deployment.settings.batches_machine_arn or ""
        listed = self._deployment.aws.states.get_paginator("list_executions")
        ended = [
            (execution["name"], execution.get("redriveCount", 0), state)
            for status, state in ENDS.items()
            for page in listed.paginate(stateMachineArn=machine, statusFilter=status)
            for execution in page["executions"]
            if latest - _SWEPT_FOR < execution["stopDate"] < latest
        ]
        # A batch for which this process always runs out of time or memory must not always come first.
        random.shuffle(ended)
        wrong: Exception | None = None
        for end in ended:
            try:
                self.finish(*end)
            except Exception as error:
                logger.exception("batch not finished", extra={"batch": end[0]})
                wrong = error
        if wrong:
            raise wrong
        return {}

    def _end(self, batch: Batch, state: State, manifest: str) -> Batch:
        """Join the results of a batch and record its end, which is still to be announced; return the batch.

        Raises ``Conflict``, or botocore's ``ClientError``, if another worker does the same.
        """
        # This comes first: a child that finishes reading later finds that the batch is over, and an earlier
        # join, which may miss what is found and paid here, finds that its end does not count.
        over = {} if state == "finished" else {"state": state}
        begun = self._batches.change(batch, **over)
        if manifest:
            for file in json.loads(self._body(self._bucket, manifest).read())["ResultFiles"]["FAILED"]:
                self._give_up(batch, file["Key"])
        joined = self._join(replace(begun, state=state))
        known = {name: getattr(joined, name) for name in ("state", "rows", "read", "failed", "detail")}
        return self._batches.end(begun, is_unannounced=True, **known)

    def _give_up(self, batch: Batch, failures: str) -> None:
        """Store outcomes with 500s for children whose attempts all failed, few enough for the map to end."""
        for record in self._body(self._bucket, failures).iter_lines(1 << 20):
            items = json.loads(json.loads(record)["Input"])["Items"]
            rows = [parse_row(item["input"], item["row"]) for item in items]
            fault = InternalError(batch.api)
            results = [self._outcomes.refused(batch, row.about, fault) for row in rows]
            self._outcomes.put(batch, Outcome.of(results))

    def _join(self, batch: Batch) -> Batch:
        """Write the results of a batch, the manifest last; return the batch with its totals."""
        counts = {True: 0, False: 0}
        with ExitStack() as stack:
            manifest, result, sheet, parquet = (
                stack.enter_context(self._writer(batch.object(name), content_type))
                for name, content_type in RESULTS.values()
            )

            def rows() -> Iterator[dict[str, Any]]:
                for outcome in self._outcomes.all_paid(batch):
                    result.write(outcome.lines)
                    for row in outcome.rows:
                        counts[row["status"] == 200] += 1
                        yield row

            write_tables(rows(), batch.api, sheet, parquet)
            total = sum(counts.values()) if batch.state == "finished" else batch.rows
            if batch.rows not in (None, total):
                about = {"batch": batch.id, "rows": batch.rows, "have": total}
                logger.error("rows without a result", extra=about)
            joined = replace(batch, rows=total, read=counts[True], failed=counts[False])
            if batch.rows is None and total == MAX_ROWS:  # of a prefix, the map lists no more
                left_out = f"A batch reads the first {MAX_ROWS:,} objects under a prefix, and no others"
                joined = replace(joined, detail=left_out)
            manifest.write(json.dumps(self._summary(joined)).encode())
        return joined

    def _body(self, bucket: str, key: str) -> Any:
        return self._s3.get_object(Bucket=bucket, Key=key)["Body"]

    @contextmanager
    def _writer(self, key: str, content_type: str) -> Iterator[Any]:
        """Yield a file for writing an object piece by piece; the object is created at the end of the block.

        Raises botocore's ``ClientError`` there if another worker has written the object in the meantime,
        which is then kept.
        """
        found = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1).get("Contents")
        condition = {"IfMatch": found[0]["ETag"]} if found else {"IfNoneMatch": "*"}
        about = {
            "S3.Client.create_multipart_upload": {"ContentType": content_type},
            "S3.Client.complete_multipart_upload": condition,
            "S3.Client.put_object": condition,  # for an empty object
        }
        options: Any = {"client": self._s3, "client_kwargs": about, "min_part_size": _PART_BYTES}
        with TemporaryFile() as piece:  # pieces are on disk until they are sent
            options["writebuffer"] = piece
            with s3.open(self._bucket, key, "wb", **options) as file:
                yield file

    def _summary(self, batch: Batch) -> dict[str, Any]:
        """Return the announcement of a batch that has ended."""
        told = ("id", "api", "state", "rows", "read", "failed", "created")
        summary: dict[str, Any] = {name: getattr(batch, name) for name in told}
        if batch.detail:
            summary["detail"] = batch.detail
        objects = {kind: batch.object(name) for kind, (name, _) in RESULTS.items()}
        return summary | {"result": {"bucket": self._bucket} | objects}
