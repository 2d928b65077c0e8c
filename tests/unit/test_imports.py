"""A cold start imports what a request needs, and nothing else. Modules are counted; time varies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BUDGET = {"plate": 376, "vin": 382}
"""Modules that a function may have imported before its first request, the interpreter's own included."""

NEVER = {
    "aws_lambda_powertools.utilities.idempotency": "only where a request asks for it",
    "aws_xray_sdk": "only where tracing is on",
    "boto3": "botocore makes the same clients",
    "email": "only http.client parses headers as an e-mail's",
    "http.client": "only fetches need it; AWS is called through plain sockets",
    "botocore.session": "a request is counted by one signed POST; Powertools asks for the bare package",
    "multiprocessing": "nothing here starts processes",
    "pydantic": "answers check themselves (carsight_service.contract.parts)",
    "onnxruntime.quantization": "the models are quantized where they are trained",
    "requests": "fetches are the guarded ones of carsight_service.aws.fetch",
    "s3transfer": "objects are small enough for one request",
    "carsight_service.batch_store": "the account function's and the workers'",
    "carsight_service.http.account": "the account function's",
    "carsight_service.notify.webhooks": "the workers'",
    "carsight_service.contract.lists": "the account function's and the workers'",
    "carsight_service.queue.children": "the workers'",
    "carsight_service.http.openapi": "the account function's",
    "carsight_service.queue.uploads": "the workers'",
    "yaml": "the account function's",
}

OTHERS = {
    "plate": ("carsight.vin.barcodes", "carsight.vin.recognizer", "zxingcpp"),
    "vin": ("carsight.plate.recognizer", "carsight.plate.vehicles"),
}
"""What only the other function needs."""

_REPORT = "import functions.{}.app, json, sys; print(json.dumps(sorted(sys.modules)))"


@pytest.mark.parametrize("function", ["plate", "vin"])
def test_a_cold_start_imports_no_more_than_it_has_to(function: str) -> None:
    # Without the environment's own .pth files, which import what no function has.
    search = [str(ROOT), *(path for path in sys.path if path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
    ran = subprocess.run(
        [sys.executable, "-S", "-c", _REPORT.format(function)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(json.loads(ran.stdout.splitlines()[-1]))
    unwanted = modules & {*NEVER, *OTHERS[function]}
    assert not unwanted, {name: NEVER.get(name, "the other function's") for name in unwanted}
    assert len(modules) <= BUDGET[function]


_IMPORT_ALL = """
import importlib, pkgutil, carsight_service
for module in pkgutil.walk_packages(carsight_service.__path__, "carsight_service."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def test_no_module_needs_an_environment_to_be_imported() -> None:
    """A deployment is read by its handlers, and an error may be raised without one."""
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", _IMPORT_ALL], env=environment, check=True)


_IMPORT_COMMANDS = """
import importlib, sys
from carsight_service.cli import COMMANDS
for lacking in ("arro3", "aws_lambda_powertools", "pybase64", "smart_open", "yaml"):
    sys.modules[lacking] = None  # importing it raises ImportError
for module, _ in COMMANDS.values():
    importlib.import_module(f"carsight_service.cli.{module}")
"""


def test_commands_need_no_package_of_the_functions() -> None:
    """What `pip install carsight[cli]` brings is enough, also for what they share with the functions."""
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", _IMPORT_COMMANDS], env=environment, check=True)


def test_importing_reads_no_source() -> None:
    """As pydantic does for ``use_attribute_docstrings``: 25 CPU-ms of the account function's cold start."""
    report = "import carsight_service.http.account, linecache; print([*linecache.cache])"
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ran = subprocess.run([sys.executable, "-c", report], env=environment, capture_output=True, check=True)
    assert ran.stdout.strip() == b"[]"
