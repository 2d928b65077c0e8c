"""The pipeline behind the uploads bucket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.pipeline import Pipeline

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture
def pipeline(table: str, dynamodb: DynamoDBClient) -> Iterator[Pipeline]:
    """Empty buckets and queues, without a key."""
    pipeline = Pipeline(table, dynamodb)
    yield pipeline
    pipeline.close()
