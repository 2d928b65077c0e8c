"""What a worker raises to have its work tried again."""

from __future__ import annotations


class TryLater(Exception):
    """Not a fault: the work is leased elsewhere or not ready, or time ran out.

    SQS delivers the message again, and Step Functions retries the state.
    """
