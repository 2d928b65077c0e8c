"""``carsight webhooks``: the address at which a key's readings are announced."""

from __future__ import annotations

import argparse

from carsight_service.cli.installation import Installation, add_verb
from carsight_service.cli.output import CommandError, print_json
from carsight_service.metering.keyring import Keyring
from carsight_service.notify.subscribers import Webhooks


def webhooks(parser: argparse.ArgumentParser) -> None:
    """Add the verbs of ``carsight webhooks``."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb, run, text in (
        ("set", _set, "announce a key's readings at an address; prints the secret that signs them"),
        ("show", _show, "show the address at which a key's readings are announced"),
        ("remove", _remove, "stop announcing a key's readings"),
    ):
        parser = add_verb(verbs, verb, text, run)
        parser.add_argument("key", help="prefix, id, or the beginning of either")
        if verb == "set":
            parser.add_argument("url", help="https://...")


def _set(installation: Installation, options: argparse.Namespace) -> None:
    webhooks, key_id = _webhooks(installation, options)
    try:
        webhook = webhooks.set(key_id, options.url, plain=options.local)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if options.json:
        print_json({"key_id": key_id, "url": webhook.url, "secret": webhook.secret})
    else:
        print(webhook.secret)


def _show(installation: Installation, options: argparse.Namespace) -> None:
    webhooks, key_id = _webhooks(installation, options)
    webhook = webhooks.get(key_id)
    if options.json:
        print_json({"key_id": key_id, "url": webhook and webhook.url})
    else:
        print(webhook.url if webhook else "none")


def _remove(installation: Installation, options: argparse.Namespace) -> None:
    webhooks, key_id = _webhooks(installation, options)
    webhooks.remove(key_id)


def _webhooks(installation: Installation, options: argparse.Namespace) -> tuple[Webhooks, str]:
    client = installation.dynamodb()
    key_id = Keyring(installation.table_name, client).find(options.key)
    return Webhooks(installation.table_name, client), key_id
