"""Keys and usage: the hot path. One conditional write decides whether a request is served, and counts it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Collection
from contextlib import suppress
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
    Meter,
    Profile,
    Status,
    Usage,
    close_period,
    history_sk,
    is_key_id,
    key_id,
    meter_sk,
    month_of,
    partition,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

logger = logging.getLogger(__name__)

_ATTEMPTS = 3
"""How often a write that DynamoDB refused for the moment is tried in all."""

_MAX_ROLLOVER_ATTEMPTS = 8
"""How often a month's turn may be lost to other requests before this one gives up."""

_RETRYABLE_CODES = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
}
"""Errors by which DynamoDB says that it has *not* written."""


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

    def consume(self, key: str, api: Api) -> Usage:
        """Count one request of ``key`` and say where its usage stands.

        Raises the contract's ``UnknownKey``, ``InactiveKey``, ``BlockedKey``, ``PlanWithoutApi`` or
        ``LimitExceeded``; nothing is counted then.
        """
        return self.consume_by_id(key_id(key), api)

    def consume_by_id(self, key_id: str, api: Api, ticket: str | None = None) -> Usage:
        """``consume`` for a key known by its id alone, as in the path of an upload.

        ``ticket`` names work that may be begun more than once: the write that counts it leaves the ticket in
        the meter, and a second call that finds it there counts nothing. It stays until ``settle`` or
        ``refund``.
        """
        if not is_key_id(key_id):
            raise UnknownKey(api)
        now = self._clock()
        period = month_of(now)
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
        for _ in range(_MAX_ROLLOVER_ATTEMPTS):
            try:
                return self._count(key_id, api, period, ticket)
            except _ConditionFailed as failed:
                if failed.item and ticket and _ticket(ticket) in failed.item:
                    return Usage.of(Meter.from_item(failed.item))
                meter = self._servable(failed.item, api)
            if meter.period in (period, LIFETIME):
                if meter.remaining >= 1 or meter.overage:
                    continue  # the item has changed for the better since: only a fresh write can tell
                raise LimitExceeded(Usage.of(meter), now)
            if meter.period > period:
                period = meter.period
                continue
            if meter.limit < 1 and not meter.overage:
                raise LimitExceeded(Usage.of(meter), now)
            try:
                return self._turn_over(meter, period, ticket)
            except _ConditionFailed:
                continue
        raise StoreUnavailable("the meter kept changing under this request")

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
        name = {"#ticket": _ticket(ticket)}
        try:
            answer = self._call(
                "update_item",
                TableName=self.table_name,
                Key=_meter_key(key_id, api),
                UpdateExpression="SET #used = #used - :one, #remaining = #remaining + :one REMOVE #ticket",
                ConditionExpression="#ticket = #period AND #used >= :one",
                ExpressionAttributeNames=attribute_names("used", "remaining", "period") | name,
                ExpressionAttributeValues={":one": {"N": "1"}},
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except _ConditionFailed as failed:
            if not failed.item or _ticket(ticket) not in failed.item:
                return
            # The month turned in between: the unit was counted in the past one.
            period = failed.item[_ticket(ticket)]["S"]
            self.settle(key_id, api, [ticket])
            self._take_from_history(key_id, api, period)
            return
        if "successor" in answer["Attributes"]:
            # The key was rotated in between, and its count went along with its tickets.
            self.refund(answer["Attributes"]["successor"]["S"], api, ticket)

    def settle(self, key_id: str, api: Api, tickets: Collection[str]) -> None:
        """Take ``tickets`` out of the meter: their work is done, and what they counted stays counted."""
        if not tickets:
            return
        removed = {f"#t{n}": _ticket(ticket) for n, ticket in enumerate(tickets)}
        # A condition that fails means that there is no such meter, and nothing to take out of it.
        with suppress(_ConditionFailed):
            self._call(
                "update_item",
                TableName=self.table_name,
                Key=_meter_key(key_id, api),
                UpdateExpression=f"REMOVE {', '.join(removed)}",
                ConditionExpression="attribute_exists(pk)",
                ExpressionAttributeNames=removed,
            )

    def status(self, key: str) -> Profile:
        """Who ``key`` belongs to, whatever it has left. Nothing is counted.

        Raises ``UnknownKey``, ``InactiveKey`` or ``BlockedKey`` where the key would not be served.
        """
        return self.account(key).profile

    def account(self, key: str) -> Account:
        """A key's profile, usage and history; counted nothing, raises as ``status`` does."""
        now = self._clock()
        # A key's partition holds a few dozen small items, far below the 1 MB of one page.
        items = self._call(
            "query",
            TableName=self.table_name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": partition(key_id(key))}},
            ConsistentRead=True,
        )["Items"]
        account = Account.from_items(items, now)
        if account is None:
            raise UnknownKey(Api.PLATE)
        _require_served(account.profile.status, Api.PLATE)
        return account

    # -- the writes ------------------------------------------------------------------------------------------

    def _count(self, key_id: str, api: Api, period: str, ticket: str | None) -> Usage:
        """Count a unit if the key may be served in ``period``, and ``ticket`` has not been counted yet."""
        answer = self._call(
            "update_item",
            TableName=self.table_name,
            Key=_meter_key(key_id, api),
            UpdateExpression="SET #used = #used + :one, #remaining = #remaining - :one"
            + (", #ticket = #period" if ticket else ""),
            ConditionExpression=(
                "#status = :active AND #included = :yes AND #period IN (:period, :lifetime)"
                " AND (#remaining >= :one OR #overage = :yes)"
                + (" AND attribute_not_exists(#ticket)" if ticket else "")
            ),
            ExpressionAttributeNames=attribute_names(
                "used", "remaining", "status", "included", "period", "overage"
            )
            | ({"#ticket": _ticket(ticket)} if ticket else {}),
            ExpressionAttributeValues={
                ":one": {"N": "1"},
                ":yes": {"BOOL": True},
                ":active": {"S": Status.ACTIVE.value},
                ":period": {"S": period},
                ":lifetime": {"S": LIFETIME},
            },
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        return Usage.of(Meter.from_item(answer["Attributes"]))

    def _turn_over(self, seen: Meter, period: str, ticket: str | None) -> Usage:
        """Start ``period`` with this request as its first, and write down what the one before came to."""
        answer = self._call(
            "update_item",
            TableName=self.table_name,
            Key=_meter_key(seen.key_id, seen.api),
            UpdateExpression="SET #period = :period, #used = :one, #remaining = #limit - :one"
            + (", #ticket = :period" if ticket else ""),
            ConditionExpression=(
                "#status = :active AND #included = :yes AND #period = :seen"
                " AND (#limit >= :one OR #overage = :yes)"
                + (" AND attribute_not_exists(#ticket)" if ticket else "")
            ),
            ExpressionAttributeNames=attribute_names(
                "used", "remaining", "limit", "status", "included", "period", "overage"
            )
            | ({"#ticket": _ticket(ticket)} if ticket else {}),
            ExpressionAttributeValues={
                ":one": {"N": "1"},
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
        return Usage.of(past.turned_over(period, used=1))

    def _give_back(self, usage: Usage) -> Usage:
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
            self._take_from_history(usage.key_id, usage.api, usage.period)
            return Usage.of(meter)
        item = answer["Attributes"]
        if "successor" in item:
            # The key was rotated while the request was being answered, and its count went along.
            successor = item["successor"]["S"]
            return self._give_back(Usage.of(Meter.from_item({**item, "pk": {"S": partition(successor)}})))
        return Usage.of(Meter.from_item(item))

    def _take_from_history(self, key_id: str, api: Api, period: str) -> None:
        self._call(
            "update_item",
            TableName=self.table_name,
            Key={"pk": {"S": partition(key_id)}, "sk": {"S": history_sk(api, period)}},
            UpdateExpression="ADD #used :less",
            ExpressionAttributeNames=attribute_names("used"),
            ExpressionAttributeValues={":less": {"N": "-1"}},
        )

    # -- reaching the table ----------------------------------------------------------------------------------

    def _servable(self, item: dict[str, Any] | None, api: Api) -> Meter:
        """The meter that failed a condition, where its key is served at all."""
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
                if code not in _RETRYABLE_CODES or attempt == _ATTEMPTS:
                    raise StoreUnavailable(code) from error
            except (ConnectTimeoutError, EndpointConnectionError, ConnectionClosedError) as error:
                # A connection that died while the function was frozen is found closed only when used again.
                if attempt == _ATTEMPTS:
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
    """The meter's attribute that says in which period ``ticket`` was counted."""
    return f"ticket:{ticket}"
