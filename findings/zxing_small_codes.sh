#!/usr/bin/env bash
# Enlarging adds no information, and yet zxing-cpp reads small linear codes only once they are enlarged.
. "$(dirname "$0")/prepare.bash"
with_packages zxing-cpp==3.1.1 numpy==2.4.6 opencv-python-headless==5.0.0.93
"$python" - <<'PYTHON'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import zxingcpp

print("zxing-cpp", version("zxing-cpp"))
print("assumed: what is not read at one size is not read when the same pixels are enlarged")
holds = True
for name in ("Code39", "Code128", "Code93"):
    code = zxingcpp.create_barcode("IJHLRD77874C026456", getattr(zxingcpp.BarcodeFormat, name))
    read = [0, 0]
    for shift in range(8):
        fine = np.array(zxingcpp.write_barcode_to_image(code, scale=8))
        fine = np.pad(fine, 100 + 7 * shift, constant_values=255)
        small = cv2.resize(fine, None, fx=1.3 / 8, fy=1.3 / 8, interpolation=cv2.INTER_AREA)
        large = cv2.resize(small, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
        read[0] += bool(zxingcpp.read_barcodes(small))
        read[1] += bool(zxingcpp.read_barcodes(large))
    print(f"seen: {name} at 1.3 px a module is read {read[0]} of 8 times, enlarged threefold {read[1]} of 8")
    holds &= read[0] <= 1 and read[1] >= 7
sys.exit(not holds)
PYTHON
