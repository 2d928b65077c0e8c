"""``make run``: the whole of Carsight on http://127.0.0.1:${PORT:-3000}, until it is interrupted.

Embedded stores, the tables, buckets and queues of ``template.yaml``, a key ``demo``, the real handlers with
the real models. ``.local/endpoint.json`` tells ``carsight --local`` where everything is.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import boto3
from werkzeug.serving import WSGIRequestHandler, make_server

from local.stores import credentials, queue_url, serve
from local.template import create_table, read_template

if TYPE_CHECKING:
    from carsight_service.metering.model import Profile

ROOT = Path(__file__).resolve().parents[1]
ENDPOINT = Path(os.environ.get("CARSIGHT_LOCAL", ROOT / ".local" / "endpoint.json"))

TABLE, UPLOADS, RESULTS = "carsight-local", "carsight-local-uploads", "carsight-local-results"
DEMO_KEY = "demo"


class _Quiet(WSGIRequestHandler):
    """The functions log what happens; a second log would hold query strings, and keys in them."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def _environment(address: str) -> dict[str, str]:
    """Return what the template gives its functions, with local names."""
    return {
        **credentials(address),
        "TABLE_NAME": TABLE,
        "UPLOADS_BUCKET": UPLOADS,
        "RESULTS_BUCKET": RESULTS,
        "ALLOWED_BUCKETS": UPLOADS,
        "PLATE_QUEUE_URL": queue_url(address, "PlateQueue"),
        "VIN_QUEUE_URL": queue_url(address, "VinQueue"),
        "WEBHOOKS_QUEUE_URL": queue_url(address, "WebhooksQueue"),
        "UPLOADS_DEAD_LETTERS_URL": queue_url(address, "UploadsDeadLetters"),
        "WEBHOOKS_DEAD_LETTERS_URL": queue_url(address, "WebhooksDeadLetters"),
        "EVENT_BUS": "default",
        "LOCAL_FETCH": os.environ.get("LOCAL_FETCH", ""),
        "POWERTOOLS_SERVICE_NAME": "carsight",
        "POWERTOOLS_METRICS_NAMESPACE": "Carsight",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }


def _seed() -> Profile:
    from carsight_service.aws.clients import Clients
    from carsight_service.metering.keyring import Keyring

    _, account = Keyring(TABLE, Clients().metering).create(
        owner="demo@example.com", tier="pro", label="local", overage=True, key=DEMO_KEY
    )
    return account.profile


def _curl(url: str, path: str, photo: str) -> str:
    upload = shlex.quote(f"upload=@{ROOT / 'tests' / 'data' / photo}")
    return f"curl -s -F {upload} {shlex.quote(f'{url}{path}?key={DEMO_KEY}')}"


def main() -> None:
    port = int(os.environ.get("PORT", "3000"))
    stop = threading.Event()

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    with ExitStack() as stack:
        environment = _environment(stack.enter_context(serve()))
        os.environ.update(environment)
        # The functions read their settings when they are imported.
        from local.gateway import Gateway
        from local.worker import Worker

        template = read_template()
        create_table(boto3.client("dynamodb"), TABLE)
        worker = Worker(template, environment)
        profile = _seed()
        gateway = Gateway(template)
        server = make_server("127.0.0.1", port, gateway, threaded=True, request_handler=_Quiet)
        url = f"http://127.0.0.1:{server.port}"
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        stack.callback(server.shutdown)
        stack.enter_context(worker)
        ENDPOINT.parent.mkdir(exist_ok=True)
        ENDPOINT.write_text(
            json.dumps({"url": url, "key": DEMO_KEY, "key_id": profile.key_id, **environment}, indent=1)
        )
        stack.callback(ENDPOINT.unlink, missing_ok=True)
        print(f"\nCarsight is ready at {url} with the key {DEMO_KEY}. Try:\n")
        print("  " + _curl(url, "/platerecognition", "plate_us.jpg"))
        print("  " + _curl(url, "/v1/vinocr", "vin_label.jpg"))
        print("  .venv/bin/carsight upload tests/data/plate_us.jpg --local")
        print("\nStop with Ctrl-C.", flush=True)
        stop.wait()
    sys.exit(0)


if __name__ == "__main__":
    main()
