"""``carsight redrive`` and ``carsight webhooks``: what failed for good, and where readings are announced."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from carsight_service.cli.deployment import Deployment, add_options, command
from carsight_service.cli.output import CommandError, add_command, print_json, print_table
from carsight_service.metering.keyring import Keyring
from carsight_service.notify.subscribers import Webhooks

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


def webhooks(parser: argparse.ArgumentParser) -> None:
    """Add what ``carsight webhooks`` can do."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb, run, text in (
        ("set", _set, "announce a key's readings at an address; prints the secret that signs them"),
        ("show", _show, "show the address of a key's readings"),
        ("remove", _remove, "announce a key's readings no longer"),
    ):
        parser = add_command(verbs, verb, text)
        add_options(parser)
        parser.add_argument("key", help="prefix, id, or the beginning of either")
        if verb == "set":
            parser.add_argument("url", help="https://...")
        parser.set_defaults(run=command(run))


# -- what failed for good ------------------------------------------------------------------------------------


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


# -- webhooks ------------------------------------------------------------------------------------------------


def _set(deployment: Deployment, options: argparse.Namespace) -> None:
    webhooks, key_id = _webhooks(deployment, options)
    try:
        webhook = webhooks.set(key_id, options.url, plain=options.local)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if options.json:
        print_json({"key_id": key_id, "url": webhook.url, "secret": webhook.secret})
    else:
        print(webhook.secret)


def _show(deployment: Deployment, options: argparse.Namespace) -> None:
    webhooks, key_id = _webhooks(deployment, options)
    webhook = webhooks.get(key_id)
    if options.json:
        print_json({"key_id": key_id, "url": webhook and webhook.url})
    else:
        print(webhook.url if webhook else "none")


def _remove(deployment: Deployment, options: argparse.Namespace) -> None:
    webhooks, key_id = _webhooks(deployment, options)
    webhooks.remove(key_id)


def _webhooks(deployment: Deployment, options: argparse.Namespace) -> tuple[Webhooks, str]:
    client = deployment.dynamodb()
    key_id = Keyring(deployment.table_name, client).find(options.key)
    return Webhooks(deployment.table_name, client), key_id
