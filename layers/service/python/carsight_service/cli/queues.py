"""``carsight uploads`` and ``carsight webhooks``: what failed for good, and where readings are announced."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from carsight_service.cli.deployment import Deployment, DeploymentError
from carsight_service.cli.output import print_json, print_table
from carsight_service.contract.api import Api
from carsight_service.metering.keyring import Keyring
from carsight_service.notify.subscribers import Webhooks

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: Commands, options: argparse.ArgumentParser) -> None:
    """Add ``uploads`` and ``webhooks``, and what they can do."""
    uploads = commands.add_parser("uploads", help="uploads that failed for good", description=__doc__)
    verbs = uploads.add_subparsers(metavar="VERB", required=True)
    text = "bring uploads, batches and webhooks' deliveries back from the dead-letter queues"
    redrive = verbs.add_parser("redrive", help=text, description=text, parents=[options])
    redrive.set_defaults(run=_redrive)

    webhooks = commands.add_parser("webhooks", help="where readings are announced", description=__doc__)
    verbs = webhooks.add_subparsers(metavar="VERB", required=True)
    for verb, run, text in (
        ("set", _set, "announce a key's readings at an address; prints the secret that signs them"),
        ("show", _show, "the address of a key's readings"),
        ("remove", _remove, "announce a key's readings nowhere"),
    ):
        parser = verbs.add_parser(verb, help=text, description=text, parents=[options])
        parser.add_argument("key", help="prefix, id, or the beginning of either")
        if verb == "set":
            parser.add_argument("url", help="https://...")
        parser.set_defaults(run=run)


# -- what failed for good ------------------------------------------------------------------------------------


def _redrive(deployment: Deployment, options: argparse.Namespace) -> None:
    sqs: SQSClient = deployment.session.client("sqs", endpoint_url=deployment.endpoint)
    moved = {}
    for what, dead_letters in (
        ("uploads", "UPLOADS_DEAD_LETTERS_URL"),
        ("webhooks", "WEBHOOKS_DEAD_LETTERS_URL"),
    ):
        moved[what] = 0
        for message in _messages(sqs, deployment.resource(dead_letters)):
            home = deployment.resource(_home(what, message["Body"]))
            sqs.send_message(QueueUrl=home, MessageBody=message["Body"])
            sqs.delete_message(
                QueueUrl=deployment.resource(dead_letters), ReceiptHandle=message["ReceiptHandle"]
            )
            moved[what] += 1
    if options.json:
        print_json(moved)
    else:
        print_table(("QUEUE", "MOVED"), list(moved.items()))


def _messages(sqs: SQSClient, url: str) -> Iterator[Any]:
    """What lies in a queue, each message once."""
    seen: set[str] = set()
    while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        for message in found:
            if message["MessageId"] not in seen:
                seen.add(message["MessageId"])
                yield message


def _home(what: str, body: str) -> str:
    """The queue that a message came from. S3 announces VINs to the plate queue: its worker passes them on."""
    if what == "webhooks":
        return "WEBHOOKS_QUEUE_URL"
    try:
        api = json.loads(body).get("api")
    except (ValueError, AttributeError):
        api = None
    return "VIN_QUEUE_URL" if api == Api.VIN else "PLATE_QUEUE_URL"


# -- webhooks ------------------------------------------------------------------------------------------------


def _set(deployment: Deployment, options: argparse.Namespace) -> None:
    webhooks, key_id = _webhooks(deployment, options)
    try:
        webhook = webhooks.set(key_id, options.url, plain=options.local)
    except ValueError as error:
        raise DeploymentError(str(error)) from None
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
