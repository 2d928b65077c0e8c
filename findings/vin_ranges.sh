#!/usr/bin/env bash
# 7 is the second first character of the United States, and 7AT is every used import of New Zealand.
. "$(dirname "$0")/prepare.bash"
with_packages vininfo==1.11.0 ultravin==3.0.2
"$python" - <<'PYTHON'
import sys
from importlib.metadata import version

import ultravin
import vininfo

# https://vehicleinspection.nzta.govt.nz, "Assigning a VIN": imports without a VIN of the maker's get a '7AT' one.
IMPORT = "7AT0B12H06X012345"
BUS = "1M8GDM9AXKP042788"

print("vininfo", version("vininfo"), "- ultravin", version("ultravin"), "(the US agency's own database)")
print("assumed: a first character 1 to 5 or 7 is made for North America; the check digit is due; the maker is known")
vin = vininfo.Vin(IMPORT)
seen = ultravin.decode(IMPORT)
print(f"seen: {IMPORT}: vininfo {vin.country}, checksum {vin.verify_checksum()}; the US database knows no {seen['wmi']}")
bus = ultravin.decode(BUS)["attributes"]["Make"]
print(f"seen: {BUS}: vininfo {vininfo.Vin(BUS).manufacturer}, the US database {bus}")
sys.exit(
    vin.country != "United States"
    or "Make" in seen["attributes"]
    or (vininfo.Vin(BUS).manufacturer, bus) != ("Mercury", "MOTOR COACH INDUSTRIES")
)
PYTHON
