"""Keys and usage: the hot path. One conditional write decides whether a request is served, and counts it."""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
)

from carsight_service.aws.dynamo import Clock, attribute_names, utc_now
from carsight_service.contract.api import Api
from carsight_service.contract.errors import (
    BlockedKey,
    InactiveKey,
    LimitExceeded,
    PlanWithoutApi,
    ServiceError,
    StoreUnavailable,
    UnknownKey,
)
from carsight_service.metering.model import (
    LIFETIME,
    Account,
    Grant,
    Meter,
    Status,
    Usage,
    close_period,
    history_sk,
    is_key_id,
    key_id,
    meter_sk,
    month_of,
    partition,
    successor_of,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

logger = logging.getLogger(__name__)

_CALLS = 3
"""How often a write that DynamoDB refused for the moment is tried in all."""

_MAX_ATTEMPTS = 10
"""How often a meter may change under a request, as at a month's turn, before the request gives up."""

_RETRYABLE_CODES = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
}
"""Errors by which DynamoDB says that it has *not* written."""


_SPARE = 25
"""The last units of an allowance, which are counted with tickets: as many requests may be open beside one."""

_CALL = "call-"
"""What the ticket of a call begins with; then comes when it was begun, in Unix seconds."""

_OPEN_SECONDS = 60
"""After how long a call that has left its ticket has died: a function is stopped after half of it."""

_POLL_SECONDS = (0.1, 0.3)
"""Between two looks at whether a unit has been given back."""


class _ConditionFailed(Exception):
    """A write's condition did not hold; ``item`` is the item as it was, None where there is none."""

    def __init__(self, item: dict[str, Any] | None) -> None:
        super().__init__("condition failed")
        self.item = item


class MeterStore:
    """The table of keys, safe to share between threads.

    Every method raises ``StoreUnavailable`` where the table is throttled or cannot be reached: nothing is
    ever answered unmetered.
    """

    def __init__(self, table_name: str, client: DynamoDBClient, clock: Clock = utc_now) -> None:
        self.table_name = table_name
        self.client = client
        self._clock = clock

    def consume(self, key: str, api: Api, *, patience: float = 0.0) -> Usage:
        """Count one request of ``key`` and say where its usage stands.

        Raises the contract's ``UnknownKey``, ``InactiveKey``, ``BlockedKey``, ``PlanWithoutApi`` or
        ``LimitExceeded``; nothing is counted then.

        With ``patience`` a request is refused only for what others have been answered with: while requests
        are open that may still give their unit back, it waits for so many seconds at most. The last units of
        an allowance are counted with tickets for that, which ``settle`` or ``give_back`` takes out.
        """
        meter = key_id(key)
        try:
            return self._take(meter, api, 1, None, follow=False, spare=_SPARE if patience else 0).usage
        except LimitExceeded as error:
            if not patience or (error.usage.remaining == 0 and not self._may_be_given_back(meter, api)):
                raise
        ticket = f"{_CALL}{int(self._clock().timestamp())}-{secrets.token_hex(4)}"
        deadline = time.monotonic() + patience
        while True:
            try:
                usage = self._take(meter, api, 1, ticket, follow=False).usage
            except LimitExceeded:
                if time.monotonic() > deadline or not self._may_be_given_back(meter, api):
                    raise
                time.sleep(random.uniform(*_POLL_SECONDS))
            else:
                return replace(usage, ticket=ticket)

    def _may_be_given_back(self, key_id: str, api: Api) -> bool:
        """Whether a unit is left by now, or a request is open that has one; a dead one gives it back here."""
        found = self._call(
            "get_item", TableName=self.table_name, Key=_meter_key(key_id, api), ConsistentRead=True
        )
        item = found.get("Item")
        if item is None:
            return False
        now = self._clock().timestamp()
        is_open = Meter.from_item(item).remaining >= 1
        for name in item:
            if name.startswith(_ticket(_CALL)):
                is_open = True
                ticket = name.removeprefix(_ticket(""))
                if now - int(ticket.removeprefix(_CALL).partition("-")[0]) > _OPEN_SECONDS:
                    self._refund(key_id, api, ticket, 1)
        return is_open

    def consume_by_id(self, key_id: str, api: Api, ticket: str | None = None) -> Usage:
        """``consume`` for a key or account known by its id alone, as in the path of an upload.

        ``ticket`` names work that may be begun more than once: the write that counts it leaves the ticket in
        the meter, and a second call that finds it there counts nothing. It stays until ``settle`` or
        ``refund``. What an older key of the account has begun is counted to the key of today.
        """
        return self._take(key_id, api, 1, ticket, follow=True).usage

    def take(self, key_id: str, api: Api, units: int, ticket: str) -> Grant:
        """Count as many of ``units`` as the allowance holds, for work of several photos.

        Raises as ``consume`` does; ``LimitExceeded`` where not even one is left. A second call with a ticket
        that is still in the meter counts nothing and returns what the first was granted. ``close`` ends it.
        """
        return self._take(key_id, api, units, ticket, follow=True)

    def close(self, grant: Grant, read: int) -> None:
        """End the work of ``grant``: ``read`` of its units stay counted, the others are given back."""
        if read < grant.units:
            self._refund(grant.usage.key_id, grant.api, grant.ticket, grant.units - read)
        else:
            self.settle(grant.usage.key_id, grant.api, [grant.ticket])

    def _take(
        self, key_id: str, api: Api, units: int, ticket: str | None, *, follow: bool, spare: int = 0
    ) -> Grant:
        """Count ``units``, or as many as are left; with ``spare``, only where that leaves so many."""
        if not is_key_id(key_id):
            raise UnknownKey(api)
        now = self._clock()
        period = month_of(now)
        wanted = units
        # One write does everything: it counts the unit, and its condition is every reason not to serve. When
        # the condition fails, DynamoDB hands back the item that failed it, so no second read can see another
        # state:
        #
        #   request A                    request B                     the meter
        #                                                              used 49, remaining 1
        #   SET used 50 IF remaining>=1                                used 50, remaining 0
        #                                SET used 51 IF remaining>=1   fails; B is handed used 50 -> 429
        #
        # At a month's turn the condition fails on the period, and the meter is turned over by a write that
        # holds only while the old month is still there:
        #
        #   request A (December)         request B (December)          the meter
        #                                                              2026-11, used 50
        #   SET used 51 IF 2026-12       SET used 51 IF 2026-12        fails; both are handed 2026-11
        #   SET 2026-12, used 1 IF 2026-11                             2026-12, used 1; A is handed the 50
        #                                SET ... IF 2026-11            fails; B is handed 2026-12
        #                                SET used 2 IF 2026-12         2026-12, used 2
        #
        # A request whose clock is behind finds a later month than its own and is counted there: a meter never
        # goes back.
        for _ in range(_MAX_ATTEMPTS):
            try:
                return self._granted(self._count(key_id, api, period, ticket, wanted, spare), ticket, wanted)
            except _ConditionFailed as failed:
                item = failed.item
            if follow and (successor := successor_of(item)):
                key_id = successor
                continue
            if item and ticket and _ticket(ticket) in item:
                return self._granted(Usage.of(Meter.from_item(item)), ticket, _units_of(item, ticket))
            meter = self._servable(item, api)
            if meter.period in (period, LIFETIME):
                if meter.remaining < 1 + spare and not meter.overage:
                    raise LimitExceeded(Usage.of(meter), now)
                # Fewer are left than were wanted; or the item has changed for the better since, which only a
                # fresh write can tell.
                wanted = wanted if meter.overage else min(wanted, meter.remaining)
                continue
            if meter.period > period:
                period = meter.period
                continue
            if meter.limit < 1 + spare and not meter.overage:
                raise LimitExceeded(Usage.of(meter.turned_over(period, used=0) if spare else meter), now)
            wanted = units if meter.overage else min(units, meter.limit)
            try:
                return self._granted(self._turn_over(meter, period, ticket, wanted), ticket, wanted)
            except _ConditionFailed:
                continue
        raise StoreUnavailable("the meter kept changing under this request")

    def _granted(self, usage: Usage, ticket: str | None, units: int) -> Grant:
        return Grant(usage.api, ticket or "", units, usage)

    def give_back(self, usage: Usage) -> Usage:
        """Take back the unit that ``usage`` counted, in its own period, and say where usage stands.

        Never raises: the caller already has an error to answer with. A unit not given back is logged.
        """
        try:
            return self._give_back(usage)
        except ServiceError as error:
            logger.exception(
                "refund failed",
                extra={
                    "prefix": usage.prefix,
                    "api": usage.api,
                    "period": usage.period,
                    "reason": error.note,
                },
            )
            return usage

    def refund(self, key_id: str, api: Api, ticket: str) -> None:
        """Give back the unit that was counted with ``ticket``, once however often it is called."""
        self._refund(key_id, api, ticket, 1)

    def _refund(self, key_id: str, api: Api, ticket: str, units: int) -> Usage | None:
        """Give back ``units`` counted with ``ticket``, and say where usage stands."""
        try:
            answer = self._call(
                "update_item",
                TableName=self.table_name,
                Key=_meter_key(key_id, api),
                UpdateExpression=(
                    "SET #used = #used - :units, #remaining = #remaining + :units REMOVE #ticket, #units"
                ),
                ConditionExpression="#ticket = #period AND #used >= :units",
                ExpressionAttributeNames=attribute_names("used", "remaining", "period")
                | _ticket_names(ticket),
                ExpressionAttributeValues={":units": {"N": str(units)}},
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
            item: dict[str, Any] | None = answer["Attributes"]
        except _ConditionFailed as failed:
            item = failed.item
            if item and _ticket(ticket) in item and self._drop(key_id, api, ticket):
                # The month turned in between: the units were counted in the past one.
                meter = Meter.from_item(item)
                self._take_from_history(meter.account, api, item[_ticket(ticket)]["S"], units)
        if successor := successor_of(item):
            # The key was rotated in between, and its count went along with its tickets.
            return self._refund(successor, api, ticket, units)
        return Usage.of(Meter.from_item(item)) if item else None

    def _drop(self, key_id: str, api: Api, ticket: str) -> bool:
        """Take ``ticket`` out of the meter; False where somebody else has done so."""
        try:
            self._call(
                "update_item",
                TableName=self.table_name,
                Key=_meter_key(key_id, api),
                UpdateExpression="REMOVE #ticket, #units",
                ConditionExpression="attribute_exists(#ticket)",
                ExpressionAttributeNames=_ticket_names(ticket),
            )
        except _ConditionFailed:
            return False
        return True

    def settle(self, key_id: str, api: Api, tickets: Collection[str]) -> None:
        """Take ``tickets`` out of the meter: their work is done, and what they counted stays counted."""
        if not tickets:
            return
        removed = {
            f"#{kind}{n}": name(ticket)
            for n, ticket in enumerate(tickets)
            for kind, name in (("t", _ticket), ("u", _units))
        }
        # A condition that fails means that there is no such meter, and nothing to take out of it.
        with suppress(_ConditionFailed):
            answer = self._call(
                "update_item",
                TableName=self.table_name,
                Key=_meter_key(key_id, api),
                UpdateExpression=f"REMOVE {', '.join(removed)}",
                ConditionExpression="attribute_exists(pk)",
                ExpressionAttributeNames=removed,
                ReturnValues="ALL_NEW",
            )
            if successor := successor_of(answer["Attributes"]):
                self.settle(successor, api, tickets)

    def authorize(self, key: str, api: Api) -> None:
        """Raise what ``consume`` would, but for the limit; nothing is counted or written."""
        answer = self._call(
            "get_item", TableName=self.table_name, Key=_meter_key(key_id(key), api), ConsistentRead=True
        )
        self._servable(answer.get("Item"), api)

    def account(self, key: str) -> Account:
        """Return a key's profile, usage and history, whatever it has left. Nothing is counted.

        Raises ``UnknownKey``, ``InactiveKey`` or ``BlockedKey`` where the key would not be served.
        """
        now = self._clock()
        items = self._query(key_id(key))
        account = Account.from_items(items, now)
        if account is None:
            raise UnknownKey(Api.PLATE)
        _require_served(account.profile.status, Api.PLATE)
        if account.profile.account != account.profile.key_id:
            items += self._query(account.profile.account, "USAGE#")
        return Account.from_items(items, now) or account

    def _query(self, key_id: str, beginning: str = "") -> list[dict[str, Any]]:
        """Return the items of a partition, of those whose ``sk`` has this ``beginning``.

        A key's partition holds a few dozen small items, far below the 1 MB of one page.
        """
        values = {":pk": {"S": partition(key_id)}}
        condition = "pk = :pk"
        if beginning:
            condition += " AND begins_with(sk, :beginning)"
            values[":beginning"] = {"S": beginning}
        items: list[dict[str, Any]] = self._call(
            "query",
            TableName=self.table_name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
        )["Items"]
        return items

    # -- the writes ------------------------------------------------------------------------------------------

    def _count(self, key_id: str, api: Api, period: str, ticket: str | None, units: int, spare: int) -> Usage:
        """Count ``units`` if the key may be served in ``period``, and ``ticket`` has not been counted yet."""
        answer = self._call(
            "update_item",
            TableName=self.table_name,
            Key=_meter_key(key_id, api),
            UpdateExpression="SET #used = #used + :units, #remaining = #remaining - :units"
            + _set_ticket(ticket, "#period", units),
            ConditionExpression=(
                "#status = :active AND #included = :yes AND #period IN (:period, :lifetime)"
                " AND (#remaining >= :floor OR #overage = :yes)"
                + (" AND attribute_not_exists(#ticket)" if ticket else "")
            ),
            ExpressionAttributeNames=attribute_names(
                "used", "remaining", "status", "included", "period", "overage"
            )
            | _set_names(ticket, units),
            ExpressionAttributeValues={
                ":units": {"N": str(units)},
                ":floor": {"N": str(units + spare)},
                ":yes": {"BOOL": True},
                ":active": {"S": Status.ACTIVE.value},
                ":period": {"S": period},
                ":lifetime": {"S": LIFETIME},
            },
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        return Usage.of(Meter.from_item(answer["Attributes"]))

    def _turn_over(self, seen: Meter, period: str, ticket: str | None, units: int) -> Usage:
        """Start ``period`` with this work as its first, and write down what the one before came to."""
        answer = self._call(
            "update_item",
            TableName=self.table_name,
            Key=_meter_key(seen.key_id, seen.api),
            UpdateExpression="SET #period = :period, #used = :units, #remaining = #limit - :units"
            + _set_ticket(ticket, ":period", units),
            ConditionExpression=(
                "#status = :active AND #included = :yes AND #period = :seen"
                " AND (#limit >= :units OR #overage = :yes)"
                + (" AND attribute_not_exists(#ticket)" if ticket else "")
            ),
            ExpressionAttributeNames=attribute_names(
                "used", "remaining", "limit", "status", "included", "period", "overage"
            )
            | _set_names(ticket, units),
            ExpressionAttributeValues={
                ":units": {"N": str(units)},
                ":yes": {"BOOL": True},
                ":active": {"S": Status.ACTIVE.value},
                ":period": {"S": period},
                ":seen": {"S": seen.period},
            },
            ReturnValues="ALL_OLD",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        past = Meter.from_item(answer["Attributes"])
        try:
            self._call("update_item", **close_period(self.table_name, past, self._clock()))
        except StoreUnavailable as error:
            # The unit is counted and the request is served: the log keeps what the history could not.
            logger.exception(
                "past usage not recorded",
                extra={
                    "prefix": past.prefix,
                    "api": past.api,
                    "period": past.period,
                    "used": past.used,
                    "reason": error.note,
                },
            )
        return Usage.of(past.turned_over(period, used=units))

    def _give_back(self, usage: Usage) -> Usage:
        if usage.ticket:
            return self._refund(usage.key_id, usage.api, usage.ticket, 1) or usage
        try:
            answer = self._call(
                "update_item",
                TableName=self.table_name,
                Key=_meter_key(usage.key_id, usage.api),
                UpdateExpression="SET #used = #used - :one, #remaining = #remaining + :one",
                ConditionExpression="#period = :period AND #used >= :one",
                ExpressionAttributeNames=attribute_names("used", "remaining", "period"),
                ExpressionAttributeValues={":one": {"N": "1"}, ":period": {"S": usage.period}},
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except _ConditionFailed as failed:
            if failed.item is None or (meter := Meter.from_item(failed.item)).period == usage.period:
                return usage
            # The month turned while the request was being answered: the unit was counted in the past one.
            self._take_from_history(meter.account, usage.api, usage.period, 1)
            return Usage.of(meter)
        item = answer["Attributes"]
        if successor := successor_of(item):
            # The key was rotated while the request was being answered, and its count went along.
            return self._give_back(Usage.of(Meter.from_item({**item, "pk": {"S": partition(successor)}})))
        return Usage.of(Meter.from_item(item))

    def _take_from_history(self, account: str, api: Api, period: str, units: int) -> None:
        self._call(
            "update_item",
            TableName=self.table_name,
            Key={"pk": {"S": partition(account)}, "sk": {"S": history_sk(api, period)}},
            UpdateExpression="ADD #used :less",
            ExpressionAttributeNames=attribute_names("used"),
            ExpressionAttributeValues={":less": {"N": str(-units)}},
        )

    # -- reaching the table ----------------------------------------------------------------------------------

    def _servable(self, item: dict[str, Any] | None, api: Api) -> Meter:
        """Return the meter that failed a condition, where its key is served at all."""
        if item is None:
            raise UnknownKey(api)
        meter = Meter.from_item(item)
        _require_served(meter.status, api)
        if not meter.included:
            raise PlanWithoutApi
        return meter

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call DynamoDB, repeating what it has not written.

        A write whose answer was lost on the way (a read timeout) may have counted and is not repeated.
        """
        attempt = 1
        while True:
            try:
                answer: dict[str, Any] = getattr(self.client, operation)(**arguments)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "ConditionalCheckFailedException":
                    raise _ConditionFailed(
                        cast("dict[str, Any] | None", error.response.get("Item"))
                    ) from None
                if code not in _RETRYABLE_CODES or attempt == _CALLS:
                    raise StoreUnavailable(code) from error
            except (ConnectTimeoutError, EndpointConnectionError, ConnectionClosedError) as error:
                # A connection that died while the function was frozen is found closed only when used again.
                if attempt == _CALLS:
                    raise StoreUnavailable(type(error).__name__) from error
            except BotoCoreError as error:
                raise StoreUnavailable(type(error).__name__) from error
            else:
                return answer
            time.sleep(random.uniform(0.5, 1) * 0.05 * 2**attempt)
            attempt += 1


def _require_served(status: Status, api: Api) -> None:
    match status:
        case Status.DISABLED:
            raise UnknownKey(api)
        case Status.INACTIVE:
            raise InactiveKey
        case Status.BLOCKED:
            raise BlockedKey


def _meter_key(key_id: str, api: Api) -> dict[str, Any]:
    return {"pk": {"S": partition(key_id)}, "sk": {"S": meter_sk(api)}}


def _ticket(ticket: str) -> str:
    """Return the meter's attribute that says in which period ``ticket`` was counted."""
    return f"ticket:{ticket}"


def _units(ticket: str) -> str:
    """Return the meter's attribute that says how many units were counted with ``ticket``."""
    return f"units:{ticket}"


def _ticket_names(ticket: str) -> dict[str, str]:
    return {"#ticket": _ticket(ticket), "#units": _units(ticket)}


def _set_ticket(ticket: str | None, period: str, units: int) -> str:
    """Return the part of an update that leaves ``ticket`` in the meter; one unit goes without saying."""
    if ticket is None:
        return ""
    return f", #ticket = {period}" + (", #units = :units" if units > 1 else "")


def _set_names(ticket: str | None, units: int) -> dict[str, str]:
    if ticket is None:
        return {}
    return _ticket_names(ticket) if units > 1 else {"#ticket": _ticket(ticket)}


def _units_of(item: Mapping[str, Any], ticket: str) -> int:
    return int(item[_units(ticket)]["N"]) if _units(ticket) in item else 1
