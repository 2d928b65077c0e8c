"""What every item and expression of the table is written with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

Clock = Callable[[], datetime]
"""The time now, in UTC."""


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


def expiry(after: datetime, kept: timedelta) -> dict[str, str]:
    """Return the ``expires`` attribute (the table's TTL, in Unix seconds) of an item kept for ``kept``."""
    return {"N": str(int((after + kept).timestamp()))}


def item_of(**values: str | int) -> dict[str, Any]:
    """Return ``values`` as an item of the table holds them: text, whole numbers, true and false."""
    return {name: attribute(value) for name, value in values.items()}


def attribute(value: str | int) -> dict[str, Any]:
    """Return ``value`` as an attribute of an item."""
    if isinstance(value, str):
        return {"S": str(value)}  # of an enum's member the text alone
    return {"BOOL": value} if isinstance(value, bool) else {"N": str(value)}


def attribute_names(*attributes: str) -> dict[str, str]:
    """``{"#status": "status", ...}``: several of our attributes are reserved words in expressions."""
    return {f"#{attribute}": attribute for attribute in attributes}
