"""What a command works with: a CloudFormation stack, or the service started by ``make run``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from carsight_service.cli.output import CommandError, add_command
from carsight_service.metering.keyring import KeyringError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LOCAL = Path(".local") / "endpoint.json"
"""Written by the local gateway while it runs, in the folder in which it was started."""

_WHERE = "give --region and --profile, or --local for the service started by `make run`"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for a command's installation and form of output."""
    where = parser.add_argument_group("deployment")
    where.add_argument("--stack-name", default="carsight", help="CloudFormation stack (default: %(default)s)")
    where.add_argument("--region", help="AWS region (default: that of the profile)")
    where.add_argument("--profile", help="AWS profile (default: from the environment)")
    where.add_argument(
        "--local", action="store_true", help="the service started by `make run` on this machine"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def command(run: Callable[[Installation, argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """Return ``run`` as a command that finds its installation, and reports errors as ``CommandError``."""

    def run_there(options: argparse.Namespace) -> None:
        try:
            run(Installation.find(options), options)
        except (NoRegionError, NoCredentialsError) as error:
            raise CommandError(f"{str(error).removesuffix('.')}: {_WHERE}") from error
        except (KeyringError, BotoCoreError, ClientError) as error:
            raise CommandError(str(error)) from error

    return run_there


def add_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    run: Callable[[Installation, argparse.Namespace], None],
) -> argparse.ArgumentParser:
    """Add a verb that does ``run`` with the installation that its options name; ``text`` describes it."""
    parser = add_command(verbs, name, text)
    add_options(parser)
    parser.set_defaults(run=command(run))
    return parser


@dataclass(frozen=True)
class Installation:
    """The resources of one Carsight, and a session with access to them.

    Functions have a ``Deployment`` instead, which they find in their environment.
    """

    session: boto3.session.Session
    resources: Mapping[str, str]
    """By environment name: ``TABLE_NAME``, ``UPLOADS_BUCKET``, ..."""
    endpoint: str | None = None
    """The URL of the stand-ins for AWS's services; None for AWS itself."""

    @property
    def table_name(self) -> str:
        """Name of the table of keys and usage."""
        return self.resource("TABLE_NAME")

    def resource(self, name: str) -> str:
        """Return a resource's name. Raises ``CommandError`` if the installation does not have it."""
        if name not in self.resources:
            raise CommandError(f"this deployment has no {name}")
        return self.resources[name]

    def dynamodb(self) -> DynamoDBClient:
        """Return a client for the table, with boto3's default timeouts and retries."""
        return self.session.client("dynamodb", endpoint_url=self.endpoint)

    @classmethod
    def find(cls, options: argparse.Namespace) -> Installation:
        """Return the installation named by the options of ``add_options``."""
        return cls._local() if options.local else cls._stack(options)

    @classmethod
    def _stack(cls, options: argparse.Namespace) -> Installation:
        """Return a stack's outputs as resources: ``TableName`` becomes ``TABLE_NAME``."""
        session = boto3.session.Session(profile_name=options.profile, region_name=options.region)
        stacks = session.client("cloudformation").describe_stacks(StackName=options.stack_name)["Stacks"]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", [])}
        if "TableName" not in outputs:
            raise CommandError(
                f"stack {options.stack_name!r} is not a Carsight deployment: it has no TableName output"
            )
        return cls(session, {_environment_name(key): value for key, value in outputs.items()})

    @classmethod
    def _local(cls) -> Installation:
        here = Path.cwd()
        found = next((path for folder in (here, *here.parents) if (path := folder / LOCAL).is_file()), None)
        if found is None:
            raise CommandError(f"no {LOCAL} in {here} or above: is `make run` running?")
        environment: dict[str, str] = json.loads(found.read_text(encoding="utf-8"))
        session = boto3.session.Session(
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_DEFAULT_REGION"],
        )
        return cls(session, environment, environment["AWS_ENDPOINT_URL"])


def _environment_name(output: str) -> str:
    """Turn ``TableName`` into ``TABLE_NAME``."""
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in output).lstrip("_").upper()
