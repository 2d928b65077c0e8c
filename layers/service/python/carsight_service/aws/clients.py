"""AWS clients, each made when it is first needed and shared by all threads.

botocore's own: boto3 makes the same ones and adds an eighth to a cold start for transfers and resources that
nobody uses.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.session import Session

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

_BACKGROUND = Config(
    connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"}
)
"""More patient than a request: what fails here is done again by another function a little later."""

_METERING = Config(
    connect_timeout=1,
    read_timeout=5,
    retries={"total_max_attempts": 1, "mode": "standard"},
    max_pool_connections=64,
    tcp_keepalive=True,
)

_SIGNING = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})


def _client(service: str, config: Config) -> Any:
    """Return an attribute that is a client of ``service``, made when it is first asked for."""
    return cached_property(lambda _: Session().create_client(service, config=config))


class Clients:
    """The clients of one process. A client may be replaced by assigning another to its name."""

    metering: DynamoDBClient = _client("dynamodb", _METERING)
    """DynamoDB for metering: it answers or fails within seconds and leaves repeating to its caller.

    The SDK would repeat a write whose answer was lost, and so count a request twice."""

    dynamodb: DynamoDBClient = _client("dynamodb", _BACKGROUND)
    """DynamoDB, for writes that may be repeated where the answer to the first was lost."""

    s3: S3Client = _client("s3", _BACKGROUND.merge(_SIGNING))
    """S3, by its regional address: the global one redirects, and a form does not survive that."""

    sqs: SQSClient = _client("sqs", _BACKGROUND)
    sns: SNSClient = _client("sns", _BACKGROUND)
    events: EventBridgeClient = _client("events", _BACKGROUND)
    states: SFNClient = _client("stepfunctions", _BACKGROUND)
