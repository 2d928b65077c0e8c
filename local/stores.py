"""DynamoDB, S3, SQS, SNS and EventBridge, embedded: a moto server in a process of its own.

It answers one request at a time. With threads, moto lets conditional writes race: of 200 parallel writes
against a limit of 100 it let 102 through.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

# The server ends with the process that started it, however that ends: its standard input is then closed.
_SERVER = """
import os, socket, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
server.socket.listen(socket.SOMAXCONN)
print(server.port, flush=True)
server.serve_forever()
"""


_ACCOUNT = "123456789012"


def queue_name(resource: str) -> str:
    """Return what the queue ``resource`` of the template is called here."""
    return f"carsight-local-{resource}"


def queue_url(address: str, resource: str) -> str:
    """Where the queue ``resource`` of the template is, once the embedded stores have it."""
    return f"{address}/{_ACCOUNT}/{queue_name(resource)}"


def credentials(address: str) -> dict[str, str]:
    """Return the environment in which AWS's SDKs talk to the server at ``address``."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def serve() -> Iterator[str]:
    """Run a server until the block is left; yield its address."""
    # moto would send what it does not know to AWS, and itself by the endpoint of the process that starts it.
    environment = {name: value for name, value in os.environ.items() if name != "AWS_ENDPOINT_URL"}
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
        start_new_session=True,  # an interrupt from the keyboard is the parent's to handle
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        _wait_for(address)
        yield address
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def _wait_for(address: str) -> None:
    for _ in range(100):
        try:
            with urlopen(f"{address}/moto-api/", timeout=5):
                return
        except URLError:
            time.sleep(0.1)
    raise TimeoutError(f"no answer from {address}")
