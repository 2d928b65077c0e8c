"""Meters in DynamoDB: one method for each write, with its condition.

A write that counts leaves a trace in the meter, so that it can be recognized later. Work that may begin again
leaves a *ticket*, which stays until the work is settled. A call leaves a *mark*, a number under a name of its
process, so that its write can be repeated or undone. ``counter``, ``calls`` and ``meter_store`` decide which
writes to make.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from carsight_service.aws.dynamo import attribute_names
from carsight_service.aws.failures import THROTTLED, TRIES, failure
from carsight_service.contract.api import Api
from carsight_service.contract.errors import StoreUnavailable
from carsight_service.metering.model import (
    LIFETIME,
    Meter,
    Status,
    close_period,
    history_sk,
    meter_sk,
    partition,
    successor_of,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from carsight_service.aws.dynamo_client import DynamoClient

Item = dict[str, Any]
"""A meter, or another item of a key, in DynamoDB's format."""

MARK = "call:"
"""Prefix of the names of calls' marks."""


# -- traces of counting writes -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Addition:
    """The parts of a counting write's expressions that leave its trace."""

    set: str = ""
    remove: str = ""
    condition: str = ""
    names: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


class Ticket(NamedTuple):
    """Marks repeatable work as counted, until that work is settled."""

    ticket: str

    def addition(self, period: str, written: str, units: int) -> Addition:
        """Return what stores the ticket with ``period``, given in the update as ``written``.

        The number of units is stored only if there are several.
        """
        several = units > 1
        return Addition(
            set=f", #ticket = {written}" + (", #units = :units" if several else ""),
            condition=" AND attribute_not_exists(#ticket)",
            names=ticket_names(self.ticket) if several else {"#ticket": ticket_attribute(self.ticket)},
        )

    def counted(self, item: Mapping[str, Any]) -> int:
        """Return how many units were counted under this ticket."""
        if ticket_attribute(self.ticket) not in item:
            return 0
        return int(item[units_attribute(self.ticket)]["N"]) if units_attribute(self.ticket) in item else 1


@dataclass(slots=True)
class Mark:
    """Identifies a call's write, so that it can be repeated or undone.

    The numbers of a slot increase, so a write that arrives after a later one of its slot fails. A mark is not
    removed after the call: the slot's next call overwrites it.
    """

    name: str
    number: int
    stale: tuple[str, ...] = ()
    """Names of other processes' marks that are old enough to be removed."""
    period: str = ""
    """The period in which the write was last tried."""

    def addition(self, period: str, written: str, units: int) -> Addition:
        """Return what stores the number, and remember ``period``."""
        self.period = period
        stale = {f"#stale{n}": name for n, name in enumerate(self.stale)}
        return Addition(
            set=", #mark = :number",
            remove=f" REMOVE {', '.join(stale)}" if stale else "",
            condition=" AND (attribute_not_exists(#mark) OR #mark < :number)",
            names={"#mark": self.name} | stale,
            values={":number": {"N": str(self.number)}},
        )

    def counted(self, item: Mapping[str, Any]) -> int:
        """Return 1 if the write has been made, otherwise 0."""
        return int(self.number_in(item) == self.number)

    def number_in(self, item: Mapping[str, Any]) -> int:
        """Return the number under this name in a meter, 0 if there is none."""
        return int(item[self.name]["N"]) if self.name in item else 0


Trace = Ticket | Mark
"""What a counting write leaves in the meter."""


def marks_in(item: Item) -> dict[str, int]:
    """Return the numbers of all marks in a meter, by their names."""
    return {name: int(item[name]["N"]) for name in item if name.startswith(MARK)}


def ticket_attribute(ticket: str) -> str:
    """Return the name of the attribute with the period in which ``ticket`` was counted."""
    return f"ticket:{ticket}"


def units_attribute(ticket: str) -> str:
    """Return the name of the attribute with the number of units counted with ``ticket``."""
    return f"units:{ticket}"


def ticket_names(ticket: str) -> dict[str, str]:
    """Return the placeholders of both attributes of ``ticket``."""
    return {"#ticket": ticket_attribute(ticket), "#units": units_attribute(ticket)}


# -- the table -----------------------------------------------------------------------------------------------


class WriteInDoubt(StoreUnavailable):
    """A write that may or may not have taken effect: it got no response."""


class ConditionFailed(Exception):
    """A write's condition did not hold; ``item`` is the item as it is, None if there is none."""

    def __init__(self, item: Item | None) -> None:
        super().__init__("condition failed")
        self.item = item


class MeterTable:
    """The table of keys, safe to share between threads.

    Methods raise ``ConditionFailed`` if the condition in their description does not hold, ``WriteInDoubt`` if
    it is unknown whether they have written, and ``StoreUnavailable`` if the table is throttled or cannot be
    reached.
    """

    def __init__(self, name: str, client: DynamoDBClient | DynamoClient) -> None:
        self._name = name
        self._client: Any = client

    # -- reading ---------------------------------------------------------------------------------------------

    def meter(self, key_id: str, api: Api, *, follow: bool) -> Item | None:
        """Return the current meter of a key or, with ``follow``, of a rotated key's successor."""
        answer = self._call(
            "get_item", TableName=self._name, Key=_meter_key(key_id, api), ConsistentRead=True
        )
        item: Item | None = answer.get("Item")
        if follow and (successor := successor_of(item)):
            return self.meter(successor, api, follow=True)
        return item

    def items(self, key_id: str, beginning: str = "") -> list[Item]:
        """Return the items of a key's partition whose ``sk`` has this ``beginning``.

        A key's partition has a few dozen small items, far below the 1 MB of one page.
        """
        values = {":pk": {"S": partition(key_id)}}
        condition = "pk = :pk"
        if beginning:
            condition += " AND begins_with(sk, :beginning)"
            values[":beginning"] = {"S": beginning}
        items: list[Item] = self._call(
            "query",
            TableName=self._name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
        )["Items"]
        return items

    # -- counting --------------------------------------------------------------------------------------------

    def count(self, key_id: str, api: Api, period: str, trace: Trace | None, units: int) -> Item:
        """Count ``units`` and leave ``trace``; return the meter after that.

        Condition: the key is active, the meter is in ``period`` or for a lifetime, enough units are left, and
        ``trace`` is not in the meter yet.
        """
        left = trace.addition(period, "#period", units) if trace else Addition()
        names = attribute_names("used", "remaining", "status", "included", "period", "overage")
        return self._update(
            _meter_key(key_id, api),
            f"SET #used = #used + :units, #remaining = #remaining - :units{left.set}{left.remove}",
            "#status = :active AND #included = :yes AND #period IN (:period, :lifetime)"
            f" AND (#remaining >= :units OR #overage = :yes){left.condition}",
            names | left.names,
            _counting(units, period) | {":lifetime": {"S": LIFETIME}} | left.values,
            returned="ALL_NEW",
        )

    def turn_over(self, seen: Meter, period: str, trace: Trace | None, units: int) -> Item:
        """Start ``period`` with ``units`` counted and leave ``trace``; return the meter before that.

        Condition: the key is active, the meter is still in the period of ``seen``, a new allowance has enough
        units, and ``trace`` is not in the meter yet.
        """
        left = trace.addition(period, ":period", units) if trace else Addition()
        names = attribute_names("used", "remaining", "limit", "status", "included", "period", "overage")
        return self._update(
            _meter_key(seen.key_id, seen.api),
            f"SET #period = :period, #used = :units, #remaining = #limit - :units{left.set}{left.remove}",
            "#status = :active AND #included = :yes AND #period = :seen"
            f" AND (#limit >= :units OR #overage = :yes){left.condition}",
            names | left.names,
            _counting(units, period) | {":seen": {"S": seen.period}} | left.values,
        )

    def record_past(self, past: Meter, now: datetime) -> None:
        """Add the usage of a meter that has been turned over to the history of its period."""
        self._call("update_item", **close_period(self._name, past, now))

    # -- giving back -----------------------------------------------------------------------------------------

    def give_back(self, key_id: str, api: Api, ticket: str, units: int) -> Item:
        """Give back ``units`` and remove ``ticket``; return the meter after that.

        Condition: they were counted with the ticket in the meter's current period.
        """
        return self._update(
            _meter_key(key_id, api),
            "SET #used = #used - :units, #remaining = #remaining + :units REMOVE #ticket, #units",
            "#ticket = #period AND #used >= :units",
            attribute_names("used", "remaining", "period") | ticket_names(ticket),
            {":units": {"N": str(units)}},
            returned="ALL_NEW",
        )

    def remove_ticket(self, key_id: str, api: Api, ticket: str) -> None:
        """Remove ``ticket``. Condition: it is in the meter."""
        self._update(
            _meter_key(key_id, api),
            "REMOVE #ticket, #units",
            "attribute_exists(#ticket)",
            ticket_names(ticket),
        )

    def remove_tickets(self, key_id: str, api: Api, tickets: Collection[str]) -> Item:
        """Remove ``tickets`` as far as they are in the meter; return it. Condition: the meter exists."""
        names = {
            f"#{kind}{n}": name(ticket)
            for n, ticket in enumerate(tickets)
            for kind, name in (("t", ticket_attribute), ("u", units_attribute))
        }
        return self._update(
            _meter_key(key_id, api), f"REMOVE {', '.join(names)}", "attribute_exists(pk)", names
        )

    def undo(self, key_id: str, api: Api, mark: Mark) -> Item:
        """Give back the unit of ``mark`` and write the number after the mark's; return the meter before that.

        Condition: the mark is in the meter, and the unit was counted in the meter's current period.
        """
        return self._update(
            _meter_key(key_id, api),
            "SET #mark = :next, #used = #used - :one, #remaining = #remaining + :one",
            "#mark = :number AND #period IN (:period, :lifetime) AND #used >= :one",
            {"#mark": mark.name} | attribute_names("period", "used", "remaining"),
            {
                ":next": {"N": str(mark.number + 1)},
                ":number": {"N": str(mark.number)},
                ":one": {"N": "1"},
                ":period": {"S": mark.period},
                ":lifetime": {"S": LIFETIME},
            },
        )

    def outdate(self, key_id: str, api: Api, mark: Mark, seen: Item) -> Item:
        """Write the number after the mark's and give nothing back; return the meter before that.

        Condition: the number under the mark's name and the period are still those in ``seen``.
        """
        condition = "#period = :period AND attribute_not_exists(#mark)"
        values = {":next": {"N": str(mark.number + 1)}, ":period": seen["period"]}
        if mark.name in seen:
            condition = "#period = :period AND #mark = :number"
            values[":number"] = seen[mark.name]
        return self._update(
            _meter_key(key_id, api),
            "SET #mark = :next",
            condition,
            {"#mark": mark.name} | attribute_names("period"),
            values,
        )

    def take_from_history(self, account: str, api: Api, period: str, units: int) -> None:
        """Subtract ``units`` that were given back from the history of a past ``period``."""
        self._call(
            "update_item",
            TableName=self._name,
            Key={"pk": {"S": partition(account)}, "sk": {"S": history_sk(api, period)}},
            UpdateExpression="ADD #used :less",
            ExpressionAttributeNames=attribute_names("used"),
            ExpressionAttributeValues={":less": {"N": str(-units)}},
        )

    # -- calling DynamoDB ------------------------------------------------------------------------------------

    def _update(
        self,
        key: Item,
        update: str,
        condition: str,
        names: dict[str, str],
        values: Item | None = None,
        *,
        returned: Literal["ALL_OLD", "ALL_NEW"] = "ALL_OLD",
    ) -> Item:
        """Update an existing item; return it as it was before that, or with ``ALL_NEW`` after it."""
        placeholders = {"ExpressionAttributeValues": values} if values else {}
        answer = self._call(
            "update_item",
            TableName=self._name,
            Key=key,
            UpdateExpression=update,
            ConditionExpression=condition,
            ExpressionAttributeNames=names,
            **placeholders,
            ReturnValues=returned,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        item: Item = answer["Attributes"]
        return item

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call DynamoDB, and repeat calls that have certainly written nothing.

        A write without a response (a read timeout) may have counted, and is not repeated.
        """
        attempt = 1
        while True:
            try:
                answer: dict[str, Any] = getattr(self._client, operation)(**arguments)
            except Exception as error:
                failed = failure(error)
                if failed.code == "ConditionalCheckFailedException":
                    raise ConditionFailed(failed.item) from None
                # A connection that was closed while the function was frozen fails only when used again.
                may_repeat = failed.code in THROTTLED or not failed.is_sent
                if not may_repeat:
                    raise (StoreUnavailable if failed.is_answered else WriteInDoubt)(failed.code) from error
                if attempt == TRIES:
                    raise StoreUnavailable(failed.code) from error
            else:
                return answer
            time.sleep(random.uniform(0.5, 1) * 0.05 * 2**attempt)
            attempt += 1


def _meter_key(key_id: str, api: Api) -> Item:
    return {"pk": {"S": partition(key_id)}, "sk": {"S": meter_sk(api)}}


def _counting(units: int, period: str) -> Item:
    """Return the placeholders of a write that counts ``units`` in ``period`` for an active key."""
    return {
        ":units": {"N": str(units)},
        ":yes": {"BOOL": True},
        ":active": {"S": Status.ACTIVE.value},
        ":period": {"S": period},
    }
