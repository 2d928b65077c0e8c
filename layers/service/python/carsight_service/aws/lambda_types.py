"""Types of Lambda's events, contexts and answers, and reporting of partial failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

Event = dict[str, Any]
"""An API Gateway HTTP API event (payload format 2.0), or records of SQS or of a DynamoDB stream."""

Record = Mapping[str, Any]
"""One record of a batch."""

Response = dict[str, Any]
"""An answer to API Gateway: ``statusCode``, ``headers``, ``body``."""


class Context(Protocol):
    """Lambda's description of an invocation."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the function's timeout."""
        ...


def partial_failures(
    records: Iterable[Record],
    identifier: Callable[[Record], str],
    process: Callable[[Record], None],
    failed: Callable[[Record, Exception], None],
    *,
    in_order: bool = False,
) -> dict[str, Any]:
    """Process ``records`` in turn, and return those that failed, which are delivered again.

    Lambda calls this ``ReportBatchItemFailures``. ``failed`` is called with each exception. With
    ``in_order``, as for streams, processing stops at the first failure: the stream delivers all records from
    there on again.
    """
    failures = []
    for record in records:
        try:
            process(record)
        except Exception as error:
            failures.append({"itemIdentifier": identifier(record)})
            failed(record, error)
            if in_order:
                break
    return {"batchItemFailures": failures}
