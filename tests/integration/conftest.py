"""The pipeline behind the uploads bucket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from carsight_service.contract.api import Api
from tests.pipeline import UPLOADS, Pipeline

pytest.register_assert_rewrite("tests.batches")

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture
def pipeline(table: str, dynamodb: DynamoDBClient) -> Iterator[Pipeline]:
    """Empty buckets and queues, without a key."""
    pipeline = Pipeline(table, dynamodb)
    yield pipeline
    pipeline.close()


@pytest.fixture
def listing(pipeline: Pipeline) -> Pipeline:
    """A pipeline that may read lists, and photos, of its uploads bucket."""
    pipeline.create_key()
    pipeline.deployment = pipeline.deploy(allowed_buckets=frozenset({UPLOADS}))
    pipeline.workers = {api: pipeline.worker(api, pipeline.deployment) for api in Api}
    pipeline.states = pipeline.machine()
    return pipeline
