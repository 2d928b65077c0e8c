"""Leases on work that a queue may deliver twice, and that must be done once.

Each piece of work has an item in the table, ``pk = WORK#<SHA-256 of its name>``, ``sk = WORK``. The worker
holds a lease on it, by a conditional write that only one worker can make.

    delivery A                      delivery B                       the item
    take: no item                                                    held by A until 12:01
                                    take: held until 12:01: later    held by A until 12:01
    complete                                                         done
                                    take: done -> None               done

If A dies, its lease expires, and B's next delivery takes it over. Names may be used again by later work, such
as a photo that replaces another of the same name. ``sequence`` orders such work, and an earlier piece that
arrives after a later one is not done.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from carsight_service.aws.dynamo import Clock, attribute_names, expiry, utc_now
from carsight_service.aws.failures import failure
from carsight_service.queue.retry import TryLater

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    from carsight_service.aws.dynamo_client import DynamoClient

_MARGIN_SECONDS = 15.0
"""How much longer a lease lasts than the work may take: a function may overrun until it is killed, and the
clocks of two machines may differ."""

KEPT = timedelta(days=30)
"""How long finished work is remembered: twice the 14 days that a message can stay in a queue."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The exclusive right to do one piece of work, for a limited time."""

    name: str
    identity: str
    holder: str
    """A random name that proves that the lease is still its holder's."""
    displaced: str | None
    """Identity of earlier work under this name that was started and never finished."""


class Leases:
    """The leases of one deployment, safe to share between threads. Methods raise the client's errors.

    The client may repeat every write: one that was carried out without a response succeeds again.
    """

    def __init__(
        self, table_name: str, client: DynamoDBClient | DynamoClient, clock: Clock = utc_now
    ) -> None:
        self._table = table_name
        self._client = client
        self._clock = clock

    def take(self, name: str, identity: str, seconds: float, sequence: str = "") -> Lease | None:
        """Take a lease on the work ``identity`` under ``name``, for ``seconds`` and a margin.

        Returns None if there is nothing to do, as the work is done or has been replaced by later work. Raises
        ``TryLater`` if another worker holds the lease.
        """
        holder = secrets.token_hex(8)
        try:
            old = self._write(name, identity, holder, seconds, sequence)
        except Exception as error:
            failed = failure(error)
            if failed.code != "ConditionalCheckFailedException":
                raise
            seen: Any = failed.item
            same = seen["identity"]["S"] == identity
            if (same and seen["done"]["BOOL"]) or (not same and seen["sequence"]["S"] > sequence):
                return None
            raise TryLater("leased elsewhere") from None
        displaced = None
        if old and not old["done"]["BOOL"] and old["identity"]["S"] != identity:
            displaced = old["identity"]["S"]
        return Lease(name, identity, holder, displaced)

    def _write(self, name: str, identity: str, holder: str, seconds: float, sequence: str) -> Any:
        """Write the lease unless another is valid or the work is done; return the item that it replaces."""
        now = self._clock()
        until = now.timestamp() + seconds + _MARGIN_SECONDS
        answer = self._client.update_item(
            TableName=self._table,
            Key=_key(name),
            UpdateExpression=(
                "SET #identity = :identity, #sequence = :sequence, #holder = :holder, #until = :until,"
                " #done = :no, #expires = :expires"
            ),
            # The holder is this one if the write is repeated after a lost response.
            ConditionExpression=(
                "attribute_not_exists(pk) OR #holder = :holder"
                " OR (#identity = :identity AND #done = :no AND #until < :now)"
                " OR (#identity <> :identity AND #sequence <= :sequence"
                " AND (#done = :yes OR #until < :now))"
            ),
            ExpressionAttributeNames=attribute_names(
                "identity", "sequence", "holder", "until", "done", "expires"
            ),
            ExpressionAttributeValues={
                ":identity": {"S": identity},
                ":sequence": {"S": sequence},
                ":holder": {"S": holder},
                ":until": {"N": f"{until:.3f}"},
                ":now": {"N": f"{now.timestamp():.3f}"},
                ":yes": {"BOOL": True},
                ":no": {"BOOL": False},
                ":expires": expiry(now, KEPT),
            },
            ReturnValues="ALL_OLD",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        return answer.get("Attributes")

    @contextmanager
    def held(self, lease: Lease) -> Iterator[None]:
        """Complete the work of ``lease`` at the end of the block, or abandon it if the block raises."""
        try:
            yield
        except Exception:
            with suppress(Exception):  # the lease expires anyway
                self.abandon(lease)
            raise
        self.complete(lease)

    def complete(self, lease: Lease) -> None:
        """Record that the work is done."""
        self._set(lease, "done", {"BOOL": True})

    def abandon(self, lease: Lease) -> None:
        """Release the lease without completing the work, so that the next delivery need not wait."""
        self._set(lease, "until", {"N": "0"})

    def _set(self, lease: Lease, attribute: str, value: AttributeValueTypeDef) -> None:
        """Set an attribute of the lease's item, if the lease is still its holder's."""
        self._client.update_item(
            TableName=self._table,
            Key=_key(lease.name),
            UpdateExpression=f"SET #{attribute} = :value",
            ConditionExpression="#holder = :holder",
            ExpressionAttributeNames=attribute_names(attribute, "holder"),
            ExpressionAttributeValues={":value": value, ":holder": {"S": lease.holder}},
        )


def _key(name: str) -> dict[str, Any]:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return {"pk": {"S": f"WORK#{digest}"}, "sk": {"S": "WORK"}}
