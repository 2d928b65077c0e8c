"""Records of a queue or a stream, which Lambda passes on a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Record = Mapping[str, Any]
"""One message of SQS, or one change in a DynamoDB stream."""


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
