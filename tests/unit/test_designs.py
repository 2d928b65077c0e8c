"""Texts that the renderer puts on plates are of their country's form, and can be drawn."""

from __future__ import annotations

import re

import numpy as np
import pytest

from carsight.plate import regions
from training import designs, render_plates


@pytest.mark.parametrize(
    ("pattern", "form"),
    [
        ("@@## @@@", r"[A-Z]{2}[0-9]{2}[A-Z]{3}"),
        ("@@@-####", r"[A-Z]{3}[0-9]{4}"),
        ("ZH*######", r"ZH[0-9]{6}"),
        ("{@@} ####", r"[A-Z]{2}[0-9]{4}"),
        ("@@@<-##>####", r"[A-Z]{3}[0-9]{4}"),
        ("@*@ %##", r"[A-Z]{2}[1-9][0-9]{2}"),
    ],
)
def test_patterns_fill_with_letters_and_digits_and_leave_out_the_rest(pattern: str, form: str) -> None:
    for seed in range(20):
        _, text = designs.fill_pattern(pattern, designs.ALL, np.random.default_rng(seed))
        assert re.fullmatch(form, text)


def test_two_rows_are_read_from_the_top() -> None:
    rows, text = designs.fill_pattern("AB|12", designs.ALL, np.random.default_rng(0))
    assert ["".join(token.text for token in row) for row in rows] == ["AB", "12"]
    assert text == "AB12"


def test_letters_a_country_does_not_use_are_not_drawn() -> None:
    texts = [designs.fill_pattern("@@@@", designs.NO_IOQ, np.random.default_rng(s))[1] for s in range(50)]
    assert not set("".join(texts)) & set("IOQ")


def test_every_design_has_a_known_region_and_fills() -> None:
    rng = np.random.default_rng(0)
    for design in designs.DESIGNS:
        assert design.region in regions.CODES
        for pattern in design.patterns:
            rows, text = designs.fill_pattern(pattern, design.letters, rng)
            assert text, pattern
            assert len(rows) == 1 + (design in designs.TWO_ROWS)


def test_every_text_of_a_design_is_one_of_its_regions_series() -> None:
    drawn = 0
    for design in designs.DESIGNS:
        rules = regions.rules(design.region)
        for pattern in dict.fromkeys(design.patterns):
            for seed in range(12 if rules.series else 0):
                _, text = designs.fill_pattern(pattern, design.letters, np.random.default_rng(seed))
                drawn += 1
                assert any(regions.may_stand(text, series, rules.letters) for series in rules.series), (
                    f"{design.region}: {pattern} draws {text}, which none of its series allows"
                )
    assert drawn > 5000


def test_every_text_of_the_table_is_drawn_by_a_design() -> None:
    used = {(design.region, design.plates) for design in designs.DESIGNS}
    assert used == {(code, name) for code in regions.CODES for name in regions.plates(code)}


def test_chosen_texts_are_two_to_nine_characters_long() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        _, text = designs.fill_pattern(designs.vanity_pattern(rng), designs.ALL, rng)
        assert 2 <= len(text) <= 9


def test_letters_of_different_widths_are_drawn_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = {"W": np.ones((40, 90), np.float32), "I": np.ones((40, 9), np.float32)}
    line = render_plates._line
    monkeypatch.setattr(render_plates, "_line", lambda font, text: masks.get(text, line(font, text)))
    design = next(each for each in designs.ONE_ROW if each.region == "us-mi")
    _, text, _ = render_plates.draw_plate(design, np.random.default_rng(0), "{WI}12345")
    assert text == "WI12345"
