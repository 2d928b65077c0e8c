"""Where plates are from: the region codes of answers and hints, and the texts that each region issues.

A code is a country (ISO 3166-1 alpha-2, lower case) or, for countries whose states issue plates of their own
design, country and state (ISO 3166-2): ``gb``, ``us``, ``us-ca``, ``ca-on``, ``au-vic``, ``br-sp``. What is
known about each is in regions.toml, which explains its own syntax.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class RegionRules(NamedTuple):
    """What is known about a region's plates: its series, the letters in use, and what is never issued.

    ``letters`` is "" if all letters are in use, and ``never``, a regular expression, if all texts are issued.
    """

    series: tuple[str, ...] = ()
    letters: str = ""
    never: str = ""


_SOURCE = Path(__file__).with_name("regions.toml")
_COMPILED = _SOURCE.with_suffix(".json")
"""The same as JSON, read in a tenth of the time; ``compile_table`` writes it when an image is built."""


def _table() -> dict[str, Any]:
    try:
        compiled: dict[str, Any] = json.loads(_COMPILED.read_bytes())
    except FileNotFoundError:
        import tomllib

        return tomllib.loads(_SOURCE.read_text(encoding="utf-8"))
    return compiled


def compile_table() -> None:
    """Write regions.toml as JSON, for an installation that does not change any more."""
    _COMPILED.unlink(missing_ok=True)
    _COMPILED.write_text(json.dumps(_table(), separators=(",", ":")), encoding="utf-8")


_TABLE = _table()

CODES = frozenset(_TABLE["countries"].split()) | {
    f"{country}-{state}" for country, states in _TABLE["states"].items() for state in states.split()
}
"""Every code that an answer may name and that a caller may give as a hint."""

_MISMATCH = 0.06
"""How often a text that matches no series of its country occurs, relative to one that does: owners choose
texts, and there are old series and trade plates."""

_LONG, _LONG_MISMATCH = 8, 0.006
"""From how many characters on a text is long, and the same factor for long texts, except in ``CHOOSING``."""

CHOOSING = frozenset({"us", "ca", "au", "nz"})
"""Countries where many owners choose their text, which then matches no series."""

_UNLISTED = 0.35
"""The factor for every text of a country without listed series."""

_CHECKED = 10.0
"""How much a valid check letter counts in favor of a region: by chance one text in nineteen has one."""

_NORTHERN_IRISH = frozenset(f"{letter}Z" for letter in "ABCDEFGHJKLMNOPRSTUVWXY") | {
    "IA", "IB", "IG", "IJ", "IL", "IW", "JI", "OI", "UI", "XI"
}  # fmt: skip
"""The codes of Northern Ireland's counties and cities, the last two letters of a number, with an I or a Z."""

_OF_A_COUNTY = 5.0
"""How much such a code counts in favor of the region: there are 33 among 676 pairs of letters."""

_LAST_GRAY = "Q"
"""The last first letter of Brazil's gray plates, which have three letters and four digits.

Plates with later first letters are Mercosur's, with a letter among the digits. Of 423 labeled plates none is
gray and begins with a later one.
"""

_FORM = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", "A" * 26 + "9" * 10)


def plausibilities(text: str, codes: tuple[str, ...]) -> NDArray[np.float64]:
    """Return how well a text (upper case) fits the series of each region: 1 if it fits, otherwise less.

    Three countries have a rule as well: Singapore's last letter is computed from the rest, Northern Ireland's
    letters end in a county's code, Brazil's gray plates begin with a letter up to Q. A text that breaks such
    a rule does not fit; if few texts would follow the rule by chance, one that does fits by more than 1.
    """
    unlisted, by_form = _index(codes)
    fits: NDArray[np.float64] = unlisted[int(len(text) >= _LONG)]
    if form := by_form.get(text.translate(_FORM)):
        fits = fits.copy()
        fits[form.fitting] = 1
        for place, series, letters, never, rule in form.candidates:
            if fits[place] < 1 and may_stand(text, series, letters) and not (never and never.search(text)):
                fits[place] = max(fits[place], rule(text) if rule else 1)
    return fits


def _fit_of_singapore(text: str) -> float:
    return _CHECKED if text[-1] == singapore_letter(text[:-1]) else 0.0


def _fit_of_brazil(text: str) -> float:
    letters = text.rstrip("0123456789")
    gray = (len(letters), len(text)) == (3, 7)
    return 0.0 if gray and letters[0] > _LAST_GRAY else 1.0


def _fit_of_britain(text: str) -> float:
    letters = text.rstrip("0123456789")
    digits = len(text) - len(letters)
    # Only Northern Irish plates have three letters and four digits, or an I or a Z and digits at the end.
    if digits and ((len(letters), digits) == (3, 4) or "Z" in letters or "I" in letters):
        return _OF_A_COUNTY if letters[-2:] in _NORTHERN_IRISH else 0.0
    return 1.0


_RULES: dict[str, Callable[[str], float]] = {
    "br": _fit_of_brazil,
    "gb": _fit_of_britain,
    "sg": _fit_of_singapore,
}
"""By country: how well a text of one of its series fits by a further rule for its letters."""


def fits_series(text: str, code: str) -> bool:
    """Return whether ``text``, in either case, fits the series of one region; never, if none are listed."""
    return bool(plausibilities(text.upper(), (code,))[0] >= 1)


def singapore_letter(text: str) -> str:
    """Return the check letter of a number of Singapore such as "SBA1234" (upper case).

    It is computed from the prefix's last two letters and the four digits, weighted by the Land Transport
    Authority's rule.
    """
    letters = text.rstrip("0123456789")
    values = [
        *(ord(letter) - 64 for letter in letters[-2:].rjust(2, "@")),
        *map(int, text[len(letters) :].zfill(4)),
    ]
    total = sum(weight * value for weight, value in zip((9, 4, 5, 4, 3, 2), values, strict=True))
    return "AZYXUTSRPMLKJHGEDCB"[total % 19]


def may_stand(text: str, series: str, letters: str = "") -> bool:
    """Return whether ``text`` (upper case) matches ``series``, with only ``letters`` if any are given."""
    return len(text) == len(series) and all(
        (sign.isalpha() and (not letters or sign in letters))
        if wanted == "A"
        else sign.isdigit() and (wanted == "9" or sign == wanted or (wanted == "1" and sign != "0"))
        for sign, wanted in zip(text, series, strict=True)
    )


class _Candidate(NamedTuple):
    """A series that a text may match: the index of its region among the given codes, and its rules."""

    place: int
    series: str
    letters: str
    never: re.Pattern[str] | None
    rule: Callable[[str], float] | None


class _Form(NamedTuple):
    """Texts of one form: the indices of the codes that all of them fit, and the series to compare."""

    fitting: list[int]
    candidates: list[_Candidate]


@functools.lru_cache(maxsize=8)
def _index(codes: tuple[str, ...]) -> tuple[NDArray[np.float64], dict[str, _Form]]:
    """Return how well short and long texts of no series fit each code, and what texts may fit, by form."""
    fits = np.full((2, len(codes)), _UNLISTED)
    by_form: dict[str, _Form] = {}
    for place, code in enumerate(codes):
        known, country = rules(code), code.partition("-")[0]
        rule = _RULES.get(country)
        never = re.compile(known.never) if known.never else None
        if known.series:
            fits[:, place] = _MISMATCH, _MISMATCH if country in CHOOSING else _LONG_MISMATCH
        for series in known.series:
            form = by_form.setdefault(series.translate(_FORM), _Form([], []))
            if known.letters or never or rule or series != series.translate(_FORM):
                form.candidates.append(_Candidate(place, series, known.letters, never, rule))
            else:
                form.fitting.append(place)
    fits.flags.writeable = False
    return fits, by_form


def rules(code: str) -> RegionRules:
    """Return what is known about ``code``; for a state without series, about its country."""
    entry = _TABLE["region"].get(code, {})
    country = code.partition("-")[0]
    if "series" not in entry and country != code:
        return rules(country)
    return RegionRules(
        tuple(entry.get("series", "").split()), entry.get("letters", ""), entry.get("never", "")
    )


def plates(code: str) -> dict[str, tuple[str, ...]]:
    """Return what the renderer draws for ``code``: texts by the names of their designs."""
    drawn = _TABLE["region"].get(code, {}).get("plates", {})
    return {name: tuple(texts.split(", ")) for name, texts in drawn.items()}


def words() -> list[tuple[str, str]]:
    """Return the words in small print on plates (upper case, no spaces), each with its region."""
    return [
        (word, code) for code, entry in _TABLE["region"].items() for word in entry.get("words", "").split()
    ]


def agrees(code: str, hint: str) -> bool:
    """Return whether one region is or contains the other, as ``us-ca`` and ``us``, whichever is the hint."""
    return code == hint or code.startswith(f"{hint}-") or hint.startswith(f"{code}-")
