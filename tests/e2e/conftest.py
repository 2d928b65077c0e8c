"""One gateway with the real handlers and models for all tests of this folder, as ``make run`` starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest

from carsight_service.metering.keyring import Keyring

ROOT = Path(__file__).resolve().parents[2]


class Running:
    """A gateway in a process of its own, and everything that it has written so far."""

    def __init__(self, state: Path, **environment: str) -> None:
        # Without what the tests of other folders have set: this must start as it does from a shell.
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TABLE"))
        }
        self.endpoint = state / "endpoint.json"
        self.process = subprocess.Popen(
            # Offline: it would wait for a name server with each address of the description's examples.
            [sys.executable, "-m", "tests.offline", "local"],
            cwd=ROOT,
            env={
                **inherited,
                "PORT": "0",
                "CARSIGHT_LOCAL": str(self.endpoint),
                "LOCAL_FETCH": "",
                "POWERTOOLS_LOG_LEVEL": "INFO",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.url = self._wait()
        self._reader = Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _wait(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if ready := re.search(r"ready at (http://\S+)", line):
                return ready[1]
        raise RuntimeError("the gateway did not start:\n" + "".join(self.lines))

    def _collect(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    def settings(self) -> dict[str, str]:
        """What ``.local/endpoint.json`` would hold."""
        settings: dict[str, str] = json.loads(self.endpoint.read_text(encoding="utf-8"))
        return settings

    def keyring(self) -> Keyring:
        """Its keys, as an operator may change them."""
        return Keyring(self.settings()["TABLE_NAME"], self.client("dynamodb"))

    def client(self, service: str) -> Any:
        """A client of one of AWS's services, as the embedded stores stand for it."""
        settings = self.settings()
        return boto3.session.Session().client(
            service,  # type: ignore[call-overload]
            endpoint_url=settings["AWS_ENDPOINT_URL"],
            region_name=settings["AWS_DEFAULT_REGION"],
            aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
        )

    def kill(self) -> None:
        """End it and its stores at once, without a last word, as a power cut would."""
        self.kill_stores()
        os.kill(self.process.pid, signal.SIGKILL)
        self.ended()

    def kill_stores(self) -> None:
        """End its stores at once, and leave it alone."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text("ascii")
        for pid in map(int, children.split()):
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> int:
        """End it as a service manager would, and return its exit code."""
        self.process.terminate()
        return self.ended()

    def ended(self) -> int:
        """Wait for its end, and return its exit code."""
        code = self.process.wait(timeout=30)
        self._reader.join(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("local"))
    yield running
    assert running.stop() == 0
