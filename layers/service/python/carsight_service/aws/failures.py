"""What a failed call to AWS means, made by our own clients or botocore's, and which calls may be repeated."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

Answered = TypeVar("Answered")


class Refused(Exception):
    """The service answered with an error ``code``; ``item`` is the item that failed a condition, if any."""

    def __init__(self, code: str, status: int, item: dict[str, Any] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.item = item


class NotSent(Exception):
    """The request did not reach the service."""


class AnswerLost(Exception):
    """There was no response: the request may have been carried out."""


class Failure(NamedTuple):
    """What is known about a failed call."""

    code: str
    item: dict[str, Any] | None = None
    is_sent: bool = True
    """Whether the request may have reached the service."""
    is_answered: bool = True
    """Whether the service has answered that it did not carry out the request."""


THROTTLED = {
    "ConditionalRequestConflict",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
}
"""Errors of DynamoDB and S3 that mean that nothing was written, and that the call may be repeated."""

TRIES = 3
"""How often in all a call is tried that may be repeated."""


def repeated(call: Callable[[], Answered], tries: int = TRIES) -> Answered:
    """Return ``call()``, repeated if the service is unreachable, faulty, throttled or busy with the same."""
    for attempt in range(tries - 1):
        try:
            return call()
        except (NotSent, AnswerLost):
            pass
        except Refused as error:
            if error.status < 500 and error.code not in THROTTLED:
                raise
        time.sleep(random.random() * 2**attempt)
    return call()


def failure(error: Exception) -> Failure:
    """Return what ``error`` means if our clients or botocore's have raised it. Re-raises any other error."""
    match error:
        case Refused():
            return Failure(error.code, error.item, is_answered=error.status < 500)
        case NotSent():
            return Failure(str(error), is_sent=False, is_answered=False)
        case AnswerLost():
            return Failure(str(error), is_answered=False)
    from botocore import exceptions as of_botocore  # already imported if its client has raised the error

    match error:
        case of_botocore.ClientError():
            response: Any = error.response
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            return Failure(response["Error"]["Code"], response.get("Item"), is_answered=status < 500)
        case (
            of_botocore.ConnectTimeoutError()
            | of_botocore.EndpointConnectionError()
            | of_botocore.ConnectionClosedError()
        ):
            return Failure(type(error).__name__, is_sent=False, is_answered=False)
        case of_botocore.BotoCoreError():
            return Failure(type(error).__name__, is_answered=False)
    raise error
