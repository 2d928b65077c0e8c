"""The queues of the deployment: sending messages, and delaying their next delivery."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from carsight_service.aws.clients import Clients
from carsight_service.contract.api import Api

if TYPE_CHECKING:
    from carsight_service.settings import Settings

logger = logging.getLogger(__name__)


class Queues:
    """The queues of one deployment, safe to share between threads. Methods raise botocore's errors."""

    def __init__(self, settings: Settings, aws: Clients) -> None:
        self._settings = settings
        self._aws = aws

    def of(self, api: Api) -> str:
        """Return the URL of the queue of an API's worker."""
        return {Api.PLATE: self._settings.plate_queue_url, Api.VIN: self._settings.vin_queue_url}[api] or ""

    def send(self, url: str, body: str, group: str) -> None:
        """Send ``body``, which belongs to the key with the id ``group``.

        SQS keeps the messages of one group from delaying those of others ("fair queues"). The queues are
        standard ones, without an order of messages.
        """
        self._aws.sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group)

    def return_after(self, url: str, receipt: str, seconds: int) -> None:
        """Have a message delivered again after ``seconds`` instead of the queue's visibility timeout.

        If this fails, the message is delivered later, which is logged.
        """
        try:
            self._aws.sqs.change_message_visibility(
                QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=seconds
            )
        except (BotoCoreError, ClientError) as error:
            logger.warning("message comes back late", extra={"reason": type(error).__name__})
