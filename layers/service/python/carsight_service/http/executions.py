"""Executions of the state machine ``Batches``: starting, following, stopping and redriving a batch.

``statemachines/batch.asl.json`` reads a batch, in an execution that is named after the batch.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from carsight_service.batch_store import ENDS, Batch, Batches, Conflict, ask
from carsight_service.contract.errors import InvalidRequest, StoreUnavailable

if TYPE_CHECKING:
    from carsight_service.deployment import Deployment


@dataclass(frozen=True, slots=True)
class List:
    """Where the rows of a batch are."""

    kind: str
    """``jsonl``, ``csv``, ``parquet``, ``prefix``, or ``rows``: checked JSON Lines, as written by
    ``contract.lists.Row.line``."""
    bucket: str
    key: str


class Executions:
    """The executions of one deployment.

    Methods raise ``StoreUnavailable`` if the table, S3 or Step Functions is throttled or cannot be reached.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._machine = deployment.settings.batches_machine_arn or ""
        self._storage = deployment.storage
        self._states = deployment.aws.states
        self._batches = Batches(deployment)

    def begin(self, batch: Batch, rows: List, lines: bytes = b"") -> Batch:
        """Record the batch, write the ``lines`` of its list if they were sent, and start reading its rows.

        A batch that was started before is returned as it is, after completing any of these steps that were
        missing. Raises ``IdempotencyKeyReused`` if a different request has started it. If anything else is
        raised, the next request with the same ``Idempotency-Key`` starts it, and nobody else can see it.
        """
        begun = self._batches.create(batch)
        if begun.state == "running":
            if lines:
                self._storage.write_result(rows.key, lines, "application/jsonl")
            wanted = json.dumps({"account": batch.account, "api": batch.api, "list": asdict(rows)})
            with suppress(Conflict):
                ask(self._states.start_execution, stateMachineArn=self._machine, name=batch.id, input=wanted)
        return begun

    def progress(self, batch: Batch) -> Batch:
        """Return a batch with the progress of its map run, and its end even if that is not recorded yet."""
        if batch.state != "running":
            return replace(batch, pending=0, running=0)
        with suppress(Conflict, StoreUnavailable):  # may be throttled; the batch has the rest
            if runs := ask(self._states.list_map_runs, executionArn=self._arn(batch))["mapRuns"]:
                run = ask(self._states.describe_map_run, mapRunArn=runs[0]["mapRunArn"])
                state, counts = ENDS.get(run["status"], batch.state), run["itemCounts"]
                pending = counts["pending"] + counts.get("pendingRedrive", 0)
                return replace(batch, state=state, pending=pending, running=counts["running"])
        return batch

    def stop(self, batch: Batch) -> None:
        """Stop reading rows of a batch; one that has ended is left as it is."""
        if batch.state == "running":
            with suppress(Conflict):
                ask(self._states.stop_execution, executionArn=self._arn(batch), cause="Stopped by its owner")
            with suppress(Conflict):
                self._batches.change(batch, state="cancelled")

    def redrive(self, batch: Batch) -> Batch:
        """Read the rows that a failed or stopped batch has not read.

        Raises ``InvalidRequest`` for any other batch, or if it ended too long ago. After ``StoreUnavailable``
        or a crash it may be called again: a redrive is started once, and then recorded. One that is never
        recorded, because its caller died or it was started from the console, waits, and fails in the end.
        """
        if batch.state == "running" and batch.redrives:
            return batch
        # Joining its results closes tickets that are open in the meter, which must not be a redriven child's.
        is_over = batch.finished and not batch.is_unannounced
        if is_over and batch.state != "finished" and not batch.detail:
            with suppress(Conflict):
                redrives = self._redriven(batch)
                return self._batches.change(batch, state="running", redrives=redrives, finished=None)
        # A client that gave up waiting asks again while its first request is still in progress.
        known = self._batches.get(batch.id)
        if known and known.state == "running" and known.redrives > batch.redrives:
            return known
        raise InvalidRequest(
            "Only a batch that failed or was stopped in the last 14 days can be redriven. If it was stopped "
            "just now, try again in a minute",
            detail="GET shows the batch's state. Rows of a finished batch are read again by sending them as "
            "a new list, which may consist of lines of its result.",
        )

    def _redriven(self, batch: Batch) -> int:
        """Redrive a batch's execution; return how often it has been redriven.

        A redrive that is running and not recorded yet is taken for this one. Raises ``Conflict`` if the
        execution cannot be redriven.
        """
        about = ask(self._states.describe_execution, executionArn=self._arn(batch))
        redrives: int = about["redriveCount"]
        if about["status"] == "RUNNING" and redrives > batch.redrives:
            return redrives
        # The count may lag by less than the fifteen minutes for which Step Functions knows a token.
        redrives = max(redrives, batch.redrives) + 1
        ask(
            self._states.redrive_execution,
            executionArn=self._arn(batch),
            clientToken=f"{batch.id}-{redrives}",
        )
        return redrives

    def _arn(self, batch: Batch) -> str:
        return f"{self._machine.replace(':stateMachine:', ':execution:')}:{batch.id}"
