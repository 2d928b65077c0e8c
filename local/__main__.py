"""``make run``: the whole of Carsight on http://127.0.0.1:${PORT:-3000}, until it is interrupted.

It has embedded stores with the tables, buckets and queues of ``template.yaml``, a key ``demo``, and the real
handlers with the real models. ``carsight --local`` finds it by ``.local/endpoint.json``.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from local.event_sources import EventSources, create_buckets
from local.functions import import_handler
from local.gateway import Gateway, serving
from local.step_functions import MACHINE_ARN, StepFunctions, machine_of
from local.stores import answer, credentials, queue_url, serve
from local.template import create_table, read_template

if TYPE_CHECKING:
    from carsight_service.metering.model import Profile

ROOT = Path(__file__).resolve().parents[1]
ENDPOINT = Path(os.environ.get("CARSIGHT_LOCAL", ROOT / ".local" / "endpoint.json"))

TABLE, UPLOADS, RESULTS = "carsight-local", "carsight-local-uploads", "carsight-local-results"
DEMO_KEY = "demo"

STATE = ENDPOINT.parent / "stores"
"""Keys, usage, uploads, queues and results, kept between runs; the folder may be deleted."""
EXECUTIONS = STATE / "executions"
"""Those of batches, also kept."""


def _environment(address: str) -> dict[str, str]:
    """Return the environment that the template gives its functions, with local names."""
    return {
        **credentials(address),
        "TABLE_NAME": TABLE,
        "UPLOADS_BUCKET": UPLOADS,
        "RESULTS_BUCKET": RESULTS,
        "ALLOWED_BUCKETS": UPLOADS,
        "PLATE_QUEUE_URL": queue_url(address, "PlateQueue"),
        "VIN_QUEUE_URL": queue_url(address, "VinQueue"),
        "WEBHOOKS_QUEUE_URL": queue_url(address, "WebhooksQueue"),
        "BATCHES_MACHINE_ARN": MACHINE_ARN,
        "UPLOADS_DEAD_LETTERS_URL": queue_url(address, "UploadsDeadLetters"),
        "WEBHOOKS_DEAD_LETTERS_URL": queue_url(address, "WebhooksDeadLetters"),
        "EVENT_BUS": "default",
        # URLs and webhooks on this machine are allowed, unless LOCAL_FETCH is set and empty.
        "LOCAL_FETCH": os.environ.get("LOCAL_FETCH", "true"),
        # One line per request is for people; the functions' JSON log is only written on request.
        "POWERTOOLS_LOG_LEVEL": os.environ.get("POWERTOOLS_LOG_LEVEL", "WARNING"),
        "POWERTOOLS_SERVICE_NAME": "carsight",
        "POWERTOOLS_METRICS_NAMESPACE": "Carsight",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }


def _seed() -> Profile:
    """Return the key ``demo``, which is created unless it is there from an earlier run."""
    from carsight_service.aws.clients import Clients
    from carsight_service.metering.keyring import Keyring, KeyringError
    from carsight_service.metering.model import key_id

    keyring = Keyring(TABLE, Clients().metering)
    try:
        return keyring.show(key_id(DEMO_KEY)).profile
    except KeyringError:
        _, account = keyring.create(
            owner="demo@example.com", tier="pro", label="local", overage=True, key=DEMO_KEY
        )
        return account.profile


def _machine(template: dict[str, Any]) -> StepFunctions:
    """Return the state machine that runs batches: a few children at a time, with the functions' handlers."""
    names = ("PlateWorkerFunction", "VinWorkerFunction", "BatchesFunction")
    handlers = {name: import_handler(template["Resources"][name]) for name in names}
    at_once = min(4, os.cpu_count() or 1)
    EXECUTIONS.mkdir(exist_ok=True)
    options = {"at_once": at_once, "background": True, "folder": EXECUTIONS}
    return machine_of(template, {"ResultsBucket": RESULTS}, handlers, **options)


def _refuse_a_taken_port(port: int) -> None:
    """Exit immediately if the port is in use, before anything takes time to start."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            sys.exit(f"Port {port} is taken. Stop what runs there, or take another: PORT={port + 1} make run")


def _interrupts() -> int:
    """Return the reading end of a pipe to which SIGTERM and Ctrl-C write.

    Waiting for a lock would not end if the kernel delivers the signal to another thread, and a handler that
    takes the lock may have interrupted its holder.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reading


def _curl(url: str, path: str, photo: str) -> str:
    upload = shlex.quote(f"upload=@{ROOT / 'tests' / 'data' / photo}")
    return f"curl -s -F {upload} {shlex.quote(f'{url}{path}?key={DEMO_KEY}')}"


def main() -> None:
    port = int(os.environ.get("PORT", "3000"))
    _refuse_a_taken_port(port)
    interrupted = _interrupts()
    kept = STATE.is_dir()
    with ExitStack() as stack:
        environment = _environment(stack.enter_context(serve(STATE)))
        os.environ.update(environment)
        template = read_template()
        create_table(boto3.client("dynamodb"), TABLE)
        create_buckets(UPLOADS, RESULTS)
        sources = EventSources(template, environment)
        # Its client is created when a batch is first submitted.
        machine = _machine(template)
        states = {"AWS_ENDPOINT_URL_SFN": stack.enter_context(serving(0, machine))}
        os.environ.update(states)
        machine.end_interrupted(TABLE)
        profile = _seed()
        gateway = Gateway(template, lambda: answer(environment["AWS_ENDPOINT_URL"]))
        url = stack.enter_context(serving(port, gateway))
        stack.enter_context(sources)
        ENDPOINT.parent.mkdir(exist_ok=True)
        ENDPOINT.write_text(
            json.dumps(
                {"url": url, "key": DEMO_KEY, "key_id": profile.key_id, **environment, **states}, indent=1
            )
        )
        stack.callback(ENDPOINT.unlink, missing_ok=True)
        if kept:
            print(f"Keys, usage, uploads and results of the last run are kept in {STATE}.")
        print(f"\nCarsight is ready at {url} with the key {DEMO_KEY}. Open it in a browser, or try:\n")
        print("  " + _curl(url, "/platerecognition", "plate_us.jpg"))
        print("  " + _curl(url, "/v1/vinocr", "vin_label.jpg"))
        print("  .venv/bin/carsight upload tests/data/plate_us.jpg --local")
        print("\nStop with Ctrl-C.", flush=True)
        os.read(interrupted, 1)
    # Exit without waiting for rows of a batch that are still being read: their stores are gone.
    os._exit(0)


if __name__ == "__main__":
    main()
