#!/usr/bin/env bash
# Two equal codes, one below the other, are one for zxing-cpp; side by side they are two.
. "$(dirname "$0")/prepare.bash"
with_packages zxing-cpp==3.1.1 numpy==2.4.6
"$python" - <<'PYTHON'
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
