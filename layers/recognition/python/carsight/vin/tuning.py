"""What can be tuned about the search of a photo for VINs, and what a search may spend."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from carsight.geometry import Floats
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
    CropMargins(),
    CropMargins(left=0.07, right=0.07, sides=0.1),
    CropMargins(sides=-0.18),
    CropMargins(left=0.02, right=0.02, down=-0.35),
    CropMargins(left=0.02, right=0.02, down=0.35),
)
"""The cuts from which a doubtful line is read again: corners are off by about that much."""


@dataclass(frozen=True, slots=True)
class VinTuning:
    """What can be changed about the recognizer without training a model again.

    Certainties and scores are 0..1; efforts are in crops read (see ``Budget``).
    """

    # -- what is looked for ---------------------------------------------------------------------------------

    sides: tuple[int, int] = (416, 640)
    """About how large the photo is for the detector's first pass and for the closer one: the side of a
    square, pixels."""
    scores: tuple[float, float] = (0.15, 0.05)
    """The score from which the finds of these passes are read; a VIN in groups scores 0.07 to 0.12 in the
    closer one."""
    lines: tuple[int, int] = (3, 2)
    """How many of their finds are read."""
    barcodes: bool = True
    """Whether codes are looked for."""
    effort: float = 6.0
    """What the search of a photo may cost."""
    promising_effort: float = 25.0
    """What it may cost once a line is at least as certain as ``promising``."""
    promising: float = 0.02
    level_effort: float = 3.0
    """What is added where a photo is turned level, so that the steps after that lose nothing."""

    # -- what is answered -----------------------------------------------------------------------------------

    prior: Prior = field(default_factory=Prior)
    """How likely a text is to be a VIN."""
    threshold: float | None = None
    """The lowest confidence of an answer; the reader's own where None."""
    least: float = 0.02
    """The lowest confidence of a candidate behind the first."""
    doubtful: float = 0.2
    """A photo whose best text is less certain is said to hold no VIN, rather than one that is not sure."""

    # -- which way up a line is ------------------------------------------------------------------------------

    upright: float = 0.1
    """A line less certain may be upside down."""
    clear: float = 0.93
    """So may one less clear (see ``LineReading.clarity``)."""

    # -- when a line has been read for good -----------------------------------------------------------------

    sure: float = 0.9
    """A reading at least this certain ends the search for a better one."""
    agreed: float = 0.8
    """Enough instead of ``sure`` where another reader reads the same as the VIN reader."""
    likely: float = 0.3
    """A line less certain may be cut at the wrong place altogether; reading it again there does not help."""
    enough: float = 0.75
    """A line at least this certain that is seen in the pixels is answered, whatever further cuts say."""
    hopeless: float = 0.5
    """A line less certain is given up once further cuts make it less certain still."""
    cuts: tuple[CropMargins, ...] = _CUTS
    """From where a doubtful line is read again."""

    # -- when the small reader is believed ------------------------------------------------------------------
    #
    # Of 147 photos sent in eleven ways, the surest of five first readings that were wrong had 0.948; none was
    # wrong twice from 0.85.

    settled: float = 0.96
    """By one cut: its certainty at least, ..."""
    settled_plain: float = 0.9
    """... and that by the pixels alone."""
    settled_twice: float = 0.9
    """By two cuts that read the same: the first one's certainty, ..."""
    settled_again: float = 0.85
    """... and the other's; ``settled_twice`` for both where the text is small."""

    # -- when the reader of hard lines is believed ----------------------------------------------------------

    hard_agreed: float = 0.9
    """Where it reads what the others hold likeliest."""
    hard_proven: float = 0.7
    """The same once all looks have left the line in doubt, if the check digit is valid, too."""
    hard_against: float = 0.95
    """Where the others hold another VIN likeliest."""
    hard_alone: float = 0.6
    """The same where they are hardly certain of that VIN: below ``clueless``."""
    hard_large: float = 0.7
    """Of text that is not small, whatever the others hold, where it reads all finds alike."""
    clueless: float = 0.4
    hard_finds: int = 2
    """About how many of the best finds it is asked after all looks."""
    hard_cuts: tuple[tuple[int | None, float], ...] = ((2, 0.98), (3, 0.95), (None, 0.0))
    """From how many cuts it reads then (None: all), and from which certainty on it reads no more."""
    hard_promising: float = 0.55
    """Certainty below which it reads no more either: of 39 lines on which it was believed, in 147 photos sent
    in twelve ways, the first two cuts of each had 0.6."""
    hard_cuts_at_once: int = 3
    """From how many cuts it may be asked right after the first pass, as long as it agrees with the others."""


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
