"""The executions of the state machine ``Batches``: a batch is begun, followed, stopped and redriven.

``statemachines/batch.asl.json`` says how a batch is read; its execution is called like the batch.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from carsight_service.batch_store import ENDS, Batch, Batches, Refused, ask
from carsight_service.contract.errors import InvalidRequest, StoreUnavailable

if TYPE_CHECKING:
    from carsight_service.deployment import Deployment


@dataclass(frozen=True, slots=True)
class List:
    """Where the rows of a batch are."""

    kind: str
    """``jsonl``, ``csv``, ``parquet``, ``prefix``, or ``rows``: JSON Lines that have been looked at, each as
    ``contract.lists.Row.line`` writes it."""
    bucket: str
    key: str


class Executions:
    """The executions of one deployment.

    Methods raise ``StoreUnavailable`` where the table, S3 or Step Functions is throttled or out of reach.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._machine = deployment.settings.batches_machine_arn or ""
        self._storage = deployment.storage
        self._states = deployment.aws.states
        self._batches = Batches(deployment)

    def begin(self, batch: Batch, rows: List, lines: bytes = b"") -> Batch:
        """Note the batch, write the ``lines`` of its list if they are here, and have its rows read.

        One that was begun before is returned as it is, once what was missing of that has been done. Raises
        ``IdempotencyKeyReused`` where another request has begun it. If it raises anything else, the next
        request of the same ``Idempotency-Key`` begins it, and nobody else knows of it.
        """
        begun = self._batches.create(batch)
        if begun.state == "running":
            if lines:
                self._storage.write_result(rows.key, lines, "application/jsonl")
            wanted = json.dumps({"account": batch.account, "api": batch.api, "list": asdict(rows)})
            with suppress(Refused):
                ask(self._states.start_execution, stateMachineArn=self._machine, name=batch.id, input=wanted)
        return begun

    def progress(self, batch: Batch) -> Batch:
        """Return how far the map of a batch is; a map that is over ends it before that has been noted."""
        if batch.state != "running":
            return replace(batch, pending=0, running=0)
        with suppress(Refused, StoreUnavailable):  # which may be throttled, and the item says the rest
            for known in ask(self._states.list_map_runs, executionArn=self._arn(batch))["mapRuns"]:
                run = ask(self._states.describe_map_run, mapRunArn=known["mapRunArn"])
                state, counts = ENDS.get(run["status"], batch.state), run["itemCounts"]
                pending = counts["pending"] + counts.get("pendingRedrive", 0)
                return replace(batch, state=state, pending=pending, running=counts["running"])
        return batch

    def stop(self, batch: Batch) -> None:
        """Read no more rows of a batch; one that has ended is left as it is."""
        if batch.state == "running":
            with suppress(Refused):
                ask(self._states.stop_execution, executionArn=self._arn(batch), cause="Stopped by its owner")
            with suppress(Refused):
                self._batches.change(batch, state="cancelled")

    def redrive(self, batch: Batch) -> Batch:
        """Read what has not been read of a batch that failed or was stopped.

        Raises ``InvalidRequest`` where it is another, or has ended too long ago. Where it raises
        ``StoreUnavailable`` or dies, it may be asked again: a redrive is begun once, and noted then. What has
        begun and is not noted, by whoever died or from the console, waits, and fails in the end.
        """
        if batch.state == "running" and batch.redrives:
            return batch
        # Until its end has been joined, what is open in the meter is closed, and must be no redriven child's.
        is_over = batch.finished and not batch.is_unannounced
        with suppress(Refused):
            if batch.state != "finished" and is_over and not batch.detail:
                about = ask(self._states.describe_execution, executionArn=self._arn(batch))
                redrives = about["redriveCount"]
                if about["status"] != "RUNNING" or redrives <= batch.redrives:
                    # This may lag by less than the fifteen minutes for which Step Functions knows a token.
                    redrives = max(redrives, batch.redrives) + 1
                    token = f"{batch.id}-{redrives}"
                    ask(self._states.redrive_execution, executionArn=self._arn(batch), clientToken=token)
                return self._batches.change(batch, state="running", redrives=redrives, finished=None)
        # A client that waits no longer asks again while its first request is still at it.
        known = self._batches.get(batch.id)
        if known and known.state == "running" and known.redrives > batch.redrives:
            return known
        raise InvalidRequest(
            "Only a batch that has failed or been stopped, within 14 days, can be redriven; one that was "
            "stopped just now may need a minute to come to rest"
        )

    def _arn(self, batch: Batch) -> str:
        return f"{self._machine.replace(':stateMachine:', ':execution:')}:{batch.id}"
