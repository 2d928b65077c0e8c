"""Embedded DynamoDB, S3, SQS, SNS and EventBridge: a ministack server in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from local import server


def queue_name(resource: str) -> str:
    """Return the local name of the queue ``resource`` of the template."""
    return f"carsight-local-{resource}"


def queue_url(address: str, resource: str) -> str:
    """Return the local URL of the queue ``resource`` of the template."""
    return f"{address}/{server.ACCOUNT}/{queue_name(resource)}"


def credentials(address: str) -> dict[str, str]:
    """Return the environment in which AWS's SDKs use the server at ``address``."""
    return {
        "AWS_ENDPOINT_URL": address,
        # The only credentials with which ministack accepts presigned URLs.
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def serve(state: Path | None = None) -> Iterator[str]:
    """Run a server within the block, and yield its address. Its state is kept in the folder ``state``."""
    # With AWS settings of this process the server itself would call AWS.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        [sys.executable, server.__file__, *([str(state)] if state else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
        start_new_session=True,  # Ctrl-C is handled by the parent only
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        _wait_for(address)
        yield address
    finally:
        process.stdin.close()  # the server saves its state and exits
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def answer(address: str) -> bool:
    """Return whether the server at ``address`` answers."""
    try:
        with urlopen(f"{address}/_ministack/health", timeout=5):
            return True
    except OSError:
        return False


def _wait_for(address: str) -> None:
    for _ in range(100):
        if answer(address):
            return
        time.sleep(0.1)
    raise TimeoutError(f"no answer from {address}")
