"""Region codes, what plate texts say about them, and hints."""

from __future__ import annotations

import random
import re
import string
from pathlib import Path

import pytest

from carsight.plate import regions


def test_codes_are_countries_or_their_states() -> None:
    assert {"us", "us-ca", "gb", "de", "br-sp", "ca-on", "au-vic", "pk"} <= regions.CODES
    assert {"xk", "bq", "eh", "nf"} <= regions.CODES  # Kosovo; small ones that issue plates as well
    assert sum(len(code) == 2 for code in regions.CODES) == 249 + len({"xk"}), "ISO 3166-1 has 249"
    assert all(re.fullmatch(r"[a-z]{2}(-[a-z]{2,3})?", code) for code in regions.CODES)
    assert all(code.partition("-")[0] in regions.CODES for code in regions.CODES)


def test_a_compiled_table_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "_COMPILED", tmp_path / "regions.json")
    written = regions._table()
    regions.compile_table()
    assert (tmp_path / "regions.json").stat().st_size > 10_000
    assert regions._table() == written
    monkeypatch.setattr(regions, "_SOURCE", tmp_path / "regions.toml")
    assert regions._table() == written


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("AB12CDE", "gb"),
        ("9DJC652", "us-ca"),
        ("1234BCD", "es"),
        ("AB123CD", "it"),
        ("ABC1D23", "br"),
        ("KA04MG1020", "in"),
        ("LEC7193", "pk"),
        ("B99ABC", "ro"),
        ("481KRT6", "us-ca"),  # from 2026 on
        ("K4R8LMD", "us-az"),  # since 2020, in any order
        ("K4R8LD", "us-az"),
        ("48KRTD", "us-fl"),
        ("KRTD48", "us-nm"),
        ("48KR7", "us-ut"),
        ("1K48RTD", "us-al"),  # after the county's number
        ("A123BCD", "ar"),  # motorcycles' since 2016
        ("1161BO7", "by"),
        ("A1234B7", "by"),  # trailers'
        ("A000AA", "ca-bc"),  # since June 2025
        ("BBBBB0", "cl"),  # decided in October 2025
        ("ABC12D", "co"),  # motorcycles'
        ("HA123B", "ec"),  # motorcycles'
        ("B1234F", "id"),
        ("DK1234FAB", "id"),
        ("30A1234", "jp"),
        ("123AB", "lt"),  # motorcycles'
        ("A1234", "lv"),  # trailers'
        ("AB1234", "mx"),  # trucks'
        ("12AB3C", "mx"),  # federal trucks'
        ("12ABC", "nz"),  # motorcycles'
        ("12345A", "pe"),  # motorcycles'
        ("123ABC", "ph"),  # motorcycles'
        ("A123BC", "ph"),
        ("L154293", "pt"),  # trailers'
        ("AB12377", "ru"),  # taxis' and buses'
        ("AB123C77", "ru"),  # in transit
        ("AB123477", "ru"),  # trailers'
        ("A123477", "ru"),  # the police's
        ("12345AB", "ua"),  # until 2004
        ("8P90A", "us-ny"),  # the City's yellow taxis'
        ("A12BC3D", "ve"),  # trucks'
        ("AB1C23D", "ve"),  # motorcycles'
    ],
)
def test_a_text_of_the_series_fits_its_region_best(text: str, code: str) -> None:
    fit, other = regions.plausibilities(text, (code, "is"))
    assert fit == 1
    assert other < fit


def test_a_text_fits_a_region_just_where_it_may_stand_in_one_of_its_series() -> None:
    rng = random.Random(3)
    # The letters of three countries have rules of their own.
    codes = tuple(sorted(code for code in regions.CODES if code.partition("-")[0] not in {"sg", "gb", "br"}))
    series = sorted({each for code in codes for each in regions.rules(code).series})
    for form in series:
        text = "".join(
            rng.choice(string.ascii_uppercase) if sign == "A" else rng.choice(string.digits) for sign in form
        )
        fits = regions.plausibilities(text, codes)
        for code, fit in zip(codes, fits, strict=True):
            rules = regions.rules(code)
            stands = any(regions.may_stand(text, each, rules.letters) for each in rules.series)
            given_out = not (rules.never and re.search(rules.never, text))
            assert (fit == 1) == (stands and given_out), (text, code)


@pytest.mark.parametrize(
    ("right", "wrong", "code"),
    [
        ("LO12ABC", "L012ABC", "gb"),  # no British number begins with 0: A123ABC, but never A012ABC
        ("BO05XYZ", "B005XYZ", "gb"),  # an age identifier may
        ("BO1234", "B01234", "de"),
        ("SO1234", "S01234", "hk"),
        ("06DO123", "06D0123", "ie"),
        ("AB123CD", "AI123CD", "fr"),  # I, O and U are not issued
        ("OO02ODF", "OQ02ODF", "gb"),  # a Q stands in front of a car of unknown age alone
        ("Q123ABC", "O01ABC", "gb"),
        ("A100BCD", "O100BCD", "gb"),  # nor is an O a year's letter: 0100BCD is Spanish
        ("ABC123P", "ABC123O", "gb"),
        ("B178ABC", "B012ABC", "bw"),  # which is British: BO12ABC
        ("B031ABC", "B029ABC", "bw"),  # and will be in 2029
        ("B123ABC", "B012ABC", "ro"),  # Bucharest's numbers have no third digit below 100
        ("AB26CDE", "AB00CDE", "gb"),  # 02 is September 2001, 51 the first of March's other half
        ("0002BDF", "0002ODF", "es"),
        ("ZH10050", "ZN10050", "ch"),
        ("MH12DE1433", "NH12DE1433", "in"),
        ("MH12DE1433", "MH12DO1433", "in"),
        ("22BH1234AA", "22BK1234AA", "in"),
        ("WE4129A", "WE4129O", "pl"),
        ("WOT4A29", "WOT4O29", "pl"),
        ("W0ROBIN", "WOTB298", "pl"),  # what an owner chose; a county's three letters, and then none of these
        ("34ABC12", "94ABC12", "tr"),
        ("B123ABC", "C123ABC", "ro"),
        ("AB123CD", "AB123CO", "it"),
        ("RO12345", "AB123DQ", "it"),
        ("BKL4821", "BOL4821", "us-tx"),
        ("7KOR204", "7OKR204", "us-ca"),
        ("KR40LD", "KR4OLD", "us-az"),
        ("BCDF12", "BCOF12", "cl"),
        ("ABC12D", "ABC12O", "se"),
        ("J12345", "D12345", "je"),
        ("TIL6727", "AB12ICD", "gb"),  # an I is in the codes of Northern Ireland alone
        ("TIL6727", "JI9747", "gb"),  # whose two-letter numbers look like other countries' with a 1
        ("VD1563U", "VD1563B", "ch"),  # a dealer's
        ("PGC1406N", "LEA1406N", "es"),  # the Guardia Civil's
        ("S3967BBX", "K3967BBX", "es"),
        ("B559694", "G559694", "es"),  # a province's, until 1971
        ("OK95JJ", "JO95JK", "nl"),  # trailers'
        ("FML2472", "KML2472", "ca-qc"),  # a truck's
        ("SJ075836", "SJ975836", "ro"),  # a temporary one
        ("SJ075836", "SJ005836", "ro"),
        ("T612345C", "K612345C", "us-ny"),  # a taxi's
        ("6346779", "6346719", "ps"),
        ("N123456W", "M123456W", "na"),
        ("T123ABC", "Z123ABC", "tz"),
        ("Z123AB", "T123AB", "tz"),  # Zanzibar's
        ("11A12345", "31A12345", "iq"),
        ("LT123AB", "LZ123AB", "cm"),
        ("FE6530AH", "FE6530AX", "tm"),
        ("AB123CD", "AB123C4", "ci"),  # since June 2023
        ("F6530AH", "F6530AX", "tm"),  # until 2009
        ("MA12AB", "MX12AB", "cv"),  # Maio's
        ("E123AB7", "A123AB7", "by"),  # electric cars'
        ("EUR1502", "EUS1502", "be"),  # the European Union's officials'
        ("R12345", "T12345", "co"),  # trailers'
        ("BBBB0", "BBOB0", "cl"),  # motorcycles', decided in October 2025
        ("CL123456", "CR123456", "cr"),  # light trucks'
        ("MOT123ABC", "MOS123ABC", "cr"),  # motorcycles'
        ("EL123AB", "EI123AB", "cz"),  # electric cars'
        ("B3123", "D3123", "de"),  # the police's in Berlin
        ("BP15366", "BQ15366", "de"),  # the federal police's
        ("KA06123", "KA16123", "de"),  # a dealer's; others have no five digits
        ("NRW41234", "NRV41234", "de"),  # the police's in North Rhine-Westphalia
        ("101D123", "101B123", "gb"),  # a diplomat's
        ("KDA123A", "ADA123A", "ke"),
        ("KMDA123A", "KADA123A", "ke"),  # motorcycles'
        ("EA1234", "AA1234", "lt"),  # electric cars'
        ("T12345", "A12345", "lt"),  # taxis'
        ("UBA123A", "KBA123A", "ug"),
        ("UA123AA", "KA123AA", "ug"),  # since 2025
        ("UMA123AA", "KMA123AA", "ug"),  # motorcycles'
        ("NUR12345", "AUR12345", "za"),  # KwaZulu-Natal's
    ],
)
def test_zeros_and_letters_stand_where_the_country_puts_them(right: str, wrong: str, code: str) -> None:
    assert regions.plausibilities(right, (code,))[0] >= 1
    assert regions.plausibilities(wrong, (code,))[0] < 0.1


@pytest.mark.parametrize("number", ["SBA1234G", "SGX1M", "E23H"])
def test_a_check_letter_of_singapore_tells_its_plates_from_britains(number: str) -> None:
    assert regions.singapore_letter(number[:-1]) == number[-1]


def test_a_text_with_singapores_check_letter_fits_it_best() -> None:
    singapore, britain = regions.plausibilities("SBA123A", ("sg", "gb"))
    assert singapore > britain == 1
    assert regions.plausibilities("SBA123B", ("sg",))[0] < 0.1


@pytest.mark.parametrize(
    "text", ["RHZ1489", "AZ1234", "LKZ22", "JGZ1", "OXZ4567", "TUI3626", "IIL6727", "NIG1234"]
)
def test_a_county_of_northern_ireland_tells_its_plates_from_pakistans(text: str) -> None:
    britain, pakistan = regions.plausibilities(text, ("gb", "pk"))
    assert britain > pakistan


@pytest.mark.parametrize("text", ["LEF6190", "RIZ6770", "LZN22", "MIC9999"])
def test_other_letters_before_as_many_digits_are_not_britains(text: str) -> None:
    britain, pakistan = regions.plausibilities(text, ("gb", "pk"))
    assert britain < pakistan == 1


@pytest.mark.parametrize("text", ["LOY612", "AB1234", "KA19ABC", "A1234", "ABC123Z", "Z999ZZZ"])
def test_britains_other_numbers_have_no_county(text: str) -> None:
    assert regions.plausibilities(text, ("gb",)).tolist() == [1]


@pytest.mark.parametrize(
    "text, fits", [("ABC1234", True), ("QWE1234", True), ("RIZ6770", False), ("RIZ6A77", True)]
)
def test_brazils_gray_plates_ended_before_r(text: str, fits: bool) -> None:
    assert regions.plausibilities(text, ("br",))[0] == (
        1 if fits else regions.plausibilities("1", ("br",))[0]
    )


def test_no_series_is_listed_twice_and_states_have_their_countrys() -> None:
    for code in regions.CODES:
        series = regions.rules(code).series
        assert len(series) == len(set(series)), code
        assert all(set(one) <= set("A0123456789") for one in series), code
    assert regions.rules("br-sp") == regions.rules("br") != regions.RegionRules()


def test_long_texts_are_of_a_series_but_where_owners_choose_them() -> None:
    """Israel's plates of consuls, CC and seven digits, are of no other country."""
    codes = ("fr", "de", "us-ca", "nz", "tv")
    short, long = (regions.plausibilities(text, codes) for text in ("CC73370", "CC733701"))
    assert (long[:2] < short[:2] / 5).all()
    assert (long[2:] == short[2:]).all()
    assert regions.plausibilities("CC7337016", ("il", "fr"))[0] == 1


def test_unlisted_regions_lie_between_a_fit_and_a_mismatch() -> None:
    fit, mismatch, unlisted = regions.plausibilities("AB12CDE", ("gb", "fr", "tv"))
    assert mismatch < unlisted < fit


@pytest.mark.parametrize(
    ("code", "hint", "expected"),
    [("us-ca", "us", True), ("us", "us-ca", True), ("us-ca", "us-ca", True), ("us-ca", "us-ny", False),
     ("ca-on", "us", False), ("ca", "us-ca", False)],
)  # fmt: skip
def test_hints_cover_a_country_and_its_states(code: str, hint: str, expected: bool) -> None:
    assert regions.agrees(code, hint) is expected


def test_a_word_of_the_small_print_is_of_one_region() -> None:
    words = [word for word, _ in regions.words()]
    assert len(words) == len(set(words))
    assert all(re.fullmatch("[A-Z0-9]{3,}", word) for word in words)
    assert {code for _, code in regions.words()} <= regions.CODES
