"""Stages in X-Ray, where tracing is switched on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

PARENT = "53995c3f42cd8ad8"

_REQUEST = """
from carsight_service.deadline import within
from carsight_service.deployment import Deployment
from carsight_service.telemetry import stage

Deployment.from_environment()

def body():
    with stage("load"):
        pass
    with stage("read"):
        pass

with stage("keys"):
    pass
within(30, body)
"""


def trace(tracing: str) -> list[dict[str, str]]:
    """What a process like Lambda's sends to the X-Ray daemon for one request."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        subprocess.run(
            [sys.executable, "-c", _REQUEST],
            check=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "TRACING": tracing,
                "LAMBDA_TASK_ROOT": "/var/task",
                "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{daemon.getsockname()[1]}",
                "_X_AMZN_TRACE_ID": f"Root=1-5759e988-bd862e3fe1be46a994272793;Parent={PARENT};Sampled=1",
            },
        )
        daemon.setblocking(False)
        sent = []
        while True:
            try:
                sent.append(json.loads(daemon.recv(65536).split(b"\n", 1)[1]))
            except BlockingIOError:
                return sent


def test_each_stage_is_a_subsegment() -> None:
    sent = trace("true")
    assert [segment["name"] for segment in sent] == ["keys", "load", "read"]
    assert {segment["parent_id"] for segment in sent} == {PARENT}


def test_nothing_is_sent_unless_switched_on() -> None:
    assert trace("false") == []
