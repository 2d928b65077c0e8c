"""What a number is by its name, as a reader that learned no words sees it."""

from __future__ import annotations

import pytest

from carsight.vin.names import is_title_of_another_number, names_another_number


@pytest.mark.parametrize(
    "seen",
    [
        ["SN"],
        ["5N"],  # S/N
        ["L0TN0"],
        ["LMV0LCEN0"],  # Invoice no.
        ["SEMALNUMBER"],  # Serial number
        ["SER1ENUMMER"],  # Serienummer
        ["TNDNUMBER", "TRACK1NGNUMBER"],  # Tracking number, and more of it
        ["BESTELLNR"],
        ["0RDERNUMBER"],
        ["NUMER0DE0RDEN"],  # N\u00famero de orden
        ["ACMES0RALN0"],  # ACME Serial no.
        ["RDERMUMLBER", "0RDERMUMLBER"],  # Order number
        ["M0DELN0"],
        ["L0L1ZC"],  # Lot, and what the number begins with
        ["PARTW"],  # Part, and a colon
        ["TACKN"],  # Tracking
        ["TRACKN"],
        ["ENGNEN"],  # Engine no.
        ["FNG1NAN"],  # ... which is no FIN
        ["FNGLNEJN0Z"],
    ],
)
def test_names_of_other_numbers_are_recognized(seen: list[str]) -> None:
    assert names_another_number(seen)


@pytest.mark.parametrize(
    "seen",
    [
        [],
        [""],
        ["E"],
        ["VTN"],
        ["FLNNR"],  # FIN-Nr.
        ["CHASSLSN0"],
        ["SERALNUMBER", "CHASS1SSER1ALNUM"],  # Chassis serial number
        ["10NNUMBER", "ENT1F1CAT10NNUMBE"],  # Identification number
        ["GESTELLNR"],
        ["STELLNUMMER", "AHRGESTELLNUMMER"],
        ["NUMER0DTELA10"],
        ["N9DESER1E"],  # N\u00b0 de s\u00e9rie, of cars and of other goods
        ["SERE"],
        ["R0DESER1E", "NUMER0DESER1EV"],  # N\u00famero de serie
        ["SARENV"],  # Serie NIV
        ["NRNADW0ZJA"],  # of no language that is known here
        ["TME"],  # Time
        ["MET"],  # MEI
        ["PATNT"],  # Paint
        ["TDT"],  # TDI
        ["M0DEL"],
        ["M0DELYEAR", "M0DELYEARVS"],
        ["MADETN", "MADETN"],  # Made in
        ["SEDAN"],
        ["SEAT"],
        ["MAKE"],
        ["LMP0RT"],  # Import, which contains PART but for a letter
        ["SSENGERCAR", "PASSENGERCAR"],
        ["FACT0RY"],
        ["FEDERAL"],
        ["ENG1NE"],
        ["ENGNE"],
        ["TRANSM1SS10N"],
        ["TRUCK"],
        ["CUST0M"],
        ["RACTNG"],
        ["ENGTNEERNG"],
        ["FTNZ"],  # FIN, and a colon
    ],
)
def test_names_of_vins_and_unknown_ones_are_not(seen: list[str]) -> None:
    assert not names_another_number(seen)


@pytest.mark.parametrize(
    "seen",
    [
        ["SN"],
        ["REFN0"],
        ["SERTALN0"],
        ["ENG1NEN0"],
        ["SEMALNUMBER"],
        ["LV0CENUMBER"],  # Invoice number
        ["TFACK1NGNUMBGR"],
        ["REFERENC0"],
        ["DVCELD"],  # Device ID
        ["P7N"],
        ["SNX"],  # S/N:
        ["SEZN0"],  # Ser. No.
        ["SCRN0"],
        ["L0L"],  # Lot
        ["TMET"],  # IMEI
    ],
)
def test_titles_of_other_numbers_are_recognized(seen: list[str]) -> None:
    assert is_title_of_another_number(seen)


@pytest.mark.parametrize("word", ["SET", "SCR", "RCF", "TEM", "LEM", "RAF"])
def test_short_words_above_a_number_are_no_titles(word: str) -> None:
    assert not is_title_of_another_number([word])


@pytest.mark.parametrize(
    "seen",
    [
        [],
        ["VN"],
        ["FN"],
        ["NTV"],  # NIV
        ["M1"],
        ["TYPE"],
        ["PNT"],  # Paint
        ["CHA55SN0"],
        ["VAHCEJDENTFCAT0NNUM", "EJDENTFCAT0NNUMBER"],  # Vehicle identification number
        ["FAHRGESTE11NUM1ER"],
        ["PAHTGE5ELNUMMER"],
        ["N9DESE"],  # N\u00b0 de s\u00e9rie
        ["H0NDAM0T0RC0LTD"],
        ["HYUNDATM0T0RC0MP", "NDATM0T0RC0MPANY"],
        ["M0DEL"],
        ["M0DELCVC"],  # Model: Civic
        ["ENGNEN0G4FC12345", "NGNEN0G4FC123456"],  # of the engine's own number
        ["0RDERDETALS"],
        ["MARKETP"],  # Marke / Typ
        ["TTME"],
        ["TME9"],
        ["ME1"],  # MEI
        ["PANT"],
        ["TDL"],  # TDI
        ["MP0RT"],
    ],
)
def test_other_lines_above_a_number_are_no_titles_of_other_numbers(seen: list[str]) -> None:
    assert not is_title_of_another_number(seen)
