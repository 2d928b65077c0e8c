"""AWS clients, created on first use and shared by all threads.

They are botocore's: boto3 creates the same ones, and adds an eighth to a cold start for unused features.
botocore is imported with the first of them; a request that is only counted needs none. All are created by one
session, because each session parses botocore's common data again.
"""

from __future__ import annotations

import os
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from carsight_service.aws.dynamo_client import CONNECT_SECONDS, READ_SECONDS, DynamoClient
from carsight_service.aws.failures import TRIES
from carsight_service.aws.s3_client import ObjectClient
from carsight_service.contract.api import MAX_IMAGE_BYTES

if TYPE_CHECKING:
    from botocore.session import Session
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

_Options = dict[str, Any]

_BACKGROUND: _Options = {
    "connect_timeout": 2,
    "read_timeout": 10,
    "retries": {"total_max_attempts": TRIES, "mode": "standard"},
}
"""Longer timeouts than within a request, and retries."""

_METERING: _Options = {
    "connect_timeout": CONNECT_SECONDS,
    "read_timeout": READ_SECONDS,
    "retries": {"total_max_attempts": 1, "mode": "standard"},
    "max_pool_connections": 64,
    "tcp_keepalive": True,
}

_SIGNING: _Options = {"signature_version": "s3v4", "s3": {"addressing_style": "virtual"}}


_making = Lock()
"""Held while a client is created: threads may share clients, but not a session."""


def _client(service: str, options: _Options) -> Any:
    """Return a cached property: a client of ``service``, created on first use."""

    def made(clients: Clients) -> Any:
        from botocore.config import Config

        with _making:
            return clients.session.create_client(service, config=Config(**options))

    return cached_property(made)


class Clients:
    """The clients of one process. A client may be replaced by assigning another to its attribute."""

    @cached_property
    def session(self) -> Session:
        """The session that creates botocore's clients."""
        from botocore.session import Session

        return Session()

    @cached_property
    def meters(self) -> DynamoDBClient | DynamoClient:
        """DynamoDB for the calls that every request waits for, by botocore only if necessary."""
        return DynamoClient.from_environment(os.environ) or self.metering

    @cached_property
    def photos(self) -> S3Client | ObjectClient:
        """S3 for photos and batch outcomes, by botocore only if necessary."""
        return ObjectClient.from_environment(os.environ, MAX_IMAGE_BYTES, lambda: self.s3) or self.s3

    metering: DynamoDBClient = _client("dynamodb", _METERING)
    """DynamoDB for metering, which answers or fails within seconds and leaves retries to its caller: the SDK
    would retry a write without a response, and so count a request twice."""

    @cached_property
    def work(self) -> DynamoDBClient | DynamoClient:
        """DynamoDB for leases and batches, whose writes may be repeated."""
        return DynamoClient.from_environment(os.environ, TRIES) or self.dynamodb

    dynamodb: DynamoDBClient = _client("dynamodb", _BACKGROUND)
    """DynamoDB for writes that may be repeated if there was no response."""

    s3: S3Client = _client("s3", _BACKGROUND | _SIGNING)
    """S3 by its regional address: the global one redirects, which breaks presigned forms."""

    sqs: SQSClient = _client("sqs", _BACKGROUND)
    sns: SNSClient = _client("sns", _BACKGROUND)
    events: EventBridgeClient = _client("events", _BACKGROUND)
    states: SFNClient = _client("stepfunctions", _BACKGROUND)
