"""Keys and usage: the hot path. One conditional write decides whether a request is served, and counts it."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carsight_service.aws.dynamo import Clock, utc_now
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
from carsight_service.metering.journal import MARK, LostCall, Slot, Slots
from carsight_service.metering.meter_table import (
    ConditionFailed,
    Item,
    Mark,
    MeterTable,
    Ticket,
    Trace,
    WriteInDoubt,
    ticket_attribute,
)
from carsight_service.metering.model import (
    LIFETIME,
    Account,
    Grant,
    Meter,
    Status,
    Usage,
    is_key_id,
    key_id,
    month_of,
    successor_of,
)

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_dynamodb import DynamoDBClient

    from carsight_service.aws.dynamo_client import DynamoClient
    from carsight_service.metering.journal import Journal

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 10
"""How often a meter may change under a request, as when the month turns, before the request gives up."""

_KNOWN_SECONDS = 5.0
"""For how long a key known to be active is not looked up again before a photo is read; the write that counts
the call checks it in any case."""

_KNOWN_KEYS = 1_000
"""How many meters a process remembers."""

_AMPLE = 100
"""Units left that make another lookup unnecessary."""

_MAX_MARKS = 32
"""A call leaves no mark beside this many of others: an item over 1 KB doubles the cost of a write."""

_MARK_SECONDS = 60
"""After this time no write of a call can still arrive, and its mark may be removed. While it is there, what a
dead process was counting can be undone, so marks are only removed when there are many."""

_MANY_MARKS = 16
"""Old marks are removed once a meter holds more than this many of other processes."""

_MAX_REMOVED = 8
"""Old marks that one write removes at most."""

_STORE_SECONDS = 5.0
"""How long one write may take: the client's read timeout."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A meter as this process last saw it."""

    meter: Meter
    marks: Mapping[str, int]
    seen: float

    def is_fresh(self, month: str) -> bool:
        """Whether a photo may be read without another lookup."""
        meter = self.meter
        return (
            time.monotonic() - self.seen < _KNOWN_SECONDS
            and (meter.overage or meter.remaining >= _AMPLE)
            and meter.period in (month, LIFETIME)
        )


class MeterStore:
    """The table of keys, safe to share between threads.

    Every method raises ``StoreUnavailable`` where the table is throttled or cannot be reached: nothing is
    ever answered unmetered.
    """

    def __init__(
        self,
        table_name: str,
        client: DynamoDBClient | DynamoClient,
        clock: Clock = utc_now,
        journal: Journal | None = None,
    ) -> None:
        self._table = MeterTable(table_name, client)
        self._clock = clock
        self._journal = self._unopened = journal
        self._opening = threading.Lock()
        self._dead: set[str] = set()  # prefixes of marks of dead processes that left nothing undecided
        self._slots = Slots()
        self._lost: deque[LostCall] = deque(maxlen=_KNOWN_KEYS)
        self._known: dict[tuple[str, Api], _Known] = {}

    def admit(self, key: str, api: Api) -> Usage:
        """Return the usage of ``key`` before something is read for it. Nothing is counted.

        Raises what ``consume`` would, as far as is known. A key seen to be active, with many units left, is
        trusted for some seconds: ``consume`` decides.
        """
        return self._admit(key_id(key), api, follow=False)

    def admit_by_id(self, key_id: str, api: Api) -> Usage:
        """``admit`` for a key or account known by its id alone; a rotated key leads to its successor."""
        return self._admit(key_id, api, follow=True)

    def _admit(self, meter_id: str, api: Api, *, follow: bool) -> Usage:
        known, now = self._known.get((meter_id, api)), self._clock()
        month = month_of(now)
        meter = known.meter if known and known.is_fresh(month) else self._look_up(meter_id, api, follow)
        if meter.period != LIFETIME and meter.period < month:
            meter = meter.turned_over(month, used=0)
        _affordable(meter, meter.remaining, 1, now)
        return Usage.of(meter)

    def consume(self, key: str, api: Api, *, until: float = math.inf) -> Usage:
        """Count one request of ``key``, whose answer is at hand, and return its usage.

        Raises the contract's ``UnknownKey``, ``InactiveKey``, ``BlockedKey``, ``PlanWithoutApi`` or
        ``LimitExceeded``; nothing is counted then. Nor is it where ``StoreUnavailable`` is raised: a write
        whose answer was lost is made again, which counts once, and where that brings no answer either it is
        undone, now or by a later call of this process. ``until`` (``time.monotonic``) is when an answer has
        to be there.
        """
        meter_id = key_id(key)
        self._undo_lost(until)
        slot = self._slots.mine()
        mark = self._mark(slot, meter_id, api)
        if mark is None:
            return self._consume_unmarked(meter_id, api)
        call = LostCall(meter_id, api, mark)
        self._note(slot, call)
        try:
            return self._take(meter_id, api, 1, mark, follow=False).usage
        except WriteInDoubt as doubt:
            return self._consume_again(slot, call, until, doubt)
        except ServiceError:
            self._known.pop((meter_id, api), None)
            self._note(slot, None)
            raise

    def _consume_unmarked(self, meter_id: str, api: Api) -> Usage:
        """Count a call of a meter that holds too many marks for another: it cannot be recognized later."""
        try:
            return self._take(meter_id, api, 1, None, follow=False).usage
        except WriteInDoubt:
            logger.warning("a unit may have been counted without an answer", extra={"api": api})
            raise

    def _consume_again(self, slot: Slot, call: LostCall, until: float, doubt: WriteInDoubt) -> Usage:
        """Make a write again whose answer was lost; where that brings no answer either, undo both."""
        try:
            if time.monotonic() + _STORE_SECONDS > until:
                raise doubt
            return self._take(call.key_id, call.api, 1, call.mark, follow=False).usage
        except ServiceError:
            # The first write may still arrive, whatever happened to the second.
            self._lost.append(call)
            self._undo_lost(until)
            if call in self._lost:
                self._slots.retire_mine()  # a later number in the slot would hide it
            else:
                self._note(slot, None)
            raise

    def answered(self) -> None:
        """Note that the call this thread counted last has been answered."""
        slot = self._slots.mine()
        if slot.noted:
            self._note(slot, None)

    def _note(self, slot: Slot, call: LostCall | None) -> None:
        """Note in the journal that ``call`` is being counted, or that nothing is."""
        if self._journal:
            self._journal.note(slot.line, call.note() if call else "")
            slot.noted = call is not None

    def _mark(self, slot: Slot, key_id: str, api: Api) -> Mark | None:
        """Return the mark a call will leave in the meter; None if it holds too many of other processes."""
        now = self._clock()
        number = slot.next(now.timestamp())
        known = self._known.get((key_id, api))
        marks = {name: left for name, left in known.marks.items() if name != slot.name} if known else {}
        old = (now.timestamp() - _MARK_SECONDS) * 1000
        many = len(marks) > _MANY_MARKS
        stale = [
            name
            for name, left in marks.items()
            if (many and left < old) or name.partition(".")[0] in self._dead
        ]
        if len(marks) - len(stale) >= _MAX_MARKS:
            return None
        return Mark(slot.name, number, tuple(stale[:_MAX_REMOVED]), month_of(now))

    def _undo_lost(self, until: float) -> None:
        """Undo calls that were not answered with a 200 although their unit may have been counted."""
        with self._opening:
            journal, self._unopened = self._unopened, None
            for owner, *notes in journal.open(self._slots.process) if journal else ():
                if not notes:
                    self._dead.add(f"{MARK}{owner}")
                for note in notes:
                    with suppress(ValueError):
                        self._lost.append(LostCall.of(note))
        for _ in range(len(self._lost)):
            if time.monotonic() + _STORE_SECONDS > until:
                return
            try:
                lost = self._lost.popleft()
            except IndexError:
                return  # another thread has taken it
            try:
                self._undo(lost.key_id, lost.api, lost.mark)
            except StoreUnavailable:
                self._lost.append(lost)
                return

    def _undo(self, key_id: str, api: Api, mark: Mark) -> None:
        """Give back the unit of ``mark``, or make its write fail should it still arrive.

        Both leave a later number under the same name, so undoing twice is undoing once.
        """
        for _ in range(_MAX_ATTEMPTS):
            try:
                seen = self._table.undo(key_id, api, mark)
            except ConditionFailed as failed:
                if failed.item is None or mark.number_in(failed.item) > mark.number:
                    return  # no such meter, or undone before
                try:
                    seen = self._table.outdate(key_id, api, mark, failed.item)
                except ConditionFailed:
                    continue
                if mark.number_in(seen) == mark.number:
                    # The month has turned since: the unit was counted in the past one.
                    self._table.take_from_history(Meter.from_item(seen).account, api, mark.period, 1)
            if successor := successor_of(seen):
                self._undo(successor, api, mark)
            return

    def consume_by_id(self, key_id: str, api: Api, ticket: str) -> Usage:
        """``consume`` for a key or account known by its id alone, as in the path of an upload.

        ``ticket`` names work that may be begun more than once: the write that counts it leaves the ticket in
        the meter, and a second call that finds it there counts nothing. It stays until ``settle`` or
        ``refund``. What a rotated key began is counted to its successor.
        """
        return self.take(key_id, api, 1, ticket).usage

    def take(self, key_id: str, api: Api, units: int, ticket: str) -> Grant:
        """Count as many of ``units`` as the allowance holds, for work of several photos.

        Raises as ``consume`` does; ``LimitExceeded`` where not even one is left. A second call with a ticket
        that is still in the meter counts nothing and returns what the first was granted. ``close`` ends it.
        """
        return self._take(key_id, api, units, Ticket(ticket), follow=True)

    def close(self, grant: Grant, read: int) -> None:
        """End the work of ``grant``: ``read`` of its units stay counted, the others are given back."""
        if read < grant.units:
            self._refund(grant.usage.key_id, grant.api, grant.ticket, grant.units - read)
        else:
            self.settle(grant.usage.key_id, grant.api, [grant.ticket])

    def granted(self, key_id: str, api: Api) -> list[Grant]:
        """Return what is counted under tickets: work that has not been closed."""
        item = self._table.meter(key_id, api, follow=True)
        if item is None:
            return []
        usage, beginning = Usage.of(Meter.from_item(item)), ticket_attribute("")
        tickets = [name.removeprefix(beginning) for name in item if name.startswith(beginning)]
        return [Grant(api, ticket, Ticket(ticket).counted(item), usage) for ticket in tickets]

    def _take(self, key_id: str, api: Api, units: int, trace: Trace | None, *, follow: bool) -> Grant:
        """Count ``units``, or as many as are left, once for each ``trace``."""
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
                return _grant(self._count(key_id, api, period, trace, wanted), trace, wanted)
            except ConditionFailed as failed:
                item = failed.item
            if follow and (successor := successor_of(item)):
                key_id = successor
                continue
            if item and trace and (counted := trace.counted(item)):
                return _grant(Usage.of(Meter.from_item(item)), trace, counted)
            meter = _servable(item, api)
            if meter.period in (period, LIFETIME):
                # Fewer are left than wanted, or the item has since changed for the better: only another
                # write can tell.
                wanted = _affordable(meter, meter.remaining, wanted, now)
                continue
            if meter.period > period:
                period = meter.period
                continue
            wanted = _affordable(meter, meter.limit, units, now)
            try:
                return _grant(self._turn_over(meter, period, trace, wanted), trace, wanted)
            except ConditionFailed:
                continue
        raise StoreUnavailable("the meter kept changing under this request")

    def refund(self, key_id: str, api: Api, ticket: str) -> None:
        """Give back the unit that was counted with ``ticket``, once however often it is called."""
        self._refund(key_id, api, ticket, 1)

    def _refund(self, key_id: str, api: Api, ticket: str, units: int) -> None:
        """Give back ``units`` counted with ``ticket``."""
        try:
            item: Item | None = self._table.give_back(key_id, api, ticket, units)
        except ConditionFailed as failed:
            item = failed.item
            if item and ticket_attribute(ticket) in item and self._drop(key_id, api, ticket):
                # The month turned in between: the units were counted in the past one.
                meter = Meter.from_item(item)
                self._table.take_from_history(meter.account, api, item[ticket_attribute(ticket)]["S"], units)
        if successor := successor_of(item):
            # The key was rotated in between, and its count went along with its tickets.
            self._refund(successor, api, ticket, units)

    def _drop(self, key_id: str, api: Api, ticket: str) -> bool:
        """Take ``ticket`` out of the meter; False where somebody else has done so."""
        try:
            self._table.remove_ticket(key_id, api, ticket)
        except ConditionFailed:
            return False
        return True

    def settle(self, key_id: str, api: Api, tickets: Collection[str]) -> None:
        """Take ``tickets`` out of the meter: their work is done, and what they counted stays counted."""
        if not tickets:
            return
        # If the condition fails there is no such meter, and nothing to remove.
        with suppress(ConditionFailed):
            item = self._table.remove_tickets(key_id, api, tickets)
            if successor := successor_of(item):
                self.settle(successor, api, tickets)

    def authorize(self, key: str, api: Api) -> None:
        """Raise what ``consume`` would, but for the limit; nothing is counted or written."""
        self._look_up(key_id(key), api)

    def _look_up(self, key_id: str, api: Api, follow: bool = False) -> Meter:
        """Return a meter whose key is served. Raises the contract's errors for any other."""
        item = self._table.meter(key_id, api, follow=follow)
        meter = _servable(item, api)
        self._remember(meter, item or {})
        return meter

    def _remember(self, meter: Meter, item: Item) -> None:
        """Keep what a read or a write has shown of a meter that is served."""
        marks = {name: int(item[name]["N"]) for name in item if name.startswith(MARK)}
        self._known.pop((meter.key_id, meter.api), None)
        self._known[meter.key_id, meter.api] = _Known(meter, marks, time.monotonic())
        while len(self._known) > _KNOWN_KEYS:
            with suppress(KeyError, StopIteration, RuntimeError):  # another thread does the same
                del self._known[next(iter(self._known))]

    def account(self, key: str) -> Account:
        """Return a key's profile, usage and history, whatever it has left. Nothing is counted.

        Raises ``UnknownKey``, ``InactiveKey`` or ``BlockedKey`` where the key would not be served.
        """
        now = self._clock()
        items = self._table.items(key_id(key))
        account = Account.from_items(items, now)
        if account is None:
            raise UnknownKey(Api.PLATE)
        _require_served(account.profile.status, Api.PLATE)
        if account.profile.account != account.profile.key_id:
            items += self._table.items(account.profile.account, "USAGE#")
        return Account.from_items(items, now) or account

    def _count(self, key_id: str, api: Api, period: str, trace: Trace | None, units: int) -> Usage:
        """Count ``units`` if the key may be served in ``period``, and ``trace`` is not there yet."""
        item = self._table.count(key_id, api, period, trace, units)
        meter = Meter.from_item(item)
        self._remember(meter, item)
        return Usage.of(meter)

    def _turn_over(self, seen: Meter, period: str, trace: Trace | None, units: int) -> Usage:
        """Start ``period`` with this work as its first, and write down what the one before came to."""
        past = Meter.from_item(self._table.turn_over(seen, period, trace, units))
        try:
            self._table.record_past(past, self._clock())
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


def _grant(usage: Usage, trace: Trace | None, units: int) -> Grant:
    return Grant(usage.api, trace.ticket if trace else "", units, usage)


def _affordable(meter: Meter, left: int, units: int, now: datetime) -> int:
    """Return how many of ``units`` may be counted where so many are ``left``. Raises ``LimitExceeded``."""
    if meter.overage:
        return units
    if left < 1:
        raise LimitExceeded(Usage.of(meter), now)
    return min(units, left)


def _servable(item: Item | None, api: Api) -> Meter:
    """Return the meter of ``item`` if its key is served for ``api``. Raises the contract's error if not."""
    if item is None:
        raise UnknownKey(api)
    meter = Meter.from_item(item)
    _require_served(meter.status, api)
    if not meter.included:
        raise PlanWithoutApi
    return meter


def _require_served(status: Status, api: Api) -> None:
    match status:
        case Status.DISABLED:
            raise UnknownKey(api)
        case Status.INACTIVE:
            raise InactiveKey
        case Status.BLOCKED:
            raise BlockedKey
