"""Keys and usage on the hot path: one conditional write decides whether to serve a request, and counts it."""

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
"""How often a meter may change during a request, as it does at a new month, before the request gives up."""

_KNOWN_SECONDS = 5.0
"""How long an active key is not looked up again before a photo is read. The write that counts the call checks
it in any case."""

_KNOWN_KEYS = 1_000
"""How many meters a process caches."""

_AMPLE = 100
"""Fewest units left of a cached meter that is not looked up again for ``_KNOWN_SECONDS``, unless the key has
overage."""

_MAX_MARKS = 32
"""A call leaves no mark next to this many of other processes: an item over 1 KB doubles the cost of a
write."""

_MARK_SECONDS = 60
"""After this time no write of a call can still arrive, and its mark may be removed. Until then it allows
undoing what a dead process was counting, so marks are only removed when there are many."""

_MANY_MARKS = 16
"""Old marks are removed when a meter has more than this many of other processes."""

_MAX_REMOVED = 8
"""The most marks that one write removes."""

_STORE_SECONDS = 5.0
"""How long one write may take: the client's read timeout."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A meter as this process last saw it, at ``seen`` (``time.monotonic``)."""

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
    """Checks keys and counts their usage in the table of keys. Safe to share between threads.

    Every method raises ``StoreUnavailable`` if the table is throttled or cannot be reached: nothing is ever
    answered unmetered.
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
        """Return the usage of ``key`` before a photo is read for it. Nothing is counted.

        Raises what ``consume`` would, as far as is known: a key that was active, with many units left, is
        trusted for some seconds, as ``consume`` checks it again.
        """
        return self._admit(key_id(key), api, follow=False)

    def admit_by_id(self, key_id: str, api: Api) -> Usage:
        """Do the same as ``admit`` for the id of a key or account; a rotated key leads to its successor."""
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
        """Count one request of ``key``, whose answer is ready, and return its usage.

        ``until`` (``time.monotonic``) is when the answer has to be sent. Raises the contract's
        ``UnknownKey``, ``InactiveKey``, ``BlockedKey``, ``PlanWithoutApi`` or ``LimitExceeded``, and then
        nothing is counted. Neither is it if ``StoreUnavailable`` is raised: a write without a response is
        repeated, which counts once, and if that gets no response either it is undone, now or by a later call
        of this process.
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
        """Count a call without a mark, as the meter has too many; the write cannot be recognized later."""
        try:
            return self._take(meter_id, api, 1, None, follow=False).usage
        except WriteInDoubt:
            logger.warning("a unit may have been counted without an answer", extra={"api": api})
            raise

    def _consume_again(self, slot: Slot, call: LostCall, until: float, doubt: WriteInDoubt) -> Usage:
        """Repeat a write that got no response; if it gets none again, undo both."""
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
        """Note that the last call counted by this thread has been answered."""
        slot = self._slots.mine()
        if slot.noted:
            self._note(slot, None)

    def _note(self, slot: Slot, call: LostCall | None) -> None:
        """Note in the journal that ``call`` is being counted, or that nothing is."""
        if self._journal:
            self._journal.note(slot.line, call.note() if call else "")
            slot.noted = call is not None

    def _mark(self, slot: Slot, key_id: str, api: Api) -> Mark | None:
        """Return the mark for a call; None if the meter has too many marks of other processes."""
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
        """Undo calls that may have been counted but were not answered with a 200."""
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

        Both leave a later number under the same name, which makes undoing idempotent.
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
        """Count one unit for the id of a key or account, as found in the path of an upload.

        Raises as ``consume`` does. ``ticket`` identifies work that may begin more than once: the write that
        counts it leaves the ticket in the meter, and a second call that finds the ticket there counts
        nothing. It stays until ``settle`` or ``refund``. Work of a rotated key is counted to its successor.
        """
        return self.take(key_id, api, 1, ticket).usage

    def take(self, key_id: str, api: Api, units: int, ticket: str) -> Grant:
        """Count up to ``units``, as many as are left, for work on several photos.

        Raises as ``consume`` does, and ``LimitExceeded`` only if no unit is left. A second call with a ticket
        that is still in the meter counts nothing and returns what the first was granted. ``close`` ends this.
        """
        return self._take(key_id, api, units, Ticket(ticket), follow=True)

    def close(self, grant: Grant, read: int) -> None:
        """End the work of ``grant``: ``read`` of its units stay counted, the others are refunded."""
        if read < grant.units:
            self._refund(grant.usage.key_id, grant.api, grant.ticket, grant.units - read)
        else:
            self.settle(grant.usage.key_id, grant.api, [grant.ticket])

    def granted(self, key_id: str, api: Api) -> list[Grant]:
        """Return the units counted under tickets: those of work that has not been closed."""
        item = self._table.meter(key_id, api, follow=True)
        if item is None:
            return []
        usage, beginning = Usage.of(Meter.from_item(item)), ticket_attribute("")
        tickets = [name.removeprefix(beginning) for name in item if name.startswith(beginning)]
        return [Grant(api, ticket, Ticket(ticket).counted(item), usage) for ticket in tickets]

    def _take(self, key_id: str, api: Api, units: int, trace: Trace | None, *, follow: bool) -> Grant:
        """Count ``units``, or as many as are left, and only once for the same ``trace``."""
        if not is_key_id(key_id):
            raise UnknownKey(api)
        now = self._clock()
        period = month_of(now)
        wanted = units
        # A single write counts the unit, and its condition covers every reason not to serve. If the condition
        # fails, DynamoDB returns the item that failed it, so that no second read can see another state:
        #
        #   request A                    request B                     the meter
        #                                                              used 49, remaining 1
        #   SET used 50 IF remaining>=1                                used 50, remaining 0
        #                                SET used 51 IF remaining>=1   fails; B is handed used 50 -> 429
        #
        # In a new month the condition fails on the period, and the meter is turned over by a write that only
        # succeeds while the old month is still there:
        #
        #   request A (December)         request B (December)          the meter
        #                                                              2026-11, used 50
        #   SET used 51 IF 2026-12       SET used 51 IF 2026-12        fails; both are handed 2026-11
        #   SET 2026-12, used 1 IF 2026-11                             2026-12, used 1; A is handed the 50
        #                                SET ... IF 2026-11            fails; B is handed 2026-12
        #                                SET used 2 IF 2026-12         2026-12, used 2
        #
        # A request with a slow clock finds a later month than its own and is counted there: a meter never
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
                # Fewer units are left than wanted, or the item has changed since: only another write can
                # tell.
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
        """Give back the unit that was counted with ``ticket``; calling it again has no effect."""
        self._refund(key_id, api, ticket, 1)

    def _refund(self, key_id: str, api: Api, ticket: str, units: int) -> None:
        """Give back ``units`` counted with ``ticket``."""
        try:
            item: Item | None = self._table.give_back(key_id, api, ticket, units)
        except ConditionFailed as failed:
            item = failed.item
            if item and ticket_attribute(ticket) in item and self._drop(key_id, api, ticket):
                # A new month has begun since: the units were counted in the past one.
                meter = Meter.from_item(item)
                self._table.take_from_history(meter.account, api, item[ticket_attribute(ticket)]["S"], units)
        if successor := successor_of(item):
            # The key has been rotated since, and its usage and tickets have moved to the successor.
            self._refund(successor, api, ticket, units)

    def _drop(self, key_id: str, api: Api, ticket: str) -> bool:
        """Remove ``ticket`` from the meter; return False if it is gone already."""
        try:
            self._table.remove_ticket(key_id, api, ticket)
        except ConditionFailed:
            return False
        return True

    def settle(self, key_id: str, api: Api, tickets: Collection[str]) -> None:
        """Remove ``tickets`` from the meter: their work is done, and their units stay counted."""
        if not tickets:
            return
        # If the condition fails there is no such meter, and nothing to remove.
        with suppress(ConditionFailed):
            item = self._table.remove_tickets(key_id, api, tickets)
            if successor := successor_of(item):
                self.settle(successor, api, tickets)

    def authorize(self, key: str, api: Api) -> None:
        """Raise what ``consume`` would except ``LimitExceeded``; nothing is counted or written."""
        self._look_up(key_id(key), api)

    def _look_up(self, key_id: str, api: Api, follow: bool = False) -> Meter:
        """Return the meter of an active key. Raises the contract's errors for any other key."""
        item = self._table.meter(key_id, api, follow=follow)
        meter = _servable(item, api)
        self._remember(meter, item or {})
        return meter

    def _remember(self, meter: Meter, item: Item) -> None:
        """Cache the meter of an active key as a read or write has returned it."""
        marks = {name: int(item[name]["N"]) for name in item if name.startswith(MARK)}
        self._known.pop((meter.key_id, meter.api), None)
        self._known[meter.key_id, meter.api] = _Known(meter, marks, time.monotonic())
        while len(self._known) > _KNOWN_KEYS:
            with suppress(KeyError, StopIteration, RuntimeError):  # another thread may do the same
                del self._known[next(iter(self._known))]

    def account(self, key: str) -> Account:
        """Return a key's profile, usage and history, even if no unit is left. Nothing is counted.

        Raises ``UnknownKey``, ``InactiveKey`` or ``BlockedKey`` if the key is not active.
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
        """Count ``units`` if the key is active in ``period`` and ``trace`` is not in the meter yet."""
        item = self._table.count(key_id, api, period, trace, units)
        meter = Meter.from_item(item)
        self._remember(meter, item)
        return Usage.of(meter)

    def _turn_over(self, seen: Meter, period: str, trace: Trace | None, units: int) -> Usage:
        """Start ``period`` with ``units`` counted, and record the usage of the period before."""
        past = Meter.from_item(self._table.turn_over(seen, period, trace, units))
        try:
            self._table.record_past(past, self._clock())
        except StoreUnavailable as error:
            # The unit is counted and the request is served, so the usage is at least logged.
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
    """Return how many of ``units`` may be counted if ``left`` are left. Raises ``LimitExceeded`` if none."""
    if meter.overage:
        return units
    if left < 1:
        raise LimitExceeded(Usage.of(meter), now)
    return min(units, left)


def _servable(item: Item | None, api: Api) -> Meter:
    """Return the meter in ``item``. Raises the contract's error if the key may not use ``api``."""
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
