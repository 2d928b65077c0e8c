#!/usr/bin/env bash
# The seventh character tells 1980-2009 from 2010-2039 for light vehicles only; a decoder dates trucks by it, thirty years off.
. "$(dirname "$0")/prepare.bash"
with_packages ultravin==3.0.2
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" universal-vin-decoder@1.0.0 \
  >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
cat >years.js <<'NODE'
const { decodeVIN } = require("universal-vin-decoder");
console.log(JSON.stringify(process.argv.slice(2).map((vin) => decodeVIN(vin).info.modelYear)));
NODE
"$python" - <<'PYTHON'
import json
import subprocess
import sys

import ultravin

# Makers and models as in the agency's database, serial numbers made up, check digits right. 49 CFR 565.15, table VII's note:
# the seventh character decides "for passenger cars, and for multipurpose passenger vehicles and trucks with a gross vehicle
# weight rating of 4536 kg (10,000 lb) or less"; of heavier ones it says nothing.
VINS = {"1FTFW1E59AFA00001": (2010, "2010"), "1FUJA6CK57LX00001": (2007, "2037"), "1XPWD40X0ED200001": (2014, "1984")}
VALUE = dict(zip("0123456789ABCDEFGHJKLMNPRSTUVWXYZ", map(int, "012345678912345678123457923456789"), strict=True))
WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def with_check_digit(vin):
    rest = sum(VALUE[character] * weight for character, weight in zip(vin, WEIGHTS, strict=True)) % 11
    return vin[:8] + "0123456789X"[rest] + vin[9:]


print("universal-vin-decoder 1.0.0 - ultravin 3.0.2 (the US agency's own database)")
print("assumed: the tenth character is the year's, and whether the seventh is a letter says which thirty years are meant")
vins = [with_check_digit(vin) for vin in VINS]
years = json.loads(subprocess.check_output(["node", "years.js", *vins]))
seen = {}
for vin, wanted, decoded in zip(vins, VINS, years, strict=True):
    known = ultravin.decode(vin)["attributes"]
    seen[wanted] = int(known["Model Year"]), decoded
    print(f"seen: {vin}, {known['Make']} {known['Model']}: the database {seen[wanted][0]}, the decoder {decoded}")
sys.exit(seen != VINS)
PYTHON
