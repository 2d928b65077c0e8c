"""Counting: one conditional write decides whether a request is served, and counts it.

Its condition covers every reason not to serve. If it fails, DynamoDB returns the item that failed it, so that
no second read can see another state:

    request A                    request B                     the meter
                                                               used 49, remaining 1
    SET used 50 IF remaining>=1                                used 50, remaining 0
                                 SET used 51 IF remaining>=1   fails; B is handed used 50 -> 429

In a new month the condition fails on the period, and the meter is turned over by a write that only succeeds
while the old month is still there:

    request A (December)         request B (December)          the meter
                                                               2026-11, used 50
    SET used 51 IF 2026-12       SET used 51 IF 2026-12        fails; both are handed 2026-11
    SET 2026-12, used 1 IF 2026-11                             2026-12, used 1; A is handed the 50
                                 SET ... IF 2026-11            fails; B is handed 2026-12
                                 SET used 2 IF 2026-12         2026-12, used 2

A request with a slow clock finds a later month than its own and is counted there: a meter never goes back.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from carsight_service.contract.errors import StoreUnavailable, UnknownKey
from carsight_service.metering.admission import affordable, servable
from carsight_service.metering.meter_table import ConditionFailed
from carsight_service.metering.model import LIFETIME, Meter, Usage, is_key_id, month_of, successor_of

if TYPE_CHECKING:
    from carsight_service.aws.dynamo import Clock
    from carsight_service.contract.api import Api
    from carsight_service.metering.admission import Admission
    from carsight_service.metering.meter_table import MeterTable, Trace

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 10
"""How often a meter may change during a request, as it does at a new month, before the request gives up."""


class Counter:
    """Counts units of keys. Safe to share between threads."""

    def __init__(self, table: MeterTable, admission: Admission, clock: Clock) -> None:
        self._table = table
        self._admission = admission
        self._clock = clock

    def count(
        self, key_id: str, api: Api, units: int, trace: Trace | None, *, follow: bool
    ) -> tuple[Usage, int]:
        """Count ``units`` or as many as are left, once for each ``trace``; return the usage and their number.

        With ``follow``, the work of a rotated key is counted to its successor. Raises the contract's errors
        if no unit may be counted, and ``WriteInDoubt`` if it is unknown whether any was.
        """
        if not is_key_id(key_id):
            raise UnknownKey(api)
        now = self._clock()
        period = month_of(now)
        wanted = units
        for _ in range(MAX_ATTEMPTS):
            try:
                counted = self._table.count(key_id, api, period, trace, wanted)
            except ConditionFailed as failed:
                item = failed.item
            else:
                meter = Meter.from_item(counted)
                self._admission.remember(meter, counted)
                return Usage.of(meter), wanted
            if follow and (successor := successor_of(item)):
                key_id = successor
                continue
            if item and trace and (before := trace.counted(item)):
                return Usage.of(Meter.from_item(item)), before
            meter = servable(item, api)
            if meter.period in (period, LIFETIME):
                # Fewer units are left than wanted, or the item has changed since: only another write can
                # tell.
                wanted = affordable(meter, meter.remaining, wanted, now)
            elif meter.period > period:
                period = meter.period
            else:
                wanted = affordable(meter, meter.limit, units, now)
                with suppress(ConditionFailed):  # another request has turned it over, or changed the key
                    return self._turn_over(meter, period, trace, wanted), wanted
        raise StoreUnavailable("the meter kept changing under this request")

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
