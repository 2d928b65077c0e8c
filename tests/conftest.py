"""What all tests share: an environment without AWS, and embedded stores in it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

os.environ.update(
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_DEFAULT_REGION="eu-central-1",
    AWS_EC2_METADATA_DISABLED="true",
    TABLE_NAME="carsight-tests",
    CUSTOM_METRICS="true",
)

from local.stores import serve
from local.template import create_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture(scope="session")
def aws() -> Iterator[str]:
    """The address of the embedded stores; boto3 finds it by itself while they run."""
    with serve() as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        yield address


@pytest.fixture(scope="session")
def dynamodb(aws: str) -> DynamoDBClient:
    """A client as the service makes it."""
    from carsight_service.aws.clients import Clients

    return Clients().metering


@pytest.fixture
def table(dynamodb: DynamoDBClient) -> Iterator[str]:
    """The name of an empty key table."""
    name = f"carsight-{uuid.uuid4().hex}"
    create_table(dynamodb, name)
    yield name
    dynamodb.delete_table(TableName=name)
