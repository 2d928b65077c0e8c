"""``carsight redrive``: what failed for good is tried again."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from carsight_service.aws.dynamo import utc_now
from carsight_service.batch_store import Batches
from carsight_service.cli.deployment import Deployment, add_options, command
from carsight_service.cli.output import CommandError, print_json, print_table
from carsight_service.contract.errors import ServiceError
from carsight_service.http.executions import Executions
from carsight_service.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_POLL_SECONDS = 2
"""A long poll asks all of a queue's servers; a short one may find nothing where messages wait."""

_KEY_ID = re.compile(r'(?:incoming/|"key_id":")([0-9a-f]{64})\b')
"""In what S3 says of an upload, and in a delivery."""


def redrive(parser: argparse.ArgumentParser) -> None:
    """Complete ``carsight redrive``."""
    add_options(parser)
    parser.add_argument(
        "--batch",
        metavar="ID",
        help="instead, read what this batch has not read, with no key of its owner",
    )
    parser.set_defaults(run=command(_run))


def _run(deployment: Deployment, options: argparse.Namespace) -> None:
    # A variable of the shell that is not set names no batch, and must not stand for everything.
    (_redrive if options.batch is None else _redrive_batch)(deployment, options)


def _redrive_batch(deployment: Deployment, options: argparse.Namespace) -> None:
    """Redrive the batch of any account, as its owner may by the API."""
    endpoint = deployment.resources.get("AWS_ENDPOINT_URL_SFN", deployment.endpoint)
    states = deployment.session.client("stepfunctions", endpoint_url=endpoint)
    machine = deployment.resource("BATCHES_MACHINE_ARN")
    # What `Executions` takes of a deployment: the whole of one needs packages that only functions have.
    service: Any = SimpleNamespace(
        settings=Settings(table_name=deployment.table_name, batches_machine_arn=machine),
        aws=SimpleNamespace(work=deployment.dynamodb(), states=states),
        clock=utc_now,
        storage=None,
    )
    try:
        batch = Batches(service).get(options.batch)
        if batch is None:
            raise CommandError(f"there is no batch {options.batch}")
        redriven = Executions(service).redrive(batch)
    except ServiceError as error:
        raise CommandError(error.note or error.message) from error
    told = {"id": redriven.id, "account": redriven.account, "state": redriven.state}
    if options.json:
        print_json(told)
    else:
        print_table([name.upper() for name in told], [list(told.values())])


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
