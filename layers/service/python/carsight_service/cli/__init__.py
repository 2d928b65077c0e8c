"""The command ``carsight``: read photos here, or manage a deployment in AWS or on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from carsight import __version__
from carsight_service.cli.output import CommandError, add_command

COMMANDS = {
    "read": ("read", "read photos on this machine, without a deployment"),
    "upload": ("photos", "send photos to the uploads bucket and show their readings"),
    "batch": ("batches", "read lists of photos in the background, each of up to ten million"),
    "keys": ("keys", "manage API keys and see their usage"),
    "webhooks": ("webhooks", "set the address at which a key's readings are announced"),
    "redrive": ("redrive", "retry uploads, webhook deliveries or a batch after all attempts have failed"),
}
"""The module and the description of each command. The module's function with the command's name completes its
parser. Only the module of the command that is run is imported, so that ``read`` needs no AWS libraries and
the other commands no OpenCV."""


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line, with the options of ``command`` only."""
    top = argparse.ArgumentParser(
        prog="carsight",
        description="Read photos here, or manage a deployment in AWS or on this machine.",
    )
    top.add_argument("--version", action="version", version=f"carsight {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        parser = add_command(commands, name, text)
        if name == command:
            getattr(import_module(f"carsight_service.cli.{module}"), name)(parser)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, or 1 if it failed. A usage error exits with 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = arguments[0] if arguments else None
    try:
        options = parser(command).parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output, such as `head`, has stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("carsight"):
            raise
        print(
            f"carsight: {command} needs {error.name}, which is not installed: "
            "pip install '.[cli]' in a checkout",
            file=sys.stderr,
        )
        return 1
    except CommandError as error:
        print(f"carsight: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("carsight: interrupted", file=sys.stderr)
        return 130
    return 0
