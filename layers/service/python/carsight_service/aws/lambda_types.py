"""Types of Lambda's events, contexts and answers."""

from __future__ import annotations

from typing import Any, Protocol

Event = dict[str, Any]
"""An API Gateway HTTP API event (payload format 2.0), records of SQS or of a DynamoDB stream, what the state
machine of batches passes on, or EventBridge's event of an execution that has ended."""

Response = dict[str, Any]
"""An answer to API Gateway: ``statusCode``, ``headers``, ``body``."""


class Context(Protocol):
    """Lambda's description of an invocation."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the function's timeout."""
        ...
