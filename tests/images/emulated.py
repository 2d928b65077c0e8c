"""Both images under AWS's Runtime Interface Emulator: they answer as the same code does here.

    make images test-images [ARCH=arm64]

Not collected by a plain ``pytest``: the images must have been built, by Debian's buildah and without Docker.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from carsight_service.aws.clients import Clients
from carsight_service.contract.api import Api
from carsight_service.http.endpoint import Endpoint
from carsight_service.metering.keyring import Keyring
from local.template import create_table
from tests.events import Invocation
from tests.fakes import deploy
from tests.tolerance import differences

ROOT = Path(__file__).resolve().parents[2]
BUILDAH = ["buildah", "--storage-driver", "overlay"]
TABLE = "carsight-images"
SUFFIX = os.environ.get("IMAGES_SUFFIX", "")
"""What stands behind the images' names where they were built for another architecture than this machine's."""
OWN_MEGABYTES = 200
"""What the packages, the code and the models of one image may come to, uncompressed."""

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        shutil.which("buildah") is None or os.geteuid() != 0, reason="images need buildah, as root"
    ),
]


def events(function: str) -> list[str]:
    """Names of the API Gateway events for ``function``."""
    return sorted(path.stem for path in (ROOT / "events").glob(f"{function}_*.json"))


@pytest.fixture(scope="module")
def stores(aws: str) -> str:
    """The address of the embedded stores, with a key ``demo`` in the table ``TABLE``."""
    client = Clients().metering
    create_table(client, TABLE)
    Keyring(TABLE, client).create(owner="owner@example.com", tier="pro", key="demo")
    return aws


@contextmanager
def running(image: str, command: str, stores: str) -> Iterator[str]:
    """Where events for ``image``, started with ``command`` as its handler, are posted."""
    ports = [free_port(), free_port()]
    environment = {
        "_HANDLER": command,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": stores,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "900",
        "RESULTS_BUCKET": "carsight-results",
        "TABLE_NAME": TABLE,
    }
    container = run([*BUILDAH, "from", "--pull-never", f"localhost/carsight-{image}{SUFFIX}"]).strip()
    try:
        process = subprocess.Popen(
            [
                *(*BUILDAH, "run", "--isolation", "chroot", "--network", "host"),
                *(f"--env={name}={value}" for name, value in environment.items()),
                *(container, "--", "/usr/local/bin/aws-lambda-rie"),
                *("--runtime-api-address", f"127.0.0.1:{ports[0]}"),
                *("--runtime-interface-emulator-address", f"127.0.0.1:{ports[1]}"),
                "/var/runtime/bootstrap",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for_port(ports[1])
            yield f"http://127.0.0.1:{ports[1]}/2015-03-31/functions/function/invocations"
        finally:
            process.terminate()
            process.wait(timeout=30)
    finally:
        run([*BUILDAH, "rm", container])


def run(command: list[str]) -> str:
    """What ``command`` prints. Fails with what it complains of."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for_port(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


def post(address: str, event: Mapping[str, Any]) -> Any:
    """A function's answer to ``event``; the first waits for the function to start."""
    request = Request(address, json.dumps(event).encode(), {"content-type": "application/json"})
    try:
        with urlopen(request, timeout=900) as answer:
            return json.load(answer)
    except URLError as error:
        raise AssertionError(f"no answer from the emulator: {error}") from error


def read(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))
    return event


def comparable(response: dict[str, Any]) -> tuple[int, set[str], Any]:
    """Status, names of headers, and the body without its timings and with floats to three digits."""
    body = json.loads(response["body"], parse_float=lambda digits: round(float(digits), 3))
    body.pop("processing_time", None)
    return response["statusCode"], set(response["headers"]), body


@pytest.mark.parametrize("function", ["plate", "vin"])
def test_an_image_answers_as_the_code_here_does(function: str, stores: str) -> None:
    recognize = import_module(f"functions.{function}.app").recognize
    here = Endpoint(deploy(TABLE, Clients().metering), Api(function), recognize).handle
    names = events(function)
    assert names
    with running(function, f"functions.{function}.app.lambda_handler", stores) as address:
        for name in names:
            *expected, body = comparable(here(read(name), Invocation()))
            *status, said = comparable(post(address, read(name)))
            assert status == expected, name
            if SUFFIX:
                assert list(differences(said, body)) == [], name
            else:
                assert said == body, name


@pytest.mark.parametrize("function", ["plate", "vin"])
def test_the_same_image_takes_uploads(function: str, stores: str) -> None:
    with running(function, f"functions.{function}.worker.lambda_handler", stores) as address:
        assert post(address, read("upload_s3_test_event")) == {"batchItemFailures": []}


@pytest.mark.parametrize("function", ["plate", "vin"])
def test_an_image_holds_little_beside_what_it_needs(function: str) -> None:
    container = run([*BUILDAH, "from", "--pull-never", f"localhost/carsight-{function}{SUFFIX}"]).strip()
    try:
        root = Path(run([*BUILDAH, "mount", container]).strip())
        sizes = {
            folder: sum(path.stat().st_size for path in (root / folder).rglob("*") if path.is_file())
            for folder in ("opt/python", "var/task")
        }
    finally:
        run([*BUILDAH, "rm", container])
    print({folder: f"{size / 1e6:.1f} MB" for folder, size in sizes.items()})
    assert sum(sizes.values()) < OWN_MEGABYTES * 1e6


def test_the_wheel_reads_photos_with_the_images_python(tmp_path: Path) -> None:
    """The images' Python is newer than the one that the other tests run on."""
    base = os.environ.get("BASE_IMAGE", "localhost/carsight-base")
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    run(wheel)
    (built,) = tmp_path.glob("carsight-*.whl")
    container = run([*BUILDAH, "from", "--pull-never", base]).strip()
    mounted = {ROOT: "/checkout", tmp_path: "/wheel", Path("/etc/ssl/certs"): "/etc/ssl/certs"}
    volumes = [f"--volume={here}:{there}:ro" for here, there in mounted.items()]
    try:
        command = [*BUILDAH, "run", "--isolation", "chroot", "--network", "host", *volumes, container, "--"]
        printed = run([*command, "/checkout/packaging/try_wheel.sh", f"/wheel/{built.name}"])
    finally:
        run([*BUILDAH, "rm", container])
    assert re.search(r"reads plates and VINs on Python 3\.1[2-9]", printed), printed
