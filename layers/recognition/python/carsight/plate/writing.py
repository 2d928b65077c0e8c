"""Text of signs, clocks and cameras that reads like a plate: a word and a number, a date, a time."""

from __future__ import annotations

import re

_NAMING = """\
AISLE ALARM AMB APT AUSFAHRT AUTOBUS BAHN BAY BLOCK BOX BUS CAB CABLE CAFE CAM CAMERA CAR CELL CHANNEL CLASS
DECK DOCK DOOR DSC DSCF DSCN ENGINE EXIT FLEET FLOOR FPS FRAME GATE GLEIS GPS HALL HALLE HAUS HEIGHT HOTEL
HOUSE IMG IPC ISO JCT LANE LEVEL LINE LKW LOT MAX MIN MODEL NO NR NVR OPEN PAGE PIER PLATFORM PORT PUMP PXL
RAMP REC REF ROOM ROUTE ROW RUE RUN SALE SALIDA SEAT SHOP SORTIE SPEED STOP SUITE TABLE TAXI TEAM TEL TOR
TOWER TRACK TRUCK UNIT VAN VID VOIE WARD WEIGHT WIDTH ZIMMER ZONA ZONE"""
"""Words before a number on signs, on shirts and in cameras' captions."""

_SPEEDS, _COUNTED = "KMH KPH MPH FPS", "AM PM MIN HRS HOURS KG"
"""Units after a number of up to three digits (Spain has plates like 1234 MPH), and of up to four."""

_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC MAI OKT DEZ"


def _any(words: str) -> str:
    """Return a pattern for any of ``words`` as it may be read, with 0 for O and 1 for I."""
    return f"(?:{'|'.join(words.split())})".replace("O", "[O0]").replace("I", "[I1]")


_DAY, _YEAR = r"(?:[0O]?[1-9]|[12][\dO]|3[01])", r"(?:(?:19|2[0O])?[\dO]{2})"

_WRITING = re.compile(
    rf"{_any(_NAMING)}[\dO]{{0,6}}[A-Z]?"
    rf"|[\dO]{{1,3}}{_any(_SPEEDS)}|[\dO]{{1,4}}{_any(_COUNTED)}"
    rf"|{_DAY}?{_any(_MONTHS)}(?:{_DAY}?{_YEAR}|{_DAY})"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])(?:19|20)\d\d"
    r"|(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:19|20)\d\d"
)


def is_known(text: str) -> bool:
    """Return whether ``text`` (upper case) is a word and a number, a date or a time."""
    return _WRITING.fullmatch(text) is not None
