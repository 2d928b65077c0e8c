"""Webhooks, one per key, stored next to the key's profile (``sk = WEBHOOK``), and their signatures.

``sign`` and ``verify`` need no settings of the deployment, so receivers may use the same code.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carsight_service.contract.api import MAX_URL_CHARACTERS
from carsight_service.metering.model import WEBHOOK, partition, successor_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_MAX_ROTATIONS = 10
"""How many pointers to a successor are followed; an account's leads to the current key in one step."""

SIGNATURE = "carsight-signature"
DELIVERY = "carsight-delivery"

TOLERANCE_SECONDS = 300
"""How old a signature may be, so that a recorded delivery cannot be sent again later."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address, and the secret that signs every delivery to it."""

    url: str
    secret: str
    """Stored in plain text, unlike a key, as signing needs it."""


class Webhooks:
    """The webhooks of one deployment's keys."""

    def __init__(self, table_name: str, client: DynamoDBClient) -> None:
        self._table = table_name
        self._client = client

    def get(self, key_id: str) -> Webhook | None:
        """Return the key's webhook, if it has one."""
        return _webhook(self._item(key_id))

    def find(self, key_id: str) -> Webhook | None:
        """Return the webhook of ``key_id`` or, if that was rotated, of the current key."""
        for _ in range(_MAX_ROTATIONS):
            item = self._item(key_id)
            successor = successor_of(item)
            if successor is None:
                return _webhook(item)
            key_id = successor
        return None

    def _item(self, key_id: str) -> Mapping[str, Any] | None:
        return self._client.get_item(TableName=self._table, Key=_key(key_id)).get("Item")

    def set(self, key_id: str, url: str, *, plain: bool = False) -> Webhook:
        """Give the key a webhook with a new secret, replacing any that it had.

        Raises ``ValueError`` for an address that is too long or not https (``plain`` allows http, for
        development). Whether it is on the public internet is checked at every delivery, as names may resolve
        to other addresses later.
        """
        if not url.startswith(("https://", "http://") if plain else "https://"):
            raise ValueError("a webhook's address must begin with https://")
        if len(url) > MAX_URL_CHARACTERS:
            raise ValueError(f"a webhook's address must have at most {MAX_URL_CHARACTERS} characters")
        webhook = Webhook(url, f"whsec_{secrets.token_urlsafe(32)}")
        item = {**_key(key_id), "url": {"S": webhook.url}, "secret": {"S": webhook.secret}}
        self._client.put_item(TableName=self._table, Item=item)
        return webhook

    def remove(self, key_id: str) -> None:
        """Remove the key's webhook."""
        self._client.delete_item(TableName=self._table, Key=_key(key_id))


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Return the signature header of ``body`` at ``timestamp`` (Unix seconds)."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def verify(secret: str, header: str, body: bytes) -> bool:
    """Whether ``header`` signs ``body`` with ``secret`` and is no older than ``TOLERANCE_SECONDS``."""
    timestamp = header.removeprefix("t=").partition(",")[0]
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    return hmac.compare_digest(sign(secret, int(timestamp), body).encode(), header.encode())


def _key(key_id: str) -> dict[str, Any]:
    return {"pk": {"S": partition(key_id)}, "sk": {"S": WEBHOOK}}


def _webhook(item: Mapping[str, Any] | None) -> Webhook | None:
    return Webhook(item["url"]["S"], item["secret"]["S"]) if item and "url" in item else None
