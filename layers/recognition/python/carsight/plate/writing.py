"""Text of signs, clocks and cameras that reads like a plate: a word and a number, a date, a time."""

from __future__ import annotations

import re

_NAMING = """\
AISLE ALARM AUSFAHRT AUTOBUS AVENUE BAHN BLOCK CABLE CAFE CALLE CAMERA CASE CELL CHANNEL CLASS CODE DECK DESK
DOCK DOOR DRIVE DSCF DSCN ENGINE EXIT FLAT FLEET FLOOR FRAME GATE GLEIS HALL HALLE HAUS HEIGHT HIGHWAY HOTEL
HOUSE ITEM LANE LEVEL LIFT LIGNE LINE LINHA LINIE LOCKER METRO MODEL OPEN PAGE PART PIER PLACE PLATFORM PLATZ
PORT PRICE PUMP RACK RAMP ROAD ROOM ROUTE SALE SALIDA SEAT SHELF SHOP SIZE SORTIE SPEED STALL STAND STATION
STOP STORE STREET SUITE TABLE TAXI TEAM TOWER TRACK TRAIN TRAM TRUCK UNIT VOIE WARD WEIGHT WIDTH WIFI WING
ZIMMER ZONA ZONE"""
"""Words before a number, or a letter and a number, on signs, shirts and labels and in cameras' captions."""

_SHORT = """\
AMB APT AVE BAY BIN BOX BUS CAB CAM CAR DSC EXT FAX FPS GPS HWY IMG IPC ISO JCT KM LKW LOT MAX MIN NO NR NVR
PIN PXL QTY REC REF RM ROW RUA RUE RUN SKU STR TEL TOR VAN VID"""
"""Words before a number alone: with another letter they begin other words, as in VANS 57."""

_SPEEDS, _COUNTED = "KMH KPH MPH FPS", "AM PM MIN HRS HOURS KG"
"""Units after a number of up to three digits (Spain has plates like 1234 MPH), and of up to four."""

_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC MAI OKT DEZ"


def _any(words: str) -> str:
    """Return a pattern for any of ``words`` as it may be read, with 0 for O and 1 for I."""
    return f"(?:{'|'.join(words.split())})".replace("O", "[O0]").replace("I", "[I1]")


_DAY, _YEAR = r"(?:[0O]?[1-9]|[12][\dO]|3[01])", r"(?:(?:19|2[0O])?[\dO]{2})"

_WRITING = re.compile(
    rf"(?:{_any(_NAMING)}[A-Z]?|{_any(_SHORT)})[\dO]{{0,6}}[A-Z]?"
    rf"|[\dO]{{1,3}}{_any(_SPEEDS)}|[\dO]{{1,4}}{_any(_COUNTED)}"
    rf"|{_DAY}?{_any(_MONTHS)}(?:{_DAY}?{_YEAR}|{_DAY})"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])(?:19|20)\d\d"
    r"|(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:19|20)\d\d"
)


def is_known(text: str) -> bool:
    """Return whether ``text`` (upper case) is a word and a number, a date or a time."""
    return _WRITING.fullmatch(text) is not None
