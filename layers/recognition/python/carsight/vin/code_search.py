"""The search of one photo for codes, and what a whole search may spend.

Codes are looked for in steps between those of ``search``, as what is cheap and likely comes first there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from carsight.vin import barcodes
from carsight.vin.barcodes import BarcodeVin
from carsight.vin.line_reader import Floats
from carsight.vin.ranking import Odds
from carsight.vin.views import View

_LOOK, _BARS_LOOK, _BUSY_LOOK = 0.8, 0.45, 0.2 / 3
"""What looks cost, in crops read for a megapixel: for all codes, for level bars, and for what is busy."""

_SURE = 20.0
"""Odds from which a code's VIN ends the search."""

_BARS_AT_FIRST = 2
"""In how many views bars are read before all else: as they are and sharpened."""


@dataclass(slots=True)
class Budget:
    """What the search of a photo may cost: ``effort``, or ``promising_effort`` once it is ``promising``.

    The unit is one crop read, some 10 ms of a processor; a look of the detector or for codes counts by its
    pixels.
    """

    effort: float
    promising_effort: float
    promising: bool = False
    spent: float = 0.0

    def pay(self, cost: float) -> bool:
        """Whether ``cost`` can still be spent; it is, then."""
        if self.spent + cost > (self.promising_effort if self.promising else self.effort):
            return False
        self.spent += cost
        return True

    def spend(self, cost: float) -> None:
        """Spend ``cost``, whatever has been spent."""
        self.spent += cost

    def allow(self, cost: float) -> None:
        """Let the search cost so much more."""
        self.effort += cost

    def pay_beyond(self, cost: float) -> None:
        """Spend ``cost`` on top of what the search may cost."""
        self.allow(cost)
        self.spend(cost)


class CodeSearch:
    """The codes of the photo in ``view``: those ``found``, and the steps that look for more.

    No step does anything where codes are not ``enabled``.
    """

    def __init__(self, view: View, budget: Budget, odds: Odds, *, enabled: bool = True) -> None:
        self.found: list[BarcodeVin] = []
        self._view = view
        self._budget = budget
        self._odds = odds
        self._enabled = enabled
        self._sought = False
        self._parts: list[View] | None = None
        self._bars: Iterator[View] = iter(())

    @property
    def sure(self) -> bool:
        """Whether one of them is surely a VIN."""
        return any(self._odds(code.vin) * code.place.value > _SURE for code in self.found)

    def look(self) -> None:
        """Look at the whole photo for codes of all kinds."""
        if self._enabled and self._budget.pay(_LOOK):
            self._sought = True
            self.found += barcodes.look(barcodes.whole(self._view))

    def look_beside(self, vin: str, line: Floats) -> None:
        """Look for a code beside the ``line`` (corners in the full photo) that says ``vin``, as it does."""
        if self._enabled and not self._sought:
            view = barcodes.beside(self._view, self._view.from_photo(line))
            if view is not None:
                self.found += barcodes.look_for(vin, view)

    def glance_at_bars(self) -> None:
        """Read what looks most like bars, on top of what the search may cost."""
        if self._enabled:
            self._find_bars()
            for view in islice(self._bars, _BARS_AT_FIRST):
                self._budget.pay_beyond(_BARS_LOOK * view.pixels.size / 1e6)
                self.found += barcodes.look(view, barcodes.BARS, rotate=False)
                if self.sure:
                    break

    def look_at_bars(self) -> None:
        """Read what looks like bars, where the whole showed no code."""
        if not self._enabled or self.found or self._budget.spent >= self._budget.effort:
            return
        self._find_bars()
        for view in self._bars:
            if self.sure or not self._budget.pay(_BARS_LOOK * view.pixels.size / 1e6):
                break
            self.found += barcodes.look(view, barcodes.BARS, rotate=False)

    def look_harder(self) -> None:
        """Look at views in which codes are read that the whole photo does not show."""
        if not self._enabled:
            return
        for view in barcodes.further_views(self._view, self._parts or []):
            if self.sure or not self._budget.pay(_LOOK * view.pixels.size / 1e6):
                break
            self.found += barcodes.look(view)

    def _find_bars(self) -> None:
        """Find the busiest parts of the photo, which may be codes, and those that look like bars, once."""
        if self._parts is None:
            self._budget.pay_beyond(_BUSY_LOOK * self._view.pixels.size / 1e6)
            self._parts = barcodes.busy_parts(self._view)
            self._bars = barcodes.bars(self._parts)
