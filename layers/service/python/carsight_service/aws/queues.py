"""The queues of the deployment: sending to them, and having a message back sooner or later."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from carsight_service.aws.clients import Clients
from carsight_service.contract.api import Api

if TYPE_CHECKING:
    from carsight_service.settings import Settings

_MESSAGES_AT_ONCE = 10
_ATTEMPTS = 3

logger = logging.getLogger(__name__)


class Queues:
    """The queues of one deployment, safe to share between threads. Methods raise botocore's errors."""

    def __init__(self, settings: Settings, aws: Clients) -> None:
        self._settings = settings
        self._aws = aws

    def of(self, api: Api) -> str:
        """Return the address of the queue of an API's worker."""
        return {Api.PLATE: self._settings.plate_queue_url, Api.VIN: self._settings.vin_queue_url}[api] or ""

    def send(self, url: str, *bodies: str) -> None:
        """Send ``bodies``. Raises ``RuntimeError`` where the queue refuses a part of them."""
        for start in range(0, len(bodies), _MESSAGES_AT_ONCE):
            self._send(url, bodies[start : start + _MESSAGES_AT_ONCE])

    def _send(self, url: str, bodies: Sequence[str]) -> None:
        for _ in range(_ATTEMPTS):
            answer = self._aws.sqs.send_message_batch(
                QueueUrl=url,
                Entries=[{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)],
            )
            bodies = [bodies[int(failed["Id"])] for failed in answer.get("Failed", ())]
            if not bodies:
                return
        raise RuntimeError("the queue refused a part of the messages")

    def return_after(self, url: str, receipt: str, seconds: int) -> None:
        """Have the message of ``receipt`` back in ``seconds``, not after the queue's visibility timeout.

        Where that fails, the message comes back later than asked for, and the log says so.
        """
        try:
            self._aws.sqs.change_message_visibility(
                QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=seconds
            )
        except (BotoCoreError, ClientError) as error:
            logger.warning("message comes back late", extra={"reason": type(error).__name__})
