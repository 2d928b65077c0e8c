"""Answers that two processors give to one photo, side by side: words must be equal, numbers nearly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

SCORE = 0.02
LOGIT = 1.0
"""How far scores may lie apart: by the one, or by the other in log-odds, as a score near 0.5 moves further.

Integer arithmetic is exact everywhere, but where a float result lies on the edge between two integers, each
processor's order of additions decides how it is rounded: of eight photos of plates on arm64 scores moved by
0.04 at most. Saturating arithmetic moved one by 1.9 in log-odds.
"""

PIXELS = 1
"""How far integers, which are pixels, may lie apart: what lies between two of them is rounded either way."""


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Where two JSON values differ by more than scores and pixels may, by path.

    Alternatives that score less than ``SCORE`` may be missing on one side.
    """
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(_likely(one)) == len(_likely(other)):
        for n, (mine, yours) in enumerate(zip(_likely(one), _likely(other), strict=True)):
            yield from differences(mine, yours, f"{place}[{n}]")
    elif not (_scores_agree(one, other) or _pixels_agree(one, other) or one == other):
        yield f"{place}: {one!r} and {other!r}"


def _likely(answers: list[Any]) -> list[Any]:
    return [one for one in answers if not (isinstance(one, dict) and one.get("score", 1) < SCORE)]


def _scores_agree(one: Any, other: Any) -> bool:
    if not (isinstance(one, float) and isinstance(other, float)):
        return False
    if abs(one - other) <= SCORE:
        return True
    return 0 < one < 1 and 0 < other < 1 and abs(_log_odds(one) - _log_odds(other)) <= LOGIT


def _pixels_agree(one: Any, other: Any) -> bool:
    return type(one) is int and type(other) is int and abs(one - other) <= PIXELS


def _log_odds(p: float) -> float:
    return math.log(p / (1 - p))
