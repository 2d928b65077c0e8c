"""Lambda's events, contexts and answers, as far as they are used here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

Event = dict[str, Any]
"""An API Gateway HTTP API event (payload format 2.0), or records of SQS or of a DynamoDB stream."""

Record = Mapping[str, Any]
"""One record of a batch."""

Response = dict[str, Any]
"""What API Gateway is answered: ``statusCode``, ``headers``, ``body``."""


class Context(Protocol):
    """What Lambda says about an invocation."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Until the function's own timeout."""
        ...


def partial_failures(
    records: Iterable[Record],
    identifier: Callable[[Record], str],
    process: Callable[[Record], None],
    failed: Callable[[Record, Exception], None],
    *,
    in_order: bool = False,
) -> dict[str, Any]:
    """Process ``records`` one after the other; the answer names those that have to come again.

    Lambda calls this ``ReportBatchItemFailures``. ``failed`` is told of each exception. With ``in_order``, as
    a stream asks for, nothing is processed behind the first that failed: all that follow come again too.
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
