#!/usr/bin/env bash
# Two equal codes, one below the other, are one for zxing-cpp; side by side they are two.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet --disable-pip-version-check \
  zxing-cpp==3.1.1 numpy==2.4.6 >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
"$home/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import zxingcpp


def codes(*vins: str) -> list[np.ndarray]:
    made = (zxingcpp.create_barcode(vin, zxingcpp.BarcodeFormat.Code39) for vin in vins)
    return [np.pad(np.array(zxingcpp.write_barcode_to_image(c, scale=3)), 40, constant_values=255) for c in made]


print("zxing-cpp", version("zxing-cpp"))
print("assumed: every code of a sheet of labels comes back, equal or not, in any arrangement")
same, other = codes("IJHLRD77874C026456", "IJHLRD77874C026456"), codes("IJHLRD77874C026456", "IJHLRD77874C026457")
seen = [len(zxingcpp.read_barcodes(p)) for p in (np.vstack(same), np.hstack(same), np.vstack(other))]
print(f"seen: equal in a column {seen[0]}, equal in a row {seen[1]}, different in a column {seen[2]}")
sys.exit(seen != [1, 2, 2])
PYTHON
