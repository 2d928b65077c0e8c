"""What is known about VINs without seeing them: the check digit, who must have one, and the makers' prefixes.

The rules of ISO 3779 and 3780 and of 49 CFR 565. Most European and Russian VINs have no check digit, and no
table of makers is complete: ``ranking`` weighs what this module knows.
"""

from __future__ import annotations

import operator
import re
from pathlib import Path

ALPHABET = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"
"""What a VIN may hold (ISO 3779): no I, O, Q."""

_SIGNS = frozenset(ALPHABET)

LENGTH = 17

_VALUE = dict(zip(ALPHABET, map(int, "012345678912345678123457923456789"), strict=True))
_WEIGHT = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_WEIGHED = tuple({character: weight * value for character, value in _VALUE.items()} for weight in _WEIGHT)

CHECK_PLACE = 8
"""Index of the check digit, position 9 of 17."""

YEAR_PLACE = 9
"""Index of the model year's code, position 10, where 49 CFR 565 applies: never 0, U or Z."""


def _read_makers() -> dict[str, str]:
    rows = Path(__file__).with_name("makers.txt").read_text(encoding="utf-8").splitlines()
    entries = (entry for row in rows if not row.startswith("#") for entry in row.split())
    return {entry[:3]: entry[3:] for entry in entries}


_MAKERS = _read_makers()
"""Prefix of three characters -> its marks in makers.txt."""

_REGIONS = frozenset(prefix[:2] for prefix in _MAKERS) - {"1Z"}
"""What their prefixes begin with. 1Z is left out: UPS's tracking numbers begin with it, and of those read
without one of their 18 characters one in eleven has a valid check digit."""


def is_vin(text: str) -> bool:
    """Whether ``text`` is 17 characters that a VIN may hold."""
    return len(text) == LENGTH and _SIGNS.issuperset(text)


def check_digit(vin: str) -> str:
    """Return what position 9 of the 17 characters ``vin`` must be (49 CFR 565.15): "0" to "9" or "X"."""
    rest = sum(map(operator.getitem, _WEIGHED, vin)) % 11
    return "X" if rest == 10 else str(rest)


def is_valid(vin: str) -> bool:
    """Whether the check digit of ``vin`` holds."""
    return is_vin(vin) and vin[CHECK_PLACE] == check_digit(vin)


def check_applies(vin: str) -> bool:
    """Whether ``vin`` must have a check digit: made in or for North America, or in China.

    49 CFR 565.15 (first character 1-5, and 7 but for 7A-7E, which are New Zealand's in ISO 3780) and
    GB 16735 (L, and H as China's second range). Makers elsewhere may put anything at position 9.
    """
    first = vin[:1]
    return first in {"1", "2", "3", "4", "5", "L", "H"} or (first == "7" and vin[1:2] not in set("ABCDE"))


def known_maker(vin: str) -> bool:
    """Whether the first three characters are a maker's in makers.txt. Unknown ones are common too."""
    return vin[:3] in _MAKERS


def known_region(vin: str) -> bool:
    """Whether some maker in makers.txt has the first two characters, which stand for a country."""
    return vin[:2] in _REGIONS


def common_maker(vin: str) -> bool:
    """Whether the first three characters are those of one of the most common makers."""
    return "+" in _MAKERS.get(vin[:3], "")


_WORDS = re.compile("TRACK1NG|TRANS|1NV01CE|MATER1AL|SUPPL|SUPP0RT|LENGTH|LEN0V0")
"""Words of labels that begin like a maker's prefix, I and O read as 1 and 0."""


def begins_with_word(vin: str) -> bool:
    """Whether ``vin`` begins with a word of labels that looks like a maker's prefix.

    "Tracking 837140408" has 17 characters, and TRA is the prefix of Ikarus.
    """
    return _WORDS.match(vin) is not None


def describes_by_digits(vin: str) -> bool:
    """Whether the maker of ``vin`` describes some of its cars by digits alone: Fiat, Mercedes-Benz, Lada."""
    return "d" in _MAKERS.get(vin[:3], "")


def breaks_filling(vin: str) -> bool:
    """Whether a Volkswagen group VIN has some, but not all, of the Z that fill positions 4-6."""
    return "z" in _MAKERS.get(vin[:3], "") and 0 < vin[3:6].count("Z") < 3
