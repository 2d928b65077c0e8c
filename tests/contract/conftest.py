"""The service, ready to be called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

from local.template import create_table
from tests.fakes import Service

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture(scope="session")
def in_process() -> DynamoDBClient:
    """A client whose calls ``mock_aws`` answers in this process, whatever other tests' stores are running."""
    return boto3.client("dynamodb", endpoint_url="https://dynamodb.eu-central-1.amazonaws.com")


@pytest.fixture
def service(in_process: DynamoDBClient) -> Iterator[Service]:
    """The service over an empty key table."""
    with mock_aws():
        create_table(in_process, "carsight")
        yield Service("carsight", in_process)
