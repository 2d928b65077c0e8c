#!/usr/bin/env bash
# Faker's Russian plates mix two alphabets that look alike, and a third of its British ones cannot exist.
. "$(dirname "$0")/prepare.bash"
with_packages Faker==40.63.0
"$python" - <<'PYTHON'
import re
import sys
import unicodedata
from importlib.metadata import version

from faker import Faker

PLATES = 1000


def plates(locale):
    faker = Faker(locale)
    faker.seed_instance(7)
    return [faker.license_plate() for _ in range(PLATES)]


print("Faker", version("Faker"))
print("assumed: a plate made for a test equals itself once it is read, and could stand on a car")
russian = {}
for plate in plates("ru_RU"):
    alphabets = {unicodedata.name(character).split()[0] for character in plate if character.isalpha()}
    russian.setdefault(" and ".join(sorted(alphabets)), []).append(plate)
print("seen: ru_RU:", {alphabets: (len(found), found[:2]) for alphabets, found in russian.items()})
# DVLA, INF104: a plate of today begins with two letters, of which I, Q and Z are none; I and Q are not among its last three.
british = [plate for plate in plates("en_GB") if re.search(r"^.?[IQZ]|[IQ].{0,2}$", plate)]
print(f"seen: en_GB: {len(british)} of {PLATES} hold letters that are not issued there: {british[:4]}")
sys.exit(set(russian) != {"CYRILLIC", "LATIN", "CYRILLIC and LATIN"} or not 300 < len(british) < 450)
PYTHON
