"""Recognizing names of other numbers, before or above a line, as the small reader sees them.

The small reader knows the characters of VINs and no words: it reads "Serial number" as SEMALNUMBER, and
"Invoice no." as LMV0LCEN0. So names are compared by an edit distance with lower costs for characters that it
confuses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from carsight.geometry import Floats
from carsight.vin.line_reader import grown, height, length
from carsight.vin.readers import Line, Readers
from carsight.vin.rules import LENGTH
from carsight.vin.text_lines import Print, shapes, whole_line
from carsight.vin.tuning import CropMargins
from carsight.vin.views import View, quarters_to_upright

_SHORTEST = 1.2
"""The shortest name before a line, in characters: S/N takes 1.7 and more, noise up to 0.8."""

_PARTS = (12.0, 24.0)
"""How many characters before a number the crops begin in which the small reader looks for its name. They are
as long as a VIN; the second one shows what is before "number" in longer names."""

_MARGINS = CropMargins(sides=0.25)
"""Small letters extend beyond corners that the detector has found for capitals and digits."""

_PREFIX = 3
"""The length of a maker's prefix."""

_SPACE = 4.0
"""The widest space between a name and its number, relative to the number's pitch."""

_OVERLAP, _INSIDE, _ABOVE, _ALIGNED, _LONGEST = 0.6, 0.2, 2.5, 1.5, 30
"""Limits for a title above a number, in heights of the number: how far the title, and its center, may extend
into the number; how far above it may be; and how far its left end or its center may be from the number's. The
last one is how many characters it may have."""

_OTHERS = (
    "SER1AL", "SER1EN", "MATR1C0LA", "PART", "ART1CLE", "ART1KEL", "MATER1AL", "M0DEL", "DEV1CE",
    "ASSET", "SERV1CE", "L1CENSE", "L1CENCE", "0RDER", "0RDEN", "BESTELL", "AUFTRAG", "C0MMANDE", "1NV01CE",
    "FACTURE", "RECE1PT", "T1CKET", "V0UCHER", "C0UP0N", "B00K1NG", "CUST0MER", "KUNDEN", "ACC0UNT", "P0L1CY",
    "VERS1CHERUNG", "CLA1M", "C0NTRACT", "CERT1F1CATE", "APPR0VAL", "REFERENCE", "SESS10N", "RECHNUNG",
    "T0KEN", "TRACK1NG", "SENDUNG", "PARCEL", "SH1PMENT", "C0NTA1NER", "BATCH", "CHARGE", "ENG1NE", "M0T0R",
    "M0TEUR", "GEARB0X", "GETR1EBE", "TRANSM1SS10N", "TRANSACT10N", "TE1LE", "TYP", "CASE", "D0CUMENT",
    "D0KUMENT", "PR0DUCT", "PR0DUKT", "VERTRAG", "V0RGANG", "K0NT0", "L1CENSEKEY", "L1CENCEKEY",
)  # fmt: skip
"""Names of other numbers, with I, O and Q as seen by a reader of VINs."""

_PITCHES = (0.7, 1.0)
"""Possible widths of a title's characters, relative to the pitch of capitals: small letters are narrower."""

_ABBREVIATED = re.compile(
    "(?:[S5P][71JLT]?N|SER(?=[NM]|$)|L0[TL](?!US)|REF|SKU|[1JLT]?CC[1JLT]D|[1JLT]TEM).{0,4}|[1JLT]ME[1JLT]|[1JLT]D"
)
"""Short names of other numbers, in which few errors are allowed, and what may be seen of a colon or number
after them: S/N, P/N, Ser., lot, Ref., SKU, ICCID, item, IMEI, ID. The last two are whole, or TIME and TDI
would be names as well.
"""

_BARE = re.compile(
    "[S5P][71JLZT]?N[29FHX]?|SE[RZ]|SCZ|L0[TLEF]|RE[FTE]|SKU|[1JLT]M[EB3][1JLTF]|[1JLT]?CC[1JLT]D|[1JLTH]TEM"
)
"""The same as the whole of a title, without ID (a colon may look like another character)."""

_ID = re.compile("[1JLT]D")

_PIN = re.compile("P.?N.{0,2}")
"""P/N, or PIN, which names the VIN of a machine: only the slash tells them apart."""

_LEANS, _STROKE = 0.12, 0.5
"""How far the left edge of an I leans at most, relative to that of the P before it, and how wide its stroke
is at most, in widths of that P."""

_BEFORE_NUMBER = re.compile("S[EC0]?[RTZN]?")
"""What Ser. may look like if "No." follows."""

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
"""Parts of names of a VIN, whatever is beside them, as in "Chassis serial number"."""

_LIKE_A_VIN = {
    "BESTELL": "GESTELL", "SER1AL": "SER1E", "SER1EN": "SER1E",
    "M0DEL": "R0DE", "0RDER": "R0DE", "0RDEN": "R0DE", "M0T0R": "R0DE",
}  # fmt: skip
"""Names of other numbers, and the similar part of a VIN's name: Fahrgestellnummer, número de serie."""

_SERIE = "SER1E"
"""The name of another number if "number" follows (Dutch, Danish). By itself or after "number" ("N° de série",
"Número de serie") it may name a VIN, on French and Mexican papers, or another number, on goods, and is no
evidence."""

_VIN = re.compile("V[1JLT]?N|^F[1JLT]?N(?!G[1JLN])|N[1JLTZ]?V.?$")
"""VIN, FIN or NIV. The second one must not match ENGINE, whose E looks like an F."""

_NUMBER = re.compile("[NM][U1L]*[MNU][M1]*[BDM8]+[E8CA]?[RTN]?.{0,2}$")
"""Number or Nummer at the end of a name. It must not match ORDER."""

_TITLE_ENDS = re.compile(
    "(?:[NMRH][U1L]*[MNU][M1]*[BDM81]+[E8CAG]?[RTNF]?.{0,2}|[NMH][0RKF].?|(?<![1JLT])[1JLF]D)$"
)
"""Number, No., Nr. or ID at the end of a title."""

_NO, _MOST_OF_NO = "N0", 1.5
"""No., and what finding it after a word may cost at most; 2 if there is nothing."""

_NUMBERS, _NUMERO = ("NUMBER", "NUMMER"), re.compile("N.?.?ME?R0")
"""Number or Nummer anywhere in a name, and número at its beginning."""

_LONGER, _LONG = 2, 5
"""How many characters a title may have besides its name, and how many a title with a short name in all."""

_TITLE_COST, _SURELY = (0.18, 0.26), 0.1
"""The highest costs of edits per character, for short and for longer words, at which a title with "number" is
another number's name; they are higher as its end and length are evidence too. And the highest for one without
"number"."""

_WORDS = frozenset({"M0DEL", "M0T0R", "ENG1NE", "TRANSM1SS10N", "GEARB0X", "GETR1EBE", "TYP"})
"""Words that may also describe the vehicle, and so do not count without "number"."""

_LABELS = (
    "PA1NT", "PA1NTTR1M", "SEDAN", "1MP0RT", "EXP0RT", "SP0RT", "P0RT", "TRANSP0RT", "PASSENGER", "PASSAT",
    "FACT0RY", "MARKET", "MARKE", "MADE1N", "FRANCE", "SPA1N", "SWEDEN", "C0RP0RAT10N", "CERT1F1ED",
    "MATER1A", "SANDER0", "S0RENT0", "SERENA", "CHARGER", "PARTNER", "C0MMANDER", "B0RDER", "PLACES",
    "1NSURANCE", "RAC1NG",
)  # fmt: skip
"""Words on a vehicle's label or paper that are similar to names of other numbers."""

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
"""Characters that the small reader confuses in names."""

_THIN = frozenset("1JLTFR")
"""Characters that it overlooks, or sees although there are none."""

_CHEAP = 0.4
"""The cost of edits of such characters; others cost 1."""

_SHORT = 5
"""The most characters of a short word."""

_LONGER_WORD = 8
"""The fewest characters of a longer word."""

_OTHER_COST, _VEHICLE_COST = (0.16, 0.23), (0.1, 0.2)
"""The highest costs of edits per character at which short and longer words are another number's name, or a
VIN's.

Of 300 images of 100 names of other numbers, in eight fonts, 247 are recognized, and of 265 images of 53 names
of a VIN one is taken for another number's.
"""


def is_named_otherwise(line: Line, view: View, print_of: Print, readers: Readers) -> bool:
    """Whether ``line``, found in ``view``, has the name of another number.

    The name is before the line, or above it as a line of its own in the photo's print.
    """
    name, before = _seen_before(line, view, readers)
    if any(map(_names_a_vin, before)) or _is_pin(view, name, before):
        return False
    if names_another_number(before):
        return True
    title, above = _seen_above(line, print_of, readers)
    parts = [part for sight in above for part in sight]
    if any(map(_names_a_vin, parts)) or _is_pin(view, title, parts):
        return False
    if any(map(is_title_of_another_number, above)):
        return True
    # At one of the widths TDI often looks like ID.
    return bool(above) and all(_ID.fullmatch(sight[0]) is not None for sight in above)


def _is_pin(view: View, corners: Floats, seen: Sequence[str]) -> bool:
    """Whether the text ``seen`` within ``corners`` is PIN, a machine's VIN, and not P/N."""
    if not any(map(_PIN.fullmatch, seen)):
        return False
    letters = shapes(view, grown(corners, 0.0, 0.0, _MARGINS.sides))
    if len(letters) < 3:
        return False
    first, letter, *_ = letters
    return 0 < letter.middle < _STROKE * first.width and abs(letter.lean - first.lean) < _LEANS


def _seen_before(line: Line, view: View, readers: Readers) -> tuple[Floats, list[str]]:
    """Return the corners of the text before ``line``, and what is seen there.

    That is its last part, and the one before. If there is no room for a name the list is empty, as some
    makers' prefixes begin with PN.
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
            text = readers.text_in(readers.cut(np.stack([left[0], *right, left[1]]), _MARGINS))
            begins = text.rfind(line.vin[:_PREFIX])
            seen.append(text[:begins] if begins >= 0 else text[: round(before)])
    # The corners of a line may begin within the last letter before it.
    right = line.corners[[0, 3]] + step * np.float32(_SHORTEST)
    return np.stack([whole[0], *right, whole[3]]), seen


def _seen_above(line: Line, print_of: Print, readers: Readers) -> tuple[Floats, list[list[str]]]:
    """Return the corners of the line of print above ``line``, and what is seen there.

    That is its first and its last part, or all of it, for each of ``_PITCHES``. The list is empty if no line
    of print above begins where ``line`` does, or has the same center.
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
        return line.corners, []
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
            seen.append(readers.text_in(crop))
        sights.append(seen)
    return corners, sights


def names_another_number(seen: Sequence[str]) -> bool:
    """Whether ``seen``, the parts of the text before a number, names another number and not a VIN.

    Without "number" after it, a name has to be all of a part, or IMPORT would be a PART number.
    """
    if any(map(_names_a_vin, seen)):
        return False
    numbered = any(map(_is_numbered, seen))
    for part in seen:
        text, ended = _NUMBER.subn("", part)
        if _ABBREVIATED.fullmatch(_TITLE_ENDS.sub("", part)) or _ABBREVIATED.fullmatch(text):
            return True
        if ended and _is(_SERIE, text, _OTHER_COST):
            return True
        named = _is_other if numbered else _is_bare
        if any(named(word, text) or _is_number_of(word, text) for word in _OTHERS):
            return True
    return False


def _is_numbered(part: str) -> bool:
    """Whether ``part`` contains "number" or the like."""
    if _TITLE_ENDS.search(part) is not None or _NUMERO.match(part) is not None:
        return True
    return any(_is(word, part, _OTHER_COST) for word in _NUMBERS)


def is_title_of_another_number(seen: Sequence[str]) -> bool:
    """Whether ``seen``, the first and last part of a line above a number, is just another number's name.

    If the line continues after the name, other than with "number", it is about something else, such as ENGINE
    NO. A4711.
    """
    if not seen or any(map(_names_a_vin, seen)):
        return False
    text = _TITLE_ENDS.sub("", seen[0])
    if _TITLE_ENDS.search(seen[-1]) is None:
        return _BARE.fullmatch(text) is not None or any(
            abs(len(text) - len(word)) <= 1 and _cost(word, text) <= _SURELY
            for word in _OTHERS
            if word not in _WORDS and _is_other(word, text)
        )
    if _BEFORE_NUMBER.fullmatch(text) or (_ABBREVIATED.fullmatch(text) is not None and len(text) <= _LONG):
        return True
    return any(
        len(text) <= len(word) + _LONGER and _is_other(word, text, _TITLE_COST) for word in _OTHERS
    ) or _is(_SERIE, text, _OTHER_COST)


def _names_a_vin(part: str) -> bool:
    """Whether ``part`` of the text beside a number contains a VIN's name."""
    text = _NUMBER.sub("", part)
    return _VIN.search(part) is not None or any(_is(word, text, _VEHICLE_COST) for word in _VEHICLES)


def _is_other(word: str, text: str, costs: tuple[float, float] = _OTHER_COST) -> bool:
    """Whether ``text`` contains ``word`` at these ``costs``.

    It does not if it looks as much like a longer word of a label, or like a VIN's name.
    """
    cost = _cost(word, text)
    if cost > costs[len(word) > _SHORT]:
        return False
    if any((_cost(label, text), len(word)) <= (cost, len(label)) for label in _LABELS):
        return False
    alike = _LIKE_A_VIN.get(word)
    return alike is None or cost < _cost(alike, text) or word in text


def _is_bare(word: str, text: str) -> bool:
    """Whether ``text`` begins with ``word``, and is hardly longer: a colon or "No." may be misread.

    Letters beside the I of a longer word may be missing, too: TRACKING is seen as TACKN.
    """
    missing = 1 + 2 * word.count("1") * (len(word) >= _LONGER_WORD)
    whole = -missing <= len(text) - len(word) <= _LONGER + 1
    return (
        whole and word not in _WORDS and _is(word, text, _OTHER_COST, begins=True) and _is_other(word, text)
    )


def _is_number_of(word: str, text: str) -> bool:
    """Whether ``text`` begins with ``word`` and, after it, "No.", of which a part may be missing: ENGNEN."""
    both = word + _NO
    if len(word) <= _SHORT or len(text) > len(both) + 1 or not _is_other(word, text):
        return False
    alone, cost = (_cost(each, text, begins=True) for each in (word, both))
    return cost <= _OTHER_COST[1] and cost * len(both) < alone * len(word) + _MOST_OF_NO


def _is(word: str, text: str, costs: tuple[float, float], *, begins: bool = False) -> bool:
    """Whether ``text`` contains ``word``, or ``begins`` with it, at the one of ``costs`` for its length."""
    return _cost(word, text, begins=begins) <= costs[len(word) > _SHORT]


def _cost(word: str, text: str, *, begins: bool = False) -> float:
    """Return the lowest cost per character of the edits that turn a part of ``text`` into ``word``.

    ``begins``: the part is at the beginning of ``text``.
    """
    # Sellers' algorithm (1980): edit distance with free ends.
    before = [float(at * begins) for at in range(len(text) + 1)]
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
    """Return the cost of taking the character ``wanted`` for ``seen``."""
    if wanted == seen:
        return 0.0
    return _CHEAP if any(wanted in alike and seen in alike for alike in _ALIKE) else 1.0
