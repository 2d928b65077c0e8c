"""The functions of ``template.yaml``, as Lambda invokes them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from carsight_service.aws.lambda_types import Event

Handler = Callable[[Event, "LambdaContext"], dict[str, Any]]
"""A function's entry point: returns a ``Response``, or for records those that failed."""


@dataclass(slots=True)
class LambdaContext:
    """Lambda's description of an invocation, as far as the functions ask for it."""

    aws_request_id: str
    deadline: float

    @classmethod
    def of(cls, seconds: float) -> LambdaContext:
        """Return the context of an invocation that begins now and may take ``seconds``."""
        return cls(str(uuid.uuid4()), time.monotonic() + seconds)

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.monotonic()) * 1000))


def import_handler(resource: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the handler of a function of the template, from its module under ``functions``.

    An image contains the whole folder, and its command has the module's full name; a zip is one folder.
    """
    properties = resource["Properties"]
    if "ImageConfig" in properties:
        (command,) = properties["ImageConfig"]["Command"]
    else:
        command = f"{properties['CodeUri']}/{properties['Handler']}".replace("/", ".")
    module, _, name = command.rpartition(".")
    handler: Callable[..., Any] = getattr(import_module(module), name)
    return handler
