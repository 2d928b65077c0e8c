"""Why a photo has no answer, in a form that programs can act on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal["no_plate", "plate_too_small", "illegible", "no_vin", "not_sure"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was read, with the figure that decided it.

    The meaning of ``figure`` depends on ``reason``:

    * ``no_plate``: the highest score of anything that might be a plate, 0..1
    * ``plate_too_small``: the height in pixels of the largest plate, as the photo was sent
    * ``illegible``: the best reading's score, 0..1
    * ``no_vin``: how many lines of text and codes were read, none of which is a VIN
    * ``not_sure``: the best VIN's confidence, 0..1

    ``needed`` is the least that ``figure`` would have had to be; None if there is no such bound.
    """

    reason: Reason
    figure: float
    needed: float | None = None
