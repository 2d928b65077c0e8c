"""The command carsight: keys, uploads and batches of a deployment, in AWS or on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from botocore.exceptions import BotoCoreError, ClientError

from carsight_service.cli import keys, photos, queues
from carsight_service.cli.deployment import Deployment, DeploymentError, add_options
from carsight_service.metering.keyring import KeyringError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="carsight", description=__doc__)
    options = argparse.ArgumentParser(add_help=False)
    add_options(options)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    keys.add_commands(commands, options)
    photos.add_commands(commands, options)
    queues.add_commands(commands, options)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 where it was done, 1 where it could not be, 2 where it was not understood."""
    options = parser().parse_args(arguments)
    try:
        options.run(Deployment.find(options), options)
    except (DeploymentError, KeyringError, BotoCoreError, ClientError) as error:
        print(f"carsight: {error}", file=sys.stderr)
        return 1
    return 0
