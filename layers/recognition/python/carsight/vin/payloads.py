"""The VIN inside what a barcode says: alone, among a paper's fields, in a label's envelope, in a packed form.

Labels hold the VIN alone or behind the data identifier ``I`` (ANSI MH10.8.2; SAE J1877): of 29 labels on
real cars 20 held ``I`` + VIN, 7 the VIN, 1 VIN + a trailing check character, 1 no VIN. Papers hold it as
one field of many: behind ``VAD`` in the registration documents of AAMVA, between ``%`` on license discs,
between ``|`` in the compressed Aztec code of Polish papers. Letters are not folded here: a code is never in
doubt between I and 1.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
import urllib.parse
from collections.abc import Iterator
from enum import Enum

from carsight.vin import rules

_LONGEST = 16_384
"""Characters of a payload that are looked at; the largest symbol that is read here holds 7,089."""

_RUNS = re.compile("[0-9A-HJ-NPR-Z]{17,}|[0-9a-hj-npr-z]{17,}")
"""A VIN is in one case; packed data in both would otherwise hold runs of VIN characters everywhere."""

_NAMED = re.compile(
    r"""(?:
        (?<![A-Za-z]) (?:
            V\.?I\.?N | FIN | NIV                            # VIN:  V.I.N.
            | (?:VIN|FRAME) [-_ ]? (?:NO|NR|NUMBER|CODE|KÓD)  # VIN_CODE=
            | VEHICLE[ \w]*NUMBER                            # Vehicle Identification Number:
            | (?:VEHICLE|FAHRZEUG|VOERTUIG) [- ]? IDENT [-. \w]{0,20}  # Fahrzeug-Ident.-Nr.
            | (?:CHASSIS?|FAHRGESTELL|TELAIO|BASTIDOR|FRAME)
              [-_ ]? (?:NO|NR|N|NUMBER|NUMMER)?              # Fahrgestell-Nr.
            | (?:V\.?I\.?N\.?|VEHICLE|CHASSIS?|FRAME) [-_ /]{1,3}
              (?:S/?N|SERIAL) [-_. ]? (?:NO|NR|NUM|NUMBER)?  # VIN/Serial No:
        ) [^0-9A-Za-z]{0,6}
        | (?-i:[a-z]V(?:in|IN)(?:No|Number|Code)?) [^0-9A-Za-z]{0,6}    # "carVin":
        | (?:车架号码?|车辆识别代[号码]|車台番号|차대번호) [^0-9A-Za-z]{0,6}
        | VAD                                                # AAMVA's element id
        | (?<![0-9A-Za-z]) I                                 # the data identifier
    )$""",
    re.IGNORECASE | re.VERBOSE,
)
"""What stands before a VIN and says that it is one; the comments give examples."""

_NAMED_OTHERWISE = re.compile(
    r"""
    (?<![A-Za-z]) (?:S/?N|P/?N|SERIAL|SERIEN|SER|PART|ORDER|INVOICE|TRACKING|LOT|BATCH|IMEI|ICCID)
    [-_. ]? (?:NO|NR|NUM|NUMBER|NUMMER|ID)? [^0-9A-Za-z]{0,6}$  # S/N:  Part No.
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""What stands before another number and says which."""

_ELEMENT = re.compile(r"(?:(?:^|\x1d|^\x1d?01[0-9]{14})(?:21|24[01]|25[01]|8004)|\x1d(?:[0-9]?S|30S|1I))$")
"""What may directly precede a separate number: GS1's application identifiers of serial numbers and assets,
and the data identifiers of serial numbers (ANSI MH10.8.2)."""

_FIELD = re.compile(r"[0-9A-Za-z .\-_·]+")
_GROUP = re.compile("[0-9A-Za-z]+")
_MOST_GROUPS = rules.LENGTH + 1
_SHORT = 60
"""Characters up to which a payload may be a VIN and its name, whatever separates its groups."""
_PARCEL = re.compile("1Z[0-9A-Z]{16}")
"""A tracking number of UPS. One in eleven holds a VIN's check digit in its first 17 characters."""

_CODE_39 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-. $/+%"
"""The characters of Code 39 in the order of their values (ISO/IEC 16388)."""

_PACKED = re.compile(r"[0-9A-Za-z+/\s]{64,}+={0,2}\s*")
"""Possessive: many blanks could otherwise be told apart in as many ways."""
_LARGEST_PAPER = 65_536


class Place(Enum):
    """How a VIN stands in a payload."""

    NAMED = "named"
    """Behind its name, an element id or the data identifier."""
    ALONE = "alone"
    """The payload is nothing else, or it is a field of its own."""
    APART = "apart"
    """A field of its own, written in groups."""
    INSIDE = "inside"
    """At the beginning or the end of a longer run of characters."""
    NAMED_OTHERWISE = "named otherwise"
    """Behind the name of another number. Makers of trailers call their VINs serial numbers: one of
    a common maker with a valid check digit is still believed."""

    @property
    def factor(self) -> float:
        """How much likelier it is for what stands there to be a VIN."""
        return _FACTORS[self]


_FACTORS = {
    Place.NAMED: 20.0,
    Place.ALONE: 1.0,
    Place.APART: 0.3,
    Place.INSIDE: 0.02,
    Place.NAMED_OTHERWISE: 0.005,
}


def find_vins(payload: str) -> dict[str, Place]:
    """Return what may be a VIN in ``payload``, in capitals, each with the place where it is likeliest one.

    Nothing is said of makers and check digits but where 17 characters are cut out of a longer run: there both
    must hold (by chance the digit alone holds 1 time in 11, at every place of the run).
    """
    found: dict[str, Place] = {}
    for text in _readings(payload):
        for characters, place in (
            *_in_runs(text),
            *_in_groups(text),
            *_in_runs(_without_check_character(text)),
        ):
            vin = characters.upper()
            if not vin.isdigit() and (vin not in found or found[vin].factor < place.factor):
                found[vin] = place
    return found


def _readings(payload: str) -> Iterator[str]:
    """Yield what ``payload`` may say: unpacked; or as it is (unless a URL), and with its escapes undone."""
    text = payload[:_LONGEST]
    if not text.isascii():  # full-width letters, spaces that do not break, soft hyphens
        import unicodedata

        folded = unicodedata.normalize("NFKC", text)
        text = "".join(sign for sign in folded if unicodedata.category(sign) != "Cf")[:_LONGEST]
    paper = _unpacked(text)
    if paper is not None:
        yield paper
        return
    # License discs part their fields by %, which may look like an escape.
    if "://" not in text:
        yield text
    if "%" in text or "://" in text:
        yield urllib.parse.unquote(urllib.parse.unquote(text))


def _in_runs(text: str) -> Iterator[tuple[str, Place]]:
    """Yield what stands in one piece."""
    for match in _RUNS.finditer(text):
        run = match.group()
        if _PARCEL.fullmatch(run):
            continue
        before, after = text[: match.start()], text[match.end() : match.end() + 1]
        named = _NAMED.search(before[-40:]) is not None
        # Letters that no VIN holds end a run as well: what goes on there is a longer number.
        own = named or _ELEMENT.search(before[-20:]) is not None
        parted = not _is_sign(after) and (own or not _is_sign(before[-1:]))
        if len(run) == rules.LENGTH and parted:
            otherwise = _NAMED_OTHERWISE.search(before[-40:]) is not None
            yield run, Place.NAMED if named else Place.NAMED_OTHERWISE if otherwise else Place.ALONE
            continue
        for start in {0, len(run) - rules.LENGTH}:
            vin = run[start : start + rules.LENGTH]
            prefix = (before + run[:start])[-40:]
            # I, the VIN and a check character; or the name of the VIN, its letters running on into it
            if _NAMED.search(prefix) is not None and (start > 0 or len(run) == rules.LENGTH + 1):
                yield vin, Place.NAMED
            elif start > 0 and not _is_sign(after) and _ELEMENT.search(prefix) is not None:
                yield vin, Place.ALONE
            elif rules.is_valid(vin.upper()) and rules.known_maker(vin.upper()):
                yield vin, Place.INSIDE


def _without_check_character(text: str) -> str:
    """Return ``text`` without the check character that may end a Code 39 label; empty where none does.

    It is optional there, nothing in the symbol says whether it is one, and readers leave it in the text. The
    values of the characters before it add up to its own, modulo 43 (ISO/IEC 16388, annex A).
    """
    if len(text) not in (rules.LENGTH + 1, rules.LENGTH + 2) or not set(text) <= set(_CODE_39):
        return ""
    *label, last = (_CODE_39.index(character) for character in text)
    return text[:-1] if sum(label) % 43 == last else ""


def _is_sign(character: str) -> bool:
    """Whether ``character`` continues a number: a digit or an ASCII letter. Other scripts may name a VIN."""
    return character.isascii() and character.isalnum()


def _in_groups(text: str) -> Iterator[tuple[str, Place]]:
    """Yield what is in groups, separated by spaces, dashes or dots; in a short payload by anything."""
    spans = [field.span() for field in _FIELD.finditer(text)]
    if len(text) <= _SHORT:
        spans.append((0, len(text)))
    for span in spans:
        groups = list(_GROUP.finditer(text, *span))
        for first, count, joined in _joined([group.group() for group in groups]):
            marked = len(joined) > rules.LENGTH
            vin = joined[-rules.LENGTH :]
            if not rules.is_vin(vin.upper()) or not (vin.isupper() or vin.islower()):
                continue
            begin = groups[first].start()
            if marked or _NAMED.search(text[max(0, begin - 40) : begin]) is not None:
                yield vin, Place.NAMED
            elif count == len(groups):
                yield vin, Place.APART
            elif rules.is_valid(vin.upper()) and rules.known_maker(vin.upper()):
                yield vin, Place.INSIDE


def _joined(groups: list[str]) -> Iterator[tuple[int, int, str]]:
    """Yield which (the first, how many) of ``groups`` have 17 characters together, or 18 behind an I."""
    for first in range(len(groups)):
        for count, joined in enumerate(itertools.accumulate(groups[first : first + _MOST_GROUPS]), start=1):
            if len(joined) > rules.LENGTH + 1:
                break
            if count > 1 and len(joined) == rules.LENGTH + (joined[0] in "Ii"):
                yield first, count, joined


def _unpacked(text: str) -> str | None:
    """Return what the Aztec code of a Polish registration paper says; None for any other ``text``.

    Base64 of a length (4 bytes, little-endian) and a UCL NRV2E stream, in which UTF-16 fields stand between
    |.
    """
    if not _PACKED.fullmatch(text):
        return None
    try:
        data = base64.b64decode("".join(text.split()) + "===", validate=False)
    except (binascii.Error, ValueError):
        return None
    length = int.from_bytes(data[:4], "little")
    if not 2 * rules.LENGTH <= length <= _LARGEST_PAPER:
        return None
    try:
        return _inflate(data[4:], length).decode("utf-16-le")
    except (IndexError, UnicodeDecodeError):
        return None


class _Bits:
    """Bytes and single bits of an NRV2E stream: bits from the highest down, of a byte fetched for eight."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._buffer = 0

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def bit(self) -> int:
        self._buffer = self._buffer * 2 if self._buffer & 0x7F else self.byte() * 2 + 1
        return self._buffer >> 8 & 1


def _inflate(data: bytes, length: int) -> bytes:
    """Decompress ``length`` bytes of an NRV2E stream (UCL, 8-bit buffers); IndexError where it ends early."""
    source, out = _Bits(data), bytearray()
    last_distance = 1
    while len(out) < length:
        if source.bit():
            out.append(source.byte())
            continue
        distance = _distance_code(source)
        if distance == 2:
            distance, short = last_distance, source.bit()
        else:
            distance = (distance - 3) * 256 + source.byte()
            if distance >= 0xFFFFFFFF:  # the end marker
                break
            short = ~distance & 1
            distance = last_distance = (distance >> 1) + 1
        if distance > len(out):
            raise IndexError("a copy from before the beginning")
        count = _copy_length(source, short) + (distance > 0x500) + 1
        for _ in range(min(count, length - len(out))):
            out.append(out[-distance])
    return bytes(out)


def _distance_code(source: _Bits) -> int:
    code = 1
    while True:
        code = code * 2 + source.bit()
        if source.bit() or code > 0x2000000:
            return code
        code = (code - 1) * 2 + source.bit()


def _copy_length(source: _Bits, short: int) -> int:
    if short:
        return 1 + source.bit()
    if source.bit():
        return 3 + source.bit()
    length = 1
    while True:
        length = length * 2 + source.bit()
        if source.bit():
            return min(length, _LARGEST_PAPER) + 3
