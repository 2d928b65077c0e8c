"""What a failed call of AWS means, whoever made it: ours or botocore, and which calls may be repeated."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Answered = TypeVar("Answered")


class Refused(Exception):
    """The service answered with an error ``code``; ``item`` is the one that failed a condition."""

    def __init__(self, code: str, status: int, item: dict[str, Any] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.item = item


class NotSent(Exception):
    """The request did not reach the service."""


class AnswerLost(Exception):
    """The request may have reached the service and been carried out."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failed call tells."""

    code: str
    item: dict[str, Any] | None = None
    is_sent: bool = True
    """Whether the request may have reached the service."""
    is_answered: bool = True
    """Whether the service has said that it was not carried out."""


THROTTLED = {
    "ConditionalRequestConflict",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
}
"""Errors by which DynamoDB or S3 says that it has *not* written, and may be asked again."""

TRIES = 3
"""Attempts in all at a call that may be repeated."""


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
    """Return what ``error`` means, raised by our clients or by botocore's. Re-raises any other."""
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
