"""Helpers for items and expressions of DynamoDB: times, values and names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

Clock = Callable[[], datetime]
"""Returns the current time in UTC."""


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def expiry(after: datetime, kept: timedelta) -> dict[str, str]:
    """Return the ``expires`` attribute (the table's TTL, in Unix seconds) of an item kept for ``kept``."""
    return {"N": str(int((after + kept).timestamp()))}


Value = str | int | tuple[str, ...] | None
"""What an attribute may contain: text, an integer, a Boolean, a list of texts, or nothing."""


def item_of(**values: Value) -> dict[str, Any]:
    """Return ``values`` as an item in DynamoDB's format."""
    return {name: attribute(value) for name, value in values.items()}


def attribute(value: Value) -> dict[str, Any]:
    """Return ``value`` as an attribute in DynamoDB's format."""
    match value:
        case None:
            return {"NULL": True}
        case str():
            return {"S": str(value)}  # converts members of string enums
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case _:
            return {"L": [attribute(text) for text in value]}


def value_of(attribute: Mapping[str, Any]) -> Any:
    """Return the value of an attribute in DynamoDB's format."""
    ((kind, held),) = attribute.items()
    match kind:
        case "NULL":
            return None
        case "N":
            return int(held)
        case "L":
            return tuple(value_of(element) for element in held)
        case _:
            return held


def attribute_names(*attributes: str) -> dict[str, str]:
    """Return placeholders such as ``{"#status": "status"}``: several attributes are reserved words."""
    return {f"#{attribute}": attribute for attribute in attributes}
