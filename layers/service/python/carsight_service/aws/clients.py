"""AWS clients of everything behind a queue, each made when it is first needed and shared by all threads.

More patient than a request's: what fails here is done again by another function a little later.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

from botocore.config import Config
from botocore.session import Session

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

_PATIENCE = Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"})


@cache
def s3() -> S3Client:
    """S3, by its regional address: the global one redirects, and a form does not survive that."""
    signing = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
    return cast("S3Client", Session().create_client("s3", config=_PATIENCE.merge(signing)))


@cache
def dynamodb() -> DynamoDBClient:
    """DynamoDB, for writes that may be repeated where the answer to the first was lost."""
    return cast("DynamoDBClient", Session().create_client("dynamodb", config=_PATIENCE))


@cache
def sqs() -> SQSClient:
    """SQS."""
    return cast("SQSClient", Session().create_client("sqs", config=_PATIENCE))


@cache
def events() -> EventBridgeClient:
    """EventBridge."""
    return cast("EventBridgeClient", Session().create_client("events", config=_PATIENCE))
