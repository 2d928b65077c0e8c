"""What is known about VINs: check digits, who must have one, prefixes."""

from __future__ import annotations

import numpy as np
import pytest

from carsight.vin import descriptors
from carsight.vin import rules as vin_rules
from carsight.vin.line_reader import LineReading
from carsight.vin.ranking import Prior, rank_by_posterior


@pytest.mark.parametrize("vin", ["1M8GDM9AXKP042788", "11111111111111111", "JHLRD77874C026456"])
def test_the_check_digit_of_published_examples_holds(vin: str) -> None:
    assert vin_rules.is_valid(vin)
    assert vin_rules.check_digit(vin) == vin[8]


def test_every_substitution_between_different_values_is_caught() -> None:
    vin = "1M8GDM9AXKP042788"
    values = dict(zip(vin_rules.ALPHABET, "012345678912345678123457923456789", strict=True))
    for index in range(17):
        for character in vin_rules.ALPHABET:
            changed = vin[:index] + character + vin[index + 1 :]
            same = character == vin[index] or (index != 8 and values[character] == values[vin[index]])
            assert vin_rules.is_valid(changed) == same, changed


@pytest.mark.parametrize(
    "vin", ["WVWZZZ1KZ7M047185", "XTAGFL110NY621025", "JTMKD31V305035532", "7AT0H65MX11123456"]
)
def test_no_check_digit_is_asked_of_makers_elsewhere(vin: str) -> None:
    assert not vin_rules.check_applies(vin)


@pytest.mark.parametrize(
    "vin",
    ["1HGCM82633A004352", "3VW2K7AJ9EM381173", "LVVDB21B2MD241571", "2HGFG1B86BH501831", "7SAYGDEE1PA123456"],
)
def test_north_america_and_china_must_have_one(vin: str) -> None:
    assert vin_rules.check_applies(vin)
    assert vin_rules.is_valid(vin)


@pytest.mark.parametrize(
    "vin", ["", "1M8GDM9AXKP04278", "1M8GDM9AXKP0427888", "1M8GDM9AXKP04278*", "IHGCM82633A004352"]
)
def test_what_is_not_seventeen_characters_of_a_vins_is_no_vin(vin: str) -> None:
    assert not vin_rules.is_vin(vin)
    assert not vin_rules.is_valid(vin)


def test_china_must_have_one_in_its_second_range_too() -> None:
    assert vin_rules.check_applies("HJR")
    assert not vin_rules.check_applies("7DT")  # New Zealand's range ends at 7E
    assert vin_rules.check_applies("7FA")


def test_listed_makers_are_known_and_no_others() -> None:
    listed = [
        "WVW",
        "XTA",
        "JHL",
        "1M8",
        "W0L",
        "LVV",
        "XP7",
        "HES",
        "HJR",
        "HLX",
        "HVW",
        "7UU",
        "3LN",
        "1V2",
        "3MW",
        "7AT",
    ]
    assert all(vin_rules.known_maker(prefix) for prefix in listed)
    assert not vin_rules.known_maker("E42")


def test_only_some_known_makers_are_common() -> None:
    assert vin_rules.common_maker("WVW")
    assert not vin_rules.common_maker("XP7")


def test_a_filling_of_z_is_broken_only_for_makers_that_fill() -> None:
    assert vin_rules.breaks_filling("WVWZZA1KZ7M047185")
    assert not vin_rules.breaks_filling("XTAZZA1KZ7M047185")


GOLF = "WVWZZZ1KZ7W000123"


def test_what_makers_write_is_more_familiar_than_what_they_do_not() -> None:
    assert descriptors.described(GOLF) == "ZZZ1K7W"
    assert descriptors.familiarity(GOLF) > 15
    for misread in ("WVWZZZ1XZ7W000123", "WVWZZ21KZ7W000123", "WVWZZZ1KZ7F000123"):
        assert descriptors.familiarity(misread) < descriptors.familiarity(GOLF) - 2, misread
    assert descriptors.familiarity("E42ZZZ1KZ7W000123") == 0  # a prefix of no maker seen


def test_of_two_texts_that_look_alike_the_familiar_one_is_likelier() -> None:
    both = LineReading(0.99, (("WVWZZZ1XZ7W000123", 0.55), (GOLF, 0.45)), GOLF)
    assert rank_by_posterior(both, Prior().odds)[0][0] == GOLF
    assert rank_by_posterior(both, Prior(familiar=0.0).odds)[0][0] != GOLF


def test_no_familiar_text_makes_up_for_a_check_digit_that_fails() -> None:
    chinese = "LVVDB21B2MD241571"
    assert descriptors.familiarity(chinese) > 15
    broken = chinese[:16] + "2"
    assert Prior().odds(broken) == Prior(familiar=0.0).odds(broken) < 1


@pytest.mark.parametrize(
    ("digits", "misread"),
    [("16168325868859658", "1G168325868859658"), ("11483920475628193", "1J483920475628193")],
)
def test_a_number_that_a_misread_digit_gives_a_common_makers_prefix_stays_a_number(
    digits: str, misread: str
) -> None:
    assert vin_rules.is_valid(misread)  # as one number in eleven is
    reading = LineReading(1.0, ((digits, 0.6), (misread, 0.4)), digits)
    assert rank_by_posterior(reading, Prior().odds)[0][1] < 0.5


@pytest.mark.parametrize(
    ("gaps", "is_vin"),
    [
        ({}, True),
        ({0: 4.0}, False),  # "S/N INVOICE 202411287", of which S is seen, and then the word
        ({1: 3.0}, False),
        ({2: 3.0, 8: 3.0}, True),  # in groups
        ({0: 2.0}, True),  # a narrow 1, and places known to one of 48 steps
        ({15: 4.0}, True),
    ],
)
def test_a_wide_gap_after_the_first_characters_is_no_vins(gaps: dict[int, float], is_vin: bool) -> None:
    steps = np.array([gaps.get(place, 1.0) for place in range(16)])
    centers = (np.concatenate([[0], np.cumsum(steps)]) + 1) / (steps.sum() + 2)
    reading = LineReading(0.98, ((GOLF, 0.97),), GOLF, None, tuple(centers.tolist()))
    ranked = rank_by_posterior(reading, Prior().odds)
    assert (ranked[0][:1] == (GOLF,) and ranked[0][1] > 0.9) if is_vin else ranked == ()
