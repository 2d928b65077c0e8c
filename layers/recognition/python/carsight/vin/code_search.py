"""The search of one photo for codes.

Its steps are taken between those of ``search``, where what is cheap and likely comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from carsight.geometry import Floats
from carsight.vin import barcodes
from carsight.vin.barcodes import BarcodeVin
from carsight.vin.ranking import Odds
from carsight.vin.tuning import Budget
from carsight.vin.views import View

_CODES_COST, _BARS_COST, _BUSY_PARTS_COST, _DENSE_PARTS_COST = 0.8, 0.45, 0.2, 0.03
"""What it costs, in crops read for a megapixel, to look for codes of all kinds, for level bars, for busy and
for dense parts."""

_SURE_ODDS = 20.0
"""Odds from which a code's VIN ends the search."""

_FIRST_BARS = 2
"""In how many views bars are read before everything else: as they are, and sharpened."""


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
        self._looked_at_whole = False
        self._bars: Iterator[View] | None = None

    @property
    def sure(self) -> bool:
        """Whether one of the codes found is surely a VIN's."""
        return any(self._odds(code.vin) * code.place.factor > _SURE_ODDS for code in self.found)

    def look(self) -> None:
        """Look at the whole photo for codes of all kinds."""
        if self._enabled and self._budget.pay(_CODES_COST):
            self._looked_at_whole = True
            self.found += barcodes.look(barcodes.whole(self._view))

    def look_beside(self, vin: str, line: Floats) -> None:
        """Look for a code of ``vin`` beside the ``line`` (corners in the full photo) that reads so."""
        if self._enabled and not self._looked_at_whole:
            view = barcodes.beside(self._view, self._view.from_photo(line))
            if view is not None:
                self.found += barcodes.look_for(vin, view)

    def glance_at_bars(self) -> None:
        """Read what looks most like bars, on top of the budget."""
        if self._enabled:
            for view in islice(self._find_bars(), _FIRST_BARS):
                self._budget.pay_beyond(_BARS_COST * view.pixels.size / 1e6)
                self.found += barcodes.look(view, barcodes.BARS, rotate=False)
                if self.sure:
                    break

    def look_at_bars(self) -> None:
        """Read what looks like bars, where the photo as a whole showed no code."""
        if not self._enabled or self.found or self._budget.spent >= self._budget.effort:
            return
        for view in self._find_bars():
            if self.sure or not self._budget.pay(_BARS_COST * view.pixels.size / 1e6):
                break
            self.found += barcodes.look(view, barcodes.BARS, rotate=False)

    def look_at_dense_parts(self) -> None:
        """Read what looks like small matrix codes."""
        if not self._enabled or not self._budget.pay(_DENSE_PARTS_COST * self._megapixels):
            return
        for view in barcodes.dense_parts(self._view):
            if self.sure or not self._budget.pay(_CODES_COST * view.pixels.size / 1e6):
                break
            self.found += barcodes.look(view, barcodes.MATRIX)

    def look_harder(self) -> None:
        """Look at views that show codes which cannot be read in the photo as a whole."""
        if not self._enabled:
            return
        for view in barcodes.further_views(self._view):
            if self.sure or not self._budget.pay(_CODES_COST * view.pixels.size / 1e6):
                break
            self.found += barcodes.look(view)

    @property
    def _megapixels(self) -> float:
        return self._view.width * self._view.height / 1e6

    def _find_bars(self) -> Iterator[View]:
        """Find, once, what of the busiest parts of the photo looks like bars; return what is not yet read."""
        if self._bars is None:
            self._budget.pay_beyond(_BUSY_PARTS_COST * self._megapixels)
            self._bars = barcodes.bars(barcodes.busy_parts(self._view))
        return self._bars
