"""Keys and usage on the hot path: what requests and queued work ask of the meters."""

from __future__ import annotations

import math
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from carsight_service.aws.dynamo import Clock, utc_now
from carsight_service.contract.api import Api
from carsight_service.contract.errors import UnknownKey
from carsight_service.metering.admission import Admission, require_served
from carsight_service.metering.calls import Calls
from carsight_service.metering.counter import Counter
from carsight_service.metering.meter_table import (
    ConditionFailed,
    Item,
    MeterTable,
    Ticket,
    ticket_attribute,
)
from carsight_service.metering.model import Account, Grant, Meter, Usage, key_id, successor_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from carsight_service.aws.dynamo_client import DynamoClient
    from carsight_service.metering.journal import Journal


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
        self._admission = Admission(self._table, clock)
        self._counter = Counter(self._table, self._admission, clock)
        self._calls = Calls(self._table, self._counter, self._admission, clock, journal)

    # -- before a photo is read ------------------------------------------------------------------------------

    def admit(self, key: str, api: Api) -> Usage:
        """Return the usage of ``key`` before a photo is read for it. Nothing is counted.

        Raises what ``consume`` would, as far as is known: a key that was active, with many units left, is
        trusted for some seconds, as ``consume`` checks it again.
        """
        return self._admission.admit(key_id(key), api, follow=False)

    def admit_by_id(self, key_id: str, api: Api) -> Usage:
        """Do the same as ``admit`` for the id of a key or account; a rotated key leads to its successor."""
        return self._admission.admit(key_id, api, follow=True)

    def authorize(self, key: str, api: Api) -> None:
        """Raise what ``consume`` would except ``LimitExceeded``; nothing is counted or written."""
        self._admission.look_up(key_id(key), api)

    def account(self, key: str) -> Account:
        """Return a key's profile, usage and history, even if no unit is left. Nothing is counted.

        Raises ``UnknownKey``, ``InactiveKey`` or ``BlockedKey`` if the key is not active.
        """
        now = self._clock()
        items = self._table.items(key_id(key))
        account = Account.from_items(items, now)
        if account is None:
            raise UnknownKey(Api.PLATE)
        require_served(account.profile.status, Api.PLATE)
        if account.profile.account != account.profile.key_id:
            items += self._table.items(account.profile.account, "USAGE#")
        return Account.from_items(items, now) or account

    # -- calls -----------------------------------------------------------------------------------------------

    def consume(self, key: str, api: Api, *, until: float = math.inf) -> Usage:
        """Count one request of ``key``, whose answer is ready, and return its usage.

        ``until`` (``time.monotonic``) is when the answer has to be sent. Raises the contract's
        ``UnknownKey``, ``InactiveKey``, ``BlockedKey``, ``PlanWithoutApi`` or ``LimitExceeded``, and then
        nothing is counted. Neither is it if ``StoreUnavailable`` is raised: a write without a response is
        repeated, which counts once, and if that gets no response either it is undone, now or by a later call
        of this process.
        """
        return self._calls.count(key_id(key), api, until)

    def answered(self) -> None:
        """Note that the last call counted by this thread has been answered."""
        self._calls.answered()

    # -- queued work, which may begin more than once ---------------------------------------------------------

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
        usage, counted = self._counter.count(key_id, api, units, Ticket(ticket), follow=True)
        return Grant(usage.api, ticket, counted, usage)

    def close(self, grant: Grant, read: int) -> None:
        """End the work of ``grant``: ``read`` of its units stay counted, the others are refunded."""
        if read < grant.units:
            self.refund(grant.usage.key_id, grant.api, grant.ticket, grant.units - read)
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

    def refund(self, key_id: str, api: Api, ticket: str, units: int = 1) -> None:
        """Give back ``units`` that were counted with ``ticket``; calling it again has no effect."""
        try:
            item: Item | None = self._table.give_back(key_id, api, ticket, units)
        except ConditionFailed as failed:
            item = failed.item
            if item and (counted := item.get(ticket_attribute(ticket))):
                # A new month has begun since: the units were counted in the past one.
                with suppress(ConditionFailed):  # the ticket is gone already
                    self._table.remove_ticket(key_id, api, ticket)
                    self._table.take_from_history(Meter.from_item(item).account, api, counted["S"], units)
        if successor := successor_of(item):
            # The key has been rotated since, and its usage and tickets have moved to the successor.
            self.refund(successor, api, ticket, units)

    def settle(self, key_id: str, api: Api, tickets: Collection[str]) -> None:
        """Remove ``tickets`` from the meter: their work is done, and their units stay counted."""
        if not tickets:
            return
        # If the condition fails there is no such meter, and nothing to remove.
        with suppress(ConditionFailed):
            item = self._table.remove_tickets(key_id, api, tickets)
            if successor := successor_of(item):
                self.settle(successor, api, tickets)
