"""``carsight redrive``: retrying uploads, webhook deliveries and batches after all attempts have failed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from carsight_service.aws.clients import Clients
from carsight_service.batch_store import Batches
from carsight_service.cli.installation import Installation, add_options, command
from carsight_service.cli.output import CommandError, print_json, print_table
from carsight_service.contract.errors import ServiceError
from carsight_service.deployment import Deployment
from carsight_service.http.executions import Executions
from carsight_service.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_POLL_SECONDS = 2
"""A long poll asks all servers of a queue; a short one may return nothing although messages wait."""

_KEY_ID = re.compile(r'(?:incoming/|"key_id":")([0-9a-f]{64})\b')
"""The key's id in S3's event of an upload, and in a webhook delivery."""


def redrive(parser: argparse.ArgumentParser) -> None:
    """Complete ``carsight redrive``."""
    add_options(parser)
    parser.add_argument(
        "--batch",
        metavar="ID",
        help="redrive this batch instead, without its owner's key",
    )
    parser.set_defaults(run=command(_run))


def _run(installation: Installation, options: argparse.Namespace) -> None:
    # An empty id, as from an unset shell variable, is no batch, and must not redrive everything.
    (_redrive if options.batch is None else _redrive_batch)(installation, options)


def _redrive_batch(installation: Installation, options: argparse.Namespace) -> None:
    """Redrive a batch of any account, as its owner can by the API."""
    functions = _as_functions_see_it(installation)
    try:
        batch = Batches(functions).get(options.batch)
        if batch is None:
            raise CommandError(f"there is no batch {options.batch}")
        redriven = Executions(functions).redrive(batch)
    except ServiceError as error:
        raise CommandError(f"{error.message.rstrip('.')}. {error.note}".rstrip()) from error
    shown = {"id": redriven.id, "account": redriven.account, "state": redriven.state}
    if options.json:
        print_json(shown)
    else:
        print_table([name.upper() for name in shown], [list(shown.values())])


def _as_functions_see_it(installation: Installation) -> Deployment:
    """Return what the functions of ``installation`` work with, by this command's clients."""
    machine = installation.resource("BATCHES_MACHINE_ARN")
    endpoint = installation.resources.get("AWS_ENDPOINT_URL_SFN", installation.endpoint)
    clients = Clients()
    clients.work = installation.dynamodb()
    clients.states = installation.session.client("stepfunctions", endpoint_url=endpoint)
    return Deployment(Settings(table_name=installation.table_name, batches_machine_arn=machine), clients)


def _redrive(installation: Installation, options: argparse.Namespace) -> None:
    """Send all dead letters again: uploads to the plate queue, webhook deliveries to theirs."""
    sqs: SQSClient = installation.session.client("sqs", endpoint_url=installation.endpoint)
    moved = {}
    # S3 announces VINs to the plate queue as well, whose worker passes them on.
    for what, dead_letters, home in (
        ("uploads", "UPLOADS_DEAD_LETTERS_URL", "PLATE_QUEUE_URL"),
        ("webhooks", "WEBHOOKS_DEAD_LETTERS_URL", "WEBHOOKS_QUEUE_URL"),
    ):
        moved[what] = 0
        for message in _messages(sqs, installation.resource(dead_letters)):
            body = message["Body"]
            sqs.send_message(QueueUrl=installation.resource(home), MessageBody=body, **_group(body))
            sqs.delete_message(
                QueueUrl=installation.resource(dead_letters), ReceiptHandle=message["ReceiptHandle"]
            )
            moved[what] += 1
    if options.json:
        print_json(moved)
    else:
        print_table(("QUEUE", "MOVED"), list(moved.items()))


def _messages(sqs: SQSClient, url: str) -> Iterator[Any]:
    """Yield the messages in a queue, each one once."""
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
    """Return the key that a message belongs to as an argument of ``send_message``, if there is one."""
    found = _KEY_ID.search(body)
    return {"MessageGroupId": found[1]} if found else {}
