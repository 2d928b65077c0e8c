"""Alerts at 80, 90 and 100 %, from a month of the table's own stream."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from carsight_service.contract.api import Api
from carsight_service.contract.errors import LimitExceeded
from carsight_service.metering.keyring import Keyring
from carsight_service.metering.meter_store import MeterStore
from carsight_service.metering.model import key_id
from carsight_service.notify.alerts import Alerts

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient


At = Callable[[int], MeterStore]


class Mailbox:
    """What arrives on the alerts topic, and the stream that causes it."""

    def __init__(self, table: str, app: ModuleType, sqs: SQSClient, queue_url: str) -> None:
        self.app = app
        self._sqs = sqs
        self._queue_url = queue_url
        self._streams: Any = boto3.client("dynamodbstreams")
        arn = self._streams.list_streams(TableName=table)["Streams"][0]["StreamArn"]
        shard = self._streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
        self._iterator = self._streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]

    def records(self) -> list[dict[str, Any]]:
        """Stream records since the last call, as Lambda hands them to the function."""
        answer = self._streams.get_records(ShardIterator=self._iterator)
        self._iterator = answer["NextShardIterator"]
        records: list[dict[str, Any]] = json.loads(json.dumps(answer["Records"], default=str))
        return records

    def deliver(self, records: list[dict[str, Any]]) -> list[str]:
        """Hand ``records`` to the function; the sequence numbers that it wants again."""
        failures = self.app.lambda_handler({"Records": records}, None)["batchItemFailures"]
        return [failure["itemIdentifier"] for failure in failures]

    def messages(self) -> list[dict[str, Any]]:
        """Alerts since the last call."""
        messages = []
        while batch := self._sqs.receive_message(QueueUrl=self._queue_url, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in batch:
                messages.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])
        return messages

    def thresholds(self) -> list[int]:
        """The thresholds of the alerts since the last call."""
        return sorted(int(m["MessageAttributes"]["threshold"]["Value"]) for m in self.messages())


@pytest.fixture
def mailbox(table: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    sns, sqs = boto3.client("sns"), boto3.client("sqs")
    topic = sns.create_topic(Name=table)["TopicArn"]
    queue_url = sqs.create_queue(QueueName=table)["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue["QueueArn"])
    monkeypatch.setenv("TABLE_NAME", table)
    monkeypatch.setenv("ALERTS_TOPIC_ARN", topic)
    yield Mailbox(table, importlib.reload(importlib.import_module("functions.alerts.app")), sqs, queue_url)
    sqs.delete_queue(QueueUrl=queue_url)
    sns.delete_topic(TopicArn=topic)


@pytest.fixture
def keyring(table: str, dynamodb: DynamoDBClient) -> Keyring:
    return Keyring(table, dynamodb, lambda: datetime(2026, 11, 1, tzinfo=UTC))


@pytest.fixture
def at(table: str, dynamodb: DynamoDBClient) -> At:
    """The meters in the middle of a month."""
    return lambda month: MeterStore(table, dynamodb, lambda: datetime(2026, month, 15, tzinfo=UTC))


def test_alerts_are_sent_at_80_90_and_100_per_cent_once_a_month(
    at: At, keyring: Keyring, mailbox: Mailbox
) -> None:
    key, _ = keyring.create(
        owner="fleet@example.com", tier="pro", label="gate 3", limits={Api.PLATE: 50}, overage=False
    )
    november = at(11)
    for number in range(1, 91):
        try:
            november.consume_by_id(key_id(key), Api.PLATE, f"upload-{number}")
        except LimitExceeded:
            continue
        if number % 3 == 0:
            november.refund(
                key_id(key), Api.PLATE, f"upload-{number}"
            )  # so that 40, 45 and 50 are each reached more than once
    records = mailbox.records()
    reached = Counter(record["dynamodb"]["NewImage"].get("used", {}).get("N") for record in records)
    assert reached["40"] > 1
    for start in range(0, len(records), 10):
        batch = records[start : start + 10]
        assert mailbox.deliver(batch) == []
        assert mailbox.deliver(batch) == []  # a stream may deliver twice
    alerts = mailbox.messages()
    assert [alert["Subject"] for alert in alerts] == [
        f"Carsight: {threshold} % of plate_image_recognition used" for threshold in (80, 90, 100)
    ]
    assert alerts[0]["Message"] == (
        f"Key:   {key[:11]}... gate 3\n"
        "Owner: fleet@example.com\n"
        "Tier:  pro\n"
        "\n"
        "40 of 50 requests of plate_image_recognition in 2026-11 (UTC) are used.\n"
        "Requests over the limit are answered with 429.\n"
    )
    assert alerts[0]["MessageAttributes"]["owner"]["Value"] == "fleet@example.com"


def test_each_month_and_api_has_its_own_alerts(at: At, keyring: Keyring, mailbox: Mailbox) -> None:
    key, _ = keyring.create(owner="o", tier="pro", limits={Api.PLATE: 10, Api.VIN: 10})
    for month in (11, 12):
        for api in Api:
            for _ in range(9):
                at(month).consume(key, api)
        mailbox.deliver(mailbox.records())
        assert mailbox.thresholds() == [80, 80, 90, 90]


def test_overage_is_not_alerted_again(at: At, keyring: Keyring, mailbox: Mailbox) -> None:
    key, _ = keyring.create(owner="o", tier="pro", limits={Api.PLATE: 2}, overage=True)
    for _ in range(8):
        at(11).consume(key, Api.PLATE)
    mailbox.deliver(mailbox.records())
    assert mailbox.thresholds() == [80, 90, 100]


def test_a_changed_limit_has_thresholds_of_its_own(at: At, keyring: Keyring, mailbox: Mailbox) -> None:
    key, _ = keyring.create(owner="o", tier="pro", limits={Api.PLATE: 10})
    for _ in range(10):
        at(11).consume(key, Api.PLATE)
    keyring.set(key_id(key), limits={Api.PLATE: 20})
    for _ in range(6):
        at(11).consume(key, Api.PLATE)
    mailbox.deliver(mailbox.records())
    assert mailbox.thresholds() == [80, 80, 90, 100]


def test_rotating_a_key_repeats_no_alert(at: At, keyring: Keyring, mailbox: Mailbox) -> None:
    key, _ = keyring.create(owner="o", tier="pro", limits={Api.PLATE: 10})
    for _ in range(8):
        at(11).consume(key, Api.PLATE)
    mailbox.deliver(mailbox.records())
    new, _ = keyring.rotate(key_id(key))
    for _ in range(2):
        at(11).consume_by_id(key_id(new), Api.PLATE, "upload")
        at(11).refund(key_id(new), Api.PLATE, "upload")
    mailbox.deliver(mailbox.records())
    assert mailbox.thresholds() == [80, 90]
    at(11).consume(new, Api.PLATE)
    mailbox.deliver(mailbox.records())
    assert mailbox.thresholds() == []


def test_an_alert_that_cannot_be_sent_is_retried(
    at: At, keyring: Keyring, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = keyring.create(owner="o", tier="pro", limits={Api.PLATE: 5})
    for _ in range(4):
        at(11).consume(key, Api.PLATE)
    records = mailbox.records()
    with monkeypatch.context() as patch:
        deployment = mailbox.app.deployment
        gone = deployment.settings.changed(alerts_topic_arn="arn:aws:sns:eu-central-1:123456789012:gone")
        patch.setattr(mailbox.app, "lambda_handler", Alerts(replace(deployment, settings=gone)).handle)
        assert mailbox.deliver(records) == [records[-1]["dynamodb"]["SequenceNumber"]]
    assert mailbox.deliver(records[-1:]) == []
    assert mailbox.thresholds() == [80]
