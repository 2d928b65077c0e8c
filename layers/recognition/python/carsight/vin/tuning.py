"""Settings of the search for VINs, and the budget of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from carsight.geometry import Floats
from carsight.vin.ranking import Prior


class CropMargins(NamedTuple):
    """How a cut differs from the usual one of a line.

    It is longer by ``left`` and ``right`` (in line lengths), moved down by ``down``, and extended above and
    below by ``sides`` (both in line heights). All may be negative.
    """

    left: float = 0.0
    right: float = 0.0
    down: float = 0.0
    sides: float = 0.0

    def moved(self, corners: Floats) -> Floats:
        """Return ``corners`` (4 x 2) lengthened and moved down; ``sides`` is applied when cutting."""
        down = corners[[3, 2, 2, 3]] - corners[[0, 1, 1, 0]]
        along = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]]
        ends = np.array([[-self.left], [self.right], [self.right], [-self.left]], np.float32)
        moved: Floats = corners + down * np.float32(self.down) + along * ends
        return moved


_CUTS = (
    CropMargins(),
    CropMargins(left=0.07, right=0.07, sides=0.1),
    CropMargins(sides=-0.18),
    CropMargins(left=0.02, right=0.02, down=-0.35),
    CropMargins(left=0.02, right=0.02, down=0.35),
)
"""The cuts from which a doubtful line is read again: corners are off by about this much."""


class VinTuning(NamedTuple):
    """Settings of the VIN recognizer that can be changed without training a model again.

    Certainties, confidences and scores are 0..1; efforts are in crops read (see ``Budget``).
    """

    # -- what is searched -----------------------------------------------------------------------------------

    sides: tuple[int, int] = (416, 640)
    """The size of the photo in the detector's first pass and in the closer one: it has about the area of a
    square with this side, in pixels."""
    scores: tuple[float, float] = (0.15, 0.05)
    """Lowest score of the finds of these passes that are read. A VIN in groups scores 0.07 to 0.12 in the
    closer pass."""
    lines: tuple[int, int] = (3, 2)
    """How many finds of each of these passes are read."""
    barcodes: bool = True
    """Whether to look for barcodes."""
    effort: float = 6.0
    """How much the search of a photo may cost."""
    promising_effort: float = 25.0
    """How much it may cost once the certainty is at least ``promising``."""
    promising: float = 0.02
    """Lowest certainty of a possible VIN."""
    level_effort: float = 3.0
    """How much is added if the photo is turned level, so that the later steps have no less."""

    # -- what is returned -----------------------------------------------------------------------------------

    prior: Prior = Prior()
    """The odds of a text to be a VIN."""
    threshold: float | None = None
    """Lowest confidence of an answer; if None, the one stored in the reader's model."""
    least: float = 0.02
    """Lowest confidence of the candidates after the first."""
    doubtful: float = 0.2
    """A photo whose best candidate has a lower confidence is refused as one without a VIN, not as one with an
    unsure VIN."""

    # -- which way up a line is ------------------------------------------------------------------------------

    upright: float = 0.1
    """A line with a lower certainty may be upside down."""
    clear: float = 0.93
    """So may a line with a lower clarity (see ``LineReading.clarity``)."""

    # -- when a line is not read again ----------------------------------------------------------------------

    sure: float = 0.9
    """A reading with at least this certainty ends the search for a better one."""
    agreed: float = 0.8
    """Replaces ``sure`` if another reader agrees with the VIN reader."""
    likely: float = 0.3
    """A line with a lower certainty is not read from further cuts: its place may be wrong altogether."""
    enough: float = 0.75
    """A line with at least this certainty, and seen in the pixels, is not read from further cuts either."""
    hopeless: float = 0.5
    """With a lower certainty, reading further cuts ends once these have reduced it."""
    cuts: tuple[CropMargins, ...] = _CUTS
    """The cuts from which a doubtful line is read again."""

    # -- when the small reader is trusted -------------------------------------------------------------------
    #
    # On 147 photos in eleven ways five first readings were wrong, with certainties up to 0.948; from 0.85 on
    # none was wrong twice.

    settled: float = 0.96
    """One cut is enough if it has this certainty, and by the pixels alone the probability
    ``settled_plain``."""
    settled_plain: float = 0.9
    """See ``settled``."""
    settled_twice: float = 0.9
    """Two cuts with the same text are enough if the first has this certainty, and the second
    ``settled_again`` or, if the text is small, this as well."""
    settled_again: float = 0.85
    """See ``settled_twice``."""

    # -- when the reader of hard lines is trusted -----------------------------------------------------------

    hard_agreed: float = 0.9
    """Lowest certainty with which its reading is trusted if it is the likeliest VIN of the other readers."""
    hard_proven: float = 0.7
    """The same if the check digit is valid too, once all other steps have left the line in doubt."""
    hard_against: float = 0.95
    """Lowest certainty with which it is trusted if another VIN is the likeliest of the other readers."""
    hard_alone: float = 0.6
    """The same if the certainty of that other VIN is below ``clueless``."""
    hard_large: float = 0.7
    """The same for text that is not small, whatever the other readers read, if it reads all finds alike."""
    clueless: float = 0.4
    """See ``hard_alone``."""
    hard_finds: int = 2
    """How many of the best finds it reads after all other steps, besides the most certain line."""
    hard_cuts: tuple[tuple[int | None, float], ...] = ((2, 0.98), (3, 0.95), (None, 0.0))
    """From how many cuts it then reads (None: all), and the certainty with which it needs no more."""
    hard_promising: float = 0.55
    """With a lower certainty it reads no further cuts either. On 147 photos in twelve ways it was trusted on
    39 lines, and the first two cuts of all of these had at least 0.6."""
    hard_cuts_at_once: int = 3
    """From how many cuts it may read right after the first pass, as long as it agrees with the others."""


@dataclass(slots=True)
class Budget:
    """How much the search of a photo may cost: ``effort``, or ``promising_effort`` once it is ``promising``.

    The unit is reading one crop, some 10 ms of CPU time. Runs of the detector and the search for codes are
    converted to it by their pixels.
    """

    effort: float
    promising_effort: float
    promising: bool = False
    spent: float = 0.0

    def pay(self, cost: float) -> bool:
        """Spend ``cost`` and return True if that much is left; otherwise spend nothing."""
        if self.spent + cost > (self.promising_effort if self.promising else self.effort):
            return False
        self.spent += cost
        return True

    def spend(self, cost: float) -> None:
        """Spend ``cost`` even if less is left."""
        self.spent += cost

    def allow(self, cost: float) -> None:
        """Raise by ``cost`` what a search may spend that is not promising."""
        self.effort += cost

    def pay_beyond(self, cost: float) -> None:
        """Spend ``cost``, and raise by it what a search may spend that is not promising."""
        self.allow(cost)
        self.spend(cost)
