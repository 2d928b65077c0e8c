"""Region codes, what plate texts say about them, and hints."""

from __future__ import annotations

import re

import pytest

from carsight.plate import regions


def test_codes_are_countries_or_their_states() -> None:
    assert {"us", "us-ca", "gb", "de", "br-sp", "ca-on", "au-vic", "pk"} <= regions.CODES
    assert all(re.fullmatch(r"[a-z]{2}(-[a-z]{2,3})?", code) for code in regions.CODES)
    assert all(code.partition("-")[0] in regions.CODES for code in regions.CODES)


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
    ],
)
def test_a_text_of_the_series_fits_its_region_best(text: str, code: str) -> None:
    fit, other = regions.plausibilities(text, (code, "is"))
    assert fit == 1
    assert other < fit


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
