"""A bad deployment fails when it starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from carsight_service.settings import Settings


def test_only_the_table_has_to_be_named() -> None:
    settings = Settings.read({"TABLE_NAME": "carsight-keys", "PATH": "/usr/bin"})
    assert settings.table_name == "carsight-keys"
    assert settings.allowed_buckets == frozenset()
    assert settings.local_fetch is settings.tracing is False


def test_variables_are_parsed() -> None:
    settings = Settings.read(
        {
            "TABLE_NAME": "carsight-keys",
            "ALLOWED_BUCKETS": "photos, more-photos,",
            "LOCAL_FETCH": "true",
            "TRACING": "false",
            "BILLING_URL": "https://example.com/billing",
            "UPLOADS_BUCKET": "",
        }
    )
    assert settings.allowed_buckets == {"photos", "more-photos"}
    assert settings.local_fetch
    assert not settings.tracing
    assert settings.billing_url == "https://example.com/billing"
    assert settings.uploads_bucket is None


def test_settings_are_immutable() -> None:
    settings = Settings.read({"TABLE_NAME": "carsight-keys"})
    with pytest.raises(AttributeError):
        settings.local_fetch = True  # type: ignore[misc]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TABLE_NAME": ""},
        {"TABLE_NAME": "no"},
        {"TABLE_NAME": "a name with blanks"},
        {"TABLE_NAME": "carsight-keys", "LOCAL_FETCH": "perhaps"},
        {"TABLE_NAME": "carsight-keys", "PRICING_URL": "javascript:alert(1)"},
    ],
)
def test_missing_and_malformed_variables_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        Settings.read(environment)


def test_the_deployment_uses_one_arena() -> None:
    """What a photo leaves free is there for the next one's thread."""
    program = """
import ctypes, sys, threading
from carsight_service.deployment import Deployment
if sys.argv[1] == "ours":
    Deployment.from_environment({"TABLE_NAME": "carsight"})
libc = ctypes.CDLL(None)
threads = [threading.Thread(target=lambda: [bytes(100_000) for _ in range(100)]) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""
    heaps = [
        subprocess.run(
            [sys.executable, "-c", program, which],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
            timeout=60,
        ).stdout.count("<heap nr=")
        for which in ("ours", "as it is")
    ]
    assert heaps[0] == 1 < heaps[1]
