"""Which way up a photo is: in another orientation it may show a plate that reads better.

Used only for photos in which nothing reads well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from carsight.ctc import odds
from carsight.plate.tuning import PlateTuning

if TYPE_CHECKING:
    from carsight.plate.recognizer import Attempt


def best_way_up(
    upright: Attempt,
    attempt: Callable[[int], Attempt],
    promising: Callable[[], list[int]],
    tuning: PlateTuning,
) -> Attempt:
    """Return ``upright``, or the attempt in another orientation if that reads better.

    Args:
        upright: The attempt for the unturned photo.
        attempt: Finds and reads plates in the photo turned counterclockwise by a number of quarter turns.
        promising: Returns the quarter turns that may show plates, most likely first.
        tuning: When a turn is tried, and when it wins.
    """
    best, tried = upright, {0}
    if upright.upside_down >= max(upright.best, tuning.plausible):
        best = _best_of(best, [2], tried, attempt, tuning)
    if best.best < tuning.settled:
        best = _best_of(best, promising(), tried, attempt, tuning)
    return best


def _best_of(
    best: Attempt,
    turns: list[int],
    tried: set[int],
    attempt: Callable[[int], Attempt],
    tuning: PlateTuning,
) -> Attempt:
    """Return the best of ``best`` and the attempts at ``turns``, which are added to ``tried``."""
    while turns:
        quarters, *turns = turns
        if quarters in tried:
            continue
        tried.add(quarters)
        turned = attempt(quarters)
        if _wins(turned, best, tuning):
            best = turned
        if turned.upside_down >= max(turned.best, tuning.plausible):
            turns = [(quarters + 2) % 4, *turns]
        elif best.best >= tuning.sure:
            break
    return best


def _wins(turned: Attempt, best: Attempt, tuning: PlateTuning) -> bool:
    """Return whether the attempt ``turned`` is more credible than ``best``."""
    needed, own = 1.0, best.surest
    if own is not None and own.vehicle is not None and not best.quarters:
        alike = _may_turn_into(best.text, turned.text)
        needed = tuning.alike_odds if alike else tuning.turn_odds
        needed = tuning.high_odds if own.stands_high else needed
    return (
        turned.best >= tuning.turned
        and odds(turned.best) >= needed * odds(best.best)
        and not _turns_into(best.text, turned.text)
    )


_HALF_TURN = str.maketrans("oqil69mw7", "001196wm1")
"""What characters become upside down. O, Q, I and L become the digits that they are taken for, and so does a
7, which becomes an L."""

_ALIKE = str.maketrans("oqil", "0011")


def _turns_into(text: str, other: str) -> bool:
    """Return whether ``other`` is ``text`` read upside down."""
    return text[::-1].translate(_HALF_TURN) == other.translate(_ALIKE)


_LIKE_DIGITS = str.maketrans("odqiltzsbg", "0001112586")
"""The digits that letters resemble when worn or far away."""

_DIGITS_TURNED = str.maketrans("69mw", "96wm")


def _may_turn_into(text: str, other: str) -> bool:
    """Return whether ``other`` may be a misreading of ``text`` upside down, with one character different."""
    turned = text[::-1].translate(_LIKE_DIGITS).translate(_DIGITS_TURNED)
    alike = other.translate(_LIKE_DIGITS)
    return len(turned) == len(alike) and sum(a != b for a, b in zip(turned, alike, strict=True)) <= 1
