"""What can be tuned about the search of a photo for VINs, and what a search may spend."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from carsight.vin.line_reader import Floats
from carsight.vin.ranking import Prior


@dataclass(frozen=True, slots=True)
class CropMargins:
    """How another cut differs from a line's corners.

    It is longer by ``left`` and ``right`` (in line lengths), moved down by ``down`` and higher by ``sides``
    above and below (in line heights).
    """

    left: float = 0.0
    right: float = 0.0
    down: float = 0.0
    sides: float = 0.0

    def moved(self, corners: Floats) -> Floats:
        """Return ``corners`` (4 x 2) lengthened and moved down, but not higher: that is left to the cut."""
        down = corners[[3, 2, 2, 3]] - corners[[0, 1, 1, 0]]
        along = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]]
        ends = np.array([[-self.left], [self.right], [self.right], [-self.left]], np.float32)
        moved: Floats = corners + down * np.float32(self.down) + along * ends
        return moved


_CUTS = (
    (
        CropMargins(),
        CropMargins(left=0.07, right=0.07, sides=0.1),
        CropMargins(sides=-0.18),
        CropMargins(left=0.02, right=0.02, down=-0.35),
        CropMargins(left=0.02, right=0.02, down=0.35),
    ),
    (
        CropMargins(left=0.3),
        CropMargins(right=0.3),
        CropMargins(left=0.05, right=0.05, down=0.8),
        CropMargins(left=0.05, right=0.05, down=-0.8),
    ),
)
"""The cuts from which a doubtful line is read again, in two rounds: corners are off by about that much."""


@dataclass(frozen=True, slots=True)
class VinTuning:
    """What can be changed about the recognizer without training a model again.

    ``sides`` and ``scores``: about how large the photo is for the detector's first pass and for the closer
    one (the side of a square, pixels), and the score from which its finds are read. ``prior``: how likely a
    text is to be a VIN. ``barcodes``: whether codes are looked for. ``sure``: a reading at least this certain
    ends the search for a better one. ``likely``: a line less certain than this may have been cut at the wrong
    place altogether, and is read again from all ``cuts``. ``threshold`` is the lowest confidence of an
    answer, the reader's own where None, and ``least`` that of a candidate behind the first; a photo whose
    best is below ``doubtful`` is said to hold no VIN rather than one that is not sure. ``lines`` is how many
    of the detector's finds are read per pass. ``effort`` bounds the search of a photo, ``promising_effort``
    that of one with a line at least as certain as ``promising``, in crops read (see ``Budget``);
    ``level_effort`` is added where a photo is turned level, so that the steps after that lose nothing.

    The small reader is believed if its certainty is at least ``settled`` and, by the pixels alone,
    ``settled_plain``; or ``settled_twice``, if it reads the same from another cut with ``settled_again``
    (``settled_twice`` where the text is small). Of 147 photos sent in eleven ways, the surest of five first
    readings that were wrong had 0.948; none was wrong twice from 0.85. Where another reader reads the same as
    the VIN reader, ``agreed`` is enough instead of ``sure``. A line below ``hopeless`` that further cuts make
    less certain is given up.

    The reader of hard lines is believed from the certainty ``hard_agreed`` if it reads what the others hold
    likeliest. Where everything else has left a line in doubt, ``hard_proven`` is enough if the check digit is
    valid, too. Where the others hold another VIN likeliest, it takes ``hard_against``, or ``hard_alone`` if
    they are hardly certain of that one (below ``clueless``).
    """

    sides: tuple[int, int] = (416, 640)
    scores: tuple[float, float] = (0.15, 0.05)
    lines: int = 3
    sure: float = 0.9
    likely: float = 0.3
    threshold: float | None = None
    least: float = 0.02
    doubtful: float = 0.2
    prior: Prior = field(default_factory=Prior)
    barcodes: bool = True
    promising: float = 0.02
    effort: float = 6.0
    promising_effort: float = 25.0
    level_effort: float = 3.0
    settled: float = 0.96
    settled_plain: float = 0.9
    settled_twice: float = 0.9
    settled_again: float = 0.85
    agreed: float = 0.8
    hopeless: float = 0.5
    hard_agreed: float = 0.9
    hard_proven: float = 0.7
    hard_alone: float = 0.6
    hard_against: float = 0.95
    clueless: float = 0.4
    cuts: tuple[tuple[CropMargins, ...], ...] = _CUTS


@dataclass(slots=True)
class Budget:
    """What the search of a photo may cost: ``effort``, or ``promising_effort`` once it is ``promising``.

    The unit is one crop read, some 10 ms of a processor; what the detector and the search for codes do counts
    by their pixels.
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
        """Spend ``cost``, however little is left."""
        self.spent += cost

    def allow(self, cost: float) -> None:
        """Add ``cost`` to what a search may spend that is not promising."""
        self.effort += cost

    def pay_beyond(self, cost: float) -> None:
        """Spend ``cost``, and let a search that is not promising spend that much more."""
        self.allow(cost)
        self.spend(cost)
