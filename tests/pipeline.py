"""Uploads and batches over embedded stores: buckets, queues, both workers and the webhooks' function."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from botocore.paginate import Paginator
from botocore.session import Session

from carsight_service.aws.clients import Clients
from carsight_service.contract.api import Answer, Api
from carsight_service.contract.errors import InvalidImage
from carsight_service.deployment import Deployment
from carsight_service.http.account import AccountEndpoint
from carsight_service.metering.keyring import Keyring
from carsight_service.metering.model import key_id
from carsight_service.notify.subscribers import Webhooks
from carsight_service.notify.webhooks import Announcer, Deliverer
from carsight_service.queue.batch_steps import BatchSteps
from carsight_service.queue.worker import Worker
from local.event_sources import EventSource
from local.step_functions import MACHINE_ARN, StepFunctions, machine_of
from local.template import read_template
from tests.events import Invocation
from tests.fakes import PLATES, VINS, deploy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

EVENTS = Path(__file__).resolve().parents[1] / "events"
KEY = "demo"
KEY_ID = key_id(KEY)
UPLOADS = "carsight-uploads-123456789012-eu-central-1"
"""The bucket of the events."""

PHOTO = b"\xff\xd8\xff a photo"
"""What the events announce: its size and eTag are in them."""

SECONDS = 300


def read_event(name: str) -> dict[str, Any]:
    """Return an SQS event of ``events/``."""
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text(encoding="utf-8"))
    return event


@cache
def _session() -> Session:
    """Return one session for all tests: each parses what botocore knows of the services."""
    return Session()


class Died(BaseException):
    """The worker's process ends here: nothing after it runs, no error is handled."""


@contextmanager
def once(owner: object, name: str, instead: Callable[..., Any]) -> Iterator[None]:
    """Have ``instead`` answer the next call of ``owner.name``, given the real one before the arguments."""
    real = getattr(owner, name)
    with pytest.MonkeyPatch.context() as patch:

        def call(*arguments: Any, **more: Any) -> Any:
            patch.undo()
            return instead(real, *arguments, **more)

        patch.setattr(owner, name, call)
        yield


def dying(owner: object, name: str, after: bool) -> AbstractContextManager[None]:
    """Have a worker die in its next call of ``owner.name``, before it does anything or ``after`` it has."""

    def dies(real: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        if after:
            real(*arguments, **more)
        raise Died

    return once(owner, name, dies)


def crossed_by(something: Callable[[], None], real: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``real`` with ``something`` happening before it and behind it."""

    def step(*arguments: Any, **more: Any) -> Any:
        something()
        answer = real(*arguments, **more)
        something()
        return answer

    return step


def have_listed(pipeline: Pipeline, listed: Callable[..., Any]) -> None:
    """Have ``listed`` answer ``ListExecutions``, which the local engine lacks, page by page."""
    name, session = "ListExecutions", _session()
    pages = session.get_paginator_model("stepfunctions").get_paginator(name)
    model: Any = session.get_service_model("stepfunctions").operation_model(name)
    paginators: dict[str, Any] = {"list_executions": Paginator(cast("Any", listed), pages, model)}
    pipeline.patch.setattr(pipeline.states, "get_paginator", paginators.get, raising=False)


class Pipeline:
    """Everything behind the uploads bucket, for a key ``demo``; ``recognized`` holds what was read."""

    def __init__(self, table: str, dynamodb: DynamoDBClient) -> None:
        self.table, self.dynamodb = table, dynamodb
        self.later = timedelta()
        now = datetime.now(UTC)
        self._to_midmonth = now.replace(day=10) - now
        """Where counting begins: what comes ``later`` is in the same month."""
        self.patch = pytest.MonkeyPatch()
        """Undone when the test ends."""
        self.recognized: list[bytes] = []
        self.regions: list[tuple[str, ...]] = []
        self.keyring = Keyring(table, dynamodb)
        self.s3, self.sqs = boto3.client("s3"), boto3.client("sqs")
        self.results = f"results-{uuid.uuid4().hex}"
        for bucket in (UPLOADS, self.results):
            self.s3.create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
            )
        self.plate_queue, self.vin_queue, self.webhooks_queue = (
            self.sqs.create_queue(QueueName=f"{name}-{uuid.uuid4().hex}")["QueueUrl"]
            for name in ("plate", "vin", "webhooks")
        )
        self.clients = Clients()
        self.clients.session = _session()
        self.deployment = self.deploy()
        self.states = self.machine()
        self.workers = {api: self.worker(api, self.deployment) for api in Api}
        self.webhooks = Webhooks(table, dynamodb)
        self.announcer = Announcer(self.deployment)

    def deploy(self, **changed: Any) -> Deployment:
        """Return the deployment of these buckets and queues, with other settings where they are given."""
        settings = {
            "uploads_bucket": UPLOADS,
            "results_bucket": self.results,
            "plate_queue_url": self.plate_queue,
            "vin_queue_url": self.vin_queue,
            "webhooks_queue_url": self.webhooks_queue,
            "batches_machine_arn": MACHINE_ARN,
            "local_fetch": True,
        }
        return deploy(self.table, self.dynamodb, self._now, self.clients, **(settings | changed))

    def machine(self, **options: Any) -> StepFunctions:
        """Return the state machine of batches; its children are the workers of today."""
        jobs = BatchSteps(self.deployment)
        handlers = {
            "PlateWorkerFunction": lambda event, context: self.workers[Api.PLATE].handle(event, context),
            "VinWorkerFunction": lambda event, context: self.workers[Api.VIN].handle(event, context),
            "BatchesFunction": jobs.handle,
        }
        values = {"ResultsBucket": self.results}
        machine = machine_of(read_template(), values, handlers, **{"sleep": lambda _: None, **options})
        self.clients.states = cast("Any", machine)
        return machine

    def worker(self, api: Api, deployment: Deployment) -> Worker:
        """Return the worker of ``api``."""
        return Worker(deployment, api, {Api.PLATE: self._plates, Api.VIN: self._vins}[api])

    def deliver(self, event: dict[str, Any], **changed: Any) -> dict[str, Any]:
        """One invocation of the webhooks' function."""
        return Deliverer(self.deploy(**changed)).handle(event, None)

    def ask(self, sent: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """One request to the account function: status and body."""
        response = AccountEndpoint(self.deployment).handle(sent, Invocation())
        return response["statusCode"], json.loads(response["body"])

    def close(self) -> None:
        """Leave nothing that another test would find."""
        self.patch.undo()
        for bucket in (UPLOADS, self.results):
            for item in self.s3.list_objects_v2(Bucket=bucket).get("Contents", []):
                self.s3.delete_object(Bucket=bucket, Key=item["Key"])
            self.s3.delete_bucket(Bucket=bucket)

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._to_midmonth + self.later

    def _plates(self, image: bytes, regions: Sequence[str]) -> Answer:
        self._look_at(image)
        self.regions.append(tuple(regions))
        return PLATES

    def _vins(self, image: bytes, regions: Sequence[str]) -> Answer:
        self._look_at(image)
        return VINS

    def _look_at(self, image: bytes) -> None:
        if not image.startswith(PHOTO[:3]):
            raise InvalidImage("not a photo")
        self.recognized.append(image)
        if b"makes us fail" in image:
            raise RuntimeError("a fault of ours")

    # -- what tests do ---------------------------------------------------------------------------------------

    def create_key(self, tier: str = "pro", **settings: Any) -> None:
        """The key that the events are for."""
        self.keyring.create(owner="owner@example.com", tier=tier, key=KEY, **settings)

    def put(self, name: str, body: bytes = PHOTO, api: Api = Api.PLATE) -> str:
        """Return a photo into the uploads bucket; answers with its key."""
        key = f"incoming/{KEY_ID}/{api}/{name}"
        self.s3.put_object(Bucket=UPLOADS, Key=key, Body=body)
        return key

    def handle(self, event: dict[str, Any], api: Api = Api.PLATE) -> list[str]:
        """One invocation of a worker; answers with the ids of the messages that failed."""
        answer = self.workers[api].handle(event, Invocation(SECONDS * 1000))
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def drain(self) -> None:
        """Have the workers deal with everything in their queues, and with every batch."""
        sources = [
            EventSource(url, api, self.workers[api].handle, batch_size=2, seconds=SECONDS)
            for api, url in ((Api.PLATE, self.plate_queue), (Api.VIN, self.vin_queue))
        ]
        while any(source.drain(self.sqs) for source in sources):
            pass
        self.states.drain()

    def result(self, name: str) -> dict[str, Any]:
        """Return an object of the results bucket, by its name under the key."""
        answer = self.s3.get_object(Bucket=self.results, Key=f"{KEY_ID}/{name}")
        document: dict[str, Any] = json.loads(answer["Body"].read())
        return document

    def names(self) -> list[str]:
        """Return the keys of all results."""
        listed = self.s3.list_objects_v2(Bucket=self.results)
        return [item["Key"].removeprefix(f"{KEY_ID}/") for item in listed.get("Contents", [])]

    def used(self, api: Api = Api.PLATE) -> int:
        """Return what the key has used."""
        return next(usage.current for usage in self.keyring.show(KEY_ID).usage if usage.api is api)

    def tickets(self) -> list[str]:
        """Return the tickets that are left in the key's meters."""
        answer = self.dynamodb.query(
            TableName=self.table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": f"KEY#{KEY_ID}"}},
        )
        return [name for item in answer["Items"] for name in item if name.startswith("ticket:")]
