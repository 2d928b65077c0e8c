"""What stands before or above a number says whose it is: names as the small reader sees them.

It knows the characters of VINs, and no words: "Serial number" looks like SEMALNUMBER to it, "Invoice no."
like LMV0LCEN0. So names are compared by edits that cost less where it confuses characters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from carsight.vin.line_reader import LineReader, height, length
from carsight.vin.readers import Line, Readers
from carsight.vin.rules import LENGTH
from carsight.vin.text_lines import Print, whole_line
from carsight.vin.tuning import CropMargins
from carsight.vin.views import View, quarters_to_upright

_SHORTEST = 1.2
"""Characters before a line from which on they may be a name: S/N takes 1.7 and more, noise up to 0.8."""

_PARTS = (12.0, 24.0)
"""How many characters before a number the crops begin, as long as a VIN, in which the small reader sees its
name: the second takes in what stands before "number" in longer names."""

_MARGINS = CropMargins(sides=0.25)
"""Small letters reach beyond the corners that the detector finds of capitals and digits."""

_PREFIX = 3
"""Characters of a maker's prefix."""

_SPACE = 4.0
"""The widest space between a name and its number, in the pitch of the latter."""

_OVERLAP, _INSIDE, _ABOVE, _ALIGNED, _LONGEST = 0.6, 0.2, 2.5, 1.5, 30
"""How far a title, and its middle, reaches into its number, and how far above it is, at most; how far its
left end or its middle may be from the number's, all in the number's heights; and how many characters it may
have."""

_OTHERS = (
    "SER1AL", "SER1EN", "MATR1C0LA", "PART", "ART1CLE", "ART1KEL", "MATER1AL", "M0DEL", "DEV1CE",
    "ASSET", "SERV1CE", "L1CENSE", "L1CENCE", "0RDER", "0RDEN", "BESTELL", "AUFTRAG", "C0MMANDE", "1NV01CE",
    "FACTURE", "RECE1PT", "T1CKET", "V0UCHER", "C0UP0N", "B00K1NG", "CUST0MER", "KUNDEN", "ACC0UNT", "P0L1CY",
    "VERS1CHERUNG", "CLA1M", "C0NTRACT", "CERT1F1CATE", "APPR0VAL", "REFERENCE", "SESS10N", "RECHNUNG",
    "T0KEN", "TRACK1NG", "SENDUNG", "PARCEL", "SH1PMENT", "C0NTA1NER", "BATCH", "CHARGE", "ENG1NE", "M0T0R",
    "M0TEUR", "GEARB0X", "GETR1EBE", "TRANSM1SS10N", "TRANSACT10N",
)  # fmt: skip
"""What other numbers are called, I, O and Q as a reader of VINs sees them."""

_PITCHES = (0.7, 1.0)
"""How wide a title's characters are taken to be, in the pitch of capitals: small letters are narrower."""

_ABBREVIATED = re.compile(
    "[S5P][71JL]?N|SER(?:[NM]|$)|L0T|REF|SKU|[1JLT]ME|ME[1JLT]|[1JLT]?CC[1JLT]D|[1JLT]TEM|[1JLT]D"
)
"""The same, too short for a character to be another: S/N, P/N, Ser., lot, Ref., SKU, IMEI, ICCID, item, ID.
"""

_BARE = re.compile(
    "[S5P][71JLZ]?N[29FHX]?|SE[RZ]|SCZ|L0[TLEF]|RE[FTE]|SKU|[1JLT]M[EB3][1JLTF]?|ME[1JLT]"
    "|[1JLT]?CC[1JLT]D|[1JLTH]TEM|[1JLT]D"
)
"""The same as all that a title says, by itself (a colon may look like another character), ..."""

_BEFORE_NUMBER = re.compile("S[EC0]?[RTZN]?")
"""... and what Ser. may look like before "No." as well."""

_VEHICLES = (
    "CHASS1S",
    "CHASS1",
    "FRAME",
    "1DENT",
    "DENT1F1CAT",
    "FAHRGESTEL",
    "UNDERSTEL",
    "TELA10",
    "BAST1D0R",
    "VEH1CLE",
)
"""What holds the name of a VIN, whatever it says beside it: "Chassis serial number"."""

_LIKE_A_VIN = {
    "BESTELL": "GESTELL", "SER1AL": "SER1E", "SER1EN": "SER1E",
    "M0DEL": "R0DE", "0RDER": "R0DE", "0RDEN": "R0DE", "M0T0R": "R0DE",
}  # fmt: skip
"""Other numbers' names, and the part of a VIN's that is like each: Fahrgestellnummer, número de serie."""

_SERIE = "SER1E"
"""Another number's name before "number" (Dutch, Danish). By itself or behind it ("N° de série", "Número de
serie") it is what French and Mexican papers call a VIN, and goods other numbers: it says nothing."""

_VIN = re.compile("V[1JLT]?N|^F[1JLT]?N|N[1JLTZ]?V.?$")
"""VIN, FIN or NIV."""

_NUMBER = re.compile("[NM][U1L]*[MNU][M1]*[BDM8]+[E8CA]?[RTN]?.{0,2}$")
"""Number, Nummer, at the end of a name; ORDER is not to be found there."""

_TITLE_ENDS = re.compile(
    "(?:[NMRH][U1L]*[MNU][M1]*[BDM81]+[E8CAG]?[RTNF]?.{0,2}|[NMH][0RKF].?|(?<![1JLT])[1JLF]D)$"
)
"""Number, No., Nr. or ID at the end of a title."""

_LONGER, _LONG = 2, 5
"""How many characters a title may have beside the name that it holds, and an abbreviated one at all."""

_TITLE_COST, _SURELY = (0.18, 0.26), 0.1
"""Cost of edits per character up to which a title is another number's name, as its end and its length speak
for that, too; and up to which one without "number" is, ..."""

_WORDS = frozenset({"M0DEL", "M0T0R", "ENG1NE"})
"""... and what it may say of the vehicle."""

_ALIKE = tuple(
    map(
        frozenset,
        (
            "1JLTF7RK",
            "0DUCG9",
            "MNRHW",
            "B8R3D",
            "S5",
            "ECFG86",
            "AV482",
            "PDRF",
            "VYU",
            "Z27",
            "XK",
            "E0AB8",
        ),
    )
)
"""Characters that the small reader takes for each other in names."""

_THIN = frozenset("1JLTFR")
"""Characters that it overlooks or sees where there are none."""

_CHEAP = 0.4
"""What such an edit costs; others cost 1."""

_SHORT = 5
"""Characters of a short word, at most."""

_OTHER_COST, _VEHICLE_COST = (0.16, 0.23), (0.1, 0.2)
"""Cost of edits per character up to which short and longer words are another number's name, or a VIN's.

Of 300 sights of 100 names of other numbers, in eight fonts, 247 are recognized, and of 265 sights of 53
names of a VIN one is taken for one of these.
"""


def is_named_otherwise(line: Line, view: View, print_of: Print, readers: Readers, small: LineReader) -> bool:
    """Whether ``line``, found in ``view``, has the name of another number, as ``small`` reads it.

    It stands before the line, or above it by itself, in the photo's print.
    """
    before = _seen_before(line, view, readers, small)
    if any(map(_names_a_vin, before)):
        return False
    if names_another_number(before):
        return True
    above = _seen_above(line, print_of, readers, small)
    return not any(_names_a_vin(part) for sight in above for part in sight) and any(
        map(is_title_of_another_number, above)
    )


def _seen_before(line: Line, view: View, readers: Readers, small: LineReader) -> list[str]:
    """Return what the small reader sees of the text before ``line``: its last part, and the one before.

    Where there is no room for a name that is nothing: some makers' prefixes begin with PN.
    """
    whole = whole_line(view, line.corners, LENGTH, _SPACE)
    room = math.dist(whole[0], line.corners[0]) * LENGTH / max(length(line.corners), 1e-3)
    step = (line.corners[[1, 2]] - line.corners[[0, 3]]) / np.float32(LENGTH)
    seen = []
    for least, most in zip((_SHORTEST, _PARTS[0]), _PARTS, strict=True):
        if room > least:
            before = min(room, most)
            left = line.corners[[0, 3]] - step * np.float32(before)
            right = left + step * np.float32(LENGTH)
            text = small.glance(readers.cut(np.stack([left[0], *right, left[1]]), _MARGINS), 1.0).greedy
            begins = text.rfind(line.vin[:_PREFIX])
            seen.append(text[:begins] if begins >= 0 else text[: round(before)])
    return seen


def _seen_above(line: Line, print_of: Print, readers: Readers, small: LineReader) -> list[list[str]]:
    """Return what the small reader sees of the line of print above ``line``, once in each of ``_PITCHES``.

    That is its first and its last part, or all of it; nothing where there is none that begins where ``line``
    does, or is centered as it is.
    """
    high, long = height(line.corners), max(length(line.corners), 1e-3)
    across = (line.corners[1] - line.corners[0]) / np.float32(long)
    down = np.array([-across[1], across[0]], np.float32)  # the corners may be of a leaning line
    nearest, title = _ABOVE * high, None
    for each in print_of(quarters_to_upright(line.corners)):
        off = each.corners - line.corners[0]
        x, y = off @ across, off @ down
        aligned = min(abs(float(x[[0, 3]].mean())), abs(float(x.mean()) - long / 2)) < _ALIGNED * high
        above, itself = -float(y[2:].mean()), float(y.mean()) > _INSIDE * high
        if aligned and not itself and -_OVERLAP * high < above < nearest:
            nearest, title = above, each
    if title is None or title.characters > _LONGEST:
        return []
    corners = title.corners
    long = length(corners)
    along = (corners[[1, 2]] - corners[[0, 3]]) / np.float32(long)
    sights = []
    for pitch in _PITCHES:
        part = pitch * long / title.characters * LENGTH
        seen = []
        for begins in (0.0, long - part) if long > part else (0.0,):
            left = corners[[0, 3]] + along * np.float32(begins)
            right = left + along * np.float32(part)
            crop = readers.cut(np.stack([left[0], *right, left[1]]), CropMargins())
            seen.append(small.glance(crop, 1.0).greedy)
        sights.append(seen)
    return sights


def names_another_number(seen: Sequence[str]) -> bool:
    """Whether ``seen``, what the small reader sees of parts of the text before a number, names no VIN."""
    other = False
    for part in seen:
        if _names_a_vin(part):
            return False
        text, numbered = _NUMBER.subn("", part)
        other = (
            other
            or _ABBREVIATED.match(text) is not None
            or any(_is_other(word, text) for word in _OTHERS)
            or (numbered > 0 and _is(_SERIE, text, _OTHER_COST))
        )
    return other


def is_title_of_another_number(seen: Sequence[str]) -> bool:
    """Whether ``seen``, the first and the last part of a line above a number, is no VIN's name, and no more.

    A line that goes on behind the name, unless with "number", tells of something else: ENGINE NO. A4711.
    """
    if not seen or any(map(_names_a_vin, seen)):
        return False
    text = _TITLE_ENDS.sub("", seen[0])
    if _TITLE_ENDS.search(seen[-1]) is None:
        return _BARE.fullmatch(text) is not None or any(
            abs(len(text) - len(word)) <= 1 and _cost(word, text) <= _SURELY
            for word in _OTHERS
            if word not in _WORDS
        )
    if _BEFORE_NUMBER.fullmatch(text) or (_ABBREVIATED.match(text) is not None and len(text) <= _LONG):
        return True
    return any(
        len(text) <= len(word) + _LONGER and _is_other(word, text, _TITLE_COST) for word in _OTHERS
    ) or _is(_SERIE, text, _OTHER_COST)


def _names_a_vin(part: str) -> bool:
    """Whether ``part`` of the text beside a number holds a VIN's name."""
    text = _NUMBER.sub("", part)
    return _VIN.search(part) is not None or any(_is(word, text, _VEHICLE_COST) for word in _VEHICLES)


def _is_other(word: str, text: str, costs: tuple[float, float] = _OTHER_COST) -> bool:
    """Whether ``text`` holds ``word`` at these ``costs``, and not the name of a VIN that is like it."""
    if not _is(word, text, costs):
        return False
    alike = _LIKE_A_VIN.get(word)
    return alike is None or _cost(word, text) < _cost(alike, text) or word in text


def _is(word: str, text: str, costs: tuple[float, float]) -> bool:
    """Whether ``text`` holds ``word``, at the one of ``costs`` that holds for its length."""
    return _cost(word, text) <= costs[len(word) > _SHORT]


def _cost(word: str, text: str) -> float:
    """Return the least cost per character of the edits that make ``word`` of a part of ``text``."""
    # Sellers' algorithm (1980): edit distance with free ends.
    before = [0.0] * (len(text) + 1)
    for wanted in word:
        missing = _CHEAP if wanted in _THIN else 1.0
        row = [before[0] + missing]
        for at, seen in enumerate(text):
            more = _CHEAP if seen in _THIN else 1.0
            row.append(min(before[at] + _other(wanted, seen), before[at + 1] + missing, row[at] + more))
        before = row
    return min(before) / len(word)


@cache
def _other(wanted: str, seen: str) -> float:
    """Return what it costs to take the character ``wanted`` for ``seen``."""
    if wanted == seen:
        return 0.0
    return _CHEAP if any(wanted in alike and seen in alike for alike in _ALIKE) else 1.0
