"""Answers that two processors give to one photo, side by side: words must be equal, numbers nearly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SCORE = 0.02
"""How far scores may lie apart. Integer arithmetic is exact everywhere, but where a float result lies on the
edge between two integers, each processor's order of additions decides how it is rounded."""

PIXELS = 4
"""How far integers, which are pixels, may lie apart. On arm64 up to a fifth of the values that OpenCV resizes
differ by one gray level, which moved one side of a vehicle's box, 656 pixels wide, by 3."""


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Where two JSON values differ by more than ``SCORE`` and ``PIXELS``, by path.

    Alternatives that score less than ``SCORE`` may be missing on one side.
    """
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(_likely(one)) == len(_likely(other)):
        for n, (mine, yours) in enumerate(zip(_likely(one), _likely(other), strict=True)):
            yield from differences(mine, yours, f"{place}[{n}]")
    elif not (_near(one, other, float, SCORE) or _near(one, other, int, PIXELS) or one == other):
        yield f"{place}: {one!r} and {other!r}"


def _likely(answers: list[Any]) -> list[Any]:
    return [one for one in answers if not (isinstance(one, dict) and one.get("score", 1) < SCORE)]


def _near(one: Any, other: Any, kind: type, tolerance: float) -> bool:
    return type(one) is kind and type(other) is kind and bool(abs(one - other) <= tolerance)
