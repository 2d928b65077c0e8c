"""Who may be served: what a request is told before its photo is read, and when nothing is counted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from carsight_service.contract.errors import (
    BlockedKey,
    InactiveKey,
    LimitExceeded,
    PlanWithoutApi,
    UnknownKey,
)
from carsight_service.metering.meter_table import marks_in
from carsight_service.metering.model import LIFETIME, Meter, Status, Usage, month_of

if TYPE_CHECKING:
    from datetime import datetime

    from carsight_service.aws.dynamo import Clock
    from carsight_service.contract.api import Api
    from carsight_service.metering.meter_table import Item, MeterTable

_KNOWN_SECONDS = 5.0
"""How long an active key is not looked up again before a photo is read. The write that counts the call checks
it in any case."""

_KNOWN_KEYS = 1_000
"""How many meters a process caches."""

_AMPLE = 100
"""Fewest units left of a cached meter that is not looked up again for ``_KNOWN_SECONDS``, unless the key has
overage."""


class _Known(NamedTuple):
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


class Admission:
    """Admits active keys with a unit left, and caches their meters. Safe to share between threads."""

    def __init__(self, table: MeterTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._known: dict[tuple[str, Api], _Known] = {}

    def admit(self, key_id: str, api: Api, *, follow: bool) -> Usage:
        """Return the usage before a photo is read; with ``follow``, a rotated key leads to its successor.

        Raises the contract's errors as far as is known: a key that was active, with many units left, is
        trusted for some seconds.
        """
        known, now = self._known.get((key_id, api)), self._clock()
        month = month_of(now)
        meter = known.meter if known and known.is_fresh(month) else self.look_up(key_id, api, follow=follow)
        if meter.period != LIFETIME and meter.period < month:
            meter = meter.turned_over(month, used=0)
        affordable(meter, meter.remaining, 1, now)
        return Usage.of(meter)

    def look_up(self, key_id: str, api: Api, *, follow: bool = False) -> Meter:
        """Return the meter of an active key. Raises the contract's errors for any other key."""
        item = self._table.meter(key_id, api, follow=follow)
        meter = servable(item, api)
        self.remember(meter, item or {})
        return meter

    def remember(self, meter: Meter, item: Item) -> None:
        """Cache the meter of an active key as a read or write has returned it."""
        self.forget(meter.key_id, meter.api)
        self._known[meter.key_id, meter.api] = _Known(meter, marks_in(item), time.monotonic())
        while len(self._known) > _KNOWN_KEYS:
            with suppress(KeyError, StopIteration, RuntimeError):  # another thread may do the same
                del self._known[next(iter(self._known))]

    def forget(self, key_id: str, api: Api) -> None:
        """Look the meter up again before it is trusted."""
        self._known.pop((key_id, api), None)

    def marks(self, key_id: str, api: Api) -> Mapping[str, int]:
        """Return the marks of calls in the meter, as far as is known."""
        known = self._known.get((key_id, api))
        return known.marks if known else {}


def servable(item: Item | None, api: Api) -> Meter:
    """Return the meter in ``item``. Raises the contract's error if the key may not use ``api``."""
    if item is None:
        raise UnknownKey(api)
    meter = Meter.from_item(item)
    require_served(meter.status, api)
    if not meter.included:
        raise PlanWithoutApi
    return meter


def affordable(meter: Meter, left: int, units: int, now: datetime) -> int:
    """Return how many of ``units`` may be counted if ``left`` are left. Raises ``LimitExceeded`` if none."""
    if meter.overage:
        return units
    if left < 1:
        raise LimitExceeded(Usage.of(meter), now)
    return min(units, left)


def require_served(status: Status, api: Api) -> None:
    """Raise the contract's error for a key that is not active."""
    match status:
        case Status.DISABLED:
            raise UnknownKey(api)
        case Status.INACTIVE:
            raise InactiveKey
        case Status.BLOCKED:
            raise BlockedKey
