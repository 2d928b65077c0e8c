#!/usr/bin/env bash
# VINs that are generated to test software with are of no car: of makers, of years or with letters that no car has.
. "$(dirname "$0")/prepare.bash"
with_packages Faker==40.63.0 ultravin==3.0.2
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" @faker-js/faker@10.6.0 vin-generator@1.0.1 \
  >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
cat >generate.js <<'NODE'
let state = 1;
Math.random = () => (state = (state * 48271) % 2147483647) / 2147483647; // of which lodash's sample makes its choice
const { faker } = require("@faker-js/faker");
const { generateVin } = require("vin-generator");
const count = Number(process.argv[2]);
faker.seed(1);
const vins = (generate) => Array.from({ length: count }, generate);
console.log(JSON.stringify({ "@faker-js/faker": vins(() => faker.vehicle.vin()), "vin-generator": vins(generateVin) }));
NODE
"$python" - <<'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version

import ultravin
from faker import Faker

COUNT = 1000
VALUES = dict(zip("0123456789ABCDEFGHJKLMNPRSTUVWXYZ", map(int, "012345678912345678123457923456789")))
WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
Faker.seed(1)
fake = Faker()
node = subprocess.run(["node", "generate.js", str(COUNT)], check=True, capture_output=True)
generated = {"Faker": [fake.vin() for _ in range(COUNT)], **json.loads(node.stdout)}


def checked(vin):
    return vin[8] == "0123456789X"[sum(VALUES[c] * w for c, w in zip(vin, WEIGHTS)) % 11]


print("Faker", version("Faker"), "- @faker-js/faker 10.6.0 - vin-generator 1.0.1 - ultravin", version("ultravin"))
print("assumed: a generated VIN, whose check digit holds, could be that of a car, so that software which takes VINs takes it")
holds = True
for name, vins in generated.items():
    decoded = [ultravin.decode(vin) for vin in vins]
    digits = sum(map(checked, vins))
    known = sum("Make" in seen["attributes"] for seen in decoded)
    # ISO 3779 and 49 CFR 565.15: no year is 0, U or Z, and the last four characters are digits.
    years = sum(vin[9] in "0UZ" for vin in vins)
    letters = sum(not vin[13:].isdigit() for vin in vins)
    print(f"seen: {name}, such as {vins[0]}: check digits of {digits} hold; of a maker that the US agency knows: {known};")
    print(f"      with a tenth character that no year has: {years}; with a letter among the last four: {letters}, of {COUNT}")
    holds &= digits == COUNT
    holds &= (known > 0.9 * COUNT and letters > 0.9 * COUNT) if name == "vin-generator" else (known < 0.1 * COUNT and years > 50)
sys.exit(not holds)
PYTHON
