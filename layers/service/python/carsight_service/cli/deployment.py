"""Where a command goes: a CloudFormation stack, or what ``make run`` has started on this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LOCAL = Path(".local") / "endpoint.json"
"""Written by the local gateway while it runs, in the folder it was started from."""


class DeploymentError(Exception):
    """There is no such deployment; the message tells what was looked for."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options by which every command is told its deployment and its form of output."""
    where = parser.add_argument_group("deployment")
    where.add_argument("--stack-name", default="carsight", help="CloudFormation stack (default: %(default)s)")
    where.add_argument("--region", help="AWS region (default: as the profile says)")
    where.add_argument("--profile", help="AWS profile (default: as the environment says)")
    where.add_argument("--local", action="store_true", help="what `make run` has started on this machine")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


@dataclass(frozen=True)
class Deployment:
    """A deployment's resources, and a session that may reach them."""

    session: boto3.session.Session
    resources: Mapping[str, str]
    """By environment name: ``TABLE_NAME``, ``UPLOADS_BUCKET``, ..."""
    endpoint: str | None = None
    """Where AWS's services are; None for AWS itself."""

    @property
    def table_name(self) -> str:
        """The table of keys and usage."""
        return self.resource("TABLE_NAME")

    def resource(self, name: str) -> str:
        """A resource's name. Raises ``DeploymentError`` where the deployment has none."""
        if name not in self.resources:
            raise DeploymentError(f"this deployment has no {name}")
        return self.resources[name]

    def dynamodb(self) -> DynamoDBClient:
        """A client for the table, more patient than a function's: an operator waits."""
        return self.session.client("dynamodb", endpoint_url=self.endpoint)

    @classmethod
    def find(cls, options: argparse.Namespace) -> Deployment:
        """The deployment that ``add_options``'s options name."""
        return cls._local() if options.local else cls._stack(options)

    @classmethod
    def _stack(cls, options: argparse.Namespace) -> Deployment:
        """The outputs of a stack: ``TableName`` names what functions know as ``TABLE_NAME``."""
        session = boto3.session.Session(profile_name=options.profile, region_name=options.region)
        stacks = session.client("cloudformation").describe_stacks(StackName=options.stack_name)["Stacks"]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", [])}
        if "TableName" not in outputs:
            raise DeploymentError(f"stack {options.stack_name!r} is no Carsight: it has no output TableName")
        return cls(session, {_environment_name(key): value for key, value in outputs.items()})

    @classmethod
    def _local(cls) -> Deployment:
        here = Path.cwd()
        found = next((path for folder in (here, *here.parents) if (path := folder / LOCAL).is_file()), None)
        if found is None:
            raise DeploymentError(f"no {LOCAL} in {here} or above: is `make run` running?")
        environment: dict[str, str] = json.loads(found.read_text(encoding="utf-8"))
        session = boto3.session.Session(
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_DEFAULT_REGION"],
        )
        return cls(session, environment, environment["AWS_ENDPOINT_URL"])


def _environment_name(output: str) -> str:
    """``TableName`` as ``TABLE_NAME``."""
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in output).lstrip("_").upper()
