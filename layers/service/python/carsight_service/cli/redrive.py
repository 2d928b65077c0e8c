"""``carsight redrive``: what failed for good is tried again."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from carsight_service.cli.deployment import Deployment, add_options, command
from carsight_service.cli.output import print_json, print_table

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_POLL_SECONDS = 2
"""A long poll asks all of a queue's servers; a short one may find nothing where messages wait."""

_KEY_ID = re.compile(r'(?:incoming/|"key_id":")([0-9a-f]{64})\b')
"""In what S3 says of an upload, and in a delivery."""


def redrive(parser: argparse.ArgumentParser) -> None:
    """Complete ``carsight redrive``."""
    add_options(parser)
    parser.set_defaults(run=command(_redrive))


def _redrive(deployment: Deployment, options: argparse.Namespace) -> None:
    sqs: SQSClient = deployment.session.client("sqs", endpoint_url=deployment.endpoint)
    moved = {}
    # S3 announces VINs to the plate queue, too: its worker passes them on.
    for what, dead_letters, home in (
        ("uploads", "UPLOADS_DEAD_LETTERS_URL", "PLATE_QUEUE_URL"),
        ("webhooks", "WEBHOOKS_DEAD_LETTERS_URL", "WEBHOOKS_QUEUE_URL"),
    ):
        moved[what] = 0
        for message in _messages(sqs, deployment.resource(dead_letters)):
            body = message["Body"]
            sqs.send_message(QueueUrl=deployment.resource(home), MessageBody=body, **_group(body))
            sqs.delete_message(
                QueueUrl=deployment.resource(dead_letters), ReceiptHandle=message["ReceiptHandle"]
            )
            moved[what] += 1
    if options.json:
        print_json(moved)
    else:
        print_table(("QUEUE", "MOVED"), list(moved.items()))


def _messages(sqs: SQSClient, url: str) -> Iterator[Any]:
    """Take what lies in a queue, each message once."""
    seen: set[str] = set()
    while True:
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=_POLL_SECONDS)
        if not (found := answer.get("Messages", [])):
            return
        for message in found:
            if message["MessageId"] not in seen:
                seen.add(message["MessageId"])
                yield message


def _group(body: str) -> Any:
    """Name the key that a message belongs to, as an argument of ``send_message``."""
    found = _KEY_ID.search(body)
    return {"MessageGroupId": found[1]} if found else {}
