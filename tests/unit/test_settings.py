"""A bad deployment fails when it starts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from carsight_service.settings import Settings


def test_defaults() -> None:
    settings = Settings.read({"TABLE_NAME": "carsight-keys", "PATH": "/usr/bin"})
    assert settings.table_name == "carsight-keys"
    assert settings.allowed_buckets == frozenset()
    assert settings.local_fetch is settings.tracing is False


def test_what_a_template_sets() -> None:
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


def test_nothing_changes_them() -> None:
    settings = Settings.read({"TABLE_NAME": "carsight-keys"})
    with pytest.raises(ValidationError):
        settings.local_fetch = True


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
def test_a_bad_deployment(environment: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Settings.read(environment)
