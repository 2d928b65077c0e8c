"""What a counting write leaves in the meter, so that it can be recognized later.

Work that may begin again leaves a *ticket*, which stays until the work is settled. A call leaves a *mark*, a
number under a name of its process, so that its write can be made again or undone.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carsight_service.contract.api import Api
from carsight_service.metering.model import is_key_id

MARK = "call:"
"""What the marks of calls begin with."""


@dataclass(frozen=True, slots=True)
class Addition:
    """What a counting write adds to its expressions to leave its trace."""

    set: str = ""
    remove: str = ""
    condition: str = ""
    names: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ticket:
    """Marks repeatable work as counted, until that work is settled."""

    ticket: str

    def addition(self, period: str, written: str, units: int) -> Addition:
        """Return what stores ``period``, as ``written`` in the update; a single unit needs no count."""
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
    """Tells a call's write from later ones of its slot, so that it can be repeated or undone.

    A slot's numbers grow, so a write that arrives after a later one of its slot fails. A mark is not removed
    afterwards: the slot's next call overwrites it.
    """

    name: str
    number: int
    stale: tuple[str, ...] = ()
    """Names of other processes' marks that are old enough to be removed."""
    period: str = ""
    """The period it was last tried in."""
    ticket: str = ""

    def addition(self, period: str, written: str, units: int) -> Addition:
        """Return what stores the number, and note the period it is tried in."""
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
        """Return 1 if the write has been made, else 0."""
        return int(self.number_in(item) == self.number)

    def number_in(self, item: Mapping[str, Any]) -> int:
        """Return the number a meter holds under this name, 0 if none."""
        return int(item[self.name]["N"]) if self.name in item else 0


Trace = Ticket | Mark
"""What a counting write leaves in the meter."""


@dataclass(slots=True)
class Slot:
    """The name that successive calls of one thread put their marks under, and their line in the journal."""

    name: str
    line: int
    last: int = 0
    noted: bool = False

    def next(self, now: float) -> int:
        """Return a number above all before: milliseconds since 1970. Undoing a call uses the one after it."""
        self.last = max(self.last + 2, int(now * 1000))
        return self.last


class Slots:
    """The slots of one process. A thread keeps its slot while it lives; then another may have it."""

    def __init__(self) -> None:
        self.process = secrets.token_urlsafe(4)
        """Prefix of this process's slot names."""
        self._numbers = itertools.count()
        self._free: deque[Slot] = deque()
        self._threads = threading.local()

    def mine(self) -> Slot:
        """Return this thread's slot."""
        try:
            seat: _Seat = self._threads.seat
        except AttributeError:
            try:
                slot = self._free.pop()
            except IndexError:
                line = next(self._numbers)
                slot = Slot(f"{MARK}{self.process}.{line}", line)
            seat = self._threads.seat = _Seat(slot, self._free)
        return seat.slot

    def retire_mine(self) -> None:
        """Give this thread another slot from now on, and let nobody use the present one again."""
        seat: _Seat = self._threads.seat
        seat.free = deque()
        del self._threads.seat


@dataclass(slots=True)
class _Seat:
    """A thread's hold on a slot."""

    slot: Slot
    free: deque[Slot]

    def __del__(self) -> None:
        self.free.append(self.slot)


@dataclass(frozen=True, slots=True)
class LostCall:
    """A call whose unit may have been counted, though it was not answered with a 200."""

    key_id: str
    api: Api
    mark: Mark

    def note(self) -> str:
        """Return it as a line of the journal."""
        return " ".join((self.key_id, self.api, self.mark.name, str(self.mark.number), self.mark.period))

    @classmethod
    def of(cls, note: str) -> LostCall:
        """Return what ``note`` holds. Raises ``ValueError`` where that is nothing of the kind."""
        key_id, api, name, number, period = note.split(" ")
        if not is_key_id(key_id) or not name.startswith(MARK):
            raise ValueError("not a note of a call")
        return cls(key_id, Api(api), Mark(name, int(number), period=period))


def ticket_attribute(ticket: str) -> str:
    """Return the meter's attribute that says in which period ``ticket`` was counted."""
    return f"ticket:{ticket}"


def units_attribute(ticket: str) -> str:
    """Return the meter's attribute that says how many units were counted with ``ticket``."""
    return f"units:{ticket}"


def ticket_names(ticket: str) -> dict[str, str]:
    """Return the placeholders of both attributes of ``ticket``."""
    return {"#ticket": ticket_attribute(ticket), "#units": units_attribute(ticket)}
