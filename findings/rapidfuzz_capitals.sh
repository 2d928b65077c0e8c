#!/usr/bin/env bash
# rapidfuzz compares a plate in lower case with a list in capitals by its digits alone; thefuzz, which calls it, does not.
. "$(dirname "$0")/prepare.bash"
with_packages rapidfuzz==3.14.6 thefuzz==0.22.1
"$python" - <<'PYTHON'
import sys
from importlib.metadata import version

import rapidfuzz.fuzz
import rapidfuzz.process
import thefuzz.fuzz
import thefuzz.process

LISTED = ["8MHT417", "9DJC652", "652"]
READ = "9djc652"  # as Plate Recognizer and CarsXE write a plate

print("rapidfuzz", version("rapidfuzz"), "- thefuzz", version("thefuzz"), "- looking for", READ, "in", LISTED)
print("assumed: both find 9DJC652, as functions of one name and one scorer (WRatio), one of which calls the other")
found = {
    module.__name__: module.process.extractOne(READ, LISTED)[:2] for module in (rapidfuzz, thefuzz)
}
for name, (plate, score) in found.items():
    print(f"seen: {name}.process.extractOne: {plate}, {score:.0f} of 100")
same = rapidfuzz.fuzz.WRatio(READ, READ.upper()), thefuzz.fuzz.WRatio(READ, READ.upper())
print(f"seen: the plate and itself in capitals: {same[0]:.0f} and {same[1]:.0f}; letters alone: {rapidfuzz.fuzz.WRatio('abc', 'ABC'):.0f}")
processed = rapidfuzz.process.extractOne(READ, LISTED, processor=rapidfuzz.utils.default_process)
print(f"seen: rapidfuzz with processor=utils.default_process: {processed[0]}, {processed[1]:.0f}")
sys.exit(
    found["rapidfuzz"][0] != "652"
    or found["thefuzz"] != ("9DJC652", 100)
    or round(same[0]) != 57
    or rapidfuzz.fuzz.WRatio("abc", "ABC") != 0
    or processed[0] != "9DJC652"
)
PYTHON
