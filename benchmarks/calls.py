"""What the benchmarks call a function with: a key in an embedded table, and events as API Gateway makes."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KEY = "cs_benchmark"
TABLE = "carsight-benchmark"
PATHS = {"plate": "/platerecognition", "vin": "/v1/vinocr"}

_DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
SAMPLES = {"plate": _DATA / "plate_us.jpg", "vin": _DATA / "vin_label.jpg"}
"""The photo that is sent where none is named."""


class Invocation:
    """An invocation that has all of a function's time to go."""

    aws_request_id = "benchmark"

    def __init__(self, seconds: int = 28) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return self._seconds * 1000


def event(api: str, photo: bytes) -> dict[str, Any]:
    """Make a client's request for ``photo``: JSON with base64, the dialect that costs most to parse."""
    path = PATHS[api]
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": f"key={KEY}",
        "headers": {"content-type": "application/json"},
        "requestContext": {"requestId": "benchmark", "http": {"method": "POST", "path": path}},
        "body": json.dumps({"image": base64.b64encode(photo).decode()}),
        "isBase64Encoded": False,
    }


@contextmanager
def key_table() -> Iterator[None]:
    """Serve a table with one key from a process of its own, and set the environment that names it."""
    from local.stores import credentials, serve
    from local.template import create_table

    with serve() as address:
        os.environ |= credentials(address) | {"TABLE_NAME": TABLE}
        import boto3

        from carsight_service.aws.clients import Clients
        from carsight_service.metering.keyring import Keyring

        create_table(boto3.client("dynamodb"), TABLE)
        keyring = Keyring(TABLE, Clients().metering)
        keyring.create(owner="benchmark@example.com", tier="pro", label="", overage=True, key=KEY)
        yield
