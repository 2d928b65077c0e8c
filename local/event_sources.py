"""S3's notifications, SQS and Lambda's event sources on one machine, so that uploads are read.

Buckets, queues and the functions of queues are read from ``template.yaml``. A thread for each queue stands in
for the workers that Lambda would start.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import boto3

from local.functions import Handler, LambdaContext, import_handler
from local.stores import queue_name, queue_url

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_LONGEST_READING = 5
"""How many seconds photos being read may take at the end of a run."""

_POLL_SECONDS = 2
"""How long a poll waits for a message."""


@dataclass(frozen=True, slots=True)
class EventSource:
    """A queue and the function that processes its messages, a few at a time."""

    url: str
    function: str
    handler: Handler
    batch_size: int
    seconds: float

    def drain(self, sqs: SQSClient, wait: int = 0) -> int:
        """Invoke the function with the messages in the queue, and delete those that did not fail.

        Waits up to ``wait`` seconds for a message. Returns how many there were.
        """
        taken = 0
        while records := self._receive(sqs, wait):
            taken += len(records)
            answer = self.handler({"Records": records}, LambdaContext.of(self.seconds))
            failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
            for record in records:
                if record["messageId"] not in failed:
                    sqs.delete_message(QueueUrl=self.url, ReceiptHandle=record["receiptHandle"])
        return taken

    def _receive(self, sqs: SQSClient, wait: int) -> list[dict[str, Any]]:
        answer = sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=self.batch_size,
            MessageSystemAttributeNames=["All"],
            WaitTimeSeconds=wait,
        )
        return [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "messageAttributes": {},
                "eventSource": "aws:sqs",
            }
            for message in answer.get("Messages", [])
        ]


class EventSources:
    """All queues with a function, whose messages are processed within the block."""

    def __init__(self, template: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._sqs = boto3.client("sqs")
        create_queues(template)
        announce_uploads(template, environment["UPLOADS_BUCKET"])
        self._sources = event_sources(template, environment["AWS_ENDPOINT_URL"])
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(source,), name=source.function, daemon=True)
            for source in self._sources
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        end = time.monotonic() + _LONGEST_READING
        for thread in self._threads:
            thread.join(timeout=max(0, end - time.monotonic()))

    def _work(self, source: EventSource) -> None:
        while not self._stop.is_set():
            try:
                source.drain(self._sqs, _POLL_SECONDS)
            except Exception:
                # As on Lambda, a function that raises has processed no message, and others continue.
                if not self._stop.wait(_POLL_SECONDS):
                    sys.excepthook(*sys.exc_info())


def create_queues(template: Mapping[str, Any]) -> None:
    """Create or update the queues of the template, dead-letter queues first."""
    sqs = boto3.client("sqs")
    queues = {
        name: resource
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::SQS::Queue"
    }
    for name, queue in sorted(queues.items(), key=lambda item: "RedrivePolicy" in item[1]["Properties"]):
        properties = queue["Properties"]
        attributes: Any = {"VisibilityTimeout": str(properties.get("VisibilityTimeout", 30))}
        redrive = properties.get("RedrivePolicy")
        if redrive:
            dead = sqs.get_queue_url(QueueName=queue_name(_named(redrive["deadLetterTargetArn"])))["QueueUrl"]
            policy = {"deadLetterTargetArn": _arn(sqs, dead), "maxReceiveCount": redrive["maxReceiveCount"]}
            attributes["RedrivePolicy"] = json.dumps(policy)
        url = sqs.create_queue(QueueName=queue_name(name))["QueueUrl"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)


def create_buckets(*buckets: str) -> None:
    """Create ``buckets``, versioned as in the template."""
    s3 = boto3.client("s3")
    region: Any = s3.meta.region_name
    for bucket in buckets:
        if region == "us-east-1":
            s3.create_bucket(Bucket=bucket)
        else:
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


def announce_uploads(template: Mapping[str, Any], uploads: str) -> None:
    """Configure the bucket ``uploads`` to announce new objects to the template's queues."""
    s3, sqs = boto3.client("s3"), boto3.client("sqs")
    notified = template["Resources"]["UploadsBucket"]["Properties"]["NotificationConfiguration"]
    configurations: list[Any] = [
        {
            "QueueArn": _arn(sqs, sqs.get_queue_url(QueueName=queue_name(_named(rule["Queue"])))["QueueUrl"]),
            "Events": [rule["Event"]],
            "Filter": {"Key": {"FilterRules": rule["Filter"]["S3Key"]["Rules"]}},
        }
        for rule in notified["QueueConfigurations"]
    ]
    s3.put_bucket_notification_configuration(
        Bucket=uploads, NotificationConfiguration={"QueueConfigurations": configurations}
    )


def event_sources(template: Mapping[str, Any], address: str) -> list[EventSource]:
    """Return the functions of the template that take from queues."""
    sources: list[EventSource] = []
    for name, resource in template["Resources"].items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        properties = resource["Properties"]
        sources += [
            EventSource(
                url=queue_url(address, _named(event["Properties"]["Queue"])),
                function=name,
                handler=import_handler(resource),
                batch_size=event["Properties"]["BatchSize"],
                seconds=float(properties["Timeout"]),
            )
            for event in properties.get("Events", {}).values()
            if event["Type"] == "SQS"
        ]
    return sources


def _named(reference: Any) -> str:
    """Return the resource that ``!GetAtt Name.Arn`` names."""
    target = reference["Fn::GetAtt"]
    return str(target.split(".")[0] if isinstance(target, str) else target[0])


def _arn(sqs: SQSClient, url: str) -> str:
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
