"""How makers describe a car in its VIN: which characters follow which, by the VINs of real cars.

A maker writes the same few characters at positions 4 to 8 of all cars of a model, and years and plants at 10
and 11: where the pixels leave two characters open, the maker's other cars tell which is likelier.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

from carsight.vin.rules import ALPHABET

_PLACES = (3, 4, 5, 6, 7, 9, 10)
"""Indexes of what describes a car: the check digit says nothing, and the rest is a counter."""

_PARTS = 5
"""Characters, of the maker and the model, after which year and plant are counted by themselves."""


def described(vin: str) -> str:
    """Return what describes the car in the 17 characters ``vin``."""
    return "".join(vin[place] for place in _PLACES)


def familiarity(vin: str) -> float:
    """Return how much likelier the maker's cars are described so than by chance, as a logarithm.

    About 20 for a car like many before it, below 5 where maker or model were hardly seen.
    """
    return sum(_gain(place, context, vin[:3], vin[place]) for place, context in _contexts(vin))


def _contexts(vin: str) -> Iterator[tuple[int, str]]:
    """Yield each place with the characters that tell what stands there."""
    for place in _PLACES:
        yield place, vin[:place] if place < _PLACES[_PARTS] else vin[:_PARTS]


@lru_cache(maxsize=8192)
def _gain(place: int, context: str, maker: str, character: str) -> float:
    """Return the logarithm of how much likelier than by chance ``character`` is at ``place``.

    Witten and Bell's interpolation (1991): what followed ``context`` counts in proportion to how often that
    was seen, and the rest is left to the maker's other cars, and at last to chance.
    """
    likelihood = 1 / len(ALPHABET)
    for key in ((place, maker), (place, context)):
        followers = _followers().get(key)
        if followers:
            seen = sum(followers.values())
            likelihood = (followers.get(character, 0) + len(followers) * likelihood) / (seen + len(followers))
    return math.log(likelihood * len(ALPHABET))


@cache
def _followers() -> dict[tuple[int, str], dict[str, int]]:
    """Count which characters stand where, by maker and by what stands before."""
    counts: dict[tuple[int, str], dict[str, int]] = {}
    for row in Path(__file__).with_name("descriptors.txt").read_text(encoding="utf-8").splitlines():
        maker, *kinds = row.split()
        if maker == "#":
            continue
        for kind in kinds:
            text, _, times = kind.partition("*")
            vin = f"{maker}{text[:_PARTS]}0{text[_PARTS:]}"
            for place, context in _contexts(vin):
                for key in {(place, maker), (place, context)}:
                    followers = counts.setdefault(key, {})
                    followers[vin[place]] = followers.get(vin[place], 0) + int(times or 1)
    return counts
