"""Counting a call exactly once, although writes get lost and processes die.

A call's answer is ready when its unit is counted, and the caller waits. A write that gets no response may
have counted the unit or may still do so; it is repeated, which the call's mark makes harmless, and undone if
that gets no response either. A process that dies leaves its calls in the journal, and the next process on the
machine undoes them.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from carsight_service.contract.api import Api
from carsight_service.contract.errors import ServiceError, StoreUnavailable
from carsight_service.metering.counter import MAX_ATTEMPTS
from carsight_service.metering.meter_table import MARK, ConditionFailed, Mark, WriteInDoubt
from carsight_service.metering.model import Meter, Usage, is_key_id, month_of, successor_of

if TYPE_CHECKING:
    from carsight_service.aws.dynamo import Clock
    from carsight_service.metering.admission import Admission
    from carsight_service.metering.counter import Counter
    from carsight_service.metering.journal import Journal
    from carsight_service.metering.meter_table import MeterTable

logger = logging.getLogger(__name__)

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

_MAX_LOST = 1_000
"""The most calls that wait to be undone."""

_STORE_SECONDS = 5.0
"""How long one write may take: the client's read timeout."""


# -- marks of a process --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Slot:
    """The name of the marks of one thread's successive calls, and their line in the journal."""

    name: str
    line: int
    last: int = 0
    noted: bool = False

    def next(self, now: float) -> int:
        """Return the next number, about the milliseconds since 1970.

        It is at least 2 larger than the last one, as undoing a call uses the number after its own.
        """
        self.last = max(self.last + 2, int(now * 1000))
        return self.last


class _Slots:
    """The slots of one process. A thread keeps its slot as long as it lives; then another may take it."""

    def __init__(self) -> None:
        self.process = secrets.token_urlsafe(4)
        """Prefix of this process's slot names."""
        self._numbers = itertools.count()
        self._free: deque[_Slot] = deque()
        self._threads = threading.local()

    def mine(self) -> _Slot:
        """Return this thread's slot."""
        try:
            seat: _Seat = self._threads.seat
        except AttributeError:
            try:
                slot = self._free.pop()
            except IndexError:
                line = next(self._numbers)
                slot = _Slot(f"{MARK}{self.process}.{line}", line)
            seat = self._threads.seat = _Seat(slot, self._free)
        return seat.slot

    def retire_mine(self) -> None:
        """Give this thread another slot from now on; the current one is never used again."""
        seat: _Seat = self._threads.seat
        seat.free = deque()
        del self._threads.seat


@dataclass(slots=True)
class _Seat:
    """A thread's hold on a slot."""

    slot: _Slot
    free: deque[_Slot]

    def __del__(self) -> None:
        self.free.append(self.slot)


class _Call(NamedTuple):
    """A call whose unit is being counted, or may have been, and that is not answered yet."""

    key_id: str
    api: Api
    mark: Mark

    def note(self) -> str:
        """Return it as a line of the journal."""
        return " ".join((self.key_id, self.api, self.mark.name, str(self.mark.number), self.mark.period))

    @classmethod
    def of(cls, note: str) -> _Call:
        """Parse a ``note``. Raises ``ValueError`` if it is not a note of a call."""
        key_id, api, name, number, period = note.split(" ")
        if not is_key_id(key_id) or not name.startswith(MARK):
            raise ValueError("not a note of a call")
        return cls(key_id, Api(api), Mark(name, int(number), period=period))


# -- calls ---------------------------------------------------------------------------------------------------


class Calls:
    """The calls of one process that are being counted. Safe to share between threads."""

    def __init__(
        self,
        table: MeterTable,
        counter: Counter,
        admission: Admission,
        clock: Clock,
        journal: Journal | None,
    ) -> None:
        self._table = table
        self._counter = counter
        self._admission = admission
        self._clock = clock
        self._journal = self._unopened = journal
        self._opening = threading.Lock()
        self._slots = _Slots()
        self._lost: deque[_Call] = deque(maxlen=_MAX_LOST)  # to be undone
        self._dead: set[str] = set()  # prefixes of marks of dead processes that left nothing undecided

    def count(self, key_id: str, api: Api, until: float) -> Usage:
        """Count one unit for a call that can be answered until then (``time.monotonic``).

        Raises the contract's errors, and then nothing is counted.
        """
        self._undo_lost(until)
        slot = self._slots.mine()
        mark = self._mark(slot, key_id, api)
        if mark is None:
            return self._count_unmarked(key_id, api)
        call = _Call(key_id, api, mark)
        self._note(slot, call)
        try:
            return self._counted(call)
        except WriteInDoubt as doubt:
            return self._count_again(slot, call, until, doubt)
        except ServiceError:
            self._admission.forget(key_id, api)
            self._note(slot, None)
            raise

    def answered(self) -> None:
        """Note that the last call counted by this thread has been answered."""
        slot = self._slots.mine()
        if slot.noted:
            self._note(slot, None)

    def _counted(self, call: _Call) -> Usage:
        return self._counter.count(call.key_id, call.api, 1, call.mark, follow=False)[0]

    def _count_unmarked(self, key_id: str, api: Api) -> Usage:
        """Count a call without a mark, as the meter has too many; the write cannot be recognized later."""
        try:
            return self._counter.count(key_id, api, 1, None, follow=False)[0]
        except WriteInDoubt:
            logger.warning("a unit may have been counted without an answer", extra={"api": api})
            raise

    def _count_again(self, slot: _Slot, call: _Call, until: float, doubt: WriteInDoubt) -> Usage:
        """Repeat a write that got no response; if it gets none again, undo both."""
        try:
            if time.monotonic() + _STORE_SECONDS > until:
                raise doubt
            return self._counted(call)
        except ServiceError:
            # The first write may still arrive, whatever happened to the second.
            self._lost.append(call)
            self._undo_lost(until)
            if call in self._lost:
                self._slots.retire_mine()  # a later number in the slot would hide it
            else:
                self._note(slot, None)
            raise

    def _mark(self, slot: _Slot, key_id: str, api: Api) -> Mark | None:
        """Return the mark for a call; None if the meter has too many marks of other processes."""
        now = self._clock()
        number = slot.next(now.timestamp())
        marks = {name: left for name, left in self._admission.marks(key_id, api).items() if name != slot.name}
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

    # -- the journal -----------------------------------------------------------------------------------------

    def _note(self, slot: _Slot, call: _Call | None) -> None:
        """Note in the journal that ``call`` is being counted, or that nothing is."""
        if self._journal:
            self._journal.note(slot.line, call.note() if call else "")
            slot.noted = call is not None

    def _open_journal(self) -> None:
        """Start the journal, once, and take over the calls that dead processes have left in it."""
        with self._opening:
            journal, self._unopened = self._unopened, None
            for owner, *notes in journal.open(self._slots.process) if journal else ():
                if not notes:
                    self._dead.add(f"{MARK}{owner}")
                for note in notes:
                    with suppress(ValueError):
                        self._lost.append(_Call.of(note))

    # -- undoing ---------------------------------------------------------------------------------------------

    def _undo_lost(self, until: float) -> None:
        """Undo calls that may have been counted but were not answered with a 200."""
        self._open_journal()
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
        for _ in range(MAX_ATTEMPTS):
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
